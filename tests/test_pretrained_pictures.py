"""Pretrained diffusion models of pictures of a folder: the bound, draws, painting in, what a folder
may hold, the alarms around them. All weights are random and made here."""

import json

import numpy as np
import pytest
import torch
from pretrained_folders import altered, picture_model
from scipy.stats import norm

import conjoin
from conjoin import JointClassifier, from_pretrained
from conjoin.core import Event, Space, Status, Variable, stream
from conjoin.families.pretrained.picture import DiffusersPicture
from conjoin.testing import conformance
from conjoin.testing.conformance import CHECKS, run_case

pytest.importorskip("diffusers", reason="needs the extra: pip install 'conjoin[pretrained]'")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return picture_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Pictures of 8 x 8 pixels."""
    return picture_model(tmp_path_factory.mktemp("squares") / "model", (8, 8))


def space(grid=(1, 2, 3), levels=3):
    size = grid[0] * grid[1] * grid[2]
    return Space((size,), (Variable("p", "ordered", levels),) * size, "image", grid)


def built(folder, where=None, **settings):
    where = where or space()
    config = DiffusersPicture(folder=str(folder), **settings)
    return config.density.build(where, config, where.unknown(0), stream(0))


# its draws of parts are compared for minutes
SLOW = ("conditionals", "samples", "normalisation")


@pytest.mark.parametrize(
    "check", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in CHECKS]
)
def test_the_conformance_suite_passes(tiny, check):
    config = DiffusersPicture(
        folder=str(tiny), tune=5, rate=1e-2, dtype="float64", steps=8, points=None
    )
    passed, detail = conformance._outcome(lambda: run_case(config, "image", check))
    assert passed, detail


# ------------------------------------------------------------------------------- the right values


def constant(folder, value, **settings):
    """A density whose network takes every picture for one of this level of grey, from -1 to 1."""
    density = built(folder, dtype="float64", **settings)
    with torch.no_grad():
        for parameter in density.net.parameters():
            parameter.zero_()
        density.net.conv_out.bias.fill_(value)
    return density


def test_the_bound_is_the_mass_of_the_last_step_where_all_others_agree(tmp_path):
    """The network knows the picture, so that no step but the last and the first costs anything."""
    folder = picture_model(tmp_path / "model", prediction_type="sample")
    density = constant(folder, 0.0, steps=None, points=None)
    grey = Event(torch.ones(1, 6).double())  # the middle of three levels, 0
    betas = np.linspace(1e-4, 0.2, 50)
    kept = np.cumprod(1 - betas)
    deviation = np.sqrt((1 - kept[0]) / (1 - kept[1]) * betas[1])
    mass = np.log(norm.cdf(0.5 / deviation) - norm.cdf(-0.5 / deviation))
    prior = 0.5 * (-kept[-1] - np.log(1 - kept[-1]))
    found = float(density.log_prob(grey))
    assert abs(found - 6 * (mass - prior)) < 1e-6
    drawn = density.sample(50, generator=stream(0))
    assert bool((drawn.value == 1).all())


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_divergences_are_those_of_two_gaussians(tmp_path, variance):
    """Of a picture that is not what the network takes it for, by torch's own formula."""
    folder = picture_model(tmp_path / "model", prediction_type="sample", variance_type=variance)
    density = constant(folder, 0.0, steps=None, points=None)
    white = Event(torch.full((1, 6), 2.0).double())
    betas = torch.linspace(1e-4, 0.2, 50).double()
    kept = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1).double(), kept[:-1]])
    small = (1 - before) / (1 - kept) * betas
    own = betas if variance == "fixed_large" else torch.cat([small[1:2], small[1:]])
    normal = torch.distributions.Normal
    total = torch.distributions.kl_divergence(
        normal(kept[-1].sqrt(), (1 - kept[-1]).sqrt()), normal(0.0, 1.0)
    )
    for step in range(1, 50):
        towards = before[step].sqrt() * betas[step] / (1 - kept[step])
        total = total + torch.distributions.kl_divergence(
            normal(towards, small[step].sqrt()), normal(0.0, own[step].sqrt())
        )
    last = norm.logsf(0.5 / float(own[0].sqrt()))
    found = float(density.log_prob(white))
    assert abs(found - 6 * (last - float(total))) < 1e-5 * abs(found)


def test_some_terms_stand_for_all(tiny):
    few = built(tiny, dtype="float64", steps=20, points=3)
    every = built(tiny, dtype="float64", steps=20, points=None)
    rows = Event(torch.tensor([[0.0, 1, 2, 2, 1, 0]]))
    draws = {
        density: torch.cat([density.log_prob(rows, generator=stream(s)) for s in range(200)])
        for density in (few, every)
    }
    gap = draws[few].mean() - draws[every].mean()
    spread = (draws[few].var() / 200 + draws[every].var() / 200).sqrt()
    assert abs(float(gap)) < 4 * float(spread)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_the_network_tells_is_read_as_the_scheduler_reads_it(tmp_path, prediction):
    import diffusers

    folder = picture_model(tmp_path / "model", prediction_type=prediction)
    density = built(folder, dtype="float64", steps=None)
    z = torch.randn(3, 1, 2, 3, generator=stream(0), dtype=torch.float64)
    scheduler = diffusers.DDPMScheduler.from_pretrained(folder / "scheduler")
    with torch.no_grad():
        told = density.net(z, torch.tensor(20)).sample
        mean = scheduler.step(told, 20, z, generator=None).pred_original_sample
        assert torch.allclose(density._clean(z, 20), mean.double(), atol=1e-5)


def test_known_pixels_come_back_untouched(squares):
    density = built(squares, space((1, 8, 8), 256), steps=6)
    value = torch.randint(256, (5, 64), generator=stream(0)).double()
    mask = torch.rand(5, 64, generator=stream(1)) < 0.5
    mask[4] = True
    found = density.complete(Event(value, mask), generator=stream(2))
    assert found.status is Status.APPROXIMATE
    assert torch.equal(found.event.value[mask], value[mask])
    assert not torch.equal(found.event.value, value)
    other = density.complete(Event(value * mask, mask), generator=stream(2))
    assert torch.equal(other.event.value, found.event.value)


# ------------------------------------------------------------------------------- the surfaces


def pictures(rows, seed=0):
    """Bright squares at a place of their own on a dark ground."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 20, (rows, 8, 8))
    for picture in out:
        row, column = rng.integers(0, 5, 2)
        picture[row : row + 3, column : column + 3] = rng.integers(200, 255)
    return out.astype(np.uint8)


def test_the_alarm_is_calibrated_on_rows_of_ones_own(squares, tmp_path):
    model = from_pretrained(squares, pictures(120), steps=6, points=3)
    noise = np.random.default_rng(1).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    verdicts = model.decide(noise, false_alarm=0.1, reasons=False)["verdict"]
    assert (verdicts == "unfamiliar").mean() > 0.9
    own = model.decide(pictures(80, 2), false_alarm=0.1, reasons=False)["verdict"]
    assert (own == "accept").mean() > 0.7
    assert model.status_["log_prob"] == "lower bound"
    assert model.bits_per_dim(noise[:3]).shape == (3,)
    drawn, _ = model.sample(2, random_state=0)
    assert drawn.shape == (2, 8, 8)
    holes = pictures(2, 4).astype(float)
    holes[:, :4] = np.nan
    full = model.impute(holes)
    assert (full[:, 4:] == holes[:, 4:]).all() and not np.isnan(full).any()
    model.save(tmp_path / "saved")
    again = conjoin.load(tmp_path / "saved")
    assert np.array_equal(again.score_samples(noise[:4]), model.score_samples(noise[:4]))


def test_both_alarms_work_around_a_frozen_model_of_pictures(squares):
    X = pictures(400)
    y = np.where(X[:, :4].sum((1, 2)) > X[:, 4:].sum((1, 2)), "up", "down")
    family = DiffusersPicture(folder=str(squares), steps=6, points=3)
    model = JointClassifier("linear", family=family).fit(X, y)
    assert model.model_.card["trained"]["stopped"].startswith("there was nothing to learn")
    table = model.decide(pictures(60, 3), max_error=0.2, false_alarm=0.1, reasons=False)
    assert (table["verdict"] == "accept").mean() > 0.5
    noise = np.random.default_rng(1).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    verdicts = model.decide(noise, max_error=0.2, false_alarm=0.1, reasons=False)["verdict"]
    assert (verdicts == "unfamiliar").mean() > 0.9


# ------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    return picture_model(tmp_path / "model")


def test_a_folder_with_a_pickle_or_code_is_refused(folder):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="may hold a pickle, which can run any code"):
        built(folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    (folder / "unet" / "mine.py").write_text("")
    with pytest.raises(ValueError, match="is code, and code that comes with weights is never run"):
        built(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"layers_per_block": 10**9}, r"layers_per_block=1,000,000,000, where the weights"),
        ({"block_out_channels": [8] * 5000}, r"block_out_channels of layers=5,000"),
        ({"block_out_channels": [64]}, "asks for a network of"),
        ({"num_class_embeds": 3}, "is told classes, which is not supported"),
        ({"in_channels": 3}, "asks for a network of|takes pictures of 3 channels"),
    ],
)
def test_a_network_that_does_not_fit_its_weights_is_refused(folder, entries, words):
    altered(folder / "unet", **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"variance_type": "learned"}, "variance_type='learned'"),
        ({"thresholding": True}, "thresholding=True"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps out of all bounds"),
    ],
)
def test_a_scheduler_that_is_not_read_is_refused(folder, entries, words):
    altered(folder / "scheduler", "scheduler_config.json", **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


def test_what_is_no_model_of_pictures_alone_is_told(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names 'StableDiffusionPipeline'"):
        built(folder)


def test_weights_that_are_missing_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    held["other"] = held.pop("conv_in.bias")
    save_file(held, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack conv_in\.bias and 0 others"):
        built(folder)


def test_weights_that_are_not_used_are_told(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "other": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.warns(UserWarning, match="hold other and 0 others .* left out"):
        built(folder)


def test_pictures_that_do_not_fit_are_told(folder):
    with pytest.raises(ValueError, match=r"pictures of 2 x 3 pixels, these have 4 x 3"):
        built(folder, space((1, 4, 3)))
    with pytest.raises(ValueError, match="takes pictures of 1 channels, these have 3"):
        built(folder, space((3, 2, 3)))
    with pytest.raises(ValueError, match="steps must be at least 2"):
        DiffusersPicture(steps=1)
