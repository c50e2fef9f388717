"""A watermark in a text that a model draws: tokens chosen by a keyed hash, found again by the key.

    x_t = argmax_v [log q(v) - log(-log u_v)],    u_v = hash(key, h tokens before t, v) in (0, 1)

The noise of the draw is a hash in place of chance, so each token is still drawn by its own q: with
the key unknown, a text has the probability that it would have anyway. S. Aaronson (2022), talk at
the Simons Institute; J. Kirchenbauer et al. (2023), A watermark for large language models, for what
is hashed; X. Hu et al. (2024), Unbiased watermark for large language models, for why a window that
came before is left to chance; S. Dathathri et al. (2024), Scalable watermarking for identifying
large language model outputs. Greedy answers, and tokens of which one is nearly certain, carry none.

Of a text that was written without the key the u of its tokens are independent and uniform, if each
window counts once. So

    S = sum_t -log(1 - u_t) ~ Gamma(T),    p = 1 - (1 - min over K sub-keys of P(Gamma(T) >= S))^K

is exactly uniform on (0, 1), whatever the text. An answer takes one of K sub-keys by its own noise,
and its first h tokens are left to chance; so answers to one prompt differ.

Shape letters: T tokens that count, V tokens, K sub-keys.
"""

import dataclasses
import hashlib
import math
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import gamma

from conjoin.util.settings import write_private

__all__ = ["MAX_P_VALUE", "SUB_KEYS", "Found", "KeyedNoise", "Watermark", "key_from"]

WINDOW_TOKENS = 4  # before a token, that its noise is a function of
SUB_KEYS = 16
LOG_CERTAIN = math.log(0.99)  # of a token, beside which there is no choice to speak of
MAX_P_VALUE = 0.01  # under which a text is said to carry the watermark
KEY_BYTES = 32
MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 4096
# of D. Lea's and S. Vigna's splitmix64: G. Steele, D. Lea and C. Flood (2014), Fast splittable
# pseudorandom number generators
STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


@dataclasses.dataclass(frozen=True)
class Found:
    """``p_value``: exactly uniform for a text without this watermark; ``tokens``: that count."""

    p_value: float
    tokens: int

    @property
    def there(self) -> bool:
        return self.p_value <= MAX_P_VALUE


class Watermark:
    """``key``: at least 16 bytes, which only who marks and who checks may know.

    Examples
    --------
    >>> mark = Watermark(b"0123456789abcdef")
    >>> mark.found(range(100)).tokens
    96
    """

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key, digest_size=KEY_BYTES, person=b"conjoin").digest()

    def seed(self, part: int, window: Sequence[int]) -> int:
        """64 bits of a window of tokens, under one of the sub-keys."""
        words = np.asarray([part, *window], dtype="<i8").tobytes()
        return int.from_bytes(hashlib.blake2b(words, digest_size=8, key=self._key).digest())

    def found(self, codes: Sequence[int]) -> Found:
        """Whether a text, as tokens, carries it."""
        windows: dict[tuple[int, ...], int] = {}
        for place in range(WINDOW_TOKENS, len(codes)):
            window = tuple(codes[place - WINDOW_TOKENS : place])
            if min(*window, codes[place]) < 0:  # what no token stands for was never drawn
                continue
            windows.setdefault(window, codes[place])
        if not windows:
            return Found(1.0, 0)
        chosen = np.fromiter(windows.values(), dtype=np.uint64)
        sums = []
        for part in range(SUB_KEYS):
            seeds = np.array([self.seed(part, window) for window in windows], dtype=np.uint64)
            sums.append(-np.log1p(-uniform(seeds, chosen)).sum())
        least = gamma.sf(max(sums), len(windows))
        return Found(float(-np.expm1(SUB_KEYS * np.log1p(-least))), len(windows))


class KeyedNoise:
    """The noise of one answer: a function of the key, where the window is new, else of chance.

    Parameters
    ----------
    watermark
        The key.
    part
        Which of the sub-keys, from 0; taken modulo their number.
    """

    def __init__(self, watermark: Watermark, part: int) -> None:
        self._watermark = watermark
        self._part = part % SUB_KEYS
        self._codes: list[int] = []
        self._seen: set[tuple[int, ...]] = set()

    def choose(self, log_q: np.ndarray) -> int | None:
        """The next token by log q, (V,); None where it is left to chance."""
        window = tuple(self._codes[-WINDOW_TOKENS:])
        new = len(window) == WINDOW_TOKENS and window not in self._seen
        if not new or log_q.max() > LOG_CERTAIN:
            return None
        seed = np.uint64(self._watermark.seed(self._part, window))
        noise = uniform(seed, np.arange(len(log_q), dtype=np.uint64))
        return int((log_q - np.log(-np.log(noise))).argmax())

    def add(self, code: int) -> None:
        """The token that was written, however it was chosen."""
        window = tuple(self._codes[-WINDOW_TOKENS:])
        if len(window) == WINDOW_TOKENS:
            self._seen.add(window)
        self._codes.append(code)


def uniform(seed: np.ndarray | np.uint64, code: np.ndarray) -> np.ndarray:
    """A number in (0, 1) for each seed and code."""
    with np.errstate(over="ignore"):
        mixed = seed + (code + np.uint64(1)) * STEP
        for _ in range(2):
            mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
            mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
            mixed = mixed ^ (mixed >> np.uint64(31))
    return ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52


def key_from(path: str | Path, make: bool = False) -> bytes:
    """The key in a file; where there is none and one may be made, a new one, for this user alone.

    Raises
    ------
    ValueError
        If there is no such file, or it holds under 16 bytes beside blanks, or far too many.
    """
    file = Path(path).expanduser()
    if make and not file.exists():
        write_private(file, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
    if not file.is_file():
        raise ValueError(f"{path} is no file: it should hold the key of a watermark.")
    size = file.stat().st_size
    key = file.read_bytes().strip() if size <= MAX_KEY_BYTES else b""
    if len(key) < MIN_KEY_BYTES:
        holds = f"{size:,} bytes" if size > MAX_KEY_BYTES else f"{len(key):,} bytes"
        blank = ", beside blanks at its ends" if size <= MAX_KEY_BYTES and len(key) < size else ""
        raise ValueError(
            f"{path} holds {holds}{blank}: a key has from {MIN_KEY_BYTES} to {MAX_KEY_BYTES:,}."
        )
    return key
