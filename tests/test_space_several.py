"""Several properties of molecules in space, in one model, beside each other or in a table; draws
with wanted properties; fields of files as targets."""

import copy
import dataclasses
import types
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from test_molecules_in_space import NAMES, TINY, placed, property_of
from typer.testing import CliRunner

import conjoin
from conjoin.cli.space import field_of
from conjoin.cli.verbs import app
from conjoin.codecs.molecule.codec import MoleculeCodec
from conjoin.codecs.molecule.files import read_file, write_file
from conjoin.codecs.table.native import Kind, in_kind
from conjoin.core import Event, Pair, stream
from conjoin.joints import resampling
from conjoin.joints.resampling import chosen_by, log_labels
from conjoin.questions import several
from conjoin.questions.side_by_side import parts_of_table

SMALL = dataclasses.replace(TINY, strings={"width": 32, "blocks": 1}, steps=60)
ROWS = 160


def table_of(some):
    """Molecules beside their size, of which some are missing, and whether they have nitrogen."""
    return pd.DataFrame(
        {
            "size": [
                np.nan if seed % 7 == 0 else property_of(one, seed) for seed, one in enumerate(some)
            ],
            "thing": some,
            "kind": ["with N" if (one.numbers == 7).any() else "without" for one in some],
        }
    )


@pytest.fixture(scope="module")
def some():
    return [placed(NAMES[row % len(NAMES)], row) for row in range(ROWS)]


@pytest.fixture(scope="module")
def model(some):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conjoin.JointDensity(family=SMALL, random_state=0).fit(table_of(some))


def test_several_properties_are_predicted_missing_ones_or_not(model, some):
    found = model.impute(table_of(some).assign(size=np.nan, kind=None))
    truth = np.array([property_of(one, seed) for seed, one in enumerate(some)])
    error = np.abs(found["size"] - truth).mean()
    assert error < 0.2 * np.abs(truth - np.median(truth)).mean()
    assert (found["kind"] == table_of(some)["kind"]).mean() > 0.9
    kept = model.impute(table_of(some))
    told = table_of(some)["size"]
    assert np.array_equal(kept["size"][told.notna()], told.dropna())
    drawn = model.impute(table_of(some)[:14], n_draws=2)
    assert drawn[0]["size"][0] != drawn[1]["size"][0]
    assert drawn[0]["size"][1] == told[1]


def test_log_p_of_a_row_is_the_sum_of_its_factors(model, some):
    fitted = model.model_
    table = table_of(some)[:8]
    rows = fitted.codec.rows(list(table["thing"]))
    x = fitted.codec.encode(rows).event
    apart = model.score_samples(list(table["thing"]))
    for place, target in enumerate(fitted.targets):
        known = table[target.name].notna().to_numpy()
        y = target.encode(table[target.name].where(known, table[target.name][1]).to_numpy(), known)
        label = fitted.predictors[place].log_prob(x, y.value[:, None])[:, 0]
        apart = apart + torch.where(y.mask, label + target.log_volume, 0.0).detach().numpy()
    assert np.allclose(model.score_samples(table), apart)
    alone = pd.DataFrame({"size": [np.nan], "thing": [None], "kind": ["without"]})
    share = (table_of(some)["kind"] == "without").mean()
    assert model.score_samples(alone)[0] == pytest.approx(np.log(share), abs=0.1)


def test_draws_have_the_properties_that_are_given(model):
    X, _ = model.sample(12, given={"size": (6.0, 9.0), "kind": "without"}, random_state=1)
    assert list(X.columns) == ["size", "thing", "kind"]
    assert X["size"].between(6.0, 9.0).all()
    assert set(X["kind"]) == {"without"}
    assert all(one is None or not (one.numbers == 7).any() for one in X["thing"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", conjoin.ColumnWarning)  # conformers have nearly one size
        ask = {"thing": "CO", "size": [6.5, 6.4, 6.3]}
        asked, _ = model.sample(3, given=ask, random_state=1)
    assert [one.smiles for one in asked["thing"]] == ["CO"] * 3
    assert asked["size"].tolist() == [6.5, 6.4, 6.3]
    lacking = pd.DataFrame({"size": [5.0], "thing": [None], "kind": [None]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", conjoin.ColumnWarning)
        filled = model.impute(lacking)
    assert filled["size"][0] == 5.0
    with pytest.raises(ValueError, match="given names the column 'mass'; the model has size, thin"):
        model.sample(1, given={"mass": 3})
    with pytest.raises(ValueError, match="the first must not exceed the second"):
        model.sample(1, given={"size": (9.0, 6.0)})


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"size": (1e5, None)}, "Hardly any molecule of the data is near size="),
        ({"size": (1e5, 2e5)}, "near size=.100000.0, 200000.0.: p.y. puts 0.00% of its mass there"),
        ({"size": (float("nan"), 3)}, "an end is a number, or None where it is open"),
        ({"size": (5.0, 6.0, 7.0)}, "a range has two ends"),
        ({"size": float("inf")}, "'size' is asked to be infinite"),
        ({"kind": ("without", None)}, "which is a range, and it has classes: give one of with N"),
        ({"size": [6.0, 7.0, 8.0]}, "'size' has 3 values for 2 rows"),
    ],
)
def test_a_wish_that_nothing_can_have_is_refused(model, wish, words):
    with pytest.raises(ValueError, match=words):
        model.sample(2, given=wish, random_state=1)


def test_a_range_that_a_given_molecule_can_not_have_is_refused_or_told(model, monkeypatch):
    monkeypatch.setattr(several, "MIN_MASS", 1.0)  # as if every mass were 0
    with pytest.raises(ValueError, match="No draw has what is asked of 'size'"):
        model.sample(2, given={"size": (6.0, 9.0)}, random_state=1)
    monkeypatch.setattr(several, "MIN_MASS", 0.0)
    fitted = model.model_
    x = fitted.codec.space.check(fitted.codec.evidence({"molecule": "CO"}))
    asked = several._Wish.read(fitted, "size", (6.0, 9.0), 1)
    assert asked.range.share == pytest.approx(
        float(asked.range.log_mass(fitted.codec.space.unknown(1)).exp()[0])
    )
    monkeypatch.setattr(several, "FAR_SHARE", 1.1)
    with pytest.warns(conjoin.ColumnWarning, match="is .* on average of the rows"):
        several._refuse_what_no_draw_has([asked], x)


def test_a_wish_that_is_rare_is_told(model, monkeypatch):
    monkeypatch.setattr(resampling, "RARE_EFFECTIVE", 1e9)
    with pytest.warns(conjoin.ColumnWarning, match="What is asked is rare: each row was chosen"):
        model.sample(2, given={"thing": "CO", "size": 3.0}, random_state=1)


def test_decide_judges_the_molecules_of_a_table(model, some):
    one = model.model_.codec.rows([some[2]]).molecules[0]
    xyz = one.xyz.copy()
    xyz[0] += 40.0
    table = pd.DataFrame({"size": [6.5, 6.5], "thing": [one, dataclasses.replace(one, xyz=xyz)]})
    with pytest.warns(conjoin.ColumnWarning, match="count as missing: kind"):
        told = model.decide(table)
    assert told["verdict"].tolist()[1] == "unfamiliar"


def test_a_saved_table_of_molecules_answers_the_same(model, some, tmp_path):
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert type(again) is conjoin.JointDensity
    table = table_of(some)[:6]
    assert np.array_equal(again.score_samples(table), model.score_samples(table))
    ask = {"given": {"size": (6.0, 9.0)}, "random_state": 3}
    assert again.sample(4, **ask)[0]["size"].equals(model.sample(4, **ask)[0]["size"])


def test_targets_apart_have_one_density_and_a_model_each(model, some):
    table = table_of(some)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = conjoin.JointRegressor(family=SMALL, random_state=0)
        apart.fit(some, table[["size", "kind"]])
    assert np.array_equal(
        apart.predict(some[:4])["size"],
        model.impute(table[:4].assign(size=np.nan))["size"],
    )
    alone = apart.for_target("size")
    assert np.array_equal(alone.predict(some[:4]), apart.predict(some[:4])["size"])
    _, y = apart.sample(5, y={"kind": "without"}, random_state=0)
    assert y["kind"].tolist() == ["without"] * 5
    with pytest.raises(ValueError, match="y of several targets is a dict of size, kind"):
        apart.sample(2, y=3.0)
    with pytest.raises(ValueError, match="There is no target 'mass'; choose from size, kind"):
        apart.sample(2, y={"mass": 3.0})


# ------------------------------------------------------------------ what a table may hold


def test_a_table_is_calibrated_and_evaluated_as_it_was_fitted(model, some):
    table = table_of(some)
    again = copy.deepcopy(model)
    own = again.model_
    assert again.calibrate(table[:60]) is again
    assert [len(each.label) for each in own.calibrations] == [60, 60]
    assert own.calibrations[1].label[1] == own.view("kind").classes.code(table["kind"][1])
    told = model.evaluate(table[:60])
    columns = parts_of_table(model.model_, table[:60])[1]
    x = parts_of_table(model.model_, table[:60])[0]
    encoded = model.model_.alone.encode(x)
    log_prob = model.model_.log_prob(columns, encoded).numpy()
    assert told["all"]["log_loss"] == pytest.approx(-log_prob.mean())
    with pytest.raises(ValueError, match="size, kind are columns of this model's table"):
        model.calibrate(table[:60], table["size"][:60])


def test_numbers_written_as_words_are_the_numbers(model, some):
    table = table_of(some)[1:7].reset_index(drop=True)
    words = table.assign(size=[str(size) for size in table["size"]])
    assert np.allclose(model.score_samples(words), model.score_samples(table))
    for wrong, match in [
        (table.assign(size="big"), "'size'.*'big'"),
        (table.assign(kind=3), "'kind' has no class '3'; choose from with N, without"),
        (table[:0], "The table has no rows"),
        (pd.concat([table, table[["size"]]], axis=1), "More than one column is named 'size'"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.score_samples(wrong)


def test_properties_without_their_molecule_are_told_to_be_taken_apart(model):
    alone = pd.DataFrame({"size": [7.0, np.nan], "thing": [None] * 2, "kind": ["without"] * 2})
    with pytest.warns(conjoin.ColumnWarning, match="1 of 2 rows tell several properties without"):
        both = model.score_samples(alone)
    size = model.score_samples(alone[:1].assign(kind=None))
    assert both[0] == pytest.approx(size[0] + both[1])


def test_imputed_numbers_stay_in_the_range_of_the_fit_unless_tails(model, some):
    lacking = table_of(some)[:40].assign(size=np.nan)
    own = copy.deepcopy(model)
    target = own.model_.targets[0]
    target.range = (6.9, 7.0)
    drawn = own.impute(lacking, n_draws=1)[0]["size"]
    assert drawn.between(6.9, 7.0).all()
    assert not own.impute(lacking, n_draws=1, tails=True)[0]["size"].between(6.9, 7.0).all()


def test_impute_of_a_table_refuses_what_is_not_there(model, some):
    table = table_of(some)[:4]
    for draws in (0, -1):
        with pytest.raises(ValueError, match="n_draws must be at least 1"):
            model.impute(table, n_draws=draws)
    with pytest.raises(ValueError, match="this table has no target; what is known of size, kind"):
        model.impute(table, y=3.0)
    with pytest.raises(ValueError, match="strategy='mode' is not there for molecules in space"):
        model.impute(table, strategy="mode")


def test_a_frame_of_molecules_comes_back_in_another_library(some):
    frame = pd.DataFrame({"size": [1.0, 2.0], "thing": some[:2]})
    back = in_kind(frame, Kind("pandas"))
    assert [one is other for one, other in zip(back["thing"], some, strict=False)] == [True, True]


def test_one_column_of_molecules_is_a_list_of_them(some):
    codec = MoleculeCodec()
    found = codec.rows(pd.DataFrame({"thing": [some[0], None]}))
    assert found.molecules[0].smiles == codec.rows([some[0]]).molecules[0].smiles
    assert found.molecules[1] is None


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([None] * 30, "The column 'new' has no value in any row: leave it out"),
        (pd.date_range("2020-01-01", periods=30), "The column 'new' holds dates .* give days as"),
        ([f"name {row}" for row in range(30)], "'new' has 30 different words in 30 rows, as names"),
    ],
)
def test_a_column_that_can_not_stand_beside_is_refused_by_name(some, column, words):
    table = table_of(some[:30]).assign(new=column)
    with pytest.raises(ValueError, match=words):
        conjoin.JointDensity(family=SMALL).fit(table)


def test_a_table_with_two_columns_of_one_name_is_refused_as_ever():
    table = pd.DataFrame(np.arange(18.0).reshape(9, 2), columns=["s", "s"])
    for some in (table, table.astype(str)):
        with pytest.raises(ValueError, match="More than one column is named 's'; rename them"):
            conjoin.JointDensity(family="mixture").fit(some)


def test_a_network_of_molecules_reads_no_columns():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    with pytest.raises(ValueError, match="Several targets need a family that sums"):
        conjoin.JointRegressor(family="molecules").fit(table, table.add_prefix("y"))


def test_a_field_is_of_numbers_where_words_mean_missing(some):
    told = []
    voice = types.SimpleNamespace(note=told.append)

    def field(*cells):
        made = [
            dataclasses.replace(one, properties={"size": cell})
            for one, cell in zip(some, cells, strict=False)
        ]
        return field_of(made, "size", "new.sdf", voice)

    assert field("1.5", "nan", "2").tolist()[::2] == [1.5, 2.0]
    assert field("1.5", "nan", "2").isna().tolist() == [False, True, False]
    assert told[0] == "1 molecules have 'nan' in the field 'size', read as missing."
    assert field("a", "nan", "2").tolist() == ["a", "nan", "2"]
    with pytest.raises(ValueError, match=r"new\.sdf: molecule 2 has 'inf' in the field 'size'"):
        field("1.5", "inf", "2")


# ------------------------------------------------------------------ choosing by weights


def pool(generator):
    def draw(count):
        return Event(torch.randn(count, 1, generator=generator, dtype=torch.float64))

    def stacked(parts):
        return Event(torch.cat([part.value for part in parts]))

    return draw, stacked


def test_chosen_rows_have_the_law_of_bayes():
    """x ~ N(0, 1), y | x ~ N(x, 1/2): x | y = 1 ~ N(2/3, 1/3)."""
    draw, stacked = pool(stream(0))

    def weigh(x, rows):
        return (-((1 - x.value[:, 0]) ** 2)).expand(rows.stop - rows.start, -1)

    found = chosen_by(weigh, draw, stacked, 2000, stream(1))
    x = found.x.value[:, 0]
    assert float(x.mean()) == pytest.approx(2 / 3, abs=0.05)
    assert float(x.var()) == pytest.approx(1 / 3, abs=0.04)
    assert len(x.unique()) == 2000


def test_rows_that_ask_for_what_is_rare_have_more_proposals_and_may_repeat():
    draw, stacked = pool(stream(0))
    plain = chosen_by(lambda x, rows: torch.zeros(50, x.rows), draw, stacked, 50, stream(1))
    assert plain.proposals == 400
    assert plain.effective == pytest.approx(400)

    def weigh(x, rows):
        return torch.where(x.value[:, 0] > 2.5, 0.0, -1e3).expand(50, -1)

    rare = chosen_by(weigh, draw, stacked, 50, stream(1))
    assert rare.proposals == 3200
    assert (rare.x.value > 2.5).all()
    assert len(rare.x.value.unique()) < 50


def test_one_row_has_as_many_proposals_as_a_rare_wish_needs():
    """x ~ N(0, 1), y | x ~ N(x, .3): x | y = 2.5 has the mean 2.5 / 1.09."""
    draw, stacked = pool(stream(0))

    def weigh(x, rows):
        return (-((2.5 - x.value[:, 0]) ** 2) / (2 * 0.3**2)).expand(1, -1)

    each = [chosen_by(weigh, draw, stacked, 1, stream(seed)) for seed in range(60)]
    assert min(one.proposals for one in each) > 64
    x = torch.cat([one.x.value[:, 0] for one in each])
    assert float(x.mean()) == pytest.approx(2.5 / 1.09, abs=0.12)
    assert sum(one.effective >= 8 for one in each) > 50


def test_the_weights_of_many_rows_are_held_in_blocks():
    draw, stacked = pool(stream(0))
    seen = []

    def weigh(x, rows):
        found = torch.zeros(rows.stop - rows.start, x.rows)
        seen.append((rows.start, rows.stop, x.rows))
        return found

    found = chosen_by(weigh, draw, stacked, 600, stream(1))
    assert [each[:2] for each in seen] == [(0, 256), (256, 512), (512, 600)]
    assert found.proposals == 8 * 600
    assert len(found.x.value.unique()) == 600


def test_a_choice_among_few_is_told():
    draw, stacked = pool(stream(0))
    with pytest.warns(conjoin.ColumnWarning, match="among 1,024 draws, 1.0 of which count"):
        chosen_by(lambda x, rows: x.value.T * 1e3, draw, stacked, 1, stream(1))


def test_what_a_predictor_does_not_cover_has_the_word_of_the_base(model):
    view = model.model_.view("size")
    codec = model.model_.codec
    x = codec.space.check(codec.evidence({"molecule": "CO"}))
    candidates = torch.tensor([-0.5, 0.0, 0.7]).double()
    found = log_labels(view.pair.base, view.pair.predictor, x, candidates)
    for place, value in enumerate(candidates):
        own = view.pair.log_label_given(Pair(Event(value[None]), x))
        assert found[0, place] == pytest.approx(float(own[0]))


# ------------------------------------------------------------------ the command line


def test_a_field_of_a_file_is_the_target(some, tmp_path):
    run = CliRunner().invoke
    fields = [
        dataclasses.replace(
            one, properties={"size": round(property_of(one, row), 3)} if row else {}
        )
        for row, one in enumerate(some)
    ]
    write_file(fields[:64], tmp_path / "old.sdf")
    write_file(fields[64:70], tmp_path / "few.sdf")
    fit = ["fit", str(tmp_path / "old.sdf"), "--family", "molecules:steps=2"]
    told = run(app, [*fit, "--target", "mass", "-o", str(tmp_path / "none")])
    assert "no molecule has a field 'mass'; the fields are size" in str(told.exception)
    told = run(app, [*fit, "--target", "size", "-o", str(tmp_path / "model")])
    assert told.exit_code == 0, told.output
    told = run(app, ["evaluate", str(tmp_path / "model"), str(tmp_path / "few.sdf"), "--json"])
    assert told.exit_code == 0, told.output
    assert "mae" in told.output
    asked = ["sample", str(tmp_path / "model"), "-n", "2", "--given", "molecule=CO", "--y", "6..7"]
    told = run(app, [*asked, "--seed", "0", "-o", str(tmp_path / "new.sdf")])
    assert told.exit_code == 0, told.output
    new = [one for _, one in read_file(tmp_path / "new.sdf")]
    assert [one.smiles for one in new] == ["CO"] * 2
    assert all(6 <= float(one.properties["size"]) <= 7 for one in new)
