r"""Absorbing-state diffusion: columns vanish one after another, and a network brings them back, in
any order.

    q(known at time t)   each cell is absorbed with probability t
    p(x | sigma)       = prod_b prod_(d in block b of sigma) p(x_d | x of the blocks before)
    p(x)               = 1/K sum_k p(x | sigma_k)
    trained on         - E_(sigma, t) D / (D - t + 1)
                       sum_(d absorbed) log p(x_d | the t - 1 cells that are left)

J. Austin et al. (2021), Structured denoising diffusion models in discrete state-spaces, section 3.1
and appendix A.3: with an absorbing state the continuous-time bound is the last line; E. Hoogeboom
et al. (2022), Autoregressive diffusion models, equations 4 and 5: the bound is that of a random
order sigma. Here rows are drawn, and their probability is summed, over K fixed orders, in at most
``calls`` network calls in all (cells of one block are drawn at once: the same paper, section 3.2).
So log p is exact, not a bound. In nats.

Shape letters: B rows, D variables, F inputs, K orders, W parameters of a variable.

>>> from conjoin.core import Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> AbsorbingDensity.build(space, AbsorbingDiffusion(), data, stream(0)).log_prob(data).shape
torch.Size([4])
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Event, Likelihood, Space, stream
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.deep import DeepConfig, DeepDensity
from conjoin.families.diffusion.multinomial import Multinomial
from conjoin.families.diffusion.network import CellNetwork, drop_class, guided
from conjoin.nets.body import ContextEmbedding
from conjoin.nets.heads import Heads
from conjoin.nets.inputs import Inputs

__all__ = [
    "AbsorbingDensity",
    "AbsorbingDiffusion",
    "ProcessDensity",
    "Unveiling",
    "core_of_codes",
    "orders",
]

MAX_ORDERS = 2


@dataclass(frozen=True)
class AbsorbingDiffusion(DeepConfig):
    """Settings of the diffusion of codes.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 64
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 16
        Ways in which a row with missing cells is completed, to average over.
    process : {"absorbing", "multinomial"}, default "absorbing"
        How codes are lost: they vanish, or random ones replace them (log p is then a bound, and
        numbers are refused).
    width : int or None, default None
        Hidden units, or channels, of the network; None takes them from the layout.
    blocks : int or None, default None
        Residual blocks; None takes them from the layout.
    dropout : float, default 0.1
        Share of hidden units left out in a training step.
    components : int, default 8
        Components of the mixture that a number is drawn from.
    calls : int, default 64
        Calls of the network at most for log p of a row.
    guidance : float, default 0.0
        How much draws of a class exaggerate it; they are draws of p(x | class) only at 0.
    """

    batch: int = 64
    draws: int = 16
    rate: float = 3e-3
    process: Literal["absorbing", "multinomial"] = "absorbing"
    width: int | None = None
    blocks: int | None = None
    dropout: float = 0.1
    components: int = 8
    calls: int = 64
    guidance: float = 0.0

    passes: ClassVar[tuple[int, int, int]] = (70, 150, 4000)


def orders(size: int, calls: int) -> Int[Tensor, "K D"]:
    """The block in which each column is unveiled, under each order: every second order is the
    reverse of the one before."""
    count = max(1, min(MAX_ORDERS, calls // size))
    blocks = min(size, calls)
    ranks: list[Tensor] = []
    for index in range(count):
        place = torch.randperm(size, generator=stream(0, "order", index))
        ranks.append(blocks - 1 - ranks[-1] if index % 2 else place * blocks // size)
    return torch.stack(ranks)


class Unveiling(nn.Module):
    """p(x | class) over all columns of a space, known cell by known cell."""

    ranks: Tensor

    def __init__(
        self, space: Space, config: Any, context: ContextEmbedding, embedded: bool
    ) -> None:
        super().__init__()
        self.size = len(space.variables)
        self.guidance = config.guidance
        self.context = context
        self.heads = Heads(space.variables, config.components)
        self.inputs = Inputs(space.variables, embedded)
        extra = 1 + context.width
        self.net = CellNetwork(
            space,
            self.inputs.size,
            extra,
            self.heads.width,
            config.width,
            config.blocks,
            config.dropout,
        )
        self.register_buffer("ranks", orders(self.size, config.calls), persistent=False)

    @property
    def calls(self) -> int:
        """Of the network, for one row."""
        return len(self.ranks) * (int(self.ranks.max()) + 1)

    def start(self, data: Event, weight: Tensor) -> None:
        self.heads.start(data.value, data.mask, weight)
        self.inputs.start(data.value, data.mask)

    # ------------------------------------------------------------------ the network

    def encode(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B F"]:
        """The inputs of complete rows."""
        out: Tensor = self.inputs(value, torch.ones_like(value, dtype=torch.bool))
        return out

    def params(
        self, inputs: Float[Tensor, "B F"], known: Bool[Tensor, "#B D"], code: Tensor | None
    ) -> Float[Tensor, "B D W"]:
        """Of every cell, given the cells that are known."""
        known = known.expand(len(inputs), -1).double()
        extra = torch.cat([1 - known.mean(1, keepdim=True), self.context(len(inputs), code)], 1)
        out: Tensor = self.net(inputs * known[:, self.inputs.owner], extra)
        return out

    def features(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        extra = torch.cat([value.new_zeros(len(value), 1), self.context(len(value), None)], 1)
        return self.net.features(self.encode(value), extra)

    # ------------------------------------------------------------------ log p

    def log_prob(
        self,
        value: Float[Tensor, "B D"],
        code: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " B"]:
        """Exact: no noise is needed."""
        inputs = self.encode(value)
        known = torch.ones_like(value, dtype=torch.bool)
        each = [
            self.heads.log_prob(self._in_turn(inputs, rank, code), value, known).sum(1)
            for rank in self.ranks
        ]
        return torch.stack(each).logsumexp(0) - torch.tensor(float(len(each))).double().log()

    def _in_turn(
        self, inputs: Float[Tensor, "B F"], rank: Int[Tensor, " D"], code: Tensor | None
    ) -> Float[Tensor, "B D W"]:
        """The parameters of each cell as they are when its turn comes."""
        out = inputs.new_zeros(len(inputs), self.size, self.heads.width)
        for block in range(int(rank.max()) + 1):
            now = (rank == block).nonzero()[:, 0]
            out = out.index_copy(1, now, self.params(inputs, (rank < block)[None], code)[:, now])
        return out

    def bound(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """One draw of the order-agnostic bound: a number of cells, stratified over the rows, is
        left in each row."""
        rows = len(value)
        uniform = torch.rand(rows, self.size, generator=generator, dtype=torch.float64)
        step = torch.randperm(rows, generator=generator) + torch.rand(
            (), generator=generator, dtype=torch.float64
        )
        left = (step * self.size / rows).long().clamp_max(self.size - 1)
        known = uniform.argsort(1).argsort(1) < left[:, None]
        code = drop_class(code, self.context, generator)
        cells = self.heads.log_prob(self.params(self.encode(value), known, code), value, ~known)
        return cells.sum(1) * self.size / (self.size - left)

    # ------------------------------------------------------------------ draws

    def draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """Each row by one of the K orders."""
        value = torch.zeros(n, self.size, dtype=torch.float64)
        order = torch.randint(len(self.ranks), (n,), generator=generator)
        for index, rank in enumerate(self.ranks):
            rows = (order == index).nonzero()[:, 0]
            value[rows] = self._fill(
                value[rows], rank[None] < 0, rank, None if code is None else code[rows], generator
            )
        return value

    def repaint(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """The rows with their missing cells unveiled one by one, given all that is known."""
        rank = torch.randperm(self.size, generator=generator)
        return self._fill(event.value, event.mask, rank, code, generator)

    def _fill(
        self,
        value: Float[Tensor, "B D"],
        known: Bool[Tensor, "#B D"],
        rank: Int[Tensor, " D"],
        code: Tensor | None,
        generator: Any,
    ) -> Float[Tensor, "B D"]:
        value, known = value.clone(), known.expand_as(value).clone()
        for block in range(int(rank.max()) + 1):
            now = (rank == block) & ~known.all(0)
            params = self._guided(self.encode(value), known, code) if now.any() else value
            for d in now.nonzero()[:, 0].tolist():
                drawn = self.heads.sample_column(d, params[:, d], generator)
                value[:, d] = torch.where(known[:, d], value[:, d], drawn)
            known = known | now
        return value

    def _guided(self, inputs: Tensor, known: Tensor, code: Tensor | None) -> Float[Tensor, "B D W"]:
        free = None if code is None or not self.guidance else self.params(inputs, known, None)
        return guided(self.params(inputs, known, code), free, self.guidance)


def core_of_codes(
    space: Space, config: AbsorbingDiffusion, context: ContextEmbedding, embedded: bool
) -> Unveiling | Multinomial:
    """The process that the config names."""
    return (
        Unveiling(space, config, context, embedded)
        if config.process == "absorbing"
        else Multinomial(space, config, context, embedded)
    )


class ProcessDensity(DeepDensity):
    """p(x | class) by ``core``, the network and process of a diffusion. Unveiling is exact,
    everything else a bound with noise in it."""

    bounded = True
    core: Any

    @property
    def capabilities(self) -> Capabilities:
        exact = isinstance(self.core, Unveiling)
        return self._able(
            likelihood=Likelihood.EXACT if exact else Likelihood.LOWER_BOUND,
            stochastic=not exact,
            null_context="learned",  # classes are withheld at times in the fit
            features=True,
            objective="surrogate",
        )

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        self.core.start(data, weight)

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out: Tensor = self.core.log_prob(value, code, generator)
        return out

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out: Tensor = -self.core.bound(value, code, generator or stream(0, "bound"))
        return out

    def _features(self, event: Event) -> Float[Tensor, "B H"]:
        out: Tensor = self.core.features(event.value)
        return out


class AbsorbingDensity(ProcessDensity):
    """log p of complete rows is exact: a mixture over K orders. (Of multinomial diffusion it is a
    bound.)"""

    config_class = AbsorbingDiffusion

    def __init__(
        self,
        space: Space,
        config: AbsorbingDiffusion,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.core = core_of_codes(space, config, self.embedding(16), self.embedded)

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        out: Tensor = self.core.draw(n, code, generator)
        return out

    @final
    def repaint(
        self,
        event: Event,
        context: Event | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Event:
        """The event with its missing cells drawn one by one, each given all that is known by then;
        regions are not heeded. Raises ValueError for an impossible event."""
        event = self.space.check(event)
        context = self._check_context(context)
        with torch.no_grad():
            return Event(
                self.core.repaint(event, None if context is None else context.value, generator)
            )
