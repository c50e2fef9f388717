"""Where named data lie, and how they are fetched, checked and kept."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from conjoin.util.files import new_file

__all__ = ["cache_folder", "fetch", "folder_of", "verify"]


def folder_of(kind: str) -> Path | None:
    root = os.environ.get("CONJOIN_DATA", "")
    return Path(root) / kind if root else None


def verify(path: Path, sha256: str) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{path} was altered: its sha256 is {digest[:16]}..., where {sha256[:16]}... was "
            "recorded; get the file again."
        )


def cache_folder() -> Path:
    variable, default = (
        ("LOCALAPPDATA", "AppData/Local")
        if sys.platform == "win32"
        else ("XDG_CACHE_HOME", ".cache")
    )
    return Path(os.environ.get(variable) or Path.home() / default) / "conjoin"


def fetch(url: str, path: Path) -> None:
    """Download under a temporary name, with a progress bar, and rename once it is whole."""
    import urllib.error
    import urllib.request

    from rich.progress import wrap_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            new_file(path) as draft,
            urllib.request.urlopen(url, timeout=30) as answer,
            draft.open("wb") as file,
        ):
            total = int(answer.headers.get("Content-Length") or 0)
            with wrap_file(answer, total=total, description=path.name, transient=True) as body:
                shutil.copyfileobj(body, file, 1 << 16)
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"{url} cannot be fetched ({reason}); try later, or set CONJOIN_DATA to a folder "
            "that has it."
        ) from None
