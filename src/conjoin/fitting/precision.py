"""The precision of a fit, chosen once: all processes take the same, and a fit that goes on from a
checkpoint keeps the one that it began with."""

import json
from pathlib import Path

from conjoin.core import Config
from conjoin.core.device import choose_device
from conjoin.fitting.options import FitOptions
from conjoin.nets.precision import PRECISIONS, check_precision, fastest
from conjoin.training import ranks
from conjoin.util.files import write_text

__all__ = ["settle_precision"]


def settle_precision(config: Config, options: FitOptions) -> Config:
    """The config with one precision, where its family has a choice. ValueError for a precision that
    does not exist, or that the family can't take."""
    asked = check_precision(options.precision)
    own = config.get_params().get("precision")
    if asked == own == "auto":
        return config.in_precision(_chosen(options))
    return config.in_precision(asked)


def _chosen(options: FitOptions) -> str:
    """The precision that stands beside the checkpoint of a fit that goes on; else the faster one
    where the first process runs, which is written there."""
    file = None if options.checkpoint is None else options.checkpoint / "precision.json"
    if file is not None and options.resume and file.is_file():
        return _written(file)
    device = choose_device(options.device)
    precision = PRECISIONS[int(ranks.first(float(PRECISIONS.index(fastest(str(device))))))]
    if file is not None and ranks.rank() == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(precision))
    return precision


def _written(file: Path) -> str:
    try:
        return check_precision(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): fit without resuming.") from None
