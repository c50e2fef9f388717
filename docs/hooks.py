"""Parts of the documentation that are read off the package, so that no page repeats where a thing
is defined.

A page writes one of these on a line of its own:

    {{ public objects }}     a table of all that ``conjoin.__all__`` names, each linked to its
    entry, with its first sentence {{ results }}            an entry for every class of ours that a
    public function returns {{ families }}           an entry for every family in
    ``conjoin.families.FAMILIES``: its formula, source and settings

The word behind a fence's language (```text output) is for tests/test_docs.py; here it becomes a
class, which Markdown understands.

mkdocs calls ``on_page_markdown`` for each page before it is rendered.
"""

import re
import sys
from pathlib import Path

import griffe

SOURCE = Path(__file__).resolve().parent.parent / "src"
FENCE = re.compile(r"^( *```)(python|console|text) ([a-z-]+)$", re.M)
KINDS = ("class", "function", "module")

ENTRY = """
::: {module}
    options:
      heading: "{heading}"
      toc_label: "{heading}"
      show_root_full_path: false
      members: [{config}]
      inherited_members: false
      filters: ["!^_", "!^(recipe|streamed|suited)$"]
      heading_level: 2
"""


def on_page_markdown(markdown, **_):
    for marker, make in MARKERS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return FENCE.sub(r"\1{.\2 .\3}", markdown)


def loaded():
    return griffe.load("conjoin", search_paths=[SOURCE], resolve_aliases=True)


def results():
    """One entry for each class that a function of ``conjoin.__all__`` returns, where it is not
    public itself."""
    package = loaded()
    public = {package[name].canonical_path for name in package.exports}
    found = {
        package[name].returns.canonical_path: None
        for name in package.exports
        if returns_ours(package[name])
    }
    return "\n".join(
        f"\n::: {path}\n    options: {{heading_level: 3}}\n" for path in found if path not in public
    )


def returns_ours(item):
    return item.kind.value == "function" and getattr(item.returns, "canonical_path", "").startswith(
        "conjoin."
    )


def public_objects():
    """A table of ``conjoin.__all__``."""
    package = loaded()
    rows = [row(package, name) for name in package.exports if not str(name).startswith("__")]
    ordered = [each for kind in KINDS for each in rows if each[0] == kind]
    return "\n".join(["| name | what it is |", "|---|---|", *(text for _, text in ordered)])


def row(package, name):
    """(kind, line of the table) of one public name."""
    item = package[name]
    item = item.final_target if item.is_alias else item
    told = (
        item if not item.docstring or not item.docstring.value.startswith("``") else item.parent
    )  # settings alone: the module says more
    text = told.docstring.value if told.docstring else ""
    first = re.split(r"(?<=[.:])\s", " ".join(text.split("\n\n")[0].split()))[0].rstrip(":.")
    return item.kind.value, f"| [`{name}`][conjoin.{name}] | {first.replace('|', chr(92) + '|')} |"


def families():
    """One entry for each module of a family, under the names that stand for it."""
    by_config = {}
    for name, family in registry().items():
        by_config.setdefault(family.config, {})[name] = family
    return "\n".join(family_entry(config, rows) for config, rows in by_config.items())


def family_entry(config, rows):
    module, _, name = config.partition(":")
    lines = [ENTRY.format(module=module, heading=", ".join(rows), config=name), ""]
    for key, family in rows.items():
        settings = ", ".join(f"{key}={value!r}" for key, value in family.settings)
        with_settings = f" It is `{name}({settings})`." if settings else ""
        aliases = (
            f" Other names: {', '.join(f'`{alias}`' for alias in family.aliases)}."
            if family.aliases
            else ""
        )
        lines.append(f'- `family="{key}"`: {family.summary}.{with_settings}{aliases}')
    return "\n".join(lines) + "\n"


def registry():
    sys.path.insert(0, str(SOURCE))
    try:
        from conjoin.families import FAMILIES
    finally:
        sys.path.remove(str(SOURCE))
    return FAMILIES


MARKERS = {
    "{{ public objects }}": public_objects,
    "{{ results }}": results,
    "{{ families }}": families,
}
