r"""How probable it is that an answer is right: one number from several readings of it.

    p(right | r, h) = sigmoid(b + w . r + v . h)

r are readings such as the mean log p of a token, the share of draws that say the same, and the
entropy of what they say (S. Farquhar et al. (2024), Detecting hallucinations in large language
models using semantic entropy); h are hidden states of the network (S. Kadavath et al. (2022),
Language models (mostly) know what they know, section 5; A. Azaria and T. Mitchell (2023), The
internal state of an LLM knows when it's lying, section 3). How strongly the weights are held, and
whether h takes part, is decided by folds of the questions. The logits of questions that a fold had
not seen say how the last logits are scaled (J. Platt (1999), Probabilistic outputs for support
vector machines). The first reading stands alone unless the others gain by more than a standard
error over it, and rank no worse.

Shape letters: N questions, R readings, F hidden states, K axes of them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from conjoin.core.shapes import Bool, Float

__all__ = ["AnswerScore", "Held", "auroc", "fit_score"]

FOLDS = 5
MIN_OF_EACH = 2 * FOLDS  # right ones and wrong ones, for more than the first reading to be tried
MAX_AXES = 64  # of the hidden states
STRENGTHS = (0.03, 0.3, 3.0)  # by which weights are held: the larger, the less
HIDDEN_SCALES = (1.0, 3.0)  # variance of all hidden states together is the square of it
PLAIN_STRENGTH = 1e3  # of the first reading alone: hardly held
LEAST_SPREAD = 1e-6


class Held(NamedTuple):
    """One way to score: how many readings take part, the scale of the hidden states (0: they do
    not take part), and how strongly weights are held."""

    readings: int
    hidden: float
    strength: float


@dataclass(frozen=True)
class AnswerScore:
    """The weights, of readings and hidden states as they come.

    Attributes
    ----------
    weight, hidden_weight, bias
        (R,) of the readings, (F,) of the hidden states, and what is added.
    uses
        "log p", "readings" or "readings and hidden states".
    gain
        Mean log score of questions that a fold had not seen, less that of the first reading alone,
        nats, of the best of the other ways; 0 where none was tried.
    error
        Its standard error.
    """

    weight: Float[np.ndarray, " R"]
    hidden_weight: Float[np.ndarray, " F"]
    bias: float
    uses: str
    gain: float = 0.0
    error: float = 0.0

    def confidence(
        self, readings: Float[np.ndarray, "N R"], hidden: Float[np.ndarray, "N F"]
    ) -> Float[np.ndarray, " N"]:
        """p(right) of each answer."""
        logit = readings @ self.weight + self.bias
        if len(self.hidden_weight):
            logit = logit + hidden @ self.hidden_weight
        return _sigmoid(logit)


def fit_score(
    readings: Float[np.ndarray, "N R"],
    hidden: Float[np.ndarray, "N F"],
    right: Bool[np.ndarray, " N"],
    rng: np.random.Generator,
) -> AnswerScore:
    """The score from answers of which it is known whether they are right.

    Parameters
    ----------
    readings
        The first one is what the others must gain over.
    hidden
        States of the network; F may be 0.
    right
        Which answers are right.
    rng
        Deals the questions to folds.
    """
    inputs = _Inputs.of(readings, hidden)
    first = Held(1, 0.0, PLAIN_STRENGTH)
    if min(right.sum(), (~right).sum()) < 2:
        return inputs.score(first, *_by_rate(inputs, right))
    if min(right.sum(), (~right).sum()) < MIN_OF_EACH:
        return inputs.score(first, *inputs.learned(first, right))
    fold = _folds(right, rng)
    others = [Held(readings.shape[1], 0.0, strength) for strength in STRENGTHS]
    if hidden.shape[1]:
        others += [
            Held(readings.shape[1], scale, strength)
            for scale in HIDDEN_SCALES
            for strength in STRENGTHS
        ]
    alone = inputs.unseen(first, right, fold)
    found = {held: inputs.unseen(held, right, fold) for held in others}
    best = max(found, key=lambda held: float(_log_score(found[held], right).mean()))
    gained = _log_score(found[best], right) - _log_score(alone, right)
    gain = float(gained.mean())
    error = float(gained.std(ddof=1) / len(gained) ** 0.5)
    is_better = gain > error and auroc(found[best], right) >= auroc(alone, right)
    chosen = best if is_better else first
    slope, shift = _platt(found[best] if is_better else alone, right)
    weight, bias = inputs.learned(chosen, right)
    return inputs.score(chosen, slope * weight, slope * bias + shift, gain, error)


def auroc(score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """The share of pairs of a right and a wrong answer in which the right one has the larger score;
    ties count half. .5 where there are no pairs.

    >>> auroc(np.array([0.1, 0.4, 0.4]), np.array([False, True, False]))
    0.75
    """
    from scipy.stats import rankdata

    many = int(right.sum())
    pairs = many * (len(right) - many)
    if not pairs:
        return 0.5
    return float((rankdata(score)[right].sum() - many * (many + 1) / 2) / pairs)


@dataclass(frozen=True)
class _Inputs:
    """Readings with mean 0 and variance 1, and coordinates of the hidden states along their axes,
    which together have the variance 1."""

    readings: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray  # (N, K)
    hidden_centre: np.ndarray
    axes: np.ndarray  # (F, K)

    @classmethod
    def of(cls, readings: np.ndarray, hidden: np.ndarray) -> "_Inputs":
        centre = readings.mean(0)
        scale = readings.std(0)
        scale = np.where(scale > LEAST_SPREAD, scale, np.inf)  # what never differs says nothing
        hidden_centre = hidden.mean(0)
        spread = hidden.std(0)
        inverse = 1 / np.where(spread > LEAST_SPREAD, spread, np.inf)
        inverse = inverse / max(1.0, float((inverse > 0).sum())) ** 0.5
        apart = (hidden - hidden_centre) * inverse
        rotation = np.linalg.svd(apart, full_matrices=False)[2][:MAX_AXES]
        axes = inverse[:, None] * rotation.T
        plain = (readings - centre) / scale
        return cls(plain, centre, scale, apart @ rotation.T, hidden_centre, axes)

    def rows(self, held: Held) -> np.ndarray:
        """What the weights of one way are of."""
        parts = [self.readings[:, : held.readings]]
        if held.hidden:
            parts.append(held.hidden * self.hidden)
        return np.concatenate(parts, 1)

    def learned(
        self, held: Held, right: np.ndarray, some: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, float]:
        """Weights of ``rows`` and the bias, from some of the questions."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=held.strength, max_iter=1000)
        model.fit(self.rows(held)[some], right[some])
        return model.coef_[0], float(model.intercept_[0])

    def unseen(self, held: Held, right: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """(N,) the logit of each question by the folds that it is not in."""
        out = np.empty(len(right))
        for one in range(FOLDS):
            weight, bias = self.learned(held, right, fold != one)
            out[fold == one] = self.rows(held)[fold == one] @ weight + bias
        return out

    def score(self, held: Held, weight: np.ndarray, bias: float, *told: float) -> AnswerScore:
        """Weights as of readings and hidden states as they come."""
        plain = np.zeros(len(self.scale))
        plain[: held.readings] = weight[: held.readings] / self.scale[: held.readings]
        bias -= float(plain @ self.centre)
        hidden = np.empty(0)
        uses = "log p" if held.readings == 1 else "readings"
        if held.hidden:
            hidden = self.axes @ (held.hidden * weight[held.readings :])
            bias -= float(hidden @ self.hidden_centre)
            uses = "readings and hidden states"
        return AnswerScore(plain, hidden, bias, uses, *told)


def _by_rate(inputs: _Inputs, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Where all answers are right, or all wrong: the share of right ones, and the more probable
    answer ranks higher."""
    rate = (right.sum() + 0.5) / (len(right) + 1)
    return np.array([1.0]), float(np.log(rate) - np.log1p(-rate))


def _folds(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) the fold of each question; each has its share of the right ones."""
    fold = np.empty(len(right), dtype=np.int64)
    for side in (right, ~right):
        places = rng.permutation(np.flatnonzero(side))
        fold[places] = np.arange(len(places)) % FOLDS
    return fold


def _log_score(logit: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N,) log p of what is true, nats."""
    return np.asarray(-np.logaddexp(0, np.where(right, -logit, logit)))


def _platt(logit: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and shift of logits of questions that a fold had not seen; a slope that would turn the
    order around is left at 1."""
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(C=PLAIN_STRENGTH).fit(logit[:, None], right)
    slope = float(model.coef_[0, 0])
    return (slope, float(model.intercept_[0])) if slope > 0 else (1.0, 0.0)


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -logit)))
