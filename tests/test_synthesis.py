"""Synthetic tables: constraints that always hold, copies and planted rows that are found, measures
that know their controls.
"""

import json

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.cli import run
from conjoin.questions.constraints import MAX_VAIN_DRAWS
from conjoin.questions.synthetic.canaries import NO_MEMORY
from conjoin.questions.synthetic.quality import two_sample


def people(rows, seed):
    """Dependent columns of every kind: ages, years of work and of study, a shift of dates, a grade,
    gaps."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 70, rows)
    work = (rng.random(rows) * (age - 16)).astype(int)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), unit="D")
    frame = pd.DataFrame(
        {
            "age": age,
            "years_employed": work,
            "pay": np.round(work * 900.0 + rng.normal(2e4, 3e3, rows), 2),
        }
    )
    frame["job"] = np.where(rng.random(rows) < work / 50, "senior", "junior")
    frame["grade"] = pd.Categorical(
        np.array(["C", "B", "A"])[np.minimum(work // 15, 2)], ["C", "B", "A"], ordered=True
    )
    frame["start"] = start
    frame["end"] = start + pd.to_timedelta(rng.integers(-100, 900, rows), unit="D")
    return frame.mask(rng.random(frame.shape) < 0.03)


@pytest.fixture(scope="module")
def real():
    return people(800, 0)


@pytest.fixture(scope="module")
def density(real):
    # grade follows from years_employed; here it is a column like the others
    return JointDensity(family="mixture", types={"grade": {"relation": "none"}}).fit(real)


# -------------------------------------------------------------------------------------- constraints


def test_constraints_of_two_columns_always_hold(density):
    X, _ = density.sample(300, where=["age >= years_employed", "start <= end"], random_state=0)
    assert len(X) == 300
    assert (X["age"] >= X["years_employed"]).all() and (X["start"] <= X["end"]).all()
    assert 0.3 < X.attrs["acceptance"] < 1
    pd.testing.assert_frame_equal(
        X, density.sample(300, where=["age >= years_employed", "start <= end"], random_state=0)[0]
    )


def test_what_a_range_can_say_costs_no_draw(density):
    X, _ = density.sample(
        300, where=["40 < age", "age <= 50", "start < 2020-06-01", "job == senior", "grade >= B"]
    )
    assert (
        X["age"].between(41, 50).all()
        and (X["start"] < "2020-06-01").all()
        and set(X["job"]) == {"senior"}
    )
    assert set(X["grade"]) <= {"A", "B"}
    assert X.attrs["acceptance"] == 1
    both, _ = density.sample(200, given={"age": (None, 45)}, where="age > 40")
    assert both["age"].between(41, 45).all() and both.attrs["acceptance"] == 1


def test_rejection_draws_from_the_conditional():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.integers(0, 6, 3000), "b": rng.integers(0, 6, 3000)})
    model = JointDensity(family="naive_bayes").fit(table)
    free = model.sample(20_000)[0]
    kept = model.sample(5000, where="a < b", random_state=1)[0]
    wanted = free[free["a"] < free["b"]]
    assert kept.attrs["acceptance"] == pytest.approx(len(wanted) / len(free), abs=0.02)
    shares = [part.value_counts(normalize=True) for part in (wanted, kept)]
    assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.05


def test_every_row_keeps_its_own_label(real):
    model = JointClassifier(predictor=None, family="naive_bayes").fit(
        real.drop(columns="job"), real["job"]
    )
    asked = np.array(["senior", "junior"] * 50)
    X, y = model.sample(100, y=asked, where="age >= years_employed")
    assert (y == asked).all() and (
        X["age"].isna() | X["years_employed"].isna() | (X["age"] >= X["years_employed"])
    ).all()


def test_a_number_that_is_predicted_can_be_compared(real):
    clear = real.dropna(subset="pay")
    model = JointRegressor(predictor=None, family="naive_bayes").fit(
        clear[["age", "years_employed"]], clear["pay"]
    )
    X, y = model.sample(50, where=["pay >= 30000", "pay > age"])
    assert (y >= 30000).all() and (y > X["age"]).all()
    assert model.sample(0, where="pay > age")[1].shape == (0,)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("age > pay", "under the floor of 1 in 1,000"),
        ("age > salary", "'salary' is neither a column nor a number"),
        ("start > soon", "'soon' is neither a column nor a date"),
        ("job == boss", "nor one of junior, senior"),
        ("job < senior", "'job' \\(category\\) has no order"),
        ("age <= start", "'age' \\(integer\\) and 'start' \\(date\\) can't be compared"),
        ("wage < 3", "the columns are age, years_employed"),
        ("age", "COLUMN or CONSTANT"),
        ("grade > A", "No level of 'grade'"),
        (["age > 60", "age < 50"], "must not exceed"),
    ],
)
def test_what_cannot_be_kept_is_one_sentence(density, where, words):
    with pytest.raises(ValueError, match=words):
        density.sample(20, where=where)


def test_hopeless_wishes_end(density, monkeypatch):
    drawn = []
    own = density.model_.joint.sample
    monkeypatch.setattr(
        density.model_.joint, "sample", lambda n, **more: drawn.append(n) or own(n, **more)
    )
    with pytest.raises(ValueError, match="0 keep"):
        density.sample(5, where="years_employed > pay")
    assert sum(drawn) <= 2 * MAX_VAIN_DRAWS


# ------------------------------------------------------------------------------------------- copies


def test_planted_copies_are_found(real):
    holdout = people(400, 1)
    fresh = people(400, 2)
    honest = conjoin.copy_check(real, fresh, holdout)
    assert honest.nearer == pytest.approx(0.5, abs=0.06) and honest.nearer_train == pytest.approx(
        0.5, abs=0.08
    )
    assert honest.too_near < 0.1 and honest.copies == (0, 0)
    leaky = conjoin.copy_check(real, pd.concat([fresh.iloc[:200], real.iloc[:200]]), holdout)
    assert leaky.copies[0] == pytest.approx(0.5)
    assert leaky.nearer == pytest.approx(0.75, abs=0.05) and leaky.too_near > 0.5
    assert json.dumps(leaky.to_json())


def test_distances_know_missing_cells_categories_and_no_units():
    train = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": list("uvuv")})
    rows = pd.DataFrame({"a": [1.0, np.nan, 1.0, 9.0], "b": ["u", "v", "w", None]})
    found = conjoin.copy_check(train, rows, train)
    assert found.synthetic.tolist() == pytest.approx([0, 0.5, 0.5, (0.125 + 1) / 2])
    other = conjoin.copy_check(
        train.assign(a=train["a"] * 1e6),
        rows.assign(a=rows["a"] * 1e6),
        train.assign(a=train["a"] * 1e6),
    )
    assert other.synthetic.tolist() == found.synthetic.tolist()
    with pytest.raises(ValueError, match="synthetic table has no column 'b'"):
        conjoin.copy_check(train, rows[["a"]], train)
    with pytest.raises(ValueError, match="holdout table has no rows"):
        conjoin.copy_check(train, rows, train.iloc[:0])


class Fake:
    """A model of independent cells, which gives rows that it has by heart ``bonus`` nats, and draws
    them a tenth of the time."""

    def __init__(self, bonus=0.0):
        self.bonus = bonus

    def get_params(self, deep=True):
        return {"bonus": self.bonus}

    def set_params(self, **params):
        return self

    def fit(self, X, y=None):
        self.rows = X
        return self

    def score_samples(self, X):
        seen = X.apply(tuple, axis=1).isin(set(self.rows.apply(tuple, axis=1)))
        return np.random.default_rng(0).normal(size=len(X)) + self.bonus * seen.to_numpy()

    def sample(self, n, random_state=0):
        rng = np.random.default_rng(random_state + 1)
        cells = {
            name: self.rows[name].to_numpy()[rng.integers(len(self.rows), size=n)]
            for name in self.rows
        }
        return (self.rows.iloc[rng.permutation(n)] if self.bonus else pd.DataFrame(cells)), None


def test_exposure_is_high_by_heart_and_low_otherwise(real):
    numbers = real[["age", "years_employed", "pay"]].dropna()
    honest = conjoin.canary_audit(Fake(), numbers, canaries=60, references=500)
    assert honest.scored.mean() == pytest.approx(NO_MEMORY, abs=0.5) and honest.p_value > 0.05
    assert (
        honest.drawn.mean() == pytest.approx(NO_MEMORY, abs=0.5)
        and honest.made[0] <= honest.made[1] + 2
    )
    by_heart = conjoin.canary_audit(Fake(100.0), numbers, canaries=60, references=500)
    assert (
        by_heart.scored.mean() == pytest.approx(by_heart.most)
        and by_heart.gap > 90
        and by_heart.p_value < 1e-9
    )
    assert by_heart.made[0] == 60 and by_heart.drawn.mean() > 8
    assert json.dumps(by_heart.to_json())


def test_a_fit_is_audited(real):
    model = JointClassifier(predictor=None, family="naive_bayes")
    found = conjoin.canary_audit(
        model, real.drop(columns="job"), real["job"], canaries=10, references=200
    )
    assert found.scored.shape == (10,) and found.most == pytest.approx(np.log2(201))
    assert found.scored.mean() < 3  # twenty parameters have no room for ten rows
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        conjoin.canary_audit(model, real, repeats=0)


# ------------------------------------------------------------------------------------------ quality


def test_the_controls_behave(real):
    found = conjoin.quality(real, people(500, 3), people(500, 4), "job")
    table = found.table
    for name in ("synthetic", "real copy"):  # here the synthetic rows are as good as real ones
        assert table.at[name, "c2st"] > 0.85 and table.at[name, "mi_error"] < 0.06
        assert (
            table.at[name, "shape"] > 0.93
            and table.at[name, "trend"] > 0.9
            and table.at[name, "use"] > 0.6
        )
    alone = table.loc["independent columns"]
    assert alone["c2st"] < 0.25 and alone["mi_error"] > 0.2 and alone["use"] < 0.6
    assert alone["shape"] == pytest.approx(table.at["real copy", "shape"])  # the very same columns
    assert alone["trend"] < table.at["real copy", "trend"] - 0.03
    assert found.copies.nearer == pytest.approx(0.5, abs=0.06)
    assert json.dumps(found.to_json())


def test_what_tells_the_tables_apart_is_named(real):
    made = people(500, 3)
    made["pay"] = made["pay"].round(-4)
    found = conjoin.quality(real, made)
    assert found.copies is None and found.use == "" and "use" not in found.table
    assert found.tells[0][0] == "pay" and found.table.at["synthetic", "c2st"] < 0.8
    with pytest.raises(ValueError, match="no column 'wage' to be the target"):
        conjoin.quality(real, made, target="wage")
    with pytest.raises(ValueError, match="needs 40 rows"):
        conjoin.quality(real, made.iloc[:20])


def test_measures_by_hand():
    one = pd.DataFrame({"u": list("aabb") * 50, "v": list("aabb") * 50, "x": [0.0, 0, 1, 1] * 50})
    found = conjoin.quality(one, one.assign(v=list("abab") * 50, x=1.0)).table.loc["synthetic"]
    assert found["shape"] == pytest.approx(1 - 0.5 / 3, abs=0.02)  # only x is wrong, by half
    # three pairs of ln 2, and none left
    assert found["mi_error"] == pytest.approx(np.log(2), abs=0.03)
    assert found["trend"] == pytest.approx(0.5, abs=0.04)
    noise = np.random.default_rng(0).normal(size=(2, 300, 2))
    assert two_sample(*noise, np.zeros(2, bool), 0)[0] > 0.85
    assert two_sample(noise[0], noise[1] + 9, np.zeros(2, bool), 0)[0] < 0.05


# --------------------------------------------------------------------------------- the command line


def test_the_command_line(real, density, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    density.save("m")
    assert (
        run(
            [
                "sample",
                "m",
                "-n",
                "400",
                "--where",
                "age >= years_employed",
                "--where",
                "end >= start",
                "-o",
                "made.csv",
            ]
        )
        == 0
    )
    assert "of the rows drawn kept the constraints" in capsys.readouterr().out
    made = pd.read_csv("made.csv")
    assert (made["age"] >= made["years_employed"]).all()
    real.to_csv("real.csv", index=False)
    people(300, 9).to_csv("held.csv", index=False)
    assert run(["quality", "real.csv", "made.csv", "--holdout", "held.csv", "--target", "job"]) == 0
    said = capsys.readouterr().out
    assert (
        "real copy" in said
        and "AUC of job" in said
        and "no guarantee of privacy" in " ".join(said.split())
    )
    assert max(map(len, said.splitlines())) <= 80
    assert run(["quality", "real.csv", "made.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["table"]["real copy"]["c2st"] > 0.8
    assert run(["quality", "real.csv", "made.csv", "--target", "nothing"]) == 2
    assert "no column 'nothing'" in capsys.readouterr().err
