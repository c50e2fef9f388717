"""Planted bugs in rows of several blocks: strings and pictures beside columns."""

from mutations_base import at

TESTS = ("tests/test_multimodal.py", "-k", "not pictures")

FLAT = at(
    "core/layouts.py",
    ("tests/test_records.py", "-k", "flat or counting or begin"),
    (
        "an absent position has the code of a token",
        "torch.where(event.mask & ~event.there, absent, event.value).double()",
        "event.value.double()",
    ),
    (
        "what was cut off is not known",
        "nn.functional.pad(event.mask, pad, value=True)",
        "nn.functional.pad(event.mask, pad, value=False)",
    ),
    ("absent positions come back as there", "there = mask & (value < absent)", "there = mask"),
)
FAMILY = at(
    "families/multimodal.py",
    TESTS,
    (
        "the label that is not known is not weighed",
        "return (log_weight + torch.stack(each, 1)).logsumexp(1)",
        "return torch.stack(each, 1).logsumexp(1)",
    ),
    (
        "candidates come back in another order",
        "return found[:, order.argsort()]",
        "return found",
    ),
    (
        "proposals are not weighed by what is known",
        "out = out + self._seen_of(part, columns, rows, noise)\n        return out",
        "out = out + self._seen_of(part, columns, rows, noise)\n        return 0 * out",
    ),
    (
        "regions behind the columns are ignored",
        "event.within.constrained[..., self.width :].any()",
        "event.within.constrained[..., :0].any()",
    ),
    (
        "columns are told in the agreement that leaves them out",
        "nothing = Event(columns.value, torch.zeros_like(columns.mask))",
        "nothing = columns",
    ),
    (
        "an open column counts as exact",
        "rough = bool(((open_ & beside) | earlier).any())",
        "rough = bool(earlier.any())",
    ),
)
RANKS = at(
    "calibration/familiarity.py",
    TESTS,
    (
        "all that is strange has one rank",
        "return (rank * beyond.clamp_min(-700.0).exp()).clamp(1e-300, 1 - 1e-12)",
        "return rank.clamp(1e-300, 1 - 1e-12)",
    ),
    (
        "blocks of which nothing is known count",
        "return ranks.masked_fill(own.isnan(), 1.0)",
        "return ranks.masked_fill(own.isnan(), 1e-6)",
    ),
)
COLUMNS = at(
    "codecs/block_columns.py",
    TESTS,
    (
        "an empty string is missing",
        "known_cells(series, self.blanks, empty=False)",
        "known_cells(series, self.blanks, empty=True)",
    ),
)

MUTATIONS = [*FLAT, *FAMILY, *RANKS, *COLUMNS]
