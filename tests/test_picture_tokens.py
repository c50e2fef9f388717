"""Pictures as codes: the autoencoder, the transformer that writes them, and how both learn."""

import contextlib
import re

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.core import Block, Event, Flat, Record, RecordSpace, Space, Variable, stream
from conjoin.core.learning import learning_at
from conjoin.core.sampling import Walk, walking
from conjoin.core.warnings import ColumnWarning
from conjoin.families.autoregressive import picture_tokens
from conjoin.families.autoregressive.picture_tokens import PictureTokens, PictureTokensDensity
from conjoin.families.multimodal import Multimodal
from conjoin.nets.encoders import WordsEncoder
from conjoin.nets.picture_codes import PictureCodes
from conjoin.training import loop
from conjoin.training.learners import Batch, Gradient
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

SMALL = {"size": 0.125, "blocks": 1, "precision": "float32"}


def of_pixels(side, levels=256, channels=1):
    cells = channels * side * side
    variables = (Variable("pixel", "ordered", cardinality=levels),) * cells
    return Space((cells,), variables, "image", (channels, side, side))


def coder(side=16, levels=256, channels=3, code_levels=(4, 3)):
    torch.manual_seed(0)
    net = PictureCodes((channels, side, side), levels, code_levels, 5, size=0.125).eval()
    for parameter in net.decoder.parameters():  # the last layer begins at zero
        torch.nn.init.normal_(parameter, std=0.3)
    value = pictures(50, side, levels, channels)
    net.start(value, torch.ones_like(value).bool())
    return net


def pictures(n, side, levels=256, channels=3, seed=0):
    shape = (n, channels, side, side)
    return torch.randint(levels, shape, generator=stream(seed)).double()


# ------------------------------------------------------------------------------- the autoencoder


def test_a_code_stands_for_the_vector_that_its_patch_is_rounded_to():
    net = coder()
    with torch.no_grad():
        vectors, codes = net.quantised(pictures(20, 16))
    assert net.grid == (8, 8) and net.count == 12
    assert int(codes.min()) >= 0 and int(codes.max()) < 12 and len(codes.unique()) > 3
    assert torch.allclose(net.vectors(codes), vectors)
    every = torch.arange(12)[:, None, None]
    assert len(net.vectors(every)[:, :, 0, 0].unique(dim=0)) == 12


def test_a_code_depends_on_its_own_patch_alone():
    net = coder()
    before = pictures(1, 16)
    after = before.clone()
    after[:, :, 2:4, 4:6] = 255 - after[:, :, 2:4, 4:6]
    moved = (net.codes(before) != net.codes(after))[0]
    moved[1, 2] = False
    assert not moved.any()


def test_a_place_is_known_where_all_of_its_pixels_are():
    net = coder(side=18)  # 9 places of 2 pixels
    mask = torch.ones(1, 3, 18, 18, dtype=torch.bool)
    mask[0, 1, 3, 5] = False
    known = net.known(mask)[0]
    assert not known[1, 2] and int(known.sum()) == 80


def test_the_last_place_of_a_side_that_does_not_divide_is_known_by_its_own_pixels():
    net = coder(side=13)
    assert net.grid == (7, 7) and bool(net.known(torch.ones(1, 3, 13, 13).bool()).all())
    assert net.log_prob(pictures(1, 13), net.vectors(net.codes(pictures(1, 13)))).shape[1:] == (
        13,
        13,
    )


def test_p_of_a_pixel_sums_to_one_over_all_colours():
    net = coder(side=12, levels=4, channels=2)
    codes = net.codes(pictures(1, 12, 4, 2))
    every = torch.cartesian_prod(torch.arange(4), torch.arange(4)).double()
    shown = every[:, :, None, None].expand(-1, -1, 12, 12)
    with torch.no_grad():
        log_p = net.log_prob(shown, net.vectors(codes.expand(16, -1, -1)))
    assert torch.allclose(log_p.exp().sum(0), torch.ones(12, 12).double())


def test_draws_of_pixels_come_as_often_as_p_says():
    net = coder(side=12, levels=4, channels=1)
    codes = net.codes(pictures(1, 12, 4, 1))
    with torch.no_grad():
        z = net.vectors(codes.expand(3000, -1, -1))
        drawn = net.draw(z, stream(0))
        for level in range(4):
            p = net.log_prob(torch.full((1, 1, 12, 12), float(level)), z[:1]).exp()[0]
            share = (drawn[:, 0] == level).double().mean(0)
            assert float((share - p).abs().max()) < 5 * (0.25 / 3000) ** 0.5


def test_evidence_of_a_code_is_log_p_of_the_known_pixels_amid_its_like():
    net = coder(side=16, levels=8, channels=1)
    value = pictures(2, 16, 8, 1)
    mask = torch.rand(value.shape, generator=stream(1)) < 0.3
    with torch.no_grad():
        found = net.evidence(value, mask)
        for code in (0, 7):
            z = net.vectors(torch.full((2, 3, 3), code))
            weight = net._whole_weights(z)[:, :, 2:4, 2:4]  # the middle place of nine
            part = value[:, :, 6:8, 10:12]
            own = net._log_own(part, weight).transpose(0, 1)
            log_p = (weight + own).logsumexp(1) * mask[:, 0, 6:8, 10:12]
            assert torch.allclose(found[:, 3 * 8 + 5, code], log_p.sum((1, 2)))


def test_a_channel_that_is_known_alone_is_evidence():
    net = coder()
    value = pictures(2, 16)
    red = torch.zeros_like(value).bool()
    red[:, 0] = True
    with torch.no_grad():
        assert float(net.evidence(value, red).std(2).min()) > 0
        z = net.vectors(net.codes(value))
        every = torch.arange(256.0)[:, None, None, None].expand(-1, 3, 16, 16).double()
        known = red[:1].expand(256, -1, -1, -1)
        p = net.log_prob(every, z[:1].expand(256, -1, -1, -1), known).exp().sum(0)
    assert torch.allclose(p, torch.ones(16, 16).double())


def test_colours_are_those_of_known_pixels():
    net = PictureCodes((1, 8, 8), 256, (4, 4), 3, size=0.125)
    value = torch.full((4, 1, 8, 8), 200.0).double()
    mask = torch.ones_like(value).bool()
    value[:, :, :4] = 0
    mask[:, :, :4] = False
    net.start(value, mask)
    middle, _ = net._colours()
    assert torch.allclose(middle[net.palette.log_share > -10], torch.tensor([[200.0]]).double())
    net.start(value, torch.zeros_like(mask))


def test_the_code_of_a_known_patch_has_no_less_evidence_than_another():
    net = coder()
    value = pictures(3, 16)
    found = net.evidence(value, torch.ones_like(value).bool())
    own = found.gather(2, net.codes(value).flatten(1)[..., None])[..., 0]
    assert torch.equal(own, found.amax(2))


# ------------------------------------------------------------------------------- the transformer


def small_density(side=4, levels=3, **settings):
    data = Event(torch.randint(levels, (60, side * side), generator=stream(0)).double())
    config = PictureTokens(**{**SMALL, "code_levels": (3,), **settings})
    return PictureTokensDensity.build(of_pixels(side, levels), config, data, stream(0)), data


def test_p_of_all_words_of_codes_is_one_and_none_is_shorter():
    density, _ = small_density(side=2)
    words = torch.cartesian_prod(*[torch.arange(3)] * 4)
    for parameter in density.writer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    told = density._record(None, len(words))
    with torch.no_grad():
        log_p = density.writer._log_prob(Event(words), told, None)
        assert abs(float(log_p.logsumexp(0))) < 1e-9
        shorter = Event(words[:, :3], torch.ones(81, 3).bool())
        assert density.writer._log_prob(shorter, density._record(None, 81), None).max() == -np.inf
        drawn = density.writer._sample(500, density._record(None, 500), stream(0))
    assert drawn.value.shape == (500, 4) and bool(drawn.there.all())


def test_a_step_of_learning_is_told_what_log_p_says():
    density, data = small_density()
    for parameter in density.writer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    codes = Event(density.coder.codes(density._pictures(data.value)).flatten(1))
    told = density.writer.encoder(density._record(None, data.rows), data.rows)
    with torch.no_grad():
        exact = density.writer._log_p(codes, told)
        density.writer.net.float()
        learned = density.writer.train()._log_p(codes, told)
    assert torch.allclose(exact, learned, atol=1e-4)


def test_all_but_the_known_pixels_are_filled_in():
    density, data = small_density()
    mask = torch.rand(data.value.shape, generator=stream(3)) < 0.5
    mask[0] = False
    mask[1] = True
    asked = Event(data.value, mask)
    with torch.no_grad():
        drawn = density.sample_conditional(asked, generator=stream(0)).value
        mode = density.mode(asked).value
    for value in (drawn, mode):
        assert torch.equal(value[mask], data.value[mask])
        assert float(value.min()) >= 0 and float(value.max()) <= 2


@pytest.mark.parametrize("known", [(0, 1, 2, 3, 4), (0, 2, 4), (1,)])
def test_what_is_filled_in_follows_p_over_all_words_of_codes(known):
    space = Space((6,), (Variable("pixel", "ordered", cardinality=3),) * 6, "image", (1, 2, 3))
    first = torch.randint(3, (300, 1), generator=stream(0))
    other = torch.randint(3, (300, 6), generator=stream(1))
    like = torch.rand(300, 6, generator=stream(2)) < 0.7
    data = Event(torch.where(like, first, other).double())
    config = PictureTokens(**SMALL, code_levels=(3,), rate=1e-2).in_precision("auto")
    density = PictureTokensDensity.build(space, config, data, stream(0))
    learner = Gradient(density, config.recipe(300))
    learner.begin()
    for step in range(60):
        batch = Batch(data, torch.ones(300).double(), 300.0)
        learner.step(batch, stream(step), step / 60)
    learner.end()
    every = torch.cartesian_prod(*[torch.arange(3)] * 6)
    mask = torch.zeros(6, dtype=torch.bool)
    mask[list(known)] = True
    row = data.value[3]
    with torch.no_grad():
        written = density.writer._log_prob(Event(every), density._record(None, 729), None)
        z = density.coder.vectors(every.view(-1, 2, 3))
        possible = every[(every[:, mask] == row[mask]).all(1)].double()
        log_p = torch.stack(
            [
                (density.coder.log_prob(x.view(1, 1, 2, 3).expand(729, -1, -1, -1), z))
                .flatten(1)
                .sum(1)
                for x in possible
            ]
        )
        p = (log_p + written).logsumexp(1).softmax(0)
        n = 1500
        asked = Event(row.expand(n, -1).clone(), mask.expand(n, -1).clone())
        drawn = density.sample_conditional(asked, generator=stream(1)).value
    scale = 3.0 ** torch.arange(int((~mask).sum()) - 1, -1, -1).double()
    codes = (drawn[:, ~mask] @ scale).long()
    share = torch.bincount(codes, minlength=len(p)).double() / n
    by_chance = 0.5 * (p * (1 - p) / n).sqrt().sum()
    assert float(0.5 * (share - p).abs().sum()) < 0.04 + 1.5 * float(by_chance)


def test_pictures_unfold_row_by_row_to_the_draw():
    density, _ = small_density(side=12, levels=256)
    nothing = Event(torch.zeros(3, 144).double(), torch.zeros(3, 144).bool())
    states = density.unfold_given(nothing, generator=stream(5))
    assert len(states) == 7
    with torch.no_grad():
        drawn = density.sample(3, generator=stream(5)).value
    assert torch.equal(states[-1], drawn)
    assert torch.equal(states[2].view(3, 12, 12)[:, :4], drawn.view(3, 12, 12)[:, :4])
    assert bool((states[2].view(3, 12, 12)[:, 4:] == 127).all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"code_levels": ()}, "code_levels must be whole numbers of at least 3"),
        ({"code_levels": (8, 2)}, "code_levels must be whole numbers of at least 3"),
        ({"code_levels": (200, 200)}, "40,000 codes, more than 16,384"),
        ({"colours": 0}, "colours must be a whole number from 1 to 256, got 0"),
        ({"coding": 1.0}, "coding must lie between 0 and 1, got 1.0"),
        ({"particles": 0}, "particles must be a whole number from 1 to 1,024, got 0"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, words):
    with pytest.raises(ValueError, match=words):
        PictureTokens(**settings)


# ------------------------------------------------------------------------------------- the fit


def test_the_autoencoder_learns_first_and_then_stays():
    density, data = small_density(coding=0.5)
    learner = Gradient(density, density.config.recipe(60))
    learner.begin()
    batch = Batch(data, torch.ones(60).double(), 60.0)

    def weights(part):
        return torch.cat([each.detach().flatten() for each in part.parameters()]).clone()

    for at, moves, stays in ((0.2, "coder", "writer"), (0.7, "writer", "coder")):
        before = {part: weights(getattr(density, part)) for part in (moves, stays)}
        for step in range(3):
            learner.step(batch, stream(step), at)
        assert not torch.equal(weights(getattr(density, moves)), before[moves])
        assert torch.equal(weights(getattr(density, stays)), before[stays])
    with learner.averaged():
        averaged = weights(density.coder)
    assert torch.equal(averaged, weights(density.coder))  # what has stopped is its own mean


def test_the_rate_of_a_stage_rises_and_falls_within_it():
    density, _ = small_density(coding=0.5)
    learner = Gradient(density, density.config.recipe(60))
    coding, writing = (
        next(pace for pace in learner.paces if pace.start == start) for start in (0.0, 0.5)
    )
    assert learner._share(coding, 0.25) == learner._share(writing, 0.75) == learner._schedule(0.5)
    assert learner._share(coding, 0.5) == learner._share(writing, 0.49) == 0.0
    assert learner._share(writing, 1.2) == 0.0  # the schedule has ended, the part has not
    assert writing.learns_at(1.2) and not coding.learns_at(1.2)


def whole_fit(density, data, choose=None, **plan):
    return train(
        density, data, torch.ones(data.rows).double(), choose, Plan(**plan), Progress(False)
    )


def test_a_fit_is_not_given_up_before_its_last_part_has_begun():
    """Validation rows that the autoencoder overfits at once."""
    density, data = small_density(side=4, levels=256, coding=0.5, rate=3e-2)
    before = density.writer.net.embed.weight.detach().clone()
    found = whole_fit(density, data.take(slice(0, 6)), data.take(slice(6, 60)), steps=200, batch=6)
    assert found.steps > 100
    assert not torch.equal(density.writer.net.embed.weight, before)


def test_what_was_best_is_of_the_last_stage(monkeypatch):
    """Without validation rows the loss of pixels, though less than that of codes, counts as
    nothing once codes are learned."""
    density, data = small_density(coding=0.5)
    whole_fit(density, data, steps=80, batch=30)
    with torch.no_grad():
        codes = Event(density.coder.codes(density._pictures(data.value)).flatten(1))
        told = density._record(None, data.rows)
        learned = -density.writer._log_prob(codes, told, None).mean() / 16
    assert float(learned) < np.log(3) - 0.01  # as the writer begins


@pytest.mark.parametrize("steps", [30, 63])
def test_a_fit_that_was_broken_off_in_either_stage_ends_with_the_same_bits(
    steps, tmp_path, monkeypatch
):
    whole, data = small_density(coding=0.5)
    broken, _ = small_density(coding=0.5)
    resumed, _ = small_density(coding=0.5)
    plan = {"steps": 100, "batch": 30}
    whole_fit(whole, data, **plan)
    step = loop._Run.step

    def until(run, bar):
        if run.trained.steps == steps:
            raise SystemExit
        step(run, bar)

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(loop._Run, "step", until)
        whole_fit(broken, data, **plan, checkpoint=tmp_path, every=0)
    whole_fit(resumed, data, **plan, checkpoint=tmp_path, resume=True)
    weights = (whole.state_dict(), resumed.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_part_that_does_not_learn_yet_takes_no_gradient_of_zero():
    """As of several processes, whose gradients are added up."""
    moved = []
    for zeros in (False, True):
        density, data = small_density(coding=0.5)
        learner = Gradient(density, density.config.recipe(60))
        learner.begin()
        batch = Batch(data, torch.ones(60).double(), 60.0)
        backward = learner._backward

        def filled(*asked, backward=backward, learner=learner):
            loss = backward(*asked)
            for each in learner.parameters:
                each.grad = torch.zeros_like(each) if each.grad is None else each.grad
            return loss

        learner._backward = filled if zeros else backward
        for step in range(20):
            learner.step(batch, stream(step), step / 20)
        moved.append(density.writer.net.embed.weight.detach().clone())
    assert torch.equal(*moved)


def test_codes_of_a_step_of_learning_are_those_of_answers():
    density, data = small_density(side=12, levels=256, precision="bfloat16")
    pictures = density._pictures(data.value)
    with torch.no_grad():
        answers = density.coder.codes(pictures)
        density.coder.float()
        learned = density.coder.train().codes(pictures)
    assert torch.equal(answers, learned)


def test_the_autoencoder_learns_from_as_many_rows_as_have_so_many_pixels(monkeypatch):
    density, data = small_density(side=4)
    rows = density._pictures(data.value), density._pictures(data.mask)
    noise = stream(0)
    whole = density._coder_losses(*rows, noise)
    density.train()
    monkeypatch.setattr(picture_tokens, "CODED_PIXELS", 15 * 16)
    some, others = (density._coder_losses(*rows, noise) for _ in range(2))
    there = some != 0
    assert int(there.sum()) == 15 and not torch.equal(there, others != 0)
    assert torch.allclose(some[there], 4 * whole[there], rtol=1e-5)  # 15 of 60 stand for all


def test_outside_of_a_fit_the_loss_has_both_parts():
    density, data = small_density()
    with torch.no_grad():
        whole = density.losses(data, generator=stream(0))
        density.train()
        with learning_at(0.0):
            pixels = density.losses(data, generator=stream(0))
        with learning_at(0.9):
            codes = density.losses(data, generator=stream(0))
    assert torch.allclose(whole, pixels + codes, atol=1e-3)


# ------------------------------------------------------------------------- strings told by place


def test_what_stands_behind_the_end_of_a_string_tells_nothing():
    block = Block("words", "sequence", (5,), (Variable("word", "category", 7),))
    encoder = WordsEncoder(block)
    value = torch.tensor([[1, 2, 0, 0, 0], [1, 2, 5, 5, 5], [2, 1, 0, 0, 0]])
    there = torch.tensor([[1, 1, 0, 0, 0]] * 3).bool()
    found = encoder.encoded(Event(value, torch.ones(3, 5).bool(), there))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    shorter = encoder.encoded(Event(value[:, :2], torch.ones(3, 2).bool(), there[:, :2]))
    assert torch.equal(found[0], shorter[0])
    untold = encoder.encoded(block.check(block.unknown(2)))
    assert torch.equal(untold[0], untold[1]) and not torch.equal(untold[0], found[0])


# ------------------------------------------------------------------------- captioned pictures


def told_space():
    image = Block("picture", "image", (1, 8, 8), (Variable("pixel", "ordered", 256),))
    words = Block("caption", "sequence", (4,), (Variable("word", "category", 3),))
    columns = Block("columns", "vector", (1,), (Variable("mass", "real"),))
    return Flat(RecordSpace((columns, image, words))).space


def test_captioned_pictures_are_written_in_codes_unless_a_setting_is_of_another_family():
    space = told_space()

    def family(**pictures):
        return type(Multimodal(pictures=pictures or None).suited(space).of_pictures).__name__

    assert family() == family(size=0.5) == family(coding=0.4) == "PictureTokens"
    assert family(guidance=1.0) == family(size=0.5, palette=8) == "PictureDiffusion"
    assert family(family="picture_diffusion") == "PictureDiffusion"
    config = Multimodal().suited(space)
    assert config.caption_pace == 0.25 and config.recipe(100).batch == 64
    assert Multimodal(**config.get_params()).suited(space) == config
    for wrong, words in (
        ({"codin": 0.4}, "no setting 'codin'; choose from size, blocks"),
        ({"coding": 2}, "coding must lie between 0 and 1, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            Multimodal(pictures=wrong)


def shown(n, seed=0):
    """Grey pictures and their captions."""
    rng = np.random.default_rng(seed)
    bright = rng.integers(0, 2, n)
    noise = rng.integers(-30, 31, (n, 8, 8, 1))
    images = (128 + 60 * (2 * bright - 1)[:, None, None, None] + noise).astype(np.uint8)
    words = rng.choice(["wall", "sheet", "cloth", "door", "sky", "sea", "hat", "car"], (n, 2))
    captions = [
        f"{'bright' if each else 'dark'} {' and '.join(pair)}"
        for each, pair in zip(bright, words, strict=True)
    ]
    return pd.DataFrame({"picture": pd.Series(list(images), dtype=object), "caption": captions})


@pytest.fixture(scope="module")
def fitted():
    family = Multimodal(
        pictures={**SMALL, "steps": 60, "batch": 32, "code_levels": (4, 4)},
        strings={"width": 32, "blocks": 1, "steps": 60},
        precision="float32",
    )
    with pytest.warns(ColumnWarning, match="rebuilt from their codes"):
        return conjoin.JointDensity(family=family, random_state=0).fit(shown(160))


def test_candidates_are_chosen_by_how_probable_their_caption_is(fitted, monkeypatch):
    given = {"caption": "bright wall and sky"}
    density = fitted.model_.joint
    cells = next(part for part in density.parts if not part.block.ragged).cells

    def brightness(part, columns, behind, generator):
        assert part.block.ragged
        return behind.value[:, cells].mean(1)

    plain, _ = fitted.sample(30, given=given, random_state=0)
    monkeypatch.setattr(density, "_seen_of", brightness)
    one, _ = fitted.sample(30, given=given, random_state=0, candidates=1)
    many, _ = fitted.sample(30, given=given, random_state=0, candidates=8)
    means = [
        np.array([np.asarray(each.pixels, dtype=float).mean() for each in frame["picture"]])
        for frame in (plain, one, many)
    ]
    assert np.array_equal(means[0], means[1])
    # the brightest of eight: one nat for each grey level
    assert means[2].mean() > means[0].mean() + means[0].std()
    assert "chosen among 8" in many.attrs["status"]
    with walking(Walk(candidates=8)):
        assert density.status_of_draws.value == "approximate"


def test_guidance_exaggerates_what_codes_are_told_by_so_much():
    data = Event(torch.randint(3, (60, 4), generator=stream(0)).double())
    classes = Space((), (Variable("y", "category", cardinality=2),))
    told = Event(torch.arange(60).remainder(2).double())
    config = PictureTokens(**{**SMALL, "code_levels": (3,)})
    density = PictureTokensDensity.build(
        of_pixels(2, 3), config, data, stream(0), context=told, context_space=classes
    )
    for parameter in density.writer.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    words = torch.cartesian_prod(*[torch.arange(3)] * 4)
    one = Event(torch.ones(81).double())
    with torch.no_grad():
        # log p of each word step by step: told, and told nothing
        steps = [
            density.writer.told_at(words, density._record(each, 81))[0] for each in (one, None)
        ]
        strength = 1.5
        led = torch.zeros(81, dtype=torch.float64)
        for place in range(4):
            score = (1 + strength) * steps[0][:, place] - strength * steps[1][:, place]
            stem = words[:, :place]
            same = (stem[:, None] == stem).all(2) if place else torch.ones(81, 81).bool()
            each = [same & (words[:, place] == code) for code in range(3)]
            # of words with the same beginning, one for each code that may follow
            value = torch.stack([torch.where(some, score, -torch.inf).amax(1) for some in each], 1)
            led = led + score - value.logsumexp(1)
        assert abs(float(led.logsumexp(0))) < 1e-9
        rows = 6_000
        context = Event(torch.ones(rows).double())
        with walking(Walk(guidance=strength)):
            z = density._drawn(rows, context, stream(1))
            assert density.status_of_draws.value == "approximate"
        plain = density._drawn(200, context.take(slice(0, 200)), stream(1))
        with walking(Walk(guidance=0.0)):
            assert torch.equal(density._drawn(200, context.take(slice(0, 200)), stream(1)), plain)
            assert density.status_of_draws.value == "lower bound"
    codes = (z.flatten(1)[:, None] - density.coder.vectors(words.view(-1, 2, 2)).flatten(1)).abs()
    share = torch.bincount(codes.sum(2).argmin(1), minlength=81) / rows
    assert (share - led.exp()).abs().sum() / 2 < 0.02  # by chance .003; plain draws have .25


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Bright wall and sky", "'Bright' is none of them (Did you mean 'bright'?)."),
        ("bright  wall and sky", "one blank stands between words"),
        ("bright wall and sky " * 3, "one blank stands between words"),
        (" and ".join(["bright wall"] * 9), "of the words"),
        (" and ".join(["bright wall"] * 9), "; this one has 26."),
    ],
)
def test_a_prompt_that_can_not_be_read_is_told_why(fitted, caption, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        fitted.sample(1, given={"caption": caption}, random_state=0)


def test_guidance_needs_something_that_is_told(fitted):
    given = {"caption": "bright wall and sky"}
    plain, _ = fitted.sample(8, given=given, random_state=0)
    led, _ = fitted.sample(8, given=given, random_state=0, guidance=2.0)
    assert "guidance 2), so these are no draws of the model" in led.attrs["status"]
    for way in (plain, led):
        assert way["caption"].tolist() == [given["caption"]] * 8
    changed = [
        np.any(a.pixels != b.pixels) for a, b in zip(plain["picture"], led["picture"], strict=True)
    ]
    assert any(changed)
    way = fitted.unfold(2, given=given, random_state=0, guidance=2.0)
    first, _ = fitted.sample(2, given=given, random_state=0, guidance=2.0)
    assert np.array_equal(way[-1]["picture"][0].pixels, first["picture"][0].pixels)
    with pytest.raises(ValueError, match="steps=4 is for families that draw rows out of noise"):
        fitted.sample(1, given=given, steps=4)
    alone = conjoin.JointDensity(family=PictureTokens(**SMALL, steps=2), random_state=0).fit(
        np.stack(shown(40)["picture"].tolist())
    )
    with pytest.raises(ValueError, match="this model tells nothing to the pictures that it draws"):
        alone.sample(1, guidance=1.0)


def test_nothing_is_asked_of_no_rows():
    density, data = small_density()
    assert density.features(data.take(slice(0, 0))).shape == (0, 16)
    assert density.log_prob(data.take(slice(0, 0))).shape == (0,)
    assert density.sample(0).value.shape == (0, 16)


def test_candidates_are_refused_where_nothing_is_drawn_from_a_string():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40) % 3})
    model = conjoin.JointDensity(family="mixture", random_state=0).fit(frame)
    with pytest.raises(ValueError, match="candidates=3 chooses among pictures that are drawn from"):
        model.sample(2, candidates=3)
    for wrong in (0, 1001):
        with pytest.raises(ValueError, match="candidates must be a whole number from 1 to 1,000"):
            Walk(candidates=wrong)


def test_the_context_is_a_record_of_columns_and_words():
    space = told_space()
    words = space.behind[1]
    told = Flat(RecordSpace((Block("columns", "vector", (1,), space.variables[:1]), words))).space
    own = of_pixels(8)
    data = Event(pictures(30, 8, channels=1).flatten(1))
    value = torch.cat([torch.randn(30, 1, generator=stream(0)), torch.zeros(30, 4)], 1).double()
    density = PictureTokensDensity.build(
        own, PictureTokens(**SMALL), data, stream(0), context=Event(value), context_space=told
    )
    record = density._record(Event(value), 30)
    assert isinstance(record, Record) and list(record) == ["columns", "caption"]
    assert torch.equal(record["columns"].value, value[:, :1])
    assert record["caption"].value.shape[0] == 30
