"""counterfactual of pictures: a small, plausible change after which the model gives another answer,
also when the picture is shifted.

A picture is diffused to noise and denoised again, conditioned on the wanted class and guided by the
gradient of the model's own log p(wanted) (P. Dhariwal and A. Nichol (2021), Diffusion models beat
GANs on image synthesis, algorithm 2; M. Augustin et al. (2022), Diffusion visual counterfactual
explanations, section 2). A mask selects the pixels that changed most, as many as may change. Inside
the mask, the change is laid over the original, or the pixels are painted anew from noise. Outside
it, the picture stays as it is, to the bit. A picture that is answered as wanted already is left as
it is, which is said. A change is good if the picture is
familiar and p(wanted) is high under every shift by a pixel: a change that only fools the network
rarely survives a shift. The good change with the fewest changed pixels is kept, in steps of
``CHANGED_SHARES``; of several, the one with the highest p(wanted).

Shape letters: N pictures, D pixels, P candidates of each, B = N P.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from conjoin.core import CapabilityError, Edit, Event, Pair, as_float, stream
from conjoin.core.shapes import Bool, Float
from conjoin.model.model import Model
from conjoin.nets.pictures import pictured

__all__ = ["MAX_PIXELS_AS_COLUMNS", "PICTURES_AT_ONCE", "Alteration", "alter_class"]

EDIT_NOISE = 16.0  # in standard deviations of a pixel
# pairs that are tried: the strength of the guidance, and the longest step along the gradient
EDIT_STRENGTHS = (
    (1.0, 0.6),
    (2.0, 1.5),
    (7.0, 4.0),
)
CHANGED_SHARES = (0.15, 0.25)  # of the pixels that may change
REPAINTED_DRAWS = 2  # of the repainted pixels, for each mask
MIN_CHANGE = 0.1  # of the range of grey levels, by which a pixel counts as changed
BLUR_PIXELS = (
    3  # pixels a side over which a change is averaged to find the mask, and the mask to soften it
)
PICTURES_AT_ONCE = 8  # pictures altered at once
# pixels of a picture, up to which they may be changed like columns by families that have no edits
MAX_PIXELS_AS_COLUMNS = 100
SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1))


@dataclass(frozen=True)
class Alteration:
    """``original`` and ``altered`` pictures (n, H, W) or (n, H, W, C); for each: the answer
    ``before`` and the one wanted (``to``), whether a change was ``found``, p(wanted | altered) and
    conformal p-value of the altered one, the ``share`` of pixels that changed by over a tenth of
    the grey levels, the share that ``changed`` at all, and whether the answer is the wanted one
    ``already``, so that nothing is changed."""

    original: np.ndarray
    altered: np.ndarray
    to: np.ndarray
    before: np.ndarray
    found: np.ndarray
    probability: np.ndarray
    familiarity: np.ndarray
    share: np.ndarray
    changed: np.ndarray
    already: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(n, H, W[, C]) altered less original, in grey levels."""
        return self.altered.astype(np.int16) - self.original.astype(np.int16)

    @classmethod
    def joined(cls, parts: Sequence["Alteration"]) -> "Alteration":
        """All pictures of several."""
        return cls(
            *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls))
        )

    def take(self, rows: slice) -> "Alteration":
        """Some of the pictures."""
        return Alteration(*(getattr(self, each.name)[rows] for each in fields(self)))


def alter_class(
    model: Model,
    X: Any,
    to: Any = None,
    confidence: float = 0.9,
    familiarity: float = 0.05,
    seed: int = 0,
) -> Alteration:
    """A small change of each picture after which the answer is ``to``.

    ``to=None`` stands for the second most probable class. p(to) is at least ``confidence``, also
    when the picture is shifted, and its conformal p-value is above ``familiarity``. If there is no
    such change, the familiar one with the highest p(to) is returned. A picture that is answered
    ``to`` already is returned as it is. ``seed``: of the painting.
    ValueError for an unknown class, CapabilityError if the family can't edit."""
    joint = model.pair.proposer
    codec = cast(Any, model.codec)
    if codec.columnwise or not joint.capabilities.edits:
        raise CapabilityError(
            "This model",
            "altered pictures",
            "no edits of pictures as large as these",
            "Fit them with family='diffusion'.",
        )
    encoded = model.encode(X)
    order = model.log_proba(encoded).argsort(1, descending=True)
    before = order[:, 0]
    wanted = (
        order[:, 1] if to is None else torch.full_like(order[:, 0], int(model.classes.code(to)))
    )
    x = as_float(encoded.event).value
    already = (wanted == before).numpy()
    best = _unchanged(model, encoded, wanted)
    places = range(PICTURES_AT_ONCE, len(x), PICTURES_AT_ONCE)
    for rows in np.split(np.flatnonzero(~already), places):
        if len(rows):
            altered = _best(model, x[rows], wanted[rows], confidence, familiarity, seed)
            for part, values in zip(best, altered, strict=True):
                part[rows] = values
    value, found, probability, p_value, share, changed = best
    return Alteration(
        original=codec.decode(x),
        altered=codec.decode(torch.from_numpy(value)),
        to=model.classes.decode(wanted),
        before=model.classes.decode(before),
        found=found,
        probability=probability,
        familiarity=p_value,
        share=share,
        changed=changed,
        already=already,
    )


def _unchanged(model: Model, encoded: Any, code: Tensor) -> tuple[np.ndarray, ...]:
    """Of the pictures as they are, what ``_best`` gives of altered ones."""
    value = as_float(encoded.event).value.numpy().copy()
    sure = model.log_proba(encoded).exp().gather(1, code[:, None])[:, 0].numpy().copy()
    nothing = np.zeros(len(value))
    found = nothing.astype(bool)
    return value, found, sure, model.p_value(encoded).copy(), nothing, nothing.copy()


def _best(
    model: Model, x: Float[Tensor, "N D"], code: Tensor, confidence: float, least: float, seed: int
) -> tuple[np.ndarray, ...]:
    """For each picture the altered one (N, D), whether it is good, p(wanted), the conformal
    p-value, and the shares of pixels that changed by over a tenth, and at all."""
    value = _candidates(model, x, code, seed)
    flat = value.flatten(0, 1)
    shape = value.shape[:2]
    looks = [model.log_proba(_encoded(model, _shifted(model, flat, shift))) for shift in SHIFTS]
    log_p = torch.stack(looks)[
        :, torch.arange(len(flat)), code.repeat_interleave(shape[1])
    ].reshape(len(SHIFTS), *shape)
    steady = log_p.mean(0).minimum(log_p[0]).exp().numpy()
    familiar = model.p_value(_encoded(model, flat)).reshape(shape)
    share = _share(model, (value - x[:, None]).abs() > _tenth(model))
    changed = _share(model, value != x[:, None])
    usual = familiar > least
    good = usual & (steady >= confidence)
    pick = np.lexsort(
        (-steady, good * np.searchsorted(CHANGED_SHARES, share), ~usual, ~good), axis=1
    )[:, :1]
    taken = [
        np.take_along_axis(each, pick, 1)[:, 0]
        for each in (good, log_p[0].exp().numpy(), familiar, share, changed)
    ]
    return value[torch.arange(len(x)), torch.from_numpy(pick[:, 0])].numpy(), *taken


def _share(model: Model, moved: Bool[Tensor, "N P D"]) -> np.ndarray:
    """(N, P) the share of pixels of which some channel has moved."""
    pixels = moved.reshape(*moved.shape[:2], *_grid(model)).any(2)
    return np.asarray(pixels.flatten(2).double().mean(2))


def _candidates(
    model: Model, x: Float[Tensor, "N D"], code: Tensor, seed: int
) -> Float[Tensor, "N P D"]:
    """Altered wherever that changes much, and where it changes most: laid over, and painted anew.
    Elsewhere each is the picture as it is."""
    joint = model.pair.proposer
    found = []
    for strength, step in EDIT_STRENGTHS:
        lead = _Lead(model, code, step)
        how = Edit(EDIT_NOISE, torch.full((len(x),), strength), lead=lead)
        pair = Pair(Event(code.double()), Event(x))
        whole = joint.edit(pair, how=how).x.value
        found.append(x + _around(model, whole - x) * (whole - x))
        for share in CHANGED_SHARES:
            soft = _mask(model, whole - x, share)
            where = soft > 0
            found.append(x + soft * (whole - x))
            for draw in range(REPAINTED_DRAWS):
                drawn = how._replace(
                    where=where,
                    lead=_Lead(model, code, step, where),
                    generator=stream(seed, f"painted {draw}"),
                )
                found.append(torch.where(where, joint.edit(pair, how=drawn).x.value, x))
    levels = torch.tensor([variable.cardinality - 1.0 for variable in model.codec.space.variables])
    return torch.stack(found, 1).round().clamp(torch.zeros(()), levels)


@dataclass
class _Lead:
    """The way in which log p(wanted) grows fastest ``where`` it may, as long as ``step`` for a
    picture that is sure to be answered otherwise. Each call looks at the pictures from another
    place."""

    model: Model
    code: Tensor  # (N,)
    step: float
    where: Tensor | None = None  # (N, D)
    places: Any = field(default_factory=lambda: itertools.cycle(SHIFTS))

    def __call__(self, value: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        with torch.enable_grad():
            leaf = value.detach().requires_grad_()
            seen = self.model.pair.log_posterior(
                Event(_shifted(self.model, leaf, next(self.places)))
            )
            log_p = seen.gather(1, self.code[:, None])
            if not log_p.requires_grad:  # a predictor without gradients
                return torch.zeros_like(value)
            (slope,) = torch.autograd.grad(log_p.sum(), leaf)
        where = torch.ones_like(value) if self.where is None else self.where.double()
        length = ((slope * where).square().sum(1, keepdim=True) / where.sum(1, keepdim=True)).sqrt()
        return self.step * (1 - log_p.detach().exp()) * slope * where / length.clamp_min(1e-12)


def _mask(model: Model, change: Float[Tensor, "N D"], share: float) -> Float[Tensor, "N D"]:
    """Where the change is largest over so large a share of the pixels: 1 inside, less at the edges,
    0 elsewhere."""
    size = _smooth(change.reshape(-1, *_grid(model)).abs().sum(1, keepdim=True))
    flat = size.flatten(1)
    where = (
        torch.zeros_like(flat)
        .scatter(1, flat.topk(int(share * flat.shape[1])).indices, 1.0)
        .reshape(size.shape)
    )
    return (_smooth(where) * where).expand(-1, *_grid(model)).flatten(1)


def _around(model: Model, change: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """1 where some channel changes by over a tenth, less at the edges, 0 elsewhere."""
    moved = change.reshape(-1, *_grid(model)).abs().amax(1, keepdim=True) > _tenth(model)
    where = moved.double()
    return _smooth(where).maximum(where).expand(-1, *_grid(model)).flatten(1)


def _smooth(pictures: Tensor) -> Tensor:
    out: Tensor = torch.nn.functional.avg_pool2d(
        pictures, BLUR_PIXELS, stride=1, padding=BLUR_PIXELS // 2, count_include_pad=False
    )
    return out


def _shifted(
    model: Model, value: Float[Tensor, "B D"], shift: tuple[int, int]
) -> Float[Tensor, "B D"]:
    """The pictures moved by so many pixels, at most one, down and across; edges are repeated."""
    grid = _grid(model)
    padded = torch.nn.functional.pad(value.reshape(-1, *grid), (1, 1, 1, 1), mode="replicate")
    down = 1 - shift[0]
    across = 1 - shift[1]
    return padded[..., down : down + grid[1], across : across + grid[2]].flatten(1)


def _encoded(model: Model, value: Float[Tensor, "B D"]) -> Any:
    return model.encode(model.codec.decode(value))


def _grid(model: Model) -> tuple[int, int, int]:
    seen = pictured(model.codec.space)
    assert seen is not None
    return seen.shape


def _tenth(model: Model) -> float:
    """A tenth of the range of grey levels."""
    return MIN_CHANGE * float(
        max(variable.cardinality - 1 for variable in model.codec.space.variables)
    )
