"""What a planted bug is, and how a file's planted bugs are listed."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["Mutation", "at", "checks"]


class Mutation(NamedTuple):
    """One mistake that a person could make: an exact old text of one file under src/conjoin, the
    new one, the tests to notice it. ``file`` may be a folder, of which one file has the text."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def home(self, package: Path) -> Path:
        """The file that has the old text; the first, where it is in none or in several."""
        where = package / self.file
        if where.is_file():
            return where
        texts = {path: path.read_text(encoding="utf-8") for path in sorted(where.rglob("*.py"))}
        return next((path for path, text in texts.items() if self.old in text), where / "nowhere")

    def times(self, package: Path) -> int:
        """How often the old text is there: exactly once, if the mutation still fits."""
        where = package / self.file
        files = [where] if where.is_file() else sorted(where.rglob("*.py"))
        return sum(path.read_text(encoding="utf-8").count(self.old) for path in files)


def checks(words: str) -> tuple[str, ...]:
    """The cases of the conformance suite whose names match a pytest expression."""
    return ("tests/test_conformance.py", "-k", words)


def at(file: str, tests: tuple[str, ...], *changes: tuple[str, ...]) -> list[Mutation]:
    """Several mutations of one file: (name, old, new), or with tests of their own as a fourth."""
    assert not isinstance(tests, str), f"the tests of {file} must be a tuple"
    return [
        Mutation(name, file, old, new, *(rest or [tests]))  # type: ignore[arg-type]
        for name, old, new, *rest in changes
    ]
