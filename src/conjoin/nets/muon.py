r"""Muon: momentum of matrices, made orthogonal before it moves them.

    M <- mu M + G,      W <- (1 - eta lambda) W - eta s O(G + mu M),      s = sqrt(max(1, m / n))

K. Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks. O(M) is close to
U V^T of M = U S V^T: five steps of a Newton-Schulz iteration X <- a X + (b A + c A^2) X with A = X
X^T, which send each singular value of M / |M| to one near 1, and leave U and V as they are. The
kernels of a convolution are one matrix, of a row for each channel that comes out.

Shape letters: m rows and n columns of a matrix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from conjoin.core.shapes import Float

__all__ = ["COEFFICIENTS", "ITERATIONS", "Muon", "orthogonalised"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b and c: steepest at 0, and bounded
ITERATIONS = 5
MOMENTUM = 0.95
TINY = 1e-7  # below the norm of a matrix of zeros


def orthogonalised(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The singular vectors of a matrix, with singular values near 1.

    >>> orthogonalised(torch.eye(2)).diagonal().sub(1).abs().max() < 0.35
    tensor(True)
    """
    first, second, third = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + TINY)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = first * x + (second * square + third * square @ square) @ x
    return x.T if tall else x


class Muon:
    """Of some matrices; ``momentum`` is its state, one tensor for each."""

    def __init__(self, matrices: Sequence[Tensor], decay: float) -> None:
        self.matrices = list(matrices)
        self.decay = decay
        self.momentum = [torch.zeros_like(matrix) for matrix in self.matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the matrices by their gradients; one without a gradient stays."""
        for index, matrix in enumerate(self.matrices):
            if matrix.grad is None:
                continue
            kept = self.momentum[index].to(matrix).mul_(MOMENTUM).add_(matrix.grad)
            self.momentum[index] = kept
            ahead = matrix.grad.add(kept, alpha=MOMENTUM)
            flat = ahead.flatten(1)
            rows, columns = flat.shape
            move = orthogonalised(flat).view(matrix.shape)
            matrix.mul_(1 - rate * self.decay)
            matrix.sub_(move, alpha=rate * max(1.0, rows / columns) ** 0.5)
