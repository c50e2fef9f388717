"""What ``speed="fast"`` leaves out of a fit, which family stands in for one that can't learn in
chunks or beside blocks, and how that is told."""

from typing import Any

from conjoin.core import Codec, Config, Density
from conjoin.families import name_of
from conjoin.fitting.options import FitOptions

__all__ = ["left_out", "replaced", "simpler"]


def simpler(config: Config, options: FitOptions) -> Config:
    """The config that a fast fit, or one of more rows than memory holds, takes in the place of this
    one. A fit that begins from a model keeps what that is made of."""
    fast = options.fast and options.start is None
    return config.streamed() if fast or options.stream is not None else config


def left_out(asked: Config, taken: Config, codec: Codec, options: FitOptions) -> list[str]:
    """A sentence for the notices; none where the fit is not fast."""
    if not options.fast:
        return []
    simple = asked.streamed()
    usual = (asked if type(simple) is type(asked) else type(simple)()).get_params()
    now = taken.get_params()
    fewer = simple.get_params().items()
    changed = {name: each for name, each in fewer if each != usual[name] and now.get(name) == each}
    settings = ", ".join(f"{name}={each!r}" for name, each in changed.items())
    parts = [f"the family is {name_of(taken)} with {settings}"] if changed else []
    if _has_pool(options.predictor):
        parts.append("p(y | x) is learned in three folds and without extra trees")
    if _has_mini_batches(taken):
        parts.append("mini-batches of expectation-maximisation take half of their steps")
    if codec.columnwise:
        parts.append("familiarity has no kernels")
    return [f"speed='fast': {'; '.join(parts or ['nothing of this fit could be left out'])}."]


def replaced(asked: Config, taken: Config, codec: Codec, options: FitOptions) -> list[str]:
    """A sentence for the notices where the rows are modelled by another family than the one that
    was asked for; none where a fast fit tells it."""
    name = name_of(asked)
    if options.stream is not None and type(asked.streamed()) is not type(asked):
        return [
            f"family={name!r} needs all rows in memory, and this fit reads them in chunks: the "
            f"family is {name_of(taken)!r}."
        ]
    columns = asked.beside_blocks()
    if codec.space.flat and codec.space.blocks and type(columns) is not type(asked):
        return [
            f"family={name!r} models columns alone, and beside them stand pictures, strings or "
            f"text: the family of the columns is {name_of(columns)!r}."
        ]
    return []


def _has_mini_batches(config: Config) -> bool:
    """Of expectation-maximisation, as many as the loop thinks good."""
    counts = config.density._statistics is not Density._statistics
    return counts and config.recipe(1).epochs is None


def _has_pool(predictor: Any) -> bool:
    """Whether "auto" is asked for, alone or among others."""
    asked = predictor if isinstance(predictor, list | tuple) else [predictor]
    return any(isinstance(each, str) and each == "auto" for each in asked)
