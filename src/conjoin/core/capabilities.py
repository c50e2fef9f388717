"""What a density can do, and how far an answer can be trusted."""

import dataclasses
import enum
from typing import Literal

__all__ = [
    "Capabilities",
    "CapabilityError",
    "Likelihood",
    "Status",
    "status_of",
    "weakest",
    "worst",
]


class Likelihood(enum.Enum):
    """What ``log_prob`` returns."""

    EXACT = "exact"  # log p
    LOWER_BOUND = "lower bound"  # E[value] <= log p
    APPROXIMATE = "approximate"  # log p, off by the error of a solver to either side
    UNNORMALIZED = "relative"  # log p + one constant


class Status(enum.Enum):
    """How far an answer can be trusted as a number."""

    EXACT = "exact"
    LOWER_BOUND = "lower bound"
    APPROXIMATE = "approximate"
    RELATIVE = "relative"


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a density can do. Declared here, verified word by word by
    ``conjoin.testing.conformance``."""

    likelihood: Likelihood = Likelihood.EXACT
    objective: Literal["likelihood", "surrogate"] = "likelihood"
    stochastic: bool = False  # Monte-Carlo log_prob
    # log_prob of the observed part
    missing: Literal["exact", "bound", "approximate", "none"] = "none"
    # patterns whose log_prob is exact
    marginals: Literal["any", "prefix", "target", "none"] = "none"
    # patterns whose draws of x_missing given x_observed are exact
    conditionals: Literal["any", "prefix", "target", "approximate", "none"] = "none"
    regions: bool = False  # events whose missing cells lie within a Region
    # most probable explanation of the missing cells
    mode: Literal["exact", "approximate", "none"] = "none"
    # what it answers by where a context is not known: p(x), a learned null, or a refusal
    null_context: Literal["marginal", "learned", "none"] = "none"
    # what changes nothing: "permutation" and "translation" of points
    invariances: frozenset[str] = frozenset()
    statistics: bool = False  # additive sufficient statistics and an M step: EM, streaming
    sweeps: bool = False  # learned by passes of a Gibbs sampler over all rows
    features: bool = False
    typical: bool = False  # a statistic of familiarity of its own
    edits: bool = False  # rows changed as little or as much as asked, towards a context
    unfolds: bool = False  # the way of a draw can be seen, from noise to the row
    distils: bool = False  # draws can be learned anew, in fewer calls of a network
    step: bool = False  # token by token with a state
    even: bool = False  # rows that are drawn together can be spread evenly
    differentiable: bool = False  # d log_prob / dx
    reparameterized: bool = False  # d sample / d parameters


def status_of(likelihood: Likelihood) -> Status:
    """What a number of this likelihood is worth."""
    return {
        Likelihood.EXACT: Status.EXACT,
        Likelihood.LOWER_BOUND: Status.LOWER_BOUND,
        Likelihood.APPROXIMATE: Status.APPROXIMATE,
        Likelihood.UNNORMALIZED: Status.RELATIVE,
    }[likelihood]


def worst(*parts: Status) -> Status:
    """The status of an answer that rests on all of these: exact, then a lower bound, then
    approximate, then relative."""
    return max(parts, key=list(Status).index)


def weakest(*parts: Likelihood) -> Likelihood:
    """What a sum of such terms returns."""
    return max(parts, key=list(Likelihood).index)


class CapabilityError(NotImplementedError):
    """A density was asked for something that it does not declare."""

    def __init__(self, density: str, asked: str, declared: str, remedy: str = "") -> None:
        said = f"was asked for {asked}, but declares {declared}.{' ' + remedy if remedy else ''}"
        super().__init__(f"{density} {said}")
        self.of_a_model = f"This model {said}"  # for who knows nothing of classes
