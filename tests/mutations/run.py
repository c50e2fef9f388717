"""Plant one bug at a time in a copy of src/ and see whether the tests notice.

    python tests/mutations/run.py [LIST ...] [WORD ...]
        the lists (files beside this one; ``all``; default ``mutations``), and of those only the
        mutations whose file or name has one of the words

Exit code 1 if fewer than 95 % are caught, if the tests fail on the code as it is, or if an old text
is no longer there once.
"""

import ast
import contextlib
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutations_base import Mutation

ROOT = Path(__file__).resolve().parents[2]
LISTS = {
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("run", "mutations_base")
}
CORE = "mutations"  # the list that runs when none is named


def listed(names: set[str]) -> list[Mutation]:
    return [
        mutation for name in sorted(names) for mutation in importlib.import_module(name).MUTATIONS
    ]


SHARE = 0.95
LIMIT = 240  # seconds for the tests of one mutation
AT_ONCE = 2
# pytest's plugins have to come later
LIBRARIES = [
    "torch",
    "pandas",
    "scipy.stats",
    "sklearn.cluster",
    "safetensors.torch",
    "mpmath",
]
PROCESSES = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
DONE = 64  # added to pytest's exit code, to tell it from that of a process that crashed
CAUGHT = "caught"
SURVIVED = "SURVIVED"
BROKEN = "BROKEN"


def problems(mutations: list[Mutation]) -> list[str]:
    """Old texts that do not occur exactly once, mistakes that are no Python, and names used twice
    in a file."""
    found = []
    for mutation in mutations:
        times = mutation.times(ROOT / "src" / "conjoin")
        if times != 1:
            found.append(f"{mutation.file}: {mutation.name!r}: its old text occurs {times} times")
        elif not _is_python(mutation):
            found.append(f"{mutation.file}: {mutation.name!r}: what it plants is no Python")
    keys = [(mutation.file, mutation.name) for mutation in mutations]
    return found + [
        f"{file}: {name!r} is there twice"
        for file, name in sorted({key for key in keys if keys.count(key) > 1})
    ]


def _is_python(mutation: Mutation) -> bool:
    text = mutation.home(ROOT / "src" / "conjoin").read_text(encoding="utf-8")
    try:
        ast.parse(text.replace(mutation.old, mutation.new))
    except SyntaxError:
        return False
    return True


def tested(source: Path, tests: tuple[str, ...]) -> int:
    """The exit code of pytest on the code in ``source``; a run that takes too long counts as a
    failure."""
    process = PROCESSES.Process(target=_test, args=(str(source), tests))
    process.start()
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        return 1
    return process.exitcode - DONE


def _test(source: str, tests: tuple[str, ...]) -> None:
    """Run in a process of its own, which has the libraries loaded but nothing of conjoin."""
    import pytest

    os.chdir(ROOT)
    os.environ["CONJOIN_LONG_TESTS"] = "as the others"
    sys.path.insert(0, source)
    sys.dont_write_bytecode = True
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        code = pytest.main(
            [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "-p",
                "no:unraisableexception",
                *tests,
            ]
        )
    assert Path(sys.modules["conjoin"].__file__ or "").is_relative_to(source), (
        "the tests ran on other code"
    )
    os._exit(DONE + int(code))


def judged(mutation: Mutation) -> tuple[Mutation, str, float]:
    """Caught if a test fails; broken if the tests could not even be collected: that is no mistake a
    person would ship."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        file = mutation.home(source / "conjoin")
        file.write_text(
            file.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8"
        )
        code = tested(source, mutation.tests)
    return mutation, {0: SURVIVED, 1: CAUGHT}.get(code, BROKEN), time.monotonic() - started


def whole(pool: ThreadPoolExecutor, mutations: list[Mutation]) -> list[str]:
    """The tests of the mutations that fail on the code as it is."""
    selections = sorted({mutation.tests for mutation in mutations})
    codes = pool.map(lambda tests: tested(ROOT / "src", tests), selections)
    return [" ".join(tests) for tests, code in zip(selections, codes, strict=True) if code]


def report(results: list[tuple[Mutation, str, float]], seconds: float) -> int:
    missed = [(mutation, verdict) for mutation, verdict, _ in results if verdict != CAUGHT]
    share = 1 - len(missed) / len(results)
    print(
        f"\n{len(results) - len(missed)} of {len(results)} caught: {share:.1%} (at least "
        f"{SHARE:.0%} wanted), {seconds:.0f} s"
    )
    for mutation, verdict in missed:
        print(f"  {verdict}: {mutation.file}: {mutation.name} ({' '.join(mutation.tests)})")
    return int(share < SHARE)


def main(words: list[str]) -> int:
    started = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    if PROCESSES.get_start_method() == "forkserver":
        PROCESSES.set_forkserver_preload(LIBRARIES)
    lists = LISTS if "all" in words else LISTS & set(words) or {CORE}
    words = [word for word in words if word not in LISTS | {"all"}]
    every = listed(lists)
    mutations = [
        m for m in every if not words or any(word in m.file or word in m.name for word in words)
    ]
    if wrong := problems(every):
        print("Mutations that fit the code no longer:", *wrong, sep="\n  ")
        return 1
    if not mutations:
        print("No mutation has one of these words in its file or name.")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        if failing := whole(pool, mutations):
            print("The tests fail on the code as it is:", *failing, sep="\n  ")
            return 1
        results = []
        for mutation, verdict, seconds in pool.map(judged, mutations):
            print(f"{verdict:9} {seconds:5.1f} s  {mutation.file}: {mutation.name}", flush=True)
            results.append((mutation, verdict, seconds))
    return report(results, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
