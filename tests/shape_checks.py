"""The checker that jaxtyping's import hook (conftest.py) puts around every function of conjoin:
beartype, with readings of its own. An int passes where a float is asked, as for mypy. Self passes
as Any, because beartype refuses it in a method whose class it does not decorate. A function with a
hint that beartype cannot read goes unchecked.
"""

from typing import Any, Self

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

CONFIGURATION = BeartypeConf(is_pep484_tower=True)


def check(function):
    function.__annotations__ = {
        name: Any if hint is Self else hint for name, hint in function.__annotations__.items()
    }
    try:
        return beartype(conf=CONFIGURATION)(function)
    except BeartypeDecorHintException:
        return function
