"""Pictures of shapes with captions: the judge reads what was drawn, and no more."""

import numpy as np
import pytest

from conjoin.datasets import draw_scenes, judge_scene, scene_of
from conjoin.datasets.scenes import (
    COLOURS,
    HELD_OUT_PAIRS,
    SHAPES,
    Scene,
    Thing,
    picture_of,
    things_in,
)


@pytest.fixture(scope="module")
def drawn():
    return draw_scenes(300, seed=5)


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("only_held_out", [False, True])
def test_the_judge_reads_what_was_drawn(side, only_held_out):
    found = draw_scenes(100, seed=1, side=side, only_held_out=only_held_out)
    verdicts = [judge_scene(*each) for each in zip(found.pictures, found.captions, strict=True)]
    assert np.mean([verdict["all"] for verdict in verdicts]) >= 0.99
    assert found.pictures.shape == (100, side, side, 3) and found.pictures.dtype == np.uint8


def test_the_judge_finds_each_thing_that_is_wrong(drawn):
    others = list(zip(drawn.pictures, np.roll(drawn.captions, 1), strict=True))
    verdicts = [judge_scene(picture, str(caption)) for picture, caption in others]
    same = [a == b for a, b in zip(drawn.captions, np.roll(drawn.captions, 1), strict=True)]
    assert np.mean([verdict["all"] for verdict in verdicts]) <= np.mean(same) + 0.01
    red = Scene("one", (Thing("red", "ring", radius=9 / 32),), "grey", "large")
    for caption, wrong in {
        "a large red ring on a white background": {"background"},
        "a large blue ring on a grey background": {"colours", "binding"},
        "a large red cross on a grey background": {"shapes", "binding"},
        "a small red ring on a grey background": {"size"},
        "two red rings on a grey background": {"count", "colours", "shapes", "binding"},
    }.items():
        verdict = judge_scene(picture_of(red), caption)
        assert {name for name, holds in verdict.items() if not holds} == wrong | {"all"}


def test_relations_and_rows_are_read_by_where_things_stand():
    two = (Thing("red", "ring", 0.5, 0.25, 5 / 32), Thing("blue", "cross", 0.5, 0.75, 5 / 32))
    picture = picture_of(Scene("relation", two, "white", "above"))
    for how in ("above", "below", "left of", "right of"):
        caption = f"a red ring {how} a blue cross on a white background"
        assert judge_scene(picture, caption)["relation"] is (how == "above")
    three = tuple(
        Thing(colour, "circle", x, 0.5, 4 / 32)
        for colour, x in (("red", 0.2), ("blue", 0.5), ("green", 0.8))
    )
    picture = picture_of(Scene("row", three, "black", "left to right"))
    right = "a red circle, a blue circle and a green circle on a black background"
    wrong = "a blue circle, a red circle and a green circle on a black background"
    assert judge_scene(picture, f"from left to right {right}")["order"]
    assert not judge_scene(picture, f"from left to right {wrong}")["order"]
    assert not judge_scene(picture, f"from top to bottom {right}")["order"]


def test_pairs_that_are_held_out_are_never_drawn(drawn):
    pairs = {thing.pair for scene in drawn.scenes for thing in scene.things}
    assert not pairs & HELD_OUT_PAIRS and len(pairs) == 30
    only = draw_scenes(50, seed=2, only_held_out=True, patterns=("one",))
    assert {scene.things[0].pair for scene in only.scenes} <= HELD_OUT_PAIRS
    every = draw_scenes(300, seed=2, held_out=())
    assert {thing.pair for scene in every.scenes for thing in scene.things} >= HELD_OUT_PAIRS


def test_captions_say_what_scenes_are(drawn):
    for scene, caption in zip(drawn.scenes, drawn.captions, strict=True):
        told = scene_of(caption)
        assert (told.pattern, told.how, told.background) == (
            scene.pattern,
            scene.how,
            scene.background,
        )
        assert [thing.pair for thing in told.things] == [thing.pair for thing in scene.things]
    assert {scene.pattern for scene in drawn.scenes} == {"one", "relation", "several", "row"}
    assert "an orange" in " ".join(drawn.captions) and "crosses" in " ".join(drawn.captions)


def test_the_same_seed_draws_the_same(drawn):
    again = draw_scenes(300, seed=5)
    assert np.array_equal(again.pictures, drawn.pictures) and again.captions == drawn.captions
    assert draw_scenes(20, seed=6).captions != drawn.captions[:20]


def test_noise_and_blank_pictures_show_nothing_that_is_asked_for():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    blank = np.full((32, 32, 3), 255, dtype=np.uint8)
    assert things_in(blank) == ("white", [])
    for picture in (noise, blank):
        assert not judge_scene(picture, "a small red ring on a white background")["all"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"n": 1, "side": 8}, "side at least 16"),
        ({"n": 1, "patterns": ("four",)}, "There is no pattern 'four'; choose from one, relation"),
        ({"n": 1, "held_out": [("red", "star")]}, r"held_out has \('red', 'star'\)"),
        ({"n": 1, "held_out": [], "only_held_out": True}, "nothing to draw"),
        ({"n": 1, "held_out": [(c, s) for c in COLOURS for s in SHAPES]}, "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        draw_scenes(**asked)


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="'a dog' is no caption of these scenes, such as 'a small"):
        scene_of("a dog")
