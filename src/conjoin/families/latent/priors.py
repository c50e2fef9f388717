r"""What a latent vector is before its row is seen.

    p(z) = sum_k w_k N(z; m_k, diag s_k^2)
        standard: one component, fixed; mixture: K that are learned
    p(z) = sum_k w_k q(z | u_k)
        VampPrior: the encoder's own view of K learned pseudo-inputs u_k
    p(z) = N(f(z); 0, I) |det df/dz|
        flow: a learned change of variables f

The VampPrior is that of J. Tomczak and M. Welling (2018), VAE with a VampPrior, equation 9, with
learned weights; the flow is a stack of affine couplings (L. Dinh, J. Sohl-Dickstein and S. Bengio
(2017), Density estimation using Real NVP, equations 4 to 8). All logarithms in nats.

Shape letters: B rows, S draws, Z latent numbers, K components or pseudo-inputs, I inputs of the
encoder.

>>> prior = StandardPrior(2)
>>> at_zero = prior.log_prob(torch.zeros(1, 1, 2).double(), None).item()
>>> round(at_zero, 4) == round(-math.log(2 * math.pi), 4)
True
"""

import abc
import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from conjoin.core import categorical
from conjoin.core.shapes import Float
from conjoin.nets.mlp import Mlp

__all__ = [
    "PRIORS",
    "FlowPrior",
    "Gaussian",
    "MixturePrior",
    "Prior",
    "StandardPrior",
    "VampPrior",
    "gaussian",
    "log_normal",
]

LOG_2PI = math.log(2 * math.pi)
MIN_SCALE = 1e-3  # the least scale of a latent number
UNIT = math.log(math.e - 1)  # softplus(UNIT) = 1
Gaussian = tuple[Tensor, Tensor]  # mean and scale (..., Z)
Encode = Callable[[Tensor], Gaussian]  # inputs of the encoder (K, I) -> q(z | u)


def gaussian(params: Float[Tensor, "*B P"]) -> Gaussian:
    """Mean and scale from 2 Z parameters; all zero is the standard normal."""
    mean, raw = params.chunk(2, -1)
    return mean, MIN_SCALE + (1 - MIN_SCALE) * nn.functional.softplus(raw + UNIT)


def log_normal(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """(...) log N(z; mean, diag scale^2) of z (..., Z)."""
    return -0.5 * (((z - mean) / scale).square() + LOG_2PI).sum(-1) - scale.log().expand_as(z).sum(
        -1
    )


class Prior(nn.Module, abc.ABC):
    """p(z) for z of ``size`` numbers. ``encode`` is the encoder, which the VampPrior alone asks."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @abc.abstractmethod
    def log_prob(self, z: Float[Tensor, "B S Z"], encode: Encode | None) -> Float[Tensor, "B S"]:
        """Nats."""

    @abc.abstractmethod
    def draw(
        self, n: int, encode: Encode | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
        """n latent vectors."""

    def _start(self, inputs: Float[Tensor, "B I"], generator: torch.Generator) -> None:
        """Pseudo-inputs and the like, from what the encoder sees of the rows."""


class _Mixture(Prior):
    """sum_k w_k N(z; m_k, diag s_k^2)."""

    @abc.abstractmethod
    def parts(self, encode: Encode | None) -> tuple[Tensor, Tensor, Tensor]:
        """log w (K,), means and scales (K, Z)."""

    @final
    def log_prob(self, z: Float[Tensor, "B S Z"], encode: Encode | None) -> Float[Tensor, "B S"]:
        """The square is multiplied out, so that all pairs of z and component are one product of
        matrices."""
        log_weight, mean, scale = self.parts(encode)
        precision = scale.square().reciprocal()
        square = (
            z.square() @ precision.T
            - 2 * z @ (mean * precision).T
            + (mean.square() * precision).sum(1)
        )
        return (log_weight - 0.5 * (square + self.size * LOG_2PI) - scale.log().sum(1)).logsumexp(
            -1
        )

    @final
    def draw(
        self, n: int, encode: Encode | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
        log_weight, mean, scale = self.parts(encode)
        chosen = categorical(log_weight.expand(n, -1), generator)
        return mean[chosen] + scale[chosen] * torch.randn(
            n, self.size, generator=generator, dtype=torch.float64
        )


class StandardPrior(_Mixture):
    """N(0, I)."""

    def __init__(self, size: int, components: int = 1, inputs: int = 0) -> None:
        super().__init__(size)

    def parts(self, encode: Encode | None) -> tuple[Tensor, Tensor, Tensor]:
        zero = torch.zeros(1, self.size, dtype=torch.float64)
        return zero[:, 0], zero, zero + 1


class MixturePrior(_Mixture):
    """Learned Gaussians, which start as draws about the origin."""

    def __init__(self, size: int, components: int = 64, inputs: int = 0) -> None:
        super().__init__(size)
        self.logits = nn.Parameter(torch.zeros(components, dtype=torch.float64))
        self.params = nn.Parameter(
            torch.cat([torch.randn(components, size), torch.zeros(components, size)], 1).double()
        )

    def parts(self, encode: Encode | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.logits.log_softmax(0), *gaussian(self.params)


class VampPrior(_Mixture):
    """The encoder's view of pseudo-inputs. Each starts as the mean of two rows with noise on it, so
    that no row is stored."""

    def __init__(self, size: int, components: int = 64, inputs: int = 0) -> None:
        super().__init__(size)
        self.logits = nn.Parameter(torch.zeros(components, dtype=torch.float64))
        self.pseudo = nn.Parameter(torch.randn(components, inputs).double())

    @torch.no_grad()
    def _start(self, inputs: Float[Tensor, "B I"], generator: torch.Generator) -> None:
        first, second = torch.randint(0, len(inputs), (2, len(self.pseudo)), generator=generator)
        noise = torch.randn(self.pseudo.shape, generator=generator, dtype=torch.float64)
        self.pseudo.copy_((inputs[first] + inputs[second]) / 2 + 0.1 * noise)

    def parts(self, encode: Encode | None) -> tuple[Tensor, Tensor, Tensor]:
        assert encode is not None
        return self.logits.log_softmax(0), *encode(self.pseudo)


class FlowPrior(Prior):
    """Affine couplings: where the mask is 0, z <- (z - t) exp(-s), with s and t of the numbers
    where it is 1."""

    masks: Tensor

    def __init__(self, size: int, components: int = 64, inputs: int = 0) -> None:
        super().__init__(size)
        every = torch.arange(size)
        self.register_buffer(
            "masks",
            torch.stack([(every + layer) % 2 for layer in range(4)]).double(),
            persistent=False,
        )
        self.nets = nn.ModuleList(Mlp(size, 2 * size, components, blocks=1) for _ in range(4))

    def _shift(self, layer: int, z: Tensor) -> Gaussian:
        """t and s of a coupling; s lies within -2 and 2."""
        shift, scale = self.nets[layer](z * self.masks[layer]).chunk(2, -1)
        free = 1 - self.masks[layer]
        return free * shift, free * 2 * torch.tanh(scale / 2)

    def log_prob(self, z: Float[Tensor, "B S Z"], encode: Encode | None) -> Float[Tensor, "B S"]:
        volume = torch.zeros(z.shape[:-1], dtype=torch.float64)
        for layer in range(len(self.nets)):
            shift, scale = self._shift(layer, z)
            z = (z - shift) * torch.exp(-scale)
            volume = volume - scale.sum(-1)
        return volume - 0.5 * (z.square() + LOG_2PI).sum(-1)

    def draw(
        self, n: int, encode: Encode | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
        z = torch.randn(n, self.size, generator=generator, dtype=torch.float64)
        for layer in reversed(range(len(self.nets))):
            shift, scale = self._shift(layer, z)
            z = z * torch.exp(scale) + shift
        return z


PRIORS: dict[str, Any] = {
    "standard": StandardPrior,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "flow": FlowPrior,
}
