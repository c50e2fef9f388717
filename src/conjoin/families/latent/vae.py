r"""Variational autoencoders for rows of mixed columns: a decoder p(x | z), an encoder q(z | x), a
prior p(z).

    log p(x) >= E_q [ log (1/S) sum_s w_s ],     w_s = p(x | z_s) p(z_s) / q(z_s | x),
    z_s ~ q(z | x)

With S = 1 this is the evidence lower bound that the fit maximises (D. Kingma and M. Welling (2014),
Auto-encoding variational Bayes, equation 3); ``log_prob`` takes S = ``particles`` draws, which is
tighter (Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, equation
8). The draws are a Sobol sequence that each row shifts by frac(A x + b), A and b random (R. Cranley
and T. Patterson (1976), Randomization of number theoretic methods for multiple integration): every
point is uniform, so the bound holds on the average; an answer does not depend on the batch of its
row; and the errors of different rows do not add up. A share of the draws comes from p(z), and w_s
divides by the mixture of both, so that w_s <= p(x | z_s) / share wherever q is too narrow (T.
Hesterberg (1995), Weighted average importance sampling, section 2). All values in nats.

Shape letters: B rows, S draws, Z latent numbers, D variables, W parameters of a variable, I inputs
of the encoder.

>>> from conjoin import JointDensity
>>> from sklearn.datasets import load_iris
>>> model = JointDensity(family=VAE(steps=50), random_state=0).fit(load_iris(as_frame=True).data)
>>> bool(model.score(load_iris(as_frame=True).data) > -12)
True
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Capabilities, Event, Space, stream
from conjoin.core.shapes import Float
from conjoin.families.latent.autoencoder import Autoencoder, AutoencoderConfig
from conjoin.families.latent.levels import Flat, Ladder, Level
from conjoin.families.latent.priors import PRIORS

__all__ = ["VAE", "VaeDensity", "sobol_normal"]

WILD_SLOPE = 100.0  # how fast the shift changes with a row: neighbours have nothing in common
PARTICLES_PER_PRIOR_DRAW = 8  # one draw of so many comes from the prior
# variance of E_q[z] over rows above which a latent number is in use (Y. Burda et al. (2016),
# section 5.1)
MIN_ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class VAE(AutoencoderConfig):
    """Settings of the variational autoencoder.

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
    latent : int or None, default None
        Latent numbers of a level; None takes them from the number of columns.
    levels : int, default 1
        Levels of latent numbers, 1 or 2.
    prior : str, default "vamp"
        "standard", "mixture", "vamp" or "flow".
    components : int, default 64
        Components of the prior.
    particles : int or None, default None
        Draws of the importance-weighted bound; None: 32, more for one or two columns.
    """

    latent: int | None = None
    levels: int = 1
    prior: str = "vamp"
    components: int = 64
    particles: int | None = None

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}; got {self.prior!r}.")
        if self.levels not in (1, 2):
            raise ValueError(f"levels must be 1 or 2, got {self.levels!r}.")

    def size(self, columns: int) -> int:
        """Latent numbers of a level."""
        return min(16, 2 + columns // 2) if self.latent is None else self.latent

    def draws_of_bound(self, columns: int) -> int:
        """S."""
        return max(32, 256 // columns**2) if self.particles is None else self.particles


def sobol_normal(
    value: Float[Tensor, "B D"], draws: int, size: int, generator: torch.Generator | None
) -> Float[Tensor, "B S Z"]:
    """S standard normal vectors for each row that cover the space evenly: a Sobol sequence, shifted
    by a hash of the row."""
    slope = WILD_SLOPE * torch.randn(value.shape[1], size, generator=generator, dtype=torch.float64)
    shift = value @ slope + torch.rand(size, generator=generator, dtype=torch.float64)
    points = torch.quasirandom.SobolEngine(size).draw(draws, dtype=torch.float64)
    return torch.special.ndtri(((points + shift[:, None]) % 1).clamp(1e-12, 1 - 1e-12))


class VaeDensity(Autoencoder):
    """p(z) p(x | z) with z summed out by importance weights."""

    config_class = VAE

    def __init__(
        self,
        space: Space,
        config: VAE,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.particles = config.draws_of_bound(len(space.variables))
        self.level = self._level(config.size(len(space.variables)))
        self._networks(2 * self.level.size)

    def _level(self, size: int) -> Level:
        prior = PRIORS[self.config.prior](
            size, self.config.components, self.inputs.size + self.context.width
        )
        return Flat(prior) if self.config.levels == 1 else Ladder(prior, size, self.width)

    def _latent(self) -> int:
        return self.level.size

    @property
    def capabilities(self) -> Capabilities:
        return self._able(features=True, stochastic=True)

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        super()._start(data, weight, generator)
        self.level.prior._start(self._seen(data, None), generator)

    # ------------------------------------------------------------------ bounds

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        generator = generator or stream(0, "particles")
        blind = self.particles // PARTICLES_PER_PRIOR_DRAW  # draws of p(z)
        noise = sobol_normal(value, self.particles - blind, self.level.size, generator)
        prior = self.level.draw(blind, self.encoder, generator)
        parts = self._parts(len(value), self.particles)
        return torch.cat(
            [
                self._bound(value[part], None if code is None else code[part], noise[part], prior)
                for part in parts
            ]
        )

    def _bound(
        self,
        value: Float[Tensor, "B D"],
        code: Tensor | None,
        noise: Float[Tensor, "B s Z"],
        prior: Float[Tensor, "b Z"],
    ) -> Float[Tensor, " B"]:
        """log of the mean weight, of draws from q and from the prior."""
        seen = self.encoder(self._seen(Event(value), code))
        z = torch.cat([self.level.place(seen, noise), prior.expand(len(value), -1, -1)], 1)
        draws = z.shape[1]
        blind = len(prior)
        share = torch.tensor([draws - blind, blind], dtype=torch.float64).log() - math.log(draws)
        # over p(z)
        log_proposal = torch.logaddexp(
            share[0] - self.level.log_ratio(seen, z, self.encoder), share[1]
        )
        log_weight = self._log_given(value, code, z) - log_proposal
        return log_weight.logsumexp(1) - math.log(draws)

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Minus the bound with one draw of q; in the fit the prior gains its weight over the first
        steps."""
        noise = torch.randn(
            len(value), 1, self.level.size, generator=generator, dtype=torch.float64
        )
        seen = self.encoder(self._seen(self._corrupted(value, generator), code))
        z = self.level.place(seen, noise)
        bound = self._log_given(value, code, z) + self._prior_weight() * self.level.log_ratio(
            seen, z, self.encoder
        )
        return -bound[:, 0]

    # ------------------------------------------------------------------ draws, features, diagnosis

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        return self.heads.sample(
            self._decode(self.level.draw(n, self.encoder, generator), code), generator
        )

    def _features(self, event: Event) -> Float[Tensor, "B Z"]:
        """E_q[z | x], no class given; missing cells are hidden from the encoder, as cells were in
        the fit."""
        return self.level.mean(self.encoder(self._seen(event, None)))

    @torch.no_grad()
    def active_units(self, data: Event) -> int:
        """How many latent numbers the rows move: Var_x(E_q[z]) > .01 (Y. Burda et al. (2016),
        section 5.1)."""
        return int((self.features(data).var(0, unbiased=False) > MIN_ACTIVE_VARIANCE).sum())

    def notices(self, data: Event) -> list[str]:
        """What a user should hear after the fit: that the posterior has collapsed."""
        active = self.active_units(data)
        size = self.level.size
        if not active:
            return [
                f"The posterior has collapsed: none of {size} latent numbers moves with the "
                "rows, and the decoder ignores them."
            ]
        if 4 * active < size:
            return [
                f"Only {active} of {size} latent numbers move with the rows; fewer would do "
                f"(latent={active})."
            ]
        return []
