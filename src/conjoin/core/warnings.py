"""The warnings that name a column."""

__all__ = ["ColumnWarning"]


class ColumnWarning(UserWarning):
    """A column was set aside, pooled, parsed, or taken for something that it may not be; or it is
    asked for a value outside of what was seen.

    ``fit`` warns once for each; ``notices_`` holds the sentences, and ``strict=True`` makes an
    error of them. To silence them::

        warnings.simplefilter("ignore", conjoin.ColumnWarning)
    """
