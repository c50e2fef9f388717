"""Pictures of a few coloured shapes with captions, and an exact judge of what a picture shows.

A caption says how many things there are, of which size, colour and shape, how they stand to each
other, and on which background::

    a small red ring on a grey background
    a red ring above a blue square on a white background
    three green crosses on a black background
    from left to right a red ring, a blue square and a green cross on a white background

``draw_scenes`` draws such pictures with their captions from a seed, as many as are asked for. Some
pairs of a colour and a shape can be kept out, so that a model is asked for what it never saw.
``judge_scene`` reads a picture by classical vision, without any learning, and says of each part of
a caption whether it holds.

Shape letters: n scenes, S pixels a side, M subpixels of a cut-out.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT_PAIRS",
    "RELATIONS",
    "SHAPES",
    "Scene",
    "Scenes",
    "Thing",
    "draw_scenes",
    "judge_scene",
    "picture_of",
    "scene_of",
]

Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # (S, S, 3)
Pattern = Literal["one", "relation", "several", "row"]

COLOURS = {
    "red": (215, 45, 45),
    "green": (45, 165, 65),
    "blue": (45, 85, 215),
    "yellow": (240, 205, 45),
    "purple": (145, 55, 185),
    "orange": (240, 130, 35),
}
BACKGROUNDS = {"white": (255, 255, 255), "black": (15, 15, 15), "grey": (140, 140, 140)}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}  # (x, y)
ROWS = {"left to right": (1, 0), "top to bottom": (0, 1)}
COUNTS = {"two": 2, "three": 3}
SIZES = {"small": 4.0, "large": 9.0}  # radius, in pixels of a side of 32
HELD_OUT_PAIRS = frozenset(zip(COLOURS, SHAPES, strict=True))  # one of each colour and each shape
SHARES: dict[Pattern, float] = {"one": 0.25, "relation": 0.4, "several": 0.2, "row": 0.15}

SIDE = 32.0  # pixels; what is given in pixels is meant at this side
RADII: dict[Pattern, float] = {"relation": 5.0, "several": 4.0, "row": 4.0}
MARGIN = 1.0  # pixels between a thing and the edge
APART = 10.5  # pixels between the middles of several things
FROM_MIDDLE = 8.0  # pixels of each of two things from the middle
WOBBLE = 3.0  # pixels at most across the direction in which things stand
TRIES = 200  # places of several things
SUBPIXELS = 4  # a side of a pixel


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape of a colour; its middle and its radius in shares of the picture's side."""

    colour: str
    shape: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.15

    @property
    def pair(self) -> tuple[str, str]:
        return self.colour, self.shape


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption says. ``how`` is the size of one thing, the relation of the first of two to
    the second, how many there are of one kind, or the direction of a row."""

    pattern: Pattern
    things: tuple[Thing, ...]
    background: str
    how: str

    @property
    def caption(self) -> str:
        """In words.

        >>> Scene("one", (Thing("red", "ring"),), "grey", "small").caption
        'a small red ring on a grey background'
        """
        first = self.things[0]
        if self.pattern == "one":
            words = f"a {self.how} {first.colour} {first.shape}"
        elif self.pattern == "several":
            words = f"{self.how} {first.colour} {_plural(first.shape)}"
        else:
            each = [
                f"{_article(thing.colour)} {thing.colour} {thing.shape}" for thing in self.things
            ]
            words = (
                f"{each[0]} {self.how} {each[1]}"
                if self.pattern == "relation"
                else f"from {self.how} {', '.join(each[:-1])} and {each[-1]}"
            )
        return f"{words} on a {self.background} background"


@dataclass(frozen=True, slots=True)
class Scenes:
    """Pictures (n, S, S, 3) of uint8, their captions, and what is in them."""

    pictures: Pixels
    captions: list[str]
    scenes: list[Scene]


def draw_scenes(
    n: int,
    seed: int = 0,
    *,
    side: int = 32,
    patterns: Collection[str] = tuple(SHARES),
    held_out: Collection[tuple[str, str]] = HELD_OUT_PAIRS,
    only_held_out: bool = False,
) -> Scenes:
    """Pictures of coloured shapes with captions.

    Parameters
    ----------
    n : int
        How many.
    seed : int, default 0
        Of the scenes: the same seed gives the same ones.
    side : int, default 32
        Pixels a side, at least 16.
    patterns : collection of str, default all
        Of "one" (a thing of a size), "relation" (two things), "several" (two or three of a kind)
        and "row" (three things side by side).
    held_out : collection of (colour, shape), default ``HELD_OUT_PAIRS``
        Pairs that no picture shows.
    only_held_out : bool, default False
        Only scenes with one of these pairs at least, in place of none.

    Returns
    -------
    Scenes
        ``pictures`` (n, side, side, 3) of uint8, ``captions`` and ``scenes``.

    Raises
    ------
    ValueError
        For a pattern, a colour or a shape that there is not, fewer than 1 scene, fewer than 16
        pixels, or pairs that leave nothing to draw.

    Examples
    --------
    >>> found = draw_scenes(2, seed=1)
    >>> found.pictures.shape, len(found.captions)
    ((2, 32, 32, 3), 2)
    """
    _check(n, side, patterns, held_out, only_held_out)
    rng = np.random.default_rng(seed)
    held = frozenset(held_out)
    drawn: list[Scene] = []
    shares = np.array([SHARES[each] for each in SHARES if each in patterns])
    choices = [each for each in SHARES if each in patterns]
    while len(drawn) < n:
        pattern = choices[int(rng.choice(len(choices), p=shares / shares.sum()))]
        scene = MAKERS[pattern](rng)
        if scene is not None and only_held_out == any(each.pair in held for each in scene.things):
            drawn.append(scene)
    pictures = np.stack([picture_of(scene, side) for scene in drawn])
    return Scenes(pictures, [scene.caption for scene in drawn], drawn)


def _check(
    n: int,
    side: int,
    patterns: Collection[str],
    held_out: Collection[tuple[str, str]],
    only_held_out: bool,
) -> None:
    if n < 1 or side < 16:
        raise ValueError(f"n must be at least 1 and side at least 16, got n={n!r}, side={side!r}.")
    for pattern in patterns:
        if pattern not in SHARES:
            raise ValueError(f"There is no pattern {pattern!r}; choose from {', '.join(SHARES)}.")
    for colour, shape in held_out:
        if colour not in COLOURS or shape not in SHAPES:
            raise ValueError(
                f"held_out has {(colour, shape)!r}: colours are {', '.join(COLOURS)}, shapes "
                f"{', '.join(SHAPES)}."
            )
    left = len(COLOURS) * len(SHAPES) - len(set(held_out))
    if not patterns or (not held_out if only_held_out else left < 2):
        raise ValueError("These patterns and pairs leave nothing to draw.")


# --------------------------------------------------------------------------------- what is in them


def _pair(rng: np.random.Generator) -> tuple[str, str]:
    colours = list(COLOURS)
    return colours[int(rng.integers(len(colours)))], SHAPES[int(rng.integers(len(SHAPES)))]


def _thing(pair: tuple[str, str], x: float, y: float, radius: float) -> Thing:
    """``x``, ``y`` and ``radius`` in pixels."""
    return Thing(*pair, x / SIDE, y / SIDE, radius / SIDE)


def _background(rng: np.random.Generator) -> str:
    return list(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))]


def _one(rng: np.random.Generator) -> Scene:
    size = list(SIZES)[int(rng.integers(len(SIZES)))]
    radius = SIZES[size]
    x, y = rng.uniform(radius + MARGIN, SIDE - radius - MARGIN, 2)
    return Scene("one", (_thing(_pair(rng), x, y, radius),), _background(rng), size)


def _relation(rng: np.random.Generator) -> Scene | None:
    """None where both things are the same."""
    first = _pair(rng)
    second = _pair(rng)
    how = list(RELATIONS)[int(rng.integers(len(RELATIONS)))]
    along = np.array(RELATIONS[how])
    wobble = rng.uniform(-WOBBLE, WOBBLE, (2, 2)) * np.where(along == 0, 1.0, 0.6)
    places = SIDE / 2 + FROM_MIDDLE * np.stack([along, -along]) + wobble
    things = [
        _thing(pair, place[0], place[1], RADII["relation"])
        for pair, place in zip((first, second), places, strict=True)
    ]
    return None if first == second else Scene("relation", tuple(things), _background(rng), how)


def _several(rng: np.random.Generator) -> Scene | None:
    """None where no place was found for one of them."""
    pair = _pair(rng)
    how = list(COUNTS)[int(rng.integers(len(COUNTS)))]
    radius = RADII["several"]
    places: list[np.ndarray] = []
    for _ in range(TRIES):
        place = rng.uniform(radius + MARGIN, SIDE - radius - MARGIN, 2)
        if all(np.abs(place - other).max() > APART for other in places):
            places.append(place)
        if len(places) == COUNTS[how]:
            things = tuple(_thing(pair, each[0], each[1], radius) for each in places)
            return Scene("several", things, _background(rng), how)
    return None


def _row(rng: np.random.Generator) -> Scene | None:
    """None where two of the things are the same."""
    pairs = [_pair(rng) for _ in range(3)]
    how = list(ROWS)[int(rng.integers(len(ROWS)))]
    along = np.array(ROWS[how])
    places = SIDE / 2 + APART * np.array([-1, 0, 1])[:, None] * along
    places = places + rng.uniform(-WOBBLE, WOBBLE, (3, 2)) * np.where(along == 0, 1.0, 0.1)
    things = [
        _thing(pair, place[0], place[1], RADII["row"])
        for pair, place in zip(pairs, places, strict=True)
    ]
    return None if len(set(pairs)) < 3 else Scene("row", tuple(things), _background(rng), how)


MAKERS = {"one": _one, "relation": _relation, "several": _several, "row": _row}


# ------------------------------------------------------------------------------------- the words


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def scene_of(caption: str) -> Scene:
    """What a caption of this grammar says; places are not told, so they are all in the middle.

    Parameters
    ----------
    caption : str
        As ``Scene.caption`` writes it.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        For other words.

    Examples
    --------
    >>> scene_of("two red crosses on a grey background").how
    'two'
    """
    for pattern, form in GRAMMAR.items():
        found = form.fullmatch(caption)
        if found is None:
            continue
        told = found.groupdict()
        pairs = re.findall(f"({_any(COLOURS)}) ({_any(SHAPES)})", caption)
        things = tuple(Thing(*pair) for pair in pairs) * COUNTS.get(told["how"], 1)
        return Scene(pattern, things, told["background"], told["how"])
    raise ValueError(f"{caption!r} is no caption of these scenes, such as {_one_caption()!r}.")


def _one_caption() -> str:
    return Scene("one", (Thing("red", "ring"),), "grey", "small").caption


def _any(words: Collection[str]) -> str:
    return "|".join(words)


def _grammar() -> dict[Pattern, re.Pattern[str]]:
    pair = f"(?:{_any(COLOURS)}) (?:{_any(SHAPES)})"
    told = f"an? {pair}"
    words: dict[Pattern, str] = {
        "one": f"a (?P<how>{_any(SIZES)}) {pair}",
        "relation": f"{told} (?P<how>{_any(RELATIONS)}) {told}",
        "several": f"(?P<how>{_any(COUNTS)}) {pair}(?:s|es)",
        "row": f"from (?P<how>{_any(ROWS)}) {told}, {told} and {told}",
    }
    end = f" on a (?P<background>{_any(BACKGROUNDS)}) background"
    return {pattern: re.compile(each + end) for pattern, each in words.items()}


GRAMMAR = _grammar()


# ----------------------------------------------------------------------------------- the pictures


def picture_of(scene: Scene, side: int = 32) -> Pixels:
    """(side, side, 3), each pixel the mean of ``SUBPIXELS`` times ``SUBPIXELS``."""
    canvas = np.tile(np.array(BACKGROUNDS[scene.background], dtype=float), (side, side, 1))
    for thing in scene.things:
        place = (thing.x * side, thing.y * side, thing.radius * side)
        canvas += _cover(thing.shape, *place, side)[..., None] * (
            np.array(COLOURS[thing.colour]) - canvas
        )
    return canvas.round().astype(np.uint8)


def _cover(shape: str, x: float, y: float, radius: float, side: int) -> np.ndarray:
    """(side, side) the share of each pixel that a shape covers; its place in pixels."""
    at = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS
    u = (at - x) / radius
    v = (at - y) / radius
    near = [np.flatnonzero(np.abs(each) <= 1) for each in (v, u)]
    out = np.zeros((side * SUBPIXELS, side * SUBPIXELS))
    out[np.ix_(*near)] = _inside(shape, u[near[1]][None], v[near[0]][:, None])
    return out.reshape(side, SUBPIXELS, side, SUBPIXELS).mean((1, 3))


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(M, M) whether points are inside a shape of radius 1; v points down."""
    far = np.maximum(np.abs(u), np.abs(v))
    square = u**2 + v**2
    if shape == "circle":
        return square <= 1
    if shape == "square":
        return far <= 0.85
    if shape == "triangle":
        return (v <= 0.9) & (np.abs(u) <= (v + 1) / 1.9)
    if shape == "diamond":
        return np.abs(u) / 0.75 + np.abs(v) <= 1
    if shape == "cross":
        return (np.minimum(np.abs(u), np.abs(v)) <= 0.33) & (far <= 1)
    return (square <= 1) & (square >= 0.58**2)


# ------------------------------------------------------------------------------------- the judge

DIFFERENT = 70  # distance of colours from the background from which on a pixel is of a thing
MIN_AREA = 8 / SIDE**2  # of a thing, as a share of the picture; less is a speck
BETWEEN = 3 / SIDE  # by how much the first thing must stand beyond the second
TRIED_RADII = np.array([4.0, 5.0, 9.0]) / SIDE
TRIED_SHIFTS = (0.0, 0.33, 0.66)  # of a pixel
LARGE_RADIUS = 6.5 / SIDE


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing that was found: how well its shape fits (intersection over union), where it is and
    how large, in shares of the side."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    fit: float


def judge_scene(picture: Pixels, scene: Scene | str) -> dict[str, bool]:
    """Whether each part of a caption holds in a picture, by classical vision.

    Parameters
    ----------
    picture : ndarray of uint8, shape (S, S, 3)
        As drawn by a model, or by ``draw_scenes``.
    scene : Scene or str
        What is asked for, or its caption.

    Returns
    -------
    dict
        "background", "count", "colours", "shapes", "binding" (each shape in its colour), "size",
        "relation" or "order" where the caption tells one, and "all".
    """
    wanted = scene_of(scene) if isinstance(scene, str) else scene
    background, seen = things_in(picture)
    pairs = sorted(thing.pair for thing in wanted.things)
    out = {
        "background": background == wanted.background,
        "count": len(seen) == len(wanted.things),
        "colours": sorted(each.colour for each in seen) == sorted(pair[0] for pair in pairs),
        "shapes": sorted(each.shape for each in seen) == sorted(pair[1] for pair in pairs),
        "binding": sorted((each.colour, each.shape) for each in seen) == pairs,
    }
    if wanted.pattern == "one":
        out["size"] = bool(seen) and (seen[0].radius > LARGE_RADIUS) == (wanted.how == "large")
    if wanted.pattern == "relation":
        out["relation"] = out["binding"] and _stand(seen, wanted.things, RELATIONS[wanted.how])
    if wanted.pattern == "row":
        back = tuple(-each for each in ROWS[wanted.how])
        steps = zip(wanted.things[:-1], wanted.things[1:], strict=True)
        out["order"] = out["binding"] and all(_stand(seen, step, back) for step in steps)
    return out | {"all": all(out.values())}


def _stand(seen: Sequence[Seen], two: Sequence[Thing], towards: Sequence[int]) -> bool:
    """Whether the first of two things is found beyond the second in that direction."""
    first, second = (
        next(each for each in seen if (each.colour, each.shape) == thing.pair) for thing in two
    )
    along = (first.x - second.x) * towards[0] + (first.y - second.y) * towards[1]
    return bool(along > BETWEEN)


def things_in(picture: Pixels) -> tuple[str, list[Seen]]:
    """The background, and the things that stand out from it."""
    from scipy.ndimage import find_objects, label

    pixels = picture.astype(float)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    far = {name: np.median(_apart(edge, colour)) for name, colour in BACKGROUNDS.items()}
    background = min(far, key=lambda name: far[name])
    apart = _apart(pixels, BACKGROUNDS[background])
    parts, _ = label(apart > DIFFERENT, np.ones((3, 3)))
    found = []
    for number, place in enumerate(find_objects(parts), 1):
        inside = parts[place] == number
        if inside.sum() >= MIN_AREA * len(picture) ** 2:
            found.append(_seen(pixels, apart, parts == number, background))
    return background, found


def _apart(pixels: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """Distance of colours."""
    return np.sqrt(((pixels - np.array(colour, dtype=float)) ** 2).sum(-1))


def _seen(pixels: np.ndarray, apart: np.ndarray, inside: np.ndarray, background: str) -> Seen:
    """The colour by vote of the pixels, the shape by the best fitting template."""
    names = list(COLOURS)
    each = np.stack([_apart(pixels[inside], COLOURS[name]) for name in names])
    colour = names[int(np.bincount(each.argmin(0), minlength=len(names)).argmax())]
    full = _apart(np.array(COLOURS[colour], dtype=float), BACKGROUNDS[background])
    cover = np.where(inside, np.clip(apart / max(float(full), 1.0), 0, 1), 0.0)
    rows, columns = np.nonzero(inside)
    side = len(pixels)
    middle = ((columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2)
    radius = (max(np.ptp(rows), np.ptp(columns)) + 1) / 2 / side
    near = TRIED_RADII[np.abs(TRIED_RADII - radius) < 2.3 / SIDE]
    fits = {
        shape: max((_fit(cover, shape, middle, size * side) for size in near), default=0.0)
        for shape in SHAPES
    }
    shape = max(fits, key=lambda name: fits[name])
    return Seen(colour, shape, middle[0] / side, middle[1] / side, radius, fits[shape])


def _fit(cover: np.ndarray, shape: str, middle: tuple[float, float], radius: float) -> float:
    """The best intersection over union at some shifts of less than a pixel."""
    half = int(radius) + 3
    corner = [int(each) for each in middle]
    padded = np.pad(cover, half)
    around = padded[corner[1] : corner[1] + 2 * half, corner[0] : corner[0] + 2 * half]
    beyond = cover.sum() - around.sum()
    place = [each - int(each) + half - TRIED_SHIFTS[1] for each in middle]
    best = 0.0
    for right in TRIED_SHIFTS:
        for down in TRIED_SHIFTS:
            own = _template(shape, place[0] + right, place[1] + down, radius, 2 * half)
            both = np.minimum(own, around).sum()
            best = max(best, float(both / (np.maximum(own, around).sum() + beyond)))
    return best


@lru_cache(maxsize=4096)
def _template(shape: str, x: float, y: float, radius: float, side: int) -> np.ndarray:
    return _cover(shape, x, y, radius, side)
