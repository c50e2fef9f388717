r"""A latent diffusion model that others have trained to draw what a text says, as p(picture | text)
with a bound.

    log p(x | c) >= E_q(u | x)[ log p(x | u) + B(u | c) ] + H(q(u | x)),
    B(u | c) = E_q[ log N(u; u_hat(z_1), d_0^2) - sum_{i = 2..S} KL(q(z_{i-1} | z_i, u) ||
               p(z_{i-1} | z_i, c)) ] - KL(q(z_S | u) || N(0, 1))

R. Rombach et al. (2022), High-resolution image synthesis with latent diffusion models, with a
pipeline of the package diffusers laid out like Stable Diffusion: an AutoencoderKL q(u | x), p(x |
u), a UNet2DConditionModel and a CLIP text encoder. The first line is the bound of an autoencoder
(D. Kingma and M. Welling (2014), Auto-encoding variational Bayes, equation 3), with the entropy H
of the encoder; B is the bound of a diffusion of u (``conjoin.families.pretrained.noise``), whose
last step has a density. The folder tells no p(x | u): it is a Gaussian about the decoder's picture
whose deviation is a setting, and of a level of a pixel the mass between its edges counts. In nats.

Where the text is not known, c is the empty text, which such networks have learned. Draws follow the
bound's p; with ``guidance`` w other than 1 the network's word is e(0) + w (e(c) - e(0)) (J. Ho and
T. Salimans (2022), Classifier-free diffusion guidance, equation 6), which is drawn from no density
at all, and with ``clean`` the last Gaussian's noise is left out. Known pixels come back as they
are; the others are drawn beside them, by latents that only known pixels lead to (A. Lugmayr et al.
(2022), RePaint, section 4.1), which is approximate.

Shape letters: B rows, C channels, H rows and W columns of pixels; E channels of latents, h rows and
w columns; T tokens of a text, F features.

>>> DiffusersTextToImage(guidance=7.5).plain
False
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.core import (
    Block,
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Recipe,
    Record,
    Status,
    seeded,
    stream,
)
from conjoin.core.capabilities import status_of, worst
from conjoin.core.constants import LOG_2PI
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.families.pretrained.noise import (
    DTYPES,
    LOG_OFFSET,
    PROFILE_PLACES,
    NoiseSteps,
    check_settings,
    log_level,
    noise_told,
)
from conjoin.families.pretrained.picture import greys, side_of
from conjoin.nets import pretrained as nets
from conjoin.util.pretrained import checked_folder, read_json

__all__ = ["DiffusersTextToImage", "DiffusersTextToImageDensity", "canvas_in", "draws_texts"]

PARTS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
TOLD_MORE = (
    "addition_embed_type",
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)  # settings of networks that are told more than a text
MAKER = "AutoModel"  # of the text encoder
CHUNK_PICTURES = 8  # that the networks see at once
CHUNK_TEXTS = 64
WITHHELD_SHARE = 0.1  # of the rows of a step, whose text is not told
BYTES = 256
MAX_TEXT_TOKENS = 4096


@dataclass(frozen=True)
class DiffusersTextToImage(Config):
    """Settings of a pretrained model that draws what a text says.

    Parameters
    ----------
    folder
        Of a pipeline: model_index.json, unet/, vae/, text_encoder/, tokenizer/ and scheduler/.
    steps
        From noise to a picture, in draws and in the bound; None: all of the scheduler.
    points
        Terms of the bound that stand for all of them, beside the last step; None: all.
    deviation
        Of the Gaussian of a pixel about the decoder's picture, in a picture from -1 to 1.
    guidance
        Weight of the text in draws: 1 is p itself; with another, draws are from no density.
    clean
        Whether draws are the decoder's picture without that Gaussian's noise.
    tune
        Steps of the gradient by which the U-Net moves to the rows of a fit; 0: none.
    rate
        Learning rate of these steps at the start.
    batch
        Rows of a step.
    dtype
        Numbers of the networks: "float32" or "float64".
    """

    folder: str = ""
    steps: int | None = 50
    points: int | None = 16
    deviation: float = 0.05
    guidance: float = 1.0
    clean: bool = True
    tune: int = 0
    rate: float = 1e-5
    batch: int = 4
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.deviation > 0:
            raise ValueError(f"deviation must be a number above 0, got {self.deviation!r}.")
        if not self.guidance >= 0:
            raise ValueError(f"guidance must be a number of at least 0, got {self.guidance!r}.")

    @property
    def plain(self) -> bool:
        """Whether draws are draws of p."""
        return self.guidance == 1 and not self.clean

    def recipe(self, rows: int) -> Recipe:
        return Recipe(steps=self.tune or None, batch=self.batch, rate=self.rate, linear=True)


class DiffusersTextToImageDensity(Density):
    """A bound of log p(picture | text), draws by all steps, and pictures painted in."""

    config_class = DiffusersTextToImage
    flat = False
    bounded = True
    conditional = True

    def __init__(
        self,
        space: Block,
        config: DiffusersTextToImage,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        networks: dict[str, nn.Module] | None = None,
    ) -> None:
        if getattr(space, "layout", "") != "image":
            raise ValueError("A model of text to image models a picture.")
        super().__init__(space, config, structure or _described(config), context_space)
        self.levels = space.variables[0].cardinality
        self.text = self._text()
        self._refuse_unfit()
        networks = networks or _fresh(self.structure, config.dtype)
        self.unet: Any = networks["unet"]
        self.vae: Any = networks["vae"].requires_grad_(False)
        self.encoder: Any = networks["text_encoder"].requires_grad_(False)
        self.unet.requires_grad_(config.tune > 0)
        self.noise = NoiseSteps(self.structure["noise"], config.steps)
        self.words = _Words(self.structure["words"])

    def _text(self) -> Block:
        """The block of texts that it is told."""
        blocks = self.context_space.blocks
        fits = len(blocks) == 1 and blocks[0].layout == "sequence"
        if not fits or blocks[0].variables[0].cardinality > BYTES:
            raise ValueError(
                "A model of text to image is told a text in bytes, and nothing else: give it to "
                "conjoin.from_pretrained."
            )
        block: Block = blocks[0]
        return block

    def _refuse_unfit(self) -> None:
        channels, height, width = self.space.shape
        vae = self.structure["vae"]
        least = self.factor * 2 ** (len(self.structure["unet"]["block_out_channels"]) - 1)
        if vae.get("in_channels", 3) != channels or self.levels < 2:
            raise ValueError(
                f"The autoencoder of {self.config.folder!r} takes pictures of "
                f"{vae.get('in_channels', 3)} channels, these have {channels}."
            )
        if height % least or width % least:
            raise ValueError(
                f"The networks of {self.config.folder!r} draw pictures whose sides are multiples "
                f"of {least} pixels, these have {height} x {width}: bring them to such a size."
            )

    @property
    def factor(self) -> int:
        """How many times larger a side of a picture is than one of its latents."""
        return _factor_of(self.structure["vae"])

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
        """With the weights of the folder."""
        told = _described(config)
        networks = _loaded(Path(config.folder).expanduser(), told, config.dtype)
        return cls(space, config, told, context_space, networks=networks).eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=True,
            conditionals="approximate",
            mode="approximate",
            null_context="learned",
        )

    @property
    def status_of_draws(self) -> Status:
        own = status_of(self.capabilities.likelihood)
        return own if self.config.plain else worst(own, Status.APPROXIMATE)

    def notices(self, event: Event) -> list[str]:
        """What draws are worth, and what of the folder is not used."""
        told = [
            f"log p is a bound, with a deviation of {self.config.deviation:g} of each pixel about "
            "the decoder's picture (from -1 to 1), which is a setting and no word of the folder."
        ]
        if self.config.guidance != 1:
            told.append(
                f"Draws are guided (guidance={self.config.guidance:g}): they come from no density, "
                "and log p is not theirs."
            )
        if self.config.clean:
            told.append("Draws are the decoder's pictures without the noise of that deviation.")
        unused = self.structure["unused"]
        if unused:
            told.append(f"Of the folder {', '.join(unused)} is not used.")
        return told

    # ------------------------------------------------------------------ the networks

    def _pictures(self, value: Tensor) -> Float[Tensor, "B C H W"]:
        """Levels as numbers from -1 to 1."""
        return 2 * value.double() / (self.levels - 1) - 1

    def _encoded(self, x: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor]:
        """Mean and log of the deviation of the latents, as the diffusion sees them."""
        found = self.vae.encode(x.to(DTYPES[self.config.dtype])).latent_dist
        scale = float(self.vae.config.scaling_factor)
        mean = (found.mean.double() - self._shift) * scale
        return mean, 0.5 * found.logvar.double() + math.log(scale)

    def _decoded(self, latents: Float[Tensor, "B E h w"]) -> Float[Tensor, "B C H W"]:
        plain = latents / float(self.vae.config.scaling_factor) + self._shift
        out: Tensor = self.vae.decode(plain.to(DTYPES[self.config.dtype]), return_dict=False)[0]
        return out.double()

    @property
    def _shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)

    def _texts(self, context: Record, rows: int) -> Float[Tensor, "B T F"]:
        """What the text encoder says of each row's text; of the empty one where it is not known."""
        event = context[self.text.name]
        whole = event.complete | event.unobserved
        self._require(bool(whole.all()), "pictures of a part of a text", "null_context")
        return self._encoded_texts(self._strings(event))

    def _strings(self, event: Event) -> list[str]:
        return [
            bytes(code for code, told in zip(*row, strict=True) if told).decode("utf-8", "replace")
            for row in zip(event.value.tolist(), event.known.tolist(), strict=True)
        ]

    def _encoded_texts(self, texts: Sequence[str]) -> Float[Tensor, "B T F"]:
        """Each text that differs is read once."""
        if not texts:  # networks take no empty batch
            return torch.zeros(0, 0, 0)
        place = {text: at for at, text in enumerate(sorted(set(texts)))}
        codes = torch.tensor([self.words.codes(text) for text in place])
        parts = [
            self.encoder(input_ids=each).last_hidden_state for each in codes.split(CHUNK_TEXTS)
        ]
        return torch.cat(parts)[torch.tensor([place[text] for text in texts])]

    def _told(self, z: Tensor, place: Tensor, text: Tensor) -> Float[Tensor, "B E h w"]:
        dtype = DTYPES[self.config.dtype]
        at = place.expand(len(z))
        out: Tensor = self.unet(z.to(dtype), at, text.to(dtype), return_dict=False)[0]
        return out.double()

    def _clean(self, z: Tensor, index: int, text: Tensor, guidance: float = 1.0) -> Tensor:
        """The network's idea of the latents behind the noise."""
        place = self.noise.place[index]
        told = self._told(z, place, text)
        if guidance != 1:
            null = self._encoded_texts([""]).expand(len(z), -1, -1)
            without = self._told(z, place, null)
            told = without + guidance * (told - without)
        return self.noise.clean(told, z, index)

    # ------------------------------------------------------------------ the bound

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        noise = generator or stream(0, "bound")
        self._require(bool(event.complete.all()), "log p of a part of a picture", "missing")
        terms = self.noise.terms(self.config.points, noise)
        shape = (len(terms) + 2, *self._latent_shape)
        drawn = torch.randn(shape, generator=noise, dtype=torch.float64)
        text = self._texts(context, event.rows)
        parts = slices(event.rows, CHUNK_PICTURES) if event.rows else []
        each = [self._bound(event.value[part], text[part], terms, drawn) for part in parts]
        return torch.cat([torch.zeros(0, dtype=torch.float64), *each])

    @property
    def _latent_shape(self) -> tuple[int, int, int]:
        _, height, width = self.space.shape
        channels = int(self.structure["unet"]["in_channels"])
        return channels, height // self.factor, width // self.factor

    def _bound(
        self, value: Tensor, text: Tensor, terms: list[tuple[int, float]], drawn: Tensor
    ) -> Float[Tensor, " B"]:
        """The same noise for all rows."""
        x = self._pictures(value)
        mean, log_deviation = self._encoded(x)
        latents = mean + log_deviation.exp() * drawn[0]
        entropy = (log_deviation + 0.5 * LOG_2PI).flatten(1).sum(1) + 0.5 * mean[0].numel()
        total = entropy + self._log_pixels(value, x - self._decoded(latents))
        clean = self._clean(self.noise.noisy(latents, 0, drawn[1]), 0, text)
        last = self.noise.deviation[0]
        standard = (latents - clean) / last
        total = total - (0.5 * standard.square() + last.log() + 0.5 * LOG_2PI).flatten(1).sum(1)
        total = total - self.noise.prior(latents)
        for (index, weight), noise in zip(terms, drawn[2:], strict=True):
            clean = self._clean(self.noise.noisy(latents, index, noise), index, text)
            total = total - weight * self.noise.divergence(latents - clean, index)
        return total

    def _log_pixels(self, value: Tensor, apart: Tensor) -> Float[Tensor, " B"]:
        """log p(x | u) of levels."""
        deviation = torch.tensor(self.config.deviation, dtype=torch.float64)
        return log_level(value.flatten(1).double(), apart.flatten(1), deviation, self.levels)

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The mean squared error of what the U-Net tells, at a noise level drawn for each row; at
        times without the text."""
        noise = generator or stream(0, "loss")
        known = context[self.text.name]
        gone = torch.rand(event.rows, generator=noise) < WITHHELD_SHARE
        told = Record({self.text.name: known.hide(gone[:, None])})
        with torch.no_grad():
            text = self._texts(told, event.rows)
            mean, log_deviation = self._encoded(self._pictures(event.value))
        drawn = torch.randn(2, *mean.shape, generator=noise, dtype=torch.float64)
        latents = mean + log_deviation.exp() * drawn[0]
        place = torch.randint(len(self.noise.share), (event.rows,), generator=noise)
        kept = self.noise.share[place][:, None, None, None]
        z = kept.sqrt() * latents + (1 - kept).sqrt() * drawn[1]
        with seeded(noise):  # dropout takes no other generator
            found = self._told(z, place, text)
        wanted = self.noise.wanted(latents, drawn[1], kept)
        return (found - wanted).square().flatten(1).mean(1)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Event:
        if not event.rows or bool(event.mask.all()):
            return Event(event.value)
        text = self._texts(context, event.rows)
        parts = slices(event.rows, CHUNK_PICTURES)
        each = [self._painted(event.take(part), text[part], generator) for part in parts]
        return Event(torch.cat(each))

    def _painted(self, event: Event, text: Tensor, generator: torch.Generator | None) -> Tensor:
        """From noise by all steps; latents of known pixels are at each step as noisy as it is."""

        def noise(shape: Sequence[int]) -> Tensor:
            return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)

        shape = (event.rows, *self._latent_shape)
        known = self._known_latents(event)
        latents = self._encoded(self._filled(event))[0] if bool(known.any()) else torch.zeros(shape)
        z = noise(shape)
        for index in reversed(range(len(self.noise))):
            if bool(known.any()):
                z = torch.where(known, self.noise.noisy(latents, index, noise(shape)), z)
            clean = self._clean(z, index, text, self.config.guidance)
            z = self.noise.before(z, clean, index, noise(shape))
        x = self._decoded(z)
        if not self.config.clean:
            x = x + self.config.deviation * noise(x.shape)
        level = ((x + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)
        return torch.where(event.mask, event.value, level.to(event.value.dtype))

    def _known_latents(self, event: Event) -> Tensor:
        """(B, 1, h, w) which latents stand for pixels that are all known."""
        open_ = (~event.mask).double().amax(1, keepdim=True)
        return nn.functional.max_pool2d(open_, self.factor) == 0

    def _filled(self, event: Event) -> Float[Tensor, "B C H W"]:
        """The pictures, grey where a pixel is not known."""
        return torch.where(event.mask, self._pictures(event.value), 0.0)

    def _mode(self, event: Event, context: Any) -> Event:
        """One completion of each row by itself, so that none depends on the others."""
        each = [
            self._sample_conditional(event.take(row), context.take(row), stream(0, "mode")).value
            for row in (slice(place, place + 1) for place in range(event.rows))
        ]
        return Event(torch.cat([event.value[:0], *each]))

    # ------------------------------------------------------------------ readings

    @property
    def reading_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of what is told, and of what is modelled."""
        return (int(self.encoder.config.hidden_size),), (len(PROFILE_PLACES), 4)

    def told_readings(self, told: Event) -> list[Tensor]:
        """The mean over tokens of what the text encoder says."""
        return [self._encoded_texts(self._strings(told)).double().mean(1)]

    def own_readings(self, event: Event, told: Event) -> list[Tensor]:
        """The log of the errors of the U-Net's idea of the latents at several noises, given the
        text; the mean and spread of the greys, and how much neighbours differ."""
        text = self._texts(Record({self.text.name: told}), event.rows)
        errors = []
        plain = []
        for part in slices(event.rows, CHUNK_PICTURES):
            x = self._pictures(event.value[part])
            latents = self._encoded(x)[0]
            each = list(self._errors(latents, text[part]))
            errors.append((torch.stack(each, 1) + LOG_OFFSET).log())
            plain.append(greys(x))
        return [torch.cat(errors), torch.cat(plain)]

    def _errors(self, latents: Tensor, text: Tensor) -> Iterator[Float[Tensor, " B"]]:
        for index, noise in self.noise.profile(self._latent_shape):
            clean = self._clean(self.noise.noisy(latents, index, noise), index, text)
            yield (latents - clean).square().mean((1, 2, 3))


class _Words:
    """Codes of a text, as the folder's tokenizer writes it: ``tokenizer`` in JSON, ``length`` of
    all texts in tokens, ``pad`` behind shorter ones."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.length = int(told["length"])
        self.pad = int(told["pad"])
        self._tokenizer = nets.tokenizers().Tokenizer.from_str(told["tokenizer"])
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def codes(self, text: str) -> list[int]:
        """ValueError for a text that is too long."""
        found = self._tokenizer.encode(text).ids
        if len(found) > self.length:
            raise ValueError(
                f"The text {text[:60]!r} has {len(found)} tokens, and the text encoder reads at "
                f"most {self.length}, its two ends among them: shorten it."
            )
        return [*found, *[self.pad] * (self.length - len(found))]


# ------------------------------------------------------------------------------ the folder


def _factor_of(vae: dict[str, Any]) -> int:
    return int(2 ** (len(vae.get("block_out_channels", (64,))) - 1))


def draws_texts(folder: Path) -> bool:
    """Whether a folder's pipeline has a text encoder."""
    parts = read_json(folder / "model_index.json")
    return isinstance(parts, dict) and _is_part(parts.get("text_encoder"))


def canvas_in(folder: str | Path) -> tuple[int, int, int]:
    """Channels, height and width of the pictures that a folder's networks draw; ValueError where it
    tells no size."""
    told = _described(DiffusersTextToImage(folder=str(folder)))
    side = side_of(told["unet"])
    if not side:
        raise ValueError(f"{folder}: unet/config.json tells no sample_size, how large latents are.")
    factor = _factor_of(told["vae"])
    return int(told["vae"].get("in_channels", 3)), side[0] * factor, side[1] * factor


def _described(config: DiffusersTextToImage) -> dict[str, Any]:
    """What is saved of the folder: the networks' configs, what the scheduler says of noise, the
    tokenizer, and which parts of the pipeline are not used."""
    path = checked_folder(config.folder)
    index = path / "model_index.json"
    parts = read_json(index) if index.is_file() else {}
    found = {name: (parts.get(name) or (None, None))[1] for name in PARTS}
    if found != PARTS:
        raise ValueError(
            f"{path} is no pipeline of {', '.join(PARTS.values())}, as Stable Diffusion is: its "
            f"model_index.json names {parts.get('_class_name', 'nothing')!r} with "
            f"{', '.join(f'{name}={kind}' for name, kind in found.items())}."
        )
    told = {name: read_json(path / name / "config.json") for name in ("unet", "vae")}
    for name, own in told.items():
        nets.refuse_many_parts(path / name, own)
    more = [name for name in TOLD_MORE if told["unet"].get(name)]
    if more:
        raise ValueError(f"The U-Net in {path} has {more[0]}, which is not supported.")
    if told["unet"].get("in_channels") != told["vae"].get("latent_channels", 4):
        raise ValueError(
            f"The U-Net in {path} takes {told['unet'].get('in_channels')} channels, the latents "
            f"have {told['vae'].get('latent_channels', 4)}: one for inpainting alone is not read."
        )
    kept = {name: {k: v for k, v in own.items() if k[:5] != "_name"} for name, own in told.items()}
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    known = {*PARTS, "scheduler", "tokenizer"}
    used = (name for name, part in parts.items() if name not in known and _is_part(part))
    return {
        **kept,
        "text_encoder": nets.config_in(str(path / "text_encoder")),
        "noise": noise_told(path, scheduler, clips=False),
        "words": _words_in(path),
        "unused": sorted(used),
    }


def _is_part(told: Any) -> bool:
    """Whether an entry of model_index.json names a part that is there."""
    return isinstance(told, list) and len(told) == 2 and told[1] is not None


def _words_in(path: Path) -> dict[str, Any]:
    """The tokenizer of a folder, from vocab.json and merges.txt, or from tokenizer.json."""
    most = read_json(path / "text_encoder" / "config.json").get("max_position_embeddings", 77)
    if not isinstance(most, int) or not 2 <= most <= MAX_TEXT_TOKENS:
        raise ValueError(f"The text encoder in {path} has max_position_embeddings={most!r}.")
    where = path / "tokenizer"
    if not where.is_dir():
        raise ValueError(f"{path} has no folder tokenizer, without which no text is read.")
    try:
        tokenizer = nets.transformers().CLIPTokenizer.from_pretrained(where, local_files_only=True)
        saved = tokenizer.backend_tokenizer.to_str()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The tokenizer in {where} can't be read: {str(error)[:200]}.") from None
    return {"tokenizer": saved, "length": most, "pad": int(tokenizer.pad_token_id)}


def _fresh(told: dict[str, Any], dtype: str) -> dict[str, nn.Module]:
    """The networks before they are given their weights."""
    out = {
        name: nets.fresh_part(PARTS[name], told[name], DTYPES[dtype], name)
        for name in ("unet", "vae")
    }
    return {**out, "text_encoder": nets.fresh(MAKER, told["text_encoder"], dtype).eval()}


def _loaded(path: Path, told: dict[str, Any], dtype: str) -> dict[str, nn.Module]:
    """The networks with the weights of the folder; ValueError where they are not all there."""
    out: dict[str, nn.Module] = {}
    for name in ("unet", "vae"):
        out[name] = nets.loaded_part(PARTS[name], path / name, told[name], DTYPES[dtype])
    encoder = str(path / "text_encoder")
    out["text_encoder"] = nets.loaded(MAKER, encoder, told["text_encoder"], dtype)
    return out
