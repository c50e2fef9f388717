"""Planted bugs of the chain of forests."""

from mutations_base import at

TESTS = ("tests/test_forest.py",)
NODES = (*TESTS, "-k", "node or leaves or kinds or arrive or layers")
BASIS = (*TESTS, "-k", "values or basis or weights or wide")
FLAGS = (*TESTS, "-k", "flags or drawn_rows")
EVEN = (*TESTS, "-k", "even")
POOL = (*TESTS, "-k", "regression or pool or indicators")
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
            "told.table[:, d + 1] = torch.where(known, value[:, d], self.gap[d]).float()",
            "told.table[:, d + 1] = 0.0",
        ),
        (
            "trees judge what they have seen",
            "out.counts(share, node, ~held)",
            "out.counts(share, node, held)",
        ),
        (
            "flags come last",
            "order = [*first, *(d for d in columns if d not in first)]",
            "order = [*(d for d in columns if d not in first), *first]",
            FLAGS,
        ),
        (
            "what a flag says is missing is told",
            "mask = mask & ~self._told_gaps(value, mask)",
            "mask = mask | False",
            FLAGS,
        ),
        (
            "draws tell what a flag says is missing",
            "known = ~self._told_gaps(value, every)[:, d]",
            "known = every[:, d]",
            FLAGS,
        ),
        (
            "even draws in the order of the rows' numbers",
            "even_points(self.along(told, generator), generator)",
            "torch.rand(len(weights), generator=generator, dtype=torch.float64)",
            EVEN,
        ),
        (
            "even numbers lie in another state's component",
            "order[place][:, None], generator, point=inside[:, None]",
            "place[:, None], generator, point=inside[:, None]",
            EVEN,
        ),
    ),
    *at(
        "components/multinomial.py",
        POOL,
        ("the penalty is forgotten", "x.T @ error + penalty * slope", "x.T @ error"),
        (
            "rows weigh alike",
            "share = (weight / total)[:, None].float()",
            "share = (weight / weight * 0 + 1 / len(weight))[:, None].float()",
        ),
        (
            "the second expert counts twice",
            "return _minimum(loss, start, POOL_STEPS).abs()",
            "return _minimum(loss, start, POOL_STEPS).abs() * torch.tensor([1.0, 2.0])",
        ),
        (
            "a gap is the first level",
            "torch.where(mask, self._place(d, value), size)",
            "torch.where(mask, self._place(d, value), 0)",
        ),
        ("edges lie on values", "0.5 * (found[place - 1] + found[place])", "found[place]"),
    ),
    *at(
        "core/sampling.py",
        EVEN,
        (
            "points are not turned",
            "turned = (point + torch.rand((), generator=generator, dtype=torch.float64)) % 1.0",
            "turned = point",
        ),
        ("points follow no order", "index_copy_(0, order, turned)", "copy_(turned)"),
    ),
]
