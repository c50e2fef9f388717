"""Exact relations between columns: found in the rows of a fit, told, and kept by every answer."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, datasets
from conjoin.codecs.table import Schema, TableCodec, inspect

ROWS = 1200
DAY = pd.Timedelta(days=1)


def made(kind, rows=ROWS, seed=0):
    """A table with one relation, and y."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    start = pd.Timestamp("2024-01-01") + rng.integers(0, 365, rows) * DAY
    stay = rng.integers(0, 10, rows)
    score = rng.normal(y, 1)
    if kind == "ratio":
        net = np.round(rng.lognormal(4 + 0.3 * y, 0.6), 2)
        return pd.DataFrame({"score": score, "net": net, "gross": np.round(1.2 * net, 2)}), y
    if kind == "sum":
        a, b, c = (rng.poisson(mean, rows) for mean in (5, 20, 8))
        return pd.DataFrame({"a": a + y, "b": b, "c": c, "total": a + y + b + c}), y
    if kind == "days":
        days = stay + 3 * y
        return pd.DataFrame(
            {"start": start, "days": days, "end": start + days * DAY, "s": score}
        ), y
    if kind == "stay":
        return pd.DataFrame({"start": start, "end": start + stay * DAY, "score": score}), y
    city = rng.integers(0, 40, rows)
    names = {"city": [f"city{i:02d}" for i in city], "country": [f"land{i % 6}" for i in city]}
    return pd.DataFrame({**names, "score": score}), y


def kept(kind, frame):
    """(B,) which rows keep the relation of the made table."""
    if kind == "ratio":
        return np.abs(frame["gross"] - 1.2 * frame["net"]) <= 0.005001
    if kind == "sum":
        return frame["total"] == frame["a"] + frame["b"] + frame["c"]
    if kind == "days":
        return frame["end"] == frame["start"] + pd.to_timedelta(frame["days"], unit="D")
    if kind == "stay":
        return (frame["end"] - frame["start"]).between(0 * DAY, 9 * DAY)
    place = frame["city"].str[4:].astype(int) % 6
    return frame["country"] == "land" + place.astype(str)


RULES = {
    "ratio": "Column 'gross' is 1.2 times net in all 1,200 rows looked at",
    "sum": "Column 'total' is a + b + c in all 1,200 rows looked at",
    "days": "Column 'end' is start + days in all 1,200 rows looked at",
    "stay": "Column 'end' is start + 0 to 9 days in all 1,200 rows looked at",
    "city": "Column 'country' is determined by city (40 values) in all 1,200 rows looked at",
}
each_kind = pytest.mark.parametrize("kind", RULES)


@pytest.fixture(scope="module")
def models():
    """A fitted classifier of each made table, by its kind."""
    found = {}
    for kind in RULES:
        X, y = made(kind)
        found[kind] = JointClassifier(random_state=0).fit(X, y)
    return found


@each_kind
def test_found_on_a_made_table_and_told(kind):
    X, _ = made(kind)
    (told,) = inspect(X).notices
    assert told.startswith(RULES[kind])
    assert re.search(r"say types=\{'\w+': \{'relation': 'none'\}\}\.$", told)


def known_tables():
    return [name for name in datasets.names() if name != "digits"]


# what really holds in them: a code of customers' types and of groups of types, years of education,
# and lines of those who have no telephone
REAL = {"adult": ["education_num"], "caravan": ["MOSHOOFD"], "telco_churn": ["phone_service"]}


def test_none_found_where_there_is_none():
    found = {}
    for name in known_tables():
        X, _ = datasets.load(name).xy()
        names = [one["name"] for one in inspect(X).relations]
        found |= {name: names} if names else {}
    assert found == {name: REAL[name] for name in REAL if name in known_tables()}


def test_none_found_in_noise():
    """Columns that go together closely, or that are coarse, follow from nothing."""
    rng = np.random.default_rng(1)
    base = rng.normal(50, 10, 500)
    frame = pd.DataFrame({"near": base, "twice": 2 * base + rng.normal(0, 0.01, 500)})
    frame["rounded"] = base.round() + rng.integers(0, 2, 500)
    frame["coarse"] = rng.integers(0, 3, 500)
    frame["id"] = [f"p{i}" for i in rng.permutation(500) // 2]
    frame["sex"] = rng.choice(["m", "f"], 500)
    assert inspect(frame).relations == ()


@each_kind
def test_draws_keep_it(models, kind):
    X, _ = models[kind].sample(2000, random_state=1)
    assert list(X.columns) == list(made(kind)[0].columns)
    assert X.dtypes.equals(made(kind)[0].dtypes)
    assert kept(kind, X).mean() == 1.0


@each_kind
def test_counterfactuals_keep_it(models, kind):
    X, y = made(kind)
    found = models[kind].counterfactual(X[y == 0].head(6), to=1)
    changed = found[found["probability"].notna()]
    assert len(changed)
    assert kept(kind, changed).all()


def test_a_counterfactual_moves_net_and_gross_together(models):
    X, y = made("ratio")
    found = models["ratio"].counterfactual(X[y == 0].head(6), to=1, keep=["score"])
    changed = found[found["probability"].notna()]
    assert changed["changed"].str.fullmatch(r"net [\d.]+ -> [\d.]+; gross [\d.]+ -> [\d.]+").all()
    stays = models["ratio"].counterfactual(X[y == 0].head(6), to=1, keep=["gross"])
    assert not stays["changed"].str.contains("net").any()


BREAKS = {
    "ratio": ("gross", lambda X: X["gross"] + 1, "gross is not 1.2 times net"),
    "sum": ("total", lambda X: X["total"] + 1, "total is not a + b + c"),
    "days": ("end", lambda X: X["end"] + DAY, "end is not start + days"),
    "stay": ("end", lambda X: X["start"] - 2 * DAY, "end is 2 days before start"),
    "city": ("city", lambda X: ["city00"] * len(X), "does not go with city city00"),
}


@each_kind
def test_a_row_that_breaks_it_is_unfamiliar_with_that_as_its_reason(models, kind):
    X = made(kind)[0]
    X = X[X["country"] != "land0"] if kind == "city" else X
    name, change, reason = BREAKS[kind]
    found = models[kind].decide(X.head(8).assign(**{name: change(X.head(8))}))
    assert (found["verdict"] == "unfamiliar").all()
    assert found["reason"].str.contains(reason, regex=False).all()
    assert np.isfinite(found["log_prob"]).all()
    assert (found["familiarity"] == found["familiarity"].min()).all()


@each_kind
def test_rows_like_those_of_the_fit_are_familiar(models, kind):
    X, _ = made(kind, seed=7)
    found = models[kind].decide(X.head(400))
    assert (found["verdict"] == "unfamiliar").mean() < 0.1


LOST = [
    ("ratio", "net"),
    ("ratio", "gross"),
    ("sum", "b"),
    ("sum", "total"),
    ("days", "start"),
    ("days", "days"),
    ("days", "end"),
    ("city", "country"),
]


@pytest.mark.parametrize(("kind", "name"), LOST)
def test_a_missing_cell_is_what_the_others_say(models, kind, name):
    X = made(kind)[0].head(40)
    filled = models[kind].impute(X.assign(**{name: X[name].astype(object).where(X.index < 0)}))
    assert (filled[name] == X[name]).all()


def test_a_missing_cell_that_follows_costs_nothing(models):
    """p(net, gross) = p(net) 1[gross = 1.2 net]; by gross alone, in its own units."""
    X = made("ratio")[0].head(40)
    model = models["ratio"]
    whole = model.score_samples(X)
    held = np.log1p(-1 / (model.model_.codec._relations.each[0].rows + 2))
    for name in ("net", "gross"):
        assert np.allclose(model.score_samples(X.assign(**{name: np.nan})) + held, whole)
    proba = model.predict_proba(X)
    assert np.array_equal(model.predict_proba(X.drop(columns="gross")), proba)
    with warnings.catch_warnings():  # a column that follows from others is not lacking
        warnings.simplefilter("error")
        assert np.array_equal(model.predict_proba(X.drop(columns="net")), proba)


def test_a_missing_start_keeps_the_stay_short(models):
    X = made("stay")[0].head(100)
    for column in ("start", "end"):
        gaps = X.assign(**{column: pd.NaT})
        for filled in (models["stay"].impute(gaps), *models["stay"].impute(gaps, n_draws=2)):
            assert kept("stay", filled).all()
            other = "end" if column == "start" else "start"
            assert (filled[other] == X[other]).all()


def test_missing_parts_make_up_a_known_sum(models):
    X = made("sum")[0].head(60)
    gaps = X.astype(float).assign(a=np.nan, b=np.nan)
    for filled in (models["sum"].impute(gaps), *models["sum"].impute(gaps, n_draws=2)):
        assert kept("sum", filled).all()
        assert (filled["total"] == X["total"]).all()
        assert (filled["a"] == filled["a"].round()).all()


def test_a_missing_city_lies_in_the_known_country(models):
    X = made("city")[0].head(200)
    filled = models["city"].impute(X.assign(city=None), n_draws=1)[0]
    assert kept("city", filled).all()
    assert (filled["country"] == X["country"]).all()
    assert filled["city"].nunique() > 20


def test_what_is_given_is_drawn(models):
    X, _ = models["ratio"].sample(20, given={"gross": 120.0})
    assert set(X["net"]) == {100.0} and set(X["gross"]) == {120.0}
    X, _ = models["city"].sample(200, given={"country": "land3"})
    assert set(X["country"]) == {"land3"} and kept("city", X).all()
    X, _ = models["city"].sample(200, given={"country": ["land3", "land4"]})
    assert set(X["country"]) == {"land3", "land4"} and kept("city", X).all()
    X, _ = models["sum"].sample(20, given={"total": 40, "a": 6, "b": 20})
    assert set(X["c"]) == {14}
    X, _ = models["stay"].sample(20, where="end >= 2024-12-20")
    assert (X["end"] >= "2024-12-20").all() and kept("stay", X).all()
    X, _ = models["ratio"].sample(20, where="gross <= 60")
    assert (X["gross"] <= 60).all() and kept("ratio", X).all()


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("sum", {"total": 40}, "'total', which is a \\+ b \\+ c: give values of all but one of"),
        ("ratio", {"gross": (10, 20)}, "'gross', which is 1.2 times net"),
        ("ratio", {"gross": 120.0, "net": 1.0}, "contradicts .*: gross is not 1.2 times net"),
        ("stay", {"end": "2024-03-01"}, "give values of both 'start' and 'end'"),
        ("city", {"city": "city00", "country": "land1"}, "does not go with city city00"),
    ],
)
def test_what_cannot_be_given_is_refused(models, kind, given, words):
    with pytest.raises(ValueError, match=words):
        models[kind].sample(3, given=given)


@each_kind
def test_a_saved_model_gives_the_same_answers(models, kind, tmp_path):
    models[kind].save(tmp_path / "model")
    loaded = conjoin.load(tmp_path / "model")
    X = made(kind)[0].head(20)
    assert np.array_equal(loaded.score_samples(X), models[kind].score_samples(X))
    pd.testing.assert_frame_equal(
        loaded.sample(20, random_state=0)[0], models[kind].sample(20, random_state=0)[0]
    )
    assert loaded.model_.codec.to_json() == models[kind].model_.codec.to_json()
    assert loaded.model_.codec.to_json()["format"] == 2


def test_a_table_without_relations_is_saved_as_before():
    data = TableCodec().fit(made("ratio")[0][["score", "net"]]).to_json()
    assert data["format"] == 1
    assert "relations" not in data["schema"]


@each_kind
def test_switched_off(kind):
    X, _ = made(kind)
    (one,) = inspect(X).relations
    plain = inspect(X, types={one["name"]: {"relation": "none"}})
    assert plain.relations == ()
    assert [column.role for column in plain.columns] == ["model"] * X.shape[1]


def test_a_schema_states_its_relations(tmp_path):
    X, _ = made("ratio")
    found = inspect(X)
    found.save(tmp_path / "schema.json")
    again = inspect(X, types=tmp_path / "schema.json")
    assert again.relations == found.relations
    edited = Schema(found.columns, relations=())
    assert inspect(X, types=edited).relations == ()


def test_stated_by_the_user():
    X, _ = made("ratio")
    X["gross"] = np.round(X["gross"])  # too coarse to be found
    X["net"] = np.round(X["net"])
    asked = {"gross": {"relation": {"net": 1.2}}}
    (one,) = inspect(X.assign(gross=np.round(1.2 * X["net"])), types=asked).relations
    assert (one["factors"], one["of"]) == ([1.2], ["net"])
    with pytest.raises(ValueError, match=r"follow from \['net'\], but .* of 1,200 rows"):
        inspect(X.assign(gross=X["net"] ** 2), types=asked)
    with pytest.raises(ValueError, match="follow from 'nett', which is not another column"):
        inspect(X, types={"gross": {"relation": {"nett": 1.2}}})


def test_exceptions_are_told_and_unfamiliar():
    X, _ = made("ratio", rows=3000)
    X.loc[[5, 500], "gross"] += 7
    (told,) = inspect(X).notices
    assert "in all but 2 of 3,000 rows" in told
    model = JointDensity(random_state=0).fit(X)
    assert (model.decide(X.loc[[5, 500]])["verdict"] == "unfamiliar").all()
    assert kept("ratio", model.sample(500)[0]).all()


def test_several_relations_at_once():
    rng = np.random.default_rng(3)
    frame = made("sum")[0].join(made("city", seed=1)[0].drop(columns="score"))
    frame["celsius"] = np.round(rng.normal(15, 8, ROWS), 1)
    frame["fahrenheit"] = np.round(1.8 * frame["celsius"] + 32, 2)
    frame["copy"] = frame["celsius"]
    frame["continent"] = (
        frame["country"].isin(["land0", "land1"]).map({True: "east", False: "west"})
    )
    found = {one["name"]: one for one in inspect(frame).relations}
    assert set(found) == {"total", "country", "continent", "fahrenheit", "copy"}
    assert found["continent"]["of"] == ["country"]
    assert found["fahrenheit"]["constant"] == 32
    X, _ = JointDensity(random_state=0).fit(frame).sample(300)
    assert kept("sum", X).all() and kept("city", X).all()
    assert (X["copy"] == X["celsius"]).all()
    assert np.allclose(X["fahrenheit"], 1.8 * X["celsius"] + 32, atol=0.0051)
    assert (X["country"].isin(["land0", "land1"]) == (X["continent"] == "east")).all()


def test_missing_cells_do_not_hide_a_relation():
    X, _ = made("sum")
    rng = np.random.default_rng(5)
    gone = rng.random((ROWS, 4)) < 0.1
    (one,) = inspect(X.astype(float).mask(gone)).relations
    assert (one["name"], sorted(one["of"]), one["broken"]) == ("total", ["a", "b", "c"], 0)


def test_numbers_of_full_precision_and_single():
    rng = np.random.default_rng(6)
    kg = rng.normal(70, 10, 400)
    frame = pd.DataFrame({"kg": kg, "lb": kg * 2.2046226218, "z": rng.normal(size=400)})
    (one,) = inspect(frame).relations
    assert one["name"] == "lb" and np.isclose(one["factors"][0], 2.2046226218, rtol=1e-12)
    (one,) = inspect(frame.astype("float32")).relations
    assert one["name"] == "lb"


def test_density_in_units_of_the_column_that_was_told():
    """p(gross) = p(net) / 1.2 where numbers have a density."""
    rng = np.random.default_rng(8)
    net = rng.normal(50, 9, 600)
    frame = pd.DataFrame({"net": net, "gross": 1.2 * net, "z": rng.normal(size=600)})
    codec = TableCodec(measure="density").fit(frame)
    by_net, by_gross = (codec.encode(frame[[name, "z"]].head(9)) for name in ("net", "gross"))
    assert torch.allclose(by_net.event.value, by_gross.event.value)
    assert torch.allclose(by_net.log_volume - by_gross.log_volume, torch.tensor(1.2).double().log())


def test_pictures_and_strings_beside_related_columns():
    X, _ = made("ratio", rows=300)
    rng = np.random.default_rng(0)
    X["smiles"] = rng.choice(["CCO", "CC", "CCN"], 300)
    model = JointDensity(types={"smiles": "text"}, random_state=0).fit(X)
    drawn, _ = model.sample(50)
    assert kept("ratio", drawn).all() and list(drawn.columns) == ["score", "net", "gross", "smiles"]
    broken = model.decide(X.head(2).assign(gross=1.0))
    assert (broken["verdict"] == "unfamiliar").all()
    assert broken["reason"].str.startswith("gross is not 1.2 times net").all()
    assert (model.impute(X.head(5).assign(net=np.nan))["net"] == X["net"].head(5)).all()


def test_informative_missing_cells_beside_a_relation():
    X, y = made("ratio")
    X["score"] = X["score"].where(np.random.default_rng(0).random(ROWS) > 0.2)
    X["net"] = X["net"].where(np.random.default_rng(1).random(ROWS) > 0.1)
    model = JointClassifier(missingness="informative", random_state=0).fit(X, y)
    drawn, _ = model.sample(300)
    known = drawn.dropna(subset=["net", "gross"])
    assert len(known) > 200 and kept("ratio", known).all()


@pytest.mark.parametrize("family", ["flow", "gaussian", "bayes_net"])
def test_other_families_keep_it(family):
    X, _ = made("ratio", rows=400)
    model = JointDensity(family=family, max_time=20, random_state=0).fit(X)
    assert kept("ratio", model.sample(200)[0]).all()


def test_the_search_is_bounded():
    """300 columns of numbers and 300 of levels at most, and it says so."""
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(400, 310)), columns=[f"x{i}" for i in range(310)])
    (told,) = inspect(wide).notices
    assert "among the first 300 columns of numbers" in told


def test_what_holds_within_the_rounding_by_chance_is_no_relation():
    """cost / 849 is the stay but for some hours, which days can't tell; age has no part in it."""
    draw = np.random.default_rng(0)
    stay = draw.geometric(0.25, 400)
    start = pd.Timestamp("2023-01-01") + pd.to_timedelta(draw.integers(0, 365, 400), unit="D")
    X = pd.DataFrame(
        {
            "admission": start,
            "discharge": start + pd.to_timedelta(stay, unit="D"),
            "age": draw.integers(20, 90, 400),
            "cost": (850 * stay + draw.normal(500, 100, 400)).round(2),
            "stay": stay,
        }
    )
    model = JointDensity(family="mixture", random_state=0).fit(X)
    found = model.model_.codec.schema.relations
    assert [(one["name"], set(one["of"])) for one in found] == [
        ("discharge", {"admission", "stay"})
    ]
    drawn = model.sample(200, random_state=0)[0]
    assert ((drawn["discharge"] - drawn["admission"]).dt.days == drawn["stay"]).all()
    gone = X.assign(age=np.nan)
    assert model.impute(gone)["age"].between(20, 89).all()
    assert (model.decide(gone)["verdict"] == "unfamiliar").mean() < 0.15


def of_cities(n=1200):
    draw = np.random.default_rng(1)
    city = draw.choice(["Paris", "Lyon", "Rom", "Bern"], n, p=[0.3, 0.2, 0.3, 0.2])
    land = {"Paris": "FR", "Lyon": "FR", "Rom": "IT", "Bern": "CH"}
    return pd.DataFrame(
        {"city": city, "land": [land[each] for each in city], "q": draw.normal(size=n)}
    )


def test_what_is_asked_of_a_determined_column_has_the_shares_of_its_keys():
    model = JointDensity(family="naive_bayes", random_state=0).fit(of_cities())
    drawn = model.sample(3000, given={"land": "FR"}, random_state=0)[0]
    assert set(drawn["land"]) == {"FR"}
    assert abs((drawn["city"] == "Paris").mean() - 0.6) < 0.05
    drawn = model.sample(50, given={"land": "FR", "city": ["Bern", "Lyon"]}, random_state=0)[0]
    assert set(drawn["city"]) == {"Lyon"}
    with pytest.raises(ValueError, match="land FR does not go with city Bern"):
        model.sample(3, given={"city": "Bern", "land": "FR"})
    with pytest.raises(ValueError, match="never go together"):
        model.sample(3, given={"city": "Bern", "land": ["FR", "IT"]})


def test_shares_that_add_up_do_so_in_draws_and_stay_within_their_range():
    draw = np.random.default_rng(0)
    P = np.round(draw.dirichlet([1, 1, 1], 600) * 100)
    P[:, 2] = 100 - P[:, 0] - P[:, 1]
    X = pd.DataFrame(P[(P >= 0).all(1)].astype(int), columns=list("abc"))
    model = JointDensity(family="naive_bayes", random_state=0).fit(X)
    drawn = model.sample(500, random_state=0)[0]
    assert (drawn.sum(axis=1) == 100).all()
    assert (drawn >= 0).all(axis=1).mean() > 0.98


def test_names_that_are_numbers_and_columns_that_are_not_there():
    draw = np.random.default_rng(2)
    a, b = draw.lognormal(3, 0.5, 300).round(2), draw.lognormal(2, 0.5, 300).round(2)
    X = pd.DataFrame({0: a, 1: b, 2: (a + b).round(2)})
    model = JointClassifier(family="naive_bayes", random_state=0).fit(X, a > 20)
    odd = X.head(3).copy()
    odd.loc[0, 0] = np.nan
    odd.loc[0, 2] = 9000.0
    assert "far from the usual" in model.decide(odd, max_error=0.3)["reason"].iloc[0]
    found = model.counterfactual(X.head(2).drop(columns=2), to=None)
    assert len(found) >= 2
