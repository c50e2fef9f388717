"""Pretrained captioners of a folder: exact p(caption | picture), alternatives, what a folder may
hold. All weights are random and made here."""

import copy

import pytest
import torch
from caption_folders import CAPTIONERS, SIDE, brute_caption, captioner
from pretend_device import pretended
from pretrained_folders import altered, transformers

from conjoin.core import Block, CapabilityError, Event, Record, RecordSpace, Variable, stream
from conjoin.families.autoregressive.beam import most_probable
from conjoin.families.pretrained.caption import TransformersCaption
from conjoin.testing import conformance
from conjoin.testing.conformance import CHECKS, run_case

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
package = transformers()

LETTERS = Block("strings", "sequence", (3,), (Variable("letter", "category", 2),))
PICTURE = Block("picture", "image", (3, SIDE, SIDE), (Variable("level", "ordered", 256),))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: captioner(tmp_path_factory.mktemp(kind) / "model", kind) for kind in CAPTIONERS}


def built(folder, block=LETTERS, picture=PICTURE, **settings):
    config = TransformersCaption(folder=str(folder), **settings)
    told = RecordSpace((picture,))
    return config.density.build(block, config, block.unknown(0), stream(0), context_space=told)


def pictures(rows, seed=0):
    value = torch.randint(256, (rows, 3, SIDE, SIDE), generator=stream(seed))
    return Record(picture=PICTURE.check(Event(value)))


@pytest.mark.parametrize("check", CHECKS)
def test_the_conformance_suite_passes(folders, check):
    """In float64, where its answers agree to the last digits; with steps of tuning."""
    folder = folders["vision-encoder-decoder"]
    config = TransformersCaption(folder=str(folder), tune=5, rate=1e-2, dtype="float64")
    passed, detail = conformance._outcome(lambda: run_case(config, "strings given picture", check))
    assert passed, detail


@pytest.mark.parametrize("kind", ["blip", "git"])
def test_other_layouts_sum_to_one_and_step_alike(folders, kind):
    config = TransformersCaption(folder=str(folders[kind]), tune=5, rate=1e-2, dtype="float64")
    for check in ("normalisation", "step", "conditionals", "batches", "null_context"):
        passed, detail = conformance._outcome(
            lambda: run_case(config, "strings given picture", check)  # noqa: B023
        )
        assert passed, (check, detail)


@pytest.mark.parametrize("kind", CAPTIONERS)
def test_log_p_is_the_networks_own(folders, kind):
    """Of a scaled picture, by the network of transformers as a whole."""
    maker = package.AutoModelForImageTextToText
    network = maker.from_pretrained(folders[kind], local_files_only=True, dtype=torch.float64)
    density = built(folders[kind], dtype="float64")
    told = pictures(1)
    shift = torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64)[:, None, None]
    spread = torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64)[:, None, None]
    pixels = (told["picture"].value.double() / 255 - shift) / spread
    own, end = brute_caption(network, kind, pixels, [1, 0], 2, [2])
    caption = Event(torch.tensor([[1, 0, 0]]), present=torch.tensor([[True, True, False]]))
    assert abs(float(density.log_prob(caption, told)) - sum(own) - end) < 1e-9
    beginning = caption._replace(observed=caption.present)
    assert abs(float(density.log_prob(beginning, told)) - sum(own)) < 1e-9


@pytest.mark.parametrize("kind", CAPTIONERS)
def test_alternatives_are_the_most_probable_of_all(folders, kind):
    """With a beam as wide as there are beginnings, those of the list of all strings."""
    density = built(folders[kind], dtype="float64")
    told = pictures(2)
    found, log_p = most_probable(density, 2, 4, told, width=8)
    every = LETTERS.laid.every(LETTERS)
    for row in range(2):
        rows = torch.full((every.rows,), row)
        each = density.log_prob(every, told.take(rows))
        assert torch.allclose(log_p[row], each.topk(4).values, atol=1e-9)
    again = density.log_prob(found, told.take(torch.arange(2).repeat_interleave(4)))
    assert torch.allclose(again, log_p.flatten(), atol=1e-9)
    greedy = density.log_prob(density.mode(LETTERS.unknown(2), told), told)
    assert bool((greedy <= log_p[:, 0] + 1e-9).all())


def test_a_picture_that_is_not_told_is_refused(folders):
    density = built(folders["blip"])
    caption = LETTERS.unknown(2).hide(torch.tensor(True))
    part = Record(picture=pictures(2)["picture"].hide(torch.arange(SIDE) == 1))
    for told in (None, part):
        with pytest.raises(CapabilityError, match="null_context='none'"):
            density.sample(2, told)
    assert density.log_prob(caption, pictures(2)).tolist() == [0.0, 0.0]


def test_greys_are_seen_as_three_equal_colours(folders):
    grey = Block("picture", "image", (1, SIDE, SIDE), PICTURE.variables)
    value = pictures(2)["picture"].value[:, :1]
    words = LETTERS.laid.every(LETTERS).take(torch.tensor([3, 5]))
    one = built(folders["git"], picture=grey).log_prob(words, Record(picture=Event(value)))
    same = Event(value.expand(-1, 3, -1, -1))
    assert torch.equal(one, built(folders["git"]).log_prob(words, Record(picture=same)))


# ------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    return captioner(tmp_path / "model")


def test_a_folder_with_a_pickle_or_code_is_refused(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="may hold a pickle, which can run any code"):
        built(folder)
    (folder / "pytorch_model.bin").unlink()
    altered(folder, auto_map={"AutoModel": "mine.Mine"})
    with pytest.raises(ValueError, match="names code to be run"):
        built(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"model_type": "gpt2", "vocab_size": 3}, "captions no pictures; choose from vision-enc"),
        ({"eos_token_id": None, "decoder": {"vocab_size": 3}}, "tells no eos_token_id"),
        ({"encoder": {"model_type": "vit", "image_size": 10**9}}, "image_size|pixels|asks for"),
    ],
)
def test_a_network_that_is_no_captioner_is_told(folder, entries, words):
    altered(folder, **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


def test_what_scales_pictures_must_be_told(folder):
    altered(folder, "preprocessor_config.json", image_mean=[0.5])
    with pytest.raises(ValueError, match="has no mean of three channels"):
        built(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"no preprocessor_config\.json, which says how"):
        built(folder)


def test_pictures_that_do_not_fit_are_told(folder):
    other = Block("picture", "image", (3, 2, 2), PICTURE.variables)
    with pytest.raises(ValueError, match=r"sees pictures of 4 x 4 pixels .* these have 2 x 2"):
        built(folder, picture=other)
    with pytest.raises(ValueError, match="is told a picture, and nothing else"):
        built(folder, picture=LETTERS)


def test_another_device_answers_as_the_cpu(folders):
    density = built(folders["vision-encoder-decoder"], dtype="float64")
    told = pictures(2)
    with pretended() as there:
        far = copy.deepcopy(density).to(there)
        each = [most_probable(one, 2, 3, told) for one in (density, far)]
        assert torch.equal(each[0][0].value, each[1][0].value)
        assert torch.allclose(each[0][1], each[1][1], atol=1e-12)
        drawn = [one.sample(2, told, generator=stream(0)).value for one in (density, far)]
        assert torch.equal(*drawn)
