"""Planted bugs of what makes fits fast."""

from mutations_base import at

TESTS = "tests/test_fast.py"

MUTATIONS = [
    *at(
        "fitting/fast.py",
        (TESTS,),
        (
            "a model to begin from loses trees",
            "options.fast and options.start is None",
            "options.fast",
        ),
        ("what was taken is not compared", "each != usual[name] and now.get(name) == each", "True"),
        ("a usual fit tells of a fast one", "if not options.fast:", "if False:"),
    ),
    *at(
        "predictors/folds.py",
        (TESTS,),
        ("five folds for all", "and not fast else", "else"),
    ),
    *at(
        "predictors/forest.py",
        (TESTS,),
        ("a fast fit grows extra trees", "not case.lent and not case.fast", "not case.lent"),
    ),
    *at(
        "fitting/pipeline.py",
        (TESTS,),
        ("a fast fit learns kernels", "None if options.fast else data", "data"),
    ),
    *at(
        "training/learners.py",
        (TESTS,),
        ("steps fall from the start", "min(1.0, (1 - progress) / FALLING_SHARE)", "1 - progress"),
        ("a begun fit forgets its rows", "max(share * (1 - progress)", "max(1 * (1 - progress)"),
    ),
    *at(
        "codecs/table/guess.py",
        (TESTS,),
        (
            "a word counts once",
            "sum(count for word, count in words.items() if _is",
            "sum(1 for word in words if _is",
        ),
    ),
    *at(
        "families/circuit/latent_tree.py",
        (TESTS,),
        (
            "the loss without a gradient adds up trees",
            "self._quick(event).mean(0)",
            "self._quick(event).sum(0)",
        ),
        (
            "the start sees one tree less of the weight",
            "data = data.take(some)\n            weight = scale *",
            "data = data.take(some)\n            weight = 0.01 * scale *",
        ),
    ),
]
