"""Tiny language models of the Llama layout with random weights, as a folder and as a GGUF file,
made here byte by byte."""

import json
import struct

import numpy as np
import pytest
import torch
from pretrained_folders import END
from safetensors.torch import save_file

from conjoin.core import stream

TEXTS = [
    f"{who} {what} the {thing}"
    for who in ("the cat", "a dog", "my friend", "no one")
    for what in ("sees", "hears", "likes", "paints", "moves")
    for thing in ("door", "tree", "red ball", "old house", "moon")
]
MARKS = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"width": 64, "hidden": 96, "layers": 2, "heads": 4, "key_heads": 2, "positions": 160}
IN_FILE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.",
}
KINDS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20)} | {
    "Q8_0": (8, 32, 34)
}


def weights(vocabulary, tied=True, scale=0.3, seed=0, **sizes):
    """By the names of transformers."""
    size = {**SIZES, **sizes}
    width, hidden = size["width"], size["hidden"]
    head = width // size["heads"]
    keys = size["key_heads"] * head
    rows = {"q": width, "k": keys, "v": keys, "o": width}
    noise = stream(seed, "llama")

    def drawn(*shape):
        return scale * torch.randn(*shape, generator=noise)

    out = {
        "model.embed_tokens.weight": drawn(vocabulary, width),
        "model.norm.weight": 1 + drawn(width),
    }
    for layer in range(size["layers"]):
        name = f"model.layers.{layer}."
        for part, count in rows.items():
            out[f"{name}self_attn.{part}_proj.weight"] = drawn(count, width)
        out[f"{name}mlp.gate_proj.weight"] = drawn(hidden, width)
        out[f"{name}mlp.up_proj.weight"] = drawn(hidden, width)
        out[f"{name}mlp.down_proj.weight"] = drawn(width, hidden)
        for part in ("input_layernorm", "post_attention_layernorm"):
            out[f"{name}{part}.weight"] = 1 + drawn(width)
    if not tied:
        out["lm_head.weight"] = drawn(vocabulary, width)
    return out


def config(vocabulary, tied=True, end=0, **more):
    size = {key: value for key, value in more.items() if key in SIZES}
    size = {**SIZES, **size}
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocabulary,
        "hidden_size": size["width"],
        "intermediate_size": size["hidden"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size["key_heads"],
        "max_position_embeddings": size["positions"],
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": end,
        "eos_token_id": end,
        **{key: value for key, value in more.items() if key not in SIZES},
    }


def folder_of(folder, vocabulary, tied=True, end=0, seed=0, **more):
    """config.json and safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {key: value for key, value in more.items() if key in SIZES}
    save_file(weights(vocabulary, tied, seed=seed, **sizes), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(vocabulary, tied, end, **more)))
    return folder


def trained_tokenizer():
    """Merged bytes of the texts, with marks of turns."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs pip install 'conjoin[text]'")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[END, *MARKS],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


# ------------------------------------------------------------------------------- GGUF


def text(said):
    raw = said if isinstance(said, bytes) else said.encode()
    return struct.pack("<Q", len(raw)) + raw


def fact(name, value):
    """Name, type and value of one fact."""
    if isinstance(value, bytes):  # as it stands
        return text(name) + value
    return text(name) + _typed(value)


def _typed(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    kind = 8 if isinstance(value[0], str | bytes) else 5
    each = text if kind == 8 else (lambda number: struct.pack("<i", number))
    return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(map(each, value))


def facts_of(tokenizer, vocabulary, **more):
    """The facts of a file; ``more``: those that are others, None where one is left out."""
    saved = json.loads(tokenizer.to_str())
    tokens = sorted(saved["model"]["vocab"], key=saved["model"]["vocab"].get)
    marks = {each["content"] for each in saved["added_tokens"]}
    out = {
        "general.architecture": "llama",
        "llama.block_count": SIZES["layers"],
        "llama.context_length": SIZES["positions"],
        "llama.embedding_length": SIZES["width"],
        "llama.feed_forward_length": SIZES["hidden"],
        "llama.attention.head_count": SIZES["heads"],
        "llama.attention.head_count_kv": SIZES["key_heads"],
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in marks else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in saved["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }
    out |= {name.replace("__", "."): value for name, value in more.items()}
    return {name: value for name, value in out.items() if value is not None}


def tensors_of(held, kind="F32", embedding="F32"):
    """Name, shape, kind and bytes of each tensor, with queries and keys as GGUF has them."""
    gguf = pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")
    out = []
    for name, value in held.items():
        for heads, part in ((SIZES["heads"], "q_proj"), (SIZES["key_heads"], "k_proj")):
            if part in name:
                halves = value.view(heads, 2, -1, value.shape[1])
                value = halves.transpose(1, 2).reshape(value.shape)
        own = name
        for one, other in IN_FILE.items():
            own = own.replace(one, other)
        stored = "F32" if value.ndim == 1 else embedding if "embd" in own else kind
        data = gguf.quants.quantize(value.numpy(), gguf.GGMLQuantizationType[stored])
        out.append(
            (own, tuple(value.shape), KINDS[stored][0], np.ascontiguousarray(data).tobytes())
        )
    return out


def written(path, facts, tensors, magic=b"GGUF", version=3, counts=None, offsets=None):
    """A GGUF file; ``counts`` and ``offsets``: what the header says in place of the truth."""
    said = counts or (len(tensors), len(facts))
    head = magic + struct.pack("<IQQ", version, *said)
    head += b"".join(fact(name, value) for name, value in facts.items())
    place = 0
    data = b""
    for index, (name, shape, code, raw) in enumerate(tensors):
        at = place if offsets is None or index not in offsets else offsets[index]
        head += text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape[::-1]) + struct.pack("<IQ", code, at)
        data += raw + b"\0" * (-len(raw) % 32)
        place = len(data)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


def gguf_of(path, kind="F32", embedding="F32", seed=0, scale=0.3, **more):
    """A whole file, and the tokenizer it was made with."""
    tokenizer = trained_tokenizer()
    vocabulary = tokenizer.get_vocab_size()
    held = weights(vocabulary, seed=seed, scale=scale)
    facts = facts_of(tokenizer, vocabulary, **more)
    return written(path, facts, tensors_of(held, kind, embedding))
