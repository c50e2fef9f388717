"""counterfactual of pictures: the smallest plausible change that would be answered otherwise.

Each picture is noised a little and brought back as the wanted class would have it, each time with more noise. Where the answer
changes, a mask is laid over the pixels that moved most, and only these are brought back again, so that the rest stays as it was.
Of all that the model answers as wanted, surely enough, and finds familiar, the one with the fewest changed pixels is kept. This is
guided denoising with a mask that adapts to each picture (M. Augustin et al. (2022), Diffusion visual counterfactual explanations;
G. Jeanneret, L. Simon and F. Jurie (2023), Adversarial counterfactual visual explanations, section 3.3).
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from conjoin.core import CapabilityError, Event, Pair, stream
from conjoin.model import Model

__all__ = ["Alteration", "alter"]

NOISE = (0.35, 0.6, 0.9, 1.3, 1.9, 2.8)  # in standard deviations of a pixel
DRAWS = 3  # for each of them
SHARES = (0.05, 0.1, 0.15, 0.25)  # of the pixels that a mask sets free
CHANGED = 0.1  # of the range of grey levels, by which a pixel counts as changed
BLUR = 3  # pixels over which a change is averaged before the mask is laid


@dataclass(frozen=True)
class Alteration:
    """``original`` and ``altered`` pictures (n, H, W) or (n, H, W, C); for each: the answer ``before``, whether a change was ``found``,
    p(wanted | altered) and conformal p-value of the altered one, and the ``share`` of pixels that changed by over a tenth."""

    original: np.ndarray
    altered: np.ndarray
    to: Any
    before: np.ndarray
    found: np.ndarray
    probability: np.ndarray
    familiarity: np.ndarray
    share: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(n, H, W[, C]) altered less original, in grey levels."""
        return self.altered.astype(np.int16) - self.original.astype(np.int16)


@dataclass
class _Tried:
    """Candidates for one picture."""

    value: Tensor  # (P, D)
    probability: np.ndarray
    familiarity: np.ndarray
    share: np.ndarray

    def joined(self, other: "_Tried") -> "_Tried":
        arrays = (np.concatenate(pair) for pair in zip(self._arrays(), other._arrays(), strict=True))
        return _Tried(torch.cat([self.value, other.value]), *arrays)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.probability, self.familiarity, self.share


def alter(model: Model, X: Any, to: Any, confidence: float = 0.9, familiarity: float = 0.05, seed: int = 0) -> Alteration:
    """The smallest change of each picture after which the answer is ``to`` with at least so much ``confidence``, among those whose
    conformal p-value is over ``familiarity``. ValueError for an unknown class, CapabilityError where the family can't edit."""
    joint, codec = model.pair.proposer, cast(Any, model.codec)
    if codec.kind != "image" or not joint.capabilities.edits:
        raise CapabilityError("This model", "altered pictures", "no edits", "Fit pictures with family='diffusion'.")
    code = int(model.classes.code(to))
    encoded = model.encode(X)
    before = model.log_proba(encoded).argmax(1)
    best = [_one(model, encoded.event.take(slice(row, row + 1)), code, confidence, familiarity, seed) for row in range(encoded.event.rows)]
    values = torch.cat([encoded.event.value[:0], *(tried.value for tried, _ in best)])
    return Alteration(
        original=codec.images(codec.decode(encoded.event.value)),
        altered=codec.images(codec.decode(values)),
        to=to,
        before=model.classes.decode(before),
        found=np.array([good for _, good in best], dtype=bool),
        probability=np.array([tried.probability[0] for tried, _ in best]),
        familiarity=np.array([tried.familiarity[0] for tried, _ in best]),
        share=np.array([tried.share[0] for tried, _ in best]),
    )


def _one(model: Model, x: Event, code: int, confidence: float, least: float, seed: int) -> tuple[_Tried, bool]:
    """The best candidate, and whether it is good enough."""
    rng = stream(seed, "alter")
    tried = _judged(model, x, x.value, code)
    tried = tried.joined(_judged(model, x, _edited(model, x, code, rng), code))
    masks, noise = _masks(model, x, tried, code, confidence)
    if len(masks):
        tried = tried.joined(_judged(model, x, _edited_within(model, x, code, masks, noise, rng), code))
    good = (tried.probability >= confidence) & (tried.familiarity > least)
    order = np.argsort(np.where(good, tried.share, 2 - np.minimum(tried.probability, confidence)), kind="stable")
    place = int(order[0])
    arrays = (array[place : place + 1] for array in (tried.probability, tried.familiarity, tried.share))
    return _Tried(tried.value[place : place + 1], *arrays), bool(good[place])


def _judged(model: Model, x: Event, value: Tensor, code: int) -> _Tried:
    """What the model makes of candidates, and how many pixels of the original they change."""
    encoded = model.encode(model.codec.decode(value))
    probability = model.log_proba(encoded)[:, code].exp().numpy()
    step = CHANGED * max(variable.cardinality - 1 for variable in model.codec.space.variables)
    share = ((value - x.value).abs() > step).double().mean(1).numpy()
    return _Tried(value, probability, model.p_value(encoded), share)


def _edited(model: Model, x: Event, code: int, rng: torch.Generator) -> Tensor:
    """(6 x 3, D) the whole picture, noised less and more."""
    pair = _wanted(x, code, DRAWS)
    return torch.cat([model.pair.proposer.edit(pair, noise=noise, generator=rng).x.value for noise in NOISE])


def _wanted(x: Event, code: int, copies: int) -> Pair:
    """Copies of the picture with the wanted class."""
    return Pair(Event(torch.full((copies,), float(code), dtype=torch.float64)), x.take(torch.zeros(copies, dtype=torch.long)))


def _masks(model: Model, x: Event, tried: _Tried, code: int, confidence: float) -> tuple[Tensor, list[float]]:
    """(M, D) pixels that moved most on the way to the least noise that changes the answer, and the noises to try on them."""
    reached = (tried.probability[1:] >= confidence).reshape(len(NOISE), DRAWS)
    first = int(reached.any(1).argmax()) if reached.any() else len(NOISE) - 1
    which = 1 + first * DRAWS + int(tried.probability[1 + first * DRAWS : 1 + (first + 1) * DRAWS].argmax())
    grid = model.codec.space.grid
    assert grid is not None
    moved = (tried.value[which] - x.value[0]).abs().reshape(grid).sum(0, keepdim=True)
    smooth = torch.nn.functional.avg_pool2d(moved[None], BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)[0, 0]
    cuts = [smooth.flatten().quantile(1 - share) for share in SHARES]
    masks = torch.stack([(smooth > cut).expand(grid).flatten() for cut in cuts])
    return masks, list(NOISE[first : first + 2])


def _edited_within(model: Model, x: Event, code: int, masks: Tensor, noises: list[float], rng: torch.Generator) -> Tensor:
    """(., D) the pixels of each mask alone, with each noise."""
    free = masks.repeat_interleave(DRAWS, 0)
    pair = _wanted(x, code, len(free))
    return torch.cat([model.pair.proposer.edit(pair, noise=noise, free=free, generator=rng).x.value for noise in noises])
