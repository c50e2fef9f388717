"""Checks of probabilities of blocks and records against sums over the list of all their rows: what
log_prob, its status, draws, regions and steps have to agree on.

Shape letters: B rows of a question, G rows of the list, C bins, V tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from conjoin.core import CapabilityError, Event, Likelihood, Status
from conjoin.testing.block_spaces import (
    Question,
    agreeing,
    bins_of,
    events_of,
    with_junk,
)
from conjoin.testing.block_subjects import BlockSubject
from conjoin.testing.checks_mass import DRAWS, MAX_TOTAL_VARIATION, MIN_P_VALUE, pearson
from conjoin.testing.registry import check_of, close, expect, needs

__all__ = [
    "conditionals",
    "conditionals_per_row",
    "contexts",
    "missing_cells",
    "missing_values_ignored",
    "normalisation",
    "nothing_known",
    "regions",
    "sample_sizes",
    "samples",
    "status",
    "step",
]

MAX_TOTAL_OF_BOUND = 1.01  # what the probabilities of a bound may sum to
BOUND_SEEDS = 12  # generators over which a bound is averaged
SLACK_NATS = 0.01  # nats by which that mean may be too high, beyond four of its standard errors
RECORD_DRAWS = 400  # of records, whose blocks are filled in a few rows at a time
APPROXIMATE_DRAWS = 600  # that are held to less
EXACT_SUM = 1e-6  # relative error of a sum over codes
GRID_SUM = 5e-3  # and of one over the grid of a number

check = check_of("blocks")


def _tolerance(subject: BlockSubject) -> float:
    return max(EXACT_SUM if subject.tiny.has_mass else GRID_SUM, subject.rounding)


def _refusal(call: Callable[[], Any]) -> str | None:
    """The message of a CapabilityError, None where there was none."""
    try:
        call()
    except CapabilityError as error:
        return str(error)
    return None


def _declared(subject: BlockSubject, question: Question) -> bool:
    """Whether log_prob of such a question is declared, one way or another."""
    able = subject.can
    prefix = able.marginals == "prefix" and question.ordered
    return able.missing != "none" or able.marginals == "any" or prefix


# -------------------------------------------------------------------------------------------- draws


def agree(subject: BlockSubject, draws: Any, log_mass: Tensor, what: str, rough: bool) -> None:
    """Draws follow the list, of which each row has so much mass: as a whole, and block by block."""
    drawn = bins_of(subject.tiny.space, draws, subject.tiny.every)
    listed = bins_of(subject.tiny.space, subject.tiny.every, subject.tiny.every)
    views = [*([name] for name in drawn), list(drawn)] if len(drawn) > 1 else [list(drawn)]
    share = log_mass.softmax(0)
    for view in views:
        both = [torch.cat([part[name] for name in view], 1) for part in (drawn, listed)]
        ids = torch.cat(both).unique(dim=0, return_inverse=True)[1]
        rows = draws.rows
        observed = torch.bincount(ids[:rows], minlength=int(ids.max()) + 1).double()
        expected = torch.zeros_like(observed).index_add(0, ids[rows:], share) * rows
        names = " of " + " and ".join(view) if any(view) else ""
        if rough:
            apart = 0.5 * float((observed - expected).abs().sum()) / rows
            expect(
                apart < MAX_TOTAL_VARIATION,
                f"{what}{names}: total variation {apart:.3f} from the list",
            )
        else:
            p = pearson(observed, expected)
            expect(p > MIN_P_VALUE, f"{what}{names} disagree with log_prob: chi-square p = {p:.2g}")


@check
def normalisation(subject: BlockSubject) -> None:
    """exp(log_prob) sums (densities: integrates) to one over the list; a lower bound to at most
    1.01."""
    kind = subject.can.likelihood
    needs(kind is not Likelihood.UNNORMALIZED, "log_prob is relative: it has no sum to check")
    total = float(subject.log_mass.logsumexp(0).exp())
    if kind is not Likelihood.LOWER_BOUND:
        close_to_one = abs(total - 1) < _tolerance(subject)
        expect(close_to_one, f"probabilities sum to {total:.6f}, not to 1")
    else:
        expect(total < 1.01, f"a lower bound sums to {total:.5f}, more than 1.01")


@check
def samples(subject: BlockSubject) -> None:
    """Draws are complete rows of the space, and follow log_prob (an energy: roughly; a bound: at
    least as often as it says)."""
    draws = subject.drawn(DRAWS)
    expect(draws.rows == DRAWS, f"{DRAWS} draws have {draws.rows} rows")
    _complete(subject, draws, "draws")
    kind = subject.can.likelihood
    needs(kind is not Likelihood.LOWER_BOUND, "a bound: it is held to its sum")
    agree(subject, draws, subject.log_mass, "draws", rough=kind is Likelihood.UNNORMALIZED)


def _complete(subject: BlockSubject, rows: Any, what: str) -> None:
    """Rows that the space takes, of which nothing is open."""
    found = subject.tiny.space.check(rows)
    for event in events_of(found).values():
        expect(bool(event.complete.all()), f"{what}: cells are still open")


@check
def sample_sizes(subject: BlockSubject) -> None:
    """No rows, one row, and a refusal of fewer than none."""
    for n in (0, 1):
        expect(subject.drawn(n).rows == n, f"sample({n}) has {subject.drawn(n).rows} rows")
    try:
        subject.density.sample(-1, subject.context(0))
    except ValueError:
        return
    expect(False, "sample(-1) is not refused")


# ---------------------------------------------------------------------------------- what is missing


@check
def missing_cells(subject: BlockSubject) -> None:
    """log_prob of what is known is the log of the sum over all rows that agree with it: of
    beginnings where marginals are of prefixes, of anything where missing cells are exact."""
    able = subject.can
    declared = able.missing in ("exact", "bound") or able.marginals in ("any", "prefix")
    needs(declared, f"missing = {able.missing!r}, marginals = {able.marginals!r}")
    for question in subject.tiny.questions():
        if _declared(subject, question):
            _held(subject, question.event, question.name)


@check
def status(subject: BlockSubject) -> None:
    """status_of a question is what its log_prob is worth: where it is exact, that is the sum over
    all rows that agree; where it is a lower bound, no more on the average. Of complete rows it is
    the likelihood's."""
    own = {
        Likelihood.EXACT: Status.EXACT,
        Likelihood.LOWER_BOUND: Status.LOWER_BOUND,
        Likelihood.APPROXIMATE: Status.APPROXIMATE,
        Likelihood.UNNORMALIZED: Status.RELATIVE,
    }[subject.can.likelihood]
    whole = subject.density.status_of(subject.complete)
    expect(whole is own, f"the status of complete rows is {whole.value}, not {own.value}")
    for question in subject.tiny.questions():
        refused = _refusal(partial(subject.log_prob, question.event))
        told = _refusal(partial(subject.density.status_of, question.event))
        expect(
            (refused is None) == (told is None),
            f"{question.name}: log_prob and status_of do not refuse alike",
        )
        if refused is None:
            _held(subject, question.event, question.name)


def _held(subject: BlockSubject, event: Any, what: str) -> None:
    """log_prob of a question, held to its status."""
    target = subject.truth(event)
    worth = subject.density.status_of(event)
    if worth is Status.EXACT:
        close(subject.log_prob(event), target, _tolerance(subject), f"log_prob ({what})")
    elif worth is Status.LOWER_BOUND and subject.can.likelihood is Likelihood.EXACT:
        values = subject.estimates(event, BOUND_SEEDS)
        error = values.std(0) / BOUND_SEEDS**0.5
        over = float((values.mean(0) - target - 4 * error).max())
        expect(
            over < SLACK_NATS, f"log_prob ({what}): a lower bound is above the sum by {over:.4f}"
        )


@check
def missing_values_ignored(subject: BlockSubject) -> None:
    """What stands in cells that are not known, or not there, changes nothing: nor do positions that
    are absent from all rows."""
    clean = subject.event
    _same_answers(subject, clean, with_junk(subject.tiny.space, clean), "of the training rows")
    for question in subject.tiny.questions():
        if _refusal(partial(subject.log_prob, question.event)) is None:
            junk = with_junk(subject.tiny.space, question.event)
            expect(
                torch.equal(subject.log_prob(question.event), subject.log_prob(junk)),
                f"log_prob ({question.name}) depends on a cell that is not known",
            )


def _same_answers(subject: BlockSubject, clean: Any, dirty: Any, what: str) -> None:
    pair = [subject.log_prob(event) for event in (clean, dirty)]
    expect(torch.equal(*pair), f"log_prob {what} depends on a cell that is not known")
    expect(bool(torch.isfinite(pair[0]).all()), f"log_prob {what} is not finite")
    losses = [
        subject.density.loss(event, subject.contexts, generator=_noise())
        for event in (clean, dirty)
    ]
    expect(torch.equal(*losses), f"the loss {what} depends on a cell that is not known")
    if subject.can.statistics:
        found = [subject.density.statistics(event, subject.contexts) for event in (clean, dirty)]
        same = all(torch.equal(found[0][key], found[1][key]) for key in found[0])
        expect(same, f"statistics {what} depend on a cell that is not known")


def _noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@check
def nothing_known(subject: BlockSubject) -> None:
    """With nothing known of a row the probability of what is known is one, and it is so beside
    other rows too."""
    nothing = [q for q in subject.tiny.questions() if q.name.count("nothing known")]
    asked = max(nothing, key=lambda question: question.name.count("nothing known"))
    needs(_declared(subject, asked), f"missing = {subject.can.missing!r}")
    rows = asked.event.rows
    close(subject.log_prob(asked.event), torch.zeros(rows).double(), 1e-6, "log_prob of nothing")


# ------------------------------------------------------------------------------ draws given a part


@check
def conditionals(subject: BlockSubject) -> None:
    """Draws of what is open follow the list given what is known (roughly, where the draws' status
    is no better than approximate; not where a bound is too noisy to tell shares), and what is known
    stays as it is. Behind a gap, where only continuations are declared, they are refused."""
    kind = subject.can.conditionals
    needs(kind != "none", f"conditionals = {kind!r}")
    for index, question in enumerate(subject.tiny.questions()):
        one = question.event.take(torch.zeros(1, dtype=torch.long) + index % question.event.rows)
        refused = _refusal(partial(subject.completed, one))
        if kind == "prefix" and not question.ordered:
            expect(refused is not None, f"draws are not refused ({question.name})")
            continue
        expect(kind == "approximate" or refused is None, f"{question.name}: {refused}")
        if refused is None:
            _follow(subject, one, question.name, index)


def _draws(subject: BlockSubject) -> int:
    return RECORD_DRAWS if subject.tiny.is_record else DRAWS


def _follow(subject: BlockSubject, one: Any, what: str, seed: int) -> None:
    """Draws of one row, many times over."""
    exact = subject.completed(one).status in (Status.EXACT, Status.LOWER_BOUND)
    rows = _draws(subject) if exact else APPROXIMATE_DRAWS
    found = subject.completed(one.take(torch.zeros(rows, dtype=torch.long)), seed)
    _complete(subject, found.event, f"draws ({what})")
    listed = agreeing(subject.tiny.space, one, subject.tiny.every)[0]
    _kept(subject, one.take(torch.zeros(rows, dtype=torch.long)), found.event, what)
    if subject.noisy and not exact:
        return
    mass = torch.where(listed, subject.log_mass, -torch.inf)
    agree(subject, found.event, mass, f"draws ({what})", rough=not exact)


def _kept(subject: BlockSubject, asked: Any, drawn: Any, what: str) -> None:
    """Row by row the draws agree with what was known."""
    keys = range(asked.rows)
    parts = [
        agreeing(
            subject.tiny.space, asked.take(torch.tensor([row])), drawn.take(slice(row, row + 1))
        )
        for row in (*keys[:20], *keys[-20:])
    ]
    expect(bool(torch.cat(parts).all()), f"known cells changed ({what})")


@check
def conditionals_per_row(subject: BlockSubject) -> None:
    """Rows that know different cells, in one batch: each keeps its own."""
    kind = subject.can.conditionals
    needs(kind != "none", f"conditionals = {kind!r}")
    asked = [q for q in subject.tiny.questions() if q.ordered or kind != "prefix"]
    taken = [q for q in asked if _refusal(partial(subject.completed, q.event)) is None]
    batch = mixed(subject, [question.event for question in taken])
    drawn = subject.completed(batch).event
    _complete(subject, drawn, "draws of a batch of many patterns")
    _kept(subject, batch, drawn, "a batch of many patterns")


def mixed(subject: BlockSubject, events: list[Any]) -> Any:
    """The rows of several questions in one, in another order."""
    space = subject.tiny.space
    names = events_of(events[0]).keys()
    out = {}
    for name in names:
        block = space if name == "" else space[name]
        parts = [_whole_width(block, events_of(event)[name]) for event in events]
        there = [part.present for part in parts if part.present is not None]
        present = torch.cat(there) if there else None
        event = Event(
            torch.cat([p.value for p in parts]), torch.cat([p.mask for p in parts]), present
        )
        order = torch.randperm(event.rows, generator=_noise())
        out[name] = event.take(order)
    return out[""] if "" in out else type(events[0])(out)


def _whole_width(block: Any, event: Event) -> Event:
    """The event with as many positions as the block can have; those behind its last are absent."""
    if not block.ragged:
        return event
    more = block.shape[0] - event.value.shape[1]
    pad = (0, 0) * (event.value.dim() - 2) + (0, more)
    present = event.known.flatten(2).all(2) if event.present is None else event.present
    grown = torch.nn.functional.pad
    return Event(
        grown(event.value, pad),
        grown(event.mask, pad, value=True),
        grown(present, (0, more)),
    )


@check
def regions(subject: BlockSubject) -> None:
    """log_prob of a block that is known to lie in a region is the log of the sum inside it, beside
    other blocks and without them; draws stay inside and follow what is left there."""
    needs(subject.can.regions, "no regions")
    boxes = subject.tiny.boxed()
    needs(bool(boxes), "no columns")
    for index, (event, inside) in enumerate(boxes):
        agree_ = agreeing(subject.tiny.space, event, subject.tiny.every) & inside
        target = subject.summed(event, agree_)
        what = f"region {index}"
        if subject.density.status_of(event) is Status.EXACT:
            close(subject.log_prob(event), target, _tolerance(subject), f"log_prob of {what}")
        one = event.take(torch.zeros(_draws(subject), dtype=torch.long))
        found = subject.completed(one, index)
        mass = torch.where(agree_[0], subject.log_mass, -torch.inf)
        rough = found.status not in (Status.EXACT, Status.LOWER_BOUND)
        agree(subject, found.event, mass, f"draws in {what}", rough)


# ----------------------------------------------------------------------------------------- contexts


@check
def contexts(subject: BlockSubject) -> None:
    """Under each of several contexts, some of them known in part, probabilities sum to one, of a
    bound to no more; rows of many contexts in one batch answer as under each alone; junk in what a
    context does not say changes nothing; log_contexts is log_prob under each class in turn."""
    needs(subject.contexts is not None, "no context")
    every = subject.tiny.every
    several = subject.contexts.take(torch.arange(6))
    rows = every.take(torch.arange(6) % every.rows)
    looked = []
    with torch.no_grad():
        for index in range(several.rows):
            one = several.take(torch.full((every.rows,), index))
            log_p = subject.density.log_prob(every, one) + subject.tiny.log_weight
            total = float(log_p.logsumexp(0).exp())
            exact = subject.can.likelihood in (Likelihood.EXACT, Likelihood.APPROXIMATE)
            below = subject.noisy or total < MAX_TOTAL_OF_BOUND
            fine = abs(total - 1) < _tolerance(subject) if exact else below
            expect(fine, f"under context {index} probabilities sum to {total:.6f}, not to 1")
            looked.append(log_p[index % every.rows] - subject.tiny.log_weight[index % every.rows])
        together = subject.density.log_prob(rows, several)
    close(together, torch.stack(looked), subject.rounding, "log_prob under a context per row")
    apart = float((together - subject.log_prob(rows)).abs().max())
    expect(apart > 1e-3, "the context changes nothing")
    if isinstance(several, Event):
        _classes(subject)
    else:
        junk = with_junk(subject.density.context_space, several)
        with torch.no_grad():
            again = subject.density.log_prob(rows, junk)
        expect(torch.equal(together, again), "what a context does not say changes log_prob")


def _classes(subject: BlockSubject) -> None:
    """log_contexts, class by class."""
    rows = subject.complete
    with torch.no_grad():
        codes = [Event(torch.full((rows.rows,), float(k)).double()) for k in (0, 1)]
        each = torch.stack([subject.density.log_prob(rows, code) for code in codes], 1)
        close(subject.density.log_contexts(rows), each, 1e-9, "log_contexts")


# -------------------------------------------------------------------------------------------- steps


@check
def step(subject: BlockSubject) -> None:
    """Token by token: each step is normalised, is the share of the list that goes on so, and their
    product is log_prob; after as many tokens as there may be the end is certain."""
    needs(subject.can.step, "no step")
    space = subject.tiny.space
    rows = subject.tiny.every
    count = rows.rows
    tokens = space.variables[0].cardinality
    there = torch.cat([rows.there, torch.zeros(count, 1).bool()], 1)
    target = torch.where(there[:, :-1], rows.value, tokens)
    target = torch.cat([target, torch.full((count, 1), tokens)], 1)
    state = subject.density.begin(count, subject.context(count))
    total = torch.zeros(count).double()
    token = None
    for place in range(space.shape[0] + 1):
        with torch.no_grad():
            state, log_p = subject.density.step(state, token)
        close(log_p.logsumexp(1), torch.zeros(count).double(), 1e-9, "the sum over next tokens")
        going = there[:, place - 1] if place else torch.ones(count).bool()
        _goes_on(subject, target, place, log_p, going)
        cell = log_p.gather(1, target[:, place, None])[:, 0]
        total = torch.where(going, total + cell, total)
        token = torch.where(there[:, place], target[:, place], 0)
    close(total, subject.log_prob(rows), subject.rounding, "the product of the steps")
    _follows(subject, rows.take(rows.there.all(1).nonzero()[:, 0]))


def _follows(subject: BlockSubject, rows: Event) -> None:
    """``follow`` through known tokens says what steps through them say, from any place on."""
    density = subject.density
    for first in range(rows.value.shape[1]):
        state, log_p = density.step(density.begin(rows.rows, subject.context(rows.rows)))
        by_step = []
        for place, token in enumerate(rows.value.unbind(1)):
            if place == first:
                begun = (state, log_p)
            by_step.append(log_p.gather(1, token[:, None])[:, 0])
            state, log_p = density.step(state, token)
        _, after, told = density.follow(*begun, rows.value[:, first:])
        close(told, torch.stack(by_step[first:], 1), 1e-6, f"log p of tokens from {first} on")
        close(after.exp(), log_p.exp(), 1e-6, f"the step behind tokens from {first} on")


def _goes_on(
    subject: BlockSubject, target: Tensor, place: int, log_p: Tensor, going: Tensor
) -> None:
    """What a step says of each row that has not ended: the share of those that begin alike."""
    alike = (target[:, None, :place] == target[None, :, :place]).all(2)
    for token in range(log_p.shape[1]):
        goes = alike & (target[:, place] == token)
        mass = [
            torch.where(part, subject.log_mass, -torch.inf).logsumexp(1) for part in (goes, alike)
        ]
        share = (mass[0] - mass[1]).exp()[going]
        close(log_p[going, token].exp(), share, 1e-6, f"step {place} to token {token}")
