r"""A causal language model that others have trained, as an exact density of strings.

    log p(x_1, ..., x_n) = sum_{t = 1..n} log p(x_t | s, x_<t)
                           + log sum_{e in E} p(e | s, x_1, ..., x_n)

Shannon (1951), Prediction and entropy of printed English, sections 1 and 2, with any network of the
package transformers that sees no token behind the one that it tells (A. Radford et al. (2018),
Improving language understanding by generative pre-training, equation 1). s is the token that begins
a text and E are those that end one. A code is a token of the network, so that those of E have no
probability inside of a string. After N tokens, the capacity, the end is certain: what the network
gives to longer strings is given to their first N tokens, and all strings sum to one. In nats.

The weights are those of a local folder, in safetensors; nothing is downloaded and no code of the
folder is run. With ``tune=0`` they stay as they are, and a fit learns what is typical and the two
alarms. A saved model holds them, so that it needs the folder no more.

Shape letters: B rows, N capacity, T positions of the longest row, V tokens, W width.

>>> TransformersText(tune=100).recipe(1000).steps
100
"""

import copy
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.components.typicality import KEPT_AXES
from conjoin.core import (
    Block,
    Config,
    Event,
    Recipe,
)
from conjoin.core.shapes import Float, Int
from conjoin.families.pretrained.causal import CausalStrings, StringState
from conjoin.nets.pretrained import DTYPES, config_in, fresh, loaded, transformers
from conjoin.util.pretrained import chat_template_of, vocabulary_of

__all__ = ["TransformersText", "TransformersTextDensity"]

MAKER = "AutoModelForCausalLM"
CACHE_NAME = "cache"  # of the argument and of the answer, in transformers from 5.20 on
OLD_CACHE_NAME = "past_key_values"


@dataclass(frozen=True)
class TransformersText(Config):
    """Settings of a pretrained language model.

    Parameters
    ----------
    folder
        That holds config.json and the weights in safetensors.
    tune
        Steps of the gradient by which the weights move to the rows of a fit; 0: none.
    rate
        Learning rate of these steps at the start.
    batch
        Rows of a step.
    dtype
        Numbers of the network: "float32", "float64" or "bfloat16". Probabilities are normalised in
        float64 whichever it is.
    start
        The token that stands before the first; None: the one that the folder names.
    """

    folder: str = ""
    tune: int = 0
    rate: float = 2e-5
    batch: int = 8
    dtype: str = "float32"
    start: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if self.tune < 0:
            raise ValueError(f"tune must be a number of steps, at least 0, got {self.tune!r}.")

    def recipe(self, rows: int) -> Recipe:
        return Recipe(
            steps=self.tune or None, batch=self.batch, rate=self.rate, decay=1e-2, linear=True
        )


class _State(StringState):
    def _rows_of_cache(self, rows: Int[Tensor, " b"]) -> Any:
        cache = _copied(self.cache)
        cache.reorder_cache(rows)
        return cache

    def cut(self, place: int) -> Self:
        """The state behind the first tokens of the string; a network whose memory can't be cut
        sees them anew."""
        tokens = self.tokens[:, : place + 1]
        if self.cache is None or not _takes_several(self.cache):
            return replace(self, tokens=tokens, seen=0, cache=None)
        cache = _copied(self.cache)
        if self.seen > place + 1:
            cache.crop(place + 1 - self.seen)  # as a negative number: how many go
        return replace(self, tokens=tokens, seen=min(self.seen, place + 1), cache=cache)

    @property
    def bytes(self) -> int:
        """Of memory, as far as it is keys and values."""
        layers = getattr(self.cache, "layers", ())
        held = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
        return sum(each.nbytes for each in held if isinstance(each, Tensor))


def _copied(cache: Any) -> Any:
    """A cache that goes on by itself: calls of a network write into the one that they are given.
    Layers that only replace their tensors share them."""
    if type(cache) is not transformers().cache_utils.DynamicCache:
        return copy.deepcopy(cache)
    out = copy.copy(cache)
    out.layers = [
        copy.copy(layer) if _is_plain(layer) else copy.deepcopy(layer) for layer in cache.layers
    ]
    return out


def _is_plain(layer: Any) -> bool:
    """Whether a layer of a cache holds keys and values of all positions that count."""
    package = transformers().cache_utils
    return type(layer) in (package.DynamicLayer, package.DynamicSlidingWindowLayer)


def _takes_several(cache: Any) -> bool:
    """Whether a network goes on from its memory by several tokens in one call: one that keeps a
    state, or a window of the last positions, takes one at a time."""
    package = transformers().cache_utils
    if cache is None or type(cache) is not package.DynamicCache:
        return cache is None
    return all(type(layer) is package.DynamicLayer for layer in cache.layers)


class TransformersTextDensity(CausalStrings):
    """Exact log p of strings and of their beginnings, exact continuations, a key-value cache."""

    config_class = TransformersText
    state_class = _State

    def __init__(
        self,
        space: Block,
        config: TransformersText,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        network: nn.Module | None = None,
    ) -> None:
        if getattr(space, "layout", "") != "sequence":
            raise ValueError("A pretrained language model models strings: a block of tokens.")
        super().__init__(space, config, structure or _described(config), context_space)
        told = self.structure["network"]
        self.net: Any = fresh(MAKER, told, config.dtype) if network is None else network
        net: Any = self.net
        text = net.config.get_text_config()
        self._take_tokens(getattr(text, "max_position_embeddings", None))
        self.net.requires_grad_(config.tune > 0)
        self.width = _width_of(self.net)
        self._take_readings((self.width, 2), (min(self.width, KEPT_AXES), 2))
        taken = inspect.signature(self.net.forward).parameters
        self._last_alone: dict[str, int] = (
            {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        )
        self._cache_name = CACHE_NAME if CACHE_NAME in taken else OLD_CACHE_NAME

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
        """With the weights of the folder; ValueError where the network is not causal."""
        told = _described(config)
        network = loaded(MAKER, config.folder, told["network"], config.dtype)
        density = cls(space, config, told, context_space, network=network).eval()
        density._refuse_seeing_ahead(torch.zeros(1, 0))
        return density

    def _logits(self, tokens: Int[Tensor, "b T"], told: Tensor) -> Float[Tensor, "b T U"]:
        logits: Tensor = self._called(tokens, use_cache=False).logits
        return logits

    def _called(self, tokens: Int[Tensor, "b T"], **asked: Any) -> Any:
        """What the network answers."""
        return self.net(input_ids=tokens, return_dict=True, **asked)

    def _advanced(self, state: _State, *, every: bool) -> tuple[_State, Tensor]:
        """Networks that keep another memory than keys and values see all tokens anew."""
        new = state.tokens[:, state.seen :]
        memory = {self._cache_name: _copied(state.cache)}
        asked = {} if every else self._last_alone
        out = self._called(new, use_cache=True, **memory, **asked)
        cache = out.get(self._cache_name)
        seen = 0 if cache is None else state.tokens.shape[1]
        return replace(state, seen=seen, cache=cache), out.logits

    def _hidden_and_logits(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        out = self._called(tokens, use_cache=False, output_hidden_states=True)
        return out.hidden_states[-1], out.logits

    def _takes_several(self, state: _State) -> bool:
        return _takes_several(state.cache)

    def _layers(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        found = self._called(
            tokens, use_cache=False, output_hidden_states=True, **self._last_alone
        ).hidden_states
        return found[len(found) // 2], found[-1]


def _width_of(network: Any) -> int:
    """Of its last hidden layer: as the config tells it, else as wide as what a token enters by."""
    entered = int(network.get_input_embeddings().weight.shape[1])
    return int(getattr(network.config.get_text_config(), "hidden_size", entered))


def _described(config: TransformersText) -> dict[str, Any]:
    """What is saved of the folder: the network's config, the size, ends and start of its
    vocabulary, the chat template."""
    network = config_in(config.folder)
    path = Path(config.folder).expanduser()
    found = vocabulary_of(path)
    start = found.start if config.start is None else config.start
    if not 0 <= start < found.size:
        raise ValueError(f"start={start} is none of the {found.size:,} tokens of the network.")
    return {
        "network": network,
        "size": found.size,
        "ends": list(found.ends),
        "start": start,
        "template": chat_template_of(path),
    }
