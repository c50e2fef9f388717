r"""Trees that tell rows from rows with shuffled columns: a reading of whether the cells of a row go
together.

    log p(x) - sum_d log p(x_d) ~ log c / (1 - c),  c = mean over trees of p(real | leaf)

A classifier that tells the rows of the fit from as many with every column shuffled for itself,
``SHUFFLES`` times, estimates the ratio of their densities (M. Gutmann and A. Hyvaerinen (2012),
Noise-contrastive estimation of unnormalized statistical models; T. Hastie, R. Tibshirani and J.
Friedman (2009), The elements of statistical learning, section 14.2.4). The trees are extremely
randomised (P. Geurts, D. Ernst and L. Wehenkel (2006), Extremely randomized trees): no single
column tells the two apart, so that a split that must gain by itself would find none. A leaf has at
least ``MIN_LEAF_ROWS`` rows. Categories are indicators. A missing number is a number below those of
its column, and where none was missing at fit, their median. Unit: nats.

Shape letters: B rows, D variables, P coordinates, N nodes of all trees, T trees.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.calibration.strangers import shuffled
from conjoin.components.decision_trees import descend, node_columns, roots_of
from conjoin.core import Event, Variable
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["RatioReading"]

MAX_LEARNING_ROWS = 4096  # of the fit
SHUFFLES = 4
TREES = 40
MAX_CELLS = 1_000_000  # of the table that the trees are grown on: of wide tables fewer rows
MIN_LEAF_ROWS = 5
MIN_SHARE = 1e-3  # of either kind, in what the trees say
ROWS_AT_ONCE = 512  # that walk down all trees together


@dataclass(frozen=True)
class RatioReading:
    """The log-odds that rows of these variables are no shuffled ones."""

    variables: tuple[Variable, ...]
    fill: Float[Tensor, " D"]  # what stands for a missing number
    feature: Int[Tensor, " N"]
    threshold: Float[Tensor, " N"]
    right: Int[Tensor, " N"]
    root: Int[Tensor, " T"]
    share: Float[Tensor, " N"]  # of real rows in a leaf

    @classmethod
    def of(
        cls, variables: tuple[Variable, ...], rows: Event, generator: np.random.Generator
    ) -> Self:
        """From rows of the fit."""
        from sklearn.ensemble import ExtraTreesClassifier

        most = min(MAX_LEARNING_ROWS, MAX_CELLS // ((1 + SHUFFLES) * _coordinates(variables)))
        some = torch.as_tensor(generator.permutation(rows.rows)[:most])
        rows = rows.take(some)
        nothing = torch.zeros(0)
        whole = nothing.int()
        fill = _fill(variables, rows)
        start = cls(variables, fill, whole, nothing, whole, whole, nothing)
        strange = [shuffled(rows, generator) for _ in range(SHUFFLES)]
        table = torch.cat([start.coded(each.value, each.mask) for each in (rows, *strange)])
        real = np.arange(len(table)) < rows.rows
        forest: Any = ExtraTreesClassifier(
            TREES,
            max_features=None,  # a random threshold of every coordinate, of which the best
            min_samples_leaf=min(MIN_LEAF_ROWS, rows.rows),
            random_state=int(generator.integers(1 << 31)),
        )
        forest.fit(table.numpy(), real, sample_weight=np.where(real, SHUFFLES, 1.0))
        trees = [each.tree_ for each in forest.estimators_]
        roots = roots_of(trees)
        parts = [node_columns(tree, begin) for begin, tree in zip(roots, trees, strict=True)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        weight = np.concatenate([tree.value[:, 0] for tree in trees])
        return cls(
            variables,
            fill,
            torch.as_tensor(joined["feature"]).int(),
            torch.as_tensor(joined["threshold"]).float(),
            torch.as_tensor(joined["right"]).int(),
            torch.as_tensor(roots).int(),
            torch.as_tensor(weight[:, 1] / weight.sum(1)).float(),
        )

    def coded(
        self, value: Float[Tensor, "B D"], known: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B P"]:
        """The coordinates of rows, in float32; a missing category has no indicator."""
        parts = [
            nn.functional.one_hot(value[:, d].long(), variable.cardinality) * known[:, d, None]
            if variable.nominal
            else torch.where(known[:, d], value[:, d], self.fill[d])[:, None]
            for d, variable in enumerate(self.variables)
        ]
        return torch.cat([part.float() for part in parts], 1)

    def __call__(
        self, value: Float[Tensor, "B D"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, " B"]:
        """Rows that all have this pattern's cells; further cells are of other blocks."""
        columns = len(self.variables)
        known = pattern[:columns]
        parts = []
        for part in value[:, :columns].split(ROWS_AT_ONCE):
            table = self.coded(part, known.expand_as(part))
            node = descend(table, self.feature, self.threshold, self.right, self.root)
            parts.append(self.share[node].double().mean(1))
        share = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        return torch.logit(share, eps=MIN_SHARE)

    def to_tensors(self) -> dict[str, Tensor]:
        """What is saved; the inverse of ``from_tensors``."""
        names = ("fill", "feature", "threshold", "right", "root", "share")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_tensors(cls, variables: tuple[Variable, ...], stored: dict[str, Tensor]) -> Self:
        """ValueError where the tensors are not trees of such columns."""
        found = cls(variables, **stored)
        nodes = len(found.right)
        own = torch.arange(nodes)
        shapes = {len(each) for each in (found.feature, found.threshold, found.share)}
        sound = (
            (found.right >= own) & (found.right < nodes),
            (found.right == own) | (own + 1 < nodes),
            (found.feature >= 0) & (found.feature < _coordinates(variables)),
            (found.share >= 0) & (found.share <= 1),
            (found.root >= 0) & (found.root < nodes),
        )
        walked = shapes == {nodes} and all(bool(each.all()) for each in sound)
        if not walked or len(found.fill) != len(variables):
            raise ValueError("the trees of familiarity do not go with the columns")
        return found


def _coordinates(variables: tuple[Variable, ...]) -> int:
    return sum(each.cardinality if each.nominal else 1 for each in variables)


def _fill(variables: tuple[Variable, ...], rows: Event) -> Float[Tensor, " D"]:
    out = torch.zeros(len(variables), dtype=torch.float64)
    for d, variable in enumerate(variables):
        known = rows.value[rows.mask[:, d], d]
        if not variable.nominal and len(known):
            low, high = known.aminmax()
            out[d] = known.median() if len(known) == rows.rows else 2 * low - high - 1
    return out
