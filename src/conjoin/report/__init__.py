"""One HTML file about a model: self-contained, without a script, without a real row unless it is
asked for.
"""

from conjoin.report.write import write_report

__all__ = ["write_report"]
