"""Numbers written in words, such as "$40,859", "(2,000.10)", "1.081,32", "14.5 °C" or "1.2k": one
way of writing for a whole column, by which its cells are read and written back.

A way of writing is learned from the distinct words of a column. Among the ways that read every
word, the one that gives most words back as they were is taken.
"""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

__all__ = [
    "EMPTY_WORDS",
    "MAX_ODD_WORDS",
    "NAMED_PARSES",
    "Written",
    "is_empty_word",
    "is_limit",
    "learn_written",
    "obstacle",
    "settled_decimal",
    "usual_numbers",
]

# words that stand for a missing cell, in lower case
EMPTY_WORDS = {"", "?", "-", "--", "–", "—", ".", "na", "n/a", "#n/a", "n.a.", "nan", "null"}
EMPTY_WORDS |= {"none", "nil", "unknown", "unk", "missing", "not available"}
# what a sheet shows where it can't work out a cell
EMPTY_WORDS |= {"#div/0!", "#ref!", "#value!", "#name?", "#num!", "#null!", "#error!", "#####"}

# what a user may say of a column whose numbers can't be told from its words alone
NAMED_PARSES = ("money", "percent", "number", "decimal comma", "decimal point", "time", "words")

_CURRENCIES = set("$€£¥₹₩₽₺₫₴₦₱฿₪¢ƒ")
_CURRENCY_WORDS = {"usd", "eur", "gbp", "jpy", "chf", "cad", "aud", "inr", "cny", "rmb", "sek"}
_CURRENCY_WORDS |= {"nok", "dkk", "kr", "kr.", "fr", "fr.", "rs", "rs.", "r$", "us$", "c$", "a$"}
_CURRENCY_WORDS |= {"zł", "pln", "czk", "kč", "ft", "huf", "brl", "mxn", "zar", "tl", "try", "руб"}
_SPACES = " \u00a0\u202f\u2009"
_GROUPS = (",", ".", "'", "’", "_", *_SPACES)
LAKHS = "lakhs"  # commas behind thousands, and behind each two digits before them: 1,23,456
_MINUS = "-\u2212"
_TIMES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}
_MAX_DIGITS = 15  # of a whole number that a float keeps apart from its neighbours
_MAX_PLACES = 20  # of decimals; those beyond a float's precision are rounded, as in any file
_MAX_UNIT_CHARACTERS = 15
MIN_NUMBERS_SHARE = 0.9  # of the distinct words, above which a column was meant as numbers
MIN_HINDERED_SHARE = 0.5  # the same, of a column whose other words are named
MIN_LOOKED_AT_WORDS = 200  # of many, which tell at once that a column holds other words
MIN_SHOWN_NUMBERS = 10  # of these
MAX_ODD_WORDS = 3  # distinct words among numbers, that may mean "missing"
MAX_SHOWN_UNITS = 4  # of a column whose numbers have several
_GROUPED_BY_LAKHS = re.compile(r"\d{1,2}(,\d\d)*,\d{3}")  # of numbers from a thousand on
_GROUPED_BY_TWO = re.compile(r"\d{1,2}(,\d\d)+,\d{3}(\.\d+)?")  # from a lakh on
_CELL = re.compile(
    rf"(?P<open>\(?)(?P<before>[^\d(),.]*)"
    rf"(?P<core>[.,]?\d(?:[\d,.'’_{_SPACES}]*\d)?)(?P<after>[^()]*?)(?P<close>\)?)"
)
_LIMIT = re.compile(r"(?:[<>]=?|[≤≥]|&[lg]t;=?)\s*(?P<number>.+)")
_SIGNS = r"%‰°º′″µμΩ$€£¥₹₩₽₺₫₴₦₱฿₪¢ƒA-Za-zÀ-ɏа-яА-Я"
# what follows the digits: "-A-7" and ".7" make a key or a range of it, "/h" is a unit
_UNIT = re.compile(rf"[{_SIGNS}][{_SIGNS}²³./·*^-]*\d?|/[{_SIGNS}]+[²³]?")


class _Parts(NamedTuple):
    """A word taken apart."""

    before: str  # what stands before the digits, without the sign
    core: str  # digits and marks
    times: str  # k, M, ...
    after: str
    sign: str  # "-", "+" or ""
    place: str  # where the sign stands: "first", "inner", "last", "brackets" or ""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """How the numbers of a column are written.

    ``decimal`` and ``group`` are marks; where ``group`` is "lakhs", commas stand as in 1,23,456.
    ``prefix`` and ``suffix`` stand around the number, spaces
    included; ``places`` are decimals, of every number ("fixed"), of those that are not whole
    ("whole or fixed"), or at most ("shortest"). ``negative`` says where a minus stands: "first"
    (-$5), "inner" ($-5), "last" (5-) or "brackets". ``times`` are the magnitudes in use, such as
    "k"."""

    form: ClassVar[str] = "number"

    decimal: str = "."
    group: str = ""
    prefix: str = ""
    suffix: str = ""
    places: int = 0
    decimals: str = "shortest"
    negative: str = "first"
    minus: str = "-"
    plus: bool = False
    zero: bool = True  # whether a number below one begins with 0
    times: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        choices = {
            "decimal": (self.decimal, (".", ",")),
            "decimals": (self.decimals, ("fixed", "shortest", "whole or fixed")),
            "negative": (self.negative, ("first", "inner", "last", "brackets")),
            "group": (self.group, ("", *_GROUPS, LAKHS)),
            "places": (self.places, range(_MAX_PLACES + 1)),
        }
        choices |= {f"times[{i}]": (times, tuple(_TIMES)) for i, times in enumerate(self.times)}
        for name, (value, known) in choices.items():
            if value not in known:
                raise ValueError(
                    f"{name}={value!r} is no way to write numbers; choose from "
                    f"{', '.join(map(repr, known))}."
                )
        if not self.times or self.group == self.decimal:
            raise ValueError(
                "Numbers in words need one entry in times at least, and two marks that differ; got "
                f"times={self.times!r}, decimal={self.decimal!r}, group={self.group!r}."
            )

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Of what can be written: any number."""
        return None, None

    @property
    def unit(self) -> str:
        """Of the numbers, such as a currency."""
        return self.prefix.strip() or self.suffix.strip()

    def read(self, cell: Any) -> float | None:
        """The number in a cell; None where it holds none that is written in this way. A number
        stays what it is."""
        if not isinstance(cell, str):
            return _plain(cell)
        parts = _parts(cell)
        if parts is None or not {parts.before.strip(), parts.after.strip()} <= {
            "",
            self.prefix.strip(),
            self.suffix.strip(),
        }:
            return None
        if self._looks_grouped(parts.core):
            return None
        return _value(parts, self.decimal, self.group or _other_group(self.decimal))

    def _looks_grouped(self, core: str) -> bool:
        """Whether a number in a column of whole numbers has three decimals, such as 50,000 among
        20.000 and 45.000: its mark may be meant to group thousands."""
        whole, mark, rest = core.partition(self.decimal)
        plain = whole.isdigit() and 0 < len(whole) <= 3 and whole[0] != "0"
        return not self.places and bool(mark) and plain and len(rest) == 3 and rest.isdigit()

    def write(self, value: float) -> str:
        """The number as the column writes it."""
        exact = Decimal(repr(float(value)))
        times = self._magnitude(abs(exact))
        number = self._digits(abs(exact) / _TIMES[times]) + times
        below = exact < 0
        if below and self.negative == "brackets":
            return f"({self.prefix}{number}{self.suffix})"
        sign = self.minus if below else "+" if self.plus and exact > 0 else ""
        if below and self.negative == "last":
            return f"{self.prefix}{number}{self.suffix}{sign}"
        if self.negative == "inner":
            return f"{self.prefix}{sign}{number}{self.suffix}"
        return f"{sign}{self.prefix}{number}{self.suffix}"

    def _magnitude(self, size: Decimal) -> str:
        ordered = sorted(self.times, key=_TIMES.__getitem__)
        fitting = [times for times in ordered if size >= _TIMES[times]]
        return fitting[-1] if fitting else ordered[0]

    def _digits(self, size: Decimal) -> str:
        text = f"{size:.{self.places}f}"
        whole, _, rest = text.partition(".")
        if self.decimals == "shortest" or (
            self.decimals == "whole or fixed" and not rest.strip("0")
        ):
            rest = rest.rstrip("0")
        if self.group == LAKHS:
            whole = _by_lakhs(whole)
        elif self.group:
            whole = f"{int(whole):,}".replace(",", self.group)
        if not self.zero and whole == "0" and rest:
            whole = ""
        return whole + (self.decimal + rest if rest else "")

    def describe(self) -> str:
        """What is told of it."""
        marks = {",": "a decimal comma", ".": "a decimal point"}[self.decimal]
        parts = [f"in {self.unit}"] if self.unit else []
        parts += [marks] if self.places else []
        parts += ["digits grouped as in 1,23,456"] if self.group == LAKHS else []
        parts += [f"{self.group!r} between thousands"] if self.group not in ("", LAKHS) else []
        parts += ["brackets for negative ones"] if self.negative == "brackets" else []
        parts += ["a minus behind negative ones"] if self.negative == "last" else []
        more = [f"{times} = {_TIMES[times]:,}" for times in self.times if times]
        return ", ".join(parts + more) or "plain"


def _plain(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def is_empty_word(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip().lower() in EMPTY_WORDS


def is_limit(cell: Any) -> bool:
    """Whether a cell tells where a number lies, and not which it is: <0.1, > 100, ≤ 5 mg."""
    found = _LIMIT.fullmatch(cell.strip()) if isinstance(cell, str) else None
    return found is not None and _parts(found["number"]) is not None


# ------------------------------------------------------------------------------------- taking apart


def _parts(word: str) -> _Parts | None:
    """A word as sign, unit, digits; None where it has no single number."""
    found = _CELL.fullmatch(word.strip())
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    before, sign, place = _without_sign(found["before"])
    times, after = _without_times(found["after"])
    if after[-1:] and after[-1] in _MINUS and not sign:
        sign = after[-1]
        after = after[:-1]
        place = "last"
    if found["open"]:
        if sign:
            return None
        sign = "-"
        place = "brackets"
    if not (_is_currency(before) and _is_unit(after)):
        return None
    return _Parts(before, found["core"], times, after, sign, place)


def _without_sign(before: str) -> tuple[str, str, str]:
    """What stands before the digits: without its sign, the sign, and where it stood."""
    bare = before.strip()
    if not bare or not any(sign in bare for sign in (*_MINUS, "+")):
        return before, "", ""
    if bare[0] in (*_MINUS, "+"):
        return (
            before.lstrip()[1:],
            bare[0],
            "inner" if len(bare) == 1 and before != bare else "first",
        )
    if bare[-1] in (*_MINUS, "+"):
        return before.rstrip()[:-1], bare[-1], "inner"
    return before, "", ""


def _without_times(after: str) -> tuple[str, str]:
    for times in ("bn", "k", "K", "M", "B"):
        rest = after.removeprefix(times)
        if rest != after and not rest[:1].isalpha():
            return times, rest
    return "", after


def _is_currency(text: str) -> bool:
    bare = text.strip().lower()
    return not bare or set(bare) <= _CURRENCIES or bare in _CURRENCY_WORDS


def _is_unit(text: str) -> bool:
    pieces = text.split()
    return len(text) <= _MAX_UNIT_CHARACTERS and all(map(_UNIT.fullmatch, pieces))


def _value(parts: _Parts, decimal: str, group: str) -> float | None:
    """The number of the parts, with these marks."""
    core = _bare(parts.core, decimal, group)
    if core is None:
        return None
    value = float(Decimal(core) * _TIMES[parts.times])
    return -value if parts.sign in _MINUS and parts.sign else value


def _bare(core: str, decimal: str, group: str) -> str | None:
    """Digits and a point; None where the marks stand in other places, and for codes such as
    00501."""
    whole, mark, rest = core.partition(decimal)
    if mark and not (rest.isascii() and rest.isdigit()):
        return None
    if group == LAKHS and _GROUPED_BY_LAKHS.fullmatch(whole):
        whole = whole.replace(",", "")
    elif not whole.isdigit():
        group = _SPACES if group and group in _SPACES else group
        marks = "" if group == LAKHS else group
        pieces = re.split(f"[{re.escape(marks)}]", whole) if marks else [whole]
        first, *others = pieces
        if whole and not (
            first.isdigit() and len(first) <= 3 and all(len(p) == 3 and p.isdigit() for p in others)
        ):
            return None
        whole = "".join(pieces)
    if len(whole) > 1 and whole[0] == "0":
        return None
    if len(whole) > _MAX_DIGITS or len(rest) > _MAX_PLACES:
        return None
    return f"{whole or '0'}.{rest or '0'}"


def _by_lakhs(whole: str) -> str:
    """Digits in groups of two, but for the last three.

    >>> _by_lakhs("123"), _by_lakhs("1234"), _by_lakhs("123456"), _by_lakhs("12345678")
    ('123', '1,234', '1,23,456', '1,23,45,678')
    """
    head = whole[:-3]
    pieces = [head[max(0, end - 2) : end] for end in range(len(head), 0, -2)][::-1]
    return ",".join([*pieces, whole[-3:]])


def _other_group(decimal: str) -> str:
    """Marks between thousands that a reader takes, where the column has shown none."""
    return "".join(group for group in _GROUPS if group != decimal)


# ----------------------------------------------------------------------------------------- learning


class Learned(NamedTuple):
    """A way of writing, and what was assumed about it, in sentences without their subject."""

    written: Written
    assumed: tuple[str, ...]


def learn_written(words: Sequence[str], parse: str = "", usual: str = "") -> Learned | None:
    """The one way in which every word is a number; None where there is none.

    ``parse``: what the user said, one of ``NAMED_PARSES``; where it is said, a unit may be left out
    in some words. ``usual``: the decimal mark of the table's other columns, which decides between
    several ways; "" where it has none, or both."""
    parts = _all_parts(words)
    if not parts:
        return None
    befores = Counter(part.before.strip() for part in parts)
    afters = Counter(part.after.strip() for part in parts)
    lenient = bool(parse)
    if not all(_is_one(units, lenient) for units in (befores, afters)):
        return None
    marks = [pair for pair in _marks(parse) if _reads(parts, *pair)]
    if not marks:
        return None
    decimal, group = _chosen(parts, marks, usual)
    written = _best(words, parts, decimal, group)
    assumed = _ambiguous(parts, marks, decimal, group, usual) if "decimal" not in parse else []
    other = [word for word in words if written.write(written.read(word) or 0.0) != word]
    if other:
        again = written.write(written.read(other[0]) or 0.0)
        assumed.append(
            f"is not written in one way throughout: {other[0]!r} will be written as {again!r}"
        )
    return Learned(written, tuple(assumed))


def obstacle(words: Sequence[str], name: Any) -> str:
    """Why the words of a column that are nearly all numbers are no column of numbers: a cell that
    is none, several units, or other groups of digits; "" where they are no numbers."""
    numbers = [word for word in words if not is_empty_word(word)]
    parts = {word: _parts(word) for word in numbers}
    odd = [word for word, part in parts.items() if part is None]
    plain = [word for word, part in parts.items() if part is not None]
    if len(plain) < max(MIN_SHOWN_NUMBERS, MIN_HINDERED_SHARE * len(numbers)):
        return ""
    units: dict[tuple[str, str], str] = {}
    for word, part in parts.items():
        if part is not None:
            units.setdefault((part.before.strip(), part.after.strip()), word)
    if len(units) > MAX_SHOWN_UNITS:
        return ""
    if odd:
        why = f"its numbers ({plain[0]!r}) stand beside {odd[0]!r}, which is none"
        if len(odd) > MAX_ODD_WORDS or any(map(str.isdigit, "".join(odd))):
            return why
        means = "if it means" if len(odd) == 1 else f"if {', '.join(map(repr, odd))} mean"
        return f"{why}; {means} missing, say missing={{{name!r}: {odd}}}"
    if len(units) > 1:
        shown = ", ".join(map(repr, units.values()))
        return f"its numbers have several units ({shown}); write all of them in one"
    grouped = [
        word for word, part in parts.items() if part and _GROUPED_BY_TWO.fullmatch(part.core)
    ]
    return (
        f"its numbers are grouped in several ways ({grouped[0]!r}); write them without commas"
        if grouped
        else ""
    )


def usual_numbers(words: Sequence[str], said: bool = False) -> set[str]:
    """The words that are numbers with the sign, currency or unit that most numbers have; nothing
    where few words are numbers, unless it was ``said`` that they are."""
    some = words[:: max(1, len(words) // MIN_LOOKED_AT_WORDS)]
    found = sum(_parts(word) is not None for word in some)
    if not said and found < MIN_NUMBERS_SHARE * len(some):
        return set()
    parts = {word: _parts(word) for word in words}
    units = {
        word: (each.before.strip(), each.after.strip()) for word, each in parts.items() if each
    }
    counts = Counter(units.values())
    usual = max(counts, key=lambda unit: counts[unit], default=None)
    return {word for word, unit in units.items() if unit == usual}


def _all_parts(words: Sequence[str]) -> list[_Parts]:
    """Every word taken apart; nothing if one can't be."""
    parts = []
    for word in words:
        found = _parts(word)
        if found is None:
            return []
        parts.append(found)
    return parts


def _is_one(units: Counter[str], lenient: bool) -> bool:
    return len(units) == 1 or (lenient and len(units) == 2 and "" in units)


def _marks(parse: str) -> list[tuple[str, str]]:
    """Pairs of decimal and group marks, the likelier first."""
    decimals = {"decimal comma": ",", "decimal point": "."}.get(parse, ".,")
    pairs = [
        (decimal, group) for group in ("", *_GROUPS) for decimal in decimals if decimal != group
    ]
    return [*pairs, (".", LAKHS)] if "." in decimals else pairs


def _reads(parts: Sequence[_Parts], decimal: str, group: str) -> bool:
    return all(_bare(part.core, decimal, group) is not None for part in parts)


def settled_decimal(words: Sequence[str]) -> str:
    """The decimal mark that these words show: the only one that reads all of them, where another
    would give other numbers, or none; "" where they show none."""
    parts = _all_parts([word for word in words if not is_empty_word(word)])
    marks = [pair for pair in _marks("") if _reads(parts, *pair)]
    found = {decimal for decimal, _ in marks}
    return found.pop() if parts and len(found) == 1 else ""


def _chosen(
    parts: Sequence[_Parts], marks: Sequence[tuple[str, str]], usual: str
) -> tuple[str, str]:
    """The likeliest pair: of money, which has no three decimals, the one with thousands; else the
    table's usual decimal mark, where one is. Else a comma before exactly three digits groups
    thousands wherever that reads every word, and a point is a decimal mark wherever it can be."""
    grouped = (".", ",") in marks and any("," in part.core for part in parts)
    money = any(map(_has_currency, parts))
    if money and (grouped or (",", ".") in marks):
        return (".", ",") if grouped else (",", ".")
    fitting = [pair for pair in marks if pair[0] == usual]
    if fitting:
        return fitting[0]
    return (".", ",") if grouped else marks[0]


def _has_currency(part: _Parts) -> bool:
    return any(text.strip() and _is_currency(text) for text in (part.before, part.after))


def _ambiguous(
    parts: Sequence[_Parts],
    marks: Sequence[tuple[str, str]],
    decimal: str,
    group: str,
    usual: str,
) -> list[str]:
    """What else the marks could mean, where that gives other numbers."""
    if (decimal, group) == (".", ",") and usual != "," and any(map(_has_currency, parts)):
        return []
    own = [_value(part, decimal, group) for part in parts]
    for other, between in marks:
        if other != decimal and [_value(part, other, between) for part in parts] != own:
            return [_assumed(decimal, group, other, usual)]
    return []


def _assumed(decimal: str, group: str, other: str, usual: str) -> str:
    names = {",": "comma", ".": "point"}
    why = f", as other columns have a decimal {names[usual]}" if usual == decimal else ""
    if group == other:
        return (
            f"has a {names[other]} that is taken to group thousands{why}; if it is the decimal "
            f"mark, say 'parse': 'decimal {names[other]}'"
        )
    return (
        f"has a {names[decimal]} that is taken as the decimal mark{why}; if it groups thousands, "
        f"say 'parse': 'decimal {names[other]}'"
    )


def _best(words: Sequence[str], parts: Sequence[_Parts], decimal: str, group: str) -> Written:
    """Among the ways with these marks, the one that gives most words back as they were."""
    some = words[:: max(1, len(words) // 500)]
    own = parts[:: max(1, len(words) // 500)]
    return max(
        _ways(parts, decimal, group),
        key=lambda way: sum(
            way.write(_value(part, decimal, group) or 0.0) == word
            for word, part in zip(some, own, strict=True)
        ),
    )


def _ways(parts: Sequence[_Parts], decimal: str, group: str) -> Iterator[Written]:
    rests = [part.core.partition(decimal)[2] for part in parts]
    signs = Counter((part.place, part.sign) for part in parts if part.sign and part.sign != "+")
    place, minus = signs.most_common(1)[0][0] if signs else ("first", "-")
    used = _used(parts, group)
    common: dict[str, Any] = {
        "decimal": decimal,
        "prefix": _usual(part.before for part in parts),
        "suffix": _usual(part.after for part in parts),
        "places": max(map(len, rests)),
        "minus": minus,
        "plus": any(part.sign == "+" for part in parts),
        "zero": not any(part.core.startswith(decimal) for part in parts),
        "times": tuple(sorted({part.times for part in parts}, key=_TIMES.__getitem__)),
    }
    places = list(dict.fromkeys([place, "first", "inner"]))
    for decimals, between, where in itertools.product(
        ("fixed", "shortest", "whole or fixed"), dict.fromkeys([used, ""]), places
    ):
        yield Written(**common, group=between, decimals=decimals, negative=where)


def _used(parts: Sequence[_Parts], group: str) -> str:
    """The mark between thousands as it is written; spaces are of several widths."""
    if group == LAKHS:
        return group
    same = _SPACES if group in _SPACES else group
    found = Counter(mark for part in parts for mark in part.core if mark in same)
    return found.most_common(1)[0][0] if found else ""


def _usual(texts: Iterator[str]) -> str:
    """The most common of them; the emptiest is the last choice."""
    counts = Counter(texts)
    return max(counts, key=lambda text: (bool(text.strip()), counts[text]))
