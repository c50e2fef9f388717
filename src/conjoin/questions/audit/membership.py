r"""Whether log p(x) tells the rows that a model was fitted to from rows that it never saw.

    score(x) = log N(l; m_in(x), s_in) - log N(l; m_out(x), s_out),    l = log p(x) of the model

the likelihood ratio of N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer (2022),
Membership inference attacks from first principles: m_in and m_out are means of log p(x) under
shadow models, fitted like the model to random halves of all rows, with and without x; each pair of
halves is one split, so every row is in as many shadows as it is out of. The spreads s are those of
all rows, as theirs with few shadows. What counts is how many members are told apart where hardly
any other row is taken for one: the true-positive rate at 1 % false positives.

The threshold is itself a rank, that of the k-th highest of n strangers. Without memory the m
members and the strangers are exchangeable, so how many members lie above it has an exact law, the
negative hypergeometric one (N. Johnson, A. Kemp and S. Kotz (2005), Univariate discrete
distributions, section 6.2.2):

    P(at least j members above) = P(H < k),    H ~ hypergeometric(m + n, n, j + k - 1)

the number of strangers among the j + k - 1 highest rows.

Shape letters: B rows, K shadow models.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import hypergeom
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from conjoin.calibration.conformal import clopper_pearson, rate_interval

__all__ = ["FALSE_POSITIVES", "Membership", "membership", "shadows_of"]

FALSE_POSITIVES = 0.01
MAX_P_VALUE = 0.01  # at which members are said to be told apart
MIN_STRANGERS = 100  # of which one is 1 %
LEAST_SPREAD = 1e-6  # nats


@dataclasses.dataclass(frozen=True)
class Membership:
    """``rate``: the share of members above all but ``FALSE_POSITIVES`` of the strangers, with its
    exact 95 % ``interval``, given the threshold; ``false_positives``: the upper 95 % bound on the
    share of all other rows above it; ``p_value``: of so many members, or more, were there no
    memory; ``auc``: .5 without memory."""

    rate: float
    interval: tuple[float, float]
    false_positives: float
    p_value: float
    auc: float
    members: int
    strangers: int
    shadows: int

    @property
    def told_apart(self) -> bool:
        """Whether more members are told apart than chance would."""
        return self.p_value <= MAX_P_VALUE

    def to_json(self) -> dict[str, Any]:
        return {
            "tpr_at_1_percent_fpr": self.rate,
            "interval": list(self.interval),
            "fpr_upper_bound": self.false_positives,
            "p_value": self.p_value,
            "auc": self.auc,
            "members": self.members,
            "strangers": self.strangers,
            "shadows": self.shadows,
            "told_apart": self.told_apart,
        }


def membership(
    estimator: Any,
    members: Any,
    strangers: Any,
    shadows: np.ndarray,
    inside: np.ndarray,
) -> Membership:
    """How well members are told from strangers.

    ``members`` and ``strangers``: rows; ``shadows``: (K, B) log p(x) of both, members first, under
    each shadow model; ``inside``: (K, B) whether each was among the rows of that one's fit."""
    own = np.concatenate([_scores(estimator, members), _scores(estimator, strangers)])
    known = np.concatenate([np.ones(len(members), bool), np.zeros(len(strangers), bool)])
    ratio = _ratios(own, shadows, inside)
    spare = int(FALSE_POSITIVES * len(strangers))
    threshold = np.sort(ratio[~known])[::-1][spare]  # that many strangers lie above
    found = int((ratio[known] > threshold).sum())
    interval: Any = rate_interval(found, int(known.sum()))
    return Membership(
        found / int(known.sum()),
        (interval[0], interval[1]),
        float(clopper_pearson(np.array(spare), np.array(len(strangers)))),
        chance_of(found, int(known.sum()), spare, len(strangers)),
        float(roc_auc_score(known, ratio)),
        int(known.sum()),
        len(strangers),
        len(shadows),
    )


def chance_of(found: int, members: int, spare: int, strangers: int) -> float:
    """The chance that at least ``found`` of the members lie above all but ``spare`` of the
    strangers, where all of them are exchangeable.

    >>> chance_of(2, 2, 0, 2)  # both members before both strangers: one of six orders
    0.16666666666666666
    """
    highest = found + spare
    return float(hypergeom.cdf(spare, members + strangers, strangers, highest))


def shadows_of(
    estimator: Any,
    fit_to: Any,
    y: Any,
    asked: Any,
    places: np.ndarray,
    count: int,
    rng: np.random.Generator,
    told: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """(K, B) log p(x) of the rows ``asked`` under shadow models, and whether each was in the fit.

    ``fit_to``, ``y``: all rows that may be in a fit; ``places``: (B,) where among them the rows
    asked stand; ``told`` is called with the number of models that are done."""
    scores = []
    inside = []
    for _ in range(count // 2):
        half = rng.permutation(len(fit_to)) < len(fit_to) // 2
        for chosen in (half, ~half):
            model = shadow(estimator)
            rows = np.flatnonzero(chosen)
            part = taken(fit_to, rows)
            model.fit(part) if y is None else model.fit(part, taken(y, rows))
            scores.append(_scores(model, asked))
            inside.append(chosen[places])
            told(len(scores))
    return np.array(scores), np.array(inside)


def shadow(estimator: Any) -> Any:
    """An estimator of the same family and settings, which learns p(x) alone: what is compared."""
    settings = estimator.model_.facts.get("settings", {})
    fresh = clone(estimator).set_params(predictor=None, verbose=False)
    return fresh.set_params(**{f"family__{name}": value for name, value in settings.items()})


def taken(rows: Any, places: np.ndarray) -> Any:
    """Some rows of a frame, a column or a list."""
    if isinstance(rows, pd.DataFrame | pd.Series):
        return rows.iloc[places].reset_index(drop=True)
    return [rows[place] for place in places]


def _scores(estimator: Any, rows: Any) -> np.ndarray:
    """(B,) log p(x); a row that can't be is as unlikely as the least likely one."""
    found = np.asarray(estimator.score_samples(rows), dtype=float)
    finite = found[np.isfinite(found)]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    return np.asarray(np.clip(np.nan_to_num(found, nan=least), least, most))


def _ratios(own: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(B,) log-likelihood ratios of being in the fit."""
    sums = []
    for chosen in (inside, ~inside):
        mean = np.where(chosen, shadows, 0.0).sum(0) / chosen.sum(0)
        gaps = np.where(chosen, shadows - mean, 0.0)
        freedom = max(1, int(chosen.sum()) - chosen.shape[1])
        spread = max(LEAST_SPREAD, float(np.sqrt((gaps**2).sum() / freedom)))
        sums.append(-0.5 * ((own - mean) / spread) ** 2 - np.log(spread))
    ratio: np.ndarray = sums[0] - sums[1]
    return ratio
