"""Which files of a folder are pictures, whose label each has, and what is left out, by kind."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conjoin.codecs.image.dicom import INSTALL, is_dicom, pydicom
from conjoin.codecs.image.pictures import SUFFIXES

__all__ = ["Listing", "folders_of", "listed"]

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
MAX_NAMED = 2  # files of a kind that are named
DICOM = "DICOM"


class Listing(NamedTuple):
    """``mine``: pictures in the folder itself; ``groups``: those below each of its sub-folders;
    ``others``: names of all that is not read, by kind; ``empty``: sub-folders without a picture."""

    mine: list[Path]
    groups: dict[str, list[Path]]
    others: dict[str, list[str]]
    empty: list[str]

    @property
    def words(self) -> list[str]:
        """What is to be said of what is not read."""
        said = [f"{_counted(self.others)} left out: {_read_words(self.others)}."]
        nothing = ", ".join(self.empty[:MAX_NAMED]) + (
            ", ..." if len(self.empty) > MAX_NAMED else ""
        )
        lost = [f"No picture is read below {nothing}, so that it is no label."]
        return (said if self.others else []) + (lost if self.empty and self.groups else [])

    @property
    def kinds(self) -> str:
        """What is not read, in words; nothing where there is none."""
        return _kinds(self.others)


def listed(home: Path) -> Listing:
    """What lies in a folder."""
    mine: list[Path] = []
    groups: dict[str, list[Path]] = {}
    others: dict[str, list[str]] = {}
    for entry in sorted(home.iterdir()):
        if entry.is_dir() and not _is_aside(entry.name):
            groups[entry.name] = sorted(_pictures_below(entry, others))
        else:
            mine += [] if _left_out(entry, others) else [entry]
    full = {name: files for name, files in groups.items() if files}
    return Listing(mine, full, others, sorted(groups.keys() - full.keys()))


def folders_of(path: Path) -> list[Path]:
    """The sub-folders that may be labels or parts."""
    return sorted(sub for sub in path.iterdir() if sub.is_dir() and not _is_aside(sub.name))


def _is_aside(name: str) -> bool:
    """Whether programs have put a folder there for themselves."""
    return name.startswith((".", "__"))


def _pictures_below(folder: Path, others: dict[str, list[str]]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        aside = [name for name in folders if _is_aside(name) or (here / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(aside))
        for name in sorted([*files, *aside]):
            if not _left_out(here / name, others):
                yield here / name


def _left_out(entry: Path, others: dict[str, list[str]]) -> bool:
    """Whether this is no picture that is read; it is put down under its kind."""
    kind = _kind(entry)
    if kind:
        others.setdefault(kind, []).append(entry.name)
    return bool(kind)


def _kind(entry: Path) -> str:
    """What is not read, in a word or two; nothing of a picture that is."""
    if entry.is_symlink() and not entry.exists():
        return "dangling link"
    if entry.is_dir():
        return "linked folder" if entry.is_symlink() else "folder of a program"
    if not entry.is_file():
        return "special file"
    if entry.name.startswith("."):
        return "hidden file"
    if is_dicom(entry):
        return "" if _has_pydicom() else DICOM
    if entry.suffix.lower() in SUFFIXES:
        return ""
    if entry.suffix.lower() in PACKED:
        return "".join(entry.suffixes[-2:]).lower()
    return entry.suffix.lower() or "file without a suffix"


def _has_pydicom() -> bool:
    try:
        pydicom()
    except ValueError:
        return False
    return True


def _counted(others: dict[str, list[str]]) -> str:
    """ "scan.tif was", "4 files (3 .tif (a.tif, b.tif, ...), 1 hidden file (.x)) were"."""
    names = [name for each in others.values() for name in each]
    if len(names) == 1:
        kind = next(iter(others))
        return f"{names[0]} was" if kind.startswith(".") else f"{names[0]} ({kind}) was"
    return f"{len(names):,} files ({_kinds(others)}) were"


def _kinds(others: dict[str, list[str]]) -> str:
    parts = []
    for kind, names in sorted(others.items(), key=_most):
        more = ", ..." if len(names) > MAX_NAMED else ""
        parts.append(f"{len(names):,} {kind} ({', '.join(names[:MAX_NAMED])}{more})")
    return ", ".join(parts)


def _most(kind: tuple[str, list[str]]) -> tuple[int, str]:
    return -len(kind[1]), kind[0]


def _read_words(others: dict[str, list[str]]) -> str:
    dicom = f"; {INSTALL}" if DICOM in others else ""
    return f"pictures that are read are {', '.join(SUFFIXES)}{dicom}"
