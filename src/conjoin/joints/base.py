r"""Joint models p(x, y), made of densities and predictors. Each is itself a density, over the pair
(y, x).

    Monolithic         p(y, x)         one density in which y is a variable like any other
    ClassConditional   p(y) p(x | y)   a density of x for each class
    Independent        p(y) p(x)       a density of x without y: the features of a predictor
    Hybrid             p(x) p(y | x)   any density of x beside any predictor, also your own

Where a joint learns by the gradient, ``emphasis`` e adds e times -log p(y | x) to the loss of a
labelled row, which is then -log p(x) - (1 + e) log p(y | x) (G. Bouchard and B. Triggs (2004), The
tradeoff between generative and discriminative classifiers).

What each quantity is worth follows from the parts: see ``Capabilities`` of each class. A y that is
not known is summed out, so unlabelled rows teach p(x). All values are in nats.

Shape letters: B rows, D columns of x, K classes or candidate values of y.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from conjoin.core import (
    Capabilities,
    Density,
    Event,
    Pair,
    PairSpace,
    Space,
    Status,
    Variable,
)
from conjoin.core.capabilities import status_of
from conjoin.core.device import on_device
from conjoin.core.event import after_one
from conjoin.core.shapes import Bool, Float
from conjoin.families import describe_family

if TYPE_CHECKING:
    from conjoin.joints.hybrid import Predictor

__all__ = [
    "Joint",
    "Rebuild",
    "WithLabelPrior",
    "describe_family",
    "flat_row",
    "flat_space",
    "of_pairs",
    "trust",
]

# the hook that each of these capabilities takes; the others need only what every joint has
HOOKS = {
    "statistics": "_statistics",
    "sweeps": "_sweep",
    "features": "_features",
    "typical": "_typicality",
    "edits": "_edit",
    "unfolds": "_unfold",
    "distils": "_distil",
    "step": "_step",
}


@dataclass(frozen=True)
class Rebuild:
    """How the parts of a saved joint are made anew, from what was stored of each.

    Attributes
    ----------
    y, x
        The spaces of the target and of the rows.
    joint
        A joint, from its description.
    density
        A family's density, from its description, its space, and the space of its context or None.
    predictor
        A predictor, from its description and the joint that it stands beside.
    """

    y: Space
    x: Any
    joint: Callable[[dict[str, Any]], "Joint"]
    density: Callable[[dict[str, Any], Any, Any], Density]
    predictor: Callable[[dict[str, Any], "Joint"], "Predictor"]


class Joint(Density):
    """A density over ``Pair(y, x)`` that can also say log p(x, y) for every candidate y at once."""

    kind: ClassVar[str]  # the word under which such a joint is saved
    space: PairSpace
    emphasis: float = 0.0  # on p(y | x), beyond its share in p(x, y)
    ignores_label: ClassVar[bool] = False  # whether p(x) is the same for every y

    @property
    def target(self) -> Variable:
        return self.space.y.variables[0]

    @final
    @on_device
    def log_joint(self, x: Event, candidates: Tensor | None = None) -> Float[Tensor, "B K"]:
        """log p(x, y) for each candidate y (default: every class). The entry of every decision."""
        if candidates is None:
            if not self.target.discrete:
                raise ValueError(f"{self.target.name!r} is a number: name the candidate values.")
            candidates = torch.arange(self.target.cardinality, dtype=torch.float64)
        return self._log_joint(self.space.x.check(x), candidates)

    @final
    @on_device
    def log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        """log p(y | x) for every class, without log p(x) where that is not needed."""
        return self._log_posterior(self.space.x.check(x))

    @abc.abstractmethod
    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]: ...

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        return self._log_joint(
            x, torch.arange(self.target.cardinality, dtype=torch.float64)
        ).log_softmax(1)

    @final
    def candidates(self, rows: int) -> list[Event]:
        """Every class in turn, as the y of so many rows."""
        return [
            Event(torch.full((rows,), float(k), dtype=torch.float64))
            for k in range(self.target.cardinality)
        ]

    @final
    def log_evidence(self, x: Event) -> Float[Tensor, " B"]:
        """log p(x): y is missing."""
        return self.log_prob(Pair(self.unknown(x.rows), x))

    @final
    def log_label_given(self, event: Pair) -> Float[Tensor, " B"]:
        """log p(y | x) of labelled rows, without log p(x) where x says nothing about y."""
        return self._log_label_given(event)

    def _log_label_given(self, event: Pair) -> Float[Tensor, " B"]:
        return self.log_prob(event) - self.log_evidence(event.x)

    @final
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """The rows whose missing cells p(y | x) can do without."""
        able = self.capabilities
        if able.missing == "none" and able.marginals != "prefix":
            return x.mask.all(1)
        return torch.ones(x.rows, dtype=torch.bool, device=x.value.device)

    @final
    def unknown(self, rows: int) -> Event:
        """A y that is missing in every row."""
        return Event(torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool))

    @property
    @abc.abstractmethod
    def proposer(self) -> "Joint":
        """The joint whose draws of x given y are cheap and plausible, though they need not be quite
        this one's."""

    @property
    @abc.abstractmethod
    def status(self) -> dict[str, Status]:
        """How far ``log_prob`` (of x), ``predict_proba`` (y given x) and ``sample`` (x given y) can
        be trusted."""

    # ------------------------------------------------------------------ what a joint is made of

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """All but the weights, as JSON: ``kind``, and what ``restore`` needs beside it."""

    @classmethod
    @abc.abstractmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> Self:
        """A joint from what ``describe`` gave; its weights are loaded afterwards."""

    @property
    @abc.abstractmethod
    def density_of_x(self) -> Density:
        """The density that log p(x) comes from: of a density over (y, x) the joint itself."""

    @property
    @abc.abstractmethod
    def family_density(self) -> Density:
        """The family's own density, whether of x or of (y, x)."""

    def about(self, x: Event) -> Event | Pair:
        """Rows x as ``density_of_x`` takes them."""
        return x

    @property
    def unweighted(self) -> "Joint":
        """This joint before its classes were given new shares."""
        return self

    def weighted(self, log_joint: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """log p(x, y) by the shares of ``unweighted``, in the shares that the classes have here."""
        return log_joint

    @property
    def separate_predictor(self) -> "Predictor | None":
        """The predictor that gives p(y | x), where that is not the density's own."""
        return None

    @property
    def source_of_features(self) -> Density | None:
        """The density of x on whose features a predictor can stand."""
        return None

    @property
    def shared_head(self) -> Any:
        """The layer on the features of p(x) that was learned together with them; None without
        one."""
        return None

    @property
    def label_prior(self) -> Tensor | None:
        """(K,) unnormalised log p(y), where that is a parameter of its own."""
        return None


class WithLabelPrior(Joint):
    """p(y), a parameter of its own, beside a density of x."""

    def __init__(self, density: Density, y_space: Space) -> None:
        super().__init__(PairSpace(y_space, density.space), density.config)
        self.density = density
        self.log_prior = nn.Parameter(torch.zeros(self.target.cardinality, dtype=torch.float64))

    @property
    def capabilities(self) -> Capabilities:
        return of_pairs(self, self.density.capabilities)

    @property
    def proposer(self) -> Joint:
        return self

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "density": describe_family(self.density)}

    @property
    def density_of_x(self) -> Density:
        return self.density

    @property
    def family_density(self) -> Density:
        return self.density

    @property
    def source_of_features(self) -> Density | None:
        return self.density if self.density.capabilities.features else None

    @property
    def label_prior(self) -> Tensor:
        return self.log_prior

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(event.x)


def of_pairs(joint: Joint, able: Capabilities) -> Capabilities:
    """Of what the density inside is ``able`` to do, that which the joint can do with pairs (y, x):
    what needs a hook that the joint does not write is left out. A joint has no context, and its
    draws carry no gradient."""
    kind = type(joint)
    missing: dict[str, Any] = {
        word: False for word, hook in HOOKS.items() if getattr(kind, hook) is getattr(Density, hook)
    }
    return replace(able, null_context="none", reparameterized=False, **missing)


def trust(density: Density) -> Status:
    """What ``log_prob`` of a density is worth."""
    return status_of(density.capabilities.likelihood)


def flat_row(pair: Pair) -> Event:
    """(y, x) as one row, y first."""
    value = torch.cat([pair.y.value[:, None].to(pair.x.value), pair.x.value], 1)
    mask = torch.cat([pair.y.mask[:, None], pair.x.mask], 1)
    return Event(value, mask, within=after_one(pair.x.within))


def flat_space(y: Space, x: Space) -> Space:
    """The space of a monolithic joint: y's variable before those of x (the pixels, if x is an
    image, are the last ones)."""
    variables = y.variables + x.variables
    return replace(x, shape=(1 + x.shape[0],), variables=variables, layout="vector")


def _label_loss(log_joint: Float[Tensor, "B K"], y: Event) -> Float[Tensor, " B"]:
    """-log p(y | x) of labelled rows, 0 of the others."""
    return torch.where(
        y.mask, -log_joint.log_softmax(1).gather(1, y.value.long()[:, None])[:, 0], 0.0
    )
