"""Strings: exact sums, beginnings, continuations, the cache; and the kind from the list of strings
to the saved model."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier
from conjoin.codecs.kinds import codec_for
from conjoin.codecs.sequence import Prefix, SequenceCodec
from conjoin.core import Block, CapabilityError, Event, Record, RecordSpace, Variable, stream
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.classic.ngram import Ngram

WORD = Block("word", "sequence", (3,), (Variable("letter", "category", 2),))
LABEL = Block("label", "vector", (1,), (Variable("label", "category", 2),))
SMALL = Sequence(width=16, blocks=1, steps=120)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def density():
    """A model of strings given a label, with weights that were moved away from zero."""
    noise = stream(0, "strings")
    words = WORD.check(WORD.laid.every(WORD))
    label = Record(label=Event(torch.randint(2, (words.rows, 1), generator=noise).double()))
    out = SequenceDensity.build(
        WORD, SMALL, words, noise, context=label, context_space=RecordSpace((LABEL,))
    )
    with torch.no_grad():
        for parameter in out.parameters():
            shape = parameter.shape
            parameter.add_(0.5 * torch.randn(shape, generator=noise, dtype=torch.float64))
    return out


def given(label, rows):
    return Record(label=Event(torch.full((rows, 1), float(label)).double()))


def prefix(*tokens):
    value = torch.zeros(1, 3, dtype=torch.int64)
    value[0, : len(tokens)] = torch.tensor(tokens)
    there = (torch.arange(3) < len(tokens))[None]
    return Event(value, there, there)


@pytest.mark.parametrize("label", [0, 1, None])
def test_all_strings_sum_to_one(density, label):
    every = WORD.laid.every(WORD)
    context = None if label is None else given(label, every.rows)
    assert density.log_prob(every, context).logsumexp(0).abs() < 1e-9


@pytest.mark.parametrize("tokens", [(), (0,), (1, 0), (1, 1, 0)])
def test_a_beginning_has_the_mass_of_its_continuations(density, tokens):
    every = WORD.laid.every(WORD)
    begins = torch.tensor(
        [
            row[: len(tokens)].tolist() == list(tokens) and bool(there[: len(tokens)].all())
            for row, there in zip(every.value, every.present, strict=True)
        ]
    )
    mass = density.log_prob(every)[begins].logsumexp(0)
    assert (density.log_prob(prefix(*tokens)) - mass).abs() < 1e-9


def test_what_is_known_in_the_middle_alone_is_refused(density):
    middle = Event(
        torch.tensor([[0, 1, 0]]), torch.tensor([[False, True, False]]), torch.tensor([[True] * 3])
    )
    with pytest.raises(CapabilityError, match="missing cells"):
        density.log_prob(middle)
    with pytest.raises(CapabilityError, match="draws of cells that others follow"):
        density.sample_conditional(middle)


def test_padding_says_nothing(density):
    there = torch.tensor([[True, False, False]])
    plain = Event(torch.tensor([[1, 0, 0]]), None, there)
    junk = Event(torch.tensor([[1, 1, 1]]), None, there)
    assert torch.equal(density.log_prob(plain), density.log_prob(junk))


def test_steps_add_up_to_log_p(density):
    every = WORD.check(WORD.laid.every(WORD))
    state = density.begin(every.rows)
    total = torch.zeros(every.rows, dtype=torch.float64)
    ended = torch.zeros(every.rows, dtype=torch.bool)
    token = None
    for place in range(4):
        state, log_p = density.step(state, token)
        assert torch.allclose(log_p.logsumexp(1), torch.zeros(every.rows).double(), atol=1e-9)
        inside = place < 3
        there = every.present[:, place] if inside else torch.zeros_like(ended)
        target = torch.where(there, every.value[:, place] if inside else 0, 2)
        cell = log_p.gather(1, target[:, None])[:, 0]
        total = total + torch.where(ended, 0.0, cell)
        ended = ended | ~there
        token = torch.where(there, target, 0)
    assert torch.allclose(total, density.log_prob(every), atol=1e-9)


def test_draws_follow_log_p(density):
    every = WORD.check(WORD.laid.every(WORD))
    drawn = density.sample(4000, given(1, 4000), generator=stream(1))
    keys = {_key(every, row): row for row in range(every.rows)}
    counts = np.bincount([keys[_key(drawn, row)] for row in range(4000)], minlength=every.rows)
    expected = 4000 * density.log_prob(every, given(1, every.rows)).exp().numpy()
    assert ((counts - expected) ** 2 / expected).sum() < 36.1  # chi-square with 14, p = .001


def _key(event, row):
    return tuple(event.value[row][event.present[row]].tolist())


def test_continuations_follow_the_conditional(density):
    many = prefix(1).take(torch.zeros(3000, dtype=torch.long))
    drawn = density.sample_conditional(many, generator=stream(2))
    assert (drawn.value[:, 0] == 1).all()
    every = WORD.check(WORD.laid.every(WORD))
    starts = torch.tensor([_key(every, row)[:1] == (1,) for row in range(every.rows)])
    log_p = density.log_prob(every) - density.log_prob(prefix(1))
    ends = [len(_key(every, row)) == 1 for row in range(every.rows)]
    alone = float(log_p[starts & torch.tensor(ends)].exp())
    assert float((drawn.present.sum(1) == 1).double().mean()) == pytest.approx(alone, abs=0.03)


def test_a_row_of_which_nothing_is_known_has_probability_one(density):
    assert density.log_prob(WORD.unknown(2)).tolist() == [0.0, 0.0]


# ------------------------------------------------------------------ the kind


def words(seed=0, rows=160):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    letters = {0: list("abcq"), 1: list("xyzq")}
    X = ["".join(rng.choice(letters[label], rng.integers(3, 8))) for label in y]
    return X, np.array(["left", "right"])[y]


@pytest.fixture(scope="module")
def model():
    X, y = words()
    with torch.enable_grad():
        return conjoin.JointClassifier(family=SMALL).fit(X, y)


def test_lists_of_strings_are_recognised():
    codec, rows = codec_for(["ab", None, "b"])
    assert type(codec) is SequenceCodec
    assert len(rows) == 3
    codec, _ = codec_for(pd.DataFrame({"name": ["ab", "b"]}))
    assert codec.kind == "table"


def test_strings_come_back_as_they_were():
    X = ["", "a", "büro ü", "a a"]
    codec = SequenceCodec().fit(X)
    event = codec.space.check(codec.encode(X).event)
    assert codec.decoded(event) == X
    again = SequenceCodec.from_json(codec.to_json())
    assert again.decoded(again.encode(X).event) == X


def test_equal_strings_have_equal_hashes():
    first, second, third, none = SequenceCodec().rows(["a", "a", "", None]).hashes()
    assert first == second
    assert len({first, third, none}) == 3


def test_what_is_no_string_is_named():
    with pytest.raises(ValueError, match="Row 1 is 3; X must hold strings, or None"):
        SequenceCodec().rows(["a", 3])


def test_classes_of_strings(model):
    X, y = words(seed=1)
    assert (model.predict(X) == y).mean() > 0.9
    assert set(model.status_.values()) == {"exact"}


def test_classes_and_evidence_agree(model):
    X, _ = words(seed=2, rows=5)
    encoded = model.model_.encode(X)
    joint = model.model_.log_joint(encoded)
    assert torch.allclose(joint.logsumexp(1), model.model_.log_evidence(encoded.event), atol=1e-9)


@pytest.fixture(scope="module")
def unsure():
    """A model of classes that eight letters of a string all say the same of, and are right in
    seven of ten strings: whoever takes each for evidence of its own is too sure."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 500)
    said = np.where(rng.random(500) < 0.7, y, 1 - y)
    letters = [rng.choice(list("ab" if one else "cd"), 8) for one in said]
    X = ["".join(a + "".join(rng.choice(list("12"), 2)) for a in each) for each in letters]
    few = Ngram(order=1)
    with torch.enable_grad():
        return JointClassifier(family=few, random_state=0).fit(X, np.array(["p", "q"])[y]), X


def test_a_class_of_strings_is_as_sure_as_held_out_strings_say(unsure, tmp_path):
    model, X = unsure
    state = model.model_.state
    assert state.temperature > 2
    top = model.predict_proba(X).max(1)
    assert top.mean() == pytest.approx(0.7, abs=0.08)
    assert model.status_["sample"] == "approximate"
    assert "temperature" in model.model_.card["predictor"]["why"]
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert (again.predict_proba(X[:20]) == model.predict_proba(X[:20])).all()


def test_p_of_y_alone_has_no_temperature_and_the_joint_adds_up(unsure):
    model = unsure[0].model_
    nothing = model.log_proba(model.encode([None]))
    _, prior = model.log_gain(model.encode([None]).event)
    assert torch.allclose(nothing, prior.log_softmax(1), atol=1e-12)
    encoded = model.encode(unsure[1][:5])
    joint = model.log_joint(encoded)
    assert torch.allclose(joint.logsumexp(1), model.log_evidence(encoded.event), atol=1e-9)
    assert torch.allclose(joint.log_softmax(1), model.log_proba(encoded), atol=1e-9)
    own = model.log_with_label(encoded, torch.ones(5).double())
    assert torch.allclose(own, joint[:, 1], atol=1e-9)


def test_draws_are_strings_of_the_class(model):
    X, y = model.sample(20, y="left", random_state=0)
    assert set(y) == {"left"}
    assert all(isinstance(text, str) for text in X)
    assert (model.predict(X) == "left").mean() > 0.8


def test_a_beginning_is_continued(model):
    X, _ = model.sample(10, given={"text": Prefix("ab")}, random_state=0)
    assert all(text.startswith("ab") for text in X)
    with pytest.raises(ValueError, match="asks for the text 'a!'"):
        model.sample(2, given={"text": Prefix("a!")})


def test_a_character_that_was_never_seen_is_unfamiliar(model):
    answers = model.decide(["ab!", "abqa"], max_error=0.1)
    assert answers["verdict"].tolist()[0] == "unfamiliar"


def test_a_saved_model_of_strings_answers_the_same(model, tmp_path):
    X, _ = words(seed=3, rows=12)
    model.save(tmp_path / "model")
    loaded = conjoin.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    before = model.decide(X, max_error=0.1)
    pd.testing.assert_frame_equal(loaded.decide(X, max_error=0.1), before)


def test_columns_are_not_asked_for(model):
    X, y = words(rows=60)
    with pytest.raises(ValueError, match="predictor='linear' reads columns"), torch.enable_grad():
        conjoin.JointClassifier(family=SMALL, predictor="linear").fit(X, y)


def test_what_lists_of_strings_can_not_have_is_refused():
    X = ["ab", "ba", "bb"] * 10
    y = ["p", "q", "q"] * 10
    with pytest.raises(ValueError, match="family='mixture' models rows of a table"):
        JointClassifier(family="mixture").fit(X, y)
    with pytest.raises(ValueError, match="a list of strings has none: leave types out"):
        JointClassifier(types={"note": "text"}).fit(X, y)
