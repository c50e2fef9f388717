"""Bugs in dates, lengths and months in words; in bounds of a number y; in means about centres; in
trees against shuffled columns; in sums over all ways to cut a string; in series of narrow cells."""

from mutations_base import at

WORDS = ("tests/test_cells.py", "-k", "lengths or leading or clock or months or seasons")
PADDING = at(
    "codecs/table/padding.py",
    WORDS,
    (
        "zeros are left out everywhere",
        'if bare[code["letter"]] > 0 else',
        'if code["letter"] in _PADDED else',
    ),
    ("zeros are never left out", 'text.str.replace(r"^0(?=\\d)", "", regex=True)', "text"),
)
LENGTHS = at(
    "codecs/table/lengths.py",
    WORDS,
    ("a day of 86,000 seconds", "(86_400, 3_600, 60, 1)", "(86_000, 3_600, 60, 1)"),
    ("one for several", "(count != 1)", "(count == 1)"),
    (
        "units in any order",
        "return parts if places == sorted(set(places)) else None",
        "return parts",
    ),
)
CALENDAR = at(
    "codecs/table/calendar_words.py",
    WORDS,
    ("seasons are months", "if all(map(_may_be_season, words)):", "if False:"),
    ("quarters from 1", 'int(found["quarter"]) - 1', 'int(found["quarter"])'),
)
CLOCK = at(
    "codecs/table/clock.py",
    WORDS,
    ("either clock is read", "(day and any(map(_is_of_24_hours, plain)))", "day"),
)
BOUNDS = at(
    "fitting/bounded.py",
    ("tests/test_bounded.py",),
    ("the mean on the other side", "z = (ends[0] - ends[1])", "z = (ends[1] - ends[0])"),
    ("nothing is turned back", "torch.where(self.flipped, -inside, inside)", "inside"),
)
CENTRES = at(
    "calibration/centre_means.py",
    ("tests/test_centre_means.py",),
    ("whatever the gain", "if not best.is_sure:", "if False:"),
    ("the noise of draws stays", "apart * apart]) - noise", "apart * apart])"),
)
RATIO = at(
    "calibration/ratio.py",
    ("tests/test_familiarity.py", "-k", "shuffled or ratio"),
    ("the odds of strangers", "weight[:, 1] / weight.sum(1)", "weight[:, 0] / weight.sum(1)"),
)
LATTICE = at(
    "families/classic/lattice.py",
    ("tests/test_reading.py", "-k", "ways"),
    ("equal states by the larger", "share.index_add(0, place,", "share.index_copy(0, place,"),
    ("the end costs where it is certain", "torch.where(full[:, None], 0.0, log_end)", "log_end"),
)
NARROW = at(
    "components/narrow_cells.py",
    ("tests/test_narrow_cells.py",),
    ("no width in the square", "rounding * count - 2", "0 * count - 2"),
    ("no correction of the mean", "first - shrunk * (first - mean * count)", "first"),
)
MUTATIONS = [
    *PADDING,
    *LENGTHS,
    *CALENDAR,
    *CLOCK,
    *BOUNDS,
    *CENTRES,
    *RATIO,
    *LATTICE,
    *NARROW,
]
