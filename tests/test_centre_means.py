"""Means about centres beside a density's own: kernels by hand, the share of the least squared
error, noise of draws taken off, and what users see: points change, draws and log p do not.
"""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.calibration.centre_means import CentreMeans, _gain, _products, learn_centre_means
from conjoin.calibration.kernels import KernelReading
from conjoin.core import Event, Variable, stream

PLANE = (Variable("a", "real"), Variable("b", "real"))
FAMILY = conjoin.Mixture(components=2)


def ring(rows, seed):
    angle = 2 * np.pi * np.random.default_rng(seed).random(rows)
    noise = 0.03 * np.random.default_rng(seed + 100).normal(size=(2, rows))
    # three times around, so that few smooth components can't follow
    return np.stack([angle + noise[0], np.sin(3 * angle) + noise[1]], 1)


def event(rows, seed):
    return Event(torch.as_tensor(ring(rows, seed)))


def frame(rows=900, seed=1):
    return pd.DataFrame(ring(rows, seed), columns=["a", "b"])


def by_hand():
    """Two centres of a number and a colour, in deviations of 2 about 10."""
    variables = (Variable("size", "real"), Variable("colour", "category", cardinality=2))
    centre = torch.tensor([[-1.0, 1.0, 0.0], [1.0, 0.25, 0.75]]).double()
    weight = torch.tensor([0.4, 0.6]).double().log()
    knots = torch.tensor([[10.0, 2.0], [0.0, 0.0]]).double()
    return KernelReading(variables, False, knots, centre, weight, torch.tensor(9.0))


def test_the_mean_is_that_of_the_centres_by_their_kernels():
    share = torch.tensor([0.5, 0.5]).double()
    means = CentreMeans(by_hand(), torch.tensor(0.5).double(), share)
    x = Event(torch.tensor([[0.0, 1.0], [11.0, 0.0]]).double(), ~torch.eye(2, dtype=torch.bool))
    # colour 1 is known: indicators (0, 1), squares 2 and 2 / 16
    kernel = np.array([0.4 * np.exp(-2 / 0.5), 0.6 * np.exp(-0.125 / 0.5)])
    wanted = 10 + 2 * (kernel @ [-1.0, 1.0]) / kernel.sum()
    assert float(means.expected(x, 0)[0]) == pytest.approx(wanted)
    # size 11 is half a deviation above the mean
    kernel = np.array([0.4 * np.exp(-2.25 / 0.5), 0.6 * np.exp(-0.25 / 0.5)])
    levels = kernel @ np.array([[1.0, 0.0], [0.25, 0.75]]) / kernel.sum()
    assert means.expected(x, 1)[1].numpy() == pytest.approx(levels)


def test_the_share_has_the_least_squared_error_and_tells_how_much_less_it_is():
    noise = np.random.default_rng(0)
    error = torch.as_tensor(noise.normal(size=(60, 2)))
    apart = 0.5 * error + torch.as_tensor(noise.normal(size=(60, 2)))
    judged = torch.as_tensor(noise.random((60, 2)) < 0.7)
    nothing = torch.zeros(60, 2).double()
    own = torch.arange(2)
    row = torch.arange(30).repeat(2)
    found = _gain(*_products(error, apart, nothing, judged, own), row)

    def squares(share):
        left = torch.where(judged, (error - share * apart).square(), 0.0).sum(0)
        return left / torch.where(judged, error.square(), 0.0).sum(0)

    grid = np.linspace(0, 1, 10_001)
    best = min(grid, key=lambda share: float(squares(share).sum()))
    assert found.share == pytest.approx(best, abs=1e-4)
    assert torch.allclose(found.of_columns, 1 - squares(found.share))
    gains = torch.where(judged, error.square() - (error - found.share * apart).square(), 0.0)
    gains = gains / torch.where(judged, error.square(), 0.0).sum(0)
    of_rows = gains.sum(1).reshape(2, 30).sum(0)
    assert found.chance == pytest.approx(float(of_rows.std()) * 30**0.5)


def test_the_noise_of_few_draws_is_taken_off():
    generator = stream(0)
    rows = 40_000
    truth = torch.randn(rows, 1, generator=generator).double()
    other = 0.3 * truth  # of centres; the density knows nothing, its mean is 0
    drawn = torch.randn(4, rows, 1, generator=generator).double()
    judged = torch.ones(rows, 1, dtype=torch.bool)
    parts = (truth - drawn.mean(0), other - drawn.mean(0), drawn.var(0) / 4)
    product, square = _products(*parts, judged, torch.zeros(1).long())
    # in parts of the squared error of 1: .3 and .09, where products of draws have .25 more
    assert float(product.sum()) == pytest.approx(0.3, abs=0.02)
    assert float(square.sum()) == pytest.approx(0.09, abs=0.02)


def test_centres_join_where_they_tell_more_and_only_there():
    kernel = KernelReading.of(PLANE, event(900, 1), event(200, 2), False, np.random.default_rng(0))
    noise = stream(1)
    every = event(5000, 3).value

    def of_marginals(x):
        drawn = torch.stack(
            [column[torch.randint(len(column), (x.rows,), generator=noise)] for column in every.T],
            1,
        )
        return Event(torch.where(x.mask, x.value, drawn))

    def of_neighbours(x):
        """Nearly the truth: a row of many that is like what is known."""
        apart = torch.where(x.mask[:, None], x.value[:, None] - every, 0.0).square().sum(2)
        near = (-apart / 0.0005).softmax(1).multinomial(1, generator=noise)[:, 0]
        return Event(torch.where(x.mask, x.value, every[near]))

    learned = [
        learn_centre_means(kernel, event(200, 2), sample, np.random.default_rng(0))
        for sample in (of_marginals, of_neighbours)
    ]
    assert learned[0] is not None and float(learned[0].share.max()) > 0.8
    assert learned[1] is None or float(learned[1].share.max()) < 0.5


def test_a_gain_that_chance_could_make_is_none():
    """Columns that have nothing to do with each other, and draws of the density that says so."""
    value = torch.randn(1300, len(PLANE), generator=stream(4), dtype=torch.float64)
    rows, held_out = Event(value[:900]), Event(value[900:])
    kernel = KernelReading.of(PLANE, rows, held_out, False, np.random.default_rng(0))
    noise = stream(5)

    def of_marginals(x):
        drawn = torch.randn(x.value.shape, generator=noise, dtype=torch.float64)
        return Event(torch.where(x.mask, x.value, drawn))

    assert learn_centre_means(kernel, held_out, of_marginals, np.random.default_rng(0)) is None


@pytest.fixture(scope="module")
def model():
    return JointDensity(family=FAMILY, random_state=0).fit(frame())


def gaps():
    new = frame(200, seed=5)
    return new, new.assign(b=np.where(np.arange(200) % 4, new["b"], np.nan))


def test_points_are_sharper_and_draws_and_log_p_stay(model, tmp_path):
    new, gapped = gaps()
    found = model.impute(gapped)
    medians = model.impute(gapped, strategy="median")
    assert model.status_["impute"] == "approximate"
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert again.impute(gapped).equals(found)
    again.model_.centre_means = None
    plain = again.impute(gapped)
    error, before = (((each - new) ** 2).to_numpy().mean() for each in (found, plain))
    assert error < 0.6 * before
    assert again.status_["impute"] == "exact"
    assert again.impute(gapped, strategy="median").equals(medians)
    assert again.impute(gapped, strategy="mode").equals(model.impute(gapped, strategy="mode"))
    drawn = zip(again.impute(gapped, n_draws=2), model.impute(gapped, n_draws=2), strict=True)
    assert all(one.equals(two) for one, two in drawn)
    assert np.array_equal(again.score_samples(gapped), model.score_samples(gapped))


def test_no_row_of_the_fit_is_kept(model):
    kernel = model.model_.centre_means.kernel
    rows = kernel.coded(torch.as_tensor(ring(900, 1)))
    assert float(torch.cdist(kernel.centre, rows).min()) > 0


def test_a_point_given_y_is_the_model_s_own():
    gapped = gaps()[1]
    side = np.where(frame()["b"] > 0, "up", "down")
    model = JointClassifier(predictor=None, family=FAMILY, random_state=0).fit(frame(), side)
    if model.model_.centre_means is None:
        pytest.fail("centres should help where two components follow a curve")
    given = model.impute(gapped, y="up")
    model.model_.centre_means = None
    assert model.impute(gapped, y="up").equals(given)


def test_a_density_of_each_class_draws_them_with_their_class_unknown():
    rows = frame()
    rows["side"] = np.where(rows["b"] > 0, "up", "down")
    model = JointClassifier(predictor=None, family="naive_bayes", random_state=0)
    model.fit(rows[["a", "b"]], rows["side"])
    assert model.model_.centre_means is not None
    new, gapped = gaps()
    found = model.impute(gapped)
    model.model_.centre_means = None
    plain = model.impute(gapped)
    assert ((found - new) ** 2).to_numpy().mean() < 0.6 * ((plain - new) ** 2).to_numpy().mean()


def test_categories_are_mixed_by_their_probabilities():
    rows = frame()
    rows["side"] = np.where(rows["b"] > 0, "up", "down")
    model = JointDensity(family=FAMILY, random_state=0).fit(rows[["a", "side"]])
    means = model.model_.centre_means
    assert means is not None and 1 in means.columns
    new = frame(200, seed=5)
    side = np.where(new["b"] > 0, "up", "down")
    found = model.impute(pd.DataFrame({"a": new["a"], "side": [None] * 200}))["side"]
    x = model.model_.encode(pd.DataFrame({"a": new["a"], "side": [None] * 200})).event
    levels = torch.stack([Event(x.value, x.mask).value[:, 0]] * 2)
    own = []
    for code in range(2):
        value = torch.stack([levels[0], torch.full((200,), float(code)).double()], 1)
        own.append(model.model_.log_evidence(Event(value, torch.ones(200, 2, dtype=torch.bool))))
    own = torch.stack(own, 1).softmax(1)
    share = means.share[1]
    best = ((1 - share) * own + share * means.expected(x, 1)).argmax(1)
    names = model.model_.codec.decode_column(torch.stack([x.value[:, 0], best.double()], 1), 1)
    assert list(found) == list(names)
    assert (found.to_numpy() == side).mean() > 0.9
