"""What every part shares and none owns: the type of JSON, and a constant of Gaussians."""

import math
from typing import Any

__all__ = ["JSON", "LOG_2PI"]

JSON = dict[str, Any]

LOG_2PI = math.log(2 * math.pi)
