"""Pictures in latent space, and in two stages: bounds, draws, what is told, what is kept."""

import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.codecs.composite import codec_of
from conjoin.core import Event, Space, Variable, stream
from conjoin.core.sampling import Walk, walking
from conjoin.core.warnings import ColumnWarning
from conjoin.datasets import draw_scenes
from conjoin.families.diffusion.cascade import Cascade, CascadeDensity
from conjoin.families.diffusion.latent import LatentDensity, LatentDiffusion
from conjoin.families.multimodal import Multimodal
from conjoin.fitting import pipeline
from conjoin.nets.picture_autoencoder import PictureAutoencoder
from conjoin.testing import conformance
from conjoin.testing.conformance import run_case
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget

TYPES = {"caption": {"type": "text", "format": "words"}}
QUICK = {"steps": 3, "size": 0.25, "points": 3, "sampling_steps": 3, "batch": 16}
WORDS = {"steps": 3, "width": 16, "blocks": 1}
SMALL = {"size": 0.125, "precision": "float32", "rate": 1e-2, "points": 8}


def of_pixels(side, channels=1, levels=256):
    pixel = Variable("pixel", "ordered", cardinality=levels)
    return Space(
        (channels * side**2,), (pixel,) * (channels * side**2), "image", (channels, side, side)
    )


def captioned(rows, side=16, seed=0):
    scenes = draw_scenes(rows, seed=seed, side=side)
    return pd.DataFrame(
        {"picture": pd.Series(list(scenes.pictures), dtype=object), "caption": scenes.captions}
    )


@pytest.fixture(scope="module", params=["latent_diffusion", "cascade"])
def fitted(request):
    family = Multimodal(pictures={"family": request.param, **QUICK}, strings=WORDS)
    model = conjoin.JointDensity(family=family, types=TYPES, random_state=0)
    return model.fit(captioned(160))


# ---------------------------------------------------------------------------- the autoencoder


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_the_levels_of_a_pixel_sum_to_one(levels):
    net = PictureAutoencoder((2, 3, 5), levels, 3, size=0.25)
    z = torch.randn(4, *net.grid, generator=stream(0))
    whole = (torch.full((4, 2, 3, 5), float(level)) for level in range(levels))
    total = torch.stack([net.log_prob(each, z) for each in whole]).logsumexp(0)
    assert total.abs().max() < 1e-12


def test_pixels_are_drawn_by_their_shares():
    net = PictureAutoencoder((1, 2, 2), 4, 2, size=0.25)
    z = torch.zeros(4000, *net.grid)
    with torch.no_grad():
        drawn = net.draw(z, stream(0))
        for level in range(4):
            expected = net.log_prob(torch.full((1, 1, 2, 2), float(level)), z[:1]).exp()[0]
            assert ((drawn == level).double().mean(0) - expected).abs().max() < 0.04


@pytest.mark.parametrize(("side", "places"), [(64, 8), (32, 8), (16, 8), (8, 8), (17, 9)])
def test_pictures_have_so_many_places(side, places):
    net = PictureAutoencoder((1, side, side), 256, 2, size=0.25)
    assert net.grid == (2, places, places)
    x = torch.zeros(1, 1, side, side)
    assert net.decode(net.encode(x))[0].shape == x.shape


# ---------------------------------------------------------------------------- bounds


def test_the_bound_is_that_of_both_parts():
    """With the noise of the bound written out: the decoder's log p at the least noise, the squared
    errors of the latents at the others, and what is left of a picture in the most."""
    space = of_pixels(8)
    data = Event(torch.randint(256, (12, 64), generator=stream(0)).double())
    config = LatentDiffusion(size=0.25, points=5, precision="float32")
    density = LatentDensity.build(space, config, data, stream(0))
    core = density.core
    with torch.no_grad():
        found = density.log_prob(data)
        levels, noise = density._noise(stream(0, "bound"))
        m = core.autoencoder.encode(data.value.unflatten(1, (1, 8, 8)))
        x = ((m - core.centre) / core.scale).double()
        z = core.unscaled((x + core.least * noise[0]).float())
        told = core.autoencoder.log_prob(data.value.unflatten(1, (1, 8, 8)), z).flatten(1).sum(1)
        apart = sum(
            (x - core((x + s * e).float(), s.float().expand(12), None)).square().flatten(1).sum(1)
            / s**2
            for s, e in zip(levels, noise, strict=True)
        )
        integral = apart * math.log(40 / core.least) / 5
        far = torch.distributions.Normal(x.flatten(1), 40.0)
        prior = torch.distributions.Normal(0.0, math.sqrt(40.0**2 + 1))
        lost = torch.distributions.kl_divergence(far, prior).sum(1)
    assert torch.allclose(found, told - integral - lost, rtol=1e-5)
    assert core.least == pytest.approx(0.1 / float(core.scale))


def test_the_autoencoder_is_taught_by_its_pixels_and_by_the_width_of_its_latents():
    space = of_pixels(8)
    data = Event(torch.randint(256, (6, 64), generator=stream(0)).double())
    config = LatentDiffusion(size=0.25, points=3, precision="float32")
    density = LatentDensity.build(space, config, data, stream(0))
    known = data.mask.unflatten(1, (1, 8, 8))
    core = density.core
    with torch.no_grad():
        found = density._taught(data.value, known, stream(1))
        pictures = data.value.unflatten(1, (1, 8, 8))
        m = core.autoencoder.encode(pictures)
        z = m + 0.1 * torch.randn(m.shape, generator=stream(1))
        q = torch.distributions.Normal(m, 0.1)
        p = torch.distributions.Normal(torch.zeros_like(m), 1.0)
        kl = torch.distributions.kl_divergence(q, p).flatten(1).sum(1) / 64
        error = core.autoencoder.error(pictures, known, z)
    assert torch.allclose(found, (error + kl).double(), rtol=1e-5)


def test_the_small_picture_is_a_function_of_the_large_one():
    space = of_pixels(4)
    data = Event(torch.randint(256, (20, 16), generator=stream(0)).double())
    density = CascadeDensity.build(space, Cascade(size=0.25, points=3, axes=0), data, stream(0))
    small = density.small(data)
    means = data.value.reshape(20, 2, 2, 2, 2).mean((2, 4)).flatten(1).round()
    assert torch.equal(small.value, means) and bool(small.mask.all())
    hidden = density.small(data.hide(torch.arange(16) == 0))
    assert hidden.mask.tolist()[0] == [False, True, True, True]
    with pytest.raises(ValueError, match="height and width are even, not 5 x 5"):
        CascadeDensity(of_pixels(5), Cascade(), {}, None)
    with pytest.raises(ValueError, match="upper has no setting 'rate' of its own"):
        Cascade(upper={"rate": 0.1})


CODED = {"codes": {"size": 0.125, "blocks": 1, "code_levels": (3,)}, "upper_share": 0.25}


def coded_cascade(rows=20, **settings):
    space = of_pixels(8)
    data = Event(torch.randint(256, (rows, 64), generator=stream(0)).double())
    config = Cascade(size=0.25, points=3, axes=0, **{**CODED, **settings})
    return CascadeDensity.build(space, config, data, stream(0)), data


def test_the_small_picture_can_be_written_in_codes():
    density, data = coded_cascade()
    small = density.small(data)
    assert density.base.coder.pixels == (1, 4, 4)
    parts = density.base.log_prob(small) + density.upper._log_prob(data, small, None)
    assert torch.equal(density.log_prob(data), parts)
    assert density.notices(data)[0].startswith("Pictures that are rebuilt from their codes")
    with walking(Walk(steps=2)):
        way = density.unfold_given(density.space.unknown(3), generator=stream(1))
        assert torch.equal(way[-1], density.sample(3, generator=stream(1)).value)
    half = data.hide(torch.arange(64) % 8 < 4)
    filled = density.sample_conditional(half, generator=stream(2)).value
    assert torch.equal(filled[half.mask], data.value[half.mask])


def test_the_second_stage_learns_from_a_share_of_the_rows(monkeypatch):
    density, data = coded_cascade()
    first = torch.arange(20.0).double()
    monkeypatch.setattr(density.base, "_losses", lambda event, told, noise: first[: event.rows])
    seen = []

    def losses(event, told, noise):
        seen.append((event.rows, told.rows))
        return torch.ones(event.rows, dtype=torch.float64)

    monkeypatch.setattr(density.upper, "_losses", losses)
    whole = density._losses(data, None, None)
    assert torch.equal(whole, first + 1) and seen == [(20, 20)]
    density.train()
    some = density._losses(data, None, None)
    assert seen[1] == (5, 5) and float(some.sum()) == float(whole.sum())  # the mean is the same
    noise = stream(0)
    rows = [(density._losses(data, None, noise) - first).nonzero()[:, 0].tolist() for _ in range(9)]
    assert len({place for each in rows for place in each}) > 10  # others in each step
    assert len(density._losses(data.take(slice(0, 0)), None, None)) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codes": {"batch": 2}}, "codes={'batch': ...} is a setting of both stages"),
        ({"codes": {"sise": 2}}, "codes has no setting 'sise'; choose from size, blocks"),
        ({"codes": {"coding": 2}}, "coding must lie between 0 and 1, got 2"),
        ({"codes": {}, "text_encoder": "x"}, "text_encoder='x' is for a first stage out of noise"),
        ({"codes": {}, "palette": 8}, "palette=8 is for a first stage out of noise"),
        ({"upper_share": 0}, "upper_share must be above 0 and at most 1, got 0"),
    ],
)
def test_settings_of_the_stages_are_refused_in_a_sentence(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Cascade(**settings)


def test_beside_words_the_small_picture_is_written_in_codes():
    found = Cascade.beside_words({})
    assert found["codes"] == {} and found["upper_share"] == 0.25 and found["batch"] == 64
    assert found["upper"] == {"noise_centre": -0.5} and Cascade.learns_fast(found)
    assert Cascade(**found).of_base.rate == 3e-3
    assert Cascade.beside_words({"batch": 8, "codes": {"size": 2}})["batch"] == 8
    found = Cascade.beside_words({"upper": {"size": 0.5}})
    assert found["upper"] == {"noise_centre": -0.5, "size": 0.5}
    for asked in ({"palette": 8}, {"guidance": 1.0}, {"codes": None}):
        assert Cascade(**Cascade.beside_words(asked)).codes is None
    config = Cascade(rate=0.5, size=2.0, codes={"size": 0.5}).of_base
    assert (config.rate, config.size) == (0.5, 0.5)
    assert Cascade(size=2.0, codes={}).of_base.size == 2.0


def test_the_mode_of_a_cascade_is_of_each_row_by_itself_and_of_no_row_no_row():
    space = of_pixels(4)
    data = Event(torch.randint(256, (20, 16), generator=stream(0)).double())
    config = Cascade(size=0.25, points=3, axes=0, sampling_steps=2)
    density = CascadeDensity.build(space, config, data, stream(0))
    known = data.take(slice(0, 2)).hide(torch.arange(16) > 11)
    both = density.mode(known)
    assert torch.equal(both.value[:, :12], known.value[:, :12])
    assert bool(both.mask.all())
    each = [density.mode(known.take(slice(row, row + 1))).value for row in range(2)]
    assert torch.equal(both.value, torch.cat(each))
    none = density.mode(known.take(slice(0, 0)))
    assert none.value.shape == (0, 16)
    assert none.mask.shape == (0, 16)


@pytest.mark.parametrize("check", ["normalisation", "samples", "hooks", "saving", "typical"])
def test_tiny_pictures_keep_the_contract(check):
    """More of the suite runs in tests/test_conformance.py."""
    for config, space in (
        (LatentDiffusion(**SMALL), "image given class"),
        (Cascade(**SMALL), "channels"),
    ):
        passed, detail = conformance._outcome(lambda: run_case(config, space, check))  # noqa: B023
        assert passed, (type(config).__name__, detail)


# ---------------------------------------------------------------------------- learning


def test_what_is_lost_in_latents_is_told():
    """The error of one picture is that of the means of its pixels given noisy latents, and is
    told."""
    data = Event(torch.randint(256, (5, 64), generator=stream(0)).double())
    config = LatentDiffusion(size=0.25, precision="float32", latent_noise=0.3)
    density = LatentDensity.build(of_pixels(8), config, data, stream(0))
    error, nats = density.rebuilt(data)
    net = density.core.autoencoder
    pictures = data.value.unflatten(1, (1, 8, 8))
    with torch.no_grad():
        z = net.encode(pictures) + 0.3 * torch.randn(8, 8, 8, generator=stream(0, "rebuilt"))
        shown = net.decode(z)[0].round().clamp(0, 255)
        log_p = net.log_prob(pictures, z).flatten(1).mean(1)
    assert torch.allclose(error, (shown - pictures).double().square().flatten(1).mean(1))
    assert torch.allclose(nats, -log_p)
    (words,) = density.notices(
        data.hide(torch.arange(64)[None] < 64 * (torch.arange(5) < 2)[:, None])
    )
    off = float(error[2:].mean()) ** 0.5
    bits = float(nats[2:].mean()) / math.log(2)
    assert f"8 x 8 places of 8 numbers) are {off:.1f} of 256 grey levels off" in words
    assert f"{bits:.2f} bits given them, in 3 rows" in words
    assert density.notices(data.hide(torch.ones(64, dtype=torch.bool))) == []


def test_an_autoencoder_learns_to_show_pictures():
    """Two kinds of pictures: after some steps the decoder tells them apart, and the bound rises."""
    dark = torch.rand(200, generator=stream(0)) < 0.5
    noise = torch.randint(0, 20, (200, 64), generator=stream(1))
    data = Event((noise + 200 * (~dark)[:, None]).double())
    config = LatentDiffusion(size=0.25, steps=60, batch=32, rate=5e-3, points=8)
    density = LatentDensity.build(of_pixels(8), config, data, stream(0))
    with torch.no_grad():
        before = density.log_prob(data).mean()
    train(density, data, torch.ones(200).double(), None, Plan(steps=60), Progress(False))
    with torch.no_grad():
        after = density.log_prob(data).mean()
        shown = density.core.values(density.core.pictures(data.value))
    assert after > before + 20
    assert (shown - data.value).abs().mean() < 30
    holed = data.take(slice(0, 8)).hide(torch.arange(64) < 32)
    filled = density.sample_conditional(holed, generator=stream(3)).value
    assert torch.equal(filled[:, 32:], data.value[:8, 32:])


# ---------------------------------------------------------------------------- tables


def test_captioned_pictures_answer_all_questions(fitted, tmp_path):
    new = captioned(4, seed=1)
    assert np.isfinite(fitted.score_samples(new)).all()
    assert fitted.status_ == {"log_prob": "lower bound", "sample": "lower bound"}
    given = {"caption": new["caption"][0]}
    rebuilt = [words for words in fitted.model_.notices if "rebuilt from their latents" in words]
    latent = fitted.family.pictures["family"] == "latent_diffusion"
    assert len(rebuilt) == latent
    drawn, _ = fitted.sample(2, given=given, random_state=0)
    way = fitted.unfold(2, given=given, random_state=0)
    pairs = zip(way[-1]["picture"], drawn["picture"], strict=True)
    assert all((one.pixels == two.pixels).all() for one, two in pairs)
    led, _ = fitted.sample(2, given=given, random_state=0, guidance=2.0, steps=2)
    assert led.attrs["status"].startswith("approximate")
    told = fitted.impute(new.assign(caption=None))
    assert told["caption"].notna().all()
    assert len(fitted.alternatives(new.assign(caption=None), 2)) == 8
    verdicts = fitted.decide(new, false_alarm=0.2)["verdict"]
    assert verdicts.isin(["accept", "unfamiliar"]).all()
    again = conjoin.load(fitted.save(tmp_path / "model"))
    assert np.allclose(again.score_samples(new), fitted.score_samples(new))


def test_draws_are_not_made_where_they_tell_nothing(fitted, tmp_path):
    """How a picture goes with columns is known of no row without columns: draws would not tell it.
    How a caption goes with its picture is. Of few rows draws stand for what is usual."""
    model = conjoin.load(fitted.save(tmp_path / "model")).model_
    encoded = model.encode(model.rows(captioned(30, seed=2)))
    model.rank_blocks(encoded)
    assert "bank" not in vars(model)
    assert [len(each) for each in model.state.blocks] == [0, 30, 30, 0, 30]
    model.rank_blocks(encoded.take(slice(0, 5)))
    assert [len(each) for each in model.state.blocks] == [0, 256, 256, 0, 256]


def test_parts_are_ranked_by_as_many_rows_as_there_is_time_for(fitted, tmp_path, monkeypatch):
    model = conjoin.load(fitted.save(tmp_path / "model")).model_
    held = model.rows(captioned(40, seed=2))
    monkeypatch.setattr(pipeline, "MIN_VALIDATION_ROWS", 25)
    short = Budget(1e-3)
    pipeline._rank_blocks(model, held, short)
    assert [len(each) for each in model.state.blocks][1:3] == [25, 25]
    (words,) = short.cut
    assert "what is usual of each part of a row was learned from 25 of 40 validation rows" in words
    unbounded = Budget(None)
    pipeline._rank_blocks(model, held, unbounded)
    assert [len(each) for each in model.state.blocks][1:3] == [40, 40]
    assert unbounded.cut == []


def test_a_family_that_draws_no_pictures_is_refused():
    with pytest.raises(ValueError, match="must be one of picture_diffusion, picture_tokens"):
        Multimodal(pictures={"family": "circuit"})
    with pytest.raises(ValueError, match="pictures has no setting 'channels'"):
        Multimodal(pictures={"channels": 4})
    with pytest.raises(ValueError, match="axes=8 is for pixels"):
        LatentDiffusion(axes=8)


def test_pictures_alone_are_modelled_in_latents():
    images = draw_scenes(60, seed=0, side=16).pictures
    model = conjoin.JointDensity(family=LatentDiffusion(**QUICK), random_state=0).fit(images)
    assert model.sample(2, random_state=0)[0].shape == (2, 16, 16, 3)
    holed = images[:2].astype(float)
    holed[:, :8] = np.nan
    filled = model.impute(holed)
    assert (filled[:, 8:] == images[:2, 8:]).all()


# ---------------------------------------------------------------------------- what is told first


def test_latents_are_suggested_from_64_pixels_on():
    large = of_pixels(64)
    assert "family='latent_diffusion'" in Multimodal().of_pictures.advice(large)[0]
    assert Multimodal().of_pictures.advice(of_pixels(32)) == []
    assert LatentDiffusion().advice(large) == [] and Cascade().advice(large) == []
    table = captioned(40, side=64)
    said = []
    for pictures in (QUICK, {"family": "latent_diffusion", **QUICK}):
        family = Multimodal(pictures=pictures, strings=WORDS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            conjoin.JointDensity(family=family, types=TYPES, random_state=0).fit(table)
        words = [str(each.message) for each in caught if each.category is ColumnWarning]
        said.append(sum("{'family': 'latent_diffusion'}" in each for each in words))
    assert said == [1, 0]


# ---------------------------------------------------------------------------- few captions


def test_few_sentences_beside_pictures_are_said_to_become_a_category():
    frame = captioned(40)
    frame["caption"] = [["a red ring here", "a blue box there"][row % 2] for row in range(40)]

    def told(table, types=None, missing=()):
        codec, read = codec_of(table, types or {}, missing)
        return [words for words in codec.fit(read).notices if "sentences" in words]

    assert told(frame)[0].startswith("Column 'caption' holds 2 different sentences in 40 rows")
    assert told(frame, TYPES) == told(frame.assign(caption=["ring", "box"] * 20)) == []
    gaps = frame.assign(
        caption=[*["not known at all"] * 20, *["a red ring here", "an odd blue box"] * 10]
    )
    assert "holds 3 different" in told(gaps)[0]
    assert "holds 2 different" in told(gaps, missing=["not known at all"])[0]
    assert told(captioned(40)) == []
