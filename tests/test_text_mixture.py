"""The network and the counts of strings, mixed: its formula, what is held out, what it learns, and
the way from a list of strings to a saved model."""

import numpy as np
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.codecs.sequence import Prefix
from conjoin.core import Block, Event, Record, Variable, stream
from conjoin.families.autoregressive import text_mixture
from conjoin.families.autoregressive.text_mixture import (
    GAIN,
    STEPS_OF_P,
    TextMixture,
    TextMixtureDensity,
)
from conjoin.training.learners import Batch, Gradient

WORDS = Block("word", "sequence", (6,), (Variable("letter", "category", 3),))
SMALL = TextMixture(width=8, blocks=1, rate=1e-2)


def words(rows=400, seed=1):
    """Strings in which 0 is followed by 1, and 1 by 2, mostly."""
    noise = stream(seed)
    value = torch.randint(0, 3, (rows, 6), generator=noise)
    for place in range(1, 6):
        follows = torch.rand(rows, generator=noise) < 0.8
        value[:, place] = torch.where(follows, (value[:, place - 1] + 1) % 3, value[:, place])
    length = torch.randint(1, 7, (rows,), generator=noise)
    there = torch.arange(6) < length[:, None]
    return Event(torch.where(there, value, 0), None, there)


@pytest.fixture(scope="module")
def density():
    """A network of no skill beside counts."""
    out = TextMixtureDensity.build(WORDS, SMALL, words(), stream(0))
    with torch.no_grad():
        for parameter in out.net.parameters():
            noise = torch.randn(parameter.shape, generator=stream(3), dtype=torch.float64)
            parameter.add_(0.5 * noise)
        out.mixing.add_(0.1 * torch.randn(out.mixing.shape, generator=stream(4)).double())
    return out


def stepped(density, rows, begin):
    """(B, T, V + 1) log p of each next token."""
    state = begin(rows.rows, Record())
    token = None
    out = []
    for place in range(7):
        state, log_p = density._step(state, token)
        out.append(log_p)
        token = rows.value[:, place] if place < 6 else None
    return torch.stack(out, 1)


@torch.no_grad()
def test_p_of_a_token_is_the_weighted_sum_of_both(density):
    full = Event(torch.randint(0, 3, (20, 6), generator=stream(5)))
    first, second = (
        stepped(part, full, part._begin) for part in (network_of(density), density.counts)
    )
    mixed = stepped(density, full, density._begin)
    seen = {(): 0}
    kept = words().take(~text_mixture._held(words()))
    for length in range(1, density.counts.orders):
        for row, there in zip(kept.value.tolist(), kept.there.sum(1).tolist(), strict=True):
            padded = ["^", *row[:there]]
            for end in range(len(padded) + 1 - length):
                seen[tuple(padded[end : end + length])] = length
    for row in range(20):
        so_far = ["^"]
        for place in range(6):
            longest = max(
                seen.get(tuple(so_far[len(so_far) - k :]), 0) for k in range(len(so_far) + 1)
            )
            top = first[row, place].max().exp()
            cell = density.mixing[sum(bool(top > edge) for edge in STEPS_OF_P), longest]
            weight = torch.sigmoid(GAIN * cell)
            wanted = weight * first[row, place].exp() + (1 - weight) * second[row, place].exp()
            assert torch.allclose(mixed[row, place].exp(), wanted, atol=1e-12)
            so_far.append(int(full.value[row, place]))


def network_of(density):
    """The network alone."""
    alone = text_mixture.SequenceDensity(WORDS, SMALL)
    alone.net = density.net
    return alone


@torch.no_grad()
def test_log_p_is_the_sum_of_the_steps_and_draws_are_those_of_float64(density):
    full = Event(torch.randint(0, 3, (20, 6), generator=stream(5)))
    exact = stepped(density, full, density._begin)
    drawn = stepped(density, full, density._begin_draws)
    assert torch.allclose(exact[:, :6], drawn[:, :6], atol=1e-5)
    each = exact[:, :6].gather(2, full.value[..., None])[..., 0].sum(1)
    assert torch.allclose(density.log_prob(full), each, atol=1e-9)
    assert density.log_prob(full.take(slice(0, 0))).shape == (0,)


def test_what_is_held_out_teaches_the_weights_alone():
    event = WORDS.check(words())
    held = text_mixture._held(event)
    assert 0.01 < held.float().mean() < 0.15
    density = TextMixtureDensity.build(WORDS, SMALL, event, stream(0))
    kept = TextMixtureDensity.build(WORDS, SMALL, event.take(~held), stream(0))
    assert torch.equal(density.counts.count, kept.counts.count)

    def slopes(rows):
        density.zero_grad()
        density.losses(rows).sum().backward()
        each = (density.mixing.grad, density.net.last.weight.grad)
        return tuple(some is not None and bool((some != 0).any()) for some in each)

    assert slopes(event.take(held)) == (True, False)
    assert slopes(event.take(~held)) == (False, True)


def test_the_weights_go_to_whoever_is_better():
    event = WORDS.check(words(2000))
    density = TextMixtureDensity.build(WORDS, SMALL, event, stream(0))
    for parameter in density.net.parameters():  # a network that knows nothing, and learns nothing
        parameter.requires_grad_(False)
    learner = Gradient(density, SMALL.recipe(2000))
    weight = torch.ones(2000, dtype=torch.float64)
    learner.begin()
    for index in range(40):
        learner.step(Batch(event, weight, 2000.0), stream(index), progress=index / 80)
    learner.end()
    seen = density.mixing[:, 1:4]  # behind no token, and behind rare runs, counts know as little
    used = seen[seen != 0]
    assert len(used)
    assert bool((torch.sigmoid(GAIN * used) < 0.4).all())


def test_few_strings_weigh_both_alike():
    density = TextMixtureDensity.build(WORDS, SMALL, words(50), stream(0))
    assert not density.structure["held_out"]
    assert not density.mixing.requires_grad and bool((density.mixing == 0).all())


def test_a_network_of_an_earlier_version_is_refused():
    with pytest.raises(ValueError, match="network of a mixture must be 'rotary', got 'absolute'"):
        TextMixture(network="absolute")


# ------------------------------------------------------------------ the way of a user

SAID = {"sport": ["goal", "match", "team"], "trade": ["price", "stock", "market"]}


def test_texts_by_both(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.choice(list(SAID), 200)
    X = [" ".join(rng.choice(SAID[each], 2)) for each in y]
    family = TextMixture(width=16, blocks=1, steps=40)
    model = JointClassifier(family=family, random_state=0).fit(X, y)
    assert model.status_["log_prob"] == "exact"
    assert (model.predict(X) == y).mean() > 0.95
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    found, _ = again.sample(3, y="trade", given={"text": Prefix("stock ")}, random_state=0)
    assert all(text.startswith("stock ") for text in found)
    assert list(found) == list(
        model.sample(3, y="trade", given={"text": Prefix("stock ")}, random_state=0)[0]
    )


def test_a_mixture_by_its_name():
    X = ["".join(np.random.default_rng(k).choice(list("abc"), 4)) for k in range(60)]
    model = JointDensity(family="text_mixture:width=8,blocks=1,steps=20", random_state=0).fit(X)
    assert np.isfinite(model.score_samples(["abca", "zzz"])).all()
