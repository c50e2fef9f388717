"""One imputation and one counterfactual, on a row that the model drew itself; on a real row only
where rows may be shown.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.native import plain_frame
from conjoin.codecs.table.reading import in_numbers
from conjoin.core import CapabilityError
from conjoin.model.words import cell
from conjoin.plot.choose import telling_columns

__all__ = [
    "Counterfactual",
    "Imputation",
    "counterfactual_example",
    "drawn_rows",
    "imputation_example",
]

HIDDEN_COLUMNS = 3  # columns of a row that are hidden and imputed
DRAWS_PER_ROW = 60
SEED = 1


@dataclass(frozen=True)
class Imputation:
    """``rows``: (column, hidden value, most probable value, range of the draws)."""

    rows: list[tuple[str, str, str, str]]
    known: int
    real: bool


@dataclass(frozen=True)
class Counterfactual:
    """``before`` and ``to`` in words; ``options``: (changes, probability, familiarity); ``note``
    where there are none."""

    before: str
    to: str
    options: list[dict[str, Any]]
    note: str
    real: bool


def drawn_rows(estimator: Any, n: int) -> pd.DataFrame:
    frame: pd.DataFrame = plain_frame(estimator.sample(n, random_state=SEED)[0])
    return frame


def _typical(estimator: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """The row of middling familiarity among those that lack the fewest cells: neither the best nor
    a strange one."""
    model = estimator.model_
    gaps = frame.reindex(columns=model.codec.columns).isna().sum(axis=1).to_numpy()
    places = np.flatnonzero(gaps == gaps.min())
    part = frame.iloc[places]
    order = np.argsort(model.statistic(model.encode(part)), kind="stable")
    row = order[len(order) // 2]
    return part.iloc[row : row + 1].reset_index(drop=True)


def imputation_example(estimator: Any, real: pd.DataFrame | None) -> Imputation | None:
    """Hide some telling cells of one row, and let the model fill them. None with fewer than two
    columns."""
    model = estimator.model_
    row = _typical(estimator, drawn_rows(estimator, 64) if real is None else real)
    names = [
        name
        for name in telling_columns(model, len(model.codec.columns))
        if name in row and row[name].notna().all()
    ]
    names = _unlike(model, names)[: min(HIDDEN_COLUMNS, len(model.codec.columns) - 1)]
    if not names:
        return None
    holed = row.astype(object)
    holed[names] = None
    holed = holed.astype({name: row[name].dtype for name in row if name not in names})
    try:
        best = estimator.impute(holed)
        draws = pd.concat(estimator.impute(holed, n_draws=DRAWS_PER_ROW, random_state=SEED))
    except CapabilityError:
        return None
    rows = [
        (str(name), cell(row[name].iloc[0]), cell(best[name].iloc[0]), _spread(model, draws[name]))
        for name in names
    ]
    return Imputation(
        rows,
        int(row.reindex(columns=model.codec.columns).notna().sum(axis=1).iloc[0]) - len(names),
        real is not None,
    )


def _unlike(model: Any, names: list[Any]) -> list[Any]:
    """Every third of the telling columns, so that near copies of one another are not hidden
    together."""
    return (
        [name for start in range(3) for name in names[start::3]]
        if len(names) > 3 * HIDDEN_COLUMNS
        else names
    )


def _spread(model: Any, draws: pd.Series) -> str:
    """The middle 80 % of numbers or dates, the commonest levels of others."""
    numbers = in_numbers(model.codec.schema[draws.name], draws)
    if numbers is not draws:  # written in words, and shown so
        draws = draws.iloc[np.argsort(numbers.to_numpy(), kind="stable")]
        return f"{draws.iloc[len(draws) // 10]} to {draws.iloc[-1 - len(draws) // 10]}"
    if pd.api.types.is_bool_dtype(draws) or not (
        pd.api.types.is_numeric_dtype(draws) or pd.api.types.is_datetime64_any_dtype(draws)
    ):
        shares = draws.astype(str).value_counts(normalize=True)
        return ", ".join(f"{level} {share:.0%}" for level, share in shares.iloc[:3].items())
    ordered = draws.sort_values(ignore_index=True)
    return (
        f"{cell(ordered.iloc[len(ordered) // 10])} to {cell(ordered.iloc[-1 - len(ordered) // 10])}"
    )


def counterfactual_example(estimator: Any, real: pd.DataFrame | None) -> Counterfactual | None:
    """What would have to change in one row for another answer. None for a density, or where nothing
    was calibrated."""
    model = estimator.model_
    if model.target is None or model.calibration is None:
        return None
    frame = drawn_rows(estimator, 128) if real is None else real
    frame, before, to, words = _wish(estimator, frame)
    try:
        found = estimator.counterfactual(_typical(estimator, frame), to=to)
    except CapabilityError as error:
        return Counterfactual(before, words, [], str(error), real is not None)
    some = found["probability"].notna().any()
    options = found[["changed", "probability", "familiarity"]].to_dict("records") if some else []
    return Counterfactual(
        before, words, options, "" if some else str(found["changed"].iloc[0]), real is not None
    )


def _wish(estimator: Any, frame: pd.DataFrame) -> tuple[pd.DataFrame, str, Any, str]:
    """Rows that share the commonest answer, that answer, and another: (rows, before, to, to in
    words)."""
    model = estimator.model_
    guess = estimator.predict(frame)
    if model.has_classes:
        counts = pd.Series(guess).value_counts()
        first = counts.index[0]
        others = [label for label in estimator.classes_ if label != first]
        to = max(
            others, key=lambda label: (counts.get(label, 0), -list(estimator.classes_).index(label))
        )
        return frame[guess == first], str(first), to, str(to)
    low, high = (float(end) for end in np.quantile(guess, [0.75, 0.95]))
    lowest = guess <= np.quantile(guess, 0.5)
    return (
        frame[lowest],
        f"about {np.median(guess[lowest]):.4g}",
        (low, high),
        f"{low:.4g} to {high:.4g}",
    )
