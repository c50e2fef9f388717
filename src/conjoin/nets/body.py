"""What every network shares: it is trained in float32 and asked in float64, and hides that from its
family.

Gradients need speed, answers need digits: an answer must not depend on the batch that its row came
in, which float32 can't keep to 1e-7. So the learner casts bodies to float32 while it trains and
back to float64 when it is done; a body takes and gives float64 all the same.
"""

import abc
from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["Body", "ContextEmbedding", "time_features"]


class Body(nn.Module, abc.ABC):
    """A network of floating-point inputs; integer inputs pass through as they are."""

    @abc.abstractmethod
    def compute(self, *inputs: Any) -> Tensor:
        """The network itself, in whatever precision its parameters have."""

    @final  # type: ignore[misc]
    def forward(self, *inputs: Any) -> Tensor:  # torch declares it writable
        """``compute`` in the body's own precision; float64 in, float64 out."""
        return self.compute(*self.cast(*inputs)).double()

    @final
    def cast(self, *inputs: Any) -> list[Any]:
        """The inputs in the precision of the parameters."""
        dtype = next(self.parameters()).dtype
        return [
            x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
        ]


class ContextEmbedding(nn.Module):
    """A vector for each class, and one for "no class given" (J. Ho and T. Salimans (2022),
    Classifier-free diffusion guidance)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.width = width if classes else 0
        if classes:
            self.table = nn.Parameter(0.5 * torch.randn(classes + 1, width, dtype=torch.float64))

    def forward(self, rows: int, code: Tensor | None) -> Tensor:
        """(B, width) for codes (B,), or for no class at all; (B, 0) where there are no classes."""
        if not self.classes:
            return torch.zeros(rows, 0, dtype=torch.float64)
        index = torch.full((rows,), self.classes) if code is None else code.long()
        return self.table[index]


def time_features(time: Tensor, size: int = 32) -> Tensor:
    """(B, size) sines and cosines of a time (B,) in [0, 1] (A. Vaswani et al. (2017), Attention is
    all you need, section 3.5)."""
    frequency = torch.exp(torch.linspace(0.0, 6.0, size // 2, dtype=torch.float64))
    angle = time.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
