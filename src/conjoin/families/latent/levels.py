r"""Latent vectors of one level, and of two that are seen from the top down.

    flat      q(z | x) = N(z; m(x), diag s(x)^2)
    ladder    p(z1 | z2) = N(m_p, s_p^2),   q(z1 | x, z2) = N( (m / s^2 + m_p / s_p^2) s_q^2, s_q^2 ),   1 / s_q^2 = 1 / s^2 + 1 / s_p^2

In the ladder the row's own evidence N(m(x), s(x)^2) is weighed against what the upper level expects (C. Soenderby et al.
(2016), Ladder variational autoencoders, equations 17 to 19). Both levels are read off one residual network. What a level gives
is z and the log ratio log p(z) - log q(z | x), nats, that the bounds of ``vae`` are made of.

Shape letters: B rows, S draws (1: noise that all rows share), Z latent numbers, P parameters that the encoder gives of a row.

>>> from conjoin.families.latent.priors import StandardPrior
>>> level = Flat(StandardPrior(2))
>>> z, log_ratio = level.infer(torch.zeros(1, 4).double(), torch.ones(1, 3, 2).double(), None)
>>> z.shape, log_ratio.tolist()  # q is p
(torch.Size([1, 3, 2]), [[0.0, 0.0, 0.0]])
"""

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from conjoin._shapes import Float
from conjoin.families.latent.priors import Encode, Gaussian, Prior, gaussian, log_normal
from conjoin.nets.mlp import Mlp

__all__ = ["Flat", "Ladder", "Level"]

Encoder = Callable[[Tensor], Tensor]  # inputs (K, I) -> parameters (K, P)


class Level(nn.Module, abc.ABC):
    """``size`` latent numbers, for which the encoder has to give ``2 * size`` parameters; ``top`` of them have the prior."""

    def __init__(self, prior: Prior, size: int) -> None:
        super().__init__()
        self.prior, self.size, self.top = prior, size, prior.size

    @abc.abstractmethod
    def infer(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "b S Z"], encoder: Encoder | None
    ) -> tuple[Float[Tensor, "B S Z"], Float[Tensor, "B S"]]:
        """Draws of q(z | x) made of standard normal noise, and log p(z) - log q(z | x)."""

    @abc.abstractmethod
    def draw(self, n: int, encoder: Encoder | None, generator: torch.Generator | None) -> Float[Tensor, "n Z"]:
        """n latent vectors of the prior."""

    @abc.abstractmethod
    def mean(self, params: Float[Tensor, "B P"]) -> Float[Tensor, "B Z"]:
        """E_q[z], level by level: of a lower one given the mean of the upper one."""

    def _encode(self, encoder: Encoder | None) -> Encode | None:
        """What the prior asks of the encoder: the view of its own level."""
        return None if encoder is None else lambda u: gaussian(encoder(u)[:, : 2 * self.top])


class Flat(Level):
    """One level."""

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior, prior.size)

    def infer(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "b S Z"], encoder: Encoder | None
    ) -> tuple[Float[Tensor, "B S Z"], Float[Tensor, "B S"]]:
        mean, scale = (part[:, None] for part in gaussian(params))
        z = mean + scale * noise
        return z, self.prior.log_prob(z, self._encode(encoder)) - log_normal(z, mean, scale)

    def draw(self, n: int, encoder: Encoder | None, generator: torch.Generator | None) -> Float[Tensor, "n Z"]:
        return self.prior.draw(n, self._encode(encoder), generator)

    def mean(self, params: Float[Tensor, "B P"]) -> Float[Tensor, "B Z"]:
        return gaussian(params)[0]


class Ladder(Level):
    """A level of ``low`` numbers below the one that has the prior."""

    def __init__(self, prior: Prior, low: int, width: int) -> None:
        super().__init__(prior, prior.size + low)
        self.down = Mlp(prior.size, 2 * low, width, blocks=1)

    def infer(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "b S Z"], encoder: Encoder | None
    ) -> tuple[Float[Tensor, "B S Z"], Float[Tensor, "B S"]]:
        above, below = (part[:, None] for part in params.split([2 * self.top, 2 * (self.size - self.top)], 1))
        mean, scale = gaussian(above)
        high = mean + scale * noise[..., : self.top]
        log_ratio = self.prior.log_prob(high, self._encode(encoder)) - log_normal(high, mean, scale)
        expected = gaussian(self.down(high))
        mean, scale = _weighed(gaussian(below), expected)
        low = mean + scale * noise[..., self.top :]
        return torch.cat([high, low], -1), log_ratio + log_normal(low, *expected) - log_normal(low, mean, scale)

    def draw(self, n: int, encoder: Encoder | None, generator: torch.Generator | None) -> Float[Tensor, "n Z"]:
        high = self.prior.draw(n, self._encode(encoder), generator)
        mean, scale = gaussian(self.down(high))
        low = mean + scale * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return torch.cat([high, low], 1)

    def mean(self, params: Float[Tensor, "B P"]) -> Float[Tensor, "B Z"]:
        above, below = params.split([2 * self.top, 2 * (self.size - self.top)], 1)
        high = gaussian(above)[0]
        return torch.cat([high, _weighed(gaussian(below), gaussian(self.down(high)))[0]], 1)


def _weighed(first: Gaussian, second: Gaussian) -> Gaussian:
    """The product of two Gaussians: means weighed by precision."""
    precisions = first[1] ** -2, second[1] ** -2
    total = precisions[0] + precisions[1]
    return (first[0] * precisions[0] + second[0] * precisions[1]) / total, total**-0.5
