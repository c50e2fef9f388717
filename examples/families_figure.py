"""Every family on the same toys, in one figure: what each thinks of the plane after 600 points.

    python examples/families_figure.py docs/families.png [--steps 300] [family ...]

Rows of the figure are toys, columns are families. Colours are exp(log p), each panel on its own
scale; for an energy the scale is relative anyway.
"""

import argparse
import warnings

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import make_circles, make_moons

from conjoin import JointDensity
from conjoin.families import of_tables, resolve

ROWS = 600
SIDE = 60
REACH = 2.6
NOT_HERE = ("integer_flow",)  # families that take no real numbers


def petals(rng):
    turn = rng.integers(0, 5, ROWS) * 2 * np.pi / 5
    along = np.abs(rng.normal(0.8, 0.45, ROWS))
    bend = turn + 0.6 * along + 0.12 * rng.normal(size=ROWS)
    return np.stack([along * np.cos(bend), along * np.sin(bend)], 1)


def toys():
    rng = np.random.default_rng(0)
    moons, _ = make_moons(ROWS, noise=0.08, random_state=0)
    rings, _ = make_circles(ROWS, noise=0.05, factor=0.45, random_state=0)
    points = {"moons": moons, "petals": petals(rng), "rings": rings}
    return {
        name: pd.DataFrame((x - x.mean(0)) / x.std(0), columns=["a", "b"])
        for name, x in points.items()
    }


def settings(name, steps):
    config = resolve(name)
    return config.set_params(steps=steps) if steps and "steps" in config.get_params() else config


def density(name, frame, grid, steps):
    model = JointDensity(family=settings(name, steps), measure="density", random_state=0).fit(
        frame, calibration=0
    )
    log_p = model.score_samples(grid)
    return np.exp(log_p - log_p.max()).reshape(SIDE, SIDE), model.status_["log_prob"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("families", nargs="*")
    parser.add_argument(
        "--steps", type=int, help="of the gradient, in place of each family's own number"
    )
    asked = parser.parse_args()
    names = asked.families or [name for name in of_tables() if name not in NOT_HERE]
    axis = np.linspace(-REACH, REACH, SIDE)
    grid = pd.DataFrame(
        np.stack([part.ravel() for part in np.meshgrid(axis, axis)], 1), columns=["a", "b"]
    )
    frames = toys()
    across = min(len(names), 7)
    down = -(-len(names) // across)
    figure, panels = plt.subplots(
        3 * down, across, figsize=(1.75 * across, 1.75 * 3 * down + 0.3 * down), squeeze=False
    )
    for panel in panels.flat:
        panel.set_axis_off()
    for place, name in enumerate(names):
        for row, frame in enumerate(frames.values()):
            panel = panels[3 * (place // across) + row, place % across]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture, status = density(name, frame, grid, asked.steps)
            panel.imshow(
                np.sqrt(picture),
                origin="lower",
                cmap="magma_r",
                extent=(-REACH, REACH, -REACH, REACH),
            )
            if row == 0:
                panel.set_title(f"{name.replace('_', ' ')}\n{status}", fontsize=7)
        print(name, flush=True)
    figure.tight_layout(pad=0.4)
    figure.savefig(asked.out, dpi=110)


if __name__ == "__main__":
    main()
