"""y of several columns: one density over all of them and x; missing and censored cells of y."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointRegressor
from conjoin.core import Event, Space, Variable, stream
from conjoin.families import resolve
from conjoin.fitting.several import ABLE
from conjoin.model.censored import TargetColumn, read_columns
from conjoin.model.several import encode_targets, rows_of
from conjoin.model.targets import Number

RATES = {"false_alarm": 0.05, "max_error": 0.2}


def table(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.choice(list("uvw"), rows)})
    size = 2 * X["a"] + 0.5 * rng.normal(size=rows)
    kind = np.where(size + 0.3 * rng.normal(size=rows) > 0, "large", "small").astype(object)
    state = np.where((X["b"] == "u") ^ (rng.random(rows) < 0.03), "on", "off").astype(object)
    Y = pd.DataFrame({"kind": kind, "size": size, "state": state})
    Y.loc[::7, "kind"] = None
    Y.loc[3::11, "size"] = np.nan
    return X, Y


@pytest.fixture(scope="module")
def data():
    return table()


@pytest.fixture(scope="module")
def fitted(data):
    return JointClassifier(family="mixture").fit(*data)


def test_every_answer_is_for_each_target_and_for_all(fitted, data):
    X, Y = data
    guess = fitted.predict(X)
    assert list(guess) == ["kind", "size", "state"] and guess.index.equals(X.index)
    assert {name: each.shape for name, each in fitted.predict_proba(X).items()} == {
        "kind": (len(X), 2),
        "state": (len(X), 2),
    }
    table = fitted.decide(X, **RATES)
    assert set(table.columns.get_level_values(0)) == {"kind", "size", "state", "all"}
    together = table["all"]["verdict"] == "accept"
    assert 0.2 < together.mean() < 1
    wrong = ~(guess[["kind", "state"]] == Y[["kind", "state"]]).all(axis=1)
    known = Y["kind"].notna()
    assert wrong[known & together].mean() < 0.25
    found = fitted.evaluate(X, Y, **RATES)
    assert found["targets"]["state"]["accuracy"] > 0.8 and 0.5 < found["all"]["all_right"] < 1
    assert list(fitted.classes_) == ["kind", "state"]


def full(model, columns, X):
    x = model.codec.encode(model.codec.rows(X)).event
    return rows_of(encode_targets(model.targets, columns), x)


def test_the_answer_about_one_target_is_the_sum_over_the_others(fitted, data):
    X, Y = data
    X = X.iloc[:20]
    model = fitted.model_
    row = full(model, [each.take(np.arange(20)) for each in read_columns(Y)], X)
    value, mask = row.value.clone(), row.mask.clone()
    mask[:, :3] = torch.tensor([True, False, True])
    each = []
    for state in (0.0, 1.0):
        value[:, 0], value[:, 2] = 1.0, state
        each.append(model.density.log_prob(Event(value.clone(), mask)))
    x = Event(row.value[:, 3:], row.mask[:, 3:])
    joint = model.view("kind").pair.log_joint(x)
    assert torch.allclose(joint[:, 1], torch.logsumexp(torch.stack(each), 0), atol=1e-9)
    views = (model.view("kind"), model.view("state"))
    evidence = [view.pair.log_joint(x).logsumexp(1) for view in views]
    assert torch.allclose(*evidence, atol=1e-9)
    assert torch.allclose(evidence[0], model.view("size").log_evidence(x), atol=1e-9)


def test_a_missing_cell_of_y_is_summed_out(fitted, data):
    X, Y = data
    X, Y = X.iloc[:20], Y.iloc[:20].copy()
    model = fitted.model_
    Y["size"], Y["state"], Y["kind"] = np.nan, None, "small"
    Y["size"] = pd.Series([1.0] + [np.nan] * 19)
    Y.loc[0, "state"] = "on"
    columns = read_columns(Y)
    encoded = model.view("kind").encode(X)
    alone = fitted.predict_log_proba(X)["kind"][:, list(fitted.classes_["kind"]).index("small")]
    told = model.log_prob(columns, encoded).numpy()
    assert np.allclose(told[1:], alone[1:], atol=1e-9) and not np.isclose(told[0], alone[0])


def test_a_censored_number_counts_by_the_mass_between_its_bounds(fitted, data):
    X, _ = data
    model = fitted.model_
    encoded = model.view("size").encode(X.iloc[:3])
    low, high = -0.5, 1.25
    Y = pd.DataFrame({"kind": [None] * 3, "size": [(low, high)] * 3, "state": [None] * 3})
    Y.loc[0, "kind"] = "small"
    Y.loc[1, "state"] = "on"
    mass = model.log_prob(with_targets(Y), encoded).exp().numpy()
    points = np.linspace(low, high, 4001)
    for row in range(3):
        density = [
            model.log_prob(
                with_targets(Y.iloc[[row] * 400].assign(size=part)), several(encoded, row, 400)
            )
            for part in np.array_split(points[:4000], 10)
        ]
        integral = float(torch.cat(density).exp().sum()) * (points[1] - points[0])
        assert np.isclose(integral, mass[row], rtol=2e-3)


def with_targets(Y):
    """All columns, also where only missing cells are left."""
    labels = {"kind": "small", "state": "on"}
    columns = []
    for name, cells in Y.items():
        known = cells.notna().to_numpy()
        if name == "size":
            columns += read_columns(cells.to_frame())
        else:
            columns.append(TargetColumn(name, np.where(known, cells, labels[name]), known))
    return columns


def several(encoded, row, count):
    index = torch.full((count,), row)
    return encoded._replace(
        event=encoded.event.take(index),
        unseen=encoded.unseen[index],
        log_unseen=encoded.log_unseen[index],
        log_volume=encoded.log_volume[index],
    )


def test_saved_and_loaded_it_answers_the_same(fitted, data, tmp_path):
    X, _ = data
    folder = fitted.save(tmp_path / "model")
    again = conjoin.load(folder)
    assert again.predict(X).equals(fitted.predict(X))
    assert again.decide(X, **RATES).equals(fitted.decide(X, **RATES))
    assert again.save(tmp_path / "again") and (
        (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    )


def test_one_target_is_asked_as_any_model_is(fitted, data):
    X, _ = data
    one = fitted.for_target("size")
    assert isinstance(one, JointRegressor) and one.predict_quantiles(X.iloc[:3]).shape == (3, 3)
    kind = fitted.for_target("kind")
    drawn, labels = kind.sample(50, y="large", random_state=1)
    assert set(labels) == {"large"} and drawn["a"].mean() > 0.3
    rows, targets = fitted.sample(5)
    assert len(rows) == 5 and list(targets) == ["kind", "size", "state"]


def test_bounds_teach_what_lies_beyond_them():
    X, Y = table(900, seed=1)
    Y = Y[["kind", "size"]].copy()
    beyond = (Y["size"] > 1.5).to_numpy()
    truth = Y["size"].to_numpy().copy()
    told = Y["size"].astype(object)
    told[beyond] = ">1.5"
    capped = Y["size"].clip(upper=1.5)
    model, naive = (
        JointRegressor(family="mixture").fit(X, Y.assign(size=column)) for column in (told, capped)
    )
    error, worse = (
        np.sqrt(np.mean((each.predict(X)["size"].to_numpy() - truth)[beyond] ** 2))
        for each in (model, naive)
    )
    assert error < worse
    held = X, Y.assign(size=told)
    losses = [each.evaluate(*held, **RATES)["all"]["log_loss"] for each in (model, naive)]
    assert losses[0] < losses[1] - 0.1


@pytest.mark.parametrize("name", ABLE)
def test_the_families_that_can_sum_the_others_out_exactly(name):
    space = Space((2,), (Variable("a", "category", 2), Variable("b", "real")))
    config = resolve(name)
    rows = Event(torch.tensor([[0.0, 0.1], [1.0, -0.3], [0.0, 1.2], [1.0, 0.4]]).double())
    density = config.density.build(space, config, rows, stream(0), weight=torch.ones(4).double())
    assert density.capabilities.missing == "exact" and density.capabilities.regions
    assert density.capabilities.conditionals == "any" and not config.density.conditional


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("cell", "low", "high"),
    [(">10", 10, np.inf), ("<= 5", -np.inf, 5), ((1, 2), 1, 2), ((None, 3), -np.inf, 3)],
)
def test_bounds_are_read(cell, low, high):
    column = read_columns(pd.DataFrame({"n": pd.Series([1.5, cell, None], dtype=object)}))[0]
    assert column.known.tolist() == [True, False, False]
    assert column.censored.tolist() == [False, True, False]
    assert (column.low[1], column.high[1]) == (low, high)


def test_a_recorded_number_that_is_excluded_is_half_a_step_away():
    Y = pd.DataFrame({"n": pd.Series([1, 2, ">2", ">=2"], dtype=object)})
    target = Number("n", 0.0, 1.0, 1.0)
    low = encode_targets((target,), read_columns(Y)).within.low[:, 0]
    assert low.tolist() == [-np.inf, -np.inf, 2.5, 2.0]


@pytest.mark.parametrize(
    ("change", "settings", "sentence"),
    [
        ({"size": "much"}, {}, r"target 'size' has 'much' in row 0: a cell is a number"),
        ({"size": [(2, 1)]}, {}, r"target 'size' has \(2, 1\) in row 0"),
        ({}, {"family": "vae"}, r"vae does not: choose one of circuit, mixture, bayes_net"),
        ({}, {"predictor": "linear"}, r"predictor='linear' is for one target"),
        ({"kind": None}, {}, r"target 'kind' has no value in any row"),
    ],
)
def test_bad_input_is_a_sentence(data, change, settings, sentence):
    X, Y = data
    Y = Y.astype(object).copy()
    for name, value in change.items():
        Y[name] = (
            [*value, *Y[name].iloc[1:]]
            if isinstance(value, list)
            else (value if value is None else [value, *Y[name].iloc[1:]])
        )
    with pytest.raises(ValueError, match=sentence):
        JointClassifier(**{"family": "mixture", **settings}).fit(X, Y)


def test_questions_about_one_target_say_how_to_ask(fitted, data):
    with pytest.raises(ValueError, match=r"several targets \('kind', .*for_target\(name\)"):
        fitted.impute(data[0])
    with pytest.raises(ValueError, match=r"no target 'colour'; choose from kind, size, state"):
        fitted.for_target("colour")


def test_the_report_tells_all_together_and_each(fitted, data, tmp_path):
    X, Y = data
    path = fitted.report(tmp_path / "report.html", X.iloc[:150], Y.iloc[:150])
    text = path.read_text(encoding="utf-8")
    assert "All targets together" in text and text.count("<iframe") == 3
    outside = text.split("<iframe")[0]
    assert "prefers-color-scheme: dark" in outside and "width=device-width" in outside
    assert "log-loss of all that is known" in outside
