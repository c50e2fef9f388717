"""The folder of this user's settings, and files in it that this user alone can read."""

import os
import sys
from pathlib import Path

__all__ = ["append_private", "config_folder", "write_private"]

PRIVATE = 0o600


def config_folder() -> Path:
    """The folder of this user's settings: ``CONJOIN_CONFIG``, else that of the system."""
    own = os.environ.get("CONJOIN_CONFIG")
    if own:
        return Path(own)
    variable, default = (
        ("APPDATA", "AppData/Roaming")
        if sys.platform == "win32"
        else ("XDG_CONFIG_HOME", ".config")
    )
    return Path(os.environ.get(variable) or Path("~").expanduser() / default) / "conjoin"


def write_private(path: Path, data: bytes) -> None:
    """A file that this user alone can read."""
    plain = getattr(os, "O_BINARY", 0)  # Windows would write other ends of lines
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | plain
    with open(os.open(path, flags, PRIVATE), "wb") as file:
        file.write(data)


def append_private(path: Path, lines: list[str]) -> None:
    """Add lines to a file that this user alone can read; the file and its folder are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
    with open(handle, "a", encoding="utf-8") as out:
        out.write("".join(f"{line}\n" for line in lines))
