r"""A causal language model of the Llama layout that others have trained, without their packages.

    log p(x_1, ..., x_n) = sum_{t = 1..n} log p(x_t | s, x_<t)
                           + log sum_{e in E} p(e | s, x_1, ..., x_n)

H. Touvron et al. (2023), LLaMA: Open and efficient foundation language models, section 2.2, asked
as C. Shannon (1951), Prediction and entropy of printed English, sections 1 and 2. s is the token
that begins a text and E are those that end one. After N tokens, the capacity, the end is certain.
In nats.

The weights are those of a local folder (config.json, safetensors) or of a GGUF file. In few bits
(``precision``) they take a fourth or an eighth of the memory, and their log p is that of another,
near network: on the rows of the fit it may lose at most half a percent.

Shape letters: B rows, T positions of the longest row, V tokens, W width.

>>> Language(precision="int4").precision
'int4'
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.components.typicality import KEPT_AXES
from conjoin.core import Block, Config, Event, Recipe
from conjoin.core.shapes import Float, Int
from conjoin.families.pretrained.causal import CausalStrings, StringState
from conjoin.nets.llama import Llama, LlamaShape, Memory, matrix_shapes
from conjoin.nets.llama_weights import FileOfWeights, FolderOfWeights, Weights, fill, pack
from conjoin.nets.packed import GROUP
from conjoin.util.gguf import is_gguf
from conjoin.util.gguf_words import template_in_file, vocabulary_in_file
from conjoin.util.pretrained import chat_template_of, vocabulary_of

__all__ = ["PRECISIONS", "Language", "LanguageDensity"]

PRECISIONS = ("auto", "float32", "float64", "int8", "int4")
MAX_NLL_RISE = 0.005  # of the mean surprise of a token, by weights of few bits
MAX_JUDGED_TOKENS = 640  # of the rows by which that is judged


@dataclass(frozen=True)
class Language(Config):
    """Settings of a pretrained language model of the Llama layout.

    Parameters
    ----------
    folder
        That holds config.json and the weights in safetensors; or a GGUF file.
    precision
        How weights are held. "float32", "float64"; "int8" and "int4" (the embedding in eight bits)
        take less memory, and are refused where a token of the fit's rows surprises more by over
        half a percent. "auto": as they are stored, of few bits in a GGUF file, else float32.
    start
        The token that stands before the first; None: the one that the folder names.
    """

    folder: str = ""
    precision: str = "auto"
    start: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )

    def recipe(self, rows: int) -> Recipe:
        return Recipe(steps=None)


class _State(StringState):
    cache: Memory | None

    def _rows_of_cache(self, rows: Int[Tensor, " b"]) -> Any:
        assert self.cache is not None
        return self.cache.take(rows)

    def cut(self, place: int) -> Self:
        """The state behind the first tokens of the string."""
        return replace(self, tokens=self.tokens[:, : place + 1], seen=min(self.seen, place + 1))

    @property
    def bytes(self) -> int:
        """Of memory."""
        return 0 if self.cache is None else self.cache.bytes


class LanguageDensity(CausalStrings):
    """Exact log p of strings and of their beginnings, exact continuations, a memory of keys and
    values. ``structure`` holds the shape of the network and how each matrix is held."""

    config_class = Language
    state_class = _State

    def __init__(
        self,
        space: Block,
        config: Language,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        network: Llama | None = None,
    ) -> None:
        if getattr(space, "layout", "") != "sequence":
            raise ValueError("A pretrained language model models strings: a block of tokens.")
        if structure is None:
            structure = _described(config, _weights_of(config))
        super().__init__(space, config, structure, context_space)
        shape = LlamaShape(**structure["shape"])
        self.net = Llama(shape, structure["kinds"]) if network is None else network
        self._take_tokens(shape.positions)
        self.width = shape.width
        self._take_readings((self.width, 2), (min(self.width, KEPT_AXES), 2))

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
        """With the weights of the folder or file, in few bits where that is asked for and loses
        little on the rows."""
        weights = _weights_of(config)
        told = _described(config, weights)
        wanted = _kinds(config.precision, weights)
        density = cls(space, config, told, context_space).eval()
        with torch.no_grad():
            fill(density.net, weights)
            if wanted != told["kinds"]:
                density._held_as(wanted, weights, data)
        return density

    def _held_as(self, kinds: dict[str, str], weights: Weights, data: Event) -> None:
        """Weights in few bits; ValueError where the rows then surprise more by too much, and
        nothing but the precision "auto" lets them stay as they are."""
        before = self._surprise(data)
        whole = self.net
        network = Llama(whole.shape, kinds)
        network.load_state_dict(
            {key: value for key, value in whole.state_dict().items() if _is_plain(key)},
            strict=False,
        )
        for name, kind in kinds.items():
            small: Any = network.get_submodule(name)
            if kind in ("float32", "float64"):
                small.load_state_dict(whole.get_submodule(name).state_dict())
            else:
                pack(small, weights, name)
        self.net = network.eval()
        rise = None if before is None else (self._surprise(data) or 0.0) / before - 1
        if rise is not None and not rise <= MAX_NLL_RISE:
            if self.config.precision != "auto":
                raise ValueError(
                    f"precision={self.config.precision!r}: a token surprises by {rise:.2%} more "
                    f"than in float32, where at most {MAX_NLL_RISE:.1%} is allowed; take 'int8' or "
                    "'float32'."
                )
            self.net = whole
            kinds = self.structure["kinds"]
        self.structure = {**self.structure, "kinds": kinds, "rise": rise}

    def _surprise(self, data: Event) -> float | None:
        """The mean surprise of a token of the first rows, nats; None where there are no rows."""
        tokens = data.known.sum(1) + 1
        sums = tokens.cumsum(0)
        first = data.complete & ((sums <= MAX_JUDGED_TOKENS) | (sums == tokens))
        rows = first.nonzero()[:, 0]
        if not len(rows) or not int(data.known[rows].sum()):
            return None
        log_p = self._log_given(data.take(rows), torch.zeros(len(rows), 0))
        return -float(log_p.sum()) / int(tokens[rows].sum())

    def notices(self, event: Event) -> list[str]:
        """How long strings may be, and what few bits change."""
        out = super().notices(event)
        held = sorted(set(self.structure["kinds"].values()))
        rise = self.structure.get("rise")
        asked = self.config.precision
        if rise is not None and not rise <= MAX_NLL_RISE:
            out.append(
                f"Weights are held in {', '.join(held)}: in fewer bits a token of the judged rows "
                f"would surprise by {rise:.2%} more, where at most {MAX_NLL_RISE:.1%} is allowed."
            )
        elif any(kind.startswith("int") for kind in held):
            worth = (
                "no rows have judged that"
                if rise is None
                else f"a token of the judged rows surprises by {rise:+.2%} more than in float32"
            )
            out.append(f"Weights are held in {', '.join(held)} (precision={asked!r}): {worth}.")
        return out

    # ------------------------------------------------------------------ the network

    def _logits(self, tokens: Int[Tensor, "b T"], told: Tensor) -> Float[Tensor, "b T U"]:
        logits: Tensor = self.net.logits(self.net.hidden(tokens))
        return logits

    def _hidden_and_logits(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        hidden = self.net.hidden(tokens)
        return hidden, self.net.logits(hidden)

    def _layers(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        middle: list[Tensor] = []
        last = self.net.hidden(tokens, middle=middle)
        return middle[0], last

    def _advanced(self, state: _State, *, every: bool) -> tuple[_State, Tensor]:
        new = state.tokens[:, state.seen :]
        cache = state.cache or Memory.empty(self.net.shape, len(new), self.net.dtype)
        cache = cache.ready_for(state.seen, new.shape[1], self.capacity + 1)
        hidden = self.net.hidden(new, cache)
        logits = self.net.logits(hidden if every else hidden[:, -1:])
        return replace(state, seen=state.tokens.shape[1], cache=cache), logits


def _is_plain(key: str) -> bool:
    """Whether a weight is of no matrix."""
    return key.rpartition(".")[2] in ("norm", "before", "between", "frequencies")


def _weights_of(config: Language) -> Weights:
    """What a folder or a file holds, checked by its headers."""
    path = Path(config.folder).expanduser()
    if config.folder and is_gguf(path):
        return FileOfWeights(path)
    return FolderOfWeights(config.folder)


def _kinds(precision: str, weights: Weights) -> dict[str, str]:
    """How each matrix is held in a precision: four bits need columns in whole groups, and of the
    embedding eight are kept."""
    shapes = matrix_shapes(weights.shape)
    if precision == "auto":
        return weights.kinds_as_stored()
    if precision != "int4":
        return dict.fromkeys(shapes, precision)
    return {
        name: "int8" if name in ("embed", "head") or inputs % GROUP else "int4"
        for name, (_, inputs) in shapes.items()
    }


def _described(config: Language, weights: Weights) -> dict[str, Any]:
    """What is saved of the folder: the network's shape, the size, ends and start of its
    vocabulary, the chat template."""
    if isinstance(weights, FileOfWeights):
        found = vocabulary_in_file(weights.file)
        template = template_in_file(weights.file)
    else:
        found = vocabulary_of(weights.path)
        template = chat_template_of(weights.path)
    start = found.start if config.start is None else config.start
    size = weights.shape.vocabulary
    if found.size != size:
        raise ValueError(f"{weights.path} has {found.size:,} tokens, and its network {size:,}.")
    if not 0 <= start < size:
        raise ValueError(f"start={start} is none of the {size:,} tokens of the network.")
    plain = config.precision if config.precision == "float64" else "float32"
    return {
        "shape": vars(weights.shape),
        "kinds": dict.fromkeys(matrix_shapes(weights.shape), plain),
        "rise": None,
        "size": size,
        "ends": list(found.ends),
        "start": start,
        "template": template,
    }
