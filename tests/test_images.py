"""Images as arrays: what a pixel may be, the way to events and back, and the estimators' surface on
scikit-learn's digits.
"""

import warnings

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
    # row 1, column 2 of the first channel
    assert event.value[2, 1 * 3 + 2] == images[(2, 1, 2) + (0,) * (len(shape) - 3)]
    again = ImageCodec.from_json(codec.to_json())
    assert again.space == codec.space


def test_levels_are_fixed_whatever_was_seen():
    """Bytes have 256 levels, fewer only where they are asked for."""
    few = digits(10)[0]
    many = np.full((3, 2, 2), 200, dtype="uint8")
    assert (ImageCodec.of(few).levels, ImageCodec.of(many).levels) == (256, 256)
    assert ImageCodec.of(few, levels=17).levels == 17
    assert ImageCodec.of(few > 3).levels == 2


def test_levels_that_are_taken_off_whole_numbers_are_said():
    codec = ImageCodec.of(digits(10)[0].astype(float))
    assert codec.levels == 17
    assert codec.notices[0].startswith("The pixels (float64) go from 0 to 16")
    assert ImageCodec.from_json(codec.to_json()).notices == codec.notices
    model = JointDensity(family="naive_bayes", types={"levels": 20}).fit(digits(60)[0])
    assert model.model_.codec.levels == 20 and model.model_.codec.notices == []


@pytest.mark.parametrize("types", [{"levels": 1}, {"levels": 300}, {"channels": 1}, {"a": "real"}])
def test_what_can_not_be_asked_of_pictures_is_said(types):
    with pytest.raises(ValueError, match=r"levels|channels"):
        JointDensity(family="naive_bayes", types=types).fit(digits(60)[0])


@pytest.mark.parametrize("levels", [None, 17])
def test_a_picture_brighter_than_any_of_the_fit_is_unfamiliar(levels):
    """One of a batch does not keep the others from an answer, which is what it was without it."""
    X, y = digits(300)
    types = None if levels is None else {"levels": levels}
    model = JointClassifier(family="naive_bayes", predictor=None, types=types).fit(X[50:], y[50:])
    batch = X[:6].copy()
    batch[3, 2:6, 2:6] = 200
    alone = model.decide(X[:6], max_error=0.2)
    found = model.decide(batch, max_error=0.2)
    assert found["verdict"][3] == "unfamiliar"
    others = [0, 1, 2, 4, 5]
    assert found.loc[others].equals(alone.loc[others])
    assert np.isfinite(model.score_samples(batch)).all()
    assert model.score_samples(batch)[3] < model.score_samples(X[:6]).min()


def test_few_grey_levels_take_the_diffusion_of_tables_with_a_word():
    X = np.random.default_rng(0).integers(0, 4, (60, 8, 8)).astype("uint8")
    family = conjoin.families.resolve("diffusion").set_params(steps=2)
    few = JointDensity(family=family, types={"levels": 4}).fit(X).model_
    assert "4 levels" in few.card["notices"][0] and "diffusion of tables" in few.card["notices"][0]
    whole = JointDensity(family=family).fit(X).model_
    assert whole.card["family"] == "picture_diffusion" and whole.card["notices"] == []


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
    with pytest.raises(
        ValueError, match=r"images of 7 x 8, but JointClassifier is expecting images of 8 x 8"
    ):
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
    model = JointDensity(family="mixture", types={"levels": 3}).fit(images, calibration=0)
    every = np.array([[[a, b]] for a in range(3) for b in range(3)], dtype="uint8")
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=1e-6)


def test_few_images_of_a_network():
    X, y = digits(60)
    model = JointClassifier(
        family=conjoin.families.resolve("transformer").set_params(steps=3), predictor=None
    ).fit(X, y)
    assert model.status_["log_prob"] == "exact"
    assert torch.isfinite(torch.tensor(model.score_samples(X[:5]))).all()


def test_bits_per_dimension():
    X, y = digits(120)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    bits = model.bits_per_dim(X[:5])
    assert bits == pytest.approx(-model.score_samples(X[:5]) / np.log(2) / 64)
    assert model.evaluate(X[:5], y[:5])["bits_per_dim"] == pytest.approx(bits.mean())
    gaps = X[:1].astype(float)
    gaps[:, :4] = np.nan
    assert model.bits_per_dim(gaps) == pytest.approx(-model.score_samples(gaps) / np.log(2) / 32)
    with pytest.raises(ValueError, match="Bits per dimension are of images"):
        JointDensity(family="naive_bayes").fit(np.arange(40.0).reshape(20, 2)).bits_per_dim(
            np.ones((1, 2))
        )


def test_uniform_pixels_cost_their_bits():
    """Four levels that are equally likely: two bits a pixel."""
    images = np.random.default_rng(0).integers(0, 4, (2000, 2, 2)).astype("uint8")
    model = JointDensity(family="naive_bayes", types={"levels": 4}).fit(images, calibration=0)
    assert model.bits_per_dim(images).mean() == pytest.approx(2, abs=0.01)


def test_greys_with_and_without_their_one_channel():
    X, y = digits(100)
    flat = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    deep = JointClassifier(family="naive_bayes", predictor=None).fit(X[..., None], y)
    assert (flat.predict_proba(X[:9, ..., None]) == flat.predict_proba(X[:9])).all()
    assert (deep.predict_proba(X[:9]) == flat.predict_proba(X[:9])).all() and deep.sample(2)[
        0
    ].shape == (2, 8, 8, 1)


def test_four_channels_are_modelled_as_they_are_and_this_is_said():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 4)).astype("uint8")
    assert "conjoin.on_background" in ImageCodec.of(images).notices[0] and ImageCodec.of(
        images
    ).grid == (4, 2, 2)
    assert ImageCodec.of(images[..., :3]).notices == []


# ------------------------------------------------------------------- what may be given as pictures


def colours(n=40, height=6, width=8):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3)).astype("uint8")


def test_channels_first_are_understood():
    X = colours()
    last = JointDensity(family="naive_bayes").fit(X)
    first = JointDensity(family="naive_bayes").fit(np.moveaxis(X, 3, 1))
    assert "their 3 channels first" in first.model_.codec.notices[0]
    assert last.model_.codec.notices == []
    assert first.model_.codec.grid == (3, 6, 8)
    assert np.array_equal(first.score_samples(np.moveaxis(X, 3, 1)), last.score_samples(X))
    assert np.array_equal(first.score_samples(X), last.score_samples(X))  # either is understood
    drawn = first.sample(5, random_state=0)[0]
    assert np.array_equal(drawn, last.sample(5, random_state=0)[0])  # answers have them last
    assert ImageCodec.from_json(first.model_.codec.to_json()).grid == (3, 6, 8)
    with pytest.raises(ValueError, match="of which every axis may be the channels"):
        JointDensity(types={"channels": "first"}).fit(colours(9, 3, 3))


def test_where_the_channels_stand_can_be_said():
    X = np.random.default_rng(0).integers(0, 256, (30, 20, 6, 8)).astype("uint8")
    model = JointDensity(family="naive_bayes", types={"channels": "first"}).fit(X)
    assert model.model_.codec.grid == (20, 6, 8) and model.model_.codec.notices == []
    many = ImageCodec.of(np.moveaxis(X[:, :5], 1, 3))
    assert many.grid == (5, 6, 8) and "and 5 channels" in many.notices[0]


@pytest.mark.parametrize("make", [torch.from_numpy, list, np.ndarray.tolist, tuple])
def test_tensors_and_lists_of_pictures_are_pictures(make):
    X = np.random.default_rng(0).integers(60, 256, (40, 6, 8)).astype("uint8")
    model = JointDensity(family="naive_bayes").fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lists of numbers are no bytes, which is said
        other = JointDensity(family="naive_bayes").fit(make(X))
    assert other.model_.codec.grid == (1, 6, 8)
    assert np.array_equal(other.score_samples(make(X)), model.score_samples(X))


def test_a_list_of_pillows_pictures_is_read():
    pillow = pytest.importorskip("PIL.Image")
    X = colours()
    model = JointDensity(family="naive_bayes").fit([pillow.fromarray(each) for each in X])
    assert model.model_.codec.grid == (3, 6, 8)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((5, 16, 32, 32), "uint8"), "volumes are not modelled, so give slices"),
        (np.zeros((5, 3, 8, 8, 8), "uint8"), "Volumes and films are not modelled"),
        ([np.zeros((8, 8)), np.zeros((9, 8))], "the first has 8 x 8, and picture 1 has 9 x 8"),
        ([[[1, 2], [3]], [[1, 2], [3, 4]]], "rows have different lengths"),
        (np.linspace(-1, 1, 2 * 9).reshape(2, 3, 3), r"from -1 to 1: give np.rint\(127.5 \* \(X"),
        (np.linspace(0, 1, 2 * 9).reshape(2, 3, 3), r"np.rint\(255 \* X\)"),
        (np.full((2, 3, 3), 4095, "uint16"), r"np.rint\(X \* \(255 / 4095\)\)"),
        (np.full((2, 3, 3), np.inf), "infinity is none"),
    ],
)
def test_what_is_no_picture_gets_a_sentence_that_helps(images, words):
    with pytest.raises(ValueError, match=words):
        JointDensity(family="naive_bayes").fit(images)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 6, 8), r"np.stack\(\[X\] \* 3, -1\)"),
        ((6, 8, 3), r"if X is one picture, give X\[None\]"),
        ((3, 6, 8), r"if X is one picture, give X\[None\]"),
    ],
)
def test_pictures_of_another_shape_get_a_sentence_that_helps(shape, words):
    model = JointDensity(family="naive_bayes").fit(colours())
    with pytest.raises(ValueError, match=words):
        model.score_samples(np.zeros(shape, "uint8"))
    grey = JointDensity(family="naive_bayes").fit(colours()[..., 0])
    with pytest.raises(ValueError, match="mode='grey'"):
        grey.score_samples(colours())


def test_encoding_leaves_the_rows_alone():
    frame = ImageCodec.of(digits(3)[0]).frame(digits(3)[0]).astype("float64")
    frame.iloc[0, 0] = np.nan
    codec = ImageCodec.of(digits(3)[0])
    codec.encode(frame)
    assert np.isnan(frame.iloc[0, 0])


def test_a_strange_image_is_strange_as_a_whole():
    X, y = digits(400)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    noise = np.random.default_rng(0).integers(0, 17, (2, 8, 8)).astype("uint8")
    assert (
        model.decide(noise, max_error=0.2)["reason"].tolist()
        == ["the image as a whole is unlike those held out"] * 2
    )
