r"""Columns, and the picture that goes with them: ``conjoin.families.multimodal`` of one picture.

    log p(c, v) = log p(c) + log p(v | c)

Its settings are those of the picture, and its saved models keep their form. p(v | c) is the
diffusion of pictures, a bound (D. Kingma et al. (2021), Variational diffusion models, equation 11).
Nats.

Shape letters: B rows.

>>> from conjoin.core import Event, Space, Variable, stream
>>> grey = (Variable("grey", "ordered", cardinality=256),) * 64
>>> space = Space((65,), (Variable("mass", "real"), *grey), "vector", (1, 8, 8))
>>> pixels = torch.randint(256, (40, 64), generator=stream(0))
>>> rows = torch.cat([torch.arange(40)[:, None], pixels], 1).double()
>>> config = Illustrated(size=0.25, points=4)
>>> density = IllustratedDensity.build(space, config, Event(rows), stream(0))
>>> without = Event(rows).hide(torch.arange(65) > 0)
>>> bool((density.log_prob(without) == density.first.log_prob(Event(rows[:, :1]))).all())
True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from conjoin.core import Block, Config, Event, Space
from conjoin.core.shapes import Float
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.families.multimodal import ColumnsAndBlocks, check_columns, config_of_columns

__all__ = ["Illustrated", "IllustratedDensity"]


@dataclass(frozen=True)
class Illustrated(PictureDiffusion):
    """Settings of columns with a picture; those that are not named here are ``PictureDiffusion``'s.

    Parameters
    ----------
    columns : str, default "circuit"
        Family of the columns: one that sums over missing cells.
    settings : mapping or None, default None
        Settings of that family.
    """

    columns: str = "circuit"
    settings: Mapping[str, Any] | None = None

    strings_first: ClassVar[bool] = False  # there are none

    def __post_init__(self) -> None:
        check_columns(self.columns, self.of_columns)

    @property
    def of_columns(self) -> Config:
        return config_of_columns(self.columns, self.settings)

    def of(self, block: Block) -> PictureDiffusion:
        """The config of the picture."""
        own = {field.name: getattr(self, field.name) for field in fields(PictureDiffusion)}
        return PictureDiffusion(**own)


class IllustratedDensity(ColumnsAndBlocks):
    """``first`` is p(c), fitted before the rest; ``picture`` is p(v | c)."""

    config_class = Illustrated

    @classmethod
    def blocks_of(cls, space: Space) -> tuple[Block, ...]:
        if space.grid is None or space.columns < 1:
            raise ValueError(
                "family='illustrated' is for tables of which one column holds pictures; for "
                "pictures alone take 'diffusion'."
            )
        return space.behind

    @classmethod
    def names_of(cls, blocks: Sequence[Block]) -> list[str]:
        return ["picture"]

    def _typicality(self, event: Event) -> Float[torch.Tensor, " B"]:
        """Also of rows without a picture: how familiar columns are is read off log p(c)."""
        part = self.parts[0]
        behind = event.cut(self.width)[1]
        return self.density_of(part).typicality(self._event(behind, part))
