"""Images as arrays: what a pixel may be, the way to events and back, and the estimators' surface on scikit-learn's digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.codecs import ImageCodec


def digits(rows=300):
    bunch = load_digits()
    return bunch.images[:rows].astype("uint8"), bunch.target[:rows]


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 2)])
def test_images_come_back_as_they_went(shape):
    images = np.random.default_rng(0).integers(0, 17, shape).astype("uint8")
    codec = ImageCodec.of(images)
    event = codec.encode(images).event
    assert codec.grid == (shape[3] if len(shape) == 4 else 1, 4, 3)
    assert event.value.shape == (5, codec.space.shape[0])
    assert np.array_equal(codec.images(codec.decode(event.value)), images)
    assert event.value[2, 1 * 3 + 2] == images[(2, 1, 2) + (0,) * (len(shape) - 3)]  # row 1, column 2 of the first channel
    again = ImageCodec.from_json(codec.to_json())
    assert again.space == codec.space


def test_levels_are_fixed_whatever_was_seen():
    few, many = digits(10)[0], np.full((3, 2, 2), 200, dtype="uint8")
    assert (ImageCodec.of(few).levels, ImageCodec.of(many).levels) == (int(few.max()) + 1, 256)


def test_missing_pixels_are_missing():
    images = digits(5)[0].astype(float)
    images[0, 3, 4] = np.nan
    event = ImageCodec.of(images).encode(images).event
    assert int((~event.mask).sum()) == 1
    assert not event.mask[0, 3 * 8 + 4]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.full((2, 3, 3), 0.5), "A pixel is 0.5; .*multiplied by 255"),
        (np.full((2, 3, 3), -1), "A pixel is -1; pixels are whole numbers from 0"),
        (np.full((2, 3, 3), 300), "A pixel is 300"),
        (np.full((2, 3, 3), "a"), "arrays of whole numbers"),
    ],
)
def test_what_is_no_image_is_said(images, words):
    with pytest.raises(ValueError, match=words):
        ImageCodec.of(images)


def test_images_of_another_size_are_refused():
    X, y = digits(100)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    with pytest.raises(ValueError, match=r"images of 7 x 8, but JointClassifier is expecting images of 8 x 8"):
        model.predict(X[:, :7])


def test_a_joint_model_of_images_classifies_draws_fills_in_and_is_saved(tmp_path):
    X, y = digits(400)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    assert model.score(X, y) > 0.8
    drawn, labels = model.sample(3, y=5)
    assert drawn.shape == (3, 8, 8) and drawn.dtype == np.uint8 and (labels == 5).all()
    gaps = X[:2].astype(float)
    gaps[:, :4] = np.nan
    filled = model.impute(gaps)
    assert filled.shape == (2, 8, 8)
    assert np.array_equal(filled[:, 4:], X[:2, 4:])
    assert len(model.impute(gaps, n_draws=2)) == 2
    noise = np.random.default_rng(0).integers(0, 17, (5, 8, 8)).astype("uint8")
    assert (model.decide(noise, max_error=0.2)["verdict"] == "unfamiliar").all()
    model.save(tmp_path / "digits")
    assert (conjoin.load(tmp_path / "digits").predict(X[:20]) == model.predict(X[:20])).all()


def test_log_p_is_of_the_discrete_image():
    """Two pixels of three levels: nine images, whose probabilities sum to one."""
    images = np.random.default_rng(0).integers(0, 3, (60, 1, 2)).astype("uint8")
    model = JointDensity(family="mixture").fit(images, calibration=0)
    every = np.array([[[a, b]] for a in range(3) for b in range(3)], dtype="uint8")
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=1e-6)


def test_few_images_of_a_network():
    X, y = digits(60)
    model = JointClassifier(family=conjoin.families.resolve("transformer").set_params(steps=3), predictor=None).fit(X, y)
    assert model.status_["log_prob"] == "exact"
    assert torch.isfinite(torch.tensor(model.score_samples(X[:5]))).all()
