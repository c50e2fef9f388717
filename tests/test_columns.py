"""Columns as people have them: numbers in words, point masses, ranges, steps, and other types."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conjoin import JointDensity
from conjoin.codecs import Schema, TableCodec, inspect

ROWS = 120


def rng(seed=0):
    return np.random.default_rng(seed)


# --------------------------------------------------------------------------------- numbers in words


def swapped(text):
    return text.translate(str.maketrans(",.", ".,"))


def amounts(seed=1):
    return rng(seed).normal(0, 3000, ROWS).round(2)


def tenths(seed=2):
    return rng(seed).normal(12, 9, ROWS).round(1) + 0.0


def wholes(high, low=0, seed=3):
    return rng(seed).integers(low, high, ROWS)


FORMATS = {
    "money": ([f"${v:,}" for v in wholes(90_000, 500)], wholes(90_000, 500)),
    "brackets": (
        [f"({-v:,.2f})" if v < 0 else f"{v:,.2f}" for v in amounts()],
        amounts(),
    ),
    "decimal comma": (
        [swapped(f"{v:,.2f}") for v in amounts()],
        amounts(),
    ),
    "degrees": ([f"{v:.1f} °C" for v in tenths()], tenths()),
    "minus behind": (
        [f"{-v:.1f}-" if v < 0 else f"{v:.1f}" for v in tenths()],
        tenths(),
    ),
    "time of day": (
        [f"{v // 60:02d}:{v % 60:02d}" for v in wholes(1440)],
        wholes(1440),
    ),
    "percent": ([f"{v} %" for v in wholes(101)], wholes(101)),
    "thousands": (
        [f"{v / 10:g}k" if v >= 10 else f"{v * 100}" for v in wholes(90, 1)],
        wholes(90, 1) * 100,
    ),
    "thin spaces": (
        [f"{v:,.1f}".replace(",", "\u2009").replace(".", ",") for v in np.abs(amounts()).round(1)],
        np.abs(amounts()).round(1),
    ),
    "shortest": ([f"{v:g}" for v in tenths()], tenths()),
    "unit": ([f"{v:.1f}km/h" for v in np.abs(tenths())], np.abs(tenths())),
    "inner minus": (
        [f"€ {v:.2f}" if v >= 0 else f"€ -{-v:.2f}" for v in amounts()],
        amounts(),
    ),
}


def beside(words):
    return pd.DataFrame({"x": words, "q": rng(9).normal(size=len(words))})


@pytest.mark.parametrize("kind", FORMATS)
def test_numbers_in_words_are_parsed_told_and_written_back(kind):
    words, numbers = FORMATS[kind]
    words = np.array(words, dtype=object)
    gone = np.arange(ROWS) % 25 == 7
    words[gone] = ["NA", "-", "?", "n/a", "NA"]
    codec = TableCodec().fit(beside(words))
    column = codec.schema["x"]
    assert column.type in ("integer", "real") and column.missing_share == gone.mean()
    told = " ".join(codec.notices)
    assert "Column 'x' holds numbers written in words" in told and "'n/a'" in told
    assert "not written in one way" not in told
    event = codec.encode(beside(words)).event
    cells = codec._cells[0]
    read = event.value[:, 0].numpy() * cells.scale + cells.shift
    assert (event.observed[:, 0].numpy() == ~gone).all()
    np.testing.assert_allclose(read[~gone], numbers[~gone], atol=1e-6)
    back = codec.decode(event.value, event.observed)["x"]
    assert back[~gone].tolist() == words[~gone].tolist() and back[gone].isna().all()


def test_numbers_in_words_survive_saving_and_the_schema_file(tmp_path):
    frame = pd.DataFrame({kind: words for kind, (words, _) in FORMATS.items()})
    codec = TableCodec().fit(frame)
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    event = codec.encode(frame).event
    pd.testing.assert_frame_equal(again.decode(event.value), frame, check_column_type=False)
    codec.schema.save(tmp_path / "schema.json")
    edited = TableCodec(types=tmp_path / "schema.json").fit(frame)
    assert edited.schema.columns == codec.schema.columns
    assert Schema.load(tmp_path / "schema.json") == codec.schema


def test_numbers_in_words_are_drawn_and_imputed_in_words():
    words, _ = FORMATS["money"]
    frame = beside(words).assign(time=FORMATS["time of day"][0])
    frame.loc[3, "x"] = "NA"
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    drawn = model.sample(200, random_state=1)[0]
    assert drawn["x"].str.fullmatch(r"\$\d{1,3}(,\d{3})?").all()
    assert drawn["time"].str.fullmatch(r"[0-2]\d:[0-5]\d").all()
    full = model.impute(frame)
    assert full["x"].str.startswith("$").all() and full["x"].drop(3).equals(frame["x"].drop(3))
    at = model.sample(5, given={"x": "$40,859", "time": ("08:00", "09:00")}, random_state=0)[0]
    assert (at["x"] == "$40,859").all() and at["time"].between("08:00", "09:00").all()
    assert (model.sample(3, given={"x": 40859}, random_state=0)[0]["x"] == "$40,859").all()


@pytest.mark.parametrize(
    ("words", "first", "told"),
    [
        (["1,234", "2,500", "9,999", "1,001"], 1234, "if it is the decimal mark"),
        (["1,234", "2,5", "9,99", "1,001"], 1.234, None),
        (["1.234 €", "2.500 €", "9.999 €"], 1234, "if it is the decimal mark"),
        (["1.234", "2.500", "9.999", "7.125"], 1.234, "if it groups thousands"),
        (["1.234", "2.5", "9.75"], 1.234, None),
    ],
)
def test_marks_that_may_mean_two_things_are_decided_by_the_column(words, first, told):
    codec = TableCodec().fit(beside(words * 10))
    event = codec.encode({"x": words[:1]}).event
    assert event.value[0, 0] * codec._cells[0].scale + codec._cells[0].shift == pytest.approx(first)
    assumed = [text for text in codec.schema["x"].doubts if "'parse'" in text]
    assert (told is None and not assumed) or told in assumed[0]


def test_what_is_assumed_of_words_can_be_said_otherwise():
    words = ["1,234", "2,500", "9,999", "1,001"] * 10
    for parse, first in (("decimal comma", 1.234), ("decimal point", 1234)):
        codec = TableCodec(types={"x": {"parse": parse}}).fit(beside(words))
        value = codec.encode(beside(words)).event.value[0, 0].item()
        cells = codec._cells[0]
        assert value * cells.scale + cells.shift == pytest.approx(first)
        assert not [text for text in codec.schema["x"].doubts if "parse" in text]
    assert inspect(beside(words), types={"x": {"parse": "words"}})["x"].type == "category"
    mixed = ["$5", "7", "$1,200.50", "NA"] * 10
    assert inspect(beside(mixed))["x"].type == "category"
    assert inspect(beside(mixed), types={"x": {"parse": "money"}})["x"].unit == "$"


@pytest.mark.parametrize(
    "words",
    [
        [f"{v:05d}" for v in range(90)],
        [f"A{v}" for v in range(90)],
        [f"555-{v:04d}" for v in range(90)],
        [f"192.168.{v}.1" for v in range(90)],
        ["low", "12", "13", "14"] * 20,
        ["1", "2", "5", "?"] * 20,
        ["3 mg", "5 g", "7 kg"] * 20,
        [str(10_000 + 7 * v) for v in range(90)],
    ],
)
def test_codes_and_other_words_stay_words(words):
    column = inspect(beside(words))["x"]
    assert column.type == "category" and column.parse is None


@pytest.mark.parametrize(
    ("parse", "sentence"),
    [
        ("gold", "'gold' is no way to parse; choose from money"),
        ("money", "row 1: 'dear' is not a number, but the column was said to be 'money'"),
        ({"mark": ","}, "has no 'mark'"),
        ({"places": "2"}, "'places' of a way of writing must be like 0"),
        ({"decimal": ";"}, "decimal=';' is no way to write numbers"),
    ],
)
def test_a_parse_that_does_not_fit_is_refused(parse, sentence):
    frame = beside(["$5", "dear", "$7", "$8"])
    with pytest.raises(ValueError, match=sentence):
        inspect(frame, types={"x": {"parse": parse}})


def test_a_word_that_cannot_be_read_later_is_named():
    codec = TableCodec().fit(beside(FORMATS["money"][0]))
    with pytest.raises(ValueError, match=r"Column 'x', row 1: 'dear' is not a number \(in \$"):
        codec.encode({"x": ["$5", "dear"]})
    assert codec.encode({"x": ["$5", "unknown", None]}).event.observed[:, 0].tolist() == [
        True,
        False,
        False,
    ]


def test_check_tells_of_numbers_in_words(tmp_path):
    beside(FORMATS["money"][0]).to_csv(tmp_path / "t.csv", index=False)
    command = [sys.executable, "-m", "conjoin", "check", "t.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "numbers written in words" in done.stdout + done.stderr
    assert (
        json.loads((tmp_path / "schema.json").read_text())["columns"][0]["parse"]["prefix"] == "$"
    )
