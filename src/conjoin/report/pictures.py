"""The report's pictures: drawn by class, on their way from noise, with parts painted in, altered
for another answer.

Each is a small PNG inside the page, made here, so that no figure of pictures needs another package.
"""

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from conjoin.core import Event, stream
from conjoin.model.words import number, percent
from conjoin.plot.style import CLASSES
from conjoin.questions.decide import decide
from conjoin.report.sections import Answers, attempt

__all__ = ["Strip", "Tile", "picture_sections", "png"]

SEED = 1
PICTURES_PER_CLASS = 8  # pictures of a class
MAX_DRAWN_CLASSES = 10  # classes that are drawn one by one, at most
SHOWN_STATES = 11  # of a picture on its way from noise
PAINTED_PICTURES = 3
COMPLETIONS_PER_PICTURE = 3
ALTERED_PICTURES = 4
MAX_SIDE_PIXELS = 64  # pixels of a picture on the page, about; larger ones are thinned
# grey levels, under which the largest difference is not shown at full strength
MIN_FULL_DIFFERENCE = 64


@dataclass(frozen=True)
class Tile:
    """A picture as a data URI; ``verdict`` and ``words`` stand below it."""

    uri: str
    words: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures side by side."""

    name: str
    tiles: list[Tile]


def picture_sections(estimator: Any, found: Answers, real: Any) -> dict[str, Any]:
    """The sections about pictures. ``real``: rows of pictures, where real ones may be shown, else
    None."""
    out: dict[str, Any] = {
        "template": "pictures.html.j2",
        "sections": ("samples", "way", "imputation", "counterfactual"),
        "real_pictures": real is not None,
    }
    for name, build in (
        ("sheet", _sheet),
        ("way", _way),
        ("painted", _painted),
        ("altered", _altered),
    ):
        out[name], out[f"no_{name}"] = attempt(build, estimator, found, real)
    return out


# ----------------------------------------------------------------------------------------- sections


def _sheet(estimator: Any, found: Answers, real: Any) -> list[Strip]:
    """Drawn pictures, a row for each class where there are not too many; with real ones below."""
    labels = _labels(found.model)
    if not labels:
        return [
            Strip(
                "",
                _tiles(found.model, estimator.sample(2 * PICTURES_PER_CLASS, random_state=SEED)[0]),
            ),
            *_real_strips(found, real, []),
        ]
    images = _drawn(found.model, np.repeat(np.arange(len(labels)), PICTURES_PER_CLASS))
    each = [
        images[PICTURES_PER_CLASS * place : PICTURES_PER_CLASS * (place + 1)]
        for place in range(len(labels))
    ]
    drawn = [
        Strip(f"{label}, drawn", _tiles(found.model, part))
        for label, part in zip(labels, each, strict=True)
    ]
    below = _real_strips(found, real, labels)
    return (
        [strip for pair in zip(drawn, below, strict=True) for strip in pair]
        if len(below) == len(drawn)
        else drawn + below
    )


def _real_strips(found: Answers, real: Any, labels: list[Any]) -> list[Strip]:
    if real is None:
        return []
    images = cast(Any, found.model.codec).images(real)
    if not labels or not found.labelled:
        return [Strip("real", _tiles(found.model, images[: 2 * PICTURES_PER_CLASS]))]
    each = {
        label: images[found.known & (found.y == label)][:PICTURES_PER_CLASS] for label in labels
    }
    return [
        Strip(f"{label}, real", _tiles(found.model, part))
        for label, part in each.items()
        if len(part)
    ]


def _labels(model: Any) -> list[Any]:
    """The classes, if the density was told any and they are not too many."""
    labels = [] if model.density_of_x.context_space is None else list(model.classes.labels)
    return labels if len(labels) <= MAX_DRAWN_CLASSES else []


def _drawn(model: Any, codes: np.ndarray) -> np.ndarray:
    """A picture of each class."""
    drawn = model.density_of_x.sample(
        len(codes), Event(torch.tensor(codes).double()), generator=stream(SEED, "pictures")
    )
    return np.asarray(model.codec.decode(drawn.value))


def _way(estimator: Any, found: Answers, real: Any) -> Strip:
    """One picture from noise on, at some of the sampler's steps."""
    density = found.model.density_of_x
    codec = cast(Any, found.model.codec)
    if not density.capabilities.unfolds:
        raise ValueError(
            "This family draws a picture in another way than out of noise, so there is none to "
            "show."
        )
    states = density.unfold(1, generator=stream(SEED, "way"))[:, 0]
    places = np.unique(np.linspace(0, len(states) - 1, SHOWN_STATES).round().astype(int))
    images = codec.decode(states[places])
    return Strip("", _tiles(found.model, images, [f"step {place}" for place in places]))


def _painted(estimator: Any, found: Answers, real: Any) -> list[Strip]:
    """Pictures, each with another part hidden, and what is painted in."""
    able = found.model.density_of_x.capabilities
    if able.conditionals != "any" and not able.unfolds:
        raise ValueError(
            "Parts of a picture are not painted in here: for this family that takes too many draws."
        )
    images = _some(estimator, found, real, PAINTED_PICTURES)
    holed = images.astype(float)
    height, width = images.shape[1:3]
    parts = (
        np.s_[height // 2 :],
        np.s_[:, width // 2 :],
        np.s_[height // 4 : -(height // 4), width // 4 : -(width // 4)],
    )
    for image, part in zip(holed, parts, strict=False):
        image[part] = np.nan
    filled = estimator.impute(holed, n_draws=COMPLETIONS_PER_PICTURE, random_state=SEED)
    words = ["as it is", "hidden", *["painted in"] * COMPLETIONS_PER_PICTURE]
    return [
        Strip("", _tiles(found.model, list(row), words))
        for row in zip(images, holed, *filled, strict=True)
    ]


def _altered(estimator: Any, found: Answers, real: Any) -> list[Strip]:
    """Pictures beside what they would have to look like for another answer, and where the two
    differ."""
    model = found.model
    codec = cast(Any, found.model.codec)
    if not (model.has_classes and model.pair.proposer.capabilities.edits):
        raise ValueError(
            "This model can't alter pictures: that needs classes and a family that edits, such "
            "as family='diffusion'."
        )
    if model.calibration is None:
        raise ValueError("Nothing was calibrated, so what is plausible is not known.")
    change = estimator.counterfactual(_some(estimator, found, real, ALTERED_PICTURES))
    before, after = (
        _verdicts(estimator, found, images) for images in (change.original, change.altered)
    )
    out = []
    for place, right in enumerate(change.found):
        wanted = f"{change.to[place]} {number(change.probability[place], 2)}"
        moved = (
            f"{percent(change.changed[place], 0)} of the pixels, "
            f"{percent(change.share[place], 0)} by over a tenth"
        )
        tiles = [
            Tile(_shown(codec, change.original[place]), *before[place]),
            Tile(
                _shown(codec, change.altered[place]),
                wanted if right else f"{after[place][0]}; {wanted}",
                after[place][1],
            ),
            Tile(
                _difference(change.difference[place], codec.levels),
                moved if right else f"{moved}; no plausible change was found",
            ),
        ]
        out.append(Strip("", tiles))
    return out


def _verdicts(estimator: Any, found: Answers, images: np.ndarray) -> list[tuple[str, str]]:
    """(best guess, verdict) of each; no verdict where no rate can be promised."""
    if found.rates is None:
        return [(str(guess), "") for guess in estimator.predict(images)]
    table = decide(
        found.model, images, false_alarm=found.rates[0], max_error=found.rates[1], explain=False
    )
    return [
        (str(guess), str(verdict))
        for guess, verdict in zip(table["best_guess"], table["verdict"], strict=True)
    ]


def _some(estimator: Any, found: Answers, real: Any, count: int) -> np.ndarray:
    """So many pictures, of each class in turn: where real ones may be shown the first of them,
    accepted ones before others; else drawn."""
    labels = _labels(found.model)
    if real is None:
        return (
            _drawn(found.model, np.arange(count) % len(labels))
            if labels
            else np.asarray(estimator.sample(count, random_state=SEED)[0])
        )
    places = np.arange(len(real))
    if found.table is not None:
        # accept comes first in the alphabet
        table = found.table.reset_index(drop=True).sort_values("verdict", kind="stable")
        places = (
            table.groupby("best_guess").cumcount().sort_values(kind="stable") if labels else table
        ).index.to_numpy()
    return np.asarray(cast(Any, found.model.codec).images(real.take(places[:count])))


# ----------------------------------------------------------------------------------------- pictures


def _tiles(model: Any, images: Any, words: list[str] | None = None) -> list[Tile]:
    return [
        Tile(_shown(model.codec, image), said)
        for image, said in zip(images, words or [""] * len(images), strict=True)
    ]


def _shown(codec: Any, image: np.ndarray) -> str:
    """One picture; missing pixels are transparent, and of channels that are no colours the first is
    shown."""
    values = np.asarray(image, dtype=float).reshape(*image.shape[:2], -1)
    values = values if values.shape[2] in (3, 4) else values[:, :, :1]
    known = ~np.isnan(values).any(2)
    greys = np.nan_to_num(values * 255 / max(1, codec.levels - 1)).round().astype(np.uint8)
    if not known.all():
        colours = np.repeat(greys, 3, 2) if greys.shape[2] == 1 else greys[:, :, :3]
        greys = np.concatenate([colours, 255 * known[:, :, None].astype(np.uint8)], 2)
    return png(greys)


def _difference(change: np.ndarray, levels: int) -> str:
    """Orange where it became brighter, blue where darker, the more opaque the more."""
    change = change.mean(-1) if change.ndim == 3 else change
    opaque = np.abs(change) / max(MIN_FULL_DIFFERENCE * levels / 256, np.abs(change).max())
    up, down = (
        [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        for colour in (CLASSES[1], CLASSES[0])
    )
    colours = np.where((change > 0)[:, :, None], up, down)
    return png(np.concatenate([colours, (255 * opaque[:, :, None]).round()], 2).astype(np.uint8))


def png(picture: np.ndarray) -> str:
    """The data URI of an uint8 picture (H, W, C) of 1, 3 or 4 channels."""
    step = -(-max(picture.shape[:2]) // MAX_SIDE_PIXELS)
    picture = picture[::step, ::step]
    height, width, channels = picture.shape
    # each begins with its filter: none
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
