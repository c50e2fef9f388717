"""The scikit-learn surface: JointClassifier, JointRegressor, JointDensity; for pipelines
JointOutlier and JointImputer."""

from conjoin.estimators.classifier import JointClassifier
from conjoin.estimators.density import JointDensity
from conjoin.estimators.functions import compare, load
from conjoin.estimators.marked import mark
from conjoin.estimators.notices import ColumnWarning
from conjoin.estimators.pipeline import JointImputer, JointOutlier
from conjoin.estimators.pretrained import from_pretrained
from conjoin.estimators.regressor import JointRegressor

__all__ = [
    "ColumnWarning",
    "JointClassifier",
    "JointDensity",
    "JointImputer",
    "JointOutlier",
    "JointRegressor",
    "compare",
    "from_pretrained",
    "load",
    "mark",
]
