"""p(y | x) of texts: terms and their tables, naive Bayes with and without labels, the pool that a
user gets, its answers and a saved model, draws of a class."""

import numpy as np
import pytest
import torch

import conjoin
from conjoin import JointClassifier
from conjoin.codecs.kinds import codec_for
from conjoin.codecs.sequence import Prefix
from conjoin.core import Event, Pair
from conjoin.predictors import logistic
from conjoin.predictors.base import Case
from conjoin.predictors.terms import Terms
from conjoin.predictors.texts import ADDED, TextBayesMethod, TextLogisticMethod

SAID = {
    "sport": ["goal", "match", "team", "coach", "ball"],
    "trade": ["price", "stock", "market", "bank"],
}


def documents(rows=240, seed=0, words=5):
    rng = np.random.default_rng(seed)
    label = rng.choice(["sport", "trade"], rows)
    return [" ".join(rng.choice(SAID[each], words)) for each in label], label


def case_of(texts, codes, known=None):
    codec = codec_for(texts)[0].fit(texts)
    codes = torch.as_tensor(codes, dtype=torch.float64)
    known = torch.ones(len(codes), dtype=torch.bool) if known is None else known
    rows = Pair(Event(codes, known), codec.encode(texts).event)
    weight = torch.ones(len(codes), dtype=torch.float64)
    return Case(codec.space, rows, weight, 2, 0, wording=codec.wording)


# ------------------------------------------------------------------ terms


def test_terms_are_words_and_pairs_weighed_as_published():
    texts = ["A b a b", "b c", ""]
    terms, table = Terms.learned(texts, "words", 1)
    assert table.shape == (3, 6)  # a, b, c, ab, ba, bc
    rare, common = np.log(4 / 2) + 1, np.log(4 / 3) + 1
    weight = np.array([(1 + np.log(2)) * rare, (1 + np.log(2)) * common])
    first = np.sort([*weight, (1 + np.log(2)) * rare, rare])  # a, b, ab twice, ba once
    assert np.allclose(np.sort(table[0].data), first / np.linalg.norm(first))
    assert table[2].nnz == 0
    assert np.allclose(terms.table(["B C", "zzz"]).toarray()[0], table[1].toarray()[0])
    assert terms.table(["zzz"]).nnz == 0


def test_runs_of_characters_do_not_cross_words():
    _, table = Terms.learned(["ab c"], "characters", 1)
    # " a", "ab", "b ", " c", "c ", " ab", "ab ", " c ", " ab "
    assert table.shape == (1, 9)
    assert Terms.learned([""], "characters", 1)[1].shape == (1, 1)  # two blanks


def test_a_term_of_too_few_texts_does_not_count():
    terms, _ = Terms.learned(["a x", "a y", "a z"], "words", 2)
    assert len(terms.kept) == 1


# ------------------------------------------------------------------ methods


def test_naive_bayes_is_its_formula():
    texts, codes = ["a", "a", "b"], [0, 0, 1]
    case = case_of(texts, codes)
    scorer = TextBayesMethod().fit(case)
    proba = scorer.scores(case.rows.x).softmax(1)
    in_first = (2 + ADDED) / (2 + 2 * ADDED) * 2 / 3
    in_second = ADDED / (1 + 2 * ADDED) / 3
    assert torch.allclose(proba[0, 0], torch.tensor(in_first / (in_first + in_second)).double())


def test_texts_without_a_label_teach():
    """Words that no labelled text has are known by those that stand beside them."""
    texts, label = documents(400, words=3)
    codes = (label == "trade").astype(float)
    known = torch.zeros(400, dtype=torch.bool)
    known[[np.flatnonzero(codes == k)[0] for k in (0, 1)]] = True
    case = case_of(texts, codes, known)
    right = (TextBayesMethod().fit(case).scores(case.rows.x).argmax(1).numpy() == codes).mean()
    alone = case.take(known.numpy())
    without = TextBayesMethod().fit(alone).scores(case.rows.x).argmax(1).numpy() == codes
    assert right > 0.95 > without.mean()


@pytest.mark.parametrize("method", [TextBayesMethod(), TextLogisticMethod()])
def test_rows_are_judged_by_the_other_folds(method, monkeypatch):
    monkeypatch.setattr(logistic, "MAX_SEARCHED_CELLS", 0)  # all folds choose the strength
    texts, label = documents(120)
    label[:30] = np.where(label[:30] == "sport", "trade", "sport")  # so that rows matter
    case = case_of(texts, (label == "trade").astype(float)).with_folds()
    folded = method.by_folds(case)
    assert not folded.scores.isnan().any()
    held = case.parts()[0]
    changed = case.rows.y.value.clone()
    changed[torch.as_tensor(held)] = 1 - changed[torch.as_tensor(held)]
    other = Case(**{**vars(case), "rows": Pair(Event(changed, case.rows.y.mask), case.rows.x)})
    again = method.by_folds(other).scores
    assert torch.allclose(again[torch.as_tensor(held)], folded.scores[torch.as_tensor(held)])
    assert not torch.allclose(again[torch.as_tensor(~held)], folded.scores[torch.as_tensor(~held)])


# ------------------------------------------------------------------ what a user gets


@pytest.fixture(scope="module")
def model():
    X, y = documents()
    y[::8] = np.where(y[::8] == "sport", "trade", "sport")
    return JointClassifier(family="ngram", random_state=0).fit(X, y)


def test_texts_have_a_pool_with_predictors_of_their_own(model):
    told = model.model_.card["predictor"]
    assert set(told["log_loss"]) >= {"text_bayes", "text_logistic", "family", "pool"}
    assert model.model_.state.predictor == "pool"
    assert model.model_.state.temperature is None
    X, y = documents(seed=1)
    assert (model.predict(X) == y).mean() > 0.95
    assert model.predict_proba(X).max(1).mean() < 0.95  # one label of eight is wrong


def test_the_joint_of_texts_adds_up(model):
    X, _ = documents(6, seed=2)
    encoded = model.model_.encode([*X, None, ""])
    joint = model.model_.log_joint(encoded)
    assert torch.allclose(joint.logsumexp(1), model.model_.log_evidence(encoded.event))
    assert np.allclose(joint.softmax(1).numpy(), model.predict_proba([*X, None, ""]))


def test_a_text_of_which_nothing_is_known_has_the_shares_of_the_classes(model):
    base = model.model_.pair.base
    prior = base.log_prior.softmax(0).detach().numpy()
    assert np.allclose(model.predict_proba([None])[0], prior, atol=1e-6)


def test_a_saved_pool_of_texts_answers_the_same(model, tmp_path):
    X, _ = documents(8, seed=3)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert "goal" not in (tmp_path / "model" / "config.json").read_text()


def test_texts_of_a_class_are_drawn_and_continued(model):
    drawn, y = model.sample(40, y="sport", random_state=0)
    assert set(y) == {"sport"}
    assert (model.predict(drawn) == "sport").mean() > 0.8
    found, y = model.sample(3, y="trade", given={"text": Prefix("stock ")}, random_state=0)
    assert all(text.startswith("stock ") for text in found)
    filled = model.impute([None, "goal"])
    assert filled[1] == "goal" and isinstance(filled[0], str)


def test_few_labels_and_many_texts():
    X, label = documents(300, words=3)
    y = np.full(300, None, dtype=object)
    for each in SAID:
        y[np.flatnonzero(label == each)[:3]] = each
    model = JointClassifier(family="ngram", random_state=0).fit(X, y)
    assert model.model_.state.predictor == "text_bayes"
    T, truth = documents(100, seed=4, words=3)
    assert (model.predict(T) == truth).mean() > 0.95


def test_a_predictor_of_texts_is_taken_by_its_name_and_others_are_refused():
    X, y = documents(80)
    named = JointClassifier(family="ngram", predictor="text_logistic", random_state=0).fit(X, y)
    assert named.model_.state.predictor == "text_logistic"
    with pytest.raises(ValueError, match="predictor='linear' reads columns, and strings have none"):
        JointClassifier(family="ngram", predictor="linear").fit(X, y)
    table = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(ValueError, match="reads texts, and the data are none"):
        JointClassifier(family="mixture", predictor="text_bayes").fit(table, np.arange(60) % 2)


def test_codes_without_words_keep_the_familys_own():
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b"], 120)
    X = ["".join(rng.choice(list("xyz" if each == "a" else "yzw"), 5)) for each in y]
    model = JointClassifier(family="ngram", random_state=0).fit(X, y)
    assert model.model_.state.predictor == "family"
    assert "read columns, and there are none" in model.model_.card["predictor"]["why"]
