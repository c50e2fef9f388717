"""What README.md, docs/ and the docstrings show is run, so that it stays true.

In each Markdown file, in order and in one empty folder: ```python blocks share one namespace
(```python no-run is only compiled); of ```console blocks the lines that begin with `$ conjoin` are
run and must succeed, or, in a block fenced ```console error, must fail with exit code 2. A ```text
output block is what the block before it prints: its words must be the same, its numbers near (seeds
are set, but processors round differently). `CONJOIN_DOCS_WRITE=1 pytest tests/test_docs.py` writes
these blocks anew."""

import contextlib
import doctest
import importlib
import io
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from conjoin.cli import run

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()
]
MODULES = sorted(
    path for path in (ROOT / "src" / "conjoin").rglob("*.py") if path.stem != "__main__"
)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|console|text)(?P<option>[^\n`]*)\n"
    r"(?P<body>.*?)^(?P=indent)```",
    re.M | re.S,
)
WRITE = bool(os.environ.get("CONJOIN_DOCS_WRITE"))
NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?")
# of a number that is printed: relative and absolute tolerance
NEAR = 0.1
LEAST = 0.06


class Block(NamedTuple):
    kind: str
    option: str
    body: str
    line: int  # of its first line in the page


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        yield Block(
            match["kind"],
            match["option"].strip(),
            body,
            text[: match.start("body")].count("\n") + 1,
        )


def run_python(block, page, namespace):
    assert block.option in ("", "no-run"), (
        f"{page.name}:{block.line}: unknown option {block.option!r}"
    )
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
    if not block.option:
        exec(code, namespace)


def commands(body):
    """The `$ conjoin` lines, with those that end in a backslash joined."""
    joined = re.sub(r"\\\n\s*(?:> )?", "", body)
    return [
        line[2:].split("  #")[0].strip()
        for line in joined.splitlines()
        if re.match(r"\$ (cat \S+ \| )?conjoin\b", line)
    ]


def needs_a_shell(command):
    """Whether a shell would do something with the words of a command: outside of quotes, not in."""
    bare = re.sub(r"\"[^\"$`\\]*\"|'[^']*'", "", command)
    return not command.startswith("conjoin ") or bool(set(bare) & set("|<>*$&;`\"'"))


def run_console(block, page):
    assert block.option in ("", "error"), (
        f"{page.name}:{block.line}: unknown option {block.option!r}"
    )
    for command in commands(block.body):
        if not needs_a_shell(command):  # then no process of its own either
            code = run(shlex.split(command, comments=True)[1:])
            assert code == (2 if block.option else 0), (
                f"{page.name}:{block.line}: $ {command}\nexit code {code}"
            )
            continue
        line = re.sub(
            r"(^|\| )conjoin\b", lambda match: f'{match[1]}"{sys.executable}" -m conjoin', command
        )
        plain = os.environ | {"NO_COLOR": "1"}
        done = subprocess.run(
            line, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=plain
        )
        wanted = 2 if block.option else 0
        assert done.returncode == wanted, (
            f"{page.name}: $ {command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        )


def shape(text):
    """What is printed without its numbers, spaces and rules; and the numbers."""
    numbers = [float(each.replace(",", "")) for each in NUMBER.findall(text)]
    return re.sub(r"[\s─-╿|+-]+", " ", NUMBER.sub("0", text)).strip(), numbers


def check_output(block, page, printed):
    (words, numbers) = shape(printed)
    (wanted, expected) = shape(block.body)
    where = (
        f"{page.name}:{block.line}: the page shows\n{block.body}\nand this is printed:\n{printed}"
    )
    assert words == wanted, where
    assert all(
        math.isclose(one, other, rel_tol=NEAR, abs_tol=LEAST)
        for one, other in zip(numbers, expected, strict=True)
    ), where


def run_page(page):
    """Run all blocks of a page; yields each output block with what was printed before it."""
    namespace = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        if block.kind == "text":
            if block.option == "output":
                yield block, printed
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if block.kind == "python":
                run_python(block, page, namespace)
            else:
                run_console(block, page)
        printed = "".join(line.rstrip() + "\n" for line in out.getvalue().strip("\n").splitlines())


def write_outputs(page, found):
    """Put what was printed into the page."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    for block, printed in reversed(found):
        lines[block.line - 1 : block.line - 1 + block.body.count("\n")] = [printed]
    page.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]
)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    if WRITE:
        write_outputs(page, list(run_page(page)))
        return
    for block, printed in run_page(page):
        check_output(block, page, printed)


def module_name(path):
    pieces = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)


@pytest.mark.parametrize("module", [module_name(path) for path in MODULES])
def test_doctests(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(module), optionflags=flags).failed == 0


def test_blocks_are_found_and_run(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n\n1. item\n\n    ```python\n    x += 1\n    ```\n\n```python "
        "no-run\n1 / 0\n```\n"
        "```console\n$ conjoin a \\\n    b | conjoin c  # why\nconjoin said\n$ make demo\n```\n",
        encoding="utf-8",
    )
    found = list(blocks(page))
    assert [(block.kind, block.option) for block in found] == [
        ("python", ""),
        ("python", ""),
        ("python", "no-run"),
        ("console", ""),
    ]
    namespace = {}
    for block in found[:3]:
        run_python(block, page, namespace)
    assert namespace["x"] == 2
    assert commands(found[3].body) == ["conjoin a b | conjoin c"]


def test_a_shell_is_asked_where_one_is_needed():
    for plain in ("conjoin a b", 'conjoin a --where "b > c; d"', "conjoin a 'b*|$c'"):
        assert not needs_a_shell(plain)
    for line in (
        "cat a | conjoin b",
        "conjoin a > b",
        'conjoin "$A"',
        "conjoin *.csv",
        "conjoin 'a",
    ):
        assert needs_a_shell(line)


def test_outputs_are_compared(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint('rows', 1000 / 3)\n```\n\n```text output\nrows 333.4\n```\n",
        encoding="utf-8",
    )
    ((block, printed),) = run_page(page)
    check_output(block, page, printed)
    for wrong in ("rows 500\n", "cells 333.3\n", "rows 333.3 1\n"):
        with pytest.raises(AssertionError):
            check_output(block, page, wrong)
    write_outputs(page, [(block, printed)])
    assert "```text output\nrows 333.3333333333333\n```" in page.read_text(encoding="utf-8")
