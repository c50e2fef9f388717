"""Planted bugs of the pool that gives p(y | x)."""

from mutations_base import at

QUICK = "tests/test_pool.py"

MUTATIONS = [
    *at(
        "predictors/folds.py",
        (QUICK, "-k", "fold or class"),
        ("equal rows in several folds", "out = fold[where]", "out = np.arange(len(y)) % folds"),
        ("rare classes are held out", "< folds] = -1", "< 0] = -1"),
        (
            "classes are not spread over the folds",
            'shuffled[value[shuffled].argsort(kind="stable")]',
            "value.argsort()[::-1].repeat(1)",
        ),
    ),
    *at(
        "predictors/base.py",
        (QUICK, "-k", "memoriser"),
        ("judged by what has seen it", "self.fit(case.take(~held))", "self.fit(case)"),
    ),
    *at(
        "predictors/stacking.py",
        (QUICK, "-k", "convex or weight_three or costs or prior or points or pool_is"),
        ("rows count alike", "weight @ slope + cost", "slope.sum(0) + cost"),
        ("no penalty of the temperature", "0.5 * (off / TEMPERATURE_DEVIATION) ** 2", "0.0"),
        ("no reluctance", "return np.asarray(error)", "return np.asarray(0 * error)"),
        (
            "the prior is never mixed in",
            "share = float(((weight * mine).sum() + 1)",
            "share = 1e-9 + 0 * float(((weight * mine).sum() + 1)",
        ),
        (
            "points may cancel",
            "return np.asarray(found / found.sum())",
            "return np.asarray(found)[::-1]",
        ),
    ),
    *at(
        "predictors/forest.py",
        (QUICK, "-k", "forest or shrinkage"),
        (
            "shrunk by the child's rows",
            "/ rows[layer][:, None, None]",
            "/ rows[layer + 1][:, None, None]",
        ),
    ),
    *at(
        "components/decision_trees.py",
        (QUICK, "-k", "forest or shrinkage"),
        (
            "thresholds are rounded up",
            "np.where(near > tree.threshold, np.nextafter(near, np.float32(-np.inf)), near)",
            "np.nextafter(near, np.float32(np.inf)) + 0.05",
        ),
        ("roots are mixed up", '"right": start +', '"right": 0 * start +'),
    ),
    *at(
        "predictors/trees.py",
        (QUICK, "-k", "boosting or saved or rows_count"),
        ("the folds are added up", "each.leaf / len(found)", "each.leaf"),
        ("weights of rows are forgotten", "if (weight == weight[0]).all():", "if len(weight):"),
    ),
    *at(
        "predictors/pool.py",
        (QUICK, "-k", "saved or told or joins or same or estimator"),
        ("members are not normalised", "each.log_softmax(2), share.log()", "each, share.log()"),
        (
            "the pool forgets the weight of the first",
            "power[0] * pool.power.numpy()",
            "pool.power.numpy()",
            (QUICK, "-k", "later or family"),
        ),
    ),
    *at(
        "fitting/pooling.py",
        (QUICK, "-k", "calibration or told"),
        (
            "calibration rows teach",
            "place = np.concatenate([split.fit, split.choose])",
            "place = np.concatenate([split.calibrate, split.fit, split.choose])"
            "[: len(split.fit) + len(split.choose)]",
        ),
        (
            "the family is left out in silence",
            "    if not held.rows:\n        _tell_unweighed",
            "    if False:\n        _tell_unweighed",
            (QUICK, "-k", "validation_rows"),
        ),
    ),
]
