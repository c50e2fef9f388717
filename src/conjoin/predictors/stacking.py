r"""Weights of a pool, by what its members say of rows that they have not seen.

    p(y | x)  ~  prod_m q_m(y | x)^{w_m},     q_m = (1 - e_m) p_m + e_m p(y)

e_m is found by expectation-maximisation of a mixture of two; w >= 0 minimises

    - sum_rows log p(y | x)  +  (sum_m w_m - 1)^2 / (2 s^2),

which is convex, so that the minimum is the only one. 1 / sum_m w_m is the temperature of the pool,
and s = ``TEMPERATURE_DEVIATION``. A member alone (w = 1) costs no penalty: on these rows the pool
is at least as good as each of them (C. Genest, J. Zidek (1986), Combining probability
distributions, section 3; D. Wolpert (1992), Stacked generalization). Nats.

Shape letters: B rows, K classes, M members.
"""

import numpy as np

__all__ = [
    "class_shares",
    "log_linear_weights",
    "point_weights",
    "prior_share",
    "reluctance_of",
    "with_prior",
]

TEMPERATURE_DEVIATION = 0.35  # of the normal prior of the sum of the weights, about 1
EM_STEPS = 100
LEAST_WEIGHT = 0.01  # of the sum of the weights, under which a member is left out
SUM_PENALTY = 1e3  # of a sum of weights other than 1, in deviations of y


def class_shares(code: np.ndarray, weight: np.ndarray, classes: int) -> np.ndarray:
    """(K,) p(y), a row added to each class."""
    counts = np.bincount(code, weights=weight, minlength=classes) + 1.0
    return counts / counts.sum()


def prior_share(log_p: np.ndarray, log_prior: np.ndarray, weight: np.ndarray) -> float:
    """e of a member: the weight of p(y) in a mixture with it, one row of p(y) added, so that it is
    never 0. ``log_p`` (B,) and ``log_prior`` (B,) are those of the rows' own classes."""
    share = 0.05
    for _ in range(EM_STEPS):
        prior = np.log(share) + log_prior
        mine = np.exp(prior - np.logaddexp(prior, np.log1p(-share) + log_p))
        share = float(((weight * mine).sum() + 1) / (weight.sum() + 2))
    return share


def with_prior(log_p: np.ndarray, share: float, prior: np.ndarray) -> np.ndarray:
    """(B, K) log q = log((1 - e) p + e p(y))."""
    return np.logaddexp(np.log1p(-share) + log_p, np.log(share) + np.log(prior))


def log_linear_weights(
    log_q: np.ndarray,
    code: np.ndarray,
    weight: np.ndarray,
    reluctance: np.ndarray | float = 0.0,
) -> np.ndarray:
    """(M,) the best weights for (B, M, K) log q of rows of class ``code`` (B,).

    ``reluctance`` (M,), nats, is what a weight of 1 costs; a member of less than ``LEAST_WEIGHT``
    of the sum gets none."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    members = log_q.shape[1]
    own = log_q[np.arange(len(code)), :, code]
    cost = np.broadcast_to(reluctance, members)

    def loss(power: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.einsum("m,bmk->bk", power, log_q)
        off = power.sum() - 1
        rows = logsumexp(scores, axis=1) - own @ power
        slope = np.einsum("bk,bmk->bm", softmax(scores, axis=1), log_q) - own
        return (
            float(weight @ rows + cost @ power + 0.5 * (off / TEMPERATURE_DEVIATION) ** 2),
            weight @ slope + cost + off / TEMPERATURE_DEVIATION**2,
        )

    kept = np.ones(members, dtype=bool)
    while True:
        bounds = [(0.0, None if each else 0.0) for each in kept]
        found = minimize(loss, kept / kept.sum(), jac=True, bounds=bounds, method="L-BFGS-B")
        few = kept & (found.x < LEAST_WEIGHT * found.x.sum())
        if not few.any():
            return np.where(kept, found.x, 0.0)
        kept &= ~few


def reluctance_of(log_q: np.ndarray, code: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(M,) nats: a standard error of what each member adds to the first, which costs nothing.

    A member joins only if the loss falls by more than that, for each unit of its weight."""
    from scipy.special import softmax

    rows = np.arange(len(code))
    own = log_q[rows, :, code]
    gain = own - np.einsum("bk,bmk->bm", softmax(log_q[:, 0], axis=1), log_q)
    error = np.sqrt(weight @ (gain - np.average(gain, axis=0, weights=weight)) ** 2)
    error[0] = 0.0
    return np.asarray(error)


def point_weights(points: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(M,) the weights, of sum 1, with the least squared error of (B, M) points: Lawson and
    Hanson's non-negative least squares, the sum one more row."""
    from scipy.optimize import nnls

    root = np.sqrt(weight / weight.sum())[:, None]
    scale = y.std() or 1.0
    rows = np.concatenate([root * points / scale, np.full((1, points.shape[1]), SUM_PENALTY)])
    found, _ = nnls(rows, np.append(root[:, 0] * y / scale, SUM_PENALTY))
    found[found < LEAST_WEIGHT] = 0.0
    return np.asarray(found / found.sum())
