"""Planted bugs of the chain of forests."""

from mutations_base import at

TESTS = ("tests/test_forest.py",)
NODES = (*TESTS, "-k", "node or leaves or kinds or arrive or layers")
BASIS = (*TESTS, "-k", "values or basis or weights or wide")
CHAIN = (*TESTS, "-k", "beginning or structure or gap or classes or counting or noise")

MUTATIONS = [
    *at(
        "components/decision_trees.py",
        NODES,
        ("equal values go right", "left = value <= threshold", "left = value < threshold"),
        ("the walk forgets which row", "        first = first.index_select(0, goes)\n", ""),
        ("layers lose the right children", "torch.cat([layer + 1, right[layer]])", "layer + 1"),
    ),
    *at(
        "components/number_basis.py",
        BASIS,
        ("every value recurs", "MIN_RECURRING_RATIO = 3.0", "MIN_RECURRING_RATIO = 0.0"),
        (
            "values are not counted by weight",
            "np.bincount(place, weight)",
            "np.bincount(place) * 5",
        ),
        ("no component for what lies elsewhere", "centre, [mean]]", "centre, [mean]][:2] * 1"),
        ("points have cells", "if width else np.zeros(0)", "if True else np.zeros(0)"),
    ),
    *at(
        "families/autoregressive/forest.py",
        NODES,
        (
            "the parent is lent to itself",
            "out[child] += lent[child] * out[layer]",
            "out[child] += lent[child] * own[child]",
        ),
        (
            "inner nodes forget the right child",
            "out[layer] = out[layer + 1] + out[right[layer]]",
            "out[layer] = out[layer + 1]",
        ),
        (
            "kinds count alike",
            "torch.bincount(kind, minlength=len(KINDS))[:, None]",
            "len(KINDS) * torch.ones(len(KINDS), 1)",
        ),
        (
            "the pool forgets the weights of rows",
            "out = (weight[:, None] * share).sum(0)",
            "out = share.sum(0)",
            (*TESTS, "-k", "pool"),
        ),
    ),
    *at(
        "families/autoregressive/forest.py",
        CHAIN,
        ("a column sees itself", "table[seen, : d + 1]", "table[seen, : d + 2]"),
        (
            "a gap is a zero",
            "torch.where(mask, value, gap)",
            "torch.where(mask, value, 0.0 * gap)",
        ),
        (
            "classes are not told",
            "if code is None else code[:, None].to(value)",
            "if True else code",
        ),
        (
            "every gap is a beginning",
            "return (mask[:, 1:] <= mask[:, :-1]).all(1)",
            "return mask[:, 0]",
        ),
        (
            "draws forget what was drawn",
            "table[:, d + 1] = value[:, d].float()",
            "table[:, d + 1] = 0.0",
        ),
        (
            "trees judge what they have seen",
            "conditional.counts(share, node, ~held)",
            "conditional.counts(share, node, held)",
        ),
    ),
]
