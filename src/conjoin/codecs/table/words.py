"""What a table is, in words: a line for each of its columns, and one for all."""

from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Field

__all__ = ["field_of", "inputs_of"]


def field_of(column: Column) -> Field:
    """A column in words; the values of one that was set aside are not told."""
    missing = f"{100 * column.missing_share:.1f} %" if column.missing_share else "–"
    values = column.describe() if column.modelled else "–"
    aside = f"set aside: {column.why}" if column.why else "set aside"
    follows = f"derived: {column.why}" if column.role == "derived" else aside
    role = "modelled" if column.modelled else follows
    return Field(str(column.name), column.type, values, column.unit or "–", missing, role)


def inputs_of(schema: Schema) -> tuple[str, str]:
    """("columns", how many are modelled, what pictures and strings there are, and which were set
    aside)."""
    aside = [str(column.name) for column in schema.columns if column.role == "set aside"]
    derived = [
        f"{column.name} = {column.why}" for column in schema.columns if column.role == "derived"
    ]
    blocks = [
        f", {column.name}: {column.describe()}" for column in schema.modelled if column.is_block
    ]
    words = f"{len(schema.modelled)} modelled{''.join(blocks)}"
    if derived:
        more = ", ..." if len(derived) > 6 else ""
        words += f", {len(derived)} derived: {', '.join(derived[:6])}{more}"
    if aside:
        more = ", ..." if len(aside) > 6 else ""
        words += f", {len(aside)} set aside: {', '.join(aside[:6])}{more}"
    return "columns", words
