"""The checker that jaxtyping's import hook (conftest.py) puts around every function of conjoin:
beartype, with readings of its own. An int passes where a float is asked, as for mypy. Self passes
as Any, because beartype refuses it in a method whose class it does not decorate. A function with a
hint that beartype cannot read goes unchecked.

``jaxtyped`` stands in for jaxtyping's decorator of the same name, which binds the arguments of each
call to their names and checks them twice: most of the time of a test of small tables went there.
This one checks them once, and opens a scope of shape letters only where a hint has some.

``Shape`` stands in for jaxtyping's classes of tensors, whose every check copies all that is known
of the letters: a tenth of the time of the suite. It reads names, ``*names``, ``_`` and sizes; a
function with any other shape in its hints is left to jaxtyping.
"""

import collections.abc
import dataclasses
import functools
import inspect
import re
import threading
import types
from typing import Any, Self, Union, get_args, get_origin

import jaxtyping
import torch
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

CONFIGURATION = BeartypeConf(is_pep484_tower=True)
SCOPE = jaxtyping.jaxtyped("context")
DIMENSION = re.compile(r"\*?[A-Za-z]\w*|_|\d+")
decorated_by_jaxtyping = jaxtyping.jaxtyped


def check(function, ours=None):
    """The function, with its arguments and its answer checked, by hints of ours if there are some.
    It keeps its annotations; where only the hint of the answer cannot be read, the arguments are
    checked."""
    hints = function.__annotations__
    readable = {name: Any if hint is Self else hint for name, hint in (ours or hints).items()}
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
    if not any(names_shapes(hint) for hint in subject.__annotations__.values()):
        return check(subject)
    ours = of_ours(subject.__annotations__)
    return in_a_scope(check(subject)) if ours is None else scoped(check(subject, ours))


def names_shapes(hint):
    """Whether a hint, or a part of it, has letters of a shape. A name in quotes is a class that is
    being made; of more in quotes we cannot know."""
    if isinstance(hint, str):
        return not hint.isidentifier()
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(names_shapes(part) for part in get_args(hint))


def in_a_scope(checked):
    """The letters of a shape mean the same in all hints of one call, and nothing outside of it."""

    @functools.wraps(checked)
    def inside(*args, **kwargs):
        with SCOPE:
            return checked(*args, **kwargs)

    return inside


# ------------------------------------------------------------------------------- shapes read by us


class Calls(threading.local):
    """The calls that are under way in a thread, the innermost last: of each the sizes that its
    letters have."""

    def __init__(self):
        self.sizes = []


CALLS = Calls()


def scoped(checked):
    """As ``in_a_scope``, of hints whose shapes are ``Shape``."""

    @functools.wraps(checked)
    def inside(*args, **kwargs):
        calls = CALLS.sizes
        calls.append({})
        try:
            return checked(*args, **kwargs)
        finally:
            calls.pop()

    return inside


class Shape(type):
    """A class of tensors of some dtypes and some shape, as ``Float[Tensor, "B D"]`` is."""

    def __instancecheck__(cls, value):
        if not isinstance(value, torch.Tensor) or value.dtype not in cls.dtypes:
            return False
        sizes = value.shape
        if cls.star is not None:
            last = len(sizes) - len(cls.dimensions) + cls.star + 1
            if last < cls.star:
                return False
            sizes = (*sizes[: cls.star], sizes[cls.star : last], *sizes[last:])
        return len(sizes) == len(cls.dimensions) and agree(cls.dimensions, sizes)


def agree(dimensions, sizes):
    """Whether the sizes are those that the letters have in this call; new letters get theirs, if
    all agree."""
    known = CALLS.sizes[-1]
    before = len(known)
    for dimension, size in zip(dimensions, sizes):  # noqa: B905 (as many of either)
        wanted = dimension if dimension.__class__ is int else known.setdefault(dimension, size)
        if wanted != size and dimension != "_":
            while len(known) > before:
                known.popitem()  # the youngest
            return False
    return True


def of_ours(hints):
    """The hints with ``Shape`` in place of jaxtyping's classes; None where one cannot be read."""
    try:
        return {name: read(hint) for name, hint in hints.items()}
    except ValueError:
        return None


def read(hint):
    if not names_shapes(hint):
        return hint
    if isinstance(hint, str):
        raise ValueError(hint)
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return shape_of(hint)
    origin = get_origin(hint)
    parts = tuple(read(part) for part in get_args(hint))
    if origin in (Union, types.UnionType):
        return Union[parts]  # noqa: UP007 (of a tuple)
    if isinstance(hint, types.GenericAlias) and origin is not collections.abc.Callable:
        return origin[parts]
    raise ValueError(hint)


@functools.cache
def shape_of(hint):
    words = hint.dim_str.split()
    stars = [place for place, word in enumerate(words) if word.startswith("*")]
    readable = all(DIMENSION.fullmatch(word) for word in words)
    if hint.array_type is not torch.Tensor or not readable or len(stars) > 1:
        raise ValueError(hint)
    members = {
        "dtypes": {getattr(torch, name) for name in hint.dtypes if hasattr(torch, name)},
        "dimensions": tuple(int(word) if word.isdigit() else word for word in words),
        "star": stars[0] if stars else None,
    }
    return Shape(f"{hint.dtype.__name__}[Tensor, {hint.dim_str!r}]", (), members)
