"""Joint models p(x, y), made of densities and predictors."""

from conjoin.joints.base import Joint, flat_space, trust
from conjoin.joints.build import build_joint
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.independent import Independent
from conjoin.joints.monolithic import Monolithic

__all__ = [
    "ClassConditional",
    "Hybrid",
    "Independent",
    "Joint",
    "Monolithic",
    "Predictor",
    "build_joint",
    "flat_space",
    "trust",
]
