r"""Which of few colours each pixel of a picture has: its own noisy value says one part by Bayes'
rule, and a network, which sees all of them, says the rest.

    p(x | z) proportional to  sum_k pi_k exp(f_k(z)) N(x; c_k, v_k) N(z; x, s^2)
    w_k = softmax_k(ln pi_k + f_k + ln N(z; c_k, v_k + s^2))
    E[x | z] = sum_k w_k (s^2 c_k + v_k z) / (s^2 + v_k)
    loss = - sum_k r_k ln w_k,   r_k = softmax_k(ln pi_k + ln N(x; c_k, v_k)),   nats a pixel

for a pixel of C channels, x clean and z = x + s e. Colours c_k, the variances around them and their
shares pi_k are those of the pixels of the fit (k-means: S. Lloyd (1982), Least squares quantization
in PCM); f = 0 where nothing was learned, so that a pixel is then told by its own value. That what a
pixel is be learned as a choice and not as a number is as in S. Dieleman et al. (2022), Continuous
diffusion for categorical data, section 3.3. The loss of each noise level is divided by what it has
been lately, as levels at which hardly anything is left to tell would else teach nothing (T. Karras
et al. (2024), Analyzing and improving the training dynamics of diffusion models, equation 14).

Shape letters: B rows, C channels, H and W sides, K colours.

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
from conjoin.core.shapes import Float

__all__ = ["Palette"]

MAX_PIXELS = 1 << 20  # of which colours are taken
MAX_COLOURS = 1 << 14  # among which colours are sought
NONE = -1e4  # log share of a colour that is none
LEAST_LOG_NOISE = math.log(0.05)
NOISES_PER_LOG = 2  # steps in which noise levels are told apart, for a factor e
NOISES = 16
MEMORY = 0.98  # of the losses that a noise level has had, from step to step
LEAST_LOSS = 1e-4  # nats a pixel, which no level counts as less than


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
        # the losses of each noise level, and how many, both fading
        self.register_buffer("lately", torch.zeros(2, NOISES))

    @torch.no_grad()
    def start(self, pictures: Float[Tensor, "B C H W"], least: float) -> None:
        """By whole pictures. ``least``: the smallest variance."""
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
        self.colours[:count] = colours.to(self.colours)
        variance = torch.bincount(near, spread, minlength=count) / weight
        self.variance[:count] = (variance + least).to(self.variance)
        self.log_share.fill_(NONE)
        self.log_share[:count] = (weight / weight.sum()).log().to(self.log_share)

    def log_weights(
        self, more: Float[Tensor, "B K H W"], z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"]
    ) -> Float[Tensor, "B H W K"]:
        """ln w; ``more``: f."""
        own = self._own(z, s.square())
        return torch.log_softmax(more.permute(0, 2, 3, 1).to(own) + own, -1)

    def _own(self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"]) -> Tensor:
        """(B, H, W, K) ln pi + ln N(x; c, v + noise), but for a constant."""
        x = self._numbers(x).permute(0, 2, 3, 1)
        sharp = 1 / (noise.to(x)[:, None] + self.variance.to(x))
        colours = self.colours.to(x)
        least = self.log_share.to(x) + 0.5 * x.shape[-1] * sharp.log()
        least = least - 0.5 * sharp * colours.square().sum(1)
        # of 1, x and |x|^2: (B, C + 2, K)
        linear = sharp[:, None] * colours.T
        weight = torch.cat([least[:, None], linear, -0.5 * sharp[:, None]], 1)
        square = x.square().sum(-1, keepdim=True)
        seen = torch.cat([torch.ones_like(square), x, square], -1)
        return (seen.flatten(1, 2) @ weight).unflatten(1, x.shape[1:3])

    def _numbers(self, x: Tensor) -> Tensor:
        """In an answer sums are in float64, so that it does not depend on its batch."""
        return x if self.training else x.double()

    def mean(
        self,
        log_weight: Float[Tensor, "B H W K"],
        z: Float[Tensor, "B C H W"],
        s: Float[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
        """E[x | z], and the root of what x varies around the colour that it has."""
        variance = self.variance.to(log_weight)
        noise = s.square()[:, None].to(log_weight)
        weight = log_weight.exp()
        pulled = (noise / (noise + variance))[:, None, None] * weight
        left = (noise * variance / (noise + variance))[:, None, None] * weight
        z = z.permute(0, 2, 3, 1).to(log_weight)
        kept = 1 - pulled.sum(-1, keepdim=True)
        mean = pulled @ self.colours.to(log_weight) + kept * z
        apart = left.sum(-1, keepdim=True).sqrt()
        return mean.permute(0, 3, 1, 2).float(), apart.permute(0, 3, 1, 2).float()

    def loss(
        self,
        log_weight: Float[Tensor, "B H W K"],
        x: Float[Tensor, "B C H W"],
        mask: Tensor,
        s: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """l / m + ln m - 1, at least ln l, where l are the nats of a known pixel and m is what they
        have been lately at such noise."""
        right = self._own(x, torch.zeros(len(x))).softmax(-1)
        known = mask.permute(0, 2, 3, 1).all(-1)
        nats = -(right * log_weight).sum(-1) * known
        each = nats.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
        usual = self._usual(each, s)
        return each / usual + usual.log() - 1

    @torch.no_grad()
    def _usual(self, each: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """m of each row, which a step of the fit moves."""
        place = ((s.log() - LEAST_LOG_NOISE) * NOISES_PER_LOG).long().clamp(0, NOISES - 1)
        if self.training:
            new = torch.stack([each.to(self.lately), torch.ones_like(s)])
            self.lately.mul_(MEMORY).index_add_(1, place, new)
        total, count = self.lately
        return ((total + LEAST_LOSS) / count.clamp_min(1e-2)).clamp_min(LEAST_LOSS).to(each)[place]
