"""counterfactual of pictures: the smallest plausible change that would be answered otherwise.

A picture is carried up to some noise and brought back as the wanted class would have it, through more noise and with more force each
time. What moved then is laid over the original through masks of several sizes, which follow where it moved most. Of all that the model
itself answers as wanted, surely enough, and finds familiar, the one with the fewest changed pixels is kept (M. Augustin et al. (2022),
Diffusion visual counterfactual explanations, section 2; P. Sanchez et al. (2022), Healthy is what you need, section 3).

Shape letters: D pixels, P candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from conjoin._shapes import Float
from conjoin.core import CapabilityError, Event, Pair
from conjoin.model import Model

__all__ = ["Alteration", "alter"]

NOISE = (0.5, 1.0, 2.0, 4.0, 8.0)  # in standard deviations of a pixel
STRENGTH = (0.0, 1.0, 2.0, 4.0, 7.0)
SHARES = (0.0, 0.03, 0.06, 0.1, 0.15, 0.25)  # of the pixels under a mask
CHANGED = 0.1  # of the range of grey levels, by which a pixel counts as changed
BLUR = 3  # pixels a side over which a change is averaged to find the mask, and the mask to soften it
JUDGED = 24  # candidates whose familiarity is asked, the smallest changes first


@dataclass(frozen=True)
class Alteration:
    """``original`` and ``altered`` pictures (n, H, W) or (n, H, W, C); for each: the answer ``before`` and the one wanted (``to``), whether
    a change was ``found``, p(wanted | altered) and conformal p-value of the altered one, and the ``share`` of pixels that changed by
    over a tenth."""

    original: np.ndarray
    altered: np.ndarray
    to: np.ndarray
    before: np.ndarray
    found: np.ndarray
    probability: np.ndarray
    familiarity: np.ndarray
    share: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(n, H, W[, C]) altered less original, in grey levels."""
        return self.altered.astype(np.int16) - self.original.astype(np.int16)

    @classmethod
    def joined(cls, parts: Sequence["Alteration"]) -> "Alteration":
        """All pictures of several."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


@dataclass
class _Best:
    """The candidate that was kept for one picture."""

    value: Tensor  # (D,)
    found: bool
    probability: float
    familiarity: float
    share: float


def alter(model: Model, X: Any, to: Any = None, confidence: float = 0.9, familiarity: float = 0.05) -> Alteration:
    """The smallest change of each picture after which the answer is ``to`` (None: what it would otherwise most probably be) with at least
    so much ``confidence``, among those whose conformal p-value is over ``familiarity``. ValueError for an unknown class,
    CapabilityError where the family can't edit."""
    joint, codec = model.pair.proposer, cast(Any, model.codec)
    if codec.kind != "image" or not joint.capabilities.edits:
        raise CapabilityError("This model", "altered pictures", "no edits", "Fit pictures with family='diffusion'.")
    encoded = model.encode(X)
    order = model.log_proba(encoded).argsort(1, descending=True)
    before, wanted = order[:, 0], order[:, 1] if to is None else torch.full_like(order[:, 0], int(model.classes.code(to)))
    best = [_one(model, x, int(code), confidence, familiarity) for x, code in zip(encoded.event.value, wanted, strict=True)]
    values = torch.stack([each.value for each in best]) if best else encoded.event.value
    return Alteration(
        original=codec.images(codec.decode(encoded.event.value)),
        altered=codec.images(codec.decode(values)),
        to=model.classes.decode(wanted),
        before=model.classes.decode(before),
        found=np.array([each.found for each in best], dtype=bool),
        probability=np.array([each.probability for each in best]),
        familiarity=np.array([each.familiarity for each in best]),
        share=np.array([each.share for each in best]),
    )


def _one(model: Model, x: Float[Tensor, " D"], code: int, confidence: float, least: float) -> _Best:
    """The smallest good change, or the one that the model came closest to answering as wanted."""
    moved = _moved(model, x, code)
    value = torch.cat([x[None], _masked(model, x, moved)])
    probability, share = _probability(model, value, code), _share(model, value, x)
    order = np.argsort(share + (probability < confidence), kind="stable")[:JUDGED]
    sure = order[probability[order] >= confidence]
    if len(sure):
        familiar = model.p_value(model.encode(model.codec.decode(value[sure])))
        for place, standing in zip(sure, familiar, strict=True):
            if standing > least:
                return _Best(value[place], True, float(probability[place]), float(standing), float(share[place]))
    place = int(probability.argmax())
    standing = model.p_value(model.encode(model.codec.decode(value[place : place + 1])))[0]
    return _Best(value[place], False, float(probability[place]), float(standing), float(share[place]))


def _moved(model: Model, x: Float[Tensor, " D"], code: int) -> Float[Tensor, "P D"]:
    """The picture as the wanted class would have it, through each noise with each force."""
    strength = torch.tensor(STRENGTH)
    pair = Pair(Event(torch.full((len(strength),), float(code), dtype=torch.float64)), Event(x.expand(len(strength), -1)))
    return torch.cat([model.pair.proposer.edit(pair, noise=noise, strength=strength).x.value for noise in NOISE])


def _masked(model: Model, x: Float[Tensor, " D"], moved: Float[Tensor, "P D"]) -> Float[Tensor, "Q D"]:
    """Each change through masks over where it is largest; outside of them, as much of it as counts as none."""
    grid = model.codec.space.grid
    assert grid is not None
    change = (moved - x).reshape(-1, *grid)
    slight = change.clamp(-0.9 * _step(model), 0.9 * _step(model))
    where = _smooth(change.abs().sum(1, keepdim=True))
    cuts = torch.quantile(where.flatten(1), 1 - torch.tensor(SHARES, dtype=torch.float64), dim=1)  # (shares, P)
    masks = torch.stack([_smooth((where >= cut[:, None, None, None]).double()) for cut in cuts])
    return (x + (slight + masks * (change - slight)).flatten(2)).flatten(0, 1).round()


def _smooth(pictures: Tensor) -> Tensor:
    out: Tensor = torch.nn.functional.avg_pool2d(pictures, BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)
    return out


def _probability(model: Model, value: Float[Tensor, "P D"], code: int) -> np.ndarray:
    return model.log_proba(model.encode(model.codec.decode(value)))[:, code].exp().numpy()


def _share(model: Model, value: Float[Tensor, "P D"], x: Float[Tensor, " D"]) -> np.ndarray:
    """Of the pixels, how many changed by over a tenth of the range."""
    return ((value - x).abs() > _step(model)).double().mean(1).numpy()


def _step(model: Model) -> float:
    """A tenth of the range of grey levels."""
    return CHANGED * float(max(variable.cardinality - 1 for variable in model.codec.space.variables))
