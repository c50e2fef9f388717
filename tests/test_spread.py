"""p(y | x) of a number: leaves of trees, mixtures of several, quantiles of whole numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointRegressor
from conjoin.components.mixing import mixture_weights
from conjoin.core import Space, Variable, stream
from conjoin.predictors.base import Scorer, Spread
from conjoin.predictors.blended import Blended, mixture_of
from conjoin.predictors.leaves import Binned, Leaves, _edges


def two_sided(n=1200, seed=0):
    """y stands at -3 or 3, about evenly, unless x > 0: no point tells that."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    side = np.where(rng.random(n) < 0.5, -3.0, 3.0)
    y = np.where(x > 0, 0.0, side) + 0.3 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "z": rng.normal(size=n)}), pd.Series(y, name="y")


@pytest.fixture(scope="module")
def bimodal():
    return JointRegressor(family="naive_bayes", random_state=0).fit(*two_sided())


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"a": rng.normal(size=900), "b": rng.normal(size=900)})
    y = pd.Series(rng.poisson(np.exp(1 + 0.5 * X["a"])), name="visits")
    return JointRegressor(random_state=0).fit(X, y), X, y


def test_the_leaves_see_two_sides_where_a_point_sees_none(bimodal):
    X, y = two_sided(2000, 1)
    told = bimodal.model_.facts["predictor"]
    assert told["log_loss"]["mixture"] < told["log_loss"]["pool"] - 0.7
    assert sum(told["mixture"].values()) == pytest.approx(1)
    assert bimodal.evaluate(X, y)["log_loss"] < 1.3  # 2.0 by the pool alone
    low, high = bimodal.predict_quantiles(pd.DataFrame({"x": [-1.0], "z": [0.0]}), (0.25, 0.75))[0]
    assert low == pytest.approx(-3, abs=0.3) and high == pytest.approx(3, abs=0.3)


def test_a_mixture_sums_to_one_and_its_draws_are_its_own(bimodal, counts):
    x = torch.tensor([[-1.0, 0.0], [1.5, 0.3]], dtype=torch.float64)
    for model in (bimodal, counts[0]):
        joint = model.model_.pair
        event = joint.space.x.check(conjoin.core.Event(x))
        width = joint.target.resolution or 0.002
        grid = width * torch.arange(round(40 / width), dtype=torch.float64) - 20
        if joint.target.resolution:
            grid += joint.target.origin % width
        log_p = joint.predictor.log_prob(event, grid.expand(2, -1))
        mass = log_p.exp() * (1.0 if joint.target.resolution else width)
        assert torch.allclose(mass.sum(1), torch.ones(2).double(), atol=5e-3)
        many = conjoin.core.Event(x.repeat_interleave(20_000, 0))
        drawn = joint.predictor.draw(many, stream(0, "draws")).reshape(2, -1)
        for end in (-0.5, 0.1, 0.9):
            below = grid <= end
            share = (drawn <= grid[below].max() + width / 2).double().mean(1)
            assert torch.allclose(share, (mass * below).sum(1), atol=0.02)


def test_whole_numbers_have_whole_quantiles(counts):
    model, X, y = counts
    found = model.predict_quantiles(X, (0.05, 0.5, 0.95))
    assert np.array_equal(found, np.round(found)) and found.min() == 0
    inside = (y.to_numpy() >= found[:, 0]) & (y.to_numpy() <= found[:, 2])
    assert 0.88 <= inside.mean() <= 1


def test_a_mixture_is_saved(bimodal, counts, tmp_path):
    for number, model in enumerate((bimodal, counts[0])):
        if model is bimodal:
            assert isinstance(model.model_.pair.predictor, Blended)
        again = conjoin.load(model.save(tmp_path / str(number)))
        X = pd.DataFrame(
            np.random.default_rng(0).normal(size=(9, 2)), columns=model.feature_names_in_
        )
        assert np.array_equal(again.predict_quantiles(X), model.predict_quantiles(X))
        assert again.model_.facts["predictor"] == model.model_.facts["predictor"]


def test_shares_find_those_of_a_known_mixture():
    generator = stream(0, "mixture")
    first = torch.rand(20_000, generator=generator) < 0.3
    y = torch.where(first, 0.0, 4.0) + torch.randn(20_000, generator=generator)
    normal = torch.distributions.Normal
    log_p = torch.stack([normal(0.0, 1.0).log_prob(y), normal(4.0, 1.0).log_prob(y)], 1).double()
    share = mixture_weights(log_p, torch.ones(20_000, dtype=torch.float64), 200)
    assert share.tolist() == pytest.approx([0.3, 0.7], abs=0.01)


def test_a_mixture_that_gains_nothing_is_left_out():
    log_p = torch.randn(200, generator=stream(0, "same")).double()
    parts = {"one": Spread(None, log_p), "same": Spread(None, log_p - 0.01)}
    weight = torch.ones(200, dtype=torch.float64)
    kept, shares = mixture_of(parts, weight, ["one"])
    assert kept is parts["one"] and shares == {"one": 1.0}


def test_bins_end_where_cells_end_and_a_common_number_has_its_own():
    y = np.concatenate([np.zeros(500), np.random.default_rng(0).integers(0, 1000, 500)])
    edges = _edges(y.astype(float), 1.0)
    assert np.allclose(edges % 1, 0.5) and edges[0] == -0.5
    assert edges[1] <= 20 and len(edges) <= 66
    between = _edges(np.random.default_rng(0).normal(size=1000), 0.0)
    assert (np.diff(between) > 0).all() and len(between) <= 66


def test_beyond_all_bins_there_is_next_to_nothing():
    space = Space((), (Variable("a", "real"),))
    binned = Binned(Leaves(space, (0, 0, 0), 4), 4)
    log_p = torch.full((1, 4), 0.25, dtype=torch.float64).log()
    found = binned.log_prob_of(log_p, torch.tensor([[-1.0, 0.5, 3.9, 4.0]]).double())
    assert found.tolist()[0] == pytest.approx([-690, np.log(0.25), np.log(0.25), -690])


class Told(Scorer):
    """The same log p of four bins for every row."""

    kind = "told"

    @property
    def shapes(self):
        return {}

    def scores(self, x):
        return torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log().expand(x.rows, 4)

    def covers(self, x):
        return x.mask.all(1)


def binned(edges, width=0.0):
    out = Binned(Told(), len(edges) - 1, width)
    out.edges.copy_(torch.tensor(edges))
    return out, conjoin.core.Event(torch.zeros(1, 1).double())


def test_a_cell_has_the_mass_of_what_it_covers():
    model, row = binned([-0.5, 0.5, 2.5, 3.5, 7.5], 1.0)
    log_p = model.log_prob(row, torch.arange(8.0).double()[None])
    masses = [0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1]
    assert log_p.exp().tolist()[0] == pytest.approx(masses)
    between = model.log_prob(row, torch.tensor([[0.5]]).double())  # half of two cells
    assert float(between.exp()) == pytest.approx(0.05 + 0.05)


def test_draws_are_spread_over_their_bin():
    model, row = binned([0.0, 1.0, 2.0, 3.0, 4.0])
    drawn = model.draw(row.take(torch.zeros(20_000).long()), stream(0, "bins"))
    for end in (0.25, 1.5, 2.75, 3.4):
        k = int(end)
        below = sum([0.1, 0.2, 0.3, 0.4][:k]) + [0.1, 0.2, 0.3, 0.4][k] * (end - k)
        assert float((drawn <= end).double().mean()) == pytest.approx(below, abs=0.015)
