r"""p(y | image) from a small convolutional network that learned from images moved a little, each
time anew.

    h_0 = relu(conv(x)),   h_i = pool(relu(conv(h_(i-1)))),
    scores = W relu(V [h_n, e(columns)] + b) + c

Y. LeCun et al. (1998), Gradient-based learning applied to document recognition, section II. Each
channel goes in twice: its values between 0 and 1 (0 where missing), and where it is missing. A
label stays when its image is shifted, turned, slanted or stretched a little, some more and some
less (P. Simard, D. Steinkraus and J. Platt (2003), Best practices for convolutional neural
networks, section 2). Where columns stand beside the image, one row in five is seen without them and
one in five without its image, so that either may be missing (N. Neverova, C. Wolf, G. Taylor and F.
Nebout (2016), ModDrop, section 4).

Shape letters: B rows, C channels, M maps (C of grey levels, C of what is missing), K classes.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core import Event, Pair, Space, as_float, seeded
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.nets.inputs import EMBEDDED, Inputs
from conjoin.nets.pictures import pictured
from conjoin.predictors.base import Scorer
from conjoin.util.budget import seconds_of, tell_cut, time_left

__all__ = ["Convolutional", "fit_convolutional"]

WIDTH = 32
HIDDEN_UNITS = 128
DROPOUT = 0.2
LARGE_SIDE_PIXELS = 16  # pixels a side, from which the first layer takes every other one
BATCH_ROWS = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
# moved images in a fit
MIN_IMAGES_SEEN = 20_000
MAX_IMAGES_SEEN = 200_000
USUAL_EPOCHS = 100
# where time is short: steps by which their number is known, room for slower ones, and the least
TIMED_STEPS = 2
PACE_MARGIN = 1.1
MIN_STEPS = 4
DROPPED_SHARE = 0.2  # share of the fit in which the columns, or the image beside them, are not seen
# deviations where it is moved most: radians, share of a side, log, share of a side
TURN_RADIANS = 0.12
SLANT_SHARE = 0.15
LOG_STRETCH = 0.08
SHIFT_SHARE = 0.05


class Convolutional(Scorer):
    """``outputs`` logits, or one number, of images of ``space``, and of the columns before them
    where there are any. ``top``: the grey level that counts as 1, the last where it is None."""

    kind = "convolutional"
    flagged: Tensor

    def __init__(
        self, space: Space, outputs: int, embedded: bool = False, top: int | None = None
    ) -> None:
        super().__init__()
        seen = pictured(space)
        assert seen is not None
        self.shape = seen.shape
        self.outputs = outputs
        self.last_level = seen.top
        self.top = seen.top if top is None else top
        self.before = seen.first
        self.columns = Inputs(space.variables[: self.before], embedded)
        channels = seen.shape[0]
        side = min(seen.shape[1:])
        stride = 2 if side >= LARGE_SIDE_PIXELS else 1
        pools = max(0, int(math.log2(side / stride)) - 1)
        widths = [2 * channels, WIDTH] + [2 * WIDTH] * pools
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, stride=stride if index == 0 else 1)
            for index, (before, after) in enumerate(pairwise(widths))
        )
        size = [-(-each // stride) >> pools for each in seen.shape[1:]]
        self.drop = nn.Dropout(DROPOUT)
        self.hidden = nn.Linear(widths[-1] * size[0] * size[1] + self.columns.size, HIDDEN_UNITS)
        self.last = nn.Linear(HIDDEN_UNITS, outputs)
        self.register_buffer("flagged", torch.zeros(len(space.variables), dtype=torch.bool))
        self.double().eval()  # dropout is for the fit alone

    @property
    def shapes(self) -> dict[str, Any]:
        mark = {EMBEDDED: True} if len(self.columns.tables) else {}
        dark = {"top": self.top} if self.top != self.last_level else {}
        return {"outputs": self.outputs} | mark | dark

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Images without missing pixels where none was missing at fit; beside columns, anything."""
        return (x.mask | self.flagged).all(1)

    def channels(self, x: Event) -> Float[Tensor, "B M H W"]:
        """Values between 0 and 1, and what is missing."""
        seen = x.mask[:, self.before :]
        value = torch.where(seen, x.value[:, self.before :] / max(self.top, 1), 0.0)
        return torch.cat(
            [value.unflatten(1, self.shape), (~seen).to(value).unflatten(1, self.shape)], 1
        )

    def beside(self, x: Event) -> Float[Tensor, "B F"]:
        """The columns, zero where missing."""
        return self.columns(x.value[:, : self.before], x.mask[:, : self.before])

    def forward(
        self, channels: Float[Tensor, "B M H W"], beside: Float[Tensor, "B F"]
    ) -> Float[Tensor, "B K"]:
        h = self.layers[0](channels).relu()
        for layer in self.layers[1:]:
            h = nn.functional.max_pool2d(layer(h).relu(), 2)
        out: Tensor = self.last(
            self.drop(self.hidden(torch.cat([self.drop(h.flatten(1)), beside], 1)).relu())
        )
        return out

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        x = as_float(x)
        out: Tensor = self(
            self.channels(x).to(self.last.weight), self.beside(x).to(self.last.weight)
        )
        return out.double()


def fit_convolutional(
    space: Space, rows: Pair, weight: Tensor, classes: int | None, generator: torch.Generator
) -> Convolutional:
    """From labelled images to a network: AdamW under a one-cycle rate (I. Loshchilov and F. Hutter
    (2019); L. Smith (2018)). The loss is -log p(y | x) of ``classes``, or the squared error of a
    number."""
    with seeded(generator):
        network = Convolutional(space, classes or 1, embedded=True, top=_top(space, rows.x))
        columns = as_float(rows.x.cut(network.before)[0])
        network.columns.start(columns.value, columns.mask)
        network = network.float().train()
        network.flagged.copy_((~rows.x.mask).any(0) | (network.before > 0))
        y = rows.y.value.long() if classes else rows.y.value.float()[:, None]
        seen = min(max(USUAL_EPOCHS * rows.rows, MIN_IMAGES_SEEN), MAX_IMAGES_SEEN)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)

        def backward() -> None:
            """The gradient of the loss of the next batch."""
            batch = torch.multinomial(weight, BATCH_ROWS, replacement=True)
            x = as_float(rows.x.take(batch))  # pictures are bytes: one batch at a time is cast
            channels = network.channels(x).float()
            scores = network(*_with_losses(_moved(channels), network.beside(x).float()))
            loss = (
                nn.functional.cross_entropy(scores, y[batch])
                if classes
                else (scores - y[batch]).square().mean()
            )
            optimizer.zero_grad()
            loss.backward()

        steps = _steps_in_time(seen // BATCH_ROWS, backward)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            backward()
            optimizer.step()
            schedule.step()
    return network.double().eval().requires_grad_(False)


def _steps_in_time(steps: int, step: Callable[[], None]) -> int:
    """All steps, or as many as end in the time that there is, by the slower of two."""
    if math.isinf(time_left()):
        return steps
    paces = []
    for _ in range(TIMED_STEPS):
        paces.append(seconds_of(step))
    most = max(MIN_STEPS, int(time_left() / (PACE_MARGIN * max(paces))))
    if most < steps:
        tell_cut(f"For want of time the network of p(y | x) took {most:,} of its {steps:,} steps.")
    return min(steps, most)


def _top(space: Space, x: Event) -> int:
    """The grey level that counts as 1: the last one that as many bits can tell as the brightest
    pixel has. So a network learns as much from under-exposed pictures as from others."""
    seen = pictured(space)
    assert seen is not None
    bits = int(x.value[:, seen.first :].max()).bit_length() if x.rows else 0
    return min(seen.top, 2**bits - 1) or seen.top


def _with_losses(
    images: Float[Tensor, "B M H W"], beside: Float[Tensor, "B F"]
) -> tuple[Tensor, Tensor]:
    """Some rows without their columns and some without their image, where there are both."""
    if not beside.shape[1]:
        return images, beside
    nothing = torch.zeros_like(images[:1])
    nothing[:, images.shape[1] // 2 :] = 1.0
    images = torch.where(torch.rand(len(images), 1, 1, 1) < DROPPED_SHARE, nothing, images)
    return images, beside * (torch.rand(len(beside), 1) >= DROPPED_SHARE)


def _moved(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Each turned, slanted, stretched and shifted at random, by a share that is itself random; what
    comes in is zero."""
    turn, slant, wide, high, right, down = torch.rand(len(images)) * torch.randn(6, len(images))
    turn = TURN_RADIANS * turn
    slant = SLANT_SHARE * slant
    right = 2 * SHIFT_SHARE * right
    down = 2 * SHIFT_SHARE * down
    wide = (LOG_STRETCH * wide).exp()
    high = (LOG_STRETCH * high).exp()
    cos = turn.cos()
    sin = turn.sin()
    tall = images.shape[2] / images.shape[3]
    first = torch.stack([cos * wide, (slant - sin) * tall, right], 1)
    second = torch.stack([sin / tall, cos * high, down], 1)
    places = nn.functional.affine_grid(
        torch.stack([first, second], 1), list(images.shape), align_corners=False
    )
    return nn.functional.grid_sample(images, places, align_corners=False)
