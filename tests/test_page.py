"""The pages at "/" in a browser, as a person uses them: on a desk and on a phone, by the keyboard
alone, in the dark; no request goes anywhere but to the server that the page came from."""

import shutil
import threading
import time
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'conjoin[serve]'")
pytest.importorskip("playwright", reason="needs the package playwright, to drive a browser")

import uvicorn
from playwright.sync_api import expect, sync_playwright

from conjoin import JointDensity
from conjoin.serving.app import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not on the path"),
]

VIEWS = {"desk": {"width": 1100, "height": 800}, "phone": {"width": 390, "height": 844}}
MIN_CONTRAST = 4.5  # of words (WCAG 2.2, success criterion 1.4.3)
MAX_MS = 60_000  # a shared machine is slow
TEXTS = [f"{who} {what} the {thing}" for who in "ab" for what in "cd" for thing in "efghijklmn"] * 3
# how light a colour is against the one behind it (WCAG 2.2, relative luminance)
CONTRAST = """
(element) => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const clear = (colour) => colour === "rgba(0, 0, 0, 0)";
  while (behind && clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const [one, two] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
    .map(light).sort((a, b) => b - a);
  return (one + 0.05) / (two + 0.05);
}
"""
REFUSED = "Failed to load resource: the server responded with a status of 4"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def texts():
    return JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Opens the page of an app; at the end nothing was asked of elsewhere, and nothing failed."""
    servers, contexts, strange, errors = [], [], [], []

    def open_page(app, view, refused=False):
        """``refused``: whether the server is to refuse something, which the console tells."""

        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        context = browser.new_context(viewport=VIEWS[view], has_touch=view == "phone")
        context.set_default_timeout(MAX_MS)
        contexts.append(context)

        def noted(told, refused):
            expected = refused and told.text.startswith(REFUSED)
            if told.type in ("error", "warning") and not expected:
                errors.append(told.text)

        def guarded(route):
            if urlsplit(route.request.url).netloc == f"127.0.0.1:{port}":
                route.continue_()
                return
            strange.append(route.request.url)
            route.abort()

        context.route("**/*", guarded)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: noted(told, refused))
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    expect.set_options(timeout=MAX_MS)
    yield open_page
    for context in contexts:
        context.close()
    for server, thread in servers:
        server.should_exit = True
        thread.join(30)
    assert strange == []
    assert errors == []


def focused(page):
    """The id of what the keyboard reaches, else what it says."""
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def reached(page, wanted, most=40):
    """Tab until an element has the focus, which must be seen there."""
    for _ in range(most):
        if focused(page) == wanted:
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) == "solid"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted!r}.")


def reached_back(page, wanted, most=40):
    """As ``reached``, backwards."""
    for _ in range(most):
        if focused(page) == wanted:
            return
        page.keyboard.press("Shift+Tab")
    raise AssertionError(f"Shift+Tab does not reach {wanted!r}.")


def read_aloud(page, selector):
    """The region that tells a screen reader what is new in it, around an element."""
    live = "[aria-live], [role=log], [role=status], [role=alert]"
    return page.locator(selector).first.evaluate(f"(it) => it.closest('{live}')?.id || ''")


def shot(page, name):
    """A picture for whoever looks, where the test is asked for one."""
    page.screenshot(path=name, full_page=True)


@pytest.mark.parametrize("view", VIEWS)
def test_a_conversation_by_the_keyboard_alone(opened, texts, view, tmp_path):
    page = opened(create_app(texts, "texts"), view)
    expect(page.locator("#texts")).to_be_visible()
    assert focused(page) == "words"
    page.keyboard.type("a c")
    page.keyboard.press("Enter")
    expect(page.locator("#talk .verdict")).to_have_count(1)
    assert page.locator("#talk .verdict").inner_text() == "accept"
    worth = page.locator("#talk .worth").inner_text()
    assert "familiarity" in worth and "nats" in worth and "s of a brain" in worth
    said = page.locator("#talk .said").nth(1)
    assert said.locator("span").count() >= 2  # the heat of its pieces
    assert read_aloud(page, "#talk .verdict") == "talk"
    assert page.locator("#talk").get_attribute("aria-live") == "polite"
    assert focused(page) == "words"  # to go on
    reached(page, "send")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "count"
    page.keyboard.press("ArrowUp")
    reached_back(page, "words")
    page.keyboard.type("b d")
    page.keyboard.press("Enter")
    expect(page.locator("#talk .verdict")).to_have_count(3)
    page.keyboard.type("zzzz")
    page.keyboard.press("Enter")
    expect(page.locator("#talk .verdict.unfamiliar")).to_have_count(1)
    refused = page.locator("#talk .turn").last.inner_text()
    assert refused.count("unlike those held out") == 1 and "I have not learned" in refused
    assert page.evaluate(OVERFLOW) <= 0
    shot(page, tmp_path / f"chat-{view}.png")


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_and_a_file_by_the_keyboard_alone(opened, people, view, tmp_path):
    page = opened(create_app(people, "people"), view)
    expect(page.locator("#rows")).to_be_visible()
    reached(page, "errors")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.2")
    reached(page, "file")
    for _ in range(2):  # past the file, into the first field
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "age":
            break
    assert page.evaluate("document.activeElement.name") == "age"
    page.keyboard.type("61")
    page.keyboard.press("Tab")
    page.keyboard.type("A")
    reached(page, "Decide")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .verdict")).to_have_text("accept")
    assert "ill" in page.locator("#answer").inner_text()
    assert read_aloud(page, "#answer .verdict") == "answer"
    reached(page, "whatif")
    page.keyboard.press("Enter")
    expect(page.locator("#answer li")).to_have_count(3)
    page.keyboard.press("Enter")  # asked again, it is told once
    page.wait_for_load_state("networkidle")
    expect(page.locator("#answer li")).to_have_count(3)
    table = tmp_path / "people.csv"
    table.write_text("age,town,colour\n61,A,red\n38,B,blue\n400,A,green\n", encoding="utf-8")
    page.locator("#file").set_input_files(str(table))
    expect(page.locator("#found tbody tr")).to_have_count(3)
    assert page.locator("#found .verdict").all_inner_texts() == ["accept", "accept", "unfamiliar"]
    assert "age" in page.locator("#found td.why").nth(2).inner_text()
    told = page.locator("#counts").inner_text()
    assert "2 accept, 1 unfamiliar of 3 rows" in told and "left out: colour" in told
    assert read_aloud(page, "#counts") == "counts"
    assert page.evaluate(OVERFLOW) <= 0
    shot(page, tmp_path / f"rows-{view}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_the_light_and_in_the_dark(opened, texts, people, scheme, tmp_path):
    page = opened(create_app(texts, "texts"), "phone")
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("#texts")).to_be_visible()
    for words in ("a c", "zzzz"):
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        expect(page.locator("#talk .worth")).to_have_count(1 if words == "a c" else 2)
        expect(page.locator("#send")).to_be_enabled()
    seen = ["h1", ".muted", "a", "#send", "#anew", "#words", ".verdict.accept", "summary"]
    seen += [".verdict.unfamiliar", ".worth", ".who", ".said", ".settings label"]
    contrasts = {each: page.locator(each).first.evaluate(CONTRAST) for each in seen}
    assert {each: value for each, value in contrasts.items() if value < MIN_CONTRAST} == {}
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper.strip("rgb()").split(", "))) < 200) == (scheme == "dark")
    shot(page, tmp_path / f"chat-{scheme}.png")
    page = opened(create_app(people, "people"), "desk")
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("#rows")).to_be_visible()
    shot(page, tmp_path / f"rows-{scheme}.png")


def test_what_is_wrong_is_said_aloud(opened, people):
    page = opened(create_app(people, "people", key="secret"), "desk", refused=True)
    expect(page.locator("#door")).to_be_visible()
    assert focused(page) == "key"
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#rows")).to_be_visible()
    expect(page.locator("#door")).to_be_hidden()
    reached(page, "errors")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.2")
    reached(page, "Decide")
    page.keyboard.press("Enter")  # of an empty form
    expect(page.locator("#answer")).to_contain_text("too little is known")
    reached_back(page, "errors")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.001")
    reached(page, "Decide")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("rows")
    assert page.locator("#trouble").get_attribute("role") == "alert"
