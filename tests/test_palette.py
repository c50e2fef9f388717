"""Pixels told by their colours: Bayes' rule where nothing was learned, choices that neighbours
make plain, draws in the colours of the fit."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_picture_diffusion import rows, space
from test_scale import launch

from conjoin.components.palette import Palette
from conjoin.core import Block, Flat, RecordSpace, Variable, stream
from conjoin.families.diffusion import denoiser
from conjoin.families.diffusion.latent import LatentDiffusion
from conjoin.families.diffusion.picture import PictureDensity, PictureDiffusion
from conjoin.families.multimodal import Multimodal

SIDE = 8
TINY = PictureDiffusion(size=0.125, precision="float32", palette=4, dropout=0.0)


def squares(count, seed=0, levels=(20, 220)):
    """(B, D) grey levels: a bright square of 3 pixels a side on a dark ground."""
    rng = np.random.default_rng(seed)
    out = np.full((count, SIDE, SIDE), levels[0])
    for picture, (row, column) in zip(out, rng.integers(0, SIDE - 3, (count, 2)), strict=True):
        picture[row : row + 3, column : column + 3] = levels[1]
    return out.reshape(count, -1).astype(float)


def three_colours():
    """A palette of three colours of two channels, one of which varies."""
    palette = Palette(3, 2)
    palette.colours.copy_(torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 1.0]]))
    palette.variance.copy_(torch.tensor([1e-4, 0.3, 0.02]))
    palette.log_share.copy_(torch.tensor([0.5, 0.2, 0.3]).log())
    return palette.eval()


def test_weights_and_mean_are_those_of_bayes_rule_on_a_grid():
    palette = three_colours()
    s = torch.tensor([0.4, 1.5])
    z = torch.randn(2, 2, 3, 3, generator=stream(1))
    more = torch.randn(2, 3, 3, 3, generator=stream(2))
    log_weight = palette.log_weights(more, z, s)
    mean, deviation = palette.mean(log_weight, z, s)
    assert torch.allclose(log_weight.exp().sum(-1), torch.ones(2, 9).double())
    place = 3 * 1 + 2  # of the pixel in row 1 and column 2
    # p(x | z) of one pixel by sums over a grid, channels apart given the colour
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    for row in range(2):
        at = z[row, :, 1, 2].double()
        mass, first, spread = [], [], []
        for colour, variance in zip(palette.colours, palette.variance.double(), strict=True):
            density = torch.exp(
                -((grid[:, None] - colour) ** 2) / (2 * variance)
                - (grid[:, None] - at) ** 2 / (2 * float(s[row]) ** 2)
            ) / torch.sqrt(2 * math.pi * variance)
            total = density.sum(0)
            mass.append(total.prod())
            first.append((grid[:, None] * density).sum(0) / total)
            spread.append((grid.square()[:, None] * density).sum(0) / total - first[-1].square())
        tilted = palette.log_share.double().exp() * more[row, :, 1, 2].double().exp()
        share = tilted * torch.stack(mass)
        share /= share.sum()
        assert torch.allclose(log_weight[row, place].exp(), share, atol=1e-5)
        wanted = (share[:, None] * torch.stack(first)).sum(0)
        assert torch.allclose(mean[row, :, 1, 2].double(), wanted, atol=1e-4)
        within = float((share * torch.stack(spread)[:, 0]).sum())
        assert float(deviation[row, 0, 1, 2]) == pytest.approx(within**0.5, rel=1e-3)


def test_colours_shares_and_variances_are_those_of_the_pixels():
    palette = Palette(3, 1)
    picture = torch.tensor([0.0] * 8 + [1.0, 1.2] * 2 + [5.0] * 4).view(1, 1, 4, 4)
    palette.start(picture, 1e-3)
    order = palette.colours.flatten().argsort()
    assert palette.colours[order].flatten().tolist() == pytest.approx([0, 1.1, 5])
    assert palette.log_share[order].exp().tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert palette.variance[order].tolist() == pytest.approx([1e-3, 0.011, 1e-3], rel=1e-4)


@pytest.mark.parametrize("far", [1.0, 100.0])
def test_colours_that_are_left_over_are_never_chosen(far):
    """Not of pixels far from every colour either."""
    palette = Palette(5, 1)
    palette.start(torch.tensor([0.0, 3.0, 0.0, 3.0]).view(1, 1, 2, 2), 1e-6)
    z = far * torch.randn(2, 1, 4, 4, generator=stream(0))
    s = torch.full((2,), 0.02)
    log_weight = palette.eval().log_weights(torch.zeros(2, 5, 4, 4), z, s)
    assert int((log_weight.exp() > 1e-12).any(dim=(0, 1)).sum()) == 2
    known = torch.ones_like(z, dtype=torch.bool)
    assert float(palette.loss(log_weight, z, known, s).max()) < 1.0


def test_the_loss_of_the_fit_is_the_log_of_what_it_has_been_lately():
    """And that of an answer the nats themselves, whatever came before."""
    palette = three_colours()
    x = palette.colours[torch.tensor([[0, 1], [2, 0]])].permute(2, 0, 1)[None].float()
    s = torch.tensor([1.0])
    log_weight = palette.log_weights(torch.zeros(1, 3, 2, 2), x + 0.3, s)
    known = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    right = palette._own(x, torch.zeros(1)).softmax(-1)
    nats = float(-(right * log_weight).sum(-1).mean())
    assert float(palette.loss(log_weight, x, known, s)) == pytest.approx(nats)
    palette.train()
    for _ in range(3):
        loss = palette.loss(log_weight, x, known, s)
    assert float(loss) == pytest.approx(math.log(nats), abs=1e-3)
    other = palette.log_weights(torch.zeros(1, 3, 2, 2), x * 2, s)
    found = float(-(right * other).sum(-1).mean())
    assert float(palette.loss(other, x, known, s)) >= math.log(found)
    before = palette.lately.clone()
    assert float(palette.eval().loss(other, x, known, s)) == pytest.approx(found)
    assert torch.equal(palette.lately, before)  # an answer moves nothing


def test_rows_without_a_whole_pixel_cost_nothing_and_do_not_count():
    palette = three_colours().train()
    x = torch.zeros(2, 2, 2, 2)
    s = torch.ones(2)
    log_weight = palette.log_weights(torch.zeros(2, 3, 2, 2), x + 0.3, s)
    known = torch.ones_like(x, dtype=torch.bool)
    known[1, 0] = False
    loss = palette.loss(log_weight, x, known, s)
    assert float(loss[1]) == 0.0
    assert float(palette.lately[1].sum()) == 1.0


def test_what_is_not_known_of_a_picture_teaches_nothing():
    palette = three_colours()
    x = torch.zeros(1, 2, 2, 2)
    other = x.clone()
    other[:, :, 0, 0] = 2.0
    known = torch.ones_like(x, dtype=torch.bool)
    known[:, 1, 0, 0] = False
    log_weight = palette.log_weights(torch.zeros(1, 3, 2, 2), x, torch.ones(1))
    one, two = (palette.loss(log_weight, each, known, torch.ones(1)) for each in (x, other))
    assert torch.equal(one, two)


def built(config=TINY, count=300):
    return PictureDensity.build(space(SIDE), config, rows(squares(count)), stream(0))


def test_before_it_learns_a_pixel_is_told_by_its_own_value():
    density = built()
    x = density.core.pictures(rows(squares(4, seed=1)).value)
    z = x + 0.5 * torch.randn(x.shape, generator=stream(3))
    s = torch.full((4,), 0.5)
    with torch.no_grad():
        whole = density.core(z, s, None)
        one = z.clone()
        one[:, :, 0, 0] += 1.0
        moved = density.core(one, s, None)
    assert torch.equal(whole[:, :, 1:], moved[:, :, 1:])
    assert (whole[:, :, 0, 0] != moved[:, :, 0, 0]).all()


def test_answers_do_not_depend_on_their_batch(monkeypatch):
    """Nor on how many pictures are worked out at once."""
    density = built()
    torch.nn.init.normal_(density.core.net.last.weight, 0.0, 0.1)
    some = rows(squares(5, seed=2))
    with torch.no_grad():
        whole = density.log_prob(some)
        alone = torch.cat([density.log_prob(some.take(slice(row, row + 1))) for row in range(5)])
        monkeypatch.setattr(denoiser, "MAX_WEIGHTS", 2 * 4 * SIDE**2)
        by_two = density.log_prob(some)
    assert torch.allclose(whole, alone, rtol=1e-6)
    assert torch.allclose(whole, by_two, rtol=1e-6)


def fitted(palette, steps=150):
    density = built(TINY.set_params(palette=palette), count=600)
    learned = [each for each in density.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)
    data = rows(squares(600))
    noise = stream(4)
    density.train()
    for _ in range(steps):
        some = torch.randint(600, (32,), generator=noise)
        optimizer.zero_grad()
        density(data.take(some), generator=noise).mean().backward()
        optimizer.step()
    return density.eval()


def test_few_steps_teach_more_by_colours_than_by_numbers():
    """Errors of what comes back from under noise; draws are in the two colours of the fit."""
    x = rows(squares(64, seed=5)).value
    error, near = {}, {}
    for palette in (0, 4):
        density = fitted(palette)
        clean = density.core.pictures(x)
        z = clean + 0.6 * torch.randn(clean.shape, generator=stream(6))
        with torch.no_grad():
            back = density.core(z, torch.full((64,), 0.6), None)
            levels = density.sample(40, generator=stream(7)).value
        error[palette] = float((back - clean).square().mean())
        apart = torch.minimum((levels - 20).abs(), (levels - 220).abs())
        near[palette] = float((apart <= 6).double().mean())
    assert error[4] < 0.6 * error[0]
    assert near[4] > 0.97 > 0.8 > near[0]


def test_latents_have_no_colours():
    with pytest.raises(ValueError, match="palette=8 is for pixels"):
        LatentDiffusion(palette=8)


@pytest.mark.parametrize("palette", [-1, 100_000])
def test_a_palette_is_of_some_colours(palette):
    with pytest.raises(ValueError, match=f"palette must be a whole number .* got {palette!r}"):
        built(TINY.set_params(palette=palette))


def test_pictures_told_in_words_have_a_palette_and_its_rates_and_others_do_not():
    pictures = Block("picture", "image", (1, 8, 8), (Variable("pixel", "ordered", 256),))
    words = Block("caption", "sequence", (4,), (Variable("word", "category", 3),))
    columns = Block("columns", "vector", (1,), (Variable("mass", "real"),))
    told = Flat(RecordSpace((columns, pictures, words))).space
    alone = Flat(RecordSpace((columns, pictures))).space

    def settled(**settings):
        config = Multimodal(**settings).suited(told)
        drawn = config.of_pictures
        return drawn.palette, drawn.rate, drawn.matrix_rate, drawn.batch, config.caption_pace

    diffused = (48, 3e-3, 0.02, 32, 0.25)
    assert settled(pictures={"family": "picture_diffusion"}) == diffused
    plain = (0, 1e-3, 0.004, 48, 1.0)
    assert settled(pictures={"palette": 0}) == plain
    assert settled(pictures={"family": "latent_diffusion"}) == plain
    assert settled(pictures={"rate": 2e-3, "axes": 8}) == (48, 2e-3, 0.02, 32, 1.0)
    assert settled(pictures={"axes": 8}, caption_pace=0.5)[-1] == 0.5
    assert Multimodal().suited(alone).of_pictures.palette == 0
    with pytest.raises(ValueError, match="caption_pace must be above 0, got 0"):
        Multimodal(caption_pace=0)


def test_words_are_hidden_of_captions_that_are_only_written():
    pictures = Block("picture", "image", (1, 8, 8), (Variable("pixel", "ordered", 256),))
    words = Block("caption", "sequence", (4,), (Variable("word", "category", 3),))
    columns = Block("columns", "vector", (1,), (Variable("mass", "real"),))
    told = Flat(RecordSpace((columns, pictures, words))).space
    for strings, hidden in (
        (None, 0.2),
        ({"hidden": 0.0}, 0.0),
        ({"network": "absolute"}, 0.0),
        ({"reading": 0.5}, 0.0),
    ):
        assert Multimodal(strings=strings).suited(told).of_strings.hidden == hidden


TRAIN = """
import sys
import torch
from safetensors.torch import save_file
from test_palette import TINY, rows, space, squares
from conjoin.core import stream
from conjoin.families.diffusion.picture import PictureDensity
from conjoin.training import ranks
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

torch.set_num_threads(1)
data = rows(squares(200))
ones = torch.ones(200, dtype=torch.float64)
config = TINY.set_params(axes=0, points=2, steps=40, batch=32)
with ranks.together():
    density = PictureDensity.build(space(8), config, data, stream(0))
    found = train(density, data, ones, rows(squares(80, seed=1)), Plan(seed=0), Progress())
    judged = {"judged": torch.tensor([row[2] for row in found.history])}
    weights = {name: each.detach().contiguous() for name, each in density.named_parameters()}
    save_file(weights | judged, f"{sys.argv[1]}.{ranks.rank()}")
"""


@pytest.mark.slow
def test_two_processes_judge_a_palette_alike_and_keep_the_same_weights(tmp_path, monkeypatch):
    """Though each has seen other rows, and so other losses of each noise."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    script = tmp_path / "pair.py"
    script.write_text(TRAIN)
    launch(script, tmp_path / "found")
    first, second = (load_file(tmp_path / f"found.{rank}") for rank in range(2))
    assert len(first["judged"]) > 1
    assert all(torch.equal(first[name], second[name]) for name in first)
