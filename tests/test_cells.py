"""Cells, targets and names of columns as files have them: nothing is read otherwise in silence."""

import json

import numpy as np
import pandas as pd
import pytest

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
