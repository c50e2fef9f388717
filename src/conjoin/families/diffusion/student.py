r"""Pictures in few calls: a student of the network that takes noise away, taught by what the
network itself sees in pictures.

    z <- g + (z - g) s' / s,   g = D_student(z; s),
    down the levels s_0 > s_1 > ... > 0 of so many calls
    loss = sum over readings f of   2 E |f(g) - f(x)| - E |f(g) - f(g')|,
    f = (a map of the teacher's encoder at one place, class)

The loss is the energy distance of draws to rows up to a constant, which is least where both are the
same in distribution (G. Szekely and M. Rizzo (2013), Energy statistics, section 2; M. Bellemare et
al. (2017), The Cramer distance as a solution to biased Wasserstein gradients, equation 7), on
features that are not learned (C. dos Santos et al. (2019), Learning implicit generative models by
the method of moments): nothing is played against the student. It begins as the network, and its
walk is that of DDIM (``painter``), through all of which the gradient goes. No likelihood, so no
nats: log p stays that of the network.

Shape letters: B rows, C channels, H and W sides, P places, F features, K classes.

>>> from conjoin.families.diffusion.picture import PictureDiffusion
>>> student = Student(Denoiser((1, 8, 8), 17, 0, PictureDiffusion(size=0.25)), calls=2)
>>> [round(level, 1) for level in student.levels]
[40.0, 5.3, 0.0]
"""

import copy

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.families.diffusion.denoiser import Denoiser
from conjoin.families.diffusion.painter import Painter

__all__ = ["Student"]

CLASS_DISTANCE = 2.0  # how far apart two classes are, in spreads of a reading
DISTANCE_OFFSET = 1e-6  # added under the root, whose slope at zero is infinite


class Student(nn.Module):
    """A copy of a network, to be called so often for a draw."""

    def __init__(self, core: Denoiser, calls: int) -> None:
        super().__init__()
        self.core = copy.deepcopy(core).requires_grad_(True)
        self.calls = calls
        for module in self.core.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    @property
    def levels(self) -> list[float]:
        """Noise levels of a draw: those of a walk of one step more, whose last ones are one."""
        return [*Painter(self.core, None, "ddim", None).levels(self.calls + 1)[: self.calls], 0.0]

    def loss(
        self,
        teacher: Denoiser,
        pictures: Float[Tensor, "B C H W"],
        code: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """(B,) how far each of so many draws, one for each class of the rows, is from the rows,
        less how far from the others."""
        teacher.eval()  # what it sees is no matter of chance
        code = teacher.sometimes(code, generator)
        made = Painter(self.core, code, "ddim", generator).from_noise(len(pictures), self.levels)
        with torch.no_grad():
            seen = teacher.maps(pictures)
        return torch.stack(
            [_apart(*each, code) for each in zip(teacher.maps(made), seen, strict=True)]
        ).sum(0)


def _apart(
    made: Float[Tensor, "B P F"], seen: Float[Tensor, "B P F"], code: Tensor | None
) -> Float[Tensor, " B"]:
    """2 mean_j |g_i - x_j| - mean_j |g_i - g_j|, the mean over places, in spreads of the rows; the
    class is one more coordinate."""
    spread = seen.var(0).sum(-1).mean().sqrt() + DISTANCE_OFFSET
    made, seen = (each.transpose(0, 1) / spread for each in (made, seen))
    others = 0.0 if code is None else 0.5 * CLASS_DISTANCE**2 * (code[:, None] != code).float()
    rows = made.shape[1]
    among = _distances(made, made, others) * (1 - torch.eye(rows))
    return 2 * _distances(made, seen, others).mean((0, 2)) - among.mean(0).sum(1) / max(rows - 1, 1)


def _distances(
    one: Float[Tensor, "P B F"], two: Float[Tensor, "P N F"], more: Tensor | float
) -> Float[Tensor, "P B N"]:
    squares = (
        one.square().sum(2)[:, :, None]
        + two.square().sum(2)[:, None]
        - 2 * one @ two.transpose(1, 2)
    )
    return (squares.clamp_min(0) + more + DISTANCE_OFFSET).sqrt()
