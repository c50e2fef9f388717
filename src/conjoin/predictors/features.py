"""A linear model on what a density of x has learned to see."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Density, Event
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.predictors.base import Case, Method, Scorer, lists_as_tuples, two_sided

__all__ = ["Features", "FeaturesMethod", "SharedMethod"]

ABSENT_LOGIT = -30.0  # of a class without a complete row


class Features(Scorer):
    """scores = W h(x) + b, where h are the features of a density: the same network learns p(x) and
    sees for p(y | x).

    The density belongs to the joint beside it, not to this module: its weights are saved once.
    """

    kind = "features"
    on_features = True

    centre: Tensor
    scale: Tensor

    def __init__(self, density: Density, shape: tuple[int, int]) -> None:
        super().__init__()
        self._density = (density,)  # in a tuple, torch does not take it for a part
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(shape[0], dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(shape[1], dtype=torch.float64))
        self.register_buffer("scale", torch.ones(shape[1], dtype=torch.float64))

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        return cls(base.density_of_x, **lists_as_tuples(shapes))

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"shape": list(self.weight.shape)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """A network sees whole rows only."""
        return x.mask.all(1)

    @on_device
    def features(self, x: Event) -> Float[Tensor, "B H"]:
        """Standardised features; missing cells count as zero, and ``covers`` says so."""
        return (self._density[0].features(_whole(x)) - self.centre) / self.scale

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.features(x) @ self.weight.T + self.bias

    @on_device
    def aligned(self, x: Event) -> Float[Tensor, "B K"]:
        """``scores``, once each feature of these rows has the mean and the deviation that it had in
        those of the fit."""
        seen = self._density[0].features(_whole(x))
        return (seen - seen.mean(0)) / seen.std(0, unbiased=False).clamp_min(
            1e-6
        ) @ self.weight.T + self.bias

    @torch.no_grad()
    @on_device
    def start(self, x: Event) -> "Features":
        """Centre and scale from rows."""
        seen = self._density[0].features(_whole(x))
        self.centre.copy_(seen.mean(0))
        self.scale.copy_(seen.std(0, unbiased=False).clamp_min(1e-6))
        return self

    @torch.no_grad()
    @on_device
    def settle(self, x: Event) -> None:
        """Centre and scale anew, now that the density is trained; the scores stay what they are."""
        centre = self.centre.clone()
        scale = self.scale.clone()
        self.start(x)
        self.bias.add_(self.weight @ ((self.centre - centre) / scale))
        self.weight.mul_(self.scale / scale)


class FeaturesMethod(Method):
    """Logistic regression on the features of the density of x, once that is fitted."""

    scorers = (Features,)

    def tried(self, case: Case) -> bool:
        return case.source is not None

    def fit(self, case: Case) -> Scorer:
        from sklearn.linear_model import LogisticRegression

        density = case.source
        if density is None:
            raise ValueError(
                "predictor='features' needs classes and a family that has features, which this "
                "model has not."
            )
        assert case.classes is not None
        keep = case.rows.y.mask & case.rows.x.mask.all(1)
        rows = case.rows.take(keep)
        with torch.no_grad():
            width = density.features(rows.x.take(slice(0, 1))).shape[1]
            scorer = Features(density, (case.classes, width)).start(rows.x)
            table = scorer.features(rows.x).numpy()
            linear = LogisticRegression(max_iter=2000, C=0.1).fit(
                table,
                rows.y.value.numpy().astype(np.int64),
                sample_weight=case.weight[keep].numpy(),
            )
            codes = torch.as_tensor(linear.classes_)
            scorer.weight[codes] = torch.as_tensor(_all_rows(linear.coef_))
            scorer.bias.fill_(ABSENT_LOGIT)[codes] = torch.as_tensor(_all_rows(linear.intercept_))
        return scorer.requires_grad_(False)


class SharedMethod(Method):
    """As ``FeaturesMethod``, but learned by the gradient together with the density: one network
    learns p(x) and p(y | x)."""

    scorers = (Features,)
    shared = True

    def fit(self, case: Case) -> Scorer:
        raise ValueError("predictor='trunk' is learned together with p(x), not after it.")


def _whole(x: Event) -> Event:
    """The rows, in which every cell that is there counts as known."""
    return Event(x.value, present=x.present)


def _all_rows(rows: np.ndarray) -> np.ndarray:
    """One row for each class."""
    return two_sided(rows) if len(rows) == 1 else rows
