"""Pictures in DICOM files, by pydicom, which is imported when one is read.

Values are those of the modality (Hounsfield units of CT): slope x stored + intercept. The window of
the file says which of them are shown: x becomes (x - (c - .5)) / (w - 1) + .5 of the range, cut to
0 and 1, for the centre c and the width w (DICOM PS3.3, section C.11.2.1.2.1).

Shape letters: H rows, W columns.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["INSTALL", "Scan", "is_dicom", "pydicom", "read_dicom"]

SUFFIXES = (".dcm", ".dicom")
MAGIC = b"DICM"
PREAMBLE_BYTES = 128  # before the magic word
INSTALL = 'DICOM needs pydicom: pip install "conjoin[dicom]"'


class Scan(NamedTuple):
    """``values`` (H, W) of the modality, or bytes (H, W, 3); ``window``: the values, low and high,
    that are shown from black to white, where the file says so; ``negative``: whether low values
    are white."""

    values: np.ndarray
    window: tuple[float, float] | None
    negative: bool


def is_dicom(file: Path) -> bool:
    """Whether the suffix, or of a file without one the magic word, says so."""
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    if not file.is_file():
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(PREAMBLE_BYTES + len(MAGIC))[PREAMBLE_BYTES:] == MAGIC
    except OSError:
        return False


def pydicom() -> Any:
    """The module; ValueError says how to install it."""
    try:
        import pydicom
    except ImportError:
        raise ValueError(f"{INSTALL}.") from None
    return pydicom


def read_dicom(file: Path, max_pixels: int) -> Scan:
    """The picture of a file. ValueError for films, volumes and colours of other kinds than RGB, and
    before it is unpacked for one of more pixels than ``max_pixels``."""
    found = pydicom().dcmread(str(file))
    frames = int(getattr(found, "NumberOfFrames", 1) or 1)
    if frames > 1:
        raise ValueError(f"it has {frames} frames, and films and volumes are not modelled")
    pixels = int(found.Rows) * int(found.Columns)
    if pixels > max_pixels:
        raise ValueError(f"it has {pixels:,} pixels, and the limit is {max_pixels:,} a file")
    kind = str(getattr(found, "PhotometricInterpretation", "MONOCHROME2"))
    stored = np.asarray(found.pixel_array)
    if stored.ndim == 3 and kind == "RGB" and stored.dtype == np.uint8:
        return Scan(stored, None, False)
    if stored.ndim != 2 or not kind.startswith("MONOCHROME"):
        raise ValueError(f"its colours are {kind}, and read are MONOCHROME1, MONOCHROME2 and RGB")
    slope = float(getattr(found, "RescaleSlope", 1) or 1)
    values = stored * slope + float(getattr(found, "RescaleIntercept", 0) or 0)
    return Scan(values, _window(found), kind == "MONOCHROME1")


def _window(found: Any) -> tuple[float, float] | None:
    """The first window, where there is one."""
    centre = _first(getattr(found, "WindowCenter", None))
    width = _first(getattr(found, "WindowWidth", None))
    if centre is None or width is None or width <= 1:
        return None
    low = centre - 0.5 - (width - 1) / 2
    return low, low + width - 1


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float):
        return float(value)
    try:
        return float(next(iter(value)))
    except TypeError:
        return float(value)
    except StopIteration:
        return None
