"""Cells, targets and names of columns as files have them: nothing is read otherwise in silence."""

import ast
import dataclasses
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from conjoin import (
    CellWarning,
    ColumnWarning,
    JointClassifier,
    JointDensity,
    JointRegressor,
    load,
)
from conjoin.cli import run
from conjoin.cli.words import in_shell
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
    assert (
        "'b' has a point that is taken to group thousands, as other columns have a decimal" in told
    )
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
    assert 'set "parse" of \'b\' to "decimal point" in schema.json' in shown
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


# -------------------------------------------------------------------------- cells that are no cells

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
    assert "Column 'a', row 5: 'many' is not a finite number (rows are counted from 1)" in err
    answers = pd.read_csv("out.csv")
    told = answers["reason"].str.contains("'many' is not a finite number", na=False)
    assert answers["row"][told].tolist() == [5]


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
    codec = TableCodec().fit(
        pd.DataFrame({1: rng().normal(size=ROWS), 2: rng(1).normal(size=ROWS)})
    )
    X = pd.DataFrame({1: [0.5], "2": [0.5], "3": [1.0]})
    with pytest.warns(CellWarning, match="'2' as 2"):
        assert codec.rows(X).names == [1, 2, "3"]


def test_blanks_around_names_are_no_part_of_them():
    codec = TableCodec().fit(
        pd.DataFrame({" a": rng().normal(size=ROWS), "b": rng(1).normal(size=ROWS)})
    )
    with pytest.warns(CellWarning, match="'a' as ' a', 'b ' as 'b'"):
        assert codec.rows(pd.DataFrame({"a": [0.5], "b ": [0.5]})).names == [" a", "b"]
    two = codec.frame(pd.DataFrame({"b": [0.5], "b ": [0.5]}))
    assert list(two) == ["b", "b "]


# ----------------------------------------------------------------- odd cells among many good ones


MANY = 300
ODD = {
    "dates": ("soon", "is not a date in the format %Y-%m-%d", "date"),
    "numbers": ("<0.1", "is not a value like '", "real"),
    "money": ("abc", "is not a value like '€", "real"),
    "times": ("late", "is not a value like '", "integer"),
    "objects": ("x", "is not a finite number", "real"),
}


def many(row, odd=True):
    """Columns of many good cells, each with an odd one in the same row."""
    days = pd.Series(pd.date_range("2024-01-01", periods=MANY)).sample(frac=1, random_state=0)
    minutes = 15 * rng(3).integers(0, 96, MANY)
    columns = {
        "dates": days.dt.strftime("%Y-%m-%d").tolist(),
        "numbers": [f"{v:.3f}" for v in rng(1).gamma(2, 3, MANY)],
        "money": [f"€{v:.2f}" for v in rng(2).gamma(2, 30, MANY)],
        "times": [f"{each // 60:02d}:{each % 60:02d}" for each in minutes],
        "objects": rng(4).normal(size=MANY).tolist(),
    }
    for name, (word, _, _) in ODD.items():
        if odd:
            columns[name][row] = word
    return pd.DataFrame(columns).assign(kind=rng(5).choice(["p", "q"], MANY))


@pytest.mark.parametrize("name", list(ODD))
def test_one_odd_cell_among_many_good_ones_counts_as_missing_and_is_named(name):
    word, expected, kind = ODD[name]
    odd, good = (many(7, odd)[[name, "kind"]] for odd in (True, False))
    schema = inspect(odd)
    assert schema[name].type == kind and schema[name].modelled
    assert schema[name].missing_share == pytest.approx(1 / MANY)
    told = [text for text in schema.notices if repr(word) in text]
    assert len(told) == 1 and told[0].startswith(f"Column {name!r}, row 7: {word!r} {expected}")
    assert "it counts as missing" in told[0]
    codec = TableCodec().fit(odd)
    with pytest.warns(CellWarning, match=re.escape(f"row 0: {word!r} is not")):
        later = codec.encode(codec.rows(pd.DataFrame({name: [word]}))).event
    assert not later.observed[0, codec.columns.index(name)]
    assert codec.fit(good).schema[name].type == kind


@pytest.mark.parametrize("row", [6, 299])
def test_how_columns_are_read_does_not_depend_on_the_seed(row):
    found = []
    for seed in range(3):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = JointDensity(family="naive_bayes", random_state=seed).fit(many(row))
        columns = model.model_.codec.schema.columns
        found.append([(each.name, each.type, each.role, each.format) for each in columns])
        for name, (word, _, _) in ODD.items():
            assert any(
                f"Column {name!r}, row {row}: {word!r}" in str(each.message) for each in told
            )
    assert found[0] == found[1] == found[2]


def test_a_format_that_one_held_out_row_alone_settles_is_found():
    days = [f"{1 + i % 12:02d}/{1 + i % 11:02d}/2024" for i in range(MANY)]
    for seed, row in enumerate((5, 50, 150, 250)):
        cells = [*days[:row], "01/31/2024", *days[row + 1 :]]
        frame = pd.DataFrame({"d": cells, "v": rng().normal(size=MANY)})
        model = JointDensity(family="naive_bayes", random_state=seed, verbose=False).fit(frame)
        assert model.model_.codec.schema["d"].format == "%m/%d/%Y"


@pytest.mark.parametrize(
    ("cells", "said", "kind"),
    [
        (list(pd.date_range("2024-01-01", periods=MANY)), None, "date"),
        (list(pd.date_range("2024-01-01", periods=MANY).date), None, "date"),
        (rng(1).integers(0, 999, MANY).tolist(), None, "integer"),
        (["1.5"] * MANY, "real", "real"),
        (
            pd.date_range("2024-01-01", periods=MANY).strftime("%d.%m.%y").tolist(),
            {"type": "date", "format": "%d.%m.%y"},
            "date",
        ),
        (["07:15", "07:30", "16:45"] * (MANY // 3), {"parse": "time"}, "integer"),
    ],
)
def test_an_odd_cell_among_objects_or_what_was_said_is_missing_too(cells, said, kind):
    frame = pd.DataFrame({"x": [*cells, "soon"], "v": rng().normal(size=MANY + 1)})
    schema = inspect(frame, types=None if said is None else {"x": said})
    assert schema["x"].type == kind and schema["x"].missing_share == pytest.approx(1 / (MANY + 1))
    start = f"Column 'x', row {MANY}: 'soon' is not a"
    assert sum(text.startswith(start) for text in schema.notices) == 1
    codec = TableCodec(types=None if said is None else {"x": said}).fit(frame)
    with pytest.warns(CellWarning, match=f"row {MANY}: 'soon' is not a"):
        rows = codec.rows(frame)
    assert rows.frame["x"].isna().sum() == 1


def test_truths_beside_a_word_are_no_numbers():
    column = inspect(pd.DataFrame({"x": [*[True, False] * 150, "x"], "v": range(301)}))["x"]
    assert column.type == "category" and column.missing_share == 0


def test_rows_are_counted_by_place_whatever_the_index():
    odd = many(6).set_axis([5, 5, 7] * (MANY // 3), axis=0)
    iso = odd.assign(dates=["2023-05-28T00:00:00", *odd["dates"][1:]])
    for frame in (odd, iso):
        told = inspect(frame).notices
        assert any(text.startswith("Column 'dates', row 6: 'soon' is not") for text in told)
    assert any("row 0: '2023-05-28T00:00:00' is written otherwise" in text for text in told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = JointDensity(family="naive_bayes").fit(iso)
        rest = ["money", "times", "kind"]
        filled = model.impute(iso)
    assert filled.index.equals(iso.index) and filled.iloc[0]["dates"] == "2023-05-28T00:00:00"
    pd.testing.assert_frame_equal(filled[rest].iloc[7:], iso[rest].iloc[7:], check_dtype=False)


def test_odd_cells_of_rows_beyond_the_sample_are_missing(tmp_path):
    frame = pd.concat([many(0, odd=False)] * 4, ignore_index=True)
    frame["objects"] = rng().normal(size=len(frame))  # no copies
    frame.loc[[611, 907], "dates"] = ["soon", "never"]
    frame.drop(columns="kind").to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns((CellWarning, ColumnWarning)) as told:
        model = JointDensity(family="naive_bayes").fit_file(
            tmp_path / "t.csv", chunk_rows=200, sample_rows=300
        )
    assert model.model_.codec.schema["dates"].type == "date"
    for row, word in ((611, "soon"), (907, "never")):
        words = f"Column 'dates', row {row}: {word!r} is not a date in the format %Y-%m-%d"
        assert any(words in str(each.message) for each in told)


def test_words_for_missing_among_dates_are_missing():
    frame = many(0, odd=False)
    frame.loc[::7, "dates"] = "unknown"
    column = inspect(frame)["dates"]
    assert column.type == "date" and column.missing == ("unknown",)
    assert column.missing_share == pytest.approx(43 / MANY)
    told = "Column 'dates' holds dates; 'unknown' counts as missing, in 43 rows."
    assert told in inspect(frame).notices


def test_strict_refuses_an_odd_cell_of_a_fit():
    with pytest.raises(
        ValueError, match="strict=True: Column 'dates', row 6: 'soon' is not a date"
    ):
        JointDensity(family="naive_bayes", strict=True).fit(many(6))


def test_a_cell_that_is_not_of_the_type_that_was_said_is_named_by_its_row_in_the_table():
    frame = pd.DataFrame({"d": ["2024-01-05"] * 40, "v": rng().normal(size=40)})
    frame.loc[[31, 33, 35], "d"] = "soon"
    for seed in range(3):
        with pytest.raises(ValueError, match="Column 'd', row 31: 'soon' is not a date"):
            JointDensity(types={"d": "date"}, random_state=seed).fit(frame)


def test_an_odd_cell_in_a_file_is_named_by_its_row_from_1_and_by_its_schema(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    many(6).drop(columns="objects").to_csv("t.csv", index=False)
    assert run(["check", "t.csv", "--target", "kind"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Column 'dates', row 7: 'soon' is not a date in the format %Y-%m-%d" in shown
    line = "fit t.csv --target kind --family nb --predictor none -o m --schema t-schema.json"
    assert run(line.split()) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Column 'dates', row 7: 'soon' is not a date" in told
    assert load("m").model_.codec.schema["dates"].type == "date"


def test_a_value_said_to_mean_missing_that_no_cell_has_is_told():
    frame = pd.DataFrame({"hum": rng().integers(0, 100, ROWS), "t": [0.5, -998] * (ROWS // 2)})
    told = "No cell of column 'hum' is -998, which was said to mean missing."
    assert told in inspect(frame, missing={"hum": [-998]}).notices
    assert not any("No cell" in text for text in inspect(frame, missing=[-998]).notices)
    assert "No cell of 2 columns is -7," in str(inspect(frame, missing=[-7]).notices)


def test_a_path_is_read_as_its_frame_and_how_it_was_read_is_told(tmp_path):
    frame = pd.DataFrame({"a": rng().normal(size=ROWS).round(3), "b": ["p", "q"] * (ROWS // 2)})
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    with pytest.warns(
        ColumnWarning, match=r"line 1 .* looks like a row and is taken as the header"
    ):
        JointDensity(family="naive_bayes").fit(str(tmp_path / "bare.csv"))
    told = "is JSON; its 60 records are the rows"
    with pytest.warns(ColumnWarning, match=told):
        model = JointDensity(family="naive_bayes").fit(tmp_path / "t.jsonl")
    with pytest.warns(ColumnWarning, match=told):
        log_p = model.score_samples(str(tmp_path / "t.jsonl"))
    np.testing.assert_array_equal(log_p, model.score_samples(frame))


# ------------------------------------------------------------ dates that are written in another way


def dated():
    """A model of dates in three ways of writing: days, times with Z, times with an offset."""
    days = pd.date_range("2024-01-01", periods=200).to_series().sample(frac=1, random_state=0)
    first, second = (
        days + pd.to_timedelta(rng(i).integers(0, 1440, 200), unit="min") for i in (8, 9)
    )
    columns = {
        "d": days.dt.strftime("%d.%m.%Y").tolist(),
        "z": first.sample(frac=1, random_state=1).dt.strftime("%Y-%m-%dT%H:%M:%SZ").tolist(),
        "o": second.sample(frac=1, random_state=2).dt.strftime("%Y-%m-%d %H:%M:%S+02:00").tolist(),
        "v": rng(7).normal(size=200),
    }
    return JointDensity(family="naive_bayes").fit(pd.DataFrame(columns))


@pytest.fixture(scope="module")
def of_dates():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dated()


def days_of(model, frame, name):
    days = numbers_of(model.model_.codec, frame, name)
    return [str(each) for each in pd.to_datetime(days, unit="D").round("s")]


@pytest.mark.parametrize(
    ("name", "cell", "instant", "written"),
    [
        ("d", "2023-05-28", "2023-05-28 00:00:00", "28.05.2023"),
        ("d", "2023-05-28 00:00:00", "2023-05-28 00:00:00", "28.05.2023"),
        ("z", "2024-03-30T21:41:00+02:00", "2024-03-30 19:41:00", "2024-03-30T19:41:00Z"),
        ("z", "2024-03-30 21:41:00", "2024-03-30 21:41:00", "2024-03-30T21:41:00Z"),
        ("o", "2024-03-30 21:41:00", "2024-03-30 21:41:00", "2024-03-30 21:41:00+00:00"),
        ("o", "2024-03-30T21:41:00Z", "2024-03-30 21:41:00", "2024-03-30 21:41:00+00:00"),
    ],
)
def test_iso_dates_are_read_in_columns_that_write_others(of_dates, name, cell, instant, written):
    frame = pd.DataFrame({"v": [0.5, 0.5], name: [None, cell]})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        full = of_dates.impute(frame)
        assert days_of(of_dates, frame[1:], name) == [instant]
        reason = of_dates.decide(frame)["reason"]
    assert full[name][1] == cell and pd.notna(full[name][0])
    words = (
        f"Column {name!r}, row 1: {cell!r} is written otherwise than the dates of the fit, and is"
    )
    assert any(f"{words} read as {written!r}" in str(each.message) for each in told)
    assert f"{name}: {cell!r} is taken as {written!r}" in reason[1]
    cells = [str(each.message) for each in told if each.category is CellWarning]
    assert not any("as missing" in text for text in cells)


@pytest.mark.parametrize("cell", ["5/6/2023", "2023-13-01", "28.05.23", "2023-5-28"])
def test_dates_that_could_be_read_in_two_ways_or_not_at_all_are_missing(of_dates, cell):
    with pytest.warns(CellWarning, match=f"row 0: '{cell}' is not a date in the format %d.%m.%Y"):
        rows = of_dates.model_.codec.rows(pd.DataFrame({"d": [cell], "v": [0.5]}))
    assert rows.frame["d"].isna().all()


def test_a_date_that_is_asked_for_is_read_as_one_of_a_file_and_an_error_speaks_of_no_row(of_dates):
    with pytest.warns(ColumnWarning, match="'d' is asked for '2024-03-01', read as '01.03.2024'"):
        assert set(of_dates.sample(3, given={"d": "2024-03-01"})[0]["d"]) == {"01.03.2024"}
    for asked in ("03/2024", ("2024-03-01", "03/2024")):
        with pytest.raises(
            ValueError, match="given asks for d='03/2024', which is not a date"
        ) as no:
            of_dates.sample(3, given={"d": asked})
        assert "row" not in str(no.value) and "missing=" not in str(no.value)


def test_the_shell_counts_cells_that_it_replaces(of_dates, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_dates.save("m")
    cells = {"d": ["2023-05-28", "29.05.2024", "soon"], "v": ["0.5", "", "many"]}
    pd.DataFrame(cells).assign(z="2024-03-30T21:41:00Z", o="2024-03-30 21:41:00+02:00").to_csv(
        "new.csv", index=False
    )
    assert run(["impute", "m", "new.csv", "-o", "full.csv"]) == 0
    shown = capsys.readouterr()
    words = "3 cells filled in 2 of 3 rows. 2 of them held what can't be read, which is replaced."
    assert words in " ".join(shown.out.split())
    assert "row 3: 'soon' is not a date" in shown.err and "'28.05.2023'" in shown.err
    full = pd.read_csv("full.csv")
    assert full["d"][:2].tolist() == ["2023-05-28", "29.05.2024"] and full["d"][2] != "soon"


def test_iso_dates_among_others_of_a_fit_are_read():
    days = pd.date_range("2024-01-01", periods=MANY).strftime("%d.%m.%Y").tolist()
    frame = pd.DataFrame({"d": ["2023-05-28", *days[1:]], "v": rng().normal(size=MANY)})
    schema = inspect(frame)
    assert schema["d"].type == "date" and schema["d"].missing_share == 0
    told = "Column 'd', row 0: '2023-05-28' is written otherwise than the other dates, and is read"
    assert any(text.startswith(f"{told} as '28.05.2023'") for text in schema.notices)
    codec = TableCodec().fit(frame)
    day = (pd.Timestamp("2023-05-28") - pd.Timestamp("1970-01-01")).days
    assert schema["d"].range[0] == day and numbers_of(codec, frame[:1], "d") == pytest.approx([day])


# ------------------------------------------------------------------------------ targets in words

PRICES = rng(11).integers(500, 90_000, 150)
TARGETS = {
    "money": [f"${v:,}" for v in PRICES],
    "decimal comma": [comma(v / 10, 1) for v in PRICES],
    "percent": [f"{v / 1000:.1f} %" for v in PRICES],
}
VALUES = {
    "money": PRICES.astype(float),
    "decimal comma": PRICES / 10,
    "percent": (PRICES / 1000).round(1),
}


def priced(kind):
    X = pd.DataFrame({"a": PRICES + rng(12).normal(0, 900, 150), "b": rng(13).normal(size=150)})
    return X, pd.Series(TARGETS[kind], name="price")


def quiet_fit(model, *data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*data, **options)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_in_words_is_read_as_a_feature_is(kind, tmp_path):
    X, y = priced(kind)
    words = JointRegressor(family="naive_bayes", predictor=None)
    with pytest.warns(ColumnWarning, match="Target 'price' holds numbers written in words"):
        words.fit(X, y)
    plain = quiet_fit(JointRegressor(family="naive_bayes", predictor=None), X, VALUES[kind])
    np.testing.assert_array_equal(words.predict(X), plain.predict(X))
    assert words.score(X, VALUES[kind]) == plain.score(X, VALUES[kind])
    assert words.evaluate(X, y, max_error=0.2) == plain.evaluate(X, VALUES[kind], max_error=0.2)
    assert words.score(X, y) == words.score(X, VALUES[kind])
    drawn = [words.sample(2, y=asked, random_state=0)[0] for asked in (y[0], VALUES[kind][0])]
    pd.testing.assert_frame_equal(*drawn)
    again = load(words.save(tmp_path / "model"))
    assert again.model_.target.form == words.model_.target.form
    with pytest.raises(ValueError, match="'dear' is not a number"):
        again.evaluate(X.head(2), pd.Series(["dear", y[1]], name="price"))


@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_amounts_in_words_among_several_targets_are_told():
    X, y = priced("money")
    Y = pd.DataFrame({"price": y, "size": np.arange(len(y), dtype=float)})
    with pytest.warns(ColumnWarning, match="'price' has .* classes that read as numbers"):
        JointRegressor(family="mixture").fit(X, Y)


def test_labels_of_a_question_are_read_as_the_fit_read_them():
    X, y = priced("money")
    plain = quiet_fit(JointRegressor(family="naive_bayes", predictor=None), X, VALUES["money"])
    with pytest.raises(ValueError, match="which is no number"):
        plain.evaluate(X, y)


def test_the_shell_reads_a_target_in_words_and_writes_it_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = priced("money")
    X.assign(price=y).to_csv("t.csv", index=False)
    assert run(["check", "t.csv", "--target", "price"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "'price' holds numbers written in words (in $, ',' between thousands)" in shown
    line = "fit t.csv --target price --family nb --predictor none -o m --schema t-schema.json"
    assert run(line.split()) == 0
    assert "taken as a number" in capsys.readouterr().err
    assert run(["predict", "m", "t.csv", "-o", "out.csv"]) == 0
    out = pd.read_csv("out.csv")
    assert out["mean"].str.fullmatch(r"-?\$[\d,]+").all()
    model = load("m")
    wanted = model.predict(X)
    read = out["mean"].str.replace("[$,]", "", regex=True).astype(float)
    np.testing.assert_allclose(read, wanted, atol=0.51)
    assert run(["evaluate", "m", "t.csv", "--max-error", "0.2"]) == 0
    assert run(["sample", "m", "-n", "5", "--seed", "1", "-o", "new.csv"]) == 0
    assert pd.read_csv("new.csv")["price"].str.startswith(("$", "-$")).all()


def test_what_the_user_says_of_a_target_counts():
    X, _ = priced("money")
    thousands = np.maximum(PRICES, 1000)
    y = pd.Series([comma(v / 1000, 3) for v in thousands], name="price")
    told = quiet_fit(JointRegressor(family="naive_bayes", predictor=None), X, y)
    assert "if it is the decimal mark, say types={'price': {'parse'" in " ".join(told.notices_)
    types = {"price": {"parse": "decimal comma"}}
    said = quiet_fit(JointRegressor(family="naive_bayes", predictor=None, types=types), X, y)
    assert np.mean(said.predict(X)) == pytest.approx(np.mean(told.predict(X)) / 1000, rel=0.05)


def test_a_word_among_the_numbers_of_a_target_is_named_with_what_helps():
    X, y = priced("money")
    y[3] = "dear"
    with pytest.raises(ValueError, match="'dear' in row 3, which is no number: correct it, or say"):
        JointRegressor(family="naive_bayes", predictor=None).fit(X, y)
    model = JointRegressor(family="naive_bayes", predictor=None, unlabelled="dear")
    assert np.isfinite(quiet_fit(model, X, y).predict(X)).all()


def test_amounts_as_classes_are_told():
    X, y = priced("percent")
    y = pd.Series([f"{v % 12}.5 %" for v in PRICES], name="price")
    model = quiet_fit(JointClassifier(family="naive_bayes", predictor=None), X, y)
    assert "has classes that read as numbers (in %" in " ".join(model.notices_)


# ---------------------------------------------------------------------------------- labels of -1


@pytest.mark.parametrize(
    ("labels", "told"),
    [([-1, 0, 1], True), ([-1, 1, 2], True), ([-1, 1], False), ([0, 1], False), ([-2, -1], False)],
)
def test_minus_one_among_labels_is_told(labels, told):
    y = np.resize(labels, 90)
    X = rng(2).normal(size=(90, 2)) + y[:, None]
    model = quiet_fit(JointClassifier(family="naive_bayes", predictor=None), X, y)
    assert ("say unlabelled=-1" in " ".join(model.notices_)) == told
    said = JointClassifier(family="naive_bayes", predictor=None, unlabelled=-1)
    if told:
        assert "unlabelled=-1" not in " ".join(quiet_fit(said, X, y).notices_)


# ------------------------------------------------------------------------------------ time zones


def moments(zone=None, seed=3):
    hours = rng(seed).integers(0, 9_000, ROWS)
    found = pd.Timestamp("2024-01-01", tz=zone) + pd.to_timedelta(hours, "h")
    return pd.Series(found)


def test_times_without_a_zone_among_others_are_told():
    cells = [*moments("Europe/Berlin")[: ROWS // 2], *moments(seed=4)[ROWS // 2 :]]
    for order in (1, -1):
        frame = pd.DataFrame(
            {"t": pd.Series(cells[::order], dtype=object), "q": rng().random(ROWS)}
        )
        codec = TableCodec().fit(frame)
        assert "'t' has times with a time zone and times without one" in " ".join(codec.notices)
        event = codec.encode(frame).event
        back = codec.decode(event.value)["t"]
        wanted = pd.to_datetime(frame["t"], utc=True).astype(back.dtype)
        assert back.tolist() == wanted.tolist()


def test_a_column_without_a_zone_beside_one_with_a_zone_is_told():
    frame = pd.DataFrame({"start": moments("UTC"), "end": moments(seed=4), "day": moments(seed=5)})
    frame["day"] = frame["day"].dt.normalize()
    told = " ".join(TableCodec().fit(frame).notices)
    assert "'end' has no time zone, and 'start' has one; its times are taken for UTC" in told
    assert "'day' has no time zone" not in told


@pytest.mark.parametrize("words", [False, True])
def test_new_times_of_another_kind_than_at_the_fit_are_told(words):
    frame = pd.DataFrame({"t": moments("UTC"), "q": rng().random(ROWS)})
    plain = frame.assign(t=frame["t"].dt.tz_localize(None))
    if words:
        frame = frame.assign(t=frame["t"].dt.strftime("%Y-%m-%dT%H:%M:%S%z"))
    codec = TableCodec().fit(frame)
    with pytest.warns(CellWarning, match="'t' has times with no time zone, and had one at the fit"):
        codec.rows(plain)
    with pytest.warns(CellWarning, match="'t' has times with a time zone, and had none at the fit"):
        TableCodec().fit(plain).rows(frame.assign(t=pd.to_datetime(frame["t"], utc=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.rows(frame)
        TableCodec().fit(plain).rows(plain)


# ---------------------------------------------------------------------- point masses, and notices


def recurring_zeros():
    zero = rng().permutation(400) < 240
    spent = np.where(zero, 0.0, rng(1).gamma(2.0, 30.0, 400))
    return pd.DataFrame({"spent": spent, "z": rng(2).normal(size=400)})


@pytest.mark.parametrize(
    ("family", "told"), [("gaussian", True), ("pca", True), ("fa", True), ("mixture", False)]
)
def test_a_family_that_spreads_point_masses_says_so(family, told):
    model = quiet_fit(JointDensity(family=family), recurring_zeros())
    words = " ".join(model.notices_)
    assert ("'spent' is 0 in" in words and "Choose circuit or mixture" in words) == told


def test_what_harms_most_is_told_first_and_the_rest_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({f"c{i}": ["x"] * 200 for i in range(3)})
    frame["id"] = [f"u{i}" for i in range(200)]
    frame["when"] = [f"0{1 + i % 9}/0{1 + i % 7}/2024" for i in range(200)]
    frame["steps"] = rng(1).integers(0, 500, 200) * 7
    frame["money"] = [f"${v:,}" for v in rng(2).integers(500, 90_000, 200)]
    frame["fill"] = rng(3).choice([-999.0, 0.5, 1.5, 2.5, 3.5], 200)
    frame["y"] = np.where(frame["steps"] > 1700, "up", "down")
    frame.to_csv("t.csv", index=False)
    line = "fit t.csv --target y --family nb --predictor none -o m"
    assert run(line.split()) == 0
    shown = " ".join(capsys.readouterr().out.split())
    first = shown.index("'steps' alone tells 'y'")
    assert first < shown.index("-999 in") < shown.index("is set aside")
    assert "more: conjoin info m" in shown
    assert run(["info", "m"]) == 0
    every = " ".join(capsys.readouterr().out.split())
    assert "holds numbers written in words" in every and "is set aside" in every


# ------------------------------------------------------------------------------ spellings of one


def cities():
    words = [*["Berlin"] * 90, *["berlin "] * 7, "Brelin", *["Hamburg"] * 60, *["Bonn"] * 42]
    return pd.DataFrame({"city": words, "q": rng(1).normal(size=len(words))})


def test_spellings_that_look_like_one_value_are_told_with_what_merges_them():
    told = TableCodec().fit(cities()).notices
    assert any(
        "say types={'city': {'merge': {'berlin ': 'Berlin'}}}" in text and "stay apart" in text
        for text in told
    )
    assert any(
        "has 'Berlin' in 97 rows and 'Brelin' in 1, which differ" in text
        and "types={'city': {'merge': {'Brelin': 'Berlin'}}}" in text
        for text in told
    )


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("Hamburg", "Hambrug", True),
        ("Hamburg", "Hamburrg", True),
        ("New London", "New Lodon", True),
        ("group A", "group B", False),
        ("Austria", "Australia", False),
        ("room 12345", "room 12346", False),
        ("Iran", "Iraq", False),
    ],
)
def test_slips_of_one_letter(one, other, told):
    words = [*[one] * 100, *["else"] * 100, other]
    found = inspect(pd.DataFrame({"w": words, "q": rng(1).normal(size=len(words))}))
    assert ("differ by one letter" in " ".join(found.doubts)) == told


def test_spellings_are_merged_told_and_saved(tmp_path):
    frame = cities()
    merge = {"berlin ": "Berlin", "Brelin": "Berlin"}
    codec = TableCodec(types={"city": {"merge": merge}}).fit(frame)
    clean = frame.assign(city=frame["city"].replace(merge))
    assert codec.schema["city"].levels == TableCodec().fit(clean).schema["city"].levels
    assert "'berlin ' is read as 'Berlin', 'Brelin' is read as 'Berlin'" in " ".join(codec.notices)
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    codec.schema.save(tmp_path / "schema.json")
    edited = TableCodec(types=tmp_path / "schema.json").fit(frame)
    assert edited.schema.columns == codec.schema.columns
    for each in (codec, again, edited):
        event = each.encode(frame).event
        assert event.value.tolist() == each.encode(clean).event.value.tolist()
        assert set(each.decode(event.value)["city"]) == {"Berlin", "Hamburg", "Bonn"}
    with pytest.raises(ValueError, match=r"merge is \{spelling: level\}"):
        inspect(frame, types={"city": {"merge": ["Berlin"]}})


def test_spellings_merged_in_a_schema_of_before_are_no_levels():
    before = inspect(cities())
    merged = [
        dataclasses.replace(each, merge=(("berlin ", "Berlin"), ("Brelin", "Berlin")))
        if each.name == "city"
        else each
        for each in before.columns
    ]
    after = inspect(cities(), types=dataclasses.replace(before, columns=tuple(merged)))
    assert sorted(after["city"].levels) == ["Berlin", "Bonn", "Hamburg"]
    assert dict(zip(after["city"].levels, after["city"].counts, strict=True))["Berlin"] == 98


YES = ["ja", "oui", "yes", "1", "TRUE"]
NO = ["nein", "non", "no", "0", "FALSE"]


def votes(yes=tuple(YES), no=tuple(NO), rows=300):
    """A column that spells two answers in several ways, and what it says."""
    says = rng(3).random(rows) < 0.5
    words = [rng(i).choice(yes if each else no) for i, each in enumerate(says)]
    return pd.Series([str(word) for word in words], dtype=object), says


def test_two_answers_in_several_languages_are_told_with_what_merges_them(tmp_path):
    words, says = votes()
    frame = pd.DataFrame({"vote": words, "q": rng(1).normal(size=len(words))})
    found = inspect(frame)
    (told,) = found.doubts
    assert told.startswith("Column 'vote' spells two answers in 10 ways, ")
    assert all(repr(word) in told for word in (*YES, *NO)) and "they stay apart" in told
    assert len(found["vote"].levels) == 10
    types = ast.literal_eval(re.search(r"say types=(\{.*\})\.$", told)[1])
    after = inspect(frame, types=types)
    assert len(after["vote"].levels) == 2 and not after.doubts
    usual = [each for each in (*YES, *NO) if each not in types["vote"]["merge"]]
    assert [YES.index(usual[0])] == [NO.index(usual[1])]  # of one language
    assert sorted(after["vote"].counts) == sorted([says.sum(), (~says).sum()])
    y = words.rename("vote")
    with pytest.warns(ColumnWarning, match="Target 'vote' spells two answers in 10 ways"):
        JointClassifier(family="naive_bayes", predictor=None).fit(frame[["q"]], y)
    model = JointClassifier(family="naive_bayes", predictor=None, types=types)
    with pytest.warns(ColumnWarning, match="is read as"):
        model.fit(frame[["q"]], y)
    assert model.classes_.tolist() == sorted(usual)
    said = json.loads(re.search(r"to (\{.*?\}) in schema.json", in_shell(told))[1])
    assert said == types["vote"]["merge"]


@pytest.mark.parametrize(
    ("yes", "no", "told"),
    [
        (["Ja", "yes"], ["nein"], True),
        (["Y", "TRUE"], ["N", "FALSE"], True),
        (["sí", "да", "はい"], ["no", "нет", "いいえ"], True),
        (["yes", "Yes "], ["no", "NO"], False),  # told as spellings that differ in case
        (["yes"], ["no"], False),
        (["T"], ["N", "F"], False),  # stages, not answers
        (["no", "da", "ja"], ["nl", "de", "fr"], False),  # codes of countries
        (["1"], ["0"], False),
        (["red", "yes"], ["blue", "no"], False),
    ],
)
def test_what_is_taken_as_two_answers(yes, no, told):
    words, _ = votes(yes, no)
    found = inspect(pd.DataFrame({"vote": words, "q": rng(1).normal(size=len(words))}))
    assert ("spells two answers" in " ".join(found.doubts)) == told


def test_answers_that_are_no_words_are_told_too():
    cells = pd.Series([True, False, "ja", "nein", 1, 0, None, "n/a"] * 20, dtype=object)
    found = inspect(pd.DataFrame({"vote": cells, "q": rng(1).normal(size=len(cells))}))
    told = next(each for each in found.doubts if "spells two answers" in each)
    merge = ast.literal_eval(re.search(r"say types=(\{.*\})\.$", told)[1])["vote"]["merge"]
    found = inspect(
        pd.DataFrame({"vote": cells, "q": rng(1).normal(size=len(cells))}),
        types={"vote": {"merge": merge}},
        missing=["n/a"],
    )
    assert len(found["vote"].levels) == 2 and sorted(found["vote"].counts) == [60, 60]


def test_advice_names_the_file_of_the_schema_and_works_as_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = {"b": [f"{v:.3f} kg" for v in rng(2).uniform(1, 9, ROWS)]}
    pd.DataFrame(columns).assign(v=rng().normal(size=ROWS)).to_csv("my table.csv", index=False)
    line = ["fit", "my table.csv", "--family", "nb", "-o", "m"]
    assert run(line) == 0
    told = " ".join(capsys.readouterr().out.split())
    advice = "set \"parse\" of 'b' to \"words\" in 'my table-schema.json'"
    assert f"{advice}, which `conjoin check` writes, and give --schema 'my table-s" in told
    assert run(["check", "my table.csv"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"{advice} and give --schema 'my table-schema.json'." in told
    data = json.loads((tmp_path / "my table-schema.json").read_text())
    data["columns"][0]["parse"] = "words"
    (tmp_path / "my table-schema.json").write_text(json.dumps(data))
    assert run([*line, "--force", "--schema", "my table-schema.json"]) == 0
    assert load("m").model_.codec.schema["b"].parse is None


def test_several_fields_are_advised_as_json():
    end = "in schema.json and give --schema schema.json."
    dates = "To do so, say types={'d': {'type': 'date', 'format': '%d.%m.%y'}}."
    said = f'To do so, set "type" to "date" and "format" to "%d.%m.%y" of \'d\' {end}'
    assert in_shell(dates) == said
    step = "For another, say types={'a b': {'resolution': ...}}."
    assert in_shell(step) == f"For another, set \"resolution\" of 'a b' {end}"


def test_the_shell_names_the_merge_as_json():
    text = "To merge them, say types={'city': {'merge': {'berlin ': 'Berlin'}}}."
    assert 'set "merge" of \'city\' to {"berlin ": "Berlin"} in schema.json' in in_shell(text)


def answers(seed=5, rows=240):
    """A column, and a target that spells two answers in four ways."""
    x = rng(seed).normal(size=rows).round(2)
    y = np.where(x + 0.3 * rng(seed + 1).normal(size=rows) > 0, "yes", "no").astype(object)
    spelt = y.copy()
    spelt[::9] = [{"yes": "Yes ", "no": "NO"}[each] for each in y[::9]]
    return pd.DataFrame({"x": x}), pd.Series(y, name="y"), pd.Series(spelt, name="y")


MERGED = {"Yes ": "yes", "NO": "no"}


def test_spellings_of_a_target_are_merged_told_and_saved(tmp_path):
    X, y, spelt = answers()
    settings = {"family": "naive_bayes", "predictor": None}
    with pytest.warns(ColumnWarning, match="Target 'y': 'Yes ' is read as 'yes', 'NO' is read as"):
        model = JointClassifier(**settings, types={"y": {"merge": MERGED}}).fit(X, spelt)
    plain = JointClassifier(**settings).fit(X, y)
    assert model.classes_.tolist() == ["no", "yes"]
    model.save(tmp_path / "model")
    for each in (model, load(tmp_path / "model")):
        np.testing.assert_array_equal(each.predict_proba(X), plain.predict_proba(X))
        assert each.evaluate(X, spelt, max_error=None) == plain.evaluate(X, y, max_error=None)
        assert each.score(X, spelt) == plain.score(X, y)
        assert set(each.sample(3, y="Yes ", random_state=0)[1]) == {"yes"}
    with pytest.raises(ValueError, match="has no class 'maybe'; choose from no, yes"):
        model.sample(1, y="maybe")


def test_spellings_of_a_number_are_merged():
    X, _, _ = answers()
    y = (3 * X["x"]).round(1).rename("y")
    words = y.astype(object)
    words[::9] = "ten"
    model = JointRegressor(
        family="naive_bayes", predictor=None, types={"y": {"merge": {"ten": 10}}}
    )
    with pytest.warns(ColumnWarning, match="Target 'y': 'ten' is read as 10"):
        model.fit(X, words)
    numbers = y.copy()
    numbers[::9] = 10.0
    plain = JointRegressor(family="naive_bayes", predictor=None).fit(X, numbers)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    assert model.score(X, words) == plain.score(X, numbers)


def test_spellings_of_several_targets_are_merged(tmp_path):
    X, y, spelt = answers()
    Y = pd.DataFrame({"y": spelt, "size": np.r_[-999.0, X["x"][1:]]})
    said = {"types": {"y": {"merge": MERGED}}, "missing": {"size": [-999]}}
    with pytest.warns(ColumnWarning, match="Target 'y': 'Yes ' is read as 'yes'"):
        model = JointClassifier(family="mixture", **said).fit(X, Y)
    clean = Y.assign(y=y, size=Y["size"].where(Y["size"] != -999))
    plain = JointClassifier(family="mixture").fit(X, clean)
    assert model.classes_["y"].tolist() == ["no", "yes"]
    model.save(tmp_path / "model")
    for each in (model, load(tmp_path / "model")):
        pd.testing.assert_frame_equal(each.predict(X), plain.predict(X))
        found, wanted = (
            one.evaluate(X, table, max_error=None) for one, table in ((each, Y), (plain, clean))
        )
        assert str(found) == str(wanted)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_shell_merges_spellings_of_a_target(tmp_path, monkeypatch, capsys, chunked):
    monkeypatch.chdir(tmp_path)
    X, y, spelt = answers()
    X.assign(y=spelt).to_csv("t.csv", index=False)
    X.assign(y=y).to_csv("clean.csv", index=False)
    assert run(["check", "t.csv", "--target", "y"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for pairs in ('{"Yes ": "yes"}', '{"NO": "no"}'):
        assert f"set \"merge\" of 'y' to {pairs} in t-schema.json" in told
    schema = json.loads((tmp_path / "t-schema.json").read_text())
    next(each for each in schema["columns"] if each["name"] == "y")["merge"] = MERGED
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    fit = "fit t.csv --target y --schema schema.json --family naive_bayes --predictor none -o m"
    assert run([*fit.split(), *(["--chunk-rows", "100"] if chunked else [])]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "'y' has 2 classes" in said
    figures = []
    for table in ("t.csv", "clean.csv"):
        assert run(["evaluate", "m", table, "--max-error", "none", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        figures.append({key: value for key, value in found.items() if key != "energy"})
    assert figures[0] == figures[1]


# ------------------------------------------------------------------------ cells that are no values


@pytest.mark.parametrize("odd", [["x"], {"x"}, {"x": 1}, ("x",), b"x"])
def test_a_cell_that_is_no_value_is_named_with_what_helps(odd):
    words = pd.Series([*["u", "v"] * 20], dtype=object)
    words.iat[7] = odd
    frame = pd.DataFrame({"x": rng().normal(size=40), "c": words})
    named = re.escape(f"row 7: argument must be a string or a number, not {odd!r}")
    with pytest.raises(TypeError, match=f"^Column 'c', {named}.*or leave the column out"):
        inspect(frame)
    several = pd.DataFrame({"c": words, "k": ["p", "q"] * 20})
    for kind in (JointClassifier, JointRegressor):
        for y in (words.rename("c"), several):
            with pytest.raises(TypeError, match=f"^Target 'c', {named}.*or None where it is not"):
                kind(family="mixture", predictor=None).fit(frame[["x"]], y)


def test_a_list_among_the_labels_of_a_list_is_named():
    X, y, _ = answers()
    labels = y.tolist()
    labels[3] = ["yes"]
    model = JointClassifier(family="naive_bayes", predictor=None)
    with pytest.raises(TypeError, match=r"Target 'y', row 3: .* not \['yes'\] \(list\)"):
        model.fit(X, labels)
    model.fit(X, y)
    with pytest.raises(TypeError, match=r"Target 'y', row 3: .* not \['yes'\] \(list\)"):
        model.evaluate(X, labels)


@pytest.mark.parametrize("rows", [[[1, ["x"]], [2, "u"]], [[1, "u"], [2, ["x"]]]])
def test_a_list_among_the_cells_of_rows_is_named(rows):
    at = 0 if isinstance(rows[0][1], list) else 1
    with pytest.raises(TypeError, match=rf"Column 'x1', row {at}: .* not \['x'\] \(list\)"):
        inspect(rows)


def test_a_category_that_is_no_value_is_named_by_its_first_row():
    cells = pd.Categorical.from_codes([0, 0, 1, 1], categories=["u", pd.Interval(0, 1)])
    with pytest.raises(TypeError, match="Column 'c', row 2: argument must be a string or a num"):
        inspect(pd.DataFrame({"c": cells}))


def test_a_level_that_is_no_value_and_odd_times_are_named():
    frame = cities()
    with pytest.raises(TypeError, match=r"'city': merge names the level \['Berlin'\]"):
        inspect(frame, types={"city": {"merge": {"Brelin": ["Berlin"]}}})
    times = pd.Series([*range(len(frame) - 1), ["x"]], dtype=object)
    with pytest.raises(TypeError, match=rf"times, row {len(frame) - 1}: .*leave time= out"):
        JointDensity(family="naive_bayes").fit(frame, time=times)


def test_the_shell_counts_rows_of_targets_from_one():
    for text in (
        "Target 'y', row 3: argument must be",
        "The target 'y' has the value 'abc' in row 3, which is no number",
        "The target 'y' has (2, 1) in row 3: a cell is a number",
        "The times, row 3: argument must be",
    ):
        assert in_shell(text) == text.replace("row 3", "row 4")


# --------------------------------------------------------------------- files written in another way


@pytest.fixture(scope="module")
def of_cars():
    rng = np.random.default_rng(0)
    km = rng.integers(1_000, 200_000, 300)
    X = pd.DataFrame(
        {
            "brand": rng.choice(["Ford", "Opel", "VW"], 300),
            "mileage": [f"{each:,} km" for each in km],
            "owners": rng.poisson(3, 300),
        }
    )
    return X, quiet_fit(JointDensity(family="naive_bayes", random_state=0), X)


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("brand", str.upper, "'brand': 36 of 50 .* words that the fit has never seen; it knows"),
        (
            "mileage",
            lambda cell: cell.replace(",", "."),
            "'170.274 km' is not a number",
        ),
        ("owners", lambda cell: f"{cell}.5", "'owners': 50 of 50 .* between the steps of 1 "),
    ],
)
def test_a_file_that_is_written_in_another_way_is_told(of_cars, name, written, words):
    X, model = of_cars
    new = X.head(50)
    with pytest.warns(CellWarning, match=words):
        model.score_samples(new.assign(**{name: [written(str(cell)) for cell in new[name]]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CellWarning)
        model.score_samples(new)


def test_shuffled_numbers_of_customers_are_identifiers():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"customer": rng.permutation(400)[:300] + 500_000, "x": rng.normal(size=300)}
    )
    found = inspect(frame.assign(steps=rng.permutation(3000)[:300]))
    assert "none stands twice" in found["customer"].why
    assert not found["steps"].why


# ------------------------------------------------------ leading zeros, lengths of time, AM and PM


def random_dates(form):
    days = pd.Timestamp("2016-01-01") + pd.to_timedelta(rng().integers(0, 800, ROWS), "D")
    numbers = {"d": days.day, "m": days.month, "Y": days.year}
    return [form.format(**{key: each[i] for key, each in numbers.items()}) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("{d}.{m}.{Y}", "%-d.%-m.%Y"),
        ("{d:02d}.{m:02d}.{Y}", "%d.%m.%Y"),
        ("{d}.{m:02d}.{Y}", "%-d.%m.%Y"),
        ("{m}/{d}/{Y}", "%-m/%-d/%Y"),
        ("{m}/{d}/{Y} 9:05", "%-m/%-d/%Y %-H:%M"),
    ],
)
def test_dates_are_written_back_with_or_without_leading_zeros(words, form):
    frame = pd.DataFrame({"day": random_dates(words), "v": rng().normal(size=ROWS).round(2)})
    codec = TableCodec().fit(frame)
    assert codec.schema.columns[0].format == form
    again = codec.decode(codec.encode(frame).event.value)
    assert again["day"].tolist() == frame["day"].tolist()


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        (["3h 32m", "0h 5m", "12h 0m"], [212, 5, 720]),
        (["1h", "45m", "1h 20m"], [60, 45, 80]),
        (["1 hour 1 minute", "2 hours 15 minutes", "3 hours 0 minutes"], [61, 135, 180]),
        (["1h 05m", "12h 30m", "0h 01m"], [65, 750, 1]),
        (["1d 2h 3m", "5h 1m", "2d"], [1563, 301, 2880]),
        (["1 hr, 20 min", "2 hr, 5 min", "11 hr, 0 min"], [80, 125, 660]),
    ],
)
def test_lengths_of_time_in_words_are_numbers_and_are_written_back(words, minutes):
    frame = pd.DataFrame({"took": words * 20, "v": rng().normal(size=60).round(2)})
    codec = TableCodec().fit(frame)
    assert codec.schema.columns[0].unit == "min"
    np.testing.assert_allclose(numbers_of(codec, frame, "took"), minutes * 20, atol=1e-6)
    assert codec.decode(codec.encode(frame).event.value)["took"].tolist() == words * 20
    assert any("lengths of time, in min" in text for text in codec.schema.notices)


@pytest.mark.parametrize("words", [["3m 2h", "2h 3m", "1h 2m"], ["90m", "1h 20m", "2h 5m"]])
def test_lengths_that_could_not_be_written_back_stay_words(words):
    codec = TableCodec().fit(pd.DataFrame({"took": words * 20, "v": rng().normal(size=60)}))
    assert not codec.schema.columns[0].numeric


@pytest.mark.parametrize("cell", ["3m 2h", "2h 2h", "2h 3", "2 x", "-1h 5m", ""])
def test_later_cells_that_are_no_lengths_are_missing(cell):
    words = ["3h 32m", "0h 5m", "12h 0m"]
    codec = TableCodec().fit(pd.DataFrame({"took": words * 20, "v": rng().normal(size=60)}))
    assert codec.schema.columns[0].parse.read(cell) is None
    assert codec.schema.columns[0].parse.read("1h 30m") == 90


def test_times_of_both_clocks_are_read_and_told():
    words = ["13:00", "11:30 PM", "07:10", "1:05 pm", "12:15 AM", "08:00", "19:45"]
    codec = TableCodec().fit(pd.DataFrame({"at": words * 12, "v": rng().normal(size=84).round(2)}))
    frame = pd.DataFrame({"at": words, "v": 0.5})
    assert numbers_of(codec, frame, "at").round(6).tolist() == [780, 1410, 430, 785, 15, 480, 1185]
    back = codec.decode(codec.encode(frame).event.value)["at"].tolist()
    assert back == ["13:00", "23:30", "07:10", "13:05", "00:15", "08:00", "19:45"]
    assert any("'11:30 PM' among those of 24 hours" in text for text in codec.schema.notices)


ODD_WORDS = {
    "length": ([f"{hour}h {minute}m" for hour in range(3) for minute in range(20)], "soon"),
    "month": ([f"20{year}-{month:02d}" for year in range(10, 15) for month in range(1, 13)], "tbd"),
    "quarter": ([f"Q{i % 4 + 1} 20{i // 4 + 10}" for i in range(60)], "2013Q3"),
    "week": ([f"2017-W{week % 52 + 1:02d}" for week in range(60)], "2015-W60"),
    "time": ([f"{i % 24:02d}:{i:02d}" for i in range(59)] + ["11:30 PM"], "25:10"),
}


@pytest.mark.parametrize("name", ODD_WORDS)
def test_one_odd_cell_among_lengths_months_and_times_is_missing_and_told(name):
    words, odd = ODD_WORDS[name]
    codec = TableCodec()
    codec.fit(pd.DataFrame({"when": [*words, odd], "v": rng().normal(size=61)}))
    assert codec.schema.columns[0].numeric
    told = [text for text in codec.schema.notices if f"row 60: {odd!r} is not a value" in text]
    assert len(told) == 1 and "counts as missing" in told[0]


def test_times_are_written_as_most_are_and_dates_beside_one_iso_date_keep_their_zeros():
    times = [f"{i % 12 + 1}:{i:02d} {'AM' if i % 2 else 'PM'}" for i in range(59)] + ["14:30"]
    days = [f"{i % 9 + 1}.{i % 9 + 1}.2016" for i in range(59)] + ["2017-03-04"]
    frame = pd.DataFrame({"at": times, "day": days, "v": rng().normal(size=60)})
    codec = TableCodec().fit(frame)
    back = codec.decode(codec.encode(frame).event.value)
    assert back["at"].tolist() == [*times[:59], "2:30 PM"]
    assert back["day"].tolist() == [*days[:59], "4.3.2017"]
    assert any("'14:30' among those with AM and PM" in text for text in codec.schema.notices)


def test_few_times_of_a_day_or_more_are_told():
    words = [f"{i % 24:02d}:{i % 60:02d}" for i in range(99)]
    codec = TableCodec()
    codec.fit(pd.DataFrame({"took": [*words, "25:10"], "v": rng().normal(size=100)}))
    assert any("such as '25:10', so that all are taken as" in text for text in codec.schema.notices)


def test_times_that_could_be_of_either_clock_stay_words():
    words = ["1:00", "11:30 PM", "7:10"]
    codec = TableCodec().fit(pd.DataFrame({"at": words * 20, "v": rng().normal(size=60)}))
    assert not codec.schema.columns[0].numeric


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        (["2017-10", "1970-01", "1969-12"], [573, 0, -1]),
        (["Oct 2017", "Jan 1970", "May 1971"], [573, 0, 16]),
        (["October 2017", "January 1970", "May 1971"], [573, 0, 16]),
        (["Q4 2017", "Q1 1970", "Q2 1969"], [191, 0, -3]),
        (["2017Q4", "1970Q1", "1969Q2"], [191, 0, -3]),
        (["1970-W01", "1970-W02", "1971-W01"], [0, 1, 53]),
    ],
)
def test_months_quarters_and_weeks_are_counted_and_are_written_back(words, counts):
    frame = pd.DataFrame({"when": words * 20, "v": rng().normal(size=60).round(2)})
    codec = TableCodec().fit(frame)
    found = numbers_of(codec, frame, "when")
    assert (found - found[1]).round(6).tolist() == [count - counts[1] for count in counts] * 20
    assert codec.decode(codec.encode(frame).event.value)["when"].tolist() == words * 20
    assert any("of a calendar, counted from 1970" in text for text in codec.schema.notices)


@pytest.mark.parametrize(
    "words", [["2009-10", "2010-11", "2011-12"], ["2015-W53", "2016-W53", "x"]]
)
def test_seasons_and_weeks_that_do_not_exist_stay_words(words):
    codec = TableCodec().fit(pd.DataFrame({"when": words * 20, "v": rng().normal(size=60)}))
    assert not codec.schema.columns[0].numeric


def test_bounds_of_a_target_are_not_told_as_words_among_its_numbers(tmp_path, capsys):
    numbers = [f"{value:.1f}" for value in rng().uniform(10, 100, 90)]
    y = [*numbers, *["<10", ">100"] * 5]
    path = tmp_path / "b.csv"
    pd.DataFrame({"v": rng().normal(size=100).round(2), "y": y}).to_csv(path, index=False)
    assert run(["check", str(path), "--target", "y", "--schema", str(tmp_path / "s.json")]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "of which 10 rows tell a bound" in told and "are taken as words" not in told


def test_infinite_labels_are_told_with_their_row():
    X = pd.DataFrame({"v": np.arange(4.0)})
    for kind in (JointClassifier, JointRegressor):
        with pytest.raises(ValueError, match=r"infinity .*: row 2 is inf"):
            kind(family="naive_bayes").fit(X, [0.5, np.nan, np.inf, 1.5])
