"""The displays: what they compute, and that they draw where they are told to."""

import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib.figure import Figure

from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.plot import (
    CoverageDisplay,
    FamiliarityDisplay,
    PlaneDisplay,
    ReliabilityDisplay,
    ResidualsDisplay,
    SamplesDisplay,
    field,
)
from conjoin.plot.choose import plane_columns, promised_rates, telling_columns
from conjoin.plot.style import label


def two_moons(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    angle = rng.uniform(0, np.pi, rows)
    x = np.where(y == 0, np.cos(angle), 1 - np.cos(angle)) + rng.normal(0, 0.15, rows)
    z = np.where(y == 0, np.sin(angle), 0.4 - np.sin(angle)) + rng.normal(0, 0.15, rows)
    colour = np.where(rng.uniform(size=rows) < 0.5, "red", "green")
    frame = pd.DataFrame({"x": x, "z": z, "noise": rng.normal(size=rows), "colour": colour})
    return frame, pd.Series(np.where(y == 0, "up", "down"), name="moon")


def axes(count):
    return Figure(figsize=(4, 3)).subplots(1, count, squeeze=False).ravel()


@pytest.fixture(scope="module")
def moons():
    return two_moons()


@pytest.fixture(scope="module")
def classifier(moons):
    return JointClassifier("linear", family="mixture").fit(*moons)


@pytest.fixture(scope="module")
def regressor(moons):
    return JointRegressor("linear", family="mixture").fit(
        moons[0][["x", "noise", "colour"]], moons[0]["z"]
    )


@pytest.fixture(scope="module")
def density(moons):
    return JointDensity(family="mixture").fit(moons[0])


def test_the_plane_has_three_panels_and_knows_where_it_has_seen_nothing(classifier):
    X, y = two_moons(200, seed=1)
    drawn = axes(3)
    display = PlaneDisplay.from_estimator(
        classifier, X, y, columns=("x", "z"), resolution=24, ax=drawn
    )
    assert display.panels == ["answer", "log_prob", "verdict"]
    assert (
        list(display.axes_) == list(drawn)
        and display.ax_ is drawn[0]
        and display.figure_ is drawn[0].figure
    )
    assert display._field.verdict[0, 0] == "unfamiliar"
    assert {"accept", "unfamiliar"} <= set(display._field.verdict.ravel())
    assert all(ax.get_xlabel() == "x" and ax.get_title(loc="left") for ax in drawn)
    assert display._field.answer.sum(-1) == pytest.approx(1.0)


def test_the_plane_takes_the_two_columns_that_matter(classifier):
    assert set(plane_columns(classifier.model_)) == {"x", "z"}
    assert set(telling_columns(classifier.model_, 2)) == {"x", "z"}


def test_the_plane_without_rows_shows_what_the_model_draws(density):
    display = PlaneDisplay.from_estimator(density, resolution=12, ax=axes(2))
    assert display.panels == ["log_prob", "verdict"]
    assert display.source == "rows that the model draws"


def test_the_plane_of_a_number_shows_its_median(regressor, moons):
    display = PlaneDisplay.from_estimator(
        regressor, moons[0][["x", "noise", "colour"]], resolution=6, ax=axes(3)
    )
    assert display._field.answer.shape == (6, 6)


def test_the_plane_of_many_classes():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 150)
    X = pd.DataFrame(
        rng.normal(size=(450, 2)) + 4 * np.eye(3, 2)[np.repeat([0, 1, 2], 150)],
        columns=["p$q$", "r"],
    )
    model = JointClassifier("linear", family="naive_bayes").fit(X, y)
    display = PlaneDisplay.from_estimator(model, X, y, resolution=12, ax=axes(3))
    assert display._field.answer.shape == (12, 12, 3)
    display.figure_.canvas.draw()


@pytest.mark.parametrize("columns", [("x", "nowhere"), ("x", "colour")])
def test_the_plane_names_a_column_that_will_not_do(classifier, columns):
    with pytest.raises(ValueError, match=columns[1]):
        PlaneDisplay.from_estimator(classifier, columns=columns)


def test_one_numeric_column_makes_no_plane():
    model = JointDensity(family="naive_bayes").fit(
        pd.DataFrame({"a": np.random.default_rng(0).normal(size=60), "b": ["u", "v", "v"] * 20})
    )
    with pytest.raises(ValueError, match="two columns of numbers, the model has 1"):
        PlaneDisplay.from_estimator(model)


def test_reliability_of_a_classifier(classifier):
    X, y = two_moons(300, seed=2)
    display = ReliabilityDisplay.from_estimator(classifier, X, y, bins=6, ax=axes(1)[0])
    assert list(display.table) == ["said", "seen", "rows"] and display.table["rows"].sum() == 300
    assert f"{display.error:.3f}" in display.ax_.get_legend().get_texts()[1].get_text()
    assert display.error == pytest.approx(classifier.evaluate(X, y)["ece"], abs=0.03)


def test_reliability_of_a_regressor_is_about_quantiles(regressor, moons):
    display = ReliabilityDisplay.from_estimator(
        regressor, moons[0][["x", "noise", "colour"]], moons[0]["z"], ax=axes(1)[0]
    )
    assert display.number and np.abs(display.table["said"] - display.table["seen"]).max() < 0.12


def test_reliability_needs_labels(classifier, moons):
    with pytest.raises(ValueError, match="labels"):
        ReliabilityDisplay.from_estimator(
            classifier, moons[0], pd.Series([None] * len(moons[0]), dtype=object)
        )


def test_familiarity_marks_where_the_alarm_begins(classifier, moons):
    strange = moons[0].assign(x=moons[0]["x"] + 50)
    display = FamiliarityDisplay.from_estimator(classifier, strange, false_alarm=0.1, ax=axes(1)[0])
    p_value = classifier.model_.calibrated.p_value
    assert (
        p_value(np.array([np.nextafter(display.limit, -np.inf)]))[0]
        <= 0.1
        < p_value(np.array([display.limit]))[0]
    )
    assert (display.statistic < display.limit).all()


def test_samples_are_compared_column_by_column(density, moons):
    drawn = axes(4)
    display = SamplesDisplay.from_estimator(
        density, moons[0], n_samples=300, columns=["x", "z", "noise", "colour"], ax=drawn
    )
    assert [ax.get_xlabel() for ax in drawn] == ["x", "z", "noise", "colour"]
    assert len(display.drawn) == 300
    assert SamplesDisplay.from_estimator(density, n_samples=50).figure_ is not None
    matplotlib.pyplot.close("all")


def test_rates_are_the_least_that_are_supported(classifier):
    alarm, error = promised_rates(classifier.model_)
    assert alarm == 0.05 and error <= 0.1
    verdicts = classifier.decide(two_moons(100, seed=3)[0], false_alarm=alarm, max_error=error)
    assert (verdicts["verdict"] == "accept").any()


def test_no_rates_without_calibration_rows():
    X, y = two_moons(40)
    model = JointClassifier(None, family="naive_bayes").fit(X, y)
    assert promised_rates(model.model_) is None
    assert PlaneDisplay.from_estimator(model, resolution=8, ax=axes(2)).panels == [
        "answer",
        "log_prob",
    ]


def test_labels_are_plain_text():
    assert label("cost in $ and $", "USD") == r"cost in \$ and \$ (USD)"
    assert label("x" * 100).endswith("…")


def test_importing_draws_nothing():
    code = "import sys, conjoin.plot, conjoin.report; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_one_sentence_names_the_remedy():
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['matplotlib.pyplot'] = None\n"
        "from conjoin.plot.style import pyplot\n"
        "try:\n    pyplot()\nexcept ImportError as error:\n    assert 'pip install "
        '"conjoin[plot]"\' in str(error)\n'
        "else:\n    raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_accuracy_of_the_surest_rows():
    confidence = np.array([0.9, 0.6, 0.8, 0.8, 0.5])
    right = np.array([1, 0, 1, 0, 1], dtype=bool)
    display = CoverageDisplay(confidence, right, confidence > 0.7)
    # rows of equal confidence are answered together
    assert display.coverage.tolist() == [0.2, 0.6, 0.8, 1.0]
    assert np.allclose(display.accuracy, [1, 2 / 3, 1 / 2, 3 / 5])
    assert np.allclose(display.accepted, (3 / 5, 2 / 3))
    assert np.allclose(
        display.table["share right"], [1, 1, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 0.5, 0.5, 0.6, 0.6]
    )


def test_residuals_of_true_predictions_are_centred():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=5000)
    display = ResidualsDisplay(predicted, predicted + rng.normal(size=5000), "dose")
    table = display.table
    assert table["rows"].tolist() == [500] * 10
    assert np.allclose(table["middle"], table["predicted"], atol=0.2)
    assert np.allclose(table["high"] - table["low"], 2 * 1.2816, atol=0.4)


def test_the_band_holds_nine_in_ten_where_all_is_as_said():
    rng = np.random.default_rng(0)
    said = np.linspace(0.5, 0.95, 200)
    seen = rng.binomial(80, said) / 80
    display = ReliabilityDisplay(pd.DataFrame({"said": said, "seen": seen, "rows": 80}))
    low, high = display.band
    assert 0.87 < ((low <= seen) & (seen <= high)).mean() < 0.98


def test_points_between_the_steps_of_a_column_are_no_slip_of_a_file():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.integers(18, 80, 200), "pay": rng.integers(900, 5000, 200)})
    model = JointDensity(family="naive_bayes").fit(X).model_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = field.evaluate(model, ("age", "pay"), [(10.0, 90.0), (800.0, 6e3)], 9, None)
    assert found.log_prob.shape == (9, 9) and np.isfinite(found.log_prob).all()
