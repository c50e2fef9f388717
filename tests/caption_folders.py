"""Folders of tiny networks that caption and draw pictures, with random weights, made here."""

import json

import pytest
import torch
from pretrained_folders import save, transformers

from conjoin.core import seeded, stream

SIDE = 4
VISION = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": SIDE,
    "patch_size": 2,
    "initializer_range": 0.5,
}
WORDS = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "initializer_range": 0.5,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CAPTIONERS = ("vision-encoder-decoder", "blip", "git")


def captioner(folder, kind="vision-encoder-decoder", vocabulary=3, end=2, positions=16, seed=0):
    """A captioner of ``vocabulary`` tokens, of which ``end`` begins and ends a caption."""
    package = transformers()
    words = {**WORDS, "vocab_size": vocabulary, "max_position_embeddings": positions}
    tokens = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
    if kind == "vision-encoder-decoder":
        decoder = package.GPT2Config(
            vocab_size=vocabulary, n_positions=positions, n_embd=8, n_layer=1, n_head=2,
            add_cross_attention=True, is_decoder=True, initializer_range=0.5, attn_pdrop=0.0,
            embd_pdrop=0.0, resid_pdrop=0.0, **tokens,
        )  # fmt: skip
        config = package.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            package.ViTConfig(**VISION), decoder, decoder_start_token_id=end, eos_token_id=end
        )
        save(package.VisionEncoderDecoderModel, config, folder, seed)
    elif kind == "blip":
        text = {**words, **tokens, "sep_token_id": end, "encoder_hidden_size": 8, "pad_token_id": 0}
        config = package.BlipConfig(text_config=text, vision_config=VISION, projection_dim=8)
        save(package.BlipForConditionalGeneration, config, folder, seed)
    else:
        config = package.GitConfig(vision_config=VISION, **words, **{**tokens, "pad_token_id": 0})
        save(package.GitForCausalLM, config, folder, seed)
    _without_generation(folder)
    scaled = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(scaled))
    return folder


def _without_generation(folder):
    """What transformers writes beside weights on its own says other tokens."""
    file = folder / "generation_config.json"
    if file.exists():
        file.unlink()


def text_to_image(folder, size=2, channels=1, texts=("a b", "Āā"), factor=1, seed=0, **scheduler):
    """A pipeline laid out like Stable Diffusion's. ``size``: of the latents; ``factor``: how many
    times larger a side of a picture is, 1 or 2."""
    package = pytest.importorskip(
        "diffusers", reason="needs the extra: pip install 'conjoin[pretrained]'"
    )
    words, length = _clip_tokenizer(folder, texts)
    levels = 1 if factor == 1 else 2
    with seeded(stream(seed, "pretrained")):
        vae = package.AutoencoderKL(
            in_channels=channels, out_channels=channels, latent_channels=2,
            block_out_channels=(8,) * levels, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels, norm_num_groups=4,
            sample_size=size * factor, layers_per_block=1,
        )  # fmt: skip
        unet = package.UNet2DConditionModel(
            sample_size=size, in_channels=2, out_channels=2, layers_per_block=1,
            block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=8, attention_head_dim=4,
            norm_num_groups=4,
        )  # fmt: skip
        config = transformers().CLIPTextConfig(
            vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=length, bos_token_id=0, eos_token_id=1,
            pad_token_id=1, initializer_factor=2.0,
        )  # fmt: skip
        encoder = transformers().CLIPTextModel(config)
    told = {"num_train_timesteps": 50, "beta_end": 0.2, "clip_sample": False, **scheduler}
    parts = {"vae": vae, "unet": unet, "text_encoder": encoder}
    for name, part in parts.items():
        part.save_pretrained(folder / name, safe_serialization=True)
    package.DDPMScheduler(**told).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _clip_tokenizer(folder, texts):
    """Letters, of which two are the bytes 0 and 1, as vocab.json and merges.txt; {word: code} and
    how long a text may be."""
    kept = sorted({letter for text in texts for letter in text if letter != " "})
    pieces = ["<|startoftext|>", "<|endoftext|>", *kept, *(f"{letter}</w>" for letter in kept)]
    words = {piece: code for code, piece in enumerate(pieces)}
    where = folder / "tokenizer"
    where.mkdir(parents=True)
    (where / "vocab.json").write_text(json.dumps(words))
    (where / "merges.txt").write_text("#version: 0.2\n")
    length = 2 + max(len(text) for text in texts)
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    told = {**special, "model_max_length": length, "tokenizer_class": "CLIPTokenizer"}
    (where / "tokenizer_config.json").write_text(json.dumps(told))
    return words, length


def brute_caption(network, kind, pixels, tokens, start, ends):
    """log p of each token and of the end, one picture at a time, by the whole network."""
    asked = torch.tensor([[start, *tokens]])
    name = "decoder_input_ids" if kind == "vision-encoder-decoder" else "input_ids"
    with torch.no_grad():
        logits = network(pixel_values=pixels, **{name: asked}).logits[0].double()
    log_p = logits[-asked.shape[1] :].log_softmax(-1)
    own = [float(log_p[place, token]) for place, token in enumerate(tokens)]
    return own, float(log_p[-1, list(ends)].logsumexp(0))
