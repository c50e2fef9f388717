r"""Latent vectors of one level, and of two that are seen from the top down.

    flat      q(z | x) = N(z; m(x), diag s(x)^2)
    ladder    p(z1 | z2) = N(m_p, s_p^2),
              q(z1 | x, z2) = N( (m / s^2 + m_p / s_p^2) s_q^2, s_q^2 ),
              1 / s_q^2 = 1 / s^2 + 1 / s_p^2

In the ladder the row's own evidence N(m(x), s(x)^2) is weighed against what the upper level expects
(C. Soenderby et al. (2016), Ladder variational autoencoders, equations 17 to 19). Both levels are
read off one residual network. The bounds of ``vae`` are made of draws z and of the ratio log p(z) -
log q(z | x), in nats.

Shape letters: B rows, S draws, Z latent numbers, P parameters that the encoder gives of a row.

>>> from conjoin.families.latent.priors import StandardPrior
>>> level = Flat(StandardPrior(2))
>>> params = torch.zeros(1, 4).double()  # q is p
>>> level.log_ratio(params, level.place(params, torch.ones(1, 3, 2).double()), None).tolist()
[[0.0, 0.0, 0.0]]
"""

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.families.latent.priors import Encode, Gaussian, Prior, gaussian, log_normal
from conjoin.nets.mlp import Mlp

__all__ = ["Flat", "Ladder", "Level"]

Encoder = Callable[[Tensor], Tensor]  # inputs (K, I) -> parameters (K, P)


class Level(nn.Module, abc.ABC):
    """``size`` latent numbers, for which the encoder has to give ``2 * size`` parameters; ``top``
    of them have the prior."""

    def __init__(self, prior: Prior, size: int) -> None:
        super().__init__()
        self.prior = prior
        self.size = size
        self.top = prior.size

    @abc.abstractmethod
    def place(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "B S Z"]
    ) -> Float[Tensor, "B S Z"]:
        """Draws of q(z | x), made of standard normal noise."""

    @abc.abstractmethod
    def log_ratio(
        self, params: Float[Tensor, "B P"], z: Float[Tensor, "B S Z"], encoder: Encoder | None
    ) -> Float[Tensor, "B S"]:
        """log p(z) - log q(z | x)."""

    @abc.abstractmethod
    def draw(
        self, n: int, encoder: Encoder | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
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

    def place(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "B S Z"]
    ) -> Float[Tensor, "B S Z"]:
        mean, scale = gaussian(params[:, None])
        return mean + scale * noise

    def log_ratio(
        self, params: Float[Tensor, "B P"], z: Float[Tensor, "B S Z"], encoder: Encoder | None
    ) -> Float[Tensor, "B S"]:
        return self.prior.log_prob(z, self._encode(encoder)) - log_normal(
            z, *gaussian(params[:, None])
        )

    def draw(
        self, n: int, encoder: Encoder | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
        return self.prior.draw(n, self._encode(encoder), generator)

    def mean(self, params: Float[Tensor, "B P"]) -> Float[Tensor, "B Z"]:
        return gaussian(params)[0]


class Ladder(Level):
    """A level of ``low`` numbers below the one that has the prior."""

    def __init__(self, prior: Prior, low: int, width: int) -> None:
        super().__init__(prior, prior.size + low)
        self.down = Mlp(prior.size, 2 * low, width, blocks=1)

    def _parts(self, params: Float[Tensor, "*B P"]) -> tuple[Gaussian, Gaussian]:
        """What the row says of the upper and of the lower level."""
        above, below = params.split([2 * self.top, 2 * (self.size - self.top)], -1)
        return gaussian(above), gaussian(below)

    def place(
        self, params: Float[Tensor, "B P"], noise: Float[Tensor, "B S Z"]
    ) -> Float[Tensor, "B S Z"]:
        (mean, scale), below = self._parts(params[:, None])
        high = mean + scale * noise[..., : self.top]
        mean, scale = _weighed(below, gaussian(self.down(high)))
        return torch.cat([high, mean + scale * noise[..., self.top :]], -1)

    def log_ratio(
        self, params: Float[Tensor, "B P"], z: Float[Tensor, "B S Z"], encoder: Encoder | None
    ) -> Float[Tensor, "B S"]:
        above, below = self._parts(params[:, None])
        high, low = z.split([self.top, self.size - self.top], -1)
        expected = gaussian(self.down(high))
        log_prior = self.prior.log_prob(high, self._encode(encoder)) + log_normal(low, *expected)
        return log_prior - log_normal(high, *above) - log_normal(low, *_weighed(below, expected))

    def draw(
        self, n: int, encoder: Encoder | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n Z"]:
        high = self.prior.draw(n, self._encode(encoder), generator)
        mean, scale = gaussian(self.down(high))
        low = mean + scale * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return torch.cat([high, low], 1)

    def mean(self, params: Float[Tensor, "B P"]) -> Float[Tensor, "B Z"]:
        (high, _), below = self._parts(params)
        return torch.cat([high, _weighed(below, gaussian(self.down(high)))[0]], 1)


def _weighed(first: Gaussian, second: Gaussian) -> Gaussian:
    """The product of two Gaussians: means weighed by precision."""
    precisions = first[1] ** -2, second[1] ** -2
    total = precisions[0] + precisions[1]
    return (first[0] * precisions[0] + second[0] * precisions[1]) / total, total**-0.5
