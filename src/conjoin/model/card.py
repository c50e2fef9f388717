"""The model card, README.md of a model's folder: data, model, metrics, promises, limits, energy. No
raw row.
"""

import re
from collections.abc import Sequence
from typing import Any

from conjoin.model.model import Model
from conjoin.model.words import (
    draws_words,
    energy_words,
    limits,
    measures,
    members_words,
    number,
    percent,
    plural,
    purpose,
    support,
    task_words,
)

__all__ = ["model_card", "with_audit"]

AUDIT = "Audit"

MAX_LISTED_COLUMNS = 200  # columns listed


def model_card(model: Model) -> str:
    """The card as Markdown. Names of columns and classes are escaped."""
    parts = [
        f"# A conjoin model of {_safe('p(x)' if model.target is None else str(model.target.name))}",
        _safe(purpose(model)),
        _use(),
        _section("Data", _table(_data(model))),
        _section("Model", _table(_model(model))),
        _section("Metrics", _metrics(model)),
        _section("Promises", _list(support(model))),
        _section("Limits", _list(limits(model))),
        _section("Energy", _table(_energy(model))),
        _section("Columns", _columns(model)),
    ]
    return "\n\n".join(parts) + "\n"


def with_audit(card: str, words: Sequence[str]) -> str:
    """A card with what an audit found, in place of what an earlier one did."""
    begin = f"## {AUDIT}\n"
    before, found, rest = card.partition(begin)
    _, section, after = rest.partition("\n## ") if found else ("", "", "")
    kept = before.rstrip() + (f"\n\n## {after}".rstrip() if section else "")
    return f"{kept}\n\n{_section(AUDIT, _list(list(words)))}\n".lstrip()


def _use() -> str:
    return (
        '```python\nimport conjoin\n\nmodel = conjoin.load("this-folder")\nmodel.decide(rows)\n```'
    )


def _data(model: Model) -> list[tuple[str, str]]:
    facts = model.facts
    rows = facts["rows"]
    roles = [column.role for column in model.codec.schema.columns]
    rest = [f"{roles.count(role)} {role}" for role in ("derived", "set aside") if role in roles]
    return [
        (
            "rows",
            f"{rows['fit']:,} to fit, {rows['choose']:,} to choose by, {rows['calibrate']:,} to "
            "calibrate on",
        ),
        (
            "columns",
            ", ".join([f"{len(model.codec.columns)} modelled", *rest]),
        ),
        ("target", task_words(model)),
        ("sha256 of the rows", facts["data_sha256"]),
        ("sha256 of the split", facts["split_sha256"]),
    ]


def _model(model: Model) -> list[tuple[str, str]]:
    facts = model.facts
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    trained = facts.get("trained", {})
    out = [
        ("p(x)", f"{facts['family']}({settings})"),
        ("log p(x)", f"{model.status['log_prob'].value}, nats; {measures(model)}"),
    ]
    if trained:
        out.append(
            (
                "training",
                f"{trained['epochs']} epochs, {trained['seconds']:.1f} s, {trained['stopped']}",
            )
        )
    mixed = members_words(facts)
    out += [("families mixed", mixed)] if mixed else []
    chosen = facts.get("predictor")
    if chosen is not None:
        out.append(
            (
                "p(y given x)",
                f"{chosen['chosen']}" + (f": {chosen['why']}" if chosen.get("why") else ""),
            )
        )
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    if "adapted" in facts:
        moved = facts["adapted"]
        shares = (
            f"{label} {old:.3f} to {new:.3f}"
            for label, old, new in zip(moved["labels"], moved["old"], moved["new"], strict=True)
        )
        out.append(
            (
                "adapted to new shares",
                f"{', '.join(shares)}; by {moved['rows']:,} rows without labels. "
                f"{moved['promise']}",
            )
        )
    if "distilled" in facts:
        out.append(("draws", draws_words(facts)))
    return [
        *out,
        ("familiarity", model.familiarity.name),
        ("seed", str(facts["seed"])),
        ("versions", versions),
    ]


def _metrics(model: Model) -> str:
    """What was seen on rows that the fit did not use."""
    losses = model.facts.get("predictor", {}).get("log_loss", {})
    choose = plural(model.facts["rows"]["choose"], "validation row")
    rows = [
        (f"log-loss of p(y given x), {name}", f"{number(loss)} nats on {choose}")
        for name, loss in losses.items()
    ]
    calibration = model.calibration
    if calibration is not None and model.has_classes and (calibration.label >= 0).any():
        known = calibration.label >= 0
        right = (calibration.guess == calibration.label)[known]
        rows.append(
            (
                "accuracy, if every row is answered",
                f"{percent(right.mean())} of {plural(len(right), 'calibration row')}",
            )
        )
    return (
        _table(rows)
        if rows
        else "None was measured: no rows were held out with labels. `conjoin evaluate` measures "
        "them on rows of your own."
    )


def _energy(model: Model) -> list[tuple[str, str]]:
    kwh, brain = energy_words(model.facts.get("energy", {}))
    return [("fit", kwh), ("beside a brain", brain or "not known")]


def _other_role(column: Any) -> str:
    if column.role == "derived":
        return f"derived: {column.why}"
    return column.why or column.role


def _columns(model: Model) -> str:
    columns = model.codec.schema.columns
    rows = [("column", "type", "values", "unit", "missing", "role"), ("---",) * 6]
    for column in columns[:MAX_LISTED_COLUMNS]:
        values = column.describe() if column.modelled else ""
        missing = percent(column.missing_share) if column.missing_share else ""
        rows.append(
            (
                str(column.name),
                column.type,
                values,
                column.unit,
                missing,
                column.role if column.modelled else _other_role(column),
            )
        )
    table = "\n".join(
        f"| {' | '.join(cell if row[0] == '---' else _safe(cell) for cell in row)} |"
        for row in rows
    )
    return table + (
        f"\n\nand {len(columns) - MAX_LISTED_COLUMNS:,} more."
        if len(columns) > MAX_LISTED_COLUMNS
        else ""
    )


# ----------------------------------------------------------------------------------------- Markdown


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _list(sentences: list[str]) -> str:
    return "\n".join(f"- {_safe(sentence)}" for sentence in sentences)


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(
        ["| | |", "| --- | --- |", *(f"| {_safe(name)} | {_safe(words)} |" for name, words in rows)]
    )


def _safe(text: Any) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, on one line."""
    flat = re.sub(r"\s+", " ", str(text))
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", flat)
    return escaped.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
