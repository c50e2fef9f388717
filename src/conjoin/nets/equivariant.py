r"""Networks of clouds of points: what holds whichever way a cloud is turned, mirrored or moved.

    graph       h, z, m    = trunk(atoms, pairs)          once for a cloud, whatever the noise
    geometry    a, w       = pair(z_ij, |x_i - x_j|, m_ij, h_i + h_j, s)
                h_i       <- h_i + attention(h; bias a) + mlp(h_i)
                x_i       <- x_i + s sum_j w_ij (x_j - x_i)

Features h and pairs z are invariant, places x move along differences of places alone, so they turn
with the cloud (V. Garcia Satorras, E. Hoogeboom and M. Welling (2021), E(n) equivariant graph
neural networks, equations 3 to 6); attention with biases of pairs is that of J. Abramson et al.
(2024), Accurate structure prediction of biomolecular interactions with AlphaFold 3, algorithm 24.
The weights w are symmetric, so that the mean stays where it is. m are the distances that the graph
alone lets expect, with their uncertainty: the trunk learns them, and the pairs are told how far
they are from them. s is the share of noise in x. What a graph costs is paid once, a step of a
sampler is light. Places and expected distances are never rounded to bfloat16.

``PlainNet`` is a body to compare with: a transformer that sees coordinates as they are, and has to
learn from turned clouds what the other knows.

Shape letters: B clouds, N points, D dimensions, F features of a point, G of a pair, W width,
P width of a pair, H heads, L layers, C numbers that are told of a cloud.
"""

import abc
import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.nets.body import Body
from conjoin.nets.decoder import Hidden

__all__ = [
    "BODIES",
    "CloudNet",
    "CloudReader",
    "EquivariantNet",
    "GraphTrunk",
    "PlainNet",
    "Told",
    "squares",
]

NEAREST = 0.05  # added to a squared distance, in units of the cloud: smooth where points meet
RADII = 8  # radial functions of a distance
FARTHEST = 5.0  # units of the cloud, where the last of them has its centre
DETAILS = (0.05, 0.2)  # units of the cloud, by which a distance from what is expected is told
NOISE_FEATURES = 6
MASKED = -1e4  # of the attention to a point that is not there
SPREAD = 4.0  # by which the sum of the forces of all points is divided
MOMENT_FLOOR = 1e-4  # below the square of a moment, so that its root has a slope
COORDINATE_START = 0.1  # of the weights that move points, before they learn


class Told(NamedTuple):
    """What the geometry is told of each cloud: features (B, N, W), pairs (B, N, N, P), expected
    distances (B, N, N, 2) and the log of their deviation, and which points are there (B, N)."""

    h: Tensor
    z: Tensor
    expected: Tensor
    present: Tensor

    def repeat(self, times: int) -> "Told":
        """Each cloud so many times, one copy of all after the other."""
        return Told(*(part.repeat(times, *(1,) * (part.dim() - 1)) for part in self))

    def take(self, rows: Tensor | slice) -> "Told":
        return Told(*(part[rows] for part in self))


def _unrounded(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context in which nothing is rounded to bfloat16."""
    kind = like.device.type
    if not torch.amp.is_autocast_available(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, enabled=False)


def squares(x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N N"]:
    """Squared distances of all pairs."""
    return (x[:, :, None] - x[:, None]).square().sum(3)


class Mixer(nn.Module):
    """Attention with a bias for each pair, then a network of each point."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.between = nn.LayerNorm(width)
        self.qkv = Hidden(width, 3 * width)
        self.out = Hidden(width, width)
        self.mlp = nn.Sequential(Hidden(width, 2 * width), nn.SiLU(), Hidden(2 * width, width))

    def forward(
        self, h: Float[Tensor, "B N W"], bias: Float[Tensor, "B H N N"]
    ) -> Float[Tensor, "B N W"]:
        qkv = self.qkv(self.before(h)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scale = 1 / math.sqrt(query.shape[-1])
        seen = (query @ key.transpose(2, 3) * scale + bias).softmax(3) @ value
        h = h + self.out(seen.transpose(1, 2).flatten(2))
        out: Tensor = h + self.mlp(self.between(h))
        return out


def _hidden(present: Tensor, like: Tensor) -> Tensor:
    """(B, 1, 1, N): what keeps attention from points that are not there."""
    return (~present)[:, None, None].to(like.dtype) * MASKED


class GraphTrunk(nn.Module):
    """From what the graph says to features of points and pairs, and to the distances that it lets
    expect."""

    def __init__(
        self,
        points: int,
        pairs: int,
        told: int,
        width: int,
        pair_width: int,
        heads: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(points + told, width)
        self.pair = nn.Linear(pairs, pair_width)
        self.bias = nn.Linear(pair_width, layers * heads)
        self.mixers = nn.ModuleList(Mixer(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.ends = Hidden(width, 2 * pair_width)
        self.edges = Hidden(pair_width, pair_width)
        self.refine = nn.Sequential(
            Hidden(pair_width, 2 * pair_width),
            nn.SiLU(),
            Hidden(2 * pair_width, pair_width),
        )
        self.distance = nn.Linear(pair_width, 2)

    def forward(
        self,
        points: Float[Tensor, "B N F"],
        pairs: Float[Tensor, "B N N G"],
        told: Float[Tensor, "B C"],
        present: Tensor,
    ) -> Told:
        of_cloud = told[:, None].expand(-1, points.shape[1], -1)
        h = self.enter(torch.cat([points, of_cloud], 2))
        edge = nn.functional.silu(self.pair(pairs))
        biases = self.bias(edge).permute(0, 3, 1, 2).unflatten(1, (-1, self.heads))
        hidden = _hidden(present, h)
        for layer, mixer in enumerate(self.mixers):
            h = mixer(h, biases[:, layer] + hidden)
        h = self.last(h)
        one, other = self.ends(h).chunk(2, 2)
        both = one[:, :, None] + one[:, None] + other[:, :, None] * other[:, None]
        z = nn.functional.silu(self.edges(edge) + both)
        z = z + self.refine(z)
        with _unrounded(z):
            expected = self.distance(z.to(points.dtype))
        return Told(h, z, expected, present)


class Geometry(nn.Module):
    """One layer: pairs see their distance, points see pairs (but in the last layer, whose points
    nothing reads), and places move."""

    def __init__(self, width: int, pair_width: int, heads: int, radial: int, last: bool) -> None:
        super().__init__()
        self.heads = 0 if last else heads
        self.told = Hidden(pair_width, pair_width)
        self.shift = nn.Parameter(torch.zeros(pair_width))
        self.radial = nn.Linear(radial, pair_width, bias=False)
        self.ends = Hidden(width, pair_width)
        self.noise = nn.Linear(NOISE_FEATURES, pair_width, bias=False)
        self.out = nn.Linear(pair_width, self.heads + 2)
        self.mixer = None if last else Mixer(width, heads)
        with torch.no_grad():
            self.out.weight[self.heads :] *= COORDINATE_START

    def seen(self, h: Tensor, pair: Tensor, radial: Tensor) -> Float[Tensor, "B N N P"]:
        """What a pair makes of its ends and their distance."""
        ends = self.ends(h) + self.shift / 2
        return nn.functional.silu(pair + self.radial(radial) + ends[:, :, None] + ends[:, None])

    def forward(
        self,
        h: Float[Tensor, "B N W"],
        pair: Float[Tensor, "B N N P"],
        radial: Float[Tensor, "B N N R"],
        hidden: Float[Tensor, "B 1 1 N"],
    ) -> tuple[Float[Tensor, "B N W"], Float[Tensor, "B N N 2"]]:
        """Features, and two weights of each pair: that of the difference, and that of its
        direction."""
        out = self.out(self.seen(h, pair, radial))
        if self.mixer is not None:
            h = self.mixer(h, out[..., : self.heads].permute(0, 3, 1, 2) + hidden)
        return h, out[..., self.heads :]


def _radial(square: Tensor, expected: Tensor, details: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Distances (B, N, N), and what is told of them (B, N, N, R)."""
    distance = (square + NEAREST).sqrt()
    off = distance - expected
    centres = torch.linspace(0.0, FARTHEST, RADII, dtype=distance.dtype)
    width = FARTHEST / (RADII - 1)
    bumps = torch.exp(-0.5 * ((distance[..., None] - centres) / width).square())
    fine = torch.stack([(off / each).tanh() for each in details], 3)
    return distance, torch.cat([bumps, off.clamp(-3, 3)[..., None], fine], 3)


class CloudNet(Body):
    """From a noisy cloud (B, N, D), the share of noise (B,) and what is told to the clean one."""

    trunk: GraphTrunk

    def __init__(
        self,
        points: int,
        pairs: int,
        told: int,
        width: int,
        pair_width: int,
        heads: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.trunk = GraphTrunk(points, pairs, told, width, pair_width, heads, layers)
        self.noise = nn.Linear(NOISE_FEATURES, width)

    def tell(self, points: Tensor, pairs: Tensor, told: Tensor, present: Tensor) -> Told:
        """What the geometry is told, in the precision of the weights."""
        found: Told = self.trunk(*self.cast(points, pairs, told), present)
        return found

    @abc.abstractmethod
    def pairs_of(self, told: Told) -> list[Tensor]:
        """What each layer makes of the pairs, once for all levels of noise."""


def _noise_features(noise: Float[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """Of a share of noise, on a scale of logarithms."""
    log = noise.log()
    return torch.stack(
        [noise, noise.sqrt(), log / 5, (log + 1).tanh(), (log + 2.5).tanh(), (log + 4).tanh()], 1
    )


class EquivariantNet(CloudNet):
    """Invariant features, and places that turn with the cloud."""

    def __init__(
        self,
        points: int,
        pairs: int,
        told: int,
        width: int = 64,
        pair_width: int = 32,
        heads: int = 8,
        layers: tuple[int, int] = (4, 4),
        recycles: bool = False,
        details: tuple[float, ...] = DETAILS,
    ) -> None:
        super().__init__(points, pairs, told, width, pair_width, heads, layers[0])
        self.recycles = recycles
        self.details = details
        radial = RADII + 1 + len(details) + recycles
        self.layers = nn.ModuleList(
            Geometry(width, pair_width, heads, radial, layer == layers[1] - 1)
            for layer in range(layers[1])
        )
        self.double()

    @property
    def geometry(self) -> list[Geometry]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, Geometry)]

    def pairs_of(self, told: Told) -> list[Tensor]:
        """What each layer makes of the pairs, whatever the noise."""
        return [layer.told(told.z) for layer in self.geometry]

    def compute(
        self, x: Tensor, noise: Tensor, told: Told, pairs: list[Tensor] | None = None
    ) -> Float[Tensor, "B N D"]:
        """The clean cloud, about its mean; places of points that are not there stay zero."""
        pairs = self.pairs_of(told) if pairs is None else pairs
        found = self._moved(x, noise, told, pairs, x if self.recycles else None)
        if self.recycles:
            found = self._moved(x, noise, told, pairs, found)
        return found

    def _moved(
        self, x: Tensor, noise: Tensor, told: Told, pairs: list[Tensor], guess: Tensor | None
    ) -> Tensor:
        there = (told.present[:, :, None] & told.present[:, None]).to(x.dtype)
        level = _noise_features(noise)
        h = told.h + self.noise(level)[:, None]
        expected = told.expected[..., 0]
        hidden = _hidden(told.present, x)
        share = noise[:, None, None]
        for layer, pair in zip(self.geometry, pairs, strict=True):
            distance, radial = _radial(squares(x), expected, self.details)
            if guess is not None:
                radial = torch.cat([radial, (squares(guess) + NEAREST).sqrt()[..., None]], 3)
            h, weight = layer(h, pair + layer.noise(level)[:, None, None], radial, hidden)
            weight = weight.to(x.dtype)
            pull = (weight[..., 0] + weight[..., 1] * expected / distance) * there / SPREAD
            with _unrounded(x):
                x = x + share * (pull @ x - pull.sum(2, keepdim=True) * x)
        return x


class CloudReader(Body):
    """Numbers that belong to a cloud, read with the trunk and geometry of a flow of such clouds.

    Each is a sum over the points, plus a mean over them, plus the length of a vector, the sum of
    the places by weights whose sum is zero (as of the charges of a dipole). No turn or mirror
    changes them."""

    def __init__(self, net: EquivariantNet, outputs: int) -> None:
        super().__init__()
        self.net = net
        width = net.trunk.enter.out_features
        pairs = net.trunk.pair.out_features
        self.enter = nn.Linear(width + pairs, 2 * width)
        self.leave = nn.Linear(2 * width, 3 * outputs)
        with torch.no_grad():
            self.leave.weight *= COORDINATE_START
            self.leave.bias.zero_()
        self.double()

    def compute(
        self, x: Tensor, points: Tensor, pairs: Tensor, told: Tensor, present: Tensor, noise: Tensor
    ) -> Float[Tensor, "B K"]:
        """(B, K) of clouds without noise, of which ``noise`` (B,) is the least that the flow
        knows."""
        seen = self.net.trunk(points, pairs, told, present)
        there = present.to(x.dtype)[..., None]
        h = self._points(x, seen, noise)
        own = self.leave(nn.functional.silu(self.enter(h))) * there
        total, mean, charge = own.unflatten(2, (3, -1)).unbind(2)
        count = there.sum(1).clamp_min(1)
        charge = (charge - charge.sum(1, keepdim=True) / count[:, None]) * there
        moment = ((charge.mT @ x).square().sum(2) + MOMENT_FLOOR).sqrt() - MOMENT_FLOOR**0.5
        return total.sum(1) + mean.sum(1) / count + moment

    def _points(self, x: Tensor, told: Told, noise: Tensor) -> Tensor:
        """Features of the points, and the mean of what their pairs see in the last layer."""
        level = _noise_features(noise)
        h = told.h + self.net.noise(level)[:, None]
        hidden = _hidden(told.present, x)
        radial = _radial(squares(x), told.expected[..., 0], self.net.details)[1]
        there = told.present.to(x.dtype)
        for layer in self.net.geometry:
            pair = layer.told(told.z) + layer.noise(level)[:, None, None]
            seen = layer.seen(h, pair, radial)
            h = layer(h, pair, radial, hidden)[0]
        of_pairs = (seen * there[:, None, :, None]).sum(2) / SPREAD
        return torch.cat([h, of_pairs], 2)


class PlainNet(CloudNet):
    """A transformer of coordinates as they are: it learns from turned clouds that a turn changes
    nothing, and never quite does. A body to compare with (``PointsFlow(body="plain")``), which
    tests hold to the same contract; no figure in docs or benchmarks is of it."""

    def __init__(
        self,
        points: int,
        pairs: int,
        told: int,
        width: int = 64,
        pair_width: int = 32,
        heads: int = 8,
        layers: tuple[int, int] = (4, 4),
        dimensions: int = 3,
    ) -> None:
        super().__init__(points, pairs, told, width, pair_width, heads, layers[0])
        self.heads = heads
        self.enter = nn.Linear(dimensions, width)
        self.bias = nn.Linear(pair_width, heads * layers[1])
        self.mixers = nn.ModuleList(Mixer(width, heads) for _ in range(layers[1]))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dimensions))
        self.double()

    def pairs_of(self, told: Told) -> list[Tensor]:
        """The bias of each layer."""
        biases = self.bias(told.z).permute(0, 3, 1, 2).unflatten(1, (-1, self.heads))
        return [bias + _hidden(told.present, bias) for bias in biases.unbind(1)]

    def compute(
        self, x: Tensor, noise: Tensor, told: Told, pairs: list[Tensor] | None = None
    ) -> Float[Tensor, "B N D"]:
        """The clean cloud, about its mean."""
        there = told.present[..., None].to(x.dtype)
        biases = self.pairs_of(told) if pairs is None else pairs
        h = told.h + self.enter(x) + self.noise(_noise_features(noise))[:, None]
        for mixer, bias in zip(self.mixers, biases, strict=True):
            h = mixer(h, bias)
        with _unrounded(x):
            moved = self.leave(h.to(x.dtype)) * there
        mean = moved.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
        return x + noise[:, None, None] * (moved - mean) * there


BODIES: dict[str, Callable[..., CloudNet]] = {"equivariant": EquivariantNet, "plain": PlainNet}
