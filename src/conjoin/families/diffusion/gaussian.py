r"""Diffusion on the columns of a table or the pixels of an image: numbers drown in noise, codes are
absorbed.

    q(z_t | x) = N(alpha_t c(x), sigma_t^2),
    log p(x) >= E_q[log p(x | z_0)] - KL(q(z_1 | x) || p(z_1)) - int diffusion loss

D. Kingma et al. (2021), Variational diffusion models, equations 11 to 18, in continuous time and in
nats; ``mixed`` has the formulas, ``numbers`` what is particular to a column, ``samplers`` the ways
back. Where there are no numbers at all, rows are unveiled cell by cell as in ``absorbing``, and log
p is exact.

Shape letters: B rows, D variables.

>>> from conjoin.core import Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> density = DiffusionDensity.build(space, Diffusion(), data, stream(0))
>>> density.draw(5, sampler="heun", steps=10).calls
19
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from conjoin.core import CapabilityError, Config, Event, Likelihood, Space
from conjoin.core.shapes import Float
from conjoin.families.deep import PatientConfig
from conjoin.families.diffusion.absorbing import (
    AbsorbingDiffusion,
    ProcessDensity,
    core_of_codes,
)
from conjoin.families.diffusion.mixed import Mixed, is_code
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.families.diffusion.samplers import Drawn, flow_log_prob, paint
from conjoin.nets.heads import MAX_CATEGORICAL_LEVELS

__all__ = ["Diffusion", "DiffusionDensity"]

# draws of the noise for each row of a step at most, and of all rows together
MAX_STEP_DRAWS = 8
ROW_DRAWS = 4000
SMALL_SIDE_PIXELS = 8  # pixels a side, under which a picture is treated as a table of pixels


@dataclass(frozen=True)
class Diffusion(AbsorbingDiffusion, PatientConfig):
    """Settings of the diffusion of numbers and codes.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 64
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 16
        Ways in which a row with missing cells is completed, to average over.
    process : {"absorbing", "multinomial"}, default "absorbing"
        How codes are lost: they vanish, or random ones replace them (log p is then a bound, and
        numbers are refused).
    width : int or None, default None
        Hidden units, or channels, of the network; None takes them from the layout.
    blocks : int or None, default None
        Residual blocks; None takes them from the layout.
    dropout : float, default 0.1
        Share of hidden units left out in a training step.
    components : int, default 8
        Components of the mixture that a number is drawn from.
    calls : int, default 64
        Calls of the network at most for log p of a row.
    guidance : float, default 0.0
        How much draws of a class exaggerate it; they are draws of p(x | class) only at 0.
    points : int or None, default None
        Calls of the network for the numbers in the bound of a row, and as many (at least two
        for each) for its codes; None takes 32, and up to 128 where there are few numbers.
    parametrisation : {"score", "v", "noise"} or None, default None
        What the network predicts of a number: the score, the velocity v (the preconditioning of
        EDM), or the noise. None: the score, and v of up to three columns of which one is a number.
    sampler : {"ancestral", "ddim", "heun"}, default "ancestral"
        How rows are drawn.
    sampling_steps : int, default 48
        Steps of the sampler.
    repeats : int, default 4
        How often each step is taken when missing cells are painted in.
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None: 1,000, and 3,000 of up to three columns of
        which one is a number.
    """

    points: int | None = None
    parametrisation: Literal["score", "v", "noise"] | None = None
    sampler: Literal["ancestral", "ddim", "heun"] = "ancestral"
    sampling_steps: int = 48
    repeats: int = 4

    passes: ClassVar[tuple[int, int, int]] = (70, 1000, 4000)
    of_few: ClassVar[dict[str, Any]] = {"min_steps": 3000, "parametrisation": "v"}

    def suited(self, space: Space) -> Config:
        """Pictures of many grey levels get a U-Net, which may be told of columns; what was set here
        that it has too is kept."""
        if (
            space.grid is None
            or min(space.grid[1:]) < SMALL_SIDE_PIXELS
            or all(is_code(v) for v in space.variables)
        ):
            return super().suited(space)
        if space.pixels < len(space.variables):
            from conjoin.families.illustrated import Illustrated

            return Illustrated(steps=self.steps, guidance=self.guidance)
        return PictureDiffusion(steps=self.steps, guidance=self.guidance)


class DiffusionDensity(ProcessDensity):
    """log p is a bound by Monte Carlo, whose noise is the same for all rows; without numbers it is
    exact."""

    config_class = Diffusion
    likelihood = Likelihood.LOWER_BOUND

    def __init__(
        self,
        space: Space,
        config: Diffusion,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.numeric = not all(is_code(v) for v in space.variables)
        context = self.embedding(16)
        self.core = (
            Mixed(
                space,
                config,
                context,
                self.embedded,
                even=self.structure.get("even", False),
                draws=self.structure.get("draws", 1),
            )
            if self._drowns(config)
            else core_of_codes(space, config, context, self.embedded)
        )

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """Few rows are seen under more noise in a step, many under other noise in the next."""
        draws = max(1, min(MAX_STEP_DRAWS, ROW_DRAWS // max(data.rows, 1)))
        return {"even": True, "draws": draws}

    def notices(self, event: Any) -> list[str]:
        """That pictures are modelled as a table of pixels, where their space asks for it."""
        return [_as_table(self.space)] if self.space.grid is not None else []

    def _drowns(self, config: Diffusion) -> bool:
        """Whether there are numbers that noise can be added to."""
        return self.numeric and config.process == "absorbing"

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        return self._paint(
            n, code, generator, self.config.sampler, self.config.sampling_steps
        ).value

    def _paint(
        self,
        n: int,
        code: Tensor | None,
        generator: torch.Generator | None,
        sampler: str,
        steps: int,
    ) -> Drawn:
        if self.numeric:
            return paint(self.core, n, code, generator, steps=steps, sampler=sampler)
        return Drawn(self.core.draw(n, code, generator), self.core.calls)

    # ----------------------------------------------------------- what only a diffusion can be asked

    @final
    @torch.no_grad()
    def draw(
        self,
        n: int,
        context: Event | None = None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Drawn:
        """n rows by a sampler ("ancestral", "ddim" or "heun") in so many steps, and the network
        calls that it took."""
        code = None
        if context is not None:
            code = self._check_context(context).value  # type: ignore[union-attr]
        return self._paint(
            n, code, generator, sampler or self.config.sampler, steps or self.config.sampling_steps
        )

    @final
    @torch.no_grad()
    def repaint(
        self,
        event: Event,
        context: Event | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Event:
        """The event with its missing cells painted in, given all that is known; regions are not
        heeded."""
        event = self.space.check(event)
        context = self._check_context(context)
        code = None if context is None else context.value
        if not self.numeric:
            return Event(self.core.repaint(event, code, generator))
        steps = self.config.sampling_steps
        repeats = self.config.repeats
        return Event(
            paint(
                self.core, event.rows, code, generator, steps=steps, given=event, repeats=repeats
            ).value
        )

    @final
    def flow_log_prob(
        self, event: Event, context: Event | None = None, *, steps: int = 64
    ) -> Float[Tensor, " B"]:
        """(B,) log p of the probability-flow model, nats, up to the error of ``steps`` midpoint
        steps: the density that DDIM and Heun draw from. Raises CapabilityError where a column has
        mass, ValueError for missing cells."""
        event = self.space.check(event)
        context = self._check_context(context)
        if any(v.has_mass for v in self.space.variables):
            raise CapabilityError(
                "DiffusionDensity",
                "the likelihood of its flow",
                "columns that have mass, not density",
            )
        if not event.mask.all():
            raise ValueError("The likelihood of the flow takes complete rows.")
        return flow_log_prob(
            self.core, event.value, None if context is None else context.value, steps
        )


def _as_table(space: Space) -> str:
    """Why pictures do not get the network of pictures."""
    _, height, width = space.grid or (0, 0, 0)
    levels = max(variable.cardinality for variable in space.variables)
    what = (
        f"{height} x {width} pixels"
        if min(height, width) < SMALL_SIDE_PIXELS
        else f"{levels} levels a pixel"
    )
    return (
        f"These pictures have {what}, so that they are modelled by the diffusion of tables, pixel "
        f"by pixel: that of pictures needs {SMALL_SIDE_PIXELS} pixels a side and more than "
        f"{MAX_CATEGORICAL_LEVELS} grey levels."
    )
