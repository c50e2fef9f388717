"""Columns of messy tables that look like something else: identifiers, postal codes, limits of
numbers, codes in sums. What they are taken for is right, and is told."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from conjoin import JointClassifier, JointDensity, load
from conjoin.cli import run
from conjoin.cli.words import in_shell
from conjoin.codecs import TableCodec, inspect
from conjoin.codecs.kinds import codec_for
from conjoin.codecs.table import Chunks, read_table
from conjoin.codecs.table.codes import is_place_name, looks_like_identifier
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.written import is_limit
from conjoin.fitting.leakage import deciding_in
from conjoin.util.plain import plain_value

ROWS = 400


def rng(seed=0):
    return np.random.default_rng(seed)


def beside(**columns):
    """A table with a column of plain numbers first."""
    return pd.DataFrame({"x": rng(9).normal(size=ROWS).round(2), **columns})


def told_of(found, name):
    return [text for text in found.notices if text.startswith(f"Column {name!r}")]


# ------------------------------------------------------------------------------------ identifiers


def drawn_numbers(low, high, seed=1):
    return rng(seed).choice(high - low, ROWS, replace=False) + low


@pytest.mark.parametrize(
    ("low", "high"),
    [(10**7, 10**8), (4 * 10**7, 5 * 10**7), (10**5, 10**6), (10**9, 10**10)],
)
def test_random_digits_of_one_length_are_an_identifier(low, high):
    found = inspect(beside(customer=drawn_numbers(low, high)))
    assert found["customer"].role == "set aside"
    assert "its whole numbers are random digits of one length" in found["customer"].why
    kept = inspect(beside(customer=drawn_numbers(low, high)), types={"customer": "integer"})
    assert kept["customer"].modelled


def test_an_identifier_that_stands_in_several_rows_is_one():
    numbers = rng(2).choice(drawn_numbers(10**7, 10**8)[:150], ROWS)
    assert inspect(beside(customer=numbers))["customer"].role == "set aside"


AMOUNTS = {
    "salary": lambda r: (r.lognormal(13, 0.4, ROWS)).round().astype(int),
    "of a million": lambda r: r.integers(0, 10**6, ROWS),
    "house": lambda r: r.integers(100, 1000, ROWS) * 1000 + 1,
    "loguniform": lambda r: (10 ** r.uniform(5, 6, ROWS)).astype(int),
    "seconds": lambda r: 1_700_000_000 + r.integers(0, 31_536_000, ROWS),
    "easting": lambda r: r.integers(412_000, 431_000, ROWS),
    "price": lambda r: drawn_numbers(10**5, 10**6),
    "mass_kg": lambda r: drawn_numbers(10**5, 10**6),
}


@pytest.mark.parametrize("name", list(AMOUNTS))
@pytest.mark.parametrize("seed", range(3))
def test_amounts_are_no_identifiers(name, seed):
    column = inspect(beside(**{name: AMOUNTS[name](rng(seed))}))[name]
    assert column.modelled and column.type == "integer"


def test_whether_digits_are_random_does_not_depend_on_the_rows_that_teach():
    frame = beside(customer=drawn_numbers(10**7, 10**8)).head(75)
    codec = TableCodec()
    rows = codec.surveyed(TableCodec.begin(frame)[1])
    assert codec.fit(rows.take(np.arange(30))).schema["customer"].role == "set aside"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("customer_number", True),
        ("customerNo", True),
        ("Kundennummer", True),
        ("order no", True),
        ("phone_number", True),
        ("user_id", True),
        ("house_number", False),
        ("number", False),
        ("number_of_orders", False),
        ("casino", False),
    ],
)
def test_names_of_identifiers(name, is_one):
    assert looks_like_identifier(name) == is_one


# -------------------------------------------------------------------------- numbers of many digits


def large(count=ROWS):
    return [10**20 + 7 * int(i) for i in rng(3).permutation(count)]


@pytest.mark.parametrize("start", [10**20, 10**17, 10**18 + 1])
def test_whole_numbers_that_no_float_keeps_apart_are_kept_as_text_from_a_file(tmp_path, start):
    cells = [f"{start + 7 * int(i)}" for i in rng(3).integers(0, 9, ROWS)]
    cells[5] = ""  # pandas makes floats of whole numbers beside a gap
    path = tmp_path / "t.csv"
    beside(big=cells).to_csv(path, index=False)
    frame, notices = read_table(path)
    assert frame["big"].dropna().tolist() == [cell for cell in cells if cell]
    assert any("'big' has whole numbers of so many digits" in text for text in notices)
    with Chunks(path, 50) as chunks:
        again = pd.concat(chunks.read())
    assert again["big"].dropna().tolist() == [cell for cell in cells if cell]
    assert set(inspect(frame)["big"].levels) == set(filter(None, cells))


def test_whole_numbers_that_no_float_keeps_apart_are_levels_or_set_aside_in_a_frame():
    found = inspect(beside(big=large(), few=rng(4).choice(np.array(large(9), dtype=object), ROWS)))
    assert found["big"].role == "set aside" and "every value is different" in found["big"].why
    assert set(found["few"].levels) == set(large(9))
    assert any("whole numbers beyond 2^51" in text for text in told_of(found, "few"))
    same = beside(big=rng(4).choice([1e20, 2e20, 3e22], ROWS))  # amounts that floats are
    assert inspect(same)["big"].numeric


def test_large_amounts_in_a_file_stay_numbers(tmp_path):
    beside(big=[f"{i}e20" for i in rng(5).integers(1, 99, ROWS)]).to_csv(
        tmp_path / "t.csv", index=False
    )
    frame, notices = read_table(tmp_path / "t.csv")
    assert frame["big"].dtype == float and not notices


def test_zeros_at_the_start_are_kept_wherever_the_first_of_them_stands(tmp_path):
    codes = [f"{i}" for i in range(10_000, 12_000)] + ["00501"]
    pd.DataFrame({"a": range(2001), "code": codes}).to_csv(tmp_path / "t.csv", index=False)
    frame, notices = read_table(tmp_path / "t.csv")
    assert frame["code"].iloc[-1] == "00501"
    assert "Column 'code' has numbers that start with 0; they are kept as text." in notices


# ----------------------------------------------------------------------------------- postal codes


@pytest.mark.parametrize("name", ["zip", "ZIP_CODE", "homeZip", "plz", "post code", "PLZ Kunde"])
@pytest.mark.parametrize("gaps", [False, True])
def test_postal_codes_are_categories_and_told(name, gaps):
    cells = pd.Series(rng().choice(rng(1).integers(10_000, 99_999, 40), ROWS))
    column = cells.where(np.arange(ROWS) % 9 > 0) if gaps else cells
    found = inspect(beside(**{name: column}))
    assert found[name].type == "category"
    assert set(found[name].levels) == set(column.dropna())
    assert any("is named like postal codes" in text for text in found.notices)
    as_numbers = inspect(beside(**{name: column}), types={name: "integer"})
    assert as_numbers[name].type == "integer"
    assert not any("postal codes" in text for text in as_numbers.notices)


def test_postal_codes_in_words_of_several_lengths_are_categories():
    cells = rng().choice([f"{i}" for i in rng(1).integers(500, 99_999, 40)], ROWS)
    assert inspect(beside(zip=cells))["zip"].type == "category"
    assert inspect(beside(amount=cells))["amount"].type == "integer"
    assert not told_of(inspect(beside(zip=cells)), "zip")


@pytest.mark.parametrize("name", ["zipper_length", "gazip", "plzen", "postal_rate", "postage"])
def test_other_names_are_none_of_postal_codes(name):
    assert not is_place_name(name)


def test_postal_codes_are_drawn_as_they_are():
    cells = rng().choice(rng(1).integers(10_000, 99_999, 12), ROWS)
    model = JointDensity(family="naive_bayes").fit(beside(zip=cells))
    drawn = model.sample(50, random_state=0)[0]["zip"]
    assert set(drawn) <= set(cells) and drawn.dtype == cells.dtype


# ----------------------------------------------------------------------------- words for "missing"


def test_words_that_a_file_has_for_missing_are_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "x,1\nnan,2\nNaN,nan\ny,\n" * 5)
    told = "Cells that read 'nan', 'NaN' count as missing: 10 of column 'a', 5 of column 'b'."
    frame, notices = read_table(path)
    assert notices == [told] and frame.isna().sum().tolist() == [10, 10]
    with Chunks(path, 4) as chunks:
        assert chunks.notices == [told]


def test_words_that_json_has_for_missing_are_counted(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[{"a": "nan", "b": 1}, {"a": "x", "b": null}]')
    frame, notices = read_table(path)
    assert frame["a"].isna().tolist() == [True, False]
    assert notices[1:] == ["Cells that read 'nan' count as missing: 1 of column 'a'."]


@pytest.mark.parametrize("word", ["nan", "None", "null", "N/A"])
def test_words_for_missing_among_numbers_are_counted(word):
    cells = rng().integers(0, 99, ROWS).astype(str).astype(object)
    cells[::8] = word
    found = inspect(beside(num=cells))
    assert found["num"].missing_share == pytest.approx(1 / 8)
    assert f"Column 'num' holds numbers; {word!r} counts as missing, in 50 rows." in found.notices


@pytest.mark.parametrize(
    ("one", "other"), [("5%", "5.0%"), ("$5", "$5.00"), ("5 kg", "5.0 kg"), ("5", "5.00")]
)
def test_numbers_that_are_written_in_two_ways_are_told(one, other):
    other_numbers = [one.replace("5", f"{i / 4:.2f}") for i in range(ROWS - 100)]
    cells = [one, other] * 50 + other_numbers
    found = inspect(beside(amount=pd.Series(cells, dtype=object)))
    again = [text for text in found.notices if "not written in one way throughout" in text]
    assert len(again) == 1 and f"{one!r} will be written as" in again[0]


# ----------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("cell", ["<0.1", "> 100", "<= 5", "≤5 mg", ">5%", "< 1,000"])
def test_cells_that_are_limits(cell):
    assert is_limit(cell)


@pytest.mark.parametrize("cell", ["<", "a<5", "<b>", "<5-10", "0.1", "", None, 3.0])
def test_cells_that_are_no_limits(cell):
    assert not is_limit(cell)


@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.parametrize("objects", [False, True])
def test_limits_among_numbers_are_missing_and_counted(share, objects):
    numbers = (rng().random(ROWS) * 9 + 0.1).round(2)
    below = np.arange(ROWS) < share * ROWS
    cells = pd.Series(numbers if objects else numbers.astype(str), dtype=object)
    cells = cells.mask(below, "<0.1")
    cells.iloc[-1] = ">9"
    found = inspect(beside(lead=cells))
    assert found["lead"].type == "real" and found["lead"].resolution == 0.01
    assert found["lead"].missing_share == pytest.approx(below.mean() + 1 / ROWS)
    told = [text for text in found.notices if "a limit of one" in text]
    assert len(told) == 1
    assert told[0].startswith("Column 'lead', row 0: '<0.1' is not a value like ")
    assert f"'<0.1' ({below.sum()} rows), '>9' (1 row) count as missing" in told[0]
    as_words = inspect(beside(lead=cells), types={"lead": "category"})
    assert as_words["lead"].type == "category"


def test_strict_refuses_a_limit():
    cells = (rng().random(ROWS) * 9).round(2).astype(str).astype(object)
    cells[3] = "<0.1"
    with pytest.raises(ValueError, match=r"strict=True: Column 'lead', row 3: '<0\.1' is not"):
        JointDensity(family="naive_bayes", strict=True).fit(beside(lead=cells))


def test_classes_of_size_stay_words():
    cells = rng().choice(["<10", "10-20", "20-30", ">30"], ROWS)
    assert inspect(beside(size=cells))["size"].type == "category"


# -------------------------------------------------------------------------------------- free text


def sentences(repeated):
    words = np.array(["the", "cat", "sat", "on", "a", "mat", "again"])
    some = [" ".join(rng(i).choice(words, 5)) + f" {i}" for i in range(ROWS)]
    return some[: ROWS - repeated] + some[:repeated]


@pytest.mark.parametrize("repeated", [0, 20])
def test_text_that_is_set_aside_points_to_its_type(repeated):
    (told,) = [
        text for text in inspect(beside(note=sentences(repeated))).notices if "set aside" in text
    ]
    assert "to model it as text, say types={'note': 'text'}" in told
    assert "set its type to 'text'" in in_shell(told)


# ------------------------------------------------------------------------ codes in exact relations


def sums(share=0.05):
    r = rng(5)
    a, b = r.integers(0, 100, (2, ROWS))
    coded = np.arange(ROWS) % round(1 / share) == 0
    return beside(a=np.where(coded, -999, a), b=b, total=a + b), coded, a


def test_codes_in_a_sum_count_as_missing_and_are_told():
    frame, coded, a = sums()
    found = inspect(frame)
    (relation,) = found.relations
    assert (relation["name"], relation["of"], relation["broken"]) == ("total", ["a", "b"], 0)
    assert relation["rows"] == ROWS - coded.sum()
    assert found["a"].missing == (-999,) and found["a"].missing_share == coded.mean()
    assert found["a"].range[0] >= 0
    (told,) = [text for text in told_of(found, "a") if "-999" in text]
    assert told.startswith(
        "Column 'a' is -999 in 20 rows, which does not go with what holds of the others, that "
        "'total' is a + b: it counts as missing."
    )
    model = JointDensity(family="naive_bayes").fit(frame)
    filled = model.impute(frame)
    assert (filled["a"].to_numpy() == a).all()
    drawn = model.sample(200, random_state=0)[0]
    assert (drawn["a"] >= 0).all() and (drawn["total"] == drawn["a"] + drawn["b"]).all()


def test_a_code_of_a_single_row_that_may_not_teach_counts_as_missing_in_a_sum():
    frame, _, a = sums()
    frame["a"] = a
    frame.loc[7, "a"] = -999
    for seed in range(3):
        model = JointDensity(family="naive_bayes", random_state=seed).fit(frame)
        assert model.model_.codec.schema["a"].missing == (-999,)


def test_a_number_like_a_code_that_keeps_a_sum_is_a_number():
    frame, _, a = sums()
    frame["a"] = np.where(np.arange(ROWS) == 7, -999, a)
    frame["total"] = frame["a"] + frame["b"]
    found = inspect(frame)
    assert found["a"].missing == () and len(found.relations) == 1


def test_codes_stay_values_where_the_user_takes_the_relation_away():
    found = inspect(sums()[0], types={"total": {"relation": "none"}})
    assert found["a"].missing == () and -999 in found["a"].atoms and not found.relations


@pytest.mark.parametrize("words", [False, True])
def test_an_end_of_9999_counts_as_missing_beside_its_start(words):
    r = rng(6)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(r.integers(0, 1500, ROWS), unit="D")
    end = start + pd.to_timedelta(r.integers(1, 9, ROWS), unit="D")
    frame = beside(start=pd.Series(start), end=pd.Series(end).astype("datetime64[us]"))
    frame.loc[::40, "end"] = pd.Timestamp("9999-12-31").as_unit("us")
    if words:
        frame["start"] = frame["start"].dt.strftime("%Y-%m-%d")
        frame["end"] = frame["end"].dt.strftime("%Y-%m-%d")
    found = inspect(frame)
    (relation,) = found.relations
    assert relation["column"]["range"] == [1.0, 8.0]
    assert found["end"].missing_share == 1 / 40
    assert any(
        "'end' is 9999-12-31" in text and "counts as missing" in text for text in found.notices
    )


# ---------------------------------------------------------------------------- how numbers are read


@pytest.mark.parametrize("odd", [2.5, 0.125])
def test_integer_or_real_is_decided_on_all_rows(odd):
    frame = beside(score=rng(7).integers(0, 50, ROWS).astype(float))
    frame.loc[11, "score"] = odd
    whole = inspect(frame)["score"]
    assert whole.type == "real" and whole.decimals == (1 if odd == 2.5 else 3)
    for seed in range(4):
        model = JointDensity(family="naive_bayes", random_state=seed).fit(frame)
        column = model.model_.codec.schema["score"]
        assert (column.type, column.decimals) == ("real", whole.decimals)
        assert column.precision == whole.precision


def test_rows_of_weight_0_do_not_tell_how_numbers_were_recorded():
    frame = beside(score=rng(7).integers(0, 50, ROWS).astype(float))
    frame.loc[11, "score"] = 2.5
    weight = np.where(np.arange(ROWS) == 11, 0.0, 1.0)
    assert inspect(frame, weight=weight)["score"].type == "integer"
    model = JointDensity(family="naive_bayes").fit(frame, sample_weight=weight)
    assert model.model_.codec.schema["score"].type == "integer"


def test_dates_with_one_time_of_day_have_its_step_whichever_rows_teach():
    days = pd.Series(pd.date_range("2024-01-01", periods=ROWS, unit="s"))
    days[11] += pd.Timedelta(hours=7)
    for seed in range(4):
        model = JointDensity(family="naive_bayes", random_state=seed).fit(beside(day=days))
        assert model.model_.codec.schema["day"].precision == pytest.approx(1 / 24)


# -------------------------------------------------------------------------- what knows the answer


def test_two_columns_whose_difference_tells_the_answer_are_both_named():
    r = rng(8)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(r.integers(0, 1500, ROWS), unit="D")
    stay = r.integers(1, 19, ROWS)
    end = start + pd.to_timedelta(stay, unit="D")
    frame = beside(start=start, end=end, y=np.where(stay > 7, "long", "short"))
    (told,) = deciding_in(frame, inspect(frame, target="y"), True)
    assert told.startswith(
        "Columns 'end' and 'start' together, by end - start, tell 'y' in 100.0 %"
    )
    assert "alone" not in told


def test_columns_that_tell_the_answer_only_together_are_not_named_alone():
    a, b = rng(8).integers(0, 2, (2, ROWS))
    frame = beside(a=a, b=b, y=np.where(a ^ b, "p", "q"))
    assert deciding_in(frame, inspect(frame, target="y"), True) == []


# -------------------------------------------------------------------------------- other messy cells


@pytest.mark.parametrize(("unit", "size"), [("seconds", 1), ("milliseconds", 1000)])
def test_times_since_1970_are_told_and_stay_numbers(unit, size):
    times = (1_700_000_000 + drawn_numbers(0, 10**7)) * size
    found = inspect(beside(stamp=times))
    assert found["stamp"].modelled
    (told,) = [text for text in told_of(found, "stamp") if "since 1970" in text]
    when = pd.Timestamp(int(times.min()), unit="s" if size == 1 else "ms")
    assert f"may be {unit} since 1970 ({times.min()} is {when:%Y-%m-%d %H:%M})" in told


@pytest.mark.parametrize("cell", ["#DIV/0!", "#REF!", "#VALUE!", "#NUM!", "#NAME?"])
def test_what_a_sheet_could_not_work_out_is_missing_and_counted(cell):
    cells = rng().random(ROWS).round(3).astype(str).astype(object)
    cells[::10] = cell
    found = inspect(beside(ratio=cells))
    assert found["ratio"].type == "real" and found["ratio"].missing_share == 0.1
    assert f"Column 'ratio' holds numbers; {cell!r} counts as missing, in 40 rows." in found.notices


def test_spellings_that_differ_in_what_cannot_be_seen_are_told():
    cells = rng().choice(["blue", "\u200bblue", "red"], ROWS, p=[0.5, 0.1, 0.4])
    (told,) = [text for text in inspect(beside(c=cells)).notices if "can't be seen" in text]
    assert "types={'c': {'merge': {'\\u200bblue': 'blue'}}}" in told


def test_signs_as_web_pages_write_them_are_told():
    cells = rng().choice(["A & B", "A &amp; B", "C"], ROWS)
    (told,) = [text for text in inspect(beside(c=cells)).notices if "web pages" in text]
    assert "'A &amp; B'" in told


@pytest.mark.parametrize("size", [1e-300, 1e-19, 1e-10])
def test_very_small_numbers_are_no_zeros(size):
    numbers = (rng().random(ROWS) + 1) * size
    column = inspect(beside(charge=numbers))["charge"]
    assert (column.type, column.decimals, column.resolution) == ("real", None, None)
    codec = TableCodec().fit(beside(charge=numbers))
    again = codec.decode(codec.encode(beside(charge=numbers)).event.value)["charge"]
    assert np.allclose(again, numbers, rtol=1e-9, atol=0)


def test_what_arithmetic_leaves_behind_is_still_zero():
    numbers = rng().integers(0, 30, ROWS) / 10
    numbers[numbers == 0] = 5.55e-17
    assert inspect(beside(a=numbers))["a"].decimals == 1


def test_a_word_among_numbers_is_told_with_what_makes_it_missing():
    cells = rng().integers(30_000, 90_000, ROWS).astype(str).astype(object)
    cells[::10] = "confidential"
    (told,) = [text for text in inspect(beside(pay=cells)).notices if "mixes numbers" in text]
    assert told.endswith("To have numbers, say missing={'pay': ['confidential']}.")
    assert inspect(beside(pay=cells), missing={"pay": ["confidential"]})["pay"].type == "integer"


def test_what_cannot_be_seen_is_shown_by_its_number_in_the_shell():
    said = in_shell("say types={'c': {'merge': {'\\u200bblue': 'blue', 'zoë': 'Zoë'}}}.")
    assert '{"\\u200bblue": "blue", "zo\\u00eb": "Zo\\u00eb"}' in said
    assert '{"zoë": "Zoë"}' in in_shell("say types={'c': {'merge': {'zoë': 'Zoë'}}}.")


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1.9", "1.10", "2.0"], ["1.10 beside 1.9", "kept as text", "types={'v': 'real'}"]),
        (["1.1", "1.10", "1.2", "1.9", "1.11"], ["1.10 beside 1.1", "kept as text"]),
        (["1.9", "1.10", "1.2", "2.0"], ["1.10 beside 1.2", "kept as text"]),
        (["1.90", "1.10", "2.00"], []),
        (["1.10", "2.50", "3.00"], []),
        (["1.9", "1.1", "2.25"], []),
        (["5", "5.0", "6.5"], []),
        (["1E5", "2E3", "3E1"], ["1E5, which is read as the number 100000", "(x1E5)"]),
        (["1e+05", "2e+03", "3e1"], []),
        ([f"{i / 20:.2f}".removesuffix("0") for i in range(99)] + ["1.50"], []),
    ],
)
def test_versions_are_told(tmp_path, cells, told):
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": range(len(cells)), "v": cells}).to_csv(path, index=False)
    frame, notices = read_table(path)
    assert len(notices) == bool(told)
    assert all(text in notices[0] for text in told)
    kept = "kept as text" in told
    assert pd.api.types.is_numeric_dtype(frame["v"]) != kept
    assert not kept or frame["v"].tolist() == cells
    with Chunks(path, 2) as chunks:
        again = pd.concat(chunks.read())
    assert again["v"].tolist() == frame["v"].tolist()


VERSIONS = ["1.1", "1.10", "1.2", "1.9", "1.11"]


@pytest.mark.parametrize("gaps", ["", "n/a"])
def test_versions_are_levels_and_say_how_to_have_numbers(tmp_path, gaps):
    path = tmp_path / "t.csv"
    cells = rng(1).choice([*VERSIONS, gaps], ROWS)
    cells[:6] = [*VERSIONS, gaps]
    beside(version=cells).to_csv(path, index=False)
    found = inspect(path, missing={"version": [gaps]} if gaps else ())
    assert set(found["version"].levels) == set(VERSIONS)
    (told,) = told_of(found, "version")
    assert "as versions are written" in told and "types={'version': 'real'}" in told
    numbers = inspect(path, types={"version": "real"}, missing={"version": ["n/a"]})
    assert numbers["version"].type == "real"


@pytest.mark.filterwarnings("default")
def test_a_category_of_a_file_keeps_its_cells_as_they_are_written(tmp_path):
    path = tmp_path / "t.csv"
    sizes = ["1.10", "2.50", "3.00"]
    frame = beside(size=rng(1).choice(sizes, ROWS))
    frame.to_csv(path, index=False)
    assert inspect(path)["size"].type == "real"
    model = JointDensity(family="naive_bayes", types={"size": "category"}).fit(path)
    assert model.model_.codec.schema["size"].levels == tuple(sizes)
    assert set(model.sample(50, random_state=0)[0]["size"]) <= set(sizes)
    frame.iloc[:9].to_csv(tmp_path / "new.csv", index=False)
    codec = model.model_.codec
    as_text = codec.encode(codec.rows(frame.iloc[:9].copy()))
    as_file = codec.encode(codec.rows(str(tmp_path / "new.csv")))
    assert as_file.event.observed.all() and (as_file.event.value == as_text.event.value).all()
    with Chunks(path, 50, as_written=["size"]) as chunks:
        assert set(pd.concat(chunks.read())["size"]) == set(sizes)


def test_categories_of_a_file_are_kept_as_written_in_the_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside(size=rng(1).choice(["1.10", "2.50"], ROWS)).to_csv("t.csv", index=False)
    assert (
        run(
            [
                "fit",
                "t.csv",
                "--types",
                "size=category",
                "-o",
                "m",
                "--family",
                "naive_bayes",
                "--quiet",
            ]
        )
        == 0
    )
    assert load("m").model_.codec.schema["size"].levels == ("1.10", "2.50")
    codec = load("m").model_.codec
    assert codec.as_written == ("size",)


def test_codes_that_are_set_aside_are_not_said_to_be_kept_as_text(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = [f"{number:08d}" for number in drawn_numbers(10**3, 10**7)]
    shops = rng(2).choice(["007", "012", "100"], ROWS)
    beside(code=codes, shop=shops).to_csv("t.csv", index=False)
    assert run(["check", "t.csv"]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "'code' has numbers that start with 0" not in said
    assert said.count("numbers that start with 0") == 1
    assert "Column 'shop' has numbers that start with 0 ('007'), which are kept as text" in said


def test_a_column_of_one_word_or_nothing_says_so():
    found = inspect(beside(ticked=np.where(np.arange(ROWS) % 4 == 0, "x", None)))
    assert found["ticked"].why == (
        "it has one value only, 'x', or none (75.0% of rows); if a gap has a meaning, write a word "
        "for it"
    )


@pytest.mark.parametrize("mark", ["~{}", "{}+", "{}*"])
def test_numbers_beside_marked_ones_are_set_aside_for_that(mark):
    cells = [f"{number:,}" for number in drawn_numbers(1000, 900_000)]
    cells[::12] = [mark.format(cell) for cell in cells[::12]]
    why = inspect(beside(amount=cells))["amount"].why
    assert (
        why.startswith("its numbers (")
        and f"stand beside {min(cells[::12])!r}, which is none" in why
    )


def test_limits_with_a_unit_in_a_target_are_named_in_the_shell(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y = (rng().random(ROWS) * 9).round(3).astype(str).astype(object)
    y[::9] = "<0.5 mg"
    beside(y=y).to_csv("t.csv", index=False)
    assert run(["fit", "t.csv", "--target", "y", "-o", "m"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'<0.5 mg' is the limit of a number: write a number in its place" in said


# ----------------------------------------------------------------------------------------- groups


def grouped():
    frame = beside(patient=np.arange(ROWS) // 4)
    return frame.assign(y=np.where(frame["x"] + rng(1).normal(size=ROWS) > 0, "ill", "well"))


def extra_told(seen):
    return [str(each.message) for each in seen if "not of the fit" in str(each.message)]


@pytest.mark.filterwarnings("default")
def test_a_column_of_groups_in_a_later_table_is_no_news(tmp_path):
    frame = grouped()
    model = JointClassifier(family="naive_bayes", predictor=None)
    model.fit(frame[["x"]], frame["y"], groups=frame["patient"])
    model.save(tmp_path / "m")
    for each in (model, load(tmp_path / "m")):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            each.decide(frame[["x", "patient"]])
            each.decide(frame[["x", "patient"]].assign(other=1))
        (told,) = extra_told(seen)
        assert "'other'" in told and "patient" not in told


def test_a_column_of_groups_in_the_shell_is_no_news(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grouped().to_csv("t.csv", index=False)
    fit = "fit t.csv --target y --groups patient -o m --family naive_bayes --predictor none"
    assert run(fit.split()) == 0
    capsys.readouterr()
    assert run(["decide", "m", "t.csv", "-o", "out.csv"]) == 0
    assert "not of the fit" not in " ".join(capsys.readouterr().err.split())


# ---------------------------------------------------------------------------------- numpy's values


def test_messages_quote_values_without_numpys_types():
    frame = beside(b=pd.Series(list(rng().choice(np.array(["u", "N/A"]), ROWS)), dtype=object))
    frame.columns = pd.Index([np.str_(name) for name in frame], dtype=object)
    model = JointDensity(family="naive_bayes").fit(frame)
    said = list(model.model_.notices)
    for given in (
        {"b": np.str_("z")},
        {"x": np.str_("z")},
        {np.str_("q"): 1},
        {"b": [np.int64(3)]},
    ):
        with pytest.raises(ValueError) as told:
            model.sample(2, given=given)
        said.append(str(told.value))
    with pytest.raises(ValueError) as told:
        inspect(frame, types={"b": np.str_("z")})
    said.append(str(told.value))
    assert said and not [text for text in said if "np." in text]


def test_plain_values_keep_what_python_has_no_twin_of():
    moment = np.datetime64("2024-01-01T00:00:00.000000001")
    assert plain_value(moment) is moment
    assert plain_value({np.str_("a"): [np.int64(3), (np.float64(0.5), None)]}) == {
        "a": [3, (0.5, None)]
    }
    assert type(plain_value([np.bool_(True)])[0]) is bool


# ------------------------------------------------------------------------------------ two digits


def days_of_birth(first, last, count=ROWS):
    start = np.datetime64(f"{first}-01-01")
    span = int((np.datetime64(f"{last}-12-31") - start).astype(int))
    return pd.Series(start + rng(6).integers(0, span, count)).astype("datetime64[us]")


YEAR = pd.Timestamp.now().year
WRITTEN = {"type": "date", "format": "%m/%d/%y"}


def read_as(found, name, words):
    values, known = numbers_of(found[name], pd.Series(words, dtype=object))
    assert known.all()
    return [f"{pd.Timestamp(day, unit='D'):%Y-%m-%d}" for day in values]


@pytest.mark.parametrize("first", [1930, 1940])
def test_years_of_two_digits_take_the_century_without_years_to_come(first):
    born = days_of_birth(first, 2009)
    found = inspect(beside(born=born.dt.strftime("%m/%d/%y")), types={"born": WRITTEN})
    assert read_as(found, "born", ["07/26/36", "01/31/99", "05/01/08"]) == [
        "1936-07-26",
        "1999-01-31",
        "2008-05-01",
    ]
    (told,) = told_of(found, "born")
    assert f"between {YEAR - 99} and {YEAR}" in told and "%m/%d/%y up to 2068" in told
    low, high = found["born"].range
    assert pd.Timestamp(low, unit="D").year >= first and pd.Timestamp(high, unit="D").year <= 2009
    assert inspect(beside(born=born), types={"born": found["born"].type})["born"].type == "date"


def test_due_dates_to_come_stay_and_are_told():
    due = days_of_birth(YEAR - 5, YEAR + 8).dt.strftime("%m/%d/%y")
    found = inspect(beside(due=due), types={"due": WRITTEN})
    assert read_as(found, "due", [f"07/26/{YEAR + 6 - 2000}"]) == [f"{YEAR + 6}-07-26"]
    (told,) = told_of(found, "due")
    assert "between 1969 and 2068" in told and f"up to {YEAR}" in told
    past = {**WRITTEN, "format": "%m/%d/%y up to 2000"}
    other = inspect(beside(due=due), types={"due": past})
    assert read_as(other, "due", ["07/26/32", "07/26/99"]) == ["1932-07-26", "1999-07-26"]
    assert not told_of(other, "due")


def test_years_of_two_digits_are_drawn_and_read_by_the_same_rule(tmp_path):
    born = days_of_birth(1935, 1989).dt.strftime("%m/%d/%y")
    codec = TableCodec(types={"born": WRITTEN}).fit(beside(born=born))
    assert codec.schema["born"].format == f"%m/%d/%y up to {YEAR}"
    again = TableCodec.from_json(codec.to_json())
    events = codec.encode(codec.rows(beside(born=born))).event
    back = again.decode(events.value)["born"]
    assert back.tolist() == born.tolist()
    assert read_as(again.schema, "born", ["07/26/36"]) == ["1936-07-26"]


# ------------------------------------------------------------------------------- edited schemas


def edited(tmp_path, frame, name, **changes):
    """The schema that `check` writes, with fields of a column changed."""
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    assert run(["check", str(path), "--schema", str(tmp_path / "s.json"), "--quiet"]) == 0
    data = json.loads((tmp_path / "s.json").read_text())
    (column,) = [each for each in data["columns"] if each["name"] == name]
    column.update(changes)
    (tmp_path / "s.json").write_text(json.dumps(data))
    return inspect(pd.read_csv(path), types=str(tmp_path / "s.json"))


@pytest.mark.parametrize("distinct", [20, ROWS])
def test_a_category_that_is_edited_to_dates_is_read_as_dates(tmp_path, distinct):
    born = pd.concat([days_of_birth(1935, 1989, distinct)] * (ROWS // distinct))
    words = born.dt.strftime("%m/%d/%y").to_numpy()
    found = edited(tmp_path, beside(born=words), "born", **WRITTEN)
    assert found["born"].type == "date" and found["born"].modelled
    assert not found["born"].levels
    assert read_as(found, "born", ["07/26/36"]) == ["1936-07-26"]


def test_text_that_was_set_aside_is_modelled_where_its_type_is_edited(tmp_path):
    frame = beside(note=[f"{a} thing {i}" for i, a in enumerate(["good", "bad"] * (ROWS // 2))])
    edited(tmp_path, frame, "note", type="text")
    kind, _ = codec_for(frame, types=str(tmp_path / "s.json"))
    assert any(column.is_text and column.modelled for column in kind.fit(frame).schema.columns)


def test_numbers_that_are_edited_to_dates_lose_what_was_found_for_numbers(tmp_path):
    days = days_of_birth(1990, 2010).dt.strftime("%Y%m%d").astype(int)
    found = edited(tmp_path, beside(day=days), "day", type="date", format="%Y%m%d")
    low, high = found["day"].range
    assert pd.Timestamp(low, unit="D").year == 1990 and pd.Timestamp(high, unit="D").year == 2010


def test_an_identifier_that_is_edited_to_a_number_is_modelled(tmp_path):
    frame = beside(customer=drawn_numbers(10**7, 10**8))
    assert not edited(tmp_path, frame, "customer")["customer"].modelled
    (tmp_path / "s.json").unlink()
    assert edited(tmp_path, frame, "customer", type="real")["customer"].modelled


def test_fields_that_were_set_with_an_edited_type_stay(tmp_path):
    frame = beside(size=rng(3).choice(["1", "2", "n/a?"], ROWS))
    found = edited(
        tmp_path, frame, "size", type="real", missing=["n/a?"], resolution=1, bounds=[0, 9]
    )
    assert found["size"].bounds == (0, 9) and found["size"].resolution == 1


# ------------------------------------------------------------------------- a word among numbers


def incomes(share, word="keine Angabe"):
    cells = pd.Series([f"{number:,}" for number in rng(4).integers(1000, 90_000, ROWS)])
    return cells.mask(rng(5).random(ROWS) < share, word)


def test_a_word_among_numbers_is_told_with_its_remedy_which_reopens_the_schema(tmp_path):
    frame = beside(income=incomes(0.2))
    found = edited(tmp_path, frame, "income")
    told = told_of(found, "income")[0]
    assert "say missing={'income': ['keine Angabe']}" in told
    assert "--missing 'income=keine Angabe'" in in_shell(told)
    schema = str(tmp_path / "s.json")
    again = inspect(frame, types=schema, missing={"income": ["keine Angabe"]})
    assert again["income"].is_amount and again["income"].modelled
    same = inspect(frame, types=schema, missing={"income": ["never there"]})
    assert not same["income"].is_amount


def test_a_target_with_a_word_among_numbers_names_it_and_is_read_alike(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    frame = beside(Miete=[f"{each} €" for each in rng(4).permutation(ROWS) + 500])
    frame.loc[::50, "Miete"] = "auf Anfrage"
    frame.to_csv("t.csv", index=False)
    for verb in (["check"], ["fit", "-o", "m"]):
        assert run([verb[0], "t.csv", "--target", "Miete", *verb[1:]]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "has numbers beside 'auf Anfrage'" in said
        assert "say --missing 'Miete=auf Anfrage'" in said
    command = ["check", "t.csv", "--target", "Miete", "--missing", "Miete=auf Anfrage"]
    assert run(command) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "The target 'Miete' holds numbers written in words (in €), taken as a number" in said


def test_addresses_of_computers_are_no_amounts():
    cells = [f"10.0.{i % 7}.{i % 5}" for i in range(ROWS)]
    found = inspect(beside(ip=cells))
    assert found["ip"].type == "category"
    assert not any("amounts" in text for text in told_of(found, "ip"))


def test_two_currencies_are_several_units():
    cells = [f"{'$' if i % 2 else '€'}{10 + i % 6}.50" for i in range(ROWS)]
    (told,) = told_of(inspect(beside(price=cells)), "price")
    assert "its numbers have several units" in told and "write all of them in one" in told


# ------------------------------------------------------------------------- sheets made for readers


def told_of_file(tmp_path, frame):
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    return read_table(path)[1]


def test_a_second_table_below_the_first_is_told(tmp_path):
    towns = rng(1).choice(["Bonn", "Kiel", "Ulm"], ROWS)
    frame = beside(town=towns).astype(object)
    frame.iloc[300] = ["height", "place"]
    (told,) = told_of_file(tmp_path, frame)
    assert "Row 301 of the table looks like the header of another one" in told
    assert "'height', 'place'" in told
    frame.iloc[300] = ["n/a", "place"]
    assert not told_of_file(tmp_path, frame)


def with_subtotals(label="Subtotal"):
    parts = []
    for region in ("north", "east", "south"):
        block = pd.DataFrame({"region": region, "sold": rng(7).integers(1, 99, 20)})
        line = pd.DataFrame({"region": [f"{label} {region}"], "sold": [block["sold"].sum()]})
        parts += [block, line]
    return pd.concat(parts, ignore_index=True)


def test_lines_of_subtotals_are_told(tmp_path):
    (told,) = told_of_file(tmp_path, with_subtotals())
    assert "3 rows look like lines of subtotals ('region' is 'Subtotal north' in row 21" in told
    assert "3 rows look like" in told_of_file(tmp_path, with_subtotals("Summe"))[0]
    assert not told_of_file(tmp_path, with_subtotals("branch"))
    other = with_subtotals()
    other.loc[other["region"].str.contains("Sub"), "sold"] += 1
    assert not told_of_file(tmp_path, other)


def test_cells_that_were_merged_in_a_sheet_are_told(tmp_path):
    regions = pd.Series(np.nan, index=range(ROWS), dtype=object)
    regions[::20] = rng(1).choice(["north", "east", "south"], ROWS // 20)
    (told,) = told_of_file(tmp_path, beside(region=regions))
    assert "'region' has a word in one row of 20 alone" in told and "fill them in" in told
    regions[7] = "west"
    assert not told_of_file(tmp_path, beside(region=regions))
