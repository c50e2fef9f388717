"""Exact families integrate, or sum, to one by each column's stated measure, in raw units, on two
columns of real tables.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from conjoin import JointClassifier, JointDensity, datasets
from conjoin.families import of_tables

QUICK = (
    "circuit",
    "naive_bayes",
    "linear_discriminant",
    "quadratic_discriminant",
    "mixture",
    "factor_analysis",
    "bayes_net",
)
FAMILY = [
    f
    if f in QUICK
    else pytest.param(f, marks=pytest.mark.slow if f == "flow" else pytest.mark.battery)
    for f in of_tables()
]


def iris():
    frame = load_iris(as_frame=True).data.iloc[:, [0, 2]]
    return frame.rename(columns={"sepal length (cm)": "a", "petal length (cm)": "b"})


def phoneme(data_dir):
    return datasets.load("phoneme").frame[["x0", "x1"]].iloc[::4].reset_index(drop=True)


def jittered(frame):
    """Anywhere in the cells of a tenth: narrower, and the density has ridges that a grid does not
    see."""
    return frame + np.random.default_rng(0).uniform(-1, 1, frame.shape) * 0.05 + 1e-9 * np.pi


def total(model, frame, step):
    """Sum of p over a grid of raw values: cells if they have mass, else density times the area of a
    grid cell."""
    room = 1.2 * (frame.max() - frame.min())
    low = frame.min() - room
    high = frame.max() + room
    axes = [np.arange(np.floor(low[c] / step), np.ceil(high[c] / step) + 1) * step for c in frame]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)
    density = model.score_samples(pd.DataFrame(grid, columns=list(frame)))
    volume = np.prod([1.0 if v.has_mass else step for v in model.model_.codec.space.variables])
    return float(np.exp(density).sum() * volume)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("jitter", [False, True], ids=["recorded", "jittered"])
def test_iris_sums_to_one(family, jitter):
    frame = jittered(iris()) if jitter else iris()
    model = JointDensity(family=family).fit(frame, calibration=0)
    assert all(v.has_mass != jitter for v in model.model_.codec.space.variables)
    assert sums_to_one(model, frame, 0.02 if jitter else 0.1)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("jitter", [False, True], ids=["recorded", "jittered"])
def test_phoneme_sums_to_one(family, jitter, data_dir):
    frame = phoneme(data_dir).round(1)
    frame = jittered(frame) if jitter else frame
    model = JointDensity(family=family).fit(frame, calibration=0)
    assert sums_to_one(model, frame, 0.02 if jitter else 0.1)


def sums_to_one(model, frame, step):
    """An exact family within a hundredth; a bound may fall short; what is relative has no sum."""
    found = total(model, frame, step)
    status = model.status_["log_prob"]
    return status == "relative" or found < 1.02 if status != "exact" else abs(found - 1) < 0.01


def test_units_move_density_and_not_mass():
    """A column in other units: densities move by the log of the factor, masses and familiarity do
    not move."""
    for frame, moved in ((iris(), 0.0), (jittered(iris()), -2 * np.log(10))):
        # few enough that no row is held out, whose choice would follow the units
        few = frame.iloc[::2]
        rest = frame.iloc[1::2]
        models = [
            JointDensity(family="mixture").fit(few * factor, calibration=0).calibrate(rest * factor)
            for factor in (1, 10)
        ]
        scores = [
            model.score_samples(rest * factor)
            for model, factor in zip(models, (1, 10), strict=True)
        ]
        familiar = [
            model.decide(rest * factor)["familiarity"]
            for model, factor in zip(models, (1, 10), strict=True)
        ]
        np.testing.assert_allclose(scores[1] - scores[0], moved, atol=1e-6)
        np.testing.assert_allclose(familiar[0], familiar[1])


def test_a_joint_sums_to_one_over_its_labels_too():
    X = iris()
    y = load_iris().target
    model = JointClassifier(family="circuit").fit(X, y, calibration=0)
    low = (
        np.stack(
            [
                axis.ravel()
                for axis in np.meshgrid(np.arange(20, 110), np.arange(-20, 120), indexing="ij")
            ],
            1,
        )
        / 10
    )
    joint = model.predict_joint_log_proba(pd.DataFrame(low, columns=["a", "b"]))
    assert np.exp(joint).sum() == pytest.approx(1, abs=0.01)
