r"""Strings by counts: modified Kneser-Ney of many orders, exact, fitted in seconds.

    log p(x_1, ..., x_n | y) = sum_{t = 1..n+1} log p(x_t | x_{t-k}, ..., x_{t-1}, y)

x_{n+1} is the end. Each token is predicted from the k before it, and where they were rarely seen
from fewer, down to all tokens alike: every string has mass, and all strings sum to one.
``kneser_ney`` says how counts become probabilities (S. Chen and J. Goodman (1998), An empirical
study of smoothing techniques for language modeling), and what a class changes; ``left_out`` how the
weights of the orders are learned on strings that the counts have not seen; ``ngram_trie`` how the
grams are kept. After N tokens, the capacity, the end is certain. Of a string whose beginning is
known, log p is that of the beginning, and the rest is drawn token by token: both are exact. Without
a class, p(x) is the mean over classes by their shares. In nats.

Shape letters: B rows, N capacity, F tokens of all rows, M grams, K classes, V tokens.

>>> from conjoin.core import Block, Variable, stream
>>> letters = Block("word", "sequence", (4,), (Variable("letter", "category", 2),))
>>> words = Event(torch.tensor([[0, 1], [1, 1]]))
>>> density = NgramDensity.build(letters, Ngram(), words, stream(0))
>>> every = letters.laid.every(letters)
>>> bool((density.log_prob(every).logsumexp(0)).abs() < 1e-9)
True
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.components.typicality import MIN_TYPICALITY_ROWS, Typicality
from conjoin.core import (
    Block,
    Capabilities,
    Config,
    Density,
    Event,
    Recipe,
    Record,
)
from conjoin.core.event import slices
from conjoin.core.shapes import Float, Int
from conjoin.core.ways import Edges, ways_of_tokens
from conjoin.families.autoregressive.continuation import continued, gumbel, likeliest
from conjoin.families.classic.kneser_ney import (
    Contexts,
    Counts,
    Order,
    Weights,
    adjusted,
    discounted,
    discounts,
    scored,
)
from conjoin.families.classic.lattice import Lattice
from conjoin.families.classic.left_out import orders_left_out
from conjoin.families.classic.ngram_trie import Stream, Trie, grams_of, stream_of

__all__ = ["Ngram", "NgramDensity", "tells_one_class"]

MAX_ORDER = 8  # tokens of a context, where the order is not given
TOKENS_AT_ONCE = 1 << 17  # times classes, that are scored together
LEFT_OUT_TOKENS = 60_000  # in the strings on which the weights of orders are learned
MIN_LEFT_OUT_ROWS = 8  # with fewer nothing is learned on strings left out
ENOUGH = 1e-3  # nats a token by which a longer context has to be better
SHARE_SMOOTHING = 1.0  # rows that are added to each class


@dataclass(frozen=True)
class Ngram(Config):
    """Settings of the counts of grams.

    Parameters
    ----------
    order
        Tokens of the longest context; None: up to 8, as many as help on strings left out (all 8 of
        fewer strings than can be left out).
    learned
        Whether the weights of the orders are learned on strings left out; False: modified
        Kneser-Ney as it is.
    """

    order: int | None = None
    learned: bool = True

    @property
    def takes_class_alone(self) -> bool:
        return True

    def recipe(self, rows: int) -> Recipe:
        """All rows at once, once."""
        return Recipe(batch=max(1, rows), epochs=1)


@dataclasses.dataclass(frozen=True)
class _State:
    """The grams that come before the next token, (B, k), and log p of what has come, (B, K)."""

    place: int
    node: Tensor
    log_class: Tensor
    log_next: Tensor | None = None  # (B, V + 1, K)

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        log_next = None if self.log_next is None else self.log_next[rows]
        return type(self)(self.place, self.node[rows], self.log_class[rows], log_next)


class NgramDensity(Density):
    """Exact log p of strings and of their beginnings, and exact continuations."""

    config_class = Ngram
    flat = False
    bounded = True
    conditional = True
    sums_ways = True
    key: Tensor
    count: Tensor
    discount: Tensor
    in_class: Tensor
    log_share: Tensor

    def __init__(
        self,
        space: Block,
        config: Ngram,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.tokens = space.variables[0].cardinality
        self.capacity = space.shape[0]
        self.classes = _classes_of(self.context_space)
        sizes = self.structure.setdefault("sizes", [1])
        nodes = 1 + sum(sizes)
        self.orders = len(sizes)
        buffers = {
            "key": torch.zeros(nodes - 1, dtype=torch.int64),
            "count": torch.zeros(nodes, dtype=torch.float64),
            "discount": torch.ones(self.orders + 1, 3, dtype=torch.float64),
            "log_share": torch.zeros(self.classes, dtype=torch.float64),
            "in_class": torch.zeros(nodes if self.classes else 0, self.classes),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)
        self.weights = Weights(self.orders, self.classes)
        self.typical = Typicality((2,), (2,))
        self._contexts: Contexts | None = None
        self.register_load_state_dict_post_hook(_forget)

    # ------------------------------------------------------------------ learning

    @classmethod
    def build(
        cls,
        space: Block,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """Grams, their counts, and the weights of the orders. Rows whose class is not known count
        in the model of all classes."""
        order = MAX_ORDER if config.order is None else config.order
        if order < 0:
            raise ValueError(f"order must be at least 0, or None, got {config.order!r}.")
        data = space.check(data)
        rows = stream_of(data, space.variables[0].cardinality, space.shape[0])
        key, sizes = grams_of(rows, min(order, space.shape[0]) + 1)
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight

        def made(longest: int) -> tuple[Self, list[float]]:
            density = cls(space, config, {"sizes": sizes[:longest]}, context_space)
            density.key.copy_(key[: len(density.key)])
            label = density._labels(density._conditioned(context, data.rows), data.rows)
            share = (weight[:, None] * _one_hot(label, density.classes)).sum(0)
            density._maximise({"count": density._counted(rows, weight), "share": share})
            density._count_classes(rows, weight, label)
            return density, density._learn(rows, weight, label, generator)

        with torch.no_grad():
            density: Self
            density, each = made(len(sizes))
            enough = _shortest(each)
            if config.order is None and enough < len(sizes):
                density, _ = made(enough)
        return density.eval()

    def _counted(self, rows: Stream, weight: Float[Tensor, " B"]) -> Float[Tensor, " M"]:
        """How often each gram occurs. ValueError for one that the density was not built with: it
        would be left out in silence."""
        count = torch.zeros(len(self.count), dtype=torch.float64)
        there = torch.ones_like(rows.begins)
        for length, node in enumerate(self._trie.walk(rows)[1:]):
            if length:
                there = rows.shifted(there.long()) > 0
            if bool((there & (node < 0)).any()):
                raise ValueError(
                    "The strings have grams that this model of counts was not built with: fit it "
                    "anew to all strings, without start_from."
                )
            count.index_add_(0, node[there], weight[rows.row[there]])
        return count

    def _count_classes(
        self, rows: Stream, weight: Float[Tensor, " B"], label: Int[Tensor, " B"]
    ) -> None:
        """How often each gram occurs in the labelled rows of each class."""
        for code in range(self.classes):
            self.in_class[:, code] = self._counted(rows, weight * (label == code))
        self._contexts = None

    def _statistics(self, event: Event, context: Record, weight: Tensor) -> dict[str, Tensor]:
        """A row whose class is not known counts for each, by p(y | x)."""
        label = self._labels(context, event.rows)
        share = _one_hot(label, self.classes)
        open_ = (label < 0).nonzero()[:, 0]
        if self.classes and len(open_):
            joint = self._each(event.take(open_)) + self.log_share.log_softmax(0)
            share = share.index_copy(0, open_, joint.softmax(1))
        log_p = self._log_prob(event, context, None)
        found = {
            "count": self._counted(self._stream(event), weight),
            "log_prob": (weight * log_p).sum(),
        }
        return found | ({"share": (weight[:, None] * share).sum(0)} if self.classes else {})

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """Counts and discounts: no maximum of the likelihood, which would give what was never seen
        no mass. The weights of the orders stay as they were learned, and the counts of each class
        those of its labelled rows."""
        trie = self._trie
        self.count.copy_(adjusted(trie, statistics["count"]))
        for length in range(1, self.orders + 1):
            self.discount[length] = discounts(self.count[trie.level(length)])
        if self.classes:
            share = statistics["share"] + SHARE_SMOOTHING / self.classes
            self.log_share.copy_(share.log().log_softmax(0))
        self._contexts = None

    def _learn(
        self,
        rows: Stream,
        weight: Float[Tensor, " B"],
        label: Int[Tensor, " B"],
        generator: torch.Generator,
    ) -> list[float]:
        """The weights of the orders, on some strings that are left out of the counts; the mean
        log p of a token by each order. Of few strings nothing can be learned so."""
        if not self.config.learned or len(weight) < MIN_LEFT_OUT_ROWS:
            return [0.0] * (self.orders - 1) + [1.0]
        some, weight, label = _some(rows, weight, label, generator)
        told = some.row[~some.begins]
        orders = orders_left_out(
            Counts(self._trie, self.count, self.discount, self._known, self.in_class),
            some,
            weight,
            label,
        )
        mass = weight[told]
        known = label[told] >= 0

        def objective() -> Tensor:
            each, own = scored(orders, self.weights, self.tokens)
            log_p = each[-1].log()
            if own is not None:
                log_p = log_p + torch.where(known, own[:, 0].log(), 0.0)
            return -(mass * log_p).sum() / mass.sum() + self.weights.penalty() / mass.sum()

        self.weights.learn(objective)
        each, _ = scored(orders, self.weights, self.tokens)
        return [float((mass * part.log()).sum() / mass.sum()) for part in each]

    # ------------------------------------------------------------------ what is known

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            objective="surrogate",
            marginals="prefix",
            conditionals="prefix",
            null_context="marginal",
            mode="approximate",
            statistics=True,
            typical=True,
            step=True,
        )

    @property
    def _trie(self) -> Trie:
        return Trie(self.key, self.structure["sizes"], self.tokens + 2)

    @property
    def _known(self) -> Contexts:
        """The sums over continuations, worked out from the counts once; they are not saved."""
        if self._contexts is None or self._contexts.total.device != self.key.device:
            cost = discounted(self.count, self.discount[self._trie.length()])
            in_class = self.in_class if self.classes else None
            self._contexts = Contexts.of(self._trie, self.count, cost, in_class)
        return self._contexts

    def _stream(self, event: Event) -> Stream:
        return stream_of(event, self.tokens, self.capacity)

    def _labels(self, context: Record, rows: int) -> Int[Tensor, " B"]:
        """The class of each row, -1 where it is not known."""
        if not self.classes:
            return torch.full((rows,), -1)
        (event,) = context.values()
        return torch.where(event.mask[:, 0], event.value[:, 0].long(), -1)

    def _log_class(self, context: Record, rows: int) -> Float[Tensor, "B K"]:
        """log p of each class: of a known one 0; without classes one column of zeros."""
        if not self.classes:
            return torch.zeros(rows, 1, dtype=torch.float64)
        label = self._labels(context, rows)
        told = _one_hot(label, self.classes).log()
        return torch.where(label[:, None] < 0, self.log_share.log_softmax(0), told)

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        ways = ways_of_tokens()
        if ways is not None:
            return self._over_ways(event, context, ways)
        label = self._labels(context, event.rows)
        if self.classes and bool((label >= 0).all()):
            return self._each(event, label)[:, 0]
        return (self._each(event) + self._log_class(context, event.rows)).logsumexp(1)

    def _log_contexts(self, event: Event) -> Float[Tensor, "B K"]:
        return self._each(event)

    def _each(self, event: Event, label: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B K"]:
        """log p under each class, or under that of each row alone; one column where there are no
        classes."""
        cells = (event.value.shape[1] + 1) * (max(1, self.classes) if label is None else 1)
        parts = slices(event.rows, max(1, TOKENS_AT_ONCE // cells))
        own = [None if label is None else label[part] for part in parts]
        each = [self._each_part(event.take(p), k) for p, k in zip(parts, own, strict=True)]
        return torch.cat(each)

    def _each_part(self, event: Event, label: Int[Tensor, " B"] | None) -> Float[Tensor, "B K"]:
        rows = self._stream(event)
        row = rows.row[~rows.begins]
        own = None if label is None else label[row, None]
        common, in_class = scored(self._orders(rows, own), self.weights, self.tokens)
        cell = common[-1][:, None] if in_class is None else in_class
        total = torch.zeros(event.rows, cell.shape[1], dtype=torch.float64)
        return total.index_add(0, row, cell.log())

    def tokens_of(
        self, event: Event, context: Record
    ) -> tuple[Float[Tensor, "B T"], Int[Tensor, "B T"]]:
        """log p of each known token and of the first known end, given those before it (0 behind
        them), where T = N + 1; and how many tokens before it have been counted together."""
        places = event.value.shape[1] + 1
        cells = places * max(1, self.classes)
        log_p = torch.zeros(event.rows, places, max(1, self.classes), dtype=torch.float64)
        depth = torch.zeros(event.rows, places, dtype=torch.int64)
        for part in slices(event.rows, max(1, TOKENS_AT_ONCE // cells)):
            rows = self._stream(event.take(part))
            told = ~rows.begins
            first = rows.begins.nonzero()[:, 0]
            place = torch.arange(len(told)) - first[rows.row] - 1
            here = (rows.row[told] + (part.start or 0), place[told])
            common, own = scored(self._orders(rows, None), self.weights, self.tokens)
            log_p[here] = (common[-1][:, None] if own is None else own).log()
            grams = self._trie.walk(rows)
            before = [rows.shifted(grams[order])[told] >= 0 for order in range(1, self.orders)]
            depth[here] = sum(before, torch.zeros_like(place[told]))
        so_far = self._log_class(context, event.rows)[:, None] + log_p.cumsum(1) - log_p
        return (log_p + so_far.log_softmax(2)).logsumexp(2), depth

    def depth_of(self, state: _State) -> Int[Tensor, " B"]:
        """How many tokens before the next one have been counted together."""
        return (state.node[:, 1:] >= 0).sum(1)

    def _orders(self, rows: Stream, own: Int[Tensor, "P 1"] | None) -> Iterator[Order]:
        """What each order knows of each token but ^; of classes, that of its ``own`` if given."""
        told = ~rows.begins
        grams = self._trie.walk(rows)
        for order in range(self.orders):
            context = grams[0] if order == 0 else rows.shifted(grams[order])
            yield self._order(context[told], grams[order + 1][told], own)

    def _over_ways(
        self, event: Event, context: Record, ways: Callable[[tuple[int, ...]], Edges]
    ) -> Float[Tensor, " B"]:
        """log p of the strings, however they are cut into tokens."""
        log_class = self._log_class(context, event.rows)
        out = torch.zeros(event.rows, dtype=torch.float64)
        for row, length in enumerate(event.known.sum(1).tolist()):
            told = tuple(event.value[row, :length].tolist())
            lattice = Lattice(ways(told), self.capacity, self.tokens)
            begun = self._begin(1, context.take(slice(row, row + 1)))
            begun = dataclasses.replace(begun, log_class=log_class[row : row + 1])
            out[row] = lattice.log_sum(begun.node, begun.log_class, self._along).logsumexp(0)
        return out

    def _along(
        self, node: Int[Tensor, "P k"], token: Int[Tensor, " P"]
    ) -> tuple[Int[Tensor, "P k"], Float[Tensor, "P K"]]:
        """The grams that come before what follows a token, and log p of the token in each class."""

        def orders() -> Iterator[Order]:
            for order in range(self.orders):
                before = node[:, order, None]
                yield self._order(before, self._trie.child(before, token[:, None]))

        common, own = scored(orders(), self.weights, self.tokens)
        log_p = (common[-1][..., None] if own is None else own)[:, 0].log()
        longer = self._trie.child(node[:, :-1], token[:, None])
        return torch.cat([node[:, :1], longer], 1), log_p

    def _order(self, context: Tensor, gram: Tensor, own: Tensor | None = None) -> Order:
        """By the numbers of context and gram; -1 is what never occurred."""
        found = self._known
        cell = Order(
            _taken(found.seen, gram),
            _taken(found.total, context),
            _taken(found.escaping, context),
            _taken(found.followers, context),
        )
        if found.of_class is None:
            return cell
        return cell._replace(
            in_class=_taken(self.in_class, gram, own), of_class=_taken(found.of_class, context, own)
        )

    # ------------------------------------------------------------------ draws

    def _begin(self, rows: int, context: Record) -> _State:
        node = torch.full((rows, self.orders), -1)
        node[:, 0] = 0
        if self.orders > 1:
            node[:, 1] = self._trie.child(node[:, 0], torch.tensor(self.tokens + 1))
        return _State(0, node, self._log_class(context, rows))

    def _step(self, state: _State, token: Tensor | None) -> tuple[_State, Float[Tensor, "B V1"]]:
        """log p of the next token is the mean over classes, by what the tokens so far say."""
        if token is not None:
            state = self._moved(state, token)
        if state.place == self.capacity:
            tokens = torch.arange(self.tokens + 1) < self.tokens
            log_p = torch.where(tokens, -torch.inf, 0.0).double()
            return state, log_p.expand(len(state.node), -1)
        common, own = scored(self._orders_of_all(state.node), self.weights, self.tokens)
        log_next = (common[-1][..., None] if own is None else own).log()
        log_p = (log_next + state.log_class[:, None]).logsumexp(2).log_softmax(1)
        return dataclasses.replace(state, log_next=log_next), log_p

    def _moved(self, state: _State, token: Int[Tensor, " B"]) -> _State:
        longer = self._trie.child(state.node[:, :-1], token[:, None])
        node = torch.cat([state.node[:, :1], longer], 1)
        assert state.log_next is not None
        come = state.log_next[torch.arange(len(token)), token]
        return _State(state.place + 1, node, state.log_class + come)

    def _orders_of_all(self, node: Int[Tensor, "B k"]) -> Iterator[Order]:
        """What each order knows of every token that may come next."""
        trie = self._trie
        for order in range(self.orders):
            row, gram = trie.children(node[:, order])
            token = trie.token[gram]
            inside = token <= self.tokens
            place = torch.full((len(node), self.tokens + 1), -1)
            place[row[inside], token[inside]] = gram[inside]
            yield self._order(node[:, order, None], place)

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Event:
        """What is known, then token by token until each row has ended."""
        return continued(self, event, self._begin(event.rows, context), gumbel(generator))

    def _mode(self, event: Event, context: Any) -> Event:
        """What is known, then the most probable token at each place."""
        return continued(self, event, self._begin(event.rows, context), likeliest)

    # ------------------------------------------------------------------ familiarity

    def _seen(self, event: Event) -> Float[Tensor, "B 2"]:
        """The mean surprise of a token (nats), and log(1 + length)."""
        nothing = self.context_space.check(Record(), event.rows)
        length = event.known.sum(1).double()
        surprise = -self._log_prob(event, nothing, None) / (length + 1)
        return torch.stack([surprise, (length + 1).log()], 1)

    def _fit_typicality(self, event: Event) -> None:
        complete = event.take(event.complete.nonzero()[:, 0])
        if complete.rows >= MIN_TYPICALITY_ROWS:
            self.typical.fit([self._seen(complete)])

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """By the surprise of a token: the sum over tokens alone would call long strings foreign."""
        out: Tensor = self.typical([self._seen(event)])
        return out


def _forget(density: NgramDensity, keys: Any) -> None:
    """After other counts were loaded: what was worked out from the old ones."""
    density._contexts = None


def _classes_of(space: Any) -> int:
    """How many classes the context has, 0 where there is none. ValueError for other contexts."""
    if not space.blocks:
        return 0
    if not tells_one_class(space):
        raise ValueError(
            "The counts of grams can be told one class, and not "
            f"{', '.join(map(repr, space.names))}: for strings beside columns take 'sequence'."
        )
    return int(space.blocks[0].variables[0].cardinality)


def tells_one_class(space: Any) -> bool:
    """Whether a context is one class, and nothing else."""
    first = space.blocks[0]
    alone = len(space.blocks) == 1 and first.layout == "vector" and len(first.variables) == 1
    return bool(alone and first.variables[0].discrete)


def _one_hot(label: Int[Tensor, " B"], classes: int) -> Float[Tensor, "B K"]:
    """A row of zeros where the label is not known."""
    return (label[:, None] == torch.arange(classes)).double()


def _taken(part: Tensor, node: Tensor, own: Tensor | None = None) -> Tensor:
    """What stands at the nodes, 0 where there is none; in the ``own`` column (P, 1) if given."""
    place = node.clamp_min(0)
    found = (part[place] if own is None else part[place[:, None], own]).double()
    gone = (node < 0).reshape(*node.shape, *(1,) * (found.dim() - node.dim()))
    return found.masked_fill(gone, 0.0)


def _shortest(each: list[float]) -> int:
    """The length of the longest grams that are needed: about as good as the best."""
    best = max(each)
    return 1 + next(order for order, value in enumerate(each) if value >= best - ENOUGH)


def _some(
    rows: Stream,
    weight: Float[Tensor, " B"],
    label: Int[Tensor, " B"],
    generator: torch.Generator,
) -> tuple[Stream, Float[Tensor, " b"], Int[Tensor, " b"]]:
    """Rows drawn until they have as many tokens as the weights of orders are learned on."""
    order = torch.randperm(len(weight), generator=generator)
    length = torch.bincount(rows.row, minlength=len(weight))
    before = length[order].cumsum(0) - length[order]
    chosen = order[before < LEFT_OUT_TOKENS].sort().values
    place = torch.full((len(weight),), -1)
    place[chosen] = torch.arange(len(chosen))
    held = place[rows.row] >= 0
    some = Stream(rows.token[held], place[rows.row[held]], rows.size)
    return some, weight[chosen], label[chosen]
