"""Bytes of a file (or of standard input or a pipe, which is copied once), decompressed piece by
piece under limits, so that an archive bomb never fills memory or disk.
"""

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

__all__ = ["Limits", "Source", "is_pipe"]

_OPENERS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
_UNCHECKED_BYTES = 8_000_000  # below this an archive may expand as it likes
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, OSError)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How large a table may be: columns, bytes once decompressed, and bytes out per byte of
    archive."""

    columns: int = 2_000
    bytes: int = 2_000_000_000
    ratio: float = 100.0


def is_pipe(path: str | Path) -> bool:
    """Whether a path leads to a pipe (``/dev/stdin``, ``<(command)``, a FIFO), which can be read
    once only."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class _Counted(io.RawIOBase):
    """A readable stream that counts what has been read from it, and says so to a watcher."""

    def __init__(self, inner: Any, watch: Callable[[int], None]) -> None:
        self._inner = inner
        self._watch = watch
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(min(len(buffer), 1 << 18))
        buffer[: len(data)] = data
        self.total += len(data)
        self._watch(self.total)
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


class Source:
    """A table's bytes, which can be opened again and again; a context, inside which standard input,
    or a pipe, lies in a temporary file."""

    def __init__(self, path: str | Path, limits: Limits) -> None:
        self.limits = limits
        self._stdin = str(path) == "-"
        self.name = "stdin" if self._stdin else str(path)
        self._given = Path(path)
        self._path = self._given
        self._spooled = False
        self.magic = b""

    def __enter__(self) -> Self:
        try:
            if self._stdin or is_pipe(self._given):
                self._spool()
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._spooled:
            self._path.unlink(missing_ok=True)

    def _prepare(self) -> None:
        if self._path.is_dir():
            raise ValueError(
                f"{self.name} is a directory; give the path of one CSV or Parquet file."
            )
        if not self._path.exists():
            raise ValueError(
                f"{self.name} does not exist; check the path (the working directory is "
                f"{Path.cwd()})."
            )
        if not self._path.is_file():
            raise ValueError(
                f"{self.name} is a device or a socket; give the path of a CSV or Parquet file, "
                "or a pipe."
            )
        with self.open_raw() as raw:
            self.magic = raw.read(8)
        if not self.magic:
            raise ValueError(f"{self.name} is empty: it has no header and no rows.")

    def _spool(self) -> None:
        """Copy what can be read only once to a temporary file."""
        handle, name = tempfile.mkstemp(prefix="conjoin-")
        self._path = Path(name)
        self._spooled = True
        total = 0
        with (
            os.fdopen(handle, "wb") as spool,
            contextlib.ExitStack() as stack,
        ):
            pipe = sys.stdin.buffer if self._stdin else stack.enter_context(self._given.open("rb"))
            while chunk := pipe.read(1 << 18):
                self.check_size(total := total + len(chunk))
                spool.write(chunk)

    def open_raw(self) -> IO[bytes]:
        """The bytes as they lie, still compressed."""
        try:
            return self._path.open("rb")
        except OSError as error:
            raise ValueError(f"{self.name} cannot be opened: {error.strerror}.") from None

    def open(self) -> io.BufferedReader:
        """The decompressed bytes; reading past a limit raises ValueError, as does a broken
        archive."""
        opener = next((make for magic, make in _OPENERS if self.magic.startswith(magic)), None)
        if opener is None:
            return io.BufferedReader(_Counted(self.open_raw(), self.check_size), 1 << 18)
        packed = _Counted(self.open_raw(), lambda total: None)

        def watch(total: int) -> None:
            self.check_size(total)
            self.check_ratio(total, packed.total)

        return io.BufferedReader(_Counted(_Whole(opener(packed), self.name), watch), 1 << 18)

    def check_size(self, total: int) -> None:
        if total > self.limits.bytes:
            raise ValueError(
                f"{self.name} holds more than {self.limits.bytes:,} bytes once unpacked, which "
                "is the limit; "
                "raise it with Limits(bytes=...) if you trust the file."
            )

    def check_ratio(self, total: int, packed: int) -> None:
        """ValueError where the bytes out are too many for the bytes in."""
        if total > _UNCHECKED_BYTES and total > self.limits.ratio * packed:
            raise ValueError(
                f"{self.name} unpacks to more than {self.limits.ratio:g} times its size, which "
                "is the limit against archive bombs; "
                "raise it with Limits(ratio=...) if you trust the file."
            )


class _Whole(io.RawIOBase):
    """An archive reader that turns a broken archive into one sentence."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner = inner
        self._name = name

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._inner.read(size)
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the archive
            raise ValueError(
                f"{self._name} is a broken archive ({error}); fetch or compress it again."
            ) from None
        return data
