"""Checks of probabilities against sums over the whole space: what log_prob, draws, regions and
modes have to agree on.

Shape letters: B rows, G points of an enumeration, D variables.
"""

import math
from itertools import pairwise

import torch
from scipy.stats import chi2
from torch import Tensor

from conjoin.core import Event, Likelihood, Region
from conjoin.testing.registry import NotApplicable, check, close, expect, needs
from conjoin.testing.spaces import ALL_PATTERNS_UP_TO, Axis, masked
from conjoin.testing.subjects import REFERENCE_DRAWS, Enumeration, Subject

__all__ = [
    "agree",
    "conditionals",
    "conditionals_per_row",
    "contexts",
    "missing_cells",
    "missing_values_ignored",
    "modes",
    "normalisation",
    "nothing_known",
    "pearson",
    "regions",
    "sample_sizes",
    "samples",
    "targets",
]

DRAWS = 5000
APPROXIMATE_DRAWS = 1500  # draws of an approximate sampler: it is slower, and held to less
# p-value below which draws disagree; each battery divides it by the number of its comparisons
MIN_P_VALUE = 1e-4
MAX_TOTAL_VARIATION = 0.15  # total variation that an approximate sampler may be off by
# likewise, where log_prob is too noisy for the sampler to choose by it
MAX_NOISY_TOTAL_VARIATION = 0.25
# how often the whole space is asked with other noise: where log_prob is an estimate, and where one
# such estimate says little
SEEDS = 12
NOISY_SEEDS = 32
MODE_DRAWS = 100  # draws that the mode of a row is ranked among
NOISY_MODE_SHARE = 0.05  # share of draws that such a density's mode has to be more probable than


# -------------------------------------------------------------------------------------------- draws


def pearson(observed: Tensor, expected: Tensor) -> float:
    """p-value of Pearson's chi-square, expected counts in the denominator; cells that expect under
    10 are pooled.

    K. Pearson (1900), On the criterion that a given system of deviations..., p. 157.
    """
    large = expected >= 10
    observed = torch.cat([observed[large], observed[~large].sum(0, keepdim=True)])
    expected = torch.cat([expected[large], expected[~large].sum(0, keepdim=True)])
    # even the pool is small: it joins the least of the others
    if expected[-1] < 10 and len(expected) > 1:
        least = int(expected[:-1].argmin())
        observed[least] += observed[-1]
        expected[least] += expected[-1]
        observed = observed[:-1]
        expected = expected[:-1]
    if len(expected) < 2:
        return 1.0 if abs(observed[0] - expected[0]) <= 5 * expected[0].sqrt() else 0.0
    statistic = ((observed - expected) ** 2 / expected).sum()
    return float(chi2.sf(float(statistic), len(expected) - 1))


def _ids(axes: tuple[Axis, ...], points: Tensor, columns: list[int], bins: int) -> Tensor:
    """The number of the bin that each point falls in, over ``columns``."""
    out = torch.zeros(len(points), dtype=torch.long)
    for d in columns:
        out = out * 64 + axes[d].bin(points[:, d], bins)
    return out


def _counts(
    axes: tuple[Axis, ...], draws: Tensor, table: Enumeration, columns: list[int], bins: int
) -> tuple[Tensor, Tensor]:
    """Observed and expected counts per bin; the enumeration may leave out an infinitesimal tail,
    and is scaled."""
    both = torch.cat([_ids(axes, draws, columns, bins), _ids(axes, table.points, columns, bins)])
    ids = both.unique(return_inverse=True)[1]
    observed = torch.bincount(ids[: len(draws)], minlength=int(ids.max()) + 1).double()
    expected = torch.zeros_like(observed).index_add(
        0, ids[len(draws) :], table.log_mass.softmax(0)
    ) * len(draws)
    return observed, expected


def _views(columns: list[int], rough: bool) -> list[tuple[list[int], int]]:
    """Sets of columns that are counted together, and in how many bins each. Total variation of many
    cells is large by chance alone, so that where it is the measure neighbours stand for many."""
    if len(columns) == 1:
        return [(columns, 14)]
    alone = [([d], 14) for d in columns]
    if rough and len(columns) > ALL_PATTERNS_UP_TO:
        return [*((list(pair), 5) for pair in pairwise(columns)), *alone]
    return [(columns, 5), *alone]


def agree(
    subject: Subject,
    draws: Tensor,
    table: Enumeration,
    columns: list[int],
    what: str,
    rough: bool = False,
) -> None:
    """Draws follow the table: jointly in wide bins, and each column by itself in fine ones."""
    for view, bins in _views(columns, rough):
        observed, expected = _counts(subject.tiny.axes, draws, table, view, bins)
        names = ", ".join(subject.tiny.space.variables[d].name for d in view)
        if rough:
            apart = 0.5 * float((observed - expected).abs().sum()) / len(draws)
            most = MAX_NOISY_TOTAL_VARIATION if subject.noisy else MAX_TOTAL_VARIATION
            expect(
                apart < most,
                f"{what} of {names}: total variation from the enumeration {apart:.3f} is not "
                f"below {most}",
            )
            continue
        p = pearson(observed, expected)
        expect(p > MIN_P_VALUE, f"{what} of {names} disagree with log_prob: chi-square p = {p:.2g}")


def _below(subject: Subject, draws: Tensor) -> None:
    """A lower bound may not give a cell more mass than the draws show."""
    table = subject.table
    if subject.noisy:
        table = Enumeration(table.points, subject.tables(NOISY_SEEDS).mean(0))
    elif subject.can.stochastic:  # an estimate: its average is what must lie below
        several = subject.tables(SEEDS)
        table = Enumeration(table.points, several.logsumexp(0) - math.log(SEEDS))
    observed, share = _counts(subject.tiny.axes, draws, table, list(range(subject.tiny.size)), 5)
    bound = share * table.log_mass.logsumexp(0).exp()
    expect(
        (bound <= observed + 5 * bound.clamp_min(10).sqrt()).all(),
        "the bound gives a cell more mass than its share of the draws",
    )


def _noisy_total(subject: Subject) -> float:
    """The sum of exp(E log_prob), where E is the mean over many generators. The noise that is left
    in the mean makes the sum too large, by half as much as in the halves of the generators."""
    each = subject.tables(NOISY_SEEDS)
    whole, *halves = (float(part.mean(0).logsumexp(0)) for part in (each, *each.chunk(2)))
    return math.exp(2 * whole - sum(halves) / 2)


# --------------------------------------------------------------------------------------- the checks


@check
def normalisation(subject: Subject) -> None:
    """exp(log_prob) sums (densities: integrates) to one; a lower bound to at most 1.01."""
    kind = subject.can.likelihood
    needs(kind is not Likelihood.UNNORMALIZED, "log_prob is relative: it has no sum to check")
    total = float(subject.table.log_mass.logsumexp(0).exp())
    expect(not math.isnan(total), "log_prob is NaN somewhere")
    if subject.noisy:
        total = _noisy_total(subject)
    elif subject.can.stochastic and total >= 1.01:  # an estimate: its average is held to that
        total = float(subject.tables(SEEDS).exp().sum(1).mean())
    if kind is not Likelihood.LOWER_BOUND:
        expect(abs(total - 1) < subject.tolerance, f"probabilities sum to {total:.5f}, not to 1")
    else:
        expect(total < 1.01, f"a lower bound sums to {total:.5f}, more than 1.01")


@check
def samples(subject: Subject) -> None:
    """Draws follow log_prob (a bound: at least as often as it says; an energy: its normalised
    table, roughly)."""
    draws = subject.sample(DRAWS)
    expect(
        draws.shape == (DRAWS, subject.tiny.size), f"{DRAWS} draws have shape {tuple(draws.shape)}"
    )
    subject.tiny.space.check(Event(draws))
    if subject.can.likelihood is Likelihood.LOWER_BOUND:
        _below(subject, draws)
    else:
        rough = subject.can.likelihood is Likelihood.UNNORMALIZED
        agree(subject, draws, subject.table, list(range(subject.tiny.size)), "draws", rough)


@check
def sample_sizes(subject: Subject) -> None:
    """No rows, one row, and a refusal of fewer than none."""
    for n in (0, 1):
        expect(len(subject.sample(n)) == n, f"sample({n}) has {len(subject.sample(n))} rows")
    try:
        subject.density.sample(-1)
    except ValueError:
        return
    expect(False, "sample(-1) is not refused")


def _exact_patterns(subject: Subject) -> list[Tensor]:
    """Masks whose log_prob is declared exact (or a bound)."""
    can = subject.can
    if can.missing in ("exact", "bound") or can.marginals == "any":
        return subject.tiny.patterns(least=1)
    prefixes = [
        mask for mask in subject.tiny.patterns(least=1) if bool((mask[1:] <= mask[:-1]).all())
    ]
    if can.marginals == "prefix":
        return prefixes
    raise NotApplicable(f"missing = {can.missing!r}, marginals = {can.marginals!r}")


@check
def missing_cells(subject: Subject) -> None:
    """log_prob of the observed part is the log of the sum over everything that is missing, for
    every pattern."""
    bound = subject.can.missing == "bound"
    rows = subject.tiny.rows[:3]
    for mask in _exact_patterns(subject):
        if bound and subject.can.likelihood is Likelihood.LOWER_BOUND:
            _at_most_one(subject, mask)
            continue
        each = [subject.enumerate(subject.tiny.anywhere(mask, row)) for row in rows]
        target = torch.stack([table.log_mass.logsumexp(0) for table in each])
        what = f"log_prob with mask {mask.int().tolist()} of rows {rows.tolist()}"
        if bound:
            _bounds(subject, masked(rows, mask), target, what)
        else:
            close(subject.log_prob(masked(rows, mask)), target, subject.tolerance, what)


def _at_most_one(subject: Subject, mask: Tensor) -> None:
    """A bound of what is known, where whole rows are bounds too, has no truth to be held against
    but this: over all values of one known cell, and on the average over its noise, its exponentials
    sum to at most one."""
    if int(mask.sum()) > 1:
        return
    points, log_weight = subject.tiny.axes[int(mask.nonzero())].whole
    rows = subject.tiny.rows[:1].repeat(len(points), 1)
    rows[:, mask] = points[:, None]
    totals = (subject.estimates(masked(rows, mask), 24) + log_weight).exp().sum(1)
    error = float(totals.std()) / len(totals) ** 0.5
    total = totals.mean()
    expect(
        total < 1.02 + 5 * error,
        f"log_prob of cell {int(mask.nonzero())} alone sums to {total:.4f} +- {error:.4f}, more "
        "than 1.02",
    )


def _bounds(subject: Subject, event: Event, target: Tensor, what: str) -> None:
    """On the average over its noise the value is at most the target; where whole rows are exact,
    its exponential agrees."""
    values = subject.estimates(event)
    error = values.std(0) / len(values) ** 0.5
    over = (values.mean(0) - target - 5 * error).max()
    expect(over <= subject.tolerance, f"{what}: the bound exceeds the sum by {over:.5f}")
    if subject.can.likelihood is not Likelihood.LOWER_BOUND and not subject.can.stochastic:
        ratio = (values - target).exp()
        error = ratio.std(0) / len(values) ** 0.5
        off = ((ratio.mean(0) - 1).abs() - 10 * error).max()
        expect(off <= 2 * subject.tolerance, f"{what}: its mean weight is off 1 by {off:.5f}")


@check
def missing_values_ignored(subject: Subject) -> None:
    """What stands in a missing cell (NaN, nonsense) changes nothing: neither values, nor draws, nor
    statistics."""
    needs(subject.can.missing != "none", "no missing cells")
    clean = Event(subject.tiny.rows * subject.tiny.mask, subject.tiny.mask)
    dirty = Event(torch.where(subject.tiny.mask, subject.tiny.rows, math.nan), subject.tiny.mask)
    expect(
        torch.equal(subject.log_prob(clean), subject.log_prob(dirty)),
        "log_prob depends on the value of a missing cell",
    )
    expect(
        bool(torch.isfinite(subject.log_prob(clean)).all()),
        "log_prob of the training rows is not finite",
    )
    if subject.can.statistics:
        pair = [subject.density.statistics(event, subject.contexts) for event in (clean, dirty)]
        expect(
            all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0]),
            "statistics depend on the value of a missing cell",
        )


@check
def nothing_known(subject: Subject) -> None:
    """With every cell missing the probability of what is known is one."""
    needs(subject.can.missing == "exact", f"missing = {subject.can.missing!r}")
    empty = masked(subject.tiny.rows[:4], torch.zeros(subject.tiny.size, dtype=torch.bool))
    close(subject.log_prob(empty), torch.zeros(4).double(), 1e-6, "log_prob of nothing")


def _given(
    subject: Subject, mask: Tensor, row: Tensor, box: Region | None = None
) -> tuple[Tensor, Enumeration]:
    """A row, and the table of what its missing cells may be: the enumeration, or where log_prob is
    too noisy for one the density's own draws that have the known cells of the row (numbers: in the
    same narrow bin; then the row is such a draw)."""
    if not subject.noisy:
        inside = subject.tiny.within(box, mask, row) if box else subject.tiny.anywhere(mask, row)
        return row, subject.enumerate(inside)
    draws = subject.many if box is None else subject.many[_lies_in(subject.many, box, ~mask)]
    known = mask.nonzero()[:, 0].tolist()
    _, group, size = _ids(subject.tiny.axes, draws, known, 14).unique(
        return_inverse=True, return_counts=True
    )
    alike = draws[group == size.argmax()]
    return alike[0], Enumeration(
        alike, torch.full((len(alike),), -math.log(REFERENCE_DRAWS)).double()
    )


@check
def conditionals(subject: Subject) -> None:
    """Draws of missing cells follow the enumerated p(missing | observed), and known cells stay as
    they are."""
    kind = subject.can.conditionals
    needs(kind in ("any", "approximate"), f"conditionals = {kind!r}")
    draws = DRAWS if kind == "any" else APPROXIMATE_DRAWS
    for index, mask in enumerate(subject.tiny.patterns()):
        row, table = _given(subject, mask, subject.tiny.rows[index % 5])
        given = masked(row.expand(draws, -1), mask)
        out = subject.sample_conditional(given, seed=index)
        expect(bool(out.mask.all()), "cells are still missing after sample_conditional")
        expect(
            torch.equal(out.value[:, mask], given.value[:, mask]),
            f"known cells changed (mask {mask.int().tolist()})",
        )
        gone = (~mask).nonzero()[:, 0].tolist()
        agree(
            subject,
            out.value,
            table,
            gone,
            f"draws given mask {mask.int().tolist()}",
            rough=kind == "approximate",
        )


@check
def conditionals_per_row(subject: Subject) -> None:
    """Rows with different missing patterns in one batch: each keeps its own cells and draws its own
    missing ones."""
    needs(
        subject.can.conditionals in ("any", "approximate"),
        f"conditionals = {subject.can.conditionals!r}",
    )
    event = Event(subject.tiny.rows, subject.tiny.mask)
    out = subject.sample_conditional(event).value
    expect(
        torch.equal(out[event.mask], event.value[event.mask]),
        "known cells changed in a batch of many patterns",
    )
    subject.tiny.space.check(Event(out))


def _region_cases(subject: Subject) -> list[tuple[Region, Tensor, Tensor]]:
    """A box over everything, with each variable known in turn and with nothing known."""
    box = subject.tiny.box(subject.free)
    masks = [mask for mask in subject.tiny.patterns() if mask.sum() < 2]
    if subject.can.missing == "approximate":
        # at most the y of a joint is known
        masks = [mask for mask in masks if mask[0] or not mask.any()]
    return [(box, mask, subject.tiny.rows[index]) for index, mask in enumerate(masks)]


@check
def regions(subject: Subject) -> None:
    """log_prob of a box is the log of the enumerated mass inside it; draws stay inside and follow
    what is left."""
    needs(subject.can.regions, "no regions")
    for index, (box, mask, row) in enumerate(_region_cases(subject)):
        row, table = _given(subject, mask, row, box)
        event = masked(row[None], mask)._replace(within=box)
        what = f"box with mask {mask.int().tolist()}"
        if subject.can.missing == "bound" and subject.can.likelihood is Likelihood.LOWER_BOUND:
            expect(
                subject.estimates(event, 6).exp().mean() < 1.02,
                f"the {what} has a probability above 1.02",
            )
        elif subject.can.missing == "bound":
            _bounds(subject, event, table.log_mass.logsumexp(0, keepdim=True), what)
        elif subject.can.missing != "approximate" or not mask.any():
            close(
                subject.log_prob(event)[0],
                table.log_mass.logsumexp(0),
                subject.tolerance + (5 / len(table.points) ** 0.5 if subject.noisy else 0.0),
                f"log_prob of the {what}",
            )
        many = DRAWS if subject.can.conditionals == "any" else APPROXIMATE_DRAWS
        draws = subject.sample_conditional(
            masked(row.expand(many, -1), mask)._replace(within=box), seed=index
        ).value
        expect(_lies_in(draws, box, ~mask).all(), f"draws leave the {what}")
        gone = (~mask).nonzero()[:, 0].tolist()
        agree(
            subject,
            draws,
            table,
            gone,
            f"draws in the {what}",
            rough=subject.can.conditionals != "any",
        )


def _lies_in(rows: Tensor, box: Region, cells: Tensor) -> Tensor:
    """(B,) whether the ``cells`` (D,) of each row lie in the box."""
    inside = (((rows >= box.low) & (rows <= box.high)) | ~cells).all(1)
    for d, allowed in box.allowed.items():
        if cells[d]:
            inside &= allowed[rows[:, d].long()]
    return inside


@check
def modes(subject: Subject) -> None:
    """Known cells stay; "exact" attains the greatest enumerated log_prob, "approximate" at least
    the median of draws (a twentieth of them, where log_prob is too noisy to choose by)."""
    kind = subject.can.mode
    needs(kind != "none", "no mode")
    for mask in subject.tiny.patterns():
        event = masked(subject.tiny.rows[:3], mask)
        best = subject.mode(event)
        expect(
            torch.equal(best.value[:, mask], event.value[:, mask]),
            f"known cells changed (mask {mask.int().tolist()})",
        )
        subject.tiny.space.check(Event(best.value))
        single = subject.mode(event.take(slice(2, 3))).value[0]
        expect(
            torch.equal(single, best.value[2]),
            f"the mode of a row depends on its batch (mask {mask.int().tolist()})",
        )
        if kind == "exact":
            _greatest(subject, event, best, mask)
        elif subject.can.conditionals != "none":
            _usual(subject, event, best, mask)


def _greatest(subject: Subject, event: Event, best: Event, mask: Tensor) -> None:
    """No completion of a row is more probable than its mode."""
    for row, got in zip(event.value, subject.log_prob(Event(best.value)), strict=True):
        points = subject.enumerate(subject.tiny.anywhere(mask, row)).points
        what = f"mode with mask {mask.int().tolist()} of row {row.tolist()}: log_prob {got:.4f}"
        _attains(got, subject.log_prob(Event(points)).max(), what)


def _usual(subject: Subject, event: Event, best: Event, mask: Tensor) -> None:
    """A share of a row's draws are no more probable than its mode. Modes and draws of all rows are
    asked at once."""
    many = event.take(torch.arange(event.rows).repeat_interleave(MODE_DRAWS))
    draws = subject.sample_conditional(many).value
    value = _ranked(subject, Event(torch.cat([best.value, draws])))
    share = NOISY_MODE_SHARE if subject.noisy else 0.5
    each = value[event.rows :].reshape(event.rows, MODE_DRAWS)
    usual = each.quantile(share, 1, interpolation="lower")
    for row, got, least in zip(event.value, value, usual, strict=False):
        expect(
            got >= least - subject.rounding * (1 + least.abs()),
            f"mode with mask {mask.int().tolist()} of row {row.tolist()}: log_prob {got:.4f} is "
            f"below {least:.4f}, which a share of {1 - share:g} of the conditional draws reach",
        )


def _ranked(subject: Subject, event: Event) -> Tensor:
    """(B,) log_prob, or its mean over many generators."""
    return subject.estimates(event, 24).mean(0) if subject.noisy else subject.log_prob(event)


def _attains(got: Tensor, greatest: Tensor, what: str) -> None:
    expect(
        got >= greatest - 1e-9, f"{what} is below {greatest:.4f}, the greatest of the enumeration"
    )


@check
def contexts(subject: Subject) -> None:
    """log_contexts equals log_prob under each context in turn, with and without missing cells."""
    space = subject.density.context_space
    if space is None:
        raise NotApplicable("no context")
    for mask in (
        torch.ones_like(subject.tiny.mask),
        subject.tiny.mask if subject.can.missing != "none" else subject.tiny.mask | True,
    ):
        event = Event(subject.tiny.rows, mask)
        each = [
            Event(torch.full((event.rows,), float(k)).double())
            for k in range(space.variables[0].cardinality)
        ]
        with torch.no_grad():
            looped = torch.stack([subject.density.log_prob(event, code) for code in each], 1)
            close(subject.density.log_contexts(event), looped, 1e-9, "log_contexts")
            mixed = subject.density.log_prob(event, Event(subject.tiny.label))
        close(
            mixed,
            looped.gather(1, subject.tiny.label.long()[:, None])[:, 0],
            1e-9,
            "log_prob under a context per row",
        )
        expect(
            bool((looped[:, 0] - looped[:, 1]).abs().max() > 1e-3), "the context changes nothing"
        )


@check
def targets(subject: Subject) -> None:
    """log_target equals log_prob with the first variable set to each candidate, with and without
    missing cells."""
    needs(subject.contexts is None, "log_target takes no context")
    axis = subject.tiny.axes[0]
    candidates = axis.points if axis.variable.discrete else axis.data[:5]
    mask = (
        subject.tiny.mask
        if subject.can.missing != "none" or subject.can.marginals == "any"
        else torch.ones_like(subject.tiny.mask)
    )
    event = Event(subject.tiny.rows, mask)
    looped = []
    for candidate in candidates:
        value = event.value.clone()
        known = mask.clone()
        value[:, 0] = candidate
        known[:, 0] = True
        with torch.no_grad():
            looped.append(subject.density.log_prob(Event(value, known)))
    with torch.no_grad():
        close(
            subject.density.log_target(event, candidates),
            torch.stack(looped, 1),
            1e-7,
            "log_target",
        )
