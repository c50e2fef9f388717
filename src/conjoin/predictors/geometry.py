r"""p(y | x) of molecules in space: what counts leave, read by the network of the places.

    f(x) = W c(x) + s g(x)

c are the counts of atoms with their bound neighbours (``conjoin.chemistry.environments``) with the
weights of ridge regression, where these leave less than half of the error; g is a network that
begins at the weights of the density's own (``Density.network_reader``) and learns, for as long as
there is time, what they leave: by its mean absolute error, or of classes by -log p(y | x). No turn,
mirror or order of the atoms changes it.

Shape letters: B rows, E environments, K classes, or 1 for a number.
"""

import math
import time
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Event, Pair, Record, as_float, seeded, stream
from conjoin.core.device import on_device
from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float, Int
from conjoin.joints.base import Joint
from conjoin.nets.decoder import Hidden
from conjoin.nets.muon import Muon
from conjoin.predictors.base import Case, Method, Scorer
from conjoin.util.budget import tell_cut, time_left

__all__ = ["Geometry", "GeometryMethod"]

MIN_ENVIRONMENT = 10  # molecules with an environment that counts
RIDGE = 1.0
MAX_LEFT = 0.5  # of the error, from which on the counts are left out
JUDGED_PART = 10  # one in so many molecules says what the counts leave
SEEN_BOUNDS = (10_000, 200_000)  # molecules in a fit, at least and at most
EPOCHS = 30
BATCH = 64
BUCKET = 16  # batches that are sorted by size together
RATE = 2e-3
MATRIX_RATE = 0.02
DECAY = 1e-2
CLIP = 5.0
WARM_UP = 0.05  # share of the fit in which the rate rises
ASKED_TOGETHER = 64


class Geometry(Scorer):
    """``reader`` reads ``outputs`` scores; ``environments`` are counted beside it."""

    kind = "geometry"
    on_features = True

    keys: Tensor
    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self, reader: Any, outputs: int, environments: int) -> None:
        super().__init__()
        self.reader = reader
        self.outputs = outputs
        self.register_buffer("keys", torch.zeros(environments, dtype=torch.int64))
        weight = torch.zeros(environments, outputs, dtype=torch.float64)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        reader = base.density_of_x.network_reader(shapes["outputs"])
        return cls(reader.requires_grad_(False), **shapes)

    @property
    def shapes(self) -> dict[str, Any]:
        return {"outputs": self.outputs, "environments": len(self.keys)}

    @on_device
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Molecules all of whose atoms have a place."""
        found: Tensor = self.reader.covers(self.reader.rows(as_float(x)))
        return found

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        rows = self.reader.rows(as_float(x))
        read = [self.reader(rows.take(part)) for part in slices(rows.rows, ASKED_TOGETHER)]
        return self.of_counts(rows) + self.scale * torch.cat(read)

    def of_counts(self, rows: Record) -> Float[Tensor, "B K"]:
        """What the counts say."""
        return counts_of(self.reader.environments(rows), self.keys) @ self.weight + self.bias


def counts_of(keys: Int[Tensor, "B N"], known: Int[Tensor, " E"]) -> Float[Tensor, "B E"]:
    """How often each of some sorted keys occurs in a row."""
    out = torch.zeros(len(keys), len(known), dtype=torch.float64)
    if len(known):
        place = torch.searchsorted(known, keys.contiguous()).clamp_max(len(known) - 1)
        out.scatter_add_(1, place, (known[place] == keys).double())
    return out


class _Lesson(NamedTuple):
    """Molecules, what is to be said of them, their weights and sizes."""

    rows: Record
    y: Tensor
    weight: Tensor
    size: np.ndarray


class GeometryMethod(Method):
    """Of molecules in space alone, where "auto" takes it."""

    scorers = (Geometry,)
    time_share = 0.35

    def paced(self, case: Case) -> bool:
        return True

    def fit(self, case: Case) -> Scorer:
        density = None if case.joint is None else case.joint.density_of_x
        outputs = case.classes or 1
        with seeded(stream(case.seed, "geometry")):
            reader = None if density is None else density.network_reader(outputs)
        if reader is None:
            raise ValueError(
                "predictor='geometry' reads molecules in space with the network of "
                "family='molecules', and these rows are others: leave it at 'auto'."
            )
        labelled, weight = case.labelled
        labelled = Pair(labelled.y, as_float(labelled.x))
        rows = reader.rows(labelled.x)
        whole = reader.covers(rows).nonzero()[:, 0]
        if not len(whole):
            raise ValueError(
                "No molecule with a y has a place for each of its atoms: p(y | x) has nothing to "
                "learn from."
            )
        rows = rows.take(whole)
        y = labelled.y.value[whole]
        scorer = _with_counts(reader, rows, y, weight[whole], case)
        left = (y[:, None] - scorer.of_counts(rows)) / scorer.scale if case.classes is None else y
        lesson = _Lesson(rows, left, weight[whole], reader.sizes(rows).numpy())
        _learn(scorer.reader, lesson, case)
        return scorer.eval().requires_grad_(False)


@torch.no_grad()
def _with_counts(reader: Any, rows: Record, y: Tensor, weight: Tensor, case: Case) -> Geometry:
    """The scorer before its network learns: ridge regression of a number, where it leaves less than
    half of the error on molecules that it has not seen."""
    if case.classes is not None:
        return Geometry(reader, case.classes, 0)
    keys = reader.environments(rows)
    pairs = torch.unique(
        torch.stack([torch.arange(len(keys))[:, None].expand(keys.shape), keys], 2).flatten(0, 1),
        dim=0,
    )
    known, often = pairs[:, 1].unique(return_counts=True)
    known = known[(often >= MIN_ENVIRONMENT) & (known != 0)]
    judged = torch.arange(len(y)) % JUDGED_PART == 0
    table = counts_of(keys, known)
    middle = y.median()
    found, bias = _ridge(table[~judged], y[~judged], weight[~judged])
    error = (table[judged] @ found + bias - y[judged]).abs().mean()
    helps = len(known) and bool(error < MAX_LEFT * (y[judged] - middle).abs().mean())
    scorer = Geometry(reader, 1, len(known) if helps else 0)
    scorer.bias.copy_(middle)
    if helps:
        found, bias = _ridge(table, y, weight)
        scorer.keys.copy_(known)
        scorer.weight.copy_(found[:, None])
        scorer.bias.copy_(bias)
    left = (y - scorer.of_counts(rows)[:, 0]).abs().mean()
    scorer.scale.copy_(left.clamp_min(1e-9))
    return scorer


def _ridge(
    table: Float[Tensor, "B E"], y: Float[Tensor, " B"], weight: Float[Tensor, " B"]
) -> tuple[Float[Tensor, " E"], Tensor]:
    """Weights and intercept."""
    share = weight / weight.sum()
    centre = share @ table
    mean = share @ y
    x = table - centre
    gram = (x * weight[:, None]).T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    found = torch.linalg.solve(gram, x.T @ (weight * (y - mean)))
    return found, mean - centre @ found


def _learn(reader: Any, lesson: _Lesson, case: Case) -> None:
    """AdamW, and Muon for the matrices between hidden units, under a rate that falls as a cosine to
    zero at the last step, or when the time is over."""
    count = len(lesson.size)
    batch = min(BATCH, count)
    steps = math.ceil(min(max(EPOCHS * count, SEEN_BOUNDS[0]), SEEN_BOUNDS[1]) / batch)
    noise = np.random.default_rng(case.seed)
    reader.float().train().requires_grad_(True)
    hidden = [part.weight for part in reader.modules() if isinstance(part, Hidden)]
    moved = {id(matrix) for matrix in hidden}
    others = [part for part in reader.parameters() if id(part) not in moved]
    adam = torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.99), weight_decay=DECAY)
    muon = Muon(hidden, DECAY)
    began = time.monotonic()
    allowed = time_left()
    step = 0
    while step < steps:
        for places in _batches(lesson.size, batch, noise):
            progress = max(step / steps, (time.monotonic() - began) / max(allowed, 1e-9))
            if progress >= 1:
                break
            rows = lesson.rows.take(places)
            adam.zero_grad()
            for matrix in hidden:
                matrix.grad = None
            _loss(reader(rows), lesson.y[places], lesson.weight[places], case.classes).backward()
            nn.utils.clip_grad_norm_(reader.parameters(), CLIP)
            share = (
                min(1.0, max(progress / WARM_UP, 0.02)) * 0.5 * (1 + math.cos(math.pi * progress))
            )
            for group in adam.param_groups:
                group["lr"] = RATE * share
            adam.step()
            muon.step(MATRIX_RATE * share)
            step += 1
        if progress >= 1:
            break
    if step < steps:
        tell_cut(f"For want of time the network of p(y | x) took {step:,} of its {steps:,} steps.")
    reader.double()


def _batches(size: np.ndarray, batch: int, noise: np.random.Generator) -> list[Tensor]:
    """The rows of some steps, in each of which molecules are of about one size."""
    some = noise.permutation(len(size))[: batch * BUCKET]
    some = some[np.argsort(size[some], kind="stable")]
    parts = [some[start : start + batch] for start in range(0, len(some) - batch + 1, batch)]
    return [torch.as_tensor(parts[place]) for place in noise.permutation(len(parts))]


def _loss(
    read: Float[Tensor, "B K"], y: Tensor, weight: Float[Tensor, " B"], classes: int | None
) -> Tensor:
    """The weighted mean absolute error, or -log p(y | x) of classes."""
    if classes is None:
        each = (read - y).abs()[:, 0]
    else:
        each = nn.functional.cross_entropy(read, y.long(), reduction="none")
    return (weight * each).sum() / weight.sum()
