r"""The weights of a mixture whose parts are fixed.

    w = argmax  sum_rows v log sum_m w_m p_m

by expectation-maximisation, on rows that no part has learned from (P. Smyth and D. Wolpert (1999),
Linearly combining density estimators via stacking, section 3).

Shape letters: B rows, M parts.

>>> log_p = torch.tensor([[0.2, 0.4], [0.2, 0.4], [0.2, 0.4], [0.9, 0.1]]).double().log()
>>> mixture_weights(log_p, torch.ones(4).double(), steps=100).round(decimals=2).tolist()
[0.45, 0.55]
"""

import torch
from torch import Tensor

from conjoin.core.shapes import Float

__all__ = ["mixture_weights"]

PRIOR_ROWS = 1.0  # that the weights start with, shared equally: none is ever quite 0


def mixture_weights(
    log_p: Float[Tensor, "B M"], weight: Float[Tensor, " B"], steps: int
) -> Float[Tensor, " M"]:
    """The weights by what the parts say of the same rows, of which ``weight`` says how much each
    counts."""
    parts = log_p.shape[1]
    out = torch.full((parts,), 1 / parts, dtype=torch.float64)
    for _ in range(steps):
        mine = (log_p + out.log()).softmax(1)
        out = (weight @ mine + PRIOR_ROWS / parts) / (weight.sum() + PRIOR_ROWS)
    return out
