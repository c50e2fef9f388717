r"""Coupling flow: a chain of invertible layers carries the numbers of a row to standard normal
noise.

    log p(x) = log N(f(x); 0, 1) + log |det df / dx|,      f = f_L o ... o f_1
    f_l:   h = L U x,     y_a = spline(h_a; theta_a),    y_b = spline(h_b; theta_b(h_a, context))

C. Durkan, A. Bekasov, I. Murray and G. Papamakarios (2019), Neural spline flows, equations 1, 9 and
10 (half of the numbers set the splines of the other half, so that the inverse is as cheap as the
map itself), after L. Dinh, J. Sohl-Dickstein and S. Bengio (2017), Real NVP, equation 8; the linear
map between couplings by its triangular factors: D. Kingma and P. Dhariwal (2018), Glow, equation
10. Classes and coded columns are context: see ``parts``. All values in nats.

Shape letters: B rows, D variables, M smooth ones, C inputs of the context, P parameters of a
spline.

>>> from conjoin.core import Variable, stream
>>> data = Event(torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(-1, 2))
>>> space = Space((2,), (Variable("a", "real"), Variable("b", "real")))
>>> density = FlowDensity.build(space, Flow(), data, stream(0))
>>> z, log_det = density.flow.forward_map(torch.zeros(1, 2).double(), torch.zeros(1, 0).double())
>>> log_det.item()  # it starts as the identity, between numbers that are standardised
0.0
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from conjoin.core import Event, Space
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float
from conjoin.families.deep import DeepConfig
from conjoin.families.flow.parts import PartsDensity
from conjoin.families.flow.spline import BOUND, inverse_spline, parameters, spline
from conjoin.nets.body import Body

__all__ = ["Flow", "FlowDensity", "FlowNet"]

MIN_ROWS_FOR_ALL_BINS = 300  # rows below which splines have half the bins


@dataclass(frozen=True)
class Flow(DeepConfig):
    """Settings of the coupling flow.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 256
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    layers : int, default 6
        Couplings.
    width : int or None, default None
        Hidden units of a layer; None takes them from the number of rows.
    blocks : int, default 1
        Residual blocks of the network.
    bins : int or None, default None
        Bins of each spline; None: 8, and 4 of few rows.
    dropout : float, default 0.1
        Share of hidden units left out in a training step.
    noise : int, default 8
        Draws inside a recorded cell for each row.
    """

    layers: int = 6
    width: int | None = None
    blocks: int = 1
    bins: int | None = None
    dropout: float = 0.1
    noise: int = 8
    batch: int = 256
    rate: float = 3e-3

    passes: ClassVar[tuple[int, int, int]] = (300, 200, 1500)


class FlowDensity(PartsDensity):
    """Exact for densities and coded columns; finely recorded cells make it a bound."""

    config_class = Flow

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """Few rows call for smooth splines."""
        return super()._structure(space, config, data, weight) | {
            "bins": config.bins or (8 if data.rows >= MIN_ROWS_FOR_ALL_BINS else 4)
        }

    def _flow(self, size: int, context: int) -> Body:
        c = self.config
        return FlowNet(
            size,
            context,
            c.layers,
            self.structure["width"],
            c.blocks,
            self.structure["bins"],
            c.dropout,
        )

    def _log_smooth(
        self, z: Float[Tensor, "N M"], seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, " N"]:
        found: Tensor = self.flow(z, seen)
        return found

    def _smooth_objective(
        self, z: Float[Tensor, "B M"], seen: Float[Tensor, "B C"], generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        return -self._log_smooth(z, seen, generator)

    def _draw_smooth(
        self, seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, "N M"]:
        noise = torch.randn(len(seen), len(self.smooth), generator=generator, dtype=torch.float64)
        assert isinstance(self.flow, FlowNet)
        return self.flow.inverse_map(noise, seen)


# -------------------------------------------------------------------------------------- the network


class FlowNet(Body):
    """log p of M numbers given a context. It starts as the identity, so that its first guess is a
    standard normal."""

    def __init__(
        self,
        size: int,
        context: int,
        layers: int,
        width: int,
        blocks: int,
        bins: int,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = nn.ModuleList(_Linear(size) for _ in range(layers))
        self.couplings = nn.ModuleList()
        order = torch.randperm(size)
        for index in range(layers):
            half = size // 2 if index % 2 == 0 else size - size // 2  # the halves take turns
            order = torch.randperm(size) if index % 2 == 0 else order.roll(half)
            self.couplings.append(
                _Coupling(order, half if size > 1 else 0, context, width, blocks, bins, drop)
            )
        self.double()

    @property
    def layers(self) -> "list[tuple[_Linear, _Coupling]]":
        return list(zip(self.linear, self.couplings, strict=True))  # type: ignore[arg-type]

    def compute(self, x: Float[Tensor, "B M"], seen: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
        z, log_det = self.forward_map(x, seen)
        return log_det - 0.5 * (z * z + LOG_2PI).sum(1)

    def forward_map(
        self, x: Float[Tensor, "B M"], seen: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, " B"]]:
        """z = f(x), and log |det df / dx|."""
        log_det = x.new_zeros(len(x))
        for linear, coupling in self.layers:
            x, slopes = coupling(linear(x), seen)
            log_det = log_det + slopes + linear.log_diagonal.sum()
        return x, log_det

    @torch.no_grad()
    def inverse_map(
        self, z: Float[Tensor, "B M"], seen: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B M"]:
        """x with f(x) = z, float64."""
        z, seen = self.cast(z, seen)
        for linear, coupling in reversed(self.layers):
            z = linear.inverse(coupling.inverse(z, seen))
        return z.double()


class _Linear(nn.Module):
    """h = L U x, with a unit lower and an upper triangular factor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_diagonal = nn.Parameter(torch.zeros(size))
        if size > 1:
            self.off = nn.Parameter(torch.zeros(size, size))  # below the diagonal L, above it U

    def factors(self) -> tuple[Float[Tensor, "M M"], Float[Tensor, "M M"]]:
        diagonal = self.log_diagonal.exp().diag()
        if len(diagonal) == 1:
            return torch.ones_like(diagonal), diagonal
        return torch.tril(self.off, -1) + torch.eye(
            len(diagonal), dtype=diagonal.dtype
        ), torch.triu(self.off, 1) + diagonal

    def forward(self, x: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        lower, upper = self.factors()
        return x @ (lower @ upper).T

    def inverse(self, h: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        lower, upper = self.factors()
        inner = torch.linalg.solve_triangular(lower, h.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, inner, upper=True).T


class _Coupling(nn.Module):
    """The first part bends by splines of its own, the same for every row; with the context it sets
    those of the second part."""

    order: Tensor
    place: Tensor

    def __init__(
        self,
        order: Tensor,
        size: int,
        context: int,
        width: int,
        blocks: int,
        bins: int,
        drop: float,
    ) -> None:
        """The first ``size`` of the numbers in this ``order`` set the others."""
        super().__init__()
        self.size = size
        self.params = parameters(bins)
        self.register_buffer("order", order)
        self.register_buffer("place", order.argsort())
        if size:
            self.own = nn.Parameter(torch.zeros(self.params, size, 1))
        self.net = _Conditioner(
            size + context, self.params * (len(order) - size), width, blocks, drop
        )

    def forward(
        self, x: Float[Tensor, "B M"], seen: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, " B"]]:
        h = x.T[self.order]
        params = torch.cat([self._own(len(x)), self._bends(h[: self.size], seen)], 1)
        y, slopes = spline(h, params)
        return y[self.place].T, slopes.sum(0)

    def inverse(self, y: Float[Tensor, "B M"], seen: Float[Tensor, "B C"]) -> Float[Tensor, "B M"]:
        first, second = y.T[self.order].tensor_split([self.size])
        first = inverse_spline(first, self._own(len(y)))[0]
        second = inverse_spline(second, self._bends(first, seen))[0]
        return torch.cat([first, second])[self.place].T

    def _own(self, rows: int) -> Float[Tensor, "P m B"]:
        """Parameters of the first part's splines: the same for every row."""
        return (
            self.own.expand(-1, -1, rows)
            if self.size
            else self.net.bias.new_zeros(self.params, 0, rows)
        )

    def _bends(
        self, first: Float[Tensor, "m B"], seen: Float[Tensor, "B C"]
    ) -> Float[Tensor, "P m2 B"]:
        """Parameters of the second part's splines. The network sees no number beyond 2 BOUND, so
        that it can't overflow."""
        out: Tensor = self.net(torch.cat([first.clamp(-2 * BOUND, 2 * BOUND).T, seen], 1))
        return out.unflatten(0, (self.params, -1))


class _Conditioner(nn.Module):
    """A residual network (B, I) -> (O, B): rows last, as splines want it. The last layer starts at
    zero."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.first = nn.Linear(max(inputs, 1), width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(blocks)
        )
        self.weight = nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs, 1))

    @property
    def pairs(self) -> list[tuple[nn.Linear, nn.Linear]]:
        return [(block[0], block[1]) for block in self.blocks]  # type: ignore[index,misc]

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "O B"]:
        h = self.first(x if x.shape[1] else x.new_ones(len(x), 1))
        for before, after in self.pairs:
            h = h + after(dropout(relu(before(relu(h))), self.drop, self.training))
        return torch.addmm(self.bias, self.weight, relu(h).T)
