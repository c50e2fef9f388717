"""The checks of shapes and types that run under every test (conftest.py, shape_checks.py)."""

from dataclasses import dataclass
from typing import Self

import pytest
import shape_checks
import torch
from beartype.roar import BeartypeCallHintViolation
from torch import Tensor

from conjoin.core.shapes import Float, Int
from conjoin.families.circuit import passes


def decorated(subject):
    return shape_checks.jaxtyped(typechecker=shape_checks.check)(subject)


@decorated
def shifted(rows: Float[Tensor, "B D"], by: Float[Tensor, "D"]) -> Float[Tensor, "B D"]:
    return (rows + by)[:, : by.sum().int()]


def test_a_letter_means_the_same_in_every_hint_of_a_call():
    shifted(torch.ones(3, 2), torch.ones(2))
    shifted(torch.ones(4, 3), torch.ones(3))  # another call, another size
    for rows, by in [
        (torch.ones(3, 2), torch.ones(1)),
        (torch.ones(3), torch.ones(1)),
        (torch.ones(3, 2).int(), torch.ones(2)),
        (torch.ones(3, 2), torch.zeros(2)),  # the answer has another D
    ]:
        with pytest.raises(BeartypeCallHintViolation):
            shifted(rows, by)


@decorated
def many(
    rows: Float[Tensor, "*B D 2"],
    by: Float[Tensor, "*B _"] | None,
    more: tuple[Int[Tensor, "D"], ...],
) -> dict[str, Float[Tensor, "D *B"]]:
    return {"rows": rows[..., 0].movedim(-1, 0)}


def test_runs_of_dimensions_sizes_and_parts_of_hints_are_checked():
    assert shape_checks.of_ours(many.__annotations__) is not None
    d = torch.arange(3)
    many(torch.ones(3, 2), torch.ones(9), (d,))
    many(torch.ones(5, 4, 3, 2), torch.ones(5, 4, 7), (d, d))
    many(torch.ones(5, 3, 2), None, ())
    for rows, by, more in [
        (torch.ones(5, 3, 1), None, ()),
        (torch.ones(2), None, ()),
        (torch.ones(5, 3, 2), torch.ones(4, 1), ()),
        (torch.ones(5, 3, 2), torch.ones(5), ()),
        (torch.ones(5, 3, 2), None, (torch.arange(4),)),
        (torch.ones(5, 3, 2), None, (torch.ones(3),)),
    ]:
        with pytest.raises(BeartypeCallHintViolation):
            many(rows, by, more)


def test_what_is_not_read_is_left_to_jaxtyping():
    @decorated
    def wide(rows: Float[Tensor, "#B D"], by: Float[Tensor, "#B D"]) -> Float[Tensor, "B D"]:
        return rows + by

    assert shape_checks.of_ours(wide.__annotations__) is None
    wide(torch.ones(3, 2), torch.ones(1, 2))
    with pytest.raises(BeartypeCallHintViolation):
        wide(torch.ones(3, 2), torch.ones(1, 3))


def test_a_dimension_of_two_sizes_is_refused():
    @decorated
    def square(rows: Float[Tensor, "M M"]) -> Float[Tensor, " M"]:
        return rows[0]

    square(torch.ones(3, 3))
    with pytest.raises(BeartypeCallHintViolation):
        square(torch.ones(3, 2))


def test_the_letters_of_a_call_are_gone_when_it_fails():
    with pytest.raises(BeartypeCallHintViolation):
        shifted(torch.ones(3, 2), torch.ones(1))
    assert isinstance(torch.ones(7), Float[Tensor, "D"])
    assert isinstance(torch.ones(8), Float[Tensor, "D"])


def test_types_without_letters_are_checked_too():
    @decorated
    def half(number: float) -> float:
        return number / 2 if number else "none"

    @decorated
    def unreadable(number: int) -> 3:
        return number

    assert half(3) == 1.5  # an int passes for a float
    for wrong in ("3", 0):
        with pytest.raises(BeartypeCallHintViolation):
            half(wrong)
    with pytest.raises(BeartypeCallHintViolation):
        unreadable("3")


def test_classes_are_checked_where_they_are_made():
    @decorated
    @dataclass
    class Point:
        x: float

        def moved(self, by: float) -> Self:
            return Point(self.x + by)

    assert Point(1.0).moved(2.0).x == 3.0
    with pytest.raises(BeartypeCallHintViolation):
        Point("one")


def test_the_library_is_checked():
    numbers = torch.ones(3, 2, dtype=torch.float64)
    assert passes._add(numbers, None, 3) is numbers
    for wrong in (numbers[0], numbers.int()):
        with pytest.raises(BeartypeCallHintViolation):
            passes._add(wrong, None, 3)
    with pytest.raises(BeartypeCallHintViolation):
        passes._take([1.0], None)
