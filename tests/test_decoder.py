"""The network of strings and how it is learned: old models, the cache, parts by length, Muon."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.codecs.sequence import Prefix
from conjoin.core import Block, Event, Record, Status, Variable, stream
from conjoin.core.sampling import Sampling, sampling_with
from conjoin.families.autoregressive import continuation, sequence
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.autoregressive.text_mixture import TextMixtureDensity
from conjoin.nets import decoder, decoder_rows
from conjoin.nets.decoder import Decoder, Turned
from conjoin.nets.decoder_rows import ManyRows
from conjoin.nets.muon import (
    COEFFICIENTS,
    ITERATIONS,
    Muon,
    _by_squares,
    _iterated,
    orthogonalised,
)
from conjoin.training.learners import Batch, Gradient
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

OLD = Path(__file__).parent / "fixtures" / "models-strings"
TEXT = Block("text", "sequence", (40,), (Variable("letter", "category", 5),))


def moved(density, seed=3):
    """The density with weights that were moved away from zero."""
    noise = stream(seed, "moved")
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise).double())
    return density


def texts(rows=12, seed=0):
    noise = stream(seed, "texts")
    length = torch.randint(0, 41, (rows,), generator=noise)
    value = torch.randint(0, 5, (rows, 40), generator=noise)
    there = torch.arange(40) < length[:, None]
    return TEXT.check(Event(value, torch.ones_like(there), there))


def built(**settings):
    config = Sequence(**{"width": 16, "blocks": 2, "precision": "float32"} | settings)
    return moved(SequenceDensity.build(TEXT, config, texts(), stream(0)))


# ------------------------------------------------------------------ models of earlier versions


def test_a_model_of_strings_of_an_earlier_version_answers_to_the_bit():
    answers = np.load(OLD / "sequence" / "answers.npz")
    model = conjoin.load(OLD / "sequence")
    rows = ["abc", "xyzq", "qq", ""]
    assert (model.score_samples(rows) == answers["log_p"]).all()
    assert (model.predict_proba(rows) == answers["proba"]).all()
    drawn, _ = model.sample(6, given={"text": Prefix("a")}, random_state=1)
    assert list(drawn) == answers["drawn"].tolist()


def test_a_model_of_columns_and_strings_of_an_earlier_version_answers_to_the_bit():
    answers = np.load(OLD / "multimodal" / "answers.npz")
    model = conjoin.load(OLD / "multimodal")
    rows = pd.DataFrame({"age": [4.0, 2.0], "note": ["purr 4", "meow 2"]})
    assert (model.score_samples(rows) == answers["log_p"]).all()
    assert (model.predict_proba(rows) == answers["proba"]).all()
    # pandas made plain strings of beginnings then, which were drawn as if they were whole
    drawn, _ = model.sample(6, given={"note": "m"}, random_state=1)
    assert drawn["note"].tolist() == answers["drawn"].tolist()
    drawn, _ = model.sample(6, given={"note": Prefix("m")}, random_state=1)
    assert all(note.startswith("m") for note in drawn["note"])
    assert max(map(len, drawn["note"])) > 1


# ------------------------------------------------------------------ the network


def test_log_p_of_a_row_does_not_depend_on_the_rows_beside_it():
    density = built()
    event = texts(30)
    alone = torch.cat([density.log_prob(event.take(slice(k, k + 1))) for k in range(30)])
    assert torch.allclose(density.log_prob(event), alone, atol=1e-10)
    assert len(list(density._parts(event.there))) > 2  # short rows are not padded to long ones


@torch.no_grad()
def test_a_state_may_be_stepped_twice():
    """The cache is written in place, and copied where another state has gone on from it."""
    density = built()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 2, 2, 1]])
    state = density.begin(1)
    state, _ = density.step(state)
    for place in range(4):
        state, _ = density.step(state, tokens[:1, place])
    first, _ = density.step(state, tokens[:1, 4])
    second, _ = density.step(state, tokens[1:, 4])
    for row, branch in enumerate((first, second)):
        here = branch
        for place in (5, 6):
            here, log_p = density.step(here, tokens[row : row + 1, place])
        whole = density._log_next(density.net(tokens[row : row + 1], here.context))[:, -1]
        assert torch.allclose(log_p, whole, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
def test_steps_by_plain_arrays_are_those_of_the_network(rows, monkeypatch):
    """Also where they take over at a later position, as when rows have left the batch."""
    density = built()
    token = torch.randint(0, 5, (rows, 36), generator=stream(6))

    def stepped(limits):
        state, log_p = density.step(density.begin(rows))
        out = [log_p]
        for place, limit in zip(range(36), limits, strict=True):
            monkeypatch.setattr(decoder, "MAX_ROWS", limit)
            state, log_p = density.step(state, token[:, place])
            out.append(log_p)
        return torch.stack(out)

    network = stepped([0] * 36)
    assert network.std() > 0.1
    for limits in ([8] * 36, [0] * 9 + [8] * 27, [8] * 9 + [0] * 27):
        assert torch.allclose(stepped(limits), network, atol=1e-12)


@torch.no_grad()
def test_the_cache_grows_and_rows_leave_it():
    density = built()
    token = torch.randint(0, 5, (6, 40), generator=stream(5))
    state = density.begin(6)
    state, log_p = density.step(state)
    keep = torch.tensor([4, 1])
    for place in range(39):
        state, log_p = density.step(state, token[:, place])
        if place == 20:
            state = state.take(keep)
            token = token[keep]
    assert state.cache.store.keys.shape[3] == 64
    whole = density._log_next(density.net(token[:, :39], state.context))[:, -1]
    assert torch.allclose(log_p, whole, atol=1e-10)


def test_attention_sees_how_far_apart_tokens_are_and_not_where_they_stand():
    """log p of what comes next after a run of one token depends on its length alone through the
    angles: queries and keys turned by the same angle have the same product."""
    net = Decoder(50, 3, 0, 8, 1, 0.0)
    cosine, sine = net._turns_of(torch.zeros(1, dtype=torch.float64))
    block = net.blocks[0]
    h = torch.randn(1, 6, 8, generator=stream(0)).double()
    scores = []
    for first in (0, 30):
        part = slice(first, first + 6)
        query, key, _ = block._heads_of(h, cosine[part], sine[part])
        scores.append(query @ key.transpose(2, 3))
    assert torch.allclose(*scores, atol=1e-12)


@torch.no_grad()
def test_rows_that_have_ended_leave_the_batch(monkeypatch):
    """Draws are those of a batch that keeps all of its rows, and fewer rows are stepped."""
    density = built()
    seen = []
    own = SequenceDensity._step

    def counted(self, state, token):
        seen.append(len(state.context))
        return own(self, state, token)

    monkeypatch.setattr(SequenceDensity, "_step", counted)
    few = density.sample(40, generator=stream(1))
    stepped = sum(seen)
    monkeypatch.setattr(continuation, "MAX_LEFT_SHARE", -1.0)
    all_rows = density.sample(40, generator=stream(1))
    assert torch.equal(few.value, all_rows.value)
    assert torch.equal(few.present, all_rows.present)
    assert stepped < 0.7 * (sum(seen) - stepped)


# ------------------------------------------------------------------ narrower draws

LOG_P = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.8}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.81}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.625, 0.375, 0, 0]),
    ],
)
def test_tokens_are_chosen_more_narrowly(settings, wanted):
    how = Sampling(**settings)
    assert how.of(LOG_P).exp()[0].tolist() == pytest.approx(wanted, abs=1e-12)
    assert how.of(LOG_P.flip(1)).exp()[0].tolist() == pytest.approx(wanted[::-1], abs=1e-12)


def test_what_is_drawn_more_narrowly_is_no_draw_of_p():
    density = built()
    unknown = TEXT.unknown(4)
    assert density.complete(unknown, generator=stream(0)).status is Status.EXACT
    with sampling_with(Sampling(top_k=1)):
        first = density.complete(unknown, generator=stream(0))
        second = density.complete(unknown, generator=stream(1))
    assert first.status is Status.APPROXIMATE
    assert torch.equal(first.event.value, second.event.value)
    assert torch.equal(first.event.value, density.mode(unknown).value)
    assert density.complete(unknown, generator=stream(0)).status is Status.EXACT


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 0.0}, "temperature must be a number above 0, got 0.0"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ],
)
def test_draws_that_can_not_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**settings)


def test_narrow_draws_of_a_model():
    model = conjoin.load(OLD / "sequence")
    drawn, _ = model.sample(8, y="left", top_k=1, random_state=0)
    assert len(set(drawn)) == 1
    table = conjoin.load(OLD / "multimodal")
    with pytest.raises(ValueError, match="are for families that draw strings token by token"):
        table.sample(2, temperature=0.5)


@pytest.mark.parametrize(("size", "millions"), [(1, 0.98), (8, 7.86)])
def test_a_size_is_millions_of_parameters(size, millions):
    config = Sequence(size=size)
    net = Decoder(4, 5, 0, *config.shape, 0.0)
    count = sum(weight.numel() for weight in net.blocks.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"size": 3}, "one of 1, 8, 50"), ({"network": "x"}, "rotary, absolute")],
)
def test_a_setting_that_does_not_exist_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Sequence(**settings)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="even number of at least 2, got 7"):
        built(width=7)


@pytest.mark.parametrize("places", [(), (7,)])
def test_pairs_are_turned_as_complex_numbers_and_their_gradient_back(places):
    h = torch.randn(2, 3, 7, 10, generator=stream(6)).double().requires_grad_()
    angle = torch.randn(*places, 5, generator=stream(7)).double()
    turned = Turned.apply(h, angle.cos(), angle.sin())
    product = torch.complex(h[..., :5], h[..., 5:]) * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(turned, torch.cat([product.real, product.imag], -1), atol=1e-12)
    asked = (h, angle.cos(), angle.sin())
    assert torch.autograd.gradcheck(Turned.apply, asked)
    assert torch.autograd.gradgradcheck(Turned.apply, asked)


# ------------------------------------------------------------------ Muon


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5)])
def test_orthogonalised_is_its_polynomial_of_the_singular_values(shape):
    """O(U S V^T) = U p(p(... S / |S|)) V^T with p(s) = a s + b s^3 + c s^5, which ends near 1."""
    matrix = torch.randn(shape, generator=stream(1)).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    values = values / values.norm()
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    assert torch.allclose(orthogonalised(matrix), left * values @ right, atol=1e-5)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_orthogonalised_by_squares_is_the_iteration_itself():
    """Of a matrix whose singular values span five orders too, where squares lose digits."""
    matrix = torch.randn(24, 96, generator=stream(5)).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    for spectrum in (values / values.norm(), torch.logspace(0, -5, 24).double() / 2):
        whole = left * spectrum @ right
        assert torch.allclose(_by_squares(whole), _iterated(whole), atol=1e-10)
        single = whole.float()
        assert torch.allclose(_by_squares(single), _iterated(single), atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_muon_moves_as_its_definition_says(shape):
    start = torch.randn(shape, generator=stream(2)).double()
    matrix = start.clone()
    muon = Muon([matrix], decay=0.1)
    momentum = torch.zeros_like(start)
    for step in range(3):
        matrix.grad = torch.randn(shape, generator=stream(3, step)).double()
        momentum = 0.95 * momentum + matrix.grad
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        start = (1 - 0.02 * 0.1) * start
        start = start - 0.02 * scale * orthogonalised(matrix.grad + 0.95 * momentum)
        muon.step(0.02)
    assert torch.allclose(matrix, start, atol=1e-12)


def test_hidden_words_are_seen_as_the_start_and_still_count():
    """In the fit alone: log p of an answer is that of all words."""
    density = built()
    hiding = built(hidden=0.999999)
    hiding.load_state_dict(density.state_dict())
    rows = texts(6)
    assert torch.equal(density.log_prob(rows), hiding.log_prob(rows))
    told = density.encoder(Record({}), rows.rows)
    start = torch.full_like(rows.value, density.tokens)
    wanted = -density._log_p(rows, told, start)
    assert torch.equal(hiding.losses(rows, generator=stream(0)), wanted)
    assert not torch.equal(wanted, density.losses(rows, generator=stream(0)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden": 1.0}, "hidden must be at least 0 and less than 1, got 1.0"),
        ({"hidden": 0.1, "network": "absolute"}, "hidden=0.1 needs network='rotary'"),
        ({"hidden": 0.1, "reading": 0.5}, "hidden=0.1 is for strings that are only written"),
    ],
)
def test_what_hides_no_words_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Sequence(**settings)


def test_a_part_that_learns_at_half_the_pace_moves_half_as_far():
    """One step of each kind of parameter: Muon's and AdamW's first steps go with the rate alone."""
    moved = []
    for paces in ({}, {"net": 0.5}):
        density = built()
        before = {name: weight.detach().clone() for name, weight in density.named_parameters()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(density), "paces", paces)
            learner = Gradient(density, replace(density.config, decay=0.0).recipe(12))
        rows = texts(8)
        learner.step(Batch(rows, torch.ones(8, dtype=torch.float64), 8.0), stream(1), 0.2)
        moved.append({n: w.detach() - before[n] for n, w in density.named_parameters()})
    whole, half = moved
    assert {name.split(".")[0] for name in whole} >= {"net"}
    for name in whole:
        if name.startswith("net."):
            assert torch.allclose(half[name], 0.5 * whole[name], rtol=1e-3, atol=1e-7), name


def test_muon_moves_matrices_between_hidden_units_alone():
    density = built()
    learner = Gradient(density, density.config.recipe(12))
    moved_by = {id(matrix) for matrix in learner.muon.matrices}
    names = [name for name, weight in density.named_parameters() if id(weight) in moved_by]
    assert len(names) == 8
    assert all(name.startswith("net.blocks.") for name in names)
    plain = Gradient(density, replace(density.config, matrix_rate=None).recipe(12))
    assert plain.muon.matrices == []


def test_the_rate_falls_in_a_straight_line():
    density = built()
    learner = Gradient(density, density.config.recipe(12))
    assert [learner._schedule(t) for t in (0.25, 0.5, 1.0)] == pytest.approx([0.75, 0.5, 0.0])


def test_a_fit_that_was_broken_off_goes_on_with_the_same_bits(tmp_path):
    event = texts(20)
    weight = torch.ones(20, dtype=torch.float64)

    def fitted(steps, **more):
        density = built()
        plan = Plan(steps=12, checkpoint=tmp_path, every=0, **more)
        density.config = replace(density.config, steps=12, batch=10)
        return density, train_some(density, event, weight, plan, steps)

    whole, _ = fitted(12)
    (tmp_path / "checkpoint.safetensors").unlink()
    fitted(5)
    again, _ = fitted(12, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def train_some(density, event, weight, plan, steps):
    """Train, broken off after some steps."""
    own = Gradient.step
    count = 0

    def step(learner, batch: Batch, generator, progress=0.0):
        nonlocal count
        if count == steps:
            raise KeyboardInterrupt
        count += 1
        return own(learner, batch, generator, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gradient, "step", step)
        return train(density, event, weight, event, plan, Progress())


# ------------------------------------------------------------------ many rows at once


@torch.no_grad()
@pytest.mark.parametrize("context", [0, 3])
def test_many_rows_side_by_side_get_the_logits_of_the_network(context, monkeypatch):
    monkeypatch.setattr(decoder_rows, "FIRST_PLACES", 4)  # room is made more than once
    monkeypatch.setattr(decoder_rows, "MAX_POSITIONS_BY_PRODUCTS", 9)  # both ways to attend
    net = moved(Decoder(40, 5, context, 64, 2, 0.0)).eval()
    told = torch.randn(12, context, generator=stream(1)).double()
    tokens = torch.randint(0, 5, (14, 12), generator=stream(2))
    many = ManyRows(net)
    cache = state = None
    for place in range(14):
        last = None if place == 0 else tokens[place - 1]
        ours, cache = many.step(last, told, cache)
        asked, state = net.step(last, told, state)
        assert torch.allclose(ours.double(), asked, atol=1e-4), place
        if place == 6:  # some rows leave
            rows = torch.tensor([3, 0, 11, 7, 7, 1, 2, 4, 5])
            cache, state, told, tokens = (
                cache.take(rows),
                state.take(rows),
                told[rows],
                tokens[:, rows],
            )


@torch.no_grad()
def test_a_token_is_drawn_by_one_number_as_often_as_its_p():
    log_p = torch.tensor([[0.5, 0.0, 0.2, 0.3], [0.0, 0.0, 1.0, 0.0]]).log()
    choose = continuation.inversion(stream(0))
    rows = 40_000
    drawn = choose(log_p[:1].expand(rows, 4), torch.arange(rows), rows)
    share = torch.bincount(drawn, minlength=4) / rows
    assert share[1] == 0
    assert torch.allclose(share, log_p[0].exp(), atol=4 * 0.5 / rows**0.5)
    assert (choose(log_p[1:].expand(9, 4), torch.arange(9), 9) == 2).all()
    # the number of a row does not depend on which rows are left
    every = continuation.inversion(stream(1))(log_p[:1].expand(50, 4), torch.arange(50), 50)
    some = torch.tensor([4, 30, 31])
    assert (
        continuation.inversion(stream(1))(log_p[:1].expand(3, 4), some, 50) == every[some]
    ).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", [SequenceDensity, TextMixtureDensity])
def test_rows_drawn_some_at_a_time_have_the_law_of_the_density(kind, monkeypatch):
    short = Block("text", "sequence", (3,), (Variable("letter", "category", 2),))
    every = short.laid.every(short)
    config = kind.config_class(width=16, blocks=1, precision="float32")
    density = moved(kind.build(short, config, every, stream(0))).eval()
    monkeypatch.setattr(sequence, "MAX_DRAWN_ROWS", 1_000)
    drawn = density.sample(20_000, generator=stream(5))
    codes = {tuple(row): place for place, row in enumerate(strings(every))}
    counts = torch.bincount(
        torch.tensor([codes[row] for row in strings(drawn)]), minlength=len(codes)
    )
    p = density.log_prob(every).exp()
    assert (counts / 20_000 - p).abs().max() < 4 * (p.max() / 20_000) ** 0.5


def strings(event):
    """Each row as the tuple of its tokens."""
    lengths = event.there.sum(1).tolist()
    return [tuple(row[:n]) for row, n in zip(event.value.tolist(), lengths, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("full", [False, True])
def test_surprise_and_features_of_strings_come_from_one_look(full):
    """To the bit as from two; strings that fill the capacity need two."""
    density = built()
    event = texts(30)
    if not full:
        event = event.take((event.there.sum(1) < 40).nonzero()[:, 0])
    told = torch.zeros(event.rows, 0).double()
    log_p, mean = density._log_p_and_mean(event, told)
    assert torch.equal(log_p, density._log_p(event, told))
    assert torch.equal(mean, density._mean_hidden(event, told))
