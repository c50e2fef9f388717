"""Files and folders that are whole or not there: written under a temporary name beside the target,
forced to disk, and renamed.

A file takes its name in one step, so a reader sees the old bytes or the new ones. So does a folder
where the system can exchange two names (Linux, on most of its file systems). Elsewhere the old
folder is renamed away once the new one is complete: between the two renames nothing stands under
the name, and ``recover`` brings the old folder back if the writer was broken off there.

A name that is a link stays one: what it points to is replaced."""

import contextlib
import ctypes
import itertools
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "before_placing",
    "locked",
    "new_file",
    "new_folder",
    "recover",
    "resolved",
    "write_bytes",
    "write_text",
]

MAX_NAME_CHARACTERS = (
    120  # of the target's name that its temporary name repeats: the limit is 255 bytes
)
# of a folder's two renames, where a reader brings the old one back in between
MAX_RENAME_TRIES = 100
# of Linux' renameat2: paths are relative to the working directory, two names are exchanged
AT_FDCWD = -100
RENAME_EXCHANGE = 2

_numbers = itertools.count()
_open: set[str] = set()  # temporary names that this process is writing
# (each file under its temporary name -> the name it takes, the folder if it is part of one)
Placed = Callable[[dict[Path, Path], Path | None], None]
_BEFORE: ContextVar[Placed | None] = ContextVar("before", default=None)


@contextlib.contextmanager
def before_placing(call: Placed | None) -> Iterator[None]:
    """Inside, ``call`` sees every file once it is whole, and before it takes its name; it may still
    change what the temporary file holds. None: nothing does, whatever is said around it."""
    token = _BEFORE.set(call)
    try:
        yield
    finally:
        _BEFORE.reset(token)


def _tell(files: dict[Path, Path], target: Path, folder: Path | None) -> None:
    """Call what is to see the files, unless they are part of another draft, which is seen later."""
    call = _BEFORE.get()
    if call is not None and not _open.intersection(target.parts):
        call(files, folder)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary path, of the same suffix, that becomes ``path`` at the end of the block.

    Parameters
    ----------
    path
        The file to write; its folder exists.

    Yields
    ------
    Path
        What the block writes and closes. If it raises, nothing is left, and the old file stays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with new_file(Path(folder, "a.txt")) as draft:
    ...         _ = draft.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    name = Path(path).name
    path = resolved(path)
    draft = _draft_of(path.with_name(name))
    try:
        yield draft
        _tell({draft: path}, path, None)
        _force(draft)
        draft.replace(path)
        _force_folder(path.parent)
    finally:
        _forget(draft)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file that is whole or not there."""
    with new_file(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a file in UTF-8 that is whole or not there."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path``, which may exist, at the end of the
    block.

    Yields
    ------
    Path
        An empty folder. If the block raises, nothing of it is left, and the old folder stays.
    """
    path = resolved(path)
    recover(path)
    draft = _draft_of(path)
    draft.mkdir()
    try:
        yield draft
        files = sorted(entry for entry in draft.rglob("*") if entry.is_file())
        _tell({file: path / file.relative_to(draft) for file in files}, path, path)
        for entry in draft.rglob("*"):
            _force_folder(entry) if entry.is_dir() else _force(entry)
        _force_folder(draft)
        _put_in_place(draft, path)
    finally:
        recover(path)
        _forget(draft)


def resolved(path: str | Path) -> Path:
    """The path without links: where what is written to ``path`` is to lie. ValueError for links
    that lead round in a circle."""
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise ValueError(f"{path} is a link that leads back to itself: choose another name.")
    return found


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which exists, for this process alone, to the end of the block or of the
    process. FileExistsError where another process holds it.

    Where the system has no such locks, nothing is held."""
    if fcntl is None:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(
                f"{folder} is being written by another process: wait until it has ended, or "
                "choose another name."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(place)


def recover(path: str | Path) -> None:
    """Finish what a writer of the folder ``path`` left undone when it was broken off.

    If nothing stands under the name, the folder that was about to be replaced comes back; if the
    new one does, the old one is removed. Where neither is to be done, or the disk can't be written,
    nothing happens."""
    path = Path(os.path.realpath(path))
    old = _old_of(path)
    with contextlib.suppress(OSError):
        if not old.exists():
            return
        if path.exists():
            _discard(old)
        else:
            old.rename(path)


def _put_in_place(draft: Path, path: Path) -> None:
    """``draft`` becomes ``path``; what stood there is removed afterwards."""
    if not (path.exists() and _exchange(draft, path)):
        _rename_twice(draft, path)
    _force_folder(path.parent)


def _exchange(draft: Path, path: Path) -> bool:
    """Exchange the names of two folders in one step, so that the old one is the draft; False where
    the system can't."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or one of before 2014
        return False
    names = os.fsencode(draft), os.fsencode(path)
    return not exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)


def _rename_twice(draft: Path, path: Path) -> None:
    """``draft`` becomes ``path``. A reader that recovers the old folder between the two renames
    makes the second fail: then both are done again."""
    old = _old_of(path)
    for attempt in range(MAX_RENAME_TRIES):
        recover(path)
        if path.exists():
            path.rename(old)
        try:
            draft.rename(path)
            break
        except OSError:
            if attempt == MAX_RENAME_TRIES - 1 or not path.exists():
                recover(path)
                raise
    _force_folder(path.parent)
    if old.exists():
        _discard(old)


def _discard(old: Path) -> None:
    """Remove a folder; under another name first, so that no half of it is ever brought back."""
    gone = _draft_of(old)
    with contextlib.suppress(FileNotFoundError):  # somebody else removed it
        old.rename(gone)
    _forget(gone)


def _old_of(path: Path) -> Path:
    """Where the old folder stands between the two renames."""
    return path.with_name(f".old-{path.name}")


def _draft_of(path: Path) -> Path:
    """A free temporary name beside ``path``, once what dead writers of it left is removed."""
    host = platform.node().replace("-", "_")[:40]
    end = f"-{path.name[-MAX_NAME_CHARACTERS:]}"
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        name = entry.name
        if name.startswith(f".new-{host}-") and name.endswith(end) and _is_left(name):
            _remove(entry)
    draft = path.with_name(f".new-{host}-{os.getpid()}-{next(_numbers)}{end}")
    _open.add(draft.name)
    return draft


def _is_left(name: str) -> bool:
    """Whether no process of this machine writes to that temporary name any more."""
    number = name.split("-")[2]
    if not number.isdigit() or name in _open:
        return False
    if int(number) == os.getpid():
        return True
    if sys.platform == "win32":  # there, a signal of 0 would end the process
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _forget(draft: Path) -> None:
    try:
        _remove(draft)
    finally:
        _open.discard(draft.name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _force(path: Path) -> None:
    """A file's bytes to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _force_folder(path: Path) -> None:
    """The names in a folder to disk, where the system can do that."""
    if sys.platform == "win32":
        return
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
