"""Bits per dimension of images: what papers report of a likelihood of pixels.

    bits per dimension = -log2 p(x) / (C H W)

log p(x) is of the discrete image (whole grey levels), so the figure compares with a code length: 8
bits are the pixels as they are. Missing pixels do not count. Shape letters: n images, H rows, W
columns, C channels.
"""

import math
from typing import Any

import numpy as np

from conjoin.core import Encoded, Status
from conjoin.model.model import Model

__all__ = ["bits_of", "bits_per_dim"]


def bits_per_dim(model: Model, X: Any) -> np.ndarray:
    """(n,) bits per known pixel; ValueError for a model of tables, or one whose log p is known up
    to a constant only."""
    if not model.codec.per_dimension:
        raise ValueError(
            "Bits per dimension are of images, and this model is of a table: score_samples gives "
            "its log p(x) in nats."
        )
    if model.status["log_prob"] is Status.RELATIVE:
        raise ValueError(
            "log p(x) of this family is known up to a constant only, so that it gives no bits; "
            "choose an exact family, or a bound."
        )
    encoded = model.encode(X)
    return bits_of(model.log_prob_raw(encoded), encoded)


def bits_of(log_prob: np.ndarray, encoded: Encoded) -> np.ndarray:
    """(n,) bits per known pixel of log p(x) in nats."""
    known = np.asarray(encoded.event.mask.sum(1).clamp_min(1))
    return np.asarray(-log_prob / math.log(2) / known)
