"""Bad input: one sentence that names the place and the remedy, exit code 2, and nothing
half-written.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import time
import warnings
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_iris

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.cli import run
from conjoin.cli.target import task_of
from conjoin.codecs.image.packed import parts_in
from conjoin.codecs.table import Chunks, Limits, read_table
from conjoin.codecs.table.chunks import cells_of
from conjoin.families.flow.coupling import Flow
from conjoin.model.bounded import bounded
from conjoin.model.saving import _digest


@pytest.fixture(scope="module")
def iris():
    frame = load_iris(as_frame=True).frame.rename(
        columns=lambda name: name.split(" (")[0].replace(" ", "_")
    )
    return frame.assign(
        target=frame["target"].map({0: "setosa", 1: "versicolor", 2: "virginica"}),
        site=["a", "b"] * 75,
    )


@pytest.fixture(scope="module")
def fitted(iris):
    return JointClassifier(family="naive_bayes", predictor=None).fit(
        iris.drop(columns="target"), iris["target"]
    )


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("saved") / "iris-model")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(line, capsys, folder):
    """The one sentence with which a command line is refused; it must leave the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    code = run(line.split())
    found = capsys.readouterr()
    assert code == 2, found
    assert found.out == ""
    notes = [text for text in found.err.splitlines() if not text.startswith("note: ")]
    assert len(notes) == 1, found.err
    assert notes[0].startswith("conjoin: ")
    assert notes[0].rstrip().endswith((".", "--help", ")"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return notes[0]


# -------------------------------------------------------------------------------------------- files

FILES = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "header": ("a,b,y\n", "has a header but no rows"),
    "twice": ("a,a,y\n1,2,n\n2,3,p\n", "more than one column named 'a'"),
    "ragged": ("a,b,y\n1,2,n\n1,p\n", "line 3, has 2 fields where the header has 3"),
    "wide": (
        ",".join(f"c{i}" for i in range(50_000)) + "\n" + ",".join("1" * 50_000) + "\n",
        "50,000 columns",
    ),
    "one_row": ("a,b,y\n1,2,n\n", "at least two classes"),
    "one_class": ("a,b,y\n1,2,n\n2,3,n\n3,1,n\n", "only one class, n"),
    "no_target": ("a,b\n1,2\n2,3\n", "no column 'y' to be the target"),
    "empty_target": ("a,b,y\n1,2,\n2,3,\n", "'y' is missing in every row"),
    "alone": ("y\nn\np\n", "no column beside the target"),
    "infinite": ("a,b,y\n1,2,n\ninf,3,p\n2,3,n\n", "infinity"),
    "names": (
        "a,y\n1,Ann\n" + "".join(f"{i},N{i}\n" for i in range(40)),
        "different values in 41 rows",
    ),
    "nothing_left": ("a,y\n,n\n,p\n,n\n", "all of its cells are missing"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_of_x_and_y(name, here, capsys):
    text, words = FILES[name]
    (here / f"{name}.csv").write_text(text)
    assert words in refused(f"fit {name}.csv --target y --family nb -q", capsys, here)


def test_a_continuous_target_is_no_class(here, iris, capsys):
    iris.to_csv("iris.csv", index=False)
    assert "--task number" in refused(
        "fit iris.csv --target sepal_length --task classes -q", capsys, here
    )
    assert "'setosa'; say --task classes" in refused(
        "fit iris.csv --target target --task number -q", capsys, here
    )
    with pytest.raises(ValueError, match="continuous"):
        JointClassifier().fit(iris[["petal_length"]], iris["sepal_length"])


def test_an_archive_bomb(here, capsys):
    with gzip.open(here / "bomb.csv.gz", "wb", compresslevel=9) as file:
        file.write(b"a,y\n")
        for _ in range(160):
            file.write(b"1,1\n" * 250_000)
    assert (here / "bomb.csv.gz").stat().st_size < 1_000_000
    assert "raise it with --max-ratio" in refused("check bomb.csv.gz", capsys, here)
    assert "raise it with --max-bytes" in refused(
        "check bomb.csv.gz --max-ratio 1e9 --max-bytes 9000000", capsys, here
    )


def test_columns_beyond_the_limit_can_be_asked_for(here, capsys):
    (here / "wide.csv").write_text(
        ",".join(f"c{i}" for i in range(2_100))
        + "\n"
        + (",".join("12"[i % 2] for i in range(2_100)) + "\n") * 2
    )
    assert "raise it with --max-columns" in refused("check wide.csv", capsys, here)
    assert run(["check", "wide.csv", "--max-columns", "2100", "-q"]) == 0
    assert len(conjoin.inspect(pd.read_csv("wide.csv"), types="wide-schema.json").columns) == 2_100


def test_another_encoding_is_read_and_said(here, capsys):
    rows = "".join(f"{i % 7};{'größer' if i % 3 else 'kleiner'}\n" for i in range(60))
    (here / "latin.csv").write_bytes(f"zahl;größe\n{rows}".encode("cp1252"))
    assert run(["fit", "latin.csv", "--target", "größe", "--family", "nb"]) == 0
    said = capsys.readouterr().err
    assert "encoded as cp1252" in said
    assert "semicolons" in said
    assert list(conjoin.load("latin-model").classes_) == ["größer", "kleiner"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0"), ("sheet.xlsx", b"PK\x03\x04abc")],
)
def test_a_file_of_another_kind(name, content, here, capsys):
    (here / name).write_bytes(content * 50)
    assert name in refused(f"check {name}", capsys, here)
    (here / "broken.csv.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    assert "broken archive" in refused("check broken.csv.gz", capsys, here)
    (here / "folder.csv").mkdir()
    assert "directory" in refused("check folder.csv", capsys, here)


TEXT = "a,b,y\n" + "".join(f"{i % 9},{i % 7},{'np'[i % 2]}\n" for i in range(400))
DAMAGED = {
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
    "a mark of UTF-16 alone": (b"\xff\xfe", "is empty"),
    "half a character": (b"\xff\xfe" + TEXT.encode("utf-16-le")[:-1], "read as that (truncated"),
    "half a pair": (b"\xff\xfe" + TEXT.encode("utf-16-le") + b"\x00\xd8\n\x00", "surrogate"),
    "a mark of UTF-8, another code": (b"\xef\xbb\xbf" + TEXT.encode() + b"1,\xe4,n\n", "utf-8-sig"),
    "UTF-32": (TEXT.encode("utf-32"), "line 1 has a byte of 0"),
    "0 late in the file": (TEXT.encode() * 99 + b"1,2\0,n\n", "line 39700 has a byte of 0"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_text_is_named(kind, here, capsys):
    content, words = DAMAGED[kind]
    content = content.replace(b"\na,b,y", b"\n1,2,y") if "late" in kind else content
    (here / "t.csv").write_bytes(content)
    said = refused("check t.csv --target y", capsys, here)
    assert said.startswith("conjoin: t.csv ")
    assert words in said


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8-sig"])
def test_utf_16_is_read_with_a_mark_or_without(encoding, here):
    (here / "t.csv").write_bytes(TEXT.encode(encoding))
    (here / "plain.csv").write_text(TEXT)
    found, expected = (read_table(name)[0] for name in ("t.csv", "plain.csv"))
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(("pack", "suffix"), [(bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_a_damaged_archive_is_named(pack, suffix, here, capsys):
    data = bytearray(pack(TEXT.encode() * 20))
    data[len(data) // 2] ^= 255
    (here / f"t.csv.{suffix}").write_bytes(data)
    assert f"t.csv.{suffix} is a broken archive" in refused(f"check t.csv.{suffix}", capsys, here)


def test_a_pipe_is_read_once(here):
    os.mkfifo("pipe")
    child = os.fork()
    if child == 0:
        with open("pipe", "w") as pipe:
            pipe.write(TEXT)
        os._exit(0)
    with Chunks("pipe", 50) as table:
        assert table.count == 400
        assert sum(map(len, table.read())) == sum(map(len, table.read())) == 400
    assert os.waitpid(child, 0)[1] == 0
    assert cells_of("pipe") == 0  # looking does not take its first bytes
    assert list(here.iterdir()) == [here / "pipe"]


def test_a_device_is_refused(here, capsys):
    assert "/dev/zero is a device or a socket" in refused("check /dev/zero", capsys, here)
    os.mkfifo("scan.png")
    with pytest.raises(ValueError, match=r"scan.png is a pipe"):
        conjoin.read_images("scan.png")


def test_nested_cells_of_parquet_are_refused_before_they_are_read(here, capsys, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for cells, words in (([[1.0, 2.0]] * 20, "list<"), ([{"k": 1}] * 20, "struct<")):
        pq.write_table(pa.table({"a": cells, "y": ["n", "p"] * 10}), "t.parquet")
        monkeypatch.setattr(pq.ParquetFile, "read", None)
        said = refused("check t.parquet", capsys, here)
        assert "t.parquet: a cell of column 'a' is no single value but " + words in said
        with pytest.raises(ValueError, match="no single value"), Chunks("t.parquet"):
            pass


def test_words_of_parquet_are_counted_as_often_as_they_stand_there(here, capsys):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    word = "x" * 10_000  # once in the file, 2,000 times in memory
    for name, kind in (("s", pa.string()), ("l", pa.large_string()), ("b", pa.binary())):
        column = pa.array([word] * 2_000, kind)
        pq.write_table(pa.table({"a": column, "y": ["n", "p"] * 1_000}), f"{name}.parquet")
        assert os.path.getsize(f"{name}.parquet") < 100_000
        said = refused(f"check {name}.parquet --max-bytes 19000000", capsys, here)
        assert f"{name}.parquet holds more than 19,000,000 bytes" in said
    limits = Limits(bytes=19_000_000)
    with Chunks("s.parquet", 500, limits) as table:  # 5 MB at a time
        assert table.count == 2_000
    with pytest.raises(ValueError, match="more than"), Chunks("s.parquet", 2_000, limits):
        pass


def npz_of(path, **headers):
    """An archive whose arrays are zeros of any shape and type, packed to nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, dtype) in headers.items():
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                head,
                {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape},
            )
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(size))


IMAGES = ((50, 4, 4), np.uint8)
PACKED = {
    "labels of a table": ({"images": IMAGES, "labels": ((50, 10_000), "f8")}, "shape (50, 10000)"),
    "long words": ({"images": IMAGES, "labels": ((50,), "<U100000")}, "at most 1,000 characters"),
    "labels beyond the limit": ({"images": IMAGES, "labels": ((1_000_000,), "f8")}, "the limit is"),
    "other types": ({"images": IMAGES, "labels": ((50,), "c16")}, "is of complex128"),
    "no name": ({f"k{i}": ((1,), "u1") for i in range(20_000)}, "k11 and 19,988 more, and known"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_an_archive_of_pictures_is_refused_before_it_is_read(kind, here, monkeypatch):
    headers, words = PACKED[kind]
    npz_of("t.npz", **headers)
    monkeypatch.setattr(np, "load", None)
    start = time.process_time()
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        conjoin.read_images("t.npz", max_bytes=1_000_000)
    assert "t.npz" in str(error.value)
    assert len(str(error.value)) < 1_000
    assert time.process_time() - start < 5


def test_numbers_of_pictures_are_checked_in_parts(here):
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 3))
    np.savez("t.npz", images=images.astype(float))
    assert (conjoin.read_images("t.npz").images == images).all()
    images = images.astype(float)
    images[599, 0, 0] = 0.5
    np.savez("t.npz", images=images)
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        conjoin.read_images("t.npz")


# ------------------------------------------------------------------------------------------ columns


def test_a_long_cell_is_cut_in_a_message(fitted, iris):
    X = iris.drop(columns="target").head(3).astype({"petal_width": object})
    X.loc[2, "petal_width"] = "w" * 1_000_000
    with pytest.warns(conjoin.CellWarning, match=r"row 2.*www.*\.\.\..*w") as told:
        fitted.predict(X)
    assert all(len(str(each.message)) < 300 for each in told)


def test_half_a_character_is_named(iris):
    cells = pd.Series(["a", "\ud800"] * 75, dtype=object)
    with pytest.raises(ValueError, match=r"'half', row 1: .* has half a character"):
        JointDensity(family="nb").fit(iris.drop(columns="target").assign(half=cells))


def test_columns_that_say_nothing_are_set_aside(here, iris, capsys):
    iris.assign(empty=np.nan, same=1, id=np.arange(150)).to_csv("iris.csv", index=False)
    assert run(["fit", "iris.csv", "--target", "target", "--family", "nb", "--json", "-q"]) == 0
    aside = json.loads(capsys.readouterr().out)["set_aside"]
    assert set(aside) == {"empty", "same", "id"}


def test_mixed_types_in_a_column(iris):
    mixed = iris.drop(columns="target").astype({"site": object})
    mixed.loc[:9, "site"] = 7
    mixed.loc[10:14, "site"] = None
    model = JointClassifier(family="naive_bayes", predictor=None).fit(mixed, iris["target"])
    assert set(model.sample(50)[0]["site"].map(str)) <= {"7", "a", "b"}
    odd = mixed.assign(site=[[1]] * 150)
    with pytest.raises(TypeError, match="'site', row 0"):
        model.decide(odd)


def test_a_category_that_was_never_seen_is_unfamiliar_but_answered(fitted, iris):
    X = iris.drop(columns="target").head(20)
    with pytest.warns(conjoin.CellWarning, match="'site': 20 of 20 .* the fit has never seen"):
        assert len(fitted.predict(X.assign(site="mars"))) == 20
    X = X.head(9)
    assert (fitted.score_samples(X.assign(site="mars")) < fitted.score_samples(X)).all()
    assert "mars" in "".join(fitted.decide(X.assign(site="mars"), max_error=0.2)["reason"])


def test_columns_reordered_are_fine(fitted, iris):
    X = iris.drop(columns="target")
    assert (fitted.predict(X[X.columns[::-1]]) == fitted.predict(X)).all()
    with pytest.warns(UserWarning, match="has the column 'other', which is not of the fit"):
        assert (fitted.predict(X.assign(other=1)) == fitted.predict(X)).all()


def test_columns_absent_are_filled_in_with_a_notice(fitted, iris):
    X = iris[["sepal_length", "petal_length"]].head()
    with pytest.warns(
        UserWarning, match="lacks the columns 'sepal_width', 'petal_width', 'site'"
    ) as seen:
        fitted.predict(X)
    assert len(seen) == 1
    with pytest.warns(UserWarning, match="'site'"):
        assert not fitted.impute(X).isna().any().any()
    with pytest.raises(ValueError, match=r"none of the columns .* it has the column 'other'"):
        fitted.predict(pd.DataFrame({"other": [1, 2]}))


@pytest.mark.parametrize(
    "question", ["predict", "predict_proba", "score_samples", "decide", "impute"]
)
def test_infinite_values_are_named(fitted, iris, question):
    X = iris.drop(columns="target").head(3)
    X.loc[1, "petal_width"] = np.inf
    with pytest.raises(ValueError, match="'petal_width', row 1, is infinity"):
        getattr(fitted, question)(X)


def test_words_where_numbers_were(fitted, iris):
    X = iris.drop(columns="target").astype({"petal_width": object})
    X.loc[2, "petal_width"] = "wide"
    with pytest.warns(conjoin.CellWarning, match="'petal_width', row 2: 'wide' is not"):
        found = fitted.predict(X)
    X.loc[2, "petal_width"] = None
    assert (found == fitted.predict(X)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "nothing"}, "no family 'nothing'"),
        ({"predictor": "nothing"}, "predictor must be"),
        ({"missingness": "perhaps"}, "missingness"),
        ({"types": {"petals": "real"}}, "no column 'petals'"),
        ({"types": {"site": "real"}}, "'site'"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_wrong_options(iris, change, words):
    with pytest.raises((ValueError, TypeError), match=words):
        JointClassifier(**{"family": "nb", **change}).fit(
            iris.drop(columns="target"), iris["target"]
        )


def test_wrong_arguments_of_fit(iris):
    X = iris.drop(columns="target")
    y = iris["target"]
    for arguments, words in (
        ({"calibration": 2}, "calibration"),
        ({"groups": [1]}, "groups"),
        ({"time": "never"}, "time"),
        ({"sample_weight": -1}, "weight"),
    ):
        with pytest.raises(ValueError, match=words):
            JointClassifier(family="nb").fit(X, y, **arguments)
    with pytest.raises(ValueError, match="setosa"):
        JointRegressor(family="nb").fit(X, y)


def test_rates_that_the_rows_cannot_support(fitted, iris):
    X = iris.drop(columns="target")
    for rates, words in (
        ({"false_alarm": 0.001}, "needs 999"),
        ({"max_error": 0.001}, "labelled calibration rows"),
        ({"max_error": 7}, "between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted.decide(X, **rates)
    few = JointClassifier(family="nb", predictor=None).fit(X.iloc[::5], iris["target"].iloc[::5])
    with pytest.raises(ValueError, match="no calibration rows"):
        few.decide(X)


# ------------------------------------------------------------------------------------------- models


def damage(folder, how):
    config = folder / "config.json"
    weights = folder / "weights.safetensors"
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "no model":
        config.unlink()
    elif how == "cut config":
        config.write_text(config.read_text()[:100])
    elif how == "other json":
        config.write_text("[1]")
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif how == "altered":
        weights.write_bytes(weights.read_bytes()[:-8] + b"12345678")
    elif how == "no weights":
        weights.unlink()
    elif how == "newer":
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"format": 99, "conjoin": "9.9"})
        )
    else:
        described = json.loads(config.read_text())
        del described[how]
        config.write_text(json.dumps(described))


CIRCUIT_FOLDER = Path(__file__).parent / "fixtures" / "models-format2" / "circuit"
DAMAGE = {
    "no folder": "does not exist",
    "no model": "is not a conjoin model",
    "cut config": "is damaged",
    "other json": "is not the config",
    "cut weights": "truncated or was altered",
    "altered": "truncated or was altered",
    "no weights": "has no weights",
    "newer": "newer than this one",
    "codec": "is damaged",
    "joint": "is damaged",
    "facts": "is damaged",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_model(how, saved, iris, here, capsys):
    shutil.copytree(saved, here / "m")
    damage(here / "m", how)
    iris.to_csv("iris.csv", index=False)
    assert DAMAGE[how] in refused("decide m iris.csv -o out.csv", capsys, here)
    with pytest.raises(ValueError, match=DAMAGE[how]):
        conjoin.load("m")


def resealed(folder, change_config=None, change_weights=None):
    """Alter a model as somebody who makes its hashes good again."""
    config = json.loads((folder / "config.json").read_text())
    if change_config is not None:
        change_config(config)
    if change_weights is not None:
        tensors = load_file(folder / "weights.safetensors")
        change_weights(tensors)
        save_file(tensors, folder / "weights.safetensors")
        weights = (folder / "weights.safetensors").read_bytes()
        config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    config["config_sha256"] = _digest(config)
    (folder / "config.json").write_text(json.dumps(config))


def at(*path, value):
    """A change of one value of a config."""

    def change(config):
        *way, last = path
        for key in way:
            config = config[key]
        config[last] = value

    return change


CIRCUIT = ("joint", "base", "density")
ALTERED = {
    "far too wide": at(*CIRCUIT, "structure", "width", value=10**6),
    "wider than any number": at(*CIRCUIT, "structure", "width", value=10**30),
    "a tree with a circle": at(*CIRCUIT, "structure", "trees", value=[[1, 0, 3, 0, 3, 3]]),
    "no tree": at(*CIRCUIT, "structure", "trees", value={"a": 1}),
    "a family that is none": at(*CIRCUIT, "family", value="nothing"),
    "a setting that is none": at(*CIRCUIT, "settings", value={"wide": 4}),
    "a scale that is no number": at("codec", "scales", 0, "scale", value=float("nan")),
    "an infinite bound": at("codec", "schema", "columns", 1, "bounds", value=[0, float("inf")]),
    "a type that is none": at("codec", "schema", "columns", 1, "type", value="colour"),
    "no labels": at("target", "labels", value=None),
    "a task that is none": at("target", "kind", value=7),
    "facts of another kind": at("facts", value=[1]),
    "notices that are none": at("facts", "notices", value=7),
    "a notice that is no sentence": at("facts", "notices", value=[["a"]]),
    "a fit of another kind": at("facts", "trained", value=[1]),
    "a label of another kind that means nothing": at("target", "missing", value=[{}]),
}


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_config_is_one_sentence(how, here):
    shutil.copytree(CIRCUIT_FOLDER, here / "m")
    resealed(here / "m", ALTERED[how])
    start = time.process_time()
    with pytest.raises(ValueError, match=r"m/config.json is damaged \(.*\): restore it") as error:
        conjoin.load("m")
    assert len(str(error.value)) < 500
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 5_000 + "}", "\xff", ""])
def test_a_config_that_is_no_json_is_damaged(text, here):
    shutil.copytree(CIRCUIT_FOLDER, here / "m")
    (here / "m" / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"m/config.json is damaged"):
        conjoin.load("m")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["joint.", "calibration.statistic"])
def test_weights_that_are_no_numbers_are_refused(part, value, here):
    def change(tensors):
        key = next(
            key
            for key, each in sorted(tensors.items())
            if key.startswith(part) and each.is_floating_point() and each.numel()
        )
        tensors[key].view(-1)[0] = value

    shutil.copytree(CIRCUIT_FOLDER, here / "m")
    resealed(here / "m", change_weights=change)
    with pytest.raises(ValueError, match=r"weights.safetensors is damaged .*no number"):
        conjoin.load("m")


def test_weights_of_another_shape_or_type_are_refused(here):
    def of(change):
        shutil.rmtree(here / "m", ignore_errors=True)
        shutil.copytree(CIRCUIT_FOLDER, here / "m")
        resealed(here / "m", change_weights=change)
        with pytest.raises(ValueError, match=r"m/config.json is damaged"):
            conjoin.load("m")

    key = next(key for key in load_file(CIRCUIT_FOLDER / "weights.safetensors") if "joint" in key)
    of(lambda tensors: tensors.pop(key))
    of(lambda tensors: tensors.update({key + "x": tensors[key].clone()}))
    of(lambda tensors: tensors.update({key: tensors[key].reshape(-1).repeat(2)}))
    of(lambda tensors: tensors.update({key: tensors[key].to(torch.int64)}))


def test_what_is_built_is_bounded():
    with bounded(1_000):
        assert torch.zeros(1_000, 1_000).sum() == 0
        assert torch.ones(3, 1, 4).expand(3, 10**9, 4).shape == (3, 10**9, 4)
    for make in (
        lambda: torch.zeros(10**9),
        lambda: torch.empty(10**5, 10**5),
        lambda: torch.arange(10**9),
        lambda: torch.eye(10**5),
        lambda: torch.randn(10**9),
        lambda: torch.full((10**9,), 1.0),
        lambda: torch.ones(10).repeat(10**8),
        lambda: torch.nn.Linear(10**5, 10**5),
        lambda: [torch.zeros(1_000_000) for _ in range(10**9)],
    ):
        with pytest.raises(ValueError, match="far larger than the weights"), bounded(1_000):
            make()


def test_existing_output_is_kept(saved, fitted, iris, here, capsys):
    iris.to_csv("iris.csv", index=False)
    shutil.copytree(saved, here / "iris-model")
    for line in (
        "fit iris.csv --target target",
        "fit iris.csv --target target -o iris.csv",
        "predict iris-model iris.csv -o iris.csv",
        "sample iris-model -o iris.csv",
        "report iris-model -o iris-model/README.md",
        "predict iris-model iris.csv -o nowhere/out.csv",
        "predict iris-model iris.csv -o out.xlsx",
    ):
        refused(line, capsys, here)
    (here / "iris-model" / "notes.txt").write_text("mine")
    assert "'notes.txt'" in refused("fit iris.csv --target target --force", capsys, here)
    with pytest.raises(FileExistsError, match="force"):
        fitted.save("iris-model")


def test_wrong_columns_in_options(saved, iris, here, capsys):
    iris.to_csv("iris.csv", index=False)
    shutil.copytree(saved, here / "m")
    for line, words in (
        ("fit iris.csv --target target --groups plant", "--groups names the column 'plant'"),
        ("fit iris.csv --target target --time site", "times are numbers, or dates"),
        ("fit iris.csv --target target --unlabelled none", "no row of 'target' has this value"),
        ("fit iris.csv --target target --schema none.json", "Cannot read the schema"),
        ("fit iris.csv --target target --predictor best", "--predictor must be one of"),
        ("fit iris.csv --target target --max-time -1", "--max-time must be above 0"),
        ("fit iris.csv --task number", "needs a --target"),
        ("counterfactual m iris.csv --to rose", "no class 'rose'"),
        ("counterfactual m iris.csv --to setosa --keep petals", "keep names the column 'petals'"),
        ("impute m iris.csv --draws 0", "n_draws must be at least 1"),
    ):
        assert words in refused(f"{line} -q", capsys, here)


# ---------------------------------------------------------------------------------- any small table

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), min_size=1, max_size=6),
    min_size=2,
    max_size=4,
    unique=True,
)
CELLS = {
    "numbers": st.one_of(st.none(), st.floats(-1e6, 1e6, allow_subnormal=False)),
    "counts": st.one_of(st.none(), st.integers(-5, 40)),
    "words": st.one_of(st.none(), st.sampled_from(["red", "green", "?", "", "NA "])),
    "flags": st.sampled_from([True, False, None]),
    "dates": st.one_of(
        st.none(),
        st.dates(pd.Timestamp("1990-01-01").date(), pd.Timestamp("2030-01-01").date()).map(
            pd.Timestamp
        ),
    ),
}


@st.composite
def tables(draw):
    names = draw(NAMES)
    rows = draw(st.integers(8, 40))
    kinds = [draw(st.sampled_from(sorted(CELLS))) for _ in names]
    columns = {
        name: draw(st.lists(CELLS[kind], min_size=rows, max_size=rows))
        for name, kind in zip(names, kinds, strict=True)
    }
    labels = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=rows, max_size=rows))
    return pd.DataFrame(columns), pd.Series(["a", "b", *labels[2:]], name="label")


@pytest.mark.parametrize("family", ["naive_bayes", "mixture"])
@settings(max_examples=12, deadline=None)
@given(table=tables())
def test_any_small_table_goes_all_the_way(family, tmp_path_factory, table):
    X, y = table
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", conjoin.ColumnWarning)
        if not any(X[name].nunique() > 1 for name in X):
            return  # nothing is left to model, which is an error of its own
        model = JointClassifier(family=family, predictor=None).fit(X, y)
        _all_the_way(model, X, tmp_path_factory.mktemp("any"))
        assert np.isfinite(JointDensity(family=family).fit(X).score_samples(X)).all()


def _all_the_way(model, X, folder):
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-9)
    with contextlib.suppress(ValueError):  # too few rows for the promise
        assert set(model.decide(X)["verdict"]) <= {"accept", "ambiguous", "unfamiliar"}
    drawn, labels = model.sample(5, random_state=1)
    assert len(drawn) == len(labels) == 5
    assert np.isfinite(model.score_samples(drawn)).all()
    assert not model.impute(X)[model.model_.codec.columns].isna().any().any()
    again = conjoin.load(model.save(folder / "m"))
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    pd.testing.assert_frame_equal(again.sample(5, random_state=1)[0], drawn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_time": -1}, "max_time must be a number of seconds"),
        ({"max_time": "20"}, "max_time must be a number of seconds"),
        ({"max_time": float("nan")}, "max_time must be a number of seconds"),
        ({"max_kwh": "a"}, "max_kwh must be a number of kilowatt-hours"),
        ({"family": Flow(steps=0)}, "steps must be at least 1"),
    ],
)
def test_budgets_that_are_none(settings, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        JointClassifier(**settings).fit(X, y)


@pytest.mark.parametrize("n", [-1, 2.5])
def test_numbers_of_samples_that_are_none(n):
    X, y = load_iris(return_X_y=True)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y, calibration=0)
    with pytest.raises(ValueError, match="whole number of at least 0"):
        model.sample(n)


def test_quantiles_beyond_one_are_refused():
    X, _ = load_iris(return_X_y=True)
    model = JointRegressor(family="naive_bayes").fit(X[:, :3], X[:, 3], calibration=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.predict_quantiles(X[:2, :3], [2])
    assert model.predict_quantiles(X[:2, :3], 0.5).shape == (2, 1)


_DAYS = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(40) % 17, "D"), name="due")


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (_DAYS, "'due' holds dates (the first is 2024-01-01"),
        (_DAYS.astype("datetime64[s]"), "give days, (pd.to_datetime(y) - pd.Timestamp"),
        (_DAYS.dt.tz_localize("Europe/Berlin"), "'due' holds dates"),
        (_DAYS.dt.strftime("%d/%m/%Y"), "'due' holds dates (the first is 01/01/2024)"),
        (_DAYS.dt.date, "'due' holds dates"),
        (_DAYS - _DAYS[0], "'due' holds durations"),
    ],
)
def test_a_regressor_refuses_dates_and_names_the_remedy(y, said):
    X = pd.DataFrame({"a": np.arange(40.0)})
    with pytest.raises(ValueError, match=re.escape(said)):
        conjoin.JointRegressor(family="naive_bayes", predictor=None).fit(X, y)


def test_days_as_the_refusal_of_dates_says_come_back_as_dates():
    X = pd.DataFrame({"a": np.arange(40.0) % 17})
    days = (_DAYS - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    model = conjoin.JointRegressor(family="naive_bayes", predictor=None).fit(X, days)
    found = pd.to_datetime(model.predict(X), unit="D")
    assert found.min() >= _DAYS.min() and found.max() <= _DAYS.max()


def test_the_shell_refuses_dates_as_a_number():
    with pytest.raises(ValueError, match="'due' holds dates, which are no number: write them as"):
        task_of(_DAYS, "number")


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.ones((40, 2)), r"The target 'y' has the shape \(40, 2\), and a label for each row"),
        (np.arange(40) + 1j, "The target 'y' holds complex numbers, such as 1j"),
        (pd.Series(pd.to_timedelta(["1h", "2h"] * 20)), "holds durations .*, which are no classes"),
        (pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"] * 20)), "holds dates .*no classes"),
        (np.array([timedelta(1), timedelta(2)] * 20), "holds durations .*, which are no classes"),
    ],
)
def test_labels_that_are_no_classes_are_told_in_a_sentence(y, said):
    X = pd.DataFrame({"a": np.arange(40.0)})
    with pytest.raises(ValueError, match=said):
        JointClassifier(family="naive_bayes").fit(X, y)


def test_dates_in_words_may_be_classes(tmp_path):
    X = pd.DataFrame({"a": np.arange(40.0)})
    model = JointClassifier(family="naive_bayes").fit(X, ["2020-01-01", "2021-01-01"] * 20)
    again = conjoin.load(model.save(tmp_path / "model"))
    assert again.classes_.tolist() == ["2020-01-01", "2021-01-01"]


def test_a_parquet_file_with_damaged_names_is_named(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1, 2], "name": ["u", "v"]}).to_parquet(path)
    table = pq.read_table(path)
    metadata = {b"pandas": b"\xff" + table.schema.metadata[b"pandas"]}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(ValueError, match=r"table\.parquet.*Parquet"):
        read_table(path)


def test_a_damaged_archive_is_told_in_few_words(tmp_path):
    path = tmp_path / "pictures.npz"
    np.savez(path, x_train=np.zeros((30, 9, 9), np.uint8), y_train=np.zeros(30))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"x_train.npy")
    raw[at - 4 : at - 2] = (900).to_bytes(2, "little")  # the name is said to be longer
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"pictures\.npz") as told:
        parts_in(path)
    assert len(str(told.value)) < 500


def test_labels_with_half_characters_are_told_in_a_sentence():
    X = pd.DataFrame({"a": np.arange(40.0)})
    labels = ["\ud800", "b"] * 20
    for y in (labels, np.array(labels, dtype=object)):
        for kind in (JointRegressor, JointClassifier):
            with pytest.raises(ValueError, match="The target 'y' has half a character in row 0"):
                kind(family="naive_bayes").fit(X, y)


def test_a_word_beside_missing_labels_is_named_by_its_row():
    X = pd.DataFrame({"a": np.arange(40.0)})
    y = pd.Series([pd.NA, 1.5, "q", 2.5] * 10, dtype=object)
    with pytest.raises(ValueError, match="has the value 'q' in row 2, which is no number"):
        JointRegressor(family="naive_bayes").fit(X, y)


def test_a_long_label_is_cut_in_messages():
    X = pd.DataFrame({"a": np.arange(40.0)})
    with pytest.raises(ValueError, match="which is no number") as told:
        JointRegressor(family="naive_bayes").fit(X, ["x" * 100_000] * 40)
    assert len(str(told.value)) < 500
