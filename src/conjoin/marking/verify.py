"""Whether a file is as it was when a model made it: by its manifest, or by a sidecar.

What a file holds itself is read first: anybody can write a mark beside it, which must not overrule
a manifest that is broken. The mark of a folder binds each file to its name in the folder.
"""

import dataclasses
from pathlib import Path
from typing import Any

from conjoin.marking.keys import Key, key_of_user, recorded
from conjoin.marking.origin import GENERATED, PARTLY, told
from conjoin.marking.picture import (
    ElsewhereError,
    Manifest,
    can_embed,
    has_manifest,
    read_manifest,
)
from conjoin.marking.sidecar import SUFFIX, digest_of, read_sidecar, sidecar_of
from conjoin.util.files import resolved

__all__ = ["CHANGED", "UNKNOWN", "UNMARKED", "VALID", "Verification", "verify", "verify_folder"]

VALID = "valid"
CHANGED = "changed"
UNMARKED = "not marked"
UNKNOWN = "can't be told"  # of a file of a folder; of one file why is raised
# what C2PA's reader is asked about, beside PNG; others are read by their sidecars alone
WITH_MANIFESTS = (".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".heic", ".svg", ".pdf")


@dataclasses.dataclass(frozen=True)
class Verification:
    """What is known of a file.

    Parameters
    ----------
    state
        "valid", "changed" or "not marked"; of a file of a folder also "can't be told".
    words
        One sentence.
    signed
        Whether a signature was checked, and holds.
    facts
        What the mark tells of the file's origin; empty where nothing can be trusted.
    """

    state: str
    words: str
    signed: bool = False
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def verify(path: str | Path) -> Verification:
    """Whether a file is as it was when a model made it.

    Parameters
    ----------
    path : str or Path
        A file that carries a C2PA manifest, or beside which a mark (NAME.mark.json) lies.

    Returns
    -------
    Verification
        ``state`` is "valid", "changed" or "not marked"; ``words`` say so in a sentence.

    Raises
    ------
    ValueError
        If there is no such file, or it is a folder.
    ImportError
        If it is signed, and the extra ``mark`` is not there to check it.
    NotImplementedError
        If its mark was written by a later version of conjoin in another form.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = Path(folder, "rows.csv")
    ...     _ = made.write_text("a,b")
    ...     verify(made).state
    'not marked'
    """
    place = resolved(path)
    if place.is_dir():
        raise ValueError(
            f"{path} is a folder: ask about one of its files, or about all of them by "
            "conjoin.marking.verify.verify_folder."
        )
    if not place.is_file():
        raise ValueError(f"{path} is no file.")
    if place.name.endswith(SUFFIX):
        return _of_sidecar_alone(place)
    inside = None
    if can_embed(place) or place.suffix.lower() in WITH_MANIFESTS:
        inside = _inside(place)
        if inside is not None and inside.state != UNMARKED:
            return inside
    for target in (place, *place.parents):
        mark = sidecar_of(target) if target.name else None  # the root has none
        if mark is not None and mark.is_file():
            found = _beside(place, mark)
            if found is not None:
                return found
    return inside or _unmarked(place)


def verify_folder(path: str | Path) -> dict[str, Verification]:
    """What ``verify`` says of each file of a folder, however deep, by its name in the folder; and
    of each file that the folder's mark speaks of and that is not there. Marks of files that are
    there are no files of their own.

    Raises
    ------
    ValueError
        If there is no such folder, or it holds no file.
    """
    folder = resolved(path)
    if not folder.is_dir():
        raise ValueError(f"{path} is no folder.")
    found = {}
    for place in sorted(each for each in folder.rglob("*") if each.is_file()):
        beside = place.with_name(place.name.removesuffix(SUFFIX))
        if place == beside or not beside.exists():
            name = place.relative_to(folder).as_posix()
            one = _told(place)
            # a link's words begin with the name of what it leads to
            words = f"{name}: {one.words.partition(': ')[2]}"
            found[name] = dataclasses.replace(one, words=words)
    for inner in (folder, *sorted(each for each in folder.rglob("*") if each.is_dir())):
        inside = "" if inner == folder else f"{inner.relative_to(folder).as_posix()}/"
        found |= {f"{inside}{name}": one for name, one in _missing_from(inner, inside).items()}
    if not found:
        raise ValueError(f"{path} is a folder without files: there is nothing to verify.")
    return found


def _told(place: Path) -> Verification:
    """As ``verify``, or why that can't be told."""
    try:
        return verify(place)
    except (ImportError, NotImplementedError, OSError) as error:
        return Verification(UNKNOWN, f"{place.name}: can't be told: {error}")


def _missing_from(folder: Path, inside: str) -> dict[str, Verification]:
    """Files of which the mark of the folder speaks, and that are not there; ``inside`` stands
    before their names."""
    mark = sidecar_of(folder)
    try:
        named = list(read_sidecar(mark).digests) if mark.is_file() else []
    except (ValueError, ImportError, NotImplementedError):  # said of each file
        named = []
    gone = [name for name in named if not (folder / name).is_file()]
    return {
        name: Verification(CHANGED, f"{inside}{name}: missing: {mark.name} speaks of it.")
        for name in gone
    }


def _inside(place: Path) -> Verification | None:
    """By its own manifest; None where it has none."""
    try:
        if can_embed(place) and not has_manifest(place):
            return None
        found = read_manifest(place)
    except ValueError as error:
        if not can_embed(place) and not _names_c2pa(place):  # a broken file of others
            return None
        return Verification(CHANGED, f"{place.name}: changed, or broken: {error}.")
    except ImportError:
        if can_embed(place) or not sidecar_of(place).is_file() or _names_c2pa(place):
            raise
        return None
    except ElsewhereError as error:
        words = f"{place.name}: not marked: it names {error} for a manifest, which is not called."
        return Verification(UNMARKED, words)
    if found is None:
        return None
    words = _valid(place.name, told(found.facts), found.key) if found.ours else ""
    return Verification(VALID, words or _of_others(place.name, found), True, found.facts)


def _of_others(name: str, found: Manifest) -> str:
    """What another program's mark says."""
    source = found.facts.get("source")
    how = {GENERATED: "that a model generated it", PARTLY: "that a model made a part of it"}
    says = how.get(str(source), "nothing of a model")
    key = f"key {found.key}" if found.key else f"certificate number {found.serial}"
    return (
        f"{name}: valid, by a mark that conjoin did not make: written by "
        f"{found.facts['made_with']}, which says {says}; signed as {found.signer} by the {key}, "
        "and whether an authority vouches for that is not asked here."
    )


def _names_c2pa(place: Path) -> bool:
    """Whether a file may hold a manifest, by the word that labels each."""
    return b"c2pa" in place.read_bytes().lower()


def _valid(name: str, origin: str, key: str | None) -> str:
    """``key``: its fingerprint, which is the same in a picture and in a sidecar."""
    own = _own_key()
    mine = " (the key of this user)" if own is not None and own.fingerprint == key else ""
    named = "that signed it" if key is None else f"{key}{mine}"
    return f"{name}: valid, signer unknown: {origin}; no authority vouches for the key {named}."


def _own_key() -> Key | None:
    """This user's key, where there is one that can be read."""
    try:
        return key_of_user(make=False)
    except (ImportError, OSError, RuntimeError, ValueError):
        return None


def _beside(place: Path, mark: Path) -> Verification | None:
    """By a sidecar; None where that is of a folder and does not speak of this file."""
    name = place.name
    try:
        found = read_sidecar(mark)
    except ValueError as error:
        return Verification(CHANGED, f"{name}: can't be trusted: {error}.")
    target = mark.with_name(mark.name.removesuffix(SUFFIX))
    own = name if target == place else place.relative_to(target).as_posix()
    digest = digest_of(place)
    same = [each for each, known in found.digests.items() if known == digest]
    if own in found.digests and own not in same:
        instead = f"; it is what that calls {same[0]}" if same else ""
        words = f"{name}: changed: it is not the file that {mark.name} calls {own}{instead}."
        return Verification(CHANGED, words)
    if not same:
        if target != place:
            return None
        words = f"{name}: changed: it is not the file that {mark.name} speaks of."
        return Verification(CHANGED, words)
    renamed = "" if own in same else f", as {same[0]}"
    origin = f"{told(found.claim)}{renamed}"
    if found.key is None:
        words = (
            f"{name}: unchanged, not signed: {origin}; whoever changed the file could have "
            "changed its mark too."
        )
    else:
        words = _valid(name, origin, found.key)
    return Verification(VALID, words, found.key is not None, found.claim)


def _of_sidecar_alone(place: Path) -> Verification:
    try:
        found = read_sidecar(place)
    except ValueError as error:
        return Verification(CHANGED, f"{place.name}: {error}.")
    names = ", ".join(list(found.digests)[:3])
    unsigned = "" if found.key is not None else ", not signed"
    marked = place.with_name(place.name.removesuffix(SUFFIX))
    if not marked.exists():
        return Verification(
            CHANGED,
            f"{place.name}: {marked.name}, of which it speaks, is missing.",
            found.key is not None,
            found.claim,
        )
    return Verification(
        VALID,
        f"{place.name}: the mark of {names} ({len(found.digests):,} files){unsigned}; ask about "
        "the files themselves.",
        found.key is not None,
        found.claim,
    )


def _unmarked(place: Path) -> Verification:
    try:
        noted = recorded(digest_of(place))
    except (OSError, RuntimeError):
        noted = None
    more = (
        "nothing says what made it"
        if noted is None
        else f"{told(noted)} with marking turned off, by the record of this user"
    )
    return Verification(UNMARKED, f"{place.name}: not marked: {more}.")
