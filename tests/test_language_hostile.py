"""Language models that are damaged or made to do harm: one sentence each, before memory is
taken."""

import json
import resource
import struct
import time

import numpy as np
import pytest
import torch
from language_models import (
    TEXTS,
    config,
    facts_of,
    folder_of,
    tensors_of,
    trained_tokenizer,
    weights,
    written,
)
from safetensors.torch import save_file

from conjoin import from_pretrained
from conjoin.util.gguf import GGUF

pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")

MAX_SECONDS = 10
MAX_BYTES = 4 << 30
LIST_OF_TEXTS = struct.pack("<II", 9, 8)


@pytest.fixture(scope="module")
def parts():
    """A tokenizer, facts and tensors of a whole file."""
    tokenizer = trained_tokenizer()
    size = tokenizer.get_vocab_size()
    return facts_of(tokenizer, size), tensors_of(weights(size), "Q4_1", "Q8_0")


def refused(path, match):
    """One sentence, soon, in little memory."""
    start = time.process_time()
    with pytest.raises(ValueError, match=match) as error:
        from_pretrained(path, capacity=64)
    assert time.process_time() - start < MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MAX_BYTES
    said = str(error.value)
    assert len(said) < 600 and "\n" not in said


HEADERS = {
    "wrong magic": ({"magic": b"GGML"}, "does not begin with 'GGUF'"),
    "another version": ({"version": 9}, "version 9 of GGUF"),
    "huge count of tensors": ({"counts": (1 << 60, 20)}, r"1,152,921,504,606,846,976 tensors"),
    "huge count of facts": ({"counts": (20, 1 << 62)}, "facts where"),
    "too few facts": ({"counts": (20, 3)}, "is damaged"),
    "an offset beyond the end": ({"offsets": {3: 1 << 62}}, "and the file has"),
    "a negative offset": ({"offsets": {3: (1 << 64) - 32}}, "and the file has"),
    "tensors upon each other": ({"offsets": {3: 0}}, "lies upon another one"),
    "an offset between": ({"offsets": {3: 7}}, "and the file has"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(parts, tmp_path, case):
    changed, match = HEADERS[case]
    refused(written(tmp_path / "bad.gguf", *parts, **changed), match)


FACTS = {
    "another layout": ({"general.architecture": "mamba"}, "layout 'mamba'"),
    "no layout": ({"general.architecture": None}, "layout 'None'"),
    "no width": ({"llama.embedding_length": None}, "embedding_length=None is no size"),
    "a negative size": (
        {"llama.feed_forward_length": struct.pack("<Ii", 5, -3)},
        "feed_forward_length=-3 is no size",
    ),
    "a width of 2^60": (
        {"llama.embedding_length": struct.pack("<IQ", 10, 1 << 60)},
        "is no size of a network",
    ),
    "a width of 2^31": ({"llama.embedding_length": 1 << 31}, "has the shape .* where"),
    "many layers": ({"llama.block_count": 1 << 30}, "1,073,741,824 layers"),
    "heads that share no keys": ({"llama.attention.head_count_kv": 3}, "can't share"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count=0 is no size"),
    "an epsilon of nothing": (
        {"llama.attention.layer_norm_rms_epsilon": float("nan")},
        "epsilon of the norms is nan",
    ),
    "turns of nothing": ({"llama.rope.freq_base": float("inf")}, "base of its turns is inf"),
    "stretched places": ({"llama.rope.scaling.type": "yarn"}, "in the way 'yarn'"),
    "an unknown type": ({"extra": struct.pack("<I", 77)}, "unknown type 77"),
    "a list of lists": ({"extra": struct.pack("<IIQ", 9, 9, 1)}, "list of the unknown type 9"),
    "a list of 2^60": ({"extra": struct.pack("<IIQ", 9, 4, 1 << 60)}, "entries of 'extra'"),
    "a text of 2^60": ({"extra": struct.pack("<IQ", 8, 1 << 60)}, "bytes of 'extra'"),
    "alignment of nothing": ({"general.alignment": 0}, "aligns tensors to 0"),
    "odd alignment": ({"general.alignment": 33}, "aligns tensors to 33"),
    "another tokenizer": ({"tokenizer.ggml.model": "llama"}, "tokenizer of the kind 'llama'"),
    "another cut": ({"tokenizer.ggml.pre": "tekken"}, "in the way 'tekken'"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "no list of texts"),
    "an end that is no token": ({"tokenizer.ggml.eos_token_id": 1 << 30}, "is none of the"),
    "no end": ({"tokenizer.ggml.eos_token_id": None}, "tells no eos_token_id"),
    "types of other tokens": ({"tokenizer.ggml.token_type": [1, 1]}, "no list of types"),
    "merges of nothing": ({"tokenizer.ggml.merges": ["zzz yyy"]}, "make a third one"),
    "a token twice": ({"tokenizer.ggml.tokens": ["a"] * 321}, "a token stands twice"),
    "broken UTF-8": ({"tokenizer.ggml.tokens": [b"\xff\xfe"] * 321}, "not in UTF-8"),
}


@pytest.mark.parametrize("case", FACTS)
def test_facts(parts, tmp_path, case):
    changed, match = FACTS[case]
    facts = {name: value for name, value in {**parts[0], **changed}.items() if value is not None}
    refused(written(tmp_path / "bad.gguf", facts, parts[1]), match)


def test_a_vocabulary_of_a_million_broken_entries(parts, tmp_path):
    entry = struct.pack("<Q", 2) + b"\xff\xfe"
    tokens = LIST_OF_TEXTS + struct.pack("<Q", 1_000_000) + entry * 1_000_000
    facts = {**parts[0], "tokenizer.ggml.tokens": tokens}
    refused(written(tmp_path / "bad.gguf", facts, parts[1]), "1,000,000 entries of")
    few = LIST_OF_TEXTS + struct.pack("<Q", 500_000) + entry * 500_000
    facts = {**parts[0], "tokenizer.ggml.tokens": few}
    refused(written(tmp_path / "few.gguf", facts, parts[1]), "not in UTF-8")


def test_a_large_vocabulary_is_another_than_the_networks(parts, tmp_path):
    tokens = ["t", "1", *(f"t{place}" for place in range(299_998))]
    many = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * 300_000}
    facts = {**parts[0], **many, "tokenizer.ggml.merges": ["t 1"]}
    refused(written(tmp_path / "bad.gguf", facts, parts[1]), "300,000 tokens")


def changed_tensor(tensors, name, shape=None, code=None, raw=None):
    return [
        (
            own,
            shape if own == name and shape else sizes,
            code if own == name and code is not None else kind,
            raw if own == name and raw is not None else data,
        )
        for own, sizes, kind, data in tensors
    ]


NAN = struct.pack("<f", float("nan"))
TENSORS = {
    "dimensions of 2^60": ({"shape": (1 << 60, 64)}, "and the file has"),
    "dimensions that overflow": ({"shape": (1 << 33, 1 << 33)}, "and the file has"),
    "no dimension": ({"shape": (0, 64)}, "has the shape"),
    "five dimensions": ({"shape": (1, 1, 1, 64, 64)}, "has 5 dimensions"),
    "half a block": ({"shape": (64, 65)}, "has the shape"),
    "another shape": ({"shape": (32, 64)}, "has the shape .* where"),
    "an unknown way": ({"code": 999}, "unknown way 999"),
    "whole numbers": ({"code": 24, "shape": (64, 64), "raw": b"\0" * 4096}, "gguf does not read"),
    "no number in four bits": ({"raw": b"\xff" * 2560}, "is no number"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(parts, tmp_path, case):
    changed, match = TENSORS[case]
    tensors = changed_tensor(parts[1], "blk.0.attn_q.weight", **changed)
    refused(written(tmp_path / "bad.gguf", parts[0], tensors), match)


def test_tensors_that_are_missing_or_too_many(parts, tmp_path):
    facts, tensors = parts
    refused(written(tmp_path / "a.gguf", facts, tensors[:-1]), "lacks the tensor")
    more = [*tensors, ("blk.0.attn_q.bias", (64,), 0, NAN * 64)]
    refused(written(tmp_path / "b.gguf", facts, more), "attn_q.bias', which the Llama layout")
    norm = changed_tensor(tensors, "output_norm.weight", raw=NAN * 64)
    refused(written(tmp_path / "c.gguf", facts, norm), "output_norm.weight has a value that is no")
    refused(written(tmp_path / "d.gguf", facts, [*tensors, tensors[0]]), "twice")


def test_a_file_that_is_cut_is_refused_wherever(parts, tmp_path):
    whole = written(tmp_path / "whole.gguf", *parts).read_bytes()
    for size in (0, 1, 3, 4, 8, 20, 24, 25, 400, 5000, len(whole) - 1):
        path = tmp_path / "cut.gguf"
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"damaged|no GGUF|holds nothing"):
            GGUF(path)


def test_fuzz(parts, tmp_path):
    """Bytes of the header that are changed at random: read, or refused in a sentence."""
    whole = written(tmp_path / "whole.gguf", *parts).read_bytes()
    rng = np.random.default_rng(0)
    header = len(whole) - sum(len(raw) + -len(raw) % 32 for *_, raw in parts[1])
    path = tmp_path / "fuzzed.gguf"
    start = time.process_time()
    for trial in range(60):
        raw = bytearray(whole)
        for place in rng.integers(4, 700 if trial % 2 else header, rng.integers(1, 6)):
            raw[place] = rng.integers(256)
        path.write_bytes(raw)
        said = ""
        try:
            found = from_pretrained(path, capacity=32, precision="float32")
            assert not np.isnan(found.score_samples(TEXTS[:1])[0])
        except ValueError as error:
            said = str(error)
        assert len(said) < 600 and "\n" not in said
    assert time.process_time() - start < 60


# ------------------------------------------------------------------------------- folders

FOLDERS = {
    "a width of 2^60": ({"hidden_size": 1 << 60}, "is no size"),
    "a width of words": ({"hidden_size": "wide"}, "hidden_size=wide is no size"),
    "many layers": ({"num_hidden_layers": 1 << 30}, "1,073,741,824 layers"),
    "more layers": ({"num_hidden_layers": 3}, "lacks the tensor model.layers.2"),
    "fewer layers": ({"num_hidden_layers": 1}, "which the Llama layout does not know"),
    "another width": ({"intermediate_size": 48}, "has the shape .* where"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads=0 is no size"),
    "stretched by nothing": (
        {"rope_parameters": {"rope_type": "llama3", "factor": 0}},
        "no settings of turns",
    ),
}


@pytest.fixture(scope="module")
def vocabulary():
    return trained_tokenizer()


def whole_folder(path, tokenizer):
    folder = folder_of(path, tokenizer.get_vocab_size(), end=0)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(vocabulary, tmp_path, case):
    changed, match = FOLDERS[case]
    folder = whole_folder(tmp_path / "model", vocabulary)
    told = {**config(vocabulary.get_vocab_size()), **changed}
    (folder / "config.json").write_text(json.dumps(told))
    refused(folder, match)


def test_weights_of_folders(vocabulary, tmp_path):
    folder = whole_folder(tmp_path / "model", vocabulary)
    assert np.isfinite(from_pretrained(folder, capacity=32).score_samples(TEXTS[:1])[0])
    held = weights(vocabulary.get_vocab_size())
    held["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(held, folder / "model.safetensors")
    refused(folder, "up_proj.weight has a value that is no number")
    save_file({name: value.long() for name, value in held.items()}, folder / "model.safetensors")
    refused(folder, "is of I64")
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + raw[8:])
    refused(folder, "is damaged")


def test_another_network_has_no_precision(vocabulary, tmp_path):
    folder = whole_folder(tmp_path / "model", vocabulary)
    told = {**config(vocabulary.get_vocab_size()), "attention_bias": True}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="precision is of networks of the Llama layout"):
        from_pretrained(folder, precision="int4")


def test_what_is_no_model_says_so(tmp_path):
    (tmp_path / "empty.gguf").write_bytes(b"")
    refused(tmp_path / "empty.gguf", "no GGUF file")
    refused(tmp_path / "none.gguf", "is no folder on this machine")
