"""Every family on the same toys, in one figure: what each thinks of the plane after 600 points.

    python examples/families_figure.py docs/families.png [--steps 300] [family ...]

Rows of the figure are toys, columns are families, with the points that they learned from in the
first column. Families have their defaults. Colours are exp(log p), each panel on its own scale; for
an energy the scale is relative anyway.
"""

import argparse
import warnings

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from conjoin import JointDensity
from conjoin.datasets import toy
from conjoin.families import of_tables, resolve

TOYS = ("moons", "petals", "rings")
ROWS = 600
SIDE = 60
REACH = 2.6  # standard deviations
EXTENT = (-REACH, REACH, -REACH, REACH)
ACROSS = 7  # families of a band
NOT_HERE = ("integer_flow",)  # families that take no real numbers


def standardised(name):
    points = toy(name, ROWS, seed=0)
    return (points - points.mean()) / points.std(ddof=0)


def settings(name, steps):
    config = resolve(name)
    return config.set_params(steps=steps) if steps and "steps" in config.get_params() else config


def density(name, frame, steps):
    """p over the grid, as a share of its greatest, and what log p is worth."""
    axis = np.linspace(-REACH, REACH, SIDE)
    cells = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = JointDensity(family=settings(name, steps), measure="density", random_state=0).fit(
            frame, calibration=0
        )
        log_p = model.score_samples(pd.DataFrame(cells, columns=frame.columns))
    return np.exp(log_p - log_p.max()).reshape(SIDE, SIDE), model.status_["log_prob"]


def show_data(panel, frame):
    panel.scatter(frame["a"], frame["b"], s=0.6, color="black", linewidths=0)
    panel.set_xlim(-REACH, REACH)
    panel.set_ylim(-REACH, REACH)
    panel.set_aspect("equal")


def show_density(panel, picture):
    panel.imshow(np.sqrt(picture), origin="lower", cmap="magma_r", extent=EXTENT)


def drawn(names, asked):
    """The figure; ``asked(family, toy)`` is a density and its status."""
    across = min(len(names), ACROSS)
    rows = len(TOYS)
    down = rows * -(-len(names) // across)
    figure, panels = plt.subplots(
        down, 1 + across, figsize=(1.6 * (1 + across), 1.7 * down), squeeze=False
    )
    for panel in panels.flat:
        panel.set_axis_off()
    for band in range(0, down, rows):
        panels[band, 0].set_title(f"data\n{ROWS} points", fontsize=7)
        for row, name in enumerate(TOYS):
            show_data(panels[band + row, 0], standardised(name))
    for place, family in enumerate(names):
        band = rows * (place // across)
        for row, name in enumerate(TOYS):
            picture, status = asked(family, name)
            panel = panels[band + row, 1 + place % across]
            show_density(panel, picture)
            if row == 0:
                panel.set_title(f"{family.replace('_', ' ')}\n{status}", fontsize=7)
        print(family, flush=True)
    figure.tight_layout(pad=0.4)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("families", nargs="*")
    parser.add_argument(
        "--steps", type=int, help="of the gradient, in place of each family's own number"
    )
    asked = parser.parse_args()
    names = asked.families or [name for name in of_tables() if name not in NOT_HERE]
    frames = {name: standardised(name) for name in TOYS}
    figure = drawn(names, lambda family, name: density(family, frames[name], asked.steps))
    figure.savefig(asked.out, dpi=110)


if __name__ == "__main__":
    main()
