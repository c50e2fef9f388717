"""Pretrained models of text to image of a folder: the bound, draws, guidance, painting in, what a
folder may hold. All weights are random and made here."""

import copy

import pytest
import torch
from caption_folders import text_to_image
from pretend_device import pretended
from pretrained_folders import altered
from scipy.stats import norm

from conjoin.core import (
    Block,
    CapabilityError,
    Event,
    Record,
    RecordSpace,
    Status,
    Variable,
    stream,
)
from conjoin.families.pretrained.text_to_image import DiffusersTextToImage
from conjoin.testing import conformance
from conjoin.testing.conformance import CHECKS, run_case

pytest.importorskip("diffusers", reason="needs the extra: pip install 'conjoin[pretrained]'")

PICTURE = Block("picture", "image", (1, 4, 4), (Variable("level", "ordered", 256),))
TEXT = Block("caption", "sequence", (8,), (Variable("byte", "category", 256),))
# its draws of parts are compared for minutes
SLOW = ("conditionals", "samples", "normalisation")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return text_to_image(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Pictures of 4 x 4 pixels, latents of 2 x 2."""
    return text_to_image(tmp_path_factory.mktemp("squares") / "model", factor=2)


def built(folder, picture=PICTURE, text=TEXT, **settings):
    config = DiffusersTextToImage(folder=str(folder), **settings)
    told = RecordSpace((text,))
    return config.density.build(picture, config, picture.unknown(0), stream(0), context_space=told)


def texts(*each):
    codes = [list(text.encode()) for text in each]
    most = max(map(len, codes))
    value = torch.tensor([code + [0] * (most - len(code)) for code in codes])
    there = torch.arange(most) < torch.tensor(list(map(len, codes)))[:, None]
    return Record(caption=TEXT.check(Event(value, present=there)))


def pictures(rows, seed=0):
    return PICTURE.check(Event(torch.randint(256, (rows, 1, 4, 4), generator=stream(seed))))


@pytest.mark.parametrize(
    "check", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in CHECKS]
)
def test_the_conformance_suite_passes(tiny, check):
    config = DiffusersTextToImage(
        folder=str(tiny), tune=5, rate=1e-2, dtype="float64", steps=6, points=None,
        deviation=0.5, clean=False,
    )  # fmt: skip
    passed, detail = conformance._outcome(lambda: run_case(config, "picture given strings", check))
    assert passed, detail


# ------------------------------------------------------------------------------- the right values


def flattened(density, mean, deviation, drawn):
    """The networks changed to know: the encoder says N(mean, deviation^2) of every latent, the
    decoder draws ``drawn`` everywhere, the U-Net takes all latents for ``mean``."""
    with torch.no_grad():
        for network in (density.unet, density.vae):
            for parameter in network.parameters():
                parameter.zero_()
        half = density.vae.quant_conv.bias.numel() // 2
        density.vae.quant_conv.bias[:half] = mean
        density.vae.quant_conv.bias[half:] = 2 * torch.tensor(deviation).log()
        density.vae.decoder.conv_out.bias.fill_(drawn)
        density.unet.conv_out.bias.fill_(mean * density.vae.config.scaling_factor)
    return density


def test_the_bound_is_the_sum_of_its_three_parts(tmp_path):
    """By scipy and torch's own formulas, the mean over 100 draws of the encoder."""
    folder = text_to_image(tmp_path / "model", factor=2, prediction_type="sample")
    density = built(folder, dtype="float64", steps=5, points=None, deviation=0.1)
    mean, own, drawn = 0.3, 0.2, 0.25
    density = flattened(density, mean, own, drawn)
    level = PICTURE.check(Event(torch.full((1, 1, 4, 4), 160)))
    found = [density.log_prob(level, texts("a"), generator=stream(s)) for s in range(100)]
    scale = density.vae.config.scaling_factor
    kept = (1 - torch.linspace(1e-4, 0.2, 50).double()).cumprod(0)[[0, 12, 24, 37, 49]]
    before = torch.cat([torch.ones(1).double(), kept[:-1]])
    betas = 1 - kept / before
    posterior = (1 - before) / (1 - kept) * betas
    posterior[0] = posterior[1]
    towards = before.sqrt() * betas / (1 - kept)
    normal = torch.distributions.Normal
    latents = scale * (mean + own * torch.randn(200_000, generator=stream(1)).double())
    u_hat = torch.tensor(scale * mean).double()
    per_latent = normal(u_hat, posterior[0].sqrt()).log_prob(latents).mean()
    prior = normal(kept[-1].sqrt() * latents, (1 - kept[-1]).sqrt())
    per_latent -= torch.distributions.kl_divergence(prior, normal(0.0, 1.0)).mean()
    for step in range(1, 5):
        q = normal(towards[step] * latents, posterior[step].sqrt())
        p = normal(towards[step] * u_hat, posterior[step].sqrt())
        per_latent -= torch.distributions.kl_divergence(q, p).mean()
    entropy = normal(0.0, scale * own).entropy()
    edges = [(2 * 160 + side) / 255 - 1 for side in (1, -1)]
    high, low = (norm.cdf((edge - drawn) / 0.1) for edge in edges)
    wanted = 8 * (float(per_latent) + float(entropy)) + 16 * torch.tensor(high - low).log()
    value = torch.cat(found)
    assert abs(float(value.mean() - wanted)) < 4 * float(value.std()) / 10


def test_draws_are_what_the_decoder_draws(tmp_path):
    folder = text_to_image(tmp_path / "model", factor=2, prediction_type="sample")
    clean = flattened(built(folder, dtype="float64", steps=4), 0.3, 0.2, 0.25)
    drawn = clean.sample(20, texts(*["a"] * 20), generator=stream(0)).value
    assert bool((drawn == round(255 * 1.25 / 2)).all())
    noisy = built(folder, dtype="float64", steps=4, clean=False, deviation=0.1)
    noisy = flattened(noisy, 0.3, 0.2, 0.25)
    spread = noisy.sample(50, texts(*["a"] * 50), generator=stream(0)).value.double().std()
    assert abs(float(spread) / (0.1 * 127.5) - 1) < 0.1


def test_texts_and_the_null_text_are_told(squares):
    density = built(squares, dtype="float64", steps=5, points=None)
    rows = pictures(1)
    one, other = (density.log_prob(rows, texts(text)) for text in ("a b", "b a"))
    null = density.log_prob(rows)
    assert len({float(one), float(other), float(null)}) == 3
    assert torch.equal(null, density.log_prob(rows, texts("")))
    words = density._encoded_texts(["a b"])
    codes = torch.tensor([density.words.codes("a b")])
    assert torch.equal(words, density.encoder(codes).last_hidden_state)


def test_guidance_moves_draws_and_leaves_log_p(squares):
    plain = built(squares, dtype="float64", steps=5)
    guided = built(squares, dtype="float64", steps=5, guidance=5.0)
    rows = pictures(2)
    told = texts("a b", "b")
    assert torch.equal(plain.log_prob(rows, told), guided.log_prob(rows, told))
    drawn = [each.sample(2, told, generator=stream(0)).value for each in (plain, guided)]
    assert not torch.equal(*drawn)
    z = torch.randn(2, 2, 2, 2, generator=stream(2), dtype=torch.float64)
    text = plain._texts(told, 2)
    null = plain._encoded_texts([""]).expand(2, -1, -1)
    index = 2
    place = plain.noise.place[index]
    with_text, without = (plain._told(z, place, each) for each in (text, null))
    wanted = plain.noise.clean(without + 5 * (with_text - without), z, index)
    assert torch.allclose(guided._clean(z, index, text, 5.0), wanted)
    assert any("come from no density" in words for words in guided.notices(rows))


def test_known_pixels_come_back_untouched(squares):
    density = built(squares, steps=5)
    rows = pictures(4)
    asked = rows.hide(torch.arange(4)[:, None] > 1)
    found = density.complete(asked, texts(*["a"] * 4), generator=stream(2))
    assert found.status is Status.APPROXIMATE
    assert torch.equal(found.event.value[asked.mask], rows.value[asked.mask])
    assert not torch.equal(found.event.value, rows.value)
    other = asked._replace(value=rows.value * asked.mask)
    again = density.complete(other, texts(*["a"] * 4), generator=stream(2))
    assert torch.equal(again.event.value, found.event.value)
    assert density._known_latents(asked)[0, 0].tolist() == [[True, True], [False, False]]


# ------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    return text_to_image(tmp_path / "model", factor=2)


def test_a_folder_with_a_pickle_or_code_is_refused(folder):
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="may hold a pickle, which can run any code"):
        built(folder)
    (folder / "vae" / "diffusion_pytorch_model.bin").unlink()
    (folder / "unet" / "mine.py").write_text("")
    with pytest.raises(ValueError, match="is code, and code that comes with weights is never run"):
        built(folder)


@pytest.mark.parametrize(
    ("part", "entries", "words"),
    [
        ("unet", {"layers_per_block": 10**9}, r"layers_per_block=1,000,000,000, where the weights"),
        ("vae", {"block_out_channels": [64, 64]}, "asks for a network of"),
        ("unet", {"block_out_channels": [64]}, "asks for a network of"),
        ("text_encoder", {"hidden_size": 4096}, "asks for a network of"),
        ("text_encoder", {"max_position_embeddings": 10**7}, "max_position_embeddings=10000000"),
        ("unet", {"addition_embed_type": "text_time"}, "has addition_embed_type, which is not"),
        ("unet", {"in_channels": 5}, "takes 5 channels, the latents have 2"),
    ],
)
def test_a_network_that_does_not_fit_its_weights_is_refused(folder, part, entries, words):
    altered(folder / part, **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


def test_other_pipelines_are_told_by_name(folder):
    altered(folder, "model_index.json", _class_name="IFPipeline", vae=[None, None])
    with pytest.raises(ValueError, match=r"model_index\.json names 'IFPipeline' with .*vae=None"):
        built(folder)


def test_weights_that_are_missing_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    held["other"] = held.pop("decoder.conv_in.bias")
    save_file(held, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack decoder\.conv_in\.bias and 0 others"):
        built(folder)


def test_pictures_and_texts_that_do_not_fit_are_told(folder):
    with pytest.raises(ValueError, match="multiples of 2 pixels, these have 3 x 4"):
        built(folder, Block("picture", "image", (1, 3, 4), PICTURE.variables))
    with pytest.raises(ValueError, match="takes pictures of 1 channels, these have 3"):
        built(folder, Block("picture", "image", (3, 4, 4), PICTURE.variables))
    with pytest.raises(ValueError, match="is told a text in bytes"):
        built(folder, text=PICTURE)
    density = built(folder)
    with pytest.raises(ValueError, match="has 8 tokens, and the text encoder reads at most 5"):
        density.sample(1, texts("ab ab ab"))
    part = Record(caption=texts("ab")["caption"].hide(torch.arange(2) == 1))
    with pytest.raises(CapabilityError, match="pictures of a part of a text"):
        density.sample(1, part)
    for words, settings in (
        ("steps must be at least 2", {"steps": 1}),
        ("deviation must be a number above 0", {"deviation": 0.0}),
        ("guidance must be a number of at least 0", {"guidance": -1.0}),
    ):
        with pytest.raises(ValueError, match=words):
            DiffusersTextToImage(**settings)


def test_another_device_answers_as_the_cpu(squares):
    density = built(squares, dtype="float64", steps=3, points=2, guidance=2.0)
    rows = pictures(2)
    asked = rows.hide(torch.arange(4)[:, None] > 1)
    told = texts("a b", "b")
    with pretended() as there:
        far = copy.deepcopy(density).to(there)
        log_p = [one.log_prob(rows, told, generator=stream(0)) for one in (density, far)]
        assert torch.allclose(*log_p, atol=1e-9)
        drawn = [one.complete(asked, told, generator=stream(0)) for one in (density, far)]
        assert torch.equal(drawn[0].event.value, drawn[1].event.value)
