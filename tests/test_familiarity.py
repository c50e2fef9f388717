"""The second reading of familiarity: a Gaussian about the model's own draws."""

import numpy as np
import pandas as pd
import torch

from conjoin import JointDensity
from conjoin.calibration.familiarity import ADDED_VARIANCE, Familiarity, GaussianReading
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
