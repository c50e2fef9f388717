r"""How many points of each code a cloud has: the rows of the fit, and a little of all else.

    log p(c_1, ..., c_n) = log( (1 - q) p(m | told) prod_k m_k! / n! + q p(n) prod_i p(c_i) )

m is the multiset of the codes: every one that a row of the fit has, by its share, moved by what is
told with a factor exp(told . A f(m)); the order of points means nothing, so all orders of a
multiset are equally probable. q is the share of rows whose multiset was seen once, which estimates
what was never seen (I. Good (1953), The population frequencies of species). In nats.

Shape letters: B clouds, N points, M multisets, K codes, C numbers that are told.

>>> counts = torch.tensor([[2, 1], [2, 1]])  # two clouds, each of two points of code 0, one of 1
>>> PointCounts.table(counts)
[[0, 2, 1, 1]]
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.core import categorical
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["PointCounts"]


class PointCounts(nn.Module):
    """p(codes of the points | told)."""

    counts: Tensor
    seen: Tensor
    shares: Tensor
    sizes: Tensor
    codes: Tensor
    unseen: Tensor

    def __init__(self, capacity: int, levels: int, told: int, table: list[list[int]]) -> None:
        super().__init__()
        self.capacity = capacity
        counts = torch.zeros(len(table), levels, dtype=torch.float64)
        for row, pairs in enumerate(table):
            for code, count in zip(pairs[::2], pairs[1::2], strict=True):
                counts[row, code] = count
        self.register_buffer("counts", counts, persistent=False)
        spread = counts.std(0, correction=0).clamp_min(1e-6)
        seen = torch.where(spread > 1e-5, (counts - counts.mean(0)) / spread, 0.0)
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("shares", torch.zeros(len(table), dtype=torch.float64))
        self.register_buffer("sizes", torch.zeros(capacity + 1, dtype=torch.float64))
        self.register_buffer("codes", torch.zeros(levels, dtype=torch.float64))
        self.register_buffer("unseen", torch.zeros((), dtype=torch.float64))
        self.tilt = nn.Linear(told, levels, bias=False, dtype=torch.float64) if told else None
        if self.tilt is not None:
            nn.init.zeros_(self.tilt.weight)

    @staticmethod
    def table(counts: Int[Tensor, "B K"]) -> list[list[int]]:
        """The multisets of the rows as (code, count, code, count, ...), for ``structure``."""
        rows = counts.unique(dim=0)
        return [
            [int(each) for code in row.nonzero()[:, 0] for each in (code, row[code])]
            for row in rows
        ]

    def start(self, counts: Int[Tensor, "B K"], weight: Float[Tensor, " B"]) -> Self:
        """Shares from the rows of the fit."""
        order = {tuple(row): place for place, row in enumerate(self.counts.long().tolist())}
        which = torch.tensor([order[tuple(row)] for row in counts.tolist()])
        mass = torch.bincount(which, weights=weight, minlength=len(self.counts))
        once = float(weight[(mass[which] == weight)].sum())
        self.shares.copy_((mass / mass.sum()).log())
        self.unseen.fill_((once + 1) / (float(weight.sum()) + 2))
        size = torch.bincount(counts.sum(1), weights=weight, minlength=self.capacity + 1)
        self.sizes.copy_(((size + 1 / len(size)) / (size.sum() + 1)).log())
        code = (counts * weight[:, None]).sum(0)
        self.codes.copy_(((code + 1) / (code + 1).sum()).log())
        return self

    def _multisets(self, told: Float[Tensor, "B C"]) -> Float[Tensor, "B M"]:
        moved = self.shares.expand(len(told), -1)
        if self.tilt is not None:
            moved = moved + self.tilt(told) @ self.seen.T
        return moved.log_softmax(1)

    def log_prob(
        self, code: Int[Tensor, "B N"], present: Bool[Tensor, "B N"], told: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Of the codes of the points in their order; nats."""
        levels = self.counts.shape[1]
        there = present.double()
        count = nn.functional.one_hot(code, levels).double() * there[..., None]
        counts = count.sum(1)
        size = counts.sum(1)
        same = (counts[:, None] == self.counts).all(2)
        seen = torch.where(same, self._multisets(told), -torch.inf).logsumexp(1)
        orders = torch.lgamma(size + 1) - torch.lgamma(counts + 1).sum(1)
        each = (self.codes[code] * there).sum(1) + self.sizes[size.long()]
        parts = [(1 - self.unseen).log() + seen - orders, self.unseen.log() + each]
        return torch.stack(parts).logsumexp(0)

    def draw(
        self, told: Float[Tensor, "B C"], generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Codes of points, in any order, and which points there are."""
        rows = len(told)
        new = torch.rand(rows, generator=generator, dtype=torch.float64) < self.unseen
        which = categorical(self._multisets(told), generator)
        size = categorical(self.sizes.expand(rows, -1), generator)
        free = categorical(self.codes.expand(rows, self.capacity, -1), generator)
        noise = torch.rand(rows, self.capacity, generator=generator)
        place = torch.arange(self.capacity)
        filled = self.counts[which].cumsum(1)
        listed = torch.searchsorted(filled, place.double().expand(rows, -1) + 0.5)
        known = place < filled[:, -1:]
        shuffled = (noise + 2.0 * ~known).argsort(1)
        code = torch.where(
            new[:, None], free, listed.gather(1, shuffled).clamp_max(len(self.codes) - 1)
        )
        present = torch.where(new[:, None], place < size[:, None], known)
        return torch.where(present, code, 0), present

    def extra_repr(self) -> str:
        return f"{len(self.counts)} multisets"


def joint_code(value: Float[Tensor, "B N F"], columns: list[int], levels: list[int]) -> Any:
    """(B, N) one code for all codes of a point."""
    code = torch.zeros(value.shape[:2], dtype=torch.int64)
    for column, count in zip(columns, levels, strict=True):
        code = code * count + value[..., column].long()
    return code


def split_code(code: Int[Tensor, "B N"], levels: list[int]) -> list[Tensor]:
    """The codes of each column again."""
    out = []
    for count in reversed(levels):
        out.append(code % count)
        code = torch.div(code, count, rounding_mode="floor")
    return out[::-1]
