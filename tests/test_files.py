"""Files and folders that are whole or not there, whenever their writer is broken off."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conjoin.util.files import new_file, new_folder, recover, write_bytes, write_text

FOLDERS = """
import sys
from conjoin.util.files import new_folder
print("ready", flush=True)
for number in range(1, 1 << 40):
    with new_folder(sys.argv[1]) as draft:
        (draft / "a").write_text(str(number) * 5000)
        (draft / "b").write_text(str(number) * 5000)
"""
FILES = """
import sys
from conjoin.util.files import write_text
print("ready", flush=True)
for number in range(1, 1 << 40):
    write_text(sys.argv[1], str(number) * 50000)
"""


def killed(code, target, seconds):
    """A process of ``code`` that is ended without warning after so long."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def whole(text):
    """Whether the text is one number, said again and again."""
    return any(
        len(text) % size == 0 and text == text[:size] * (len(text) // size) for size in range(1, 9)
    )


def test_a_folder_outlives_writers_that_are_killed(tmp_path):
    target = tmp_path / "m"
    with new_folder(target) as draft:
        (draft / "a").write_text("0")
        (draft / "b").write_text("0")
    moments = random.Random(0)
    for _ in range(30):
        killed(FOLDERS, target, moments.uniform(0, 0.03))
        recover(target)
        assert sorted(entry.name for entry in target.iterdir()) == ["a", "b"]
        texts = {(target / name).read_text() for name in "ab"}
        assert len(texts) == 1
        assert whole(texts.pop())
    with new_folder(target) as draft:
        (draft / "a").write_text("end")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]  # what they left is gone


def test_a_file_outlives_writers_that_are_killed(tmp_path):
    target = tmp_path / "t.txt"
    target.write_text("0")
    moments = random.Random(1)
    for _ in range(10):
        killed(FILES, target, moments.uniform(0, 0.03))
        assert whole(target.read_text())
    write_text(target, "end")
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("moment", range(1, 60, 2))
def test_a_save_that_is_killed_at_any_call_loses_no_model(tmp_path, moment):
    """The process ends at the n-th call that touches names; what stands is the old or the new."""
    target = tmp_path / "m"
    with new_folder(target) as draft:
        (draft / "a").write_text("old")
    child = os.fork()
    if child == 0:
        calls = iter(range(1, 1000))

        def at(name, arguments):
            touches = name in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "open")
            if touches and str(tmp_path) in str(arguments) and next(calls) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(at)
        with new_folder(target) as draft:
            (draft / "a").write_text("new")
        os._exit(0)
    os.waitpid(child, 0)
    recover(target)
    assert (target / "a").read_text() in ("old", "new")
    with new_folder(target) as draft:
        (draft / "a").write_text("newer")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_between_the_two_renames_the_old_folder_comes_back(tmp_path):
    (tmp_path / ".old-m").mkdir()
    (tmp_path / ".old-m" / "a").write_text("old")
    recover(tmp_path / "m")
    assert (tmp_path / "m" / "a").read_text() == "old"
    assert not (tmp_path / ".old-m").exists()


def test_a_reader_that_recovers_in_between_does_not_stop_the_writer(tmp_path, monkeypatch):
    target = tmp_path / "m"
    target.mkdir()
    (target / "a").write_text("old")
    rename = Path.rename
    seen = []

    def slow(self, to):
        rename(self, to)
        if Path(to).name == ".old-m" and not seen:
            seen.append(1)
            recover(target)

    monkeypatch.setattr(Path, "rename", slow)
    with new_folder(target) as draft:
        (draft / "a").write_text("new")
    assert seen
    assert (target / "a").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def broken_off(make, target):
    with make(target) as draft:
        (draft / "a" if make is new_folder else draft).write_text("half")
        raise RuntimeError


def test_an_error_leaves_the_old_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "f.npz", "old")
    with new_folder(tmp_path / "m"):
        pass
    for make, target in ((new_file, tmp_path / "f.npz"), (new_folder, tmp_path / "m")):
        with make(target) as draft:
            assert draft.suffix == target.suffix
            if make is new_file:
                draft.write_text("old")
        with pytest.raises(RuntimeError):
            broken_off(make, target)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f.npz", "m"]
    assert (tmp_path / "f.npz").read_text() == "old"
    assert list((tmp_path / "m").iterdir()) == []


def test_writers_side_by_side_leave_each_other_alone(tmp_path):
    target = tmp_path / "t.json"
    with new_file(target) as first:
        first.write_text("{}")
        write_bytes(target, b"[1]")
        assert first.read_text() == "{}"
        assert json.loads(target.read_text()) == [1]
    assert target.read_text() == "{}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.json"]


def test_long_names_fit(tmp_path):
    target = tmp_path / ("n" * 250)
    write_text(target, "x")
    assert target.read_text() == "x"
