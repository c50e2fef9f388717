"""p(y | x) that follows pictures to a place where they look otherwise, without labels; what it
stands on, against formulas.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import conjoin
from conjoin import JointClassifier
from conjoin.core import Event
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.fitting.label_propagation import Graph
from conjoin.fitting.self_training import answers, matched, most_certain, mutual_information

TINY = PictureDiffusion(size=0.25, steps=60, batch=48, rate=6e-3, points=4, sampling_steps=6)
DIGITS = load_digits(n_class=5)
# as they stand, later rows are of other writers
ORDER = np.random.default_rng(0).permutation(len(DIGITS.target))
X = DIGITS.images.astype("uint8")[ORDER]
Y = DIGITS.target[ORDER]
GREYS = {"levels": 17}
OLD = slice(0, 500)
NEW = slice(500, None)


@pytest.fixture(scope="module")
def model():
    return JointClassifier(family=TINY, types=GREYS).fit(X[OLD], Y[OLD])


@pytest.fixture(scope="module")
def negatives():
    return 16 - X[NEW]


@pytest.fixture(scope="module")
def followed(model, negatives):
    return model.adapt(negatives, density=True)


# ---------------------------------------------------------------------------------------- the parts


def test_levels_are_matched_in_either_order():
    old = torch.tensor([0.0, 0, 3, 7, 7, 9])
    new = torch.tensor([9.0, 9, 6, 2, 2, 0])
    assert torch.equal(matched(old, new, turned=True), old)
    assert torch.equal(matched(old, 2 * old), old)
    assert torch.equal(matched(old, old), old)


def test_mutual_information_is_that_of_sure_and_even_answers():
    assert float(mutual_information(torch.eye(4).double())) == pytest.approx(np.log(4))
    assert float(mutual_information(torch.full((9, 4), 0.25).double())) == pytest.approx(0)
    assert float(mutual_information(torch.eye(4).double()[:1])) == pytest.approx(0)


def test_the_surest_are_as_many_of_every_answer():
    share = torch.rand(
        400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).softmax(1)
    known = most_certain(share, 0.25)
    guess = share.argmax(1).numpy()
    sure = share.amax(1).numpy()
    for label in range(3):
        own = guess == label
        assert known[own].sum() == np.ceil(0.25 * own.sum())
        assert sure[own & known].min() >= sure[own & ~known].max()


def test_answers_are_smoothed_along_the_graph(model):
    x = model.model_.encode(X[:60]).event
    graph = Graph.of(x, model.model_.codec.space)
    hot = torch.eye(5).double()[Y[:60]]
    limit = np.linalg.solve(np.eye(60) - 0.5 * graph.step.toarray(), hot.numpy())
    assert np.allclose(graph.smooth(hot, 0.5), limit / limit.sum(1, keepdims=True))


def test_features_are_standardised_once_the_network_is_trained(model):
    scorer = model.model_.joint.predictor.scorer
    x = model.model_.encode(X[OLD]).event
    seen = scorer.features(x)
    assert seen.mean(0).abs().max() < 0.3 and (seen.std(0) - 1).abs().max() < 0.3
    scores = scorer.scores(x)
    other = model.model_.encode(X[NEW]).event
    scorer.settle(Event(other.value[:100]))
    assert torch.allclose(scorer.scores(x), scores)
    assert torch.allclose(
        scorer.aligned(Event(other.value[:100])), scorer.scores(Event(other.value[:100]))
    )
    scorer.settle(x)


def test_answers_ignore_shares_that_were_found_before(model, negatives):
    x = model.model_.encode(negatives).event
    one, other = (answers(each.model_, x) for each in (model, model.adapt(X[NEW][:150])))
    assert torch.equal(one.share, other.share) and 0.5 < one.certainty == other.certainty < 1
    assert (one.share.argmax(1).numpy() == Y[NEW]).mean() > model.score(negatives, Y[NEW]) + 0.3


# ---------------------------------------------------------------------------------------- the whole


def test_pictures_that_look_otherwise_are_followed(model, followed, negatives):
    assert model.score(X[NEW], Y[NEW]) > 0.9
    assert followed.score(negatives, Y[NEW]) > model.score(negatives, Y[NEW]) + 0.3
    assert followed.score_samples(negatives).mean() > model.score_samples(negatives).mean() + 20
    assert followed.classes_.tolist() == model.classes_.tolist()
    assert np.allclose(followed.predict_proba(negatives).mean(0), followed.change_.new)
    kept = followed.predict(negatives) == model.predict(negatives)
    assert followed.change_.otherwise == pytest.approx(1 - kept.mean())


def test_what_followed_is_said_and_promises_no_errors(followed, negatives):
    assert "has followed by its own surest answers" in str(
        followed.change_
    ) and "only labels can tell" in str(followed.change_)
    with pytest.raises(ValueError, match="there are 0"):
        followed.decide(negatives)
    assert (followed.model_.p_value(followed.model_.encode(negatives)) <= 0.1).mean() < 0.2
    assert (
        followed.calibrate(negatives, Y[NEW])
        .decide(negatives, max_error=0.2)["verdict"]
        .eq("accept")
        .any()
    )


def test_the_same_seed_gives_the_same_bits_and_they_are_saved(negatives, tmp_path, monkeypatch):
    monkeypatch.setattr("conjoin.questions.domain_shift.MIN_CERTAINTY", 0)
    model = JointClassifier(family=TINY.set_params(steps=8), types=GREYS).fit(X[:200], Y[:200])
    found, again = (model.adapt(negatives, density=True, random_state=3) for _ in range(2))
    assert found.change_.otherwise is not None
    for other in (again, conjoin.load(found.save(tmp_path / "m"))):
        assert np.array_equal(
            other.predict_joint_log_proba(negatives[:20]),
            found.predict_joint_log_proba(negatives[:20]),
        )
        assert str(other.change_) == str(found.change_)


def test_where_the_shares_alone_have_changed_the_answers_are_those_of_the_shares(model):
    few = np.r_[np.flatnonzero(Y[NEW] == 1), np.flatnonzero(Y[NEW] != 1)[::4]]
    shares, both = (model.adapt(X[NEW][few], density=each, max_time=0) for each in (False, True))
    assert np.allclose(both.predict_proba(X[NEW]), shares.predict_proba(X[NEW]))
    assert both.change_.otherwise is None and both.change_.new == shares.change_.new
    assert both.model_.statistic(both.model_.encode(X[NEW])).std() > 0


def test_answers_that_tell_nothing_are_not_followed(model, monkeypatch):
    monkeypatch.setattr("conjoin.questions.domain_shift.MIN_CERTAINTY", 1.1)
    noise = np.random.default_rng(0).integers(0, 17, (200, 8, 8)).astype("uint8")
    found = model.adapt(noise, density=True, max_time=0)
    assert "did not follow" in found.change_.promise and found.change_.otherwise is None
    assert np.allclose(found.predict_proba(noise), model.adapt(noise).predict_proba(noise))
