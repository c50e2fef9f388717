"""A model is a folder: config.json, weights.safetensors, README.md. No raw row, no code, no pickle.

An old model stays until the new one is whole. A folder that is truncated, altered, newer or no
model gives one clear sentence.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from conjoin.calibration.conformal import Calibration, Gaps
from conjoin.codecs.kinds import codec_from_json
from conjoin.core import Density, Space
from conjoin.families import name_of, resolve
from conjoin.joints.base import Joint, flat_space
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.independent import Independent
from conjoin.joints.monolithic import Monolithic
from conjoin.joints.reweighted import Posterior, Reweighted
from conjoin.joints.shared_backbone import Told, Trunk
from conjoin.model.model import Model
from conjoin.model.targets import target_from_json
from conjoin.predictors.convolutional import Convolutional
from conjoin.predictors.scorers import (
    Classifier,
    External,
    Features,
    Linear,
    Network,
    Residual,
    Scorer,
    Trees,
)
from conjoin.util.files import new_folder, recover

__all__ = ["FORMAT", "load_model", "model_hash", "refuse_overwrite", "save_model"]

FORMAT = 2  # 1, of 0.1.0: familiarity by one reading
SCORERS: dict[str, Any] = {
    "linear": Linear,
    "network": Network,
    "convolutional": Convolutional,
    "trees": Trees,
    "features": Features,
}
FILES = ("config.json", "weights.safetensors", "README.md")


def save_model(
    model: Model, path: str | Path, *, force: bool = False, card: str | None = None
) -> Path:
    """Write the folder ``path``. FileExistsError unless ``force`` where it exists; ValueError for
    what can't be saved."""
    folder = Path(path)
    recover(folder)
    refuse_overwrite(folder, force)
    config, weights = _parts(model)
    if card is None:
        from conjoin.model.card import model_card

        card = model_card(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
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
            f"{folder} exists: choose another name, or overwrite it with force=True (--force)."
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
    if model.calibration is not None:
        c = model.calibration
        arrays = {
            "statistic": c.statistic,
            "guess": c.guess,
            "label": c.label,
            "confidence": c.confidence,
        }
        arrays |= {} if c.log_proba is None else {"log_proba": c.log_proba}
        arrays |= (
            {} if c.gaps is None else {f"gaps.{key}": value for key, value in vars(c.gaps).items()}
        )
        tensors |= {f"calibration.{key}": torch.as_tensor(value) for key, value in arrays.items()}
    weights = serialise(
        {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    )
    config = {
        "format": FORMAT,
        "conjoin": model.facts["versions"]["conjoin"],
        "codec": model.codec.to_json(),
        "target": None if model.target is None else model.target.to_json(),
        "joint": _describe(model.joint),
        "facts": model.facts,
        "calibrated": model.calibration is not None,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    plain = _plain(config)
    return plain | {"config_sha256": _digest(plain)}, weights


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
    """sha256 of all that determines the answers."""
    config, weights = _parts(model)
    answers = {key: config[key] for key in ("format", "codec", "target", "joint", "calibrated")}
    answers |= {key: config["facts"].get(key) for key in ("seed", "grid")}
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode() + weights).hexdigest()


# --------------------------------------------------------------------------------------- describing


def _describe(density: Density) -> dict[str, Any]:
    if isinstance(density, Reweighted):
        return {"kind": "reweighted", "base": _describe(density.base)}
    if isinstance(density, Hybrid):
        kind = "trunk" if isinstance(density, Trunk) else "hybrid"
        return {
            "kind": kind,
            "base": _describe(density.base),
            "predictor": _describe_predictor(density.predictor),
        }
    if isinstance(density, ClassConditional | Independent):
        kind = (
            "class_conditional"
            if isinstance(density, ClassConditional)
            else "told"
            if isinstance(density, Told)
            else "independent"
        )
        return {"kind": kind, "density": _describe(density.density)}
    if isinstance(density, Monolithic):
        return {"kind": "monolithic", "density": _describe(density.density)}
    config = density.config
    return {
        "kind": "family",
        "family": name_of(config),
        "settings": config.get_params(),
        "structure": density.structure,
    }


def _describe_predictor(predictor: Predictor) -> dict[str, Any]:
    if isinstance(predictor, Posterior):
        return {"scorer": "posterior", "joint": _describe(predictor.joint)}
    scorer: Scorer = predictor.scorer  # type: ignore[assignment]
    if isinstance(scorer, External):
        raise ValueError(
            f"The predictor {scorer.name} is your own code, which a model folder never holds: "
            "save it yourself, save this model with predictor=None, or use predictor='auto'."
        )
    kind = next(name for name, kind in SCORERS.items() if type(scorer) is kind)
    shapes = scorer.shapes  # type: ignore[union-attr]
    described: dict[str, Any] = {"scorer": kind, "shapes": shapes}
    if isinstance(predictor, Residual):
        described["residual"] = {
            "count": len(predictor.residuals),
            "bins": len(predictor.knots),
            "width": predictor.width,
        }
    return described


# ------------------------------------------------------------------------------------------ loading


def load_model(path: str | Path, family: Any = None) -> Model:
    """The model in the folder ``path``. ``family``: the Density class, for a family of the user's
    own."""
    folder = Path(path)
    recover(folder)
    config = _read_config(folder)
    tensors = _read_weights(folder, config)
    try:
        return _restore(config, tensors, family)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} is damaged ({error!r:.200}): restore it from a copy, or "
            "fit again."
        ) from error


def _restore(config: dict[str, Any], tensors: dict[str, torch.Tensor], family: Any) -> Model:
    codec = codec_from_json(config["codec"])
    target = target_from_json(config["target"])
    joint = _rebuild(config["joint"], None if target is None else target.space, codec.space, family)
    joint.load_state_dict(
        {
            key.removeprefix("joint."): value
            for key, value in tensors.items()
            if key.startswith("joint.")
        }
    )
    calibration = None
    if config["calibrated"]:
        arrays = {
            name: tensors[f"calibration.{name}"].numpy()
            for name in ("statistic", "guess", "label", "confidence")
        }
        held = tensors.get("calibration.log_proba")
        parts = {
            key.removeprefix("calibration.gaps."): value.numpy()
            for key, value in tensors.items()
            if key.startswith("calibration.gaps.")
        }
        calibration = Calibration(
            **arrays,
            log_proba=None if held is None else held.numpy(),
            gaps=Gaps(**parts) if parts else None,
        )
    return Model(codec, joint, target, calibration, config["facts"])


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
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}): restore it from a copy, or fit again."
        ) from None
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(f"{file} is not the config of a conjoin model.")
    if not isinstance(config["format"], int) or config["format"] > FORMAT:
        raise ValueError(
            f"{folder} was written by conjoin {config.get('conjoin')}, which is newer than this "
            "one: upgrade conjoin."
        )
    if config.get("config_sha256") != _digest(config):
        raise ValueError(
            f"{file} is damaged or was altered (its sha256 is not the one it states): restore it "
            "from a copy, or fit again."
        )
    return config


def _read_weights(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    file = folder / "weights.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no weights.safetensors: restore it from a copy, or fit again."
        )
    if hashlib.sha256(file.read_bytes()).hexdigest() != config.get("weights_sha256"):
        raise ValueError(
            f"{file} is truncated or was altered (its sha256 is not the one in config.json): "
            "restore it, or fit again."
        )
    return load_file(file)


def _rebuild(described: dict[str, Any], y: Space | None, x: Space, family: Any) -> Any:
    kind = described["kind"]
    if kind == "reweighted":
        return Reweighted(_rebuild(described["base"], y, x, family)).eval()
    if kind == "trunk":
        told = _rebuild(described["base"], y, x, family)
        return Trunk(told, _rebuild_predictor(described["predictor"], x, told))
    if kind == "hybrid":
        assert y is not None
        base: Joint = _rebuild(described["base"], y, x, family)
        if described["predictor"]["scorer"] == "posterior":
            return Hybrid(base, Posterior(_rebuild(described["predictor"]["joint"], y, x, family)))
        return Hybrid(base, _rebuild_predictor(described["predictor"], x, base))
    if kind == "class_conditional":
        assert y is not None
        return ClassConditional(_rebuild_family(described["density"], x, family, y), y)
    if kind == "told":
        assert y is not None
        return Told(_rebuild_family(described["density"], x, family, y), y)
    if kind == "independent":
        assert y is not None
        return Independent(_rebuild_family(described["density"], x, family), y)
    if kind == "monolithic":
        assert y is not None
        return Monolithic(_rebuild_family(described["density"], flat_space(y, x), family), y, x)
    return _rebuild_family(described, x, family)


def _rebuild_family(
    described: dict[str, Any], space: Space, family: Any, context: Space | None = None
) -> Density:
    name = described["family"]
    if ":" in name and family is None:
        raise ValueError(
            f"This model uses the family {name}, which is not registered: call "
            "conjoin.load(path, family=ItsDensityClass)."
        )
    kind = type(resolve(family if ":" in name else name))
    config = kind(**kind.implied | described["settings"])
    density: Density = config.density(space, config, described["structure"], context_space=context)
    return density.eval()


def _rebuild_predictor(described: dict[str, Any], x: Space, base: Any) -> Predictor:
    source = base.density if described["scorer"] == "features" else x
    scorer: Scorer = SCORERS[described["scorer"]](source, **_tuples(described["shapes"]))
    if "residual" in described:
        return Residual(scorer, **described["residual"])
    return Classifier(scorer)


def _tuples(shapes: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in shapes.items()
    }
