r"""p(y | x) of molecules: a pool of linear models and trees of what the molecules are made of.

    f(x) = sum_m w_m f_m(z(x)),    z = (counts of fragments, descriptors, columns beside them)

Such plain models are hard to beat on a few thousand molecules (D. Jiang et al. (2021), Could graph
neural networks learn better molecular representation for drug discovery?). The family's own word,
that of the network of the strings, joins the pool where it adds to them: so it learns what they
leave. Strings that are no molecules are left to the family.

Shape letters: B rows, F numbers of a molecule, K classes.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from conjoin.codecs.smiles.column import Molecules
from conjoin.codecs.smiles.fragments import fragment_table
from conjoin.core import Event, Pair, Space, Variable
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.predictors import method, scorer_class
from conjoin.predictors.base import Case, Design, Folded, Method, Scorer, lists_as_tuples
from conjoin.predictors.forest import TREES_A_FOLD, ExtraTreesMethod
from conjoin.predictors.linear import LinearMethod
from conjoin.predictors.pool import Pool, heard_by_folds, pool_of, pool_of_points
from conjoin.util.budget import seconds_of

__all__ = ["Fragments", "FragmentsMethod"]

STRENGTHS = tuple(10.0 ** np.arange(0, 6.5, 0.5))  # of ridge, on standardised numbers
MIN_GUESSED_ROWS = 200  # by which is known how long a fit takes
GUESSED_PART = 3  # one in so many of the rows that are measured, if these are more
MIN_MOLECULES = 3  # in which a fragment occurs, so that it counts


class Fragments(Scorer):
    """``molecules``: where they stand, and how they read; ``pool`` sees the numbers that vary."""

    kind = "fragments"
    tempered = False  # the weights of a pool hold a temperature

    centre: Tensor
    scale: Tensor
    kept: Tensor

    def __init__(self, space: Any, molecules: tuple[Molecules, ...], pool: Pool, kept: int) -> None:
        super().__init__()
        self.molecules = molecules
        self.pool = pool
        self.design = Design(_columns_of(space))
        self.register_buffer("centre", torch.zeros(kept, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(kept, dtype=torch.float64))
        self.register_buffer("kept", torch.zeros(kept, dtype=torch.int64))

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        molecules = tuple(map(Molecules.from_json, shapes["molecules"]))
        numbers = _space_of(shapes["kept"])
        members = {
            each["name"]: scorer_class(each["scorer"])(numbers, **lists_as_tuples(each["shapes"]))
            for each in shapes["pool"]["members"]
        }
        pool = Pool(members, shapes["pool"]["outputs"])
        return cls(base.space.x, molecules, pool, shapes["kept"])

    @property
    def shapes(self) -> dict[str, Any]:
        return {
            "molecules": [each.to_json() for each in self.molecules],
            "pool": self.pool.shapes,
            "kept": len(self.kept),
        }

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Rows whose strings are molecules."""
        _, known = _table(self.molecules, x)
        return known.to(x.value.device) & self.design.covers(_columns(self.design, x))

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        table, _ = _table(self.molecules, x)
        wide = torch.cat([table, self.design.matrix(_columns(self.design, x)).cpu()], 1)
        table = wide[:, self.kept.cpu()].to(self.centre.device)
        return self.pool.scores(Event((table - self.centre) / self.scale))


class RidgeMethod(Method):
    """Ridge regression, its strength by generalised cross-validation (G. Golub, M. Heath and G.
    Wahba (1979))."""

    folds = True

    def fit(self, case: Case) -> Scorer:
        from sklearn.linear_model import Ridge, RidgeCV

        rows, weight = case.labelled
        design = Design(case.space).fit(rows.x)
        table = design.matrix(rows.x).numpy()
        y = rows.y.value.numpy()
        chosen = RidgeCV(STRENGTHS).fit(table, y, weight.numpy())
        ridge = Ridge(float(chosen.alpha_)).fit(table, y, weight.numpy())
        scorer = LinearMethod().convert(ridge, design)
        assert scorer is not None
        return scorer


class FragmentsMethod(Method):
    """A pool on fragments and descriptors; "auto" tries it alone where there are molecules."""

    scorers = (Fragments,)
    folds = True
    reads_structures = True

    def tried(self, case: Case) -> bool:
        return bool(case.structures)

    def for_few_labels(self, case: Case) -> bool:
        return bool(case.structures)

    def fit(self, case: Case) -> Scorer:
        return self.by_folds(case.with_folds()).scorer

    def numbers_of(self, case: Case) -> np.ndarray:
        return np.asarray(_wide(case)[1].numpy())

    def guess(self, case: Case, few: Case) -> float:
        """A fit learns the folds as well, so that the measurement takes a part of the few."""
        count = max(MIN_GUESSED_ROWS, few.rows.rows // GUESSED_PART)
        some = few.take(np.arange(few.rows.rows) < count)
        return seconds_of(partial(self.fit, some)) * case.rows.rows / some.rows.rows

    def by_folds(self, case: Case) -> Folded:
        """Every member is learned fold by fold, and the pool's weights are fitted to what they say
        of rows that they have not seen."""
        if not case.structures:
            raise ValueError(
                "predictor='fragments' reads molecules, and no column holds SMILES: choose "
                "another, or say types={'column': 'smiles'}."
            )
        design, wide = _wide(case)
        kept = ((wide != 0).sum(0) >= MIN_MOLECULES) & (wide.amax(0) > wide.amin(0))
        centre = wide[:, kept].mean(0)
        scale = wide[:, kept].std(0, unbiased=False)
        numbers = Event((wide[:, kept] - centre) / scale)
        space = _space_of(numbers.value.shape[1])
        inner = replace(case, space=space, rows=Pair(case.rows.y, numbers), structures=())
        heard = heard_by_folds(inner, _members(case))
        pool, scores = (
            pool_of_points(heard) if case.classes is None else pool_of(heard, case.classes)
        )
        scorer = Fragments(case.space, case.structures, pool, len(centre))
        scorer.design.load_state_dict(design.state_dict())
        scorer.centre.copy_(centre)
        scorer.scale.copy_(scale)
        scorer.kept.copy_(kept.nonzero()[:, 0])
        return Folded(scorer, scores)


def _wide(case: Case) -> tuple[Design, Tensor]:
    """How the columns become numbers, and (B, F) the numbers of molecules and columns."""
    design = Design(_columns_of(case.space)).fit(_columns_of_event(case))
    table, _ = _table(case.structures, case.rows.x)
    return design, torch.cat([table, design.matrix(_columns_of_event(case))], 1)


def _members(case: Case) -> dict[str, Method]:
    """A table of fragments has a thousand columns, each of which says little: few trees, as the
    table has many cells, would look at some of them and be noisy."""
    linear = RidgeMethod() if case.classes is None else method("linear")
    trees = ExtraTreesMethod(TREES_A_FOLD)
    return {"linear": linear, "extra_trees": trees, "boosting": method("boosting")}


def _space_of(numbers: int) -> Space:
    names = map(str, range(numbers))
    return Space((numbers,), tuple(Variable(name, "real") for name in names))


def _columns_of(space: Any) -> Space:
    return Space((space.columns,), space.variables[: space.columns])


def _columns(design: Design, x: Event) -> Event:
    width = len(design.space.variables)
    return Event(x.value[:, :width].double(), x.mask[:, :width])


def _columns_of_event(case: Case) -> Event:
    width = case.space.columns
    return Event(case.rows.x.value[:, :width].double(), case.rows.x.mask[:, :width])


def _table(molecules: tuple[Molecules, ...], x: Event) -> tuple[Tensor, Tensor]:
    """(B, F) the numbers of all molecules of each row, and (B,) whether all are molecules."""
    tables = []
    whole = torch.ones(x.rows, dtype=torch.bool)
    for each in molecules:
        seen = x.mask[:, each.cells].all(1).cpu()
        table, known = fragment_table(each.strings(x.value.cpu()))
        whole &= torch.as_tensor(known) & seen
        tables.append(torch.as_tensor(table))
    return torch.cat(tables, 1), whole
