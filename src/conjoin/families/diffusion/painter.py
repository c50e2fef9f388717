r"""From noise to pictures, in few steps: second-order multistep, DDIM and ancestral walks, and
painting in.

    s_i = (s_max^(1/7) + i / (N - 1) (s_min^(1/7) - s_max^(1/7)))^7,   i = 0 .. N - 1,   then 0
    multistep    z' = (s' / s) z + (1 - s' / s) ((1 + 1 / 2r) D - 1 / 2r D_before),
                 r = ln(s_before / s) / ln(s / s')
    ancestral    z' = D + (z - D) s_down / s + s_up e,    s_up^2 = s'^2 (s^2 - s'^2) / s^2,
                 s_down^2 = s'^2 - s_up^2

T. Karras et al. (2022), Elucidating the design space of diffusion-based generative models, equation
5; C. Lu et al. (2022), DPM-Solver++, algorithm 2; J. Song, C. Meng and S. Ermon (2021), Denoising
diffusion implicit models, equation 12, which is the multistep rule without its memory. D is what
the network takes the picture to be; with guidance w it is (1 + w) D(class) - w D. No likelihood
here, so no nats.

Shape letters: B rows, C channels, H and W sides, N steps.

>>> [round(s, 2) for s in schedule(4, 0.01, 40.0)]
[40.0, 6.34, 0.52, 0.01, 0.0]
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from conjoin.core.shapes import Bool, Float
from conjoin.families.diffusion.denoiser import MAX_NOISE, Denoiser

__all__ = ["WALKS", "Painter", "schedule"]

WALKS = ("multistep", "ddim", "ancestral")
RHO = 7.0
MIN_NOISE = 0.02  # the last level but none


def schedule(steps: int, least: float, most: float) -> list[float]:
    """Noise levels from ``most`` to ``least`` in so many calls of the network, then none."""
    if steps == 1:
        return [most, 0.0]
    ends = most ** (1 / RHO), least ** (1 / RHO)
    return [
        (ends[0] + step / (steps - 1) * (ends[1] - ends[0])) ** RHO for step in range(steps)
    ] + [0.0]


class Painter:
    """One network, one class per row or none, one generator. ``calls`` counts how often the network
    was asked for each row."""

    def __init__(
        self,
        core: Denoiser,
        code: Tensor | None,
        walk: str,
        generator: torch.Generator | None,
        guidance: float | Tensor = 0.0,
    ) -> None:
        if walk not in WALKS:
            raise ValueError(
                f"There is no sampler {walk!r} of pictures; choose from {', '.join(WALKS)}."
            )
        self.core = core
        self.code = code
        self.walk = walk
        self.generator = generator
        self.guidance = guidance
        self.calls = 0
        self._before: tuple[Tensor, float] | None = None

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal numbers, channels last as the pictures are."""
        return torch.randn(like.shape, generator=self.generator).contiguous(
            memory_format=torch.channels_last
        )

    def clean(self, z: Float[Tensor, "B C H W"], s: float) -> Float[Tensor, "B C H W"]:
        """D(z; s), guided."""
        level = torch.full((len(z),), s)
        guided = self.code is not None and (isinstance(self.guidance, Tensor) or self.guidance != 0)
        self.calls += 2 if guided else 1
        told: Tensor = self.core(z, level, self.code)
        if not guided:
            return told
        return told + self.guidance * (told - self.core(z, level, self.core.untold(self.code)))

    def levels(self, steps: int, most: float = MAX_NOISE) -> list[float]:
        """Noise levels of a walk in so many steps."""
        return schedule(steps, max(self.core.least, MIN_NOISE), most)

    def from_noise(
        self, rows: int, levels: list[float], share: float = 1.0
    ) -> Float[Tensor, "B C H W"]:
        """New pictures, by way of these noise levels."""
        *_, (z, _) = self.path(rows, levels, share)
        return z

    def path(
        self, rows: int, levels: list[float], share: float = 1.0
    ) -> Iterator[tuple[Float[Tensor, "B C H W"], float]]:
        """What new pictures go through: z and its noise level, from the largest to none. ``share``
        of the first noise: draws take all of it."""
        z = share * levels[0] * self.noise(torch.empty(rows, *self.core.grid))
        yield z, levels[0]
        for s, then in pairwise(levels):
            z = self._step(z, s, then)
            yield z, then

    def edit(
        self,
        known: Float[Tensor, "B C H W"],
        start: float,
        steps: int,
        where: Bool[Tensor, "B C H W"] | None = None,
        lead: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """The pictures carried up to noise ``start`` and back under the class by DDIM, each D moved
        by ``lead(D)``. At each level the cells outside of ``where`` are put back (O. Avrahami, D.
        Lischinski and O. Fried (2022), Blended diffusion, algorithm 2). Without noise nothing
        changes."""
        if start <= 0:
            return known
        levels = self.levels(steps, start)
        first, *path = *self._upward(known, levels[:-1]), known
        z = first
        for (s, then), back in zip(pairwise(levels), path, strict=True):
            clean = self.clean(z, s)
            z = self._onward(z, clean if lead is None else clean + lead(clean), s, then)
            z = z if where is None else torch.where(where, z, back)
        return z

    def _upward(self, known: Float[Tensor, "B C H W"], levels: list[float]) -> list[Tensor]:
        """The pictures at each level: under noise, the same for all, where there is a generator;
        else along the flow that knows no class, so that what the class does not change comes back
        as it was (J. Song, C. Meng and S. Ermon (2021), Denoising diffusion implicit models,
        section 4.3; X. Su et al. (2023), Dual diffusion implicit bridges, algorithm 1)."""
        if self.generator is not None:
            noise = self.noise(known[:1])
            return [known + s * noise for s in levels]
        told = self.code
        self.code = None
        path = [known]
        for before, s in pairwise(levels[::-1]):
            clean = self.clean(path[-1], before)
            path.append(clean + (path[-1] - clean) * (s / before))
        self.code = told
        return path[::-1]

    def fill(
        self,
        known: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        steps: int,
        repeats: int,
    ) -> Float[Tensor, "B C H W"]:
        """The pictures with what the mask does not hold painted in: known pixels are noised to the
        level of each step, which is taken ``repeats`` times with a step back between (A. Lugmayr et
        al. (2022), RePaint, algorithm 1)."""
        levels = self.levels(steps)
        z = MAX_NOISE * self.noise(known)
        for s, then in pairwise(levels):
            for again in range(repeats):
                if again:
                    z = z + (s**2 - then**2) ** 0.5 * self.noise(z)
                z = self._step(torch.where(mask, known + s * self.noise(z), z), s, then)
        return torch.where(mask, known, z)

    def lead(
        self,
        rows: int,
        steps: int,
        repeats: int,
        put_back: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "B C H W"]:
        """New pictures, of which each D is replaced by ``put_back(D)`` before the next level; each
        step is taken ``repeats`` times with a step back between, as in ``fill``."""
        levels = self.levels(steps)
        z = levels[0] * self.noise(torch.empty(rows, *self.core.grid))
        for s, then in pairwise(levels):
            for again in range(repeats):
                if again:
                    z = z + (s**2 - then**2) ** 0.5 * self.noise(z)
                z = self._onward(z, put_back(self.clean(z, s)), s, then)
        return z

    def follow(
        self, known: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B C H W"], steps: int
    ) -> Float[Tensor, "B C H W"]:
        """As ``fill``, where no class says what the picture is: each step is led by the known
        pixels, D + (1 + s^2) J^T (known - D) with J = dD / dz (J. Song, A. Vahdat, M. Mardani and
        J. Kautz (2023), Pseudoinverse-guided diffusion models, equation 7)."""
        z = MAX_NOISE * self.noise(known)
        for s, then in pairwise(self.levels(steps)):
            with torch.enable_grad():
                free = z.detach().requires_grad_()
                clean = self.clean(free, s)
                gap = torch.where(mask, known - clean.detach(), 0.0)
                (lead,) = torch.autograd.grad((clean * gap).sum(), free)
            z = self._onward(
                z, torch.where(mask, known, clean.detach() + (1 + s**2) * lead), s, then
            )
        return torch.where(mask, known, z)

    def _step(self, z: Tensor, s: float, then: float) -> Tensor:
        return self._onward(z, self.clean(z, s), s, then)

    def _onward(self, z: Tensor, clean: Tensor, s: float, then: float) -> Tensor:
        """From level s to the next, where the picture is taken to be ``clean``."""
        if then == 0:
            return clean
        if self.walk == "ancestral":
            up = then * (1 - (then / s) ** 2) ** 0.5
            down = (then**2 - up**2) ** 0.5
            return clean + (z - clean) * (down / s) + up * self.noise(z)
        ratio = then / s
        ahead = clean
        if self.walk == "multistep" and self._before is not None and self._before[1] > s:
            earlier, level = self._before
            lean = torch.log(torch.tensor([s / then, level / s])).tolist()
            ahead = clean + (clean - earlier) * (0.5 * lean[0] / lean[1])
        self._before = (clean, s)
        return ratio * z + (1 - ratio) * ahead
