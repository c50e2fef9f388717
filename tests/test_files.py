"""Files and folders that are whole or not there, whenever their writer is broken off."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conjoin.util import files
from conjoin.util.files import locked, new_file, new_folder, recover, write_bytes, write_text

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


def exchanges(folder):
    """Whether two names can be exchanged in one step there."""
    one, two = folder / "one", folder / "two"
    one.mkdir()
    two.mkdir()
    found = files._exchange(one, two)
    shutil.rmtree(one)
    shutil.rmtree(two)
    return found


def test_old_or_new_stands_under_the_name_at_every_call(tmp_path, monkeypatch):
    if not exchanges(tmp_path):
        pytest.skip("names can't be exchanged here")
    target = tmp_path / "m"
    write_folder(target, "old")
    seen = []

    def look():
        seen.append((target / "a").read_text() if target.exists() else "nothing")

    def watched(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            look()
            found = real(*arguments, **options)
            look()
            return found

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync"):
        watched(name)
    write_folder(target, "new")
    assert set(seen) == {"old", "new"}


def write_folder(target, text):
    with new_folder(target) as draft:
        (draft / "a").write_text(text)


def test_folders_are_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda draft, path: False)
    for text in ("old", "new"):
        write_folder(tmp_path / "m", text)
    assert (tmp_path / "m" / "a").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_an_interruption_between_the_two_renames_leaves_the_old_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda draft, path: False)
    write_folder(tmp_path / "m", "old")
    rename = Path.rename

    def interrupted(self, to):
        rename(self, to)
        if Path(to).name == ".old-m":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path / "m", "new")
    assert (tmp_path / "m" / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "m").symlink_to(tmp_path / "real" / "m")
    (tmp_path / "t.csv").symlink_to(tmp_path / "real" / "t.txt")
    for text in ("old", "new"):
        write_folder(tmp_path / "m", text)
        write_text(tmp_path / "t.csv", text)
    assert (tmp_path / "m").is_symlink()
    assert (tmp_path / "t.csv").is_symlink()
    assert (tmp_path / "real" / "m" / "a").read_text() == "new"
    assert (tmp_path / "real" / "t.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path / "real")) == ["m", "t.txt"]
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for make in (new_file, new_folder):
        with pytest.raises(ValueError, match="leads back"), make(tmp_path / "round"):
            pass


def test_a_folder_is_held_by_one_process(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                with locked(tmp_path):
                    os._exit(1)
            except FileExistsError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    with locked(tmp_path):
        pass


def test_permissions_follow_the_umask(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            write_folder(tmp_path / "m", "x")
            write_text(tmp_path / "t", "x")
        finally:
            os.umask(before)
        assert (tmp_path / "m").stat().st_mode & 0o777 == 0o777 & ~mask
        assert (tmp_path / "m" / "a").stat().st_mode & 0o777 == 0o666 & ~mask
        assert (tmp_path / "t").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_reader_that_recovers_in_between_does_not_stop_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda draft, path: False)
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
