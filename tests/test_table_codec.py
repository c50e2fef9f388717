"""The table codec: round trips, identities of weights and order, measures, inference, and what it
says about bad input.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conjoin.codecs import Schema, TableCodec, as_frame, inspect
from conjoin.core import Event, stream

RNG = np.random.default_rng(0)


def people(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(17, 90, n),
            "height_cm": np.round(rng.normal(170, 10, n), 1),
            "speed": rng.normal(size=n),
            "town": rng.choice(["Ulm", "Köln", "", "東京"], n),
            "member": rng.random(n) < 0.3,
            "since": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "grade": pd.Categorical(
                rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True
            ),
            7: rng.choice([0.25, 0.5, 1.75, np.nan], n),
        }
    )


def back(codec: TableCodec, frame: pd.DataFrame) -> pd.DataFrame:
    event = codec.encode(frame).event
    return codec.decode(event.value, event.observed)


# -------------------------------------------------------------------------------------- round trips


def test_decode_undoes_encode_in_dtype_and_order():
    frame = people()
    codec = TableCodec().fit(frame)
    pd.testing.assert_frame_equal(back(codec, frame), frame, check_column_type=False)
    assert codec.columns == list(frame.columns)


@pytest.mark.parametrize(
    "dtype",
    [
        "int64",
        "int8",
        "uint16",
        "float32",
        "Int64",
        "Float64",
        "boolean",
        "bool",
        "string",
        "str",
        "object",
        "category",
        "datetime64[ns]",
        "datetime64[s,UTC]",
    ],
)
def test_every_dtype_comes_back(dtype):
    raw = RNG.integers(0, 2 if "bool" in dtype else 9, 60)
    if "datetime" in dtype:
        series = pd.Series(pd.to_datetime(raw, unit="D", utc="UTC" in dtype)).astype(
            dtype.replace(",", ", ")
        )
    else:
        series = pd.Series(
            [f"v{v}" for v in raw] if dtype in ("string", "str", "object") else raw
        ).astype(dtype)
    frame = pd.DataFrame({"a": series, "b": RNG.normal(size=60)})
    codec = TableCodec(types={"a": {"role": "model"}}).fit(frame)
    pd.testing.assert_frame_equal(back(codec, frame), frame)


CELLS = {
    "int": st.integers(-(10**9), 10**9),
    "one decimal": st.integers(-(10**6), 10**6).map(lambda v: v / 10),
    "float": st.floats(-1e6, 1e6, allow_nan=False),
    "words": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "bool": st.booleans(),
    "date": st.dates(pd.Timestamp("1900-01-01").date(), pd.Timestamp("2100-01-01").date()).map(
        pd.Timestamp
    ),
    "day": st.dates(pd.Timestamp("1900-01-01").date(), pd.Timestamp("2100-01-01").date()),
}
NAMES = st.one_of(st.text(max_size=8), st.integers(-9, 9))


@st.composite
def frames(draw):
    n = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    names = draw(st.lists(NAMES, min_size=len(kinds), max_size=len(kinds), unique_by=str))
    data = {}
    for name, kind in zip(names, kinds, strict=True):
        holes = draw(st.booleans())
        cell = st.none() | CELLS[kind] if holes else CELLS[kind]
        cells = draw(st.lists(cell, min_size=n, max_size=n))
        data[name] = pd.Series(cells, dtype=object if kind in ("words", "day") else None)
    return pd.DataFrame(data)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames())
def test_round_trip_of_random_frames(frame):
    try:
        codec = TableCodec().fit(frame)
    except ValueError as error:
        if "No column is left" not in str(error):
            raise
        return
    encoded = codec.encode(frame)
    decoded = back(codec, frame)
    assert not encoded.unseen.any()
    for name in codec.columns:
        raw = frame[name]
        got = decoded[name]
        assert (raw.isna() == got.isna()).all()
        known = raw.notna()
        if pd.api.types.is_float_dtype(raw.dtype):
            np.testing.assert_allclose(
                got[known].astype(float),
                raw[known],
                rtol=1e-9,
                atol=1e-9 * max(1.0, raw.abs().max()),
            )
        else:
            assert list(got[known]) == list(raw[known])
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    assert again.to_json() == codec.to_json()
    assert torch.equal(again.encode(frame).event.value, encoded.event.value)


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        "float64",
        st.tuples(st.integers(1, 8), st.integers(1, 4)),
        elements=st.floats(-1e300, 1e300),
    )
)
def test_any_finite_array_is_taken(array):
    encoded = TableCodec().fit(array).encode(array)
    assert torch.isfinite(encoded.event.value).all()
    assert torch.isfinite(encoded.log_volume).all()


# --------------------------------------------------------------------------------------- identities


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_a_weight_is_a_count_and_the_order_of_rows_is_immaterial(seed):
    rng = np.random.default_rng(seed)
    frame = people(int(rng.integers(2, 80)), seed)
    weight = rng.integers(0, 4, len(frame))
    weight[0] = 1
    shuffled = rng.permutation(np.repeat(np.arange(len(frame)), weight))
    weighted = TableCodec(missingness="informative").fit(frame, weight).to_json()
    repeated = (
        TableCodec(missingness="informative")
        .fit(frame.iloc[shuffled].reset_index(drop=True))
        .to_json()
    )
    assert weighted == repeated


def test_a_batch_is_its_rows():
    frame = people(40)
    frame.loc[3, "town"] = None
    codec = TableCodec(missingness="informative").fit(frame)
    frame.loc[5, "town"] = "elsewhere"
    frame.loc[6, "age"] = -3
    whole = codec.encode(frame)
    rows = [codec.encode(frame.iloc[i : i + 1]) for i in range(len(frame))]
    assert torch.equal(whole.event.value, torch.cat([row.event.value for row in rows]))
    assert torch.equal(whole.event.observed, torch.cat([row.event.observed for row in rows]))
    for i in (1, 2, 3):
        assert torch.equal(whole[i], torch.cat([row[i] for row in rows]))


def test_scaling_a_density_column_shifts_the_log_volume_and_a_mass_column_does_not():
    frame = people(60)[["height_cm", "speed"]]
    volume = TableCodec().fit(frame).encode(frame).log_volume
    scaled = frame.assign(speed=frame["speed"] * math.pi)
    torch.testing.assert_close(
        TableCodec().fit(scaled).encode(scaled).log_volume, volume - math.log(math.pi)
    )
    metres = frame.assign(height_cm=(frame["height_cm"] * 10).round() / 1000)
    torch.testing.assert_close(TableCodec().fit(metres).encode(metres).log_volume, volume)


def test_events_are_standardised_and_their_measure_is_in_event_units():
    frame = people(300)
    codec = TableCodec().fit(frame)
    event = codec.encode(frame).event
    space = codec.space
    assert space.check(event).value.dtype == torch.float64
    speed = codec.columns.index("speed")
    assert (
        abs(float(event.value[:, speed].mean())) < 1e-12
        and abs(float(event.value[:, speed].std(correction=0)) - 1) < 1e-12
    )
    height = codec.columns.index("height_cm")
    assert not space.variables[speed].has_mass and space.variables[height].unit == "cm"
    steps = event.value[:, height] / space.variables[height].resolution
    torch.testing.assert_close(steps - steps[0], (steps - steps[0]).round(), atol=1e-6, rtol=0)


def test_density_takes_mass_from_every_number_and_still_decodes_to_the_recorded_step():
    frame = people(300)
    codec = TableCodec(measure="density").fit(frame)
    assert [v.has_mass for v in codec.space.variables] == [
        False,
        False,
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    pd.testing.assert_frame_equal(back(codec, frame), frame, check_column_type=False)


def test_unseen_mass_is_a_probability_and_cells_are_masked():
    frame = pd.DataFrame({"town": ["a"] * 15 + ["b"] * 5, "n": range(0, 40, 2)})
    codec = TableCodec(types={"n": "integer"}).fit(frame)
    encoded = codec.encode(pd.DataFrame({"town": ["a", "z", None], "n": [4, -1, 8]}))
    assert encoded.unseen.tolist() == [[False, False], [True, True], [False, False]]
    assert encoded.event.observed.tolist() == [[True, True], [False, False], [False, True]]
    eps = 1 / 22
    expected = [
        math.log1p(-eps) + math.log1p(-1e-6),
        math.log(eps) + math.log(1e-6),
        math.log1p(-1e-6),
    ]
    torch.testing.assert_close(encoded.log_unseen, torch.tensor(expected, dtype=torch.float64))


def test_informative_missingness_adds_flags_that_vanish_on_decode():
    frame = pd.DataFrame({"a": [1.5, None, 2.25, 3.125] * 5, "b": list("xyzx") * 5})
    codec = TableCodec(missingness="informative").fit(frame)
    assert [v.name for v in codec.space.variables] == ["a", "b", "a is missing"]
    event = codec.encode(frame).event
    assert event.value[:4, 2].tolist() == [0, 1, 0, 0] and event.observed[:, 2].all()
    pd.testing.assert_frame_equal(codec.decode(event.value), frame)
    absent = codec.encode(frame[["b"]]).event
    assert not absent.observed[:, 2].any(), "a column that was not given is not known to be missing"


def test_columns_go_by_name_and_absent_ones_are_missing():
    frame = people(30)
    codec = TableCodec().fit(frame)
    mixed = frame[frame.columns[::-1]].assign(extra=1)
    assert torch.equal(codec.encode(mixed).event.value, codec.encode(frame).event.value)
    part = frame.drop(columns="town")
    assert codec.missing_columns(codec.rows(part)) == ["town"]
    assert not codec.encode(part).event.observed[:, 3].any()


def test_cells_mean_the_same_whatever_else_is_in_their_batch():
    frame = pd.DataFrame({"code": ["1", "2", "x"] * 9, "flag": [0, 1, 1] * 9})
    codec = TableCodec().fit(frame)
    words = pd.DataFrame({"code": ["1"], "flag": ["1"]})
    numbers = pd.DataFrame({"code": [1.0], "flag": [1.0]})
    assert torch.equal(codec.encode(words).event.value, codec.encode(numbers).event.value)
    assert not codec.encode(numbers).unseen.any()


# ---------------------------------------------------------------------------------------- inference


def test_numbers_know_how_they_were_recorded():
    n = 200
    frame = pd.DataFrame(
        {
            "fives": RNG.integers(0, 40, n) * 5,
            "halves": RNG.integers(0, 40, n) / 2,
            "f32": np.round(RNG.normal(20, 5, n), 2).astype("float32"),
            "full32": RNG.normal(20, 5, n).astype("float32"),
            "gain": np.where(RNG.random(n) < 0.6, 0, RNG.integers(100, 9000, n)),
            "weight [kg]": RNG.normal(size=n).round(3),
        }
    )
    schema = inspect(frame)
    assert [column.resolution for column in schema.columns] == [5, 0.5, 0.01, None, 1, 0.001]
    assert schema["gain"].atoms == (0.0,) and schema["gain"].bounds == (0.0, None)
    assert schema["weight [kg]"].unit == "kg" and schema["weight [kg]"].bounds == (None, None)


def test_types_of_words_and_dates():
    n = 30
    frame = pd.DataFrame(
        {
            "answer": ["yes", "no", None] * 10,
            "two": [3, 8] * 15,
            "when": [f"2024-01-{1 + i % 28:02}" for i in range(n)],
            "at": [f"2024-01-01 10:{i:02}:30" for i in range(n)],
            "most": ["2024-01-02", "2024-01-03", "soon"] * 10,
        }
    )
    schema = inspect(frame)
    assert [column.type for column in schema.columns] == [
        "boolean",
        "boolean",
        "date",
        "date",
        "category",
    ]
    assert (
        schema["when"].resolution == 1
        and schema["at"].resolution == pytest.approx(1 / 1440 / 2, rel=1)
        and schema["at"].format
    )
    codec = TableCodec().fit(frame)
    pd.testing.assert_frame_equal(back(codec, frame), frame)


def test_what_is_set_aside_is_said():
    n = 40
    frame = pd.DataFrame(
        {
            "id": range(100, 100 + n),
            "name": [f"n{i}" for i in range(n)],
            "note": [
                f"a long remark about the case of person number {i}, at length" for i in range(n)
            ],
            "same": 3,
            "void": [None] * n,
            "x": RNG.normal(size=n),
        }
    )
    codec = TableCodec().fit(frame)
    assert codec.columns == ["x"]
    assert len(codec.schema.notices) == 5 and all(
        "is set aside: " in notice for notice in codec.schema.notices
    )
    assert TableCodec(types={"id": "integer"}).fit(frame).columns == ["id", "x"]
    with pytest.raises(ValueError, match="No column is left to model"):
        inspect(frame[["name", "void"]])


@pytest.mark.parametrize(
    "array",
    [np.zeros((10, 2)), np.ones((1, 1)), np.arange(30).reshape(-1, 1), np.arange(6).reshape(2, 3)],
)
def test_numbers_that_would_be_set_aside_stay_where_nothing_else_is_left(array):
    assert TableCodec().fit(array).columns


def test_long_lists_pool_their_rare_levels():
    cells = [f"c{i:03}" for i in range(100) for _ in range(6 if i < 70 else 2)]
    codec = TableCodec().fit(pd.DataFrame({"c": cells, "x": RNG.normal(size=len(cells))}))
    column = codec.schema["c"]
    assert len(column.levels) == 71 and column.levels[-1] == "(rare)" and len(column.pooled) == 30
    assert sum(column.counts) == len(cells) and "(rare)" in codec.notices[0]
    event = codec.encode(pd.DataFrame({"c": ["c099", "c000", "c1"], "x": [0.0, 0.0, 0.0]}))
    assert event.event.value[:2, 0].tolist() == [70, 0] and event.unseen[:, 0].tolist() == [
        False,
        False,
        True,
    ]
    drawn = codec.decode(event.event.value[:1].repeat(3000, 1))["c"]
    assert drawn.nunique() == 1 and drawn[0] in column.pooled  # a function of the row alone
    shares = codec.drawn(Event(event.event.value[:1].repeat(3000, 1)), stream(0))["c"]
    assert shares.value_counts().reindex(column.pooled).between(60, 140).all()
    earlier = codec.to_json()
    del earlier["schema"]["columns"][0]["pooled_counts"]
    old = TableCodec.from_json(earlier)
    assert old.decode(event.event.value)["c"][0] == column.pooled[0]
    two = pd.DataFrame({"c": ["c099", "c000"], "x": [0.0, 0.0]})
    for each, wanted in ((old, 0.0), (codec, -math.log(30))):
        volume = each.encode(two).log_volume
        assert float(volume[0] - volume[1]) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([1.5, 2.5, 3.5, 0.5, -999] * 8, "is -999 in 8 rows, far from the other values"),
        ([*range(50, 90), *range(50, 90), 0, 0, 0, 0], "is 0 in 4 rows, and its next value is 50"),
        ([1, 2, 3, 4] * 15, "only 4 distinct whole numbers"),
        (["red", "Red ", "blue"] * 8, "differ only in case or spaces: 'Red ', 'red'"),
        (["Café", "Cafe\u0301", "Nord"] * 8, "differ only in how their letters are stored"),
        (["2024-01-05", "2024-02-07", "7.2.2024"] * 8, "mixes dates ('2024-01-05') with what is"),
        (["1", "2", "5", "x"] * 8, "mixes numbers ('1', '2', '5') with words ('x')"),
        (["1.5", "?", "2"] * 8, "has the word '?'"),
        (["$1,200", "$300"] * 8, "looks like amounts or percentages"),
        (["1", "2", "4"] * 8, "numbers written as words"),
    ],
)
def test_doubts_are_said_and_nothing_is_converted(cells, sentence):
    schema = inspect(pd.DataFrame({"a": cells}))
    assert sentence in " ".join(schema.doubts)
    assert schema["a"].missing_share == 0


def test_dates_with_several_odd_cells_are_set_aside_for_that():
    days = pd.date_range("2024-01-01", periods=180).strftime("%Y-%m-%d").tolist()
    schema = inspect(pd.DataFrame({"a": [*days, *["soon"] * 4], "b": range(0, 368, 2)}))
    assert (
        schema["a"].why
        == "its dates ('2024-01-01') stand beside what is none in that format ('soon')"
    )


def test_missing_values_are_converted_on_request():
    frame = pd.DataFrame({"a": ["1", "2", "?", "4"] * 6, "b": [0, 5, -999, 7] * 6})
    schema = inspect(frame, missing=["?", -999])
    assert [column.type for column in schema.columns] == ["integer", "integer"]
    assert [column.missing_share for column in schema.columns] == [0.25, 0.25]
    assert inspect(frame, missing={"b": [0]})["a"].type == "category"
    codec = TableCodec(missing=["?", -999]).fit(frame)
    assert codec.encode(frame).event.observed.sum() == 36
    assert codec.encode({"a": ["?"], "b": [0]}).event.observed.tolist() == [[False, True]]


def test_types_override_and_an_edited_schema_does_the_same(tmp_path):
    frame = pd.DataFrame({"size": ["mid", "low", "high", "low"] * 9, "n": [1, 2, 3, 4] * 9})
    types = {
        "size": {"type": "ordered", "levels": ["low", "mid", "high"]},
        "n": {"resolution": None},
    }
    schema = inspect(frame, types=types)
    assert (
        schema["size"].levels == ("low", "mid", "high")
        and schema["n"].resolution is None
        and schema["n"].bounds == (None, None)
    )
    schema.save(tmp_path / "schema.json")
    assert Schema.load(tmp_path / "schema.json") == schema
    again = TableCodec(types=tmp_path / "schema.json").fit(frame)
    assert again.to_json() == TableCodec(types=types).fit(frame).to_json()
    edited = schema.to_json()
    edited["columns"][1]["type"] = "category"
    assert inspect(frame, types=Schema.from_json(edited))["n"].levels == (1, 2, 3, 4)
    assert "size" in str(schema) and "<table>" in schema._repr_html_()


# ----------------------------------------------------------------------------- what users get wrong

FRAME = {"a": [1.5, 2.5, 3.5], "b": ["x", "y", "x"]}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"types": {"c": "real"}}, "There is no column 'c'; the columns are a, b"),
        ({"types": {"a": "float"}}, "'float' is no type; choose from real, integer"),
        ({"types": {"b": "real"}}, "Column 'b', row 0: 'x' is not a finite number"),
        (
            {"types": {"a": "integer"}},
            "Column 'a' was said to be of type integer, but has the value 1.5",
        ),
        ({"types": {"a": "boolean"}}, "'a' was said to be boolean, but has 3 values"),
        ({"types": {"b": "date"}}, "Column 'b', row 0: 'x' is not a date in the format ISO8601"),
        ({"types": {"a": {"level": []}}}, "has no field 'level' to set; choose from type, levels"),
        ({"types": {"a": {"resolution": None, "bounds": (0, 1)}}}, "give it a resolution"),
        ({"missing": {"z": [0]}}, "There is no column 'z'"),
        (
            {"missingness": "none"},
            "missingness='none' is not known; choose from 'ignorable', 'informative'",
        ),
        ({"measure": "mass"}, "measure='mass' is not known"),
    ],
)
def test_options_that_do_not_fit(options, sentence):
    with pytest.raises(ValueError) as error:
        TableCodec(**options).fit(FRAME)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        ([1, 2], "2 entries for 3 rows"),
        ([1, -1, 0], "weight[1] is -1"),
        ([0, 0, 0], "Every weight is 0"),
        ([1, math.nan, 0], "weight[1] is nan"),
    ],
)
def test_weights_that_do_not_fit(weight, sentence):
    with pytest.raises(ValueError) as error:
        TableCodec().fit(FRAME, weight)
    assert sentence in str(error.value)


def test_errors_at_encode():
    codec = TableCodec().fit(FRAME)
    with pytest.raises(ValueError, match="Column 'a', row 1: 'many' is not a finite number"):
        codec.encode({"a": ["1", "many"], "b": ["x", "x"]})
    codec.owner = "JointClassifier"
    with pytest.raises(
        ValueError, match="X has 3 features, but JointClassifier is expecting 2 features as input"
    ):
        codec.encode(np.ones((2, 3)))
    with pytest.raises(ValueError, match="Expected rows of 2 values to decode"):
        codec.decode(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="has not been fitted"):
        TableCodec().encode(FRAME)
    with pytest.raises(ValueError, match="format 99"):
        TableCodec.from_json({"format": 99})


@pytest.mark.parametrize(
    ("raw", "kind", "sentence"),
    [
        ([1.0, 2.0], ValueError, "Reshape your data"),
        (np.ones(3), ValueError, "Reshape your data"),
        (pd.Series([1.0]), ValueError, "Reshape your data"),
        (np.ones((2, 2, 2)), ValueError, "dim 3"),
        (np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
        (pd.DataFrame({"a": [1j]}), ValueError, "Complex data not supported"),
        (np.ones((0, 2)), ValueError, "0 sample(s)"),
        ([], ValueError, "0 sample(s)"),
        (
            np.ones((3, 0)),
            ValueError,
            "0 feature(s) (shape=(3, 0)) while a minimum of 1 is required.",
        ),
        ({"a": [1, math.inf]}, ValueError, "Column 'a', row 1, is infinity (inf)"),
        (
            {"a": [1, {"b": 2}]},
            TypeError,
            "Column 'a', row 1: argument must be a string or a number",
        ),
        ({"a": [b"x"]}, TypeError, "argument must be a string or a number"),
        (
            pd.DataFrame({"a": pd.interval_range(0, 2)}),
            TypeError,
            "argument must be a string or a number",
        ),
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            ValueError,
            "More than one column is named 'a'",
        ),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), ValueError, "More than one column is named '1'"),
        (
            pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
            ValueError,
            "neither a string nor a number",
        ),
        ({"a": 1}, ValueError, "lists of one length"),
        ([[1, 2], [3]], ValueError, "each row needs the same number"),
        (None, ValueError, "Reshape your data"),
    ],
)
def test_what_is_no_table(raw, kind, sentence):
    with pytest.raises(kind) as error:
        as_frame(raw)
    assert sentence in str(error.value)


def test_sparse_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="sparse"):
        as_frame(sparse.eye(3))


def test_lists_keep_a_type_per_column_and_objects_of_numbers_become_numbers():
    frame = as_frame([[1, "a"], [2, "b"]])
    assert list(frame.columns) == ["x0", "x1"] and frame["x0"].dtype == "int64"
    assert as_frame(np.array([[1, 2.5]], dtype=object)).dtypes.tolist() == [
        np.dtype("int64"),
        np.dtype("float64"),
    ]
    assert list(as_frame([[1, 2]], ["u", "v"]).columns) == ["u", "v"]


def test_atoms_and_bounds_are_the_events_of_their_values():
    gain = np.where(RNG.random(300) < 0.6, 0.0, RNG.integers(100, 9000, 300) / 10)
    codec = TableCodec().fit({"gain": gain, "x": RNG.normal(size=300)})
    variable = codec.space.variables[0]
    zero = codec.encode({"gain": [0.0], "x": [0.0]}).event.value[0, 0].item()
    assert variable.atoms == (zero,)
    assert variable.bounds == (zero, None)
    far = codec.decode(torch.tensor([[-1e9, 0.0], [0.12345, 0.0]], dtype=torch.float64))["gain"]
    assert far[0] == 0
    assert round(far[1], 1) == far[1]


def test_numbers_too_large_to_keep_apart_are_set_aside_and_intervals_are_refused():
    frame = pd.DataFrame({"hash": RNG.integers(2**60, 2**62, 100), "x": RNG.normal(size=100)})
    assert TableCodec().fit(frame).columns == ["x"]
    with pytest.raises(TypeError, match="argument must be a string or a number"):
        as_frame(pd.DataFrame({"x": pd.cut(np.arange(9.0), 3)}))


def test_fractional_weights_count_rows_as_weights_of_one_do():
    frame = people(60)
    assert TableCodec().fit(frame, np.full(60, 0.25)).to_json() == TableCodec().fit(frame).to_json()
