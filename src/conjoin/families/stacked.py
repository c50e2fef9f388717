r"""Several families, each fitted to the same rows, mixed by weights that validation rows choose.

    p(x) = sum_m w_m p_m(x)

P. Smyth and D. Wolpert (1999), Linearly combining density estimators via stacking, section 3: the
weights are those of a mixture with fixed components, found by expectation-maximisation on rows that
taught none of them. Each member learns by itself, as it would alone. What is not worth its place
goes: a member of little weight, and all members that can't leave missing cells out exactly, where
the others are as good without them.

A mixture of densities is a density. log p is a logarithm of a sum, a draw is one of a member's, and
given the known cells x_o a member counts w_m p_m(x_o): so marginals and conditionals are exact
where they are exact in all members, and are declared as what the weakest is worth elsewhere. Where
the first variable, y of a joint model, is a missing category, a member without exact marginals
sums over its levels. Values are in nats.

Shape letters: B rows, D variables, M members, K levels of the first variable.

>>> from conjoin.core import Variable
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> stack = StackedDensity.build(space, Stacked("naive_bayes+mixture"), data, stream(0))
>>> [described["family"] for described in stack.structure["members"]]
['naive_bayes', 'mixture']
"""

import time
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from conjoin.components.mixing import mixture_weights
from conjoin.core import (
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Space,
    Status,
    categorical,
    stream,
)
from conjoin.core.capabilities import status_of, worst
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float
from conjoin.families import describe_family, name_of, resolve, restored
from conjoin.families.circuit.latent_tree import Circuit
from conjoin.families.classic.gaussian_mixture import gaussian_columns

__all__ = ["Stacked", "StackedDensity"]

EM_ROUNDS = 300  # for the weights
MIN_WEIGHT = 0.02  # of a member that stays
MIN_GAIN_NATS = 0.02  # a row, for which exact marginals are given up
MAX_SUMMED_LEVELS = 64  # of the first variable
MIN_GAUSSIAN_COLUMNS = 2  # numbers that may hang together, for mixtures of Gaussians to be tried
MIN_GAUSSIAN_SHARE = 0.5  # of all columns
# whose components keep more, or less, to the shape that they have in common
GAUSSIANS = ("gaussian_mixture", "gaussian_mixture:shrinkage=1.0,rows_per_column=1.5")
MAX_FOREST_COLUMNS = 64  # beyond, a forest for each column takes long


@dataclass(frozen=True)
class Stacked(Config):
    """Settings of the mixture of families.

    Parameters
    ----------
    members : str or None, default None
        Names of families, joined by "+", such as "circuit+flow"; None takes those that suit the
        table.
    """

    members: str | None = None

    def suited(self, space: Space) -> Config:
        """Pictures get the circuit, or what it hands them to."""
        return Circuit().suited(space) if space.pixels else self

    def beside_blocks(self) -> Config:
        """The circuit: it is told of every pattern of missing cells exactly."""
        return Circuit()

    def streamed(self) -> Config:
        """The circuit alone: it learns from rows that memory does not hold."""
        return Circuit().streamed()

    def names(self, space: Space, data: Event, weight: Float[Tensor, " B"]) -> list[str]:
        """The families that are tried for such rows, those with exact marginals first."""
        if self.members is not None:
            return [name.strip() for name in self.members.split("+")]
        out = ["circuit"]
        joint = len(gaussian_columns(space, data, weight))
        if joint >= max(MIN_GAUSSIAN_COLUMNS, MIN_GAUSSIAN_SHARE * len(space.variables)):
            out += GAUSSIANS
        if len(space.variables) <= MAX_FOREST_COLUMNS:
            # y of a joint model may be missing: a number that comes last is left out exactly
            out += ["forest" if space.variables[0].nominal else "forest:reverse=True"]
        return out


class StackedDensity(Density):
    """What it can do is what all of its members can."""

    config_class = Stacked
    bounded = True
    log_weight: Tensor

    def __init__(
        self,
        space: Space,
        config: Stacked,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        described = self.structure["members"]
        self.members = nn.ModuleList(
            restored(each, type(resolve(each["family"])), space) for each in described
        )
        equal = torch.full((len(described),), 1 / len(described), dtype=torch.float64)
        self.register_buffer("log_weight", equal.log())
        self.seconds = [0.0] * len(described)  # that building each member took

    @classmethod
    def build(
        cls,
        space: Space,
        config: Stacked,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """The members, none of which has learned more than its own ``build`` teaches it."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        built = []
        seconds = []
        for name in config.names(space, data, weight):
            own = _config_of(name, space)
            began = time.monotonic()
            noise = stream(draw_seed(generator))
            built.append(own.density.build(space, own, data, noise, weight=weight))
            seconds.append(time.monotonic() - began)
        density = cls(space, config, {"members": [describe_family(each) for each in built]})
        density.members = nn.ModuleList(built)
        density.seconds = seconds
        return density.eval()

    @property
    def each(self) -> list[Density]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]

    @property
    def capabilities(self) -> Capabilities:
        able = [member.capabilities for member in self.each]
        exact = all(one.likelihood is Likelihood.EXACT for one in able)
        known = {one.missing for one in able}
        missing: Literal["exact", "bound", "approximate"] = "approximate"
        missing = "bound" if known <= {"exact", "bound"} else missing
        missing = "exact" if known == {"exact"} else missing
        every = all(one.marginals == "any" for one in able)
        given = all(one.conditionals == "any" for one in able)
        return Capabilities(
            Likelihood.EXACT if exact else Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=any(one.stochastic for one in able),
            missing=missing,
            marginals="any" if every else "none",
            conditionals="any" if given else "approximate",
            regions=all(one.regions for one in able),
            mode="approximate",
            even=len(able) == 1 and able[0].even,
        )

    # ------------------------------------------------------------------ what each member says

    def _weighed(self, event: Event, generator: torch.Generator | None) -> Float[Tensor, "B M"]:
        """log w_m p_m(what is known); every member has noise of its own."""
        seed = None if generator is None else draw_seed(generator)
        each = [
            self._of(member, event, None if seed is None else stream(seed, place))
            for place, member in enumerate(self.each)
        ]
        return self.log_weight + torch.stack(each, 1)

    def _of(
        self, member: Density, event: Event, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """log p of one member, summed over the first variable where that makes it exact. All rows
        have the same noise, whatever stands beside them."""
        seed = None if generator is None else draw_seed(generator)

        def ask(part: Event) -> Tensor:
            noise = None if seed is None else stream(seed)
            return member.log_prob(part, generator=noise)

        summed = self._sums_over_first(member, event)
        if not bool(summed.any()):
            return ask(event)
        rows = summed.nonzero()[:, 0]
        others = (~summed).nonzero()[:, 0]
        levels = self.space.variables[0].cardinality
        many = _with_first(event.take(rows.repeat_interleave(levels)), torch.arange(levels))
        found = ask(many).reshape(-1, levels).logsumexp(1)
        rest = ask(event.take(others)) if len(others) else found[:0]
        return torch.cat([found, rest])[torch.cat([rows, others]).argsort()]

    def _sums_over_first(self, member: Density, event: Event) -> Bool[Tensor, " B"]:
        """Rows whose first variable is missing, beside others that are known."""
        first = self.space.variables[0]
        free = event.within is None or not bool(event.within.constrained[..., 0].any())
        able = first.nominal and first.cardinality <= MAX_SUMMED_LEVELS and free
        if member.capabilities.missing == "exact" or not able:
            return torch.zeros(event.rows, dtype=torch.bool)
        return ~event.mask[:, 0] & event.mask.any(1)

    # ------------------------------------------------------------------ hooks

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._weighed(event, generator).logsumexp(1)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        each = torch.stack([member.log_target(event, candidates) for member in self.each])
        return (self.log_weight[:, None, None] + each).logsumexp(0)

    def _status_of(self, event: Event) -> Status:
        own = [status_of(self.capabilities.likelihood)]
        for member in self.each:
            summed = self._sums_over_first(member, event)
            known = event.mask.clone()
            known[:, 0] |= summed
            own.append(member.status_of(event._replace(observed=known)))
        return worst(*own)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        """Each row from one member; a member that draws evenly and is alone spreads them all."""
        if len(self.each) == 1:
            alone: Event = self.each[0].sample(n, generator=generator)
            return alone
        drawn = categorical(self.log_weight.expand(n, -1), generator)
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        for place, member in enumerate(self.each):
            rows = (drawn == place).nonzero()[:, 0]
            value[rows] = member.sample(len(rows), generator=generator).value
        return Event(value)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        drawn = categorical(self._weighed(event, None), generator)
        value = event.value.clone()
        for place, member in enumerate(self.each):
            rows = (drawn == place).nonzero()[:, 0]
            if len(rows):
                some = member.sample_conditional(event.take(rows), generator=generator)
                value[rows] = some.value
        return Event(value)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the members' own."""
        found = torch.stack([member.mode(event).value for member in self.each])
        log_p = torch.stack([self._log_prob(Event(value), None, None) for value in found])
        return Event(found[log_p.argmax(0), torch.arange(event.rows)])

    def notices(self, event: Event) -> list[str]:
        return [sentence for member in self.each for sentence in member.notices(event)]

    # ------------------------------------------------------------------ learning

    def _members(self) -> dict[str, Density]:
        return {_key(place, member): member for place, member in enumerate(self.each)}

    def _weigh_members(self, choose: Event | None) -> list[dict[str, Any]]:
        """Weights by the validation rows; without any, all stay equal."""
        told: list[dict[str, Any]] = [
            {"family": name_of(member.config), "seconds": seconds}
            for member, seconds in zip(self.each, self.seconds, strict=True)
        ]
        if choose is None or not choose.rows:
            for each in told:
                each["weight"] = 1 / len(told)
            return told
        noise = [stream(0, "weights", place) for place in range(len(told))]
        log_p = torch.stack(
            [self._of(*each) for each in zip(self.each, [choose] * len(told), noise, strict=True)],
            1,
        )
        weight = self._chosen(log_p)
        for place, each in enumerate(told):
            each |= {"log_prob": float(log_p[:, place].mean()), "weight": float(weight[place])}
        self._keep(weight)
        return told

    def _chosen(self, log_p: Float[Tensor, "B M"]) -> Float[Tensor, " M"]:
        """The weights: of the members with exact marginals alone, where the others gain less than
        a standard error or ``MIN_GAIN_NATS``."""
        every = torch.ones(log_p.shape[1], dtype=torch.bool)
        weight = _weights(log_p, every)
        exact = torch.tensor([member.capabilities.marginals == "any" for member in self.each])
        if bool(exact.all()) or not bool(exact.any()):
            return weight
        fewer = _weights(log_p, exact)
        gain = (weight.log() + log_p).logsumexp(1) - (fewer.log() + log_p).logsumexp(1)
        error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        return weight if float(gain.mean()) > max(error, MIN_GAIN_NATS) else fewer

    def _keep(self, weight: Float[Tensor, " M"]) -> None:
        """Only the members that have a weight."""
        kept = (weight > 0).nonzero()[:, 0].tolist()
        members = [self.each[place] for place in kept]
        self.members = nn.ModuleList(members)
        self.seconds = [self.seconds[place] for place in kept]
        self.structure = {"members": [describe_family(each) for each in members]}
        self.log_weight = weight[kept].log().to(self.log_weight.device)


def _config_of(name: str, space: Space) -> Any:
    """The config of a member; ValueError for a family that can't be one."""
    config = resolve(name)
    kind = config.density
    if not kind.flat or kind.takes_blocks:
        raise ValueError(f"members={name!r} can't be mixed with others: it models no plain rows.")
    return config.suited(space)


def _key(place: int, member: Density) -> str:
    """What a member is called while it learns, and in checkpoints."""
    return f"{place + 1} {name_of(member.config)}"


def _with_first(event: Event, levels: Tensor) -> Event:
    """The rows with their first variable set to each of the levels in turn."""
    value = event.value.clone()
    value[:, 0] = levels.to(value).repeat(event.rows // len(levels))
    mask = event.mask.clone()
    mask[:, 0] = True
    return event._replace(value=value, observed=mask)


def _weights(log_p: Float[Tensor, "B M"], tried: Bool[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The weights that maximise the mean log p of the mixture, found again without the members
    whose weight is small; 0 of those that are not tried."""
    out = _mixed(log_p, tried)
    while bool(((out > 0) & (out < MIN_WEIGHT)).any()):
        out = _mixed(log_p, out >= MIN_WEIGHT)
    return out


def _mixed(log_p: Float[Tensor, "B M"], tried: Bool[Tensor, " M"]) -> Float[Tensor, " M"]:
    out = torch.zeros(len(tried), dtype=torch.float64)
    rows = torch.ones(len(log_p), dtype=torch.float64)
    out[tried] = mixture_weights(log_p[:, tried], rows, EM_ROUNDS)
    return out
