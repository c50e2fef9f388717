"""JointOutlier and JointImputer in scikit-learn's pipelines."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import conjoin
from conjoin import JointDensity, JointImputer, JointOutlier


def table(rows=500):
    rng = np.random.default_rng(0)
    a = rng.normal(size=rows)
    return pd.DataFrame({"a": a, "b": a + 0.3 * rng.normal(size=rows)})


def test_outliers_are_rows_whose_familiarity_is_at_most_the_rate():
    X = table()
    model = JointOutlier(family="quadratic_discriminant", false_alarm=0.1)
    labels = model.fit_predict(X)
    familiarity = model.density_.decide(X, false_alarm=0.1)["familiarity"].to_numpy()
    assert (labels == np.where(familiarity <= 0.1, -1, 1)).all()
    assert ((model.decision_function(X) > 0) == (labels == 1)).all()
    odd = pd.DataFrame({"a": [0.0, 3.0, 30.0], "b": [0.0, -3.0, -30.0]})
    assert model.predict(odd).tolist() == [1, -1, -1]
    scores = model.score_samples(odd)
    assert scores[0] > scores[1] > scores[2]
    assert model.decision_function(odd) == pytest.approx(scores - np.log(0.1))
    with pytest.raises(ValueError, match=r"at most 0\.5, got 2"):
        JointOutlier(false_alarm=2).fit(X)


def test_a_density_with_settings_of_its_own_can_be_given():
    X = table()
    asked = JointDensity(family="naive_bayes", measure="density", random_state=3)
    model = JointOutlier(density=asked).fit(X)
    assert model.density_.get_params(deep=False)["measure"] == "density"
    assert model.density_ is not asked
    assert clone(model).get_params()["density"].measure == "density"
    assert "model_" not in vars(asked)


def test_the_imputer_fills_what_the_density_would():
    X = table()
    gaps = X.mask(np.random.default_rng(1).random(X.shape) < 0.2)
    imputer = JointImputer(family="quadratic_discriminant").fit(gaps)
    full = imputer.transform(gaps)
    assert list(full) == ["a", "b"]
    assert not full.isna().any(axis=None)
    assert full.equals(imputer.density_.impute(gaps))
    assert full.where(gaps.notna()).equals(gaps)
    mode = clone(imputer).set_params(strategy="mode").fit(gaps)
    assert mode.transform(gaps).equals(mode.density_.impute(gaps, strategy="mode"))
    assert imputer.get_feature_names_out().tolist() == ["a", "b"]


def test_the_imputer_in_a_pipeline_and_set_output():
    X = table()
    y = (X["a"] > 0).astype(int)
    gaps = X.mask(np.random.default_rng(1).random(X.shape) < 0.2)
    steps = make_pipeline(JointImputer(family="naive_bayes"), LogisticRegression())
    assert steps.fit(gaps, y).score(gaps, y) > 0.85
    array = JointImputer(family="naive_bayes").fit(gaps.to_numpy())
    assert isinstance(array.transform(gaps.to_numpy()), np.ndarray)
    framed = array.set_output(transform="pandas").transform(gaps.to_numpy())
    assert list(framed) == ["x0", "x1"]


def test_both_say_what_they_set_aside():
    X = table().assign(constant=1)
    for kind in (JointOutlier, JointImputer):
        with pytest.warns(conjoin.ColumnWarning, match="'constant' is set aside"):
            model = kind(family="naive_bayes").fit(X)
        assert len(model.notices_) == 1
