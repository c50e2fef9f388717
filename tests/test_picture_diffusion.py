"""The diffusion of pictures: its network, its bound, its walks from noise, and the joint model on
one trunk.
"""

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.components.typicality import Typicality
from conjoin.core import CapabilityError, Edit, Event, Space, Variable, stream
from conjoin.families import resolve
from conjoin.families.diffusion import picture
from conjoin.families.diffusion.denoiser import BODIES, MAX_NOISE
from conjoin.families.diffusion.gaussian import Diffusion
from conjoin.families.diffusion.painter import Painter, schedule
from conjoin.families.diffusion.picture import PictureDensity, PictureDiffusion
from conjoin.questions import edit
from conjoin.questions.edit import alter_class

SMALL = PictureDiffusion(size=0.25, steps=400, batch=32, rate=4e-3, points=8, sampling_steps=10)


def spots(rows, seed=0, side=16):
    """Pictures of a grey slope, with a bright spot somewhere (1) or none (0)."""
    random = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    y = random.integers(0, 2, rows)
    (base, lean, rise) = random.uniform(-1, 1, (3, rows, 1, 1))
    centre = random.uniform(-0.5, 0.5, (2, rows, 1, 1))
    spot = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / 0.08)
    X = 90 + 20 * base + 25 * lean * across + 25 * rise * down + 110 * y[:, None, None] * spot
    return (X + random.normal(0, 4, X.shape)).round().astype("uint8"), y


def has_spot(X):
    return (X.max((1, 2)) - np.median(X, (1, 2))) > 70


def space(side=16, levels=256, channels=1):
    return Space(
        (channels * side**2,),
        (Variable("p", "ordered", cardinality=levels),) * (channels * side**2),
        "image",
        (channels, side, side),
    )


def rows(X):
    return Event(torch.tensor(X.reshape(len(X), -1)).double())


@pytest.fixture(scope="module")
def fitted():
    X, y = spots(700)
    return JointClassifier(family=SMALL, random_state=0).fit(X, y)


@pytest.fixture(scope="module", params=BODIES)
def density(request):
    return PictureDensity.build(
        space(), replace(SMALL, body=request.param), rows(spots(50)[0]), stream(0)
    )


# -------------------------------------------------------------------------------------- the network


def awake(net):
    """The network with what starts at zero set by chance, so that no part of it says nothing."""
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=stream(0))
    return net


every_body = pytest.mark.parametrize("body", BODIES)


@every_body
@pytest.mark.parametrize(
    ("channels", "sides"), [(1, (8, 8)), (3, (17, 30)), (1, (28, 28)), (2, (65, 64))]
)
def test_a_network_gives_pictures_of_the_size_that_it_was_given(body, channels, sides):
    net = BODIES[body](channels, sides, 3, size=0.25)
    x = torch.randn(2, channels, *sides)
    assert torch.equal(net(x, torch.zeros(2), None), net(-x, torch.ones(2), torch.ones(2)))
    awake(net)
    assert net(x, torch.zeros(2), torch.tensor([0, 2])).shape == x.shape
    assert net.features(x, torch.zeros(2)).shape == (2, net.width)


@every_body
def test_a_network_hears_the_noise_and_the_class_and_sees_every_pixel(body):
    net = awake(BODIES[body](1, (9, 9), 3, size=0.25))
    x = torch.randn(1, 1, 9, 9, generator=stream(0)).requires_grad_()
    plain = net(x, torch.zeros(1), None)
    others = (
        net(x, torch.ones(1), None),
        net(x, torch.zeros(1), torch.ones(1)),
        net(x, torch.zeros(1), torch.zeros(1)),
    )
    assert all(not torch.allclose(plain, other) for other in others) and not torch.allclose(
        *others[1:]
    )
    assert torch.equal(plain, net(x, torch.zeros(1), torch.full((1,), 3)))
    (slope,) = torch.autograd.grad(plain[0, 0, 4, 4], x)
    assert (slope != 0).all()


@every_body
@pytest.mark.parametrize(("precision", "rounding"), [("bfloat16", 0.0), ("float32", 1e-4)])
def test_an_answer_about_a_picture_does_not_depend_on_its_batch(body, precision, rounding):
    config = SMALL.set_params(body=body, precision=precision, points=4)
    density = PictureDensity.build(space(), config, rows(spots(50)[0]), stream(0))
    event = rows(spots(5, seed=1)[0])
    awake(density.core.net)
    for ask in (density.features, density.log_prob):
        with torch.no_grad():
            alone = torch.cat([ask(event.take(slice(row, row + 1))) for row in range(5)])
            assert torch.allclose(alone, ask(event), rtol=rounding, atol=rounding)


# ---------------------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("most", [MAX_NOISE, 1.0])
@pytest.mark.parametrize("axes", [0, 16])
def test_the_bound_of_a_network_that_says_nothing_is_the_gaussian(axes, most, monkeypatch):
    """With F = 0 the denoiser is that of N(0, 1), whose bound is tight, however little noise its
    prior begins with."""
    monkeypatch.setattr(picture, "MAX_NOISE", most)
    X = np.random.default_rng(0).normal(128, 40, (60, 16, 16)).round().clip(0, 255)
    config = PictureDiffusion(size=0.25, points=400, precision="float32", axes=axes)
    density = PictureDensity.build(space(), config, rows(X), stream(0))
    with torch.no_grad():
        density.core.net.last.weight.zero_()
        density.core.net.last.bias.zero_()
        density.shares.zero_()
    some = rows(X[:5])
    x = density.core.pictures(some.value).double().flatten(1)
    exact = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi) - math.log(float(density.core.scale))).sum(1)
    assert torch.allclose(density.log_prob(some), exact, rtol=0.01)


def test_the_bound_learns(fitted):
    seen = rows(spots(40, seed=5)[0])
    other = rows(np.random.default_rng(0).integers(0, 256, (40, 16, 16)))
    density = fitted.model_.density_of_x
    with torch.no_grad():
        assert density.log_prob(seen).mean() > density.log_prob(other).mean() + 200
        assert torch.equal(density.log_prob(seen), density.log_prob(seen))


# -------------------------------------------------------------------------------------------- walks


def test_levels_fall_from_most_to_nothing():
    for steps in (1, 2, 7):
        levels = schedule(steps, 0.02, 40.0)
        assert len(levels) == steps + 1 and levels[0] == pytest.approx(40.0) and levels[-1] == 0
        assert all(a > b for a, b in pairwise(levels))


@pytest.mark.parametrize("walk", ["multistep", "ddim", "ancestral"])
def test_every_walk_ends_at_the_mean_where_the_network_says_nothing(density, walk):
    """Under F = 0 the pictures are N(0, 1): so are the draws of every walk."""
    torch.nn.init.zeros_(density.core.net.last.weight)
    torch.nn.init.zeros_(density.core.net.last.bias)
    with torch.no_grad():
        drawn = (painter := Painter(density.core, None, walk, stream(1))).from_noise(
            64, painter.levels(60)
        )
    assert drawn.mean().abs() < 0.03 and drawn.std() == pytest.approx(1.0, abs=0.08)


def test_calls_are_counted_and_the_same_seed_draws_the_same(fitted):
    density = fitted.model_.density_of_x
    one, two = (density.draw(3, steps=5, generator=stream(0)) for _ in range(2))
    assert one.calls == 5 and torch.equal(one.value, two.value)
    guided = density.draw(
        3, Event(torch.ones(3).double()), steps=5, guidance=1.0, generator=stream(0)
    )
    assert guided.calls == 10 and not torch.equal(guided.value, one.value)
    with pytest.raises(ValueError, match="multistep, ddim, ancestral"):
        density.draw(1, sampler="heun")


# ---------------------------------------------------------------------------------- the joint model


def test_pictures_get_the_network_for_pictures():
    assert isinstance(Diffusion().suited(space()), PictureDiffusion)
    assert isinstance(Diffusion().suited(space(side=7)), Diffusion)
    assert isinstance(Diffusion().suited(space(levels=2)), Diffusion)
    assert isinstance(resolve("joint_diffusion"), PictureDiffusion)


def test_one_network_tells_classes_and_draws_them(fitted):
    X, y = spots(100, seed=2)
    assert fitted.score(X, y) > 0.95
    assert fitted.model_.facts["predictor"]["chosen"] == "trunk"
    drawn, labels = fitted.sample(30, y=1, random_state=0)
    assert drawn.shape == (30, 16, 16) and (labels == 1).all()
    assert has_spot(drawn).mean() > 0.4 + has_spot(fitted.sample(30, y=0, random_state=0)[0]).mean()


def test_what_it_has_never_seen_is_unfamiliar(fitted):
    X, _ = spots(150, seed=3)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, X.shape).astype("uint8")
    flat = np.full_like(X[:5], 128)
    usual = fitted.decide(X, max_error=0.2)["verdict"] == "unfamiliar"
    assert usual.mean() < 0.15
    for strange in (noise[:50], flat, 255 - X[:50]):
        assert (fitted.decide(strange, max_error=0.2)["verdict"] == "unfamiliar").mean() >= 0.9


def test_a_saved_model_answers_alike(fitted, tmp_path):
    X, _ = spots(20, seed=4)
    again = conjoin.load(fitted.save(tmp_path / "model"))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert np.array_equal(again.score_samples(X), fitted.score_samples(X))
    assert again.decide(X, max_error=0.2).equals(fitted.decide(X, max_error=0.2))
    assert np.array_equal(again.sample(3, random_state=1)[0], fitted.sample(3, random_state=1)[0])


def test_missing_pixels_are_painted_in_and_known_ones_stay(fitted):
    X, y = spots(6, seed=6)
    holes = X.astype(float)
    holes[:, :, 8:] = np.nan
    filled = fitted.impute(holes, n_draws=2, random_state=0)
    assert len(filled) == 2 and all(
        np.array_equal(each[:, :, :8], X[:, :, :8]) and not np.isnan(each).any() for each in filled
    )
    assert fitted.impute(holes[:1], random_state=0).shape == (1, 16, 16)
    half = holes.copy()
    half[0] = X[0]
    alone = fitted.predict_proba(half[1:2])
    together = fitted.predict_proba(half)
    assert np.allclose(alone[0], together[1], rtol=1e-4, atol=1e-6)
    assert np.allclose(together[:1], fitted.predict_proba(X[:1]), rtol=1e-4, atol=1e-6)
    plain = y == 0
    assert (
        np.abs(filled[0][plain][:, :, 8:].mean((1, 2)) - X[plain][:, :, 8:].mean((1, 2))).mean()
        < 20
    )


def test_a_counterfactual_changes_the_answer_and_little_else(fitted):
    X, y = spots(12, seed=7)
    X = X[y == 1][:4]
    found = fitted.counterfactual(X, to=0)
    assert (
        found.altered.shape == X.shape
        and np.array_equal(found.original, X)
        and set(found.before) == {1}
    )
    good = found.found
    assert good.mean() >= 0.5
    assert (fitted.predict(found.altered[good]) == 0).all() and not has_spot(
        found.altered[good]
    ).any()
    assert (found.familiarity[good] > 0.05).all() and (found.probability[good] >= 0.9).all()
    assert np.allclose(found.share, (np.abs(found.difference) > 25.5).mean((1, 2)))
    with pytest.raises(ValueError, match="3"):
        fitted.counterfactual(X, to=3)


def test_a_counterfactual_is_the_same_alone_and_for_the_same_seed(fitted):
    X, _ = spots(4, seed=7)
    together = fitted.counterfactual(X)
    alone = fitted.counterfactual(X[2:3])
    other = fitted.counterfactual(X, random_state=1)
    assert (
        np.array_equal(together.altered[2], alone.altered[0])
        and (together.altered != other.altered).any()
    )
    assert (together.to != together.before).all() and np.array_equal(
        together.take(slice(2, 3)).altered, alone.altered
    )


def answering(edited=None):
    """A model of 8 x 8 pictures made of answers: who is as bright as 200 is surely of class 1 but
    unfamiliar, as 150 likely and familiar, as 100 familiar and nothing else."""

    def by_brightness(value, *answers):
        top = value.amax(1, keepdim=True).double()
        return torch.where(top >= 200, answers[0], torch.where(top >= 150, *answers[1:]))

    def log_proba(encoded):
        p = by_brightness(encoded.event.value, 0.99, 0.95, 0.4)
        return torch.cat([1 - p, p], 1).log()

    joint = SimpleNamespace(
        capabilities=SimpleNamespace(edits=True),
        edit=lambda pair, how: SimpleNamespace(x=Event(edited(pair.x.value))),
    )
    return SimpleNamespace(
        codec=SimpleNamespace(space=space(8), columnwise=False, decode=lambda value: value.numpy()),
        encode=lambda value: SimpleNamespace(event=Event(torch.as_tensor(value))),
        log_proba=log_proba,
        p_value=lambda encoded: by_brightness(encoded.event.value, 0.01, 0.5, 0.5)[:, 0].numpy(),
        pair=SimpleNamespace(proposer=joint),
        classes=SimpleNamespace(code=int, decode=lambda code: code.numpy()),
    )


def bright(level, rest=0.0):
    """A picture of this one grey level in four pixels."""
    out = torch.full((8, 8), rest, dtype=torch.float64)
    out[3:5, 3:5] = level
    return out.flatten()


def test_the_chosen_counterfactual_is_familiar_and_sure_and_its_changes_are_counted(monkeypatch):
    candidates = torch.stack([bright(200.0), bright(150.0, 5.0), bright(100.0)])[None]
    monkeypatch.setattr(edit, "_candidates", lambda *_: candidates)
    x = torch.zeros(1, 64, dtype=torch.float64)
    wanted = torch.tensor([1])
    value, found, probability, p_value, share, changed = edit._best(
        answering(), x, wanted, confidence=0.9, least=0.05, seed=0
    )
    assert np.array_equal(value[0], candidates[0, 1])
    assert found[0] and probability[0] == pytest.approx(0.95) and p_value[0] == 0.5
    assert share[0] == 4 / 64 and changed[0] == 1
    for confidence, least in ((0.97, 0.05), (0.9, 0.6)):
        assert not edit._best(answering(), x, wanted, confidence, least, seed=0)[1].any()


def test_a_picture_that_is_answered_so_already_has_no_candidates(monkeypatch):
    asked = []
    monkeypatch.setattr(
        edit, "_candidates", lambda model, x, *_: asked.append(x) or (x + 1)[:, None]
    )
    X = torch.stack([bright(150.0), bright(100.0)])
    found = alter_class(answering(), X, to=1)
    assert found.already.tolist() == [True, False] and found.before.tolist() == [1, 0]
    assert torch.equal(torch.cat(asked), X[1:])
    assert np.array_equal(found.altered, X + torch.tensor([[0.0], [1.0]]))


def test_candidates_of_a_counterfactual_change_only_where_the_change_is_large():
    """The whole picture gets brighter by 5, four of its pixels by 200."""
    x = torch.full((1, 64), 20.0, dtype=torch.float64)
    found = edit._candidates(answering(lambda value: value + bright(200.0, 5.0)), x, x[:, 0], 0)
    pictures = found.reshape(-1, 8, 8)
    assert (pictures[:, 0, 0] == 20).all() and (pictures[:, 7, 7] == 20).all()
    assert (pictures[:, 3:5, 3:5] > 100).all()


@pytest.mark.slow
def test_what_is_asked_of_a_counterfactual_is_held_to(fitted):
    X, _ = spots(3, seed=11)
    too_sure = alter_class(fitted.model_, X, confidence=1.1)
    too_usual = alter_class(fitted.model_, X, familiarity=1.0)
    assert (
        not too_sure.found.any()
        and not too_usual.found.any()
        and (too_sure.familiarity > 0.05).any()
    )


def test_a_change_outlives_a_shift_by_a_pixel(fitted):
    X, _ = spots(4, seed=10)
    found = fitted.counterfactual(X)
    moved = [
        np.roll(np.pad(found.altered, ((0, 0), (1, 1), (1, 1)), "edge"), shift, (1, 2))[
            :, 1:-1, 1:-1
        ]
        for shift in ((0, 1), (-1, 0))
    ]
    right = [fitted.predict(each) == found.to for each in (found.altered, *moved)]
    assert (
        found.found.any()
        and np.mean(right, axis=0)[found.found].min() > 0.5
        and right[0][found.found].all()
    )


def test_an_edit_changes_what_it_may_and_goes_where_it_is_led(density):
    event = rows(spots(3)[0])
    where = torch.zeros(3, 256, dtype=torch.bool)
    where[:, 40:90] = True

    def edited(part, lead=None):
        how = Edit(4.0, torch.zeros(3)[part], where[part], lead, stream(0))
        return density.edit(event.take(part), how=how).value

    still = edited(slice(3))
    bright = edited(slice(3), lambda value: torch.full_like(value, 0.5))
    assert torch.equal(still[~where], event.value[~where]) and torch.equal(
        bright[~where], event.value[~where]
    )
    assert (bright[where] >= still[where]).all() and (bright != still).any()
    assert not torch.equal(still, event.value) and torch.equal(edited(slice(1, 2))[0], still[1])


@pytest.mark.slow
def test_pictures_without_a_label_teach_and_edits_need_a_family_that_can(fitted):
    X, y = spots(300, seed=8)
    labels = y.astype(object)
    labels[30:] = None
    some = JointClassifier(family=SMALL, random_state=0).fit(X, labels)
    assert some.score(*spots(60, seed=9)) > 0.8
    with pytest.raises(CapabilityError, match="edits"):
        JointDensity(family="naive_bayes").fit(X // 16).model_.joint.edit(
            rows(X[:1] // 16), how=Edit(1.0, torch.ones(1))
        )


def test_a_density_of_pictures_alone_and_one_of_a_table_that_is_refused():
    X, _ = spots(120)
    alone = JointDensity(family="diffusion", max_time=2).fit(X)
    assert alone.sample(2)[0].shape == (2, 16, 16)
    with pytest.raises(ValueError, match="grid"):
        JointDensity(family="picture_diffusion").fit(np.random.default_rng(0).normal(size=(60, 3)))


# --------------------------------------------------------------------------------------- typicality


def test_pictures_of_one_row_of_pixels_have_a_typicality():
    pixels = torch.randint(16, (40, 6), generator=stream(0, "pixels")).double()
    strip = Space((6,), (Variable("p", "ordered", cardinality=16),) * 6, "image", (1, 1, 6))
    config = PictureDiffusion(size=0.125, precision="float32")
    density = config.density.build(strip, config, Event(pixels), stream(0, "build"))
    density.fit_typicality(Event(pixels))
    assert torch.isfinite(density.typicality(Event(pixels))).all()


def test_typicality_is_the_worst_reading_and_scale_free():
    one = torch.randn(600, 5, generator=stream(0)).double()
    two = torch.randn(600, 3, generator=stream(1)).double()
    typicality = Typicality((5, 3), (5, 2)).fit([one, two])
    usual = typicality([one, two])
    assert usual.quantile(0.05) < -1 < usual.median()
    odd = two.clone()
    odd[0] = 8.0
    assert typicality([one, odd])[0] < usual.min()
    scaled = Typicality((5, 3), (5, 2)).fit([100 * one, two - 7])
    assert torch.allclose(scaled([100 * one, two - 7]), usual)


def test_typicality_looks_along_rare_directions_closely():
    """Two numbers that go together: what parts them is odder than what moves both as far."""
    both = torch.randn(900, 1, generator=stream(0)).double()
    reading = both + 0.1 * torch.randn(900, 2, generator=stream(1)).double()
    typicality = Typicality((2,), (2,)).fit([reading])
    along, aside = typicality([torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()])
    assert along > -1 > aside


@pytest.mark.parametrize(("levels", "pixels"), [(256, 1), (256, 12), (3, 12)])
def test_near_levels_are_all_that_count_at_the_smallest_noise(levels, pixels, monkeypatch):
    monkeypatch.setattr(picture, "MAX_LEVEL_BYTES", 1)  # row by row
    strip = Space((12,), (Variable("p", "ordered", cardinality=levels),) * 12, "image", (1, 3, 4))
    value = torch.randint(levels, (20, 12), generator=stream(0)).double()
    density = PictureDensity.build(strip, SMALL, Event(value), stream(0))
    density.shares = density.shares[:pixels]
    noise = torch.randn(1, 3, 4, generator=stream(1)).double()
    found = density._log_levels(value, value, noise)
    deviation = density.core.least_levels
    apart = (value + deviation * noise.flatten())[:, :, None] - torch.arange(levels)
    weight = density.shares - apart.square() / (2 * deviation**2)
    own = weight.gather(2, value.long()[:, :, None])[:, :, 0]
    assert torch.allclose(found, (own - weight.logsumexp(2)).sum(1), rtol=1e-12)


def test_a_reading_that_is_the_same_of_all_rows_tells_nothing_of_one_like_them():
    """Rounding is no oddity, whatever the processor; what differs from all of them is one."""
    other = torch.randn(60, 3, generator=stream(0)).double()
    same = torch.full((60, 4), 0.3).double()
    rounded = same * (1 + 1e-7 * torch.randn(60, 4, generator=stream(1)).double())
    typicality = Typicality((4, 3), (4, 3)).fit([rounded, other])
    alone = Typicality((3,), (3,)).fit([other])([other])
    assert torch.equal(typicality([rounded.flip(0), other]), alone.clamp_max(0))
    assert bool((typicality([same + 1e-3, other]) < alone.min()).all())


def test_a_body_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="unet, transformer, got 'mlp'"):
        PictureDensity.build(space(), replace(SMALL, body="mlp"), rows(spots(5)[0]), stream(0))


def test_a_number_beside_pictures_is_refused():
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16)).astype(np.uint8)
    with pytest.raises(ValueError, match="predicts no number"):
        JointRegressor(family="diffusion", max_time=1).fit(pictures, np.arange(40.0))


@pytest.mark.parametrize(("levels", "deviation"), [(2, 0.3 * 0.5), (256, 0.5)])
def test_levels_are_told_under_no_more_noise_than_lets_neighbours_count(levels, deviation):
    """Of few levels half a step would be so much noise that each pixel is told by itself."""
    value = torch.arange(256).tile(8, 1).double() % 2 * (levels - 1)
    built = PictureDensity.build(space(levels=levels), SMALL, Event(value), stream(0))
    assert built.core.least_levels == pytest.approx(deviation)
    assert built.core.least * float(built.core.scale) == pytest.approx(deviation)
    before = PictureDensity(space(levels=levels), replace(SMALL, last_noise=None))
    assert before.core.least_levels == 0.5


def test_where_nothing_is_known_the_mode_is_what_no_noise_becomes(density):
    nothing = rows(spots(3)[0]).hide(torch.ones(256, dtype=torch.bool))
    found = density.mode(nothing).value
    assert torch.equal(found[0], found[1]) and torch.equal(found, density.mode(nothing).value)
    assert not torch.equal(found[0], density.sample(1, generator=stream(0, "mode")).value[0])
    # a row beside it of which something is known changes nothing
    part = torch.arange(2)[:, None].expand(2, 256) == 0
    some = rows(spots(2)[0])
    beside = density.mode(some._replace(observed=part)).value
    assert torch.equal(beside[0], some.value[0]) and torch.equal(beside[1], found[0])
