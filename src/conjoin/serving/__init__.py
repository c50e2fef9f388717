"""A model answers over HTTP, or in the terminal: thin, around what estimators answer anyway."""
