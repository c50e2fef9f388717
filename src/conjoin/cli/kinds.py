"""Which kinds of data have readers and writers of their own on the command line. All others are
read from tables and written as tables."""

import importlib
from typing import Any

__all__ = ["KINDS", "reader_of", "writer_of"]

# kind -> the module that reads its files and writes what a model of it draws
KINDS: dict[str, str] = {"molecule": "conjoin.cli.space", "image": "conjoin.cli.pictures"}


def reader_of(path: str) -> Any:
    """The module that reads what lies at ``path``; None where that is a table."""
    modules = (importlib.import_module(home) for home in KINDS.values())
    return next((module for module in modules if module.claims(path)), None)


def writer_of(codec: Any) -> Any:
    """The module that writes what the codec decodes; None where that is a table."""
    return importlib.import_module(KINDS[codec.kind]) if codec.kind in KINDS else None
