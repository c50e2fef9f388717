r"""p(y | x) of texts: naive Bayes of their words, logistic regression of their runs of characters.

    log p(k | x) = b_k + sum_v W_kv t_v(x) - log Z(x),      t of ``conjoin.predictors.terms``

Naive Bayes takes W_kv = log (n_kv + a_v) / sum_v (n_kv + a_v), n the sums of t in class k. Where
labels are missing, these sums go over all texts, weighted by p(k | x), in rounds of
expectation-maximisation, and a_v follows the sum of the term in all texts (K. Nigam et al. (2000),
Text classification from labeled and unlabeled documents using EM, sections 4 and 5.3).

Shape letters: B texts, V terms, K classes.
"""

import abc
from typing import Any, Self

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from conjoin.codecs.wording import Wording
from conjoin.core import Event
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.predictors.base import Case, Folded, Method, Scorer, two_sided
from conjoin.predictors.logistic import by_strength, logistic
from conjoin.predictors.terms import Terms, mean_words

__all__ = ["TermScores", "TextBayesMethod", "TextLogisticMethod"]

MIN_WORDS = 2.0  # of a text, on average, from which on "auto" reads them
LEAST_TEXTS = 3  # in which a run of characters occurs, so that it counts
ADDED = 0.1  # a: to the sum of each term in each class, on average
ROUNDS = 20  # of expectation-maximisation
LENGTH = 3.0  # of a row, for logistic regression: its usual strength then suits texts


class TermScores(Scorer):
    """``wording``: how events read as texts; ``weight`` (K, V) and ``bias`` (K,) of their
    ``terms``."""

    kind = "terms"

    weight: Tensor
    bias: Tensor

    def __init__(self, wording: Wording, terms: Terms, classes: int) -> None:
        super().__init__()
        self.wording = wording
        self.terms = terms
        size = len(terms.kept)
        self.register_buffer("weight", torch.zeros(classes, size, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        terms = Terms(shapes["reading"], shapes["terms"])
        return cls(Wording.from_json(shapes["wording"]), terms, shapes["classes"])

    @property
    def shapes(self) -> dict[str, Any]:
        return {
            "wording": self.wording.to_json(),
            "reading": self.terms.reading,
            "terms": len(self.terms.kept),
            "classes": len(self.bias),
        }

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Texts of which something is known, such as their beginning."""
        return ~x.unobserved

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        table = self.terms.table(self.wording.strings(x))
        found = torch.as_tensor(table @ self.weight.cpu().numpy().T).to(self.bias.device)
        return found + self.bias


class _TextMethod(Method):
    """``reading``: what the terms are."""

    scorers = (TermScores,)
    folds = True
    reads_texts = True
    reading: str

    def tried(self, case: Case) -> bool:
        return case.classes is not None and mean_words(self._strings(case)) >= MIN_WORDS

    def fit(self, case: Case) -> Scorer:
        terms, table = self._terms(case)
        return self._scorer(case, terms, *self._learned(case, table))

    @abc.abstractmethod
    def _learned(self, case: Case, table: Any) -> tuple[np.ndarray, np.ndarray]:
        """Weights (K, V) and biases (K,)."""

    def _strings(self, case: Case) -> list[str]:
        if case.wording is None:
            raise ValueError("This predictor reads texts, and the data are none: choose another.")
        return case.wording.strings(case.rows.x)

    def _terms(self, case: Case) -> tuple[Terms, Any]:
        return Terms.learned(self._strings(case), self.reading, self._least(case))

    def _least(self, case: Case) -> int:
        """Texts in which a term occurs, so that it counts."""
        return LEAST_TEXTS

    def _scorer(self, case: Case, terms: Terms, weight: Any, bias: Any) -> TermScores:
        assert case.wording is not None and case.classes is not None
        scorer = TermScores(case.wording, terms, case.classes)
        scorer.weight.copy_(torch.as_tensor(weight))
        scorer.bias.copy_(torch.as_tensor(bias))
        return scorer


class TextBayesMethod(_TextMethod):
    """Naive Bayes of words and pairs of words; texts without a label teach it too."""

    reading = "words"

    def for_few_labels(self, case: Case) -> bool:
        return self.tried(case)

    def _least(self, case: Case) -> int:
        """A term of one text without a label says nothing."""
        return 1 if case.rows.y.mask.all() else 2

    def _learned(self, case: Case, table: Any) -> tuple[np.ndarray, np.ndarray]:
        known = case.rows.y.mask.numpy()
        assert case.classes is not None
        labels = np.zeros((len(known), case.classes))
        labels[known, _codes(case)[known]] = 1.0
        weight = case.weight.numpy()[:, None]
        if known.all():
            return _bayes(table, weight * labels, np.full(table.shape[1], ADDED))
        total = np.asarray((weight.T @ table).ravel())
        added = ADDED * total / max(total.mean(), 1e-300)
        share = labels
        for _ in range(ROUNDS):
            terms, bias = _bayes(table, weight * share, added)
            told = np.exp(log_softmax(table @ terms.T + bias, axis=1))
            share = np.where(known[:, None], labels, told)
        return terms, bias

    def by_folds(self, case: Case) -> Folded:
        terms, table = self._terms(case)
        scores = np.full((case.rows.rows, case.classes or 1), np.nan)
        for held in case.parts():
            weight, bias = self._learned(case.take(~held), table[~held])
            scores[held] = table[held] @ weight.T + bias
        scorer = self._scorer(case, terms, *self._learned(case, table))
        return Folded(scorer, torch.as_tensor(scores))


class TextLogisticMethod(_TextMethod):
    """Logistic regression of runs of characters."""

    reading = "characters"

    def fit(self, case: Case) -> Scorer:
        return super().fit(case.take(case.rows.y.mask.numpy()))

    def _learned(self, case: Case, table: Any) -> tuple[np.ndarray, np.ndarray]:
        return _of_logistic(logistic(LENGTH * table, _codes(case), case.weight.numpy()))

    def by_folds(self, case: Case) -> Folded:
        terms, table = self._terms(case)
        folds = [(np.flatnonzero(~held), np.flatnonzero(held)) for held in case.parts()]
        fitted, log_p = by_strength(LENGTH * table, _codes(case), case.weight.numpy(), folds)
        scorer = self._scorer(case, terms, *_of_logistic(fitted))
        return Folded(scorer, torch.as_tensor(log_p))


def _codes(case: Case) -> np.ndarray:
    return case.rows.y.value.numpy().astype(np.int64)


def _bayes(table: Any, share: np.ndarray, added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, V) and biases (K,) by the ``share`` (B, K) of each text in each class, and what
    is ``added`` to the sum of each term."""
    counts = (table.T @ share).T + added
    return np.log(counts / counts.sum(1, keepdims=True)), log_softmax(np.log(share.sum(0)))


def _of_logistic(fitted: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of rows of length 1, one of each for every class."""
    weight = LENGTH * fitted.coef_
    bias = fitted.intercept_
    return (two_sided(weight), two_sided(bias)) if len(weight) == 1 else (weight, bias)
