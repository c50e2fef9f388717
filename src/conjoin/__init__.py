"""conjoin: joint models p(x, y) = p(y | x) p(x) of tables, that know what they have never seen.

>>> import conjoin
>>> sorted(conjoin.families.FAMILIES)[:2]
['absorbing_diffusion', 'autoregressive']
"""

import importlib
from typing import TYPE_CHECKING, Any

from conjoin import families

if TYPE_CHECKING:
    from conjoin.codecs.composite import in_folder
    from conjoin.codecs.image.colours import on_background
    from conjoin.codecs.image.files import read_images
    from conjoin.codecs.table import inspect
    from conjoin.codecs.table.later import CellWarning
    from conjoin.estimators import (
        ColumnWarning,
        JointClassifier,
        JointDensity,
        JointImputer,
        JointOutlier,
        JointRegressor,
        compare,
        from_pretrained,
        load,
        mark,
    )
    from conjoin.families.circuit.latent_tree import Circuit
    from conjoin.families.classic.discriminant import Discriminant
    from conjoin.families.classic.mixture import Mixture
    from conjoin.families.classic.naive_bayes import NaiveBayes
    from conjoin.marking.verify import verify
    from conjoin.questions.audit.run import audit
    from conjoin.questions.drift.tables import drift
    from conjoin.questions.price import price
    from conjoin.questions.synthetic.canaries import canary_audit
    from conjoin.questions.synthetic.copies import copy_check
    from conjoin.questions.synthetic.quality import quality

__version__ = "0.1.0"

_HOME = {
    "CellWarning": "conjoin.codecs.table.later",
    "Circuit": "conjoin.families.circuit.latent_tree",
    "ColumnWarning": "conjoin.estimators",
    "Discriminant": "conjoin.families.classic.discriminant",
    "JointClassifier": "conjoin.estimators",
    "JointDensity": "conjoin.estimators",
    "JointImputer": "conjoin.estimators",
    "JointOutlier": "conjoin.estimators",
    "JointRegressor": "conjoin.estimators",
    "Mixture": "conjoin.families.classic.mixture",
    "NaiveBayes": "conjoin.families.classic.naive_bayes",
    "audit": "conjoin.questions.audit.run",
    "canary_audit": "conjoin.questions.synthetic.canaries",
    "compare": "conjoin.estimators",
    "copy_check": "conjoin.questions.synthetic.copies",
    "drift": "conjoin.questions.drift.tables",
    "from_pretrained": "conjoin.estimators",
    "in_folder": "conjoin.codecs.composite",
    "inspect": "conjoin.codecs.table",
    "load": "conjoin.estimators",
    "mark": "conjoin.estimators",
    "on_background": "conjoin.codecs.image.colours",
    "price": "conjoin.questions.price",
    "quality": "conjoin.questions.synthetic.quality",
    "read_images": "conjoin.codecs.image.files",
    "verify": "conjoin.marking.verify",
}

__all__ = [
    "CellWarning",
    "Circuit",
    "ColumnWarning",
    "Discriminant",
    "JointClassifier",
    "JointDensity",
    "JointImputer",
    "JointOutlier",
    "JointRegressor",
    "Mixture",
    "NaiveBayes",
    "__version__",
    "audit",
    "canary_audit",
    "compare",
    "copy_check",
    "drift",
    "families",
    "from_pretrained",
    "in_folder",
    "inspect",
    "load",
    "mark",
    "on_background",
    "price",
    "quality",
    "read_images",
    "verify",
]


def __dir__() -> list[str]:
    """What is public, also where it is not yet imported."""
    return sorted({*__all__, "plot"})


def __getattr__(name: str) -> Any:
    """Heavy parts are imported when first used, so that ``import conjoin`` and the command line
    start at once."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "plot":
        return importlib.import_module("conjoin.plot")
    raise AttributeError(f"module 'conjoin' has no attribute {name!r}")
