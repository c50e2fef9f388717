"""Checks of the contract: what is declared is there, what is not is refused; seeds, files, batches,
extremes, bad input.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from safetensors.torch import load, save

from conjoin.core import CapabilityError, Density, Edit, Event, stream
from conjoin.testing.fitted import Fitted
from conjoin.testing.registry import NotApplicable, check, check_of, close, expect, needs
from conjoin.testing.spaces import masked
from conjoin.testing.subjects import Subject

__all__ = [
    "bad_input",
    "batches",
    "build_seeds",
    "capabilities",
    "differentiable",
    "extremes",
    "features",
    "hooks",
    "inputs_unchanged",
    "reparameterized",
    "saving",
    "seeds",
    "step",
    "stochastic",
]


def _raises(kind: type[Exception], call: Callable[[], Any]) -> str | None:
    """The message of the exception, or None where there was none."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------------- capabilities


def _twins(subject: Subject) -> dict[str, tuple[bool, Callable[[], Any]]]:
    """Every public twin that can be undeclared: whether it is declared, and a call of it."""
    can = subject.can
    density = subject.density
    rows = subject.tiny.rows[:3]
    some = Event(rows, subject.tiny.patterns()[0].expand_as(rows))
    # the first cell missing: no prefix
    last = Event(rows, (torch.arange(subject.tiny.size) > 0).expand_as(rows))
    boxed = some._replace(within=subject.tiny.box(subject.free))
    context = subject.context(3)
    twins: dict[str, tuple[bool, Callable[[], Any]]] = {
        "sample_conditional": (
            can.conditionals in ("any", "approximate"),
            lambda: density.sample_conditional(some, context),
        ),
        "mode": (can.mode != "none", lambda: density.mode(some, context)),
        "regions of mode": (False, lambda: density.mode(boxed, context)),
        "features": (can.features, lambda: density.features(Event(rows))),
        "unfold": (can.unfolds, lambda: density.unfold(3, context)),
        "typicality": (can.typical, lambda: density.typicality(Event(rows))),
        "edit": (
            can.edits,
            lambda: density.edit(Event(rows), context, how=Edit(1.0, torch.zeros(3))),
        ),
        "statistics": (can.statistics, lambda: density.statistics(Event(rows), context)),
        "regions of log_prob": (can.regions, lambda: density.log_prob(boxed, context)),
        "regions of sample_conditional": (
            can.regions,
            lambda: density.sample_conditional(boxed, context),
        ),
        "missing cells": (
            can.missing != "none" or can.marginals == "any",
            lambda: density.log_prob(last, context),
        ),
        "log_contexts": (
            density.context_space is not None,
            lambda: density.log_contexts(Event(rows)),
        ),
        "context": (
            density.context_space is not None,
            lambda: density.log_prob(Event(rows), Event(torch.zeros(3).double())),
        ),
    }
    if not can.statistics:
        twins["maximise"] = (False, lambda: density.maximise({}))
    if not can.distils:
        twins["distil"] = (False, lambda: density.distil(1))
    if not can.sweeps:
        twins["sweep"] = (False, lambda: density.sweep(Event(rows), context, generator=stream(0)))
    if not can.step:
        twins["step"] = (False, lambda: density.step(None, rows[:, 0]))
    return twins


@check
def capabilities(subject: Subject) -> None:
    """What is declared can be called; what is not raises CapabilityError through its public
    twin."""
    for name, (declared, call) in _twins(subject).items():
        refusal = _raises(CapabilityError, call)
        expect(declared or refusal is not None, f"{name} is not declared, but answers")
        expect(not declared or refusal is None, f"{name} is declared, but refused: {refusal}")


@check_of("rows", "blocks")
def hooks(subject: Fitted) -> None:
    """A hook that is declared is written; none of the public twins is overridden."""
    kind = type(subject.density)
    can = subject.can
    declared = {
        "_sample_conditional": can.conditionals != "none",
        "_mode": can.mode != "none",
        "_features": can.features,
        "_unfold": can.unfolds,
        "_edit": can.edits,
        "_fit_typicality": can.typical,
        "_typicality": can.typical,
        "_sweep": can.sweeps,
        "_distil": can.distils,
        "_step": can.step,
        "_statistics": can.statistics,
        "_maximise": can.statistics,
    }
    for hook, wanted in declared.items():
        written = getattr(kind, hook) is not getattr(Density, hook)
        expect(written or not wanted, f"{hook} is declared but not written")
    for twin in (
        "log_prob",
        "sample",
        "loss",
        "forward",
        "sample_conditional",
        "mode",
        "statistics",
        "maximise",
        "log_target",
    ):
        expect(getattr(kind, twin) is getattr(Density, twin), f"{twin} is final, but overridden")


# -------------------------------------------------------------------------------- randomness, files


@check
def seeds(subject: Subject) -> None:
    """A seed fixes every draw, another seed changes it, and the global generator stays as it
    was."""
    before = torch.random.get_rng_state()
    first, again, other = (subject.sample(20, seed) for seed in (3, 3, 4))
    expect(torch.equal(first, again), "two samples from the same seed differ")
    expect(not torch.equal(first, other), "samples from different seeds are equal")
    if subject.can.conditionals in ("any", "approximate"):
        empty = masked(subject.tiny.rows[:20], torch.zeros(subject.tiny.size, dtype=torch.bool))
        first, again, other = (subject.sample_conditional(empty, seed).value for seed in (3, 3, 4))
        expect(torch.equal(first, again), "two conditional draws from the same seed differ")
        expect(not torch.equal(first, other), "conditional draws from different seeds are equal")
    subject.log_prob(Event(subject.tiny.rows))
    subject.density.loss(Event(subject.tiny.rows), subject.contexts, generator=stream(0))
    expect(torch.equal(before, torch.random.get_rng_state()), "the global torch generator moved")


@check
def build_seeds(subject: Subject) -> None:
    """Building is a function of the data and the generator, and leaves the global generator
    alone."""
    density = subject.density
    needs(subject.joint is None and subject.contexts is None, "built through its parts")

    def built() -> dict[str, torch.Tensor]:
        return (
            type(density)
            .build(density.space, density.config, subject.event, stream(5))
            .state_dict()
        )

    before = torch.random.get_rng_state()
    first = built()
    again = built()
    expect(
        all(torch.equal(first[key], again[key]) for key in first),
        "two builds from the same seed differ",
    )
    expect(
        torch.equal(before, torch.random.get_rng_state()), "build moves the global torch generator"
    )


@check
def saving(subject: Subject) -> None:
    """Config, structure (as JSON) and weights (as safetensors) give the same density, bit for
    bit."""
    copied = subject.rebuild()
    weights = save(
        {key: value.contiguous().clone() for key, value in subject.density.state_dict().items()}
    )
    copied.load_state_dict(load(weights))
    event = subject.event
    context = subject.contexts
    with torch.no_grad():
        first, again = (
            density.log_prob(event, context, generator=stream(0))
            for density in (subject.density, copied)
        )
    expect(torch.equal(first, again), "log_prob changed by saving and loading")
    drawn = [
        density.sample(20, subject.context(20), generator=stream(1)).value
        for density in (subject.density, copied)
    ]
    expect(torch.equal(*drawn), "samples changed by saving and loading")


@check
def batches(subject: Subject) -> None:
    """A batch of n rows and n batches of one row agree, with the same noise; so does another order
    of the rows."""
    event = subject.event.take(slice(0, 12))
    whole = subject.log_prob(event)
    single = torch.cat([subject.log_prob(event.take(slice(i, i + 1))) for i in range(event.rows)])
    close(single, whole, subject.rounding, "log_prob of single rows")
    close(
        subject.log_prob(event.take(torch.arange(11, -1, -1))).flip(0),
        whole,
        subject.rounding,
        "log_prob in reverse order",
    )
    expect(
        subject.log_prob(event.take(slice(0, 0))).shape == (0,), "log_prob of no rows is not empty"
    )


@check
def inputs_unchanged(subject: Subject) -> None:
    """No question writes into the event that it is given."""
    value = subject.tiny.rows.clone()
    mask = subject.tiny.mask.clone()
    event = Event(value, mask) if subject.can.missing != "none" else Event(value)
    subject.log_prob(event)
    subject.density.loss(event, subject.contexts, generator=stream(0))
    if subject.can.conditionals in ("any", "approximate"):
        subject.sample_conditional(event)
    if subject.can.mode != "none":
        subject.mode(event)
    expect(torch.equal(value, subject.tiny.rows), "the event's values were changed in place")
    expect(torch.equal(mask, subject.tiny.mask), "the event's mask was changed in place")


@check
def stochastic(subject: Subject) -> None:
    """log_prob depends on the generator where it is declared to be a Monte-Carlo estimate, and
    nowhere else (an average over draws of missing cells excepted)."""
    rows = Event(subject.tiny.rows)
    apart = bool((subject.log_prob(rows, 1) != subject.log_prob(rows, 2)).any())
    word = "depends" if apart else "does not depend"
    expect(
        apart == subject.can.stochastic,
        f"log_prob {word} on the generator, but stochastic = {subject.can.stochastic}",
    )


# ------------------------------------------------------------------------------ extremes, bad input


@check
def extremes(subject: Subject) -> None:
    """log_prob and its gradient stay finite at 1e6 and -1e6 on numbers without bounds."""
    columns = [
        d
        for d, axis in enumerate(subject.tiny.axes)
        if not axis.variable.discrete and axis.variable.bounds == (None, None)
    ]
    needs(bool(columns), "no unbounded numbers")
    density = copy.deepcopy(subject.density)
    for d in columns:
        for far in (1e6, -1e6):
            value = subject.tiny.rows[:2].clone()
            value[:, d] = far
            name = subject.tiny.space.variables[d].name
            log_prob = subject.log_prob(Event(value))
            expect(
                bool(torch.isfinite(log_prob).all()),
                f"log_prob is {log_prob[0]:g} at {name} = {far:g}",
            )
            density.zero_grad()
            density.loss(Event(value), subject.context(2), generator=stream(0)).backward()
            for key, parameter in density.named_parameters():
                finite = parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
                expect(finite, f"the gradient of {key} is not finite at {name} = {far:g}")


def _bad(subject: Subject) -> dict[str, tuple[Event, str]]:
    """Impossible events, and the name that their refusal has to say."""
    rows = subject.tiny.rows[:3]
    variables = subject.tiny.space.variables
    cases = {"a column too many": (Event(torch.cat([rows, rows], 1)), "shape")}
    cases["a mask of another shape"] = (Event(rows, rows[:2] > 0), "shape")
    for d, variable in enumerate(variables):
        codes = {
            "a code out of range": float(variable.cardinality),
            "a negative code": -1.0,
            "a broken code": 0.5,
        }
        codes = codes if variable.discrete else {}
        for what, cell in ({"NaN": math.nan, "infinity": math.inf} | codes).items():
            value = rows.clone()
            value[1, d] = cell
            cases[f"{what} in {variable.name}"] = (Event(value), variable.name)
    return cases


@check
def bad_input(subject: Subject) -> None:
    """An impossible event raises ValueError that names the variable."""
    for what, (event, name) in _bad(subject).items():
        for call in (subject.density.log_prob, subject.density.loss):
            message = _raises(ValueError, partial(call, event, subject.context(3)))
            expect(message is not None, f"{what} is accepted by {call.__name__}")
            expect(name in str(message), f"{what}: the message does not name {name!r}: {message}")


# ---------------------------------------------------------------------------------- declared extras


@check
def features(subject: Subject) -> None:
    """(B, F) finite numbers that depend on the row."""
    needs(subject.can.features, "no features")
    out = subject.density.features(Event(subject.tiny.rows))
    expect(
        out.ndim == 2 and len(out) == len(subject.tiny.rows),
        f"features have shape {tuple(out.shape)}",
    )
    expect(bool(torch.isfinite(out).all()), "features are not finite")
    expect(bool((out.std(0) > 0).any()), "features are the same for every row")


@check
def step(subject: Subject) -> None:
    """``step`` returns log p(next token | tokens so far): normalised, and the ratio of enumerated
    sums."""
    needs(subject.can.step, "no step")
    axes = subject.tiny.axes
    if any(not axis.variable.discrete for axis in axes) or len(axes) < 2:
        raise NotApplicable("a space of tokens")
    rows = subject.tiny.rows[:5]
    state = None
    for d in range(1, len(axes)):
        state, log_next = subject.density.step(state, rows[:, d - 1])
        close(
            log_next.logsumexp(-1),
            torch.zeros(5).double(),
            1e-6,
            "the sum of the next token's probabilities",
        )
        for row, got in zip(rows, log_next, strict=True):
            prefix = torch.arange(len(axes)) < d
            table = subject.enumerate(subject.tiny.anywhere(prefix, row))
            mass = (
                torch.zeros(axes[d].variable.cardinality)
                .double()
                .index_add(0, table.points[:, d].long(), table.log_mass.exp())
            )
            close(
                got[: len(mass)].exp(), mass / mass.sum(), 1e-6, f"step {d} from {row[:d].tolist()}"
            )


@check
def differentiable(subject: Subject) -> None:
    """The gradient of log_prob with respect to the event equals central differences."""
    needs(subject.can.differentiable, "not differentiable")
    real = [d for d, axis in enumerate(subject.tiny.axes) if not axis.variable.has_mass]
    needs(bool(real), "no densities")
    rows = subject.tiny.rows[:5].clone().requires_grad_()
    log_prob = subject.density.log_prob(
        Event(rows), subject.context(5), generator=stream(0, "log_prob")
    )
    gradient = torch.autograd.grad(log_prob.sum(), rows)[0]
    for d in real:
        nudge = 1e-5 * (torch.arange(rows.shape[1]) == d)
        slope = (
            subject.log_prob(Event(rows.detach() + nudge))
            - subject.log_prob(Event(rows.detach() - nudge))
        ) / 2e-5
        close(gradient[:, d], slope, 1e-4, f"d log_prob / d {subject.tiny.space.variables[d].name}")


@check
def reparameterized(subject: Subject) -> None:
    """Draws carry a gradient to the parameters, equal to a difference with common noise."""
    needs(subject.can.reparameterized, "draws carry no gradient")
    density = copy.deepcopy(subject.density)
    parameters = [p for p in density.parameters() if p.requires_grad]

    def mean() -> torch.Tensor:
        return density._sample(50, subject.context(50), stream(2)).value.mean()

    gradients = torch.autograd.grad(mean(), parameters, allow_unused=True)
    expect(
        any(g is not None and bool((g != 0).any()) for g in gradients),
        "no parameter moves the draws",
    )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        with torch.no_grad():
            parameter.add_(1e-5)
            up = mean()
            parameter.sub_(2e-5)
            slope = (up - mean()) / 2e-5
            parameter.add_(1e-5)
        close(
            torch.zeros_like(slope) if gradient is None else gradient.sum(),
            slope,
            1e-3,
            "d draws / d parameters",
        )
