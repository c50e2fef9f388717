"""What networks of pictures share: an embedding of the noise level and the class.

P. Dhariwal and A. Nichol (2021), Diffusion models beat GANs on image synthesis, section 3.1. An
unknown class is one more class.

Shape letters: B rows, C channels, H and W sides, E embedding, P places, F features.
"""

import abc
from typing import final

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float

__all__ = ["EMBEDDING_WIDTH", "Conditioned"]

EMBEDDING_WIDTH = 128
FREQUENCIES = 32


class Conditioned(nn.Module, abc.ABC):
    """A network from pictures (B, C, H, W), noise levels (B,) and classes (B,) to pictures
    (B, C, H, W); the classes may be absent.

    ``told``: the number T of conditioning numbers (B, T) that replace the class; unknown ones are
    zero. ``shown``: channels of the pictures that go in, where these are more than those that come
    out. ``width``: the number of ``features``."""

    frequency: Tensor
    width: int
    last: nn.Module  # starts at zero, and with it the answer

    def __init__(self, classes: int, told: int) -> None:
        super().__init__()
        self.classes = classes
        self.hears = told
        self.is_told = classes > 0 or told > 0
        self.noise = nn.Sequential(
            nn.Linear(FREQUENCIES, EMBEDDING_WIDTH),
            nn.SiLU(),
            nn.Linear(EMBEDDING_WIDTH, EMBEDDING_WIDTH),
        )
        self.label = nn.Embedding(classes + 1, EMBEDDING_WIDTH) if classes else None
        self.told = (
            nn.Sequential(
                nn.Linear(told, EMBEDDING_WIDTH),
                nn.SiLU(),
                nn.Linear(EMBEDDING_WIDTH, EMBEDDING_WIDTH),
            )
            if told
            else None
        )
        self.register_buffer(
            "frequency", torch.exp(torch.linspace(-1.0, 3.0, FREQUENCIES // 2)), persistent=False
        )

    @abc.abstractmethod
    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]: ...

    @abc.abstractmethod
    def _maps(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """What is seen, (B, P, F) at each place, on every level."""

    @final
    def maps(self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"]) -> list[Tensor]:
        """What is seen of pictures, (B, P, F) at each place, on every level, no class given."""
        return self._maps(x, self.embedding(noise, None))

    @final
    def features(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"]
    ) -> Float[Tensor, "B F"]:
        """The mean and the maximum of the maps over their places."""
        return torch.cat(
            [each for h in self.maps(x, noise) for each in (h.mean(1), h.amax(1))], 1
        ).float()

    @final
    def embedding(self, noise: Tensor, code: Tensor | None) -> Float[Tensor, "B E"]:
        angle = noise.float()[:, None] * self.frequency
        out: Tensor = self.noise(torch.cat([angle.sin(), angle.cos()], 1))
        if self.label is not None:
            none = torch.full((len(noise),), self.classes)
            out = out + self.label(none if code is None else code.long())
        if self.told is not None:
            out = out + self.told(torch.zeros(len(noise), self.hears) if code is None else code)
        return nn.functional.silu(out)
