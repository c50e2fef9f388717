"""Planted bugs in tokens of molecules, and in what is designed."""

from mutations_base import at

TESTS = ("tests/test_molecules.py", "-m", "not slow")
TOKENS = (*TESTS, "-k", "pieces or merge or piece or pair")
DESIGN = (*TESTS, "-k", "wish or resampled or chains or different_values")

MUTATIONS = [
    *at(
        "chemistry/tokens.py",
        TOKENS,
        (
            "merges go across the ends of strings",
            "inside = (left != END) & (right != END)",
            "inside = left != END",
        ),
        (
            "pairs of a run overlap",
            "        places = _apart(places)\n",
            "        pass\n",
        ),
        ("Cl is two pieces", r"Br|Cl|%\d{2}", r"Br|%\d{2}"),
        (
            "an unknown piece is the first one",
            "self._code.get(piece, self.unknown)",
            "self._code.get(piece, 0)",
        ),
        (
            "the rarest pair is merged",
            "int(counts.argmax())",
            "int(np.flatnonzero(counts)[0])",
        ),
    ),
    *at(
        "questions/design.py",
        DESIGN,
        (
            "draws are not weighed by the wish",
            "/ np.maximum(whole, 1e-300)",
            "/ np.ones_like(whole)",
        ),
        (
            "the least probable come first",
            '"_score", ascending=False, kind="stable"',
            '"_score", kind="stable"',
        ),
        (
            "acceptance is that of the logarithm",
            'score = made["_score"].astype(float).map(np.exp)',
            'score = made["_score"].astype(float)',
        ),
    ),
    *at(
        "questions/redrawing.py",
        ("tests/test_redrawing.py",),
        (
            "the number of cuts does not count",
            " + torch.log((length + 1) / (more + 1))",
            "",
        ),
        (
            "what is told weighs as if it were p",
            " + density.log_prob(strings) - density.log_prob(strings, context)",
            "",
        ),
        (
            "beginnings are paid for",
            "drawn = torch.cat([drawn, more + 1 - cut])",
            "drawn = torch.cat([drawn, more + 1])",
        ),
        ("all tokens are kept", "(length + 1)).long()", "length).long()"),
    ),
    *at(
        "fitting/split.py",
        DESIGN,
        ("equal labels are a conflict", "(counts > 1).sum()", "(counts > 0).sum()"),
    ),
]
