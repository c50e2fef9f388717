"""Tables beside each other: what has changed, and in which columns."""
