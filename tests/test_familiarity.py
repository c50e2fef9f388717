"""The readings of familiarity: a Gaussian about the model's own draws, kernels about centres, and
which of them join."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointDensity
from conjoin.calibration.familiarity import (
    ADDED_VARIANCE,
    Familiarity,
    GaussianReading,
    _rank,
)
from conjoin.calibration.kernels import KernelReading
from conjoin.calibration.ratio import RatioReading
from conjoin.calibration.readings import RATIO, _joined, least_log_rank
from conjoin.calibration.strangers import pseudo_strangers
from conjoin.core import Event, Space, Variable, stream

SPACE = Space(
    (3,),
    (
        Variable("mass", "real"),
        Variable("colour", "category", cardinality=3),
        Variable("size", "ordered", cardinality=9),
    ),
)


def bank(rows=40):
    mass = torch.randn(rows, generator=stream(0), dtype=torch.float64)
    colour = torch.randint(3, (rows,), generator=stream(1)).double()
    return Event(torch.stack([2 + 3 * mass, colour, (4 + mass).round().clamp(0, 8)], 1))


def test_the_reading_is_a_gaussian_of_the_cells_that_are_known():
    """Against the matrix written out, with one column missing."""
    drawn = bank()
    pattern = torch.tensor([True, True, False])
    row = torch.tensor([[5.0, 1.0, 0.0], [-8.0, 2.0, 7.0]]).double()
    found = GaussianReading(SPACE, drawn)(row, pattern)
    mass = (torch.cat([drawn.value, row])[:, 0] - drawn.value[:, 0].mean()) / drawn.value[
        :, 0
    ].std()
    coded = torch.cat(
        [
            mass[:, None],
            torch.nn.functional.one_hot(torch.cat([drawn.value, row])[:, 1].long(), 3).double(),
        ],
        1,
    )
    precision = torch.linalg.inv(torch.cov(coded[:40].T) + ADDED_VARIANCE * torch.eye(4))
    apart = coded[40:] - coded[:40].mean(0)
    assert torch.allclose(found, -0.5 * torch.einsum("bi,ij,bj->b", apart, precision, apart))


def test_more_coordinates_than_draws_are_no_matter():
    space = Space((90,), (Variable("x", "real"),) * 90)
    drawn = torch.randn(20, 90, generator=stream(2), dtype=torch.float64)
    gaussian = GaussianReading(space, Event(drawn))
    whole = torch.ones(90, dtype=torch.bool)
    assert gaussian(drawn + 9, whole).max() < gaussian.of_bank(whole).min()
    assert gaussian(torch.full((1, 90), 1e30).double(), whole).isfinite().all()


def test_columns_that_are_nearly_always_zero_do_not_blind_the_alarm():
    """Usual rows have a rare value here and there that the draws have hardly shown: they must not
    be farther than what lies outside."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        rare = (rng.random((n, 60)) < 0.004) * rng.integers(1, 5, (n, 60))
        return pd.DataFrame(np.concatenate([rng.normal(size=(n, 3)), rare], 1)).rename(columns=str)

    far = rows(200, 1)
    far[["0", "1", "2"]] += 6
    model = JointDensity(family="naive_bayes").fit(rows(2000, 0))
    assert (model.decide(far)["verdict"] == "unfamiliar").mean() > 0.95


def test_both_readings_count_and_no_row_depends_on_its_batch():
    drawn = bank()
    flat = Familiarity(
        lambda x: torch.zeros(x.rows).double(), drawn, drawn, GaussianReading(SPACE, drawn)
    )
    value = torch.cat([drawn.value[:3], torch.tensor([[80.0, 1.0, 4.0]]).double()])
    event = Event(value, torch.tensor([[True] * 3, [True, False, True], [False] * 3, [True] * 3]))
    usual = flat.statistic(drawn, torch.zeros(40).double())
    assert abs(float(usual.mean())) < 1e-9
    assert abs(float(usual.std()) - 1) < 1e-9
    together = flat.statistic(event, torch.zeros(4).double())
    alone = torch.cat(
        [
            flat.statistic(event.take(slice(row, row + 1)), torch.zeros(1).double())
            for row in range(4)
        ]
    )
    assert torch.allclose(together, alone)
    assert together.argmin() == 3
    assert together[2] == 0
    steep = Familiarity(
        lambda x: x.value[:, 0], drawn, drawn, GaussianReading(SPACE, drawn)
    ).statistic(event, torch.zeros(4).double())
    assert not torch.allclose(steep, together)


# ------------------------------------------------------------------------------- several readings


def ring(rows, seed):
    """Two numbers on a circle, which none of their marginals shows, and a colour by its halves."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi, rows)
    place = np.stack([np.cos(turn), np.sin(turn)], 1) + 0.05 * rng.normal(size=(rows, 2))
    colour = (place[:, 0] > 0).astype(float)
    return Event(torch.tensor(np.column_stack([place, colour])))


PLANE = (
    Variable("east", "real"),
    Variable("north", "real"),
    Variable("colour", "category", cardinality=2),
)


def kernels(by_rank, rows=240):
    generator = np.random.default_rng(0)
    return KernelReading.of(PLANE, ring(rows, 1), ring(80, 2), by_rank, generator)


@pytest.mark.parametrize("by_rank", [False, True])
def test_a_kernel_reading_is_the_mixture_written_out(by_rank):
    reading = kernels(by_rank)
    row = ring(5, 3).value
    pattern = torch.tensor([True, False, True])
    coded = reading.coded(row)
    known = [0, 2, 3]
    apart = coded[:, None, known] - reading.centre[None, :, known]
    expected = (reading.log_weight - apart.square().sum(2) / (2 * reading.width**2)).logsumexp(1)
    assert torch.allclose(reading(row, pattern), expected)
    assert torch.isclose(reading.log_weight.exp().sum(), torch.tensor(1.0).double())


@pytest.mark.parametrize("by_rank", [False, True])
def test_no_centre_is_a_row(by_rank):
    reading = kernels(by_rank)
    rows = reading.coded(ring(240, 1).value)
    apart = torch.cdist(reading.centre, rows).amin(1)
    assert len(reading.centre) > 20
    assert (apart > 1e-9).all()


def test_copies_make_no_more_centres():
    rows = ring(60, 1)
    copied = Event(rows.value.repeat(20, 1))
    reading = KernelReading.of(PLANE, copied, ring(80, 2), False, np.random.default_rng(0))
    assert len(reading.centre) <= 60 // 3


def test_a_kernel_reading_sees_the_hole_of_a_ring_and_its_other_half():
    whole = torch.ones(3, dtype=torch.bool)
    usual = kernels(False)(ring(200, 4).value, whole).quantile(0.02)
    hole = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]).double()
    assert (kernels(False)(hole, whole) < usual).all()


def ratio(rows=600):
    return RatioReading.of(PLANE, ring(rows, 1), np.random.default_rng(0))


def test_trees_against_shuffled_columns_see_what_does_not_go_together():
    """In a square of two independent columns nothing is to be seen; in a ring its hole is."""
    whole = torch.ones(3, dtype=torch.bool)
    shuffled = ring(400, 5).value
    shuffled[:, 1] = shuffled[torch.randperm(400, generator=stream(2)), 1]
    own = ratio()(ring(400, 4).value, whole)
    strange = ratio()(shuffled, whole)
    assert (strange <= own.quantile(0.05)).double().mean() > 0.5
    points = torch.rand(600, 3, generator=stream(1), dtype=torch.float64)
    points[:, 2] = (2 * points[:, 2]).floor()
    nothing = RatioReading.of(PLANE, Event(points), np.random.default_rng(0))
    assert nothing(points, whole).abs().mean() < 0.5 * own.abs().mean()


def test_the_log_odds_are_those_of_the_mean_over_trees():
    """Each leaf's share by hand, on the way that a row takes."""
    reading = ratio(100)
    row = ring(5, 3).value
    coded = reading.coded(row, torch.ones(5, 3, dtype=torch.bool))
    for place in range(5):
        shares = []
        for root in reading.root.tolist():
            node = root
            while int(reading.right[node]) != node:
                left = coded[place, int(reading.feature[node])] <= reading.threshold[node]
                node = node + 1 if left else int(reading.right[node])
            shares.append(float(reading.share[node]))
        share = np.clip(np.mean(shares), 1e-3, 1 - 1e-3)
        found = reading(row[place : place + 1], torch.ones(3, dtype=torch.bool))
        assert np.isclose(float(found), np.log(share / (1 - share)))


def test_missing_cells_are_no_strangers():
    rows = ring(600, 1)
    pattern = torch.tensor([True, False, True])
    reading = RatioReading.of(PLANE, rows, np.random.default_rng(0))
    one, two = reading(rows.value, pattern), reading(torch.zeros_like(rows.value), pattern)
    assert torch.isfinite(one).all() and torch.isfinite(two).all()
    other = rows.value.clone()
    other[:, 1] = 7.0  # what stands in a missing cell is no matter
    assert torch.equal(reading(other, pattern), one)


def test_damaged_trees_are_refused():
    stored = ratio(60).to_tensors()
    again = RatioReading.from_tensors(PLANE, stored)
    whole = torch.ones(3, dtype=torch.bool)
    assert torch.equal(again(ring(5, 3).value, whole), ratio(60)(ring(5, 3).value, whole))
    for name, value in (("right", 0), ("feature", 99), ("share", 2)):
        bent = dict(stored) | {name: torch.full_like(stored[name], value)}
        with pytest.raises(ValueError, match="do not go with the columns"):
            RatioReading.from_tensors(PLANE, bent)


def test_ranks_are_the_shares_on_straight_lines():
    reference = torch.tensor([0.0, 1.0, 3.0]).double()
    value = torch.tensor([[0.0], [0.5], [2.0], [3.0], [9.0]]).double()
    found = least_log_rank(value, [reference]).exp()
    assert torch.allclose(found, torch.tensor([1, 1.5, 2.5, 3, 3]).double() / 4)
    far = least_log_rank(torch.tensor([[-9.0], [-90.0], [-torch.inf]]).double(), [reference])
    assert far[0] > far[1] > far[2]
    two = least_log_rank(torch.tensor([[2.0, 0.5]]).double(), [reference, reference]).exp()
    assert torch.allclose(two, torch.tensor([1.5]).double() / 4)


def test_pseudo_strangers_are_of_the_columns_values_and_keep_the_gaps():
    rows = ring(200, 5)
    mask = torch.rand(200, 3, generator=stream(3)) < 0.8
    rows = Event(torch.where(mask, rows.value, 0.0), mask)
    for name, kind in pseudo_strangers(PLANE, rows, np.random.default_rng(0)).items():
        assert torch.equal(kind.mask, mask), name
        for d in range(3):
            known = rows.value[mask[:, d], d]
            assert torch.isin(kind.value[mask[:, d], d], known).all(), name
        moved = ((kind.value != rows.value) & mask).sum(1)
        assert moved.max() <= (1 if name == "replaced" else 3)
        assert (moved > 0).float().mean() > 0.5


def test_a_reading_that_costs_power_does_not_join():
    """Log p tells all strangers; a reading that is noise would hide some of them, one that is as
    good would not."""
    rng = np.random.default_rng(0)
    ordinary = torch.tensor(rng.normal(size=(400, 3)))
    strange = torch.tensor(rng.normal(size=(400, 3)))
    strange[:, 0] -= 2.5
    strange[:, 2] = strange[:, 0]
    ordinary[:, 2] = ordinary[:, 0]
    assert _joined(ordinary, {"one": strange}) == [0, 2]


def unfamiliar(model, frame):
    """The share at a false-alarm rate of .05."""
    return (model.model_.p_value(model.model_.encode(frame)) <= 0.05).mean()


def test_false_alarms_come_at_the_asked_rate_and_shuffled_columns_are_caught(tmp_path):
    def frame(rows, seed):
        drawn = ring(rows, seed).value.numpy()
        return pd.DataFrame(drawn, columns=["east", "north", "colour"])

    model = JointDensity(family="naive_bayes").fit(frame(1000, 0))
    assert len(model.model_.readings.names) >= 3
    assert RATIO in model.model_.readings.names
    few = JointDensity(family="naive_bayes").fit(frame(600, 0))
    assert RATIO not in few.model_.readings.names
    assert 0.02 < unfamiliar(model, frame(2000, 1)) < 0.085  # 200 calibration rows
    shuffled = frame(1000, 2)
    shuffled["north"] = shuffled["north"].to_numpy()[::-1]
    assert unfamiliar(model, shuffled) > 0.5
    model.save(tmp_path / "ring")
    again = conjoin.load(tmp_path / "ring")
    both = [each.model_.statistic(each.model_.encode(frame(50, 3))) for each in (model, again)]
    assert np.array_equal(*both)


def test_ranks_among_few_validation_rows_have_no_ties():
    """Equal ranks would make an alarm call fewer rows than it is allowed to."""
    reference = torch.tensor([-2.0, -1.0, 0.0, 3.0], dtype=torch.float64)
    value = torch.tensor([-3.0, -1.5, -1.25, 0.0, 1.5, 9.0], dtype=torch.float64)
    steps, between = (_rank(value, reference, each) for each in (False, True))
    assert steps[1] == steps[2] and between[1] < between[2]
    assert torch.allclose(between[1:5], torch.tensor([2.5, 2.75, 4.0, 4.5]).double() / 5)
    assert between[0] == steps[0] and between[3] == steps[3]
    assert bool((between.diff() > 0).all())
