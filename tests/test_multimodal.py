"""Tables of which some columns hold strings or several pictures: one row of columns and blocks."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.calibration.familiarity import FamiliarityOfBlocks, reference_of
from conjoin.codecs.composite import codec_of
from conjoin.codecs.sequence import Prefix
from conjoin.core import (
    Block,
    CapabilityError,
    Event,
    Flat,
    Record,
    RecordSpace,
    Region,
    Status,
    Variable,
    stream,
)
from conjoin.families import resolve
from conjoin.families.multimodal import Multimodal, MultimodalDensity
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

TEXT = {"note": "text"}
SMALL = Multimodal(strings={"steps": 60, "width": 16, "blocks": 1})


def made(rows=200, seed=0):
    """Animals, their age, and a note that names their call and their age."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["cat", "dog"], rows)
    age = np.round(rng.normal(5, 1, rows) + 3 * (kind == "dog")).clip(0)
    calls = {"cat": ["meow", "purr"], "dog": ["bark", "woof"]}
    note = [f"{rng.choice(calls[each])} {old:g}" for each, old in zip(kind, age, strict=True)]
    return pd.DataFrame({"age": age, "note": note}), kind


@pytest.fixture(scope="module")
def model():
    X, y = made()
    X.loc[3:8, "note"] = None
    X.loc[10:14, "age"] = np.nan
    options = {"types": TEXT, "random_state": 0, "predictor": None}
    return JointClassifier(family=SMALL, **options).fit(X, y)


# ---------------------------------------------------------------------- exact on a grid

LABEL = Variable("label", "category", 2)
COLOUR = Variable("colour", "category", 3)
COLUMNS = Block("columns", "vector", (2,), (LABEL, COLOUR))
NOTE = Block("note", "sequence", (2,), (Variable("letter", "category", 2),))
MEMO = Block("memo", "sequence", (1,), (Variable("letter", "category", 2),))
FLAT = Flat(RecordSpace((COLUMNS, NOTE, MEMO)))


def every_row():
    """All records of two columns, a string of at most two letters, and one of at most one."""
    columns = torch.cartesian_prod(torch.arange(2), torch.arange(3)).double()
    notes = NOTE.laid.every(NOTE)
    memos = MEMO.laid.every(MEMO)
    places = torch.cartesian_prod(
        torch.arange(len(columns)), torch.arange(notes.rows), torch.arange(memos.rows)
    )
    record = Record(
        columns=Event(columns[places[:, 0]]),
        note=notes.take(places[:, 1]),
        memo=memos.take(places[:, 2]),
    )
    return FLAT.join(record)


@pytest.fixture(scope="module")
def density():
    rows = every_row()
    some = rows.take(torch.randint(rows.rows, (60,), generator=stream(0)))
    config = Multimodal(columns="mixture", strings={"width": 8, "blocks": 1}).suited(FLAT.space)
    built = MultimodalDensity.build(FLAT.space, config, some, stream(0))
    with torch.no_grad():
        for parameter in built.part0.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=stream(1))
    return built


def test_all_rows_sum_to_one(density):
    assert density.log_prob(every_row()).logsumexp(0).abs() < 1e-9
    assert density.capabilities.likelihood.value == "exact"


def test_a_label_that_is_not_known_is_summed_out(density):
    rows = every_row()
    first = torch.arange(rows.value.shape[1]) == 0
    without = density.log_prob(rows.hide(first))
    each = [
        density.log_prob(Event(torch.where(first, float(k), rows.value), rows.mask))
        for k in range(2)
    ]
    assert (without - torch.stack(each).logsumexp(0)).abs().max() < 1e-9
    asked = density.log_target(rows.hide(first), torch.arange(2).double())
    assert (asked.T - torch.stack(each)).abs().max() < 1e-9


def test_a_string_that_is_not_known_adds_nothing(density):
    rows = every_row()
    behind = torch.arange(rows.value.shape[1]) >= 2
    alone = density.first.log_prob(Event(rows.value[:, :2]))
    assert torch.equal(density.log_prob(rows.hide(behind)), alone)
    last = torch.arange(rows.value.shape[1]) >= 4
    found = density.log_prob(rows.hide(last))
    summed = density.log_prob(rows).reshape(-1, 3).logsumexp(1)
    assert (found.reshape(-1, 3)[:, 0] - summed).abs().max() < 1e-9


def test_draws_match_the_density(density):
    rows = every_row()
    expected = density.log_prob(rows).exp().detach().numpy()
    drawn = density.sample(20_000, generator=stream(3)).value.numpy()
    index = {tuple(row): place for place, row in enumerate(rows.value.tolist())}
    found = np.bincount([index[tuple(row)] for row in drawn.tolist()], minlength=rows.rows)
    error = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(found / 20_000 - expected) < 5 * error + 1e-9).all()


def test_a_beginning_is_continued(density):
    letter = Event(torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0]]).double())
    begun = letter.hide(torch.tensor([False, False, False, True, True]))
    begun = begun.take(torch.zeros(500, dtype=torch.long))
    drawn = density.sample_conditional(begun, generator=stream(0)).value
    assert (drawn[:, :3] == begun.value[:, :3]).all()
    ended = (drawn[:, 3] == 2).double().mean()
    whole = [letter.value.clone() for _ in range(3)]
    for code, row in enumerate(whole):
        row[0, 3] = code
    hidden = torch.tensor([False, False, False, False, True])
    with torch.no_grad():
        log_p = torch.cat([density.log_prob(Event(row).hide(hidden)) for row in whole])
    assert abs(float(ended) - float(log_p.softmax(0)[2])) < 0.08


def test_what_is_missing_before_a_known_string_is_chosen_by_it():
    """Where the second string repeats the first, filling in the first follows the second."""
    label = torch.randint(2, (200, 2), generator=stream(7)).double()
    letter = torch.randint(2, (200,), generator=stream(0))
    note = Event(torch.stack([letter, letter], 1))
    data = FLAT.join(Record(columns=Event(label), note=note, memo=Event(letter[:, None])))
    few = {**resolve("mixture").get_params(), "components": 2}
    strings = {"width": 16, "blocks": 1, "steps": 150}
    config = Multimodal(columns="mixture", settings=few, strings=strings).suited(FLAT.space)
    density = MultimodalDensity.build(FLAT.space, config, data, stream(0))
    train(density, data, torch.ones(200).double(), None, Plan(steps=150), Progress(False))
    hidden = data.take(slice(0, 100)).hide((torch.arange(5) >= 2) & (torch.arange(5) < 4))
    drawn = density.sample_conditional(hidden, generator=stream(1)).value
    assert (drawn[:, 2] == drawn[:, 4]).double().mean() > 0.85
    assert density.status_of(hidden) is Status.APPROXIMATE


def test_the_mode_of_a_row_is_its_own(density):
    rows = every_row().take(slice(0, 12))
    hidden = rows.hide(torch.arange(rows.value.shape[1]) >= 2)
    together = density.mode(hidden).value
    alone = torch.cat([density.mode(hidden.take(slice(row, row + 1))).value for row in range(12)])
    assert torch.equal(together, alone)


def test_noise_of_one_block_is_not_moved_by_another(density):
    rows = every_row().take(slice(0, 30))
    fresh = density.log_prob(rows, generator=stream(5))
    assert torch.equal(fresh, density.log_prob(rows, generator=stream(6)))  # strings have no noise


def test_a_region_behind_the_columns_is_refused(density):
    rows = every_row().take(slice(0, 2)).hide(torch.arange(5) >= 2)
    free = torch.full((5,), torch.inf).double()
    low = torch.tensor([-torch.inf, -torch.inf, 0.5, -torch.inf, -torch.inf]).double()
    with pytest.raises(CapabilityError, match="a part of a picture or string within bounds"):
        density.log_prob(rows._replace(within=Region(low, free)))


def test_candidates_may_come_in_any_order(density):
    rows = every_row().take(slice(0, 4))
    found = density.log_target(rows, torch.tensor([1.0, 0.0, 1.0]).double())
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(
        density.log_target(rows, torch.tensor([0.0, 1.0]).double())[:, 0], found[:, 1]
    )


def test_status_follows_the_question(density):
    rows = every_row().take(slice(0, 3))
    columns = torch.arange(5)
    assert density.status_of(rows) is Status.EXACT
    assert density.status_of(rows.hide(columns == 0)) is Status.EXACT
    assert density.status_of(rows.hide(columns >= 2)) is Status.EXACT
    assert density.status_of(rows.hide(columns == 1)) is Status.APPROXIMATE


# ---------------------------------------------------------------------- the estimators


def test_strings_beside_columns_are_learned(model):
    X, y = made(100, 1)
    assert model.score(X, y) > 0.9
    assert model.model_.codec.kind == "record"
    assert any("'note' holds strings" in notice for notice in model.model_.codec.notices)


def test_a_strange_string_is_named(model):
    X, _ = made(100, 1)
    strange = X.iloc[:2].assign(note=["2 2 2", "kkkkk 6"])
    found = model.decide(strange, max_error=0.2, false_alarm=0.1)
    assert (found["verdict"] == "unfamiliar").all()
    assert found["reason"].str.contains("note").all()


def test_a_string_that_contradicts_its_columns_is_named():
    """The note's age is another one than that of the column; each alone is ordinary."""
    X, y = made(400)
    config = Multimodal(strings={"steps": 300, "width": 24, "blocks": 1})
    model = JointClassifier(family=config, types=TEXT, random_state=0, predictor=None).fit(X, y)
    new, kind = made(60, 5)
    other = new.assign(
        note=[
            f"{note.split()[0]} {age:g}"
            for note, age in zip(new["note"], np.where(kind == "dog", 5, 8), strict=True)
        ]
    )
    other = other[np.abs(other["age"] - np.where(kind == "dog", 5, 8)) >= 2]
    found = model.decide(other, max_error=0.3, false_alarm=0.05)
    unfamiliar = found[found["verdict"] == "unfamiliar"]
    assert len(unfamiliar) > 0.5 * len(other)
    assert unfamiliar["reason"].str.contains("note does not go with the other columns").any()
    assert (model.decide(new, max_error=0.3)["verdict"] == "unfamiliar").mean() < 0.2


def test_missing_parts_are_filled_and_others_kept(model):
    X, _ = made(20, 2)
    X.loc[:4, "note"] = None
    X.loc[5:9, "age"] = np.nan
    filled = model.impute(X)
    assert filled.notna().all().all()
    assert filled["note"][:5].str.len().gt(0).all()
    known = X.notna()
    assert (filled[known] == X[known]).where(known, True).all().all()


def test_a_string_is_continued_under_what_is_given(model):
    drawn, labels = model.sample(8, y="dog", given={"note": Prefix("wo")}, random_state=0)
    assert drawn["note"].str.startswith("wo").all()
    assert set(labels) == {"dog"}


def test_a_saved_model_answers_the_same(model, tmp_path):
    X, _ = made(30, 3)
    model.save(tmp_path / "m")
    loaded = conjoin.load(tmp_path / "m")
    assert np.array_equal(loaded.score_samples(X), model.score_samples(X))
    assert loaded.decide(X, max_error=0.2).equals(model.decide(X, max_error=0.2))


def test_two_strings_and_two_pictures_beside_columns():
    rng = np.random.default_rng(0)
    X, y = made(60)
    dark = [rng.integers(0, 100, (8, 8)).astype("uint8") for _ in y]
    light = [rng.integers(150, 256, (8, 8)).astype("uint8") for _ in y]
    X = X.assign(front=dark, memo=[f"<{each}>" for each in y], back=light)
    small = {"size": 0.25, "steps": 3, "points": 2}
    config = Multimodal(pictures=small, strings={"steps": 3, "width": 8, "blocks": 1})
    types = {"note": "text", "memo": "text"}
    joint = JointClassifier(family=config, types=types, random_state=0, predictor=None).fit(X, y)
    assert len(joint.model_.state.blocks) == 9
    assert np.isfinite(joint.score_samples(X[:3])).all()
    encoded = joint.model_.encode(X.iloc[:1])
    assert joint.model_.familiarity.statistics(encoded.event, encoded.log_unseen).shape == (1, 9)
    model = JointDensity(family=config, types=types, random_state=0).fit(X)
    assert [part.name for part in model.model_.joint.parts] == ["part0", "part1", "part2", "part3"]
    assert [block.name for block in model.model_.codec.space.blocks] == [
        "front",
        "back",
        "note",
        "memo",
    ]
    drawn = model.sample(3, random_state=0)[0]
    assert drawn["front"][0].pixels.shape == (8, 8)
    assert np.isfinite(model.score_samples(X[:5])).all()
    assert model.model_.status["log_prob"].value == "lower bound"
    with pytest.raises(ValueError, match="Several targets beside columns of text"):
        JointClassifier(types=TEXT).fit(X[["age", "note"]], pd.DataFrame({"a": y, "b": y[::-1]}))


def test_a_number_beside_strings():
    X, y = made(80)
    config = Multimodal(strings={"steps": 5, "width": 8, "blocks": 1})
    model = JointRegressor(family=config, types=TEXT, random_state=0, predictor=None)
    model.fit(X[["note"]].assign(animal=y), X["age"])
    assert np.isfinite(model.predict(X[["note"]].assign(animal=y)[:5])).all()
    assert model.model_.status["log_prob"] is Status.APPROXIMATE  # y is summed over few values


# ---------------------------------------------------------------------- refusals


def test_what_is_refused():
    X, y = made(30)
    cases = (
        (X.assign(note=range(30)), {}, "Column 'note', row 0: 0 is no string"),
        (
            X[["note"]],
            {},
            "not data of the layout 'sequence': leave family out, or take 'sequence'",
        ),
        (X, {"family": "flow"}, "can't stand before a picture or a string"),
        (X.assign(note=None), {}, "'note' has no string at all"),
        (X.assign(note=["a", *[None] * 29]), {}, "have a value of 'note', equal rows counted once"),
        (X.assign(note="a" * 5000), {}, "has a string of 5,000 characters"),
    )
    for rows, options, message in cases:
        with pytest.raises(ValueError, match=message):
            JointClassifier(**{"family": SMALL, "types": TEXT, **options}).fit(rows, y)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["woof 8", "meow 4"], "of a picture or a string give one value"),
        ("woof 8" * 20, "the model knows strings of at most .*; this one has 120"),
        ("##", "given asks for note='##'; the model knows .*; '##' begins with what it has not"),
    ],
)
def test_what_can_not_be_given_of_a_string_is_refused(model, asked, message):
    with pytest.raises(ValueError, match=message):
        model.sample(2, given={"note": asked}, random_state=0)


def test_names_that_repeat_are_told():
    X, y = made(30)
    with pytest.raises(ValueError, match="More than one column is named 'note'"):
        JointClassifier(types=TEXT).fit(pd.concat([X, X["note"]], axis=1), y)


def test_an_empty_string_is_a_string():
    X, _ = made(30)
    codec, frame = codec_of(X.assign(note=["", None, *X["note"][2:]]), TEXT, ())
    assert frame["note"][:2].tolist() == ["", None]
    codec.fit(frame)
    event = codec.encode(frame).event
    assert codec.decode(event.value, event.mask)["note"][:3].tolist() == ["", None, X["note"][2]]


# ---------------------------------------------------------------------- familiarity


class Columns:
    """Familiarity of columns that is the first cell."""

    def statistic(self, x, extra):
        return x.value[:, 0] + extra


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_alarm_of_several_blocks_keeps_its_rate(correlation):
    """One rank of Sidak's combination among calibration rows: a false alarm in one ordinary row of
    twenty, whatever the dependence of the blocks."""
    rng = np.random.default_rng(0)
    cov = [[1, correlation], [correlation, 1]]

    def rows(n):
        return Event(torch.from_numpy(rng.multivariate_normal([0, 0], cov, n)))

    alarms = []
    for _ in range(200):
        one = FamiliarityOfBlocks(Columns(), lambda x: x.value[:, 1:], 1)
        none = torch.zeros(100, dtype=torch.float64)
        found = reference_of(one.statistics(rows(100), none))
        of = FamiliarityOfBlocks(Columns(), lambda x: x.value[:, 1:], 1, found)
        held = of.statistic(rows(100), none)
        new = of.statistic(rows(100), none)
        p = (1 + (held <= new[:, None]).sum(1)) / 101
        alarms.append(float((p <= 0.05).double().mean()))
    assert 0.035 < np.mean(alarms) < 0.06


def test_the_least_familiar_block_is_found_however_far():
    held = Event(torch.randn(200, 2, generator=stream(0), dtype=torch.float64))
    none = torch.zeros(200, dtype=torch.float64)
    first = FamiliarityOfBlocks(Columns(), lambda x: x.value[:, 1:], 1)
    found = reference_of(first.statistics(held, none))
    of = FamiliarityOfBlocks(Columns(), lambda x: x.value[:, 1:], 1, found)
    far = Event(torch.tensor([[0.0, -50.0], [-50.0, 0.0], [-9.0, -50.0]]).double())
    assert of.least(far, none[:3]).tolist() == [1, 0, 1]
    ranked = of.statistic(far, none[:3])
    assert (ranked < of.statistic(held, none).min()).all()
    unknown = far.hide(torch.tensor([False, True]))
    masked = FamiliarityOfBlocks(
        Columns(), lambda x: x.value[:, 1:].where(x.mask[:, 1:], torch.nan), 1, found
    )
    assert masked.least(unknown, none[:3]).tolist()[1:] == [0, 0]
