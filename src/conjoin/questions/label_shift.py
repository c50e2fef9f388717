r"""adapt: the shares of the classes in a new place, from rows without labels; and the model that
follows them (label shift).

    p_new(y) <- mean over the new rows of p_new(y | x),   p_new(y | x) ~ p(y | x) p_new(y) / p(y)

is expectation-maximisation on the shares alone (M. Saerens, P. Latinne and C. Decaestecker (2002),
Adjusting the outputs of a classifier to new a priori probabilities, section 2.2). It asks for
calibrated p(y | x): for the shares alone, the logits are scaled by one temperature, and shifted by
one bias per class where held-out labels ask for it (A. Alexandari, A. Kundaje and A. Shrikumar
(2020), Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift
adaptation). All of it rests on p(x | y) being what it was, so whether the new rows look so is
tested as well.

The promises of ``decide`` follow: a calibration row of class y is kept with probability w(y) / max
w, and those kept are a sample of the new place (S. Park, E. Dobriban, I. Lee and O. Bastani (2022),
PAC prediction sets under covariate shift, section 3.2).

Shape letters: N rows, K classes.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax, xlogy
from scipy.stats import chi2, ks_2samp

from conjoin.calibration.conformal import Calibration
from conjoin.core import Encoded
from conjoin.joints.reweighted import Reweighted, log_shares
from conjoin.model.model import Model

__all__ = ["Change", "adapt", "after_self_training", "new_shares", "standard_errors"]

Array = NDArray[Any]

# of expectation-maximisation
MAX_STEPS = 2000
TOLERANCE = 1e-7
MIN_CLASS_ROWS = 5  # labelled held-out rows of every class, for a temperature and biases
MIN_UNBIASED_P_VALUE = 1e-3  # p-value of no biases on held-out labels, under which there are some
# share of rows that is unfamiliar where nothing but the shares has changed
EXPECTED_UNFAMILIAR_SHARE = 0.05
MIN_SHARES_P_VALUE = 0.01  # p-value under which more than the shares must have changed


@dataclass(frozen=True)
class Change:
    """What ``adapt`` found. ``p_value``: that the shares are the old ones (likelihood ratio).
    ``misfit``: that p(x | y) is the old one (familiarity and odds of the new rows beside held-out
    rows in the new shares); ``promise`` says what became of those of ``decide``, which are void
    where it is not."""

    labels: tuple[Any, ...]
    old: tuple[float, ...]
    new: tuple[float, ...]
    error: tuple[float, ...]  # standard error of each new share
    rows: int
    p_value: float
    misfit: float | None = None
    unfamiliar: float | None = (
        None  # share of the new rows under the .05 quantile of the held-out ones
    )
    promise: str = ""
    otherwise: float | None = (
        None  # share of the new rows that p(y | x) answers otherwise, now that it has followed
    )

    def frame(self) -> pd.DataFrame:
        """One row for each class."""
        shares = {"old share": self.old, "new share": self.new, "standard error": self.error}
        return pd.DataFrame(
            {"class": self.labels, **shares, "weight": np.divide(self.new, self.old)}
        )

    def words(self) -> list[str]:
        """What it means, a sentence each."""
        how = "have changed" if self.p_value <= 0.05 else "may be the old ones"
        out = [
            f"The shares {how} (likelihood-ratio test on {self.rows:,} rows, p = "
            f"{self.p_value:.2g})."
        ]
        if self.misfit is not None and self.misfit < MIN_SHARES_P_VALUE:
            out.append(
                "More than the shares has changed: how familiar the rows are, or how sure their "
                "answers, is not what other shares would "
                f"make of the held-out rows (p = {self.misfit:.2g}; {self.unfamiliar:.0%} are as "
                f"unfamiliar as {EXPECTED_UNFAMILIAR_SHARE:.0%} should be), "
                f"so {self._trust()}"
            )
        return [*out, self.promise] if self.promise else out

    def _trust(self) -> str:
        if self.otherwise is None:
            return "neither the new shares nor what rests on them can be trusted."
        return (
            f"p(y | x) has followed by its own surest answers: it answers {self.otherwise:.0%} "
            "of the rows otherwise than before, each of "
            "them wrongly then or now, and only labels can tell."
        )

    def __str__(self) -> str:
        return "\n".join([self.frame().to_string(index=False, float_format="%.4f"), *self.words()])


class _Evidence(NamedTuple):
    """Calibrated p(y | x) of the new rows, (N, K), and of held-out old ones (none where nothing was
    held out); the p(y) in it."""

    new: Array
    held: Array
    old: Array


def adapt(model: Model, X: Any, seed: int = 0) -> tuple[Model, Change]:
    """A model that answers as if the classes had the shares that they have in ``X``, and what has
    changed."""
    rows = model.rows(X)
    labels = model.classes.labels
    encoded = model.encode(rows)
    log_proba = model.log_proba(encoded, rows).numpy()
    own = _own_shares(model, seed)
    evidence = _evidence(model, log_proba, own)
    shares = new_shares(evidence.new, evidence.old)
    weight = np.maximum(shares, 1e-12) / own
    joint = Reweighted.of(model.pair, torch.tensor(weight).log(), seed, _known_shares(model, own))
    calibration = _thinned(model.calibration, weight, seed)
    out = replace(model, joint=joint, calibration=calibration, card=dict(model.card))
    misfit, unfamiliar = _misfit(
        model, calibration, encoded, log_softmax(log_proba + np.log(weight), 1)
    )
    if misfit is not None and misfit < MIN_SHARES_P_VALUE:
        out.calibration = None
    change = Change(
        tuple(labels.tolist()),
        tuple(own.tolist()),
        tuple(shares.tolist()),
        tuple(standard_errors(evidence.new, evidence.old, shares).tolist()),
        len(rows),
        _p_value(evidence, shares),
        misfit,
        unfamiliar,
        _promise(model.calibration, calibration, out.calibration is None),
    )
    return out, change


# --------------------------------------------------------------------------------------- the shares


def new_shares(proba: Array, old: Array) -> Array:
    """(K,) the shares with the greatest likelihood of the rows, by expectation-maximisation from
    p(y | x) under ``old`` shares.

    >>> proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    >>> new_shares(proba, np.array([0.5, 0.5])).round(4)
    array([0.8125, 0.1875])
    """
    shares = old.copy()
    for _ in range(MAX_STEPS):
        posterior = proba * (shares / old)
        posterior /= posterior.sum(1, keepdims=True)
        before = shares
        shares = posterior.mean(0)
        if np.abs(shares - before).max() < TOLERANCE:
            break
    return shares


def after_self_training(change: Change, log_proba: torch.Tensor, before: torch.Tensor) -> Change:
    """The change as (N, K) log p(y | x) of the new rows sees it that has followed them; ``before``:
    what it was."""
    proba = log_proba.exp().numpy()
    old = np.asarray(change.old)
    shares = proba.mean(0)
    gain = float(xlogy(shares, shares / old).sum())
    return replace(
        change,
        new=tuple(shares.tolist()),
        error=tuple(standard_errors(proba, shares, shares).tolist()),
        p_value=float(chi2.sf(2 * change.rows * max(gain, 0.0), len(shares) - 1)),
        otherwise=float((log_proba.argmax(1) != before.argmax(1)).double().mean()),
    )


def standard_errors(proba: Array, old: Array, shares: Array) -> Array:
    """(K,) from the observed information about shares that sum to 1."""
    score = proba / old
    score /= (score @ shares)[:, None]
    basis = np.linalg.svd(np.ones((1, len(old))))[2][
        1:
    ].T  # (K, K - 1): the directions that leave the sum alone
    covariance = basis @ np.linalg.pinv(basis.T @ (score.T @ score) @ basis) @ basis.T
    return np.sqrt(np.diag(covariance))


def _p_value(evidence: _Evidence, shares: Array) -> float:
    """Twice the log-likelihood ratio of two sets of shares over one, for new and held-out rows,
    against chi-square with K - 1 degrees of freedom; without held-out rows the old shares are taken
    as known."""
    new, held, old = evidence
    gain = _log_likelihood(new, old, shares)
    if len(held):
        both = np.concatenate([new, held])
        gain += _log_likelihood(held, old, new_shares(held, old)) - _log_likelihood(
            both, old, new_shares(both, old)
        )
    return float(chi2.sf(2 * max(gain, 0.0), len(shares) - 1))


def _log_likelihood(proba: Array, old: Array, shares: Array) -> float:
    """Beyond that of the old shares, nats."""
    return float(np.log(proba @ (shares / old)).sum())


# ------------------------------------------------------------------------------ calibrated p(y | x)


def _own_shares(model: Model, seed: int) -> Array:
    """p(y) of the model's p(y | x): as stored at the fit, else estimated from draws."""
    state = model.state
    found = state.shares if state.adapted is None else state.adapted
    return (
        log_shares(model.pair, seed).exp().numpy()
        if found is None
        else np.maximum(np.asarray(found, dtype=float), 1e-12)
    )


def _known_shares(model: Model, own: Array) -> torch.Tensor | None:
    """log p(y) before any weights, as the fit has learned it, where x can't be summed out: drawing
    it would cost more than all else."""
    shares = own if model.unweighted is model.joint else model.state.shares
    exact = model.joint.capabilities.missing == "exact"
    return (
        None
        if exact or shares is None
        else torch.as_tensor(shares, dtype=torch.float64).clamp_min(1e-12).log()
    )


def _evidence(model: Model, log_proba: Array, own: Array) -> _Evidence:
    calibration = model.calibration
    if calibration is None or calibration.log_proba is None:
        return _Evidence(np.exp(log_proba), np.empty((0, len(own))), own)
    known = calibration.label >= 0
    held = calibration.log_proba[known]
    label = calibration.label[known]
    if np.bincount(label, minlength=len(own)).min() < MIN_CLASS_ROWS:
        return _Evidence(np.exp(log_proba), np.exp(calibration.log_proba), own)
    temperature, biases = _temper(held, label)
    tempered = softmax(held * temperature + biases, 1)
    # the latter has less noise
    old = tempered.mean(0) if biases.any() else own + (tempered - np.exp(held)).mean(0)
    return _Evidence(softmax(log_proba * temperature + biases, 1), tempered, np.maximum(old, 1e-12))


def _temper(log_proba: Array, label: Array) -> tuple[float, Array]:
    """The inverse temperature and the (K,) biases with the least log-loss; no biases where one
    temperature will do."""
    classes = log_proba.shape[1]
    rows = np.arange(len(label))
    hot = np.eye(classes)[label]
    log_proba = np.maximum(log_proba, -1e3)

    def loss(at: Array) -> tuple[float, Array]:
        # at: the temperature alone, or biases too
        fitted = log_softmax(log_proba * at[0] + (at[1:] if len(at) > 1 else 0.0), 1)
        gap = (np.exp(fitted) - hot) / len(hot)
        slopes = np.concatenate([[(gap * log_proba).sum()], gap.sum(0)])
        return -float(fitted[rows, label].mean()), slopes[: len(at)]

    plain, biased = (
        minimize(loss, np.eye(1, size)[0], jac=True, method="L-BFGS-B") for size in (1, 1 + classes)
    )
    needed = chi2.sf(2 * len(label) * (plain.fun - biased.fun), classes - 1) < MIN_UNBIASED_P_VALUE
    return (float(biased.x[0]), biased.x[1:]) if needed else (float(plain.x[0]), np.zeros(classes))


# ------------------------------------------------------------------------------------- the promises


def _thinned(calibration: Calibration | None, weight: Array, seed: int) -> Calibration | None:
    """A sample of the new place: each labelled row kept with probability w(y) / max w, its answer
    by the new shares."""
    if calibration is None or calibration.log_proba is None:
        return None
    chance = np.where(calibration.label >= 0, (weight / weight.max())[calibration.label], 0.0)
    keep = np.random.default_rng(seed).random(calibration.rows) < chance
    log_proba = log_softmax(calibration.log_proba[keep] + np.log(weight), 1)
    guess = log_proba.argmax(1)
    confidence = np.exp(log_proba.max(1, initial=-np.inf))
    missingness = None if calibration.missingness is None else calibration.missingness.take(keep)
    return Calibration(
        calibration.statistic[keep],
        guess,
        calibration.label[keep],
        confidence,
        log_proba,
        missingness,
    )


def _misfit(
    model: Model, calibration: Calibration | None, encoded: Encoded, log_proba: Array
) -> tuple[float | None, float | None]:
    """Whether the new rows are like the held-out ones in the new shares, as familiar and with such
    odds of every class: the least p-value of two-sample Kolmogorov-Smirnov tests, times their
    number; and how many are under the .05 quantile of familiarity."""
    if calibration is None or not calibration.rows or calibration.log_proba is None:
        return None, None
    pair = calibration.statistic, model.statistic(encoded)
    # statistics of rows that lack other cells can't be compared, ranks can
    if calibration.missingness is not None:
        pair = calibration.held_out_p_values, calibration.p_value(pair[1], encoded.filled.numpy())
    held, new = (np.nan_to_num(values, nan=-1e300, neginf=-1e300) for values in pair)
    pairs = [(held, new)] + [
        (_log_odds(calibration.log_proba, k), _log_odds(log_proba, k))
        for k in range(1, log_proba.shape[1])
    ]
    least = min(float(ks_2samp(*pair).pvalue) for pair in pairs)
    return min(1.0, len(pairs) * least), float(
        (new <= np.quantile(held, EXPECTED_UNFAMILIAR_SHARE)).mean()
    )


def _log_odds(log_proba: Array, k: int) -> Array:
    """Of class k against all others."""
    return np.asarray(log_proba[:, k] - np.log(-np.expm1(np.minimum(log_proba[:, k], -1e-12))))


def _promise(before: Calibration | None, after: Calibration | None, void: bool) -> str:
    if before is None:
        return ""
    if void and after is not None:
        return (
            "The promises of decide are void, as more than the shares has changed: call "
            "calibrate(X, y) with rows of the new place."
        )
    if after is None:
        return (
            "The promises of decide are void (this model was fitted by an older version): "
            "call calibrate(X, y) with rows of the new place."
        )
    return (
        f"The promises of decide now rest on {after.rows:,} of the {before.rows:,} calibration "
        "rows, drawn so that their classes come in "
        "the new shares; they hold as far as these shares are right."
    )
