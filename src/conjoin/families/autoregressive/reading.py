r"""What a network of strings tells of the columns beside them, from a string that it reads in both
directions.

    f(x, c) = sum_v w_v n_v(x) + W h(x, c),      p(c_d | x, c_told) = q(c_d; f_d)

n_v counts the token v in the string x. w is ridge regression, fitted before the network learns: a
plain model of fragments, of which the network learns what it leaves (T. Hastie et al. (2009), The
elements of statistical learning, section 10.2, forward stagewise). h is the mean over positions of
what a transformer sees without a causal mask, q the distribution of a column that a network gives
(``conjoin.nets.heads``). Columns of c that are told are chosen by chance in the fit, so any subset
of them may be. Half of the strings are cut short in the fit, so that beginnings are read as well
(K. Yang and D. Klein (2021), FUDGE, section 3); the plain model is for whole strings.

Tokens are hidden at random and told again (J. Devlin et al. (2019), BERT, section 3.1). In nats.

Shape letters: B rows, T positions, V tokens, C columns, W parameters of a column, H width.

>>> words = Event(torch.tensor([[0, 1], [1, 1]]))
>>> shown(words).whole.tolist()
[True, True]
>>> counts = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
>>> y = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
>>> _ridge(counts, y, torch.ones(3, dtype=torch.float64)).round().tolist()
[2.0, 1.0]
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from conjoin.core import Event, Variable
from conjoin.core.shapes import Bool, Float, Int
from conjoin.nets.heads import Heads

__all__ = ["Reading", "Seen", "shown"]

COMPONENTS = 4  # of the distribution of a number
MASKED_SHARE = 0.15  # of the tokens of a whole string
CUT_SHARE = 0.5  # of the strings, of which a beginning is read
HIDDEN_SHARE = 0.5  # of the columns, that are asked for and not told
LEAST_SPREAD = 0.05  # of the deviation of a number, where the plain model leaves less
STRENGTHS = tuple(10.0**power for power in range(-1, 6))  # of ridge, on counts of tokens


class Seen(NamedTuple):
    """Strings as they are read.

    Attributes
    ----------
    token
        (B, T) tokens.
    there
        (B, T) which of them there are.
    hidden
        (B, T) which of those are to be told.
    whole
        (B,) whether the end is known.
    """

    token: Int[Tensor, "B T"]
    there: Bool[Tensor, "B T"]
    hidden: Bool[Tensor, "B T"]
    whole: Bool[Tensor, " B"]

    def take(self, rows: Any, places: int) -> "Seen":
        """Some of the rows, and of each the first positions."""
        token, there, hidden = (each[rows, :places] for each in self[:3])
        return Seen(token, there, hidden, self.whole[rows])


def shown(event: Event) -> Seen:
    """Strings, or the beginnings that are known of them."""
    there = event.known.cummin(1).values if event.value.shape[1] else event.known
    return Seen(event.value.long(), there, torch.zeros_like(there), event.mask.all(1))


class Reading(nn.Module):
    """``told`` columns from what the network has seen of a string."""

    plain: Tensor
    centre: Tensor
    wider: Tensor

    def __init__(self, variables: Sequence[Variable], tokens: int, width: int) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.tokens = tokens
        self.heads = Heads(variables, COMPONENTS)
        outputs = len(variables) * self.heads.width
        self.tell = nn.Linear(width, outputs, dtype=torch.float64)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)
        # the last row: a constant
        self.register_buffer("plain", torch.zeros(tokens + 1, len(variables)).double())
        self.register_buffer("centre", torch.zeros(len(variables)).double())
        # log of the spread of a number beside that of what the plain model leaves
        self.register_buffer("wider", torch.zeros(len(variables)).double())

    @torch.no_grad()
    def start(self, strings: Event, columns: Event, weight: Tensor) -> None:
        """The plain model, and the spread of what it leaves."""
        counts = self._counts(shown(strings))
        for place in self.heads.numeric.tolist():
            known = columns.mask[:, place]
            if int(known.sum()) > 1:
                y = columns.value[known, place]
                self.plain[:, place] = _ridge(counts[known], y, weight[known])
                self.centre[place] = y.mean()
                self.wider[place] = y.std(unbiased=False)
        left = columns.value.clone()
        numeric = self.heads.numeric
        left[:, numeric] -= (counts @ self.plain)[:, numeric]
        self.heads.start(left, columns.mask, weight)
        spread = self.wider[numeric]
        self.heads.spread.clamp_(min=LEAST_SPREAD * spread)
        self.wider[numeric] = (spread / self.heads.spread).clamp_min(1.0).log()

    def _counts(self, seen: Seen) -> Float[Tensor, "B V1"]:
        """How often each token stands in a string, and 1."""
        counts = torch.zeros(len(seen.token), self.tokens + 1, dtype=torch.float64)
        counts.scatter_add_(1, seen.token, seen.there.double())
        counts[:, -1] = 1.0
        return counts

    def params(self, seen: Seen, hidden: Float[Tensor, "B H"]) -> Float[Tensor, "B C W"]:
        """Of the distribution of each column."""
        out = self.tell(hidden).unflatten(1, (len(self.variables), self.heads.width))
        plain = torch.where(seen.whole[:, None], self._counts(seen) @ self.plain, self.centre)
        return self.heads.moved(out, plain, torch.where(seen.whole[:, None], 0.0, self.wider))

    def cut(self, seen: Seen, generator: torch.Generator) -> Seen:
        """As strings are read in the fit: some of them from the beginning to a place by chance,
        others whole, with hidden tokens."""
        rows, places = seen.token.shape
        toss, at, coin = (
            torch.rand(size, generator=generator) for size in ((rows, 1), (rows, 1), (rows, places))
        )
        short = toss < CUT_SHARE
        length = seen.there.sum(1, keepdim=True)
        end = torch.where(short, (at * (length + 1)).long(), length)
        there = seen.there & (torch.arange(places) < end)
        hidden = there & ~short & (coin < MASKED_SHARE)
        return Seen(seen.token, there, hidden, seen.whole & ~short[:, 0])


def _ridge(
    table: Float[Tensor, "B F"], y: Float[Tensor, " B"], weight: Float[Tensor, " B"]
) -> Float[Tensor, " F"]:
    """Weights of the columns, the last of which is a constant without a penalty; their strength by
    generalised cross-validation (G. Golub, M. Heath and G. Wahba (1979))."""
    mass = weight / weight.sum() * len(y)
    centre = (mass[:, None] * table).mean(0)
    middle = (mass * y).mean()
    root = mass.sqrt()[:, None]
    values, vectors = torch.linalg.eigh((root * (table - centre)).T @ (root * (table - centre)))
    values = values.clamp_min(0)
    along = vectors.T @ ((table - centre).T @ (mass * (y - middle)))
    total = (mass * (y - middle).square()).sum()
    best = float("inf")
    chosen = torch.zeros_like(along)
    for strength in STRENGTHS:
        weights = along / (values + strength)
        error = total - 2 * (along * weights).sum() + (values * weights.square()).sum()
        free = 1 - (float((values / (values + strength)).sum()) + 1) / len(y)
        judged = float(error) / max(free, 1e-3) ** 2
        if judged < best:
            best = judged
            chosen = weights
    out = vectors @ chosen
    out[-1] = middle - (centre * out)[:-1].sum()
    return out
