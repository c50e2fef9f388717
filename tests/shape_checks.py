"""The checker that jaxtyping's import hook (conftest.py) puts around every function of conjoin:
beartype, with readings of its own. An int passes where a float is asked, as for mypy. Self passes
as Any, because beartype refuses it in a method whose class it does not decorate. A function with a
hint that beartype cannot read goes unchecked.

``jaxtyped`` stands in for jaxtyping's decorator of the same name, which binds the arguments of each
call to their names and checks them twice: most of the time of a test of small tables went there.
This one checks them once, and opens a scope of shape letters only where a hint has some.
"""

import dataclasses
import functools
import inspect
from typing import Any, Self, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

CONFIGURATION = BeartypeConf(is_pep484_tower=True)
SCOPE = jaxtyping.jaxtyped("context")
decorated_by_jaxtyping = jaxtyping.jaxtyped


def check(function):
    """The function, with its arguments and its answer checked. It keeps its annotations; where only
    the hint of the answer cannot be read, the arguments are checked."""
    hints = function.__annotations__
    readable = {name: Any if hint is Self else hint for name, hint in hints.items()}
    checked = beartyped(function, readable) or beartyped(function, readable | {"return": Any})
    function.__annotations__ = hints
    if checked is None:
        return function
    checked.__annotations__ = hints
    return checked


def beartyped(function, hints):
    """None where beartype cannot read the hints."""
    function.__annotations__ = hints
    try:
        return beartype(conf=CONFIGURATION)(function)
    except BeartypeDecorHintException:
        return None


def jaxtyped(subject=None, *, typechecker=None):
    """What the hook puts around functions and classes. A generator is left to jaxtyping, because
    its letters outlive the call."""
    if subject is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(subject):
        if dataclasses.is_dataclass(subject) and not hasattr(subject.__init__, "__wrapped__"):
            subject.__init__ = jaxtyped(subject.__init__, typechecker=typechecker)
        return subject
    if not inspect.isfunction(subject) or inspect.isgeneratorfunction(subject):
        return decorated_by_jaxtyping(subject, typechecker=typechecker)
    has_letters = any(names_shapes(hint) for hint in subject.__annotations__.values())
    return in_a_scope(check(subject)) if has_letters else check(subject)


def names_shapes(hint):
    """Whether a hint, or a part of it, has letters of a shape; of one in quotes we cannot know."""
    if isinstance(hint, str):
        return True
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(names_shapes(part) for part in get_args(hint))


def in_a_scope(checked):
    """The letters of a shape mean the same in all hints of one call, and nothing outside of it."""

    @functools.wraps(checked)
    def scoped(*args, **kwargs):
        with SCOPE:
            return checked(*args, **kwargs)

    return scoped
