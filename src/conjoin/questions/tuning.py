r"""Strings drawn from a network that is tuned towards a wish, and held near what it was.

    q <- argmax_q sum_i w_i log q(x_i),    w_i = p(x_i) p(W | x_i) / q_0(x_i),    x_i ~ q_0

Rounds of adaptive importance sampling (P. de Boer et al. (2005), A tutorial on the cross-entropy
method, section 3; M. Olivecrona et al. (2017), Molecular de-novo design through deep reinforcement
learning, for the penalty log p): where q has what it wants, it is p(x | W). log p(x), that of the
model as it was fitted, is the penalty of what is unfamiliar: strings that only q likes weigh
nothing. The model itself stays as it is.

Shape letters: B rows.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from conjoin.core import Density, Event, Recipe
from conjoin.core.event import joined
from conjoin.training.learners import Batch, Gradient

__all__ = ["tuned"]

ROUNDS = 5  # of drawing; before each but the first the network learns from those before
STEPS = 12  # of the gradient, of a round
RATE = 1e-3
MATRIX_RATE = 5e-3


def tuned(
    density: Density,
    rows: int,
    log_wish: Callable[[Event], Tensor],
    generator: torch.Generator,
) -> Event:
    """Strings of all rounds together, the first of which are plain draws.

    Parameters
    ----------
    density
        Of strings, with or without a context; nothing is told.
    rows
        How many strings, in all rounds.
    log_wish
        (B,) log p(W | x) of strings; -inf where one is none.
    generator
        Of the draws.
    """
    now = copy.deepcopy(density)
    drawn: list[Event] = []
    log_weight: list[Tensor] = []
    sizes = [len(part) for part in torch.arange(rows).tensor_split(ROUNDS) if len(part)]
    for place, size in enumerate(sizes):
        event = now.sample(size, generator=generator)
        with torch.no_grad():
            penalty = density.log_prob(event) - now.log_prob(event)
        drawn.append(event)
        log_weight.append(log_wish(event) + penalty)
        if place + 1 < len(sizes):
            _learn(now, joined(drawn), torch.cat(log_weight), generator)
    return joined(drawn)


def _learn(density: Density, event: Event, log_weight: Tensor, noise: torch.Generator) -> None:
    """A few steps on all strings so far, by their weights."""
    known = torch.isfinite(log_weight)
    if not known.any():
        return
    weight = (log_weight[known] - log_weight[known].max()).exp()
    recipe = Recipe(steps=STEPS, rate=RATE, matrix_rate=MATRIX_RATE, linear=True)
    learner = Gradient(density, recipe)
    learner.begin()
    batch = Batch(event.take(known), weight, float(weight.sum()))
    for step in range(STEPS):
        learner.step(batch, noise, step / STEPS)
    learner.end()
    for parameter in density.parameters():
        parameter.grad = None
