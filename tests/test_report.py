"""The report and the model card: their sections, what they keep to themselves, and that names are
harmless.
"""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.model.card import model_card
from conjoin.model.words import energy_words, limits
from conjoin.plot import SamplesDisplay
from conjoin.report import write_report
from conjoin.report.prediction import column_worth, confusion
from conjoin.report.sections import Answers, seen, unlike

SENTINEL = 123.456789
# however it is rounded; figures have coordinates much like it
SHOWN = re.compile(r"(?<![\d.])123\.(46|457|4568|45679|456789)(?!\d)")
SECRET = "patient-4711"
EVIL = "<script>alert('x')</script>"
SECTIONS = {
    "first",
    "prediction",
    "likelihood",
    "promises",
    "samples",
    "imputation",
    "synthetic",
    "counterfactual",
    "predictor",
    "energy",
    "limits",
    "columns",
}


def table(rows=420, seed=0):
    """Numbers, categories, gaps, a name with markup, and an identifier that must stay at home."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    frame = pd.DataFrame(
        {
            EVIL: rng.normal(y * 2.5),
            "size $": np.round(rng.normal(50 + 10 * y, 6), 6),
            "age": rng.integers(20, 80, rows),
        }
    )
    frame["smoker"] = np.where(rng.uniform(size=rows) < 0.3 + 0.3 * y, "yes", "no")
    frame["ward|*"] = [f"{SECRET}-{place}-{seed}" for place in range(rows)]
    frame.loc[rng.choice(rows, 40, replace=False), "age"] = np.nan
    frame.loc[rng.choice(rows, 30, replace=False), "smoker"] = None
    return frame, pd.Series(np.where(y == 1, "ill<b>", "well"), name="state & <i>")


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.ids = set()
        self.links = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        if tag == "section":
            self.ids.add(named.get("id"))
        self.links += [
            value
            for key, value in attributes
            if key in ("src", "href", "xlink:href", "action") and value
        ]


@pytest.fixture(scope="module")
def classifier():
    X, y = table()
    X.loc[7, "size $"] = SENTINEL
    return JointClassifier(family="mixture").fit(X, y)


@pytest.fixture(scope="module")
def written(classifier, tmp_path_factory):
    X, y = table(150, seed=1)
    X.loc[3, "size $"] = SENTINEL
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    assert classifier.report(path, X, y) == path
    return path


def test_every_section_is_there(written):
    assert Reader(written.read_text(encoding="utf-8")).ids == SECTIONS
    assert [file.name for file in written.parent.iterdir()] == ["report.html"]


def test_it_says_what_was_asked_for(written):
    text = written.read_text(encoding="utf-8")
    for words in (
        "Accuracy",
        "AUC",
        "Log-loss",
        "Calibration error",
        "nats per row",
        "accepted with a wrong answer",
        "kWh",
        "brain",
        "mass",
    ):
        assert words in text
    assert text.count("<svg") == 5 == text.count("The numbers of this figure")


def test_no_script_and_nothing_from_elsewhere(written):
    reader = Reader(written.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "embed", "i", "img"} & set(reader.tags)
    assert all(link.startswith(("data:", "#")) for link in reader.links)
    assert "default-src 'none'" in written.read_text(encoding="utf-8")


def test_names_are_text(written):
    text = written.read_text(encoding="utf-8")
    assert EVIL not in text and "ill<b>" not in text
    assert "&lt;script&gt;" in text and "ill&lt;b&gt;" in text


def test_no_real_row_unless_asked(classifier, written, tmp_path):
    text = written.read_text(encoding="utf-8")
    assert not SHOWN.search(text) and SECRET not in text
    X, y = table(150, seed=1)
    X.loc[0, "size $"] = SENTINEL
    shown = classifier.report(tmp_path / "rows.html", X, y, show_rows=True).read_text(
        encoding="utf-8"
    )
    assert SHOWN.search(shown)
    reader = Reader(shown)
    assert reader.ids == SECTIONS | {"flagged"} and "is far from the usual" in shown
    assert {link[1:] for link in reader.links if link.startswith("#")} >= reader.ids - {"first"}


def test_without_rows_it_is_about_the_model(classifier, tmp_path):
    text = classifier.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert Reader(text).ids == SECTIONS
    assert "held out at the fit" in text and not SHOWN.search(text) and SECRET not in text


def test_a_regressor(tmp_path):
    X, _ = table()
    y = pd.Series(
        np.round(X[EVIL] * 3 + np.random.default_rng(5).normal(size=len(X)), 2), name="dose"
    )
    model = JointRegressor(None, family="mixture").fit(X[:300], y[:300])
    text = model.report(tmp_path / "r.html", X[300:], y[300:]).read_text(encoding="utf-8")
    assert Reader(text).ids == SECTIONS
    assert "CRPS" in text and "Values outside their interval" in text
    assert "Values against predictions" in text


def test_rates_that_are_asked_agree_with_evaluate(classifier, tmp_path):
    X, y = table(150, seed=1)
    rates = {"false_alarm": 0.1, "max_error": 0.2}
    text = classifier.report(tmp_path / "r.html", X, y, **rates).read_text(encoding="utf-8")
    found = classifier.evaluate(X, y, **rates)
    part = text[text.index('id="promises"') : text.index('id="samples"')]
    assert "at most 10 %" in part and "at most 20 %" in part
    assert f"{round(found['false_alarm_got'] * 150)} of 150" in part
    assert f"{100 * found['error_among_accepted']:.1f} %" in part
    with pytest.raises(ValueError, match="calibration rows"):
        classifier.decide(X, false_alarm=1e-4)
    text = classifier.report(tmp_path / "r.html", X, y, false_alarm=1e-4).read_text("utf-8")
    assert "No rate was measured: " in text and "9999 calibration rows" in text


def test_the_interval_of_a_rate_is_the_exact_one():
    assert seen(0, 0)[0] == "none"
    share, interval, rows = seen(0, 59)  # 1 - .025 ** (1 / 59)
    assert (share, interval, rows) == ("0.0 %", "0.0 % to 6.1 %", "0 of 59")


def test_what_was_guessed_of_each_class(classifier, tmp_path):
    X, y = table(150, seed=1)
    text = classifier.report(tmp_path / "r.html", X, y).read_text(encoding="utf-8")
    found = confusion(Answers(classifier, X, y))
    guess = classifier.predict(X)
    for name, counts in found["rows"]:
        assert counts == [int(((y == name) & (guess == each)).sum()) for each in found["classes"]]
    assert "guessed well" in text and "guessed ill&lt;b&gt;" in text


def test_a_column_that_tells_nothing_is_worth_nothing(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    X = pd.DataFrame({"tells": rng.normal(3 * y), "noise": rng.normal(size=400)})
    model = JointClassifier(None, family="mixture").fit(X[:300], y[:300])
    worth = {
        name: (float(a), float(b))
        for name, a, b in column_worth(Answers(model, X[300:], y[300:]))["rows"]
    }
    assert min(worth["tells"]) > 0.3 and max(map(abs, worth["noise"])) < 0.1


def test_dates_are_drawn_as_dates():
    days = pd.date_range("2020-01-01", periods=300)
    X = pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "a": np.arange(300) % 7})
    display = SamplesDisplay.from_estimator(JointDensity(family="mixture").fit(X), X)
    words = display.table.set_index("column").loc["day", "real"]
    assert words == "2020-05-29 (2020-01-30 to 2020-09-26)"
    ax = display.axes_[list(display.drawn).index("day")]
    ax.figure.canvas.draw()
    assert any(
        "2020" in text.get_text() or "Jul" in text.get_text() for text in ax.get_xticklabels()
    )


def test_a_density(tmp_path):
    X, _ = table()
    model = JointDensity(family="mixture").fit(X[:300])
    text = model.report(tmp_path / "r.html", X[300:]).read_text(encoding="utf-8")
    assert Reader(text).ids == SECTIONS - {"prediction", "counterfactual", "predictor"}


def test_few_rows_promise_nothing(tmp_path):
    X, y = table(40)
    model = JointClassifier(None, family="naive_bayes").fit(X, y)
    text = model.report(tmp_path / "r.html", X, y).read_text(encoding="utf-8")
    assert "nothing is promised" in text and "No rate was measured" in text


def test_a_table_without_numbers_has_no_plane(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    X = pd.DataFrame(
        {
            "a": np.where(rng.uniform(size=300) < 0.2 + 0.6 * y, "u", "v"),
            "b": rng.choice(["p", "q", "r"], 300),
        }
    )
    model = JointClassifier(None, family="naive_bayes").fit(X, y)
    text = model.report(tmp_path / "r.html", X, y).read_text(encoding="utf-8")
    assert "needs two columns of numbers" in text


def test_cases_stand_on_the_first_screen(classifier, tmp_path):
    cases = pd.DataFrame(
        {
            "case": ["1 <odd>"],
            "boosting": ["well 99 %"],
            "verdict": ["unfamiliar"],
            "answer": [""],
            "reason": ["a & b"],
        }
    )
    text = write_report(
        classifier, tmp_path / "r.html", cases=cases, notes=["Said <so>."]
    ).read_text(encoding="utf-8")
    first = text[text.index('id="first"') : text.index('id="prediction"')]
    assert (
        "1 &lt;odd&gt;" in first
        and '<span class="verdict unfamiliar">' in first
        and "a &amp; b" in first
        and "Said &lt;so&gt;." in first
    )


def test_without_matplotlib_it_goes_without_figures(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = classifier.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "conjoin[plot]" in text and "<svg" not in text


def test_an_unfitted_model_writes_nothing(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        JointClassifier().report(tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------- the card


def test_the_card_tells_of_data_model_promises_limits_energy(classifier):
    card = model_card(classifier.model_)
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == [
        "Data",
        "Model",
        "Metrics",
        "Promises",
        "Limits",
        "Energy",
        "Columns",
    ]
    assert classifier.model_.facts["data_sha256"] in card
    for words in ("log-loss", "False alarms", "kWh", "brain", "nats"):
        assert words in card


def test_the_card_holds_no_row_and_no_markup(classifier):
    card = model_card(classifier.model_)
    assert not SHOWN.search(card) and SECRET not in card
    assert "<script>" not in card and "&lt;script&gt;" in card and r"ward\|\*" in card
    table_rows = [line for line in card.splitlines() if line.startswith("| ") and "ward" in line]
    assert len(table_rows) == 1 and len(re.findall(r"(?<!\\)\|", table_rows[0])) == 7


def test_the_card_is_the_readme_of_a_saved_folder(classifier, tmp_path):
    folder = classifier.save(tmp_path / "model")
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(classifier.model_)


def test_energy_in_brain_time():
    facts = {
        "kwh": 0.25,
        "low": 0.1,
        "high": 0.5,
        "method": "guess",
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "brain_days": 0.5,
    }
    assert (
        energy_words(facts)[1]
        == "50 % of a brain's day (0.5 kWh); a human brain runs 12 hours on it"
    )
    assert energy_words({}) == ("not measured", "")


def test_limits_are_sentences(classifier):
    assert all(sentence.endswith(".") for sentence in limits(classifier.model_))


# ------------------------------------------------------------------- rows that are not like the fit


def place(rows, seed, turned=0.0):
    """Two classes far apart; a share of the labels is ``turned``."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    X = pd.DataFrame({"a": rng.normal(4 * y, 1), "b": rng.normal(0, 1, rows)})
    return X, np.where(rng.random(rows) < turned, 1 - y, y)


def test_more_errors_than_promised_beyond_chance_are_told(tmp_path):
    model = JointClassifier(family="naive_bayes", predictor=None).fit(*place(600, 0))
    like = model.evaluate(*place(400, 1), max_error=0.1)
    assert "unlike_fit" not in like and like["error_among_accepted"] < 0.1
    X, y = place(400, 2, turned=0.3)
    other = model.evaluate(X, y, max_error=0.1)
    wrong, accepted = re.search(r"them: ([\d,]+) of ([\d,]+) acc", other["unlike_fit"]).groups()
    assert int(wrong) / int(accepted) == pytest.approx(other["error_among_accepted"])
    assert "where at most 10.0% were promised" in other["unlike_fit"]
    assert "Calibrate anew" in other["unlike_fit"]
    by_class = model.evaluate(X, y, max_error={1: 0.05})
    assert "rows of 1 are wrong" in by_class["unlike_fit"]
    model.report(tmp_path / "other.html", X, y)
    page = (tmp_path / "other.html").read_text(encoding="utf-8")
    assert page.index('id="unlike"') < page.index("<main>")
    headline = re.search("<h1>(.*)</h1>", page)[1]
    assert headline == "These rows are not like those of the fit; the promises are void."
    assert "This model predicts" in page[: page.index("<main>")]
    model.report(tmp_path / "like.html", *place(400, 1))
    page = (tmp_path / "like.html").read_text(encoding="utf-8")
    assert 'id="unlike"' not in page and "<h1>This model predicts" in page


def test_more_unfamiliar_rows_than_promised_are_told_without_labels():
    """Rows moved away, of which no label is known; a density knows of no labels at all."""
    X, y = place(600, 0)
    moved, _ = place(400, 3)
    moved["b"] += 1.5
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    told = model.evaluate(moved)["unlike_fit"]
    found = re.search(r"them: ([\d,]+) of 400 rows are called unfamiliar", told)
    share = int(found[1]) / 400
    assert share == pytest.approx((model.decide(moved)["verdict"] == "unfamiliar").mean())
    assert "where at most 5.0% of those like the fit would be" in told
    assert unlike(Answers(model, moved, None)).startswith(
        "These rows are not like those of the fit"
    )
    alone = JointDensity(family="naive_bayes").fit(X)
    assert "Calibrate anew with ones from" in alone.evaluate(moved)["unlike_fit"]
    assert "unlike_fit" not in alone.evaluate(place(400, 1)[0])


def test_more_numbers_outside_their_interval_than_promised_are_told():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=900)})
    y = X["a"].to_numpy() + rng.normal(0, 0.3, 900)
    model = JointRegressor(family="mixture", predictor=None).fit(X[:600], y[:600])
    assert "unlike_fit" not in model.evaluate(X[600:], y[600:])
    told = model.evaluate(X[600:], y[600:] + 1)["unlike_fit"]
    assert "of 300 values lie outside their interval" in told


def test_alarms_beyond_those_of_a_threshold_from_few_rows_are_no_chance():
    """99 held-out rows, one in twenty: the threshold is the fifth of them, and the share of rows
    under it is Beta(5, 95). Numbers from 400,000 simulations."""
    from conjoin.questions.unlike import _beyond_rank

    rng = np.random.default_rng(0)
    counts = rng.binomial(200, rng.beta(5, 95, 400_000))
    for bad in (10, 20, 25):
        seen = (counts >= bad).mean()
        assert _beyond_rank(bad, 200, 0.05, 99) == pytest.approx(seen, abs=0.003)
    assert _beyond_rank(0, 200, 0.05, 99) == _beyond_rank(3, 200, 0.05, 10) == 1.0


def test_few_errors_more_than_promised_are_chance():
    """Three of forty where one in twenty was promised: the binomial test has p = .32."""
    from conjoin.questions.unlike import _at_least

    assert _at_least(3, 40, 0.05) == pytest.approx(0.3233, abs=1e-4)
    assert _at_least(0, 0, 0.05) == 1.0
    assert _at_least(12, 40, 0.05) < 1e-6
