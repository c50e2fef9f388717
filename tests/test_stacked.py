"""The mixture of families: its weights, sums and draws against those of its members; what stays,
what goes, and how that is told; folders, checkpoints, gaps, classes and numbers.
"""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.core import Event, Space, Status, Variable, stream
from conjoin.families.circuit.latent_tree import Circuit
from conjoin.families.stacked import MIN_WEIGHT, Stacked, StackedDensity, _weights
from conjoin.fitting.fast import replaced
from conjoin.fitting.options import FitOptions

SPACE = Space((2,), (Variable("a", "category", cardinality=2), Variable("b", "real")))
FAST = "stacked:members=mixture+forest"


def rows(count=60):
    noise = stream(0)
    code = torch.randint(2, (count,), generator=noise).double()
    number = torch.randn(count, generator=noise, dtype=torch.float64) + 3 * code
    return Event(torch.stack([code, number], 1))


def stack(members="mixture+forest"):
    config = Stacked(members)
    return StackedDensity.build(SPACE, config, rows(), stream(0))


def table(count=120):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, count)
    first = rng.normal(size=count) + 2 * label
    return pd.DataFrame({"a": first, "b": first**2 + rng.normal(size=count)}), label


def test_log_p_is_the_logarithm_of_the_weighted_sum():
    density = stack()
    density.log_weight = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    event = rows()
    with torch.no_grad():
        each = torch.stack([member.log_prob(event).exp() for member in density.each])
        wanted = (0.3 * each[0] + 0.7 * each[1]).log()
        assert torch.allclose(density.log_prob(event), wanted)


def test_a_missing_first_category_is_summed_exactly_in_every_member():
    density = stack()
    event = rows()
    hidden = event.hide(torch.tensor([True, False]))
    with torch.no_grad():
        both = [
            density.log_prob(event._replace(value=torch.cat([code, event.value[:, 1:]], 1)))
            for code in (torch.zeros(60, 1).double(), torch.ones(60, 1).double())
        ]
        assert torch.allclose(density.log_prob(hidden), torch.logaddexp(*both))
    assert density.status_of(hidden) is Status.EXACT
    assert density.status_of(event.hide(torch.tensor([False, True]))) is Status.EXACT
    assert density.capabilities.missing == "bound"


def test_weights_are_those_that_maximise_the_mean_log_p():
    log_p = torch.tensor([[0.8, 0.1], [0.8, 0.1], [0.1, 0.8]], dtype=torch.float64).log()
    many = log_p.repeat(400, 1)
    found = _weights(many, torch.tensor([True, True]))
    grid = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    each = torch.stack([grid, 1 - grid], 1).log()
    best = grid[(each[:, None] + many).logsumexp(2).mean(1).argmax()]
    assert abs(float(found[0] - best)) < 0.02


def test_a_member_of_little_weight_goes():
    good = torch.full((1000, 1), -1.0, dtype=torch.float64)
    found = _weights(torch.cat([good, good - 5], 1), torch.tensor([True, True]))
    assert found.tolist() == [1.0, 0.0]
    assert MIN_WEIGHT > 0


def test_inexact_members_go_where_they_gain_nothing():
    density = stack()
    same = torch.zeros(50, 2, dtype=torch.float64)
    assert density._chosen(same).tolist() == [1.0, 0.0]
    better = same + torch.tensor([0.0, 3.0])
    assert float(density._chosen(better)[1]) > 0.9


def test_draws_of_gaps_come_from_the_member_that_explains_the_row():
    density = stack("mixture+naive_bayes")
    density.log_weight = torch.tensor([1.0, 0.0], dtype=torch.float64).log()
    event = rows().hide(torch.tensor([False, True]))
    assert density.capabilities.conditionals == "any"
    drawn = density.sample_conditional(event, generator=stream(1)).value
    code = event.value[:, 0]
    apart = drawn[code == 1, 1].mean() - drawn[code == 0, 1].mean()
    assert 2 < float(apart) < 4
    assert torch.equal(drawn[:, 0], code)


def test_classes_numbers_gaps_and_folders(tmp_path):
    X, label = table()
    X.loc[::7, "a"] = np.nan
    model = JointClassifier(family=FAST, predictor=None, random_state=0).fit(X, label)
    verdicts = model.decide(X, false_alarm=0.2, max_error=0.4)
    assert len(verdicts) == len(X)
    assert not model.impute(X).isna().any().any()
    assert len(model.counterfactual(X[1:2], to=1 - label[1]))
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    told = (tmp_path / "model" / "README.md").read_text()
    assert "families mixed" in told
    assert "validation rows" in told
    number = JointRegressor(family=FAST, predictor=None, random_state=0).fit(X[["a"]], X["b"])
    assert math.isfinite(number.score_samples(X[["a"]]).mean())


def test_every_member_is_told_with_its_log_p_seconds_and_weight():
    X, _ = table(400)
    model = JointDensity(family=FAST, random_state=0).fit(X)
    told = model.model_.facts["trained"]["members"]
    assert [each["family"] for each in told] == ["mixture", "forest"]
    assert all(math.isfinite(each["log_prob"]) and each["seconds"] > 0 for each in told)
    assert sum(each["weight"] for each in told) == pytest.approx(1.0)


def test_without_validation_rows_members_count_the_same():
    X, _ = table(60)
    model = JointDensity(family=FAST, random_state=0).fit(X)
    assert model.model_.facts["rows"]["choose"] == 0
    told = model.model_.facts["trained"]["members"]
    assert [each["weight"] for each in told] == [0.5, 0.5]


def test_a_fit_that_is_resumed_ends_where_one_that_was_not_does(tmp_path):
    X, _ = table()
    whole = JointDensity(family=FAST, random_state=0).fit(X)
    folder = tmp_path / "checkpoint"
    JointDensity(family=FAST, random_state=0).fit(X, checkpoint=folder)
    again = JointDensity(family=FAST, random_state=0).fit(X, checkpoint=folder, resume=True)
    assert np.array_equal(whole.score_samples(X), again.score_samples(X))


def test_a_family_that_can_not_be_mixed_is_named():
    with pytest.raises(ValueError, match="sequence"):
        JointDensity(family="stacked:members=circuit+sequence").fit(table()[0])


def test_fast_fits_get_the_circuit_and_say_so():
    X, _ = table()
    model = JointDensity(family="default", speed="fast", random_state=0).fit(X)
    assert model.model_.facts["family"] == "circuit"
    assert "the family is circuit with trees=1" in " ".join(model.model_.facts["notices"])


def test_what_stands_in_for_the_mixture_is_told(tmp_path):
    X, _ = table()
    X.to_csv(tmp_path / "rows.csv", index=False)
    chunks = JointDensity(family="default", random_state=0).fit_file(tmp_path / "rows.csv")
    assert chunks.model_.facts["family"] == "circuit"
    told = "family='default' needs all rows in memory, and this fit reads them in chunks: the "
    assert told + "family is 'circuit'." in chunks.notices_
    named = JointDensity(family="circuit", random_state=0).fit_file(tmp_path / "rows.csv")
    assert not [words for words in named.notices_ if "family" in words]


@pytest.mark.parametrize("config", [Stacked(), Circuit()])
def test_what_models_the_columns_beside_blocks_is_told(config):
    codec = SimpleNamespace(space=SimpleNamespace(flat=True, blocks=("picture",)))
    told = replaced(config, Circuit(), codec, FitOptions(task="density"))
    words = "family='default' models columns alone, and beside them stand pictures, strings or "
    other = type(config) is Stacked
    assert told == ([words + "text: the family of the columns is 'circuit'."] if other else [])


def test_several_targets_refuse_the_mixture():
    X, _ = table()
    Y = X.iloc[:, :2].rename(columns=str.upper)
    with pytest.raises(ValueError, match="sums the others out exactly, and default does not"):
        JointRegressor(family="default").fit(X, Y)


def test_a_number_that_stands_first_is_left_out_exactly():
    swapped = Space((2,), SPACE.variables[::-1])
    data = Event(rows().value.flip(1))
    weight = torch.ones(60, dtype=torch.float64)
    names = Stacked().names(swapped, data, weight)
    assert names == ["circuit", "forest:reverse=True"]
    density = StackedDensity.build(swapped, Stacked("mixture+forest:reverse=True"), data, stream(0))
    hidden = data.hide(torch.tensor([True, False]))
    assert density.status_of(hidden) is Status.EXACT
    known = Event(
        torch.tensor([[0.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([[False, True]] * 2)
    )
    with torch.no_grad():  # leaves of trees are kept in 32 bits
        assert float(density.log_prob(known).exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_gaussians_are_tried_where_most_columns_are_plain_numbers():
    numbers = Space((3,), tuple(Variable(name, "real") for name in "abc"))
    value = torch.randn(60, 3, generator=stream(0), dtype=torch.float64)
    weight = torch.ones(60, dtype=torch.float64)
    tried = Stacked().names(numbers, Event(value), weight)
    assert [name.partition(":")[0] for name in tried] == [
        "circuit",
        "gaussian_mixture",
        "gaussian_mixture",
        "forest",
    ]
