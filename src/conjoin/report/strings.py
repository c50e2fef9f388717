"""The report's strings: passages that the model draws, and how surprising each piece of them, and
of the least familiar real ones, is."""

import math
from typing import Any, NamedTuple

import numpy as np

from conjoin.core import Rows
from conjoin.questions.token_surprise import token_surprise
from conjoin.report.sections import Answers

__all__ = ["Passage", "Piece", "string_sections"]

SEED = 1
SHOWN = 6  # passages of each sort
MAX_TOKENS = 400  # of a passage, behind which it is cut
DEEPEST_NATS = 8.0  # of a token, from which on the colour grows no more


class Piece(NamedTuple):
    """``share``: how deep its colour is, from 0 to 1."""

    text: str
    nats: float
    share: float


class Passage(NamedTuple):
    """``label``: its row, or its class; ``rate``: nats a token, where all of it is known; ``cut``:
    tokens that are not shown; ``unseen``: what stands behind the last that is known."""

    label: str
    pieces: list[Piece]
    rate: float | None
    cut: int
    unseen: str


def string_sections(estimator: Any, found: Answers, real: Rows | None) -> dict[str, Any]:
    """The sections. Real strings stand there only where real rows may be shown."""
    strings, labels = estimator.sample(SHOWN, random_state=SEED)
    drawn = found.model.rows(strings)
    names = [""] * SHOWN if labels is None else [str(label) for label in labels]
    heat = found.model.density_of_x.capabilities.step
    odd = None if real is None or not heat else np.argsort(_rates(found, real))[:SHOWN]
    return {
        "template": "strings.html.j2",
        "sections": ("samples", "surprise"),
        "heat": heat,
        "passages": _passages(found, drawn, names, heat),
        "odd_passages": None
        if real is None or odd is None
        else _passages(found, real.take(odd), [f"row {row}" for row in odd], heat),
        "deepest": f"{DEEPEST_NATS:g}",
    }


def _rates(found: Answers, rows: Rows) -> np.ndarray:
    """log p of each string, per token and end."""
    tokens = found.model.codec.encode(rows).event.there.sum(1).numpy() + 1
    return np.asarray(found.log_prob) / tokens


def _passages(found: Answers, rows: Rows, labels: list[str], heat: bool) -> list[Passage]:
    model = found.model
    codec: Any = model.codec
    encoded = codec.encode(rows)
    event = encoded.event
    lengths = event.there.sum(1).tolist()
    nats = (
        token_surprise(model.density_of_x, event).numpy()
        if heat
        else np.full((event.rows, event.value.shape[1] + 1), math.nan)
    )
    return [
        Passage(
            label,
            _pieces(codec.tokens, codes[:length][:MAX_TOKENS], own),
            None if unseen or np.isnan(own).all() else float(np.nanmean(own)),
            max(length - MAX_TOKENS, 0),
            codec.unread_rest(text, codes[:length]) if unseen else "",
        )
        for label, codes, length, own, text, unseen in zip(
            labels,
            event.value.tolist(),
            lengths,
            nats,
            codec.raw(rows),
            encoded.unseen.any(1).tolist(),
            strict=True,
        )
    ]


def _pieces(tokens: Any, codes: list[int], nats: np.ndarray) -> list[Piece]:
    return [
        Piece(text, own, 0.0 if math.isnan(own) else min(own / DEEPEST_NATS, 1.0))
        for text, own in tokens.pieces(codes, nats.tolist())
    ]
