"""Columns as people have them: numbers in words, point masses, ranges, steps, and other types."""

import datetime
import decimal
import json
import subprocess
import sys
import warnings

import narwhals
import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.codecs import Schema, TableCodec, inspect
from conjoin.codecs.table import read_table
from conjoin.codecs.table.native import in_kind, kind_of, native_series, plain_frame
from conjoin.codecs.table.values import text_of
from conjoin.plot import SamplesDisplay
from conjoin.report.examples import imputation_example

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


def in_lakhs(value):
    """As it is written in India: 1234567.5 is 12,34,567.50."""
    whole, _, rest = f"{value:.2f}".partition(".")
    head, tail = whole[:-3], whole[-3:]
    while head:
        tail = f"{head[-2:]},{tail}"
        head = head[:-2]
    return f"{tail}.{rest}"


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
    "lakhs": (
        [f"₹{in_lakhs(v)}" for v in np.round(10.0 ** (np.abs(tenths()) % 8) + 0.25, 2)],
        np.round(10.0 ** (np.abs(tenths()) % 8) + 0.25, 2),
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
        [f"{v}-A-7" for v in range(90)],
        [f"{v} -A" for v in range(90)],
        [f"{v}-5" for v in range(90)],
        [f"{v}.A.7" for v in range(90)],
        [f"{v}/A/7" for v in range(90)],
        [f"{v}.-" for v in range(90)],
    ],
)
def test_codes_and_other_words_stay_words(words):
    """Also keys, whose parts behind a hyphen, a point or a slash are no unit."""
    column = inspect(beside(words))["x"]
    assert column.type == "category" and column.parse is None


@pytest.mark.parametrize("unit", ["kg", "°C", "m/s", "kg/m3", "/h", "/min", "s-1", "%", "m²"])
def test_units_are_read(unit):
    found = inspect(beside([f"{v / 10:.1f} {unit}" for v in range(90)]))["x"]
    assert found.type == "real" and found.unit == unit


def test_numbers_grouped_as_in_india_are_read_told_and_written():
    words, numbers = FORMATS["lakhs"]
    codec = TableCodec().fit(beside(words))
    assert codec.schema["x"].parse.group == "lakhs" and codec.schema["x"].unit == "₹"
    told = " ".join(codec.notices)
    assert "(in ₹, a decimal point, digits grouped as in 1,23,456)" in told
    written = codec.schema["x"].parse
    assert written.write(1234567.5) == "₹12,34,567.50" and written.write(-5.0) == "-₹5.00"
    assert written.read("₹1,00,00,000.00") == 1e7 and written.read("₹100000") == 1e5
    assert written.read("₹100,000.00") is None  # grouped by thousands: told as a cell of another
    drawn = JointDensity(family="mixture").fit(beside(words)).sample(50, random_state=0)[0]
    assert drawn["x"].str.fullmatch(r"-?₹\d{1,2}(,\d\d)*,\d{3}\.\d\d|-?₹\d{1,3}\.\d\d").all()
    y = pd.Series([word.removeprefix("₹") for word in words], name="y")
    model = JointRegressor(family="naive_bayes", predictor=None).fit(beside(words)[["q"]], y)
    assert model.model_.target.form.group == "lakhs"
    plain = JointRegressor(family="naive_bayes", predictor=None)
    X = beside(words)[["q"]]
    np.testing.assert_allclose(model.predict(X), plain.fit(X, numbers).predict(X))
    whole = [word.partition(".")[0] for word in words]
    assert inspect(beside(whole))["x"].parse.write(123456.0) == "₹1,23,456"


def test_numbers_below_a_lakh_are_grouped_by_thousands():
    assert inspect(beside(FORMATS["money"][0]))["x"].parse.group == ","


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
        json.loads((tmp_path / "t-schema.json").read_text())["columns"][0]["parse"]["prefix"] == "$"
    )


# ------------------------------------------------------------------------------------- point masses

MANY = 2500


def with_spikes(seed=4):
    """Zeros among full-precision numbers, and a value that is constant within a class."""
    draw = rng(seed)
    zero = draw.random(MANY) < 0.6
    kind = draw.choice(["a", "b"], MANY)
    return pd.DataFrame(
        {
            "spent": np.where(zero, 0.0, draw.gamma(2.0, 30.0, MANY)),
            "signed": np.where(draw.random(MANY) < 0.4, 0.0, draw.normal(0, 5, MANY)),
            "rate": np.where(kind == "a", 1.2345678912, draw.normal(3, 1, MANY)),
            "kind": kind,
            "other": draw.normal(size=MANY),
        }
    )


def test_a_value_that_recurs_among_full_precision_numbers_is_an_atom():
    frame = with_spikes()
    schema = inspect(frame)
    assert schema["spent"].atoms == (0.0,) and schema["signed"].atoms == (0.0,)
    assert schema["rate"].atoms == (1.2345678912,)
    assert schema["spent"].bounds == (0.0, None) and schema["signed"].bounds == (None, None)
    assert "'spent' is exactly 0 again and again" in " ".join(schema.notices)
    assert inspect(frame, types={"spent": {"resolution": None}})["spent"].atoms == ()
    plain = inspect(pd.DataFrame({"x": rng().normal(size=MANY)}))["x"]
    assert plain.atoms == () and plain.resolution is None


def test_an_atom_survives_saving_and_the_schema_file(tmp_path):
    codec = TableCodec().fit(with_spikes())
    codec.schema.save(tmp_path / "schema.json")
    assert TableCodec(types=tmp_path / "schema.json").fit(with_spikes()).schema == codec.schema
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    value = codec.encode(with_spikes()).event.value
    pd.testing.assert_frame_equal(again.decode(value), codec.decode(value))
    assert (codec.decode(value)["spent"] == 0).sum() == (with_spikes()["spent"] == 0).sum()


@pytest.mark.parametrize("family", ["circuit", "mixture"])
def test_zeros_are_drawn_as_often_as_they_are(family):
    frame = with_spikes()
    model = JointDensity(family=family, random_state=0).fit(frame)
    drawn = model.sample(10_000, random_state=1)[0]
    for name in ("spent", "signed"):
        assert abs((drawn[name] == 0).mean() - (frame[name] == 0).mean()) <= 0.02
    assert (drawn["spent"] >= 0).all()
    if family == "circuit":
        same = drawn["rate"] == 1.2345678912
        assert same[drawn["kind"] == "a"].mean() > 0.95 and same[drawn["kind"] == "b"].mean() < 0.05


def test_a_value_that_recurs_at_an_end_of_the_range_is_drawn():
    """A detection limit, say, whose digits a rounded range would leave out."""
    draw = rng()
    full = np.clip(draw.normal(size=800), -0.78441482, 1.123456789)
    frame = pd.DataFrame({"x": full, "n": draw.permutation([1] * 500 + [*range(2, 30_002, 100)])})
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    drawn = model.sample(2000, random_state=1)[0]
    for column, value in (("x", -0.78441482), ("x", 1.123456789), ("n", 1)):
        real = (frame[column] == value).mean()
        assert real > 0.1 and abs((drawn[column] == value).mean() - real) < 0.06


# ------------------------------------------------------------------------------------------- ranges


def natural(n=800, seed=5):
    draw = rng(seed)
    return pd.DataFrame(
        {
            "age": np.clip(draw.normal(45, 18, n), 17, 90).round().astype(int),
            "latitude": draw.uniform(-90, 90, n),
            "longitude": draw.uniform(-180, 180, n).round(4),
            "hour": draw.integers(0, 24, n),
            "probability": draw.beta(0.6, 0.6, n),
            "percent": (100 * draw.beta(0.8, 2, n)).round(1),
            "month": draw.integers(1, 13, n),
            "rating": draw.choice([1, 2, 3, 4, 5], n, p=[0.1, 0.1, 0.1, 0.2, 0.5]),
            "income": draw.lognormal(10, 1, n),
            "ph": np.clip(draw.normal(7, 3, n), 0, 14).round(2),
        }
    )


@pytest.mark.parametrize("family", ["circuit", "mixture", "gaussian"])
def test_draws_and_imputations_keep_to_the_range_of_the_fit(family):
    frame = natural()
    model = JointDensity(family=family, random_state=0).fit(frame)
    drawn = model.sample(3000, random_state=0)[0]
    low = frame.min()
    high = frame.max()
    assert ((drawn >= low) & (drawn <= high)).all().all()
    holes = frame.astype(float).mask(rng(6).random(frame.shape) < 0.4)
    for full in [model.impute(holes), *model.impute(holes, n_draws=2)]:
        assert ((full >= low) & (full <= high)).all().all()


def test_tails_are_drawn_where_they_are_asked_for():
    frame = natural()
    model = JointDensity(family="gaussian", random_state=0).fit(frame)
    assert (model.sample(3000, tails=True)[0]["latitude"] > 90).any()
    mixture = JointDensity(family="mixture", random_state=0).fit(frame)
    beyond = mixture.sample(50, given={"latitude": (91, 100)})[0]
    assert beyond["latitude"].between(91, 100).all()
    assert (model.sample(5, given={"latitude": 95.0})[0]["latitude"] == 95).all()
    types = {"latitude": {"tails": True}}
    free = JointDensity(family="gaussian", random_state=0, types=types).fit(frame)
    assert (free.sample(3000)[0]["latitude"] > 90).any()
    types = {"latitude": {"range": (-200, 200)}}
    wide = JointDensity(family="gaussian", random_state=0, types=types).fit(frame)
    assert wide.sample(3000)[0]["latitude"].abs().max() > 90


def test_bounds_of_full_precision_numbers_can_be_said():
    frame = natural()[["probability", "latitude"]]
    types = {"probability": {"bounds": (0, 1)}}
    codec = TableCodec(types=types).fit(frame)
    unseen = codec.encode({"probability": [1.5, 0.5], "latitude": [0.0, 0.0]}).unseen
    assert unseen[:, 0].tolist() == [True, False]
    with pytest.raises(ValueError, match="range are two numbers, low and high"):
        TableCodec(types={"latitude": {"range": (90, -90)}}).fit(frame)


# ----------------------------------------------------------------------------------------- lattices


def lattices(n=900, seed=7):
    draw = rng(seed)
    return pd.DataFrame(
        {
            "even": 2 * draw.integers(0, 60, n),
            "odd": 2 * draw.integers(0, 60, n) + 1,
            "dozens": 12 * draw.integers(1, 9, n),
            "quarter": 15 * draw.integers(0, 96, n),
            "power": 2 ** draw.integers(0, 11, n),
            "third": draw.integers(0, 40, n) / 3,
            "price": draw.choice([4.99, 9.99, 19.99, 49.99, 99.99], n),
            "year": draw.choice([1990, 1995, 2000, 2005], n),
            "log": np.log(draw.integers(1, 9, n)),
        }
    )


def test_the_step_of_a_lattice_is_learned_and_draws_keep_it():
    frame = lattices()
    schema = inspect(frame)
    steps = {name: schema[name].resolution for name in frame}
    assert [steps[name] for name in ("even", "odd", "dozens", "quarter", "year")] == [
        2,
        2,
        12,
        15,
        5,
    ]
    assert steps["third"] == pytest.approx(1 / 3) and schema["odd"].offset == 1
    assert schema["power"].only_atoms and schema["log"].only_atoms
    assert "'dozens' is recorded in steps of 12" in " ".join(schema.notices)
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    drawn = model.sample(2000, random_state=0)[0]
    assert (drawn["odd"] % 2 == 1).all() and (drawn["even"] % 2 == 0).all()
    assert (drawn["dozens"] % 12 == 0).all() and (drawn["quarter"] % 15 == 0).all()
    for name in ("power", "price", "year", "log"):
        assert set(drawn[name]) <= set(frame[name])
    assert np.allclose(drawn["third"] * 3, (drawn["third"] * 3).round())
    assert drawn.dtypes.equals(frame.dtypes)


def test_columns_of_every_whole_number_have_steps_of_one():
    draw = rng(8)
    frame = pd.DataFrame(
        {
            "rating": draw.integers(1, 6, 600),
            "children": draw.choice([0, 1, 2, 3, 8], 600),
            "age": draw.integers(17, 91, 600),
            "few": draw.choice([2, 4, 5], 600),
            "long": draw.integers(0, 10**6, 600),
        }
    )
    schema = inspect(frame)
    assert [column.resolution for column in schema.columns] == [1, 1, 1, 1, 1]
    assert not any(column.only_atoms or column.offset for column in schema.columns)


# -------------------------------------------------------------------------------------------- types


def times(n=120):
    draw = rng(11)
    offsets = ["+01:00" if row % 2 else "+02:00" for row in range(n)]
    words = [f"2024-01-{1 + r % 28:02d}T10:{r % 60:02d}:00{offsets[r]}" for r in range(n)]
    return pd.DataFrame(
        {
            "length": pd.to_timedelta(draw.integers(1, 90, n), unit="h"),
            "month": pd.period_range("2015-01", periods=n, freq="M"),
            "at": [datetime.time(int(h), int(15 * q)) for h, q in draw.integers(0, 4, (n, 2))],
            "offset": np.array([pd.Timestamp(word) for word in words], dtype=object),
            "words": words,
            "zone": pd.date_range("2024-01-01", periods=n, freq="h", tz="Europe/Berlin"),
        }
    )


def test_times_of_every_type_are_modelled_and_come_back():
    frame = times()
    codec = TableCodec().fit(frame)
    assert [column.name for column in codec.schema.drawn] == list(frame.columns)
    assert [codec.schema[name].resolution for name in ("length", "at")] == [3600, 900]
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    for reader in (codec, again):
        back = reader.decode(reader.encode(frame).event.value)
        for name in ("length", "month", "at", "zone"):
            assert (back[name] == frame[name]).all() and back[name].dtype == frame[name].dtype
        for name in ("offset", "words"):
            same = pd.to_datetime(back[name], utc=True) == pd.to_datetime(frame[name], utc=True)
            assert same.all()
    assert "'words' has times with offsets from UTC" in " ".join(codec.notices)
    drawn = JointDensity(family="mixture", random_state=0).fit(frame).sample(20)[0]
    assert drawn["length"].dtype == frame["length"].dtype
    assert drawn["month"].dtype == frame["month"].dtype
    assert all(isinstance(cell, datetime.time) for cell in drawn["at"])


def test_missing_times_are_imputed_in_their_type():
    frame = times()[["length", "at", "month"]]
    frame["at"] = frame["at"].astype(object)
    frame.loc[3, ["length", "at"]] = [pd.NaT, None]
    full = JointDensity(family="mixture", random_state=0).fit(frame).impute(frame)
    assert isinstance(full["length"][3], pd.Timedelta) and isinstance(full["at"][3], datetime.time)


def answers(n=200):
    draw = rng(12)
    return pd.DataFrame(
        {
            "flag": draw.random(n) < 0.5,
            "word": draw.choice(["yes", "no"], n),
            "digit": draw.integers(0, 2, n),
            "side": draw.choice(["left", "right"], n),
            "x": draw.normal(size=n),
        }
    )


@pytest.mark.parametrize("yes", [True, 1, 1.0, "yes", "TRUE", "True", "y", "1"])
def test_yes_is_yes_however_it_is_written(yes):
    no = {True: False, "yes": "no", "TRUE": "FALSE", "True": "False", "y": "n", "1": "0"}.get(yes)
    codec = TableCodec().fit(answers())
    rows = {name: [yes, no] for name in ("flag", "word", "digit")}
    encoded = codec.encode(pd.DataFrame({**rows, "side": ["left", "left"], "x": [0.0, 0.0]}))
    assert not encoded.unseen.any()
    assert encoded.event.value[:, :3].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert codec.encode(pd.DataFrame({"side": [yes]})).unseen[0, 3]


def test_labels_of_yes_and_no_agree_between_fit_and_evaluation():
    frame = answers()
    y = np.where(frame["x"] > 0, "yes", "no")
    model = JointClassifier(family="naive_bayes", predictor=None, random_state=0).fit(frame, y)
    for same in (y == "yes", (y == "yes").astype(int), np.where(y == "yes", "TRUE", "FALSE")):
        found = model.evaluate(frame, same)["accuracy"]
        assert found == model.evaluate(frame, y)["accuracy"] > 0.9
    with pytest.raises(ValueError, match="has the class maybe"):
        model.evaluate(frame, np.where(y == "yes", "maybe", "no"))


@pytest.mark.parametrize(
    ("dtype", "plain"),
    [("Int64", int), ("boolean", bool), ("int64[pyarrow]", int), ("bool[pyarrow]", bool)],
)
def test_labels_that_may_be_missing_keep_their_type(dtype, plain):
    pytest.importorskip("pyarrow")
    frame = answers()
    y = pd.Series((frame["x"] > 0).astype(int)).astype(bool).astype(dtype)
    y[3] = pd.NA
    model = JointClassifier(family="naive_bayes", predictor=None, random_state=0).fit(frame, y)
    assert [type(label) for label in model.classes_.tolist()] == [plain, plain]
    assert isinstance(model.predict(frame).tolist()[0], plain)
    assert model.score(frame.drop(index=3), y.drop(index=3)) > 0.9


def test_other_data_frames_go_by_name_and_come_back_in_kind():
    pytest.importorskip("narwhals")
    arrow = pytest.importorskip("pyarrow")
    plain = answers().drop(columns="digit").assign(zone=times(200)["zone"])
    table = arrow.Table.from_pandas(plain, preserve_index=False)
    y = arrow.chunked_array([(plain["x"] > 0).to_numpy()])
    model = JointClassifier(family="mixture", predictor=None, random_state=0).fit(table, y)
    same = JointClassifier(family="mixture", predictor=None, random_state=0)
    same.fit(plain, plain["x"] > 0)
    assert list(model.feature_names_in_) == list(plain.columns)
    turned = table.select(table.column_names[::-1])
    assert (model.predict_proba(turned) == same.predict_proba(plain)).all()
    drawn = model.sample(7, random_state=1)[0]
    assert isinstance(drawn, arrow.Table) and drawn.column_names == table.column_names
    expected = same.sample(7, random_state=1)[0]
    assert drawn["zone"].to_pylist() == expected["zone"].tolist()
    assert drawn.schema.field("zone").type.tz == "Europe/Berlin"
    holes = arrow.Table.from_pandas(plain.assign(side=None), preserve_index=False)
    full = model.impute(holes)
    assert isinstance(full, arrow.Table) and full["side"].null_count == 0
    assert full["flag"].to_pylist() == plain["flag"].tolist()
    assert isinstance(model.impute(plain), pd.DataFrame)


def arrow_cells(n=400):
    """Columns of types that pandas does not have, as plain cells of Python."""
    draw = rng(31)
    days = [
        datetime.date(2024, 1, 1) + datetime.timedelta(int(i)) for i in draw.integers(0, 300, n)
    ]
    return {
        "day": days,
        "price": [decimal.Decimal(int(i)) / 100 for i in draw.integers(0, 9000, n)],
        "size": draw.choice(["low", "mid", "high"], n).tolist(),
        "x": draw.normal(size=n).tolist(),
    }


def arrow_table(cells):
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    price = arrow.array(cells["price"], arrow.decimal128(12, 2))
    return arrow.table({**cells, "price": price})


def polars_frame(cells):
    polars = pytest.importorskip("polars", reason="needs polars")
    sizes = polars.Series(cells["size"], dtype=polars.Enum(["low", "mid", "high", "huge"]))
    price = polars.Series(cells["price"], dtype=polars.Decimal(12, 2))
    return polars.DataFrame({**cells, "price": price, "size": sizes})


@pytest.mark.parametrize("to_frame", [arrow_table, polars_frame])
def test_types_that_pandas_does_not_have_come_back_in_kind(to_frame):
    cells = arrow_cells()
    frame = to_frame(cells)
    holes = to_frame({name: [None, *values[1:8]] for name, values in cells.items()})
    y = [value > 0 for value in cells["x"]]
    model = JointClassifier(family="naive_bayes", predictor=None).fit(frame, y)
    drawn = model.sample(9, random_state=0)[0]
    full = model.impute(holes)
    other = model.counterfactual(frame[:3], n=1)
    several = JointClassifier(family="mixture").fit(frame, pd.DataFrame({"y": y, "z": cells["x"]}))
    for found in (drawn, full, other):
        assert type(found) is type(frame) and types_of(found) == types_of(frame)
    assert full.to_pandas().iloc[1:].equals(holes.to_pandas().iloc[1:])
    assert set(other.to_pandas()["row"]) == {0, 1, 2} and "option" in other.to_pandas()
    verdicts = model.decide(frame[:5], max_error=0.2)
    assert type(verdicts) is type(frame) and "verdict" in verdicts.to_pandas()
    for found in (several.predict(frame[:5]), several.sample(3)[1]):
        assert type(found) is type(frame) and [*found.to_pandas()] == ["y", "z"]
    both = several.decide(frame[:5], max_error=0.2).to_pandas()
    assert {"y verdict", "z verdict", "all verdict"} <= set(both)


def test_frames_that_need_a_library_to_be_read_name_it(monkeypatch):
    frame = polars_frame(arrow_cells(30))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for raw in (frame, frame["x"]):
        with pytest.raises(ValueError, match=r"polars are read by pyarrow .*conjoin\[parquet\]"):
            native_series(plain_frame(raw))


def types_of(frame):
    """{name: type} of a frame of Arrow or polars."""
    return {name: str(narwhals.from_native(frame).schema[name]) for name in arrow_cells(1)}


def test_a_type_stays_where_values_do_not_fit_into_the_other():
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    days = arrow.table({"day": arrow.array([datetime.date(2024, 1, 1)]), "price": [1]})
    prices = arrow.table({"price": arrow.array([decimal.Decimal("1.25")], arrow.decimal128(9, 2))})
    frame = pd.DataFrame({"day": [pd.Timestamp("2024-01-01 07:30")], "price": [1.234]})
    assert str(in_kind(frame, kind_of(days)).schema.field("day").type).startswith("timestamp")
    assert str(in_kind(frame, kind_of(prices)).schema.field("price").type) == "double"
    fitting = pd.DataFrame({"day": [pd.Timestamp("2024-01-01")], "price": [1.23]})
    assert str(in_kind(fitting, kind_of(days)).schema.field("day").type) == "date32[day]"
    assert str(in_kind(fitting, kind_of(prices)).schema.field("price").type) == "decimal128(9, 2)"
    indexed = fitting.rename_axis("price")
    assert in_kind(indexed, kind_of(days)).column_names == ["price_", "day", "price"]


def test_days_and_months_that_could_change_places_are_told():
    draw = rng(20)
    first, second = draw.integers(1, 13, 200), draw.integers(1, 13, 200)
    X = pd.DataFrame(
        {"when": [f"{a:02d}/{b:02d}/2024" for a, b in zip(first, second, strict=True)]}
    )
    X["a"] = draw.normal(size=200)
    codec = TableCodec().fit(X)
    assert any(
        "'when': the day and the month could change places" in each for each in codec.notices
    )
    told = TableCodec(types={"when": {"type": "date", "format": "%m/%d/%Y"}}).fit(X)
    assert not any("change places" in each for each in told.notices)
    X["when"] = X["when"].where(np.arange(200) != 7, "25/03/2024")
    assert not any("change places" in each for each in TableCodec().fit(X).notices)


# -------------------------------------------------------------------------- dates that mean "none"


def dates_with(none, at=(3, 50, 90), form="%Y-%m-%d"):
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(wholes(400), unit="D")
    words = pd.Series(dates).dt.strftime(form)
    words[list(at)] = none
    return words


@pytest.mark.parametrize(
    ("none", "form"),
    [("9999-12-31", "%Y-%m-%d"), ("01.01.1900", "%d.%m.%Y"), ("2099-12-31", "%Y-%m-%d")],
)
def test_dates_that_mean_none_are_told_and_nothing_is_drawn_between(none, form):
    frame = beside(dates_with(none, form=form))
    schema = inspect(frame)
    (told,) = schema["x"].doubts
    assert f"is {none} in 3 rows, far from the other dates (2024-0" in told
    assert f"say missing={{'x': ['{none}']}}." in told
    assert inspect(frame, missing={"x": [none]})["x"].missing_share == 3 / ROWS
    assert not inspect(frame, missing={"x": [none]})["x"].doubts
    assert len(schema["x"].atoms) == 1
    frame.loc[7, "x"] = None
    model = JointDensity(family="naive_bayes", random_state=0).fit(frame)
    drawn = model.sample(500, random_state=0)[0]["x"]
    share = (drawn == none).mean()
    assert 0 < share < 0.1
    assert set(pd.to_datetime(drawn[drawn != none], format=form).dt.year) <= {2024, 2025}
    assert pd.to_datetime(model.impute(frame)["x"][7], format=form).year in (2024, 2025)


def test_dates_beside_one_that_means_none_keep_places_of_their_own():
    codec = TableCodec().fit(
        beside(dates_with("9999-12-31").where(lambda x: x.index != 5, "1900-01-01"))
    )
    days = pd.date_range("2022-01-01", "2028-01-01").strftime("%Y-%m-%d").tolist()
    days += ["9999-12-31", "1900-01-01", "1850-06-01", "9999-12-30"]
    frame = beside(days)
    event = codec.encode(frame).event
    assert len(np.unique(event.value[:, 0])) == len(days)
    assert codec.decode(event.value)["x"].tolist() == days
    assert codec._cells[0].scale < 150
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again.decode(event.value)["x"].tolist() == days


def test_dates_near_the_others_are_no_codes():
    days = pd.date_range("1899-12-01", periods=ROWS).strftime("%Y-%m-%d")
    column = inspect(beside(days))["x"]
    assert column.type == "date" and not column.doubts and not column.atoms


# ------------------------------------------------------------------------------- numbers far beyond


@pytest.mark.parametrize("cells", [wholes(6000, 1500), np.abs(amounts())])
def test_a_line_of_totals_is_told(cells, tmp_path):
    x = np.append(cells, cells.sum()).round(2)
    told = " ".join(inspect(pd.DataFrame({"x": x, "q": rng().normal(size=ROWS + 1)}))["x"].doubts)
    far = x[-1] - x[:-1].max() > 100 * np.ptp(x[:-1])
    assert ("1 row, hundreds of times" in told and "it is their sum" in told) == far
    pd.DataFrame({"x": x, "q": 0.5}).to_csv(tmp_path / "t.csv", index=False)
    notices = read_table(tmp_path / "t.csv")[1]
    assert any("last row looks like a line of totals: 'x'" in text for text in notices)
    pd.DataFrame({"x": x[:-1], "q": 0.5}).to_csv(tmp_path / "t.csv", index=False)
    assert not read_table(tmp_path / "t.csv")[1]


def test_few_numbers_hundreds_of_times_beyond_the_others_are_told():
    x = wholes(6000, 1500).astype(float)
    x[[4, 60]] = 1_506_698, -2e6
    low, high = inspect(beside(x))["x"].doubts
    assert "-2000000 in 1 row" in low and "1506698 in 1 row" in high
    x[60:64] = -2e6
    assert not inspect(beside(x))["x"].doubts  # these are no few
    x[60:64] = 2000
    (told,) = inspect(beside(x))["x"].doubts
    assert "is 1506698 in 1 row, hundreds of times beyond the other values (15" in told
    assert "say missing={'x': [1506698]}" in told
    assert not inspect(beside(x), missing={"x": [1506698]})["x"].doubts


@pytest.mark.parametrize("draw", ["exponential", "laplace", "lognormal"])
def test_long_tails_are_no_mistakes(draw):
    assert not inspect(beside(getattr(rng(), draw)(size=ROWS)))["x"].doubts


# ---------------------------------------------------------------------------- dates in other styles


@pytest.mark.parametrize(
    ("form", "days"),
    [("%d.%m.%y", 400), ("%m/%d/%y", 900), ("%b %d, %Y", 40), ("%d %B %Y", 900), ("%d-%b-%y", 60)],
)
def test_dates_in_other_styles_are_told_and_the_remedy_reads_them(form, days):
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(wholes(days), unit="D")
    frame = beside(pd.Series(dates).dt.strftime(form))
    told = f"to have dates, say types={{'x': {{'type': 'date', 'format': '{form}'}}}}."
    schema = inspect(frame)
    said = [text for text in schema.notices if told in text]
    assert len(said) == 1 and "look" in said[0] and "like dates" in said[0]
    assert not any("amounts" in text for text in schema.doubts)
    codec = TableCodec(types={"x": {"type": "date", "format": form}}).fit(frame)
    event = codec.encode(frame).event
    pd.testing.assert_frame_equal(codec.decode(event.value), frame)
    assert codec.schema["x"].type == "date" and not codec.schema["x"].doubts


def test_other_words_are_no_dates():
    for words in (["v1.2", "v1.3", "v2.0"], ["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["a", "b", "c"]):
        assert not any("dates" in text for text in inspect(beside(words * 20)).doubts)


@pytest.mark.parametrize("gone", [False, True])
def test_dates_as_whole_numbers_are_told_and_the_remedy_draws_dates(gone):
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(wholes(700), unit="D")
    numbers = pd.Series(dates).dt.strftime("%Y%m%d").astype(int)
    numbers = numbers.where(numbers.index != 4) if gone else numbers
    frame = beside(numbers)
    (told,) = inspect(frame)["x"].doubts
    assert "say types={'x': {'type': 'date', 'format': '%Y%m%d'}}." in told
    types = {"x": {"type": "date", "format": "%Y%m%d"}}
    codec = TableCodec(types=types).fit(frame)
    event = codec.encode(frame).event
    pd.testing.assert_series_equal(codec.decode(event.value, event.observed)["x"], frame["x"])
    drawn = codec.decode(event.value + 0.37 * event.observed)["x"]
    assert (
        pd.to_datetime(drawn.astype(int).astype(str), format="%Y%m%d")
        .between("2024-01-01", "2026-12-31")
        .all()
    )


def test_whole_numbers_that_are_no_dates_are_not_told_as_such():
    for numbers in (wholes(20_301_231, 19_000_101), wholes(6000, 1500)):
        assert not any("dates" in text for text in inspect(beside(numbers)).doubts)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["(EUR)"] * 4 + [f"{v:.2f}" for v in amounts()[4:]], "'(EUR)', which is none"),
        ([f"{'$' if i % 2 else '€'}{i * 7}" for i in range(ROWS)], "several units ('$105', '€0')"),
        ([f"{i} kg" if i % 2 else f"{i}000 g" for i in range(1, ROWS + 1)], "('1 kg', '10000 g')"),
        (
            [f"{i},{i},{i}0.25" if i % 2 else f"{i},{i}00,{i}0.25" for i in range(10, 100)],
            "grouped in several ways ('11,11,110.25'); write",
        ),
    ],
)
def test_what_keeps_words_from_being_numbers_is_named(words, told):
    column = inspect(beside(words))["x"]
    assert column.role == "set aside" and told in column.why


@pytest.mark.parametrize("form", ["id{}", "1.{}.3", "{:05d}a{}", "note {}"])
def test_identifiers_are_no_numbers_with_a_fault(form):
    words = [form.format(i, i) for i in rng().permutation(ROWS)]
    assert inspect(beside(words))["x"].why == "every value is different, like an identifier"


def test_the_notices_of_a_schema_are_all_that_a_print_of_it_and_a_fit_say():
    frame = beside(["Yes", "yes", "no", "no"] * 30).assign(day=dates_with("9999-12-31"), one=1)
    schema = inspect(frame)
    printed = [line.removeprefix("! ") for line in str(schema).splitlines() if line[0] == "!"]
    assert sorted(schema.notices) == sorted(printed)
    assert list(schema.notices) == TableCodec().fit(frame).notices
    for words in ("differ only in case", "9999-12-31", "'one' is set aside"):
        assert sum(words in text for text in schema.notices) == 1, words
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema and again.notices == schema.notices


# ---------------------------------------------------------------------- what files write for "none"


@pytest.mark.parametrize(
    "code", [-999.9, 99.9, -99.99, -77.7, 8888, 32767, -998, 65535, 2**31 - 1, 1e20]
)
@pytest.mark.parametrize("times", [1, 12])
def test_a_number_that_stands_for_none_is_told(code, times):
    values = rng(5).uniform(20, 55, 500).round(1)
    values[:times] = code
    told = [each for each in inspect(pd.DataFrame({"h": values})).notices if "missing" in each]
    assert len(told) == 1 and f"missing={{'h': [{text_of(code)}]}}" in told[0]
    frame = pd.DataFrame({"h": values})
    named = inspect(frame, missing={"h": [float(text_of(code))]})
    assert not any("missing" in each for each in named.notices)


def test_numbers_of_one_digit_among_others_are_no_codes():
    values = np.append(rng(5).uniform(20, 120, 500).round(1), [77.7, 88, 99, 99.9])
    assert not any("missing" in each for each in inspect(pd.DataFrame({"h": values})).notices)


@pytest.mark.parametrize("left_over", [5.55e-17, -2e-16, 1e-12])
def test_what_arithmetic_leaves_behind_changes_no_step(left_over):
    values = rng(6).normal(0, 5, 500).round(1)
    values[3] = left_over
    frame = pd.DataFrame({"h": values})
    assert inspect(frame)["h"].resolution == 0.1
    drawn = JointDensity(family="mixture", random_state=0).fit(frame).sample(200, random_state=0)[0]
    assert np.allclose(drawn["h"], drawn["h"].round(1), atol=1e-9)


def test_an_end_after_a_start_stays_a_date_beside_pooled_levels():
    """Counting rare levels again took the days between for the end itself."""
    draw = rng(7)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 300, 300), unit="D")
    end = start + pd.to_timedelta(draw.integers(0, 15, 300), unit="D")
    frame = pd.DataFrame(
        {
            "start": start.strftime("%Y-%m-%d"),
            "end": end.strftime("%Y-%m-%d"),
            "who": [f"p{i}" for i in draw.integers(0, 150, 300)],
        }
    )
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    drawn = model.sample(100, random_state=0)[0]
    days = (pd.to_datetime(drawn["end"]) - pd.to_datetime(drawn["start"])).dt.days
    assert days.between(0, 14).all()
    filled = model.impute(frame.head(5).assign(end=None))
    days = (pd.to_datetime(filled["end"]) - pd.to_datetime(filled["start"])).dt.days
    assert days.between(0, 14).all()


# -------------------------------------------------------------- cells in the way of another country


def in_euros(form="{}.000 €"):
    thousands = rng(8).integers(20, 90, 300)
    return pd.DataFrame({"price": [form.format(each) for each in thousands], "size": thousands})


@pytest.mark.parametrize(("form", "other"), [("{}.000 €", "50,000 €"), ("${},000", "$50.000")])
def test_thousands_with_the_mark_of_decimals_are_not_taken_for_a_thousandth(form, other):
    model = JointDensity(family="mixture", random_state=0).fit(in_euros(form))
    new = pd.DataFrame({"price": [other, form.format(50)], "size": [None, None]})
    with pytest.warns(conjoin.CellWarning, match="row 0: .* is not a number .* counts as missing"):
        filled = model.impute(new)
    assert 45 < filled["size"][1] < 55
    with pytest.raises(ValueError, match="is not a number"):
        model.sample(2, given={"price": other})


def test_decimals_among_whole_numbers_are_still_read():
    column = inspect(in_euros())["price"]
    assert column.parse.read("5.000,5 €") == 5000.5 and column.parse.read("0,250 €") == 0.25
    assert column.parse.read("50,000 €") is None


def test_cells_without_the_unit_of_the_fit_are_told():
    share = rng(9).uniform(10, 90, 300).round(1)
    frame = pd.DataFrame({"share": [f"{each}%" for each in share], "z": share})
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    with pytest.warns(
        conjoin.CellWarning, match="'share' has no '%' here, .* 0.25 is taken as 0.25 %"
    ):
        model.score_samples(pd.DataFrame({"share": [0.25, 0.5], "z": [25, 50]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score_samples(frame.head(3))


# -------------------------------------------------------------------------- columns split in flags


@pytest.mark.parametrize(("first", "how"), [(0, "exactly one"), (1, "at most one")])
@pytest.mark.parametrize("kind", [int, bool, float])
def test_a_column_that_was_split_into_flags_is_told(first, how, kind):
    city = rng(11).choice(["Rome", "Oslo", "Bern", "Cork"], 200)
    flags = pd.get_dummies(pd.Series(city), prefix="city").astype(kind).iloc[:, first:]
    other = pd.DataFrame({"was_a": rng(1).integers(0, 2, 200), "was_b": rng(2).integers(0, 2, 200)})
    told = [each for each in inspect(flags.join(other)).notices if "split into flags" in each]
    assert len(told) == 1 and f"in every row {how} is 1" in told[0] and "'city_Rome'" in told[0]


def test_columns_of_0_and_1_that_go_together_otherwise_are_no_flags_of_one():
    draw = rng(12)
    free = pd.DataFrame({f"has_{name}": draw.integers(0, 2, 200) for name in "abcd"})
    assert not any("split into flags" in each for each in inspect(free).notices)


def test_months_and_times_in_whole_numbers_are_told():
    draw = rng(13)
    months = pd.date_range("2019-01-01", periods=40, freq="MS").strftime("%Y%m").astype(int)
    frame = pd.DataFrame(
        {
            "month": draw.choice(months, 300),
            "at": 100 * draw.integers(0, 24, 300) + draw.integers(0, 60, 300),
            "count": draw.integers(0, 2400, 300),
        }
    )
    told = inspect(frame).notices
    assert [each for each in told if "'month' looks like dates (2019" in each and "'%Y%m'" in each]
    assert [each for each in told if "'at' looks like times of the day" in each]
    assert not any("'count'" in each for each in told)
    types = {"month": {"type": "date", "format": "%Y%m"}}
    model = JointDensity(family="mixture", types=types, random_state=0).fit(frame)
    drawn = model.sample(300, random_state=0)[0]["month"].astype(int)
    assert (drawn % 100).between(1, 12).all()


def test_numbers_in_words_are_shown_as_numbers():
    """A report had their commonest words in place of a histogram."""
    frame = in_euros().assign(size=lambda each: each["size"] + rng().normal(0, 1, 300))
    model = JointDensity(family="mixture", random_state=0).fit(frame)
    shown = SamplesDisplay.from_estimator(model, frame)
    assert pd.api.types.is_float_dtype(shown.drawn["price"])
    low, high = shown.drawn["price"].min(), shown.drawn["price"].max()
    assert 19_000 <= low < high <= 91_000 and shown.units["price"] == "€"
    example = imputation_example(model, frame)
    assert {row[0]: row[3].count("€") for row in example.rows}.get("price", 2) == 2


@pytest.mark.parametrize("family", ["circuit", "mixture"])
def test_codes_among_numbers_are_drawn_by_their_share_and_nothing_between(family):
    """Before, -998.1 was drawn and -999 hardly, and means lay between codes and numbers."""
    draw = rng(14)
    level = draw.uniform(20, 55, 400).round(1)
    beside = (level + draw.normal(0, 2, 400)).round(2)
    frame = pd.DataFrame({"level": np.where(draw.random(400) < 0.08, -999, level), "z": beside})
    column = inspect(frame)["level"]
    assert column.atoms == (-999.0,) and column.range[0] >= 20
    model = JointDensity(family=family, random_state=0).fit(frame)
    drawn = model.sample(4000, random_state=0)[0]["level"]
    assert abs((drawn == -999).mean() - (frame["level"] == -999).mean()) < 0.04
    assert drawn[drawn != -999].between(20, 55).all()
    filled = model.impute(pd.DataFrame({"level": [None, None], "z": [30.0, 45.0]}))["level"]
    assert np.allclose(filled, [30, 45], atol=4)
    codec = TableCodec().fit(frame)
    rows = codec.encode(frame).event.value
    assert codec.decode(rows)["level"].tolist() == frame["level"].tolist()
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again.encode(frame).event.value.equal(rows)


def test_amounts_in_several_currencies_are_told():
    draw = rng(15)
    words = [f"{draw.choice(list('€$£'))}{each}" for each in draw.integers(5, 99, 300)]
    frame = pd.DataFrame({"price": words, "size": draw.normal(size=300)})
    told = " ".join(inspect(frame).notices)
    assert "'price' is taken as words: its numbers have several units" in told
