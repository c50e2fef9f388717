"""Whether a model, asked to draw, gives back strings of its training rows that are rare.

A string is rare that stands in one training row alone and in none that was held out. Common words
come out of any good model; rare ones by chance too, so as many held-out strings, which the model
never saw, are looked for beside them. Long strings count as given back where so many characters of
one in a row are: N. Carlini et al. (2021), Extracting training data from large language models.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

__all__ = ["Extraction", "extraction", "string_columns"]

PASSAGE_CHARACTERS = 50
MIN_DISTINCT_SHARE = 0.5  # of a column's cells, from which on its words are strings and no levels
MAX_TEXTS = 5_000  # of each side


@dataclasses.dataclass(frozen=True)
class Extraction:
    """``given_back``: rare training strings that are among the draws; ``by_chance``: of as many
    held-out strings; ``rare``: of each that were looked for."""

    column: str
    draws: int
    rare: int
    given_back: int
    by_chance: int
    passages: int  # draws that hold a passage of a rare training string
    passages_by_chance: int

    @property
    def p_value(self) -> float:
        """Of so many more training strings, were both alike."""
        both = self.given_back + self.by_chance
        if not both:
            return 1.0
        return float(binomtest(self.given_back, both, 0.5, alternative="greater").pvalue)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"p_value": self.p_value}


def string_columns(frame: pd.DataFrame) -> list[Any]:
    """Columns of strings that are mostly different ones."""
    found = []
    for name in frame:
        cells = frame[name].dropna()
        words = len(cells) > 0 and all(isinstance(cell, str) for cell in cells)
        if words and cells.nunique() >= MIN_DISTINCT_SHARE * len(cells):
            found.append(name)
    return found


def extraction(
    name: str,
    train: Iterable[str],
    held: Iterable[str],
    drawn: Iterable[str],
    rng: np.random.Generator,
) -> Extraction:
    """What the strings ``drawn`` hold of training strings, and of held-out ones."""
    counts = Counter(train)
    others = Counter(held)
    made = list(drawn)
    rare = [text for text, count in counts.items() if count == 1 and text not in others]
    control = [text for text, count in others.items() if count == 1 and text not in counts]
    size = min(len(rare), len(control), MAX_TEXTS)
    rare = [rare[place] for place in rng.permutation(len(rare))[:size]]
    control = [control[place] for place in rng.permutation(len(control))[:size]]
    own = _passages(rare)
    theirs = _passages(control)
    common = own & theirs
    unique = set(made)
    return Extraction(
        name,
        len(made),
        size,
        len(unique.intersection(rare)),
        len(unique.intersection(control)),
        sum(bool(_passages([text]) & (own - common)) for text in made),
        sum(bool(_passages([text]) & (theirs - common)) for text in made),
    )


def _passages(texts: Iterable[str]) -> set[int]:
    """Hashes of all passages; a text that is shorter has none."""
    return {
        hash(text[place : place + PASSAGE_CHARACTERS])
        for text in texts
        for place in range(len(text) - PASSAGE_CHARACTERS + 1)
    }
