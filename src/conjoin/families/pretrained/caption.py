r"""A network that others have trained to say what a picture shows, as exact p(caption | picture).

    log p(x_1, ..., x_n | v) = sum_{t = 1..n} log p(x_t | s, x_<t, v)
                               + log sum_{e in E} p(e | s, x_1, ..., x_n, v)

O. Vinyals et al. (2015), Show and tell: a neural image caption generator, equation 2, with a
network of the package transformers whose words see the picture v: an encoder of pictures with a
decoder of words (VisionEncoderDecoderModel), BLIP (J. Li et al. (2022)) or GIT (J. Wang et al.
(2022)). s, E and the capacity are those of ``conjoin.families.pretrained.strings``. Nothing is said
of p(picture). In nats.

The weights are those of a local folder, in safetensors; nothing is downloaded and no code of the
folder is run. A saved model holds them.

Shape letters: B rows, C channels, H rows and W columns of pixels, T positions, U logits, F features
of P places of a picture.

>>> TransformersCaption(tune=100).recipe(1000).steps
100
"""

import abc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conjoin.core import Block, Capabilities, Config, Event, Recipe, Record
from conjoin.core.shapes import Float, Int
from conjoin.families.autoregressive.continuation import continued
from conjoin.families.pretrained.strings import StringsOfNetwork
from conjoin.nets.pretrained import DTYPES, config_in, fresh, loaded
from conjoin.util.pretrained import read_json, vocabulary_of

__all__ = ["TransformersCaption", "TransformersCaptionDensity", "is_captioner", "picture_in"]

MAKER = "AutoModelForImageTextToText"
COLOURS = 3  # channels that the networks see
PLAIN = [0.5] * COLOURS  # mean and deviation of a channel, where the folder tells none
CHUNK_PICTURES = 32  # that the network sees at once


@dataclass(frozen=True)
class TransformersCaption(Config):
    """Settings of a pretrained network that captions pictures.

    Parameters
    ----------
    folder
        That holds config.json, preprocessor_config.json and the weights in safetensors.
    tune
        Steps of the gradient by which the weights move to the rows of a fit; 0: none.
    rate
        Learning rate of these steps at the start.
    batch
        Rows of a step.
    dtype
        Numbers of the network: "float32", "float64" or "bfloat16". Probabilities are normalised in
        float64 whichever it is.
    """

    folder: str = ""
    tune: int = 0
    rate: float = 2e-5
    batch: int = 8
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if self.tune < 0:
            raise ValueError(f"tune must be a number of steps, at least 0, got {self.tune!r}.")

    def recipe(self, rows: int) -> Recipe:
        return Recipe(
            steps=self.tune or None, batch=self.batch, rate=self.rate, decay=1e-2, linear=True
        )


# ------------------------------------------------------------------ how networks are laid out


class _Network(abc.ABC):
    """How a kind of network is asked. ``vision`` and ``text``: where its config tells of each."""

    vision: ClassVar[str]
    text: ClassVar[str]
    unasked: ClassVar[str] = "-"  # how names of weights begin whose answers are not used

    @staticmethod
    @abc.abstractmethod
    def seen(net: Any, pixels: Float[Tensor, "B 3 H W"]) -> Tensor:
        """(B, ...) what its words see of pictures."""

    @staticmethod
    @abc.abstractmethod
    def features(net: Any, seen: Tensor) -> Float[Tensor, "B P F"]:
        """Of each place of the pictures, of what is ``seen``."""

    @staticmethod
    @abc.abstractmethod
    def logits(net: Any, tokens: Int[Tensor, "B T"], seen: Tensor) -> Float[Tensor, "B T U"]:
        """What it tells of the token behind each."""


class _EncoderDecoder(_Network):
    vision = "encoder"
    text = "decoder"
    unasked = "encoder.pooler."

    @staticmethod
    def seen(net: Any, pixels: Float[Tensor, "B 3 H W"]) -> Tensor:
        out: Tensor = net.encoder(pixel_values=pixels).last_hidden_state
        wide = getattr(net.decoder.config, "cross_attention_hidden_size", None) is None
        if net.encoder.config.hidden_size != net.decoder.config.hidden_size and wide:
            out = net.enc_to_dec_proj(out)
        return out

    @staticmethod
    def features(net: Any, seen: Tensor) -> Float[Tensor, "B P F"]:
        return seen

    @staticmethod
    def logits(net: Any, tokens: Int[Tensor, "B T"], seen: Tensor) -> Float[Tensor, "B T U"]:
        out: Tensor = net.decoder(
            input_ids=tokens, encoder_hidden_states=seen, use_cache=False
        ).logits
        return out


class _Blip(_Network):
    vision = "vision_config"
    text = "text_config"

    @staticmethod
    def seen(net: Any, pixels: Float[Tensor, "B 3 H W"]) -> Tensor:
        out: Tensor = net.vision_model(pixel_values=pixels).last_hidden_state
        return out

    @staticmethod
    def features(net: Any, seen: Tensor) -> Float[Tensor, "B P F"]:
        return seen

    @staticmethod
    def logits(net: Any, tokens: Int[Tensor, "B T"], seen: Tensor) -> Float[Tensor, "B T U"]:
        out: Tensor = net.text_decoder(
            input_ids=tokens, encoder_hidden_states=seen, use_cache=False
        ).logits
        return out


class _Git(_Network):
    """Places of the picture stand before the tokens in one row, so it is seen anew each time."""

    vision = "vision_config"
    text = ""

    @staticmethod
    def seen(net: Any, pixels: Float[Tensor, "B 3 H W"]) -> Tensor:
        return pixels

    @staticmethod
    def features(net: Any, seen: Tensor) -> Float[Tensor, "B P F"]:
        out: Tensor = net.git.image_encoder(pixel_values=seen).last_hidden_state
        return out

    @staticmethod
    def logits(net: Any, tokens: Int[Tensor, "B T"], seen: Tensor) -> Float[Tensor, "B T U"]:
        out: Tensor = net(input_ids=tokens, pixel_values=seen, use_cache=False).logits
        return out[:, -tokens.shape[1] :]


NETWORKS: dict[str, type[_Network]] = {
    "vision-encoder-decoder": _EncoderDecoder,
    "blip": _Blip,
    "git": _Git,
}


@dataclass(frozen=True)
class _State:
    """The tokens so far, the first one included, and what is seen of the pictures."""

    tokens: Tensor  # (B, 1 + n)
    seen: Tensor

    @property
    def place(self) -> int:
        """How many tokens of the string there are."""
        return self.tokens.shape[1] - 1

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        return replace(self, tokens=self.tokens[rows], seen=self.seen[rows])


class TransformersCaptionDensity(StringsOfNetwork):
    """Exact log p of captions and of their beginnings given a picture, exact continuations."""

    config_class = TransformersCaption
    conditional = True

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        space: Block,
        config: TransformersCaption,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        network: nn.Module | None = None,
    ) -> None:
        if getattr(space, "layout", "") != "sequence":
            raise ValueError("A pretrained captioner models strings: a block of tokens.")
        super().__init__(space, config, structure or _described(config), context_space)
        self.picture = self._picture()
        told = self.structure["network"]
        self.layout = NETWORKS[told["model_type"]]
        self.net: Any = fresh(MAKER, told, config.dtype) if network is None else network
        for name, weight in self.net.named_parameters():
            weight.requires_grad_(config.tune > 0 and not name.startswith(self.layout.unasked))
        text = told.get(self.layout.text, told)
        self._take_tokens(text.get("max_position_embeddings", text.get("n_positions")))
        for name in ("mean", "spread"):
            table = torch.tensor(self.structure[name], dtype=torch.float64)[:, None, None]
            self.register_buffer(name, table, persistent=False)

    def _picture(self) -> Block:
        """The block that it is told."""
        blocks = self.context_space.blocks
        if len(blocks) != 1 or blocks[0].layout != "image":
            raise ValueError("A pretrained captioner is told a picture, and nothing else.")
        block: Block = blocks[0]
        side = self.structure["side"]
        if block.shape[0] not in (1, COLOURS) or list(block.shape[1:]) != side:
            raise ValueError(
                f"The network of {self.config.folder!r} sees pictures of {side[0]} x {side[1]} "
                f"pixels in grey or three colours, these have {block.shape[1]} x {block.shape[2]} "
                f"pixels and {block.shape[0]} channels: bring them to that size."
            )
        return block

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
        """With the weights of the folder; ValueError where the words see those behind them."""
        told = _described(config)
        network = loaded(MAKER, config.folder, told["network"], config.dtype)
        density = cls(space, config, told, context_space, network=network).eval()
        density._refuse_seeing_ahead(density._seen(density._grey()))
        return density

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            marginals="prefix", conditionals="prefix", mode="approximate", step=True
        )

    @property
    def levels(self) -> int:
        """Of a pixel."""
        return int(self.picture.variables[0].cardinality)

    # ------------------------------------------------------------------ what is told

    def _seen(self, event: Event) -> Tensor:
        """(B, ...) what words see of pictures, scaled as the folder says; one of which a pixel is
        not known is refused."""
        self._require(bool(event.complete.all()), "captions of a part of a picture", "null_context")
        if not event.rows:  # networks take no empty batch
            return torch.zeros(0, 0)
        return torch.cat([self._seen_of(part) for part in event.value.split(CHUNK_PICTURES)])

    def _seen_of(self, value: Tensor) -> Tensor:
        shares = value.double() / (self.levels - 1)
        pixels = (shares.expand(-1, COLOURS, -1, -1) - self.mean) / self.spread
        return self.layout.seen(self.net, pixels.to(DTYPES[self.config.dtype]))

    def _told_of(self, context: Record, rows: int) -> Tensor:
        return self._seen(context[self.picture.name])

    def _logits(self, tokens: Int[Tensor, "b T"], told: Tensor) -> Float[Tensor, "b T U"]:
        return self.layout.logits(self.net, tokens, told)

    # ------------------------------------------------------------------ draws

    def _begin(self, rows: int, context: Record) -> _State:
        return _State(self._start(rows), self._told_of(context, rows))

    def _step(self, state: _State, token: Tensor | None) -> tuple[_State, Float[Tensor, "B V1"]]:
        if token is not None:
            state = replace(state, tokens=torch.cat([state.tokens, token[:, None]], 1))
        if state.place >= self.capacity:
            return state, self._certain_end(len(state.tokens))
        logits = self._logits(state.tokens, state.seen)
        return state, self._log_next(logits[:, -1:])[:, 0]

    def _continued(self, event: Event, context: Record, choose: Any) -> Event:
        if not event.rows:  # networks take no empty batch
            return Event(event.value, torch.ones_like(event.mask), event.present)
        return continued(self, event, self._begin(event.rows, context), choose)

    # ------------------------------------------------------------------ readings

    @property
    def reading_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of what is told, and of what is modelled."""
        features = self.layout.features(self.net, self._seen(self._grey()))
        return (int(features.shape[2]),), (2,)

    def _grey(self) -> Event:
        return self.picture.check(Event(torch.full((1, *self.picture.shape), self.levels // 2)))

    def told_readings(self, told: Event) -> list[Tensor]:
        """The mean over places of what the encoder sees of a picture."""
        return [self.layout.features(self.net, self._seen(told)).double().mean(1)]

    def own_readings(self, event: Event, told: Event) -> list[Tensor]:
        """The mean surprise of a token (nats), and log(1 + length)."""
        length = event.known.sum(1).double()
        log_p = self._log_given(event, self._seen(told))
        return [torch.stack([-log_p / (length + 1), (length + 1).log()], 1)]


# ------------------------------------------------------------------------------ the folder


def is_captioner(folder: Path) -> bool:
    """Whether a folder's config.json names a network that captions pictures."""
    file = folder / "config.json"
    told = read_json(file) if file.is_file() else {}
    return isinstance(told, dict) and told.get("model_type") in NETWORKS


def picture_in(folder: str | Path) -> tuple[int, int]:
    """Height and width of the pictures that a folder's network sees."""
    height, width = _described(TransformersCaption(folder=str(folder)))["side"]
    return height, width


def _described(config: TransformersCaption) -> dict[str, Any]:
    """What is saved of the folder: the network's config; the size, ends and start of its
    vocabulary; how large pictures are, and how they are scaled."""
    network = config_in(config.folder)
    path = Path(config.folder).expanduser()
    kind = network["model_type"]
    if kind not in NETWORKS:
        raise ValueError(
            f"{path} holds a network of model_type={kind!r}, which captions no pictures; choose "
            f"from {', '.join(NETWORKS)}."
        )
    found = vocabulary_of(path)
    vision = network.get(NETWORKS[kind].vision) or {}
    side = vision.get("image_size")
    side = [side, side] if isinstance(side, int) else side
    if not isinstance(side, list) or len(side) != 2 or vision.get("num_channels", 3) != COLOURS:
        raise ValueError(
            f"{path / 'config.json'} tells no image_size of pictures in three colours."
        )
    return {
        "network": network,
        "size": found.size,
        "ends": list(found.ends),
        "start": found.start,
        "side": side,
        **_scaled(path),
    }


def _scaled(path: Path) -> dict[str, list[float]]:
    """Mean and deviation of each channel, as shares of white."""
    file = path / "preprocessor_config.json"
    if not file.is_file():
        raise ValueError(
            f"{path} has no preprocessor_config.json, which says how pictures are scaled: save it "
            "there with the class AutoImageProcessor of transformers."
        )
    told = read_json(file)
    plain = {"mean": [0.0] * COLOURS, "spread": [1.0] * COLOURS}
    if not told.get("do_normalize", True):
        return plain
    found = {
        "mean": told.get("image_mean", PLAIN),
        "spread": told.get("image_std", PLAIN),
    }
    for name, each in found.items():
        fits = isinstance(each, list) and len(each) == COLOURS
        if not fits or not all(isinstance(one, int | float) for one in each):
            raise ValueError(f"{file} has no {name} of three channels, got {each!r}.")
    return found
