"""One page about an audit, in the style of the reports."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from conjoin.questions.audit.groups import Groups, Rate
from conjoin.questions.audit.run import Audit
from conjoin.report.write import write_whole

__all__ = ["write_audit"]

PART_WORDS = {
    "planted rows": "Planted rows",
    "membership": "Membership",
    "copies and strings": "Copies and strings",
    "copies of rows": "Copies of rows",
    "strings": "Strings",
    "groups": "Groups",
}


def write_audit(found: Audit, name: str, path: str | Path) -> Path:
    """Write the page about an audit of the model called ``name``."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("audit.html.j2")
    page = template.render(
        name=name,
        day=datetime.now(UTC).strftime("%d %B %Y"),
        words=found.words(),
        found=found,
        copies=_copies(found),
        groups=[(each, _rows(each)) for each in found.groups],
        missing=[(PART_WORDS.get(part, part), why) for part, why in found.missing.items()],
    )
    return write_whole(Path(path), page)


def _copies(found: Audit) -> list[tuple[str, list[str]]]:
    if found.copies is None:
        return []
    table = found.copies.frame()
    return [(str(row), [f"{value:.4f}" for value in table.loc[row]]) for row in table.index]


def _rows(found: Groups) -> list[list[str]]:
    """A line for each group."""
    return [
        [
            group.name,
            f"{group.rows:,}",
            f"{group.log_prob:.2f}",
            _rate(group.unfamiliar),
            _rate(group.accepted),
            _rate(group.wrong),
            _rate(group.wrong_accepted),
        ]
        for group in found.groups
    ]


def _rate(rate: Rate | None) -> Any:
    if rate is None or rate.share is None:
        return ""
    return f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"
