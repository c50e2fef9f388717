"""``python -m conjoin`` is ``conjoin``."""

from conjoin.cli import main

main()
