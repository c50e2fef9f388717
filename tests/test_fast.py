"""Fits in little time: what is worked out once, when mini-batches end, and ``speed="fast"``."""

import numpy as np
import pandas as pd
import pytest
import torch

from conjoin import JointClassifier, JointDensity
from conjoin.codecs.table import TableCodec
from conjoin.codecs.table.guess import guess_pictures, guess_smiles
from conjoin.components.intervals import log_mass, moments_inside
from conjoin.components.leaves import LeafLayer, _Cells
from conjoin.core import Event, Pair, Space, Variable, stream
from conjoin.families import resolve
from conjoin.families.circuit import latent_tree
from conjoin.fitting.fast import left_out, simpler
from conjoin.fitting.options import FitOptions
from conjoin.predictors import method
from conjoin.predictors.base import Case
from conjoin.predictors.folds import folds_for
from conjoin.training.learners import ExpectationMaximisation
from conjoin.training.loop import MIN_STEPS, Plan, train
from conjoin.training.progress import Progress

CIRCUIT = resolve("circuit")
REAL = Space((2,), (Variable("a", "real"), Variable("b", "real")))


def rows(n=200, seed=0):
    centre = (torch.arange(n) % 2)[:, None] * 3.0
    return Event(centre + torch.randn(n, 2, generator=stream(seed), dtype=torch.float64))


def mixture():
    config = resolve("mixture").set_params(components=3)
    return config.density.build(REAL, config, rows(), stream(0))


# -------------------------------------------------------------------- what is worked out but once


@pytest.mark.parametrize("width", [1e-4, 0.5])
def test_moments_by_the_mass_of_the_table_are_the_plain_ones(width):
    """Cells at a bound, inside, and of a column that needs no exact mass."""
    variables = (
        Variable("x", "real", resolution=width, bounds=(-1.0, 2.0)),
        Variable("y", "real", resolution=width),
    )
    leaves = LeafLayer(variables, 2)
    with torch.no_grad():
        leaves.mean.copy_(torch.tensor([[0.1, 1.4], [-0.3, 0.8]]))
        leaves.log_scale.copy_(torch.tensor([[0.2, 0.9], [1.4, 0.6]]).log())
        table = torch.tensor([[-1.0, 0.0], [0.5, 1.0], [2.0, -1.5]], dtype=torch.float64)
        cells = _Cells.distinct(table)
        found = leaves._moments(cells, leaves._log_density(cells))
        z, size = leaves._standardise(cells)
        low, high = leaves._edges(cells, z, size)
        exact = moments_inside(low, high, log_mass(low, high))
    mean = leaves.mean.detach()[cells.column]
    scale = leaves.log_scale.detach().exp()[cells.column]
    first = mean + scale * exact[0]
    second = mean**2 + 2 * mean * scale * exact[0] + scale**2 * exact[1]
    assert torch.allclose(found[0], first, atol=1e-6)
    assert torch.allclose(found[1], second, atol=1e-6)


def test_a_table_and_plain_cells_have_the_same_statistics():
    variables = (
        Variable("x", "real", resolution=0.5, bounds=(0.0, 4.0), atoms=(0.0,)),
        Variable("c", "category", cardinality=2),
    )
    leaves = LeafLayer(variables, 2)
    value = torch.tensor([[0.0, 1], [0.5, 0], [4.0, 1], [0.0, 0]], dtype=torch.float64)
    event = Event(value)
    leaves.start(value, event.mask, torch.ones(4, dtype=torch.float64))
    share = torch.rand(4, 2, generator=stream(1), dtype=torch.float64)
    table = leaves.table(event)
    with torch.no_grad():
        once = leaves.statistics_of(table, table.shares(share))
        plain = leaves.statistics(value, event.mask, share[:, None].expand(-1, 2, -1))
    assert all(torch.allclose(once[key], plain[key]) for key in plain)


def test_the_loss_of_a_circuit_is_the_same_with_and_without_a_gradient():
    density = CIRCUIT.density.build(REAL, CIRCUIT.set_params(trees=2), rows(), stream(0))
    with torch.no_grad():
        quick = density.losses(rows(20, seed=3))
    assert torch.allclose(density.losses(rows(20, seed=3)).detach(), quick)


@pytest.mark.parametrize("dtype", ["object", "str"])
def test_columns_are_told_by_their_distinct_words(dtype):
    photos = ["a.png", "b.png", None, "a.png", " ", "c"]
    assert guess_pictures(pd.Series(photos, dtype=dtype))
    assert not guess_pictures(pd.Series(["a.png", "c", "c", None], dtype=dtype))
    assert not guess_smiles(pd.Series(["CCO", "CCO", "CCO", "CCN", None], dtype=dtype))


def test_a_column_of_pictures_and_words_is_told_by_all_its_cells():
    array = np.zeros((2, 2))
    assert guess_pictures(pd.Series([array, array, "none"], dtype=object))
    assert not guess_pictures(pd.Series([array, "none", "none"], dtype=object))


def test_some_rows_are_enough_for_a_start(monkeypatch):
    """The trees are those of all rows, the priors' weight is that of all of them."""
    density = {}
    started = []
    build = latent_tree.MixtureDensity.build

    def weighed(*arguments, weight):
        started.append(float(weight.sum()))
        return build(*arguments, weight=weight)

    monkeypatch.setattr(latent_tree.MixtureDensity, "build", weighed)
    for most in (10_000, 150):
        monkeypatch.setattr(latent_tree, "MAX_START_ROWS", most)
        config = CIRCUIT.set_params(trees=1, width=3)
        density[most] = config.density.build(REAL, config, rows(400), stream(0))
    held = rows(200, seed=5)
    with torch.no_grad():
        whole, some = (float(each.log_prob(held).mean()) for each in density.values())
    assert density[150].parents == density[10_000].parents
    assert started == pytest.approx([400.0, 400.0])
    assert whole != some and abs(whole - some) < 0.2


# ---------------------------------------------------------------------- mini-batches, and their end


def test_mini_batches_move_far_at_first():
    learner = ExpectationMaximisation(mixture())
    rates = [learner._rate(0.25, done) for done in (0.0, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.25**0.3, 0.25**0.3, 0.5 * 0.25**0.3, 0.01])
    learner.begun = True
    assert learner._rate(0.25, 0.5) == 0.125


def test_mini_batches_are_not_given_up_before_their_steps_get_smaller():
    """Validation rows that no step makes better: patience counts from the fifth round of
    twenty on, with one batch from the start."""
    far = Event(torch.full((20, 2), 50.0, dtype=torch.float64))
    weight = torch.ones(200, dtype=torch.float64)
    epochs = {
        batch: train(
            mixture(), rows(), weight, far, Plan(batch=batch, epochs=20, patience=2), Progress()
        ).epochs
        for batch in (50, 200)
    }
    assert epochs[200] < 6 <= epochs[50]


# --------------------------------------------------------------------------------- speed="fast"


def options(**changes):
    return FitOptions(**({"task": "classes", "speed": "fast"} | changes))


def test_a_fast_fit_has_a_simpler_config():
    assert simpler(CIRCUIT, options()).trees == 1
    assert simpler(CIRCUIT, options(speed="default")) == CIRCUIT
    assert simpler(CIRCUIT, options(start=object())) == CIRCUIT
    kept = CIRCUIT.set_params(trees=2)
    assert simpler(kept, options()) == kept


def test_a_fast_fit_tells_what_it_leaves_out():
    codec = TableCodec()
    codec.fit(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": list("xyz")}))
    taken = simpler(CIRCUIT, options())
    (said,) = left_out(CIRCUIT, taken, codec, options())
    assert said == (
        "speed='fast': the family is circuit with trees=1; p(y | x) is learned in three folds and "
        "without extra trees; mini-batches of expectation-maximisation take half of their steps; "
        "familiarity has no kernels."
    )
    assert "p(y | x)" not in left_out(CIRCUIT, taken, codec, options(predictor="linear"))[0]
    assert "trees=1" not in left_out(CIRCUIT, CIRCUIT, codec, options())[0]
    assert left_out(CIRCUIT, CIRCUIT, codec, options(speed="default")) == []


def test_a_fast_fit_needs_fewer_folds_and_no_extra_trees():
    known = torch.ones(60, dtype=torch.bool)
    event = rows(60)
    pair = Event((torch.arange(60) % 2).double(), known)
    case = Case(REAL, Pair(pair, event), torch.ones(60, dtype=torch.float64), 2, 0, fast=True)
    assert folds_for(60, fast=True) == 3 and folds_for(60) == 5
    assert len(case.with_folds().parts()) == 3
    assert not method("extra_trees").tried(case)
    assert method("linear").tried(case)


def test_a_fast_fit_takes_half_of_the_steps_of_mini_batches():
    weight = torch.ones(200, dtype=torch.float64)
    steps = {
        fast: train(
            mixture(), rows(), weight, None, Plan(batch=20, patience=99, fast=fast), Progress()
        ).steps
        for fast in (False, True)
    }
    assert steps == {False: MIN_STEPS, True: 70}  # whole passes of ten steps, at least 65


@pytest.mark.parametrize("family", ["flow", "gaussian_mixture"])
def test_gradients_and_counts_leave_no_steps_out(family):
    codec = TableCodec()
    codec.fit(pd.DataFrame({"a": [1.0, 2.0, 4.0]}))
    asked = resolve(family)
    assert "steps" not in left_out(asked, simpler(asked, options()), codec, options())[0]


def test_a_fast_model_says_so():
    table = pd.DataFrame(rows(200).value.numpy(), columns=["a", "b"])
    label = np.where(np.arange(200) % 2, "odd", "even")
    model = JointClassifier(family=CIRCUIT.set_params(width=2), speed="fast").fit(table, label)
    assert model.notices_[0].startswith("speed='fast': the family is circuit with trees=1;")
    assert model.model_.card["speed"] == "fast"
    assert model.model_.card["settings"]["trees"] == 1
    assert "extra_trees" not in model.model_.card["predictor"]["log_loss"]
    assert model.model_.readings is None


def test_an_unknown_speed_is_refused():
    with pytest.raises(ValueError, match="speed must be one of default, fast, got 'quick'"):
        JointDensity(speed="quick").fit(pd.DataFrame({"a": [1.0, 2.0]}))
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="speed='fast' is for one target"):
        JointClassifier(speed="fast").fit(frame, pd.DataFrame({"y": [0, 1, 0], "z": [1, 1, 0]}))
