"""Folders of tiny pretrained models with random weights, made here: nothing is downloaded."""

import json

import pytest
import torch

from conjoin.core import seeded, stream

END = "<|endoftext|>"


def transformers():
    return pytest.importorskip(
        "transformers", reason="needs the extra: pip install 'conjoin[pretrained]'"
    )


def language_model(folder, vocabulary=3, positions=16, end=2, width=8, seed=0, **more):
    """GPT-2 with random weights, large enough to prefer some tokens by far."""
    package = transformers()
    config = package.GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=1,
        n_head=2,
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.5,
        **{"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, **more},
    )
    save(package.GPT2LMHeadModel, config, folder, seed)
    return folder


def save(kind, config, folder, seed=0):
    with seeded(stream(seed, "pretrained")):
        network = kind(config)
    network.save_pretrained(folder)
    return network


def tokenizer(folder, texts, size=300, marks=()):
    """Byte-level merges, the end of a text and other ``marks`` first; how many tokens there are."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, *marks],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return made.get_vocab_size()


def altered(folder, file="config.json", **entries):
    """The same folder, with entries of a config changed."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return folder


def brute_force(network, tokens, start, ends):
    """log p of each token and of the end, one row at a time, from the whole network."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[start, *tokens]])).logits[0].double()
    log_p = logits.log_softmax(-1)
    own = [float(log_p[place, token]) for place, token in enumerate(tokens)]
    return own, float(log_p[-1, list(ends)].logsumexp(0))


def picture_model(folder, size=(2, 3), channels=1, steps=50, seed=0, **scheduler):
    """A pipeline of a U-Net with random weights."""
    package = pytest.importorskip(
        "diffusers", reason="needs the extra: pip install 'conjoin[pretrained]'"
    )
    with seeded(stream(seed, "pretrained")):
        network = package.UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(8,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            norm_num_groups=4,
            add_attention=False,
        )
    settings = {"num_train_timesteps": steps, "beta_end": 0.2, **scheduler}
    pipeline = package.DDPMPipeline(network, package.DDPMScheduler(**settings))
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
