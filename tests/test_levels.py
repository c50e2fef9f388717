"""Categories of many levels: rare values are drawn as often as they are, can be asked for, and tell
y where their number pays."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

import conjoin
from conjoin.cli.words import given_of
from conjoin.codecs import TableCodec, inspect
from conjoin.core import Event, stream
from conjoin.predictors.level_statistics import (
    MAX_PRIOR_ROWS,
    crossed_statistics,
    level_statistics,
    targets_of,
)

CITIES = [f"city{i:04d}" for i in range(1000)]


def cities(rows=3000):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"city": rng.choice(CITIES, rows), "q": rng.poisson(5, rows)})


def distance(one, other):
    """Total variation of the shares of values."""
    shares = [part.value_counts(normalize=True) for part in (one, other)]
    return 0.5 * shares[0].sub(shares[1], fill_value=0).abs().sum()


@pytest.fixture(scope="module")
def of_cities():
    table = cities()
    return table, conjoin.JointDensity(family="naive_bayes").fit(table)


# ------------------------------------------------------------ rare levels


def test_rare_values_are_drawn_as_often_as_they_are(of_cities):
    table, model = of_cities
    drawn = model.sample(3000, random_state=1)[0]
    chance = [
        distance(table.city.sample(3000, replace=True, random_state=k), table.city)
        for k in range(10)
    ]
    assert distance(drawn.city, table.city) <= np.mean(chance) + 0.05
    assert drawn.equals(model.sample(3000, random_state=1)[0])
    assert not drawn.equals(model.sample(3000, random_state=2)[0])


def test_imputed_cells_are_as_many_values_as_there_are(of_cities):
    table, model = of_cities
    holed = table.head(300).assign(city=None)
    for filled in (model.impute(holed), model.impute(holed, n_draws=1)[0]):
        assert filled.city.nunique() > 150


def test_every_value_of_the_table_can_be_asked_for(of_cities):
    table, model = of_cities
    for city in ["city0500", *table.city.unique()[::40]]:
        assert model.sample(3, given={"city": city})[0].city.tolist() == [city] * 3
    column = model.model_.codec.schema["city"]
    assert column.held_out  # some were asked for that no row which taught has
    late = column.held_out[0]
    assert model.sample(2, given={"city": late})[0].city.tolist() == [late] * 2
    assert model.sample(2, where=f"city == {late}")[0].city.tolist() == [late] * 2
    text = given_of([f"city={late}"], model.model_.codec.schema)
    assert text == {"city": late}
    with pytest.raises(ValueError, match=r"\(\d+ in all\) or one of \d+ rare values"):
        model.sample(1, given={"city": "nowhere"})


def test_several_values_asked_for_come_as_often_as_they_are(of_cities):
    _, model = of_cities
    column = model.model_.codec.schema["city"]
    rare = list(column.pooled[:2])
    drawn = model.sample(400, given={"city": rare}, random_state=0)[0].city
    assert set(drawn) == set(rare)
    counts = column.pooled_counts[:2]
    assert (drawn == rare[0]).mean() == pytest.approx(counts[0] / sum(counts), abs=0.1)
    own = column.levels[0]
    mixed = model.sample(400, given={"city": [own, rare[0]]}, random_state=0)[0].city
    log_p = model.score_samples(pd.DataFrame({"city": [own, rare[0]], "q": [5, 5]}))
    share = 1 / (1 + math.exp(log_p[1] - log_p[0]))
    assert set(mixed) == {own, rare[0]}
    assert (mixed == own).mean() == pytest.approx(share, abs=0.1)


def test_the_probabilities_of_all_values_sum_to_what_was_not_kept_for_unseen_ones(of_cities):
    _, model = of_cities
    codec = model.model_.codec
    column = codec.schema["city"]
    known = [*column.levels[:-1], *column.pooled]
    each = model.score_samples(pd.DataFrame({"city": known, "q": [5] * len(known)}))
    whole = model.score_samples(pd.DataFrame({"city": [None], "q": [5]}))
    seen = 1 - codec._cells[0].eps
    assert np.exp(each).sum() == pytest.approx(seen * np.exp(whole[0]), rel=1e-6)


def test_familiarity_knows_no_rare_value_from_another(of_cities):
    _, model = of_cities
    fitted = model.model_
    column = fitted.codec.schema["city"]
    two = pd.DataFrame({"city": [column.pooled[0], column.pooled[-1]], "q": [5, 5]})
    statistic = fitted.statistic(fitted.encode(two))
    assert statistic[0] == statistic[1]


def test_a_saved_model_draws_the_same_values(of_cities, tmp_path):
    _, model = of_cities
    model.save(tmp_path / "m")
    again = conjoin.load(tmp_path / "m")
    assert again.sample(200, random_state=3)[0].equals(model.sample(200, random_state=3)[0])
    assert "pooled_counts" not in inspect(pd.DataFrame({"a": list("xyz") * 9})).to_json()["columns"]


def test_rare_values_have_no_name_of_one_of_them(of_cities):
    _, model = of_cities
    column = model.model_.codec.schema["city"]
    words = f"{len(column.pooled)} rare values together"
    assert words in column.describe()
    assert words == column.level_words(len(column.levels) - 1)
    assert "are drawn by their frequency" in model.model_.codec.notices[0]


def test_a_value_that_is_called_rare_itself_is_one_of_them():
    cells = ["(rare)"] * 50 + [f"v{i}" for i in range(200)] + ["common"] * 60
    codec = TableCodec().fit(pd.DataFrame({"c": cells, "x": np.arange(len(cells)) % 7}))
    column = codec.schema["c"]
    assert column.levels == ("common", "(rare)")
    assert column.pooled[0] == "(rare)"
    rows = Event(torch.tensor([[1.0, 0.0]]).repeat(2000, 1).double())
    drawn = codec.drawn(rows, stream(0))["c"]
    assert (drawn == "(rare)").mean() == pytest.approx(50 / 250, abs=0.03)


# ------------------------------------------------------------ many levels


def branches(count=300, each=20, seed=0):
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(count), each)
    rng.shuffle(place)
    y = (place % 2) ^ (rng.random(len(place)) < 0.05)
    names = np.array([f"b{i:04d}" for i in range(count)])
    return pd.DataFrame({"branch": names[place], "q": rng.poisson(5, len(place))}), y.astype(int)


def test_three_hundred_branches_tell_y_by_default():
    X, y = branches()
    new, truth = branches(seed=1)
    model = conjoin.JointClassifier().fit(X, y)
    assert (model.predict(new) == truth).mean() >= 0.93


@pytest.mark.parametrize("predictor", ["linear", "boosting", RandomForestClassifier(50)], ids=str)
def test_predictors_see_what_levels_say(predictor, tmp_path):
    X, y = branches(100)
    X.loc[::17, "branch"] = None
    new, truth = branches(100, seed=1)
    model = conjoin.JointClassifier(family="naive_bayes", predictor=predictor).fit(X, y)
    assert (model.predict(new) == truth).mean() >= 0.9
    if isinstance(predictor, str):
        scorer = model.model_.pair.separate_predictor.scorer
        assert scorer.design.matrix(model.model_.encode(new).event).shape[1] <= 4
        model.save(tmp_path / "m")
        assert np.array_equal(conjoin.load(tmp_path / "m").predict(new), model.predict(new))


def test_levels_that_differ_by_chance_alone_say_nothing():
    rng = np.random.default_rng(0)
    codes = torch.tensor(rng.integers(0, 200, 3000))
    y = torch.tensor((rng.random(3000) < 0.3).astype(float))
    ones = torch.ones(3000, dtype=torch.float64)
    found = level_statistics(codes, targets_of(y, 2), ones, 200, shares=True)
    assert found.abs().max() < 0.5
    crossed = crossed_statistics(codes, targets_of(y, 2), ones, 200, True, seed=0)
    assert abs(np.corrcoef(crossed[:, 0], y)[0, 1]) < 0.06


def test_what_a_level_says_by_hand():
    codes = torch.tensor([0, 0, 1, 1])
    y = torch.tensor([1.0, 3.0, 5.0, 7.0])
    ones = torch.ones(4, dtype=torch.float64)
    # within 2, between (16 - 2) / (4 - 2) = 7, so that a is 2 / 7, and at least 1
    found = level_statistics(codes, y[:, None].double(), ones, 3, shares=False)
    assert found[:, 0].tolist() == pytest.approx([-2 * 2 / 3, 2 * 2 / 3, 0.0])
    twice = level_statistics(codes, y[:, None].double(), 2 * ones, 3, shares=False)
    rows = torch.cat([codes, codes]), torch.cat([y, y])[:, None].double()
    assert torch.allclose(
        twice, level_statistics(rows[0], rows[1], torch.ones(8).double(), 3, shares=False)
    )
    assert targets_of(torch.tensor([0.0, 2.0]), 3).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert MAX_PRIOR_ROWS > 1e5


# ------------------------------------------------------------ does it know the answer?


def decided(y, leak):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"a": rng.normal(size=len(y)).round(2), "leak": leak})
    return frame.assign(b=rng.integers(0, 4, len(y)))


def notices(model):
    return [text for text in model.model_.notices if "know the answer" in text]


def test_a_column_that_alone_decides_y_is_named():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    words = np.array(["paid", "late", "lost"])[y]
    for leak in (words, y * 10 + rng.integers(0, 5, 300)):
        model = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(
            decided(y, leak), pd.Series(y, name="state")
        )
        (text,) = notices(model)
        assert text.startswith("Column 'leak' alone tells 'state' in 100.0 % of rows")
    noisy = np.where(rng.random(300) < 0.2, rng.integers(0, 3, 300), y)
    model = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(decided(y, noisy), y)
    assert notices(model) == []


def test_a_column_that_is_the_number_is_named():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    frame = decided(y, (y * 1.2 + 3).round(4))
    model = conjoin.JointRegressor(family="mixture", predictor=None).fit(frame, y)
    (text,) = notices(model)
    assert text.startswith("Column 'leak' alone tells 'y' up to ")
    frame["leak"] = y + rng.normal(size=300)
    model = conjoin.JointRegressor(family="mixture", predictor=None).fit(frame, y)
    assert notices(model) == []


def test_check_names_a_column_that_alone_decides_the_target(tmp_path, monkeypatch, capsys):
    from conjoin.cli import run

    monkeypatch.chdir(tmp_path)
    y = np.random.default_rng(0).integers(0, 2, 200)
    table = decided(y, np.where(y == 1, "boat", "none")).assign(y=np.where(y == 1, "yes", "no"))
    table.to_csv("t.csv", index=False)
    assert run(["check", "t.csv", "--target", "y"]) == 0
    said = "".join(capsys.readouterr())
    assert "'leak' alone tells 'y'" in " ".join(said.split())
