"""Checks of learning: losses, gradients, sufficient statistics, expectation-maximisation."""

from typing import Any

import torch

from conjoin.core import Likelihood, Recipe, stream
from conjoin.testing.fitted import Fitted
from conjoin.testing.registry import check_of, close, expect, needs
from conjoin.training.learners import Batch, Gradient

__all__ = [
    "expectation_maximisation",
    "gradients",
    "loss_is_likelihood",
    "score_identity",
    "statistics",
    "weights",
]

HEAVY_WEIGHT = 1e7  # weight of a row beside which every prior vanishes
EM_ROUNDS = 400  # of expectation-maximisation before its gradient has to be near zero


def _gradients(
    subject: Fitted, event: Any, contexts: Any, weight: torch.Tensor
) -> dict[str, torch.Tensor]:
    subject.density.zero_grad()
    subject.density.loss(event, contexts, weight=weight, generator=stream(0, "loss")).backward()
    first = subject.beginning
    before = set() if first is None else {id(parameter) for parameter in first.parameters()}
    named = {
        name: parameter
        for name, parameter in subject.density.named_parameters()
        if id(parameter) not in before  # they have been fitted before the rest
    }
    missing = [
        name
        for name, parameter in named.items()
        if parameter.requires_grad and parameter.grad is None
    ]
    expect(not missing, f"no gradient reaches {', '.join(missing)}")
    return {
        name: parameter.grad
        for name, parameter in named.items()
        if parameter.grad is not None and parameter.numel()
    }


def _not_withheld(subject: Fitted) -> None:
    """Where a null is learned, the context is withheld from rows by chance, and the loss is that of
    other rows than were given."""
    withheld = subject.contexts is not None and subject.can.null_context == "learned"
    needs(not withheld, "the context is withheld at times")


@check_of("rows", "blocks")
def score_identity(subject: Fitted) -> None:
    """E_p[d log p / d theta] = 0, by enumeration: the loss is the negative log of a normalised
    probability.

    E. Lehmann and G. Casella (1998), Theory of Point Estimation, lemma 5.3.
    """
    needs(subject.can.objective == "likelihood", "trained by a surrogate")
    needs(subject.can.likelihood is Likelihood.EXACT, "log_prob is not exact")
    _not_withheld(subject)
    fresh = subject.fresh()
    rows, weight = subject.likely
    for name, gradient in _gradients(fresh, rows, fresh.context(rows.rows), weight).items():
        worst = float(gradient.abs().max())
        expect(worst < 2e-3, f"E[d loss / d {name}] is {worst:.2g}, not 0")


@check_of("rows", "blocks")
def loss_is_likelihood(subject: Fitted) -> None:
    """Where the objective is the likelihood, the loss is the weighted mean of -log_prob."""
    needs(
        subject.can.objective == "likelihood" and subject.can.likelihood is Likelihood.EXACT,
        "trained by something else",
    )
    needs(subject.contexts is None, "looked at under one context")
    rows = subject.learned
    weight = torch.arange(1, rows.rows + 1).double()
    with torch.no_grad():
        loss = subject.density.loss(rows, weight=weight)
    close(loss, -(weight * subject.log_prob(rows)).sum() / weight.sum(), 1e-9, "the loss")


@check_of("rows", "blocks")
def gradients(subject: Fitted) -> None:
    """After five steps of the gradient a gradient still reaches every named parameter."""
    needs(
        subject.joint is None or subject.joint.separate_predictor is None,
        "the base's own y is summed out: what it knows of y learns nothing",
    )
    fresh = subject.fresh()
    learner = Gradient(fresh.density, Recipe(rate=1e-3))
    weight = torch.ones(fresh.event.rows, dtype=torch.float64)
    for index in range(5):
        if fresh.contexts is None:
            learner.step(Batch(fresh.event, weight, float(weight.sum())), stream(index))
    for name, gradient in _gradients(fresh, fresh.event, fresh.contexts, weight).items():
        expect(bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite")
        expect(bool((gradient != 0).any()), f"the gradient of {name} is zero")


def _statistics(
    subject: Fitted, rows: slice | torch.Tensor, weight: torch.Tensor
) -> dict[str, torch.Tensor]:
    contexts = None if subject.contexts is None else subject.contexts.take(rows)
    return subject.density.statistics(subject.event.take(rows), contexts, weight=weight)


@check_of("rows", "blocks")
def statistics(subject: Fitted) -> None:
    """Statistics add over batches, weight 2 is the row twice, and their log_prob is the weighted
    sum of log_prob."""
    needs(subject.can.statistics, "no sufficient statistics")
    rows = subject.event.rows
    weight = 1.0 + torch.arange(rows).double() % 3
    whole = _statistics(subject, slice(None), weight)
    parts = [
        _statistics(subject, part, weight[part])
        for part in (slice(0, rows // 3), slice(rows // 3, rows))
    ]
    repeated = torch.arange(rows).repeat_interleave(weight.long())
    again = _statistics(subject, repeated, torch.ones(len(repeated), dtype=torch.float64))
    for key, value in whole.items():
        close(parts[0][key] + parts[1][key], value, 1e-8, f"statistics {key} of two batches")
        close(again[key], value, 1e-8, f"statistics {key} of repeated rows")
    with torch.no_grad():
        total = (weight * subject.density.log_prob(subject.event, subject.contexts)).sum()
    close(whole["log_prob"], total, 1e-9, "the log_prob of the statistics")


@check_of("rows", "blocks")
def weights(subject: Fitted) -> None:
    """The loss of a row of weight 2 is that of the row twice; a row of weight 0 counts for
    nothing."""
    needs(not subject.can.stochastic and subject.can.objective == "likelihood", "a loss with noise")
    _not_withheld(subject)
    event = subject.learned
    rows = subject.event.rows
    weight = (torch.arange(rows) % 3).double()
    repeated = torch.arange(rows).repeat_interleave(weight.long())
    contexts = None if subject.contexts is None else subject.contexts.take(repeated)
    with torch.no_grad():
        weighted = subject.density.loss(event, subject.contexts, weight=weight)
        close(
            subject.density.loss(event.take(repeated), contexts),
            weighted,
            1e-9,
            "the loss of repeated rows",
        )


def _shake(subject: Fitted) -> None:
    """Parameters away from where the fit left them: no symmetry of a start may hide what the M step
    does."""
    noise = stream(0, "shake")
    with torch.no_grad():
        for parameter in subject.density.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))


@check_of("rows", "blocks")
def expectation_maximisation(subject: Fitted) -> None:
    """EM never lowers the likelihood, and where it comes to rest the gradient of the loss is near
    zero.

    A. Dempster, N. Laird and D. Rubin (1977), theorems 1 and 4; the second ties the M step to
    log_prob. Priors vanish beside rows of weight 1e7."""
    needs(subject.can.statistics, "no sufficient statistics")
    needs(subject.can.objective == "likelihood", "its M step raises a surrogate")
    fresh = subject.fresh()
    weight = torch.full((fresh.event.rows,), HEAVY_WEIGHT, dtype=torch.float64)
    _shake(fresh)
    value = -torch.inf
    for index in range(EM_ROUNDS):
        found = fresh.density.statistics(fresh.event, fresh.contexts, weight=weight)
        last = value
        value = float(found.pop("log_prob")) / float(weight.sum())
        expect(
            value >= last - 1e-6,
            f"round {index} lowers the mean log_prob from {last:.7f} to {value:.7f}",
        )
        fresh.density.maximise(found)
        if abs(value - last) < 1e-10:
            break
    for name, gradient in _gradients(fresh, fresh.event, fresh.contexts, weight).items():
        worst = float(gradient.abs().max())
        expect(worst < 3e-3, f"EM has come to rest, but d loss / d {name} is {worst:.2g}")
