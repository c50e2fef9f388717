r"""Counts of words, given the topics of a document: the bag-of-words half of latent Dirichlet
allocation (``topic``).

    N ~ Poisson,  words multinomial   <=>   x_d | theta, g ~ Poisson(g sum_k theta_k r_kd)
    independently for each column d

A Poisson number of words, each of its own topic, falls into independent Poisson counts (J. Kingman
(1993), Poisson processes, section 2.4), so a count that is missing drops out. r_kd is how often
topic k says word d in a document of mean length (W. Buntine and A. Jakulin (2006), Discrete
component analysis, section 3.3), and g the length of the document, of mean one. Nats.

Shape letters: B rows, W count columns, K topics, S points of the mixing distribution (each a theta
and a g).

>>> from conjoin.core import Variable
>>> layer = CountLayer((Variable("goal", "integer", resolution=1.0, bounds=(0.0, None)),), topics=2)
>>> layer.counts(torch.tensor([[3.0]]).double()).tolist()
[[3.0]]
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from conjoin.core import Variable
from conjoin.core.shapes import Bool, Float

__all__ = ["CountLayer", "is_count"]


def is_count(variable: Variable) -> bool:
    """A whole number from a least one upwards, without end."""
    return (
        variable.kind == "integer"
        and variable.resolution is not None
        and variable.bounds[0] is not None
        and variable.bounds[1] is None
    )


class CountLayer(nn.Module):
    """W columns of counts with K topics. Parameters are set by ``start`` and ``maximise``, or by
    gradients."""

    step: Tensor
    least: Tensor
    rate_prior: Tensor

    def __init__(self, variables: Sequence[Variable], topics: int, smoothing: float = 1.0) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer(
            "step",
            torch.tensor([v.resolution for v in variables], dtype=torch.float64),
            persistent=False,
        )
        self.register_buffer(
            "least",
            torch.tensor([v.bounds[0] for v in variables], dtype=torch.float64),
            persistent=False,
        )
        self.register_buffer("rate_prior", torch.ones(len(variables), dtype=torch.float64))
        self.log_rate = nn.Parameter(torch.zeros(len(variables), topics, dtype=torch.float64))

    def counts(self, value: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """How many steps each value lies above the least."""
        return ((value - self.least) / self.step).round()

    def value(self, counts: Float[Tensor, "*B W"]) -> Float[Tensor, "*B W"]:
        """The inverse of ``counts``."""
        return self.least + self.step * counts

    def rates(self, mixing: Float[Tensor, "S K"]) -> Float[Tensor, "S W"]:
        """The expected counts at each point; ``mixing`` is g theta."""
        return mixing @ self.log_rate.exp().T

    def log_prob(
        self, counts: Float[Tensor, "B W"], mask: Bool[Tensor, "B W"], said: Tensor, silent: Tensor
    ) -> Float[Tensor, "B S"]:
        """Nats of the known counts at each point. ``said`` and ``silent`` (S, W) are both
        ``rates``: one enters as x log(rate), the other as -rate, so that their gradients tell the
        expected words from the expected exposure."""
        known = mask.double()
        many = torch.where(mask, counts, 0.0)
        impossible = torch.where(many < 0, -torch.inf, 0.0).sum(1, keepdim=True)
        many = many.clamp_min(0)
        return (
            many @ said.log().T
            - known @ silent.T
            - torch.lgamma(many + 1).sum(1, keepdim=True)
            + impossible
        )

    def start(self, counts: Float[Tensor, "B W"], mass: Float[Tensor, "B W"]) -> None:
        """Set the prior, and every topic, to the columns' mean counts."""
        mean = (mass * counts).sum(0) / mass.sum(0).clamp_min(1e-300)
        self.rate_prior.copy_(mean.clamp_min(1e-6))
        with torch.no_grad():
            self.log_rate.copy_(self.rate_prior.log()[:, None].expand_as(self.log_rate))

    def maximise(self, words: Float[Tensor, "W K"], exposure: Float[Tensor, "W K"]) -> None:
        """Maximum a posteriori: every topic starts with ``smoothing`` documents of the columns'
        means."""
        rate = (words + self.smoothing * self.rate_prior[:, None]) / (exposure + self.smoothing)
        self.log_rate.copy_(rate.log())
