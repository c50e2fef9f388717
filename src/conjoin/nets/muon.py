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
MIN_LENGTH = 1.5  # columns for each row, from which on squares alone take fewer products


def orthogonalised(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The singular vectors of a matrix, with singular values near 1.

    >>> orthogonalised(torch.eye(2)).diagonal().sub(1).abs().max() < 0.35
    tensor(True)
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + TINY)
    x = _by_squares(x) if x.shape[1] >= MIN_LENGTH * x.shape[0] else _iterated(x)
    return x.T if tall else x


def _iterated(x: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Each iteration on the matrix itself: 1 + 2 n / m products of m x m."""
    first, second, third = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.T
        factor = torch.addmm(square, square, square, beta=second, alpha=third)
        x = torch.addmm(x, factor, x, beta=first)
    return x


def _by_squares(x: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The same: as the factor P = a + b A + c A^2 and A = X X^T commute, A becomes P A P, and the
    product of all factors meets X once. 4 products of m x m an iteration, whatever n is."""
    square = x @ x.T
    whole = factor = _factor(square)
    for _ in range(ITERATIONS - 1):
        square = factor @ square @ factor
        factor = _factor(square)
        whole = factor @ whole
    return whole @ x


def _factor(square: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    """a + b A + c A^2."""
    first, second, third = COEFFICIENTS
    out = torch.addmm(square, square, square, beta=second, alpha=third)
    out.diagonal().add_(first)
    return out


def _moved(flat: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """``orthogonalised``; where this process holds a part of the matrix, its part of the whole."""
    if type(flat) is Tensor:
        return orthogonalised(flat)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(flat, DTensor)
    whole = orthogonalised(flat.full_tensor())
    # every process has worked out the whole, so that none needs to send it
    return distribute_tensor(whole, flat.device_mesh, flat.placements, src_data_rank=None)


class Muon:
    """Of some matrices; ``momentum`` is its state, one tensor for each."""

    def __init__(self, matrices: Sequence[Tensor], decay: float) -> None:
        self.matrices = list(matrices)
        self.decay = decay
        self.momentum = [torch.zeros_like(matrix) for matrix in self.matrices]

    @torch.no_grad()
    def step(self, rate: float | Sequence[float]) -> None:
        """Move the matrices by their gradients, all at one rate or each at its own; one without a
        gradient or a rate stays."""
        rates = rate if isinstance(rate, Sequence) else [rate] * len(self.matrices)
        for index, matrix in enumerate(self.matrices):
            if matrix.grad is None or not rates[index]:
                continue
            kept = self.momentum[index].to(matrix).mul_(MOMENTUM).add_(matrix.grad)
            self.momentum[index] = kept
            ahead = matrix.grad.add(kept, alpha=MOMENTUM)
            flat = ahead.flatten(1)
            rows, columns = flat.shape
            move = _moved(flat).view(matrix.shape)
            own = rates[index]
            matrix.mul_(1 - own * self.decay)
            matrix.sub_(move, alpha=own * max(1.0, rows / columns) ** 0.5)
