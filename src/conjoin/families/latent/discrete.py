r"""An autoencoder whose latent vector is a word of discrete codes.

    q(k_g | x) = softmax_k -|e_g(x) - c_gk|^2,    p(k) = sum_m w_m prod_g theta_mg(k_g),
    z = (c_1k_1, ..., c_Gk_G)
    log p(x) >= log sum_{k in C(x)} p(k) p(x | k)

The row's vectors e_g choose among the vectors of G codebooks (A. van den Oord, O. Vinyals and K.
Kavukcuoglu (2017), Neural discrete representation learning, equations 1 and 2, whose bound has the
nearest word alone); C(x) are the ``beam`` likeliest words of q(k | x), found exactly. Distinct
words add up to no more than all of them: the bound holds for every row, without noise. The choice
is soft while learning (Y. Takida et al. (2022), SQ-VAE, section 3): the evidence lower bound, whose
gradient passes the draw by the Gumbel-softmax straight-through estimator (E. Jang, S. Gu and B.
Poole (2017), equation 2 and section 2.2). Where there are no more than
``MAX_LISTED_WORDS`` words, as of one or two columns, the fit sums over all of them instead, and q
learns from the posterior p(k | x). In place of their autoregressive prior p(k) is a mixture of
products, for the codes are few. All values in nats.

Shape letters: B rows, S words of a row, G codes of a word, K levels of a code, V numbers of a
code's vector, M parts of p(k).

>>> score = torch.tensor([[[0.9, 0.1], [0.6, 0.4]]]).log()
>>> likeliest(score, 3)[0].tolist()
[[0, 0], [0, 1], [1, 0]]
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Event, Space, categorical
from conjoin.core.shapes import Float, Int
from conjoin.families.latent.autoencoder import Autoencoder, AutoencoderConfig

__all__ = ["VQVAE", "VqvaeDensity", "likeliest"]

CODE_WIDTH = 8  # numbers of a code's vector
RELAXATION_TEMPERATURE = 0.7  # temperature of the relaxed draw
MAX_LISTED_WORDS = 64  # words up to which the fit sums over all of them


@dataclass(frozen=True)
class VQVAE(AutoencoderConfig):
    """Settings of the autoencoder of discrete codes.

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
    groups : int or None, default None
        Codes of a word; None takes them from the number of columns.
    levels : int, default 16
        Levels of a code.
    components : int, default 32
        Components of the prior of words.
    beam : int, default 16
        Words that the bound adds up.
    """

    groups: int | None = None
    levels: int = 16
    components: int = 32
    beam: int = 16

    def size(self, columns: int) -> int:
        """Codes of a word."""
        return min(12, 1 + columns // 3) if self.groups is None else self.groups


def likeliest(score: Float[Tensor, "B G K"], beam: int) -> Int[Tensor, "B S G"]:
    """The ``beam`` words with the greatest sum of scores: those of a prefix are among the
    continuations of its best ones."""
    rows, groups, levels = score.shape
    total = score.new_zeros(rows, 1)
    words = torch.zeros(rows, 1, 0, dtype=torch.long)
    for group in range(groups):
        each = (total[:, :, None] + score[:, group, None]).flatten(1)
        total, chosen = each.topk(min(beam, each.shape[1]), 1)
        before = words.gather(1, (chosen // levels)[..., None].expand(-1, -1, group))
        words = torch.cat([before, (chosen % levels)[..., None]], 2)
    return words


class VqvaeDensity(Autoencoder):
    """The sum over likely words of p(word) p(x | word, class)."""

    config_class = VQVAE

    def __init__(
        self,
        space: Space,
        config: VQVAE,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.groups = config.size(len(space.variables))
        # at zero every row would choose the same word
        self._networks(self.groups * CODE_WIDTH, zero=False)
        self.codebook = nn.Parameter(
            torch.randn(self.groups, config.levels, CODE_WIDTH, dtype=torch.float64)
        )
        self.parts = nn.Parameter(torch.zeros(config.components, dtype=torch.float64))
        self.levels = nn.Parameter(
            0.1 * torch.randn(config.components, self.groups, config.levels, dtype=torch.float64)
        )

    def _latent(self) -> int:
        return self.groups * CODE_WIDTH

    @property
    def capabilities(self) -> Capabilities:
        # one draw of the word: a loss with noise
        return self._able(features=True, objective="surrogate")

    # ------------------------------------------------------------------ q(k | x), p(k), z

    def _log_code(self, event: Event, code: Tensor | None) -> Float[Tensor, "B G K"]:
        """log q(k_g | x)."""
        vectors = self.encoder(self._seen(event, code)).unflatten(1, (self.groups, 1, CODE_WIDTH))
        return (-(vectors - self.codebook).square().sum(-1)).log_softmax(-1)

    def _log_prior(self, hot: Float[Tensor, "B S G K"]) -> Float[Tensor, "B S"]:
        """log p(k) of words whose codes are given as indicators."""
        each = torch.einsum("bsgk,mgk->bsm", hot, self.levels.log_softmax(-1))
        return (self.parts.log_softmax(0) + each).logsumexp(-1)

    def _vector(self, hot: Float[Tensor, "B S G K"]) -> Float[Tensor, "B S Z"]:
        """z of words."""
        return torch.einsum("bsgk,gkv->bsgv", hot, self.codebook).flatten(2)

    def _hot(self, words: Int[Tensor, "*B G"]) -> Float[Tensor, "*B G K"]:
        return nn.functional.one_hot(words, self.config.levels).double()

    # ------------------------------------------------------------------ bounds

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        parts = self._parts(len(value), self.config.beam)
        return torch.cat(
            [self._bound(value[part], None if code is None else code[part]) for part in parts]
        )

    def _bound(self, value: Float[Tensor, "B D"], code: Tensor | None) -> Float[Tensor, " B"]:
        hot = self._hot(likeliest(self._log_code(Event(value), code).detach(), self.config.beam))
        return (self._log_prior(hot) + self._log_given(value, code, self._vector(hot))).logsumexp(1)

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Minus the evidence lower bound, for one word drawn from q; minus the sum over all words
        where they are few."""
        if self.listed:
            return self._listed_objective(value, code, generator)
        log_code = self._log_code(self._corrupted(value, generator), code)
        hot = self._relaxed(log_code, generator)[:, None]
        log_ratio = self._log_prior(hot)[:, 0] - (log_code.exp() * log_code).sum((1, 2))
        return (
            -self._log_given(value, code, self._vector(hot))[:, 0]
            - self._prior_weight() * log_ratio
        )

    @property
    def listed(self) -> bool:
        """Whether the fit sums over all words."""
        return self.config.levels**self.groups <= MAX_LISTED_WORDS

    def _listed_objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """-log p(x), and how far q is from the posterior of the words: q alone learns from that."""
        every = torch.cartesian_prod(*[torch.arange(self.config.levels)] * self.groups)
        hot = self._hot(every.reshape(1, -1, self.groups))
        joint = self._log_prior(hot) + self._log_given_words(value, code, self._vector(hot)[0])
        log_posterior = joint.log_softmax(1).detach()
        log_code = self._log_code(self._corrupted(value, generator), code)
        log_q = torch.einsum("bgk,sgk->bs", log_code, hot[0])
        excess = (log_posterior.exp() * (log_posterior - log_q)).sum(1)
        return excess - joint.logsumexp(1)

    def _log_given_words(
        self, value: Float[Tensor, "B D"], code: Tensor | None, z: Float[Tensor, "S Z"]
    ) -> Float[Tensor, "B S"]:
        """log p(x | z) of every row under the same vectors, which are decoded once."""
        if code is not None:
            return self._log_given(value, code, z.expand(len(value), -1, -1))
        params = self._decode(z, None).repeat(len(value), 1, 1)
        many = value.repeat_interleave(len(z), 0)
        known = torch.ones_like(many, dtype=torch.bool)
        return self.heads.log_prob(params, many, known).sum(1).reshape(len(value), len(z))

    def _relaxed(
        self, log_code: Float[Tensor, "B G K"], generator: torch.Generator | None
    ) -> Float[Tensor, "B G K"]:
        """A word drawn from q as indicators, whose gradient is that of a softmax."""
        uniform = torch.rand(log_code.shape, generator=generator, dtype=torch.float64).clamp(
            1e-300, 1 - 1e-16
        )
        soft = ((log_code - torch.log(-torch.log(uniform))) / RELAXATION_TEMPERATURE).softmax(-1)
        return self._hot(soft.argmax(-1)) + soft - soft.detach()

    # ------------------------------------------------------------------ draws, features, diagnosis

    def words(self, n: int, generator: torch.Generator | None) -> Int[Tensor, "n G"]:
        """n words of p(k)."""
        part = categorical(self.parts.expand(n, -1), generator)
        return categorical(self.levels[part], generator)

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        z = self._vector(self._hot(self.words(n, generator))[:, None])[:, 0]
        return self.heads.sample(self._decode(z, code), generator)

    def _features(self, event: Event) -> Float[Tensor, "B Z"]:
        """E_q[z | x], no class given."""
        return self._vector(self._log_code(event, None).exp()[:, None])[:, 0]

    @torch.no_grad()
    def perplexity(self, data: Event) -> Float[Tensor, " G"]:
        """How many levels of each code are in use: exp of the entropy of its mean q over the
        rows."""
        share = self._log_code(data, None).exp().mean(0)
        return (-(share * share.clamp_min(1e-300).log()).sum(-1)).exp()

    def notices(self, data: Event) -> list[str]:
        """What a user should hear after the fit: that codes have collapsed onto one level."""
        words = self._log_code(data, None).argmax(-1)
        moving = int((words != words[:1]).any(0).sum())
        if not moving:
            return [
                f"The codes have collapsed: all rows have the same word of {self.groups} codes, "
                "and the decoder ignores it."
            ]
        if 2 * moving < self.groups:
            return [
                f"Only {moving} of {self.groups} codes differ between rows; fewer would do "
                f"(groups={moving})."
            ]
        return []
