"""Checks of what only some densities declare: a statistic of familiarity of their own, edits, the
way of a draw, draws by a student, passes of a Gibbs sampler, what changes nothing.

Shape letters: B rows, D variables, S states of a draw, N points.
"""

from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from conjoin.core import Density, Edit, Event, Status, stream
from conjoin.core.sampling import Walk, spread_evenly, walking
from conjoin.testing.checks_mass import agree
from conjoin.testing.fitted import Fitted
from conjoin.testing.registry import NotApplicable, check, check_of, close, expect, needs
from conjoin.testing.subjects import Subject

__all__ = ["distils", "edits", "even", "guides", "invariances", "sweeps", "typical", "unfolds"]

GUIDANCE = 2.0
EVEN_BATCHES = 32  # of so many rows, by which even draws are judged
EVEN_ROWS = 64
MAX_EVEN_SPREAD = 0.6  # of a count's variance among independent draws

PRIOR_DRAWS = 1500  # first states by which the noise that draws begin with is known
ASKED_STEPS = 3  # of a way from noise
STUDENT_CALLS = 2  # of a student's network for a draw
MOVED_UNITS = 3.7  # how far points are moved, in their units
STUDENT_STEPS = 30  # steps of the gradient that a student has to learn something in


def _reloaded(density: Density, empty: Density) -> Density:
    """``empty`` with the weights of the density, by way of a file's bytes."""
    weights = {key: value.contiguous().clone() for key, value in density.state_dict().items()}
    empty.load_state_dict(load(save(weights)))
    return empty


# -------------------------------------------------------------------------------------- familiarity


@check
def typical(subject: Subject) -> None:
    """Typicality is a number of the row alone, greater for rows than for scrambled ones, and what
    was remembered is saved."""
    needs(subject.can.typical, "no statistic of familiarity of its own")
    fresh = subject.fresh()
    rows = Event(subject.tiny.rows)
    fresh.density.fit_typicality(rows)
    whole = fresh.density.typicality(rows)
    expect(whole.shape == (rows.rows,), f"typicality has shape {tuple(whole.shape)}")
    expect(bool(torch.isfinite(whole).all()), "typicality is not finite")
    alone = [fresh.density.typicality(rows.take(slice(row, row + 1))) for row in range(12)]
    close(torch.cat(alone), whole[:12], 10 * subject.rounding, "typicality of single rows")
    expect(fresh.density.typicality(rows.take(slice(0, 0))).shape == (0,), "no rows, no numbers")
    scrambled = fresh.density.typicality(Event(subject.tiny.scrambled()))
    expect(
        whole.mean() > scrambled.mean(),
        f"scrambled rows are as typical ({scrambled.mean():.4g}) as rows are ({whole.mean():.4g})",
    )
    again = _reloaded(fresh.density, fresh.rebuild())
    expect(torch.equal(again.typicality(rows), whole), "typicality changed by saving and loading")
    fresh.density.fit_typicality(Event(subject.tiny.scrambled()[:48]))
    expect(not torch.equal(fresh.density.typicality(rows), whole), "fit_typicality changes nothing")


# -------------------------------------------------------------------------------------------- edits


def _edited(subject: Subject, rows: Tensor, to: Tensor | None, how: Edit) -> Tensor:
    out: Tensor = subject.density.edit(
        Event(rows), None if to is None else Event(to), how=how
    ).value
    return out


@check
def edits(subject: Subject) -> None:
    """An edit of no noise changes nothing, cells outside of ``where`` stay to the bit, a row is
    edited alone as beside others, and an edited row is more probably of the context wanted."""
    needs(subject.can.edits, "no edits")
    rows = subject.tiny.rows[:48]
    to = None if subject.contexts is None else 1.0 - subject.tiny.label[:48]
    none = torch.zeros(len(rows))
    much = none + 2.0
    untouched = _edited(subject, rows, to, Edit(0.0, much))
    expect(torch.equal(untouched, rows), "an edit of no noise changes a row")
    where = (torch.arange(subject.tiny.size) % 2 == 0).expand_as(rows)
    for seed in (None, 1):
        noise = None if seed is None else stream(seed)
        out = _edited(subject, rows, to, Edit(4.0, much, where, generator=noise))
        expect(torch.equal(out[~where], rows[~where]), "an edit changes cells outside of where")
        subject.tiny.space.check(Event(out))
    whole = _edited(subject, rows, to, Edit(4.0, much))
    # without noise or another context an edit goes up and comes back the same way
    how = Edit(4.0, much, generator=None if to is not None else stream(1))
    changed = _edited(subject, rows, to, how)
    expect(bool((changed != rows).any()), "an edit of much noise changes nothing")
    part = slice(7, 8)
    alone = _edited(subject, rows[part], None if to is None else to[part], Edit(4.0, much[part]))
    expect(torch.equal(alone, whole[part]), "an edit of a row depends on the rows beside it")
    if to is not None:
        _goes_towards(subject, rows, to, whole)


def _log_posterior(subject: Subject, rows: Tensor, wanted: Tensor) -> Tensor:
    """(B,) log p(wanted context | row), all contexts alike before, with the same noise for each."""
    several = 16 if subject.can.stochastic else 1
    each = []
    with torch.no_grad():
        for code in (0.0, 1.0):
            context = Event(torch.full((len(rows),), code, dtype=torch.float64))
            found = [
                subject.density.log_prob(Event(rows), context, generator=stream(seed, "edit"))
                for seed in range(several)
            ]
            each.append(torch.stack(found).mean(0))
    return torch.stack(each, 1).log_softmax(1).gather(1, wanted.long()[:, None])[:, 0]


def _goes_towards(subject: Subject, rows: Tensor, to: Tensor, edited: Tensor) -> None:
    gain = _log_posterior(subject, edited, to) - _log_posterior(subject, rows, to)
    expect(
        gain.mean() > 0,
        f"after an edit log p(wanted context | row) has moved by {gain.mean():.4g}, not up",
    )


# ----------------------------------------------------------------------------------- ways of a draw


@check
def unfolds(subject: Subject) -> None:
    """The last state is the draw of the same seed to the bit; the first is noise: it knows no
    context, its cells are independent, and it has the moments of the rows. Where steps can be asked
    for, there are as many."""
    needs(subject.can.unfolds, "the way of a draw is not shown")
    states = _way(subject, 20, 3)
    expect(
        states.ndim == 3 and states.shape[1:] == (20, subject.tiny.size) and len(states) > 1,
        f"the states of 20 draws have shape {tuple(states.shape)}",
    )
    expect(_way(subject, 0, 3).shape[1:] == (0, subject.tiny.size), "no draws, no rows")
    expect(torch.equal(states[-1], subject.sample(20, 3)), "the last state is not the draw")
    expect(not torch.equal(states[0], states[-1]), "the first state is the last")
    if subject.density.walks:
        with walking(Walk(steps=ASKED_STEPS)):
            asked = _way(subject, 20, 3)
            expect(torch.equal(asked[-1], subject.sample(20, 3)), "the steps are not the draw's")
        expect(len(asked) == ASKED_STEPS + 1, f"{ASKED_STEPS} steps have {len(asked)} states")
    first = _way(subject, PRIOR_DRAWS, 4)[0]
    if subject.contexts is not None:
        other = Event(torch.zeros(PRIOR_DRAWS).double())
        told = subject.density.unfold(PRIOR_DRAWS, other, generator=stream(4, "sample"))[0]
        expect(torch.equal(told, first), "the first state depends on the context")
    _is_noise(subject, first)


@check
def guides(subject: Subject) -> None:
    """Guidance of 0 gives the draws of p to the bit; more of it says that they are none, unless
    nothing is told, which leaves nothing to exaggerate."""
    needs(subject.density.guides, "what it is told can't be exaggerated")
    plain = subject.sample(20, 3)
    of_p = subject.density.status_of_draws
    with walking(Walk(guidance=0.0)):
        expect(torch.equal(subject.sample(20, 3), plain), "guidance of 0 is not p")
        expect(subject.density.status_of_draws == of_p, "guidance of 0 has another status")
    with walking(Walk(guidance=GUIDANCE)):
        led = subject.sample(20, 3)
        status = subject.density.status_of_draws
    if subject.density.is_told:
        expect(status == Status.APPROXIMATE, f"guided draws are said to be {status.value}")
    else:
        expect(status == of_p and torch.equal(led, plain), "guidance changes what is told nothing")


def _way(subject: Subject, n: int, seed: int) -> Tensor:
    return subject.density.unfold(n, subject.context(n), generator=stream(seed, "sample"))


def _is_noise(subject: Subject, first: Tensor) -> None:
    """Independent cells, with the mean and the deviation of the pixels of the rows (rounded to
    codes and cut at their ends, as noise is in a space of codes)."""
    rows = subject.tiny.rows
    apart = torch.corrcoef(first.T).fill_diagonal_(0.0).abs().max()
    expect(apart < 5 / PRIOR_DRAWS**0.5, f"cells of the first state are correlated: {apart:.3f}")
    off = float((first.mean() - rows.mean()) / rows.std())
    expect(abs(off) < 0.25, f"the mean of the first state is off by {off:.3f} deviations")
    ratio = float(first.std() / rows.std())
    expect(0.5 < ratio < 1.5, f"the first state's deviation is {ratio:.3f} of the rows'")


# --------------------------------------------------------------------------------------- even draws


@check
def even(subject: Subject) -> None:
    """Rows that are spread evenly follow log_prob, and counts of what lies above the middle of a
    column vary less from batch to batch than those of independent draws."""
    needs(subject.can.even, "rows are not spread evenly")
    with spread_evenly():
        batches = torch.stack([subject.sample(EVEN_ROWS, seed) for seed in range(EVEN_BATCHES)])
    agree(subject, batches.flatten(0, 1), subject.table, list(range(subject.tiny.size)), "draws")
    middle = batches.flatten(0, 1).median(0).values
    middle = torch.where(middle == batches.amax((0, 1)), middle - 1e-9, middle)
    counts = (batches > middle).double().sum(1)
    share = counts.mean(0) / EVEN_ROWS
    ratio = float((counts.var(0) / (EVEN_ROWS * share * (1 - share)).clamp_min(1e-9)).mean())
    expect(ratio < MAX_EVEN_SPREAD, f"counts vary {ratio:.2f} times as much as by chance")


# ------------------------------------------------------------------------------------------ student


def _calls(density: Density, draw: Any) -> int:
    """How often the module with learnable weights that is asked most is called by ``draw``."""
    counts: dict[int, int] = {}

    def count(module: nn.Module, *_: Any) -> None:
        counts[id(module)] = counts.get(id(module), 0) + 1

    learnable = [
        module
        for module in density.modules()
        if any(weight.requires_grad for weight in module.parameters(recurse=False))
    ]
    handles = [module.register_forward_hook(count) for module in learnable]
    draw()
    for handle in handles:
        handle.remove()
    return max(counts.values(), default=0)


@check
def distils(subject: Subject) -> None:
    """A student draws in as many calls as asked for; the loss teaches it and nothing else; log_prob
    stays to the bit; it is saved."""
    needs(subject.can.distils, "no student")
    fresh = subject.fresh()
    rows = fresh.event
    before = fresh.log_prob(rows)
    old = {key: value.clone() for key, value in fresh.density.state_dict().items()}
    fresh.density.distil(STUDENT_CALLS)
    expect(torch.equal(fresh.log_prob(rows), before), "distil changes log_prob")
    calls = _calls(fresh.density, lambda: fresh.sample(5))
    expect(
        calls == STUDENT_CALLS,
        f"a draw takes {calls} calls of the student's network, not {STUDENT_CALLS}",
    )
    if fresh.can.unfolds:
        states = len(fresh.density.unfold(5, fresh.context(5), generator=stream(0)))
        expect(
            states == STUDENT_CALLS + 1,
            f"a draw of {STUDENT_CALLS} calls goes through {states} states",
        )
    first = _taught(fresh)
    learned = float(fresh.density.loss(rows, fresh.contexts, generator=stream(0)).detach())
    expect(learned < first, f"the loss of the student has gone from {first:.4f} to {learned:.4f}")
    expect(torch.equal(fresh.log_prob(rows), before), "what the student learns changes log_prob")
    state = fresh.density.state_dict()
    moved = [key for key, value in old.items() if not torch.equal(state[key], value)]
    expect(not moved, f"{', '.join(moved[:3])}: learned with the student")
    loaded = _reloaded(fresh.density, fresh.rebuild())
    drawn = loaded.sample(20, fresh.context(20), generator=stream(0, "sample")).value
    expect(torch.equal(drawn, fresh.sample(20)), "a student's draws change by saving and loading")


def _taught(fresh: Subject) -> float:
    """A few steps of the gradient; the loss before them."""
    first = float(fresh.density.loss(fresh.event, fresh.contexts, generator=stream(0)).detach())
    weight = torch.ones(fresh.event.rows, dtype=torch.float64)
    trained = [p for p in fresh.density.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=3e-3)
    for step in range(STUDENT_STEPS):
        optimiser.zero_grad()
        noise = stream(step, "lesson")
        loss = fresh.density.loss(fresh.event, fresh.contexts, weight=weight, generator=noise)
        loss.backward()
        optimiser.step()
    fresh.density.eval()
    return first


# ------------------------------------------------------------------------------------------- sweeps


def _swept(subject: Fitted, density: Density, seed: int) -> Tensor:
    out: Tensor = density.sweep(subject.event, subject.contexts, generator=stream(seed, "sweep"))
    return out


@check_of("rows", "blocks")
def sweeps(subject: Fitted) -> None:
    """A pass is a function of the state and the generator; it moves buffers and keeps their shapes;
    with the rows' own state restored, a copy goes on in the same way."""
    needs(subject.can.sweeps, "no passes of a Gibbs sampler")
    one = subject.fresh().density
    start = {key: value.clone() for key, value in one.state_dict().items()}
    objective = _swept(subject, one, 1)
    expect(objective.numel() == 1 and bool(torch.isfinite(objective)), "no finite objective")
    shapes = {key: value.shape for key, value in one.state_dict().items()}
    expect(shapes == {key: value.shape for key, value in start.items()}, "buffers change shape")
    moved = any(not torch.equal(value, start[key]) for key, value in one.state_dict().items())
    expect(moved, "a pass moves nothing")
    other = subject.rebuild()
    other.load_state_dict(one.state_dict())
    other._restore_sweep({key: value.clone() for key, value in one._sweep_state().items()})
    pair = [_swept(subject, density, 2) for density in (one, other)]
    expect(torch.equal(*pair), "a restored state does not go on in the same way")
    for key, value in one.state_dict().items():
        expect(torch.equal(other.state_dict()[key], value), f"{key}: restored, it goes another way")


# -------------------------------------------------------------------------------------- invariances


@check_of("rows", "blocks")
def invariances(subject: Fitted) -> None:
    """Another order of the points, or all of them moved alike, changes log_prob where that is not
    declared, and nowhere else."""
    declared = subject.can.invariances
    space = subject.density.space
    if not space.unordered:
        expect(not declared, f"invariances = {set(declared)}, but the rows are no points")
        raise NotApplicable("no points")
    event = space.check(subject.density.sample(64, generator=stream(1, "points")))
    log_prob = subject.log_prob(event)
    others = {"permutation": _reordered(event)}
    if not all(variable.discrete for variable in space.variables):
        others["translation"] = _moved(space, event)
    for word, other in others.items():
        apart = float((subject.log_prob(other) - log_prob).abs().max())
        same = apart <= 1e-9 * float(1 + log_prob.abs().max())
        expect(
            same == (word in declared),
            f"a {word} of points changes log_prob by {apart:.3g}, invariances = {set(declared)}",
        )


def _reordered(event: Event) -> Event:
    """The points of each row in another order; those that are absent stay the last."""
    there = torch.ones(event.value.shape[:2]).bool() if event.present is None else event.present
    order = (torch.rand(there.shape, generator=stream(2)) + 2.0 * ~there).argsort(1)
    cells = order[..., None].expand_as(event.value)
    observed = event.mask.gather(1, cells)
    return Event(event.value.gather(1, cells), observed, there.gather(1, order))


def _moved(space: Any, event: Event) -> Event:
    numbers = torch.tensor([not variable.discrete for variable in space.variables])
    return event._replace(value=event.value + MOVED_UNITS * numbers)
