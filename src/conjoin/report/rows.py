"""The report's sections that show rows of a table: drawn, filled in, changed for another answer."""

from typing import Any

from conjoin.core import Rows
from conjoin.report.examples import counterfactual_example, imputation_example
from conjoin.report.pairs import beside_pictures, picture_names
from conjoin.report.sections import Answers, attempt, row_table
from conjoin.report.synthetic import synthetic_rows

__all__ = ["row_sections"]

CANT_FILL = (
    "This model can't fill single cells, or has no two columns of which one could be hidden."
)


def row_sections(estimator: Any, found: Answers, real: Rows | None) -> dict[str, Any]:
    """The sections. ``real``: rows, where real ones may be shown, else None."""
    frame = None if real is None else real.frame
    filled, no_imputation = attempt(imputation_example, estimator, frame)
    changed, no_counterfactual = attempt(counterfactual_example, estimator, frame)
    synthetic, no_synthetic = attempt(synthetic_rows, estimator, found)
    table = row_table(estimator, frame)
    pictures = picture_names(estimator.model_.codec)
    pairs, no_pairs = attempt(beside_pictures, estimator, found, frame) if pictures else ([], "")
    return {
        "template": "rows.html.j2",
        "sections": (
            "samples",
            *(["pairs"] if pictures else []),
            "synthetic",
            "imputation",
            "counterfactual",
        ),
        "pairs": pairs,
        "no_pairs": no_pairs,
        "row_table": table | {"left": table["left"] - len(pictures)},
        "synthetic": synthetic,
        "no_synthetic": no_synthetic
        or "Give held-out rows to see how the rows that the model draws compare with them.",
        "imputation": filled,
        "no_imputation": no_imputation or CANT_FILL,
        "counterfactual": changed,
        "no_counterfactual": no_counterfactual
        or "Nothing was calibrated, so what is plausible is not known.",
    }
