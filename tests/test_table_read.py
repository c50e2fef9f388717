"""Reading tables from files: what is detected and said, and one clear sentence for each file that
cannot be read.
"""

import gzip
import io
import subprocess
import sys

import pandas as pd
import pytest

from conjoin.codecs import Limits, read_table
from conjoin.codecs.table import Chunks

FRAME = pd.DataFrame({"name": ["Åsa", "Bo, Jr", None], "size": [1.5, 2.25, 3.0], "n": [1, 2, 3]})


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_plain_csv_needs_no_notice(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    frame, notices = read_table(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frame, FRAME)
    assert notices == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a;b;c\n1,5;2,5;3,5\n1,5;2,5;3,5\n", ["a", "b", "c"]),
        ("a,,c\n1,2,3\n1,2,3\n", ["a", "", "c"]),
        (",x\n1,2\n3,4\n", ["", "x"]),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ["a", "b"]),
        ("tags\nx;y;z\nu;v;w\n", ["tags"]),
        ("a,b,c\n,,\n1,2,3\n", ["a", "b", "c"]),
    ],
)
def test_headers_are_no_titles(text, names, tmp_path):
    assert list(read_table(write(tmp_path / "t.csv", text))[0].columns) == names


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_archives(tmp_path, compression):
    FRAME.to_csv(tmp_path / "t", index=False, compression=compression)
    pd.testing.assert_frame_equal(read_table(str(tmp_path / "t"))[0], FRAME)


@pytest.mark.parametrize(
    ("separator", "decimal", "said"),
    [("\t", ".", "tabs"), (";", ".", "semicolons"), (";", ",", "semicolons"), ("|", ".", "bars")],
)
def test_separators_and_the_decimal_comma(tmp_path, separator, decimal, said):
    FRAME.to_csv(tmp_path / "t.csv", index=False, sep=separator, decimal=decimal)
    frame, notices = read_table(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frame, FRAME)
    assert said in notices[0] and ("decimals with a comma" in " ".join(notices)) == (decimal == ",")


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("latin-1", "cp1252")]
)
def test_encodings(tmp_path, encoding, said):
    FRAME.to_csv(tmp_path / "t.csv", index=False, encoding=encoding)
    frame, notices = read_table(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frame, FRAME)
    assert notices == [f"{tmp_path / 't.csv'} is encoded as {said}."]


def test_an_odd_letter_after_megabytes_of_ascii(tmp_path):
    path = write(tmp_path / "t.csv", "a,b\n" + "1,x\n" * 200_000 + "2,ä\n", "latin-1")
    assert read_table(path)[0]["b"].iloc[-1] == "ä"


def test_quotes_spaces_and_padded_codes(tmp_path):
    path = write(tmp_path / "t.csv", 'zip, text, n\n00501, "a, ""b""\nc", 1\n10001, plain, 2\n')
    frame, notices = read_table(path)
    assert frame["zip"].tolist() == ["00501", "10001"] and frame["text"].tolist() == [
        'a, "b"\nc',
        "plain",
    ]
    assert (
        list(frame.columns) == ["zip", "text", "n"]
        and "start with 0; they are kept as text" in notices[0]
    )


def test_only_empty_cells_and_nan_are_missing(tmp_path):
    frame, _ = read_table(write(tmp_path / "t.csv", "a,b\n,NA\nnan,None\n1,?\n"))
    assert frame["a"].isna().tolist() == [True, True, False] and frame["b"].tolist() == [
        "NA",
        "None",
        "?",
    ]


RECORD = '{"age": 70, "v": -0.132, "ok": "p"}\n'
ARRAY = f"[{RECORD},{RECORD},{RECORD}]"
TABLE = pd.DataFrame({"age": [70] * 3, "v": [-0.132] * 3, "ok": ["p"] * 3})


@pytest.mark.parametrize(
    "text",
    [RECORD * 3, "\ufeff" + RECORD * 3, ARRAY, ARRAY.replace(",", ",\n").replace("{", "{\n")],
)
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_records_of_json_are_rows(text, name, tmp_path):
    frame, notices = read_table(write(tmp_path / name, text))
    pd.testing.assert_frame_equal(frame, TABLE)
    assert notices == [f"{tmp_path / name} is JSON; its 3 records are the rows."]
    with Chunks(tmp_path / name, 2) as chunks:
        pieces = list(chunks.read())
        assert chunks.count == 3 and [len(piece) for piece in pieces] == [2, 1]
        pd.testing.assert_frame_equal(pd.concat(pieces), TABLE)


def test_keys_that_records_lack_null_and_empty_words_are_missing(tmp_path):
    text = RECORD + '\n{"age": null, "v": 1, "ok": ""}\n{"v": 2, "more": true}\n'
    frame, notices = read_table(write(tmp_path / "t.jsonl", text))
    assert list(frame) == ["age", "v", "ok", "more"]
    assert frame.isna().to_numpy().tolist() == [
        [False, False, False, True],
        [True, False, True, True],
        [True, False, True, False],
    ]
    assert "3 of them lack a key of others" in notices[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{"v": 2, "a": {"b": 1}}\n' * 3,
            "is JSON, and 'a' of line 1 is no single value but a record",
        ),
        ('[{"a": 1}, {"a": [2]}]', "is JSON, and 'a' of record 2 is no single value but an array"),
        ("[[1, 2], [3, 4]]", "is JSON, and record 1 is no record but an array; give one flat"),
        (RECORD * 3 + '{"age": 7,\n', "begins as JSON, but line 4 is none"),
        ('{"a": 1, "a": 2}\n', "is JSON, and a record (line 1) has the key 'a' twice"),
        ("[]", "is JSON without records"),
        ('{"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}', "is JSON by columns, not by records"),
        ('{\n "a": [1, 2],\n "b": [3, 4]\n}', "is JSON by columns, not by records"),
    ],
)
def test_json_that_is_no_table_is_called_so(text, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        read_table(write(tmp_path / "t.json", text))
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["{a},b", "[kg],b", "[1],[2]"])
def test_headers_in_brackets_are_no_json(header, tmp_path):
    frame, _ = read_table(write(tmp_path / "t.csv", f"{header}\n1,2\n3,4\n"))
    assert ",".join(frame) == header and len(frame) == 2


BODY = "".join(f"0.{i % 97:03d},{20 + i % 50},{'abc'[i % 3]}\n" for i in range(300))


def test_a_row_where_the_header_should_be_is_told_with_its_line(tmp_path):
    frame, notices = read_table(write(tmp_path / "t.csv", "\n" + BODY))
    assert len(frame) == 299
    assert "line 2 ('0.000', '20', 'a') looks like a row and is taken as the header" in notices[0]
    assert "add a line with the names of the columns above it" in notices[0]
    with pytest.raises(ValueError, match=r"line 1 .* looks like a row"):
        read_table(write(tmp_path / "t.csv", "0.5,0.5,a\n" + BODY))


@pytest.mark.parametrize("header", ["v,age,k", "0,1,2", "1990,2000,2010", "a,b,2020"])
def test_names_that_are_numbers_in_steps_are_no_row(header, tmp_path):
    frame, notices = read_table(write(tmp_path / "t.csv", f"{header}\n{BODY}"))
    assert len(frame) == 300 and notices == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "time,pressure,temp\ns,bar,°C\n" + "1.5,2.5,3\n" * 5,
            "line 2 ('s', 'bar', '°C') looks like units below the header; remove it, or write them "
            "into the names, such as 'time (s)'",
        ),
        ("who,temp\n,°C\n" + "a,3\n" * 5, "such as 'temp (°C)'"),
        ("v,age,k\n" + BODY + "v,age,k\n" + BODY, "line 302, repeats the header"),
        ("a b c\n1 2 3\n4 5 6\n", "looks like 3 columns with blanks between them; save it"),
        ('"a" "b"\n"1" 2 3\n"2" 3 4\n', "looks like 3 columns with blanks between them"),
        ("sep=x\na,b\n1,2\n", "begins with 'sep=x'"),
        ("sep=;\na;b\n1;2\n3\n", "line 4, has 1 fields where the header has 2"),
    ],
)
def test_lines_that_are_no_rows_are_called_what_they_look_like(text, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        read_table(write(tmp_path / "t.csv", text))
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "v,ok\n<0.1,p\n" + "0.5,q\n" * 20,
        "Price EUR\n1 234\n2 500\n3 100\n",
        "text\nhello world 3\nyou too 4\n",
        "v,w\nNA,?\n" + "0.5,2\n" * 20,
    ],
)
def test_rows_that_are_no_units_and_words_that_are_no_columns(text, tmp_path):
    frame, notices = read_table(write(tmp_path / "t.csv", text))
    assert len(frame) == text.count("\n") - 1 and notices == []


def test_the_separator_that_excel_tells(tmp_path):
    path = write(tmp_path / "t.csv", "sep=;\r\na;b\r\n1,5;x,y\r\n2,5;z\r\n", "utf-8-sig")
    frame = read_table(path)[0]
    assert frame.to_dict("list") == {"a": [1.5, 2.5], "b": ["x,y", "z"]}
    with Chunks(path, 1) as chunks:
        pd.testing.assert_frame_equal(pd.concat(chunks.read()), frame)


def test_blank_lines_among_the_rows_are_told(tmp_path):
    frame, notices = read_table(write(tmp_path / "t.csv", "a,b\n1,2\n\n\n3,4\n\n5,6\n\n\n"))
    assert len(frame) == 3 and "3 lines are blank, and are no rows (line 3 is the first)" in str(
        notices
    )
    one = read_table(write(tmp_path / "t.csv", "a\n1\n\n3\n"))[1]
    assert one == [f"{tmp_path / 't.csv'}: line 3 is blank, and is no row."]
    assert read_table(write(tmp_path / "t.csv", "\na,b\n1,2\n\n"))[1] == []


def test_one_column(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "a\n1\n2\n"))[0]["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b,a\n1,2,3\n", "more than one column named 'a'"),
        ("Survey;;\n;;\na;b;c\n1;2;3\n", "line 1 looks like a title ('Survey'), and line 3 like"),
        ("Survey\n\na;b;c\n1,5;2;3,5\n4;5;6\n", "line 3 like the header; remove lines 1 to 2"),
        ("All of 2025\na,b,c\n1,2,3\n", "line 2 like the header; remove line 1"),
        ("a,b\n1,2\n3\n4,5\n", "line 3, has 1 fields where the header has 2"),
        ("a,b\n1,2\n1,2,3\n", "line 3, has 3 fields where the header has 2"),
        ('a,b\n1,"x\ny"\n1,2,3\n', "line 4, has 3 fields"),
        ("a,b\n1,\x00\n", "is binary"),
        ("PK\x03\x04rest", "is a zip archive or an Excel file"),
        ("PAR1rest", "is a broken Parquet file"),
        ("a,b\n1," + "x" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, sentence):
    with pytest.raises(ValueError) as error:
        read_table(write(tmp_path / "t.csv", text))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="is a directory"):
        read_table(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    whole = gzip.compress(b"a,b\n1,2\n" * 1000)
    (tmp_path / "half.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is a broken archive"):
        read_table(tmp_path / "half.csv.gz")


def test_limits(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n" + "1,2,3\n" * 1000)
    with pytest.raises(
        ValueError,
        match=r"3 columns, more than the limit of 2; raise it with Limits\(columns=...\)",
    ):
        read_table(path, limits=Limits(columns=2))
    with pytest.raises(ValueError, match=r"more than 5,000 bytes.*Limits\(bytes=...\)"):
        read_table(path, limits=Limits(bytes=5_000))
    assert len(read_table(path)[0]) == 1000


def test_an_archive_bomb_is_refused_before_it_unpacks(tmp_path):
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=9) as file:
        file.write(b"a,b\n")
        for _ in range(40):
            file.write(b"0,0\n" * 250_000)
    assert (tmp_path / "bomb.csv.gz").stat().st_size < 200_000
    with pytest.raises(
        ValueError,
        match=r"unpacks to more than 100 times its size.*Limits\(ratio=...\) if you trust",
    ):
        read_table(tmp_path / "bomb.csv.gz")


def test_stdin(monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"a;b\n1;x\n2;y\n")))
    )
    frame, notices = read_table("-")
    assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]} and notices == [
        "stdin separates its columns by semicolons."
    ]


def test_parquet(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    FRAME.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet")[0], FRAME)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_table(tmp_path / "t.parquet", limits=Limits(bytes=10))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r'pip install "conjoin\[parquet\]"'):
        read_table(tmp_path / "t.parquet")


def test_importing_the_codecs_loads_nothing_heavy():
    modules = "conjoin.codecs, conjoin.codecs.table, conjoin.codecs.table.schema, conjoin.datasets"
    code = f"import sys, {modules}; print({{'torch', 'pandas', 'numpy'}} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_a_row_that_is_cut_short_below_the_header_is_told_by_its_line(tmp_path):
    """It ended in a plain error of Python."""
    path = tmp_path / "cut.csv"
    path.write_text("a,b,c\n1,2,3\n4,5\n6,7,8\n1,2,3\n3,4,5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3, has 2 fields where the header has 3"):
        read_table(path)
