"""The command line: arguments in, questions asked, answers out. Nothing is computed here.

Every verb keeps to the same manners. The answer goes to standard output, everything else to
standard error. ``-`` is standard input or output. Nothing is overwritten without ``--force``, and
no half-written file is left. Exit code 0: done; 1: a check failed; 2: bad input or usage, with one
sentence that says where and what to do. ``verify`` has two more: 3: not marked; 4: not signed.
"""

from conjoin.cli.verbs import app, main, run

__all__ = ["app", "main", "run"]
