r"""p(y | x) from scikit-learn's estimators, as modules that see events and are saved without
pickle.

A fitted logistic regression becomes ``Linear``, fitted gradient boosting becomes ``Trees``, each
checked against the original on the rows that it was fitted on. Any other estimator is kept as it is
(``External``) and is not saved. A number's predictor gives a point; ``Residual`` adds the
distribution of its held-out errors around it. A temperature scales the logits (C. Guo et al.
(2017), On calibration of modern neural networks, equation 9). Nats.

Shape letters: B rows, F features, K classes or candidates, T trees, M residuals.
"""

import abc
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from conjoin.components.intervals import log_mass
from conjoin.core import Density, Event, Space, categorical
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Bool, Float
from conjoin.joints.hybrid import Predictor
from conjoin.nets.pictures import pictured

__all__ = [
    "Classifier",
    "Design",
    "External",
    "Features",
    "Linear",
    "Network",
    "Residual",
    "Scorer",
    "Trees",
    "convert",
]

BLOCK = 256  # rows that walk down all trees together


class Design(nn.Module):
    """Events as numbers: indicator columns for levels, numbers as they are, pixels between 0 and 1,
    a flag where cells were missing at fit (one for the whole of a picture beside columns)."""

    flagged: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("flagged", torch.zeros(len(space.variables), dtype=torch.bool))

    def fit(self, x: Event) -> "Design":
        self.flagged.copy_((~x.mask).any(0))
        return self

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Rows without missing cells in columns that had none at fit."""
        return (x.mask | self.flagged).all(1)

    def matrix(self, x: Event, missing: float = 0.0) -> Float[Tensor, "B F"]:
        """Missing numbers become ``missing`` (NaN for trees), missing levels no level at all."""
        columns = []
        seen = pictured(self.space)
        first = len(self.space.variables) if seen is None else seen.first
        for index, variable in enumerate(self.space.variables):
            seen = x.mask[:, index]
            if index >= first:
                columns.append(
                    torch.where(
                        seen, x.value[:, index] / max(variable.cardinality - 1, 1), missing
                    )[:, None]
                )
            elif variable.discrete:
                columns.append(
                    torch.nn.functional.one_hot(
                        x.value[:, index].long(), variable.cardinality
                    ).double()
                    * seen[:, None]
                )
            else:
                columns.append(torch.where(seen, x.value[:, index], missing)[:, None])
        flags = self.flagged.clone()
        flags[first + 1 :] &= first == 0
        return torch.cat([*columns, (~x.mask[:, flags]).double()], 1)


class Scorer(nn.Module, abc.ABC):
    """Logits of K classes, or one number."""

    @abc.abstractmethod
    def scores(self, x: Event) -> Float[Tensor, "B K"]: ...

    @abc.abstractmethod
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Whether rows with such cells missing were there at fit."""


class Linear(Scorer):
    """scores = W f(x) + b."""

    def __init__(self, space: Space, shape: tuple[int, int]) -> None:
        super().__init__()
        self.design = Design(space)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[0], dtype=torch.float64), requires_grad=False)

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"shape": list(self.weight.shape)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.design.matrix(x) @ self.weight.T + self.bias


class Network(Scorer):
    """scores = W_L relu(... relu(W_1 f(x) + b_1) ...) + b_L, of ``sizes`` f(x), hidden layers,
    scores."""

    def __init__(self, space: Space, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.design = Design(space)
        self.sizes = sizes
        layers = [
            nn.Linear(before, after, dtype=torch.float64) for before, after in pairwise(sizes)
        ]
        self.layers = nn.ModuleList(layers).requires_grad_(False)

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"sizes": list(self.sizes)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        seen = self.layers[0](self.design.matrix(x))
        for layer in self.layers[1:]:
            seen = layer(seen.relu())
        return seen


class Features(Scorer):
    """scores = W h(x) + b, where h are the features of a density: the same network learns p(x) and
    sees for p(y | x).

    The density belongs to the joint beside it, not to this module: its weights are saved once.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, density: Density, shape: tuple[int, int]) -> None:
        super().__init__()
        self._density = (density,)  # in a tuple, torch does not take it for a part
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(shape[0], dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(shape[1], dtype=torch.float64))
        self.register_buffer("scale", torch.ones(shape[1], dtype=torch.float64))

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"shape": list(self.weight.shape)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """A network sees whole rows only."""
        return x.mask.all(1)

    def features(self, x: Event) -> Float[Tensor, "B H"]:
        """Standardised features; missing cells count as zero, and ``covers`` says so."""
        return (self._density[0].features(Event(x.value)) - self.centre) / self.scale

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.features(x) @ self.weight.T + self.bias

    def aligned(self, x: Event) -> Float[Tensor, "B K"]:
        """``scores``, once each feature of these rows has the mean and the deviation that it had in
        those of the fit."""
        seen = self._density[0].features(Event(x.value))
        return (seen - seen.mean(0)) / seen.std(0, unbiased=False).clamp_min(
            1e-6
        ) @ self.weight.T + self.bias

    @torch.no_grad()
    def start(self, x: Event) -> "Features":
        """Centre and scale from rows."""
        seen = self._density[0].features(Event(x.value))
        self.centre.copy_(seen.mean(0))
        self.scale.copy_(seen.std(0, unbiased=False).clamp_min(1e-6))
        return self

    @torch.no_grad()
    def settle(self, x: Event) -> None:
        """Centre and scale anew, now that the density is trained; the scores stay what they are."""
        centre = self.centre.clone()
        scale = self.scale.clone()
        self.start(x)
        self.bias.add_(self.weight @ ((self.centre - centre) / scale))
        self.weight.mul_(self.scale / scale)


class Trees(Scorer):
    """Sum of regression trees. Every tree is walked at once, one depth a step."""

    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    branches: Tensor
    leaf: Tensor
    base: Tensor

    def __init__(self, space: Space, shape: tuple[int, int], outputs: int, depth: int) -> None:
        super().__init__()
        self.design = Design(space)
        self.outputs = outputs
        self.depth = depth
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("branches", torch.zeros(*shape, 2, dtype=torch.long))
        self.register_buffer("leaf", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("base", torch.zeros(outputs, dtype=torch.float64))

    @property
    def shapes(self) -> dict[str, Any]:
        return {"shape": list(self.feature.shape), "outputs": self.outputs, "depth": self.depth}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.base + self.contributions(x).sum(1)

    def contributions(self, x: Event) -> Float[Tensor, "B I K"]:
        """What each boosting iteration adds. A block of rows at a time stays in the processor's
        cache."""
        table = self.design.matrix(x, missing=torch.nan)
        trees, nodes = self.feature.shape
        root = torch.arange(trees) * nodes
        children = (self.branches + root[:, None, None]).flatten()
        parts = [self._walk(block, root, children) for block in table.split(BLOCK)]
        return torch.cat(parts).reshape(x.rows, -1, self.outputs)

    def _walk(
        self, table: Float[Tensor, "b F"], root: Tensor, children: Tensor
    ) -> Float[Tensor, "b T"]:
        """The leaves' values; nodes are numbered through all trees."""
        node = root.expand(len(table), -1)
        gaps = bool(table.isnan().any())
        for _ in range(self.depth):
            value = table.gather(1, self.feature.take(node))
            left = value <= self.threshold.take(node)
            if gaps:
                left |= value.isnan() & self.missing_left.take(node)
            node = children.take(2 * node + (~left).long())
        return self.leaf.take(node)

    def keep(self, iterations: int) -> "Trees":
        """The first ``iterations`` boosting rounds."""
        kept = iterations * self.outputs
        smaller = Trees(self.design.space, (kept, self.feature.shape[1]), self.outputs, self.depth)
        state = self.state_dict()
        whole = {"base", "design.flagged"}
        smaller.load_state_dict(
            {key: value if key in whole else value[:kept] for key, value in state.items()}
        )
        return smaller


class External(Scorer):
    """A scikit-learn estimator of the user's own. Not saved: it may run any code.

    With a codec it sees frames (the user's own where there are any, else decoded from events),
    without one it sees events."""

    def __init__(
        self, estimator: Any, classes: Any = None, codec: Any = None, template: Any = None
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self.classes = classes
        self.codec = codec
        # one row of the user's frame: its columns, and values for those that are not modelled
        self.template = template

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """The user's estimator is asked whatever is missing: what it makes of that is its own
        word."""
        return torch.ones(x.rows, dtype=torch.bool)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        if self.codec is None:
            return self.scores_of(x)
        frame = self.codec.rows(self.codec.decode(x.value, x.mask)).frame
        others = {
            name: [self.template[name]] * x.rows
            for name in self.template.index
            if name not in frame
        }
        return self.scores_of(
            frame.join(pd.DataFrame(others, index=frame.index)) if others else frame
        )

    @property
    def name(self) -> str:
        """The class of the user's estimator, whatever it is wrapped in."""
        inner = self.estimator
        while "estimator" in vars(inner):
            inner = inner.estimator
        return type(inner).__name__

    def scores_of(self, rows: Any) -> Float[Tensor, "B K"]:
        """Log-probabilities in the order of the model's classes, or the predicted number in event
        units."""
        if self.codec is not None:
            # as at fit; a column that is absent is missing
            rows = rows.reindex(columns=self.template.index)
        if self.classes is None:
            return torch.as_tensor(np.asarray(self.estimator.predict(rows), dtype=float))[:, None]
        proba = np.asarray(self.estimator.predict_proba(rows), dtype=float)
        own = list(self.estimator.classes_)
        missing = [label for label in self.classes if label not in own]
        if missing:
            raise ValueError(
                f"The predictor knows the classes {own}, but the target has {missing[0]!r}; fit "
                "it on all classes."
            )
        ordered = torch.as_tensor(proba[:, [own.index(label) for label in self.classes]])
        return ordered.clamp_min(1e-12).log()


class Classifier(Predictor):
    """p(y | x) for classes: the softmax of a scorer's logits at a temperature."""

    temperature: Tensor

    def __init__(self, scorer: Scorer, temperature: float = 1.0) -> None:
        super().__init__()
        self.scorer = scorer
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    def log_proba(self, x: Event) -> Float[Tensor, "B K"]:
        return (self.scorer.scores(x) / self.temperature).log_softmax(1)

    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.log_proba(x).gather(1, y.long())

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.scorer.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        log_proba = self.log_proba(x)
        return (
            log_proba.argmax(1) if generator is None else categorical(log_proba, generator)
        ).double()


TAILS = (1.0, 3.0, 10.0)  # widths, in deviations, of the wide components of errors
TAIL_WEIGHT = 0.01
MIN_TABLE_CANDIDATES = 32  # candidates from which a table is quicker


class Residual(Predictor):
    """p(y | x) for numbers: a point f(x) and the smoothed distribution of held-out errors around
    it.

    Errors are measured in units of s(f), their mean size where the point is about f, so that a
    predictor may be surer of small numbers than of large ones; a little of the weight lies on wide
    components, for errors never met. With a recorded precision ``width`` the value is a cell's
    mass, else a density."""

    residuals: Tensor
    bandwidth: Tensor
    log_weight: Tensor
    knots: Tensor
    sizes: Tensor

    def __init__(self, scorer: Scorer, count: int, bins: int, width: float = 0.0) -> None:
        super().__init__()
        self.scorer = scorer
        self.width = width
        self.register_buffer("residuals", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("bandwidth", torch.ones(count, dtype=torch.float64))
        weight = torch.full(
            (count,), (1 - len(TAILS) * TAIL_WEIGHT) / (count - len(TAILS)), dtype=torch.float64
        )
        weight[-len(TAILS) :] = TAIL_WEIGHT
        self.register_buffer("log_weight", weight.log(), persistent=False)
        self.register_buffer("knots", torch.arange(bins, dtype=torch.float64))  # values of f
        self.register_buffer("sizes", torch.ones(bins, dtype=torch.float64))  # s(f) there

    def fit(self, point: Tensor, y: Tensor) -> "Residual":
        """Mean error by bins of the point, then quantiles of the scaled errors, smoothed by
        Silverman's rule (B. Silverman (1986), Density estimation, equation 3.31)."""
        errors = y - point
        order = point.argsort()
        for place, rows in enumerate(order.tensor_split(len(self.knots))):
            self.knots[place] = point[rows].mean()
            self.sizes[place] = (
                errors[rows].abs().mean().clamp_min(1e-3 * errors.abs().mean() + 1e-9)
            )
        scaled = errors / self._size(point)
        kernels = len(self.residuals) - len(TAILS)
        self.residuals[:kernels] = scaled.quantile(
            (torch.arange(kernels, dtype=torch.float64) + 0.5) / kernels
        )
        self.residuals[kernels:] = scaled.median()
        deviation = float(scaled.std(unbiased=False)) or 1.0
        spread = min(
            deviation, float(scaled.quantile(0.75) - scaled.quantile(0.25)) / 1.34 or deviation
        )
        self.bandwidth[:kernels] = max(0.9 * spread * len(errors) ** -0.2, 1e-3)
        self.bandwidth[kernels:] = deviation * torch.tensor(TAILS, dtype=torch.float64)
        return self

    def _size(self, point: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """s(f), linear between the knots and constant beyond them."""
        if len(self.knots) == 1:
            return self.sizes.expand(len(point))
        right = torch.searchsorted(self.knots, point.contiguous()).clamp(1, len(self.knots) - 1)
        low = self.knots[right - 1]
        high = self.knots[right]
        share = ((point - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return torch.lerp(self.sizes[right - 1], self.sizes[right], share)

    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        point = self.scorer.scores(x)
        size = self._size(point[:, 0])[:, None]
        error = (y - point) / size
        half = self.width / 2 / size
        if y.shape[1] > MIN_TABLE_CANDIDATES and not torch.is_grad_enabled():
            return self._log_prob_by_table(error, half) - (0.0 if self.width else size.log())
        if self.width:
            apart = error[..., None] - self.residuals
            parts = log_mass(
                (apart - half[..., None]) / self.bandwidth,
                (apart + half[..., None]) / self.bandwidth,
            )
            return (parts + self.log_weight).logsumexp(-1)
        return self._log_density(error) - size.log()

    def _log_density(self, error: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Of a scaled error."""
        z = (error[..., None] - self.residuals) / self.bandwidth
        return (self.log_weight - 0.5 * (z.square() + LOG_2PI) - self.bandwidth.log()).logsumexp(-1)

    def _log_prob_by_table(
        self, error: Float[Tensor, "B K"], half: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B K"]:
        """The same to about 1e-3, for many candidates: the mixture is tabulated once and
        interpolated."""
        # dense near zero, up to 800
        knots = 1e-2 * torch.sinh(torch.linspace(-12, 12, 4001, dtype=torch.float64))
        density = self._log_density(knots)

        def look_up(at: Tensor, table: Tensor) -> Tensor:
            return torch.from_numpy(np.interp(at.numpy(), knots.numpy(), table.numpy()))

        if not self.width:
            return look_up(error, density)
        cdf = (
            torch.special.ndtr((knots[:, None] - self.residuals) / self.bandwidth)
            @ self.log_weight.exp()
        )
        mass = look_up(error + half, cdf) - look_up(error - half, cdf)
        return torch.where(
            mass > 1e-9, mass.clamp_min(1e-300).log(), look_up(error, density) + (2 * half).log()
        )

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.scorer.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        point = self.scorer.scores(x)[:, 0]
        if generator is None:
            return point + self._size(point) * self.residuals.median()
        pick = categorical(self.log_weight.expand(x.rows, -1), generator)
        noise = self.bandwidth[pick] * torch.randn(x.rows, generator=generator, dtype=torch.float64)
        return point + self._size(point) * (self.residuals[pick] + noise)


# --------------------------------------------------------------------------------------- conversion


def convert(estimator: Any, design: Design, x: Event) -> Scorer | None:
    """A fitted scikit-learn estimator as a module, or None for kinds that we can't write down.

    Raises RuntimeError if the module does not reproduce the estimator on ``x`` (its insides have
    changed)."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    network = isinstance(estimator, MLPClassifier | MLPRegressor) and estimator.activation == "relu"
    if network or isinstance(estimator, LogisticRegression | Ridge):
        scorer: Scorer = _network(estimator, design) if network else _linear(estimator, design)
        truth = _truth(estimator, design.matrix(x).numpy())
    elif isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        scorer = _trees(estimator, design)
        truth = _truth(estimator, design.matrix(x, torch.nan).numpy())
    else:
        return None
    if not torch.allclose(_comparable(scorer.scores(x)), torch.as_tensor(truth), atol=1e-6):
        raise RuntimeError(
            f"{type(estimator).__name__} of this scikit-learn could not be reproduced; use "
            "another predictor."
        )
    return scorer


def _truth(estimator: Any, table: np.ndarray) -> np.ndarray:
    classifier = "predict_proba" in dir(estimator)
    return np.asarray(
        estimator.predict_proba(table) if classifier else estimator.predict(table)[:, None]
    )


def _comparable(scores: Tensor) -> Tensor:
    return scores if scores.shape[1] == 1 else scores.softmax(1)


def _two_sided(rows: np.ndarray) -> np.ndarray:
    """A binary estimator has one row of logits, for the second class."""
    return np.concatenate([np.zeros_like(rows), rows])


def _linear(estimator: Any, design: Design) -> Linear:
    weight = np.atleast_2d(estimator.coef_)
    bias = np.atleast_1d(estimator.intercept_)
    if len(weight) == 1 and "classes_" in vars(estimator):
        weight = _two_sided(weight)
        bias = _two_sided(bias)
    linear = Linear(design.space, (weight.shape[0], weight.shape[1]))
    linear.design.load_state_dict(design.state_dict())
    linear.weight.copy_(torch.as_tensor(weight))
    linear.bias.copy_(torch.as_tensor(bias))
    return linear


def _network(estimator: Any, design: Design) -> Network:
    weights = [each.T for each in estimator.coefs_]
    biases = list(estimator.intercepts_)
    if len(biases[-1]) == 1 and "classes_" in vars(estimator):
        weights[-1] = _two_sided(weights[-1])
        biases[-1] = _two_sided(biases[-1])
    network = Network(design.space, (weights[0].shape[1], *(len(bias) for bias in biases)))
    network.design.load_state_dict(design.state_dict())
    for layer, weight, bias in zip(network.layers, weights, biases, strict=True):
        layer.weight.copy_(torch.as_tensor(weight))  # type: ignore[operator, union-attr]
        layer.bias.copy_(torch.as_tensor(bias))  # type: ignore[operator, union-attr]
    return network


def _trees(estimator: Any, design: Design) -> Trees:
    rounds = [[tree.nodes for tree in each] for each in estimator._predictors]
    binary = len(rounds[0]) == 1 and "classes_" in vars(estimator)
    flat = [
        tree
        for each in rounds
        for tree in ([np.zeros(1, dtype=each[0].dtype), *each] if binary else each)
    ]
    size = max(len(tree) for tree in flat)
    outputs = 2 if binary else len(rounds[0])
    trees = Trees(
        design.space, (len(flat), size), outputs, int(max(tree["depth"].max() for tree in flat))
    )
    trees.design.load_state_dict(design.state_dict())
    for index, nodes in enumerate(flat):
        _write_tree(trees, index, nodes)
    base = np.ravel(estimator._baseline_prediction)
    trees.base.copy_(torch.as_tensor(np.concatenate([[0.0], base]) if binary else base))
    return trees


def _write_tree(trees: Trees, index: int, nodes: np.ndarray) -> None:
    """A leaf is its own child, so that every walk may take the same number of steps."""
    own = np.arange(len(nodes))
    leaf = (nodes["is_leaf"] == 1) | (len(nodes) == 1)
    inner = {
        "feature": np.where(leaf, 0, nodes["feature_idx"]),
        "threshold": np.where(leaf, 0.0, nodes["num_threshold"]),
        "missing_left": nodes["missing_go_to_left"] == 1,
        "leaf": nodes["value"],
    }
    for name, column in inner.items():
        getattr(trees, name)[index, : len(nodes)] = torch.as_tensor(
            np.ascontiguousarray(column)
        ).to(getattr(trees, name).dtype)
    children = np.stack(
        [np.where(leaf, own, nodes["left"]), np.where(leaf, own, nodes["right"])], 1
    )
    trees.branches[index, : len(nodes)] = torch.as_tensor(children.astype(np.int64))
