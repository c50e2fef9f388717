"""Bugs in the distribution of a number y: leaves of trees, mixtures, quantiles; in trees that are
asked by marks; in captioned scenes."""

from mutations_base import at

LEAVES = at(
    "predictors/leaves.py",
    ("tests/test_spread.py",),
    ("bins have no width", " - self.edges.diff().log()[place], NOWHERE", ", NOWHERE"),
    ("a cell ends at its middle", "(self.width / 2, -self.width / 2)", "(self.width / 2, 0.0)"),
    ("the marginal is left out", "self.share * self.marginal).log()", "1e-9).log()"),
    (
        "leaves tell nothing",
        "return max(found, key=lambda each: each[0])[1:]",
        "return min(found, key=lambda each: each[0])[1:]",
    ),
    ("draws at the middle of bins", "along * self.edges.diff()[pick]", "0 * along"),
)
BLENDED = at(
    "predictors/blended.py",
    ("tests/test_spread.py",),
    (
        "draws of the first part",
        "return drawn.gather(1, pick[:, None])[:, 0]",
        "return drawn[:, 0]",
    ),
    ("a mixture for nothing", "not more.mean() > more.std()", "not more.mean() > -more.std()"),
)
MIXING = at(
    "components/mixing.py",
    ("tests/test_spread.py",),
    (
        "weights stay equal",
        "out = (weight @ mine + PRIOR_ROWS / parts)",
        "_ = (weight @ mine + PRIOR_ROWS / parts)",
    ),
)
QUANTILES = at(
    "questions/predict.py",
    ("tests/test_spread.py",),
    ("between whole numbers", "model.number.drawn(found", "model.number.decode(found"),
    ("below 0", "np.maximum(each, 0.0)", "each"),
)
BITVECTORS = at(
    "components/bitvector_trees.py",
    ("tests/test_bitvector_trees.py",),
    ("missing cells go right", "torch.where(stays[own], -1, kept[own])", "kept[own]"),
    (
        "leaves of the right are struck out",
        "first[right] = first[layer] + under[left]",
        "first[right] = first[layer] + under[right]",
    ),
    (
        "blocks in one",
        "starts = range(0, len(table), step)",
        "starts = range(0, min(step, len(table)), step)",
    ),
)
SCENES = at(
    "datasets/scenes.py",
    ("tests/test_scenes.py",),
    (
        "pairs that are held out are drawn",
        "only_held_out == any(each.pair in held",
        "any(each.pair in held or True",
    ),
    ("the order is not looked at", "all(_stand(seen, step, back) for step in steps)", "True"),
    ("relations the other way", "along = (first.x - second.x)", "along = (second.x - first.x)"),
    ("size is not looked at", '== (wanted.how == "large")', "in (True, False)"),
)
MUTATIONS = [*LEAVES, *BLENDED, *MIXING, *QUANTILES, *BITVECTORS, *SCENES]
