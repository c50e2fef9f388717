"""The Gaussian that the diffusion of pictures corrects: its estimate and error are those of the
formulas, classes have means of their own, few pictures leave it standard."""

import math

import pytest
import torch
from test_picture_diffusion import rows, space, spots

from conjoin import JointDensity
from conjoin.core import Block, Event, Flat, RecordSpace, Space, Variable, stream
from conjoin.families.diffusion import wiener as wiener_module
from conjoin.families.diffusion.picture import PictureDensity, PictureDiffusion
from conjoin.families.diffusion.wiener import MIN_ROWS, ROWS_PER_AXIS, Wiener, axes_of
from conjoin.families.multimodal import Multimodal
from conjoin.fitting.warm_start import Start

GRID = (1, 5, 6)
PIXELS = 30
LEAST = 1e-6
TINY = PictureDiffusion(size=0.125, precision="float32")


def correlated(count, seed=0):
    """Pictures (B, 1, 5, 6) whose pixels go together."""
    mixing = torch.randn(PIXELS, PIXELS, generator=stream(0)).double() / PIXELS**0.5
    pixels = torch.randn(count, PIXELS, generator=stream(seed)).double() @ mixing
    return (pixels + 1).view(-1, *GRID)


def started(pictures, axes=PIXELS - 1, code=None, classes=0):
    wiener = Wiener(GRID, axes, classes)
    wiener.start(pictures, code, LEAST)
    return wiener


def moments(pictures):
    x = pictures.flatten(1)
    return x.mean(0), torch.cov(x.T, correction=0)


def test_the_estimate_is_the_conditional_mean_and_its_error_the_trace_of_the_covariance():
    pictures = correlated(400)
    wiener = started(pictures)
    mean, covariance = moments(pictures)
    s = torch.tensor([0.3, 2.0])
    z = correlated(2, seed=1)
    for row in range(2):
        noisy = covariance + float(s[row]) ** 2 * torch.eye(PIXELS).double()
        gain = torch.linalg.solve(noisy, covariance).T
        wanted = mean + gain @ (z[row].flatten() - mean)
        assert torch.allclose(wiener.estimate(z, s, None)[row].flatten(), wanted, atol=1e-4)
        left = torch.trace(covariance - gain @ covariance) / PIXELS
        assert float(wiener.error(s)[row]) == pytest.approx(float(left), rel=1e-4)


def test_evened_axes_differ_by_how_much_shines_through_and_have_variance_one_together():
    pictures = correlated(4000)
    wiener = started(pictures, axes=6)
    s = torch.tensor(0.7).expand(len(pictures))
    z = pictures + 0.7 * torch.randn(pictures.shape, generator=stream(3)).double()
    guess, shown = wiener.evened(z, s, None)
    assert torch.allclose(guess, wiener.estimate(z, s, None), atol=1e-12)
    assert float(shown.square().mean()) == pytest.approx(1.0, rel=0.03)
    gain = (wiener.variances / (wiener.variances + 0.49)).double()
    deviations = (shown.flatten(1) @ wiener.axes.double()).square().mean(0).sqrt()
    assert torch.allclose(deviations / deviations[0], gain / gain[0], rtol=0.05)


def test_without_a_covariance_evened_pictures_are_scaled():
    z = correlated(5, seed=4)
    guess, shown = Wiener(GRID, 3, 0).evened(z, torch.full((5,), 2.0), None)
    assert torch.allclose(shown, z / 5**0.5)
    assert torch.allclose(guess, z / 5)


def test_what_no_axis_holds_has_one_variance():
    pictures = correlated(400)
    few = started(pictures, axes=4)
    values = torch.linalg.eigvalsh(moments(pictures)[1]).flip(0)
    assert torch.allclose(few.variances.double(), values[:4], rtol=1e-4)
    assert float(few.rest) == pytest.approx(float(values[4:].mean()), rel=1e-4)
    assert float(few.error(torch.tensor([1e4]))) == pytest.approx(float(values.mean()), rel=1e-4)


def test_fewer_rows_than_pixels_have_the_same_axes():
    wide = Wiener((1, 20, 20), MIN_ROWS // ROWS_PER_AXIS, 0)
    pictures = torch.randn(MIN_ROWS, 400, generator=stream(2)).double()
    wide.start(pictures.view(-1, 1, 20, 20), None, LEAST)
    axes = wide.axes.double()
    assert torch.allclose(axes.T @ axes, torch.eye(axes.shape[1]).double(), atol=1e-5)
    along = moments(pictures)[1] @ axes
    assert torch.allclose(along, wide.variances.double() * axes, atol=1e-3)
    assert wide.variances[0] > wide.variances[-1] > wide.rest


@pytest.mark.parametrize("rows", [700, 300])
def test_the_first_axes_alone_are_those_among_all(rows, monkeypatch):
    falling = 0.97 ** torch.arange(400).double()
    x = falling * torch.randn(rows, 400, generator=stream(5)).double()
    variances, axes = wiener_module._principal(x, 40)
    monkeypatch.setattr(wiener_module, "MAX_WHOLE", 10)
    found, sought = wiener_module._principal(x, 40)
    assert torch.allclose(sought.T @ sought, torch.eye(40).double(), atol=1e-9)
    assert torch.allclose(found[:20], variances[:20], rtol=1e-6)
    assert float(found.sum()) == pytest.approx(float(variances.sum()), rel=1e-3)
    same = (sought[:, :10] * axes[:, :10]).sum(0).abs()
    assert torch.allclose(same, torch.ones(10).double(), atol=1e-6)
    assert torch.equal(found, wiener_module._principal(x, 40)[0])


def test_few_pictures_leave_it_standard():
    wiener = started(correlated(MIN_ROWS - 1))
    z = torch.randn(3, *GRID, generator=stream(3))
    s = torch.full((3,), 0.5)
    assert torch.allclose(wiener.estimate(z, s, None), z / 1.25)
    assert torch.allclose(wiener.error(s), s**2 / (s**2 + 1))


def test_axes_are_fewer_than_pixels_and_of_large_pictures_few():
    assert axes_of((1, 28, 28), 256) == 256
    assert axes_of((1, 3, 3), 256) == 8
    assert axes_of((3, 128, 128), 256) == 21
    assert axes_of((1, 28, 28), 0) == axes_of((1, 1, 1), 9) == 0
    with pytest.raises(ValueError, match="axes must be at least 0, got -1"):
        axes_of((1, 28, 28), -1)


def test_a_class_that_is_told_has_its_own_mean_and_no_class_that_of_all():
    pictures = correlated(600)
    code = torch.arange(600) % 2
    pictures = pictures + 3.0 * code[:, None, None, None]
    told = torch.where(torch.arange(600) < 500, code, 2).double()
    wiener = started(pictures, code=told, classes=2)
    s = torch.full((3,), 1e4)
    drowned = wiener.estimate(torch.zeros(3, *GRID), s, torch.tensor([0.0, 1.0, 2.0])).flatten(1)
    known = pictures[:500].flatten(1)
    assert torch.allclose(drowned[0].double(), known[::2].mean(0), atol=0.15)
    assert torch.allclose(drowned[1].double(), known[1::2].mean(0), atol=0.15)
    assert torch.allclose(drowned[2].double(), pictures.flatten(1).mean(0), atol=1e-3)


@pytest.mark.slow
def test_the_bound_of_a_network_that_says_nothing_is_the_gaussian_of_the_pictures():
    X, _ = spots(600, side=8)
    config = PictureDiffusion(size=0.125, points=1600, precision="float32")
    density = PictureDensity.build(space(8), config, rows(X), stream(0))
    density.shares.zero_()
    some = rows(X[:5])
    x = density.core.pictures(some.value).double().flatten(1)
    wiener = density.core.gaussian
    axes = wiener.axes.double()
    rest = float(wiener.rest)
    covariance = axes @ torch.diag(wiener.variances.double() - rest) @ axes.T
    covariance += rest * torch.eye(64).double()
    normal = torch.distributions.MultivariateNormal(wiener.mean.double(), covariance)
    exact = normal.log_prob(x) - 64 * math.log(float(density.core.scale))
    with torch.no_grad():
        bound = density.log_prob(some)
    assert float(bound.mean()) == pytest.approx(float(exact.mean()), rel=0.01)


def test_the_loss_of_a_network_that_says_nothing_is_one_at_every_noise():
    """The squared error of the Gaussian, over what it is on the average."""
    X, _ = spots(600, side=8)
    density = PictureDensity.build(space(8), TINY, rows(X), stream(0))
    pictures = density.core.pictures(rows(X).value)
    known = torch.ones_like(pictures, dtype=torch.bool)
    with torch.no_grad():
        losses = density.core.loss(pictures, known, None, stream(1))
    assert float(losses.mean()) == pytest.approx(1, abs=0.05)


def test_evened_axes_change_what_the_network_is_shown_and_neither_the_rest_nor_batches():
    X, _ = spots(300, side=8)
    plain, even = (
        PictureDensity.build(space(8), config, rows(X), stream(0))
        for config in (TINY, TINY.set_params(even_axes=True))
    )
    some = rows(X[:3])
    with torch.no_grad():
        assert torch.allclose(plain.log_prob(some), even.log_prob(some), rtol=1e-6)  # F = 0
        for density in (plain, even):
            torch.nn.init.ones_(density.core.net.last.weight)
        whole = even.log_prob(some)
        alone = torch.cat([even.log_prob(some.take(slice(row, row + 1))) for row in range(3)])
    assert torch.allclose(whole, alone, rtol=1e-5)
    assert not torch.allclose(whole, plain.log_prob(some), rtol=1e-3)
    assert even.features(some).shape == plain.features(some).shape


def test_pictures_told_in_words_even_their_axes_and_others_and_saved_models_do_not():
    pictures = Block("picture", "image", (1, 8, 8), (Variable("pixel", "ordered", 256),))
    words = Block("caption", "sequence", (4,), (Variable("word", "category", 3),))
    columns = Block("columns", "vector", (1,), (Variable("mass", "real"),))
    told = Flat(RecordSpace((columns, pictures, words))).space
    alone = Flat(RecordSpace((columns, pictures))).space
    diffused = {"family": "picture_diffusion"}
    assert Multimodal(pictures=diffused).suited(told).of_pictures.even_axes
    assert not Multimodal(pictures={"even_axes": False}).suited(told).of_pictures.even_axes
    assert not Multimodal().suited(alone).of_pictures.even_axes
    assert not Multimodal(pictures={"axes": 4}).of_pictures.even_axes
    assert not PictureDiffusion().even_axes


def test_a_density_builds_the_means_of_the_classes_that_it_is_told():
    X, y = spots(400, side=8)
    labels = Event(torch.tensor(y).double())
    classes = Space((), (Variable("y", "category", cardinality=2),))
    density = PictureDensity.build(
        space(8), TINY, rows(X), stream(0), context=labels, context_space=classes
    )
    offsets = density.core.gaussian.offsets
    assert offsets[1].mean() > 0 > offsets[0].mean() and not offsets[2].any()
    z = torch.randn(4, 1, 8, 8, generator=stream(1))
    s = torch.full((4,), 2.0)
    code = torch.tensor([0.0, 1.0, 2.0, 0.0])
    with torch.no_grad():  # a network that says nothing adds nothing
        for parameter in density.core.net.last.parameters():
            parameter.zero_()
        told = density.core(z, s, code)
    assert torch.allclose(told, density.core.gaussian.estimate(z, s, code), atol=1e-5)
    assert not torch.allclose(told, density.core.gaussian.estimate(z, s, None), atol=1e-2)


def test_pictures_of_which_pixels_are_missing_tell_no_covariance():
    X, _ = spots(MIN_ROWS + 10, side=8)
    event = rows(X)
    observed = torch.ones(event.value.shape, dtype=torch.bool)
    observed[:11, 0] = False
    density = PictureDensity.build(space(8), TINY, Event(event.value, observed), stream(0))
    assert not density.core.gaussian.mean.any()
    full = PictureDensity.build(space(8), TINY, event, stream(0))
    assert full.core.gaussian.mean.any()


def test_pictures_of_another_place_that_are_few_keep_the_gaussian_that_the_network_corrects():
    X, _ = spots(500, side=8)
    config = TINY.set_params(steps=3, points=2)
    model = JointDensity(family=config, random_state=0).fit(X)
    density = model.model_.density_of_x
    start = Start(model.model_, elsewhere=True)
    many, few = (
        start.build(None, density.space, config, rows(255 - X[:count]), stream(0))
        for count in (400, 40)
    )
    kept = density.core.gaussian
    assert torch.equal(few.core.gaussian.mean, kept.mean)
    assert torch.equal(few.core.gaussian.axes, kept.axes)
    assert not torch.allclose(many.core.gaussian.mean, kept.mean, atol=0.1)
