"""A model is a folder: config.json, weights.safetensors, README.md. No raw row, no code, no pickle.

An old model stays until the new one is whole. A folder that is truncated, altered, newer or no
model gives one clear sentence.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from conjoin.calibration.answers import AnswerCalibration
from conjoin.calibration.centre_means import CentreMeans
from conjoin.calibration.conformal import Calibration, MissingnessPatterns
from conjoin.calibration.readings import Readings
from conjoin.codecs.kinds import codec_from_json
from conjoin.core import Density, Space
from conjoin.core.device import choose_device
from conjoin.families import describe_family, resolve, restored
from conjoin.joints import KINDS, WHOLE_PREDICTORS, Joint, Predictor, Rebuild
from conjoin.model.bounded import bounded
from conjoin.model.model import Model
from conjoin.model.several import SeveralTargets, space_of
from conjoin.model.state import State, check_told, split_facts
from conjoin.model.targets import target_from_json
from conjoin.predictors import scorer_class
from conjoin.predictors.base import Scorer
from conjoin.predictors.blended import WITHOUT_SCORER
from conjoin.predictors.classifier import Classifier
from conjoin.predictors.leaves import Binned
from conjoin.predictors.residual import Residual
from conjoin.util.files import new_folder, recover, resolved

__all__ = ["FORMAT", "load_model", "model_hash", "refuse_overwrite", "save_model"]

FORMAT = 2  # 1, of 0.1.0: familiarity by one reading
# of several targets, of rows of several blocks, and where several readings make up familiarity
FORMAT_OF_RECORDS = 3
READINGS = "familiarity."  # what the names of their tensors begin with
CENTRE_MEANS = "centre_means."
ANSWERS = "answers."
FILES = ("config.json", "weights.safetensors", "README.md")
MAX_CONFIG_BYTES = 1 << 29  # of a config, whose largest part is the levels of columns
# parts of a config that answers are computed from: all of their numbers are finite
COMPUTED = ("codec", "target", "targets", "joint", "bases", "answers")


class _NotRegistered(ValueError):
    """A family of the user's own, whose class was not given."""


def save_model(
    model: Model | SeveralTargets,
    path: str | Path,
    *,
    force: bool = False,
    card: str | None = None,
) -> Path:
    """Write the folder ``path``. FileExistsError unless ``force`` where it exists; ValueError for
    what can't be saved."""
    folder = Path(path)
    recover(folder)
    refuse_overwrite(folder, force)
    if isinstance(model, SeveralTargets):
        models = list(model.views().values())
        config, weights = _parts_of_several(model)
    else:
        models = [model]
        config, weights = _parts(model)
    if card is None:
        from conjoin.model.card import model_card

        card = "\n".join(map(model_card, models))
    resolved(folder).parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as draft:
        (draft / "weights.safetensors").write_bytes(weights)
        (draft / "config.json").write_text(
            json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        (draft / "README.md").write_text(card, encoding="utf-8")
    return folder


def refuse_overwrite(folder: Path, force: bool) -> None:
    """FileExistsError where ``folder`` is in the way: overwriting is asked for, and removes a
    model, never other files."""
    if not folder.exists():
        return
    if not force:
        raise FileExistsError(
            f"{folder} exists: choose another name, or overwrite it with force=True."
        )
    others = (
        [entry.name for entry in folder.iterdir() if entry.name not in FILES]
        if folder.is_dir()
        else [folder.name]
    )
    if others:
        raise FileExistsError(
            f"{folder} holds {others[0]!r}, which is no part of a model: it is not overwritten."
        )


def _parts(model: Model) -> tuple[dict[str, Any], bytes]:
    tensors = {f"joint.{key}": value for key, value in model.joint.state_dict().items()}
    tensors |= _of_calibration(model.calibration, "calibration")
    if model.readings is not None:
        stored = model.readings.to_tensors()
        tensors |= {f"{READINGS}{key}": value for key, value in stored.items()}
    if model.centre_means is not None:
        stored = model.centre_means.to_tensors()
        tensors |= {f"{CENTRE_MEANS}{key}": value for key, value in stored.items()}
    if model.answers is not None:
        stored = model.answers.to_tensors()
        tensors |= {f"{ANSWERS}{key}": value for key, value in stored.items()}
    plain = not (model.state.blocks or model.readings or model.centre_means)
    config = {
        "format": FORMAT if plain else FORMAT_OF_RECORDS,
        "conjoin": model.card["versions"]["conjoin"],
        "codec": model.codec.to_json(),
        "target": None if model.target is None else model.target.to_json(),
        "joint": describe_family(model.joint) if model.target is None else model.pair.describe(),
        "facts": model.facts,
        "calibrated": model.calibration is not None,
    }
    if model.answers is not None:
        config["answers"] = model.answers.to_json()
    return _sealed(config, tensors)


def _parts_of_several(model: SeveralTargets) -> tuple[dict[str, Any], bytes]:
    """A density over all targets and x; the state and the calibration of each target."""
    tensors = {f"joint.{key}": value for key, value in model.density.state_dict().items()}
    for place, predictor in enumerate(model.predictors):
        if predictor is not None:
            own = predictor.state_dict().items()
            tensors |= {f"predictor.{place}.{key}": value for key, value in own}
    for place, calibration in enumerate(model.calibrations):
        tensors |= _of_calibration(calibration, f"calibration.{place}")
    config = {
        "format": FORMAT_OF_RECORDS,
        "conjoin": model.card["versions"]["conjoin"],
        "codec": model.codec.to_json(),
        "targets": [target.to_json() for target in model.targets],
        "joint": describe_family(model.density),
        "states": [state.to_json() for state in model.states],
        "facts": model.card,
        "calibrated": bool(model.calibrations),
    }
    for place, base in enumerate(model.bases):
        label = _beside(base)
        tensors |= {f"base.{place}.{key}": value for key, value in label.items()}
    if model.bases:  # the density is written once
        rest = (base.describe() for base in model.bases)
        config["bases"] = [{k: v for k, v in one.items() if k != "density"} for one in rest]
    if model.columns:
        config["columns"] = list(model.columns)
    if model.predictors:
        each = model.predictors
        config["predictors"] = [None if one is None else one.describe() for one in each]
    return _sealed(config, tensors)


def _beside(base: Joint) -> dict[str, torch.Tensor]:
    """The weights of p(y) beside a density of x."""
    return {key: v for key, v in base.state_dict().items() if not key.startswith("density.")}


def _sealed(
    config: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], bytes]:
    """The config with the hashes of weights and of itself, and the weights."""
    weights = serialise(
        {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    )
    plain = _plain(config | {"weights_sha256": hashlib.sha256(weights).hexdigest()})
    return plain | {"config_sha256": _digest(plain)}, weights


def _of_calibration(calibration: Calibration | None, prefix: str) -> dict[str, torch.Tensor]:
    if calibration is None:
        return {}
    c = calibration
    arrays = {
        "statistic": c.statistic,
        "guess": c.guess,
        "label": c.label,
        "confidence": c.confidence,
    }
    arrays |= {} if c.log_proba is None else {"log_proba": c.log_proba}
    arrays |= (
        {}
        if c.missingness is None
        else {f"gaps.{key}": value for key, value in vars(c.missingness).items()}
    )
    return {f"{prefix}.{key}": torch.as_tensor(value) for key, value in arrays.items()}


def _calibration(tensors: dict[str, torch.Tensor], prefix: str) -> Calibration:
    names = ("statistic", "guess", "label", "confidence")
    arrays = {name: tensors[f"{prefix}.{name}"].numpy() for name in names}
    held = tensors.get(f"{prefix}.log_proba")
    gaps = {
        key.removeprefix(f"{prefix}.gaps."): value.numpy()
        for key, value in tensors.items()
        if key.startswith(f"{prefix}.gaps.")
    }
    return Calibration(
        **arrays,
        log_proba=None if held is None else held.numpy(),
        missingness=MissingnessPatterns(**gaps) if gaps else None,
    )


def _digest(config: dict[str, Any]) -> str:
    """sha256 of a config, but for the entry that holds it."""
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON types only."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def model_hash(model: Model) -> str:
    """sha256 of all that answers depend on: the card may change without it, the state may not."""
    config, weights = _parts(model)
    answers = {key: config[key] for key in ("format", "codec", "target", "joint", "calibrated")}
    answers["state"] = _plain(model.state.to_json())
    if "answers" in config:
        answers["answers"] = config["answers"]
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode() + weights).hexdigest()


# ------------------------------------------------------------------------------------------ loading


def load_model(
    path: str | Path, family: Any = None, device: str = "auto"
) -> Model | SeveralTargets:
    """The model in the folder ``path``. ``family``: the Density class, for a family of the user's
    own. ``device``: where it answers, wherever it was fitted."""
    if not str(path).strip():
        raise ValueError(f"{str(path)!r} names no folder: give that of a saved model.")
    folder = Path(path)
    place = choose_device(device)
    recover(folder)
    config = _read_config(folder)
    tensors = _read_weights(folder, config)
    try:
        with bounded(sum(value.nbytes for value in tensors.values())):
            restore = _restore_several if "targets" in config else _restore
            model: Any = restore(config, tensors, family)
    except _NotRegistered:
        raise
    except Exception as error:  # a config that was altered may fail in any line that reads it
        raise _damaged(folder / "config.json", error) from error
    parts = (model.density, *model.bases) if "targets" in config else (model.joint,)
    for part in parts:
        part.to(place)
    return model  # type: ignore[no-any-return]


def _damaged(file: Path, error: Any) -> ValueError:
    why = str(error) if isinstance(error, str | ValueError | SafetensorError) else repr(error)
    why = " ".join(why.split()).rstrip(".")
    return ValueError(f"{file} is damaged ({why:.300}): restore it from a copy, or fit again.")


def _weights_of(joint: Density, tensors: dict[str, torch.Tensor]) -> None:
    found = {
        key.removeprefix("joint."): value
        for key, value in tensors.items()
        if key.startswith("joint.")
    }
    for key, value in joint.state_dict().items():
        if key in found and found[key].is_floating_point() != value.is_floating_point():
            raise ValueError(f"weight {key} is of {found[key].dtype} where {value.dtype} belongs")
    joint.load_state_dict(found)


def _restore(config: dict[str, Any], tensors: dict[str, torch.Tensor], family: Any) -> Model:
    codec = codec_from_json(config["codec"])
    target = target_from_json(config["target"])
    joint = _rebuild(config["joint"], None if target is None else target.space, codec.space, family)
    _weights_of(joint, tensors)
    calibration = _calibration(tensors, "calibration") if config["calibrated"] else None
    state, card = split_facts(config["facts"])
    variables = codec.space.variables
    # none in older models, and where a row is no row of columns
    stored = _beginning_with(READINGS, tensors)
    readings = Readings.from_tensors(variables, stored) if stored else None
    stored = _beginning_with(CENTRE_MEANS, tensors)
    means = CentreMeans.from_tensors(variables, stored) if stored else None
    told = config.get("answers")
    stored = _beginning_with(ANSWERS, tensors)
    answers = None if told is None else AnswerCalibration.restored(told, stored)
    return Model(codec, joint, target, calibration, state, card, readings, means, answers)


def _beginning_with(start: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those whose names begin so, by the rest of the name."""
    return {
        key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
    }


def _restore_several(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], family: Any
) -> SeveralTargets:
    codec = codec_from_json(config["codec"])
    targets: Any = tuple(target_from_json(each) for each in config["targets"])
    apart = "bases" in config
    space = codec.space if apart else space_of(targets, codec.space)
    density = _family(config["joint"], space, family, None)
    _weights_of(density, tensors)
    states = tuple(State.from_json(each) for each in config["states"])
    check_told(config["facts"])
    places = range(len(targets)) if config["calibrated"] else ()
    calibrations = tuple(_calibration(tensors, f"calibration.{place}") for place in places)
    model = SeveralTargets(codec, density, targets, states, calibrations, config["facts"])
    model.columns = tuple(config.get("columns", ()))
    model.bases = tuple(
        _base_of(model, place, each | {"density": config["joint"]}, tensors)
        for place, each in enumerate(config.get("bases", ()))
    )
    described = config.get("predictors", ())
    model.predictors = tuple(
        None if each is None else _predictor_of(model, place, each, tensors)
        for place, each in enumerate(described)
    )
    return model


def _base_of(
    model: SeveralTargets, place: int, described: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> Joint:
    """p(y) of one of several targets beside the density of x, which all of them share."""
    y = model.targets[place].space
    x = model.codec.space
    rebuild = Rebuild(
        y,
        x,
        joint=_none_inside,
        density=lambda part, space, context: (
            model.density if space is x else _family(part, space, None, context)
        ),
        predictor=_none_inside,
    )
    base: Joint = KINDS[described["kind"]].restore(described, rebuild)
    base.load_state_dict(base.state_dict() | _beginning_with(f"base.{place}.", tensors))
    return base.eval()


def _none_inside(*parts: Any) -> Any:
    raise ValueError("p(y) beside a density holds no other joint")


def _predictor_of(
    model: SeveralTargets, place: int, described: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> Predictor:
    """p(y | x) of one of several targets."""
    base = model.view(model.targets[place].name).pair
    predictor: Any = _scorer_beside(described, base)
    prefix = f"predictor.{place}."
    predictor.load_state_dict(
        {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
    )
    out: Predictor = predictor.eval()
    return out


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        what = (
            "does not exist"
            if not folder.exists()
            else "is not a conjoin model: it has no config.json"
        )
        raise ValueError(
            f"{folder} {what}; a model is a folder that `conjoin fit` or `save` wrote."
        )
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"it has more than {MAX_CONFIG_BYTES:,} bytes")
        config = json.loads(file.read_text(encoding="utf-8"))
        digest = _digest(config) if isinstance(config, dict) else ""
    except (ValueError, RecursionError) as error:
        raise _damaged(file, error) from None
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(f"{file} is not the config of a conjoin model.")
    if not isinstance(config["format"], int) or config["format"] > FORMAT_OF_RECORDS:
        raise ValueError(
            f"{folder} was written by conjoin {config.get('conjoin')}, which is newer than this "
            "one: upgrade conjoin."
        )
    if config.get("config_sha256") != digest:
        raise ValueError(
            f"{file} is damaged or was altered (its sha256 is not the one it states): restore it "
            "from a copy, or fit again."
        )
    for part in COMPUTED:
        if not all(math.isfinite(number) for number in _floats(config.get(part))):
            raise _damaged(file, f"{part} has a number that is not finite")
    return config


def _floats(value: Any) -> Iterator[float]:
    """All numbers that are no whole ones, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _floats(entry)
    elif isinstance(value, float):
        yield value


def _read_weights(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    file = folder / "weights.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no weights.safetensors: restore it from a copy, or fit again."
        )
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != config.get("weights_sha256"):
        raise ValueError(
            f"{file} is truncated or was altered (its sha256 is not the one in config.json): "
            "restore it, or fit again."
        )
    try:
        tensors = load_file(file)
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(file, error) from None
    for key, value in tensors.items():
        if not _is_sound(key, value):
            raise _damaged(file, f"{key} has a value that is no number, or infinite")
    return tensors


def _is_sound(key: str, value: torch.Tensor) -> bool:
    """Whether a weight holds numbers, or -inf, the logarithm of no mass; of the calibration the
    marks of what was missing may be anything, and every number may be under a tree's threshold."""
    if not value.is_floating_point() or ".gaps." in key:
        return True
    if key.endswith(".threshold"):
        return not bool(value.isnan().any())
    return not bool((value.isnan() | (value == torch.inf)).any())


def _rebuild(described: dict[str, Any], y: Space | None, x: Space, family: Any) -> Any:
    """The density or joint, its weights not yet loaded."""
    if y is None:
        return _family(described, x, family, None)
    rebuild = Rebuild(
        y,
        x,
        joint=lambda part: _rebuild(part, y, x, family),
        density=lambda part, space, context: _family(part, space, family, context),
        predictor=lambda part, base: _predictor(part, base, rebuild),
    )
    return KINDS[described["kind"]].restore(described, rebuild)


def _family(described: dict[str, Any], space: Space, family: Any, context: Space | None) -> Density:
    name = described["family"]
    if ":" in name and family is None:
        raise _NotRegistered(
            f"This model uses the family {name}, which is not registered: call "
            "conjoin.load(path, family=ItsDensityClass)."
        )
    kind = type(resolve(family if ":" in name else name))
    density: Density = restored(described, kind, space, context)
    return density


def _predictor(described: dict[str, Any], base: Joint, rebuild: Rebuild) -> Predictor:
    whole = WHOLE_PREDICTORS.get(described["scorer"])
    if whole is not None:
        return whole.restore(described, rebuild)
    made = WITHOUT_SCORER.get(described["scorer"])
    if made is not None:
        return made.restored(described, base, partial(_predictor, base=base, rebuild=rebuild))
    return _scorer_beside(described, base)


def _scorer_beside(described: dict[str, Any], base: Joint) -> Predictor:
    """A scorer with its errors or its temperature, beside a joint."""
    scorer: Scorer = scorer_class(described["scorer"]).made(base, described["shapes"])
    if "residual" in described:
        return Residual(scorer, **described["residual"])
    if "binned" in described:
        return Binned(scorer, **described["binned"])
    return Classifier(scorer)
