"""Events as inputs of a network: indicators for few levels, a learned vector for each of many,
piecewise linear codes for numbers, a flag for what is missing.

A number x becomes clip((x - q_i) / (q_{i+1} - q_i), 0, 1) for the quantiles q of its column (Y.
Gorishniy, I. Rubachev and A. Babenko (2022), On embeddings for numerical features in tabular deep
learning, section 3.2): wherever x may be, even at 1e6, what the network sees lies between 0 and 1.
A category of many levels becomes a row of a learned table (C. Guo and F. Berkhahn (2016), Entity
embeddings of categorical variables, section 3): the order of its levels means nothing. Many ordered
levels are numbers.

Shape letters: B rows, D variables, F inputs in all, Q pieces of a number.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from conjoin.core import Variable
from conjoin.core.shapes import Bool, Float

__all__ = ["EMBEDDED", "Inputs", "embedding_mark"]

PIECES_PER_NUMBER = 12
# levels that get an indicator each; of more, a category has a table and ordered codes are numbers
MAX_INDICATOR_LEVELS = 64
MAX_EMBEDDING_WIDTH = 16  # at most, numbers that stand for a level
EMBEDDED = "embedded"  # in a density's ``structure``: categories of many levels have tables


def _is_embedded(variable: Variable) -> bool:
    return variable.kind == "category" and variable.cardinality > MAX_INDICATOR_LEVELS


def embedding_mark(variables: Sequence[Variable]) -> dict[str, bool]:
    """What a new density's ``structure`` says of its inputs: empty where no category has many
    levels.

    Networks that were saved without the mark read such a category as a number."""
    return {EMBEDDED: True} if any(map(_is_embedded, variables)) else {}


class Inputs(nn.Module):
    """``owner`` (F,) says which variable each input speaks of. Every variable ends with a flag: 1
    where the cell is known. Without ``embedded``, categories of many levels are numbers, as in
    models saved before."""

    knots: Tensor
    owner: Tensor

    def __init__(self, variables: Sequence[Variable], embedded: bool = True) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.levels = [
            v.cardinality if v.discrete and v.cardinality <= MAX_INDICATOR_LEVELS else 0
            for v in variables
        ]
        tabled = [d for d, v in enumerate(variables) if embedded and _is_embedded(v)]
        self.tables = nn.ParameterList(_table(variables[d].cardinality) for d in tabled)
        self.place = {d: place for place, d in enumerate(tabled)}  # of its table
        sizes = [
            (
                self.tables[self.place[d]].shape[1]
                if d in self.place
                else levels or PIECES_PER_NUMBER
            )
            + 1
            for d, levels in enumerate(self.levels)
        ]
        self.register_buffer(
            "owner",
            torch.repeat_interleave(
                torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long)
            ),
            persistent=False,
        )
        self.register_buffer(
            "knots",
            torch.linspace(-2, 2, PIECES_PER_NUMBER + 1, dtype=torch.float64).repeat(len(sizes), 1),
        )

    @property
    def size(self) -> int:
        return len(self.owner)

    def start(self, value: Float[Tensor, "B D"], observed: Bool[Tensor, "B D"]) -> "Inputs":
        """Knots at the quantiles of each column of numbers, apart by at least a hundredth of its
        range."""
        for d, levels in enumerate(self.levels):
            known = value[observed[:, d], d]
            if not levels and d not in self.place and len(known):
                at = torch.quantile(
                    known[:100_000],
                    torch.linspace(0, 1, PIECES_PER_NUMBER + 1, dtype=torch.float64),
                )
                least = torch.arange(PIECES_PER_NUMBER + 1) * max(float(at[-1] - at[0]) / 100, 1e-3)
                self.knots[d] = (at - least).cummax(0).values + least
        return self

    def forward(
        self, value: Float[Tensor, "B D"], observed: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B F"]:
        columns = [self.column(d, value[:, d], observed[:, d]) for d in range(len(self.variables))]
        return torch.cat(columns, 1) if columns else value[:, :0]

    def column(
        self, d: int, value: Float[Tensor, " B"], observed: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B f"]:
        """The inputs of one variable; all zero where it is missing."""
        if d in self.place:
            parts = self.tables[self.place[d]][value.long()]
        elif self.levels[d]:
            parts = torch.nn.functional.one_hot(value.long(), self.levels[d]).double()
        else:
            low = self.knots[d, :-1]
            high = self.knots[d, 1:]
            parts = ((value[:, None] - low) / (high - low)).clamp(0, 1)
        return torch.cat([parts, torch.ones_like(value)[:, None]], 1) * observed[:, None]


def _table(levels: int) -> nn.Parameter:
    """A vector for each level, drawn at random."""
    width = min(MAX_EMBEDDING_WIDTH, 2 * math.ceil(math.sqrt(levels)))
    return nn.Parameter(0.5 * torch.randn(levels, width, dtype=torch.float64))
