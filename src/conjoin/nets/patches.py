r"""A transformer for pictures that is lean on a CPU: patches are tokens, and all but its edges runs
in bfloat16 where that is faster.

    h_0 = W patch(x) + position,   n' = norm(n) (1 + a(e)) + b(e)
    h <- h + g(e) attention(h'),   h <- h + g(e) mlp(h'),   out = unpatch(W h')

W. Peebles and S. Xie (2023), Scalable diffusion models with transformers, figure 3 (adaLN-Zero):
scales a, shifts b and gates g are linear in the embedding of the noise level and the class. They
start at zero, so that each block starts as the identity. Parameters stay float32.

Shape letters: B rows, C channels, H and W sides, T tokens, D width, E embedding, F features.

>>> net = Patches(1, (28, 28), 10, size=0.25)
>>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), None).shape
torch.Size([2, 1, 28, 28])
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from conjoin.core.shapes import Float
from conjoin.nets.conditioned import EMBEDDING_WIDTH, Conditioned
from conjoin.nets.transformer import Block

__all__ = ["Patches"]

# of a token where ``size`` is 1; of a head of attention
BASE_WIDTH = 128
HEAD_WIDTH = 64
BASE_LAYERS = 6  # layers where ``blocks`` is 1
MAX_TOKENS_PER_SIDE = 8  # a side, at most


class _Layer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.block = Block(width, max(1, width // HEAD_WIDTH), dropout)
        self.block.dropout = 0.0  # of attention weights
        self.modulation = _zero(nn.Linear(EMBEDDING_WIDTH, 6 * width))

    def forward(
        self, h: Float[Tensor, "B T D"], embedding: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B T D"]:
        first, second = self.modulation(embedding)[:, None].chunk(2, 2)
        h = h + first.chunk(3, 2)[2] * self._attend(_adapted(self.block.before, h, first))
        out: Tensor = h + second.chunk(3, 2)[2] * self.block.mlp(
            _adapted(self.block.between, h, second)
        )
        return out

    def _attend(self, h: Tensor) -> Tensor:
        # the fused kernel learns several times more slowly where tokens are few
        with sdpa_kernel(SDPBackend.MATH):
            return self.block.attend(h, causal=False)[0]


def _adapted(norm: nn.LayerNorm, h: Tensor, told: Tensor) -> Tensor:
    scale, shift = told.chunk(told.shape[2] // h.shape[2], 2)[:2]
    normed = nn.functional.layer_norm(
        h, norm.normalized_shape, norm.weight.to(h.dtype), norm.bias.to(h.dtype), norm.eps
    )
    return normed * (1 + scale) + shift


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Patches(Conditioned):
    """``size`` scales the width of a token; there are six layers for each of ``blocks``."""

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        classes: int,
        size: float = 1.0,
        blocks: int = 1,
        dropout: float = 0.0,
        told: int = 0,
        shown: int | None = None,
    ) -> None:
        super().__init__(classes, told)
        self.sides = sides
        self.patch = math.ceil(max(sides) / MAX_TOKENS_PER_SIDE)
        self.padding = [-each % self.patch for each in sides]
        tokens = math.prod(math.ceil(each / self.patch) for each in sides)
        width = max(1, round(BASE_WIDTH * size / HEAD_WIDTH)) * HEAD_WIDTH
        self.width = 4 * width
        self.first = nn.Linear((shown or channels) * self.patch**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(_Layer(width, dropout) for _ in range(BASE_LAYERS * blocks))
        self.norm = nn.LayerNorm(width)
        self.modulation = _zero(nn.Linear(EMBEDDING_WIDTH, 2 * width))
        self.last = _zero(nn.Linear(width, channels * self.patch**2))

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]:
        embedding = self.embedding(noise, code)
        *_, h = self._states(x, embedding)
        h = self.last(_adapted(self.norm, h, self.modulation(embedding)[:, None]))
        rows = math.ceil(self.sides[0] / self.patch)
        out = nn.functional.pixel_shuffle(h.transpose(1, 2).unflatten(2, (rows, -1)), self.patch)
        return out[..., : self.sides[0], : self.sides[1]].float()

    def _maps(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Half way and at the end."""
        states = self._states(x, embedding)
        return [states[len(states) // 2], states[-1]]

    def _states(self, x: Tensor, embedding: Tensor) -> list[Float[Tensor, "B T D"]]:
        """The tokens before the first layer and after each."""
        x = (
            nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
            if any(self.padding)
            else x
        )
        states = [
            self.first(nn.functional.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2))
            + self.position
        ]
        for layer in self.layers:
            states.append(layer(states[-1], embedding))
        return states
