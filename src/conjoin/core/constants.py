"""What every part shares and none owns: the type of JSON, a constant of Gaussians, and how many
columns are few."""

import math
from typing import Any

__all__ = ["JSON", "LOG_2PI", "MAX_FEW_COLUMNS"]

JSON = dict[str, Any]

LOG_2PI = math.log(2 * math.pi)
MAX_FEW_COLUMNS = 3  # columns up to which defaults take more care, as it costs little there
