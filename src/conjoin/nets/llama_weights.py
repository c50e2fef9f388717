"""The weights of a Llama: from a folder of transformers in safetensors, or from a GGUF file.

The shapes of all tensors are known before one of them is read, and are compared with what the
config asks for: so a network is never larger than the files beside it.
"""

import abc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.nets.llama import Llama, LlamaShape, matrix_shapes, to_neighbours
from conjoin.nets.packed import GROUP, Int4, Int8, Linear, round_to_int4, round_to_int8
from conjoin.util.gguf import GGUF
from conjoin.util.pretrained import checked_folder, read_json

__all__ = ["FileOfWeights", "FolderOfWeights", "Weights", "fill", "fits_layout", "pack"]

LAYOUT = "llama"
MAX_LAYERS = 1 << 12
MAX_POSITIONS = 1 << 24
FOUR_BITS = ("Q4_0", "Q4_1")  # kinds that map to int4 without being rounded again
NIBBLES_OF_BLOCK = GROUP // 2
# rotary settings of folders, by the name of what they do
ROPE_KINDS = ("default", "llama3")
STRETCH = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# parts of a matrix, in order, and those of its rows that are queries or keys
PARTS = {
    "queried": ("q", "k", "v"),
    "attended": ("o",),
    "gated": ("gate", "up"),
    "lowered": ("down",),
}
IN_FOLDER = {
    "embed": "model.embed_tokens.weight",
    "head": "lm_head.weight",
    "norm": "model.norm.weight",
    "before": "input_layernorm.weight",
    "between": "post_attention_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
IN_FILE = {
    "embed": "token_embd.weight",
    "head": "output.weight",
    "norm": "output_norm.weight",
    "before": "attn_norm.weight",
    "between": "ffn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}


class Weights(abc.ABC):
    """What a network is made from: its ``shape``, and numbers by the names of its parts.

    Raises
    ------
    ValueError
        If a size is missing or none, a tensor is missing, of another shape, or of no known part.
    """

    path: Path
    shape: LlamaShape
    layer_name: str  # of a layer's tensors, before their own
    names: dict[str, str]
    spare: tuple[str, ...] = ()  # ends of names of tensors that are no weights

    @abc.abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors that are stored."""

    @abc.abstractmethod
    def numbers(self, name: str) -> Tensor:
        """A tensor in float32, or as it is."""

    @abc.abstractmethod
    def frequencies(self) -> Tensor:
        """(D / 2) by how much a pair is turned from place to place."""

    @abc.abstractmethod
    def kinds_as_stored(self) -> dict[str, str]:
        """How each matrix is best held as it is stored."""

    @abc.abstractmethod
    def packed(self, name: str) -> tuple[Tensor, Tensor, Tensor] | None:
        """Codes, d and m of a matrix that is stored so; else None."""

    # ------------------------------------------------------------------

    def name_of(self, part: str, layer: int | None = None) -> str:
        own = self.names[part]
        return own if layer is None else f"{self.layer_name.format(layer)}{own}"

    def tensors_of(self, matrix: str) -> list[str]:
        """The stored tensors that make up a matrix, one below the other."""
        if matrix in self.names:
            return [self.name_of(matrix)]
        _, layer, own = matrix.split(".")
        return [self.name_of(part, int(layer)) for part in PARTS[own]]

    def matrix(self, name: str) -> Tensor:
        """All numbers of a matrix."""
        return torch.cat([self._sound(each) for each in self.tensors_of(name)])

    def _sound(self, name: str) -> Tensor:
        found = self.numbers(name)
        if not bool(found.isfinite().all()):
            raise ValueError(f"{self.path}: {name} has a value that is no number, or infinite.")
        return found

    def vector(self, name: str) -> Tensor:
        return self._sound(name)

    def expected(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors that the network needs."""
        shape = self.shape
        rows = {
            "q": shape.heads * shape.head_width,
            "k": shape.key_heads * shape.head_width,
            "v": shape.key_heads * shape.head_width,
            "o": shape.width,
            "gate": shape.hidden,
            "up": shape.hidden,
            "down": shape.width,
        }
        columns = {"o": rows["q"], "down": shape.hidden}
        out: dict[str, tuple[int, ...]] = {
            self.name_of("embed"): (shape.vocabulary, shape.width),
            self.name_of("norm"): (shape.width,),
        }
        if not shape.tied:
            out[self.name_of("head")] = (shape.vocabulary, shape.width)
        for layer in range(shape.layers):
            for part, count in rows.items():
                out[self.name_of(part, layer)] = (count, columns.get(part, shape.width))
            for part in ("before", "between"):
                out[self.name_of(part, layer)] = (shape.width,)
        return out

    def check(self) -> None:
        """ValueError where the stored tensors are not those of the shape."""
        stored = self.shapes()
        if self.shape.layers > min(MAX_LAYERS, len(stored)):
            raise ValueError(
                f"{self.path} asks for {self.shape.layers:,} layers, and {len(stored):,} tensors "
                "are stored."
            )
        expected = self.expected()
        for name, shape in expected.items():
            if name not in stored:
                raise ValueError(f"{self.path} lacks the tensor {name}.")
            if stored[name] != shape:
                raise ValueError(
                    f"{self.path}: the tensor {name} has the shape {list(stored[name])} where "
                    f"{list(shape)} belongs."
                )
        more = [name for name in stored if name not in expected and not name.endswith(self.spare)]
        if more:
            raise ValueError(
                f"{self.path} has the tensor {more[0][:60]!r}, which the Llama layout does not "
                "know."
            )


class FolderOfWeights(Weights):
    """Of transformers: config.json and safetensors."""

    layer_name = "model.layers.{}."
    names = IN_FOLDER
    spare: tuple[str, ...] = ("rotary_emb.inv_freq",)

    def __init__(self, folder: str | Path) -> None:
        self.path = checked_folder(folder)
        self.told = read_json(self.path / "config.json")
        if not fits_layout(self.told):
            raise ValueError(
                f"{self.path / 'config.json'} asks for another network than that of the Llama "
                "layout, without biases: leave precision out, and transformers reads it."
            )
        self._where, self._shapes = _held_in(self.path)
        stored = self._shapes
        self.shape = _shape_told(
            self.told,
            f"{self.path / 'config.json'}",
            {
                "vocabulary": "vocab_size",
                "width": "hidden_size",
                "hidden": "intermediate_size",
                "layers": "num_hidden_layers",
                "heads": "num_attention_heads",
                "key_heads": "num_key_value_heads",
                "head_width": "head_dim",
                "positions": "max_position_embeddings",
            },
            self.told.get("rms_norm_eps", 1e-6),
            tied=bool(self.told.get("tie_word_embeddings")) or IN_FOLDER["head"] not in stored,
        )
        if self.shape.tied:
            self.spare = (*self.spare, IN_FOLDER["head"])
        self.check()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def numbers(self, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._where[name], framework="pt") as held:
            found: Tensor = held.get_tensor(name)
        heads = {
            IN_FOLDER["q"]: self.shape.heads,
            IN_FOLDER["k"]: self.shape.key_heads,
        }
        own = ".".join(name.split(".")[-3:])
        found = found if found.dtype == torch.float64 else found.float()
        return to_neighbours(found, heads[own]) if own in heads else found

    def frequencies(self) -> Tensor:
        told = self.told.get("rope_parameters") or self.told.get("rope_scaling") or {}
        base = told.get("rope_theta", self.told.get("rope_theta", 10000.0))
        plain = _frequencies(base, self.shape.head_width, self.path)
        kind = told.get("rope_type", told.get("type", "default"))
        return plain if kind == "default" else _stretched(plain, told)

    def kinds_as_stored(self) -> dict[str, str]:
        return dict.fromkeys(matrix_shapes(self.shape), "float32")

    def packed(self, name: str) -> None:
        return None


class FileOfWeights(Weights):
    """Of a GGUF file."""

    layer_name = "blk.{}."
    names = IN_FILE
    spare = ("rope_freqs.weight",)

    def __init__(self, path: str | Path | GGUF) -> None:
        self.file = path if isinstance(path, GGUF) else GGUF(path)
        self.path = self.file.path
        facts = self.file.facts
        layout = facts.get("general.architecture")
        if layout != LAYOUT:
            raise ValueError(
                f"{self.path} holds a network of the layout {str(layout)[:60]!r}; the layout "
                f"{LAYOUT!r} is read."
            )
        told = {key.removeprefix(f"{LAYOUT}."): value for key, value in facts.items()}
        tokens = facts.get("tokenizer.ggml.tokens")
        told.setdefault("vocab_size", len(tokens) if isinstance(tokens, list) else None)
        if told.get("rope.scaling.type", "none") not in ("none", ""):
            raise ValueError(
                f"{self.path} stretches its places in the way "
                f"{str(told['rope.scaling.type'])[:60]!r}, which is not read."
            )
        self.told = told
        self.shape = _shape_told(
            told,
            str(self.path),
            {
                "vocabulary": "vocab_size",
                "width": "embedding_length",
                "hidden": "feed_forward_length",
                "layers": "block_count",
                "heads": "attention.head_count",
                "key_heads": "attention.head_count_kv",
                "head_width": "attention.key_length",
                "positions": "context_length",
            },
            told.get("attention.layer_norm_rms_epsilon"),
            tied=IN_FILE["head"] not in self.file.tensors,
        )
        turned = told.get("rope.dimension_count", self.shape.head_width)
        if turned != self.shape.head_width:
            raise ValueError(
                f"{self.path} turns {turned!r} of the {self.shape.head_width} numbers of a head; "
                "the Llama layout turns all."
            )
        self.check()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self.file.tensors.items()}

    def numbers(self, name: str) -> Tensor:
        return torch.from_numpy(self.file.numbers(name).copy())

    def frequencies(self) -> Tensor:
        base = self.told.get("rope.freq_base", 10000.0)
        plain = _frequencies(base, self.shape.head_width, self.path)
        if "rope_freqs.weight" not in self.file.tensors:
            return plain
        factors = self._sound("rope_freqs.weight")
        if factors.shape != plain.shape or not bool((factors > 0).all()):
            raise ValueError(
                f"{self.path}: the tensor rope_freqs.weight is not {len(plain)} numbers above 0."
            )
        return plain / factors

    def kinds_as_stored(self) -> dict[str, str]:
        """Four bits stay four bits; the embedding, and what else is of few bits, takes eight."""
        out = {}
        for name in matrix_shapes(self.shape):
            kinds = [self.file.tensors[each].stored_as for each in self.tensors_of(name)]
            if all(kind in FOUR_BITS for kind in kinds):
                out[name] = "int4"
            else:
                whole = all(kind[0] != "Q" and kind[:2] != "IQ" for kind in kinds)
                out[name] = "float32" if whole else "int8"
        return out

    def packed(self, name: str) -> tuple[Tensor, Tensor, Tensor] | None:
        tensors = self.tensors_of(name)
        if any(self.file.tensors[each].stored_as not in FOUR_BITS for each in tensors):
            return None
        parts = [_blocks(self.file.raw(each), self.file.tensors[each]) for each in tensors]
        codes, scale, low = (torch.cat(each) for each in zip(*parts, strict=True))
        if not bool(scale.isfinite().all() and low.isfinite().all()):
            raise ValueError(
                f"{self.path}: {tensors[0]} has a value that is no number, or infinite."
            )
        return codes, scale, low


def _blocks(raw: np.ndarray, stored: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Codes with neighbours in one byte, d and m, of a tensor of Q4_0 or Q4_1.

    A block is d, m where there is one, then 16 bytes: the first half of its weights in the lower
    four bits, the second half in the upper ones. Q4_0 has m = -8 d."""
    rows, columns = stored.shape
    blocks = torch.from_numpy(raw.copy()).view(rows, columns // GROUP, -1)
    nibbles = blocks[..., -NIBBLES_OF_BLOCK:]
    digits = torch.cat([nibbles & 15, nibbles >> 4], -1).flatten(1)
    numbers = blocks[..., :-NIBBLES_OF_BLOCK].contiguous().view(torch.float16)
    scale = numbers[..., 0].contiguous()
    low = numbers[..., 1].contiguous() if stored.stored_as == "Q4_1" else -8 * scale
    return digits[:, ::2] | (digits[:, 1::2] << 4), scale, low


def _held_in(folder: Path) -> tuple[dict[str, Path], dict[str, tuple[int, ...]]]:
    """In which file each tensor lies, and its shape, by the headers alone."""
    from safetensors import SafetensorError, safe_open

    where: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as held:  # checks the header against the bytes
                for name in list(held.keys()):
                    part = held.get_slice(name)
                    if name in where:
                        raise ValueError(f"{folder} has the tensor {name[:60]!r} twice.")
                    if part.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                        raise ValueError(
                            f"{file}: the tensor {name[:60]!r} is of {part.get_dtype()}; take the "
                            "model in float32, float16 or bfloat16."
                        )
                    where[name] = file
                    shapes[name] = tuple(part.get_shape())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({str(error)[:200]}): get it again.") from None
    return where, shapes


def _shape_told(
    told: dict[str, Any], where: str, names: dict[str, str], epsilon: Any, *, tied: bool
) -> LlamaShape:
    """Sizes by their names in a config; ValueError names one that is none."""
    optional = {
        "key_heads": told.get(names["heads"]),
        "head_width": _quotient(told.get(names["width"]), told.get(names["heads"])),
    }
    found: dict[str, int] = {}
    for own, name in names.items():
        value = told.get(name)
        value = optional.get(own) if value is None else value
        most = MAX_POSITIONS if own == "positions" else 1 << 31
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(f"{where}: {name}={str(value)[:60]} is no size of a network.")
        found[own] = value
    if found["heads"] % found["key_heads"] or found["head_width"] % 2:
        raise ValueError(
            f"{where}: {found['heads']} heads of {found['head_width']} numbers can't share "
            f"{found['key_heads']} keys."
        )
    if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
        raise ValueError(f"{where}: the epsilon of the norms is {str(epsilon)[:60]}.")
    return LlamaShape(**found, epsilon=epsilon, tied=tied)


def _quotient(one: Any, two: Any) -> int | None:
    fits = type(one) is int and type(two) is int and two > 0 and one % two == 0
    return one // two if fits else None


def _frequencies(base: Any, width: int, where: Path) -> Tensor:
    if not isinstance(base, int | float) or not math.isfinite(base) or base <= 0:
        raise ValueError(f"{where}: the base of its turns is {str(base)[:60]}.")
    places: Tensor = torch.arange(0, width, 2, dtype=torch.float32) / width
    return 1.0 / float(base) ** places


def _stretched(plain: Tensor, told: dict[str, Any]) -> Tensor:
    """Slow turns slower, for texts longer than those of the first training (Llama 3.1)."""
    found = [told.get(name) for name in STRETCH]
    numbers = [float(each) for each in found if isinstance(each, int | float) and 0 < each < 1e30]
    if len(numbers) < len(STRETCH) or numbers[2] <= numbers[1]:
        raise ValueError(
            "config.json: "
            + ", ".join(f"{n}={v!r:.40}" for n, v in zip(STRETCH, found, strict=True))
            + " are no settings of turns that are stretched."
        )
    factor, slow, fast, before = numbers
    waves = before * plain / (2 * math.pi)  # how often a pair turns in the first training's texts
    smooth = ((waves - slow) / (fast - slow)).clamp(0, 1)
    return (1 - smooth) * plain / factor + smooth * plain


def fits_layout(told: Any) -> bool:
    """Whether a folder's config.json is of this layout, with nothing that it does not know."""
    if not isinstance(told, dict) or told.get("model_type") != LAYOUT:
        return False
    rope = told.get("rope_parameters") or told.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else None
    plain = not told.get("attention_bias") and not told.get("mlp_bias")
    return plain and told.get("hidden_act", "silu") == "silu" and kind in ROPE_KINDS


def fill(network: Llama, weights: Weights) -> None:
    """Give a network its weights, matrix after matrix."""
    network.frequencies.copy_(weights.frequencies())
    network.norm.copy_(weights.vector(weights.name_of("norm")))
    for place, layer in enumerate(network.layers):
        own: Any = layer
        own.before.copy_(weights.vector(weights.name_of("before", place)))
        own.between.copy_(weights.vector(weights.name_of("between", place)))
    for name in matrix_shapes(network.shape):
        matrix: Any = network.get_submodule(name)
        pack(matrix, weights, name)


def pack(layer: Linear, weights: Weights, name: str) -> None:
    """Give a matrix its weights, rounded to as many bits as it has."""
    found: Sequence[Tensor] | None = weights.packed(name) if isinstance(layer, Int4) else None
    if found is None:
        whole = weights.matrix(name)
        if isinstance(layer, Int4):
            found = round_to_int4(whole)
        else:
            found = round_to_int8(whole) if isinstance(layer, Int8) else (whole,)
    for held, value in zip([*layer.parameters(), *layer.buffers()], found, strict=True):
        held.data.copy_(value)
