"""Tables of which one column holds pictures: read, modelled as one row or columns first, asked with
either missing, written.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.cli.files import beside, limits_of, read
from conjoin.cli.pictures import placed
from conjoin.cli.voice import Voice
from conjoin.codecs.composite import codec_of, in_folder, picture_columns
from conjoin.codecs.image.pictures import Picture
from conjoin.core import CapabilityError, Event, Pair, Region, Space, Variable, stream
from conjoin.families.circuit.latent_tree import Circuit
from conjoin.families.diffusion.gaussian import Diffusion
from conjoin.families.illustrated import Illustrated, IllustratedDensity
from conjoin.families.multimodal import _between, _with_first
from conjoin.fitting import learning
from conjoin.joints.base import flat_row
from conjoin.training.checkpoint import Stop, Trained
from conjoin.training.loop import Plan

TINY = Illustrated(size=0.25, steps=40, batch=32, points=4, sampling_steps=4, columns="mixture")


def made(rows, seed=0, side=8):
    """In half of the rows the sign of ``a`` tells the class, in the others which diagonal of the
    picture is bright."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    column = random.random(rows) < 0.5
    a = np.where(column, random.normal(4 * y - 2, 0.3), random.normal(0, 0.3, rows)).round(2)
    images = random.normal(120, 12, (rows, side, side))
    diagonal = np.eye(side, dtype=bool)
    for row in np.flatnonzero(~column):
        images[row][diagonal if y[row] else diagonal[:, ::-1]] += 90
    scans = [Picture(image) for image in images.clip(0, 255).round().astype("uint8")]
    k = np.where(random.random(rows) < 0.4, "u", "v")
    return pd.DataFrame({"a": a, "scan": pd.Series(scans, dtype=object), "k": k}), y, column


def holed(rows):
    X, y, _ = made(rows)
    X.loc[::7, "scan"] = None
    X.loc[3::9, "a"] = np.nan
    return X, y


def without(X, *names):
    return X.assign(**dict.fromkeys(names))


def on_disk(folder, X):
    """The frame with paths in place of pictures, each written below the folder."""
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    paths = []
    for row, cell in enumerate(X["scan"]):
        paths.append("" if cell is None else f"scans/{row}.png")
        if cell is not None:
            Image.fromarray(cell.pixels).save(folder / paths[-1])
    return X.assign(scan=paths)


@pytest.fixture(scope="module")
def flat():
    return JointClassifier(family="mixture", predictor=None).fit(*holed(300))


@pytest.fixture(scope="module")
def chained():
    return JointClassifier(family=TINY, predictor=None).fit(*holed(200))


# --------------------------------------------------------------------------- known in part


def bright(rows, seed=0):
    """Pictures that are bright or dark all over, as ``k`` says."""
    random = np.random.default_rng(seed)
    k = random.choice(["hi", "lo"], rows)
    middle = np.where(k == "hi", 190, 60)[:, None, None]
    images = (middle + random.integers(-20, 21, (rows, 8, 8))).astype("uint8")
    return pd.DataFrame({"scan": pd.Series(list(images), dtype=object), "k": k})


def top_half(image):
    return np.ma.MaskedArray(image, np.arange(8)[:, None] * np.ones(8, dtype=int) >= 4)


def test_what_is_missing_beside_a_part_is_told_of_it():
    table = bright(160)
    model = JointDensity(family=Illustrated(size=0.25, steps=200, batch=32), random_state=0)
    model.fit(table)
    new = bright(30, seed=1)
    halves = pd.Series([top_half(image) for image in new["scan"]], dtype=object)
    (full,) = model.impute(pd.DataFrame({"scan": halves}).assign(k=None), n_draws=1)
    assert (full["k"] == new["k"]).mean() >= 0.85
    bottom = np.array([cell.pixels[4:].mean() > 125 for cell in full["scan"]])
    assert (bottom == (new["k"] == "hi")).mean() >= 0.85


@pytest.mark.parametrize("predictor", [None, "auto"])
@pytest.mark.parametrize("draws", [None, 1])
def test_a_class_is_taken_to_hold_beside_a_part(predictor, draws):
    table = bright(120)
    model = JointClassifier(family=TINY, predictor=predictor, random_state=0)
    model.fit(table[["scan"]].assign(a=np.arange(120.0)), table["k"])
    half = pd.Series([top_half(table["scan"][0])], dtype=object)
    found = model.impute(pd.DataFrame({"scan": half, "a": [3.0]}), n_draws=draws, y="hi")
    (cell,) = (found if draws is None else found[0])["scan"]
    assert np.array_equal(cell.pixels[:4], table["scan"][0][:4]) and cell.known is None


def test_a_picture_is_whole_where_all_pixels_are_known():
    image = np.full((3, 3, 3), 9, dtype="uint8")
    assert Picture(image, known=np.ones((3, 3), dtype=bool)) == Picture(image)
    assert Picture(image).hide(np.zeros((3, 3), dtype=bool)).known is None
    part = Picture(image, known=np.eye(3, dtype=bool))
    assert part.known.shape == (3, 3, 3) and "33% known" in str(part) and part != Picture(image)
    assert part == Picture(np.where(part.known, image, 1).astype("uint8"), known=part.known)


# --------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("name", ["flat", "chained"])
def test_a_missing_picture_is_summed_out_exactly(name, request):
    model = request.getfixturevalue(name).model_
    event = model.encode(without(made(20, 1)[0], "scan")).event
    density = model.joint.density
    width = model.codec.space.shape[0] - 64
    row = flat_row(Pair(model.joint.unknown(20), event))
    if name == "chained":
        alone = density.first.log_prob(Event(row.value[:, : width + 1], row.mask[:, : width + 1]))
        assert torch.equal(density.log_prob(row), alone)
    # of two pictures that differ in one pixel, the sum over its levels is what is known without
    # that pixel
    else:
        picture = model.encode(made(1, 1)[0]).event
        many = Event(picture.value.repeat(256, 1))
        many.value[:, -1] = torch.arange(256.0)
        rest = picture.hide(torch.arange(width + 64) == width + 63)
        assert torch.isclose(
            model.joint.log_evidence(many).logsumexp(0), model.joint.log_evidence(rest)[0]
        )


@pytest.mark.filterwarnings("ignore:X lacks")
@pytest.mark.parametrize("name", ["flat", "chained"])
def test_either_may_be_missing(name, request):
    model = request.getfixturevalue(name)
    (X, _, _) = made(30, 1)
    for rows in (X, without(X, "scan"), without(X, "a", "k"), X[["scan"]], X[["a", "k"]]):
        joint = model.predict_joint_log_proba(rows)
        assert np.isfinite(joint).all()
        assert np.allclose(model.score_samples(rows), np.logaddexp.reduce(joint, 1), atol=1e-6)
        assert np.allclose(
            model.predict_log_proba(rows), joint - model.score_samples(rows)[:, None], atol=1e-6
        )


def test_a_pictures_word_about_a_number_is_interpolated():
    knots = torch.tensor([0.0, 1.0, 3.0])
    at = torch.linspace(0, 3, 7)
    assert torch.allclose(
        _between(knots, knots[None] ** 2, at), torch.tensor([[0.0, 0.5, 1.0, 3.0, 5.0, 7.0, 9.0]])
    )


def test_a_part_of_a_picture_has_no_log_p_in_a_chain(chained):
    event = chained.model_.encode(made(2, 1)[0]).event
    with pytest.raises(CapabilityError, match="part of a picture"):
        chained.model_.log_evidence(event.hide(torch.arange(event.value.shape[1]) > 40))


@pytest.fixture(scope="module")
def tied():
    """A chain of one number, half of which are zeros, and a picture that is told of it; and ten of
    its rows."""
    grey = (Variable("grey", "ordered", cardinality=256),) * 64
    space = Space((65,), (Variable("dose", "real"), *grey), "vector", (1, 8, 8))
    dose = torch.cat([torch.zeros(30, 1), torch.randn(30, 1, generator=stream(0)).abs()])
    rows = Event(torch.cat([dose, torch.randint(256, (60, 64), generator=stream(1))], 1).double())
    density = IllustratedDensity.build(
        space, Illustrated(size=0.25, points=2, columns="mixture"), rows, stream(2)
    )
    with torch.no_grad():
        for weight in density.picture.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=stream(3))
    return density, rows.take(slice(0, 10))


def said(density, rows, points, generator=None):
    """(B, K) log p(picture | the number is each of the points)."""
    columns, picture = rows.cut(1)
    return torch.stack(
        [density._seen(_with_first(columns, point), picture, generator) for point in points], 1
    )


def test_a_number_is_summed_out_over_its_quantiles(tied):
    density, rows = tied
    unknown = rows.hide(torch.arange(65) == 0)
    each = said(density, unknown, density.points)
    assert (density.points == 0).sum() > 3 and each.std(1).min() > 0
    assert torch.allclose(
        density.log_prob(unknown), each.logsumexp(1) - np.log(len(density.points))
    )


@torch.no_grad()
def test_a_number_that_lies_in_a_region_is_summed_out_there(tied):
    density, rows = tied
    for low, high, points in (
        (density.points[-1], np.inf, density.points[-1:]),
        (50.0, 60.0, torch.tensor([50.0])),
    ):
        box = Region(
            torch.tensor([low, *[-np.inf] * 64]).double(),
            torch.tensor([high, *[np.inf] * 64]).double(),
        )
        unknown = rows.hide(torch.arange(65) == 0)._replace(within=box)
        word = density.log_prob(unknown) - density.first.log_prob(unknown.cut(1)[0])
        assert torch.allclose(word, said(density, unknown, points.double())[:, 0])


@torch.no_grad()
def test_all_candidates_meet_the_same_noise(tied, monkeypatch):
    density, rows = tied
    monkeypatch.setattr(density, "points", torch.full_like(density.points, 0.5))
    unknown = rows.hide(torch.arange(65) == 0)
    seed = int(torch.randint(0, 1 << 62, (), generator=stream(5)))
    word = said(density, unknown, density.points[:1], stream(seed))[:, 0]
    assert torch.allclose(density.log_prob(unknown, generator=stream(5)), word)


def test_what_the_columns_took_is_not_given_to_the_picture(tied, monkeypatch):
    density, rows = tied
    plans = []
    ends = iter([Stop.EPOCHS, "", Stop.INTERRUPTED])

    def training(density, rows, weight, choose, plan, progress, label):
        plans.append(plan)
        # which takes some energy
        return Trained(stopped=next(ends), seconds=2.0 + 0 * sum(range(4_000_000)))

    monkeypatch.setattr(learning, "train", training)
    fit = learning.Learning(
        config=density.config,
        options=None,
        target=None,
        space=density.space,
        event=Pair(rows, rows),
        weight=torch.ones(10),
        choose=Pair(rows, rows),
    )
    fit._trained(density, (rows, rows), Plan(max_time=10.0, max_kwh=1.0), None)
    assert plans[0].max_kwh == 1 > plans[1].max_kwh > 0.9 and plans[1].max_time == 8
    assert fit._trained(density, (rows, rows), Plan(), None).interrupted and len(plans) == 3


# -------------------------------------------------------------------------------------------- verbs


@pytest.mark.parametrize("name", ["flat", pytest.param("chained", marks=pytest.mark.slow)])
def test_every_question_has_an_answer(name, request, tmp_path):
    model = request.getfixturevalue(name)
    (X, _, _) = made(30, 1)
    drawn, labels = model.sample(3, y=1, given={"k": "u"})
    assert (
        set(drawn["k"]) == {"u"}
        and (labels == 1).all()
        and drawn["scan"].iloc[0].pixels.shape == (8, 8)
    )
    gaps = X.iloc[:3].copy()
    gaps.loc[0, "scan"] = None
    gaps.loc[1, "a"] = np.nan
    for full in (model.impute(gaps), *model.impute(gaps, n_draws=2)):
        assert (
            full.notna().all(axis=None)
            and full["scan"].iloc[1] == X["scan"].iloc[1]
            and full["a"].iloc[0] == X["a"].iloc[0]
        )
    verdicts = model.decide(X.assign(a=999.0).iloc[:3], max_error=0.5)
    assert (verdicts["verdict"] == "unfamiliar").all() and "a" in verdicts["reason"].iloc[0]
    changed = model.counterfactual(X.iloc[:1], to=1 - model.predict(X.iloc[:1])[0])
    assert (changed["scan"].iloc[0] == X["scan"].iloc[0]) and "scan" not in changed["changed"].iloc[
        0
    ]
    again = conjoin.load(model.save(tmp_path / "model"))
    for rows in (X, gaps):
        assert np.array_equal(again.score_samples(rows), model.score_samples(rows))
        assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert again.n_features_in_ == 3 and again.sample(2, random_state=0)[0].equals(
        model.sample(2, random_state=0)[0]
    )


@pytest.mark.parametrize("predictor", [None, "linear"])
def test_rows_without_their_picture_are_as_familiar_as_others(flat, tmp_path, predictor):
    X = made(300, 1)[0]
    flat = (
        flat
        if predictor is None
        else JointClassifier(family="mixture", predictor=predictor).fit(*holed(300))
    )
    again = conjoin.load(flat.save(tmp_path / "model"))
    for rows in (X, without(X, "scan")):
        familiarity = flat.decide(rows, max_error=0.5)["familiarity"]
        assert (familiarity <= 0.1).mean() < 0.25 and (familiarity <= 0.9).mean() > 0.7
        assert np.array_equal(familiarity, again.decide(rows, max_error=0.5)["familiarity"])


@pytest.mark.slow
def test_a_picture_unlike_the_others_is_unfamiliar(chained):
    X = made(30, 1)[0]
    noise = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    strange = X.assign(scan=[Picture(each) for each in noise])
    assert (chained.decide(strange, max_error=0.5)["verdict"] == "unfamiliar").mean() > 0.9
    assert (chained.decide(X, max_error=0.5)["verdict"] == "unfamiliar").mean() < 0.3


@pytest.mark.slow
def test_a_density():
    X, _ = holed(60)
    density = JointDensity(family=TINY).fit(X)
    assert (
        np.isfinite(density.score_samples(X)).all() and density.sample(2)[0]["scan"].notna().all()
    )


@pytest.mark.slow
def test_a_number():
    X, y = holed(200)
    model = JointRegressor(family=TINY, predictor=None).fit(
        X, y + np.random.default_rng(0).normal(0, 0.1, len(y))
    )
    told = X["a"].abs() > 1.5
    assert np.corrcoef(model.predict(X[told]), y[told])[0, 1] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["circuit", Illustrated(size=0.25, steps=300, batch=32, points=8)]
)
def test_picture_and_columns_together_know_more_than_either(family):
    X, y, _ = made(600)
    X.loc[::10, "scan"] = None
    X.loc[3::10, "a"] = np.nan
    model = JointClassifier(family=family).fit(X, y)
    (new, label, _) = made(300, 1)
    right = [
        float((model.predict(rows) == label).mean())
        for rows in (new, without(new, "scan"), without(new, "a", "k"))
    ]
    assert right[0] > 0.95 and max(right[1:]) < 0.85


def space_of(X):
    codec, frame = codec_of(X, None, ())
    return codec.fit(frame).space


def test_which_family_stands_for_which():
    small = space_of(made(40)[0])
    large = space_of(made(40, side=16)[0])
    assert Circuit(width=4).suited(small) == Circuit(width=4)
    assert Circuit(width=4).suited(large).of_columns == Circuit(width=4)
    assert Diffusion(steps=7).suited(large) == Illustrated(steps=7)
    with pytest.raises(ValueError, match="can't stand before a picture"):
        Illustrated(columns="naive_bayes")
    with pytest.raises(ValueError, match="one column holds pictures"):
        JointDensity(family="illustrated").fit(made(60)[0][["a", "k"]])


@pytest.mark.slow
def test_a_fit_that_begins_from_another(chained):
    X, y = holed(200)
    on = JointClassifier(family="illustrated", predictor=None, start_from=chained, max_time=0).fit(
        X, y
    )
    assert on.model_.joint.config == chained.model_.joint.config
    assert np.abs(on.score_samples(X) - chained.score_samples(X)).mean() < 0.1
    with pytest.raises(ValueError, match="has the labels 0, 1, and this fit has the labels n, p"):
        JointClassifier(family="illustrated", start_from=chained).fit(X, np.where(y > 0, "p", "n"))
    with pytest.raises(ValueError, match="the column 'scan', which X has not"):
        JointClassifier(family="illustrated", start_from=chained).fit(X[["a", "k"]], y)


# ------------------------------------------------------------------------------------------ reading


def test_files_arrays_and_pictures_read_alike(flat, tmp_path, monkeypatch):
    X = holed(20)[0]
    table = on_disk(tmp_path, X)
    table.to_csv(tmp_path / "t.csv", index=False)
    truth = flat.score_samples(X)
    arrays = X.assign(scan=[None if cell is None else cell.pixels for cell in X["scan"]])
    for same in (arrays, in_folder(table, tmp_path), tmp_path / "t.csv", arrays.to_dict("series")):
        assert np.array_equal(flat.score_samples(same), truth)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(flat.score_samples(table), truth)
    assert conjoin.inspect(table)["scan"].type == "picture"


def test_colours_sizes_and_types(tmp_path):
    X = holed(40)[0]
    table = in_folder(on_disk(tmp_path, X), tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), dtype="uint8") + np.array([9, 8, 7], dtype="uint8")).save(
        tmp_path / "scans" / "1.png"
    )
    model = JointDensity(family="mixture").fit(table)
    assert model.model_.codec.space.grid == (3, 8, 8) and model.sample(1)[0]["scan"][
        0
    ].pixels.shape == (8, 8, 3)
    Image.fromarray(np.zeros((9, 12), dtype="uint8")).save(tmp_path / "scans" / "2.png")
    with pytest.raises(
        ValueError,
        match=r"Column 'scan', row 2: .*2.png has 9 x 12 pixels .* where the first has 8 x 8",
    ):
        JointDensity(family="mixture").fit(table)
    cut = JointDensity(family="mixture", types={"scan": {"type": "picture", "format": "4x6"}}).fit(
        table
    )
    assert cut.model_.codec.space.grid == (3, 4, 6)
    words = "Column 'scan': 34 of 34 pictures have other proportions than 4 x 6 and were cut"
    assert any(each.startswith(words) for each in cut.model_.codec.notices)
    with pytest.warns(UserWarning, match=words):
        assert np.isfinite(cut.score_samples(table)).all()
    words = JointDensity(family="mixture", types={"scan": "category"}).fit(table)
    assert words.model_.codec.kind == "table"


def test_file_names_that_are_no_pictures_stay(flat, tmp_path):
    path = tmp_path / "t.csv"
    X = on_disk(tmp_path, holed(20)[0]).assign(k="red.png")
    X.to_csv(path, index=False)
    for frame in (
        read(str(path), limits_of(None, None, None), Voice(True), flat.model_.codec),
        beside(X, str(path), {"k": "category"}, ()),
    ):
        assert set(frame["k"]) == {"red.png"} and frame["scan"][1] == str(
            tmp_path / "scans" / "1.png"
        )


@pytest.mark.parametrize("types", [None, {"scan": "picture"}])
def test_words_that_mean_no_picture(types, tmp_path):
    X = on_disk(tmp_path, holed(20)[0])
    X.assign(scan=X["scan"].replace("", "none")).to_csv(tmp_path / "t.csv", index=False)
    codec, frame = codec_of(tmp_path / "t.csv", types, {"scan": "none"})
    assert frame["scan"].isna().sum() == 3 and list(
        picture_columns(X.assign(scan="none"), types, "none")
    ) == list(types or [])
    assert codec.fit(frame).encode(tmp_path / "t.csv").event.mask.all(1).sum() == 15


def test_arrays_of_unequal_channels(flat):
    X = made(4)[0]
    grey = [cell.pixels for cell in X["scan"]]
    clear = np.zeros((8, 8, 4), dtype="uint8")
    _, frame = codec_of(
        X.assign(scan=[grey[0], np.stack([grey[1]] * 3, 2), clear, grey[3][:, :, None]]), None, ()
    )
    assert [cell.pixels.shape for cell in frame["scan"]] == [(8, 8, 4)] * 4
    assert (frame["scan"][0].pixels[..., 3] == 255).all() and (
        frame["scan"][1].pixels[..., 1] == grey[1]
    ).all()
    with pytest.warns(UserWarning, match="'scan': 1 of 4 pictures are transparent in places"):
        read_grey = flat.model_.codec.frame(
            X.assign(scan=[*frame["scan"][:3], np.stack([grey[3]] * 3, 2)])
        )["scan"]
    assert (
        all((read_grey[row].pixels == grey[row]).all() for row in (0, 1, 3))
        and (read_grey[2].pixels == 255).all()
    )


def test_names_that_are_numbers():
    X = made(20)[0][["a", "scan"]].set_axis([0, 1], axis=1)
    codec, frame = codec_of(X, None, ())
    encoded = codec.fit(frame).encode(X)
    assert codec.decode(encoded.event.value)[1].tolist() == X[1].tolist()
    assert list(placed(X, None).columns) == [0, 1]
    assert codec.space.variables[-1] is codec.space.variables[-1]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("no.png", r"Column 'scan', row 4: there is no file no.png"),
        ("bad.png", r"Column 'scan', row 4: bad.png is broken"),
        (np.full((8, 8), 0.5), r"Column 'scan', row 4: pixels are whole numbers from 0 to 255"),
        (3.5, r"Column 'scan', row 4: 3.5 is no path"),
    ],
)
def test_a_cell_that_is_no_picture(cell, message, flat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    X = made(6, 1)[0]
    X.at[4, "scan"] = cell
    with pytest.raises(ValueError, match=message):
        flat.predict(X)


@pytest.mark.parametrize("odd", ["notes.txt", "unknown", "4.png"])
def test_one_odd_path_among_pictures_names_its_row(odd, tmp_path, monkeypatch):
    """It does not make the column one of words, nor one that is set aside."""
    table = on_disk(tmp_path, made(20)[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "4.png").write_text("no picture")
    table.loc[7, "scan"] = odd
    assert conjoin.inspect(table)["scan"].type == "picture"
    with pytest.raises(ValueError, match=rf"Column 'scan', row 7: .*{odd}"):
        JointDensity(family="mixture").fit(table)
    words = JointDensity(family="mixture", types={"scan": "category"}).fit(table)
    assert words.model_.codec.kind == "table"


def test_a_colour_picture_among_greys_is_turned_into_grey_with_a_word(flat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = made(6, 1)[0]
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype("uint8")
    Image.fromarray(colours).save(tmp_path / "a.png")
    truth = flat.score_samples(X.assign(scan=[np.array(Image.open("a.png").convert("L"))] * 6))
    for cell in ("a.png", colours):
        with pytest.warns(UserWarning, match="'scan': 6 of 6 pictures are in colour"):
            assert np.array_equal(flat.score_samples(X.assign(scan=[cell] * 6)), truth)


def test_deep_pictures_of_a_column_keep_the_range_of_the_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = made(20)[0]
    deep = [np.random.default_rng(row).integers(0, 4096, (8, 8)) for row in range(20)]
    for row, values in enumerate(deep):
        Image.fromarray(values.astype("uint16")).save(f"{row}.png")
    model = JointDensity(family="mixture").fit(X.assign(scan=[f"{row}.png" for row in range(20)]))
    assert "'scan': 20 of 20 pictures have 16 bits" in model.model_.codec.notices[0]
    model.save(tmp_path / "m")
    Image.fromarray((deep[0] // 8).astype("uint16")).save("dark.png")
    wanted = np.rint((deep[0] // 8) * 255 / 4095).astype("uint8")
    for each in (model, conjoin.load(tmp_path / "m")):
        with pytest.warns(UserWarning, match="from 0 to 4095 became"):
            found = each.score_samples(X[:1].assign(scan="dark.png"))
        assert np.array_equal(found, each.score_samples(X[:1].assign(scan=[wanted])))


def test_what_is_refused():
    with pytest.raises(ValueError, match="A dict of columns needs lists of one length"):
        JointClassifier().fit({"a": [1, 2], "b": [1]}, [0, 1])
    X = made(30)[0]
    for rows, options, message in (
        (X[["scan"]], {}, "There is no column beside 'scan'"),
        (X, {"missingness": "informative"}, "not for tables with pictures"),
        (X.assign(scan=[np.zeros((300, 300), dtype="uint8")] * 30), {}, "the limit is 65,536"),
        (X, {"types": {"scan": {"type": "picture", "format": "big"}}}, "such as 28x32, not 'big'"),
    ):
        with pytest.raises(ValueError, match=message):
            JointDensity(family="mixture", **options).fit(rows)


# --------------------------------------------------------------------------------- the command line


@pytest.fixture
def home(tmp_path):
    X, y = holed(120)
    on_disk(tmp_path / "data", X).assign(outcome=y).to_csv(
        tmp_path / "data" / "patients.csv", index=False
    )
    return tmp_path / "data"


def test_the_command_line_reads_draws_and_reads_again(home, say):
    say("fit @patients.csv --target outcome -o model --family mixture --predictor none --size 6 -q")
    say("sample model -n 4 --seed 0 -o drawn.csv")
    drawn = pd.read_csv("drawn.csv")
    again = conjoin.load("model").sample(4, random_state=0)[0]["scan"]
    assert drawn["scan"].tolist() == [f"drawn-pictures/{row:03d}.png" for row in range(4)]
    assert all(
        (np.asarray(Image.open(path)) == again[row].pixels).all()
        for row, path in enumerate(drawn["scan"])
    )
    say("impute model @patients.csv -o full.csv")
    full = pd.read_csv("full.csv")["scan"]
    assert full[0] == "full-pictures/000.png" and full[1] == "data/scans/1.png"
    say("decide model full.csv --max-error .5 -o verdicts.csv")
    assert len(pd.read_csv("verdicts.csv")) == 120
    assert "exists" in say("sample model -o full.csv", code=2).err
    assert (
        "6x6 pixels" in say("info model").out
        and "it holds pictures" in say("check @patients.csv").out
    )
    assert (
        "read at once"
        in say("fit @patients.csv --target outcome -o other --chunk-rows 20", code=2).err
    )
    (home / "scans" / "3.png").unlink()
    assert "Column 'scan', row 4" in say("predict model @patients.csv", code=2).err
