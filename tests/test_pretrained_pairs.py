"""Tables of pictures and captions under networks that others have trained, as ``from_pretrained``
makes them: answers, alarms, what is refused. All weights are random and made here."""

import numpy as np
import pandas as pd
import pytest
from caption_folders import SIDE, captioner, text_to_image
from pretrained_folders import tokenizer

import conjoin
from conjoin import from_pretrained
from conjoin.core import CapabilityError
from conjoin.estimators.pretrained import alternatives

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
CAPTIONS = ("a light ring", "a dark ring")


def table(rows, seed=0):
    """Pictures of two greys, and what they show."""
    rng = np.random.default_rng(seed)
    light = rng.integers(0, 2, rows)
    pixels = rng.integers(0, 40, (rows, SIDE, SIDE, 3)) + 180 * (1 - light)[:, None, None, None]
    pictures = pd.Series(list(pixels.astype(np.uint8)), dtype=object)
    ends = np.where(rng.integers(0, 2, rows), " b", "")
    captions = [CAPTIONS[int(each)] + end for each, end in zip(light, ends, strict=True)]
    return pd.DataFrame({"picture": pictures, "caption": captions})


def strange(rows, seed=1):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 2, (rows, SIDE, SIDE, 3)) * 255
    return pd.Series(list(noise.astype(np.uint8)), dtype=object)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "model"
    size = tokenizer(folder, [f"{each} b" for each in CAPTIONS])
    return captioner(folder, vocabulary=size, end=0, positions=32)


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stable") / "model"
    return text_to_image(folder, factor=2, channels=3, texts=["abdghiklnrt" * 2])


def test_a_captioner_answers_a_table_and_rings_two_alarms(blip, tmp_path):
    model = from_pretrained(blip, table(120), capacity=16)
    assert model.status_["log_prob"] == "lower bound"  # one way of writing a string of several
    assert "says nothing of how probable 'picture' is" in model.model_.notices[0]
    new = table(60, 2)
    verdicts = model.decide(new, false_alarm=0.1)["verdict"]
    assert (verdicts == "accept").mean() > 0.7
    odd = model.decide(new.assign(picture=strange(60)), false_alarm=0.1)
    odd = odd[odd["verdict"] == "unfamiliar"]
    assert len(odd) > 40 and odd["reason"].str.contains("picture is unlike").mean() > 0.5
    wrong = new.assign(caption=[each[::-1] for each in new["caption"]])
    wrong = model.decide(wrong, false_alarm=0.1)
    wrong = wrong[wrong["verdict"] == "unfamiliar"]
    assert len(wrong) > 40 and wrong["reason"].str.contains("caption is unlike").mean() > 0.5
    alone = model.decide(new.assign(caption=None), false_alarm=0.1)["verdict"]
    assert (alone == "accept").mean() > 0.7
    told = model.impute(new.assign(caption=None).head(3))
    drawn, _ = model.sample(2, given={"picture": new["picture"][0]}, random_state=0)
    assert told["caption"].notna().all() and len(drawn) == 2
    best = alternatives(model, new.head(2), 3)
    assert best["row"].tolist() == [0, 0, 0, 1, 1, 1]
    asked = new.iloc[best["row"]].reset_index(drop=True)
    again = model.score_samples(asked.assign(caption=best["caption"]))
    assert (
        best["probability"].groupby(best["row"]).apply(lambda p: (p.diff()[1:] <= 0).all())
    ).all()
    assert np.isfinite(again).all()
    with pytest.raises(CapabilityError, match="'caption' where 'picture' is not known"):
        model.sample(2)
    with pytest.raises(CapabilityError, match="'picture' is not known"):
        model.impute(new.assign(picture=None).head(2))
    model.save(tmp_path / "saved")
    assert np.array_equal(
        conjoin.load(tmp_path / "saved").score_samples(new), model.score_samples(new)
    )


def test_a_bare_model_is_calibrated_later(blip):
    model = from_pretrained(blip, capacity=16).calibrate(table(120))
    odd = table(60, 2).assign(picture=strange(60))
    assert (model.decide(odd, false_alarm=0.1)["verdict"] == "unfamiliar").mean() > 0.7
    with pytest.raises(ValueError, match="40 rows are needed, half of which say what is typical"):
        from_pretrained(blip, capacity=16).calibrate(table(20))


def test_text_to_image_answers_a_table_and_rings_two_alarms(stable, tmp_path):
    model = from_pretrained(stable, table(120), steps=4, points=2, guidance=3.0)
    assert model.status_ == {"log_prob": "lower bound", "sample": "approximate"}
    assert any("come from no density" in words for words in model.model_.notices)
    new = table(60, 2)
    assert (model.decide(new, false_alarm=0.1)["verdict"] == "accept").mean() > 0.7
    odd = model.decide(new.assign(picture=strange(60)), false_alarm=0.1)
    assert (odd["verdict"] == "unfamiliar").mean() > 0.9
    prompts = pd.DataFrame({"picture": [None] * 20, "caption": ["tttt gggg"] * 20}, dtype=object)
    odd = model.decide(prompts, false_alarm=0.1)
    assert (odd["verdict"] == "unfamiliar").all()
    assert odd["reason"].str.contains("caption is unlike").all()
    with pytest.raises(CapabilityError, match="declares step=False"):
        alternatives(model, new.head(1))
    drawn, _ = model.sample(2, given={"caption": "a light ring"}, random_state=0)
    assert drawn["picture"][0].pixels.shape == (SIDE, SIDE, 3)
    assert drawn["caption"].tolist() == ["a light ring"] * 2
    null, _ = model.sample(1, random_state=0)
    assert null["caption"].tolist() == [""]
    assert model.impute(new.assign(picture=None).head(2))["picture"].notna().all()
    with pytest.raises(CapabilityError, match="'caption' given 'picture'"):
        model.impute(new.assign(caption=None).head(2))
    model.save(tmp_path / "saved")
    assert np.array_equal(
        conjoin.load(tmp_path / "saved").score_samples(new), model.score_samples(new)
    )


def test_draws_of_p_itself_keep_its_status(stable):
    model = from_pretrained(stable, steps=4, points=2, clean=False)
    assert model.status_ == {"log_prob": "lower bound", "sample": "lower bound"}
