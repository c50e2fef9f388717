"""Joint models p(x, y), made of densities and predictors; ``KINDS`` by the words that they are
saved under, ``WHOLE_PREDICTORS`` those of p(y | x) that are a joint themselves."""

from conjoin.joints.base import Joint, Rebuild, flat_space, trust
from conjoin.joints.build import build_joint
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.independent import Independent, IndependentNumber
from conjoin.joints.monolithic import Monolithic
from conjoin.joints.reweighted import Posterior, Reweighted
from conjoin.joints.shared_backbone import LabelConditioned, SharedBackbone

__all__ = [
    "KINDS",
    "WHOLE_PREDICTORS",
    "ClassConditional",
    "Hybrid",
    "Independent",
    "IndependentNumber",
    "Joint",
    "Monolithic",
    "Predictor",
    "Rebuild",
    "build_joint",
    "flat_space",
    "trust",
]

KINDS: dict[str, type[Joint]] = {
    each.kind: each
    for each in (
        ClassConditional,
        Hybrid,
        Independent,
        IndependentNumber,
        Monolithic,
        Reweighted,
        LabelConditioned,
        SharedBackbone,
    )
}

WHOLE_PREDICTORS = {Posterior.kind: Posterior}
