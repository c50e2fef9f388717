"""A kind of data in one file and one line; what its codec is asked, instead of its kind."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.cli import run
from conjoin.codecs.image.rows import byte_hashes
from conjoin.codecs.kinds import KINDS, codec_for, codec_from_json, kind_of
from conjoin.codecs.table import TableCodec
from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Codec, Encoded, Event, Field, Space, Variable

PACKAGE = Path(conjoin.__file__).parent

# --------------------------------------------------------------- a toy kind: words of three letters


@dataclass(frozen=True)
class WordRows:
    words: np.ndarray  # (B,) str
    index: Any

    names = ("word",)

    @property
    def frame(self):
        return pd.DataFrame({"word": self.words}, self.index)

    def __len__(self):
        return len(self.words)

    def take(self, rows):
        return WordRows(self.words[rows], self.index[rows])

    def hashes(self):
        digests = [hashlib.blake2b(w.encode(), digest_size=8).digest() for w in self.words]
        return np.array([int.from_bytes(each, "little") for each in digests], dtype=np.uint64)

    def repeat_by_chance(self):
        return True


class WordCodec(Codec):
    """A frame whose one column holds words of three of the letters a to d."""

    kind = "word"
    noun = "word"
    plural = "words"
    collection = "set of words"

    @classmethod
    def claims(cls, raw, types=None, missing=()):
        return isinstance(raw, pd.DataFrame) and list(raw.columns) == ["word"]

    @classmethod
    def begin(cls, raw, **options):
        return cls(), cls().rows(raw)

    def rows(self, raw):
        if isinstance(raw, WordRows):
            return raw
        if not isinstance(raw, pd.DataFrame) or "word" not in raw:
            raise ValueError("X must be a table with the column 'word'.")
        return WordRows(raw["word"].to_numpy(dtype=str), raw.index)

    def fit(self, raw, weight=None):
        return self

    def encode(self, raw):
        rows = self.rows(raw)
        value = torch.tensor([["abcd".index(letter) for letter in word] for word in rows.words])
        nothing = torch.zeros(len(rows), dtype=torch.float64)
        unseen = torch.zeros(value.shape, dtype=torch.bool)
        return Encoded(Event(value.double(), ~unseen), unseen, nothing, nothing)

    def decode(self, value, observed=None):
        words = ["".join("abcd"[int(code)] for code in row) for row in value]
        return pd.DataFrame({"word": words})

    def raw(self, rows):
        return rows.frame

    def fill(self, rows, observed, decoded):
        return rows

    @property
    def space(self):
        letters = tuple(Variable(f"letter {n}", "category", cardinality=4) for n in range(3))
        return Space((3,), letters)

    @property
    def columns(self):
        return ["word"]

    @property
    def schema(self):
        return Schema((Column("word", "category", levels=("abc",)),))

    @property
    def size_words(self):
        return "3 letters"

    @property
    def inputs(self):
        return "words", "3 letters each"

    def fields(self):
        return [Field("word", "letters", "a to d", "", "", "modelled")]

    def to_json(self):
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data):
        return cls()


@pytest.fixture
def words(monkeypatch):
    """The line in the registry; and words of which the first letter tells the class."""
    monkeypatch.setattr(
        "conjoin.codecs.kinds.KINDS", {"word": f"{__name__}:WordCodec", **KINDS}, raising=True
    )
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    letters = np.array(list("abcd"))
    first = letters[2 * y + rng.integers(0, 2, 300)]
    rest = letters[rng.integers(0, 4, (300, 2))]
    made = [a + b + c for a, (b, c) in zip(first, rest, strict=True)]
    return pd.DataFrame({"word": made}), pd.Series(np.where(y, "high", "low"), name="half")


def test_a_kind_of_one_file_and_one_line_fits_answers_and_is_saved(words, tmp_path):
    X, y = words
    model = conjoin.JointClassifier(family="mixture", predictor=None).fit(X, y)
    assert model.model_.codec.kind == "word"
    assert model.score(X, y) == 1.0
    assert set(model.sample(20)[0]["word"].str.len()) == {3}
    verdicts = model.decide(X, max_error=0.2)
    assert (verdicts["verdict"] == "unfamiliar").mean() < 0.2
    assert model.evaluate(X, y)["accuracy"] == 1.0
    every = pd.DataFrame({"word": [a + b + c for a in "abcd" for b in "abcd" for c in "abcd"]})
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=1e-9)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    page = model.report(tmp_path / "report.html", X, y).read_text(encoding="utf-8")
    assert "3 letters" in page and "labelled word" in page


def test_the_command_line_takes_a_new_kind(words, tmp_path, capsys):
    X, y = words
    table = tmp_path / "words.csv"
    X.assign(half=y).to_csv(table, index=False)
    model = str(tmp_path / "model")
    fit = f"fit {table} --target half --family mixture --predictor none -q -o {model}"
    assert run(fit.split()) == 0
    out = tmp_path / "verdicts.csv"
    assert run(f"decide {model} {table} --max-error .2 -q -o {out}".split()) == 0
    assert len(pd.read_csv(out)) == 300
    assert run(f"sample {model} -n 5 -q -o {tmp_path / 'drawn.csv'}".split()) == 0
    assert set(pd.read_csv(tmp_path / "drawn.csv")["word"].str.len()) == {3}
    assert run(f"info {model}".split()) == 0
    assert "3 letters each" in capsys.readouterr().out


# ---------------------------------------------------------------------------- kinds, asked in order


def test_what_is_claimed_by_no_other_kind_is_a_table():
    assert kind_of(np.zeros((3, 4, 4), dtype="uint8")).kind == "image"
    assert kind_of(np.zeros((3, 4))) is TableCodec
    assert list(KINDS)[-1] == "table"


def test_a_saved_kind_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="kind 'smell', which is not known here; known are image"):
        codec_from_json({"kind": "smell"})


def test_rows_are_checked_once():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]})
    codec, rows = codec_for(frame)
    codec.fit(rows)
    assert codec.rows(rows) is rows
    assert codec.frame(rows) is rows.frame
    part = rows.take(np.array([2, 0]))
    assert part.index.tolist() == [2, 0] and np.array_equal(part.hashes(), rows.hashes()[[2, 0]])


def test_pictures_are_bytes_and_told_apart_by_them():
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
    images[7] = images[3]
    codec, rows = codec_for(images)
    event = codec.encode(rows).event
    assert event.value.dtype == torch.uint8 and event.observed is None
    assert event.value.numpy().nbytes == images.nbytes
    assert np.array_equal(codec.decode(event.value), images)
    hashes = rows.hashes()
    assert len(set(hashes.tolist())) == 29 and hashes[7] == hashes[3]
    assert np.array_equal(rows.take(slice(3, 8)).hashes(), hashes[3:8])
    gap = images.astype(float)
    gap[0, 0, 0, 0] = np.nan
    zero = images.copy()
    zero[0, 0, 0, 0] = 0
    missing = codec.rows(gap).hashes()
    assert missing[0] != codec.rows(zero).hashes()[0]  # missing is not the level 0
    assert np.array_equal(missing[1:], hashes[1:])
    assert byte_hashes(images).dtype == np.uint64


# ----------------------------------------------------------------------------- what may be mistaken


def test_an_array_that_may_be_points_is_asked_about():
    points = np.random.default_rng(0).integers(0, 9, (40, 12, 3))
    with pytest.raises(ValueError, match=r"shape \(40, 12, 3\), and 3 may be pixels or channels"):
        conjoin.JointDensity(family="naive_bayes").fit(points)
    model = conjoin.JointDensity(family="naive_bayes").fit(points.reshape(40, -1))
    assert model.model_.codec.kind == "table"
    model = conjoin.JointDensity(family="naive_bayes").fit(points[..., None].astype("uint8"))
    assert model.model_.codec.grid == (1, 12, 3)


def test_whole_numbers_taken_for_pictures_are_said_to_be():
    numbers = np.random.default_rng(0).integers(0, 9, (40, 5, 6))
    with pytest.warns(UserWarning, match=r"int64.* is taken for 40 pictures of 5 x 6 grey pixels"):
        conjoin.JointDensity(family="naive_bayes").fit(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conjoin.JointDensity(family="naive_bayes").fit(numbers.astype("uint8"))


def test_a_table_of_one_row_is_refused():
    with pytest.raises(ValueError, match="one row to learn from"):
        conjoin.JointDensity(family="naive_bayes").fit(pd.DataFrame({"a": [1.0], "b": ["x"]}))
    conjoin.JointDensity(family="naive_bayes").fit(pd.DataFrame({"a": [1.0, 2.0]}))
