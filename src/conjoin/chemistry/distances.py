"""Bonds by distances: two atoms are bound where they are no further apart than the length of a
bond of their elements plus a margin (``conjoin.chemistry.elements``).

Shape letters: B molecules, N atoms.
"""

import numpy as np

from conjoin.chemistry.elements import lengths_of

__all__ = ["bonds_of_distances", "distances"]


def distances(xyz: np.ndarray) -> np.ndarray:
    """(..., N, N) of (..., N, 3), in the same unit."""
    return np.asarray(np.linalg.norm(xyz[..., :, None, :] - xyz[..., None, :, :], axis=-1))


def bonds_of_distances(numbers: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """(..., N, N) orders 0 to 3 of atoms (..., N) at (..., N, 3) Angstrom. An atomic number of 0
    stands for no atom."""
    distance = distances(xyz)
    one = numbers[..., :, None]
    two = numbers[..., None, :]
    orders = np.zeros(distance.shape, dtype=np.int8)
    single = distance < lengths_of(1)[one, two]
    double = single & (distance < lengths_of(2)[one, two])
    triple = double & (distance < lengths_of(3)[one, two])
    orders += single
    orders += double
    orders += triple
    size = numbers.shape[-1]
    orders[..., np.arange(size), np.arange(size)] = 0
    return orders
