"""The PixelCNN: it sees what comes before a pixel and nothing else, draws what it says, and is what
large pictures get.
"""

import numpy as np
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.core import CapabilityError, Event, Space, Variable, stream
from conjoin.families.autoregressive.masked import Masked, MaskedDensity
from conjoin.families.autoregressive.pixels import PixelDensity, Pixels
from conjoin.nets.pixel_cnn import PixelCnn

TINY = Pixels(width=8, blocks=3, steps=30)


def pixels(grid, cardinality):
    size = int(np.prod(grid))
    return Space(
        (size,), (Variable("pixel", "ordered", cardinality=cardinality),) * size, "image", grid
    )


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = PixelCnn(3, 2, 7, width=6, blocks=4)
    for weight in net.last.parameters():
        torch.nn.init.normal_(weight)
    return net.requires_grad_(False).eval()


def test_a_pixel_depends_on_all_that_comes_before_it_and_on_nothing_else(net):
    x = torch.randn(1, 3, 6, 5, generator=stream(0)).double()
    told = torch.ones(1, 2).double()
    moved = (
        torch.autograd.functional.jacobian(lambda x: net(x, told)[0].sum(1), x)[:, 0].flatten(1)
        != 0
    )
    channel, row, column = (
        axis.flatten() for axis in torch.meshgrid(*map(torch.arange, (3, 6, 5)), indexing="ij")
    )
    place = (row * 5 + column) * 3 + channel
    assert torch.equal(moved, place[None] < place[:, None])


def test_draws_are_told_what_the_whole_is_told(net):
    value = torch.randn(2, 90, generator=stream(1)).double()
    told = torch.randn(2, 2, generator=stream(2)).double()
    seen = {}

    def pick(d, params):
        seen[d] = params
        return value[:, d]

    image = value.unflatten(1, (3, 6, 5))
    assert torch.equal(net.draw(image.shape, told, pick), image)
    torch.testing.assert_close(torch.stack([seen[d] for d in range(90)], 1), net(image, told))


@pytest.mark.parametrize("grid", [(1, 2, 3), (2, 1, 3)])
def test_it_sums_to_one_and_draws_follow_it(grid):
    space = pixels(grid, 3)
    every = torch.cartesian_prod(*[torch.arange(3.0)] * 6).double()
    rows = every[torch.randint(len(every), (50,), generator=stream(0))]
    density = PixelDensity.build(space, TINY, Event(rows), stream(0))
    with torch.no_grad():
        for weight in density.net.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream(3), dtype=weight.dtype))
        share = density.log_prob(Event(every)).exp()
    assert float(share.sum()) == pytest.approx(1)
    drawn = density.sample(6000, generator=stream(4)).value
    found = (
        torch.bincount((drawn * 3 ** torch.arange(5, -1, -1)).sum(1).long(), minlength=len(every))
        / 6000
    )
    assert 0.5 * float((found - share).abs().sum()) < 2 * float((share / 6000).sqrt().sum()) / 2


def strips(rows, seed=0, side=16):
    """A bright bar that stands or lies."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    X = random.integers(0, 40, (rows, side, side))
    for row, (k, place) in enumerate(zip(y, random.integers(2, side - 2, rows), strict=True)):
        X[row].T[place] += 200 * k
        X[row][place] += 200 * (1 - k)
    return X.clip(0, 255).astype("uint8"), np.where(y, "stands", "lies")


def test_large_pictures_get_it_under_the_name_of_their_family(tmp_path):
    X, y = strips(120)
    density = JointDensity(family="autoregressive", max_time=0).fit(X[:40])
    assert (
        isinstance(density.model_.density_of_x, PixelDensity)
        and density.status_["log_prob"] == "exact"
    )
    model = JointClassifier(family=Pixels(width=8, blocks=3, steps=60), predictor=None).fit(X, y)
    new, truth = strips(40, 1)
    assert (model.predict(new) == truth).mean() > 0.9
    drawn, label = model.sample(3, y="stands")
    assert drawn.shape == (3, 16, 16) and drawn.dtype == np.uint8 and set(label) == {"stands"}
    again = conjoin.load(model.save(tmp_path / "model"))
    assert np.array_equal(again.score_samples(new), model.score_samples(new))
    with pytest.raises(CapabilityError, match="family='diffusion'"):
        model.counterfactual(new[:1], to="stands")
    nothing = np.full((1, 16, 16), np.nan)
    assert model.score_samples(nothing) == pytest.approx(0, abs=1e-12)
    assert model.predict_proba(nothing)[0].max() < 0.9
    alone = model.score_samples(new[:1])
    assert alone[0] == pytest.approx(model.score_samples(new)[0], rel=1e-12)


def test_small_pictures_and_tables_keep_the_masked_network():
    for space in (pixels((1, 8, 8), 17), Space((2,), (Variable("a", "real"),) * 2)):
        assert isinstance(Masked().suited(space), Masked)
    large = pixels((1, 16, 20), 256)
    assert Masked(steps=7, draws=9).suited(large) == Pixels(steps=7, draws=9)
    # what was asked for is not thrown away
    assert isinstance(Masked(orders=1).suited(large), Masked)


@pytest.mark.slow
def test_a_number_that_goes_with_large_pictures():
    X, _ = strips(60)
    y = X.mean((1, 2)).astype(float)
    assert np.isfinite(
        JointRegressor(family=Masked(orders=1, width=16, steps=5), predictor=None)
        .fit(X, y)
        .predict(X[:3])
    ).all()
    assert isinstance(
        JointRegressor(family="autoregressive", max_time=0, predictor=None)
        .fit(X, y)
        .model_.pair.density,
        MaskedDensity,
    )
    with pytest.raises(ValueError, match="neither columns nor a number"):
        JointRegressor(family="pixel_cnn").fit(X, y)


def test_what_it_cannot_take_is_said():
    with pytest.raises(ValueError, match="needs a grid of pixels"):
        JointDensity(family="pixel_cnn").fit(np.random.default_rng(0).normal(size=(60, 3)))
    space = pixels((1, 28, 28), 256)
    rows = Event(torch.randint(256, (30, 784), generator=stream(0)).double())
    with pytest.raises(ValueError, match=r"784 variables need .* choose another family"):
        MaskedDensity.build(space, Masked(), rows, stream(0))
