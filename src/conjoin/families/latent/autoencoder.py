r"""What autoencoders share: an encoder that sees a row, a decoder that gives every cell a
distribution, and the way they learn.

    log p(x | z) = sum_d log p(x_d | decoder(z)_d)

Given z the cells are independent, each of its own kind (``Heads``). While the fit is young the
terms of p(z) count less (C. Soenderby et al. (2016), Ladder variational autoencoders, section 2.3),
and some cells are hidden from the encoder (D. Im et al. (2017), Denoising criterion for variational
auto-encoding framework, section 3): latent numbers come into use, and few rows are not learned by
heart. All values in nats.

Shape letters: B rows, S latent vectors of a row, Z numbers of a vector, D variables, W parameters
of a variable, I inputs.

>>> AutoencoderConfig(width=32).wide(rows=100, columns=4)
32
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from conjoin.core import Event, Likelihood, Space
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.families.deep import DeepConfig, DeepDensity
from conjoin.nets.heads import Heads
from conjoin.nets.inputs import Inputs
from conjoin.nets.mlp import Mlp

__all__ = ["Autoencoder", "AutoencoderConfig"]

MAX_CELLS = 1 << 22  # numbers of the decoder's output that are held at once
MAX_NARROW_COLUMNS = 32  # columns up to which the networks are small


@dataclass(frozen=True)
class AutoencoderConfig(DeepConfig):
    """Settings that all autoencoders have.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 128
        Rows of a step.
    rate : float, default 0.004
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.3
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    width : int or None, default None
        Hidden units of a layer; None takes them from the number of rows.
    blocks : int, default 1
        Residual blocks of the network.
    dropout : float, default 0.3
        Share of hidden units left out in a training step.
    hidden : float or None, default None
        Share of cells that the encoder does not see in the fit; None: a fifth of many columns,
        a tenth of few.
    warm_up : float, default 0.3
        Share of the fit over which the prior gains its weight.
    rank : int, default 5
        Where all columns are ordered codes on one scale, as pixels are: curves over the scale
        that make up the log-probabilities of every cell.
    """

    rate: float = 4e-3
    decay: float = 0.3
    width: int | None = None
    blocks: int = 1
    dropout: float = 0.3
    hidden: float | None = None
    warm_up: float = 0.3
    rank: int = 5

    passes: ClassVar[tuple[int, int, int]] = (190, 300, 4000)

    def wide(self, rows: int, columns: int) -> int:
        """The width of the networks."""
        return (
            (128 if rows >= 2000 or columns > MAX_NARROW_COLUMNS else 64)
            if self.width is None
            else self.width
        )

    def unseen(self, columns: int) -> float:
        """The share of cells hidden from the encoder."""
        return (
            (0.2 if columns > MAX_NARROW_COLUMNS else 0.1) if self.hidden is None else self.hidden
        )


class Autoencoder(DeepDensity):
    """A lower bound of log p(x | class); encoder and decoder see the class."""

    bounded = True
    likelihood: ClassVar[Likelihood] = Likelihood.LOWER_BOUND
    done: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.heads = Heads(space.variables)
        self.inputs = Inputs(space.variables, self.embedded)
        self.context = self.embedding(16)
        self.width = self.structure["width"]
        self.unseen = config.unseen(len(space.variables))
        self.register_buffer("done", torch.zeros((), dtype=torch.float64))  # steps of the fit

    def _networks(self, code: int, zero: bool = True) -> None:
        """The encoder, to ``code`` parameters of q(z | x) that start at ``zero``, and the decoder,
        from ``_latent`` numbers."""
        config = self.config
        first = self.space.variables[0]
        alike = first.kind == "ordered" and all(
            v.kind == "ordered" and v.cardinality == first.cardinality for v in self.space.variables
        )
        curves = (
            min(config.rank, self.heads.width) if alike and len(self.space.variables) > 1 else 0
        )
        start = 0.3 * torch.randn(curves, self.heads.width, dtype=torch.float64)
        self.curves = nn.Parameter(start) if curves else None
        cells = len(self.space.variables) * (curves or self.heads.width)
        self.encoder = Mlp(
            self.inputs.size + self.context.width,
            code,
            self.width,
            config.blocks,
            config.dropout,
            zero,
        )
        self.decoder = Mlp(
            self._latent() + self.context.width, cells, self.width, config.blocks, config.dropout
        )

    @abc.abstractmethod
    def _latent(self) -> int:
        """How many numbers the decoder sees."""

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        steps = config.recipe(data.rows).steps or 0
        return {
            "warm_up": config.warm_up * steps,
            "width": config.wide(data.rows, len(space.variables)),
        }

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        self.heads.start(data.value, data.mask, weight)
        self.inputs.start(data.value, data.mask)

    # ------------------------------------------------------------------ encoder and decoder

    def _seen(self, event: Event, code: Tensor | None) -> Float[Tensor, "B I"]:
        """What the encoder sees of a row and its class."""
        return torch.cat([self.inputs(event.value, event.mask), self.context(event.rows, code)], 1)

    def _corrupted(self, value: Float[Tensor, "B D"], generator: torch.Generator | None) -> Event:
        """The rows; in the fit, with some cells hidden."""
        if not self.training:
            return Event(value)
        return Event(
            value, torch.rand(value.shape, generator=generator, dtype=torch.float64) >= self.unseen
        )

    def _decode(self, z: Float[Tensor, "N Z"], code: Tensor | None) -> Float[Tensor, "N D W"]:
        out: Tensor = self.decoder(torch.cat([z, self.context(len(z), code)], 1))
        params = out.unflatten(1, (len(self.space.variables), -1))
        return params if self.curves is None else params @ self.curves

    def _log_given(
        self, value: Float[Tensor, "B D"], code: Tensor | None, z: Float[Tensor, "B S Z"]
    ) -> Float[Tensor, "B S"]:
        """log p(x | z) of every row under each of its latent vectors."""
        draws = z.shape[1]
        params = self._decode(
            z.flatten(0, 1), None if code is None else code.repeat_interleave(draws)
        )
        many = value.repeat_interleave(draws, 0)
        return (
            self.heads.log_prob(params, many, torch.ones_like(many, dtype=torch.bool))
            .sum(1)
            .reshape(len(value), draws)
        )

    def _parts(self, rows: int, draws: int) -> list[slice]:
        """Rows so few that what the decoder says of them fits into memory."""
        cells = draws * len(self.space.variables) * self.heads.width
        return slices(rows, max(1, MAX_CELLS // cells))

    def _prior_weight(self) -> float:
        """From 0 to 1 over the first steps of a fit; 1 outside of it."""
        if not self.training:
            return 1.0
        self.done += 1
        return min(1.0, float(self.done) / max(self.structure["warm_up"], 1.0))
