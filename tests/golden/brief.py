"""Brief settings of every family, and small rows to fit them to: the same every time."""

import dataclasses

import numpy as np
import pandas as pd

from conjoin.families import resolve

SETTINGS = {
    "steps": 30,
    "draws": 8,
    "width": 16,
    "blocks": 1,
    "layers": 2,
    "particles": 16,
    "calls": 8,
    "samples": 2,
    "quadrature": 64,
    "size": 0.25,
    "points": 4,
    "sampling_steps": 4,
    "solver": 4,
    "paths": 2,
    "probes": 2,
    "precision": "bfloat16",  # what the record was made in; "auto" may find another one elsewhere
}


def brief(family, **more):
    """The config of ``family`` with settings that fit in a second."""
    config = resolve(family)
    fields = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(
        config, **{name: value for name, value in (SETTINGS | more).items() if name in fields}
    )


def table(rows=200, seed=0):
    """A table of every kind of column with missing cells, the classes of its rows, and a number
    that goes with them."""
    random = np.random.default_rng(seed)
    latent = random.integers(0, 3, rows)
    kind = np.where(random.random(rows) < 0.75, latent, random.integers(0, 3, rows))
    frame = pd.DataFrame(
        {
            "kind": pd.Series(np.array(["ash", "beech", "cedar"], dtype=object)[kind]),
            "rings": random.poisson(2 + 3 * latent),
            "height": (5 + 2 * latent + random.normal(size=rows)).round(1),
            "mass": np.exp(0.3 * latent + 0.5 * random.normal(size=rows)),
            "old": random.random(rows) < 0.2 + 0.3 * latent,
        }
    )
    frame["rings"] = frame["rings"].astype("Int64")
    holes = random.random((rows, 3)) < 0.08
    for name, hole in zip(("kind", "rings", "height"), holes.T, strict=True):
        frame.loc[hole, name] = None
    y = np.array(["low", "high"], dtype=object)[
        (latent + 0.6 * random.normal(size=rows) > 1).astype(int)
    ]
    number = 3.0 * latent + frame["mass"].to_numpy() + random.normal(size=rows)
    return frame, pd.Series(y, name="grade"), pd.Series(number, name="price")


def pictures(rows=100, side=8, seed=0):
    """Grey pictures (rows, side, side) on which one of two diagonals is bright, and which one it
    is."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    images = random.normal(120, 12, (rows, side, side))
    diagonal = np.eye(side, dtype=bool)
    for row in range(rows):
        images[row][diagonal if y[row] else diagonal[:, ::-1]] += 90
    return images.clip(0, 255).round().astype("uint8"), y
