r"""A causal transformer of the Llama layout, without any package but torch.

    h_0 = E x
    h_{l+1/2} = h_l + O softmax(q k^T / sqrt(D)) v        q, k, v of norm(h_l); q, k turned
    h_{l+1} = h_{l+1/2} + W_d (silu(W_g n) * W_u n)       n = norm(h_{l+1/2})
    logits = U norm(h_L)

H. Touvron et al. (2023), LLaMA: Open and efficient foundation language models, section 2.2: norms
by the root of the mean square, gated linear units, and turned queries and keys (J. Su et al.
(2021), RoFormer, equation 34). Several queries share a key (J. Ainslie et al. (2023), GQA).
U may be E.

Pairs of neighbours are turned, as in GGUF files; folders of transformers have the two halves of a
head beside each other instead (``to_neighbours``).

Shape letters: B rows, T new tokens, N tokens so far, W width, H heads, K heads of keys, D width of
a head, V tokens.

>>> to_neighbours(torch.arange(4.0)[:, None], 1)[:, 0].tolist()
[0.0, 2.0, 1.0, 3.0]
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conjoin.core.shapes import Float, Int
from conjoin.nets.packed import Full, Linear, made_linear

__all__ = ["Llama", "LlamaShape", "Memory", "matrix_shapes", "to_neighbours"]

FIRST_PLACES = 64  # of a memory; it doubles where more are needed


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of the network.

    Parameters
    ----------
    vocabulary, width, hidden, layers, heads, key_heads, head_width
        V, W, the inner width of the gated units, how many layers, H, K and D.
    positions
        Tokens that it sees at most.
    epsilon
        Of the norms.
    tied
        Whether logits are products with the embedding.
    """

    vocabulary: int
    width: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    positions: int
    epsilon: float
    tied: bool

    @property
    def queried(self) -> int:
        """Numbers of a token's queries, keys and values."""
        return (self.heads + 2 * self.key_heads) * self.head_width


def matrix_shapes(shape: LlamaShape) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each matrix, by its name."""
    out = {"embed": (shape.vocabulary, shape.width)}
    for layer in range(shape.layers):
        out[f"layers.{layer}.queried"] = (shape.queried, shape.width)
        out[f"layers.{layer}.attended"] = (shape.width, shape.heads * shape.head_width)
        out[f"layers.{layer}.gated"] = (2 * shape.hidden, shape.width)
        out[f"layers.{layer}.lowered"] = (shape.width, shape.hidden)
    if not shape.tied:
        out["head"] = out["embed"]
    return out


class Memory:
    """Keys and values of the tokens so far, in room that doubles.

    What stands behind a state's own tokens is of others that went on from it, so that whoever goes
    on from where another one has gone on takes a copy."""

    def __init__(self, held: Float[Tensor, "L 2 B K R D"], filled: int) -> None:
        self.held = held
        self.filled = filled

    @classmethod
    def empty(cls, shape: LlamaShape, rows: int, dtype: torch.dtype) -> Self:
        places = min(FIRST_PLACES, shape.positions + 1)
        sizes = (shape.layers, 2, rows, shape.key_heads, places, shape.head_width)
        return cls(torch.zeros(sizes, dtype=dtype), 0)

    def ready_for(self, seen: int, more: int, most: int) -> "Memory":
        """One that has the first ``seen`` tokens, room for more, and no other reader behind them;
        ``most``: places that are ever needed."""
        room = self.held.shape[4]
        if self.filled == seen and seen + more <= room:
            return self
        while room < seen + more:
            room = min(2 * room, max(most, seen + more))
        sizes = [*self.held.shape]
        sizes[4] = room
        held = self.held.new_zeros(sizes)
        held[:, :, :, :, :seen] = self.held[:, :, :, :, :seen]
        return Memory(held, seen)

    def take(self, rows: Int[Tensor, " b"]) -> "Memory":
        """Some of the rows."""
        return Memory(self.held.index_select(2, rows), self.filled)

    @property
    def bytes(self) -> int:
        return self.held.numel() * self.held.element_size()


class Llama(nn.Module):
    """The network, without its weights. ``kinds``: how each matrix is stored."""

    frequencies: Tensor

    def __init__(self, shape: LlamaShape, kinds: dict[str, str]) -> None:
        super().__init__()
        self.shape = shape
        sizes = matrix_shapes(shape)
        made = {name: made_linear(kinds[name], *size) for name, size in sizes.items()}
        self.embed = made["embed"]
        self.head = made.get("head")
        self.layers = nn.ModuleList(
            _Layer(shape, {name: made[f"layers.{place}.{name}"] for name in _Layer.MATRICES})
            for place in range(shape.layers)
        )
        self.norm = nn.Parameter(torch.ones(shape.width), requires_grad=False)
        self.register_buffer("frequencies", torch.zeros(shape.head_width // 2))
        double = "float64" in kinds.values()
        self.dtype = torch.float64 if double else torch.float32
        if double:
            self.norm.data = self.norm.double()
            for layer in self.layers:
                for norm in (layer.before, layer.between):
                    norm.data = norm.double()
        # in few bits a difference of the last digit grows: attention is then computed in the same
        # way for a token among others as for one alone
        self.apart = not all(isinstance(each, Full) for each in made.values())
        self._turns = torch.zeros(0, 0)

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        memory: Memory | None = None,
        middle: list[Tensor] | None = None,
    ) -> Float[Tensor, "B T W"]:
        """The last layer, normed; keys and values are added to a memory that has room, and a layer
        in the middle to a list."""
        kept = memory is not None
        if memory is None:  # each layer writes over the one before
            one = replace(self.shape, layers=1)
            memory = Memory.empty(one, len(tokens), self.dtype)
            memory = memory.ready_for(0, tokens.shape[1], self.shape.positions + 1)
        past = memory.filled
        turns = self._turned(past + tokens.shape[1], tokens.device)[past:]
        h = self.embed.rows(tokens).to(self.dtype)
        for place, layer in enumerate(self.layers):
            h = layer(h, memory.held[place if kept else 0], past, turns, self.apart)
            if middle is not None and place == (len(self.layers) - 1) // 2:
                middle.append(h)
        memory.filled = past + tokens.shape[1]
        return F.rms_norm(h, (self.shape.width,), self.norm, self.shape.epsilon)

    def logits(self, hidden: Float[Tensor, "B T W"]) -> Float[Tensor, "B T V"]:
        """Of the token behind each."""
        head = self.embed if self.head is None else self.head
        return head(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])

    def _turned(self, places: int, device: torch.device) -> Tensor:
        """(N, D / 2) by what complex number the pairs of each place are turned."""
        if len(self._turns) < places or self._turns.device != device:
            count = max(places, 2 * len(self._turns))
            angles = torch.arange(count, device=device, dtype=torch.float32)[:, None] * (
                self.frequencies.float()
            )
            self._turns = torch.polar(torch.ones_like(angles), angles)
            if self.dtype == torch.float64:
                self._turns = self._turns.to(torch.complex128)
        return self._turns[:places]


class _Layer(nn.Module):
    MATRICES = ("queried", "attended", "gated", "lowered")

    def __init__(self, shape: LlamaShape, matrices: dict[str, Linear]) -> None:
        super().__init__()
        self.shape = shape
        self.queried = matrices["queried"]
        self.attended = matrices["attended"]
        self.gated = matrices["gated"]
        self.lowered = matrices["lowered"]
        self.before = nn.Parameter(torch.ones(shape.width), requires_grad=False)
        self.between = nn.Parameter(torch.ones(shape.width), requires_grad=False)

    def forward(
        self, h: Float[Tensor, "B T W"], held: Tensor, past: int, turns: Tensor, apart: bool
    ) -> Float[Tensor, "B T W"]:
        rows, new, width = h.shape
        normed = F.rms_norm(h, (width,), self.before, self.shape.epsilon)
        mixed = self._attention(self.queried(normed.view(-1, width)), held, past, turns, apart)
        h = h + self.attended(mixed).view(rows, new, width)
        normed = F.rms_norm(h, (width,), self.between, self.shape.epsilon)
        gate, up = self.gated(normed.view(-1, width)).to(h.dtype).chunk(2, 1)
        return h + self.lowered(F.silu(gate) * up).view(rows, new, width)

    def _attention(
        self, queried: Tensor, held: Tensor, past: int, turns: Tensor, apart: bool
    ) -> Float[Tensor, "M HD"]:
        """What each token takes from those so far."""
        shape = self.shape
        rows = held.shape[1]
        new = len(turns)
        turned = shape.heads + shape.key_heads
        parts = queried.to(held.dtype).view(rows, new, turned + shape.key_heads, shape.head_width)
        pairs = torch.view_as_complex(parts[:, :, :turned].unflatten(-1, (-1, 2)))
        turning = torch.view_as_real(pairs * turns[:, None]).flatten(-2)
        held[0, :, :, past : past + new] = turning[:, :, shape.heads :].transpose(1, 2)
        held[1, :, :, past : past + new] = parts[:, :, turned:].transpose(1, 2)
        # (B, K, T, H / K, D)
        q = turning[:, :, : shape.heads].unflatten(2, (shape.key_heads, -1)).transpose(1, 2)
        if apart or new == 1:
            places = range(past, past + new)
            each = [_attended(q[:, :, t - past], held, t + 1, None) for t in places]
            mixed = torch.stack(each, 1) if new > 1 else each[0]
        else:
            sees = torch.ones(new, past + new, dtype=torch.bool, device=held.device).tril(past)
            sees = sees.repeat_interleave(q.shape[3], 0)
            together = _attended(q.flatten(2, 3), held, past + new, sees)
            mixed = together.unflatten(2, (new, -1)).permute(0, 2, 1, 3, 4)
        return mixed.reshape(rows * new, -1)


def _attended(
    q: Float[Tensor, "B K Q D"], held: Tensor, count: int, sees: Tensor | None
) -> Float[Tensor, "B K Q D"]:
    """Over the first ``count`` places."""
    keys, values = held[:, :, :, :count]
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=sees)


def to_neighbours(weight: Float[Tensor, "O I"], heads: int) -> Float[Tensor, "O I"]:
    """Rows of queries or keys whose pairs stand half a head apart, with pairs side by side."""
    halves = weight.view(heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)
