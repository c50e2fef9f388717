"""The list of checks, and how a check says that it failed or that it does not apply.

A check has a name and one function for each form of subject: "rows" of numbers, as most families
see them, and "blocks", whose rows may differ in length, and records of them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["CHECKS", "Check", "NotApplicable", "check", "check_of", "close", "expect", "needs"]

Function = Callable[[Any], None]


class NotApplicable(Exception):
    """The check asks for something that the density does not declare; the message says what."""


class Check:
    """One check: what it does with a subject of each form."""

    def __init__(self) -> None:
        self.forms: dict[str, Function] = {}

    def __call__(self, subject: Any) -> None:
        if subject.form not in self.forms:
            raise NotApplicable(f"a question about {' and '.join(self.forms)}")
        self.forms[subject.form](subject)


CHECKS: dict[str, Check] = {}


def check_of(*forms: str) -> Callable[[Function], Function]:
    """Enter a function of one subject of these forms into CHECKS under its own name."""

    def enter(function: Function) -> Function:
        CHECKS.setdefault(function.__name__, Check()).forms.update(dict.fromkeys(forms, function))
        return function

    return enter


def check(function: Function) -> Function:
    """Enter a function of one subject of rows into CHECKS under its own name."""
    return check_of("rows")(function)


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
