"""Text: what strings are made of, documents with labels, a column of text, what is no text."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import conjoin
from conjoin import JointClassifier, JointRegressor
from conjoin.codecs.kinds import codec_for, codec_from_json
from conjoin.codecs.sequence import Prefix
from conjoin.codecs.text import TextCodec
from conjoin.codecs.tokens import BROKEN, Bytes, Characters, Merged, Words
from conjoin.core import Status
from conjoin.core.warnings import ColumnWarning

STRINGS = ["der Hund bellt", "die Katze", "", "Größe 3 \u4e2d\u6587", "a\x00b", "die die die Katze"]


def as_text(form):
    return {"text": {"type": "text", "format": form}}


@pytest.mark.parametrize("form", ["characters", "bytes", "tokens", "tokens 300"])
def test_text_comes_back_as_it_was(form):
    codec, rows = codec_for(STRINGS, types=as_text(form))
    codec = codec.fit(rows)
    assert type(codec) is TextCodec
    for each in (codec, codec_from_json(json.loads(json.dumps(codec.to_json())))):
        event = each.space.check(each.encode(STRINGS).event)
        assert each.decoded(event) == STRINGS
        assert not each.encode(STRINGS).unseen.any()


def test_bytes_and_tokens_write_what_was_never_seen():
    new = ["\U0001f600"]
    for form, seen in (("characters", False), ("bytes", True), ("tokens", True)):
        codec = codec_for(STRINGS, types=as_text(form))[0].fit(STRINGS)
        assert bool(codec.encode(new).unseen.any()) is not seen
        if seen:
            assert codec.decoded(codec.space.check(codec.encode(new).event)) == new


def test_pairs_that_often_stand_together_are_one_token():
    codec = codec_for(STRINGS * 20, types=as_text("tokens 280"))[0].fit(STRINGS * 20)
    assert len(codec.characters) == 280
    assert len(codec.tokens.codes("die die")) < len("die die")
    assert "280 tokens" in codec.notices[0]
    assert "lower bound" in codec.notices[1]


def test_half_a_code_point_is_read_as_the_replacement_character():
    assert Bytes().text(list("ü".encode())[:1]) == "\ufffd"


@pytest.mark.parametrize("form", ["letters", "tokens many", "tokens 10", "bytes 3"])
def test_what_text_may_be_made_of_is_told(form):
    choices = "'characters', 'words', 'bytes', 'tokens', or 'tokens N' with N"
    with pytest.raises(ValueError, match=choices):
        codec_for(STRINGS, types=as_text(form))


@pytest.mark.parametrize("kind", [Bytes, Merged])
def test_half_a_character_is_no_text(kind):
    wrong = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(ValueError, match="behind 3 characters stands half of a character"):
        kind.learned(["a"], 300).codes(wrong)


def test_bytes_of_a_file_are_no_strings():
    with pytest.raises(ValueError, match=r"Row 1 is b'caf\\xe9'; X must hold strings"):
        codec_for(["a", "b"], types=as_text("bytes"))[0].rows(["a", b"caf\xe9"])


def test_very_long_strings_are_named_before_the_memory_is_full():
    codec = TextCodec().fit(["a" * 100_000])
    with pytest.raises(ValueError, match="the longest, row 2, has 90,000 characters: cut long"):
        codec.encode(["a", "b", "a" * 90_000] + ["a"] * 5000)


@pytest.mark.parametrize(
    ("strings", "words"),
    [
        ([b"caf\xe9", b"tea"], r"Row 0 is b'caf\\xe9'; X must hold strings, or None"),
        (["tea", 3.5, "coffee"], "Row 1 is 3.5; X must hold strings, or None"),
        (["", None, ""], "Every string of the fit is empty: there is nothing to learn from"),
        (["tea", "caf\udce9"], "behind 3 characters stands half of a character"),
    ],
)
def test_what_no_text_can_be_learned_from_is_told_in_a_sentence(strings, words):
    with pytest.raises(ValueError, match=words):
        JointClassifier(family="ngram").fit(strings * 30, ["a", "b", "b"][: len(strings)] * 30)


def test_a_string_too_long_for_the_network_is_told_before_it_learns():
    strings = ["tea", "coffee"] * 30 + ["x" * 20_000]
    with pytest.raises(ValueError, match=r"has 20,000 tokens, and attention over more than 16,384"):
        JointClassifier(random_state=0).fit(strings, ["a", "b"] * 30 + ["a"])


def test_odd_texts_are_read_rightly():
    """Empty strings, NULs, characters of Latin-1, missing ones."""
    said = {"a": ["", "caf\xe9 au lait"], "b": ["x\x00y z", "tea \n"]}
    y = ["a", "b"] * 60
    X = [said[each][k % 4 // 2] for k, each in enumerate(y)]
    model = JointClassifier(family="ngram", random_state=0).fit([*X, float("nan")], [*y, "a"])
    assert model.predict(["", "caf\xe9 au lait", "x\x00y z", "tea \n"]).tolist() == list("aabb")
    found = model.decide(["tea \n" * 20_000, "\udce9"], max_error=0.3)
    assert found["verdict"].tolist() == ["unfamiliar"] * 2


# ------------------------------------------------------------------ documents


def documents(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(["sport", "trade"], rows)
    said = {"sport": ["goal", "match", "team"], "trade": ["price", "stock", "market"]}
    text = [" ".join(rng.choice(said[each], 3)) for each in label]
    return pd.DataFrame({"review": text}), label


@pytest.fixture(scope="module")
def model():
    X, y = documents()
    types = {"review": {"type": "text", "format": "tokens 270"}}
    return JointClassifier(family="ngram", types=types, random_state=0).fit(X, y)


def test_a_table_of_one_column_of_text_is_text(model):
    X, y = documents(seed=1)
    assert type(model.model_.codec) is TextCodec
    assert (model.predict(X) == y).mean() > 0.95
    assert (model.predict(list(X["review"])) == y).mean() > 0.95
    assert model.status_["log_prob"] == Status.LOWER_BOUND.value
    assert model.status_["predict_proba"] == Status.APPROXIMATE.value


def test_a_saved_model_of_text_answers_the_same(model, tmp_path):
    X, _ = documents(seed=2, rows=10)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(again.score_samples(X), model.score_samples(X))


def test_the_beginning_of_text_in_tokens_is_continued_and_told_to_be_approximate(model):
    with pytest.warns(ColumnWarning, match="continued behind its own tokens"):
        found, _ = model.sample(4, given={"review": Prefix("goal ")}, random_state=0)
    assert all(text.startswith("goal ") for text in found)


def test_a_column_of_text_beside_others_may_be_bytes():
    X, _ = documents(rows=12)
    X["age"] = np.arange(12.0)
    codec, rows = codec_for(X, types={"review": {"type": "text", "format": "bytes"}})
    codec = codec.fit(rows)
    encoded = codec.encode(X)
    assert codec.decoded(encoded.event)["review"].tolist() == X["review"].tolist()
    again = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert torch.equal(again.encode(X).event.value, encoded.event.value)
    assert not codec.several_ways
    (block,) = codec.blocks
    assert type(block.strings.tokens) is Bytes
    assert type(codec_for(X, types={"review": "text"})[0].blocks[0].strings.tokens) is Characters


def pieces_by_prefixes(tokens, codes, nats):
    """What each prefix is longer than the one before: right, but as dear as the square."""
    out = []
    written = ""
    total = 0.0
    for end in range(1, len(codes) + 1):
        whole = tokens.text(codes[:end])
        total += nats[end - 1]
        if not whole.endswith(BROKEN) or end == len(codes):
            out.append((whole[len(written) :], total))
            written = whole
            total = 0.0
    return out


@settings(max_examples=50)
@given(codes=st.lists(st.sampled_from([65, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xFF]), max_size=60))
def test_pieces_are_those_of_all_prefixes(codes):
    nats = [0.5] * len(codes)
    assert Bytes().pieces(codes, nats) == pieces_by_prefixes(Bytes(), codes, nats)


@pytest.mark.parametrize("kind", [Characters, Words, Merged])
def test_pieces_of_other_tokens(kind):
    strings = [
        "the cat, the dog. ",
        "the cat and the dog and the cat.",
        "Gr\u00f6\u00dfe \u4e2d\u6587 the dog",
    ]
    tokens = kind.learned(strings, None if kind is not Merged else 280)
    for string in strings[1:]:
        codes = tokens.codes(string * 3 if kind is not Words else string)
        nats = [float(code) for code in codes]
        assert tokens.pieces(codes, nats) == pieces_by_prefixes(tokens, codes, nats)


def test_pieces_of_a_long_text_look_at_few_tokens_at_a_time():
    class Counting(Bytes):
        looked = 0

        def text(self, codes):
            self.looked += len(codes)
            return super().text(codes)

    tokens = Counting()
    codes = tokens.codes("a long text " * 200)
    assert (
        "".join(text for text, _ in tokens.pieces(codes, [0.0] * len(codes)))
        == "a long text " * 200
    )
    assert tokens.looked < 60 * len(codes)


def test_a_number_beside_strings_alone_is_refused():
    with pytest.raises(ValueError, match=r"^y is a number, and strings alone .* classes of y"):
        JointRegressor().fit(["ab", "ba", "aab"] * 20, np.arange(60.0))


def test_texts_that_words_can_not_write_are_refused_and_not_lost():
    texts = pd.DataFrame({"text": [f"{name} was born in Rome ." for name in "ABCD"] * 30})
    model = conjoin.JointDensity(
        family="ngram", types={"text": {"type": "text", "format": "words"}}
    )
    with pytest.raises(ValueError, match="of 96 texts can't be written as words one space"):
        model.fit(texts)
