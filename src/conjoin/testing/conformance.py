"""What every density must pass: identities on tiny spaces, by brute force. Shipped, so that you can
test your own family.

    conjoin test-family mine.py:MyFlow

Every family of the registry x every tiny space that it takes x every check; the same again for the
joint models made of it. A check that does not apply (the density does not declare what it asks for)
passes and says why.

>>> from conjoin.testing.conformance import check_family
>>> [result.passed for result in check_family("naive_bayes", only=["normalisation"])][:2]
[True, True]
"""

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from conjoin.families import FAMILIES, name_of, resolve
from conjoin.testing import (  # noqa: F401  (they enter CHECKS)
    checks_blocks,
    checks_contexts,
    checks_contract,
    checks_events,
    checks_extras,
    checks_joint,
    checks_learning,
    checks_mass,
    checks_sums,
)
from conjoin.testing.block_spaces import TinyBlocks
from conjoin.testing.fitted import Fitted, NotTaken
from conjoin.testing.registry import CHECKS, NotApplicable
from conjoin.testing.subjects import subject, subject_names, tiny_of

__all__ = [
    "CHECKS",
    "VERIFIED",
    "NotApplicable",
    "NotTaken",
    "Result",
    "cases",
    "check_family",
    "results_table",
    "run_case",
]

# spaces that test nothing more of a family whose network has no grid
OF_PICTURES = ("channels",)
# every field of Capabilities, and the checks that verify it
VERIFIED: dict[str, tuple[str, ...]] = {
    "likelihood": ("normalisation", "samples"),
    "objective": ("loss_is_likelihood", "score_identity"),
    "stochastic": ("stochastic",),
    "missing": ("missing_cells", "nothing_known", "missing_values_ignored"),
    "marginals": ("missing_cells",),
    "conditionals": ("conditionals", "conditionals_per_row"),
    "regions": ("regions",),
    "mode": ("modes",),
    "null_context": ("null_context",),
    "invariances": ("invariances",),
    "statistics": ("statistics", "expectation_maximisation"),
    "sweeps": ("sweeps",),
    "features": ("features",),
    "typical": ("typical",),
    "edits": ("edits",),
    "unfolds": ("unfolds",),
    "distils": ("distils",),
    "step": ("step",),
    "even": ("even",),
    "differentiable": ("differentiable",),
    "reparameterized": ("reparameterized",),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One check on one space. ``detail`` says why it failed, or why it does not apply."""

    check: str
    space: str
    passed: bool
    seconds: float
    detail: str = ""


def cases(family: Any, only: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """(space, check) for a family: its spaces by the kinds of variable and the layouts that the
    registry says it takes."""
    checks = list(CHECKS) if only is None else list(only)
    unknown = set(checks) - set(CHECKS)
    if unknown:
        raise ValueError(
            f"There is no check {sorted(unknown)[0]!r}; choose from {', '.join(CHECKS)}."
        )
    config = resolve(family)
    return [
        (space, check) for space in subject_names() if _takes(config, space) for check in checks
    ]


def _takes(config: Any, space: str) -> bool:
    entry = FAMILIES.get(name_of(config))
    if " given " in space and not config.density.conditional:
        return False
    if entry is None:
        return True
    found = tiny_of(space)
    if isinstance(found, TinyBlocks) and config.density.flat and not config.density.takes_blocks:
        return False
    if found.name in OF_PICTURES and not entry.pictures:
        return False
    return entry.takes(found.space)


def run_case(family: Any, space: str, check: str) -> Fitted:
    """Run one check; AssertionError says how it failed, NotApplicable or NotTaken why it was not
    run."""
    found = subject(resolve(family), space)
    CHECKS[check](found)
    return found


def check_family(family: Any, *, only: Iterable[str] | None = None) -> list[Result]:
    """Every check of a family (a name, a config, or a Density class), or those named in
    ``only``."""
    return [_result(family, space, check) for space, check in cases(family, only)]


def _result(family: Any, space: str, check: str) -> Result:
    started = time.perf_counter()
    passed, detail = _outcome(lambda: run_case(family, space, check))
    return Result(check, space, passed, time.perf_counter() - started, detail)


def _outcome(run: Callable[[], Any]) -> tuple[bool, str]:
    try:
        run()
    except NotApplicable as reason:
        return True, f"does not apply: {reason}"
    except NotTaken as reason:
        return True, f"space not taken: {reason}"
    except AssertionError as failure:
        return False, str(failure)
    except Exception as error:  # a check that crashes has failed; where it did is in the detail
        where = traceback.extract_tb(error.__traceback__)[-1]
        return False, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    return True, ""


def results_table(results: list[Result]) -> Any:
    """The results as a rich table: one line per check, failures in full."""
    from rich.table import Table

    failed = sum(not result.passed for result in results)
    table = Table(
        "check",
        "space",
        "result",
        "seconds",
        "detail",
        title=f"{len(results)} checks, {failed} failed",
    )
    for result in results:
        aside = "does not apply" in result.detail or "not taken" in result.detail
        word = (
            "[dim]-[/dim]"
            if aside
            else "[green]passed[/green]"
            if result.passed
            else "[red]FAILED[/red]"
        )
        table.add_row(result.check, result.space, word, f"{result.seconds:.2f}", result.detail)
    return table
