"""Files marked as they are written: inside of ``Marks`` every file that is whole is marked before
it takes its name, so that none is forgotten and none is there without its mark.

    with Marks(Origin("sample", "my-model", model_hash), wanted=True) as marks:
        write(...)
    marks.files

A PNG holds its manifest itself (``marking.picture``), every other file has a sidecar, a folder one
for all of its other files (``marking.sidecar``). Without the extra ``mark`` all have sidecars,
without signatures.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any, Self

from conjoin.marking.keys import INSTALL, Key, key_of_user, record
from conjoin.marking.origin import Origin
from conjoin.marking.picture import can_embed, embed
from conjoin.marking.sidecar import digest_of, is_sidecar, sidecar_of, write_sidecar
from conjoin.util.files import before_placing, new_file
from conjoin.util.settings import config_folder

__all__ = ["Marks", "mark_file"]


class Marks:
    """Marks what is written inside of the block.

    Parameters
    ----------
    origin
        What is told of the files.
    wanted
        Whether they are marked; where not, that is noted down for this user.
    """

    def __init__(self, origin: Origin, wanted: bool = True) -> None:
        self.facts = origin.facts()
        self.wanted = wanted
        self.key: Key | None = None
        self.unsigned = ""  # why there is no signature
        self.files: list[Path] = []
        self.sidecars: list[Path] = []
        self.recorded = ""  # where it was noted down that files have no mark
        self._beside = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.wanted:
            self.take_key()
        self._stack.enter_context(before_placing(self._placed))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def take_key(self) -> None:
        """The user's key; why there is none, where marks can't be signed."""
        try:
            import c2pa  # noqa: F401

            self.key = key_of_user()
        except ImportError:
            self.unsigned = f"{INSTALL} adds a signature"
        except (OSError, RuntimeError) as error:
            self.unsigned = f"the key can't be kept in {_settings()} ({error})"

    @property
    def embedded(self) -> int:
        """How many files hold their manifest themselves."""
        return len(self.files) - self._beside

    def _placed(self, files: dict[Path, Path], folder: Path | None) -> None:
        self.files += files.values()
        if not self.wanted:
            self._leave(files, folder)
            return
        inside = [draft for draft in files if self.key is not None and can_embed(draft)]
        for draft in inside:
            assert self.key is not None
            embed(draft, files[draft].name, self.facts, self.key)
        rest = {draft: place for draft, place in files.items() if draft not in inside}
        self._beside += len(rest)
        target = folder or next(iter(files.values()))
        if not rest:
            _remove_old(target)
            return
        write_sidecar(sidecar_of(target), self.facts, _named(rest, folder), self.key)
        self.sidecars.append(sidecar_of(target))

    def _leave(self, files: dict[Path, Path], folder: Path | None) -> None:
        """Note down that files are not marked; a mark of what they replace is removed."""
        digests = {name: digest_of(draft) for name, draft in _named(files, folder).items()}
        try:
            self.recorded = f"this is noted down in {record(self.facts, digests)}"
        except (OSError, RuntimeError) as error:
            self.recorded = f"which can't be noted down in {_settings()} ({error})"
        _remove_old(folder or next(iter(files.values())))

    def to_json(self) -> dict[str, Any]:
        """What was done, for a program."""
        return {
            "marked": self.wanted,
            "signed": self.key is not None,
            "embedded": self.embedded if self.wanted else 0,
            "sidecars": [str(path) for path in self.sidecars],
        }


def _named(files: dict[Path, Path], folder: Path | None) -> dict[str, Path]:
    """The temporary files by their own names, below the folder where they are part of one."""
    return {
        place.name if folder is None else place.relative_to(folder).as_posix(): draft
        for draft, place in files.items()
    }


def _settings() -> str:
    try:
        return str(config_folder())
    except RuntimeError:
        return "the user's folder of settings"


def _remove_old(target: Path) -> None:
    """The mark of a file that is replaced."""
    place = sidecar_of(target)
    if place.is_file() and is_sidecar(place):
        place.unlink()


def mark_file(path: Path, origin: Origin) -> Marks:
    """Mark a file that lies there already; it is whole at every moment."""
    with Marks(origin) as marks, new_file(path) as draft:
        shutil.copyfile(path, draft)
    return marks
