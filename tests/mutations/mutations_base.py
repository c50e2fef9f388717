"""What a planted bug is, and how a file's planted bugs are listed."""

from typing import NamedTuple

__all__ = ["Mutation", "at", "checks"]


class Mutation(NamedTuple):
    """One mistake that a person could make: an exact old text of one file under src/conjoin, the new one, the tests to notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def checks(words: str) -> tuple[str, ...]:
    """The cases of the conformance suite whose names match a pytest expression."""
    return ("tests/test_conformance.py", "-k", words)


def at(file: str, tests: tuple[str, ...], *changes: tuple[str, ...]) -> list[Mutation]:
    """Several mutations of one file: (name, old, new), or with tests of their own as a fourth."""
    return [Mutation(name, file, old, new, *(rest or [tests])) for name, old, new, *rest in changes]  # type: ignore[arg-type]
