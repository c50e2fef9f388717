r"""What can be read off the answers to a question, before anyone says whether they are right.

    entropy = -sum_c s_c log s_c,      s_c the share of draws in cluster c

Semantic entropy is that of what draws say, not of how they say it (L. Kuhn, Y. Gal and S. Farquhar
(2023), Semantic uncertainty: linguistic invariances for uncertainty estimation in natural language
generation, section 4). In nats.

Shape letters: N questions, R readings, Q readings of a question alone, F hidden states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from conjoin.calibration.answers import QuestionReadings
from conjoin.core import Density, Event
from conjoin.questions.answers.meaning import Meaning
from conjoin.questions.answers.writing import Answer, Writing

__all__ = ["READINGS", "Said", "read_answers", "said_of"]

# of an answer; the first is what the others must gain over
READINGS = (
    "mean log p of a token",
    "log p of the answer",
    "least log p of a token",
    "share of draws that say the same",
    "semantic entropy",
    "share of the next answer",
    "log p of all seen ways to say the same",
    "log of the answer's tokens",
    "ended by itself",
)
LEAST_LOG_P = -50.0  # nats, of a token that can hardly come
STATES_AT_ONCE = 256  # questions of which hidden states are kept at once


@dataclass(frozen=True)
class Said:
    """What the answers to one question say: of each cluster the first text and the share of draws,
    the best answer's first, then by share."""

    texts: tuple[str, ...]
    shares: tuple[float, ...]
    log_p: tuple[float, ...]  # of all seen ways to say each, nats

    @property
    def agreement(self) -> float:
        """The share of draws that say what the best answer says."""
        return self.shares[0]

    @property
    def entropy(self) -> float:
        """Of the clusters, nats."""
        shares = np.array([share for share in self.shares if share > 0])
        return float(-(shares * np.log(shares)).sum()) + 0.0

    @property
    def next_share(self) -> float:
        """Of the most frequent other answer."""
        return max(self.shares[1:], default=0.0)


def said_of(writing: Writing, meaning: Meaning) -> Said:
    """The clusters of all answers to a question."""
    every = [writing.best, *writing.drawn]
    cluster = meaning.clusters([answer.text for answer in every])
    count = max(cluster) + 1
    shares = np.bincount(cluster[1:], minlength=count) / max(1, len(writing.drawn))
    texts = [every[cluster.index(place)].text.strip() for place in range(count)]
    log_p = [
        _seen([a for a, c in zip(every, cluster, strict=True) if c == k]) for k in range(count)
    ]
    order = [0, *sorted(range(1, count), key=lambda place: -shares[place])]
    return Said(
        tuple(texts[place] for place in order),
        tuple(float(shares[place]) for place in order),
        tuple(log_p[place] for place in order),
    )


def _seen(answers: Sequence[Answer]) -> float:
    """log p of different strings together."""
    different = {tuple(answer.codes): answer.total for answer in answers}
    return float(np.logaddexp.reduce(list(different.values())))


def read_answers(
    density: Density,
    writings: Sequence[Writing],
    said: Sequence[Said],
    asked: Sequence[slice],
) -> QuestionReadings:
    """All readings; ``asked``: where in each prompt the question's own tokens stand."""
    pairs = zip(writings, said, strict=True)
    readings = np.array([_of_answer(*pair) for pair in pairs]).reshape(-1, len(READINGS))
    question = np.array(
        [_of_question(each.told[part]) for each, part in zip(writings, asked, strict=True)]
    ).reshape(-1, 3)
    readings = np.concatenate([readings, question], 1)
    states = _states(density, writings)
    return QuestionReadings(readings, states[:, 1], question, states[:, 0])


def _of_answer(writing: Writing, said: Said) -> list[float]:
    log_p = np.maximum(writing.best.log_p, LEAST_LOG_P)
    return [
        float(log_p.mean()),
        float(log_p.sum()),
        float(log_p.min()),
        said.agreement,
        said.entropy,
        said.next_share,
        max(said.log_p[0], LEAST_LOG_P),
        float(np.log(len(log_p))),
        float(writing.best.ended),
    ]


def _of_question(told: Sequence[float]) -> list[float]:
    """Mean and least log p of a token of the question, and the log of how many there are."""
    log_p = np.maximum(told, LEAST_LOG_P) if len(told) else np.zeros(1)
    return [float(log_p.mean()), float(log_p.min()), float(np.log(len(log_p)))]


def _states(density: Density, writings: Sequence[Writing]) -> np.ndarray:
    """(N, 2, F) hidden states behind each question and behind its best answer; F is 0 of a density
    without features."""
    if not density.capabilities.features or not writings:
        return np.empty((len(writings), 2, 0))
    capacity = int(density.space.shape[0])
    parts = []
    for first in range(0, len(writings), STATES_AT_ONCE):
        some = writings[first : first + STATES_AT_ONCE]
        value = torch.zeros(len(some), capacity, dtype=torch.int64)
        places = torch.zeros(len(some), 2, dtype=torch.int64)
        for row, each in enumerate(some):
            codes = (each.prompt + each.best.codes)[:capacity]
            value[row, : len(codes)] = torch.tensor(codes)
            places[row] = torch.tensor([len(each.prompt), len(codes)])
        there = torch.arange(capacity) < places[:, 1:]
        with torch.no_grad():
            found = density.features_at(Event(value, there, there), places)
        parts.append(found.double().numpy())
    return np.concatenate(parts)
