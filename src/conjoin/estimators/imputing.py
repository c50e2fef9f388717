"""impute, as the estimators offer it: missing cells filled in, or several completions of each row,
best first.
"""

from typing import Any

import numpy as np

from conjoin.questions.impute import completions, impute

__all__ = ["Imputes"]


class Imputes:
    """A fitted estimator that fills in what is missing."""

    _model: Any

    def impute(
        self, X: Any, n_draws: int | None = None, random_state: int = 0, y: Any = None
    ) -> Any:
        """X with missing cells at their most probable values; with ``n_draws``, a list of completed
        frames. ``y``: the class, or the number, that every row is taken to have."""
        return impute(self._model(), X, n_draws, random_state, y)

    def completions(
        self, X: Any, n_draws: int | None = 8, random_state: int = 0, y: Any = None
    ) -> tuple[list[Any], np.ndarray]:
        """As ``impute`` with ``n_draws``, each row's most probable completion first; and (n_draws,
        B) their log p(x), with ``y`` their log p(x, y), nats in the raw data's units."""
        return completions(self._model(), X, n_draws, random_state, y)
