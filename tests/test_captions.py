"""A table of pictures and what they show, and nothing else: p(picture, caption)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import conjoin
from conjoin.cli import run
from conjoin.codecs.block_columns import PictureColumn
from conjoin.codecs.composite import CompositeCodec, codec_of
from conjoin.codecs.image.codec import ImageCodec
from conjoin.codecs.sequence import Prefix
from conjoin.core import CapabilityError
from conjoin.core.warnings import ColumnWarning
from conjoin.datasets import draw_scenes
from conjoin.families.multimodal import Multimodal

COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 220)}


def shown(n, seed=0):
    """Pictures of one colour all over, with their captions."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(COLOURS), n)
    noise = rng.integers(-9, 10, (n, 8, 8, 3))
    pictures = np.array([COLOURS[name] for name in names])[:, None, None] + noise
    words = rng.choice(["wall", "sheet", "cloth", "door", "sky", "sea", "hat", "car"], (n, 2))
    captions = [f"{name} {' and '.join(pair)}" for name, pair in zip(names, words, strict=True)]
    return list(pictures.astype(np.uint8)), captions


@pytest.fixture(scope="module")
def table():
    pictures, captions = shown(240)
    return pd.DataFrame({"picture": pd.Series(pictures, dtype=object), "caption": captions})


@pytest.fixture(scope="module")
def fitted(table):
    with pytest.warns(ColumnWarning, match="'caption' holds free text beside pictures and is mod"):
        return conjoin.JointDensity(
            family=Multimodal(
                # rates at which 150 steps are enough for colours all over
                pictures={
                    "size": 0.25,
                    "steps": 150,
                    "batch": 32,
                    "axes": 8,
                    "rate": 2e-3,
                    "matrix_rate": 0.02,
                },
                strings={"width": 32, "blocks": 1, "steps": 150},
            ),
            random_state=0,
        ).fit(table)


def test_captions_are_read_off_pictures(fitted):
    pictures, captions = shown(40, seed=1)
    asked = pd.DataFrame({"picture": pd.Series(pictures, dtype=object)}).assign(caption=None)
    told = fitted.impute(asked)["caption"].tolist()
    right = [caption.split()[0] in words for caption, words in zip(captions, told, strict=True)]
    assert np.mean(right) >= 0.9


def test_a_caption_of_another_picture_is_less_probable(fitted):
    pictures, captions = shown(40, seed=2)
    column = pd.Series(pictures, dtype=object)
    other = [
        caption.replace("red", "x").replace("blue", "red").replace("x", "blue")
        for caption in captions
    ]
    right = fitted.score_samples(pd.DataFrame({"picture": column, "caption": captions}))
    wrong = fitted.score_samples(pd.DataFrame({"picture": column, "caption": other}))
    assert np.mean(right > wrong) >= 0.9


def test_both_are_drawn_and_saved(fitted, tmp_path):
    drawn, _ = fitted.sample(4, random_state=0)
    assert list(drawn) == ["picture", "caption"]
    assert not drawn.isna().to_numpy().any()
    again = conjoin.load(fitted.save(tmp_path / "model"))
    pictures, captions = shown(5, seed=3)
    new = pd.DataFrame({"picture": pd.Series(pictures, dtype=object), "caption": captions})
    assert np.allclose(again.score_samples(new), fitted.score_samples(new))
    assert again.decide(new)["verdict"].isin(["accept", "unfamiliar"]).all()


def test_only_free_text_beside_pictures_alone_is_taken_as_text(table):
    def kinds(frame, types=None):
        return CompositeCodec.begin(frame, types=types)[0].names

    labels = table.assign(caption=np.resize(["cat", "dog"], len(table)))
    assert kinds(table) == ["picture", "caption"]
    assert kinds(labels) == ["picture"]
    assert kinds(table.assign(age=np.arange(len(table)))) == ["picture"]
    assert kinds(table, {"caption": "category"}) == ["picture"]


def test_pictures_of_a_file_alone_are_still_refused(tmp_path):
    found = draw_scenes(3, side=16)
    for place, picture in enumerate(found.pictures):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    frame = pd.DataFrame({"picture": [str(tmp_path / f"{place}.png") for place in range(3)]})
    with pytest.raises(ValueError, match="There is no column beside 'picture'"):
        conjoin.JointDensity().fit(frame)


def test_pictures_are_drawn_from_a_caption_onto_one_sheet(fitted, tmp_path, capsys):
    saved = str(fitted.save(tmp_path / "model"))
    out = str(tmp_path / "sheet.png")
    asked = ["sample", saved, "--given", "caption=red wall and sea", "-n", "4", "-o", out]
    assert run([*asked, "--seed", "0"]) == 0
    assert capsys.readouterr().err.count("red wall and sea") == 4
    sheet = np.asarray(Image.open(out)).astype(int)
    assert sheet.shape[:2] == (130, 130)  # two by two of 64, and what is between
    assert np.mean(sheet[..., 0] > sheet[..., 2] + 50) > 0.5  # red
    assert run([*asked[:3], "caption=pink wall and sea", "-o", out, "--force"]) == 2
    assert "pink" in capsys.readouterr().err


def test_a_sheet_is_of_one_column_of_pictures(table, tmp_path, capsys):
    plain = conjoin.JointDensity(family="mixture").fit(pd.DataFrame({"x": np.arange(50.0)}))
    saved = str(plain.save(tmp_path / "plain"))
    assert run(["sample", saved, "-o", str(tmp_path / "sheet.png")]) == 2
    assert "0 columns of pictures" in capsys.readouterr().err


def test_alternatives_of_a_caption_have_the_probabilities_of_the_captioner(fitted):
    pictures, captions = shown(3, seed=4)
    asked = pd.DataFrame({"picture": pd.Series(pictures, dtype=object)})
    found = fitted.alternatives(asked, count=4)
    assert list(found) == ["row", "caption", "probability", "left"]
    assert found["row"].tolist() == np.repeat(range(3), 4).tolist()
    for row, each in found.groupby("row"):
        assert each["probability"].is_monotonic_decreasing
        assert np.allclose(each["left"], 1 - each["probability"].cumsum())
        # log p(picture, caption) - log p(picture) are other networks': the captioner is asked alone
        told = fitted.model_.encode(asked.loc[[row]].assign(caption=each["caption"].iloc[0])).event
        density = fitted.model_.joint
        columns, behind = density._cut(told)
        part = density._strings[0]
        with torch.no_grad():
            alone = density._seen_of(part, columns, behind, None)
        assert np.isclose(float(alone.exp()), each["probability"].iloc[0], rtol=1e-6)
        assert captions[row].split()[0] in each["caption"].iloc[0]


def test_alternatives_are_refused_in_a_sentence(fitted, table):
    with pytest.raises(ValueError, match="No row lacks 'caption'"):
        fitted.alternatives(table.head(2))
    with pytest.raises(ValueError, match="must be at least 1"):
        fitted.alternatives(table.head(2), count=0)
    plain = conjoin.JointDensity(family="mixture").fit(pd.DataFrame({"x": np.arange(50.0)}))
    with pytest.raises(CapabilityError, match="declares no string"):
        plain.alternatives(pd.DataFrame({"x": [1.0]}))


def test_a_file_of_a_picture_is_told_in_several_ways(fitted, tmp_path, capsys):
    saved = str(fitted.save(tmp_path / "model"))
    pictures, captions = shown(2, seed=5)
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    assert run(["impute", saved, str(tmp_path / "0.png")]) == 0
    shown_words = capsys.readouterr().out
    assert captions[0].split()[0] in shown_words and "probability" in shown_words
    out = tmp_path / "told.csv"
    (tmp_path / "new.csv").write_text("picture\n0.png\n1.png\n")
    asked = ["impute", saved, str(tmp_path / "new.csv"), "--alternatives", "3", "-o", str(out)]
    assert run(asked) == 0
    told = pd.read_csv(out)
    assert told["row"].tolist() == [1, 1, 1, 2, 2, 2]
    assert (told["left"] >= 0).all()
    assert run([*asked, "--draws", "2", "--force"]) == 2
    assert "--draws can't be asked beside" in capsys.readouterr().err
    assert run([*asked, "--hide", "top", "--force"]) == 2
    assert "--hide can't be asked" in capsys.readouterr().err


def test_steps_and_guidance_are_asked_of_a_draw(fitted):
    given = {"caption": "red wall and sea"}
    plain, _ = fitted.sample(2, given=given, random_state=0)
    again, _ = fitted.sample(2, given=given, random_state=0, guidance=0.0, steps=20)
    assert "status" not in plain.attrs and again.attrs["status"] == fitted.status_["sample"]
    assert all(same(*pair) for pair in zip(plain["picture"], again["picture"], strict=True))
    led, _ = fitted.sample(2, given=given, random_state=0, guidance=3.0)
    assert led.attrs["status"].startswith("approximate; what is given is exaggerated (guidance 3)")
    assert fitted.status_["sample"] == "lower bound"  # of the model, not of that call
    assert not all(same(*pair) for pair in zip(plain["picture"], led["picture"], strict=True))
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        fitted.sample(1, steps=0)
    with pytest.raises(ValueError, match="guidance must be a number of at least 0, got -1"):
        fitted.sample(1, guidance=-1.0)
    table = conjoin.JointDensity(family="mixture").fit(pd.DataFrame({"x": np.arange(50.0)}))
    with pytest.raises(ValueError, match="steps=3 is for families that draw rows out of noise"):
        table.sample(1, steps=3)
    with pytest.raises(ValueError, match="guidance=1 is for families that draw pictures out of"):
        table.sample(1, guidance=1.0)


def same(first, second):
    return bool((first.pixels == second.pixels).all())


def test_the_way_from_noise_ends_at_the_draw(fitted, tmp_path, capsys):
    given = {"caption": "blue door and hat"}
    drawn, _ = fitted.sample(2, given=given, random_state=3, steps=4)
    way = fitted.unfold(2, given=given, random_state=3, steps=4)
    assert len(way) == 5
    assert way[-1]["caption"].tolist() == drawn["caption"].tolist()
    assert all(same(*pair) for pair in zip(way[-1]["picture"], drawn["picture"], strict=True))
    assert not same(way[0]["picture"][0], drawn["picture"][0])
    assert len(fitted.unfold(1, random_state=0, steps=2)) == 3
    saved = str(fitted.save(tmp_path / "model"))
    asked = ["sample", saved, "-n", "2", "--steps", "4", "--guidance", "1", "--seed", "0"]
    out = str(tmp_path / "sheet.png")
    strip = tmp_path / "way.png"
    assert run([*asked, "--strip", str(strip), "-o", out]) == 0
    assert "no draws of the joint model" in capsys.readouterr().out
    assert np.asarray(Image.open(strip)).shape == (2 * 66 - 2, 5 * 66 - 2, 3)
    with pytest.raises(CapabilityError, match="the way from noise to rows"):
        conjoin.JointDensity(family="mixture").fit(pd.DataFrame({"x": np.arange(50.0)})).unfold(1)


def test_a_schema_of_captioned_pictures_keeps_the_pictures_and_says_what_captions_are(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pictures, captions = shown(40)
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"{place}.png")
    frame = pd.DataFrame({"picture": [f"{n}.png" for n in range(40)], "caption": captions})
    frame.to_csv("seen.csv", index=False)
    different = [f"{words} number {n} of forty" for n, words in enumerate(captions)]
    frame.assign(caption=different).to_csv("different.csv", index=False)
    assert run(["check", "different.csv"]) == 0
    assert run(["check", "seen.csv"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Column 'caption' holds free text beside pictures: a fit without a schema" in said
    written = Path("seen-schema.json").read_text()
    for kind, read in (("category", ["picture"]), ("text", ["picture", "caption"])):
        Path("seen-schema.json").write_text(written.replace('"category"', f'"{kind}"'))
        codec, _ = codec_of(frame, "seen-schema.json", ())
        assert [block.name for block in codec.blocks] == read


def test_the_beginning_of_a_caption_is_continued(fitted):
    drawn, _ = fitted.sample(12, given={"caption": Prefix("red")}, random_state=0)
    assert all(caption.startswith("red") for caption in drawn["caption"])
    assert len(set(drawn["caption"])) > 1


def test_a_caption_of_another_picture_is_unfamiliar_as_it_does_not_go_with_it(fitted):
    pictures, captions = shown(60, seed=5)
    swapped = [
        caption.replace("red", "x").replace("blue", "red").replace("x", "blue")
        for caption in captions
    ]
    column = pd.Series(pictures, dtype=object)
    shares = []
    for each in (captions, swapped):
        table = pd.DataFrame({"picture": column, "caption": each})
        found = fitted.decide(table, false_alarm=0.1)
        shares.append((found["verdict"] == "unfamiliar").mean())
    assert shares[0] < 0.35 and shares[1] > 0.8
    assert found["reason"].str.contains("does not go with the other columns").any()


def test_a_picture_that_is_filled_in_is_not_empty(fitted):
    _, captions = shown(6, seed=6)
    asked = pd.DataFrame({"picture": None, "caption": captions}).astype(object)
    found = fitted.impute(asked)["picture"]
    assert all(np.asarray(each.pixels, dtype=float).std() > 1 for each in found)


# -------------------------------------------------------------------- pictures known in part


def left_half(picture):
    """Without its right half, as a masked array."""
    gone = np.broadcast_to(np.arange(8)[None, :, None] >= 4, picture.shape)
    return np.ma.MaskedArray(picture, gone)


def asked_for(cells, captions):
    return pd.DataFrame({"picture": pd.Series(cells, dtype=object), "caption": captions})


@pytest.mark.parametrize("draws", [None, 2])
def test_a_picture_that_is_known_in_part_is_gone_on_with(fitted, draws):
    pictures, captions = shown(4, seed=7)
    open_ = pictures[1].astype(float)
    open_[:4] = np.nan
    asked = asked_for([left_half(pictures[0]), open_, pictures[2], None], captions)
    found = fitted.impute(asked, n_draws=draws, random_state=0)
    for full in [found] if draws is None else found:
        cells = [cell.pixels for cell in full["picture"]]
        assert np.array_equal(cells[0][:, :4], pictures[0][:, :4])
        assert np.array_equal(cells[1][4:], pictures[1][4:])
        assert np.array_equal(cells[2], pictures[2])
        assert all(cell.known is None for cell in full["picture"])
        assert cells[0][:, 4:].std() > 0 and cells[1][:4].std() > 0
        assert full["caption"].tolist() == captions
    assert np.ma.is_masked(asked["picture"][0]) and np.isnan(asked["picture"][1]).any()


def test_a_caption_is_read_off_what_a_part_becomes(fitted):
    """It is told of the known half by the picture that goes on from it, not drawn before."""
    pictures, _ = shown(12, seed=8)
    full = fitted.impute(asked_for([left_half(each) for each in pictures], None))
    read = fitted.impute(full.assign(caption=None))
    assert full["caption"].tolist() == read["caption"].tolist()
    assert len({caption.split()[0] for caption in full["caption"]} & set(COLOURS)) == 2


def test_a_part_of_a_picture_has_no_log_p_and_is_not_learned_from(fitted, table):
    pictures, captions = shown(2, seed=7)
    asked = asked_for([left_half(pictures[0]), pictures[1]], captions)
    for question in (fitted.score_samples, fitted.decide):
        with pytest.raises(CapabilityError, match=r"a part of a picture.* Fill it in first, by"):
            question(asked)
    with pytest.raises(CapabilityError, match="a part of a picture"):
        fitted.alternatives(asked[:1].assign(caption=None))
    some = table.head(20).copy()
    some.at[7, "picture"] = left_half(some["picture"][7])
    with pytest.raises(ValueError, match="row 7: only a part of the picture is known, and a fit"):
        conjoin.JointDensity().fit(some)


def test_an_array_of_pixels_is_refused_where_it_can_be_none(fitted):
    pictures, captions = shown(1, seed=7)
    half = left_half(pictures[0]).astype(float).filled(np.nan)
    for cell, words in (
        (np.round(pictures[0] / 255), "no pixel is above 1, where white is 255: scale"),
        (pictures[0] > 99, r"masked or NaN where they are not known; got bool"),
        (half / 255, "pixels are whole numbers from 0 to 255, got 0"),
        (half - 300, "pixels are whole numbers from 0 to 255, got -"),
        (half[0, 0], r"got float64 \(3,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted.impute(asked_for([cell], captions))


def test_a_part_in_other_channels_stays_known_where_it_was(fitted):
    pictures, captions = shown(1, seed=7)
    grey = left_half(pictures[0])[:, :, 0]
    rows = fitted.model_.codec.rows(asked_for([grey, np.ma.masked_all((8, 8))], captions * 2))
    cell, gone = rows.frame["picture"]
    assert gone is None and cell.pixels.shape == cell.known.shape == (8, 8, 3)
    assert cell.known[:, :4].all() and not cell.known[:, 4:].any()
    assert "50% known" in str(cell) and cell != type(cell)(cell.pixels)


def test_a_grey_pixel_of_other_channels_is_known_where_all_of_its_colours_were():
    colours = np.ma.masked_array(np.full((2, 2, 3), 90, dtype=np.uint8), np.zeros((2, 2, 3)))
    colours[0, 1, 2] = np.ma.masked
    column = PictureColumn("scan", ImageCodec((1, 2, 2), 256))
    with pytest.warns(UserWarning, match="grey"):
        (cell,) = column.cells([colours])
    assert cell.known.tolist() == [[True, False], [True, True]]


def test_a_caption_that_cant_be_read_stays_and_is_told_of(fitted):
    asked = asked_for([None], ["pink wall and sea"])
    with pytest.warns(ColumnWarning, match=r"'caption' can't be read to the end \(row 0: 'pink"):
        found = fitted.impute(asked, n_draws=1, random_state=0)[0]
    assert found["caption"].tolist() == ["pink wall and sea"]


def test_decide_says_what_of_a_caption_cant_be_read(fitted):
    pictures, _ = shown(2, seed=7)
    found = fitted.decide(asked_for(pictures, ["pink wall and sea", "red wall and sea"]))
    assert "caption can't be read to the end: 'pink' is none of them" in found["reason"][0]
    assert "can't be read" not in found["reason"][1]


def test_captions_that_few_blanks_keep_from_words_are_told_of(table):
    untidy = table.copy()
    untidy.loc[3, "caption"] = "red  wall and sea"
    codec, _ = CompositeCodec.begin(untidy)
    (words,) = [text for text in codec.assumed if "by characters" in text]
    assert "one of its strings has other blanks" in words and "'red  wall and sea'" in words
    assert not any("by characters" in text for text in CompositeCodec.begin(table)[0].assumed)


def test_pictures_that_are_read_are_not_written_over(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = str(fitted.save(tmp_path / "model"))
    (pictures,), (caption,) = shown(1, seed=5)
    (tmp_path / "new-pictures").mkdir()
    Image.fromarray(pictures).save("new-pictures/0.png")
    Path("new.csv").write_text(f"picture,caption\nnew-pictures/0.png,{caption}\n")
    asked = ["impute", saved, "new.csv", "--hide", "top", "-o", "new.csv", "--force"]
    assert run(asked) == 2
    assert "holds new-pictures/0.png, which is read" in " ".join(capsys.readouterr().err.split())
    assert np.array_equal(np.asarray(Image.open("new-pictures/0.png")), pictures)


def test_a_part_is_hidden_in_the_shell(fitted, tmp_path, capsys):
    saved = str(fitted.save(tmp_path / "model"))
    pictures, captions = shown(2, seed=5)
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    one = str(tmp_path / "0.png")
    sheet = str(tmp_path / "sheet.png")
    hidden = ["--hide", "right", "--given", f"caption={captions[0]}"]
    assert run(["impute", saved, one, *hidden, "--draws", "2", "-o", sheet]) == 0
    assert captions[0] in capsys.readouterr().err
    shown_on = np.asarray(Image.open(sheet))
    assert shown_on.shape == (64, 4 * 66 - 2, 3)  # as it was, what is known, two completions
    assert np.array_equal(shown_on[::8, :64:8], pictures[0])
    assert (shown_on[:, 66 + 32 : 66 + 64] == 128).all()
    assert np.array_equal(shown_on[::8, 132 : 132 + 32 : 8], pictures[0][:, :4])
    (tmp_path / "new.csv").write_text(f"picture,caption\n0.png,{captions[0]}\n1.png,\n")
    out = tmp_path / "full.csv"
    asked = ["impute", saved, str(tmp_path / "new.csv"), "-o", str(out)]
    assert run([*asked, "--hide", "..4:.."]) == 0
    assert "3 cells filled in 2 of 2 rows" in capsys.readouterr().out
    full = pd.read_csv(out)
    assert full["caption"].notna().all()
    made = np.asarray(Image.open(tmp_path / full["picture"][1]))
    assert np.array_equal(made[4:], pictures[1][4:])
    for wrong, words in (
        ([*asked, *hidden, "--force"], "stands in its columns"),
        (["impute", saved, one, "--hide", "right", "--given", "caption=red..."], "one whole value"),
        (["impute", saved, one, *hidden[2:]], "--given goes with --hide or --mask"),
        (["impute", saved, one, "--hide", "top", "--given", "picture=x.png"], "is what"),
        ([*asked, "--hide", "9..:..", "--force"], "no pixel lies in 9..:.."),
    ):
        assert run(wrong) == 2
        assert words in " ".join(capsys.readouterr().err.split())
