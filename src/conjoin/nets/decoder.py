r"""A lean causal transformer over tokens, whose weights all positions share.

    h <- h + W_o attention(R_t n(W_q n(h)), R_s n(W_k n(h)), W_v n(h)),
    h <- h + W_d relu(W_u n(h))^2,        log p(x_t = v | x_<t, c) = (W_r n(h))_v

n takes away the mean and divides by the standard deviation (J. Ba et al. (2016), Layer
normalization, without weights); queries and keys pass through it too (M. Dehghani et al. (2023),
Scaling vision transformers to 22 billion parameters, section 2). R_t turns pairs of their
coordinates by angles that grow with the position (J. Su et al. (2021), RoFormer, equation 15).
Squared relu: D. So et al. (2021), Primer. W_o, W_d and W_r start at zero, so each block starts as
the identity and all tokens alike.

Keys and values of earlier positions are kept in place, so that one more token costs one position.
Where the context has places (of a picture), their keys and values stand before those of the start,
so that each token attends to them (K. Xu et al. (2015), Show, attend and tell, section 3.1); their
mean and their maximum are told beside the context, as what is anywhere is learned sooner than where
to look for it.

Shape letters: B rows, T positions, M places, C of the context, H width, N heads, V tokens, L
blocks.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float, Int
from conjoin.nets.attention import Heads, attended, learns_on_cpu
from conjoin.nets.body import Body
from conjoin.nets.decoder_steps import MAX_ROWS, Weights

__all__ = ["HEAD_WIDTH", "Block", "Cache", "Decoder", "Hidden", "HiddenConvolution", "even"]

HEAD_WIDTH = 32  # of one head of attention
EXPANSION = 4  # hidden units of a block for each unit of its width
LONGEST_WAVE = 10_000.0  # positions in which the slowest pair of coordinates turns by one radian
FIRST_PLACES = 32  # positions that a cache has room for at first; then twice as many each time


class Hidden(nn.Linear):
    """A linear layer without bias between hidden units: what ``Muon`` moves."""

    def __init__(self, inputs: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__(inputs, outputs, bias=False)
        if zero:
            nn.init.zeros_(self.weight)
        else:
            nn.init.normal_(self.weight, std=0.5 * inputs**-0.5)


class HiddenConvolution(nn.Conv2d):
    """A convolution between hidden units, whose weights ``Muon`` moves as one matrix."""


class _Store:
    """Keys and values (L, B, N, T, H / N) with room for more positions; ``written``: how many of
    them are in use."""

    def __init__(self, keys: Tensor, values: Tensor, written: int) -> None:
        self.keys = keys
        self.values = values
        self.written = written


@dataclass(frozen=True)
class Cache:
    """The first ``place`` positions of a store.

    Caches that follow each other share a store. One that another has gone on from is copied before
    it is written to again, so a state may be stepped more than once.
    """

    store: _Store
    place: int
    weights: Weights | None = None  # of the network, where plain arrays go on

    @classmethod
    def empty(
        cls, blocks: int, rows: int, heads: int, width: int, dtype: torch.dtype, places: int = 0
    ) -> Self:
        """Before the first position, with room for ``places`` and some more."""
        room = torch.empty(blocks, rows, heads, places + FIRST_PLACES, width, dtype=dtype)
        return cls(_Store(room, torch.empty_like(room), 0), 0)

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        keys = self.store.keys[:, rows]
        store = _Store(keys, self.store.values[:, rows], self.place)
        return dataclasses.replace(self, store=store)

    def with_room(self) -> Self:
        """Where one more position may be written."""
        store = self.store
        if store.written == self.place < store.keys.shape[3]:
            return self
        places = store.keys.shape[3]
        more = places if self.place == places else 0
        room = _Store(_longer(store.keys, more), _longer(store.values, more), self.place)
        return dataclasses.replace(self, store=room)

    def write(self, block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values (B, N, t, H / N) of the next positions; those of all so far."""
        after = self.place + key.shape[2]
        self.store.keys[block, :, :, self.place : after] = key
        self.store.values[block, :, :, self.place : after] = value
        seen = slice(0, after)
        return self.store.keys[block, :, :, seen], self.store.values[block, :, :, seen]

    def after(self, weights: Weights | None = None, places: int = 1) -> Self:
        """So many positions further."""
        self.store.written = self.place + places
        return dataclasses.replace(self, place=self.place + places, weights=weights)


def _longer(kept: Tensor, more: int) -> Tensor:
    """A copy with room for ``more`` positions."""
    return torch.cat([kept, torch.empty_like(kept[:, :, :, :more])], 3)


def even(h: Tensor) -> Tensor:
    """Of mean 0 and variance 1."""
    return nn.functional.layer_norm(h, (h.shape[-1],))


class SquaredRelu(torch.autograd.Function):
    """max(h, 0)^2; one tensor is kept for the gradient, which takes a third of the time."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        positive = h.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.addcmul(slope.new_zeros(()), slope, positive, value=2)


class Turned(torch.autograd.Function):
    """Pairs of coordinates (first half, second half), turned by the angles of their positions; the
    gradient is turned back, without the copies that those of the halves would take."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        out = torch.empty(h.shape, dtype=h.dtype, device=h.device)
        first, second = h.chunk(2, -1)
        left, right = out.chunk(2, -1)
        torch.mul(first, cosine, out=left).sub_(second * sine)
        torch.mul(second, cosine, out=right).add_(first * sine)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return Turned.apply(slope, cosine, -sine), None, None


class Block(nn.Module):
    """Attention over the positions so far, then a network of each."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = Hidden(width, 3 * width)
        self.out = Hidden(width, width, zero=True)
        self.up = Hidden(width, EXPANSION * width)
        self.down = Hidden(EXPANSION * width, width, zero=True)

    def forward(
        self,
        h: Tensor,
        cosine: Tensor,
        sine: Tensor,
        there: Tensor | None = None,
        others: Tensor | None = None,
    ) -> Tensor:
        """Each position sees those before it; where ``there`` (B, T) says which positions there
        are, it sees all of these. ``others`` (B, M, H) are seen by all, and see nothing."""
        query, key, value = self._heads_of(h, cosine, sine)
        rate = self.dropout if self.training else 0.0
        mask = None if there is None else there[:, None, None]
        if others is not None:
            more = self.seen(others)
            key, value = (torch.cat(pair, 2) for pair in zip(more, (key, value), strict=True))
            if mask is None:
                mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).tril()
            mask = nn.functional.pad(mask, (others.shape[1], 0), value=True)
        if not rate and learns_on_cpu(self.training, query):
            return self._behind(h, attended(query, key, value, mask))
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate, is_causal=mask is None
        )
        return self._behind(h, seen)

    def among(self, h: Tensor, others: Tensor, there: Tensor) -> Tensor:
        """(B, T, H) of positions in no order, which see each other and ``others`` (B, t, H), of
        these those that are ``there`` (B, t)."""
        query, *own = self._heads_of(h, h.new_ones(()), h.new_zeros(()))
        more = self.seen(others.to(h))
        key, value = (torch.cat(pair, 2) for pair in zip(own, more, strict=True))
        mask = nn.functional.pad(there, (h.shape[1], 0), value=True)[:, None, None]
        if learns_on_cpu(self.training, query):
            return self._behind(h, attended(query, key, value, mask))
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self._behind(h, seen)

    def seen(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, N, M, H / N) of what stands in no order."""
        weight = self.qkv.weight[len(self.qkv.weight) // 3 :]
        each = nn.functional.linear(even(others), weight)
        key, value = each.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return even(key), value

    def step(self, h: Tensor, cosine: Tensor, sine: Tensor, cache: Cache, block: int) -> Tensor:
        """(B, 1, H) of the next position."""
        query, key, value = self._heads_of(h, cosine, sine)
        keys, values = cache.write(block, key, value)
        score = (query @ keys.transpose(2, 3)) * query.shape[-1] ** -0.5
        return self._behind(h, score.softmax(-1) @ values)

    def _heads_of(self, h: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, N, T, H / N)."""
        each = self.qkv(even(h))
        if learns_on_cpu(self.training, each):
            found: tuple[Tensor, Tensor, Tensor] = Heads.apply(each, cosine, sine, self.heads)
            return found
        each = each.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        pairs, (value,) = each.split((2, 1))
        query, key = Turned.apply(even(pairs), cosine, sine)
        return query, key, value

    def _behind(self, h: Tensor, seen: Tensor) -> Tensor:
        h = h + self._dropped(self.out(seen.transpose(1, 2).flatten(2)))
        return h + self._dropped(self.down(SquaredRelu.apply(self.up(even(h)))))

    def _dropped(self, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, self.dropout, self.training) if self.dropout else h


class Decoder(Body):
    """(B, T) tokens and (B, C) -> (B, T + 1, V + 1) logits of each next token; the last is the
    end. The context is added to each token; its last ``places`` times some numbers are those of
    places, which stand before the tokens."""

    def __init__(
        self,
        positions: int,
        tokens: int,
        context: int,
        width: int,
        blocks: int,
        dropout: float,
        reads: bool = False,
        places: int = 0,
        place_width: int = 0,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.places = places
        self.context = context - places * place_width  # numbers that are added to each token
        heads = _heads_in(width)
        self.embed = nn.Embedding(tokens + 1, width)  # the last one: the start
        told = self.context + (2 * place_width if places else 0)
        self.told = nn.Linear(told, width, bias=False) if told else None
        self.looks = nn.Linear(place_width, width, bias=False) if places else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.last = nn.Linear(width, tokens + 1, bias=False)
        nn.init.zeros_(self.last.weight)
        self.positions = positions + (2 if reads else 1)
        self.shape = (blocks, heads, width // heads)
        # before a string that is read, in place of a hidden token, behind a whole string
        self.marks = nn.Embedding(3, width) if reads else None
        # by device and precision: no buffer, which would be rounded when the network is cast
        self._turns: dict[Any, tuple[Tensor, Tensor]] = {}
        self.double()

    def compute(
        self, token: Int[Tensor, "B T"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T1 V1"]:
        out: Tensor = self.last(self._hidden(token, context))
        return out

    def features(
        self, token: Int[Tensor, "B T"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T1 H"]:
        """What each position has learned to see, float64."""
        return self._hidden(token, *self.cast(context)).double()

    def logits(self, hidden: Float[Tensor, "B T1 H"]) -> Float[Tensor, "B T1 V1"]:
        """Of each next token, from ``features``; float64."""
        out: Tensor = self.last(*self.cast(hidden))
        return out.double()

    def read(
        self, seen: Any, context: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B T V1"]]:
        """Strings in both directions.

        Parameters
        ----------
        seen
            ``token``, ``there`` and ``hidden`` (B, T); ``whole`` (B,): whether the end is known.
        context
            What is told beside them.

        Returns
        -------
        hidden
            The mean over the positions of what is seen, float64.
        logits
            Of the token at each place, float64.
        """
        assert self.marks is not None
        (context,) = self.cast(context)
        token, there, hidden, whole = seen
        rows = len(token)
        begin, mask, end = self.marks.weight
        inner = torch.where(hidden[..., None], mask, self.embed(token.clamp(max=self.tokens)))
        first = begin.expand(rows, 1, -1)
        h = torch.cat([first, inner, torch.zeros_like(first)], 1)
        one = torch.ones(rows, 1, dtype=torch.bool)
        there = torch.cat([one, there, ~one], 1)
        places = torch.arange(h.shape[1])
        behind = whole[:, None] & (places == there.sum(1, keepdim=True))
        h = torch.where(behind[..., None], end, h)
        there = there | behind
        h = even(self._with_told(h, context))
        places = self._seen_places(context)
        cosine, sine = (part[: h.shape[1]] for part in self._turns_of(h))
        for block in self.blocks:
            h = block(h, cosine, sine, there, places)
        h = even(h)
        share = there.to(h) / there.sum(1, keepdim=True)
        mean = (h * share[..., None]).sum(1)
        return mean.double(), self.last(h[:, 1:-1]).double()

    def step(
        self, token: Int[Tensor, " B"] | None, context: Float[Tensor, "B C"], cache: Any
    ) -> tuple[Float[Tensor, "B V1"], Cache]:
        """Logits of the next token, given the last one (None at the start) and the cache."""
        context = context.to(self.embed.weight.dtype)
        rows = len(context)
        if cache is None:
            blocks, heads, width = self.shape
            cache = Cache.empty(blocks, rows, heads, width, context.dtype, self.places)
            cache = self._begin(context, cache)
        cache = cache.with_room()
        last = torch.full((rows,), self.tokens) if token is None else token
        cosine, sine = self._turns_of(context)
        place = cache.place
        if self._by_arrays(context):
            weights = cache.weights or Weights.of(self, cosine, sine)
            kept = (cache.store.keys.numpy(), cache.store.values.numpy())
            told = self._told_in(context).numpy()
            found = weights.logits(last.numpy(), told, *kept, place, self.places)
            return torch.from_numpy(found).double(), cache.after(weights)
        h = self._inputs(last[:, None], context)
        for index, block in enumerate(self.blocks):
            turns = cosine[place - self.places], sine[place - self.places]
            h = block.step(h, *turns, cache, index)  # type: ignore[operator]
        return self.last(even(h))[:, 0].double(), cache.after()

    def _begin(self, context: Tensor, cache: Cache) -> Cache:
        """The cache behind the places."""
        if not self.places:
            return cache
        places = self._seen_places(context)
        for index, block in enumerate(self.blocks):
            cache.write(index, *block.seen(places))  # type: ignore[operator]
        return cache.after(places=self.places)

    def single(self) -> Self:
        """A copy in float32."""
        return copy.deepcopy(self).float()

    def _by_arrays(self, h: Tensor) -> bool:
        """Whether plain arrays are faster, and can do it: few rows on a CPU, no gradient."""
        return (
            len(h) <= MAX_ROWS
            and type(h) is Tensor
            and h.device.type == "cpu"
            and h.dtype in (torch.float32, torch.float64)
            and not self.training
            and not torch.is_grad_enabled()
        )

    def _hidden(self, token: Tensor, context: Tensor) -> Tensor:
        start = torch.full((len(token), 1), self.tokens)
        h = self._inputs(torch.cat([start, token], 1), context)
        places = self._seen_places(context)
        cosine, sine = (part[: h.shape[1]] for part in self._turns_of(h))
        for block in self.blocks:
            h = block(h, cosine, sine, None, places)
        return even(h)

    def _turns_of(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles of each position."""
        key = (h.device, h.dtype)
        if key not in self._turns:
            angle = _angles(self.positions, self.shape[2])
            self._turns[key] = (angle.cos().to(h), angle.sin().to(h))
        return self._turns[key]

    def _inputs(self, token: Tensor, context: Tensor) -> Tensor:
        return even(self._with_told(self.embed(token), context))

    def _with_told(self, h: Tensor, context: Tensor) -> Tensor:
        return h if self.told is None else h + self.told(self._told_in(context))[:, None]

    def _told_in(self, context: Float[Tensor, "B C"]) -> Float[Tensor, "B T"]:
        """The numbers that are added to each token."""
        if not self.places:
            return context
        seen = context[:, self.context :].unflatten(1, (self.places, -1))
        return torch.cat([context[:, : self.context], seen.mean(1), seen.amax(1)], 1)

    def _seen_places(self, context: Float[Tensor, "B C"]) -> Any:
        """(B, M, H), or None where there is none."""
        if self.looks is None:
            return None
        return self.looks(context[:, self.context :].unflatten(1, (self.places, -1)))


def _heads_in(width: int) -> int:
    """As many heads as have a whole, even width of about HEAD_WIDTH. ValueError for an odd
    width."""
    if width < 2 or width % 2:
        raise ValueError(f"width must be an even number of at least 2, got {width!r}.")
    most = max(1, width // HEAD_WIDTH)
    return next(heads for heads in range(most, 0, -1) if width % (2 * heads) == 0)


def _angles(positions: int, width: int) -> Float[Tensor, "T h"]:
    """Of each position and pair of coordinates."""
    pair = torch.arange(width // 2, dtype=torch.float64)
    speed = LONGEST_WAVE ** (-2 * pair / width)
    return torch.arange(positions, dtype=torch.float64)[:, None] * speed
