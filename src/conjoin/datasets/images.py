"""Named sets of images: found in the folder ``CONJOIN_DATA``, kept from an earlier call, or fetched
once from their public home.

``CONJOIN_DATA`` holds images/NAME/FILE.npz beside a README.md that states the file's sha256. What
is fetched must have the md5 that is known of it; it is then kept in the cache as one .npz.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.codecs.image.colours import on_background
from conjoin.datasets.concepts import held_out_concepts
from conjoin.datasets.download import cache_folder, fetch, folder_of, verify
from conjoin.util.files import new_file

__all__ = ["Images", "image_names", "load_images"]

FOLD = 5  # every fifth drawing of a character is a test
# the first number of a file of images, of labels: how many dimensions it has
IDX = {
    2051: 3,
    2049: 1,
}


@dataclass(frozen=True, slots=True)
class Images:
    """A set of images with labels, split by its makers. Pixels are uint8, (n, H, W) or (n, H, W,
    C).

    ``classes`` names the codes of y in their order, or lists y's values where they are words.
    ``about`` says more of each image: {part: {column: (n,) array}}."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    licence: str
    origin: str
    x_val: np.ndarray | None = None
    y_val: np.ndarray | None = None
    about: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Set:
    """What is known of a set; ``files``: {key of the array ('' for a whole .npz): (file, md5)} at
    ``home``."""

    classes: tuple[str, ...]
    licence: str
    origin: str
    home: str = ""
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _idx(*md5: str) -> dict[str, tuple[str, str]]:
    """The four files of MNIST and of what is shaped like it."""
    names = {
        "x_train": "train-images-idx3",
        "y_train": "train-labels-idx1",
        "x_test": "t10k-images-idx3",
        "y_test": "t10k-labels-idx1",
    }
    return {
        key: (f"{name}-ubyte.gz", each)
        for (key, name), each in zip(names.items(), md5, strict=True)
    }


_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SETS = {
    "mnist": _Set(
        tuple("0123456789"),
        "CC BY-SA 3.0",
        "Y. LeCun and C. Cortes: MNIST",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        _idx(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion_mnist": _Set(
        _CLOTHES,
        "MIT",
        "Zalando SE (2017): Fashion-MNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        _idx(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "pneumoniamnist": _Set(
        ("normal", "pneumonia"),
        "CC BY 4.0; not for clinical use",
        "J. Yang et al. (2023): MedMNIST v2, PneumoniaMNIST",
        "https://zenodo.org/records/10519652/files/",
        {"": ("pneumoniamnist.npz", "28209eda62fecd6e6a2d98b1501bb15f")},
    ),
    "omniglot_small": _Set(
        (), "MIT", "B. Lake (2015): Omniglot, the two small background sets, scaled to 28 x 28"
    ),
    "emoji": _Set(
        (),
        "by style: noto Apache-2.0, twemoji CC BY 4.0, openmoji CC BY-SA 4.0, fluent and "
        "fluent-flat MIT; captions MIT (emojibase)",
        "Noto Emoji, Twemoji, OpenMoji and Fluent Emoji at 64 x 64, captions of emojibase",
    ),
}


def image_names() -> list[str]:
    """Every name that ``load_images`` takes."""
    return sorted(_SETS)


def load_images(name: str, background: Any = "white", *, by_concept: bool = False) -> Images:
    """Images with labels, by name.

    They are read from images/NAME/ in the folder that the environment variable CONJOIN_DATA names,
    or
    fetched once and kept.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "pneumoniamnist", "omniglot_small", "emoji"}
    background : str, (int, int, int) or None, default "white"
        The colour beneath images with opacity; None keeps it as a fourth channel.
    by_concept : bool, default False
        Of "emoji": tests are concepts that no training image shows, one of ten. Variants of one
        thing (gender, direction, skin tone, all flags) are on one side, and ``about`` names the
        ``concept`` of each image. Without it tests are captions and styles.

    Returns
    -------
    Images
        Pixels (uint8, (n, H, W) or (n, H, W, C)) and labels of each part, names of the classes,
        licence and origin.

    Raises
    ------
    ValueError
        If there is no such set, it can't be fetched, or it has no captions to tell concepts by.
    """
    if name not in _SETS:
        raise ValueError(
            f"There is no set of images {name!r}; there are {', '.join(image_names())}."
        )
    if by_concept and name != "emoji":
        raise ValueError(
            f"by_concept=True is for images with captions, and {name!r} has classes: leave it out, "
            "or take 'emoji'."
        )
    arrays = _arrays(name, _SETS[name])
    what = _SETS[name]
    if background is not None:
        arrays = {
            key: on_background(value, background) if value.shape[3:] == (4,) else value
            for key, value in arrays.items()
        }
    splits = {"omniglot_small": _characters, "emoji": _concepts if by_concept else _captions}
    parts, about = splits[name](arrays) if name in splits else (_parts(arrays), {})
    classes = what.classes or tuple(
        map(str, np.unique(np.concatenate([parts["y_train"], parts["y_test"]])))
    )
    return Images(
        name, classes=classes, licence=what.licence, origin=what.origin, about=about, **parts
    )


# -------------------------------------------------------------------------------------------- parts


def _parts(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{x_train, y_train, ...} of arrays that are named so, or train_images, train_labels, ..."""
    renamed: dict[str, Any] = {}
    for key, value in arrays.items():
        part, _, kind = key.partition("_")
        name = key if part in ("x", "y") else f"{'x' if kind == 'images' else 'y'}_{part}"
        renamed[name] = value[:, 0] if value.ndim == 2 else value
    return renamed


def _characters(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Every fifth drawing of a character is a test; the set has no split of its own."""
    character = arrays["character"]
    _, first, counts = np.unique(character, return_index=True, return_counts=True)
    place = np.arange(len(character)) - np.repeat(np.sort(first), counts[np.argsort(first)])
    return _divided(arrays, "character", (place % FOLD == FOLD - 1))


def _captions(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Tests are new captions, and known ones in a new style: ``about['test']['split']`` says
    which."""
    return _divided(arrays, "label", arrays["split"] != "train")


def _concepts(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Tests are concepts, with all variants and in every style."""
    concept, test = held_out_concepts(arrays["label"])
    return _divided({**arrays, "concept": concept}, "label", test)


def _divided(
    arrays: Mapping[str, np.ndarray], label: str, test: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    parts: dict[str, Any] = {}
    about: dict[str, dict[str, np.ndarray]] = {}
    for part, rows in (("train", ~test), ("test", test)):
        parts |= {f"x_{part}": arrays["images"][rows], f"y_{part}": arrays[label][rows]}
        about[part] = {
            key: value[rows] for key, value in arrays.items() if key not in ("images", label)
        }
    return parts, about


# ----------------------------------------------------------------------------- where they come from


def _arrays(name: str, what: _Set) -> dict[str, np.ndarray]:
    """From the folder CONJOIN_DATA, the cache, or the public home; ValueError where there is none
    of them."""
    folder = folder_of("images")
    found = sorted((folder / name).glob("*.npz")) if folder else []
    if found:
        verify(found[0], _stated(found[0]))
        return _load(found[0])
    if not what.files:
        raise ValueError(
            f"The images of {name!r} are not here, and have no public home to be fetched from: "
            f"they are read from images/{name}/ "
            "(an .npz, and a README.md with its sha256) in the folder that the environment "
            "variable CONJOIN_DATA names."
        )
    path = cache_folder() / f"{name}.npz"
    if not path.exists():
        (_whole if "" in what.files else _packed)(what, path)
    return _load(path)


def _stated(path: Path) -> str:
    """The sha256 that the README.md beside a file states."""
    readme = path.with_name("README.md")
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    stated = re.search(rf"`{re.escape(path.name)}`.*?sha256 `([0-9a-f]{{64}})`", text)
    if stated is None:
        raise ValueError(
            f"{readme} does not state the sha256 of {path.name}, so that it cannot be checked: "
            "get the folder again."
        )
    return stated[1]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as packed:
            return {key: packed[key] for key in packed.files}
    except Exception as error:  # a damaged archive may fail in any of the modules that unpack it
        raise ValueError(
            f"{path} is damaged ({error}): delete it, and it is fetched again."
        ) from None


def _checked(url: str, path: Path, md5: str) -> None:
    """Fetch a file; ValueError, and no file, where it is not the one that is known."""
    fetch(url, path)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if digest != md5:
        path.unlink()
        raise ValueError(
            f"{url} was changed: its md5 is {digest}, not {md5}; set CONJOIN_DATA to a folder "
            "that has the images instead."
        )


def _whole(what: _Set, path: Path) -> None:
    file, md5 = what.files[""]
    _checked(what.home + file, path, md5)


def _packed(what: _Set, path: Path) -> None:
    """Fetch files of one array each, and keep them as one .npz under a name that is whole or not
    there."""
    pieces = {key: path.with_name(f"{path.stem}-{file}") for key, (file, _) in what.files.items()}
    for key, (file, md5) in what.files.items():
        if not pieces[key].exists():
            _checked(what.home + file, pieces[key], md5)
    with new_file(path) as draft:
        arrays = {key: _unpacked(piece) for key, piece in pieces.items()}
        np.savez_compressed(draft, **arrays)  # type: ignore[arg-type]
    for piece in pieces.values():
        piece.unlink()


def _unpacked(path: Path) -> np.ndarray:
    """An array in the idx format: its kind, its shape, its bytes."""
    data = gzip.decompress(path.read_bytes())
    kind = int.from_bytes(data[:4], "big")
    shape = np.frombuffer(data, ">i4", IDX[kind], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * IDX[kind]).reshape(shape)
