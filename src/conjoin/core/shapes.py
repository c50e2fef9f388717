"""Array annotations such as ``Float[Tensor, "B D"]``, checked only where jaxtyping was imported
first.

The tests import jaxtyping before conjoin, so every annotated call is checked there. For users the
annotations cost nothing, and jaxtyping is no dependency.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Num
else:

    class _Unchecked:
        """Stands in for a jaxtyping dtype: ``Float[Tensor, "B D"]`` is just ``Tensor``."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Int = Num = _Unchecked

__all__ = ["Bool", "Float", "Int", "Num"]
