"""The page at "/" of a server: it asks that server alone, holds nothing of the model, and shows in
a browser what the model answers."""

import re
import shutil
import subprocess
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'conjoin[serve]'")

import uvicorn
from fastapi.testclient import TestClient

from conjoin import JointDensity
from conjoin.serving import app as serving
from conjoin.serving.app import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TEXTS = [f"{who} {what} the {thing}" for who in "ab" for what in "cd" for thing in "efghijklmn"] * 3


def test_the_page_is_open_and_holds_nothing_of_the_model(people):
    with TestClient(create_app(people, "people", key="secret")) as client:
        page = client.get("/")
        script = client.get("/ask.js")
        assert client.get("/openapi.json").status_code == 401
    assert page.status_code == script.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    text = page.text + script.text
    assert not re.search(r"https?://", text)  # no request leaves for elsewhere
    assert not re.search(r"\bage\b|town|people", text)
    assert "innerHTML" not in text  # what is shown is text, never markup
    assert 'lang="en"' in page.text
    assert page.text.count("<label") >= 5


# a request that is under way holds the browser's clock, which timers would let run ahead
DRIVEN = """
(async () => {
  while (by("texts").hidden) await fetch("health");
  by("words").value = "a c";
  by("say").requestSubmit();
  while (running) await fetch("health");
})();
"""
DECIDED = """
(async () => {
  while (by("rows").hidden) await fetch("health");
  const values = { age: "61", town: "A" };
  by("fields").querySelectorAll("input").forEach((input) => { input.value = values[input.name]; });
  by("errors").value = "0.2";
  by("one").requestSubmit();
  while (!by("answer").children.length && !by("trouble").textContent) await fetch("health");
})();
"""


def shown(app, profile):
    """The document as a browser has it after some seconds."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    line = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--virtual-time-budget=8000", "--dump-dom", f"http://127.0.0.1:{port}/",
    ]  # fmt: skip
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=300).stdout
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_answers_and_verdicts(people, tmp_path, monkeypatch):
    whole = serving.SCRIPT.read_text(encoding="utf-8")
    script = tmp_path / "ask.js"
    monkeypatch.setattr(serving, "SCRIPT", script)
    script.write_text(whole + DRIVEN, encoding="utf-8")
    texts = JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS)
    page = shown(create_app(texts, "texts"), tmp_path / "one")
    assert '<span class="verdict accept">accept</span>' in page
    assert re.search(r"log p -\d+\.\d\d nats", page)
    assert "s of a brain" in page
    assert page.count("background-color: rgba(") >= 2  # the heat of its pieces
    script.write_text(whole + DECIDED, encoding="utf-8")
    page = shown(create_app(people, "people"), tmp_path / "two")
    assert '<span class="verdict accept">accept</span> ill' in page
    assert page.count("<label>") >= 2
    assert 'id="whatif">' in page
