"""p(x) p(y | x): any density of x beside any predictor."""

import abc
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.core import (
    Capabilities,
    CapabilityError,
    Density,
    Edit,
    Event,
    Pair,
    Status,
    categorical,
    seeded,
    stream,
)
from conjoin.core.device import device_of
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint, Rebuild
from conjoin.joints.resampling import chosen_by, log_labels

__all__ = ["Hybrid", "Predictor"]


class Predictor(nn.Module, abc.ABC):
    """p(y | x): a module that sees events. Missing cells of x are its own business."""

    @abc.abstractmethod
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """log p(y | x) of K candidates for each row, nats."""

    @abc.abstractmethod
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Whether the predictor has learned from rows with such cells missing; elsewhere it has
        nothing to say."""

    @abc.abstractmethod
    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        """One y per row; without a generator, the best guess."""

    def describe(self) -> dict[str, Any]:
        """All but the weights, as JSON; ValueError for what can't be saved."""
        raise ValueError(f"The predictor {type(self).__name__} can't be saved: it has no describe.")

    def scores_of_frame(self, frame: Any, x: Event) -> Float[Tensor, "B K"] | None:
        """Logits of rows as the user gave them, at the predictor's temperature, where it sees those
        rather than the events ``x`` of the same rows."""
        return None

    @property
    def features_head(self) -> Any:
        """The layer that stands on the features of a density; None where none does."""
        return None


PROPOSALS_PER_ROW = 64  # draws per row from which the hybrid's conditional sampler chooses

PROPOSALS_IF_RESAMPLED = (
    8  # as many where each of the base's own draws is a choice among many already
)


class Hybrid(Joint):
    """p(x) p(y | x). p(x) is that of ``base``, a joint whose own y is summed out; p(y | x) is the
    predictor's.

    Where cells are missing that the predictor never saw missing, p(y | x) is the base's, which sums
    them out. log p(x) keeps the status of the base, p(y | x) is exact (it is the predictor's word),
    and p(x | y) is approximate: draws of the base are chosen by importance resampling (D. Rubin
    (1987), A noniterative sampling/importance resampling alternative). Half of them ignore y, so
    that the weights stay bounded where base and predictor disagree (T. Hesterberg (1995), Weighted
    average importance sampling, section 2). The effective sample size of the last draw is in
    ``effective_draws``."""

    kind = "hybrid"

    def __init__(self, base: Joint, predictor: Predictor) -> None:
        super().__init__(base.space, base.config)
        self.base = base
        self.predictor = predictor.to(device_of(base))
        self.effective_draws: float | None = None

    def describe(self) -> dict[str, Any]:
        base = self.base.describe()
        return {"kind": self.kind, "base": base, "predictor": self.predictor.describe()}

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> Self:
        base = rebuild.joint(described["base"])
        return cls(base, rebuild.predictor(described["predictor"], base))

    @property
    def density_of_x(self) -> Density:
        return self.base.density_of_x

    @property
    def family_density(self) -> Density:
        return self.base.family_density

    def reader_of(self, column: int = 0) -> Any:
        return self.base.reader_of(column)

    def about(self, x: Event) -> Event | Pair:
        return self.base.about(x)

    @property
    def separate_predictor(self) -> Predictor:
        return self.predictor

    @property
    def shared_head(self) -> Any:
        """Where the base knows nothing of y, the features were learned for both."""
        return self.predictor.features_head if self.base.ignores_label else None

    @property
    def label_prior(self) -> Tensor | None:
        return self.base.label_prior

    @property
    def capabilities(self) -> Capabilities:
        base = self.base.capabilities
        return Capabilities(
            base.likelihood,
            objective=base.objective,
            stochastic=base.stochastic,
            missing="none" if base.missing == "none" else "approximate",
            conditionals="approximate" if self._weighs(base) else "none",
            regions=base.regions,
            edits=base.edits,
            mode="none" if base.mode == "none" else "approximate",
            even=base.even,
        )

    def _weighs(self, able: Capabilities) -> bool:
        """Whether draws of the base can be weighed: where parts of x are missing, by its own p(y |
        what is known of x)."""
        known = able.missing != "none" or able.marginals == "prefix" or self.base.ignores_label
        return able.conditionals != "none" and known

    @property
    def status(self) -> dict[str, Status]:
        return {
            "log_prob": self.base.status["log_prob"],
            "predict_proba": Status.EXACT,
            "sample": Status.APPROXIMATE,
        }

    @property
    def proposer(self) -> Joint:
        return self.base

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        if not event.y.mask.any():
            return self.base.log_evidence(event.x)
        evidence = self.base.log_evidence(event.x)
        return evidence + self._label(event, evidence)

    def _label(self, event: Pair, evidence: Tensor | None) -> Float[Tensor, " B"]:
        """log p(y | x), 0 where y is not known; log p(x) is of use to a base that knows y."""
        label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        covered = self.predictor.covers(event.x)
        if not covered.all():
            own = (
                self.base.log_label_given(event)
                if evidence is None or self.base.ignores_label
                else self.base.log_prob(event) - evidence
            )
            label = torch.where(covered, label, own)
        return torch.where(event.y.mask, label, torch.zeros_like(label))

    def _log_label_given(self, event: Pair) -> Float[Tensor, " B"]:
        """Without log p(x), which is slow, where the base knows nothing of y."""
        if not self._knows_nothing:
            return super()._log_label_given(event)
        return self._label(event, None)

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Of p(x) without its y, and of p(y | x) where y is known."""
        # a predictor on the features of a network has its dropout
        with seeded(generator or stream(0, "label")):
            label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        known = event.y.mask & self.predictor.covers(event.x)
        whole = self.base.losses(Pair(event.y.hide(known), event.x), generator=generator)
        return whole - torch.where(known, (1 + self.emphasis) * label, 0.0)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        joint = self.base.log_evidence(x)[:, None] + self.predictor.log_prob(
            x, candidates.expand(x.rows, -1)
        )
        covered = self.predictor.covers(x)
        return (
            joint
            if covered.all()
            else torch.where(covered[:, None], joint, self.base.log_joint(x, candidates))
        )

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        if not self.predictor.covers(x).all():
            return super()._log_posterior(x)
        return self.predictor.log_prob(
            x, torch.arange(self.target.cardinality, dtype=torch.float64).expand(x.rows, -1)
        ).log_softmax(1)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        x = self.base.sample(n, generator=generator).x
        return Pair(Event(self.predictor.draw(x, generator)), x)

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        """Without any y the base's own conditional is p(x_missing | x_observed). If y is known,
        each row is chosen from ``PROPOSALS_PER_ROW`` draws of the base, half of them without y;
        strings, which take a step for each token, are the base's own draws, and so are rows of
        which it has no log p: pictures that are known in part. Rows of which the same is known
        share the proposals of a base that knows nothing of y, if its network is read for p(y | x):
        see ``conjoin.joints.resampling``."""
        if event.y.mask.all() and self._knows_nothing and _alike(event.x):
            return self._chosen_together(event, generator)
        if not event.y.mask.any() or self._token_by_token or not self._has_log_prob(event):
            return self._with_label(
                event, self.base.sample_conditional(event, generator=generator).x, generator
            )
        proposals = (
            PROPOSALS_PER_ROW
            if self.base.capabilities.conditionals == "any"
            else PROPOSALS_IF_RESAMPLED
        )
        many = event.take(torch.arange(event.rows).repeat_interleave(proposals))
        blind = (torch.arange(many.rows) % 2).bool()
        x = self.base.sample_conditional(many._replace(y=many.y.hide(blind)), generator=generator).x
        weight = torch.where(many.y.mask, self._log_weight(many, x), 0.0).reshape(
            event.rows, proposals
        )
        self.effective_draws = (
            float((1 / weight.softmax(1).square().sum(1)).mean()) if event.rows else None
        )
        first = proposals * torch.arange(event.rows)
        return self._with_label(event, x.take(first + categorical(weight, generator)), generator)

    def _has_log_prob(self, event: Pair) -> bool:
        try:
            self.base.log_evidence(event.x)
        except CapabilityError:
            return False
        return True

    @property
    def _knows_nothing(self) -> bool:
        return self.base.ignores_label and self.density_of_x.read_by_network

    def _chosen_together(self, event: Pair, generator: torch.Generator | None) -> Pair:
        """Rows with their y, chosen from the same proposals."""
        known = event.x.take(slice(0, 1))

        def draw(count: int) -> Event:
            rows = known.take(torch.zeros(count, dtype=torch.int64))
            own = Pair(self.base.unknown(count), rows)
            drawn: Event = self.base.sample_conditional(own, generator=generator).x
            return drawn

        def weigh(x: Event, rows: slice) -> Tensor:
            values, place = torch.unique(event.y.value[rows], return_inverse=True)
            return log_labels(self.base, self.predictor, x, values).T[place]

        stacked = self.space.x.laid.stacked
        found = chosen_by(weigh, draw, stacked, event.rows, generator)
        self.effective_draws = found.effective
        return Pair(event.y, found.x)

    @property
    def _token_by_token(self) -> bool:
        return self.base.capabilities.conditionals == "prefix"

    def _log_weight(self, event: Pair, x: Event) -> Float[Tensor, " B"]:
        """log of p(x) p(y | x) over the proposals' p_base(x) (p_base(y | x) / p_base(y) + 1), given
        what is known of x."""
        gain = self._gain(event, x)
        return self.predictor.log_prob(x, event.y.value[:, None])[:, 0] - torch.logaddexp(
            gain, torch.zeros_like(gain)
        )

    def _gain(self, event: Pair, x: Event) -> Float[Tensor, " B"]:
        """log p_base(y | x) - log p_base(y | what is known of x)."""
        if self.base.capabilities.missing == "none":  # a base that ignores y, see ``_weighs``
            return torch.zeros(event.rows, dtype=torch.float64)
        before = self.base.log_prob(event) - self.base.log_evidence(event.x)
        return self.base.log_prob(Pair(event.y, x)) - self.base.log_evidence(x) - before

    def _with_label(self, event: Pair, x: Event, generator: torch.Generator | None) -> Pair:
        return Pair(
            Event(torch.where(event.y.mask, event.y.value, self.predictor.draw(x, generator))), x
        )

    def _edit(self, event: Pair, context: Event | None, how: Edit) -> Pair:
        """As the base paints what it takes the label to look like."""
        out: Pair = self.base.edit(event, how=how)
        return out

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        """The base's mode; where y is known and cells of x are not, the best of it and of
        ``PROPOSALS_PER_ROW`` draws."""
        best = self._with_label(event, self.base.mode(event).x, None)
        if self._token_by_token:
            return best
        for row in (event.y.mask & ~event.x.mask.all(1)).nonzero()[:, 0].tolist():
            many = event.take(torch.full((PROPOSALS_PER_ROW,), row))
            y = many.y.hide(torch.arange(PROPOSALS_PER_ROW) % 2 > 0)
            x = self.base.sample_conditional(
                many._replace(y=y), generator=stream(0, "mode")
            ).x.value
            x = torch.cat([best.x.value[row : row + 1], x])
            log_prob = self._log_prob(
                Pair(best.y.take(torch.full((len(x),), row)), Event(x)), None, None
            )
            best.x.value[row] = x[log_prob.argmax()]
        return best


def _alike(x: Event) -> bool:
    """Whether the same is known of every row, at least one."""
    parts = [x.value, x.mask, x.there]
    return x.rows > 0 and all(bool((part == part[:1]).all()) for part in parts)
