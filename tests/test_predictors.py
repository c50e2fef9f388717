"""A predictor is one file and one line of the registry; and what of a model its hash stands for."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_iris

import conjoin
from conjoin import JointClassifier
from conjoin.model.saving import model_hash
from conjoin.model.state import ORDER, State, join_facts, split_facts
from conjoin.predictors import PREDICTORS, methods, scorer_class

TOY = '''
import torch
from torch import nn
from conjoin.predictors.base import Method, Scorer

class Shares(Scorer):
    """The shares of the classes, whatever x is."""
    kind = "shares"

    def __init__(self, space, classes):
        super().__init__()
        self.classes = classes
        self.log_share = nn.Parameter(torch.zeros(classes).double(), requires_grad=False)

    @property
    def shapes(self):
        return {"classes": self.classes}

    def scores(self, x):
        return self.log_share.expand(x.rows, -1)

    def covers(self, x):
        return torch.ones(x.rows, dtype=torch.bool)

class SharesMethod(Method):
    scorers = (Shares,)

    def fit(self, case):
        rows, weight = case.labelled
        scorer = Shares(case.space, case.classes)
        counts = torch.bincount(rows.y.value.long(), weights=weight, minlength=case.classes)
        scorer.log_share.copy_((counts / counts.sum()).log())
        return scorer
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_predictor.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PREDICTORS, "shares", "toy_predictor:SharesMethod")
    yield
    sys.modules.pop("toy_predictor", None)


def flowers():
    return load_iris(return_X_y=True, as_frame=True)


def test_one_file_and_one_line_add_a_predictor(toy, tmp_path):
    X, y = flowers()
    model = JointClassifier("shares", family="naive_bayes").fit(X, y)
    proba = model.predict_proba(X)
    assert np.allclose(proba, proba[0]) and np.allclose(proba.sum(1), 1)
    assert model.model_.state.predictor == "shares"
    folder = model.save(tmp_path / "model")
    assert np.array_equal(conjoin.load(folder).predict_proba(X), proba)
    assert "| p(y given x) | shares: as asked |" in (folder / "README.md").read_text()


def test_an_unknown_predictor_is_told_the_choices(toy):
    X, y = flowers()
    with pytest.raises(ValueError, match=r"predictor must be auto, linear, .* shares, None or"):
        JointClassifier("best", family="naive_bayes").fit(X, y)


def test_every_kind_of_scorer_has_its_own_word():
    kinds = [scorer.kind for method in methods().values() for scorer in method.scorers]
    own = {"linear", "trees", "network", "convolutional", "features", "fragments", "terms"}
    assert own | {"reader", "geometry", "forest", "leaves", "pool", "family"} == set(kinds)
    assert all(scorer_class(kind).kind == kind for kind in kinds)


# ---------------------------------------------------------------------------------------- the state

OTHER = {
    "seed": 1,
    "readings": None,
    "grid": (0.0, 1.0),
    "predictor": "linear",
    "shares": (0.2, 0.3, 0.5),
    "adapted": (0.5, 0.3, 0.2),
    "pictures": {"size": [8, 8]},
    "blocks": ((0.0, 1.0), (2.0,)),
    "temperature": 2.0,
    "between": True,
    "cellwise": False,
    "direct": False,
}


@pytest.fixture(scope="module")
def fitted():
    return JointClassifier(None, family="naive_bayes").fit(*flowers()).model_


@pytest.mark.parametrize("name", list(vars(State())))
def test_the_hash_changes_with_all_that_answers_depend_on(fitted, name):
    other = replace(fitted, state=replace(fitted.state, **{name: OTHER[name]}))
    assert model_hash(other) != model_hash(fitted)


def test_the_hash_is_that_of_the_answers_not_of_the_card(fitted):
    told = replace(fitted, card=fitted.card | {"notices": ["something else"]})
    assert model_hash(told) == model_hash(fitted)


def test_the_hash_changes_with_weights_codec_and_target(fitted):
    import copy

    for change in (
        lambda model: model.joint.log_prior.data.add_(1e-9),
        lambda model: setattr(model.target, "name", "z"),
        lambda model: model.calibration.statistic.__iadd__(1e-9),
    ):
        other = copy.deepcopy(fitted)
        change(other)
        assert model_hash(other) != model_hash(fitted)


def test_facts_are_stored_as_before(fitted):
    facts = fitted.facts
    assert list(facts) == [name for name in ORDER if name in facts]
    assert join_facts(*split_facts(facts)) == facts
    assert list(join_facts(*split_facts(dict(reversed(facts.items()))))) == list(facts)
    assert split_facts(facts) == (fitted.state, fitted.card)
