"""p(y | x) by the network that writes the strings x, which reads them as well.

The network belongs to the joint beside it, which holds its weights: one body for p(x | y) and for
p(y | x). It learned y as what a plain model of tokens leaves
(``conjoin.families.autoregressive.reading``).
"""

from typing import Any, Self

from torch import Tensor

from conjoin.core import Event, as_float
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.predictors.base import Case, Method, Scorer

__all__ = ["Reader", "ReaderMethod"]


class Reader(Scorer):
    """log p of classes, or the mean of a number, of a joint whose network reads."""

    kind = "reader"
    tempered = False  # learned by the likelihood

    def __init__(self, base: Joint) -> None:
        super().__init__()
        self._reader = base.reader_of()

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        return cls(base)

    @property
    def shapes(self) -> dict[str, Any]:
        return {}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        covered: Tensor = self._reader.covers(x)
        return covered

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        out: Tensor = self._reader.scores(as_float(x))
        return out


class ReaderMethod(Method):
    """Learned together with p(x); judged on validation rows."""

    scorers = (Reader,)
    reads_structures = True

    def tried(self, case: Case) -> bool:
        return case.joint is not None and case.joint.reader_of() is not None

    def fit(self, case: Case) -> Scorer:
        if not self.tried(case):
            raise ValueError(
                "predictor='reader' needs a network of strings that reads them: give "
                "family=Multimodal(strings={'reading': 0.3}), or choose another."
            )
        assert case.joint is not None
        return Reader(case.joint)
