"""Densities: the hooks that a family writes, and their public twins, written once.

A hook has a leading underscore and holds mathematics only, on inputs that are already checked. Its
twin is final: it checks inputs and capabilities, joins blocks to rows for families of rows, and
groups rows that have regions of their own.

Shape letters: B rows, D variables, K classes or candidates, F features, V tokens.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from conjoin.core.block import Block, RecordSpace, Space, Variable
from conjoin.core.capabilities import (
    Capabilities,
    CapabilityError,
    Status,
    status_of,
    worst,
)
from conjoin.core.constants import JSON
from conjoin.core.device import on_device
from conjoin.core.event import Edit, Event, Record, Region, after_one, but_first
from conjoin.core.flat import Flat
from conjoin.core.layouts import NotFlatError
from conjoin.core.random import draw_seed, seeded, stream
from conjoin.core.sampling import sampling

__all__ = ["Config", "Density", "Draws", "Recipe"]

Hook = Callable[[Any, Any], Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a density asks to be trained. ``steps``: of the gradient, over which the learning
    ``rate`` falls to zero (None: as many epochs as the plan says); ``batch``: rows of a step;
    ``decay``: of the weights; ``memory``: of their running mean; ``epochs``: passes over the rows
    of a density that has statistics (None: as many as the loop thinks good); ``matrix_rate``: of
    matrices between hidden units, if these are moved by Muon; ``linear``: whether rates fall in a
    straight line, and not along a cosine."""

    steps: int | None = None
    batch: int = 1024
    rate: float = 1e-2
    decay: float = 0.0
    memory: float = 0.99
    epochs: int | None = None
    matrix_rate: float | None = None
    linear: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one family. Subclasses are frozen dataclasses; scikit-learn can clone and search
    them."""

    density: ClassVar[type["Density"]]
    # settings that model folders of earlier versions do not hold, and what they were
    implied: ClassVar[JSON] = {}
    # settings that a model folder leaves out where they are so, as earlier versions did
    unwritten: ClassVar[JSON] = {}
    alone: ClassVar[bool] = (
        False  # whether it takes pixels and no variable beside them, as a number y would be
    )

    @property
    def takes_class_alone(self) -> bool:
        """Whether what it models can be told one class and nothing else, such as a number y."""
        return False

    def recipe(self, rows: int) -> Recipe:
        """How to train on so many rows."""
        return Recipe()

    def suited(self, space: Any) -> "Config":
        """The config that stands in for this one in such a space: a family may have another network
        for pictures."""
        return self

    def for_rows(self, rows: int) -> "Config":
        """The config that stands in for this one where so many rows teach."""
        return self

    def advice(self, space: Space) -> list[str]:
        """What to tell before a fit in such a space begins: another family that would do better."""
        return []

    def beside_blocks(self) -> "Config":
        """The config that stands in for this one where pictures and strings stand behind the
        columns."""
        return self

    def in_precision(self, precision: str) -> "Config":
        """The config that computes in ``precision``; "auto" is the faster one where there is a
        choice. ValueError where there is none."""
        if precision != "auto":
            raise ValueError(
                f"precision={precision!r} is for networks of pictures; {type(self).__name__} has "
                "one precision of its own: leave it at 'auto'."
            )
        return self

    def streamed(self) -> "Config":
        """The config that stands in for this one where rows are more than memory holds, or the fit
        is to be fast."""
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


class Draws(NamedTuple):
    """Rows whose open cells were drawn, and what that is worth.

    ``effective`` (B,) is the effective number of draws among which each row was chosen; None where
    draws are from the conditional itself.
    """

    event: Any
    status: Status
    effective: Tensor | None = None


class Density(nn.Module, abc.ABC):
    """p(x | context), of one block or of a group of blocks.

    Families write the hooks (leading underscore): mathematics only, on inputs already checked. A
    family of rows (``flat``, the default) sees rows (B, D) of float64 and at most one context, an
    event of the variables that it is conditioned on. Any other family sees events of a ``Block`` or
    records of a ``RecordSpace`` as they are, and a context that is a full record: the rows of
    blocks that were not given are unknown.

    Each hook has one public twin here, written once, that checks inputs and capabilities;
    CapabilityError where it is not declared."""

    config_class: ClassVar[type[Config]]
    # whether hooks see rows of numbers; else events of a block, or records
    flat: ClassVar[bool] = True
    # whether it keeps to the variables' bounds; else they are left open for it
    bounded: ClassVar[bool] = False
    # whether a category of thousands of levels costs it little
    many_levels: ClassVar[bool] = False
    # whether it models p(x | context) for one categorical context
    conditional: ClassVar[bool] = False
    # whether the context may also be several columns (B, C), any of them missing
    takes_columns: ClassVar[bool] = False
    # whether it models strings and pictures that stand behind columns in one row
    takes_blocks: ClassVar[bool] = False
    # whether a network that begins at its weights can learn to read y off its rows
    read_by_network: ClassVar[bool] = False
    # whether log p of many candidates of y takes a look of a network at each of them
    slow_candidates: bool = False
    # whether log p of strings is summed over all ways to cut them inside ``ways.summed_over``
    sums_ways: bool = False
    # whether ``build`` takes pictures as bytes, and casts no more of them than it needs at a time
    takes_bytes: ClassVar[bool] = False
    # whether p(y | x) is learned on its features together with p(x), unless another is asked for
    shared_backbone: ClassVar[bool] = False
    # whether it draws from noise on, in steps whose number ``sampling.walking`` says
    walks: ClassVar[bool] = False
    # whether what it is told can be exaggerated in draws, by as much as ``sampling.walking`` says
    guides: ClassVar[bool] = False
    # whether it draws pictures from strings, and chooses among as many as ``sampling.walking`` says
    chooses: bool = False
    # whether its network draws strings, also rounded to what ``sampling.sampling`` says
    rounds_draws: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "config_class" in cls.__dict__:
            cls.config_class.density = cls

    def __init__(
        self,
        space: Any,
        config: Any,
        structure: JSON | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.config = config
        self.structure: JSON = structure or {}  # what build learned that is no weight
        if not self.flat and isinstance(context_space, Space):
            context_space = RecordSpace((_block_of(context_space),))
        if not self.flat and context_space is None:
            context_space = RecordSpace()
        self.context_space: Any = context_space
        # statistics that ``build`` took the parameters from, if mini-batches go on from them
        self.begun: dict[str, Tensor] = {}
        self._rows: Flat | None = None
        self._told_rows: Flat | None = None

    @final
    def over(self, blocks: Flat, told: Flat | None = None) -> Self:
        """This density of rows, for questions about records of the blocks in its rows.

        ``told``: the blocks of its context."""
        self._rows = blocks
        self._told_rows = told
        return self

    @property
    def rows_of(self) -> Flat | None:
        """The blocks that its rows are asked about as records of; None where it is asked about
        rows as they are."""
        return self._rows

    @classmethod
    def build(
        cls,
        space: Any,
        config: Any,
        data: Any,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
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
    def _log_prob(self, event: Any, context: Any, generator: torch.Generator | None) -> Tensor:
        """(B,) nats of the observed part."""

    @abc.abstractmethod
    def _sample(self, n: int, context: Any, generator: torch.Generator | None) -> Any:
        """An event of n rows, all cells observed."""

    def _losses(self, event: Any, context: Any, generator: torch.Generator | None) -> Tensor:
        """(B,) what each row adds to the loss."""
        return -self._log_prob(event, context, generator)

    def _loss(
        self, event: Any, context: Any, weight: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Scalar: the weighted mean that the gradient learner minimises."""
        return (weight * self._losses(event, context, generator)).sum() / weight.sum()

    def _sample_conditional(
        self, event: Any, context: Any, generator: torch.Generator | None
    ) -> Any:
        raise NotImplementedError

    def _draw_open(
        self, event: Any, context: Any, generator: torch.Generator | None
    ) -> tuple[Any, Status, Tensor | None]:
        """Draws of the open cells, what they are worth, and their effective number."""
        exact = self.capabilities.conditionals in ("any", "prefix") and sampling().plain
        own = status_of(self.capabilities.likelihood)
        status = own if exact else worst(own, Status.APPROXIMATE)
        return self._sample_conditional(event, context, generator), status, None

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
        classes = _variable_of(self.context_space).cardinality
        codes = [torch.full((event.rows,), float(k)).double() for k in range(classes)]
        contexts = [self._conditioned(Event(code), event.rows) for code in codes]
        each = [self._by_rows(self._log_prob, event, context, None) for context in contexts]
        return torch.stack(each, 1)

    def _features(self, event: Any) -> Tensor:
        raise NotImplementedError

    def _features_at(self, event: Any, places: Tensor) -> Tensor:
        """Features of each beginning by itself; a network that sees all places at once has a
        faster way, and may say more of the last token."""
        before = torch.arange(event.value.shape[1])
        parts = []
        for place in places.unbind(1):
            known = before < place[:, None]
            parts.append(self._features(Event(event.value, known, known)))
        return torch.stack(parts, 1)

    def _fit_typicality(self, event: Any) -> None:
        """What typical rows look like, for ``_typicality``: asked once, after the fit, with rows of
        it."""

    def _typicality(self, event: Any) -> Tensor:
        raise NotImplementedError

    def _typicality_of_blocks(self, event: Any) -> Tensor:
        return self._typicality(event)[:, None]

    def _edit(self, event: Any, context: Any, how: Edit) -> Any:
        raise NotImplementedError

    def _unfold(self, n: int, context: Any, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def _distil(self, calls: int) -> None:
        """Add the student, and leave nothing else to be learned."""
        raise NotImplementedError

    def _begin(self, rows: int, context: Any) -> Any:
        raise NotImplementedError

    def _step(self, state: Any, token: Any) -> tuple[Any, Tensor]:
        raise NotImplementedError

    def _follow(self, state: Any, log_next: Tensor, tokens: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Token by token; a network that sees many at once has a faster way."""
        told = []
        for token in tokens.unbind(1):
            told.append(log_next.gather(1, token[:, None])[:, 0])
            state, log_next = self._step(state, token)
        return state, log_next, torch.stack(told, 1)

    def _statistics(self, event: Any, context: Any, weight: Tensor) -> dict[str, Tensor]:
        """Expected sufficient statistics, summed over rows: adding those of two batches gives those
        of both. The key ``log_prob`` holds the weighted sum of log p under the current
        parameters."""
        raise NotImplementedError

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """Set the parameters to the maximiser of the expected log-likelihood, given the
        statistics."""
        raise NotImplementedError

    def _sweep(
        self, event: Any, context: Any, weight: Tensor, generator: torch.Generator
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

    def _first_stage(self) -> "Density | None":
        """A part of this density, of its first variables alone, that is fitted before the rest."""
        return None

    def _members(self) -> "dict[str, Density]":
        """Densities of the same rows that learn one after the other, each by itself, before
        ``_weigh_members``; none where this one learns as a whole."""
        return {}

    def _weigh_members(self, choose: Any) -> list[JSON]:
        """What each member counts, by validation rows (None: there are none), and what is to be
        told of each."""
        raise NotImplementedError

    def reader_of(self, column: int = 0) -> Any:
        """What tells one of its columns from the block behind them, as a predictor does, by the
        network of that block; None where nothing does."""
        return None

    def network_reader(self, outputs: int) -> Any:
        """A module that begins at the weights of this density's network, which stay what they are,
        and learns to read so many numbers off rows; None unless ``read_by_network``."""
        return None

    def writer_of(self, targets: int) -> Any:
        """What writes its strings where nothing is told, if all of its columns are targets; None
        where there is no such thing."""
        return None

    def string_in(self, x: Any, cells: slice) -> Any:
        """Of the string in these cells of rows ``x``, whose first columns may be left out: its
        density, its event, and what it is told. None where no string stands there."""
        return None

    def pairs_of_points(self, event: Any) -> Tensor | None:
        """(B, N, N, 3) of points: of each pair their distance, the distance that is expected, and
        by how many deviations it is off; None where nothing says so."""
        return None

    def go_on_from(self, other: "Density") -> bool:
        """Begin with what another density of this kind, beside other columns or none, has learned
        of the blocks; whether that can be. ValueError for one of another size."""
        return False

    def notices(self, event: Any) -> list[str]:
        """What a user should be told about this density after the fit, given some rows of it; a
        sentence each."""
        return []

    # ------------------------------------------------------------------ public twins

    @final
    @on_device
    def log_prob(
        self, event: Any, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p of what is known of each row.

        Parameters
        ----------
        event
            B rows: an event, a pair, or a record. Missing cells are summed out.
        context
            What the density is conditioned on: an event, or a record.
        generator
            Of the noise of a Monte-Carlo estimate.

        Returns
        -------
        Tensor
            (B,) nats, in the event's units; its meaning is ``capabilities.likelihood``.

        Raises
        ------
        CapabilityError
            If cells are missing, or lie in a region, in a way that is not declared.
        """
        event = self._checked(event)
        context = self._asked_context(context, event.rows)
        self._check_pattern(event)
        return self._by_rows(self._log_prob, event, context, generator)

    @final
    @on_device
    def sample(
        self, n: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Any:
        """An event of n rows; with a context of n rows, one draw for each."""
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}.")
        with torch.no_grad():
            return self._answered(self._sample(n, self._asked_context(context, n), generator))

    @final
    @on_device
    def loss(
        self,
        event: Any,
        context: Any = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Scalar training objective, to be minimised."""
        event = self._checked(event)
        context = self._conditioned(context, event.rows)
        weight = self._weight(event, weight)
        if _regions_per_row(event):
            losses = self._by_rows(self._losses, event, context, generator)
            return (weight * losses).sum() / weight.sum()
        return self._loss(event, context, weight, generator)

    @final
    @on_device
    def losses(
        self, event: Any, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B,) the training objective of each row."""
        event = self._checked(event)
        context = self._conditioned(context, event.rows)
        return self._by_rows(self._losses, event, context, generator)

    @final  # type: ignore[misc]
    def forward(  # torch declares it writable
        self,
        event: Any,
        context: Any = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss, so that a data-parallel wrapper sees it."""
        return self.loss(event, context, weight=weight, generator=generator)

    @final
    @on_device
    def sample_conditional(
        self, event: Any, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Any:
        """The event with its missing cells drawn from p(missing | observed, region)."""
        return self.complete(event, context, generator=generator).event

    @final
    @on_device
    def complete(
        self, event: Any, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Draws:
        """``sample_conditional``, and what the draws are worth."""
        self._require(
            self.capabilities.conditionals in ("any", "prefix", "approximate"),
            "draws of missing cells given the others",
            "conditionals",
        )
        event = self._checked(event)
        self._check_region(event)
        self._check_prefix(event)
        context = self._asked_context(context, event.rows)
        with torch.no_grad():
            if _regions_per_row(event):
                return self._complete_by_region(event, context, generator)
            out, status, effective = self._draw_open(event, context, generator)
            return Draws(self._answered(out), status, effective)

    @property
    def shardable(self) -> list[nn.Module]:
        """Modules that a loss calls as often as ``core.rounds.as_often`` says: each of several
        processes may hold a part of their weights. None where a loss may call them otherwise."""
        return []

    @property
    def is_told(self) -> bool:
        """Whether what it draws depends on something that it is told."""
        return False

    @property
    def paces(self) -> Mapping[str, float]:
        """Parts, by the names of their modules, that learn at another rate than the recipe's: by
        what it is multiplied."""
        return {}

    @property
    def stages(self) -> Mapping[str, tuple[float, float]]:
        """Parts, by the names of their modules, that learn in a share of the fit alone: where it
        begins and where it ends, from 0 to 1. Rates rise and fall within it."""
        return {}

    @property
    def status_of_draws(self) -> Status:
        """What rows of ``sample`` are worth: as much as log p where they are draws of p, less where
        settings ask for draws that exaggerate what they are told."""
        return status_of(self.capabilities.likelihood)

    @final
    def status_of(self, event: Any) -> Status:
        """What log p of these rows is worth: it depends on which of their cells are known."""
        event = self._checked(event)
        self._check_pattern(event)
        return self._status_of(event)

    def _status_of(self, event: Any) -> Status:
        own = status_of(self.capabilities.likelihood)
        parts = [event] if isinstance(event, Event) else [part for part in _events(event)]
        if all(bool(part.complete.all()) for part in parts):
            return own
        able = self.capabilities
        exact = able.missing == "exact" or able.marginals in ("any", "prefix")
        bound = Status.LOWER_BOUND if able.missing == "bound" else Status.APPROXIMATE
        return own if exact else worst(own, bound)

    @final
    @on_device
    def mode(self, event: Any, context: Any = None) -> Any:
        """The event with its missing cells set to a most probable explanation."""
        self._require(self.capabilities.mode != "none", "the most probable values", "mode")
        event = self._checked(event)
        self._require(not _confined(event), "the most probable values inside a region", "mode")
        with torch.no_grad():
            return self._answered(self._mode(event, self._asked_context(context, event.rows)))

    @final
    @on_device
    def log_target(self, event: Event, candidates: Tensor, column: int = 0) -> Tensor:
        """log p(x) with one variable set to each of K candidates, the other cells as they are.

        Parameters
        ----------
        event
            B rows (B, D).
        candidates
            (K,) values of the variable.
        column
            Which variable it is.

        Returns
        -------
        Tensor
            (B, K) nats.
        """
        event = self._checked(event)
        others = torch.arange(event.value.shape[1]) != column
        self._check_pattern(
            event._replace(value=event.value[:, others], observed=event.mask[:, others])
        )
        if column:
            return self._log_candidates(event, candidates, column)
        event = event._replace(within=after_one(but_first(event.within)))

        def ask(part: Event, context: Any, generator: torch.Generator | None) -> Tensor:
            return self._log_target(part, candidates)

        return self._by_rows(ask, event, None, None)

    def _log_candidates(self, event: Event, candidates: Tensor, column: int) -> Tensor:
        """(B, K) of any variable: log p of the row with each candidate in its place."""
        place = torch.arange(event.value.shape[1]) == column
        mask = event.mask | place
        each = [
            self.log_prob(
                event._replace(value=torch.where(place, value, event.value), observed=mask)
            )
            for value in candidates.to(event.value)
        ]
        return torch.stack(each, 1)

    @final
    @on_device
    def log_contexts(self, event: Event) -> Tensor:
        """(B, K) log p(x | context = k) for every category k of the context."""
        if not _names_a_context(self.context_space):
            raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
        event = self._checked(event)
        self._check_pattern(event)
        return self._log_contexts(event)

    @final
    @on_device
    def features(self, event: Any) -> Tensor:
        """(B, F) what the density has learned to see in each row."""
        self._require(self.capabilities.features, "features", "features")
        return self._features(self._checked(event))

    @final
    @on_device
    def features_at(self, event: Any, places: Tensor) -> Tensor:
        """(B, P, F) what the density sees in the beginnings of strings, which end behind as many
        tokens as ``places`` (B, P) says."""
        able = self.capabilities.features and self.capabilities.step and not self.flat
        self._require(able, "features of beginnings", "features and step")
        return self._features_at(self._checked(event), places)

    @final
    @on_device
    def fit_typicality(self, event: Any) -> None:
        """Keep what typical rows look like, where the density has a statistic of familiarity of its
        own."""
        if self.capabilities.typical:
            with torch.no_grad():
                self._fit_typicality(self._checked(event))

    @final
    @on_device
    def typicality(self, event: Any) -> Tensor:
        """(B,) the density's own statistic of familiarity: larger is more familiar."""
        self._require(self.capabilities.typical, "a statistic of familiarity of its own", "typical")
        with torch.no_grad():
            return self._typicality(self._checked(event))

    @final
    @on_device
    def typicality_of_blocks(self, event: Any) -> Tensor:
        """(B, N) ``typicality`` of each of the N blocks that have one; NaN where nothing is known
        of a block."""
        self._require(self.capabilities.typical, "a statistic of familiarity of its own", "typical")
        with torch.no_grad():
            return self._typicality_of_blocks(self._checked(event))

    @final
    @on_device
    def edit(self, event: Any, context: Any = None, *, how: Edit) -> Any:
        """The event changed towards the context (of a pair: x towards its own y): the more, the
        more noise and strength."""
        self._require(self.capabilities.edits, "rows changed a little", "edits")
        event = self._checked(event)
        with torch.no_grad():
            return self._answered(self._edit(event, self._conditioned(context, event.rows), how))

    @final
    @on_device
    def unfold(
        self, n: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(S, n, D) what ``sample`` goes through with the same generator, from noise to the
        rows."""
        self._require(self.capabilities.unfolds, "the way from noise to rows", "unfolds")
        with torch.no_grad():
            return self._unfold(n, self._conditioned(context, n), generator)

    def unfold_given(
        self, event: Any, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """(S, B, D) what ``sample_conditional`` goes through with the same generator, from noise to
        the rows. CapabilityError where it is no such way."""
        raise CapabilityError(
            type(self).__name__, "the way from noise to rows that are known in part", "no such way"
        )

    @final
    @on_device
    def distil(self, calls: int) -> None:
        """From now on draws come from a student, in so many calls of its network, and the loss
        teaches it; all else stays as it is."""
        self._require(self.capabilities.distils, "draws in few calls of a network", "distils")
        self._distil(calls)

    def alternatives(self, event: Any, count: int) -> tuple[Any, Tensor]:
        """The most probable completions of each row that a search finds, and (B, K) log p of each
        given what is known; B K rows, those of the first row first. CapabilityError where there is
        no such search."""
        raise CapabilityError(
            type(self).__name__, "the most probable completions", "no search for them"
        )

    @final
    @on_device
    def begin(self, n: int, context: Any = None) -> Any:
        """The state before the first token of n rows, for ``step``."""
        self._require(self.capabilities.step, "stepwise log-probabilities", "step")
        return self._begin(n, self._asked_context(context, n))

    @final
    @on_device
    def step(self, state: Any, token: Tensor | None = None) -> tuple[Any, Tensor]:
        """One token further.

        Parameters
        ----------
        state
            Of ``begin``, or of the step before.
        token
            (B,) the tokens that came last; None at the beginning.

        Returns
        -------
        state
            For the next step.
        log_p
            (B, V + 1) log p of each token that may come next, the end last; nats.
        """
        self._require(self.capabilities.step, "stepwise log-probabilities", "step")
        return self._step(state, token)

    @final
    @on_device
    def follow(self, state: Any, log_p: Tensor, tokens: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Through tokens that are known, at least one.

        Parameters
        ----------
        state, log_p
            As ``step`` returned them.
        tokens
            (B, T) the tokens that come next.

        Returns
        -------
        state, log_p
            As ``step`` returns them behind the last of the tokens.
        told
            (B, T) log p of each of the tokens given those before it; nats.
        """
        self._require(self.capabilities.step, "stepwise log-probabilities", "step")
        return self._follow(state, log_p, tokens)

    @final
    @on_device
    def statistics(
        self, event: Any, context: Any = None, *, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Additive expected sufficient statistics of the rows."""
        self._require(self.capabilities.statistics, "sufficient statistics", "statistics")
        event = self._checked(event)
        context = self._asked_context(context, event.rows)
        weight = self._weight(event, weight)
        with torch.no_grad():
            if not _regions_per_row(event):
                return self._statistics(event, context, weight)
            total: dict[str, Tensor] = {}
            for rows, part in _groups(event):
                found = self._statistics(part, _take(context, rows), weight[rows])
                total = {key: total.get(key, 0) + value for key, value in found.items()}
            return total

    @final
    @on_device
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """The M step."""
        self._require(self.capabilities.statistics, "a maximisation step", "statistics")
        with torch.no_grad():
            self._maximise(statistics)

    @final
    @on_device
    def sweep(
        self,
        event: Any,
        context: Any = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """One pass of the Gibbs sampler over all rows; the mean objective, nats per row."""
        self._require(self.capabilities.sweeps, "a pass of a Gibbs sampler", "sweeps")
        event = self._checked(event)
        context = self._conditioned(context, event.rows)
        with torch.no_grad():
            return self._sweep(event, context, self._weight(event, weight), generator)

    # ------------------------------------------------------------------ between twin and hook

    def _checked(self, event: Any) -> Any:
        """The event as hooks see it."""
        if self._rows is not None and not isinstance(event, Event):
            event = self._joined(self._rows, event)
        elif self._rows is not None and (
            event.value.dim() != 2 or event.present is not None or event.value.dtype == torch.int64
        ):  # an event of one block, not a row of numbers
            event = self._joined(self._rows, Record({self._rows.blocks.names[0]: event}))
        return self.space.check(event)

    def _joined(self, rows: Flat, record: Record) -> Event:
        try:
            return rows.join(record)
        except NotFlatError as unsaid:
            raise CapabilityError(
                type(self).__name__,
                "positions that exist while their tokens are not known",
                "rows of numbers",
                str(unsaid),
            ) from unsaid

    def _answered(self, event: Any) -> Any:
        """An event of a hook as the caller sees it."""
        return event if self._rows is None else self._rows.split(event)

    def _conditioned(self, context: Any, rows: int) -> Any:
        """The context as hooks see it: of a family of rows an event or None, of others a full
        record."""
        if not self.flat:
            return self._record_of(context, rows)
        if isinstance(context, Record):
            if all(bool(event.unobserved.all()) for event in context.values()):
                context = None
            elif self._told_rows is None:
                raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
            else:
                context = self._told_rows.join(context)
                if not self.context_space.shape:
                    context = context.map(lambda part: part[:, 0])
        return self._check_context(context)

    def _asked_context(self, context: Any, rows: int) -> Any:
        """The context of a question, as hooks see it; refused where nothing is known of it, and
        nothing is declared of that."""
        found = self._conditioned(context, rows)
        if _names_a_context(self.context_space) and self.capabilities.null_context == "none":
            parts = [] if found is None else list(_events(found))
            told = [~part.unobserved for part in parts]
            known = bool(told) and bool(torch.stack(told).any(0).all())
            self._require(known, "p(x) where its context is not known", "null_context")
        return found

    def _record_of(self, context: Any, rows: int) -> Record:
        if context is not None and len(context) and not self.context_space.blocks:
            raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
        if isinstance(context, Event):
            name = self.context_space.names[0]
            alone = context.value.dim() == 1  # a class, as joints know it
            context = context.map(lambda part: part[:, None]) if alone else context
            context = Record({name: context})
        record: Record = self.context_space.check(context or Record(), rows)
        return record

    def _by_rows(
        self, hook: Any, event: Any, context: Any, generator: torch.Generator | None
    ) -> Tensor:
        """What a hook says of each row: rows with regions of their own in groups, each with the
        same noise; 0 of rows of which nothing is known, where hooks see blocks."""
        if _regions_per_row(event):
            seed = None if generator is None else draw_seed(generator)
            groups = _groups(event)
            parts = [
                hook(part, _take(context, rows), None if seed is None else stream(seed))
                for rows, part in groups
            ]
            order = torch.cat([rows for rows, _ in groups]).argsort()
            return torch.cat(parts)[order]
        if self.flat or not isinstance(event, Event) or not bool(event.unobserved.any()):
            out: Tensor = hook(event, context, generator)
            return out
        rows = (~event.unobserved).nonzero()[:, 0]
        found = torch.zeros(event.rows, dtype=torch.float64)
        if not len(rows):
            return found
        return found.index_copy(0, rows, hook(event.take(rows), _take(context, rows), generator))

    def _complete_by_region(
        self, event: Any, context: Any, generator: torch.Generator | None
    ) -> Draws:
        """Rows with regions of their own, in groups."""
        groups = _groups(event)
        parts = [self._draw_open(part, _take(context, rows), generator) for rows, part in groups]
        order = torch.cat([rows for rows, _ in groups]).argsort()
        out = _stacked([part[0] for part in parts], order)
        found = [part[2] for part in parts if part[2] is not None]
        effective = torch.cat(found)[order] if len(found) == len(parts) else None
        return Draws(self._answered(out), worst(*(part[1] for part in parts)), effective)

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
        able = self.capabilities
        declared = (
            able.missing != "none"
            or able.marginals == "any"
            or (able.marginals == "prefix" and _is_prefix(event))
        )
        self._require(declared, "log_prob with missing cells", "missing")

    def _check_prefix(self, event: Any) -> None:
        if self.capabilities.conditionals == "prefix" and isinstance(event, Event):
            self._require(_is_prefix(event), "draws of cells that others follow", "conditionals")

    def _check_context(self, context: Any) -> Any:
        if context is None:
            return None
        if self.context_space is None:
            raise CapabilityError(type(self).__name__, "p(x | context)", "no context")
        if not self.takes_columns and not bool(context.mask.all()):
            raise CapabilityError(
                type(self).__name__,
                "p(x | context) of rows whose context is not known beside others",
                "a class, or none",
                "Ask about rows without a class by themselves.",
            )
        return self.context_space.check(context)

    def _weight(self, event: Any, weight: Tensor | None) -> Tensor:
        return torch.ones(event.rows, dtype=torch.float64) if weight is None else weight


def _events(event: Any) -> tuple[Event, ...]:
    """The events that an event, a pair or a record is made of."""
    if isinstance(event, Event):
        return (event,)
    if isinstance(event, Record):
        return tuple(event.values())
    return tuple(part for half in event for part in _events(half))


def _confined(event: Any) -> bool:
    """Whether cells of an event, or of a part of it, are known to lie in a range."""
    return any(part.within is not None for part in _events(event))


def _regions_per_row(event: Any) -> bool:
    """Whether rows of an event have regions of their own."""
    return any(part.within is not None and part.within.per_row for part in _events(event))


def _groups(event: Any) -> list[tuple[Tensor, Any]]:
    """Rows whose regions are equal, and their event with one region for all of them."""
    keys = [_edges(part.within) for part in _events(event) if part.within is not None]
    which = torch.cat([key for key in keys if key is not None], 1)
    which = torch.unique(which, dim=0, return_inverse=True)[1]
    rows = [(which == group).nonzero()[:, 0] for group in range(int(which.max()) + 1)]
    return [(index, _with_one_region(event.take(index))) for index in rows]


def _edges(region: Region) -> Tensor | None:
    """(B, E) all that a region says of each row; None where it says the same of all rows."""
    if not region.per_row:
        return None
    allowed = [keep.to(region.low) for keep in region.allowed.values()]
    return torch.cat([region.low, region.high, *allowed], 1)


def _with_one_region(event: Any) -> Any:
    """An event of rows whose regions are equal, with that region for all."""
    if isinstance(event, Event):
        if event.within is None or not event.within.per_row:
            return event
        return event._replace(within=event.within.first())
    if isinstance(event, Record):
        return Record({name: _with_one_region(part) for name, part in event.items()})
    return type(event)(*(_with_one_region(part) for part in event))


def _take(context: Any, rows: Tensor) -> Any:
    return None if context is None else context.take(rows)


def _stacked(parts: list[Any], order: Tensor) -> Any:
    """Complete rows of several events (or pairs) in the order of the question."""
    if isinstance(parts[0], Event):
        return Event(torch.cat([part.value for part in parts])[order])
    if isinstance(parts[0], Record):
        names = list(parts[0])
        return Record({name: _stacked([part[name] for part in parts], order) for name in names})
    halves = zip(*parts, strict=True)
    return type(parts[0])(*(_stacked(list(half), order) for half in halves))


def _is_prefix(event: Event) -> bool:
    """Whether no known cell stands behind an unknown one, and nothing else is known: not that a
    position exists whose value is unknown."""
    mask = event.mask.reshape(event.rows, math.prod(event.value.shape[1:]))
    exists = event.present is not None and bool((event.there & ~event.mask).any())
    return not exists and bool((mask[:, 1:] <= mask[:, :-1]).all())


def _names_a_context(space: Any) -> bool:
    return space is not None and space != RecordSpace()


def _variable_of(space: Any) -> Variable:
    """The one variable of a context: the class."""
    variable: Variable = space.blocks[0].variables[0] if not space.flat else space.variables[0]
    return variable


def _block_of(space: Space) -> Block:
    """The vector block of a flat space: one variable of a context of shape (), or several."""
    shape = space.shape or (1,)
    name = space.variables[0].name if not space.shape else "context"
    return Block(name, "vector", shape, space.variables)
