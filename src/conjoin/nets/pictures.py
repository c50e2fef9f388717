"""Where a picture lies in the flat rows of a space, for whatever looks at it as one.

Shape letters: B rows, C channels, H rows of pixels, W columns of pixels, P = C H W pixels.
"""

from typing import NamedTuple

from torch import Tensor

from conjoin.core import Space
from conjoin.core.shapes import Float

__all__ = ["Pictured", "pictured"]


class Pictured(NamedTuple):
    """The variables from ``first`` on are the P pixels of a picture of the shape (C, H, W), with
    the codes 0 to ``top``."""

    first: int
    shape: tuple[int, int, int]
    top: int

    @property
    def alone(self) -> bool:
        """Whether there is nothing beside the picture."""
        return self.first == 0

    def of(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """The pictures of flat rows."""
        return value[:, self.first :].unflatten(1, self.shape)


def pictured(space: Space) -> Pictured | None:
    """Where the picture is; None for a space without one."""
    if space.grid is None:
        return None
    first = len(space.variables) - space.pixels
    return Pictured(first, space.grid, space.variables[-1].cardinality - 1)
