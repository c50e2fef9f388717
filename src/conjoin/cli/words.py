"""What a person types, as the library takes it; and the library's words, as they are typed in a
shell.
"""

import ast
import json
import re
import shlex
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from conjoin.util.near import did_you_mean

__all__ = [
    "given_of",
    "grouped",
    "in_shell",
    "labels_of",
    "max_error_of",
    "missing_of",
    "range_of",
    "schema_file",
    "some_names",
]

# the file of the schema that advice speaks of, what `check` writes or `--schema` names, "" where
# none is known; and whether it is there, or is written by the command that gives the advice
schema_file: ContextVar[tuple[str, bool]] = ContextVar("schema_file", default=("", False))

ELLIPSIS = "..."  # behind the beginning of a string

_MISSING = re.compile(r"say missing=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): \[(?P<values>.*?)\]\}")
_COLUMN = re.compile(r"Column ('[^']*'|\"[^\"]*\")")
_TYPES = re.compile(r"say types=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): (?P<type>'[a-z]+')\}")

_PARSE = re.compile(
    r"say types=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): \{'parse': '(?P<way>[a-z ]+)'\}\}"
)
_FIELDS = re.compile(r"say types=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): (?P<fields>\{[^{}]*\})\}")
_MERGE = re.compile(
    r"say types=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): \{'merge': (?P<pairs>\{.*?\})\}\}"
)
_RANGE = re.compile(r"range=\((?P<low>[^,()]+), (?P<high>[^,()]+)\)")
_RELATION = re.compile(r"say types=\{(?P<name>'[^']*'|\"[^\"]*\"|[^:]*): \{'relation': 'none'\}\}")
_SIZE = re.compile(r"size=(?P<pixels>\d+)")
_PICTURE = re.compile(r"types=\{[^{}]*: \{'type': 'picture', 'format': '(?P<size>\d+x\d+)'\}\}")
_BROKEN = re.compile(r"types=\{[^{}]*: \{'type': 'smiles', 'format': 'skip broken'\}\}")

# classes of Python, but not in code: what a fit makes of them
_JOINTS = re.compile(
    r"\b(?:an? )?(?P<name>JointClassifier or JointRegressor|Joint(?:Density|Classifier|Regressor))"
    r"(?!\w|\(|\.\w)"
)
_AS_FITTED = {
    "JointClassifier or JointRegressor": "a model with a --target",
    "JointClassifier": "a model whose --target has classes",
    "JointRegressor": "a model whose --target is a number",
    "JointDensity": "a model without --target",
}

_ROW = re.compile(
    r"(?P<place>(?:Column|Target) (?:'[^']*'|\"[^\"]*\"|\d+), row |the longest, row "
    r"|The target (?:'[^']*'|\"[^\"]*\") has .{1,200}? in row "
    r"|The times, row |no molecule: row "
    r"|\); row |cannot be read, the first in row )(?P<row>\d+)\b"
)

_OPTIONS = (
    ("force=True", "--force"),
    ("Limits(bytes=...)", "--max-bytes"),
    ("Limits(ratio=...)", "--max-ratio"),
    ("Limits(columns=...)", "--max-columns"),
    ("size=...", "--size"),
    ("max_bytes=...", "--max-bytes"),
    ("part=...", "--part"),
    ("chunk_rows=...", "--chunk-rows"),
    ("max_time=...", "--max-time"),
    ("start_from=...", "--start-from"),
    ("skip_broken=True", "--skip-broken"),
    ("read_molecules(..., broken='skip')", "--skip-broken"),
    ("resize='pad'", "--resize pad"),
    ("resize='stretch'", "--resize stretch"),
    ("types={'levels': 256}", "--levels 256"),
    ("X_held=...", "--holdout"),
    ("for classes use JointClassifier.", "for classes say --task classes."),
    ("JointRegressor takes them as numbers.", "--task number takes them as numbers."),
    (" range= ", " --range "),
    (
        "family=Multimodal(strings={'reading': 0.3})",
        "--family multimodal:strings.reading=0.3",
    ),
    ("predictor='reader'", "--predictor reader"),
    ("(rows are counted from 0)", "(rows are counted from 1)"),
    ("unlabelled=-1", "--unlabelled=-1"),
)


def in_shell(text: str) -> str:
    """Remedies in Python's words as options of the command line.

    >>> in_shell("if it means missing, say missing={'age': [-999]}.")
    "if it means missing, say --missing 'age=-999'."
    >>> in_shell("Give all one size, such as size=28.")
    'Give all one size, such as --size 28.'
    >>> in_shell("Say so: say types={'gross': {'relation': 'none'}}.")
    "Say so: take 'gross' out of the relations in schema.json and give --schema schema.json."

    Rows are counted from 1, as files of answers count them:

    >>> in_shell("Column 'age', row 4: 'many' is not a finite number.")
    "Column 'age', row 5: 'many' is not a finite number."

    Classes of Python are told by what a fit makes of them:

    >>> in_shell("Use JointClassifier or JointRegressor.")
    'Use a model with a --target.'
    """
    for python, option in _OPTIONS:
        text = text.replace(python, option)
    text = _ROW.sub(lambda found: f"{found['place']}{int(found['row']) + 1}", text)
    text = _JOINTS.sub(lambda found: _AS_FITTED[found["name"]], text)
    text = _SIZE.sub(r"--size \g<pixels>", text)
    text = _BROKEN.sub("--skip-broken", text)
    text = _RANGE.sub(r"--range \g<low>..\g<high>", text)
    text = _RELATION.sub(
        lambda found: f"take {found['name']} out of the relations {_in_schema()}", text
    )
    text = _PARSE.sub(
        lambda found: f'set "parse" of {found["name"]} to "{found["way"]}" {_in_schema()}', text
    )
    text = _MERGE.sub(_merge_option, text)
    text = _PICTURE.sub(r"--size \g<size>", text)
    text = _MISSING.sub(lambda match: "say " + _options(match["name"], match["values"]), text)
    text = _TYPES.sub(_type_option, text)
    return _FIELDS.sub(_fields_option, text)


def _type_option(found: re.Match[str]) -> str:
    usual = "in the schema that `conjoin check` writes, and give it with --schema"
    return f"set its type to {found['type']} {_in_schema() if schema_file.get()[0] else usual}"


def _fields_option(found: re.Match[str]) -> str:
    """Several fields of a column, of which a value may be left open as "..."."""
    fields = ast.literal_eval(found["fields"]).items()
    asked = " and ".join(
        f'"{key}"' + ("" if value is ... else f" to {json.dumps(value, ensure_ascii=False)}")
        for key, value in fields
    )
    return f"set {asked} of {found['name']} {_in_schema()}"


def _merge_option(found: re.Match[str]) -> str:
    pairs = ast.literal_eval(found["pairs"])
    # what can't be seen is shown by its number
    seen = "".join(map(str, [*pairs, *pairs.values()])).isprintable()
    words = json.dumps(pairs, ensure_ascii=not seen)
    return f'set "merge" of {found["name"]} to {words} {_in_schema()}'


def _in_schema() -> str:
    """Where to write what a column means, and how to give it."""
    path, is_there = schema_file.get()
    where = shlex.quote(path or "schema.json")
    made = "" if not path or is_there else ", which `conjoin check` writes,"
    return f"in {where}{made} and give --schema {where}"


def _options(name: str, values: str) -> str:
    plain = [value.strip().strip("'\"") for value in values.split(",")]
    return " ".join(f"--missing '{name.strip(chr(39) + chr(34))}={value}'" for value in plain)


def grouped(texts: Sequence[str]) -> list[str]:
    """Sentences that say the same of several columns are said once.

    >>> zeros = ["Column 'a' is 0 in 3 rows.", "Column 'b' is 0 in 5 rows."]
    >>> grouped([*zeros, "Column 'c' has one value."])
    ["Column 'a' is 0 in 3 rows. Likewise 'b'.", "Column 'c' has one value."]
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for text in texts:
        found = _COLUMN.match(text)
        name = found[1] if found else ""
        groups.setdefault(
            re.sub(r"-?[\d.]*\d", "#", text.replace(name, "*") if name else text), []
        ).append((name, text))
    return [
        first + (f" Likewise {', '.join(name for name, _ in rest)}." if rest else "")
        for (_, first), *rest in groups.values()
    ]


# ------------------------------------------------------------------------------------------- values


def _number(text: str) -> Any:
    """A number where it is one, else the word."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _named(text: str, names: Sequence[Any]) -> tuple[Any, str] | None:
    """(name, rest) of ``name=rest``; of several names that fit, the longest."""
    found = [name for name in names if text.startswith(f"{name}=")]
    name = max(found, key=lambda each: len(str(each)), default=None)
    return None if name is None else (name, text[len(str(name)) + 1 :])


def missing_of(asked: Sequence[str] | None, names: Sequence[Any]) -> dict[Any, list[Any]]:
    """{column: [values that mean missing]} of VALUE (every column) and COLUMN=VALUE; a number also
    matches as a word."""
    blanks: dict[Any, list[Any]] = {}
    for text in asked or ():
        found = _named(text, names)
        chosen, value = (names, text) if found is None else ([found[0]], found[1])
        for name in chosen:
            blanks.setdefault(name, []).append(_number(value))
    return blanks


def labels_of(texts: Sequence[str], target: Any) -> list[Any]:
    """The classes that are typed so, in their own type; ValueError lists the classes."""
    from conjoin.codecs.table.values import text_of

    known = {text_of(label): label for label in target.labels}
    wrong = [text for text in texts if text not in known]
    if wrong:
        raise ValueError(
            f"{target.name!r} has no class {wrong[0]!r}; choose from {', '.join(known)}."
            f"{did_you_mean(wrong[0], known)}"
        )
    return [known[text] for text in texts]


def max_error_of(asked: Sequence[str] | None, target: Any) -> Any:
    """One rate, or {class: rate}; None where no promise is asked for."""
    texts = list(asked or ["0.05"])
    if texts == ["none"]:
        return None
    if len(texts) == 1 and isinstance(_number(texts[0]), int | float):
        return float(texts[0])
    pairs = [text.rpartition("=") for text in texts]
    bad = [
        text
        for text, (label, _, rate) in zip(texts, pairs, strict=True)
        if not label or isinstance(_number(rate), str)
    ]
    if bad:
        raise ValueError(
            "--max-error takes one rate such as .05, or LABEL=RATE once for each class, not "
            f"{bad[0]!r}."
        )
    if target is None or not target.discrete:
        raise ValueError(
            "--max-error LABEL=RATE needs a model with classes; this one takes one rate, such as "
            "--max-error .05."
        )
    return dict(
        zip(
            labels_of([label for label, _, _ in pairs], target),
            (float(rate) for _, _, rate in pairs),
            strict=True,
        )
    )


def range_of(text: str, option: str) -> tuple[Any, Any]:
    """(low, high) of ``low..high``; an end may be left open."""
    low, dots, high = text.partition("..")
    if not dots or not (low or high):
        raise ValueError(f"{option} takes a range such as 10..20 here, not {text!r}.")
    return (_number(low) if low else None), (_number(high) if high else None)


# -------------------------------------------------------------------------------------------- given


def given_of(asked: Sequence[str] | None, schema: Any) -> dict[Any, Any]:
    """{column: value, (low, high) or [levels]} of COLUMN=value, COLUMN=low..high and
    COLUMN=level,level."""
    columns = {column.name: column for column in schema.drawn}
    given: dict[Any, Any] = {}
    for text in asked or ():
        found = _named(text, list(columns))
        if found is None:
            raise ValueError(
                f"--given takes COLUMN=VALUE, not {text!r}; the columns are "
                f"{', '.join(map(str, columns))}.{did_you_mean(text.partition('=')[0], columns)}"
            )
        if found[0] in given:
            raise ValueError(f"--given names the column {found[0]!r} twice: leave one of them out.")
        given[found[0]] = _condition(columns[found[0]], found[1])
    return given


def _condition(column: Any, text: str) -> Any:
    levels = _levels(column)
    if column.is_block:
        return _beginning(text) if text.endswith(ELLIPSIS) else text
    if text in levels:
        return levels[text]
    if ".." in text:
        low, high = range_of(text, f"--given {column.name}=")
        return (
            (low, high)
            if not levels
            else tuple(None if end is None else levels.get(str(end), end) for end in (low, high))
        )
    if column.numeric:
        as_text = column.is_date or column.parse is not None
        return text if as_text else _as_number(column, text)
    parts = [part.strip() for part in text.split(",")]
    return levels.get(text, text) if len(parts) == 1 else [levels.get(part, part) for part in parts]


def _beginning(text: str) -> Any:
    """A string of which only the beginning is told."""
    from conjoin.codecs.sequence import Prefix

    return Prefix(text.removesuffix(ELLIPSIS))


def _as_number(column: Any, text: str) -> Any:
    value = _number(text)
    if isinstance(value, str):
        raise ValueError(
            f"--given {column.name}={text}: {column.name!r} is a number; give one, or a range "
            "such as 10..20."
        )
    return value


def _levels(column: Any) -> dict[str, Any]:
    from conjoin.codecs.table.values import text_of

    if column.numeric:
        return {}
    return {text_of(level): level for level in (*column.rare, *column.levels)}


def some_names(names: Any) -> str:
    """The first dozen, and how many there are."""
    return ", ".join(map(str, names[:12])) + (
        f", ... ({len(names):,} in all)" if len(names) > 12 else ""
    )
