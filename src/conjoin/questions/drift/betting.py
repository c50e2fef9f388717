r"""Betting against "nothing has changed", row after row: conformal p-values and the capital that
they win.

    p_n = (#{i <= n: a_i < a_n} + u_n #{i <= n: a_i = a_n}) / n,   u_n uniform

are independent and uniform as long as the rows are exchangeable (V. Vovk, A. Gammerman and G.
Shafer (2005), Algorithmic learning in a random world, theorem 8.2). The simple jumper bets on them:
capital in three accounts, for small p, for none and for large p,

    C_e <- ((1 - J) C_e + J / 3 sum C) (1 + e (p_n - 1/2)),   e in {-1, 0, 1}

(V. Vovk et al. (2021), Retrain or not retrain: conformal test martingales for change-point
detection, algorithm 1). Where nothing has changed, the capital ever reaches 1 / level with
probability at most ``level`` (Ville's inequality), whenever one stops.

Shape letters: N rows.
"""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["conformal_ranks", "simple_jumper"]

Array = NDArray[Any]

JUMP_SHARE = 0.01  # share of the capital that changes accounts at each row
BETS = np.array([-1.0, 0.0, 1.0])


def conformal_ranks(
    before: Sequence[float] | Array, after: Sequence[float] | Array, generator: np.random.Generator
) -> Array:
    """(N,) the p-value of each row of ``after`` among the rows of ``before`` and those of ``after``
    up to it."""
    seen = sorted(np.asarray(before, dtype=float).tolist())
    out = np.empty(len(after))
    for place, (value, uniform) in enumerate(
        zip(np.asarray(after, dtype=float).tolist(), generator.random(len(after)), strict=True)
    ):
        bisect.insort(seen, value)
        less = bisect.bisect_left(seen, value)
        out[place] = (less + uniform * (bisect.bisect_right(seen, value) - less)) / len(seen)
    return out


def simple_jumper(p_values: Array) -> Array:
    """(N,) log of the capital after each row, beginning with 1.

    >>> simple_jumper(np.full(100, 0.05))[-1] > np.log(1000)
    np.True_
    """
    accounts = np.full(3, 1 / 3)
    out = np.empty(len(p_values))
    total = 0.0
    for place, p_value in enumerate(p_values):
        # they add up to 1 before each bet
        accounts = ((1 - JUMP_SHARE) * accounts + JUMP_SHARE / 3) * (1 + BETS * (p_value - 0.5))
        gain = accounts.sum()
        accounts = accounts / gain
        total = total + np.log(gain)
        out[place] = total
    return out
