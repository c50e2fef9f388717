"""Answers of a model of texts: how they are written, what they say, how far they can be trusted."""

import asyncio
import copy
import dataclasses
import datetime
import json

import numpy as np
import pandas as pd
import pytest
import torch
from language_models import TEMPLATE as LEAN_TEMPLATE
from language_models import TEXTS, gguf_of
from pretrained_folders import END, language_model, tokenizer

import conjoin
from conjoin import JointDensity
from conjoin.calibration.answer_score import auroc, fit_score
from conjoin.calibration.answers import AnswerSettings, QuestionReadings
from conjoin.calibration.conformal import rows_for_error
from conjoin.cli import run
from conjoin.codecs.tokens import Characters
from conjoin.core import Block, Event, Variable, stream
from conjoin.core.warnings import ColumnWarning
from conjoin.datasets import bios
from conjoin.estimators import from_pretrained
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.classic.ngram import Ngram
from conjoin.marking.watermark import Watermark
from conjoin.model.card import model_card
from conjoin.model.saving import model_hash
from conjoin.questions.answers.asking import IN_CONTEXT, _once, learned
from conjoin.questions.answers.meaning import Meaning
from conjoin.questions.answers.prompts import Prompter
from conjoin.questions.answers.readings import said_of
from conjoin.questions.answers.writing import Answer, Writing, write
from conjoin.questions.summary import describe
from conjoin.serving.continuation import Wish
from conjoin.serving.talk import TextModel
from conjoin.util.energy import Tally

LETTERS = "abc"


# ----------------------------------------------------------------------------- how they are written


@pytest.fixture(scope="module")
def letters():
    """A network of random weights over strings of three letters."""
    block = Block("word", "sequence", (6,), (Variable("letter", "category", 3),))
    words = Event(torch.tensor([[0, 1, 2, 0, 1, 2], [1, 1, 0, 2, 2, 2]]))
    density = SequenceDensity.build(block, Sequence(width=8, blocks=1), words, stream(1))
    with torch.no_grad():
        for weight in density.parameters():
            weight.mul_(3)
    return density


def log_p_of(density, codes, ended):
    """log p of a string, or of its beginning."""
    known = torch.arange(6) < len(codes)
    value = torch.zeros(1, 6, dtype=torch.int64)
    value[0, : len(codes)] = torch.tensor(codes, dtype=torch.int64)
    whole = torch.ones(1, 6, dtype=torch.bool) if ended else known[None]
    return float(density.log_prob(Event(value, whole, known[None])).detach())


def test_answers_have_their_log_p_and_the_best_is_the_most_probable_step(letters):
    prompts = [[0], [1, 2], [1, 2], [2, 0]]
    found = write(letters, Characters(LETTERS), prompts, draws=5, max_tokens=8)
    for prompt, each in zip(prompts, found, strict=True):
        assert each.prompt == prompt
        assert sum(each.told) == pytest.approx(log_p_of(letters, prompt, False), abs=1e-9)
        for answer in [each.best, *each.drawn]:
            whole = log_p_of(letters, prompt + answer.codes, answer.ended)
            assert answer.total + sum(each.told) == pytest.approx(whole, abs=1e-9)
            assert answer.text == "".join(LETTERS[code] for code in answer.codes)
        codes = list(prompt)
        for code in each.best.codes:
            state, log_next = letters.step(letters.begin(1))
            _, log_next, _ = letters.follow(state, log_next, torch.tensor([codes]))
            assert code == int(log_next.argmax())
            codes.append(code)
    assert found[1].drawn == found[2].drawn


def test_an_answer_depends_on_no_neighbour(letters):
    tokens = Characters(LETTERS)
    prompts = [[0, 1], [2, 2], [1], [0, 2]]
    together = write(letters, tokens, prompts, draws=4, max_tokens=5, seed=3)
    for prompt, each in zip(prompts, together, strict=True):
        (alone,) = write(letters, tokens, [prompt], draws=4, max_tokens=5, seed=3)
        assert [a.codes for a in each.drawn] == [a.codes for a in alone.drawn]
        assert each.best.total == pytest.approx(alone.best.total, abs=1e-9)


def test_shares_of_draws_are_p(letters):
    """Points that lie 1 / n apart: no share of 400 draws is off by more than two of them."""
    (found,) = write(letters, Characters(LETTERS), [[1]], draws=400, max_tokens=1)
    state, log_next = letters.step(letters.begin(1))
    _, log_next, _ = letters.follow(state, log_next, torch.tensor([[1]]))
    codes = [answer.codes[0] if answer.codes else 3 for answer in found.drawn]
    shares = np.bincount(codes, minlength=4) / 400
    assert np.abs(shares - log_next[0].exp().detach().numpy()).max() <= 2 / 400
    (long,) = write(letters, Characters(LETTERS), [[1]], draws=2000, max_tokens=6)
    texts = [answer.text for answer in long.drawn]
    for text in set(texts):
        answer = next(a for a in long.drawn if a.text == text)
        p = np.exp(answer.total)
        assert abs(texts.count(text) / 2000 - p) <= 5 * (p / 2000) ** 0.5 + 2 / 2000


def test_no_prompts_and_long_ones(letters):
    assert write(letters, Characters(LETTERS), [], draws=2, max_tokens=3) == []
    (full,) = write(letters, Characters(LETTERS), [[0, 1, 2, 0, 1, 2]], draws=2, max_tokens=3)
    assert full.best.ended and full.best.codes == [] and full.best.total == 0


# ------------------------------------------------------------------------------------ what they say


@pytest.mark.parametrize(
    ("question", "one", "other", "same"),
    [
        ("What is the capital of France?", "Paris", "The capital of France is Paris.", True),
        ("What is the capital of France?", "Paris", "The capital of France is Lyon.", False),
        ("How much is 2 + 5?", "seven", "2 + 5 = 7.", True),
        ("How much is 2 - 5?", "-3", "2 - 5 is 3", False),
        ("How many?", "1,200", "1200.0", True),
        ("When?", "3 May 1961", "3 June 1961", False),
        ("When?", "the 3rd of May", "3 MAY", True),
        ("Who?", "twenty-one", "21", True),
        ("Which?", "Göttingen", "go\u0308ttingen!", True),
        ("Which?", "a", "b", False),
        ("Which city?", "Canberra", "Canberra, which lies inland", True),
        ("Which city?", "", "Canberra", False),
        ("Which city?", "Canberra is its name", "Canberra", True),
        ("Which city?", "New York", "New York Jets", False),
        ("Which city?", "London", "London or Paris", False),
        ("Which city?", "London", "London, not Paris", False),
    ],
)
def test_answers_that_say_the_same(question, one, other, same):
    assert Meaning(question).same(one, other) is same
    assert Meaning(question).same(other, one) is same


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The plural of mouse is mice.", ["mice"], True),
        ("It is New Delhi, in India.", ["New Delhi"], True),
        ("It is Delhi, a new one.", ["New Delhi"], False),
        ("New", ["New Delhi"], False),
        ("7 - 5 = 2", ["2"], True),
        ("2 - 5 = 7", ["2"], False),
        ("grey or gray", ["gray", "grey"], True),
        ("anything", [], False),
        ("first line\nParis", ["Paris"], False),
        ("It is not Paris", ["Paris"], False),
        ("It isn't Paris, it is London", ["Paris"], False),
        ("Paris or London", ["Paris"], False),
        ("3/4", ["4"], False),
        ("It is 3/4.", ["3/4"], True),
        ("No, it floats", ["No"], True),
    ],
)
def test_what_is_right(answer, accepted, right):
    assert Meaning("Which?").is_right(answer, accepted) is right


def test_entailment_joins_what_normal_forms_part():
    def entails(question, one, other):
        return {one, other} == {"the big apple", "New York"}

    answers = ["New York", "Boston", "the big apple"]
    assert Meaning("Where?").clusters(answers) == [0, 1, 2]
    assert Meaning("Where?", entails).clusters(answers) == [0, 1, 0]
    assert Meaning("Where?", entails).is_right("the big apple", ["New York"])


def test_shares_entropy_and_all_ways_to_say_the_same():
    def said(text, log_p):
        return Answer([ord(c) for c in text], [log_p], text, True)

    drawn = [said("Ur.", -1.0), said("Uz", -2.0), said("Uz", -2.0), said("uz!", -3.0)]
    found = said_of(Writing([0], [-1.0], said("Ur", -0.5), drawn), Meaning("Where?"))
    assert found.texts == ("Ur", "Uz") and found.shares == (0.25, 0.75)
    assert found.entropy == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert found.next_share == 0.75 and found.agreement == 0.25
    assert np.exp(found.log_p) == pytest.approx(
        [np.exp(-0.5) + np.exp(-1), np.exp(-2) + np.exp(-3)]
    )


# ---------------------------------------------------------------------------------------- the score


def simulated(n, seed, informative=True):
    """Readings of which the second, or a hidden state, says more than the first."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    right = rng.random(n) < 1 / (1 + np.exp(-3 * truth))
    first = truth + 3 * rng.normal(size=n)
    other = truth + 0.3 * rng.normal(size=n) if informative else rng.normal(size=n)
    return np.stack([first, other], 1), rng.normal(size=(n, 5)), right


def test_more_than_the_first_reading_counts_where_it_gains():
    readings, hidden, right = simulated(400, 0)
    score = fit_score(readings, hidden, right, np.random.default_rng(0))
    assert score.uses != "log p" and score.gain > score.error > 0
    fresh, fresh_hidden, fresh_right = simulated(4000, 1)
    p = score.confidence(fresh, fresh_hidden)
    assert auroc(p, fresh_right) > auroc(fresh[:, 0], fresh_right) + 0.1
    for low in np.arange(0, 1, 0.2):
        some = (p >= low) & (p < low + 0.2)
        assert abs(p[some].mean() - fresh_right[some].mean()) < 0.1


def test_hidden_states_count_where_they_know():
    readings, hidden, right = simulated(400, 2, informative=False)
    hidden[:, 3] += 3 * right
    score = fit_score(readings, hidden, right, np.random.default_rng(0))
    assert score.uses == "readings and hidden states"
    assert auroc(score.confidence(readings, hidden), right) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_the_first_reading_stands_alone_where_nothing_gains(seed):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=300)
    right = rng.random(300) < 1 / (1 + np.exp(-2 * first))
    readings = np.stack([first, rng.normal(size=300)], 1)
    hidden = rng.normal(size=(300, 6))
    score = fit_score(readings, hidden, right, rng)
    order = np.argsort(score.confidence(readings, hidden))
    if score.uses == "log p":
        assert (np.diff(first[order]) >= 0).all() and not len(score.hidden_weight)
    else:
        assert score.gain > score.error


@pytest.mark.parametrize("right", [np.zeros(30, bool), np.ones(30, bool), np.arange(30) < 3])
def test_a_score_where_hardly_anything_differs(right):
    rng = np.random.default_rng(0)
    readings = rng.normal(size=(30, 2))
    p = fit_score(readings, np.empty((30, 0)), right, rng).confidence(readings, np.empty((30, 0)))
    assert np.isfinite(p).all() and abs(p.mean() - right.mean()) < 0.2


def test_risk_is_kept_in_95_percent_of_splits():
    """Confidence that can be trusted, and a rate that is promised on the other half."""
    settings = AnswerSettings(8, 8, "", {})
    kept = []
    for seed in range(40):
        readings, hidden, right = simulated(240, 1000 + seed)
        found = QuestionReadings(readings, hidden, readings[:, :1], hidden)
        known = learned(found, right, settings, seed)
        needed = known.threshold(0.1, 0.05)
        fresh, states, true = simulated(2000, 5000 + seed)
        accepted = known.score.confidence(fresh, np.tile(states, 2)) >= needed
        kept.append(not accepted.any() or 1 - true[accepted].mean() <= 0.1)
        assert needed == np.inf or accepted.mean() > 0.05
    assert np.mean(kept) >= 0.95


def test_equal_questions_count_once():
    with pytest.warns(ColumnWarning, match=r"2 of 4 questions were asked before.* 1 of them have"):
        found = _once(["Who?", "who? ", "Where?", "Where?"], [("a",), ("b",), ("c",), ("c",)])
    assert found == (["Who?", "Where?"], [("a", "b"), ("c",)])


def test_too_few_right_answers_to_rank_among_are_told():
    readings, hidden, _ = simulated(60, 0)
    found = QuestionReadings(readings, hidden, readings[:, :1], hidden)
    some = np.arange(60) % 6 == 0
    with pytest.warns(ColumnWarning, match="were answered rightly, too few to tell usual"):
        known = learned(found, some, AnswerSettings(8, 8, "", {}))
    assert len(known.statistic) == 30 and "calibrated on" in known.ranked_among
    known = learned(found, np.ones(60, dtype=bool), AnswerSettings(8, 8, "", {}))
    assert len(known.statistic) == 30 and "answer rightly" in known.ranked_among


# ----------------------------------------------------------------------------- a model that answers


@pytest.fixture(scope="module")
def world():
    """People who share first and last names, so that every word is told."""
    names = [f"{a}{b}an {c}{b}or" for a in "BDGKLMNPRT" for b in "aeiou" for c in "BDGK"]
    questions = {
        "place": ["Where was {name} born?"],
        "date": ["When was {name} born?"],
        "occupation": ["What does {name} do for a living?"],
    }
    return bios(len(names), names=names, questions=questions)


@pytest.fixture(scope="module")
def plain(world):
    """Counts of words, which are fitted in no time."""
    types = {"text": {"type": "text", "format": "words"}}
    return JointDensity(family=Ngram(8, learned=False), types=types).fit(world.texts * 3)


@pytest.fixture(scope="module")
def model(world, plain):
    """Calibrated on the first half of the questions; no answer is right to some of the unknown."""
    answers = [
        None if label == "unknown" and row % 2 else answer
        for row, (answer, label) in enumerate(zip(world.answers, world.labels, strict=True))
    ]
    half = slice(0, 300)
    return plain.calibrate(world.questions[half], answers[half], draws=6, max_tokens=6)


@pytest.fixture(scope="module")
def table(world, model):
    return model.answer(world.questions[300:], max_risk=0.15)


def test_verdicts_part_what_is_known_from_what_is_not(world, table):
    labels = np.array(world.labels[300:])
    accepted = (table["verdict"] == "accept").to_numpy()
    known = labels == "known"
    assert accepted[known].mean() >= 0.5 and accepted[labels == "unknown"].mean() <= 0.1
    answers = np.array(world.answers[300:], dtype=object)
    assert (table["answer"].to_numpy()[accepted] == answers[accepted]).mean() >= 0.85
    refused = table[~accepted]
    assert refused["answer"].isna().all() and refused["reason"].str.len().min() > 10
    assert (table["reason"][accepted] == "").all()
    some = labels != "conflicting"
    assert auroc(table["confidence"].to_numpy()[some], known[some]) >= 0.9
    assert table.attrs["confidence_needed"] <= table["confidence"][accepted].min()


def test_of_a_conflict_both_answers_are_named(world, table):
    rows = [
        row
        for row, (label, verdict) in enumerate(
            zip(world.labels[300:], table["verdict"], strict=True)
        )
        if label == "conflicting" and verdict == "ambiguous"
    ]
    named = [all(value in table["reason"][row] for value in world.told[300 + row]) for row in rows]
    assert len(rows) >= 5 and np.mean(named) >= 0.6


def test_log_prob_is_that_of_the_answer(world, model, table):
    place = int(np.flatnonzero(table["verdict"] == "accept")[0])
    question, best = table["question"][place], table["best_guess"][place]
    inner = model._model()
    whole = model.score_samples([f"{question} {best}"])[0]
    event = inner.encode(inner.rows([question])).event
    beginning = event._replace(observed=event.mask & event.there)
    before = float(inner.joint.log_prob(beginning).detach())
    assert table["log_prob"][place] == pytest.approx(whole - before, abs=1e-8)


def test_saved_and_loaded_it_answers_the_same(world, model, tmp_path):
    model.save(tmp_path / "m")
    again = conjoin.load(tmp_path / "m")
    questions = [*world.questions[:6], "", "xyzzy \u4e2d"]
    pd.testing.assert_frame_equal(
        model.answer(questions, max_risk=0.2), again.answer(questions, max_risk=0.2)
    )
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["answers"]["settings"]["draws"] == 6


def test_what_cannot_be_read_is_unfamiliar(model):
    found = model.answer(["", "Where is xyzzy?", "W" * 4000], max_risk=0.2)
    assert list(found["verdict"]) == ["unfamiliar"] * 3
    assert "empty" in found["reason"][0] and "'xyzzy?'" in found["reason"][1]
    assert "4,000 characters" in found["reason"][2]


def test_questions_that_cannot_be_read_are_told(world, plain):
    questions = ["xyzzy?", *world.questions[:60]]
    with pytest.warns(conjoin.ColumnWarning, match="1 of 61 questions .* question 0"):
        copy.deepcopy(plain).calibrate(questions, ["x", *world.answers[:60]], draws=2, max_tokens=3)


def test_what_is_known_of_a_calibration_is_told(world, plain, tmp_path):
    """The number of questions is that of those that could be read, each once."""
    rows = [row for row, label in enumerate(world.labels) if label != "conflicting"][:90]
    own = copy.deepcopy(plain)
    own.model_.answers = None
    assert "answers" not in dict(describe(own.model_))
    questions = ["xyzzy?", *(world.questions[row] for row in rows), world.questions[rows[0]]]
    answers = ["x", *(world.answers[row] for row in rows), world.answers[rows[0]]]
    with pytest.warns(ColumnWarning):
        own.calibrate(questions, answers, draws=4, max_tokens=6)
    known = own.model_.answers
    told = dict(own.model_.facts["questions"])
    day = told.pop("date")
    assert told == {"given": 92, "different": 91, "read": 90, "right": told["right"]}
    assert datetime.date.fromisoformat(day)
    found = known.figures()
    assert found["held_out"] == 45 and found["least_risk"] == 1 - 0.05 ** (1 / 45)
    assert found["right"] == pytest.approx((~known.wrong).mean())
    # all that is familiar is accepted where no answer is wrong, nothing where all are
    familiar = (known.familiarity > known.usual_false_alarm).mean()
    for wrong, accepted in ((False, familiar), (True, 0.0)):
        other = dataclasses.replace(known, wrong=np.full(45, wrong))
        assert other.figures()["accepted"] == accepted
    words = dict(describe(own.model_))["answers"]
    assert f"calibrated on 90 questions ({day}), 45 of them held out" in words
    assert f"scored by {known.score.uses}" in words and "a risk of 6.5 % or more" in words
    assert ("no confidence keeps a risk of 10 % there" in words) == (found["accepted"] == 0)
    assert "Answers to questions: 45 held-out questions" in model_card(own.model_)
    digest = model_hash(own.model_)
    own.save(tmp_path / "m")
    again = conjoin.load(tmp_path / "m").model_
    assert dict(describe(again))["answers"] == words
    again.card["questions"]["date"] = "1999-12-31"  # of the card, which no answer depends on
    assert model_hash(again) == digest
    del again.card["questions"]  # as models of before have it
    assert dict(describe(again))["answers"].startswith("calibrated on questions, 45 of them held")


def test_a_table_is_asked_no_questions(tmp_path, capsys):
    rows = pd.DataFrame({"age": np.arange(60.0), "town": list("AB") * 30})
    table = JointDensity(family="naive_bayes").fit(rows)
    with pytest.raises(ValueError, match="This model has no target, so y is nothing"):
        table.calibrate(["Where?"] * 60, ["Ur"] * 60)
    table.save(tmp_path / "table")
    asked = pd.DataFrame({"question": ["Where?"] * 60, "answer": ["Ur"] * 60})
    asked.to_csv(tmp_path / "q.csv", index=False)
    line = [
        "calibrate",
        str(tmp_path / "table"),
        str(tmp_path / "q.csv"),
        "-o",
        str(tmp_path / "o"),
    ]
    assert run(line) == 2
    err = capsys.readouterr().err
    assert "is no model of texts" in err and err.count("\n") == 1


def test_too_few_questions_are_refused_with_the_number(model):
    with pytest.raises(ValueError, match=f"needs {2 * rows_for_error(0.01)} calibration questions"):
        model.answer(["Where?"], max_risk=0.01)
    with pytest.raises(ValueError, match="max_risk must lie"):
        model.answer(["Where?"], max_risk=0)
    with pytest.raises(ValueError, match="40 different questions"):
        model.calibrate(["Where?"] * 5, ["Ur"] * 5)
    with pytest.raises(ValueError, match="60 questions and 3 answers"):
        model.calibrate(["Where?"] * 60, ["Ur"] * 3)
    with pytest.raises(ValueError, match="answer to question 0"):
        model.calibrate(["Where?"] * 60, [{"a": 1}] * 60)
    with pytest.raises(ValueError, match="draws must be"):
        model.calibrate(["Where?"] * 60, ["Ur"] * 60, draws=1)
    with pytest.raises(ValueError, match="Question 0"):
        model.answer([3], max_risk=0.2)


def test_a_model_without_questions_says_so(tmp_path):
    texts = [f"a{c}" for c in "bcdefgh"] * 4
    fitted = JointDensity(family="ngram", types={"text": "text"}).fit(texts)
    with pytest.raises(ValueError, match="call calibrate"):
        fitted.answer(["a"])


def test_an_entailment_function_is_asked_for_again(world, plain, model):
    def entails(question, one, other):
        return False

    with pytest.raises(ValueError, match="leave it out"):
        model.answer(world.questions[:1], max_risk=0.2, entails=entails)
    own = copy.deepcopy(plain)
    own.calibrate(world.questions[:80], world.answers[:80], draws=2, entails=entails)
    with pytest.raises(ValueError, match="give it again as entails"):
        own.answer(world.questions[:1], max_risk=0.2)
    assert len(own.answer(world.questions[:2], max_risk=0.3, entails=entails)) == 2


# ---------------------------------------------------------------------- pretrained, with a template


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "model"
    texts = ["user assistant where is the cat", "the dog is here"]
    size = tokenizer(path, texts, marks=("<|im_start|>", "<|im_end|>"))
    language_model(path, size, 64, 0, width=16)
    told = {"chat_template": TEMPLATE, "eos_token": {"content": END}}
    (path / "tokenizer_config.json").write_text(json.dumps(told))
    return path


def test_a_pretrained_model_is_asked_in_its_own_turns(folder, tmp_path):
    found = from_pretrained(folder, capacity=48)
    questions = [f"where is {a} {b}" for a in ("the", "a", "my") for b in "abcdefghijklmnop"]
    with pytest.warns(ColumnWarning, match="too few to tell usual"):
        found.calibrate(questions, [None] * 40 + ["x"] * 8, draws=2, max_tokens=3)
    settings = found.model_.answers.settings
    assert settings.template == TEMPLATE
    prompts = Prompter(found.model_, settings.conversation).prompts(["where is the cat"])
    tokens = found.model_.codec.wording.tokens
    text = tokens.text(prompts.codes[0])
    assert text == "<|im_start|>user\nwhere is the cat<|im_end|>\n<|im_start|>assistant\n"
    assert "cat" in tokens.text(prompts.codes[0][prompts.asked[0]])
    assert "assistant" not in tokens.text(prompts.codes[0][prompts.asked[0]])
    table = found.answer(questions[:3], max_risk=0.3, false_alarm=0.2)
    assert (table["verdict"] != "accept").all()
    found.save(tmp_path / "m")
    again = conjoin.load(tmp_path / "m").answer(questions[:3], max_risk=0.3, false_alarm=0.2)
    pd.testing.assert_frame_equal(table, again)


def test_hidden_states_are_those_of_the_network(folder):
    """A middle layer and the last one, at the last token of each beginning."""
    density = from_pretrained(folder, capacity=48).model_.joint
    value = torch.randint(3, 200, (3, 48), generator=stream(0))
    known = torch.arange(48) < torch.tensor([[5], [9], [7]])
    places = torch.tensor([[0, 5], [4, 9], [7, 2]])
    found = density.features_at(Event(value, known, known), places)
    for row in range(3):
        tokens = torch.cat([torch.tensor([density.structure["start"]]), value[row]])[:20]
        with torch.no_grad():
            layers = density.net(input_ids=tokens[None], output_hidden_states=True).hidden_states
        for column in range(2):
            place = places[row, column]
            wanted = torch.cat([layers[len(layers) // 2][0, place], layers[-1][0, place]])
            assert (found[row, column] - wanted.double()).abs().max() < 1e-4


# ------------------------------------------------------------------ a lean loader, in conversations


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """A network of random weights in a GGUF file, in few bits, with its chat template."""
    pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")
    path = tmp_path_factory.mktemp("lean") / "tiny.gguf"
    found = from_pretrained(gguf_of(path, "Q4_1", "Q8_0"), capacity=150)
    answers = [["the"], None] * (len(TEXTS) // 2)
    with pytest.warns(ColumnWarning, match="too few to tell usual"):
        found.calibrate(TEXTS, answers, draws=3, max_tokens=4)
    assert found.model_.answers.settings.template == LEAN_TEMPLATE
    return found


@pytest.fixture
def talking(lean):
    known = lean.model_.answers
    return TextModel(lean.model_, known.settings.conversation)


QUESTION = {"role": "user", "content": TEXTS[3]}
BEFORE = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": TEXTS[8]},
    {"role": "assistant", "content": "the moon"},
]


def test_hidden_states_of_a_lean_network_are_those_of_its_layers(lean):
    density = lean.model_.joint
    value = torch.randint(3, 200, (2, 150), generator=stream(0))
    known = torch.arange(150) < torch.tensor([[5], [9]])
    found = density.features_at(Event(value, known, known), torch.tensor([[0, 5], [4, 9]]))
    start = torch.tensor([density.structure["start"]])
    for row, places in enumerate([(0, 5), (4, 9)]):
        middle, last = density._layers(torch.cat([start, value[row]])[None, :10])
        for column, place in enumerate(places):
            wanted = torch.cat([middle[0, place], last[0, place]])
            assert (found[row, column] - wanted.double()).abs().max() < 1e-5


def test_in_few_bits_what_was_read_before_changes_no_verdict(talking, lean):
    """To the bit; and what was judged is not read again to be written."""
    plain = lean.answer([TEXTS[3]], max_risk=0.2, false_alarm=0.1).iloc[0]
    turns = [*BEFORE, QUESTION]
    whole = lean.answer([turns], max_risk=0.2, false_alarm=0.1).iloc[0]
    talking.prefixes.read(talking.codes_of_turns(BEFORE[:2]))
    for asked, wanted in (([QUESTION], plain), (turns, whole)):
        reused = talking.prefixes.reused
        found = talking.verdict_of_turns(asked, 0.1, 0.2)
        assert found.confidence == wanted["confidence"]
        assert found.familiarity == wanted["familiarity"]
        assert (found.verdict, found.reason) == (wanted["verdict"], wanted["reason"])
        assert found.alternatives == tuple(wanted["alternatives"])
        codes = talking.codes_of_turns(asked)
        between = talking.prefixes.reused
        assert asked == [QUESTION] or between > reused
        talking.continuation(codes, Wish(1, 2, temperature=0.0)).advance(60)
        assert talking.prefixes.reused - between == len(codes) - 1


def test_a_question_is_judged_behind_what_was_said_before(talking, lean):
    turns = [*BEFORE, QUESTION]
    table = lean.answer([TEXTS[3], [QUESTION], turns], max_risk=0.2, false_alarm=0.1)
    assert table["question"].tolist() == [TEXTS[3]] * 3
    assert table["confidence"][0] == table["confidence"][1] != table["confidence"][2]
    assert IN_CONTEXT in table["reason"][2] and IN_CONTEXT not in "".join(table["reason"][:2])
    codes = talking.codes_of_turns(turns)
    writing = talking.continuation(codes, Wish(1, 4, temperature=0.0))
    pieces = [piece for chunk in writing.advance(60) for piece in chunk.pieces]
    assert table["log_prob"][2] == pytest.approx(sum(each.log_p for each in pieces), abs=1e-9)
    prompts = Prompter(lean.model_, talking.template).prompts([turns])
    assert prompts.codes == [codes]
    tokens = lean.model_.codec.wording.tokens
    assert tokens.text(codes[prompts.asked[0]]) == TEXTS[3]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (3, "give a text, or the messages"),
        ([], "give a text, or the messages"),
        ([{"role": "user"}], "give a text, or the messages"),
        ([{"role": "user", "content": 3}], "give a text, or the messages"),
        (BEFORE, "must end with one of the user"),
        ([QUESTION, QUESTION], r"messages.1.role is 'user' where 'assistant' is due"),
    ],
)
def test_what_is_no_question_is_refused(lean, asked, words):
    with pytest.raises(ValueError, match=words):
        lean.answer([asked], max_risk=0.2, false_alarm=0.1)


def test_conversations_do_not_calibrate(lean):
    with pytest.raises(ValueError, match=r"Question 0 is .*, no text"):
        lean.calibrate([[QUESTION]] * 50, [None] * 50)


def test_judged_answers_have_their_energy_and_watermark(lean):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from conjoin.serving.app import create_app

    template = lean.model_.answers.settings.conversation
    app = create_app(lean, "lean", template=template, watermark=Watermark(b"a key of some bytes"))
    with TestClient(app) as client:

        def chat(turns, **more):
            body = {"model": "lean", "messages": turns, "max_risk": 0.2, "false_alarm": 0.1}
            body |= {"max_tokens": 12, "seed": 1, **more}
            answer = client.post("/v1/chat/completions", json=body).json()
            return answer["choices"][0]["message"], answer["usage"]

        refused, _ = chat([*BEFORE, QUESTION])
        assert refused["content"] is None and IN_CONTEXT in refused["refusal"]
        assert refused["conjoin"]["energy"]["joules"] > 0
        greedy, usage = chat([QUESTION], abstain=False)
        told = greedy["conjoin"]
        assert told["watermark"]["on"] is False and "none is drawn" in told["watermark"]["reason"]
        assert told["energy"]["joules_per_token"] == pytest.approx(
            told["energy"]["joules"] / usage["completion_tokens"]
        )
        drawn, _ = chat([QUESTION], abstain=False, temperature=1.0)
        assert drawn["conjoin"]["watermark"]["on"] is True
        assert 0 < drawn["conjoin"]["watermark"]["p_value"] <= 1
        assert drawn["conjoin"]["verdict"] == told["verdict"]


def test_others_have_their_turns_while_an_answer_is_judged(lean, monkeypatch):
    """A step is a token of the drawn answers, and nothing is judged in one piece."""
    pytest.importorskip("fastapi")
    from conjoin.serving import text_api
    from conjoin.serving.gate import Gate
    from conjoin.serving.limits import Limits
    from conjoin.serving.metrics import Metrics
    from conjoin.serving.text_bodies import ChatBody

    monkeypatch.setattr(text_api, "TURN_SECONDS", 0.0)
    calls = []

    class Counted(Gate):
        async def ask(self, call):
            calls.append(call)
            return await super().ask(call)

    texts = TextModel(lean.model_, lean.model_.answers.settings.conversation)
    gate = Counted(Limits())
    api = text_api.TextApi(texts, "lean", Limits(), gate, Metrics(gate), "")
    body = ChatBody(model="lean", messages=[QUESTION], max_risk=0.2, false_alarm=0.1)
    verdict = asyncio.run(api.judged([QUESTION], body, Tally()))
    gate.close()
    assert len(calls) >= 4  # read, then a token each, then what they are worth
    assert verdict == texts.verdict_of_turns([QUESTION], 0.1, 0.2)


# ----------------------------------------------------------------------------------- from the shell


def test_from_the_shell(world, plain, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain.save("plain")
    rows = list(zip(world.questions, world.answers, strict=True))[:200]
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv("q.csv", index=False)
    line = "calibrate plain q.csv -o sure --draws 3 --max-tokens 5 --json"
    assert run(line.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["questions"] == 200 and 0 < told["right"] < 1
    assert run(["answer", "sure", rows[0][0], rows[80][0], "--max-risk", ".3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["table"]
    assert [row["question"] for row in found] == [rows[0][0], rows[80][0]]
    assert run(["answer", "sure", "q.csv", "--max-risk", ".3", "-o", "out.csv", "-q"]) == 0
    written = pd.read_csv("out.csv")
    assert len(written) == 200 and written["verdict"].eq("accept").mean() > 0.2
    (tmp_path / "one.csv").write_text("only\nthis\n")
    assert run(["calibrate", "plain", "one.csv", "-o", "other"]) == 2
    assert "has no column 'question'; there are 'only'" in capsys.readouterr().err
    pd.DataFrame(rows, columns=["Question", "Answer"]).to_parquet("q.parquet")
    assert run(["answer", "sure", "q.parquet", "--max-risk", ".3", "-o", "again.csv", "-q"]) == 0
    assert pd.read_csv("again.csv").equals(written)
    assert run(["answer", "sure", "lost.csv", "--max-risk", ".3"]) == 2
    assert "lost.csv does not exist" in capsys.readouterr().err
    assert run(["answer", "sure", "q.csv", "--max-risk", ".001"]) == 2
    assert "calibration questions" in capsys.readouterr().err


# --------------------------------------------------------------------------------------- over HTTP


def test_over_http_answers_carry_their_verdict(world, model, table):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from conjoin.serving.app import create_app

    with TestClient(create_app(model, "world")) as client:

        def chat(question, **more):
            message = {"role": "user", "content": question}
            body = {"model": "world", "messages": [message], "max_risk": 0.15, **more}
            return client.post("/v1/chat/completions", json=body).json()["choices"][0]

        place = int(np.flatnonzero(table["verdict"] == "accept")[0])
        sure = chat(table["question"][place])
        assert sure["message"]["content"].strip() == table["answer"][place]
        told = sure["message"]["conjoin"]
        assert told["verdict"] == "accept" and sure["message"]["refusal"] is None
        assert told["log_prob"] == pytest.approx(table["log_prob"][place], abs=1e-6)
        assert told["confidence"] == pytest.approx(table["confidence"][place], abs=1e-9)
        assert told["familiarity"] == pytest.approx(table["familiarity"][place])
        place = int(np.flatnonzero(table["verdict"] == "ambiguous")[0])
        unsure = chat(table["question"][place])
        assert unsure["message"]["content"] is None
        assert unsure["message"]["conjoin"]["verdict"] == "ambiguous"
        assert table["reason"][place] in unsure["message"]["refusal"]
        assert unsure["message"]["conjoin"]["alternatives"]
        anyway = chat(table["question"][place], abstain=False)
        assert anyway["message"]["content"].strip() == table["best_guess"][place]
        drawn = chat(table["question"][place], abstain=False, temperature=1.0, seed=3)
        assert "most probable answer" in drawn["message"]["conjoin"]["reason"]
        body = {"model": "world", "messages": [{"role": "user", "content": "Where?"}]}
        refused = client.post("/v1/chat/completions", json={**body, "max_risk": 0.001})
        assert refused.status_code == 400 and "needs" in refused.json()["error"]["message"]
