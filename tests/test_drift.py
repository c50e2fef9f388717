"""Two tables beside each other: planted changes are found and named, none is found where there is
none, and the bets are fair.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency, kstest

import conjoin
from conjoin.cli import run
from conjoin.core import Event
from conjoin.questions.drift.betting import conformal_ranks, simple_jumper
from conjoin.questions.drift.tests import (
    column_tests,
    end_p_value,
    holm,
    ks_p_value,
    pair_tests,
)
from conjoin.questions.drift.writing import in_numbers


def table(seed, rows=300, slope=0.6, shift=0.0, share=0.3):
    """Two numbers that hang together, a word, and small whole numbers."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    other = slope * z + np.sqrt(1 - slope**2) * rng.normal(size=rows)
    return pd.DataFrame(
        {
            "a": z + shift,
            "b": other,
            "c": np.where(rng.random(rows) < share, "u", "v"),
            "d": rng.integers(0, 5, rows),
        }
    )


def found(a, b, **options):
    return conjoin.drift(a, b, family="naive_bayes", **options)


def test_pictures_are_set_aside():
    a, b = (table(seed).assign(scan=[np.zeros((8, 8), dtype=np.uint8)] * 300) for seed in (0, 1))
    drift = found(a, b)
    assert "scan" not in drift.columns["column"].tolist() and any(
        "'scan' holds pictures" in notice for notice in drift.notices
    )
    said = found(
        a,
        b,
        types={"scan": {"type": "picture"}, "d": {"type": "category"}},
        missing={"scan": ["?"]},
    )
    assert set(said.columns["column"]) == {"a", "b", "c", "d"}


def test_names_of_files_may_be_words():
    a, b = (table(seed).assign(file=[f"x{row % 3}.png" for row in range(300)]) for seed in (0, 1))
    assert "file" in found(a, b, types={"file": {"type": "category"}}).columns["column"].tolist()


# ----------------------------------------------------------------------------------------- no drift


def test_halves_of_one_table_give_no_more_alarms_than_asked():
    level = 0.2
    runs = 25
    alarms = []
    for seed in range(runs):
        whole = table(seed, 240)
        whole.loc[::7, "a"] = np.nan
        drift = found(whole[:120], whole[120:], level=level, random_state=seed)
        alarms.append((drift.drifted, drift.running.row is not None))
    assert (np.sum(alarms, axis=0) <= runs * level + 2 * np.sqrt(runs * level * (1 - level))).all()


def test_repeated_rows_are_no_drift():
    whole = pd.concat([table(0, 100)[["c", "d"]]] * 6).sample(frac=1, random_state=0)
    assert not found(whole[:300], whole[300:]).drifted


# ---------------------------------------------------------------------------------- planted changes


def test_a_shifted_column_is_named():
    drift = found(table(0), table(1, shift=1))
    assert drift.drifted
    assert drift.columns.set_index("column")["p_value"].lt(0.01).to_dict() == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
    }
    assert "Column 'a': median" in str(drift)


def test_a_level_whose_share_changed_is_named():
    drift = found(table(0), table(1, share=0.6))
    assert drift.columns["p_value"].idxmin() == 2
    assert any(text.startswith("Column 'c': u ") for text in drift.words())


def test_a_pair_that_hangs_together_in_another_way_is_named():
    drift = conjoin.drift(table(0), table(1, slope=-0.6))
    assert drift.columns["p_value"].min() > 0.05
    first = drift.pairs.sort_values("p_value").iloc[0]
    assert (first["first"], first["second"]) == ("a", "b")
    assert first["before"] > 0.3
    assert first["after"] < -0.3
    assert drift.pairs["p_value"].lt(0.05).sum() == 1
    assert "hang together in another way" in str(drift)
    assert set(drift.columns.loc[drift.columns["p_given_others"] < 0.01, "column"]) == {"a", "b"}


def test_cells_that_go_missing_and_levels_never_seen_are_named():
    a = table(0)
    b = table(1)
    b.loc[::3, "b"] = np.nan
    b.loc[::4, "c"] = "w"
    drift = found(a, b)
    assert set(drift.columns.loc[drift.columns["p_value"] < 0.01, "column"]) == {"b", "c"}
    assert "0% missing -> 33% missing" in str(drift)


def test_the_alarm_of_a_stream_comes_after_the_change_and_names_the_column():
    drift = found(table(0, 600), pd.concat([table(1, 200), table(2, 200, shift=1.5)]), level=0.01)
    assert 200 < drift.running.row < 320
    assert drift.running.what == "a"
    assert drift.running.p_value < 0.01
    assert np.all(np.diff(drift.running.log_capital) >= 0)


def test_columns_of_one_table_alone_and_those_set_aside_are_told():
    drift = found(table(0).assign(e=1), table(1).assign(e=1, f=2))
    assert any("Only the second table has f" in text for text in drift.words())
    assert any("'e' was set aside" in text for text in drift.words())
    alone = found(table(0)[["a"]], table(1, shift=1)[["a"]])
    assert alone.drifted
    assert alone.pairs.empty


@pytest.mark.parametrize(
    ("a", "b", "options", "words"),
    [
        (
            table(0),
            table(1)[["c"]].rename(columns={"c": "x"}),
            {},
            "no column in common; the first has a, b, c, d",
        ),
        (table(0), table(1, 5), {}, "at least 20 rows in each table; the second has 5"),
        (table(0), table(1), {"level": 2}, "level must lie between 0 and 1, got 2"),
    ],
)
def test_mistakes_are_one_sentence(a, b, options, words):
    with pytest.raises(ValueError, match=words):
        found(a, b, **options)


# ----------------------------------------------------------------------------- the tests themselves


def test_holm_by_hand():
    assert holm(np.array([0.04, 0.01, 0.03])).tolist() == [0.06, 0.03, 0.06]
    assert holm(np.array([])).tolist() == []


def test_one_column_of_levels_is_the_usual_chi_square():
    counts = np.array([[30, 50, 20], [45, 35, 20]])
    a, b = (Event(torch.tensor(np.repeat([0.0, 1.0, 2.0], row))[:, None]) for row in counts)
    assert column_tests(a, b, [True]).item() == pytest.approx(
        chi2_contingency(counts, correction=False).pvalue
    )
    assert ks_p_value(np.array([]), np.ones(3)) == 1.0
    assert ks_p_value(np.array([-np.inf] * 50), np.ones(50)) < 1e-6


def test_the_pair_test_is_blind_to_columns_that_change_alone():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        sides = []
        for shares in ((0.5, 0.5), (0.3, 0.7)):  # the odds ratio is 4 in both
            cells = np.outer(shares, (0.4, 0.6)) * np.array([[2.0, 1.0], [1.0, 2.0]])
            drawn = rng.choice(4, 400, p=cells.ravel() / cells.sum())
            sides.append(
                Event(torch.tensor(np.stack([drawn // 2, drawn % 2], 1), dtype=torch.float64))
            )
        p_values.append(pair_tests(*sides, [True, True])["p_value"].item())
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_conformal_ranks_are_uniform_also_with_ties():
    rng = np.random.default_rng(0)
    ranks = conformal_ranks(rng.integers(0, 3, 200), rng.integers(0, 3, 2000), rng)
    assert kstest(ranks, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 0.06


def test_bets_on_nothing_are_fair():
    rng = np.random.default_rng(0)
    capital = np.array([simple_jumper(rng.random(200)) for _ in range(400)])
    assert np.exp(capital[:, 20]).mean() == pytest.approx(1, abs=0.1)
    assert (capital.max(1) >= np.log(10)).mean() <= 0.1
    assert simple_jumper(np.full(200, 0.9))[-1] > np.log(100)


# --------------------------------------------------------------------------------- the command line


def said(line):
    """The exit code of one command line."""
    return run(line.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(0).to_csv("a.csv", index=False)
    table(1, shift=1).to_csv("b.csv", index=False)
    return tmp_path


def test_the_verb_tells_and_speaks_json(here, capsys):
    assert said("drift a.csv b.csv --family nb") == 0
    text = capsys.readouterr().out
    assert "The tables differ" in text
    assert "median" in text
    assert said("drift a.csv b.csv --family nb --json -q") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["drifted"]
    assert answer["columns"][0]["column"] == "a"
    assert answer["running"]["row"] > 1
    assert said("drift a.csv b.csv --level 3") == 2
    assert "level must lie between 0 and 1" in capsys.readouterr().err


def test_the_verb_adapt_writes_a_model(here, capsys):
    assert said("fit a.csv --target c --family nb --predictor none -o m -q") == 0
    table(2, share=0.7).drop(columns="c").to_csv("new.csv", index=False)
    assert said("adapt m new.csv -o m2") == 0
    text = capsys.readouterr().out
    assert "new share" in text
    assert "The shares" in text
    assert said("adapt m new.csv -o m2") == 2
    assert "exists" in capsys.readouterr().err
    assert said("adapt m new.csv -o m2 --force --density --json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["labels"] == ["u", "v"]
    assert sum(answer["new"]) == pytest.approx(1)
    assert said("info m2") == 0
    assert "adapted" in capsys.readouterr().out


# ------------------------------------------------------------------------------- the cause is named


def test_missing_cells_of_a_category_are_named():
    a = table(0)
    b = table(1)
    b.loc[::3, "c"] = None
    drift = found(a, b)
    row = drift.columns.set_index("column").loc["c"]
    assert (row["before"], row["after"]) == ("0% missing", "33% missing")


def test_a_new_level_is_named_also_where_its_rows_are_few():
    a = table(0)
    b = table(1)
    b.loc[::4, "c"] = "w"
    drift = found(a, b)
    row = drift.columns.set_index("column").loc["c"]
    assert (row["before"], row["after"]) == ("w 0.0%", "w 25.0%, a new level")
    few = table(1)
    few.loc[:3, "c"] = "w"
    words = found(a, few).words()
    assert "Column 'c' has a value that the first table has not: w, in 4 rows." in words
    assert not any("'d' has a value" in text for text in words)


def test_a_few_impossible_numbers_are_named():
    a = table(0).assign(age=np.random.default_rng(5).integers(18, 90, 300))
    b = table(1).assign(age=np.random.default_rng(6).integers(18, 90, 300))
    assert not any("unlike any" in text for text in found(a, b).words())
    b.loc[:4, "age"] = [-3, 999, 999, 999, 999]
    words = " ".join(found(a, b).words())
    assert (
        "Column 'age' has values unlike any of the first table (18 to 89): -3, 999, in 5" in words
    )
    b.loc[:19, "age"] = 999
    drift = found(a, b)
    row = drift.columns.set_index("column").loc["age"]
    assert row["p_value"] < 0.01
    assert row["after"] == "from 18 to 999"


def test_a_pool_is_named_as_many_values():
    rng = np.random.default_rng(0)

    def colours(rare):
        some = rng.random(400) < rare
        names = np.array([f"tint{i:03d}" for i in range(150)])[rng.integers(0, 150, 400)]
        return pd.DataFrame({"c": np.where(some, names, "teal"), "x": rng.normal(size=400)})

    row = found(colours(0.2), colours(0.6)).columns.set_index("column").loc["c"]
    assert "rare values together" in row["after"] or row["after"].startswith("teal")
    assert not row["after"].startswith("tint")


def test_runs_at_an_end_are_as_rare_as_chance_has_them():
    rng = np.random.default_rng(0)
    p_values = np.array(
        [end_p_value(rng.integers(0, 50, 60), rng.integers(0, 50, 90)) for _ in range(2000)]
    )
    for level in (0.05, 0.01):
        assert (p_values <= level).mean() <= level + 3 * np.sqrt(level / 2000)
    assert end_p_value(np.arange(50.0), np.arange(50.0)) == 1.0
    assert end_p_value(np.array([]), np.ones(3)) == 1.0


@pytest.mark.parametrize(
    ("write", "way"),
    [
        (lambda x: f"{x:,.0f} USD", "in USD, ',' between thousands"),
        (round, "plain numbers"),
        (lambda x: f"${x:,.0f}", ""),
    ],
)
def test_a_column_that_both_tables_write_in_their_own_way_is_compared_by_its_numbers(write, way):
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(10, 1, (2, 60))).round()
    q = rng.poisson(4, 60)
    a = pd.DataFrame({"p": [f"${x:,.0f}" for x in values[0]], "q": q})
    b = pd.DataFrame({"p": [write(x) for x in values[1]], "q": q})
    first, second, told = in_numbers(a, b, None, ())
    if not way:
        assert first is a and second is b and told == []
        return
    assert first["p"].tolist() == values[0].tolist() and second["p"].tolist() == values[1].tolist()
    assert told == [
        "Column 'p' is not written alike in both tables (in $, ',' between thousands; then "
        f"{way}): its numbers are compared, whatever their unit."
    ]
