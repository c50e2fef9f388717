r"""Joint models p(x, y), made of densities and predictors. Each is itself a density, over the pair (y, x).

    Monolithic         p(y, x)         one density in which y is a variable like any other
    ClassConditional   p(y) p(x | y)   a density of x for each class
    Independent        p(y) p(x)       a density of x that knows nothing of y: what a predictor on its features stands on
    Hybrid             p(x) p(y | x)   any density of x beside any predictor: keep your own classifier, add p(x)

Where a joint learns by the gradient, ``emphasis`` e adds e times -log p(y | x) to the loss of a labelled row, which is then
-log p(x) - (1 + e) log p(y | x) (G. Bouchard and B. Triggs (2004), The tradeoff between generative and discriminative classifiers).

What each quantity is worth follows from the parts: see ``Capabilities`` of each class. A y that is not known is summed
out, so unlabelled rows teach p(x). All values are in nats.

Shape letters: B rows, D columns of x, K classes or candidate values of y.
"""

import abc
from typing import Any, final

import torch
from torch import Tensor, nn

from conjoin._shapes import Bool, Float
from conjoin.core import (
    Capabilities,
    CapabilityError,
    Density,
    Event,
    Likelihood,
    Pair,
    PairSpace,
    Space,
    Status,
    Variable,
    categorical,
    seeded,
    stream,
)
from conjoin.events import after_one

__all__ = ["ClassConditional", "Hybrid", "Independent", "Joint", "Monolithic", "Predictor", "build_joint", "flat_space", "trust"]


class Joint(Density):
    """A density over ``Pair(y, x)`` that can also say log p(x, y) for every candidate y at once."""

    space: PairSpace
    emphasis: float = 0.0  # on p(y | x), beyond its share in p(x, y)

    @property
    def target(self) -> Variable:
        return self.space.y.variables[0]

    @final
    def log_joint(self, x: Event, candidates: Tensor | None = None) -> Float[Tensor, "B K"]:
        """log p(x, y) for each candidate y (default: every class). The entry of every decision."""
        if candidates is None:
            if not self.target.discrete:
                raise ValueError(f"{self.target.name!r} is a number: name the candidate values.")
            candidates = torch.arange(self.target.cardinality, dtype=torch.float64)
        return self._log_joint(self.space.x.check(x), candidates)

    @final
    def log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        """log p(y | x) for every class, without log p(x) where that is not needed."""
        return self._log_posterior(self.space.x.check(x))

    @abc.abstractmethod
    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]: ...

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        return self._log_joint(x, torch.arange(self.target.cardinality, dtype=torch.float64)).log_softmax(1)

    @final
    def candidates(self, rows: int) -> list[Event]:
        """Every class in turn, as the y of so many rows."""
        return [Event(torch.full((rows,), float(k), dtype=torch.float64)) for k in range(self.target.cardinality)]

    @final
    def log_evidence(self, x: Event) -> Float[Tensor, " B"]:
        """log p(x): y is missing."""
        return self.log_prob(Pair(self.unknown(x.rows), x))

    @final
    def unknown(self, rows: int) -> Event:
        """A y that is missing in every row."""
        return Event(torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool))

    @property
    @abc.abstractmethod
    def proposer(self) -> "Joint":
        """The joint whose draws of x given y are cheap and plausible, though they need not be quite this one's."""

    @property
    @abc.abstractmethod
    def status(self) -> dict[str, Status]:
        """How far ``log_prob`` (of x), ``predict_proba`` (y given x) and ``sample`` (x given y) can be trusted."""


def trust(density: Density) -> Status:
    """What ``log_prob`` of a density is worth."""
    return {
        Likelihood.EXACT: Status.EXACT,
        Likelihood.LOWER_BOUND: Status.LOWER_BOUND,
        Likelihood.UNNORMALIZED: Status.RELATIVE,
    }[density.capabilities.likelihood]


def flat_space(y: Space, x: Space) -> Space:
    """The space of a monolithic joint: y's variable before those of x (the pixels, if x is an image, are the last ones)."""
    return Space((1 + x.shape[0],), y.variables + x.variables, "vector", x.grid)


class Monolithic(Joint):
    """p(y, x) as one density over the row (y, x): exact wherever that density is."""

    def __init__(self, density: Density, y_space: Space, x_space: Space) -> None:
        super().__init__(PairSpace(y_space, x_space), density.config)
        self.density = density
        self.begun, density.begun = density.begun, {}

    @property
    def capabilities(self) -> Capabilities:
        return self.density.capabilities

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        own = trust(self.density)
        ratio = {Status.LOWER_BOUND: Status.APPROXIMATE, Status.RELATIVE: Status.EXACT}  # bounds differ, a constant cancels
        drawn = own if self.density.capabilities.conditionals in ("any", "prefix") else Status.APPROXIMATE
        return {"log_prob": own, "predict_proba": ratio.get(own, own), "sample": drawn}

    def _row(self, pair: Pair) -> Event:
        value = torch.cat([pair.y.value[:, None].to(pair.x.value), pair.x.value], 1)
        return Event(value, torch.cat([pair.y.mask[:, None], pair.x.mask], 1), within=after_one(pair.x.within))

    def _pair(self, row: Event) -> Pair:
        return Pair(Event(row.value[:, 0]), Event(row.value[:, 1:]))

    def _log_prob(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self.density.log_prob(self._row(event), generator=generator)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.density.log_target(self._row(Pair(self.unknown(x.rows), x)), candidates)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self._pair(self.density.sample(n, generator=generator))

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self._pair(self.density.sample_conditional(self._row(event), generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        return self._pair(self.density.mode(self._row(event)))

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        out = self.density.losses(self._row(event), generator=generator)
        if not self.emphasis or not self.target.discrete:
            return out
        rows = [self._row(Pair(y, event.x)) for y in self.candidates(event.rows)]
        each = torch.stack([self.density.losses(row, generator=generator) for row in rows], 1)
        return out + self.emphasis * _label_loss(-each, event.y)

    def _statistics(self, event: Pair, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        return self.density.statistics(self._row(event), weight=weight)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.density.maximise(statistics)

    def _sweep(self, event: Pair, context: Event | None, weight: Tensor, generator: torch.Generator) -> Tensor:
        return self.density.sweep(self._row(event), weight=weight, generator=generator)

    def _sweep_state(self) -> dict[str, Tensor]:
        return self.density._sweep_state()

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        self.density._restore_sweep(state)

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(self._row(event))

    def _remember(self, event: Pair) -> None:
        self.density.remember(self._row(event))

    def _typicality(self, event: Pair) -> Float[Tensor, " B"]:
        return self.density.typicality(self._row(event))


class ClassConditional(Joint):
    """p(y) p(x | y). Needs a normalised density: an unknown constant per class would decide the class."""

    def __init__(self, density: Density, y_space: Space, smoothing: float = 1.0) -> None:
        super().__init__(PairSpace(y_space, density.space), density.config)
        if density.capabilities.likelihood is Likelihood.UNNORMALIZED:
            raise CapabilityError(type(density).__name__, "class-conditional densities", "an unnormalised likelihood", "Use Hybrid.")
        self.density, self.smoothing = density, smoothing
        self.log_prior = nn.Parameter(torch.zeros(self.target.cardinality, dtype=torch.float64))

    @property
    def capabilities(self) -> Capabilities:
        return self.density.capabilities

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        exact = trust(self.density)
        return {"log_prob": exact, "predict_proba": exact if exact is Status.EXACT else Status.APPROXIMATE, "sample": exact}

    def _classes(self, x: Event, generator: torch.Generator | None = None) -> Float[Tensor, "B K"]:
        """log p(x, k); where log p(x | k) is an estimate, all classes are given the same noise, so that it cancels."""
        able = self.density.capabilities
        if generator is None or not (able.stochastic or able.missing == "bound"):
            return self.log_prior.log_softmax(0) + self.density.log_contexts(x)
        return self._alike(x, generator)

    def _alike(self, x: Event, generator: torch.Generator) -> Float[Tensor, "B K"]:
        """log p(x, k), with the same noise and the same dropout for every class."""
        seed, each = int(torch.randint(0, 1 << 62, (), generator=generator)), []
        for code in self.candidates(x.rows):
            with seeded(stream(seed)):
                each.append(self.density.log_prob(x, code, generator=stream(seed)))
        return self.log_prior.log_softmax(0) + torch.stack(each, 1)

    def _log_prob(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        joint = self._classes(event.x, generator)
        labelled = joint.gather(1, event.y.value.long()[:, None])[:, 0]
        return torch.where(event.y.mask, labelled, joint.logsumexp(1))

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self._classes(x)[:, candidates.long()]

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = Event(categorical(self.log_prior.expand(n, -1), generator).double())
        return Pair(y, self.density.sample(n, y, generator=generator))

    def _label(self, event: Pair, drawn: Tensor) -> Event:
        return Event(torch.where(event.y.mask, event.y.value, drawn.double()))

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = self._label(event, categorical(self._classes(event.x), generator))
        return Pair(y, self.density.sample_conditional(event.x, y, generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        """The best of the classes' own modes: exact where theirs are."""
        every = self.candidates(event.rows)
        filled = torch.stack([self.density.mode(event.x, y).value for y in every], 1)  # (B, K, D)
        joint = torch.stack([self._classes(Event(filled[:, k]))[:, k] for k in range(len(every))], 1)
        y = self._label(event, joint.argmax(1))
        return Pair(y, Event(filled[torch.arange(event.rows), y.value.long()]))

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        """Labelled rows under their own class alone; unlabelled ones summed over classes, or without a class where the density
        learns by a surrogate, which does not add up to a probability."""
        known, out = event.y.mask, torch.zeros(event.rows, dtype=torch.float64)
        if known.any():
            labelled = self._labelled_losses(event.take(known), generator)
            out = out.index_copy(0, known.nonzero()[:, 0], labelled)
        if not known.all():
            x, adds_up = event.x.take(~known), self.density.capabilities.objective == "likelihood"
            losses = -self._by_class(x, generator).logsumexp(1) if adds_up else self.density.losses(x, generator=generator)
            out = out.index_copy(0, (~known).nonzero()[:, 0], losses)
        return out

    def _labelled_losses(self, event: Pair, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        out = self.density.losses(event.x, event.y, generator=generator) - self.log_prior.log_softmax(0)[event.y.value.long()]
        if not self.emphasis:
            return out
        return out + self.emphasis * _label_loss(self._alike(event.x, generator or stream(0, "classes")), event.y)

    def _by_class(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, "B K"]:
        """log p(k) less the loss of x under class k."""
        each = [self.density.losses(x, code, generator=generator) for code in self.candidates(x.rows)]
        return self.log_prior.log_softmax(0) - torch.stack(each, 1)

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(event.x)

    def _statistics(self, event: Pair, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        """An unlabelled row counts for every class, by p(y | x)."""
        classes = self.target.cardinality
        total = (weight * self._log_prob(event, None, None)).sum()
        hot = torch.nn.functional.one_hot(event.y.value.long(), classes).double()
        share = weight[:, None] * torch.where(event.y.mask[:, None], hot, self._classes(event.x).softmax(1))
        rows, labels = share.nonzero(as_tuple=True)
        out = self.density.statistics(event.x.take(rows), Event(labels.double()), weight=share[rows, labels])
        return {f"x.{key}": value for key, value in out.items()} | {"prior": share.sum(0), "log_prob": total}

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.log_prior.copy_((statistics["prior"] + self.smoothing).log().log_softmax(0))
        self.density.maximise({key[2:]: value for key, value in statistics.items() if key.startswith("x.")})


def _label_loss(log_joint: Float[Tensor, "B K"], y: Event) -> Float[Tensor, " B"]:
    """-log p(y | x) of labelled rows, 0 of the others."""
    return torch.where(y.mask, -log_joint.log_softmax(1).gather(1, y.value.long()[:, None])[:, 0], 0.0)


class Independent(Joint):
    """p(y) p(x): the base of a predictor that has all to say about y."""

    def __init__(self, density: Density, y_space: Space) -> None:
        super().__init__(PairSpace(y_space, density.space), density.config)
        self.density = density
        self.log_prior = nn.Parameter(torch.zeros(self.target.cardinality, dtype=torch.float64))

    @property
    def capabilities(self) -> Capabilities:
        return self.density.capabilities

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        return {"log_prob": trust(self.density), "predict_proba": Status.EXACT, "sample": trust(self.density)}

    def _log_label(self, y: Event) -> Float[Tensor, " B"]:
        return torch.where(y.mask, self.log_prior.log_softmax(0)[y.value.long()], 0.0)

    def _log_prob(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self.density.log_prob(event.x, generator=generator) + self._log_label(event.y)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.density.log_prob(x)[:, None] + self.log_prior.log_softmax(0)[candidates.long()]

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self.density.losses(event.x, generator=generator) - self._log_label(event.y)

    def _labels(self, y: Event, generator: torch.Generator | None) -> Event:
        drawn = categorical(self.log_prior.expand(y.rows, -1), generator).double()
        return Event(torch.where(y.mask, y.value, drawn))

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return Pair(self._labels(self.unknown(n), generator), self.density.sample(n, generator=generator))

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        return Pair(self._labels(event.y, generator), self.density.sample_conditional(event.x, generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        best = torch.where(event.y.mask, event.y.value, self.log_prior.argmax().double())
        return Pair(Event(best), self.density.mode(event.x))

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(event.x)


class Predictor(nn.Module, abc.ABC):
    """p(y | x): a module that sees events. Missing cells of x are its own business."""

    @abc.abstractmethod
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """log p(y | x) of K candidates for each row, nats."""

    @abc.abstractmethod
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Whether the predictor has learned from rows with such cells missing; elsewhere it has nothing to say."""

    @abc.abstractmethod
    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        """One y per row; without a generator, the best guess."""


PROPOSALS = 64  # draws per row from which the hybrid's conditional sampler chooses
FEWER = 8  # as many where each of the base's own draws is a choice among many already


class Hybrid(Joint):
    """p(x) p(y | x). p(x) is that of ``base``, a joint whose own y is summed out; p(y | x) is the predictor's.

    Where cells are missing that the predictor never saw missing, p(y | x) is the base's, which sums them out. log p(x) keeps
    the status of the base, p(y | x) is exact (it is the predictor's word), and p(x | y) is approximate:
    draws of the base are chosen by importance resampling (D. Rubin (1987), A noniterative sampling/importance resampling
    alternative). Half of them ignore y, so that the weights stay bounded where base and predictor disagree (T. Hesterberg
    (1995), Weighted average importance sampling, section 2). The effective sample size of the last draw is in ``effective_draws``.
    """

    def __init__(self, base: Joint, predictor: Predictor) -> None:
        super().__init__(base.space, base.config)
        self.base, self.predictor = base, predictor
        self.effective_draws: float | None = None

    @property
    def capabilities(self) -> Capabilities:
        base = self.base.capabilities
        return Capabilities(
            base.likelihood,
            objective=base.objective,
            stochastic=base.stochastic,
            missing="none" if base.missing == "none" else "approximate",
            conditionals="none" if base.conditionals == "none" else "approximate",
            regions=base.regions,
            edits=base.edits,
            mode="none" if base.mode == "none" else "approximate",
        )

    @property
    def status(self) -> dict[str, Status]:
        return {"log_prob": self.base.status["log_prob"], "predict_proba": Status.EXACT, "sample": Status.APPROXIMATE}

    @property
    def proposer(self) -> Joint:
        return self.base

    def _log_prob(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        if not event.y.mask.any():
            return self.base.log_evidence(event.x)
        evidence = self.base.log_evidence(event.x)
        label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        covered = self.predictor.covers(event.x)
        if not covered.all():
            label = torch.where(covered, label, self.base.log_prob(event) - evidence)
        return evidence + torch.where(event.y.mask, label, torch.zeros_like(label))

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        """Of p(x) without its y, and of p(y | x) where y is known."""
        with seeded(generator or stream(0, "label")):  # a predictor on the features of a network has its dropout
            label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        known = event.y.mask & self.predictor.covers(event.x)
        whole = self.base.losses(Pair(event.y.hide(known), event.x), generator=generator)
        return whole - torch.where(known, (1 + self.emphasis) * label, 0.0)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        joint = self.base.log_evidence(x)[:, None] + self.predictor.log_prob(x, candidates.expand(x.rows, -1))
        covered = self.predictor.covers(x)
        return joint if covered.all() else torch.where(covered[:, None], joint, self.base.log_joint(x, candidates))

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        if not self.predictor.covers(x).all():
            return super()._log_posterior(x)
        return self.predictor.log_prob(x, torch.arange(self.target.cardinality, dtype=torch.float64).expand(x.rows, -1)).log_softmax(1)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        x = self.base.sample(n, generator=generator).x
        return Pair(Event(self.predictor.draw(x, generator)), x)

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        """Without any y the base's own conditional is p(x_missing | x_observed). Where y is known, each row is chosen from
        ``PROPOSALS`` draws of the base, every other one made without y."""
        if not event.y.mask.any():
            return self._with_label(event, self.base.sample_conditional(event, generator=generator).x, generator)
        proposals = PROPOSALS if self.base.capabilities.conditionals == "any" else FEWER
        many = event.take(torch.arange(event.rows).repeat_interleave(proposals))
        blind = (torch.arange(many.rows) % 2).bool()
        x = self.base.sample_conditional(many._replace(y=many.y.hide(blind)), generator=generator).x
        weight = torch.where(many.y.mask, self._log_weight(many, x), 0.0).reshape(event.rows, proposals)
        self.effective_draws = float((1 / weight.softmax(1).square().sum(1)).mean()) if event.rows else None
        chosen = x.value.reshape(event.rows, proposals, -1)[torch.arange(event.rows), categorical(weight, generator)]
        return self._with_label(event, Event(chosen), generator)

    def _log_weight(self, event: Pair, x: Event) -> Float[Tensor, " B"]:
        """log of p(x) p(y | x) over the proposals' p_base(x) (p_base(y | x) / p_base(y) + 1), given what is known of x."""
        before = self.base.log_prob(event) - self.base.log_evidence(event.x)
        after = self.base.log_prob(Pair(event.y, x)) - self.base.log_evidence(x)
        return self.predictor.log_prob(x, event.y.value[:, None])[:, 0] - torch.logaddexp(after - before, torch.zeros_like(after))

    def _with_label(self, event: Pair, x: Event, generator: torch.Generator | None) -> Pair:
        return Pair(Event(torch.where(event.y.mask, event.y.value, self.predictor.draw(x, generator))), x)

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        """The base's mode; where y is known and cells of x are not, the best of it and of ``PROPOSALS`` draws."""
        best = self._with_label(event, self.base.mode(event).x, None)
        for row in (event.y.mask & ~event.x.mask.all(1)).nonzero()[:, 0].tolist():
            many = event.take(torch.full((PROPOSALS,), row))
            y = many.y.hide(torch.arange(PROPOSALS) % 2 > 0)
            x = self.base.sample_conditional(many._replace(y=y), generator=stream(0, "mode")).x.value
            x = torch.cat([best.x.value[row : row + 1], x])
            log_prob = self._log_prob(Pair(best.y.take(torch.full((len(x),), row)), Event(x)), None, None)
            best.x.value[row] = x[log_prob.argmax()]
        return best


def build_joint(
    config: Any,
    y_space: Space,
    x_space: Space,
    data: Pair,
    generator: torch.Generator,
    weight: Tensor | None = None,
    build: Any = None,
) -> Joint:
    """The joint that a family's own nature asks for: p(y) p(x | y) if it takes a context, else one density over (y, x). ``build``: in
    place of that of the family."""
    build = build or config.density.build
    if y_space.variables[0].discrete and config.density.conditional:
        x_density = build(x_space, config, data.x, generator, weight=weight, context=data.y, context_space=y_space)
        return ClassConditional(x_density, y_space)
    space = flat_space(y_space, x_space)
    value = torch.cat([data.y.value[:, None], data.x.value], 1)
    rows = Event(value, torch.cat([data.y.mask[:, None], data.x.mask], 1))
    return Monolithic(build(space, config, rows, generator, weight=weight), y_space, x_space)
