"""What the demos with a fit take from the command line."""

import argparse

__all__ = ["parser_of"]


def parser_of(name: str, doc: str, seconds: float, of: str) -> argparse.ArgumentParser:
    """For ``python -m conjoin.demos.NAME``, whose docstring is ``doc``: a folder, and how many
    ``seconds`` are spent ``of`` what."""
    parser = argparse.ArgumentParser(
        prog=f"python -m conjoin.demos.{name}", description=doc.splitlines()[0]
    )
    parser.add_argument(
        "--out",
        default=f"conjoin-demo-{name}",
        metavar="FOLDER",
        help="of the model and the report (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"of {of} (default: %(default)g)"
    )
    return parser
