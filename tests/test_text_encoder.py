"""A pretrained encoder of texts of a folder, with random weights that are made here."""

import pytest
import torch
from caption_folders import WORDS
from pretrained_folders import save, tokenizer, transformers

from conjoin.nets.text_encoder import TextEncoder

package = transformers()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("encoder") / "model"
    size = tokenizer(where, ["a red ring", "a blue square"])
    save(package.BertModel, package.BertConfig(vocab_size=size, **WORDS), where)
    return where


def test_vectors_are_means_over_tokens_of_length_one(folder):
    encoder = TextEncoder(folder)
    texts = ["a red ring", "a", "blue"]
    found = encoder.vectors(texts)
    network = package.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    for text, vector in zip(texts, found, strict=True):
        codes = torch.tensor([encoder.tokenizer.encode(text).ids])
        with torch.no_grad():
            mean = network(input_ids=codes).last_hidden_state[0].mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5)
    assert torch.allclose(encoder.vectors(texts[::-1]).flip(0), found, atol=1e-5)
    assert encoder.vectors([]).shape == (0, 8)


def test_what_is_no_encoder_or_too_long_is_told(folder, tmp_path):
    with pytest.raises(ValueError, match="tokens, and the encoder reads at most 16: cut it"):
        TextEncoder(folder).vectors(["blue square " * 9])
    with pytest.raises(ValueError, match="is no folder on this machine"):
        TextEncoder(tmp_path / "none")
