"""Whole numbers that name something and are no amounts: postal codes, by their column's name, and
identifiers, whose digits are random."""

import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "are_random_digits",
    "is_place_name",
    "looks_like_identifier",
    "may_be_place_codes",
    "since_1970",
]

Array = NDArray[Any]

_PLACE_WORDS = {"zip", "zips", "zipcode", "zipcodes", "plz", "postleitzahl", "postcode"}
_PLACE_WORDS |= {"postcodes", "postalcode", "postalcodes", "codepostal", "pincode", "postnummer"}
_PLACE_WORDS |= {"postnr", "zipplus4", "postzip", "zippostal"}
_AMOUNT_WORDS = {"price", "cost", "costs", "salary", "income", "wage", "wages", "amount", "value"}
_AMOUNT_WORDS |= {"revenue", "sales", "turnover", "profit", "total", "sum", "count", "counts"}
_AMOUNT_WORDS |= {"population", "area", "balance", "loan", "budget", "views", "distance", "rent"}
_AMOUNT_WORDS |= {"preis", "kosten", "gehalt", "umsatz", "betrag", "summe", "anzahl", "miete"}
_ID_NAME = re.compile(
    r"(?i)(^|[_\s.\-])(id|ids|uuid|guid|key|index|rownames|unnamed: 0)$|^id[_\s.\-]|[a-z]ID$"
)
_OWNERS = {"account", "bill", "booking", "card", "case", "client", "contract", "customer", "device"}
_OWNERS |= {"employee", "file", "invoice", "member", "membership", "order", "passport", "patient"}
_OWNERS |= {"person", "personnel", "policy", "record", "reference", "serial", "staff", "student"}
_OWNERS |= {"ticket", "transaction", "user", "phone", "telephone", "mobile", "fax"}
_OWNERS |= {"auftrags", "fall", "kunden", "konto", "mitglieds", "patienten", "personal"}
_OWNERS |= {"rechnungs", "vertrags", "kunde", "patient", "telefon"}
_NUMBER_WORDS = {"number", "no", "nr", "num", "nummer"}
_WORDS = re.compile(r"[A-ZÄÖÜ]?[a-zäöüß]+|[A-ZÄÖÜ]+(?![a-zäöüß])|\d+")

_CLOCKS = {"seconds": 1, "milliseconds": 1000, "microseconds": 10**6}
MIN_CODE_DIGITS = 3  # of a postal code: 501 is one whose zeros are lost
MAX_CODE_DIGITS = 10
MIN_IDS = 50  # distinct whole numbers, from which on random digits can be told
MIN_FREE_DIGITS = 6  # behind those that all have in common
MAX_UNEVEN = 1.63  # Kolmogorov's statistic: of random digits, one column in a hundred has more
MAX_UNEVEN_LAST = 27.9  # chi squared of ten last digits: one column in a thousand has more


def _words_of(name: Any) -> list[str]:
    return [word.lower() for word in _WORDS.findall(str(name))]


def is_place_name(name: Any) -> bool:
    """Whether a column is named like one of postal codes: zip, homeZip, post_code, plz."""
    words = _words_of(name)
    pairs = [a + b for a, b in itertools.pairwise(words)]
    return not _PLACE_WORDS.isdisjoint([*words, *pairs])


def may_be_place_codes(name: Any, values: Array) -> bool:
    """Whether whole numbers may be postal codes: they are named so, and have as many digits."""
    if not len(values) or not is_place_name(name):
        return False
    whole = bool((values == np.rint(values)).all())
    long = values.min() >= 10 ** (MIN_CODE_DIGITS - 1)
    return bool(whole and long and values.max() < 10**MAX_CODE_DIGITS)


def looks_like_identifier(name: Any) -> bool:
    """Whether a column is named like an identifier: id, user_id, customer number, Kundennummer."""
    words = _words_of(name)
    owned = [
        word.removesuffix(number)
        for word in ["".join(words[-2:])]
        for number in _NUMBER_WORDS
        if word.endswith(number)
    ]
    return _ID_NAME.search(str(name)) is not None or not _OWNERS.isdisjoint(owned)


def since_1970(values: Array) -> str:
    """The unit in which ascending whole numbers may be times since 1970, of the years 2001 to 2033
    as clocks of computers write them; else ""."""
    for unit, size in _CLOCKS.items():
        if len(values) >= MIN_IDS and values[0] >= 10**9 * size and values[-1] < 2 * 10**9 * size:
            return unit
    return ""


def are_random_digits(name: Any, values: Array) -> bool:
    """Whether distinct whole numbers, ascending, are drawn evenly from all numbers of their length
    that begin as they do. Amounts are not: small ones are more frequent, or they are rounded, or of
    several lengths."""
    if len(values) < MIN_IDS or values[0] <= 0 or not _AMOUNT_WORDS.isdisjoint(_words_of(name)):
        return False
    first = str(int(values[0]))
    last = str(int(values[-1]))
    if len(first) != len(last):
        return False
    same = [a == b for a, b in zip(first, last, strict=True)]
    shared = [*same, False].index(False)
    free = len(first) - shared
    if free < MIN_FREE_DIGITS or (shared > 1 and since_1970(values)):
        return False
    least = float(int(first[:shared] or "0") * 10**free) if shared else 10.0 ** (free - 1)
    most = (int(first[:shared]) + 1) * 10.0**free if shared else 10.0**free
    place = (values - least) / (most - least)
    steps = np.arange(len(values) + 1) / len(values)
    uneven = max((steps[1:] - place).max(), (place - steps[:-1]).max()) * len(values) ** 0.5
    rows = np.bincount((values % 10).astype("int64"), minlength=10)
    expected = len(values) / 10
    return bool(uneven < MAX_UNEVEN and ((rows - expected) ** 2 / expected).sum() < MAX_UNEVEN_LAST)
