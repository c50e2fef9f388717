"""Independent judges of pictures: a small network trained apart, by a fixed recipe, and distances
between what it sees.

FID-LeNet: the Frechet distance (M. Heusel et al. (2017), GANs trained by a two time-scale update
rule, equation 6) between Gaussians of the 84 features before the last layer of a LeNet-5 (Y. LeCun
et al. (1998), figure 2; rectified, max-pooled) that learned the classes of the training pictures.
KID: the unbiased squared maximum mean discrepancy under the cubic kernel (M. Binkowski et al.
(2018), Demystifying MMD GANs, section 4). Precision, recall: T. Kynkaanniemi et al. (2019);
density, coverage: M. Naeem et al. (2020). Figures depend on the recipe and on the sample sizes:
print the floor, real against real, beside them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import nn

__all__ = ["Judge", "fid", "kid", "manifold"]

EPOCHS = 6
BATCH = 128
RATE = 2e-3


class LeNet(nn.Module):
    """Logits and the 84 features before them, of pictures (n, C, 28, 28) or larger."""

    def __init__(self, channels: int, side: tuple[int, int], classes: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        width = 16 * (side[0] // 2 - 4) // 2 * ((side[1] // 2 - 4) // 2)
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(width, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )
        self.last = nn.Linear(84, classes)

    def forward(self, x):
        return self.last(self.features(self.convolutions(x)))


@dataclass
class Judge:
    """A LeNet that was trained on real pictures (n, H, W[, C]) uint8 and their classes, the same
    for the same seed."""

    net: LeNet

    @classmethod
    def trained(cls, X, y, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            data = cls.batch(X)
            target = torch.as_tensor(np.asarray(y)).long()
            net = LeNet(data.shape[1], tuple(data.shape[2:]), int(target.max()) + 1)
            steps = EPOCHS * len(X) // BATCH
            optimizer = torch.optim.Adam(net.parameters())
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
            for _ in range(steps):
                rows = torch.randint(len(data), (BATCH,))
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(data[rows]), target[rows]).backward()
                optimizer.step()
                schedule.step()
        return cls(net.eval())

    @staticmethod
    def batch(X):
        X = np.asarray(X)
        X = X[:, None] if X.ndim == 3 else np.moveaxis(X, 3, 1)
        return torch.as_tensor(np.ascontiguousarray(X)).float() / 255

    @torch.no_grad()
    def features(self, X):
        return (
            torch.cat(
                [
                    self.net.features(self.net.convolutions(self.batch(X[k : k + 1000])))
                    for k in range(0, len(X), 1000)
                ]
            )
            .double()
            .numpy()
        )

    @torch.no_grad()
    def labels(self, X):
        return torch.cat(
            [self.net(self.batch(X[k : k + 1000])).argmax(1) for k in range(0, len(X), 1000)]
        ).numpy()


def fid(a, b):
    """Frechet distance between Gaussians of two sets of features (n, F)."""
    (mean_a, mean_b) = (each.mean(0) for each in (a, b))
    (cov_a, cov_b) = (np.cov(each.T) for each in (a, b))
    return float(
        ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    )


def kid(a, b, most=2000):
    """Unbiased squared maximum mean discrepancy, kernel (a b / F + 1)^3, on at most so many rows of
    each."""
    a = a[:most]
    b = b[:most]
    within = [((x @ x.T / x.shape[1] + 1) ** 3) for x in (a, b)]
    own = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within)
    return float(own - 2 * ((a @ b.T / a.shape[1] + 1) ** 3).mean())


def manifold(real, made, k=5, most=2000):
    """Precision, recall, density and coverage of ``made`` with balls around the k nearest
    neighbours."""
    real, made = (torch.as_tensor(each[:most]) for each in (real, made))
    radius = {
        name: torch.cdist(each, each).kthvalue(k + 1, 1).values
        for name, each in (("real", real), ("made", made))
    }
    apart = torch.cdist(real, made)
    inside = apart <= radius["real"][:, None]
    return {
        "precision": float(inside.any(0).double().mean()),
        "recall": float((apart <= radius["made"]).any(1).double().mean()),
        "density": float(inside.double().sum(0).mean() / k),
        "coverage": float((apart.min(1).values <= radius["real"]).double().mean()),
    }
