"""Surprise of tokens, and the report's page about strings."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.core import Event
from conjoin.families.autoregressive.sequence import Sequence
from conjoin.questions.token_surprise import token_surprise
from conjoin.report.strings import _pieces

WORDS = ["abc", "abd", "ab", "bcd", "cab", ""] * 20


@pytest.fixture(scope="module", params=["ngram", "sequence"])
def model(request):
    if request.param == "ngram":
        return conjoin.JointDensity(family="ngram", random_state=0).fit(WORDS)
    small = Sequence(blocks=1, width=16, steps=5)
    return conjoin.JointDensity(family=small, random_state=0).fit(WORDS)


def test_surprises_of_all_tokens_and_the_end_add_up_to_that_of_the_string(model):
    event = model.model_.encode(model.model_.rows(["abc", "", "dcba", "ab"])).event
    density = model.model_.density_of_x
    nats = token_surprise(density, event)
    assert torch.allclose(nats.nansum(1), -density.log_prob(event).double(), atol=1e-5)
    assert (~nats.isnan()).sum(1).tolist() == [
        min(n + 1, event.value.shape[1]) for n in (3, 0, 4, 2)
    ]


def test_what_is_not_known_has_no_surprise(model):
    event = model.model_.encode(model.model_.rows(["abc"])).event
    beginning = Event(event.value, torch.arange(event.value.shape[1])[None] < 2, event.present)
    nats = token_surprise(model.model_.density_of_x, beginning)
    assert (~nats.isnan()).sum(1).tolist() == [2]


def test_the_report_shows_passages_and_real_ones_only_where_asked(model, tmp_path):
    rows = ["abc", "abz<b>", "cab"]
    model.report(tmp_path / "plain.html", rows)
    plain = (tmp_path / "plain.html").read_text()
    assert "Strings that the model draws" in plain and "z&lt;b&gt;" not in plain
    model.report(tmp_path / "rows.html", rows, show_rows=True)
    shown = (tmp_path / "rows.html").read_text()
    assert "z&lt;b&gt;" in shown and "holds what was never seen" in shown
    assert "<b>" not in shown


def test_a_character_of_several_bytes_is_one_piece():
    types = {"text": {"type": "text", "format": "bytes"}}
    frame = {"text": np.array(["é€", "é", "a€"] * 20, dtype=object)}
    fitted = conjoin.JointDensity(family="ngram", types=types).fit(pd.DataFrame(frame))
    codec = fitted.model_.codec
    codes = codec.tokens.codes("é€")
    pieces = list(_pieces(codec.tokens, codes, np.ones(len(codes))))
    assert [piece.text for piece in pieces] == ["é", "€"]
    assert [piece.nats for piece in pieces] == [2.0, 3.0]


def test_reasons_name_what_is_odd_in_a_string():
    words = ["the dog runs", "the cat runs", "a dog sleeps", "a cat sleeps"] * 60
    model = conjoin.JointDensity(family="ngram", random_state=0).fit(words)
    found = model.decide(["the dog runs", "the dog rnus", "the dog ruñs"])
    assert found["verdict"].tolist() == ["accept", "unfamiliar", "unfamiliar"]
    assert "its most surprising part is 'n" in found["reason"].iloc[1]
    assert "'ñs' begins with what was never seen" in found["reason"].iloc[2]
