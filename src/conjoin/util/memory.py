"""How much memory this process has taken."""

import sys

import torch

__all__ = ["peak_memory"]

KIBIBYTE = 1024


def peak_memory() -> int:
    """Bytes: the most that this process has held at once, on the graphics card where it has used
    one, else in main memory; 0 where the system does not tell.

    Examples
    --------
    >>> peak_memory() > 0
    True
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else KIBIBYTE)
