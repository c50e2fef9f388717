"""The check of what a density answers by where the context is not known that it is conditioned on.

Shape letters: B rows, G rows of the list, K classes.
"""

from typing import Any

import torch
from torch import Tensor

from conjoin.core import CapabilityError, Event, Likelihood, stream
from conjoin.testing.block_subjects import BlockSubject
from conjoin.testing.checks_mass import DRAWS
from conjoin.testing.checks_mass import agree as agree_in_rows
from conjoin.testing.checks_sums import agree
from conjoin.testing.fitted import Fitted, class_of
from conjoin.testing.registry import check_of, close, expect, needs
from conjoin.testing.spaces import product
from conjoin.testing.subjects import Enumeration, Subject

__all__ = ["null_context"]

SHARES_APART = 0.1  # of a class: by which p(x) = sum_k p(k) p(x | k), and in the rows of the fit


@check_of("rows", "blocks")
def null_context(subject: Fitted) -> None:
    """Without a context: "none" refuses; "learned" is a density of its own, which sums to one and
    is drawn from; "marginal" is that, and the mean of p(x | class) by the shares of the classes. A
    row whose context is not known answers as without one, or is refused, whatever stands beside
    it."""
    needs(subject.contexts is not None, "no context")
    word = subject.can.null_context
    if word == "none":
        _refused(subject)
        return
    rows, log_weight = _every(subject)
    log_p = _without(subject, rows)
    kind = subject.can.likelihood
    total = float((log_p + log_weight).logsumexp(0).exp())
    exact = kind in (Likelihood.EXACT, Likelihood.APPROXIMATE)
    if exact:
        fine = abs(total - 1) < subject.tolerance
        expect(fine, f"without a context probabilities sum to {total:.5f}, not to 1")
    elif kind is Likelihood.LOWER_BOUND and not subject.noisy:
        expect(total < 1.01, f"without a context a lower bound sums to {total:.5f}")
    _unknown_rows(subject)
    if word == "marginal":
        _is_marginal(subject, rows, log_p)
    if exact:
        _drawn(subject, rows, log_p + log_weight)


def _refused(subject: Fitted) -> None:
    """Each question without a context."""
    density = subject.density
    rows = subject.complete.take(slice(0, 3))
    asked = {
        "log_prob": lambda: density.log_prob(rows),
        "sample": lambda: density.sample(3),
        "a row whose context is not known": lambda: density.log_prob(rows, _some_unknown(subject)),
    }
    if subject.can.statistics:
        asked["statistics"] = lambda: density.statistics(rows)
    if subject.can.mode != "none":
        asked["mode"] = lambda: density.mode(rows)
    if subject.can.conditionals != "none":
        asked["sample_conditional"] = lambda: density.sample_conditional(rows)
    for name, call in asked.items():
        try:
            call()
        except CapabilityError:
            continue
        expect(False, f"null_context = 'none', but without a context {name} answers")


def _every(subject: Any) -> tuple[Any, Tensor]:
    """The rows of the space, and the logarithm of what each stands for."""
    if subject.form == "blocks":
        return subject.tiny.every, subject.tiny.log_weight
    points, log_weight = product([axis.whole for axis in subject.tiny.axes])
    return Event(points), log_weight


def _without(subject: Fitted, rows: Any, context: Any = None) -> Tensor:
    with torch.no_grad():
        out: Tensor = subject.density.log_prob(rows, context, generator=stream(0, "log_prob"))
    return out


def _some_unknown(subject: Fitted) -> Any:
    """The contexts of three rows, of which nothing is known of the second."""
    first = subject.contexts.take(torch.zeros(3, dtype=torch.long))
    gone = torch.tensor([False, True, False])
    parts = [first] if isinstance(first, Event) else list(first.values())
    hidden = [part.hide(gone.reshape(3, *(1,) * (part.value.dim() - 1))) for part in parts]
    return (
        hidden[0]
        if isinstance(first, Event)
        else type(first)(dict(zip(first, hidden, strict=True)))
    )


def _unknown_rows(subject: Fitted) -> None:
    rows = subject.complete.take(slice(0, 3))
    try:
        beside = _without(subject, rows, _some_unknown(subject))
    except CapabilityError:
        return
    if not subject.can.stochastic:
        alone = _without(subject, rows)[1:2]
        close(beside[1:2], alone, subject.rounding, "log_prob of a row whose context is not known")


def _is_marginal(subject: Fitted, rows: Any, log_p: Tensor) -> None:
    """A mixture of the classes, by the shares that fit it best: nothing may be left over, and the
    shares are those of the rows of the fit."""
    needs(isinstance(subject.contexts, Event), "contexts that can't be listed")
    count = len(log_p)
    each = [_without(subject, rows, class_of(count, code)).exp() for code in (0, 1)]
    apart = each[1] - each[0]
    share = float((apart * (log_p.exp() - each[0])).sum() / apart.square().sum())
    mixed = each[0] + share * apart
    close(log_p.exp(), mixed, 1e-6, "p(x) without a context, beside the mean over contexts,")
    seen = float(subject.contexts.value.mean())
    expect(
        abs(share - seen) < SHARES_APART,
        f"p(x) without a context gives class 1 the share {share:.3f}; in the rows it is {seen:.3f}",
    )


def _drawn(subject: Fitted, rows: Any, log_mass: Tensor) -> None:
    """Draws without a context follow log_prob without one."""
    draws = subject.density.sample(DRAWS, generator=stream(0, "sample"))
    what = "draws without a context"
    if isinstance(subject, BlockSubject):
        agree(subject, draws, log_mass, what, rough=False)
    elif isinstance(subject, Subject):
        table = Enumeration(rows.value, log_mass)
        agree_in_rows(subject, draws.value, table, list(range(subject.tiny.size)), what)
