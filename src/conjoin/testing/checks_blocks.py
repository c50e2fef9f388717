"""Checks of rows of two blocks, columns and the picture that goes with them: what is known of one
block when the other is missing.

A density whose whole rows are exact is held to the same by ``missing_cells``; these checks hold
bounds to it as well.

Shape letters: D variables, K levels of the first variable.
"""

import torch
from torch import Tensor

from conjoin.core import Event, Likelihood
from conjoin.testing.registry import check, close, expect, needs
from conjoin.testing.spaces import masked, product
from conjoin.testing.subjects import Subject

__all__ = ["missing_block", "missing_target"]

BOUND_SEEDS = 48  # generators over which a bound is averaged
SLACK_NATS = 0.1  # nats by which their mean may be too high by chance


def _columns(subject: Subject) -> Tensor:
    """(D,) which variables are columns."""
    needs(0 < subject.tiny.columns < subject.tiny.size, "rows of one block")
    needs(subject.can.missing in ("exact", "approximate"), "what is missing is not summed out")
    return torch.arange(subject.tiny.size) < subject.tiny.columns


@check
def missing_block(subject: Subject) -> None:
    """log p of the columns sums to one without the picture, and is at least the sum of what is said
    of the columns beside each picture: the same, where whole rows are exact."""
    columns = _columns(subject)
    row = subject.tiny.rows[0]
    axes = zip(subject.tiny.axes, columns, subject.tiny.anywhere(~columns, row), strict=True)
    points, log_volume = product([axis.whole if keep else held for axis, keep, held in axes])
    alone = subject.log_prob(masked(points, columns))
    relative = subject.can.likelihood is Likelihood.UNNORMALIZED
    total = float((alone + log_volume).logsumexp(0).exp())
    what = "log_prob of the columns, the picture missing,"
    expect(relative or abs(total - 1) < 0.01, f"{what} sums to {total:.5f}, not to 1")
    for point, got in zip(points[:4], alone[:4], strict=True):
        every = subject.enumerate(subject.tiny.anywhere(columns, point))
        if subject.can.likelihood is Likelihood.LOWER_BOUND:
            summed = subject.estimates(Event(every.points), BOUND_SEEDS).mean(0).logsumexp(0)
            expect(
                got >= summed - SLACK_NATS, f"{what} is {got:.4f}, less than the sum {summed:.4f}"
            )
        else:
            close(got, every.log_mass.logsumexp(0), subject.tolerance, what)


@check
def missing_target(subject: Subject) -> None:
    """With the first variable missing, log_prob is the log of the sum over its levels, beside a
    picture and without one."""
    columns = _columns(subject)
    axis = subject.tiny.axes[0]
    needs(axis.variable.discrete, "the first variable is a number")
    rows = subject.tiny.rows[:12]
    first = torch.arange(subject.tiny.size) == 0
    for known in (~first, columns & ~first):
        event = masked(rows, known)
        with torch.no_grad():
            each = subject.density.log_target(event, axis.points)
            got = subject.density.log_prob(event)
        close(got, each.logsumexp(1), max(1e-6, subject.rounding), "log_prob with y missing")
