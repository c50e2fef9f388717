"""What happened to pictures while they were read, counted, and said in a sentence for each kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conjoin.codecs.image.wanted import Wanted

__all__ = ["Tally", "several"]

MAX_NAMED = 3  # files that are named


@dataclass
class Tally:
    """Counts of pictures: ``files`` that were read, and what was done to how many; ``top``: the
    largest value of those of more than 8 bits, ``shallow``: the others; ``most_cut``: the largest
    share of a picture that was cut off."""

    files: int = 0
    deep: int = 0
    shallow: int = 0
    top: float = 0.0
    clipped: int = 0
    deep_colours: int = 0
    windows: int = 0
    clear: int = 0
    films: int = 0
    coloured: int = 0
    cut: int = 0
    most_cut: float = 0.0
    broken: list[str] = field(default_factory=list)

    def words(self, wanted: Wanted) -> list[str]:
        """What is to be said. ``wanted``: how they were read, its range in numbers."""
        kept = "" if wanted.by_model else "; mode='rgba' keeps their opacity"
        said = (
            (self.deep, self._deep(wanted)),
            (self.shallow, _shallow(wanted)),
            (self.clipped, "have values beyond that range, which are cut to it."),
            (
                self.deep_colours,
                "have 16 bits for each colour, or for grey and opacity; of these the upper 8 are "
                "read, so that values which fill a part of the range lose levels: save them as 8 "
                "bits.",
            ),
            (
                self.windows,
                "are DICOM and were read by the window in the file, which range= would overrule.",
            ),
            (self.clear, f"are transparent in places and were laid on a background{kept}."),
            (self.films, "have several frames, of which the first is read."),
            (self.coloured, "are in colour and were turned into grey, which the model knows."),
            (self.cut, self._cut(wanted)),
        )
        counted = f" of {self.files:,} pictures "
        lost = [] if not self.broken else [_skipped(self.broken, self.files + len(self.broken))]
        return [f"{count:,}{counted}{words}" for count, words in said if count and words] + lost

    def _deep(self, wanted: Wanted) -> str:
        low, high = wanted.range or (0.0, 0.0)
        return (
            f"have 16 bits a pixel or more, with values up to {self.top:g}, and were scaled down "
            f"to 8: values from {low:g} to {high:g} became 0 to 255; "
            f"range=({low:g}, {high:g}) reads others so, and percentiles such as 1%..99% may be "
            "asked for."
        )

    def _cut(self, wanted: Wanted) -> str:
        high, wide = wanted.size or (0, 0)
        return (
            f"have other proportions than {high} x {wide} and were cut about their centre, up to "
            f"{self.most_cut:.0%} of one; resize='pad' and resize='stretch' keep all of them."
        )


def _shallow(wanted: Wanted) -> str:
    """What is to be said of pictures of 8 bits where a range is known."""
    if wanted.range is None:
        return ""
    whose = "which those of the fit exceed: they are" if wanted.by_model else "so that they are"
    return f"have 8 bits a pixel, {whose} taken as they are, whatever the range."


def _skipped(broken: Sequence[str], files: int) -> str:
    return f"{several(broken, 'file')} skipped as broken, of {files:,}."


def several(names: Sequence[Any], noun: str) -> str:
    """Which of how many, with their verb: "a.png was", "4 files (a.png, ...) were"."""
    if len(names) == 1:
        return f"{names[0]} was"
    shown = ", ".join(map(str, names[:MAX_NAMED])) + (", ..." if len(names) > MAX_NAMED else "")
    return f"{len(names):,} {noun}s ({shown}) were"
