"""Emoji and their names: known names in a style that the fit has not seen of them.

    python benchmarks/emoji.py [--side 32] [--seconds 1500] [--family picture_tokens]
                               [--save FOLDER] [--sheet NAME.png]
    python benchmarks/emoji.py --model FOLDER

A model of pictures and captions ("red heart, noto style") learns from the training part of
``load_images("emoji")``, and draws each of the tests whose name the fit has seen in other styles
alone. *group*, *style*: whether a LeNet that learned these of the training pictures reads
them off the drawing. *FID-LeNet*: the distance of the drawings from the real tests, by the features
of the network of groups. Beside them stand the real tests themselves (for the distance as many
training pictures), and *copying*: the training picture of the same name whose style is most like
the one that is asked for, which is what a search would hand out. *copies*: the share whose nearest
training picture is at most ``COPY_LEVELS`` grey levels off, in the root mean square. Emoji have few
names and no exact judge, so this is about style and completion; what a caption says is measured on
scenes (``benchmarks/captions.py``).
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from judges import Judge, fid
from PIL import Image

from conjoin import JointDensity, load
from conjoin.codecs.image.pictures import pictures_in, stacked
from conjoin.datasets import load_images
from conjoin.families.multimodal import Multimodal

PICTURE, CAPTION = "picture", "caption"
COPY_LEVELS = 10.0  # grey levels of 256
SHOWN = 16  # drawings of a row of the sheet


def small(pictures, side):
    """(n, 64, 64, 3) at another size."""
    if pictures.shape[1] == side:
        return pictures
    each = [Image.fromarray(one).resize((side, side), Image.Resampling.BOX) for one in pictures]
    return np.stack([np.asarray(one) for one in each])


def table(pictures, captions):
    """A frame of both; pictures are None where they are asked for."""
    cells = [None] * len(captions) if pictures is None else list(pictures)
    return pd.DataFrame({PICTURE: pd.Series(cells, dtype=object), CAPTION: captions})


def captions_of(names, about):
    return [f"{name}, {style} style" for name, style in zip(names, about["style"], strict=True)]


def fitted(pictures, captions, asked):
    """The joint model."""
    start = time.process_time()
    family = Multimodal(pictures={"family": asked.family})
    types = {CAPTION: {"type": "text", "format": "words"}}
    model = JointDensity(
        family=family, types=types, max_time=asked.seconds, random_state=asked.seed
    ).fit(table(pictures, captions))
    minutes = (time.process_time() - start) / 60
    print(f"{len(captions):,} emoji of {asked.side} pixels, {minutes:.1f} CPU minutes", flush=True)
    return model


def drawn(model, captions):
    start = time.process_time()
    found = model.impute(table(None, captions), n_draws=1, random_state=0)[0]
    pictures = stacked(pictures_in(found[PICTURE]))
    print(f"{1000 * (time.process_time() - start) / len(captions):.0f} ms of CPU a drawing")
    return pictures


def copied(train, names, styles, test_names, test_styles):
    """Of each test the training picture of its name in the style that is nearest to the one asked
    for, by the mean picture of styles."""
    means = {style: train[styles == style].mean(0) for style in np.unique(styles)}
    out = []
    for name, style in zip(test_names, test_styles, strict=True):
        rows = np.nonzero(names == name)[0]
        apart = [np.abs(means[styles[row]] - means[style]).mean() for row in rows]
        out.append(train[rows[int(np.argmin(apart))]])
    return np.stack(out)


def nearest(pictures, train):
    """Of each picture how far the nearest training picture is off, grey levels."""
    known = torch.as_tensor(train).flatten(1).float()
    asked = torch.as_tensor(pictures).flatten(1).float()
    return torch.cdist(asked, known).amin(1).numpy() / asked.shape[1] ** 0.5


def line(name, pictures, real, train, judges, truth):
    """One row of the table."""
    shares = [
        float((judges[kind].labels(pictures) == truth[kind]).mean()) for kind in ("group", "style")
    ]
    apart = fid(judges["group"].features(pictures), judges["group"].features(real))
    copies = float((nearest(pictures, train) <= COPY_LEVELS).mean())
    print(f"{name:24s} {shares[0]:5.2f}  {shares[1]:5.2f}  {apart:9.1f}  {copies:6.3f}", flush=True)


def sheet(rows, name):
    """Rows of pictures one below the other, each ``SHOWN`` of them."""
    joined = np.concatenate([np.concatenate(list(each[:SHOWN]), 1) for each in rows])
    image = Image.fromarray(joined)
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1500.0)
    parser.add_argument("--family", default="picture_tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=None)
    parser.add_argument("--save", default=None)
    parser.add_argument("--sheet", default=None)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    data = load_images("emoji")
    train = small(data.x_train, asked.side)
    about = data.about["train"]
    if asked.model is None:
        model = fitted(train, captions_of(data.y_train, about), asked)
        if asked.save is not None:
            model.save(asked.save)
    else:
        model = load(asked.model)
    some = data.about["test"]["split"] == "test_style"
    some &= np.isin(data.y_test, data.y_train)
    told = {key: value[some] for key, value in data.about["test"].items()}
    names = data.y_test[some]
    real = small(data.x_test[some], asked.side)
    judges = {}
    truth = {}
    for kind in ("group", "style"):
        classes, codes = np.unique(about[kind], return_inverse=True)
        judges[kind] = Judge.trained(train, codes, asked.seed)
        truth[kind] = np.searchsorted(classes, told[kind])
    pictures = drawn(model, captions_of(names, told))
    known = copied(train, data.y_train, about["style"], names, told["style"])
    other = train[np.random.default_rng(0).permutation(len(train))[: len(real)]]
    print(f"{len(real)} tests{'':15s} group  style  FID-LeNet  copies")
    line("drawn", pictures, real, train, judges, truth)
    line("copying", known, real, train, judges, truth)
    line("real tests", real, real, train, judges, truth)
    floor = fid(judges["group"].features(other), judges["group"].features(real))
    print(f"{'training pictures':24s} {'':12s}  {floor:9.1f}")
    if asked.sheet is not None:
        place = np.random.default_rng(1).permutation(len(real))
        sheet([each[place] for each in (pictures, real, known)], asked.sheet)


if __name__ == "__main__":
    main()
