"""Display objects, as scikit-learn's: ``XDisplay.from_estimator(estimator, X, y)`` draws,
``.plot(ax)`` draws again.

Drawing needs matplotlib (the extra ``plot``); importing this does not.
"""

from conjoin.plot.alterations import AlterationDisplay
from conjoin.plot.coverage import CoverageDisplay
from conjoin.plot.familiarity import FamiliarityDisplay
from conjoin.plot.plane import PlaneDisplay
from conjoin.plot.reliability import ReliabilityDisplay
from conjoin.plot.residuals import ResidualsDisplay
from conjoin.plot.samples import SamplesDisplay

__all__ = [
    "AlterationDisplay",
    "CoverageDisplay",
    "FamiliarityDisplay",
    "PlaneDisplay",
    "ReliabilityDisplay",
    "ResidualsDisplay",
    "SamplesDisplay",
]
