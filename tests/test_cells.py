"""Cells, targets and names of columns as files have them: nothing is read otherwise in silence."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from conjoin import CellWarning, JointClassifier, JointDensity, load
from conjoin.cli import run
from conjoin.codecs import Schema, TableCodec, inspect
from conjoin.codecs.table import read_table

ROWS = 60


def rng(seed=0):
    return np.random.default_rng(seed)


def comma(value, places):
    return f"{value:.{places}f}".replace(".", ",")


def in_file(folder, columns, separator=";"):
    path = folder / "table.csv"
    pd.DataFrame(columns).to_csv(path, sep=separator, index=False)
    return path


def numbers_of(codec, frame, name):
    """A column as the codec reads it, in its own units."""
    place = codec.columns.index(name)
    cells = codec._cells[place]
    return codec.encode(frame).event.value[:, place].numpy() * cells.scale + cells.shift


# ---------------------------------------------------------------------- points and decimal commas


def thousands(seed=1):
    return [f"{v // 1000}.{v % 1000:03d}" for v in rng(seed).integers(1001, 99_000, ROWS)]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_points_group_thousands_in_a_file_with_decimal_commas(tmp_path, separator):
    words = thousands()
    columns = {"a": [comma(v, 1) for v in rng().uniform(0, 99, ROWS)], "b": words}
    frame = read_table(in_file(tmp_path, columns, separator))[0]
    codec = TableCodec().fit(frame)
    read = numbers_of(codec, frame, "b")
    np.testing.assert_allclose(read, [float(word.replace(".", "")) for word in words])
    told = " ".join(codec.notices)
    assert "'b' has a point that is taken to group thousands, as other columns have a decimal" in told
    assert "say types={'b': {'parse': 'decimal point'}}" in told
    other = TableCodec(types={"b": {"parse": "decimal point"}}).fit(frame)
    np.testing.assert_allclose(numbers_of(other, frame, "b"), [float(word) for word in words])


def test_a_point_among_both_marks_is_told_as_ambiguous(tmp_path):
    columns = {
        "a": [comma(v, 1) for v in rng().uniform(0, 99, ROWS)],
        "b": thousands(),
        "c": [f"{v:.1f}" for v in rng(2).uniform(0, 99, ROWS)],
    }
    found = inspect(read_table(in_file(tmp_path, columns))[0])
    told = " ".join(found.doubts)
    assert "Column 'b' has a point that is taken as the decimal mark; if it groups" in told


def test_points_with_other_decimals_stay_decimal_points(tmp_path):
    columns = {
        "a": ["x, y", *["z"] * (ROWS - 1)],
        "b": [f"{v:.3f}" for v in rng(2).uniform(1, 9, ROWS)],
    }
    frame = read_table(in_file(tmp_path, columns))[0]
    assert frame["b"].dtype == float


def test_the_schema_file_settles_what_a_point_means(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = thousands()
    in_file(tmp_path, {"a": [comma(v, 1) for v in rng().uniform(0, 99, ROWS)], "b": words})
    assert run(["check", "table.csv", "--schema", "schema.json"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "set \"parse\" of 'b' to \"decimal point\" in schema.json" in shown
    data = json.loads((tmp_path / "schema.json").read_text())
    data["columns"][1]["parse"] = "decimal point"
    (tmp_path / "schema.json").write_text(json.dumps(data))
    frame = read_table("table.csv")[0]
    codec = TableCodec(types=Schema.load("schema.json")).fit(frame)
    np.testing.assert_allclose(numbers_of(codec, frame, "b"), [float(word) for word in words])
    data["columns"][1]["parse"] = "dots"
    (tmp_path / "schema.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="'dots' is no parse; choose from money"):
        Schema.load("schema.json")


@pytest.mark.parametrize("places", [13, 14, 17])
def test_decimal_commas_with_many_digits_are_numbers(places):
    values = rng(3).uniform(10, 999, ROWS)
    frame = pd.DataFrame({"x": [comma(v, places) for v in values], "y": rng(4).normal(size=ROWS)})
    codec = TableCodec().fit(frame)
    assert codec.schema["x"].type == "real" and codec.schema["x"].role == "model"
    np.testing.assert_allclose(numbers_of(codec, frame, "x"), values, rtol=1e-12)


def test_whole_numbers_of_many_digits_stay_words():
    words = [f"{v}{v + 1:08d}" for v in rng(5).integers(10**8, 10**9, ROWS)]
    found = inspect(pd.DataFrame({"x": words, "y": rng(4).normal(size=ROWS)}))
    assert found["x"].role == "set aside"


# --------------------------------------------------------------------------- cells that are no cells

BAD = {
    "number": ("a", "many", "'many' is not a finite number"),
    "money": ("m", "dear", "'dear' is not a number (in $"),
    "date": ("d", "soon", "'soon' is not a date in the format %Y-%m-%d"),
}


def table(rows=200):
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng(7).integers(0, 500, rows), "D")
    return pd.DataFrame(
        {
            "a": rng(5).normal(size=rows),
            "m": [f"${v:,}" for v in rng(6).integers(500, 90_000, rows)],
            "d": days.strftime("%Y-%m-%d"),
        }
    )


@pytest.fixture(scope="module")
def fitted():
    X = table()
    y = np.where(X["a"] > 0, "up", "down")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return JointClassifier(family="naive_bayes", predictor=None).fit(X, y, calibration=0.4)


@pytest.mark.parametrize("kind", BAD)
def test_a_cell_that_cannot_be_read_counts_as_missing_and_is_told(fitted, kind):
    name, word, words = BAD[kind]
    X = table(6).astype(object)
    gone = X.copy()
    gone.loc[4, name] = None
    X.loc[4, name] = word
    for question in ("predict_proba", "score_samples", "decide", "impute"):
        with pytest.warns(CellWarning, match=f"'{name}', row 4: {re.escape(words)}") as seen:
            found = getattr(fitted, question)(X)
        assert len(seen) == 1 and "It counts as missing" in str(seen[0].message)
        wanted = getattr(fitted, question)(gone)
        if question == "decide":
            told = found["reason"][4]
            assert f"{name}: {words}" in told and "counts as missing" in told
            assert words not in " ".join(found["reason"].drop(4))
            found, wanted = (each.drop(columns="reason") for each in (found, wanted))
        if question in ("decide", "impute"):
            pd.testing.assert_frame_equal(found, wanted)
        else:
            np.testing.assert_array_equal(found, wanted)


def test_many_unreadable_cells_are_counted_in_one_warning(fitted):
    X = table(9).astype(object)
    X["a"] = "x"
    with pytest.warns(CellWarning, match="and 4 more cells .* count as missing") as seen:
        fitted.predict(X)
    assert len(seen) == 1


def test_strict_refuses_a_cell_that_cannot_be_read(tmp_path):
    X = pd.DataFrame({"a": rng(5).normal(size=80), "b": rng(6).normal(size=80)})
    model = JointDensity(family="naive_bayes", strict=True).fit(X)
    model.save(tmp_path / "model")
    bad = X.head(3).astype(object)
    bad.loc[1, "b"] = "x"
    for each in (model, load(tmp_path / "model")):
        with pytest.raises(ValueError, match="strict=True: Column 'b', row 1: 'x' is not a finite"):
            each.score_samples(bad)


def test_the_shell_answers_the_other_rows(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted.save("model")
    X = table(6).astype(object)
    X.loc[4, "a"] = "many"
    X.to_csv("new.csv", index=False)
    assert run(["decide", "model", "new.csv", "--max-error", "none", "-o", "out.csv"]) == 0
    err = capsys.readouterr().err
    assert "Column 'a', row 4: 'many' is not a finite number (rows are counted from 0)" in err
    assert "'many' is not a finite number" in pd.read_csv("out.csv")["reason"][4]


# ------------------------------------------------------------------------- names that are numbers


def test_columns_named_by_numbers_are_asked_from_the_shell(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = pd.DataFrame(rng(8).normal(size=(120, 2)))
    y = pd.Series(np.where(X[0] > 0, "up", "down"), name="y")
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    model.save("model")
    X.to_csv("new.csv", index=False)
    assert run(["predict", "model", "new.csv", "-o", "out.csv"]) == 0
    assert "Names of columns are matched as text: '0' as 0, '1' as 1" in capsys.readouterr().err
    found = pd.read_csv("out.csv")
    np.testing.assert_allclose(found["p(up)"], model.predict_proba(X)[:, 1], atol=1e-9)
    with pytest.warns(CellWarning, match="matched as text"):
        filled = model.impute(X.set_axis(["0", "1"], axis=1).where(lambda cells: cells < 9))
    assert list(filled.columns) == [0, 1]


def test_names_that_differ_as_text_alone_are_not_matched():
    codec = TableCodec().fit(pd.DataFrame({1: rng().normal(size=ROWS), 2: rng(1).normal(size=ROWS)}))
    X = pd.DataFrame({1: [0.5], "2": [0.5], "3": [1.0]})
    with pytest.warns(CellWarning, match="'2' as 2"):
        assert codec.rows(X).names == [1, 2, "3"]
