"""scikit-learn's own checks, all of them, for every estimator and family; and the habits of its
users.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from conjoin import Circuit, JointClassifier
from conjoin.families import of_tables

# checks of scikit-learn 1.6 and later
FEWEST = {
    "JointClassifier": 58,
    "JointRegressor": 55,
    "JointDensity": 44,
    "JointOutlier": 49,
    "JointImputer": 46,
}
PINNED = {
    "check_estimators_dtypes",
    "check_fit_score_takes_y",
    "check_estimators_pickle",
    "check_sample_weight_equivalence_on_dense_data",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_fit2d_1sample",
    "check_dict_unchanged",
    "check_n_features_in_after_fitting",
    "check_fit_idempotent",
}
MAY_SKIP = {"check_array_api_input"}  # runs only where SCIPY_ARRAY_API is set


QUICK = ("circuit", "naive_bayes")
FACES = ("JointOutlier", "JointImputer")  # they only pass on what a JointDensity says
CLASSIC = ("linear_discriminant", "quadratic_discriminant", "mixture")


def marked(quick):
    """Every family: the quick ones as they are, the others slow."""
    return [
        family if family in quick else pytest.param(family, marks=pytest.mark.slow)
        for family in of_tables()
    ]


def mark_of(kind, family):
    """By default what is quick; in CI a classifier with every family, as what differs between
    families stands in conformance; in the battery the rest."""
    if family in QUICK:
        return () if family == "naive_bayes" or kind not in FACES else pytest.mark.slow
    return (
        pytest.mark.slow if kind == "JointClassifier" or family in CLASSIC else pytest.mark.battery
    )


def checked():
    """Every estimator with every family; faces of the density with the quick ones alone."""
    return [
        pytest.param(kind, family, marks=mark_of(kind, family))
        for family in of_tables()
        for kind in FEWEST
        if family in QUICK or kind not in FACES
    ]


@pytest.mark.parametrize(("kind", "family"), checked())
def test_every_check_of_scikit_learn(kind, family):
    script = Path(__file__).with_name("sklearn_checks.py")
    done = subprocess.run(
        [sys.executable, script, kind, family], capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert not {
        result["check"]: result["error"] for result in results if result["status"] == "failed"
    }
    assert {result["check"] for result in results if result["status"] == "skipped"} <= MAY_SKIP
    names = {result["check"] for result in results}
    assert names >= PINNED, PINNED - names
    assert (
        kind != "JointClassifier"
        or {"check_classifiers_train", "check_classifiers_classes"} <= names
    )
    assert len(results) >= FEWEST[kind]


def test_clone_pipeline_and_grid_search():
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(
        FunctionTransformer(), JointClassifier(family="naive_bayes", predictor=None)
    )
    search = GridSearchCV(model, {"jointclassifier__family__smoothing": [0.5, 5.0]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.9
    assert clone(search.best_estimator_).get_params()["jointclassifier__family__smoothing"] in (
        0.5,
        5.0,
    )


def test_grid_search_over_a_config():
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(
        JointClassifier(family=Circuit(), predictor=None), {"family__width": [1, 4]}, cv=2
    ).fit(X, y)
    assert search.best_estimator_.family == Circuit(width=search.best_params_["family__width"])


def test_an_unknown_setting_names_the_choices():
    with pytest.raises(ValueError, match="no setting 'depth'; it has width, trees, smoothing"):
        JointClassifier().set_params(family__depth=3)


def test_your_own_fitted_classifier_keeps_its_word():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    own = LogisticRegression(max_iter=10000).fit(X, y)
    model = JointClassifier(predictor=FrozenEstimator(own), family="naive_bayes").fit(X, y)
    assert (model.predict(X) == own.predict(X)).all()
    assert model.status_["predict_proba"] == "exact"
    foreign = model.decide(X.iloc[:5] * 20, max_error=0.1)
    assert (foreign["verdict"] == "unfamiliar").all()


@pytest.mark.parametrize(
    "family", marked((*QUICK, *CLASSIC, "factor_analysis", "bayes_net", "autoregressive", "flow"))
)
def test_joint_is_the_product_of_its_parts(family):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = JointClassifier(family=family).fit(X, y)
    joint = model.predict_joint_log_proba(X)
    marginal = model.score_samples(X)
    np.testing.assert_allclose(np.logaddexp.reduce(joint, 1), marginal, atol=1e-8)
    np.testing.assert_allclose(joint - marginal[:, None], model.predict_log_proba(X), atol=1e-8)


def test_same_seed_same_model():
    X, y = load_iris(return_X_y=True)
    first, second = (JointClassifier(family="circuit", random_state=3).fit(X, y) for _ in range(2))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()
    assert first.sample(5, random_state=0)[0].equals(second.sample(5, random_state=0)[0])
