"""p(y | x) as a pool of several: which rows teach, which judge, and what the card tells of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Pair, as_float
from conjoin.core.event import concatenated
from conjoin.fitting.bounded import Bounded, bounded_among, completed
from conjoin.fitting.split import Rows
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.model.model import Model
from conjoin.model.predictive import grid_for
from conjoin.predictors.base import Case, Method, Scorer, Spread
from conjoin.predictors.blended import OfFamily, mixture_of
from conjoin.predictors.classifier import MIN_COMPARISON_ROWS, Classifier
from conjoin.predictors.folds import dealt, few_rows_of_classes
from conjoin.predictors.pool import (
    Family,
    Heard,
    Pool,
    joined,
    loss_of,
    pool_of,
    pool_of_points,
    with_doubt,
)
from conjoin.predictors.residual import Residual
from conjoin.training.data import Split, row_hashes
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget, OutOfTime

__all__ = ["Ready", "pooled"]


def pooled(
    model: Model,
    methods: dict[str, Method],
    data: dict[str, Pair],
    case: Case,
    rows: Rows,
    split: Split,
    progress: Progress,
    ready: "Ready",
) -> None:
    """Put a pool of the ``methods`` and of the family's own p(y | x) beside the model's p(x)."""
    if not methods:
        model.card["predictor"]["why"] = "no predictor fits into the time: the family's own is used"
        return
    held = _labelled(model, data["choose"], rows, split)
    taught = _taught(case, data["choose"], rows, split)
    bounded = _bounded(model, case, data["choose"], rows, split)
    with progress.phase("learning p(y | x)", len(methods)) as bar, few_rows_of_classes():
        quick, slow = (
            _heard(methods, taught, case, held, bar, ready)
            if bounded is None
            else _heard_between(methods, taught, bounded, case, held, bar, ready)
        )
        whole = case.classes is None and bounded is None
        spreads = _spreads(model, methods, taught, ready) if whole else {}
    if not quick.scores and not slow.scores:
        model.card["predictor"]["why"] = "no predictor fits into the time: the family's own is used"
        return
    if int(quick.judged().sum() if quick.scores else held.pair.rows) < MIN_COMPARISON_ROWS:
        model.card["predictor"]["why"] = (
            "too few rows of each class to weigh predictors: the family's own p(y | x) is used"
        )
        return
    if case.classes is None:
        _keep_number(model, quick, slow, spreads, held)
    else:
        _keep_classes(model, quick, slow, held.pair, case)


@dataclass
class Ready:
    """The time of the members of a pool, and those that it was too short for.

    Attributes
    ----------
    budget
        Of the whole fit.
    guessed
        Seconds that a member is likely to take.
    told
        What the card tells of the predictor.
    late
        Who was left out.
    """

    budget: Budget
    guessed: dict[str, float]
    told: dict[str, Any]
    late: list[str] = field(default_factory=list)

    def in_time(self, methods: dict[str, Method], case: Case) -> dict[str, Method]:
        """The methods, those that learn as long as there is time last and the quickest first, if
        time is short."""
        if not self.budget.bounded:
            return methods
        order = sorted(
            methods, key=lambda name: (methods[name].paced(case), self.guessed.get(name, 0.0))
        )
        return {name: methods[name] for name in order}

    def learned(self, name: str, method: Method, case: Case, learn: Callable[[], Any]) -> Any:
        """What ``learn`` gives; None where it is not likely to end in time."""
        free = self.budget.free
        if not method.paced(case) and self.guessed.get(name, 0.0) > free:
            self.late.append(name)
            return None
        try:
            with self.budget.within(free):
                return learn()
        except OutOfTime:
            self.late.append(name)
            return None

    def tell(self) -> None:
        """Who was left out, on the card and in the notices."""
        if self.late:
            names = ", ".join(self.late)
            self.told["why"] += f"; left out for want of time: {names}"
            self.budget.cut.append(f"For want of time p(y | x) was learned without {names}.")


class _Held(NamedTuple):
    """The labelled validation rows, and the same as the user gave them."""

    pair: Pair
    given: Any
    weight: Tensor


def _labelled(model: Model, choose: Pair, rows: Rows, split: Split) -> _Held:
    """Those rows; none where they are too few to judge by."""
    assert rows.weight is not None
    known = choose.y.mask
    if int(known.sum()) < MIN_COMPARISON_ROWS:
        known = torch.zeros_like(known)
    place = split.choose[known.numpy()]
    pair = choose.take(known)
    return _Held(
        pair._replace(x=as_float(pair.x)), rows.x.take(place), torch.tensor(rows.weight[place])
    )


def _taught(case: Case, choose: Pair, rows: Rows, split: Split) -> Case:
    """The labelled rows of the fit, then those of the validation, each with its fold."""
    assert rows.weight is not None
    place = np.concatenate([split.fit, split.choose])
    pairs = (case.rows, choose)
    y = concatenated([each.y for each in pairs])
    seen = concatenated([each.x for each in pairs])  # pictures stay bytes
    known = y.mask.numpy()
    whole = replace(
        case,
        rows=Pair(y, seen),
        weight=torch.tensor(rows.weight[place]),
        given=rows.x.take(place),
        fold=np.full(len(place), -1),
    ).take(known)
    hashes = row_hashes(rows.x, rows.groups)[place[known]]
    fold = dealt(whole.rows.y.value.numpy(), case.classes, case.seed, hashes, case.fast)
    return replace(whole, fold=fold)


def _heard(
    methods: dict[str, Method], taught: Case, case: Case, held: _Held, bar: Any, ready: Ready
) -> tuple[Heard, Heard]:
    """What those say that are learned fold by fold, of all labelled rows; and what those say that
    have learned from the rows of the fit, of the labelled validation rows. Who would not be
    ``ready`` in time is left out."""
    quick = Heard({}, {}, taught.rows.y.value, taught.weight)
    slow = Heard({}, {}, held.pair.y.value, held.weight)
    for done, (name, method) in enumerate(methods.items()):
        rows = taught if method.folds else case
        found = ready.learned(name, method, case, partial(_learned, method, rows))
        bar.update(done + 1, name)
        if found is None:
            continue
        if method.folds:
            quick.scorers[name], quick.scores[name] = found
        else:
            slow.scorers[name] = found
            with torch.no_grad():
                own = found.scores_of_frame(held.given.frame, held.pair.x)
                slow.scores[name] = found.scores(held.pair.x) if own is None else own
    return quick, slow


def _bounded(model: Model, case: Case, choose: Pair, rows: Rows, split: Split) -> Bounded | None:
    """The rows of which the number has a bound."""
    if case.classes is not None or rows.low is None:
        return None
    assert model.target is not None
    places = np.concatenate([split.fit, split.choose])
    return bounded_among(case, choose, rows, places, model.target)


def _heard_between(
    methods: dict[str, Method],
    taught: Case,
    bounded: Bounded,
    case: Case,
    held: _Held,
    bar: Any,
    ready: Ready,
) -> tuple[Heard, Heard]:
    """``_heard`` of those that are learned fold by fold, from all rows; the others know no
    bounds."""
    fast = {name: method for name, method in methods.items() if method.folds}
    if not fast:
        return _heard(methods, taught, case, held, bar, ready)
    both = bounded.before(taught, bounded.edge)
    table = next(iter(fast.values())).numbers_of(both)
    learned, y = completed(table, taught, bounded)
    quick, slow = _heard(fast, learned, case, held, bar, ready)
    ready.told["bounded"] = len(bounded.low)
    return replace(quick, y=y), slow


def _spreads(
    model: Model, methods: dict[str, Method], taught: Case, ready: Ready
) -> dict[str, Spread]:
    """The whole p(y | x) of a number, by those methods that tell more than a point."""
    width = model.pair.target.resolution or 0.0
    found = {
        f"leaves of {name}": ready.learned(
            name, method, taught, partial(method.spread, taught, width)
        )
        for name, method in methods.items()
    }
    return {name: spread for name, spread in found.items() if spread is not None}


def _learned(method: Method, case: Case) -> Any:
    """A scorer, or where folds are learned what they say too."""
    return method.by_folds(case) if method.folds else method.fit(case)


def _keep_classes(model: Model, quick: Heard, slow: Heard, held: Pair, case: Case) -> None:
    """The pool of all that was heard and of the family's own p(y | x); that alone where nothing
    adds to it. Of texts the whole pool may be wrong about the surest rows."""
    assert case.classes is not None
    classes = case.classes
    late = _with_family(model, slow, held)
    if quick.scores:
        pool, log_p = pool_of(quick, classes)
        judged = quick if not held.rows else quick.take(torch.arange(-held.rows, 0))
        log_p = log_p[-len(judged.y) :]
        seen = judged.judged()
        judged = judged.take(seen)
        log_p = log_p[seen]
        if held.rows:
            late = late.take(seen)
            pool, log_p = joined(pool, log_p, late)
        scores = late.scores | judged.scores | {"pool": log_p}
    else:
        pool, log_p = pool_of(late, classes)
        judged = late
        scores = late.scores | {"pool": log_p}
    model.card["predictor"] |= {
        "log_loss": {name: loss_of(each, judged.y) for name, each in scores.items()}
    }
    whole = pool if case.wording is None else with_doubt(pool, log_p, judged)
    _put(model, pool, Classifier(whole))
    if whole is not pool and model.state.predictor == "pool":
        told = model.card["predictor"]
        told["doubt"] = float(whole.share)
        told["why"] += f"; p(y) has a share of {told['doubt']:.3f} in it"
    if not held.rows:
        _tell_unweighed(model, slow.scores)


def _with_family(model: Model, slow: Heard, held: Pair) -> Heard:
    """The family's own p(y | x) before the others; none of them where no row judges them."""
    if not held.rows:
        return replace(slow, scorers={}, scores={})
    own = Family(model.pair)
    with torch.no_grad():
        scores = own.scores(held.x)
    return replace(
        slow, scorers={"family": own} | slow.scorers, scores={"family": scores} | slow.scores
    )


@torch.no_grad()
def _keep_number(
    model: Model, quick: Heard, slow: Heard, spreads: dict[str, Spread], held: _Held
) -> None:
    """The pool of points with its errors in rows that it has not seen, mixed with ``spreads``; the
    family's own p(y | x) where that is better on the validation rows, and a mixture of both where
    that is."""
    pool, point, heard = _pool_of_number(quick, slow, held.pair.rows)
    pooled = _with_errors(pool, point, heard, model.pair.target.resolution or 0.0)
    own = {name: spread.last(len(heard.y)) for name, spread in spreads.items()}
    kept, shares = mixture_of({"pool": pooled} | own, heard.weight, ["pool"])
    told = model.card["predictor"]
    held_out = held.pair.rows
    if "bounded" in told:  # who knows no bounds would win on rows that are known
        _put(model, pool, kept.predictor)
        told["mixture"] = shares
        told["why"] += "; as some numbers lie between bounds, no other p(y | x) joins"
        grid = grid_for(model.pair, Event(heard.y, torch.ones_like(heard.y, dtype=torch.bool)))
        model.state = replace(model.state, grid=tuple(grid.tolist()))
        return
    if not held_out:
        _put(model, pool, kept.predictor)
        told["mixture"] = shares
        _tell_unweighed(model, slow.scores)
        return
    if model.pair.family_density.slow_candidates:
        _put(model, pool, kept.predictor)
        told["mixture"] = shares
        told["why"] += "; the family's own p(y | x) was not asked, which sums the other targets out"
        return
    late = _held_out(model, held)
    two = {"predictors": kept.last(held_out), "family": late}
    last, both = mixture_of(two, held.weight, list(two))
    each = {name: spread.last(held_out) for name, spread in ({"pool": pooled} | own).items()}
    each |= {"family": late, "mixture": last}
    told["log_loss"] = {name: -float(found.log_p.nanmean()) for name, found in each.items()}
    if set(both) == {"family"}:
        told["why"] = "on validation rows no pool of predictors beats the family's own p(y | x)"
        return
    _put(model, pool, last.predictor)
    first = both.pop("predictors")
    told["mixture"] = {name: first * share for name, share in shares.items()} | both
    if len(told["mixture"]) > 1:
        parts = ", ".join(f"{name} {share:.2f}" for name, share in told["mixture"].items())
        told["why"] += f"; p(y | x) is a mixture: {parts}"


def _pool_of_number(quick: Heard, slow: Heard, validation: int) -> tuple[Pool, Tensor, Heard]:
    """The pool of points, (B, 1) its own, and of which rows."""
    if not (slow.scores and validation):
        return *pool_of_points(quick), quick
    own: dict[str, Scorer] = {}
    more: dict[str, Tensor] = {}
    if quick.scores:
        own["pool"], point = pool_of_points(quick)
        more["pool"] = point[-validation:]
    heard = replace(slow, scorers=own | slow.scorers, scores=more | slow.scores)
    return *pool_of_points(heard), heard


def _with_errors(pool: Pool, point: Tensor, heard: Heard, width: float) -> Spread:
    """Points with the distribution of their errors."""
    seen = heard.judged()
    residual = Residual.around(pool, point[seen, 0], heard.y[seen], width)
    log_p = torch.full((len(seen),), torch.nan, dtype=torch.float64)
    log_p[seen] = residual.log_prob_about(point[seen], heard.y[seen, None])[:, 0]
    return Spread(residual, log_p)


def _held_out(model: Model, held: _Held) -> Spread:
    """The family's own p(y | x), judged on the validation rows."""
    base = model.pair
    return Spread(OfFamily(base), base.log_prob(held.pair) - base.log_evidence(held.pair.x))


def _tell_unweighed(model: Model, names: Iterable[str]) -> None:
    """Who could not be weighed for want of validation rows."""
    left = ", ".join(["the family's own", *names])
    model.card["predictor"]["why"] += f"; too few validation rows to weigh {left}"


def _put(model: Model, pool: Pool, predictor: Predictor) -> None:
    """The pool beside p(x), and what the card tells of it."""
    told = model.card["predictor"]
    if pool.names == ("family",):
        told["why"] = "on validation rows nothing adds to the family's own p(y | x)"
        return
    told["weights"] = pool.weights
    shares = ", ".join(f"{name} {share:.2f}" for name, share in pool.weights.items())
    told["why"] = f"weighted by what each says of rows that it has not seen: {shares}"
    if len(pool.prior) > 1:
        told["temperature"] = pool.temperature
        told["why"] += f"; temperature {pool.temperature:.2f}"
    model.state = replace(model.state, predictor="pool")
    model.joint = Hybrid(model.pair, predictor)
