"""The watermark of texts: found by its key, exact p-values without it, and no change of what is
drawn."""

import math
import stat
import sys

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from conjoin import JointDensity
from conjoin.cli import run
from conjoin.core import stream
from conjoin.marking.watermark import (
    LOG_CERTAIN,
    SUB_KEYS,
    WINDOW_TOKENS,
    KeyedNoise,
    Watermark,
    key_from,
    uniform,
)
from conjoin.serving.continuation import Wish
from conjoin.serving.talk import TextModel

KEY = b"a key of the tests"
TEXTS = [
    f"{who} {what} the {thing}"
    for who in ("the cat", "a dog", "my friend", "no one")
    for what in ("sees", "hears", "likes", "paints", "moves")
    for thing in ("door", "tree", "red ball", "old house", "moon")
]


@pytest.fixture(scope="module")
def model():
    return JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS).model_


def written(model, watermark, seed, **wish):
    text = TextModel(model, watermark=watermark)
    writing = text.continuation([], Wish(seed=seed, **wish))
    chunks = []
    while not writing.done:
        chunks += writing.advance(60)
    return "".join(chunk.text for chunk in chunks), chunks


def test_the_p_value_is_exact_on_a_thousand_texts_without_it(model):
    """Texts of the model itself, under a key each and under one key."""
    tokens = model.codec.wording.tokens
    drawn = model.joint.sample(1_000, generator=stream(0, "texts"))
    there = drawn.there.sum(1).tolist()
    texts = [row[:count].tolist() for row, count in zip(drawn.value, there, strict=True)]
    codes = [tokens.codes(tokens.text(text)) for text in texts]
    codes = [each for each in codes if len(each) > WINDOW_TOKENS]
    assert len(codes) > 950
    keys = [b"key of one text %d" % place for place in range(len(codes))]
    own = [Watermark(key).found(each).p_value for key, each in zip(keys, codes, strict=True)]
    assert kstest(own, "uniform").pvalue > 0.01
    assert abs(np.mean(np.array(own) < 0.01) - 0.01) < 3 * math.sqrt(0.01 * 0.99 / len(own))
    # windows come again over texts, so under one key these are not independent, only uniform
    one = [Watermark(KEY).found(each).p_value for each in codes]
    assert abs(np.mean(one) - 0.5) < 0.1


def test_the_p_value_is_uniform_for_texts_that_repeat_themselves():
    """Each window counts once: else a loop would be as sure as it is long."""
    found = [
        Watermark(b"key number %08d" % seed).found([1, 2, 3, 4, 5, 6] * 20).p_value
        for seed in range(500)
    ]
    assert kstest(found, "uniform").pvalue > 0.01
    assert Watermark(KEY).found([1, 2, 3, 4, 5, 6] * 20).tokens == 6


def test_noise_is_uniform():
    seeds = np.array([Watermark(KEY).seed(0, [place]) for place in range(300)], dtype=np.uint64)
    noise = uniform(seeds[:, None], np.arange(50, dtype=np.uint64)[None])
    assert noise.min() > 0
    assert noise.max() < 1
    assert kstest(noise.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.2


def chain(length, writing, noise, logits):
    """Tokens of a Markov chain, drawn by the key where it may."""
    codes = [0]
    for _ in range(length):
        log_q = logits[codes[-1]] - np.logaddexp.reduce(logits[codes[-1]])
        code = writing.choose(log_q)
        if code is None:
            code = int((log_q + noise.gumbel(size=len(log_q))).argmax())
        writing.add(code)
        codes.append(code)
    return codes[1:]


def test_a_watermark_is_found_by_its_key_and_by_no_other():
    """Sixty tokens of some five bits each."""
    noise = np.random.default_rng(0)
    logits = noise.normal(size=(50, 50))
    mark = Watermark(KEY)
    texts = [chain(60, KeyedNoise(mark, part), noise, logits) for part in range(20)]
    own = [mark.found(text).p_value for text in texts]
    other = [Watermark(KEY + b"!").found(text).p_value for text in texts]
    edited = [mark.found([*text[:20], 7, *text[25:]]).p_value for text in texts]
    assert max(own) < 1e-20
    assert max(edited) < 1e-10
    assert min(other) > 1e-4


def test_each_token_is_drawn_by_its_own_q():
    """Over keys, the token behind a window has the law of the model."""
    q = np.array([0.5, 0.25, 0.15, 0.1])
    counts = np.zeros(4)
    for seed in range(4_000):
        writing = KeyedNoise(Watermark(b"key number %08d" % seed), seed)
        for code in (0, 1, 2, 3):
            writing.add(code)
        counts[writing.choose(np.log(q))] += 1
    assert chisquare(counts, 4_000 * q).pvalue > 0.01


def test_what_is_left_to_chance():
    writing = KeyedNoise(Watermark(KEY), 0)
    even = np.log(np.full(5, 0.2))
    assert writing.choose(even) is None  # no window yet
    for code in (0, 1, 2, 3):
        writing.add(code)
    assert writing.choose(even) is not None
    certain = np.log(np.array([0.995, *([0.00125] * 4)]))
    assert certain.max() > LOG_CERTAIN
    assert writing.choose(certain) is None  # no choice to speak of
    for code in (4, 0, 1, 2, 3):
        writing.add(code)
    assert writing.choose(even) is None  # that window was there before


def test_answers_to_one_prompt_differ_and_a_seed_says_the_same_again(model):
    mark = Watermark(KEY)
    first = [written(model, mark, seed, max_tokens=40)[0] for seed in range(8)]
    again = [written(model, mark, seed, max_tokens=40)[0] for seed in range(8)]
    assert first == again
    assert len(set(first)) >= 6
    parts = {Watermark(KEY).seed(part, [1, 2, 3, 4]) for part in range(SUB_KEYS)}
    assert len(parts) == SUB_KEYS


def test_log_p_is_the_models_own_with_the_watermark_too(model):
    text, chunks = written(model, Watermark(KEY), 3)
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    whole = model.log_prob_raw(model.encode(model.rows([text])))[0]
    assert sum(piece.log_p for piece in pieces) == pytest.approx(whole, abs=1e-9)


def test_where_nothing_is_drawn_there_is_none_and_it_is_said(model):
    text = TextModel(model, watermark=Watermark(KEY))
    greedy = Wish(temperature=0.0)
    assert text.watermarked("the cat", greedy)["on"] is False
    assert "none is drawn" in text.watermarked("the cat", greedy)["reason"]
    short = text.watermarked("the cat", Wish())
    assert short["on"] is True
    assert "too short" in short["reason"]
    assert TextModel(model).watermarked("the cat", Wish())["on"] is False
    plain, _ = written(model, None, 0, temperature=0.0)
    assert written(model, Watermark(KEY), 0, temperature=0.0)[0] == plain


def test_keys_lie_in_files_of_this_user(tmp_path):
    file = tmp_path / "key"
    with pytest.raises(ValueError, match="is no file: it should hold the key"):
        key_from(file)
    made = key_from(file, make=True)
    assert key_from(file) == key_from(file, make=True) == made
    assert len(made) == 64
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"\n" * 20)
    with pytest.raises(ValueError, match="holds 0 bytes, beside blanks at its ends: a key has"):
        key_from(file)
    file.write_bytes(b" sixteen letters\n")
    with pytest.raises(ValueError, match="holds 15 bytes, beside blanks"):
        key_from(file)
    file.write_bytes(b" sixteen  letters\n")
    assert key_from(file) == b"sixteen  letters"
    file.write_bytes(b"k" * 5_000)
    with pytest.raises(ValueError, match="holds 5,000 bytes: a key has from 16 to 4,096"):
        key_from(file)
    file.write_bytes(b"short")
    with pytest.raises(ValueError, match="holds 5 bytes: a key has from 16"):
        key_from(file)


def test_verify_finds_it_in_a_file(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS).save("texts")
    (tmp_path / "key").write_bytes(KEY)
    found = []
    for seed in range(12):
        found.append(written(model, Watermark(KEY), seed, temperature=1.5, max_tokens=60)[0])
    (tmp_path / "made.txt").write_text(max(found, key=len))
    line = ["verify", "made.txt", "--key", "key", "--model", "texts"]
    assert run(line) == 0
    assert "carries the watermark of this key: p = " in capsys.readouterr().out
    (tmp_path / "mine.txt").write_text("the dog sees a door and no one paints the old moon")
    assert run(["verify", "mine.txt", *line[2:]]) == 3
    assert "no watermark of this key is found: p = " in capsys.readouterr().out
    assert run(["verify", "made.txt", "--key", "key"]) == 2
    assert "--key and --model go together" in capsys.readouterr().err
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    assert run(["verify", "bytes.txt", *line[2:]]) == 2
    assert "no text in UTF-8" in capsys.readouterr().err
    (tmp_path / "other.txt").write_text("Ä€Ö" * 30)  # characters that the model does not know
    assert run(["verify", "other.txt", *line[2:]]) == 3


def test_a_server_tells_of_it(model):
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'conjoin[serve]'")
    from fastapi.testclient import TestClient

    from conjoin.serving.app import create_app

    estimator = JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS)
    app = create_app(estimator, "texts", watermark=Watermark(KEY))
    turns = [{"role": "user", "content": "the cat "}]
    asked = {"model": "texts", "messages": turns, "seed": 2, "abstain": False, "max_tokens": 80}
    with TestClient(app) as client:
        whole = client.post("/v1/chat/completions", json={**asked, "temperature": 1.5}).json()
        greedy = client.post("/v1/chat/completions", json={**asked, "temperature": 0}).json()
    message = whole["choices"][0]["message"]
    told = message["conjoin"]["watermark"]
    codes = model.codec.wording.tokens.codes(message["content"])
    assert told["on"] is True
    assert told["p_value"] == pytest.approx(Watermark(KEY).found(codes).p_value)
    assert greedy["choices"][0]["message"]["conjoin"]["watermark"]["on"] is False
    rows = JointDensity(family="naive_bayes").fit(np.random.default_rng(0).normal(size=(80, 2)))
    with pytest.raises(ValueError, match="carried by texts"):
        create_app(rows, "rows", watermark=Watermark(KEY))
