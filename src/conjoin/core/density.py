"""The contract: events, the space they live in, and densities over them.

A joint model p(x, y) is itself a density, over the pair (y, x). Predicting y is filling in a
missing y, imputation is filling in missing parts of x, learning from few labels is a y that is
missing for some rows. So one contract serves every family, every kind of data, and the joint models
made of them.

    raw data -> Codec.encode -> Event -> Density.log_prob (nats) -> Answer
    Density.sample -> Codec.decode -> raw data

Shape letters: B rows, D variables, K classes or candidates. Every logarithm is natural.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from conjoin.core.block import Space
from conjoin.core.capabilities import Capabilities, CapabilityError
from conjoin.core.constants import JSON
from conjoin.core.event import Edit, Event, after_one, but_first
from conjoin.core.random import seeded

__all__ = ["Config", "Density", "Recipe"]


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a density asks to be trained. ``steps``: of the gradient, over which the learning
    ``rate`` falls to zero (None: as many epochs as the plan says); ``batch``: rows of a step;
    ``decay``: of the weights; ``memory``: of their running mean."""

    steps: int | None = None
    batch: int = 1024
    rate: float = 1e-2
    decay: float = 0.0
    memory: float = 0.99


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one family. Subclasses are frozen dataclasses; scikit-learn can clone and search
    them."""

    density: ClassVar[type["Density"]]
    alone: ClassVar[bool] = (
        False  # whether it takes pixels and no variable beside them, as a number y would be
    )

    def recipe(self, rows: int) -> Recipe:
        """How to train on so many rows."""
        return Recipe()

    def suited(self, space: Space) -> "Config":
        """The config that stands in for this one in such a space: a family may have another network
        for pictures."""
        return self

    def streamed(self) -> "Config":
        """The config that stands in for this one where rows are more than memory holds."""
        return self

    def get_params(self, deep: bool = True) -> JSON:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def set_params(self, **params: Any) -> "Config":
        """A changed copy (configs are frozen); ValueError names an unknown setting and the
        choices."""
        if unknown := set(params) - set(self.get_params()):
            raise ValueError(
                f"{type(self).__name__} has no setting {sorted(unknown)[0]!r}; it has "
                f"{', '.join(self.get_params())}."
            )
        return dataclasses.replace(self, **params)


class Density(nn.Module, abc.ABC):
    """p(x | context). Families write the hooks (leading underscore): mathematics only, on inputs
    already checked.

    Each hook has one public twin here, written once, that checks inputs and capabilities;
    CapabilityError where it is not declared."""

    config_class: ClassVar[type[Config]]
    bounded: ClassVar[bool] = (
        False  # whether it keeps to the variables' bounds; else they are left open for it
    )
    conditional: ClassVar[bool] = (
        False  # whether it models p(x | context) for one categorical context
    )
    trunk: ClassVar[bool] = (
        # whether p(y | x) is learned on its features together with p(x), unless another is asked
        # for
        False
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "config_class" in cls.__dict__:
            cls.config_class.density = cls

    def __init__(
        self,
        space: Any,
        config: Any,
        structure: JSON | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.config = config
        self.structure: JSON = (
            structure or {}
        )  # what build learned that is no weight; saved in config.json
        self.context_space = context_space
        self.begun: dict[
            str, Tensor
            # statistics that ``build`` took the parameters from, if mini-batches go on from them
        ] = {}

    @classmethod
    def build(
        cls,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """A density ready to be trained: structure and starting parameters may depend on the data.

        ``weight`` (B,) counts each row; rows are distinct. The default builds from the space alone.
        """
        with seeded(generator):
            return cls(space, config, context_space=context_space)

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities: ...

    # ------------------------------------------------------------------ hooks

    @abc.abstractmethod
    def _log_prob(
        self, event: Any, context: Event | None, generator: torch.Generator | None
    ) -> Tensor:
        """(B,) nats of the observed part."""

    @abc.abstractmethod
    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Any:
        """An event of n rows, all cells observed."""

    def _losses(
        self, event: Any, context: Event | None, generator: torch.Generator | None
    ) -> Tensor:
        """(B,) what each row adds to the loss."""
        return -self._log_prob(event, context, generator)

    def _loss(
        self, event: Any, context: Event | None, weight: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Scalar: the weighted mean that the gradient learner minimises."""
        return (weight * self._losses(event, context, generator)).sum() / weight.sum()

    def _sample_conditional(
        self, event: Any, context: Event | None, generator: torch.Generator | None
    ) -> Any:
        raise NotImplementedError

    def _mode(self, event: Any, context: Event | None) -> Any:
        raise NotImplementedError

    def _log_target(self, event: Event, candidates: Tensor) -> Tensor:
        """(B, K) log p(x with its first variable set to each of K candidates)."""
        values = event.value.repeat_interleave(len(candidates), 0)
        values[:, 0] = candidates.to(values).repeat(event.rows)
        mask = event.mask.repeat_interleave(len(candidates), 0)
        mask[:, 0] = True
        return self._log_prob(event._replace(value=values, observed=mask), None, None).reshape(
            event.rows, len(candidates)
        )

    def _log_contexts(self, event: Event) -> Tensor:
        """(B, K) log p(x | context = k) for every category k of the context."""
        assert self.context_space is not None
        each = [
            torch.full((event.rows,), float(k), dtype=torch.float64)
            for k in range(self.context_space.variables[0].cardinality)
        ]
        return torch.stack([self._log_prob(event, Event(code), None) for code in each], 1)

    def _features(self, event: Any) -> Tensor:
        raise NotImplementedError

    def _remember(self, event: Any) -> None:
        """What typical rows look like, for ``_typicality``: asked once, after the fit, with rows of
        it."""

    def _typicality(self, event: Any) -> Tensor:
        raise NotImplementedError

    def _edit(self, event: Any, context: Event | None, how: Edit) -> Any:
        raise NotImplementedError

    def _unfold(self, n: int, context: Event | None, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def _distil(self, calls: int) -> None:
        """Add the student, and leave nothing else to be learned."""
        raise NotImplementedError

    def _step(self, state: Any, token: Tensor) -> tuple[Any, Tensor]:
        raise NotImplementedError

    def _statistics(self, event: Any, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        """Expected sufficient statistics, summed over rows: adding those of two batches gives those
        of both. The key ``log_prob`` holds the weighted sum of log p under the current
        parameters."""
        raise NotImplementedError

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """Set the parameters to the maximiser of the expected log-likelihood, given the
        statistics."""
        raise NotImplementedError

    def _sweep(
        self, event: Any, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        """One pass of a Gibbs sampler over all the rows, always the same ones in one fit. Moves the
        state that the density is made of (buffers of fixed shape) and returns the mean objective,
        nats per row, for the eye only."""
        raise NotImplementedError

    def _sweep_state(self) -> dict[str, Tensor]:
        """What the next sweep needs beyond the buffers (the rows' own latent state), for a
        checkpoint."""
        return {}

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``_sweep_state``."""

    def _beginning(self) -> "Density | None":
        """A part of this density, of its first variables alone, that is fitted before the rest."""
        return None

    def notices(self, event: Any) -> list[str]:
        """What a user should be told about this density after the fit, given some rows of it; a
        sentence each."""
        return []

    # ------------------------------------------------------------------ public twins

    @final
    def log_prob(
        self, event: Any, context: Event | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B,) log p of the observed part, nats, in the event's units; its meaning is
        ``capabilities.likelihood``."""
        event = self.space.check(event)
        context = self._check_context(context)
        self._check_pattern(event)
        return self._log_prob(event, context, generator)

    @final
    def sample(
        self, n: int, context: Event | None = None, *, generator: torch.Generator | None = None
    ) -> Any:
        """An event of n rows; with a context of n rows, one draw for each."""
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}.")
        with torch.no_grad():
            return self._sample(n, self._check_context(context), generator)

    @final
    def loss(
        self,
        event: Any,
        context: Event | None = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Scalar training objective, to be minimised."""
        event = self.space.check(event)
        context = self._check_context(context)
        return self._loss(event, context, self._weight(event, weight), generator)

    @final
    def losses(
        self, event: Any, context: Event | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B,) the training objective of each row."""
        event = self.space.check(event)
        context = self._check_context(context)
        return self._losses(event, context, generator)

    @final  # type: ignore[misc]
    def forward(  # torch declares it writable
        self,
        event: Any,
        context: Event | None = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss, so that a data-parallel wrapper sees it."""
        return self.loss(event, context, weight=weight, generator=generator)

    @final
    def sample_conditional(
        self, event: Any, context: Event | None = None, *, generator: torch.Generator | None = None
    ) -> Any:
        """The event with its missing cells drawn from p(missing | observed, region)."""
        self._require(
            self.capabilities.conditionals in ("any", "approximate"),
            "draws of missing cells given the others",
            "conditionals",
        )
        event = self.space.check(event)
        self._check_region(event)
        with torch.no_grad():
            return self._sample_conditional(event, self._check_context(context), generator)

    @final
    def mode(self, event: Any, context: Event | None = None) -> Any:
        """The event with its missing cells set to a most probable explanation."""
        self._require(self.capabilities.mode != "none", "the most probable values", "mode")
        self._require(not _confined(event), "the most probable values inside a region", "mode")
        with torch.no_grad():
            return self._mode(self.space.check(event), self._check_context(context))

    @final
    def log_target(self, event: Event, candidates: Tensor) -> Tensor:
        """(B, K) log p(x) with the first variable set to each of K candidates, the other cells as
        they are."""
        event = self.space.check(event)
        self._check_pattern(event._replace(value=event.value[:, 1:], observed=event.mask[:, 1:]))
        return self._log_target(
            event._replace(within=after_one(but_first(event.within))), candidates
        )

    @final
    def log_contexts(self, event: Event) -> Tensor:
        """(B, K) log p(x | context = k) for every category k of the context."""
        if self.context_space is None:
            raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
        event = self.space.check(event)
        self._check_pattern(event)
        return self._log_contexts(event)

    @final
    def features(self, event: Any) -> Tensor:
        """(B, F) what the density has learned to see in each row."""
        self._require(self.capabilities.features, "features", "features")
        return self._features(self.space.check(event))

    @final
    def remember(self, event: Any) -> None:
        """Keep what typical rows look like, where the density has a statistic of familiarity of its
        own."""
        if self.capabilities.typical:
            with torch.no_grad():
                self._remember(self.space.check(event))

    @final
    def typicality(self, event: Any) -> Tensor:
        """(B,) the density's own statistic of familiarity: larger is more familiar."""
        self._require(self.capabilities.typical, "a statistic of familiarity of its own", "typical")
        with torch.no_grad():
            return self._typicality(self.space.check(event))

    @final
    def edit(self, event: Any, context: Event | None = None, *, how: Edit) -> Any:
        """The event changed towards the context (of a pair: x towards its own y): the more, the
        more noise and strength."""
        self._require(self.capabilities.edits, "rows changed a little", "edits")
        event = self.space.check(event)
        with torch.no_grad():
            return self._edit(event, self._check_context(context), how)

    @final
    def unfold(
        self, n: int, context: Event | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(S, n, D) what ``sample`` goes through with the same generator, from noise to the
        rows."""
        self._require(self.capabilities.unfolds, "the way from noise to rows", "unfolds")
        with torch.no_grad():
            return self._unfold(n, self._check_context(context), generator)

    @final
    def distil(self, calls: int) -> None:
        """From now on draws come from a student, in so many calls of its network, and the loss
        teaches it; all else stays as it is."""
        self._require(self.capabilities.distils, "draws in few calls of a network", "distils")
        self._distil(calls)

    @final
    def step(self, state: Any, token: Tensor) -> tuple[Any, Tensor]:
        """The next state and the (B, V) log-probabilities of the next token."""
        self._require(self.capabilities.step, "stepwise log-probabilities", "step")
        return self._step(state, token)

    @final
    def statistics(
        self, event: Any, context: Event | None = None, *, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Additive expected sufficient statistics of the rows."""
        self._require(self.capabilities.statistics, "sufficient statistics", "statistics")
        event = self.space.check(event)
        context = self._check_context(context)
        with torch.no_grad():
            return self._statistics(event, context, self._weight(event, weight))

    @final
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """The M step."""
        self._require(self.capabilities.statistics, "a maximisation step", "statistics")
        with torch.no_grad():
            self._maximise(statistics)

    @final
    def sweep(
        self,
        event: Any,
        context: Event | None = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """One pass of the Gibbs sampler over all rows; the mean objective, nats per row."""
        self._require(self.capabilities.sweeps, "a pass of a Gibbs sampler", "sweeps")
        event = self.space.check(event)
        context = self._check_context(context)
        with torch.no_grad():
            return self._sweep(event, context, self._weight(event, weight), generator)

    # ------------------------------------------------------------------ checks

    def _require(self, declared: bool, asked: str, capability: str) -> None:
        if not declared:
            have = f"{capability}={getattr(self.capabilities, capability)!r}"
            raise CapabilityError(
                type(self).__name__, asked, have, "`conjoin families` lists which families can."
            )

    def _check_region(self, event: Any) -> None:
        self._require(
            not _confined(event) or self.capabilities.regions,
            "cells known to lie in a range",
            "regions",
        )

    def _check_pattern(self, event: Any) -> None:
        self._check_region(event)
        if not isinstance(event, Event) or event.observed is None or event.observed.all():
            return
        mask = event.observed.reshape(event.rows, -1)
        able = self.capabilities
        prefix = bool((mask[:, 1:] <= mask[:, :-1]).all())
        declared = (
            able.missing != "none"
            or able.marginals == "any"
            or (prefix and able.marginals == "prefix")
        )
        self._require(declared, "log_prob with missing cells", "missing")

    def _check_context(self, context: Event | None) -> Event | None:
        if context is None:
            return None
        if self.context_space is None:
            raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
        return self.context_space.check(context)

    def _weight(self, event: Any, weight: Tensor | None) -> Tensor:
        return torch.ones(event.rows, dtype=torch.float64) if weight is None else weight


def _confined(event: Any) -> bool:
    """Whether cells of an event, or of either part of a pair, are known to lie in a range."""
    return any(
        part.within is not None for part in ((event,) if isinstance(event, Event) else event)
    )
