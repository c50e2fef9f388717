"""Pictures that are told in words, captions that see every place, and words as tokens."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.codecs.composite import CompositeCodec
from conjoin.codecs.tokens import FORMATS, Words, read_format, tokens_from_json
from conjoin.core import Block, Event, Flat, Record, RecordSpace, Status, Variable, stream
from conjoin.core.warnings import ColumnWarning
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.chain import Chain, ChainDensity
from conjoin.families.diffusion.picture import PictureDensity, PictureDiffusion
from conjoin.families.multimodal import Multimodal, MultimodalDensity
from conjoin.nets.worded import Worded
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

PICTURE = Block("picture", "image", (3, 8, 8), (Variable("pixel", "ordered", cardinality=4),))
WORDS = Block("words", "sequence", (3,), (Variable("word", "category", 2),))
FLAT = Flat(RecordSpace((PICTURE, WORDS)))
PIXELS = 3 * 8 * 8
SMALL = {"pictures": {"size": 0.25, "points": 4}, "strings": {"width": 8, "blocks": 1}}


def rows_of(n=40, seed=0):
    """Pictures at random, and strings of at most three words."""
    noise = stream(seed)
    pixels = torch.randint(4, (n, 3, 8, 8), generator=noise).to(torch.uint8)
    word = torch.randint(2, (n, 3), generator=noise)
    there = torch.arange(3) < torch.randint(4, (n, 1), generator=noise)
    words = Event(word, torch.ones_like(there), there)
    return FLAT.join(Record(picture=Event(pixels), words=words))


def stirred(density):
    """With weights that are not as they began, so that whatever can be heard is."""
    noise = stream(9)
    with torch.no_grad():
        for parameter in density.parameters():
            if parameter.dtype.is_floating_point and parameter.ndim:
                parameter += 0.1 * torch.randn(parameter.shape, generator=noise).to(parameter)
    return density


@pytest.fixture(scope="module")
def joint():
    config = Multimodal(**SMALL, precision="float32").suited(FLAT.space)
    return stirred(MultimodalDensity.build(FLAT.space, config, rows_of(), stream(0)))


def hidden(rows, picture=False, words=False):
    cell = torch.arange(rows.value.shape[1])
    gone = torch.zeros(len(cell), dtype=torch.bool)
    gone |= (cell < PIXELS) & picture
    gone |= (cell >= PIXELS) & words
    return rows.hide(gone)


# ---------------------------------------------------------------------------- the picture, told


def test_log_p_is_that_of_the_string_and_of_the_picture_given_it(joint):
    rows = rows_of()
    with torch.no_grad():
        both = joint.log_prob(rows, generator=stream(1))
        string = joint.log_prob(hidden(rows, picture=True))
        constant = Event(torch.zeros(rows.rows, 1).double())
        told = Event(torch.cat([constant.value, rows.value[:, PIXELS:]], 1))
        noise = torch.randint(2**62, (2,), generator=stream(1))
        assert len(noise) == 2
        picture = joint.part0.log_prob(Event(rows.value[:, :PIXELS]), told)
        alone = joint.part0.log_prob(Event(rows.value[:, :PIXELS]))
    fixed = joint.log_prob(rows) - string
    assert torch.allclose(fixed, picture, atol=1e-3)
    assert (picture - alone).abs().max() > 1e-3  # words are heard
    assert both.shape == picture.shape


def test_a_caption_that_is_not_told_is_the_null_caption(joint):
    rows = rows_of()
    picture = Event(rows.value[:, :PIXELS])
    nothing = Event(torch.zeros(rows.rows, 4).double(), torch.zeros(rows.rows, 4).bool())
    nothing.mask[:, 0] = True  # the constant that stands for columns
    with torch.no_grad():
        told = joint.part0.log_prob(picture, nothing)
        alone = joint.log_prob(hidden(rows, words=True))
    assert torch.allclose(told, alone, atol=1e-4)
    assert joint.status_of(hidden(rows, words=True)) is Status.APPROXIMATE
    assert joint.status_of(rows) is Status.LOWER_BOUND


def test_pictures_beside_a_caption_are_told_of_no_other_picture():
    """What log p of a row is worth is the same whichever of two pictures is missing."""
    blocks = [PICTURE, WORDS, Block("other", "image", (3, 8, 8), PICTURE.variables)]
    flat = Flat(RecordSpace(tuple(blocks)))
    rows = rows_of(20)
    pixels = Event(rows.value[:, :PIXELS].reshape(-1, 3, 8, 8).to(torch.uint8))
    words = FLAT.split(rows)["words"]
    both = flat.join(Record(picture=pixels, words=words, other=pixels))
    config = Multimodal(**SMALL, precision="float32").suited(flat.space)
    density = MultimodalDensity.build(flat.space, config, both, stream(0))
    for part in density.parts:
        whole = both.mask.clone()
        whole[:, part.cells] = False
        found = density.status_of(Event(both.value, whole))
        assert found is (Status.APPROXIMATE if part.block.ragged else Status.LOWER_BOUND)


def test_captions_of_a_picture_sum_to_one(joint):
    every = WORDS.laid.every(WORDS)
    pixels = torch.randint(4, (1, 3, 8, 8), generator=stream(3)).to(torch.uint8)
    told = Record(picture=Event(pixels.expand(every.rows, -1, -1, -1)))
    with torch.no_grad():
        assert joint.part1.log_prob(every, told).logsumexp(0).abs() < 1e-9
        assert joint.part1.log_prob(every).logsumexp(0).abs() < 1e-9


def test_pixels_that_are_known_are_untouched(joint):
    rows = rows_of(6)
    cell = torch.arange(rows.value.shape[1])
    some = rows.hide((cell < PIXELS) & (cell % 8 >= 5))
    drawn = joint.sample_conditional(some, generator=stream(4))
    assert drawn.mask.all()
    assert torch.equal(drawn.value[some.mask], rows.value[some.mask])
    again = joint.sample_conditional(hidden(rows, words=True), generator=stream(4)).value
    assert torch.equal(again[:, :PIXELS], rows.value[:, :PIXELS])


def test_words_behind_the_end_and_their_order():
    torch.manual_seed(0)
    net = stirred(Worded(1, (8, 8), 0, (3, 5), 0.25))
    x = torch.randn(1, 1, 8, 8)
    noise = torch.zeros(1)

    def said(*words):
        return net(x, noise, torch.tensor([words]).float())

    with torch.no_grad():
        assert torch.equal(said(1, 5, 2), said(1, 5, 4))  # 5 is the end
        assert torch.equal(said(-1, -1, -1), net(x, noise, None))
        assert not torch.allclose(said(1, 2, 5), said(2, 1, 5))
        assert not torch.allclose(said(5, 5, 5), said(-1, -1, -1))  # no word is not no caption


def test_a_word_is_learned_by_the_picture_and_by_the_caption():
    """Where the word says whether a picture is dark, draws follow it, and so do captions."""
    noise = stream(0)
    word = torch.randint(2, (256,), generator=noise)
    pixels = (3 * word[:, None, None, None]).expand(-1, 3, 8, 8).to(torch.uint8)
    words = Event(word[:, None].expand(-1, 3))
    data = FLAT.join(Record(picture=Event(pixels), words=words))
    rates = {"rate": 2e-3, "matrix_rate": 0.02}  # few steps are enough with these
    pictures = {"size": 0.25, "batch": 32, "axes": 4, "sampling_steps": 8, **rates}
    config = Multimodal(
        pictures=pictures, strings={"width": 16, "blocks": 1}, precision="float32"
    ).suited(FLAT.space)
    density = MultimodalDensity.build(FLAT.space, config, data, stream(0))
    train(density, data, torch.ones(256).double(), None, Plan(steps=150), Progress(False))
    asked = hidden(data.take(slice(0, 40)), picture=True)
    drawn = density.sample_conditional(asked, generator=stream(1)).value[:, :PIXELS].mean(1)
    assert ((drawn > 1.5) == word[:40].bool()).double().mean() > 0.9
    told = density.mode(hidden(data.take(slice(0, 40)), words=True)).value[:, PIXELS:]
    assert (told == word[:40, None]).double().mean() > 0.9


# ------------------------------------------------------------------------------ places of pictures


def test_a_caption_attends_to_places_as_it_is_stepped():
    pixels = torch.randint(4, (5, 3, 8, 8), generator=stream(1)).to(torch.uint8)
    words = WORDS.check(Event(torch.randint(2, (5, 3), generator=stream(2))))
    space = RecordSpace((PICTURE,))
    context = Record(picture=Event(pixels))
    config = Sequence(width=8, blocks=2)
    density = stirred(
        SequenceDensity.build(WORDS, config, words, stream(0), context=context, context_space=space)
    )
    with torch.no_grad():
        state = density._begin(5, space.check(context, 5))
        token = None
        total = torch.zeros(5).double()
        for place in range(3):
            state, log_p = density._step(state, token)
            token = words.value[:, place]
            total += log_p.gather(1, token[:, None])[:, 0]
        assert torch.allclose(total, density.log_prob(words, context), atol=1e-9)
        moved = Record(picture=Event(pixels.roll(3, 3)))
        assert (density.log_prob(words, moved) - total).abs().max() > 1e-6


def test_a_mean_over_places_can_still_be_asked_for():
    space = RecordSpace((PICTURE,))
    plain = SequenceDensity(WORDS, Sequence(width=8, blocks=1, pictures="mean"), None, space)
    assert plain.encoder.places == 0
    with pytest.raises(ValueError, match="pictures must be one of places, mean, got 'all'"):
        Sequence(pictures="all")


# -------------------------------------------------------------------------------- which comes first


def test_one_short_string_comes_first_unless_asked_otherwise():
    assert Multimodal().suited(FLAT.space).strings_first
    assert not Multimodal(strings_first=False).suited(FLAT.space).strings_first
    long = Block("words", "sequence", (500,), (Variable("word", "category", 2),))
    space = Flat(RecordSpace((PICTURE, long))).space
    assert not Multimodal().suited(space).strings_first
    with pytest.raises(ValueError, match="at most 128 tokens"):
        Multimodal(strings_first=True).suited(space)
    saved = {"strings": {"network": "rotary"}, "pictures": {"axes": 8}}
    assert not Multimodal(**saved, **Multimodal.implied).strings_first
    assert Multimodal(**saved).of_strings.pictures == "mean"


def test_pictures_first_is_as_before():
    config = Multimodal(**SMALL, strings_first=False, precision="float32").suited(FLAT.space)
    density = MultimodalDensity.build(FLAT.space, config, rows_of(), stream(0))
    assert density.part0.core.net.hears == density.part0.inputs.size
    assert "words" not in density.part0.structure
    drawn = density.sample(2, generator=stream(0))
    assert drawn.mask.all()


def test_a_chain_tells_a_picture_words():
    """p(words) p(picture | words), by the chain rule of blocks alone."""
    space = RecordSpace((WORDS, PICTURE))
    picture = PictureDiffusion(size=0.25, points=4, precision="float32")
    config = Chain(others=(("words", Sequence(width=8, blocks=1)), ("picture", picture)))
    data = FLAT.split(rows_of())
    density = ChainDensity.build(space, config, data, stream(0))
    told = [each for each in density.modules() if isinstance(each, PictureDensity)]
    assert [type(each.core.net) for each in told] == [Worded]
    assert density.log_prob(space.check(data, 40)).isfinite().all()


# ---------------------------------------------------------------------------------------- words


def test_words_write_each_string_in_one_way():
    words = Words.learned(["a red ring, a b.", "what?! no"], None)
    assert words.text(words.codes("a red ring, a b.")) == "a red ring, a b."
    found = {}
    for size in range(4):
        for codes in itertools.product(range(len(words.names)), repeat=size):
            text = words.text(codes)
            assert text not in found
            found[text] = codes
            assert tuple(words.codes(text)) == codes


@pytest.mark.parametrize("string", ["a  red", " a", "red , a", "a blue ring"])
def test_strings_that_words_can_not_write(string):
    assert -1 in Words.learned(["a red ring, a b."], None).codes(string)


def test_words_are_saved_and_asked_for():
    words = Words.learned(["a red ring"], None)
    again = tokens_from_json({"format": "words", **words.to_json()})
    assert again.names == words.names == ("a", "red", "ring")
    assert read_format("words", "Column 'x'") == (Words, None)
    assert FORMATS["words"] is Words


def test_sentences_whose_words_repeat_are_made_of_words():
    rng = np.random.default_rng(0)
    pictures = pd.Series(list(rng.integers(0, 255, (200, 8, 8, 3), dtype=np.uint8)), dtype=object)
    names = rng.choice(["red", "blue", "green", "big"], (200, 6))
    few = [" ".join(row) for row in names]
    many = [f"{row} number {place}" for place, row in enumerate(few)]
    for captions, word in ((few, "words"), (many, "characters")):
        frame = pd.DataFrame({"picture": pictures, "caption": captions})
        codec, rows = CompositeCodec.begin(frame)
        codec.fit(rows)
        assert codec.blocks[-1].strings.tokens.word == word


def test_guided_draws_are_told_to_be_no_draws_of_p():
    rng = np.random.default_rng(0)
    pictures = pd.Series(list(rng.integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)), dtype=object)
    captions = [" ".join(row) for row in rng.choice(["red", "blue", "big"], (60, 4))]
    frame = pd.DataFrame({"picture": pictures, "caption": captions})
    found = {}
    for guidance in (0.0, 2.0):
        family = Multimodal(
            pictures={"size": 0.25, "steps": 2, "guidance": guidance, "axes": 4},
            strings={"width": 8, "blocks": 1, "steps": 2},
        )
        with pytest.warns(ColumnWarning, match="free text beside pictures"):
            model = conjoin.JointDensity(family=family, random_state=0).fit(frame)
        found[guidance] = model.status_["sample"]
    assert found == {0.0: "lower bound", 2.0: "approximate"}


def test_the_demo_writes_its_page(monkeypatch, capsys, tmp_path):
    from conjoin.demos import pictures as demo

    tiny = Multimodal(
        pictures={"size": 0.25, "steps": 2, "axes": 4, "points": 2, "sampling_steps": 3},
        strings={"width": 8, "blocks": 1, "steps": 2},
    )
    monkeypatch.setattr(demo, "FAMILY", tiny)
    monkeypatch.setattr(demo, "ASKED", 3)
    monkeypatch.setattr(demo, "show", lambda page: None)
    assert demo.main(["--out", str(tmp_path / "out"), "--rows", "60", "--seconds", "60"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="a drawing"') == 6
    assert "as asked" in page
    said = capsys.readouterr().out
    assert "of 3 drawings" in said
    assert "Captions of 3 real pictures" in said


def test_words_are_read_again_where_their_reader_has_changed():
    net = stirred(Worded(3, (8, 8), 0, words=(3, 2), size=0.25)).eval()
    code = torch.tensor([[0.0, 1.0, 2.0]])
    asked = torch.zeros(1, 3, 8, 8), torch.full((1,), 0.5), code

    def kept_and_fresh():
        with torch.no_grad():
            return net(*asked), net(*asked[:2], code.clone())

    kept_and_fresh()
    before = net(*asked).detach()
    with torch.no_grad():
        kept = net(*asked)
        net.reader.embed.weight.mul_(2.0)
        assert not torch.allclose(net(*asked), kept)
    assert torch.allclose(kept, before)
    assert torch.equal(*kept_and_fresh())
    code[0, 0] = 1.0
    assert torch.equal(*kept_and_fresh())
