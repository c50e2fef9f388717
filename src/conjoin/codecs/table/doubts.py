"""What looks wrong in a column, one sentence each. Nothing here changes the data: the user
decides.
"""

import html
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.answers import Answers, folded, has_unseen, mixed_answers
from conjoin.codecs.table.codes import is_place_name, since_1970
from conjoin.codecs.table.guess import mixed_dates, style_of_dates, style_words
from conjoin.codecs.table.kept_text import is_long, is_padded
from conjoin.codecs.table.measure import sentinel_days
from conjoin.codecs.table.moments import day_text
from conjoin.codecs.table.totals import far_values, is_sum
from conjoin.codecs.table.values import Tally, days, quoted, text_of, zones_of
from conjoin.codecs.table.versions import versions_in
from conjoin.codecs.table.written import is_empty_word, is_limit, obstacle

__all__ = [
    "code_doubts",
    "codes_in",
    "date_doubts",
    "far_labels",
    "label_doubts",
    "number_doubts",
    "sentinel_doubts",
    "shown_merges",
    "spelling_doubts",
    "word_doubts",
    "zone_doubts",
    "zone_notices",
]

# of one digit, with decimals or without: -999, 99.9, -77.7, 8888
_REPEATED_DIGIT = re.compile(r"-?(9{2,}|7{2,}|8{2,})")
# other usual codes; the least and greatest integers of 16 and 32 bits; fill values of grid files
_SENTINELS = (-1, -9, -998, -997, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 1e20, 1e30)
MAX_CODES = 10  # at either end of a column's values
MIN_CODE = 9  # in size: smaller codes, such as -1, are values among others
OWN = " Until then it has a probability of its own."
UNTAUGHT = " No row that the columns are learned from has it; until then it counts as never seen."
MAX_WORDS_OF_NUMBERS = 3  # distinct words among numbers, that may mean "missing"
MIN_AMOUNTS = 11  # distinct numbers beside them, from which on they are amounts
MAX_TOLD = 3  # groups of spellings of a column
_MIN_DAYS = 10  # distinct whole numbers that are all dates
_DATES_AS_NUMBERS = (("%Y%m%d", 1900_01_01, 2100_12_31), ("%Y%m", 1900_01, 2100_12))
_UNITS_OF_CLOCKS: dict[str, Any] = {"seconds": "s", "milliseconds": "ms", "microseconds": "us"}
_MIN_TIMES = 30  # distinct whole numbers that are all times, which by chance is next to impossible
_MIN_MONTHS = 3  # in which they lie
_MIN_LETTERS = 5  # of a word that a slip may have changed
_MIN_ROWS_OF_USUAL = 20  # of the usual spelling
_MAX_SHARE_OF_SLIPS = 0.05  # of the rows of the usual spelling
_MAX_COMPARED_WORDS = 500
_MONEY = re.compile(r"\s*[$€£¥]?\s*[-+]?\s*[$€£¥]?\s*\d[\d,.' ]*\s*[%$€£¥]?\s*")
_CURRENCY = re.compile(r"[%$€£¥]")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")  # of a computer: 192.168.0.1
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def number_doubts(name: Any, tally: Tally, rows: float, whole: bool) -> list[str]:
    """Sentinels, zeros that may mean missing, and codes that look like amounts."""
    doubts = code_doubts(name, tally)
    doubts += _days_in_numbers(name, tally) + _clock_in_numbers(name, tally) if whole else []
    doubts += _times_in_numbers(name, tally) if whole else []
    doubts += _zeros(name, tally, rows)
    if whole and 2 < len(tally.values) <= 10 and rows >= 50:
        doubts.append(
            f"Column {name!r} has only {len(tally.values)} distinct whole numbers; if they are "
            "codes and not amounts, "
            f"say types={{{name!r}: 'category'}}."
        )
    return doubts


def code_doubts(name: Any, tally: Tally, then: Mapping[float, str] | None = None) -> list[str]:
    """Numbers that may mean missing, such as -999, and those hundreds of times beyond the others.
    ``then``: what holds of each until it is said to be missing."""
    far = far_values(tally)
    told = [_far(name, tally, i, far) for i in far if not _is_told(tally, i)]
    return [*_sentinels(name, tally, {} if then is None else then), *told]


def codes_in(tally: Tally) -> tuple[float, ...]:
    """The numbers that may mean missing, such as -999."""
    places = np.flatnonzero(_look_like_codes(tally.values)).tolist()
    return tuple(float(tally.values[i]) for i in places if _sentinel("", tally, i))


def far_labels(name: Any, tally: Tally) -> list[str]:
    """The numbers of a target that are far from the others, and may mean missing."""
    return _of_target(_sentinels(name, tally, {}))


def _of_target(doubts: Sequence[str]) -> list[str]:
    return [each.replace("Column", "Target", 1) for each in doubts]


def _sentinels(name: Any, tally: Tally, then: Mapping[float, str]) -> list[str]:
    places = np.flatnonzero(_look_like_codes(tally.values))
    return [
        words + then.get(float(tally.values[i]), "")
        for i in places
        if (words := _sentinel(name, tally, int(i)))
    ]


def _look_like_codes(values: Any) -> Any:
    """(N,) bool of ascending numbers: those that files write where there is none. Of numbers with
    one digit only the ends are looked at, as no other can be far."""
    known = np.isin(values, _SENTINELS)
    for i in {*range(len(values))[:MAX_CODES], *range(len(values))[-MAX_CODES:]}:
        known[i] |= _REPEATED_DIGIT.fullmatch(_digits(values[i])) is not None
    return known


def _digits(value: float) -> str:
    """As a file would show it, without the point; of numbers in float32 seven digits."""
    return (text_of(value) if value == int(value) else f"{value:.7g}").replace(".", "")


def _sentinel(name: Any, tally: Tally, i: int) -> str:
    value = tally.values[i]
    rest = np.delete(tally.values, i)
    rest = rest[~_look_like_codes(rest) | (np.abs(rest) < MIN_CODE)]
    if len(rest) < 2:
        return ""
    low = rest.min()
    high = rest.max()
    gap = max(low - value, value - high)
    apart = gap > 0.5 * (high - low) or (value < -1 and low >= 0)
    if gap <= 0 or not apart or (value == -1 and low < 0.5):
        return ""
    word = text_of(value)
    return (
        f"Column {name!r} is {word} in {_rows(tally.counts[i])}, far from the other values "
        f"({low:g} to {high:g}); "
        f"if it means missing, say missing={{{name!r}: [{word}]}}."
    )


def _is_told(tally: Tally, i: int) -> bool:
    """Whether a number is told of as one that may mean missing."""
    return bool(_look_like_codes(tally.values[[i]])[0]) and bool(_sentinel("", tally, i))


def _far(name: Any, tally: Tally, i: int, far: Sequence[int]) -> str:
    value = text_of(tally.values[i])
    rest = np.delete(tally.values, far)
    start = (
        f"Column {name!r} is {value} in {_rows(tally.counts[i])}, hundreds of times beyond the "
        f"other values ({rest[0]:g} to {rest[-1]:g})"
    )
    if is_sum(tally, i):
        return f"{start}, and it is their sum: that looks like a line of totals. If so, remove it."
    return (
        f"{start}. If it is a mistake or a line of totals, remove that row, or say "
        f"missing={{{name!r}: [{value}]}}."
    )


def _days_in_numbers(name: Any, tally: Tally) -> list[str]:
    """Whole numbers such as 20240115 or 202401, all of which are dates."""
    values = tally.values
    if len(values) < _MIN_DAYS:
        return []
    for form, low, high in _DATES_AS_NUMBERS:
        if not low <= values[0] <= values[-1] <= high:
            continue
        words: Any = pd.Series([text_of(value) for value in values.tolist()])
        dates = pd.to_datetime(words, format=form, errors="coerce")
        if not dates.isna().any() and dates.dt.to_period("M").nunique() >= _MIN_MONTHS:
            return [
                f"Column {name!r} looks like dates ({words[0]}) but is taken as numbers, of which "
                f"most are no date; {style_words(name, form)}."
            ]
    return []


def _clock_in_numbers(name: Any, tally: Tally) -> list[str]:
    """Whole numbers such as 1745, all of which are times of the day."""
    values = tally.values
    if len(values) < _MIN_TIMES or not 0 <= values[0] <= values[-1] < 2400:
        return []
    if values[-1] < 1000 or (values % 100 >= 60).any():
        return []
    return [
        f"Column {name!r} looks like times of the day ({text_of(values[-1])}) but is taken as "
        "numbers, of which many are none; if they are, write them as 17:45."
    ]


def _times_in_numbers(name: Any, tally: Tally) -> list[str]:
    """Whole numbers such as 1700000000, which may be times since 1970."""
    unit = since_1970(tally.values)
    if not unit or str(int(tally.values[0]))[:2] != str(int(tally.values[-1]))[:2]:
        return []
    first = text_of(tally.values[0])
    when = pd.Timestamp(int(tally.values[0]), unit=_UNITS_OF_CLOCKS[unit])
    return [
        f"Column {name!r} may be {unit} since 1970 ({first} is {when:%Y-%m-%d %H:%M}) but is taken "
        "as numbers; if it is, write dates such as 2024-03-31 12:00:00."
    ]


def _zeros(name: Any, tally: Tally, rows: float) -> list[str]:
    """A lump at 0, well below the smallest positive value as spacings go, in a column that is
    otherwise dense."""
    values = tally.values
    counts = tally.counts
    if (
        len(values) < 12
        or values[0] != 0
        or rows < 30
        or not 2 <= counts[0] <= 0.6 * tally.observed
    ):
        return []
    spacing = float(np.median(np.diff(values[1:])))
    gap = values[1] / spacing
    if gap < 5 or (gap < 20 and counts[0] <= 2 * np.median(counts[1:])):
        return []
    return [
        f"Column {name!r} is 0 in {counts[0]:g} rows, and its next value is {values[1]:g}; "
        f"if 0 means missing, say missing={{{name!r}: [0]}}."
    ]


def date_doubts(name: Any, form: str, tally: Tally) -> list[str]:
    """That the day and the month could change places, where a file writes them with slashes or
    dashes and neither is ever beyond 12."""
    other = {"%d/%m/%Y": "%m/%d/%Y", "%m/%d/%Y": "%d/%m/%Y", "%d-%m-%Y": "%m-%d-%Y"}.get(form)
    if other is None or not len(tally.values):
        return []
    if (pd.to_datetime(tally.values, unit="D").day > 12).any():
        return []
    first = "day" if form.startswith("%d") else "month"
    return [
        f"Column {name!r}: the day and the month could change places in every date; the {first} is "
        f"taken to come first. If it does not, say types={{{name!r}: {{'type': 'date', 'format': "
        f"{other!r}}}}}."
    ]


def sentinel_doubts(
    name: Any, series: Any, form: str, tally: Tally, then: Mapping[float, str] | None = None
) -> list[str]:
    """Dates such as 9999-12-31, which likely mean "none". ``then``: what holds of each, in days,
    until it is said to be missing; by default it has a probability of its own."""
    found = sentinel_days(tally)
    if not found:
        return []
    cells, known = days(series, form)
    rest = tally.values[~np.isin(tally.values, found)]
    others = f"{day_text(rest[0])} to {day_text(rest[-1])}"
    return [
        _sentinel_date(name, text_of(series.iloc[place]), rows, others)
        + (OWN if then is None else then[value])
        for value, rows in zip(tally.values.tolist(), tally.counts.tolist(), strict=True)
        if value in found
        for place in [int((known & (cells == value)).argmax())]
    ]


def _sentinel_date(name: Any, cell: str, rows: float, others: str) -> str:
    return (
        f"Column {name!r} is {cell} in {_rows(rows)}, far from the other dates ({others}); if it "
        f"means missing, say missing={{{name!r}: [{cell!r}]}}."
    )


def _rows(count: float) -> str:
    return "1 row" if count == 1 else f"{count:,g} rows"


def zone_doubts(name: Any, series: Any) -> list[str]:
    """That some times of a column have a time zone, and others none."""
    if zones_of(series) != (True, True):
        return []
    return [
        f"Column {name!r} has times with a time zone and times without one; those without are "
        "taken for UTC."
    ]


def zone_notices(zones: Mapping[Any, tuple[bool, bool]]) -> list[str]:
    """That columns have no time zone where others have. ``zones``: what ``zones_of`` says of each
    column of dates."""
    zoned = next((name for name, (has, _) in zones.items() if has), None)
    if zoned is None:
        return []
    return [
        f"Column {name!r} has no time zone, and {zoned!r} has one; its times are taken for UTC."
        for name, (has, without) in zones.items()
        if without and not has
    ]


def word_doubts(name: Any, tally: Tally) -> list[str]:
    """Words that may mean missing, spellings that differ in case or spaces, numbers among words,
    money and percentages."""
    empty = {value for value in tally.values if is_empty_word(value)}
    return [*spelling_doubts(name, tally), *_kinds(name, tally, empty)]


def spelling_doubts(name: Any, tally: Tally) -> list[str]:
    """Words that may mean missing, and spellings that look like one value."""
    empty = [value for value in tally.values.tolist() if is_empty_word(value)]
    return [*_empty_words(name, empty), *_spellings(name, _filled(tally))]


def label_doubts(name: Any, tally: Tally) -> list[str]:
    """As ``word_doubts``, of the classes of a target."""
    return _of_target(spelling_doubts(name, tally))


def _filled(tally: Tally) -> Tally:
    """The values that are no words for a missing cell."""
    filled = np.array([not is_empty_word(value) for value in tally.values], dtype=bool)
    return Tally(tally.values[filled], tally.counts[filled], tally.missing)


def _empty_words(name: Any, empty: list[str]) -> list[str]:
    if not empty:
        return []
    return [
        f"Column {name!r} has the word {_some(empty)}; if it means missing, say "
        f"missing={{{name!r}: {empty}}}."
    ]


def _spellings(name: Any, tally: Tally) -> list[str]:
    """Words that look like one value, with what would merge them."""
    answers = mixed_answers(tally)
    told = [] if answers is None else answers.spellings
    doubts = [] if answers is None else [_two_answers(name, answers)]
    counts = {
        word: float(count)
        for word, count in zip(tally.values.tolist(), tally.counts.tolist(), strict=True)
        if isinstance(word, str) and word not in told
    }
    return doubts + _alike(name, counts)


def _two_answers(name: Any, answers: Answers) -> str:
    yes, no = (", ".join(map(quoted, side)) for side in answers)
    return (
        f"Column {name!r} spells two answers in {len(answers.spellings)} ways, {yes} and {no}; "
        f"they stay apart. To merge them, say types={{{name!r}: {{'merge': {answers.merge!r}}}}}."
    )


def _alike(name: Any, counts: Mapping[str, float]) -> list[str]:
    """Words that differ in case, in spaces or by a letter, with what would merge them."""
    groups = defaultdict(list)
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        groups[folded(word)].append(word)
    alike = [group for group in groups.values() if len(group) > 1]
    doubts = [
        f"Column {name!r} has spellings that differ only in {_difference(group)}: {_some(group)}; "
        f"they stay apart. To merge them, say {_merge(name, group)}."
        for group in alike[:MAX_TOLD]
    ]
    usual = {group[0]: sum(counts[word] for word in group) for group in groups.values()}
    return doubts + [
        f"Column {name!r} has {often!r} in {usual[often]:g} rows and {rare!r} in {usual[rare]:g}, "
        f"which differ by one letter. If they are one value, say {_merge(name, [often, rare])}."
        for often, rare in _one_letter_apart(usual)[:MAX_TOLD]
    ]


def _difference(group: Sequence[str]) -> str:
    """What words that look like one value differ in."""
    if any(map(has_unseen, group)):
        return "characters that can't be seen"
    if any(html.unescape(word) != word for word in group):
        return "how signs are written, as in web pages"
    composed = {unicodedata.normalize("NFKC", word) for word in group}
    return "case or spaces" if len(composed) == len(group) else "how their letters are stored"


def _merge(name: Any, group: Sequence[str]) -> str:
    usual, *others = group
    return f"types={{{name!r}: {{'merge': {dict.fromkeys(others, usual)!r}}}}}"


def _one_letter_apart(counts: Mapping[str, float]) -> list[tuple[str, str]]:
    """(a frequent word, a rare one that is likely a slip of it)."""
    if len(counts) > _MAX_COMPARED_WORDS:
        return []
    often = [word for word in counts if counts[word] >= _MIN_ROWS_OF_USUAL]
    return [
        (usual, word)
        for usual in often
        for word in counts
        if counts[word] <= _MAX_SHARE_OF_SLIPS * counts[usual] and _is_slip(usual, word)
    ]


def _is_slip(one: str, other: str) -> bool:
    """Whether all words are the same but one long one, by a letter more, less or changed, or two
    that changed places."""
    pairs = list(zip(folded(one).split(), folded(other).split(), strict=False))
    if len(one.split()) != len(other.split()):
        return False
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    if len(differ) != 1 or min(map(len, differ[0])) < _MIN_LETTERS:
        return False
    a, b = differ[0]
    if not (a.isalpha() and b.isalpha()):
        return False
    first = _shared(a, b)
    last = _shared(a[first:][::-1], b[first:][::-1])
    rest = [word[first : len(word) - last] for word in (a, b)]
    return max(map(len, rest)) == 1 or (len(rest[0]) == 2 and rest[0] == rest[1][::-1])


def _shared(a: str, b: str) -> int:
    """How many letters at the beginning are the same."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def shown_merges(pairs: Sequence[tuple[str, Any]]) -> str:
    """What is read as what, in words."""
    shown = ", ".join(f"{text!r} is read as {level!r}" for text, level in pairs[:MAX_TOLD])
    rest = len(pairs) - MAX_TOLD
    return shown + (f", and {rest:,} more spellings" if rest > 0 else "")


def _kinds(name: Any, tally: Tally, empty: set[str]) -> list[str]:
    cells = [text_of(value) for value in tally.values if value not in empty]
    plain = [cell for cell in cells if _NUMBER.fullmatch(cell)]
    other = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
    money = [cell for cell in other if _MONEY.fullmatch(cell) and not _ADDRESS.fullmatch(cell)]
    if cells and not other:
        words = [value for value in tally.values if isinstance(value, str) and value not in empty]
        return _numbers_as_words(name, words) if len(words) == len(cells) else []
    style = style_of_dates(other) if not plain else ""
    if style:
        return [
            f"Column {name!r} looks like dates ({_some(other)}) but is taken as words; "
            f"{style_words(name, style)}."
        ]
    hindered = obstacle(other, name) if len(other) == len(cells) else ""
    if hindered:
        return [f"Column {name!r} is taken as words: {hindered}."]
    if len(money) + len(plain) >= 0.95 * len(cells) and money:
        units: dict[str, str] = {}
        for cell in money:
            units.setdefault("".join(_CURRENCY.findall(cell)), cell)
        if len(units) > 1:
            return [
                f"Column {name!r} is taken as words: its numbers have several units "
                f"({_some(list(units.values()))}); write all of them in one."
            ]
        said = (
            f"Column {name!r} looks like amounts or percentages ({_some(money)}) but is taken "
            "as words; "
        )
        return [said + "write plain numbers to have it as a number."]
    dates = mixed_dates([cell for cell in cells if cell])
    if dates is not None:
        date, odd = map(quoted, dates)
        return [
            f"Column {name!r} mixes dates ({date}) with what is no date in the same format ({odd}),"
            " so all are taken as words; to have dates, write all of them in one way."
        ]
    if all(map(is_limit, other)):  # of a target, to which they are bounds
        return []
    if plain and len(plain) >= 0.5 * len(cells) and len(other) <= 20:
        few = len(other) <= MAX_WORDS_OF_NUMBERS and len(plain) >= MIN_AMOUNTS
        numbers = f" To have numbers, say missing={{{name!r}: {other}}}." if few else ""
        return [
            f"Column {name!r} mixes numbers ({_some(plain)}) with words ({_some(other)}), so all "
            f"are taken as words.{numbers}"
        ]
    return []


def _numbers_as_words(name: Any, words: list[str]) -> list[str]:
    """Why words that are all numbers stay words, and how to have numbers."""
    versions = versions_in(words)
    padded = [word for word in words if is_padded(word)]
    long = [word for word in words if is_long(word)]
    instead = f"to have numbers, say types={{{name!r}: 'real'}}"
    if padded:
        why = f"has numbers that start with 0 ({quoted(padded[0])}), which are kept as text"
    elif long:
        why = (
            f"has whole numbers of so many digits ({long[0]}) that a model of numbers cannot keep "
            "them apart, which are kept as text"
        )
    elif versions is not None:
        why = f"has {' beside '.join(versions)}, as versions are written, which are kept as text"
    else:
        why = "holds numbers written as words"
        instead = f"to read them as numbers, say types={{{name!r}: 'real'}}"
    if is_place_name(name):
        return [f"Column {name!r} {why}."] if padded else []
    return [f"Column {name!r} {why}; {instead}."]


def _some(items: Sequence[Any]) -> str:
    return ", ".join(quoted(item) for item in items[:3]) + (", ..." if len(items) > 3 else "")
