"""Files of the format GGUF: what their header tells, and their tensors, each read when it is asked
for.

The header is checked against the bytes of the file before memory is taken: counts, lengths, sizes
and places of tensors that the file can't hold are refused in one sentence. The format is that of
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, with the first byte of
a number the least. Blocks of few bits become numbers by the package gguf.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["GGUF", "Stored", "is_gguf"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of tensors, unless the file tells another
MAX_ALIGNMENT = 1 << 16
MAX_FACTS = 1 << 12
MAX_TENSORS = 1 << 16
MAX_TEXT_BYTES = 1 << 24  # of one text
MAX_ENTRIES = 1 << 19  # of a list; the largest vocabularies have half as many
MAX_ALL_ENTRIES = 1 << 22  # of all lists
MAX_HEADER_BYTES = 1 << 28
MAX_DIMENSIONS = 4
SHOWN_CHARACTERS = 60  # of a name in a message
# codes of what a fact is, and how struct reads it
NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
TEXT = 8
LIST = 9
MIN_BYTES = {TEXT: 8, **{code: struct.calcsize(form) for code, form in NUMBERS.items()}}
FEWEST_BYTES_OF_FACT = 8 + 4 + 1
FEWEST_BYTES_OF_TENSOR = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its ``shape``, rows first; how it is ``stored_as``, such as "F32" or
    "Q4_1"; where it begins, and how many bytes it has."""

    shape: tuple[int, ...]
    stored_as: str
    offset: int
    size: int


def is_gguf(path: str | Path) -> bool:
    """Whether this is a file that says it is one, by its name or its first bytes."""
    file = Path(path).expanduser()
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return file.suffix.lower() == ".gguf" or opened.read(len(MAGIC)) == MAGIC


class GGUF:
    """A file, whose header is read.

    Parameters
    ----------
    path
        Of the file.

    Attributes
    ----------
    facts
        What the header tells: numbers, texts, and lists of either, by their names.
    tensors
        What is stored, by name.

    Raises
    ------
    ImportError
        Without the package gguf.
    ValueError
        If the header is damaged, or tells more than the file holds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._sizes = _sizes()
        with self.path.open("rb") as opened:
            if opened.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path} is no GGUF file: it does not begin with 'GGUF'.")
            self._bytes = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._place = len(MAGIC)
        self._entries = 0
        try:
            self.facts, self.tensors = self._header()
        except struct.error:
            raise self._damaged("it ends inside of its header") from None

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.path} is damaged ({why}): get it again.")

    # ------------------------------------------------------------------ the header

    def _header(self) -> tuple[dict[str, Any], dict[str, Stored]]:
        version = self._number("<I")
        if version not in VERSIONS:
            raise ValueError(
                f"{self.path} is of version {version} of GGUF; versions "
                f"{' and '.join(map(str, VERSIONS))} are read."
            )
        tensors = self._count("<Q", "tensors", MAX_TENSORS, FEWEST_BYTES_OF_TENSOR)
        count = self._count("<Q", "facts", MAX_FACTS, FEWEST_BYTES_OF_FACT)
        facts: dict[str, Any] = {}
        for _ in range(count):
            name = self._text("the name of a fact")
            if name in facts:
                raise self._damaged(f"it tells {name[:SHOWN_CHARACTERS]!r} twice")
            facts[name] = self._fact(name)
        told = [self._tensor() for _ in range(tensors)]
        return facts, self._placed(told, facts.get("general.alignment", ALIGNMENT))

    def _number(self, form: str) -> Any:
        found = struct.unpack_from(form, self._bytes, self._place)[0]
        self._place += struct.calcsize(form)
        return found

    @property
    def _left(self) -> int:
        return len(self._bytes) - self._place

    def _count(self, form: str, what: str, most: int, each: int) -> int:
        """A count of things that take ``each`` so many bytes at least."""
        count = int(self._number(form))
        if count > most or count * each > self._left:
            raise self._damaged(
                f"it tells of {count:,} {what} where {self._left:,} bytes are left, and at most "
                f"{most:,} are read"
            )
        return count

    def _text(self, what: str) -> str:
        size = self._count("<Q", f"bytes of {what}", MAX_TEXT_BYTES, 1)
        if self._place + size > MAX_HEADER_BYTES:
            raise self._damaged(f"its header has more than {MAX_HEADER_BYTES:,} bytes")
        held = self._bytes[self._place : self._place + size]
        self._place += size
        try:
            return held.decode("utf-8")
        except UnicodeDecodeError:
            raise self._damaged(f"{what} is not in UTF-8") from None

    def _fact(self, name: str) -> Any:
        code = self._number("<I")
        shown = repr(name[:SHOWN_CHARACTERS])
        if code == TEXT:
            return self._text(shown)
        if code in NUMBERS:
            return self._number(NUMBERS[code])
        if code != LIST:
            raise self._damaged(f"{shown} is of the unknown type {code}")
        kind = self._number("<I")
        if kind not in MIN_BYTES:
            raise self._damaged(f"{shown} is a list of the unknown type {kind}")
        count = self._count("<Q", f"entries of {shown}", MAX_ENTRIES, MIN_BYTES[kind])
        self._entries += count
        if self._entries > MAX_ALL_ENTRIES:
            raise self._damaged(f"its lists have more than {MAX_ALL_ENTRIES:,} entries")
        if kind == TEXT:
            return [self._text(f"an entry of {shown}") for _ in range(count)]
        form = f"<{count}{NUMBERS[kind][1]}"
        found = list(struct.unpack_from(form, self._bytes, self._place))
        self._place += struct.calcsize(form)
        return found

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape with rows first, code of the kind, offset."""
        name = self._text("the name of a tensor")
        dimensions = self._number("<I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise self._damaged(
                f"the tensor {name[:SHOWN_CHARACTERS]!r} has {dimensions:,} dimensions"
            )
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        return name, shape, self._number("<I"), self._number("<Q")

    def _placed(self, told: list[Any], alignment: Any) -> dict[str, Stored]:
        """The tensors, each inside of the file and apart from the others."""
        if not _is_power_of_two(alignment):
            raise self._damaged(f"it aligns tensors to {alignment!r} bytes")
        begins = -(-self._place // alignment) * alignment
        out: dict[str, Stored] = {}
        for name, shape, code, offset in told:
            shown = repr(name[:SHOWN_CHARACTERS])
            if name in out:
                raise self._damaged(f"it has the tensor {shown} twice")
            if code not in self._sizes:
                raise ValueError(
                    f"{self.path}: the tensor {shown} is stored in the unknown way {code}; take a "
                    "file of Q4_0, Q4_1, Q8_0, F16 or F32."
                )
            kind, block, size = self._sizes[code]
            count = math.prod(shape)
            if not count or shape[-1] % block:
                raise self._damaged(f"the tensor {shown} of {kind} has the shape {list(shape)}")
            stored = Stored(shape, kind, begins + offset, count // block * size)
            if offset % alignment or stored.offset + stored.size > len(self._bytes):
                raise self._damaged(
                    f"the tensor {shown} of the shape {list(shape)} lies at {stored.offset:,}, and "
                    f"the file has {len(self._bytes):,} bytes"
                )
            out[name] = stored
        self._refuse_overlap(out)
        return out

    def _refuse_overlap(self, tensors: dict[str, Stored]) -> None:
        end = 0
        for name, stored in sorted(tensors.items(), key=lambda item: item[1].offset):
            if stored.offset < end:
                raise self._damaged(f"the tensor {name[:SHOWN_CHARACTERS]!r} lies upon another one")
            end = stored.offset + stored.size

    # ------------------------------------------------------------------ tensors

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor, a view of the file: (rows, bytes of a row)."""
        stored = self.tensors[name]
        held = np.frombuffer(self._bytes, np.uint8, stored.size, stored.offset)
        return held.reshape(math.prod(stored.shape[:-1]), -1)

    def numbers(self, name: str) -> np.ndarray:
        """A tensor as float32; ValueError for a way of storing that is not read."""
        import gguf

        stored = self.tensors[name]
        kind = gguf.GGMLQuantizationType[stored.stored_as]
        try:
            with np.errstate(all="ignore"):  # what is no number is refused by whoever asks
                found = gguf.quants.dequantize(self.raw(name), kind)
        except NotImplementedError:
            raise ValueError(
                f"{self.path}: the tensor {name!r} is stored as {stored.stored_as}, which the "
                "package gguf does not read; take a file of Q4_0, Q4_1, Q8_0, F16 or F32."
            ) from None
        return np.ascontiguousarray(found, dtype=np.float32).reshape(stored.shape)


def _is_power_of_two(number: Any) -> bool:
    return (
        isinstance(number, int)
        and not isinstance(number, bool)
        and 0 < number <= MAX_ALIGNMENT
        and number & (number - 1) == 0
    )


def _sizes() -> dict[int, tuple[str, int, int]]:
    """The name of each kind of tensor, and how many numbers a block of how many bytes holds, by
    its code. ImportError with the install line."""
    try:
        import gguf
    except ImportError:
        raise ImportError(
            "GGUF files need the package gguf: pip install 'conjoin[chat]'."
        ) from None
    return dict(_each_size(gguf))


def _each_size(package: Any) -> Iterator[tuple[int, tuple[str, int, int]]]:
    for kind, (block, size) in package.GGML_QUANT_SIZES.items():
        yield int(kind), (kind.name, int(block), int(size))
