"""A fitted joint model with all that its answers need: the codec, the densities, the target, the
calibration."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.calibration.answers import AnswerCalibration
from conjoin.calibration.centre_means import CentreMeans, learn_centre_means
from conjoin.calibration.conformal import Calibration
from conjoin.calibration.familiarity import (
    MIN_REFERENCE_ROWS,
    Familiarity,
    FamiliarityOfBlocks,
    GaussianReading,
    LeastFamiliarPart,
    OwnFamiliarity,
    reference_of,
)
from conjoin.calibration.readings import (
    KERNELS,
    JoinedFamiliarity,
    Readings,
    learn_kernels,
    learn_readings,
)
from conjoin.core import (
    CapabilityError,
    Codec,
    Density,
    Encoded,
    Event,
    Pair,
    Rows,
    Space,
    Status,
    as_float,
    categorical,
    stream,
)
from conjoin.core.capabilities import worst
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.core.warnings import ColumnWarning
from conjoin.joints.base import Joint, trust
from conjoin.model.state import READINGS, State, join_facts
from conjoin.model.sums import Completions, completed
from conjoin.model.targets import Classes, Number, Target

__all__ = ["Model", "notices_of"]

CHUNK_ROWS = 4096  # rows evaluated at once
MAX_CHUNK_CELLS = 1 << 22  # cells of them, at most, where they are bytes
# rows of the fit, and cells of them, that a statistic of familiarity sees of pictures
MIN_PICTURES_SEEN = 1000
MAX_TYPICALITY_CELLS = 1 << 25
PARTS = (
    "codec",
    "joint",
    "target",
    "calibration",
    "state",
    "card",
    "readings",
    "centre_means",
    "answers",
)
BANK_ROWS = 256  # rows that the model draws for itself, to know what is typical
BANK_ROWS_IF_SLOW = (
    40  # of them where each answer about an incomplete row takes many calls of a network
)


def notices_of(model: Any) -> list[str]:
    """Those of the fit, then those of the columns, of a model of one target or of several."""
    return list(dict.fromkeys([*model.card.get("notices", ()), *model.codec.notices]))


@dataclass
class Model:
    """A fitted model: codec, density, target, calibration, state and card.

    ``joint`` is a Joint if there is a target, else a Density. ``state`` holds what else the answers
    depend on. ``card`` holds facts of the fit: versions, hashes, metrics, energy."""

    codec: Codec
    joint: Density
    target: Target | None = None
    calibration: Calibration | None = None
    state: State = field(default_factory=State)
    card: dict[str, Any] = field(default_factory=dict)
    # of familiarity, beside log p(x); None: a Gaussian's, which is added
    readings: Readings | None = None
    # of columns in which means about centres help to fill in missing cells; None: of no column
    centre_means: CentreMeans | None = None
    # of a model of texts: how far its answers to questions can be trusted; None: not known
    answers: AnswerCalibration | None = None

    # ------------------------------------------------------------------ parts

    @property
    def facts(self) -> dict[str, Any]:
        """State and card together, as config.json stores them: to be read, not written."""
        return join_facts(self.state, self.card)

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the fit and of the columns, one sentence each."""
        return notices_of(self)

    @property
    def pair(self) -> Joint:
        """The joint; CapabilityError where there is no target."""
        if self.target is None:
            raise CapabilityError(
                "JointDensity",
                "a question about y",
                "no target",
                "Use JointClassifier or JointRegressor.",
            )
        return self.joint  # type: ignore[return-value]

    @property
    def has_classes(self) -> bool:
        """Whether the answers are labels, which are right or wrong; without a target they are
        not."""
        return self.target is not None and self.target.discrete

    @property
    def has_number(self) -> bool:
        """Whether the answer is a number, which lies in an interval or not; without a target it is
        none."""
        return self.target is not None and not self.target.discrete

    @property
    def classes(self) -> Classes:
        if not isinstance(self.target, Classes):
            raise CapabilityError(
                "This model",
                "class probabilities",
                "no classes as its target",
                "Use JointClassifier.",
            )
        return self.target

    @property
    def number(self) -> Number:
        if not isinstance(self.target, Number):
            raise CapabilityError(
                "This model", "a number", "no number as its target", "Use JointRegressor."
            )
        return self.target

    @property
    def status(self) -> dict[str, Status]:
        """How far each answer about whole rows can be trusted; what missing cells cost is in the
        joint's ``capabilities``."""
        if not self.codec.several_ways:
            return self._status_of_codes
        bounds = {"log_prob": Status.LOWER_BOUND, "predict_proba": Status.APPROXIMATE}
        return {
            question: worst(status, bounds.get(question, status))
            for question, status in self._status_of_codes.items()
        }

    @property
    def _status_of_codes(self) -> dict[str, Status]:
        """Of answers about the codes that the codec gives."""
        if self.target is None:
            return {"log_prob": trust(self.joint), "sample": self.joint.status_of_draws}
        if self.state.temperature is None:
            return self.pair.status
        # p(y | x) is the word of held-out rows, with which draws of x given y do not quite agree
        words = {"predict_proba": Status.EXACT, "sample": Status.APPROXIMATE}
        return self.pair.status | words

    @property
    def unweighted(self) -> Density:
        """The joint before its classes were given new shares. It remains what familiarity is judged
        by, as the held-out rows were judged by it."""
        return self.joint if self.target is None else self.pair.unweighted

    # ------------------------------------------------------------------ answers about events

    def rows(self, X: Any) -> Rows:
        """``X`` as checked rows; rows pass through, so that data is checked once."""
        return self.codec.rows(X)

    def encode(self, X: Any) -> Encoded:
        """Events of the rows; warns of modelled columns that ``X`` does not have, whose cells then
        count as missing, and of columns that the fit did not have, which are not read."""
        rows = self.rows(X)
        absent = self.codec.missing_columns(rows)
        if absent:
            self._mention(absent, list(rows.names))
        own = None if self.target is None else self.target.name
        known = (own, *self.card.get("split_by", ()))
        extra = [name for name in self.codec.extra_columns(rows) if name not in known]
        if extra:
            self._mention_extra(extra)
        return self._with_sums(self.codec.encode(rows))

    # ------------------------------------------------------------------ known sums

    @property
    def uses_sums(self) -> bool:
        """Whether answers use a known sum of which several parts are missing."""
        able = self.density_of_x.capabilities
        return able.missing == "exact" and able.conditionals == "any"

    def _with_sums(self, encoded: Encoded) -> Encoded:
        """The rows with those sums that answers use; a warning of the others."""
        nothing = torch.zeros(encoded.event.rows, dtype=torch.bool)
        unused = nothing if encoded.unused is None else encoded.unused
        if encoded.sums and not self.uses_sums:
            opened = torch.stack([one.open for one in encoded.sums]).any(0)
            encoded = encoded._replace(sums=(), unused=unused | opened)
        if encoded.unused is not None and encoded.unused.any():
            rows = int(encoded.unused.sum())
            warnings.warn(
                f"In {rows:,} row{'s' if rows > 1 else ''} a sum is known while several of its "
                "parts are missing, and this model can't use it: what it says there is "
                "approximate, the total is not used.",
                ColumnWarning,
                stacklevel=4,
            )
        return encoded

    def status_of(self, encoded: Encoded) -> dict[str, Status]:
        """``status`` of these rows: less where the density can't leave out what they miss, and
        estimates by draws where known sums of missing parts are used, or can't be."""
        worth = self._status_of_cells(encoded.event)
        unused = encoded.unused is not None and bool(encoded.unused.any())
        if encoded.sums or unused:
            worth = dict.fromkeys(self.status, Status.APPROXIMATE)
        return {
            question: worst(status, worth.get(question, status))
            for question, status in self.status.items()
        }

    def _status_of_cells(self, x: Event) -> dict[str, Status]:
        """What missing cells make of each answer; nothing of those that they leave as they are."""
        if bool(x.complete.all()):
            return {}
        density = self.density_of_x
        try:
            found = density.status_of(self._about(x))
        except CapabilityError:  # no log p of such rows; p(y | x) may be a predictor's
            found = Status.APPROXIMATE
        if found is Status.EXACT or density.capabilities.missing == "exact":
            return {"log_prob": found}
        worth: dict[str, Status] = {"log_prob": found, "sample": Status.APPROXIMATE}
        predictor = None if self.target is None else self.pair.separate_predictor
        if predictor is None or not bool(predictor.covers(x).all()):
            worth["predict_proba"] = Status.APPROXIMATE  # bounds differ from class to class
        return worth

    def status_for(self, encoded: Encoded) -> dict[str, str]:
        """``status_of`` these rows in words, which say where a known sum can't be used."""
        found = self.status_of(encoded)
        unused = encoded.unused is not None and bool(encoded.unused.any())
        return {
            question: "approximate: the total is not used"
            if unused and status is Status.APPROXIMATE
            else status.value
            for question, status in found.items()
        }

    def completions(self, encoded: Encoded) -> Completions | None:
        """Completions of the rows of which sums are known; None where there are none."""
        last = self.__dict__.get("_completions")
        if last is None or last[0] is not encoded:
            last = (encoded, self._completed(encoded)) if encoded.sums else (encoded, None)
            self.__dict__["_completions"] = last
        found: Completions | None = last[1]
        return found

    def _completed(self, encoded: Encoded) -> Completions | None:
        alone = self.target is None
        proposer: Any = self.joint if alone else self.pair.proposer
        evidence = proposer.log_prob if alone else proposer.log_evidence

        def draw(event: Event, generator: torch.Generator) -> Tensor:
            known = event if alone else Pair(proposer.unknown(event.rows), event)
            out = proposer.sample_conditional(known, generator=generator)
            value: Tensor = out.value if alone else out.x.value
            return value

        return completed(
            encoded.event,
            encoded.sums,
            self.codec.space.variables,
            draw,
            partial(self._chunked, evidence),
            self.log_evidence,
            self.state.seed,
        )

    def with_parts(
        self,
        encoded: Encoded,
        generator: torch.Generator | None,
        y: Tensor | None = None,
        mean: bool = False,
    ) -> Event:
        """The rows, in which missing parts of known sums are those of one of their completions:
        drawn by its share, or without a generator the most probable one, or the ``mean`` of all.
        ``y`` (B,): in event units, where it is known."""
        found = self.completions(encoded)
        if found is None:
            return encoded.event
        many = None if y is None else y[found.rows].repeat_interleave(found.log_weight.shape[1])
        share = found.share(None if many is None else self._log_prob_with(found.event, many))
        kept = found.reached.nonzero()[:, 0]
        chosen = share.argmax(1) if generator is None else categorical(share.log(), generator)
        place = (torch.arange(len(share)) * share.shape[1] + chosen)[kept]
        rows = found.rows[kept]
        parts = found.event.value[place]
        if mean and generator is None:
            every = found.event.value.reshape(*share.shape, -1)
            levels = torch.tensor([each.discrete for each in self.codec.space.variables])
            parts = torch.where(levels, parts, (share[:, :, None] * every).sum(1)[kept])
        value = encoded.event.value.index_copy(0, rows, parts)
        return Event(value, encoded.event.mask.index_copy(0, rows, found.event.mask[place]))

    def _log_prob_with(self, x: Event, y: Tensor) -> Float[Tensor, " B"]:
        """log p(x, y) of y (B,) in event units."""
        if self.state.temperature is not None:
            own = self._tempered(x).gather(1, y.long()[:, None])[:, 0]
            return self.log_evidence(x) + own
        with torch.no_grad():
            return self.pair.log_prob(Pair(Event(y), x))

    def evidence(self, encoded: Encoded) -> Float[Tensor, " B"]:
        """log p of all that is known of the rows, nats, in the event's units."""
        plain = self.log_evidence(encoded.event)
        found = self.completions(encoded)
        return plain if found is None else found.replacing(plain, found.log_prob)

    def by_sums(self, encoded: Encoded, plain: Tensor, ask: Callable[[Event], Tensor]) -> Tensor:
        """(B, ...) probabilities ``plain`` of rows, in which those of rows with known sums are the
        means of what ``ask`` says of their completions."""
        found = self.completions(encoded)
        if found is None:
            return plain
        share = found.share()
        each = ask(found.event)
        mean = (share[:, :, None] * each.reshape(*share.shape, -1)).sum(1)
        kept = found.reached
        return plain.index_copy(0, found.rows[kept], mean.reshape(-1, *plain.shape[1:])[kept])

    def log_with_label(self, encoded: Encoded, label: Tensor) -> Float[Tensor, " B"]:
        """log p(x, y) of all that is known of the rows and of their y (B,), in event units."""
        plain = self._log_prob_with(encoded.event, label)
        found = self.completions(encoded)
        if found is None:
            return plain
        many = label[found.rows].repeat_interleave(found.log_weight.shape[1])
        return found.replacing(plain, self._log_prob_with(found.event, many))

    def _mention(self, absent: list[Any], given: list[Any]) -> None:
        columns = self.codec.columns
        if len(absent) == len(columns):
            raise ValueError(
                f"X has none of the columns that the model knows: it has {_columns(given)}, and "
                f"the model knows {_columns(columns)}."
            )
        warnings.warn(
            f"X lacks {_columns(absent)}; every cell there counts as missing.",
            UserWarning,
            stacklevel=4,
        )

    def _mention_extra(self, extra: list[Any]) -> None:
        verb = "are" if len(extra) > 1 else "is"
        warnings.warn(
            f"X has {_columns(extra)}, which {verb} not of the fit and {verb} not read.",
            UserWarning,
            stacklevel=4,
        )

    def log_evidence(self, x: Event) -> Float[Tensor, " B"]:
        """log p(x), nats, in the event's units; in chunks, without gradients."""
        found = self._chunked(
            self.joint.log_prob if self.target is None else self.pair.log_evidence, x
        )
        return _refuse_no_numbers(found, found.isnan().all())

    def _log_evidence_unweighted(self, x: Event) -> Float[Tensor, " B"]:
        return self._chunked(
            self.joint.log_prob if self.target is None else self.pair.unweighted.log_evidence, x
        )

    def log_joint(self, encoded: Encoded, rows: Rows | None = None) -> Float[Tensor, "B K"]:
        """log p(x, y) for every class, nats, in the event's units. ``rows`` go to a predictor of
        the user's own."""
        own = None if rows is None else self._own_scores(rows, encoded.event)
        if own is None and self.state.temperature is not None:
            return self.log_evidence(encoded.event)[:, None] + self._tempered(encoded.event)
        if own is None:
            plain = self._chunked(self.pair.log_joint, encoded.event)
            found = self.completions(encoded)
            if found is None:
                return plain
            return found.replacing(plain, self._chunked(self.pair.log_joint, found.event))
        evidence = self._log_evidence_unweighted(encoded.event)
        return self.pair.weighted(evidence[:, None] + own.log_softmax(1))

    def _own_scores(self, rows: Rows, x: Event) -> Tensor | None:
        """Logits by a predictor that is the user's own and sees the user's own columns (``x`` are
        the events of these rows); None where there is none."""
        predictor = self.pair.separate_predictor
        return None if predictor is None else predictor.scores_of_frame(rows.frame, x)

    def log_proba(self, encoded: Encoded, rows: Rows | None = None) -> Float[Tensor, "B K"]:
        """log p(y | x) for every class."""
        if rows is not None and self._own_scores(rows, encoded.event) is not None:
            return self.log_joint(encoded, rows).log_softmax(1)
        if self.state.temperature is not None:
            return self._tempered(encoded.event)
        found = self._chunked(self.pair.log_posterior, encoded.event)
        if encoded.sums:
            found = self.by_sums(
                encoded,
                found.exp(),
                lambda event: self._chunked(self.pair.log_posterior, event).exp(),
            ).log()
        return _refuse_no_numbers(found, found.isnan().any())

    def log_gain(self, x: Event) -> tuple[Float[Tensor, "B K"], Float[Tensor, "1 K"]]:
        """What the family says that x adds to log p(y): log p(y | x) - log p(y), and log p(y)."""
        base = self.pair.unweighted
        prior = self._chunked(base.log_posterior, self.codec.space.unknown(1))
        return self._chunked(base.log_posterior, x) - prior, prior

    def _tempered(self, x: Event) -> Float[Tensor, "B K"]:
        """log p(y | x) of the family at the state's temperature: p(y) times what x adds to it,
        which parts of x that are no independent evidence make too much of."""
        assert self.state.temperature is not None
        gain, prior = self.log_gain(x)
        own = (gain / self.state.temperature + prior).log_softmax(1)
        found = self.pair.weighted(own).log_softmax(1)
        return _refuse_no_numbers(found, found.isnan().any())

    def _chunked(self, evaluate: Any, x: Event) -> Tensor:
        with torch.no_grad():
            parts = _pieces(x)
            if len(parts) == 1:
                return evaluate(as_float(x))  # type: ignore[no-any-return]
            return torch.cat([evaluate(as_float(x.take(part))) for part in parts])

    # ------------------------------------------------------------------ familiarity

    @cached_property
    def bank(self) -> Event:
        """Rows that the model draws for itself, always the same."""
        drawn = self.unweighted.sample(BANK_ROWS, generator=stream(self.state.seed, "bank"))
        return drawn.x if isinstance(drawn, Pair) else drawn

    @cached_property
    def sketch(self) -> Event:
        """The rows of the bank that questions about incomplete rows are put to."""
        return (
            self.bank
            if self.joint.capabilities.missing == "exact"
            else self.bank.take(slice(0, BANK_ROWS_IF_SLOW))
        )

    @property
    def density_of_x(self) -> Density:
        """What log p(x) comes from, below the joint: of a density over (y, x), that itself."""
        return self.joint if self.target is None else self.pair.density_of_x

    def fit_typicality(self, x: Event) -> None:
        """Fit the density's own statistic of familiarity, if it has one, to rows of the fit."""
        if self.density_of_x.capabilities.typical:
            most = max(MIN_PICTURES_SEEN, MAX_TYPICALITY_CELLS // x.value.shape[1])
            some = x if x.value.is_floating_point() else x.take(slice(0, most))
            self.density_of_x.fit_typicality(self._about(as_float(some)))

    def _about(self, x: Event) -> Any:
        """Rows as the density of x takes them."""
        return x if self.target is None else self.pair.about(x)

    def typicality(self, x: Event) -> Float[Tensor, " B"]:
        """By the density's own statistic, if it has one."""
        return self.density_of_x.typicality(self._about(x))

    @cached_property
    def familiarity(self) -> Any:
        """What the statistic is read off."""
        columns = self.codec.columnwise
        own = OwnFamiliarity(partial(self._chunked, self.typicality))
        if not self.density_of_x.capabilities.typical:
            if self.readings is not None:
                return self._joined_familiarity(self.readings)
            return self._plain_familiarity
        if self.ranks_blocks:
            return self._familiarity_of_blocks
        return (
            own
            if not columns
            else LeastFamiliarPart(
                self._plain_familiarity, own, len(self.codec.space.variables) - columns
            )
        )

    @property
    def ranks_blocks(self) -> bool:
        """Whether rows have several blocks, each with a statistic of familiarity of its own."""
        space = self.codec.space
        return bool(space.flat and space.blocks and self.density_of_x.capabilities.typical)

    @property
    def _familiarity_of_blocks(self) -> FamiliarityOfBlocks:
        typicality = partial(self._chunked, self._typicality_of_blocks)
        columns = self.codec.columnwise
        state = self.state
        plain = self._plain_familiarity if columns else None
        return FamiliarityOfBlocks(plain, typicality, columns, state.blocks, bool(state.between))

    def _typicality_of_blocks(self, x: Event) -> Float[Tensor, "B N"]:
        return self.density_of_x.typicality_of_blocks(self._about(x))

    def rank_blocks(self, held: Encoded | None) -> None:
        """Keep the familiarity of each block on the validation rows ``held``, of rows of several
        blocks. Where these are few, the model's own draws stand for them."""
        of = self._familiarity_of_blocks
        found = () if held is None else reference_of(of.statistics(held.event, held.log_unseen))
        told = found if self.codec.columnwise else found[1:]
        few = [len(each) < MIN_REFERENCE_ROWS for each in told]
        if not told or self._known_of_draws(few):
            nothing = torch.zeros(self.bank.rows, dtype=torch.float64)
            drawn = reference_of(of.statistics(self.bank, nothing))
            pairs = zip(found or drawn, drawn, strict=True)
            found = tuple(one if len(one) >= MIN_REFERENCE_ROWS else two for one, two in pairs)
        self.state = replace(self.state, blocks=found, between=True)
        self.__dict__.pop("familiarity", None)

    def _known_of_draws(self, blocks: list[bool]) -> bool:
        """Whether a draw of the model's own has a familiarity of one of the ``blocks`` that are
        marked, the last ones of a row. Of how a picture goes with columns, say, nothing is ever
        known, and draws, which are dear, would not tell it."""
        if not any(blocks):
            return False
        drawn = self.unweighted.sample(1, generator=stream(self.state.seed, "one draw"))
        x = drawn.x if isinstance(drawn, Pair) else drawn
        known = self._familiarity_of_blocks.statistics(x, torch.zeros(1, dtype=torch.float64))
        last = known[0, -len(blocks) :].isfinite()
        return bool((last & torch.tensor(blocks)).any())

    def least_familiar_part(self, encoded: Encoded) -> list[int] | None:
        """Of each row which of the codec's ``parts`` is the least familiar, or behind them how well
        each goes with the columns; None where rows are one block."""
        if self.state.blocks is None:
            return None
        found = self.familiarity.least(encoded.event, encoded.log_unseen)
        return [int(part) for part in found]

    def learn_readings(self, fit: Event, validation: Event | None) -> None:
        """Which readings make up the familiarity of rows of a table, and in which columns means
        about centres help to fill in missing cells, from rows of the fit and validation rows;
        without those both are as before."""
        self.readings = None
        self.centre_means = None
        self.__dict__.pop("familiarity", None)
        space = self.codec.space
        if self.density_of_x.capabilities.typical or not self.codec.columnwise or space.blocks:
            return
        if validation is None:
            return
        held = as_float(validation)
        generator = np.random.default_rng(self.state.seed)
        rows = as_float(fit)
        kernels = learn_kernels(space.variables, rows, held, generator)
        if not kernels:
            return
        self.readings = learn_readings(kernels, rows, held, self._joined_familiarity, generator)
        if self.uses_sums:
            self.centre_means = learn_centre_means(
                kernels[KERNELS], held, self._drawing(), generator
            )

    def _drawing(self) -> Callable[[Event], Event]:
        """A function that draws the missing cells of rows given the others, y unknown."""
        noise = stream(self.state.seed, "centre means")

        def draw(x: Event) -> Event:
            with torch.no_grad():
                if self.target is None:
                    found: Event = self.joint.sample_conditional(x, generator=noise)
                    return found
                known = Pair(self.pair.unknown(x.rows), x)
                pair: Pair = self.pair.proposer.sample_conditional(known, generator=noise)
                return pair.x

        return draw

    def _joined_familiarity(self, readings: Readings) -> JoinedFamiliarity:
        evidence = self._log_evidence_unweighted
        return JoinedFamiliarity(evidence, self.bank, self.sketch, self._gaussian, readings)

    @cached_property
    def _gaussian(self) -> GaussianReading:
        columns = self.codec.columnwise or len(self.codec.space.variables)
        return GaussianReading(Space((columns,), self.codec.space.variables[:columns]), self.bank)

    @cached_property
    def _plain_familiarity(self) -> Familiarity:
        gaussian = None  # models of 0.1.0 have one reading
        if self.state.readings == READINGS:
            gaussian = self._gaussian
        sketch = (
            self.bank if self.density_of_x.capabilities.typical else self.sketch
        )  # beside a picture the columns' log p is exact
        return Familiarity(self._log_evidence_unweighted, self.bank, sketch, gaussian)

    def log_conditionals(self, x: Event) -> Float[Tensor, "B D"]:
        """log p(x_d | x_-d) = log p(x) - log p(x_-d), by one pass per column; 0 for parts of a
        whole, such as pixels, that stand beside columns."""
        width = x.value.shape[1]
        columns = self.codec.columnwise or width
        whole = self.log_evidence(x)
        without = [self.log_evidence(x.hide(torch.arange(width) == d)) for d in range(columns)]
        return nn.functional.pad(whole[:, None] - torch.stack(without, 1), (0, width - columns))

    @cached_property
    def typical_conditionals(self) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
        """Mean and deviation of ``log_conditionals`` over the model's own draws."""
        each = self.log_conditionals(Event(self.sketch.value))
        return each.mean(0), each.std(0).clamp_min(0.1)

    def statistic(self, encoded: Encoded) -> np.ndarray:
        """(B,) the statistic of familiarity: larger is more familiar. A number outside its column's
        bounds is impossible, and so is a row that breaks a relation between columns."""
        numbers = torch.tensor([not variable.discrete for variable in self.codec.space.variables])
        impossible = (encoded.unseen & numbers).flatten(1).any(1)
        if encoded.breaks is not None:
            impossible = impossible | encoded.breaks
        event = encoded.event
        parts = [slice(None)] if event.value.is_floating_point() else _pieces(event)
        each = [
            self.familiarity.statistic(as_float(event.take(part)), encoded.log_unseen[part])
            for part in parts
        ]
        out = self._with_completions(encoded, torch.cat(each))
        return out.masked_fill(impossible, -torch.inf).numpy()

    def _with_completions(self, encoded: Encoded, plain: Tensor) -> Float[Tensor, " B"]:
        """The statistic, which of rows with known sums is the mean of that of their completions: a
        part drawn given all that is known is like one of a whole row. A sum that no completion
        makes up can't be."""
        found = self.completions(encoded)
        if found is None:
            return plain
        size = found.log_weight.shape[1]
        extra = encoded.log_unseen[found.rows].repeat_interleave(size)
        each = self.familiarity.statistic(found.event, extra)
        share = found.share()
        mean = (share * each.reshape(share.shape)).sum(1).masked_fill(~found.reached, -torch.inf)
        return plain.index_copy(0, found.rows, mean)

    def p_value(self, encoded: Encoded) -> np.ndarray:
        """(B,) conformal p-values; ValueError where nothing was held out."""
        return self.calibrated.p_value(self.statistic(encoded), encoded.filled.numpy())

    @property
    def calibrated(self) -> Calibration:
        if self.calibration is None:
            raise ValueError(
                "This model has no calibration rows (a false-alarm rate of .05 needs 19, an "
                "error promise of .05 needs 59 "
                "labelled ones): fit with more rows, or call calibrate(X, y) with held-out ones."
            )
        return self.calibration

    def log_prob_raw(self, encoded: Encoded) -> np.ndarray:
        """(B,) log p(x), nats, in the raw data's units. ValueError where one is no number."""
        log_p = self.evidence(encoded) + encoded.log_unseen + encoded.log_volume
        return _refuse_no_numbers(log_p, log_p.isnan().any()).numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """Caches hold bound methods of this model, so a copy starts without them."""
        import copy

        parts = {name: copy.deepcopy(getattr(self, name), memo) for name in PARTS}
        return Model(**parts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PARTS}


def _columns(names: list[Any]) -> str:
    """``the columns 'a', 'b'``, a dozen at most."""
    shown = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
    return f"the column{'s' if len(names) > 1 else ''} {shown}"


def _refuse_no_numbers(answers: Tensor, wrong: Tensor) -> Tensor:
    """The answers. ValueError where they are no numbers, as damaged weights give."""
    if len(answers) and wrong:
        raise ValueError(
            "The model's answer is no number: its weights are damaged, or a value is far beyond "
            "all that it has learned from."
        )
    return answers


def _pieces(x: Event) -> list[slice]:
    """The rows in parts that are evaluated at once."""
    bytes_ = not x.value.is_floating_point()
    most = (
        max(1, min(CHUNK_ROWS, MAX_CHUNK_CELLS // max(1, x.value.shape[1])))
        if bytes_
        else CHUNK_ROWS
    )
    return slices(x.rows, most)
