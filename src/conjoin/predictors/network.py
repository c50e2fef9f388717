"""A small network: of columns one hidden layer, of pictures a convolutional one."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Event, Space, stream
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.predictors.base import Case, Design, Method, Scorer, two_sided
from conjoin.predictors.conversion import fit_estimator
from conjoin.predictors.convolutional import Convolutional, fit_convolutional

__all__ = ["Network", "NetworkMethod"]

HIDDEN_UNITS = 256
ROWS_SEEN = 200_000  # in a fit, each row as often as there are epochs
MAX_EPOCHS = 200  # of a fit, however few rows there are
MIN_EPOCHS = 3  # of a fit, however many rows there are


class Network(Scorer):
    """scores = W_L relu(... relu(W_1 f(x) + b_1) ...) + b_L, of ``sizes`` f(x), hidden layers,
    scores."""

    kind = "network"

    def __init__(self, space: Space, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.design = Design(space)
        self.sizes = sizes
        layers = [
            nn.Linear(before, after, dtype=torch.float64) for before, after in pairwise(sizes)
        ]
        self.layers = nn.ModuleList(layers).requires_grad_(False)
        self.register_load_state_dict_post_hook(_check_width)

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"sizes": list(self.sizes)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        seen = self.layers[0](self.design.matrix(x))
        for layer in self.layers[1:]:
            seen = layer(seen.relu())
        return seen


def _check_width(network: nn.Module, _: Any) -> None:
    """ValueError where saved columns are not as many as the first layer sees."""
    assert isinstance(network, Network)
    width = network.design.matrix(network.design.space.unknown(1)).shape[1]
    if width != network.sizes[0]:
        raise ValueError(f"a network of {network.sizes[0]} inputs has {width} columns")


class NetworkMethod(Method):
    """A multilayer perceptron of the columns; of pictures a convolutional network, which sees moved
    copies. "auto" tries it where it can gain: of pictures, and where labels were propagated."""

    scorers = (Network, Convolutional)
    dtype = np.float32

    def tried(self, case: Case) -> bool:
        return case.lent or case.pictures

    def for_few_labels(self, case: Case) -> bool:
        return not case.columns

    def paced(self, case: Case) -> bool:
        return case.pictures

    def fit(self, case: Case) -> Scorer:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        rows, weight = case.labelled
        if case.pictures:
            noise = stream(case.seed, "network")
            return fit_convolutional(case.space, rows, weight, case.classes, noise)
        network = MLPRegressor if case.classes is None else MLPClassifier
        epochs = max(MIN_EPOCHS, min(MAX_EPOCHS, ROWS_SEEN // rows.rows))
        estimator = network(
            hidden_layer_sizes=(HIDDEN_UNITS,),
            learning_rate_init=2e-3,
            max_iter=epochs,
            random_state=case.seed,
        )
        return fit_estimator(self, estimator, case)

    def convert(self, estimator: Any, design: Design) -> Scorer | None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        known = isinstance(estimator, MLPClassifier | MLPRegressor)
        return _network(estimator, design) if known and estimator.activation == "relu" else None


def _network(estimator: Any, design: Design) -> Network:
    weights = [each.T for each in estimator.coefs_]
    biases = list(estimator.intercepts_)
    if len(biases[-1]) == 1 and "classes_" in vars(estimator):
        weights[-1] = two_sided(weights[-1])
        biases[-1] = two_sided(biases[-1])
    network = Network(design.space, (weights[0].shape[1], *(len(bias) for bias in biases)))
    network.design.load_state_dict(design.state_dict())
    for layer, weight, bias in zip(network.layers, weights, biases, strict=True):
        layer.weight.copy_(torch.as_tensor(weight))  # type: ignore[operator, union-attr]
        layer.bias.copy_(torch.as_tensor(bias))  # type: ignore[operator, union-attr]
    return network
