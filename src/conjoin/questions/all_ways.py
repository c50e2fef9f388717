r"""log p of molecules' strings, over all ways to cut a string into tokens.

    p(s) = sum over ways w of p(w) = p(w_0) + E_q[ p(w) [w != w_0] / q(w) ]

w_0 is the way that the merges make, which alone ``score_samples`` looks at: a lower bound. A string
of few ways is summed exactly, whatever the model of tokens. Of one with more the others than w_0
are a mean of draws (D. Rubin (1987), importance sampling): an estimate of p without bias, whose
logarithm is on average a lower bound, and never below that of w_0. Counts of grams sum all ways of
any string exactly, on a lattice (``conjoin.families.classic.lattice``). Nats.

Shape letters: B rows, W ways.
"""

import warnings
from typing import Any

import numpy as np
import torch

from conjoin.codecs.smiles.ways import Lattice
from conjoin.core import Encoded, Event
from conjoin.core.ways import summed_over
from conjoin.model.model import Model

__all__ = ["log_prob_of_all_ways"]

MOST_WAYS = 512  # of a string, that are summed one by one
DRAWN_WAYS = 128  # of a string that has more


def log_prob_of_all_ways(model: Model, X: Any, seed: int = 0) -> np.ndarray:
    """(B,) log p(x) of rows with molecules.

    Raises
    ------
    ValueError
        For a model that reads no molecules, or several columns of them.
    """
    if len(model.codec.structures) != 1:
        raise ValueError(
            "exact=True sums the ways to cut one column of SMILES into tokens; this model has "
            f"{len(model.codec.structures)} such columns."
        )
    encoded = model.encode(X)
    (molecules,) = model.codec.structures
    if model.density_of_x.sums_ways:
        vocabulary = molecules.vocabulary
        with summed_over(lambda codes: Lattice.of(vocabulary, vocabulary.text(codes)).edges):
            return model.log_prob_raw(encoded)
    own = model.log_prob_raw(encoded)
    texts = molecules.strings(encoded.event.value)
    known = encoded.event.mask[:, molecules.cells].all(1).tolist()
    out = own.copy()
    rough = 0
    for row in np.flatnonzero(known).tolist():
        lattice = Lattice.of(molecules.vocabulary, texts[row])
        ways = lattice.count
        if ways > 1:
            one = encoded.take(torch.tensor([row]))
            exact = ways <= MOST_WAYS
            summed = _summed if exact else _estimated
            out[row] = summed(model, one, lattice, own[row], np.random.default_rng((seed, row)))
            rough += not exact
    if rough:
        warnings.warn(
            f"{rough:,} of the {len(out):,} molecules can be cut in more than {MOST_WAYS} ways: "
            f"their log p is estimated from {DRAWN_WAYS} ways each, on average a lower bound.",
            UserWarning,
            stacklevel=3,
        )
    return out


def _summed(model: Model, row: Encoded, lattice: Lattice, own: float, random: Any) -> float:
    return _log_sum(_scores(model, row, list(lattice.every())))


def _estimated(model: Model, row: Encoded, lattice: Lattice, own: float, random: Any) -> float:
    ways, log_q = lattice.drawn(DRAWN_WAYS, random)
    codes = _codes(model, row)
    log_p = _scores(model, row, ways) - log_q - np.log(len(ways))
    others = np.array([list(way) != codes for way in ways])
    return _log_sum(np.append(log_p[others], own))


def _codes(model: Model, row: Encoded) -> list[int]:
    """The tokens that the merges make."""
    (molecules,) = model.codec.structures
    length = int(molecules.lengths(row.event.value)[0])
    cells = row.event.value[0, molecules.cells]
    return [int(code) for code in cells[:length]]


def _scores(model: Model, row: Encoded, ways: list[tuple[int, ...]]) -> np.ndarray:
    """(W,) log p of each way; -inf of one with more tokens than the model can write."""
    (molecules,) = model.codec.structures
    cells = molecules.cells
    room = cells.stop - cells.start
    fits = [place for place, way in enumerate(ways) if len(way) <= room]
    out = np.full(len(ways), -np.inf)
    if not fits:
        return out
    many = row.take(torch.zeros(len(fits), dtype=torch.int64))
    value = many.event.value.clone()
    end = len(molecules.vocabulary.texts)
    for place, way in enumerate(fits):
        codes = torch.full((room,), float(end), dtype=value.dtype)
        codes[: len(ways[way])] = torch.tensor(ways[way], dtype=value.dtype)
        value[place, cells] = codes
    event = Event(value, many.event.mask)
    out[fits] = model.log_prob_raw(many._replace(event=event))
    return out


def _log_sum(values: np.ndarray) -> float:
    most = values.max()
    return float(most + np.log(np.exp(values - most).sum()))
