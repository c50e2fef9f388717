"""conjoin: joint models p(x, y) = p(y | x) p(x) of tables, that know what they have never seen.

>>> import conjoin
>>> sorted(conjoin.families.FAMILIES)[:2]
['absorbing_diffusion', 'autoregressive']
"""

import importlib
from typing import TYPE_CHECKING, Any

from conjoin import families

if TYPE_CHECKING:
    from conjoin.codecs.colours import on_background
    from conjoin.codecs.illustrated import in_folder
    from conjoin.codecs.pictures import read_images
    from conjoin.codecs.table import inspect
    from conjoin.drifting import drift
    from conjoin.estimators import JointClassifier, JointDensity, JointRegressor, compare, load
    from conjoin.families.circuit.latent_tree import Circuit
    from conjoin.families.classic.discriminant import Discriminant
    from conjoin.families.classic.mixture import Mixture
    from conjoin.families.classic.naive_bayes import NaiveBayes
    from conjoin.pricing import price
    from conjoin.questions.canaries import canary_audit
    from conjoin.questions.copies import copy_check
    from conjoin.questions.quality import quality

__version__ = "0.1.0"

_HOME = {
    "Circuit": "conjoin.families.circuit.latent_tree",
    "Discriminant": "conjoin.families.classic.discriminant",
    "JointClassifier": "conjoin.estimators",
    "JointDensity": "conjoin.estimators",
    "JointRegressor": "conjoin.estimators",
    "Mixture": "conjoin.families.classic.mixture",
    "NaiveBayes": "conjoin.families.classic.naive_bayes",
    "canary_audit": "conjoin.questions.canaries",
    "compare": "conjoin.estimators",
    "copy_check": "conjoin.questions.copies",
    "drift": "conjoin.drifting",
    "in_folder": "conjoin.codecs.illustrated",
    "inspect": "conjoin.codecs.table",
    "load": "conjoin.estimators",
    "on_background": "conjoin.codecs.colours",
    "price": "conjoin.pricing",
    "quality": "conjoin.questions.quality",
    "read_images": "conjoin.codecs.pictures",
}

__all__ = [
    "Circuit",
    "Discriminant",
    "JointClassifier",
    "JointDensity",
    "JointRegressor",
    "Mixture",
    "NaiveBayes",
    "__version__",
    "canary_audit",
    "compare",
    "copy_check",
    "drift",
    "families",
    "in_folder",
    "inspect",
    "load",
    "on_background",
    "price",
    "quality",
    "read_images",
]


def __getattr__(name: str) -> Any:
    """Heavy parts are imported when first used, so that ``import conjoin`` and the command line start at once."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "plot":
        return importlib.import_module("conjoin.plot")
    raise AttributeError(f"module 'conjoin' has no attribute {name!r}")
