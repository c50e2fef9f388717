"""Chains that draw the ends of strings anew: their law, and how many tokens they take."""

import pytest
import torch

from conjoin.core import Block, Event, Record, RecordSpace, Variable, stream
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.questions.redrawing import _next_power, redrawn

WORDS = Block("word", "sequence", (3,), (Variable("letter", "category", 2),))
EVERY = WORDS.laid.every(WORDS)
SIZE = RecordSpace((Block("size", "vector", (1,), (Variable("size", "real"),)),))
TOLD = Record(size=Event(torch.tensor([[2.0]], dtype=torch.float64)))
CHAINS = 10_000


def _density():
    """A network that has learned nothing, so far from even that each string has its own p, and
    another one where a size is told."""
    size = Record(size=Event(EVERY.there.sum(1, keepdim=True).double()))
    density = SequenceDensity.build(
        WORDS, Sequence(width=8, blocks=1), EVERY, stream(0), context=size, context_space=SIZE
    )
    with torch.no_grad():
        density.net.last.weight.normal_(std=0.4, generator=stream(1))
        density.net.told.weight.normal_(std=0.3, generator=stream(2))
    return density


def _told(rows):
    return TOLD.take(torch.zeros(rows, dtype=torch.int64))


def _log_wish(strings):
    """More for each one; nothing for strings that begin with 0 1."""
    ones = ((strings.value == 1) & strings.there).sum(1).double()
    refused = (strings.value[:, 0] == 0) & (strings.value[:, 1] == 1)
    return torch.where(refused, -torch.inf, (0.5 + ones).log())


def _shares(strings):
    """Of each string that there is."""
    same = (strings.value[:, None] == EVERY.value).all(2) & (
        strings.there[:, None] == EVERY.there
    ).all(2)
    assert same.any(1).all()
    return same.double().mean(0)


def _distance(one, other):
    return float((one - other).abs().sum()) / 2


def test_chains_that_begin_as_draws_of_p_come_to_p_by_the_wish():
    density = _density()
    with torch.no_grad():
        log_p = density.log_prob(EVERY)
        wanted = (log_p + _log_wish(EVERY)).softmax(0)
        log_q = density.log_prob(EVERY, _told(EVERY.rows))
    assert _distance(log_p.exp(), wanted) > 0.2
    assert _distance(log_p.exp(), log_q.exp()) > 0.15
    assert _distance((log_q + _log_wish(EVERY)).softmax(0), wanted) > 0.1
    start = density.sample(2 * CHAINS, _told(2 * CHAINS), generator=stream(2))
    found = redrawn(density, start, TOLD, _log_wish, CHAINS, 10 * CHAINS, stream(3))
    assert _distance(_shares(found.strings.take(found.last)), wanted) < 0.02
    assert torch.equal(found.log_wish, _log_wish(found.strings))


def test_chains_that_begin_at_one_string_come_to_p_by_the_wish():
    density = _density()
    with torch.no_grad():
        wanted = (density.log_prob(EVERY) + _log_wish(EVERY)).softmax(0)
    empty = torch.zeros(CHAINS // 2, 3, dtype=torch.int64)
    start = Event(empty, present=empty > 0)
    found = redrawn(density, start, TOLD, _log_wish, CHAINS // 2, 40 * CHAINS, stream(4))
    assert _distance(_shares(found.strings.take(found.last)), wanted) < 0.025


def test_tokens_are_those_of_the_ends():
    density = _density()
    start = density.sample(50, generator=stream(5))
    found = redrawn(density, start, TOLD, _log_wish, 10, 100, stream(6))
    length = found.strings.there.sum(1)
    assert torch.equal(found.tokens[:50], length[:50] + 1)
    assert (found.tokens[50:] >= 1).all()
    assert (found.tokens[50:] <= length[50:] + 1).all()
    assert 100 - 10 * 4 <= int(found.tokens[50:].sum()) <= 100 + 10 * 4
    assert len(found.last) == 10


def test_chains_that_nothing_is_wanted_of_look_for_more():
    density = _density()

    def nothing(strings):
        return torch.full((len(strings.value),), -torch.inf, dtype=torch.float64)

    start = density.sample(9, generator=stream(7))
    found = redrawn(density, start, TOLD, nothing, 4, 50, stream(8))
    assert (found.last >= 9).all()  # where nothing is wanted, nothing holds them


def test_the_wish_grows_as_long_as_half_of_the_chains_stay_effective():
    score = torch.tensor([0.0, -3.0, -6.0, -9.0, -torch.inf], dtype=torch.float64)
    power = _next_power(score, 0.0)
    share = (power * score[:4]).softmax(0)
    assert 1 / float(share.square().sum()) == pytest.approx(2.0, abs=1e-6)
    assert _next_power(score[:4] / 9, 0.2) == 1.0
    assert _next_power(score[4:], 0.3) == 0.3
