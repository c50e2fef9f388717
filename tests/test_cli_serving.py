"""serve and chat from the shell: a process that begins, answers and ends; a conversation line by
line with the verdict under each answer."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'conjoin[serve]'")

from conjoin import JointDensity
from conjoin.cli import run

TEXTS = [f"{who} {what} the {thing}" for who in "ab" for what in "cd" for thing in "efghijklmn"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("serving") / "texts"
    JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS * 3).save(path)
    return str(path)


def said(capsys, monkeypatch, arguments, typed=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    code = run(arguments)
    found = capsys.readouterr()
    return code, found.out, found.err


def test_under_each_answer_stands_its_verdict(folder, capsys, monkeypatch):
    typed = "a c t\neeeeeeeeeee\n/new\nb d\n/end\nno more\n"
    code, out, err = said(capsys, monkeypatch, ["chat", folder, "--temperature", "0"], typed)
    assert code == 0
    assert re.search(r"he \w\n\[accept · familiarity 0\.\d+ · log p -\d\.\d+ nats, ", out)
    assert "I have not learned from texts like this one" in out
    assert "[unfamiliar · familiarity 0.0" in out
    assert out.count("[") == 3
    assert "--seed" in err


def test_what_can_not_be_read_is_said_and_the_conversation_goes_on(folder, capsys, monkeypatch):
    arguments = ["chat", folder, "--no-abstain", "--seed", "1", "-q"]
    code, out, err = said(capsys, monkeypatch, arguments, "Ä\na c\n")
    assert code == 0
    assert "never seen" in out
    assert "log p" in out
    assert err == ""


def test_a_seed_says_the_same_again(folder, capsys, monkeypatch):
    line = ["chat", folder, "--seed", "3", "-q"]
    outs = [said(capsys, monkeypatch, line, "a c\nb d\n")[1] for _ in range(2)]
    one, two = (" ".join(out.split()) for out in outs)
    spent = re.compile(r" · [\d.e-]+ J(, [\d.e-]+ a token)? \([\d.e-]+ s of a brain\)")
    one, two = (" ".join(each.split()) for each in (one, two))  # lines end where they must
    assert len(spent.findall(one)) == len(spent.findall(two)) == 2
    assert spent.sub("", one) == spent.sub("", two)


def test_a_server_begins_answers_and_ends(folder):
    line = [sys.executable, "-m", "conjoin", "serve", folder, "--port", "0"]
    server = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    address = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())[0]
    with urllib.request.urlopen(f"{address}/health") as answer:
        assert b'"ok"' in answer.read()
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
    assert "ended." in out
    assert "GET /health 200" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--capacity", "9"], "capacity is of pretrained models"),
        (["--prompts", "none.txt"], "none.txt: No such file"),
        (["--port", "70000"], "--port"),
    ],
)
def test_wrong_options_are_one_sentence(folder, capsys, monkeypatch, more, words):
    code, _, err = said(capsys, monkeypatch, ["serve", folder, *more])
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_an_address_that_is_taken(folder, capsys, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, _, err = said(capsys, monkeypatch, ["serve", folder, "--port", port])
    assert code == 2
    assert f"127.0.0.1:{port} can't be taken" in err
