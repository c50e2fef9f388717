"""The joint that a family's own nature asks for."""

from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Pair, Space, stream
from conjoin.families import resolve
from conjoin.joints.base import Joint, flat_space
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.independent import Independent, IndependentNumber, column_of
from conjoin.joints.monolithic import Monolithic

__all__ = ["beside", "build_joint"]

MAX_BYTE_LEVELS = 256
PRIOR_COMPONENTS = 8  # of the mixture that is p(y) of a number
PRIOR_PASSES = 50  # of expectation-maximisation


def build_joint(
    config: Any,
    y_space: Space,
    x_space: Any,
    data: Pair,
    generator: torch.Generator,
    weight: Tensor | None = None,
    build: Any = None,
) -> Joint:
    """The joint that a family's own nature asks for: p(y) p(x | y) if it takes a context, else one
    density over (y, x); where it takes nothing beside x, p(y) p(x): a predictor has all to say
    about y. ``build``: in place of that of the family. ValueError for a number beside a block that
    is no row of numbers, unless the family's network can learn to read it."""
    build = build or config.density.build
    if y_space.variables[0].discrete and config.density.conditional:
        x_density = build(
            x_space, config, data.x, generator, weight=weight, context=data.y, context_space=y_space
        )
        return ClassConditional(x_density, y_space)
    if y_space.variables[0].discrete and (config.alone or not x_space.flat):
        return beside(
            build(x_space, config, data.x, generator, weight=weight), y_space, data.y, weight
        )
    if not x_space.flat and config.density.read_by_network:
        density = build(x_space, config, data.x, generator, weight=weight)
        return beside(density, y_space, data.y, weight)
    if not x_space.flat:
        raise ValueError(
            f"y is a number, and strings alone ({x_space.name!r}) can stand beside classes alone: "
            "give classes of y, or the strings as one of several columns of a table."
        )
    space = flat_space(y_space, x_space)
    y = data.y.value[:, None]
    if y_space.variables[0].cardinality <= MAX_BYTE_LEVELS and y_space.variables[0].discrete:
        y = y.to(data.x.value)  # a class beside pictures is a byte, as they are
    value = torch.cat([y, data.x.value], 1)
    rows = Event(value, torch.cat([data.y.mask[:, None], data.x.mask], 1))
    return Monolithic(build(space, config, rows, generator, weight=weight), y_space, x_space)


def beside(density: Density, y_space: Space, y: Event, weight: Tensor | None = None) -> Joint:
    """p(y) p(x) of a density of x and the known y (B,) of some rows."""
    if y_space.variables[0].discrete:
        return _apart(density, y_space, y, weight)
    return IndependentNumber(density, _prior_of_number(y_space, y, weight), y_space)


@torch.no_grad()
def _apart(density: Density, y_space: Space, y: Event, weight: Tensor | None) -> Independent:
    """p(y) p(x), with the shares of the labels; they stay where all of the density stays."""
    joint = Independent(density, y_space)
    known = y.mask
    counted = known.double() if weight is None else weight * known
    code = torch.where(known, y.value, 0.0).long()
    share = torch.bincount(code, counted, len(joint.log_prior)) + 0.5
    joint.log_prior.copy_(share.log().log_softmax(0))
    fixed = not any(parameter.requires_grad for parameter in density.parameters())
    joint.log_prior.requires_grad_(not fixed)
    return joint


@torch.no_grad()
def _prior_of_number(y_space: Space, y: Event, weight: Tensor | None) -> Density:
    """p(y) of a number: a mixture, fitted to the rows that have one."""
    known = y.mask
    rows = Event(y.value[known][:, None])
    mass = None if weight is None else weight[known]
    config = resolve("mixture").set_params(components=PRIOR_COMPONENTS)
    space = column_of(y_space)
    prior: Density = config.density.build(space, config, rows, stream(0, "prior"), weight=mass)
    for _ in range(PRIOR_PASSES):
        prior.maximise(prior.statistics(rows, weight=mass))
    return prior.eval()
