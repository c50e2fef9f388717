"""The list of checks, and how a check says that it failed or that it does not apply."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["CHECKS", "NotApplicable", "check", "close", "expect", "needs"]

CHECKS: dict[str, Callable[[Any], None]] = {}


class NotApplicable(Exception):
    """The check asks for something that the density does not declare; the message says what."""


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Enter a function of one Subject into CHECKS under its own name."""
    CHECKS[function.__name__] = function
    return function


def needs(declared: bool, what: str) -> None:
    if not declared:
        raise NotApplicable(what)


def expect(holds: bool | Tensor, message: str) -> None:
    """An AssertionError with the figures; unlike ``assert`` it also speaks under ``python -O``."""
    if not bool(holds):
        raise AssertionError(message)


def close(value: Tensor, target: Tensor, tolerance: float, what: str) -> None:
    """Equal where both are finite, and infinite in the same places."""
    expect(
        value.shape == target.shape,
        f"{what}: shape {tuple(value.shape)} is not {tuple(target.shape)}",
    )
    same = (value == target) | ((value - target).abs() <= tolerance * (1 + target.abs()))
    if not same.all():
        worst = (
            torch.where(same, 0.0, (value - target).abs().nan_to_num(torch.inf)).flatten().argmax()
        )
        expect(
            False,
            f"{what}: {value.flatten()[worst]:.6g} is not {target.flatten()[worst]:.6g} "
            f"(tolerance {tolerance:g})",
        )
