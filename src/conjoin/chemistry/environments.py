"""Atoms with their bound neighbours, as keys that can be counted.

Two atoms have the same key where they are the same and are bound to the same atoms by the same
bonds, whatever the order (circular fingerprints of radius 1: D. Rogers and M. Hahn (2010),
Extended-connectivity fingerprints). Keys are sums of random whole numbers, which hardly ever
collide.

Shape letters: B molecules, N places.
"""

import numpy as np
import torch
from torch import Tensor

from conjoin.core.shapes import Int

__all__ = ["environment_keys"]

CODES = 256  # of an atom: a code is a byte
BONDS = 5
SEED = 3


def environment_keys(codes: Int[Tensor, "B N N"]) -> Int[Tensor, "B N"]:
    """Keys of atoms, 0 where there is none. ``codes``: those of the atoms on the diagonal, those of
    the bonds beside it (``conjoin.nets.molecular_graph``).

    >>> methanol_like = torch.tensor([[[2, 1, 0], [1, 3, 1], [0, 1, 2]]])
    >>> one, middle, other = environment_keys(methanol_like)[0].tolist()
    >>> one == other, one == middle
    (True, False)
    """
    noise = np.random.RandomState(SEED)
    alone = torch.as_tensor(noise.randint(1, 1 << 60, size=CODES, dtype=np.int64))
    near = torch.as_tensor(noise.randint(1, 1 << 50, size=(BONDS, CODES), dtype=np.int64))
    near[0] = 0  # not bound
    own = codes.diagonal(dim1=1, dim2=2)
    bonds = codes - torch.diag_embed(own)
    around = near[bonds, own[:, None].expand(bonds.shape)].sum(2)
    return torch.where(own > 0, alone[own] + around, 0)
