"""What a report shows of each kind of data. A kind that is not listed gets the sections that every
model has, and no others."""

import importlib
from typing import Any

__all__ = ["KINDS", "sections_of"]

# kind -> what gathers its sections, of (estimator, answers, real rows or None), and names their
# template
KINDS: dict[str, str] = {
    "image": "conjoin.report.pictures:picture_sections",
    "illustrated": "conjoin.report.rows:row_sections",
    "molecule": "conjoin.report.space:space_sections",
    "record": "conjoin.report.rows:row_sections",
    "sequence": "conjoin.report.strings:string_sections",
    "smiles": "conjoin.report.molecules:molecule_sections",
    "table": "conjoin.report.rows:row_sections",
    "text": "conjoin.report.strings:string_sections",
}


def sections_of(codec: Any) -> Any:
    """What gathers the sections about data of this codec's kind."""
    if codec.kind not in KINDS:
        return lambda estimator, found, real: {"template": "", "sections": ()}
    module, name = KINDS[codec.kind].split(":")
    return getattr(importlib.import_module(module), name)
