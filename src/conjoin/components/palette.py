r"""Which of few colours each pixel of a picture has: its own noisy value says one part by Bayes'
rule, and a network, which sees all of them, says the rest.

    p(x | z) proportional to  sum_k pi_k exp(f_k(z)) N(x; c_k, v_k) N(z; x, s^2)
    w_k = softmax_k(ln pi_k + f_k + ln N(z; c_k, v_k + s^2))
    E[x | z] = sum_k w_k (s^2 c_k + v_k z) / (s^2 + v_k)
    l = - sum_k r_k ln w_k,   r_k = softmax_k(ln pi_k + ln N(x; c_k, v_k)),   nats a pixel

for a pixel of C channels, x clean and z = x + s e. Colours c_k, the variances around them and their
shares pi_k are those of the pixels of the fit (k-means: S. Lloyd (1982), Least squares quantization
in PCM); f = 0 where nothing was learned, so that a pixel is then told by its own value. That what a
pixel is be learned as a choice and not as a number is as in S. Dieleman et al. (2022), Continuous
diffusion for categorical data, section 3.3.

In a step of the fit l is divided by m, what it has been lately at such noise, as levels at which
hardly anything is left to tell would else teach nothing (T. Karras et al. (2024), Analyzing and
improving the training dynamics of diffusion models, equation 14). Of several processes each has
an m of its own; their gradients are added up, so that their weights stay the same.

Shape letters: B rows, C channels, H and W sides, P = H W pixels, K colours.

>>> two = Palette(2, 1)
>>> two.start(torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]), 1e-4)
>>> [round(c, 3) for c in two.colours.flatten().sort().values.tolist()]
[0.0, 1.0]
"""

import math

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from conjoin.core.random import stream
from conjoin.core.shapes import Bool, Float

__all__ = ["Palette"]

MAX_PIXELS = 1 << 20  # of which colours are taken
MAX_COLOURS = 1 << 14  # among which colours are sought
LOG_NO_SHARE = -1e30  # log share of a colour that is none; finite, as it is multiplied by 0
LEAST_LOG_NOISE = math.log(0.05)  # up to which all levels of noise count as one
LEVELS_PER_LOG = 2  # levels of noise that are told apart, for a factor e
NOISE_LEVELS = 16
MEMORY = 0.98  # share of the losses of a level that is kept from step to step
LEAST_NATS = 1e-4  # a pixel, as less than which no level counts


class Palette(nn.Module):
    """``most``: K; of fewer colours those that are left over have no share."""

    colours: Tensor
    variance: Tensor
    log_share: Tensor
    lately: Tensor

    def __init__(self, most: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("colours", torch.zeros(most, channels))
        self.register_buffer("variance", torch.ones(most))
        self.register_buffer("log_share", torch.full((most,), -math.log(most)))
        # the losses of each level of noise, and how many, both fading
        self.register_buffer("lately", torch.zeros(2, NOISE_LEVELS))

    @torch.no_grad()
    def start(self, pictures: Float[Tensor, "B C H W"], least_variance: float) -> None:
        """By whole pictures."""
        channels = self.colours.shape[1]
        pixels = pictures.permute(0, 2, 3, 1).reshape(-1, channels)
        some = torch.randperm(len(pixels), generator=stream(0, "pixels"))[:MAX_PIXELS]
        found, times = torch.unique(pixels[some].double(), dim=0, return_counts=True)
        often = times.argsort(descending=True, stable=True)[:MAX_COLOURS]
        found = found[often]
        times = times[often].double()
        count = min(len(self.colours), len(found))
        # by the root of how often, so that the colours of edges count beside those of areas
        model = KMeans(count, n_init=1, random_state=0)
        near = torch.as_tensor(model.fit(found.numpy(), sample_weight=times.sqrt().numpy()).labels_)
        near = near.long()
        weight = torch.bincount(near, times, minlength=count)
        colours = torch.zeros(count, channels, dtype=torch.float64)
        colours.index_add_(0, near, found * times[:, None])
        colours /= weight[:, None]
        spread = (found - colours[near]).square().mean(1) * times
        variance = torch.bincount(near, spread, minlength=count) / weight
        self.colours[:count] = colours.to(self.colours)
        self.variance[:count] = (variance + least_variance).to(self.variance)
        self.log_share.fill_(LOG_NO_SHARE)
        self.log_share[:count] = (weight / weight.sum()).log().to(self.log_share)

    def log_weights(
        self, logits: Float[Tensor, "B K H W"], z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"]
    ) -> Float[Tensor, "B P K"]:
        """ln w; ``logits``: f."""
        own = self._own(z, s.square())
        return torch.log_softmax(logits.flatten(2).transpose(1, 2).to(own) + own, -1)

    def _own(
        self, x: Float[Tensor, "B C H W"], noise_variance: Float[Tensor, " B"]
    ) -> Float[Tensor, "B P K"]:
        """ln pi + ln N(x; c, v + noise_variance), but for a constant."""
        x = self._numbers(x).flatten(2).transpose(1, 2)
        precision = 1 / (noise_variance.to(x)[:, None] + self.variance.to(x))
        colours = self.colours.to(x)
        offset = self.log_share.to(x) + 0.5 * x.shape[2] * precision.log()
        offset = offset - 0.5 * precision * colours.square().sum(1)
        linear = precision[:, None] * colours.T
        # of 1, x and |x|^2: (B, C + 2, K)
        factor = torch.cat([offset[:, None], linear, -0.5 * precision[:, None]], 1)
        square = x.square().sum(2, keepdim=True)
        return torch.cat([torch.ones_like(square), x, square], 2) @ factor

    def _numbers(self, x: Tensor) -> Tensor:
        """In an answer sums are in float64, so that it does not depend on its batch."""
        return x if self.training else x.double()

    def mean(
        self,
        log_weight: Float[Tensor, "B P K"],
        z: Float[Tensor, "B C H W"],
        s: Float[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
        """E[x | z], and the deviation of x around it given its colour."""
        variance = self.variance.to(log_weight)
        noise = s.square()[:, None].to(log_weight)
        pulled = (noise / (noise + variance))[:, :, None]
        within = pulled * variance[:, None]
        # to the colour's share of the mean, to what it leaves of z, to the variance: (B, K, C + 2)
        factor = torch.cat([pulled * self.colours.to(log_weight), pulled, within], 2)
        told = (log_weight.exp() @ factor).transpose(1, 2).unflatten(2, z.shape[2:])
        colour, share, within = told.split((z.shape[1], 1, 1), 1)
        mean = colour + (1 - share) * z.to(log_weight)
        return mean.float(), within.sqrt().float()

    def loss(
        self,
        log_weight: Float[Tensor, "B P K"],
        x: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        s: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """l, the mean over the pixels that are wholly known; 0 where none is. In a step of the fit
        l / m + ln m - 1, which is at least ln l."""
        right = self._own(x, torch.zeros_like(s)).softmax(-1)
        known = mask.all(1).flatten(1)
        count = known.sum(1)
        nats = (-(right * log_weight).sum(-1) * known).sum(1) / count.clamp_min(1)
        if not self.training:
            return nats
        some = count > 0
        usual = self._usual(nats[some], s[some])
        return torch.zeros_like(nats).index_put(
            (some.nonzero()[:, 0],), nats[some] / usual + usual.log() - 1
        )

    @torch.no_grad()
    def _usual(self, nats: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """m of each row, moved by these rows."""
        level = ((s.log() - LEAST_LOG_NOISE) * LEVELS_PER_LOG).long().clamp(0, NOISE_LEVELS - 1)
        new = torch.stack([nats.to(self.lately), torch.ones_like(s)])
        self.lately.mul_(MEMORY).index_add_(1, level, new)
        total, count = self.lately
        return (total / count.clamp_min(MEMORY)).clamp_min(LEAST_NATS).to(nats)[level]
