"""p(y | x) of classes: the softmax of a scorer's logits at a temperature that held-out rows have
set (C. Guo et al. (2017), On calibration of modern neural networks, equation 9)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Pair, categorical
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.hybrid import Predictor
from conjoin.predictors.base import Scorer

__all__ = ["MIN_COMPARISON_ROWS", "Classifier", "best_temperature", "temperature_of"]

MIN_COMPARISON_ROWS = (
    20  # labelled and held out, by which predictors can be compared and calibrated
)
LOG_TEMPERATURE_DEVIATION = 0.35  # of the normal prior of the log of a temperature


class Classifier(Predictor):
    """p(y | x) for classes: the softmax of a scorer's logits at a temperature."""

    temperature: Tensor

    def __init__(self, scorer: Scorer, temperature: float = 1.0) -> None:
        super().__init__()
        self.scorer = scorer
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    @on_device
    def log_proba(self, x: Event) -> Float[Tensor, "B K"]:
        return (self.scorer.scores(x) / self.temperature).log_softmax(1)

    @on_device
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.log_proba(x).gather(1, y.long())

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.scorer.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        log_proba = self.log_proba(x)
        return (
            log_proba.argmax(1) if generator is None else categorical(log_proba, generator)
        ).double()

    @classmethod
    def calibrated(cls, scorer: Scorer, held: Pair, wrong: float = 0.0) -> "Classifier":
        """With the temperature that suits labelled rows which the scorer has not seen, of which a
        share may be ``wrong``; 1 where they are few, or the scorer keeps its own word."""
        tempered = scorer.tempered and held.rows >= MIN_COMPARISON_ROWS
        return cls(scorer, best_temperature(scorer, held, wrong) if tempered else 1.0)

    def describe(self) -> dict[str, Any]:
        return self.scorer.describe()

    @on_device
    def scores_of_frame(self, frame: Any, x: Event) -> Float[Tensor, "B K"] | None:
        own = self.scorer.scores_of_frame(frame, x)
        return None if own is None else own / self.temperature

    @property
    def features_head(self) -> Any:
        return self.scorer if self.scorer.on_features else None


def best_temperature(scorer: Scorer, held: Pair, wrong: float = 0.0) -> float:
    """The temperature with the least log-loss on held-out rows, leaning on 1: a few rows that
    happen to be all right would ask for boundless certainty. A share ``wrong`` of the labels is
    taken to be of any other class."""
    with torch.no_grad():
        return temperature_of(scorer.scores(held.x), held.y.value, wrong)


def temperature_of(
    scores: Float[Tensor, "B K"],
    label: Float[Tensor, " B"],
    wrong: float = 0.0,
    prior: Tensor | float = 0.0,
) -> float:
    """As ``best_temperature``, for scores of rows of class ``label``; log p(y), the ``prior``, is
    added to the tempered scores."""
    from scipy.optimize import minimize_scalar

    others = wrong / max(scores.shape[1] - 1, 1)
    target = torch.full_like(scores, others).scatter(1, label.long()[:, None], 1 - wrong)

    def loss(log_temperature: float) -> float:
        tempered = scores / np.exp(log_temperature) + prior
        fit = -float((target * tempered.log_softmax(1)).sum())
        return fit + 0.5 * (log_temperature / LOG_TEMPERATURE_DEVIATION) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-1.5, 2.5), method="bounded").x))
