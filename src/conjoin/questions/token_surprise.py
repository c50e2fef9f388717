r"""How surprising each token of a string is, given those before it.

    s_t = -log p(x_t | x_1, ..., x_{t-1}),    sum_t s_t = -log p(x)

the self-information of C. Shannon (1948), A mathematical theory of communication, along the chain
rule. The end of the string is a token too. Of a molecule the tokens of its string are shared out
among the atoms that they write.

Shape letters: B rows, N capacity of the block.
"""

from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, as_float
from conjoin.core.shapes import Float
from conjoin.model.model import Model

__all__ = ["surprise_in", "token_surprise"]


@torch.no_grad()
def surprise_in(model: Model, x: Event, cells: slice) -> Float[Tensor, "B N1"] | None:
    """``token_surprise`` of the strings in these cells of rows x, given what is known of the
    columns beside them, and y not told; None where the model does not write them token by token."""
    density = model.joint if model.target is None else model.pair.family_density
    found = density.string_in(as_float(x), cells)
    if found is None or not found[0].capabilities.step:
        return None
    return token_surprise(*found)


@torch.no_grad()
def token_surprise(density: Density, event: Event, context: Any = None) -> Float[Tensor, "B N1"]:
    """s_t in nats of each token and, behind the last, of the end; NaN behind that, and where a
    token is not known.

    Parameters
    ----------
    density
        Of strings, drawn token by token (``capabilities.step``).
    event
        B strings: codes (B, N), and which of them are there.
    context
        What each string is told, if its density is told anything.

    Returns
    -------
    (B, N + 1); a string of N tokens has no end, since there it is certain.
    """
    rows, places = event.value.shape
    out = torch.full((rows, places + 1), torch.nan, dtype=torch.float64)
    length = event.there.sum(1)
    value = torch.nn.functional.pad(event.value, (0, 1))
    known = torch.cat([event.mask, event.mask.all(1, keepdim=True)], 1)
    last = min(places, density.space.shape[0] - 1)  # behind N tokens the end is certain
    state, log_p = density.step(density.begin(rows, context))
    end = log_p.shape[1] - 1
    for place in range(last + 1):
        code = torch.where(place < length, value[:, place].long(), end)
        told = known[:, place] & (place <= length)
        found = -log_p.gather(1, code[:, None])[:, 0].double().cpu()
        out[:, place] = torch.where(told.cpu(), found, torch.nan)
        if not bool((place < length).any()) or place == last:
            break
        state, log_p = density.step(state, code.clamp(max=end - 1))
    return out
