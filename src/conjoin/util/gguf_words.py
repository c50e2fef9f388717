"""What a GGUF file tells of a language model's words: its tokenizer, its ends, its chat template.

A tokenizer of merged bytes becomes what the package tokenizers reads. How a text is cut before
bytes are merged is a name in the file, whose pattern is that of llama.cpp and of the model's own
tokenizer.json.
"""

import json
from typing import Any

from conjoin.util.gguf import GGUF
from conjoin.util.pretrained import Vocabulary

__all__ = ["template_in_file", "tokenizer_in_file", "vocabulary_in_file"]

MERGED_BYTES = "gpt2"  # the one model of tokens that is read
# what token_type says
UNKNOWN = 2
CONTROL = 3
WRITTEN = 4  # a token of the user's own, which is text
TYPES = range(1, 7)
DIGITS_APART = {"type": "Digits", "individual_digits": True}
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# whose words are looked up whole before bytes are merged (llama.cpp, pull request 7193)
WHOLE_WORDS = ("llama-bpe",)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def _split(pattern: str) -> list[dict[str, Any]]:
    cut = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return [cut, {**BYTE_LEVEL, "use_regex": False}]


CUTS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [BYTE_LEVEL],
    "smollm": [DIGITS_APART, BYTE_LEVEL],
    "llama-bpe": _split(LLAMA_3),
    "qwen2": _split(QWEN_2),
}


def tokenizer_in_file(file: GGUF) -> str:
    """tokenizer.json of the file's tokenizer; ValueError for another kind, or a damaged one."""
    model = file.facts.get("tokenizer.ggml.model")
    if model != MERGED_BYTES:
        raise ValueError(
            f"{file.path} has a tokenizer of the kind {str(model)[:60]!r}; those of merged bytes "
            f"({MERGED_BYTES!r}) are read."
        )
    cut = file.facts.get("tokenizer.ggml.pre")
    if not isinstance(cut, str) or cut not in CUTS:
        raise ValueError(
            f"{file.path} cuts a text in the way {str(cut)[:60]!r} before bytes are merged; known "
            f"are {', '.join(CUTS)}."
        )
    tokens = _texts(file, "tokenizer.ggml.tokens")
    vocabulary = {token: code for code, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError(
            f"{file.path} is damaged (a token stands twice in its list): get it again."
        )
    merges = [merge.partition(" ")[::2] for merge in _texts(file, "tokenizer.ggml.merges")]
    wrong = next((pair for pair in merges if not _is_merge(pair, vocabulary)), None)
    if wrong is not None:
        raise ValueError(
            f"{file.path} is damaged (it merges {str(wrong)[:60]}, which are no two tokens that "
            "make a third one): get it again."
        )
    steps = CUTS[cut]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": _added(file, tokens),
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "post_processor": None,
            "decoder": BYTE_LEVEL,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": cut in WHOLE_WORDS,
                "vocab": vocabulary,
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


def _is_merge(pair: tuple[str, str], vocabulary: dict[str, int]) -> bool:
    return all(part in vocabulary for part in (*pair, "".join(pair)))


def _texts(file: GGUF, name: str) -> list[str]:
    found = file.facts.get(name)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{file.path} has no list of texts {name!r}, so that it writes no text.")
    return found


def _added(file: GGUF, tokens: list[str]) -> list[dict[str, Any]]:
    """Marks, which stand for no text, and tokens of the user's own."""
    kinds: Any = file.facts.get("tokenizer.ggml.token_type")
    whole = isinstance(kinds, list) and len(kinds) == len(tokens)
    if not whole or not all(kind in TYPES for kind in kinds):
        raise ValueError(
            f"{file.path} is damaged (tokenizer.ggml.token_type is no list of types, one for each "
            "token): get it again."
        )
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": code, "content": tokens[code], **plain, "special": kind != WRITTEN}
        for code, kind in enumerate(kinds)
        if kind in (UNKNOWN, CONTROL, WRITTEN)
    ]


def vocabulary_in_file(file: GGUF) -> Vocabulary:
    """How many tokens there are, and which end and begin a text; ValueError where none ends one."""
    size = len(_texts(file, "tokenizer.ggml.tokens"))
    names = ("eos_token_id", "eot_token_id", "eom_token_id", "bos_token_id")
    told: dict[str, Any] = {name: file.facts.get(f"tokenizer.ggml.{name}") for name in names}
    for name, code in told.items():
        if code is not None and not (type(code) is int and 0 <= code < size):
            raise ValueError(f"{file.path}: {name}={code!r} is none of the {size:,} tokens.")
    ends = tuple(dict.fromkeys(told[name] for name in names[:3] if told[name] is not None))
    if not ends:
        raise ValueError(
            f"{file.path} tells no eos_token_id: without an end no text has a probability."
        )
    begin = told["bos_token_id"]
    return Vocabulary(size, ends, ends[0] if begin is None else begin)


def template_in_file(file: GGUF) -> dict[str, Any] | None:
    """The chat template, as ``conjoin.util.pretrained.chat_template_of`` tells that of a folder."""
    source = file.facts.get("tokenizer.chat_template")
    if not isinstance(source, str):
        return None
    tokens = _texts(file, "tokenizer.ggml.tokens")
    marks = {}
    for name in ("bos", "eos", "unknown", "padding"):
        code: Any = file.facts.get(f"tokenizer.ggml.{name}_token_id")
        short = {"unknown": "unk", "padding": "pad"}.get(name, name)
        known = type(code) is int and 0 <= code < len(tokens)
        marks[f"{short}_token"] = tokens[code] if known else ""
    return {"source": source, "marks": marks}
