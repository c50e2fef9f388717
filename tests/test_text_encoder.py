"""A pretrained encoder of texts of a folder, with random weights that are made here."""

import numpy as np
import pandas as pd
import pytest
import torch
from caption_folders import WORDS
from pretrained_folders import save, tokenizer, transformers

import conjoin
from conjoin.datasets import draw_scenes
from conjoin.families.multimodal import Multimodal
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


def told_by(encoder, form="words"):
    """A model whose pictures are told in words that the encoder reads, after a few steps."""
    scenes = draw_scenes(60, seed=0, side=16)
    pictures = pd.Series(list(scenes.pictures), dtype=object)
    table = pd.DataFrame({"picture": pictures, "caption": scenes.captions})
    quick = {"steps": 2, "size": 0.25, "points": 2, "sampling_steps": 2, "batch": 8, "axes": 8}
    strings = {"steps": 2, "width": 16, "blocks": 1}
    family = Multimodal(pictures={"text_encoder": str(encoder), **quick}, strings=strings)
    types = {"caption": {"type": "text", "format": form}}
    return conjoin.JointDensity(family=family, types=types, random_state=0).fit(table), table


def test_pictures_are_told_in_vectors_of_a_frozen_encoder(folder, tmp_path):
    where = tmp_path / "encoder"
    where.symlink_to(folder)
    model, table = told_by(where)
    fixed = model.model_.joint.part0.core.net.reader.embed
    words = model.model_.codec.space.behind[1].variables[0].pieces
    vectors = TextEncoder(folder).vectors(words)
    apart = vectors - vectors.mean(0)
    assert torch.allclose(fixed.vectors[:-1], apart / apart.square().mean().sqrt(), atol=1e-5)
    assert not fixed.vectors[-1].any() and not fixed.vectors.requires_grad
    saved = model.save(tmp_path / "model")
    where.unlink()  # the model has what it needs
    again = conjoin.load(saved)
    assert np.allclose(again.score_samples(table[:3]), model.score_samples(table[:3]))
    drawn = again.sample(1, given={"caption": table["caption"][0]}, random_state=0)[0]
    assert drawn["picture"][0].pixels.shape == (16, 16, 3)


def test_an_encoder_needs_words_to_read(folder):
    with pytest.raises(ValueError, match="is for pictures told in a string of at most"):
        told_by(folder, "bytes")
