r"""The noise levels of a pretrained diffusion model: what q adds, what p takes away, and the terms
of the bound.

    q(z_i | x) = N(sqrt(k_i) x, (1 - k_i) I),
    p(z_{i-1} | z_i) = N(t_i x_hat(z_i) + f_i z_i, d_i^2 I)

J. Ho, A. Jain and P. Abbeel (2020), Denoising diffusion probabilistic models, equations 4, 7 and
10, for S of the scheduler's levels, from the least noise to the most. k is the share of the
variance that is x's. Terms are in nats.

Shape letters: B rows, S steps; the rest of a shape is that of x.

>>> kept = [0.9, 0.5, 0.1]
>>> told = {"kept": kept, "prediction": "sample", "variance": "fixed_small", "clip": None}
>>> NoiseSteps(told, None).terms(None, torch.Generator())
[(1, 1.0), (2, 1.0)]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.components.intervals import log_mass
from conjoin.core import stream
from conjoin.core.shapes import Float
from conjoin.nets.pretrained import diffusers

__all__ = [
    "DTYPES",
    "LOG_OFFSET",
    "PROFILE_PLACES",
    "NoiseSteps",
    "check_settings",
    "log_level",
    "noise_told",
]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROFILE_PLACES = (0.05, 0.2, 0.4, 0.6)  # of the steps, at whose noise errors are looked at
LOG_OFFSET = 1e-6  # of errors and contrasts, before their logarithm

PREDICTIONS = ("epsilon", "sample", "v_prediction")
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
MAX_TRAIN_STEPS = 1_000_000


def check_settings(config: Any) -> None:
    """ValueError for a dtype, steps, points or tune that a network of noise can't have."""
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {config.dtype!r}.")
    for name in ("steps", "points"):
        value = getattr(config, name)
        if value is not None and value < 2:
            raise ValueError(f"{name} must be at least 2, or None for all, got {value!r}.")
    if config.tune < 0:
        raise ValueError(f"tune must be a number of steps, at least 0, got {config.tune!r}.")


class NoiseSteps(nn.Module):
    """What q and p need of each of S noise levels, from the least noise to the most. ``told``: of
    ``noise_told``; ``steps``: how many of the scheduler's are kept, None for all."""

    share: Tensor
    place: Tensor
    kept: Tensor
    deviation: Tensor
    towards: Tensor
    from_noisy: Tensor
    posterior: Tensor

    def __init__(self, told: dict[str, Any], steps: int | None) -> None:
        super().__init__()
        self.prediction = str(told["prediction"])
        self.clip = told["clip"]
        share = torch.tensor(told["kept"], dtype=torch.float64)
        steps = min(steps or len(share), len(share))
        place = torch.linspace(0, len(share) - 1, steps).round().long()
        kept = share[place]  # of the variance of the picture
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        added = 1 - kept / before
        posterior = (1 - before) / (1 - kept) * added
        posterior[0] = posterior[1] if steps > 1 else added[0]
        large = told["variance"].startswith("fixed_large")
        tables = {
            "share": share,
            "place": place,
            "kept": kept,
            "deviation": (added if large else posterior).sqrt(),
            "towards": before.sqrt() * added / (1 - kept),
            "from_noisy": (kept / before).sqrt() * (1 - before) / (1 - kept),
            "posterior": posterior,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def __len__(self) -> int:
        return len(self.kept)

    def noisy(self, x: Tensor, index: int, noise: Tensor) -> Tensor:
        """z of a level: a draw of q."""
        kept = self.kept[index]
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def clean(self, told: Tensor, z: Tensor, index: int) -> Tensor:
        """The network's idea of x, of what it tells of z."""
        kept = self.kept[index]
        if self.prediction == "epsilon":
            told = (z - (1 - kept).sqrt() * told) / kept.sqrt()
        elif self.prediction == "v_prediction":
            told = kept.sqrt() * z - (1 - kept).sqrt() * told
        return told if self.clip is None else told.clamp(-self.clip, self.clip)

    def wanted(self, x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
        """What the network is to tell of x with noise, whose share is ``kept``."""
        if self.prediction == "epsilon":
            return noise
        return x if self.prediction == "sample" else kept.sqrt() * noise - (1 - kept).sqrt() * x

    def before(self, z: Tensor, clean: Tensor, index: int, noise: Tensor) -> Tensor:
        """z of the level before: a draw of p."""
        mean = self.towards[index] * clean + self.from_noisy[index] * z
        return mean + self.deviation[index] * noise

    def terms(self, points: int | None, generator: torch.Generator) -> list[tuple[int, float]]:
        """Which of the steps 1 to S - 1 are asked about, and how many each stands for: one in each
        of equal stretches of them."""
        count = len(self.kept) - 1
        if points is None or points >= count:
            return [(index, 1.0) for index in range(1, count + 1)]
        place = torch.arange(points) + torch.rand(points, generator=generator, dtype=torch.float64)
        index = (place * count / points).long().clamp_max(count - 1) + 1
        return [(int(each), count / points) for each in index]

    def profile(self, shape: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """The steps at whose noise errors are looked at, and the same noise for every picture."""
        last = len(self) - 1
        for number, share in enumerate(PROFILE_PLACES):
            generator = stream(0, "profile", number)
            yield round(share * last), torch.randn(shape, generator=generator, dtype=torch.float64)

    def prior(self, x: Tensor) -> Float[Tensor, " B"]:
        """KL of q of the last level to N(0, 1)."""
        kept = self.kept[-1]
        return 0.5 * (kept * x.square() - kept - (1 - kept).log()).flatten(1).sum(1)

    def divergence(self, apart: Tensor, index: int) -> Float[Tensor, " B"]:
        """KL of p's Gaussian to q's, whose means are as far apart as the pictures they lead to."""
        own = self.posterior[index]
        variance = self.deviation[index].square()
        square = (self.towards[index] * apart).square()
        each = 0.5 * ((variance / own).log() + (own + square) / variance - 1)
        return each.flatten(1).sum(1)


def log_level(
    level: Float[Tensor, "B D"], apart: Float[Tensor, "B D"], deviation: Tensor, levels: int
) -> Float[Tensor, " B"]:
    """log of the mass of levels under Gaussians from whose means they lie ``apart``, where levels 0
    to L - 1 are the numbers from -1 to 1; the outermost reach to infinity (J. Ho et al. (2020),
    equation 13)."""
    half = 1 / (levels - 1)
    low = ((apart - half) / deviation).masked_fill(level == 0, -torch.inf)
    high = ((apart + half) / deviation).masked_fill(level == levels - 1, torch.inf)
    return log_mass(low, high).sum(1)


def noise_told(path: Path, told: dict[str, Any], clips: bool = True) -> dict[str, Any]:
    """Of each step the share of the variance that is the picture's; what the network tells; the
    variance of a step back; where ideas of a picture are clipped. ``clips``: whether they are where
    the scheduler does not say."""
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    asked = {key: told[key] for key in (*keys, "rescale_betas_zero_snr") if key in told}
    prediction = told.get("prediction_type", "epsilon")
    variance = told.get("variance_type", "fixed_small")
    if not 2 <= int(asked.get("num_train_timesteps", 1000)) <= MAX_TRAIN_STEPS:
        raise ValueError(f"The scheduler in {path} has num_train_timesteps out of all bounds.")
    if prediction not in PREDICTIONS or variance not in VARIANCES or told.get("thresholding"):
        raise ValueError(
            f"The scheduler in {path} asks for prediction_type={prediction!r}, variance_type="
            f"{variance!r}, thresholding={bool(told.get('thresholding'))}; choose from "
            f"{', '.join(PREDICTIONS)}, {', '.join(VARIANCES)}, no thresholding."
        )
    kept = (1 - diffusers().DDPMScheduler(**asked).betas.double()).cumprod(0)
    if not bool((kept > 0).all()) and prediction == "epsilon":
        raise ValueError(
            f"The scheduler in {path} ends in noise alone, where epsilon tells nothing."
        )
    clip = float(told.get("clip_sample_range", 1.0)) if told.get("clip_sample", clips) else None
    return {"kept": kept.tolist(), "prediction": prediction, "variance": variance, "clip": clip}
