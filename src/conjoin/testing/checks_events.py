"""Checks of the contract where rows are blocks or records: what is declared is there, what is not
is refused; seeds, files, batches, bad input, what only some declare.

Shape letters: B rows, F features.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from safetensors.torch import load, save

from conjoin.core import CapabilityError, Density, Edit, Event, Record, stream
from conjoin.testing.block_spaces import events_of, same_rows
from conjoin.testing.block_subjects import BlockSubject
from conjoin.testing.checks_sums import mixed
from conjoin.testing.registry import check_of, close, expect, needs

__all__ = [
    "bad_input",
    "batches",
    "build_seeds",
    "capabilities",
    "edits",
    "extremes",
    "features",
    "inputs_unchanged",
    "saving",
    "seeds",
    "stochastic",
    "typical",
]

FAR = 1e6
EDIT_ROUNDING = 1e-4  # of places that an edit keeps, which draws compute in float32

check = check_of("blocks")


def _raises(kind: type[Exception], call: Callable[[], Any]) -> str | None:
    """The message of the exception, or None where there was none."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


def _taken(subject: BlockSubject) -> list[Any]:
    """One row of each question that log_prob answers."""
    return [
        question.event.take(slice(0, 1))
        for question in subject.tiny.questions()
        if _raises(CapabilityError, partial(subject.log_prob, question.event)) is None
    ]


# ------------------------------------------------------------------------------------- capabilities


def _twins(subject: BlockSubject) -> dict[str, tuple[bool, Callable[[], Any]]]:
    """Every public twin that can be undeclared: whether it is declared, and a call of it."""
    able = subject.can
    density = subject.density
    rows = subject.complete.take(slice(0, 3))
    context = subject.context(3)
    draws = able.conditionals in ("any", "prefix", "approximate")
    twins: dict[str, tuple[bool, Callable[[], Any]]] = {
        "sample_conditional": (draws, lambda: density.sample_conditional(rows, context)),
        "mode": (able.mode != "none", lambda: density.mode(rows, context)),
        "features": (able.features, lambda: density.features(rows)),
        "typicality": (able.typical, lambda: density.typicality(rows)),
        "unfold": (able.unfolds, lambda: density.unfold(3, context)),
        "edit": (able.edits, lambda: density.edit(rows, context, how=Edit(1.0, torch.zeros(3)))),
        "statistics": (able.statistics, lambda: density.statistics(rows, subject.context(3))),
        "begin": (able.step, lambda: density.begin(3, context)),
        "a context": (
            density.context_space is not None and bool(density.context_space.blocks),
            lambda: density.log_prob(rows, Event(torch.zeros(3).double())),
        ),
    }
    if subject.form == "blocks" and subject.contexts is not None and not _of_a_class(subject):
        del twins["a context"]
    if not able.statistics:
        twins["maximise"] = (False, lambda: density.maximise({}))
    if not able.distils:
        twins["distil"] = (False, lambda: density.distil(1))
    if not able.sweeps:
        twins["sweep"] = (False, lambda: density.sweep(rows, context, generator=stream(0)))
    return twins


def _of_a_class(subject: BlockSubject) -> bool:
    return isinstance(subject.contexts, Event)


@check
def capabilities(subject: BlockSubject) -> None:
    """What is declared can be called; what is not raises CapabilityError through its public twin.
    Parts of rows are refused where nothing is declared of them."""
    for name, (declared, call) in _twins(subject).items():
        refusal = _raises(CapabilityError, call)
        expect(declared or refusal is not None, f"{name} is not declared, but answers")
        expect(not declared or refusal is None, f"{name} is declared, but refused: {refusal}")
    able = subject.can
    for question in subject.tiny.questions():
        prefix = able.marginals == "prefix" and question.ordered
        if able.missing == "none" and able.marginals != "any" and not prefix:
            call = partial(subject.log_prob, question.event)
            expect(
                _raises(CapabilityError, call) is not None,
                f"log_prob ({question.name}) is not declared, but answers",
            )
    for event, _ in subject.tiny.boxed():
        refusal = _raises(CapabilityError, partial(subject.log_prob, event))
        expect(able.regions or refusal is not None, "regions are not declared, but answered")


# -------------------------------------------------------------------------------- randomness, files


@check
def seeds(subject: BlockSubject) -> None:
    """A seed fixes every draw, another seed changes it, and the global generator stays as it
    was."""
    before = torch.random.get_rng_state()
    first, again, other = (subject.drawn(20, seed) for seed in (3, 3, 4))
    expect(same_rows(first, again), "two samples from the same seed differ")
    expect(not same_rows(first, other), "samples from different seeds are equal")
    if subject.can.conditionals != "none":
        nothing = subject.tiny.nothing(20)
        first, again, other = (subject.completed(nothing, seed).event for seed in (3, 3, 4))
        expect(same_rows(first, again), "two conditional draws from the same seed differ")
        expect(not same_rows(first, other), "conditional draws from different seeds are equal")
    subject.log_prob(subject.event)
    subject.density.loss(subject.event, subject.contexts, generator=stream(0))
    expect(torch.equal(before, torch.random.get_rng_state()), "the global torch generator moved")


@check
def build_seeds(subject: BlockSubject) -> None:
    """Building is a function of the data and the generator, and leaves the global generator
    alone."""
    needs(subject.contexts is None, "built through its parts")
    density = subject.density
    make = partial(type(density).build, density.space, density.config, subject.told_to_build)
    before = torch.random.get_rng_state()
    first, again = (make(stream(5)).state_dict() for _ in range(2))
    same = all(torch.equal(first[key], again[key]) for key in first)
    expect(same and first.keys() == again.keys(), "two builds from the same seed differ")
    expect(torch.equal(before, torch.random.get_rng_state()), "build moves the global generator")


@check
def saving(subject: BlockSubject) -> None:
    """Config, structure (as JSON) and weights (as safetensors) give the same density, bit for bit:
    its log_prob, its draws, and its draws of what is open."""
    copied = subject.rebuild()
    weights = {
        key: value.contiguous().clone() for key, value in subject.density.state_dict().items()
    }
    copied.load_state_dict(load(save(weights)))
    pair = (subject.density, copied)
    asked = mixed(subject, [subject.complete.take(slice(0, 4)), *_taken(subject)])
    context = subject.context(asked.rows)
    with torch.no_grad():
        log_p = [density.log_prob(asked, context, generator=stream(0)) for density in pair]
    expect(torch.equal(*log_p), "log_prob changed by saving and loading")
    drawn = [density.sample(20, subject.context(20), generator=stream(1)) for density in pair]
    expect(same_rows(*drawn), "samples changed by saving and loading")


@check
def batches(subject: BlockSubject) -> None:
    """Rows that know different cells answer alone as beside others, with the same noise, and in
    another order as in this one; so do rows of different lengths."""
    event = mixed(subject, [subject.event.take(slice(0, 8)), *_taken(subject)])
    whole = subject.log_prob(event)
    rows = range(event.rows)
    single = torch.cat([subject.log_prob(event.take(slice(i, i + 1))) for i in rows])
    close(single, whole, subject.rounding, "log_prob of single rows")
    back = torch.arange(event.rows - 1, -1, -1)
    turned = subject.log_prob(event.take(back)).flip(0)
    close(turned, whole, subject.rounding, "log_prob in reverse order")
    none = subject.log_prob(event.take(slice(0, 0)))
    expect(none.shape == (0,), "log_prob of no rows is not empty")


@check
def inputs_unchanged(subject: BlockSubject) -> None:
    """No question writes into the event that it is given."""
    event = subject.event
    before = copy.deepcopy(event)
    subject.log_prob(event)
    subject.density.loss(event, subject.contexts, generator=stream(0))
    if subject.can.conditionals != "none":
        for asked in _taken(subject):
            copied = copy.deepcopy(asked)
            subject.completed(asked)
            expect(same_rows(asked, copied), "a question was changed in place")
    expect(same_rows(before, event), "the event was changed in place")


@check
def stochastic(subject: BlockSubject) -> None:
    """log_prob of complete rows depends on the generator where it is declared to be a Monte-Carlo
    estimate, and nowhere else."""
    rows = subject.complete
    apart = bool((subject.log_prob(rows, 1) != subject.log_prob(rows, 2)).any())
    word = "depends" if apart else "does not depend"
    expect(
        apart == subject.can.stochastic,
        f"log_prob {word} on the generator, but stochastic = {subject.can.stochastic}",
    )


# ------------------------------------------------------------------------------ extremes, bad input


@check
def extremes(subject: BlockSubject) -> None:
    """log_prob and its gradient stay finite at 1e6 and -1e6 on numbers."""
    needs(not subject.tiny.has_mass, "no numbers")
    density = copy.deepcopy(subject.density)
    for far in (FAR, -FAR):
        rows = _far(subject, far)
        log_prob = subject.log_prob(rows)
        expect(bool(torch.isfinite(log_prob).all()), f"log_prob is not finite at {far:g}")
        density.zero_grad()
        density.loss(rows, subject.context(rows.rows), generator=stream(0)).backward()
        for key, parameter in density.named_parameters():
            finite = parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
            expect(finite, f"the gradient of {key} is not finite at {far:g}")


def _far(subject: BlockSubject, far: float) -> Any:
    """Rows whose first number is far away."""
    rows = subject.complete.take(slice(0, 8))
    out = {}
    named = {block.name: block for block in subject.tiny.blocks}
    for name, event in events_of(rows).items():
        block = named.get(name, subject.tiny.space)
        value = event.value.clone()
        numbers = torch.tensor([not variable.discrete for variable in block.variables])
        if bool(numbers.any()):
            value[:, 0] = torch.where(numbers if value.dim() > 2 else numbers[0], far, value[:, 0])
        out[name] = event._replace(value=value)
    return Record(out) if isinstance(rows, Record) else out[""]


def _bad(subject: BlockSubject) -> dict[str, Any]:
    """Impossible events of the last block, by what is wrong with them."""
    rows = subject.complete.take(slice(0, 3))
    block = subject.tiny.blocks[-1]
    event = events_of(rows)[block.name if isinstance(rows, Record) else ""]
    code = torch.full_like(event.value, block.variables[0].cardinality)
    wide = torch.cat([event.value] * (block.shape[0] + 1), 1)
    cases = {
        "a code out of range": Event(code),
        "too many positions": Event(wide),
        "a mask of another shape": Event(event.value, event.mask[:2]),
    }
    if event.value.is_floating_point():
        cases["NaN"] = Event(torch.full_like(event.value, math.nan))
    return {
        what: rows.updated({block.name: bad}) if isinstance(rows, Record) else bad
        for what, bad in cases.items()
    }


@check
def bad_input(subject: BlockSubject) -> None:
    """An impossible event raises ValueError that names the block."""
    name = subject.tiny.blocks[-1].name
    for what, event in _bad(subject).items():
        for call in (subject.density.log_prob, subject.density.loss):
            message = _raises(ValueError, partial(call, event, subject.context(3)))
            expect(message is not None, f"{what} is accepted by {call.__name__}")
            expect(name in str(message), f"{what}: the message does not name {name!r}: {message}")


# ---------------------------------------------------------------------------------- declared extras


@check
def features(subject: BlockSubject) -> None:
    """(B, F) finite numbers that depend on the row, and on the row alone."""
    needs(subject.can.features, "no features")
    rows = subject.complete
    with torch.no_grad():
        out = subject.density.features(rows)
        alone = [subject.density.features(rows.take(slice(i, i + 1))) for i in range(8)]
    expect(out.ndim == 2 and len(out) == rows.rows, f"features have shape {tuple(out.shape)}")
    expect(bool(torch.isfinite(out).all()), "features are not finite")
    expect(bool((out.std(0) > 0).any()), "features are the same for every row")
    close(torch.cat(alone), out[:8], subject.rounding, "features of single rows")
    if subject.can.step and isinstance(rows, Event):
        _features_of_beginnings(subject, rows)


def _features_of_beginnings(subject: BlockSubject, rows: Event) -> None:
    """They are finite numbers of the beginning alone, whatever follows it."""
    length = rows.known.sum(1)
    places = torch.stack([torch.zeros_like(length), length.clamp_max(1), length], 1)
    with torch.no_grad():
        found = subject.density.features_at(rows, places)
    expect(found.shape[:2] == places.shape, f"features_at has shape {tuple(found.shape)}")
    expect(bool(torch.isfinite(found).all()), "features of beginnings are not finite")
    known = torch.arange(rows.value.shape[1]) < places[:, 1:2]
    cut = Event(rows.value.masked_fill(~known, 0), known, known)
    with torch.no_grad():
        alone = subject.density.features_at(cut, places[:, :2])
    close(alone, found[:, :2], subject.rounding, "features of beginnings and what follows")


def _reloaded(density: Density, empty: Density) -> Density:
    """``empty`` with the weights of the density, by way of a file's bytes."""
    weights = {key: value.contiguous().clone() for key, value in density.state_dict().items()}
    empty.load_state_dict(load(save(weights)))
    return empty


@check
def edits(subject: BlockSubject) -> None:
    """An edit of no noise changes nothing; points outside of ``where`` stay where they are among
    each other, codes stay; one of much noise changes the others."""
    needs(subject.can.edits, "no edits")
    space = subject.density.space
    needs(space.unordered, "edits of points alone are looked at where rows are blocks")
    rows = space.check(subject.complete.take(slice(0, 24)))
    none = torch.zeros(rows.rows)
    context = subject.context(rows.rows)
    same = subject.density.edit(rows, context, how=Edit(0.0, none))
    expect(torch.equal(same.value, rows.value), "an edit of no noise changes a row")
    numbers = torch.tensor([not variable.discrete for variable in space.variables])
    first = torch.arange(space.shape[0])[: rows.value.shape[1], None] < 1
    where = first.expand(rows.value.shape)
    out = subject.density.edit(rows, context, how=Edit(4.0, none, where, generator=stream(1)))
    width = rows.value.shape[1]
    value = out.value[:, :width]
    there = rows.known.all(2)
    codes = there[..., None] & ~numbers
    expect(torch.equal(value[codes], rows.value[codes]), "an edit changes codes of points")
    moved = (value - rows.value)[..., numbers]
    kept = there & ~first[:, 0]
    shift = (moved * kept[..., None]).sum(1) / kept.sum(1).clamp_min(1)[:, None]
    off = (moved - shift[:, None])[kept].abs()
    expect(not len(off) or float(off.max()) < EDIT_ROUNDING, "an edit moves points that it keeps")
    alone = there[:, 0] & (there.sum(1) > 1)
    apart = (moved[:, 0] - shift)[alone].abs()
    expect(float(apart.max()) > EDIT_ROUNDING, "an edit of much noise changes nothing")


@check
def typical(subject: BlockSubject) -> None:
    """Typicality is a number of the row alone, by one block or by how two go together greater for
    rows than for such as ignore what goes with what, and what was remembered is saved."""
    needs(subject.can.typical, "no statistic of familiarity of its own")
    fresh = subject.fresh()
    rows = subject.complete
    fresh.density.fit_typicality(rows)
    whole = fresh.density.typicality(rows)
    expect(whole.shape == (rows.rows,), f"typicality has shape {tuple(whole.shape)}")
    expect(bool(torch.isfinite(whole).all()), "typicality is not finite")
    alone = [fresh.density.typicality(rows.take(slice(i, i + 1))) for i in range(12)]
    close(torch.cat(alone), whole[:12], 10 * subject.rounding, "typicality of single rows")
    none = fresh.density.typicality(rows.take(slice(0, 0)))
    expect(none.shape == (0,), "no rows, no numbers")
    usual = fresh.density.typicality_of_blocks(rows).nanmean(0)
    strange = fresh.density.typicality_of_blocks(subject.tiny.scrambled()).nanmean(0)
    expect(
        bool((usual > strange).any()),
        f"scrambled rows are as typical ({strange.tolist()}) as rows are ({usual.tolist()})",
    )
    again = _reloaded(fresh.density, fresh.rebuild())
    expect(torch.equal(again.typicality(rows), whole), "typicality changed by saving and loading")
