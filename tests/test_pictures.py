"""Pictures from disk: folders and their labels, arrays in an .npz, every odd file said in one
sentence.
"""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

import conjoin
from conjoin import read_images
from conjoin.codecs.image.colours import on_background

pillow = pytest.importorskip("PIL.Image")


def grey(seed=0, shape=(6, 5)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def put(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two labels, three pictures, files that are none."""
    put(tmp_path / "dog" / "2.png", grey(2))
    put(tmp_path / "dog" / "deep" / "1.bmp", grey(1))
    put(tmp_path / "cat" / "9.png", grey(9))
    put(tmp_path / "cat" / ".hidden.png", grey(9))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_sub_folders_are_labels_and_the_order_is_that_of_the_paths(folder):
    with pytest.warns(UserWarning, match="left out|no label") as said:
        images, labels, names = read_images(folder)
    told = [str(each.message) for each in said]
    assert told[0].startswith(
        "2 files (1 .txt (notes.txt), 1 hidden file (.hidden.png)) were left out: pictures that"
    )
    assert told[1] == "No picture is read below empty, so that it is no label."
    assert names == ["cat/9.png", "dog/2.png", "dog/deep/1.bmp"] and labels.tolist() == [
        "cat",
        "dog",
        "dog",
    ]
    assert images.dtype == np.uint8 and np.array_equal(images, [grey(9), grey(2), grey(1)])


def test_a_folder_without_sub_folders_has_no_labels(tmp_path):
    put(tmp_path / "b.png", grey(1))
    put(tmp_path / "a.png", grey(2))
    found = read_images(tmp_path)
    assert (
        found.labels is None
        and found.names == ["a.png", "b.png"]
        and np.array_equal(found.images[1], grey(1))
    )
    one = read_images(tmp_path / "b.png")
    assert (
        one.names == ["b.png"]
        and one.labels is None
        and np.array_equal(one.images, found.images[1:])
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp"])
def test_formats_without_loss_are_exact(suffix, tmp_path):
    put(tmp_path / f"a.{suffix}", grey(), **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_images(tmp_path).images[0], grey())


def test_grey_if_all_are_grey_else_colours(tmp_path):
    put(tmp_path / "a.png", grey())
    put(tmp_path / "b.png", np.repeat(grey(1)[:, :, None], 3, 2))  # three equal channels are grey
    assert np.array_equal(read_images(tmp_path).images, [grey(), grey(1)])
    put(tmp_path / "c.png", grey(2, (6, 5, 3)))
    images = read_images(tmp_path).images
    assert (
        images.shape == (3, 6, 5, 3)
        and np.array_equal(images[2], grey(2, (6, 5, 3)))
        and (images[0] == grey()[:, :, None]).all()
    )
    assert read_images(tmp_path, mode="grey").images.shape == (3, 6, 5)
    assert read_images(tmp_path / "a.png", mode="RGB").images.shape == (1, 6, 5, 3)
    assert read_images(tmp_path / "a.png", mode="rgba").images[0, :, :, 3].min() == 255


def test_transparency_is_laid_on_a_colour(tmp_path):
    rgba = grey(3, (6, 5, 4))
    rgba[0, 0, 3] = 0
    rgba[0, 1, 3] = 255
    put(tmp_path / "a.png", rgba)
    with pytest.warns(UserWarning, match="1 of 1 pictures are transparent in places and were laid"):
        white = read_images(tmp_path).images[0]
    with pytest.warns(UserWarning, match="transparent"):
        red = read_images(tmp_path, background="#ff0000").images[0]
    assert white[0, 0].tolist() == [255, 255, 255] and red[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(white[0, 1], rgba[0, 1, :3])
    share = rgba[..., 3:] / 255
    assert np.abs(white - (share * rgba[..., :3] + (1 - share) * 255)).max() <= 0.5
    assert np.array_equal(read_images(tmp_path, mode="rgba").images[0], rgba)
    assert np.array_equal(white, on_background(rgba))


def test_sixteen_bits_are_scaled_and_said(tmp_path):
    deep = np.array([[0, 257, 65535], [128, 129, 40000]], dtype="uint16")
    put(tmp_path / "a.png", deep)
    with pytest.warns(UserWarning, match="1 of 1 pictures have 16 bits a pixel"):
        images = read_images(tmp_path).images
    assert images.tolist() == [[[0, 1, 255], [0, 1, 156]]]


def test_a_photograph_stands_upright_and_a_film_is_its_first_frame(tmp_path):
    exif = pillow.Exif()
    exif[274] = 6  # turned a quarter
    put(tmp_path / "a.png", grey(), exif=exif)
    assert np.array_equal(read_images(tmp_path / "a.png").images[0], np.rot90(grey(), -1))
    frames = [pillow.fromarray(grey(seed)) for seed in range(2)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="1 of 1 pictures have several frames, of which the first"):
        assert np.array_equal(read_images(tmp_path / "b.gif").images[0], grey())


def test_sizes_differ_only_where_one_is_asked_for(tmp_path):
    put(tmp_path / "a.png", grey())
    wide = np.zeros((6, 20), dtype="uint8")
    wide[:, 7:13] = 200  # the middle, which a cut to a square keeps
    put(tmp_path / "b.png", wide)
    with pytest.raises(
        ValueError,
        match=r"b.png has 6 x 20 pixels \(height x width\), where .*a.png has 6 x 5.*as size=6",
    ):
        read_images(tmp_path)
    with pytest.warns(UserWarning, match="2 of 2 pictures have other proportions than 6 x 6.*70%"):
        images = read_images(tmp_path, size=6).images
    assert images.shape == (2, 6, 6) and (images[1] == 200).all()
    with pytest.warns(UserWarning, match="were cut"):
        assert read_images(tmp_path, size=(3, 4)).images.shape == (2, 3, 4)
    assert np.array_equal(read_images(tmp_path / "a.png", size=(6, 5)).images[0], grey())


def test_parts_of_a_folder(tmp_path):
    for part in ("train", "test"):
        for label in ("x", "y"):
            put(tmp_path / part / label / "0.png", grey(len(part)))
    with pytest.raises(
        ValueError, match=r"is split into parts: say which with part=..., test or train"
    ):
        read_images(tmp_path)
    found = read_images(tmp_path, part="test")
    assert found.labels.tolist() == ["x", "y"] and found.names == ["test/x/0.png", "test/y/0.png"]
    with pytest.raises(ValueError, match="no part 'val'; its parts are test, train"):
        read_images(tmp_path, part="val")
    with pytest.raises(ValueError, match="not split into parts"):
        read_images(tmp_path / "train", part="val")


def test_broken_files_are_named(tmp_path):
    whole = io.BytesIO()
    pillow.fromarray(grey(0, (60, 50))).save(whole, "png")
    for name, content in {
        "half": whole.getvalue()[:900],
        "text": b"hello",
        "none": b"",
        "tiff": b"II*\x00\x08\x00\x00\x00",
    }.items():
        (tmp_path / f"{name}.png").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}.png is broken, or no picture"):
            read_images(tmp_path / f"{name}.png")


def bomb(height, width):
    """A small file that says it is huge."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5000, 4000), "5,000 x 4,000"),
        ((12000, 10000), "12,000 x"),
        ((60000, 60000), "far too many"),
    ],
)
def test_too_many_pixels_are_refused_before_they_are_unpacked(shape, words, tmp_path):
    (tmp_path / "a.png").write_bytes(bomb(*shape))
    with pytest.raises(
        ValueError, match=rf"a.png has {words}.* pixels, and the limit is 16,000,000"
    ):
        read_images(tmp_path)


def test_limits_of_a_folder(folder):
    with pytest.raises(ValueError, match=r"3 pictures of 6 x 5 pixels take 9e-08 GB.*with size="):
        read_images(folder, max_bytes=80)
    with pytest.raises(ValueError, match="limit is 20 a file"):
        read_images(folder, max_pixels=20)
    np.save(folder / "dog" / "3.npy", grey())
    with pytest.raises(ValueError, match="more than 20 pixels, which is the limit"):
        read_images(folder / "dog" / "3.npy", max_pixels=20)
    np.save(folder / "all.npy", grey(0, (4, 6, 5)))
    with pytest.raises(ValueError, match=r"all.npy takes .* GB of memory"):
        read_images(folder / "all.npy", max_bytes=80)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size must be a number of pixels"),
        ({"size": (1, 2, 3)}, "size must be"),
        ({"size": "28"}, "size must be"),
        ({"mode": "hsv"}, "mode must be 'grey', 'rgb', 'rgba'"),
        ({"background": "no colour"}, "background must be a colour"),
        ({"background": (1, 2)}, "background must be a colour"),
        ({"part": "train"}, "not split into parts"),
    ],
)
def test_options_that_cannot_be_meant(options, words, folder):
    with pytest.raises(ValueError, match=words):
        read_images(folder, **options)


def test_folders_that_say_two_things_or_nothing(folder, tmp_path):
    put(folder / "stray.png", grey())
    with pytest.raises(ValueError, match=r"holds 'stray.png' beside the sub-folder 'cat'"):
        read_images(folder)
    with pytest.raises(ValueError, match=r"holds no pictures; read are .png"):
        read_images(folder / "empty")
    with pytest.raises(ValueError, match="does not exist"):
        read_images(folder / "nowhere")
    with pytest.raises(ValueError, match=r"notes.txt is no picture that can be read"):
        read_images(folder / "notes.txt")
    (folder / "dog" / "deep" / "scan.tif").write_bytes(b"")
    with pytest.warns(UserWarning, match="scan.tif was left out"):
        read_images(folder / "dog" / "deep")


def test_pillow_is_asked_for_by_its_install_line(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ValueError, match=r'pip install "conjoin\[image\]"'):
        read_images(folder)


# ------------------------------------------------------------------------------ more than 8 bits


def ramp(top, shape=(4, 4)):
    """Values from 0 to top."""
    return np.rint(np.linspace(0, top, int(np.prod(shape)))).astype("uint16").reshape(shape)


def as_bytes(values, low, high):
    return np.rint((values.astype(float) - low).clip(0, high - low) * 255 / (high - low))


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".npy"])
def test_twelve_bits_in_sixteen_keep_their_levels(suffix, tmp_path):
    """They filled 16 of 256 levels: the range is that of as many bits as the values have."""
    values = ramp(4095)
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", values)
    else:
        put(tmp_path / f"a{suffix}", values)
    with pytest.warns(UserWarning, match=r"values up to 4095.*from 0 to 4095 became.*range=\(0, 4"):
        found = read_images(tmp_path)
    assert np.array_equal(found.images[0], as_bytes(values, 0, 4095))
    assert len(np.unique(found.images)) == 16


def test_the_range_is_of_all_pictures_together(tmp_path):
    put(tmp_path / "a.png", ramp(100))
    put(tmp_path / "b.png", ramp(1000))
    with pytest.warns(UserWarning, match="2 of 2 pictures have 16 bits.*up to 1000.*0 to 1023"):
        found = read_images(tmp_path)
    assert np.array_equal(found.images[0], as_bytes(ramp(100), 0, 1023))
    assert np.array_equal(found.images[1], as_bytes(ramp(1000), 0, 1023))


def test_a_range_may_be_given_in_values_or_percentiles(tmp_path):
    put(tmp_path / "a.png", ramp(4095))
    with pytest.warns(UserWarning, match="pictures|files") as said:
        found = read_images(tmp_path, range=(1000, 2000))
    assert np.array_equal(found.images[0], as_bytes(ramp(4095), 1000, 2000))
    assert "1 of 1 pictures have values beyond that range" in str(said[1].message)
    ends = np.percentile(np.r_[ramp(4095).ravel(), 0, 4095], [10, 90])
    with pytest.warns(UserWarning, match="beyond|scaled down"):
        found = read_images(tmp_path, range=("10%", "90%"))
    assert np.array_equal(found.images[0], as_bytes(ramp(4095), *ends))
    for wrong in ((3, 3), ("1%", 3), "a..b", ("90%", "10%"), 5):
        with pytest.raises(ValueError, match="range is a lower and a higher value"):
            read_images(tmp_path, range=wrong)


def test_a_range_does_nothing_to_eight_bits_with_a_word(tmp_path):
    put(tmp_path / "a.png", grey())
    np.savez(tmp_path / "a.npz", images=grey()[None])
    for path in (tmp_path / "a.png", tmp_path / "a.npz"):
        with pytest.warns(UserWarning, match="1 of 1 pictures have 8 bits a pixel, so that they"):
            assert np.array_equal(read_images(path, range=(0, 4095)).images[0], grey())


def test_arrays_of_sixteen_bits_are_ranged_alike(tmp_path):
    values = np.stack([ramp(4095, (4, 6)), ramp(2000, (4, 6))])
    np.savez(tmp_path / "a.npz", images=values)
    np.save(tmp_path / "a.npy", values)
    for name in ("a.npz", "a.npy"):
        with pytest.warns(UserWarning, match="2 of 2 pictures have 16 bits.*0 to 4095"):
            found = read_images(tmp_path / name)
        assert np.array_equal(found.images, as_bytes(values, 0, 4095))


def deep_png(channels, top):
    """A .png of 2 x 2 pixels of 16 bits for each channel, which pillow does not write."""
    kind = {2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0)
    line = b"\0" + np.full(2 * channels, top, ">u2").tobytes()
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(2 * line)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_each_channel_lose_the_lower_half_with_a_word(channels, tmp_path):
    (tmp_path / "a.png").write_bytes(deep_png(channels, 65535))
    with pytest.warns(UserWarning, match="1 of 1 pictures have 16 bits for each colour, or for"):
        assert (read_images(tmp_path).images == 255).all()


# ---------------------------------------------------------------------------- what is not a .png


def test_every_file_that_is_not_read_is_counted_by_kind(tmp_path):
    put(tmp_path / "x" / "1.png", grey())
    for name in ("a.tif", "b.tif", "c.tif", "d.nii.gz", "labels.csv", "IM0001"):
        (tmp_path / "x" / name).write_bytes(b"\0" * 200)
    (tmp_path / "x" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "x" / "linked").symlink_to(tmp_path)
    (tmp_path / "x" / "__MACOSX").mkdir()
    put(tmp_path / "x" / "__MACOSX" / "._1.png", grey())
    with pytest.warns(UserWarning, match="pictures|files") as said:
        found = read_images(tmp_path)
    assert found.names == ["x/1.png"]
    words = str(said[0].message)
    assert words.startswith("9 files (3 .tif (a.tif, b.tif, ...), ")
    for kind in (
        "1 .csv (labels.csv)",
        "1 .nii.gz (d.nii.gz)",
        "1 dangling link (gone.png)",
        "1 file without a suffix (IM0001)",
        "1 folder of a program (__MACOSX)",
        "1 linked folder (linked)",
    ):
        assert kind in words


def test_a_folder_of_other_files_says_which(tmp_path):
    for row in range(3):
        (tmp_path / f"{row}.tif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no pictures.*it has 3 .tif \(0.tif, 1.tif, ...\)"):
        read_images(tmp_path)


def test_an_array_that_may_be_several_pictures_is_said_to_be_one(tmp_path):
    np.save(tmp_path / "a.npy", grey(0, (5, 6, 3)))
    with pytest.warns(UserWarning, match=r"taken for one picture of 5 x 6 pixels and 3 channels"):
        assert read_images(tmp_path / "a.npy").images.shape == (1, 5, 6, 3)
    np.save(tmp_path / "b.npy", grey(0, (5, 6, 7)))
    assert read_images(tmp_path / "b.npy").names[4] == "b.npy[4]"


@pytest.mark.parametrize("suffix", ["pgm", "ppm", "jfif", "npy"])
def test_more_suffixes_are_read(suffix, tmp_path):
    values = np.repeat(np.arange(4, dtype="uint8")[:, None] * 60, 8, 1).repeat(2, 0)
    colours = np.stack([values] * 3, -1)
    if suffix == "npy":
        np.save(tmp_path / "a.npy", values)
    else:
        put(tmp_path / f"a.{suffix}", colours if suffix == "ppm" else values)
    found = read_images(tmp_path).images[0]
    assert np.abs(found.astype(int) - values).max() <= (8 if suffix == "jfif" else 0)
    assert np.array_equal(read_images(tmp_path / f"a.{suffix}").images[0], found)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2)) + 0.5, "an array of float64, where pixels are whole numbers"),
        (np.zeros((2, 2, 2, 2), "uint8"), r"an array of the shape \(2, 2, 2, 2\)"),
        (np.zeros((2, 2, 7), "uint8"), r"an array of the shape \(2, 2, 7\)"),
    ],
)
def test_arrays_in_a_folder_that_are_no_pictures(array, words, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=rf"a.npy is broken, or no picture \({words}"):
        read_images(tmp_path)


class StandIn:
    """What pydicom gives of a file, for machines without it."""

    def __init__(self, pixels, **tags):
        self.pixel_array = pixels
        self.Rows = pixels.shape[0]
        self.Columns = pixels.shape[1]
        vars(self).update(tags)


def dicom(monkeypatch, found):
    """A module in pydicom's place, which reads the file ``name`` as ``found[name]``."""
    import sys
    import types
    from pathlib import Path

    module = types.ModuleType("pydicom")
    module.dcmread = lambda path: found[Path(path).name]
    monkeypatch.setitem(sys.modules, "pydicom", module)


def test_dicom_is_read_by_its_window(tmp_path, monkeypatch):
    stored = ramp(4095)
    window = {"WindowCenter": 40, "WindowWidth": "401", "RescaleIntercept": -1024}
    for name in ("a.dcm", "IM0001", "c.dcm"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    dicom(
        monkeypatch,
        {
            "a.dcm": StandIn(stored, **window),
            "IM0001": StandIn(stored, **window, PhotometricInterpretation="MONOCHROME1"),
            "c.dcm": StandIn(stored),
            "d.dcm": StandIn(np.stack([stored.astype("uint8")] * 3, -1) + 0, NumberOfFrames="1"),
        },
    )
    with pytest.warns(UserWarning, match="pictures|files") as said:
        found = read_images(tmp_path)
    told = [str(each.message) for each in said]
    assert found.names == ["IM0001", "a.dcm", "c.dcm"]
    assert "1 of 3 pictures have 16 bits" in told[0]
    assert "2 of 3 pictures are DICOM and were read by the window" in told[1]
    # PS3.3, C.11.2.1.2.1: ((x - (c - .5)) / (w - 1) + .5) of the range
    share = (stored - 1024.0 - 39.5) / 400 + 0.5
    wanted = np.rint(255 * share.clip(0, 1))
    assert np.array_equal(found.images[1], wanted)
    assert np.array_equal(found.images[0], 255 - wanted)
    assert np.array_equal(found.images[2], as_bytes(stored, 0, 4095))
    with pytest.warns(UserWarning, match="pictures|files") as said:
        found = read_images(tmp_path, range=(-1024, 3071))
    assert "3 of 3 pictures have 16 bits" in str(said[0].message)
    assert "1 of 3 pictures have values beyond that range" in str(said[1].message)
    assert np.array_equal(found.images[1], as_bytes(stored, 0, 4095))


def test_films_and_odd_colours_of_dicom_are_named(tmp_path, monkeypatch):
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"")
    odd = np.zeros((2, 2, 3), "uint8")
    dicom(
        monkeypatch,
        {
            "a.dcm": StandIn(ramp(9), NumberOfFrames="30"),
            "b.dcm": StandIn(odd, PhotometricInterpretation="YBR_FULL"),
        },
    )
    with pytest.raises(ValueError, match=r"a.dcm .*it has 30 frames, and films and volumes"):
        read_images(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match=r"b.dcm .*its colours are YBR_FULL"):
        read_images(tmp_path / "b.dcm")


def test_pydicom_is_asked_for_by_its_install_line(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    for path in (tmp_path, tmp_path / "IM0001"):
        with pytest.raises(ValueError, match=r'pip install "conjoin\[dicom\]"'):
            read_images(path)
    put(tmp_path / "a.png", grey())
    with pytest.warns(UserWarning, match=r"IM0001 \(DICOM\) was left out.*conjoin\[dicom\]"):
        assert read_images(tmp_path).names == ["a.png"]


def test_broken_files_can_be_skipped(tmp_path):
    for label in ("x", "y"):
        put(tmp_path / label / "1.png", grey())
        (tmp_path / label / "2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2.png is broken.*skip_broken=True"):
        read_images(tmp_path)
    with pytest.warns(UserWarning, match=r"2 files \(2.png, 2.png\) were skipped as broken, of 4"):
        found = read_images(tmp_path, skip_broken=True)
    assert found.names == ["x/1.png", "y/1.png"] and found.labels.tolist() == ["x", "y"]
    (tmp_path / "y" / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"Every picture of y is broken|skipped as broken"):
        assert read_images(tmp_path, skip_broken=True).labels.tolist() == ["x"]
    with pytest.raises(ValueError, match=r"Every file is broken, such as 1\.png"):
        read_images(tmp_path / "y", skip_broken=True)


def test_pad_and_stretch_keep_the_whole_picture(tmp_path):
    wide = np.zeros((4, 8), dtype="uint8")
    wide[:, :2] = 200  # an edge, which a cut loses
    put(tmp_path / "a.png", wide)
    padded = read_images(tmp_path, size=8, resize="pad", background="black").images[0]
    assert np.array_equal(padded[2:6], wide) and not padded[:2].any() and not padded[6:].any()
    stretched = read_images(tmp_path, size=8, resize="stretch").images[0]
    assert np.array_equal(stretched[:, 0], np.full(8, 200)) and stretched.shape == (8, 8)
    with pytest.warns(UserWarning, match="up to 50% of one; resize='pad' and resize='stretch'"):
        assert read_images(tmp_path, size=4).images.max() < 100
    with pytest.raises(ValueError, match="resize must be one of cut, pad, stretch"):
        read_images(tmp_path, size=4, resize="crop")


def test_the_folder_between_label_and_picture_is_the_group(tmp_path):
    for name in ("x/p1/1", "x/p1/2", "x/p2/deep/3", "y/p1/4"):
        put(tmp_path / "train" / f"{name}.png", grey())
    put(tmp_path / "test" / "x" / "5.png", grey())
    found = read_images(tmp_path, part="train")
    assert found.groups.tolist() == ["p1", "p1", "p2", "p1"]
    images, labels, names = found  # as before
    assert len(images) == len(labels) == len(names) == 4
    with pytest.raises(ValueError, match=r"test/x/5.png lies in no folder below that of its label"):
        _ = read_images(tmp_path, part="test").groups


# --------------------------------------------------------------------------------------------- .npz


@pytest.mark.parametrize(
    "keys",
    [
        ("train_images", "train_labels"),
        ("x_train", "y_train"),
        ("images", "labels"),
        ("images", "label"),
        ("arr_0", "arr_1"),
    ],
)
def test_arrays_by_their_usual_names(keys, tmp_path):
    images = grey(0, (4, 6, 5))
    labels = np.array([[0], [1], [1], [0]])
    np.savez_compressed(tmp_path / "a.npz", **{keys[0]: images, keys[1]: labels})
    found = read_images(tmp_path / "a.npz", part="train" if "train" in keys[0] else None)
    assert (
        np.array_equal(found.images, images)
        and found.labels.tolist() == [0, 1, 1, 0]
        and found.names[3] == f"{keys[0]}[3]"
    )


def test_parts_of_an_archive(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        **{
            f"{part}_images": grey(n, (n, 6, 5))
            for n, part in enumerate(("train", "val", "test"), 1)
        },
    )
    assert [
        len(read_images(tmp_path / "a.npz", part=part).images)
        for part in ("train", "valid", "test")
    ] == [1, 2, 3]
    assert read_images(tmp_path / "a.npz", part="test").labels is None
    with pytest.raises(
        ValueError, match=r"is split into parts: say which with part=..., train or val or test"
    ):
        read_images(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="has no part 'dev': choose train or val or test"):
        read_images(tmp_path / "a.npz", part="dev")


def test_arrays_change_their_size_and_mode(tmp_path):
    np.savez(tmp_path / "a.npz", images=grey(0, (3, 6, 5, 3)))
    with pytest.warns(UserWarning, match="3 of 3 pictures have other proportions than 4 x 4"):
        assert read_images(tmp_path / "a.npz", size=4).images.shape == (3, 4, 4, 3)
    assert read_images(tmp_path / "a.npz", mode="grey").images.shape == (3, 6, 5)
    rgba = grey(0, (3, 6, 5, 4))
    np.savez(tmp_path / "b.npz", images=rgba)
    with pytest.warns(UserWarning, match="has four channels, taken as colours and opacity"):
        assert np.array_equal(read_images(tmp_path / "b.npz").images, on_background(rgba))
    assert np.array_equal(read_images(tmp_path / "b.npz", mode="rgba").images, rgba)
    np.savez(tmp_path / "c.npz", images=grey(0, (3, 6, 5, 7)))
    assert read_images(tmp_path / "c.npz").images.shape == (3, 6, 5, 7)
    with pytest.raises(ValueError, match="has 7 channels"):
        read_images(tmp_path / "c.npz", size=4)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"pictures": np.zeros((2, 3, 3), "uint8")},
            "it has pictures, and known are images and labels",
        ),
        ({"images": np.zeros((2, 3), "uint8")}, r"has the shape \(2, 3\)"),
        ({"images": np.full((2, 3, 3), 0.5)}, "pixels are whole numbers from 0 to 255"),
        ({"images": np.full((2, 3, 3), 300)}, "pixels are whole numbers"),
        (
            {"images": np.zeros((2, 3, 3), "uint8"), "labels": np.zeros(3)},
            "3 labels for 2 pictures",
        ),
        (
            {"images": np.zeros((2, 3, 3), "uint8"), "labels": np.zeros((2, 14))},
            "one label a picture",
        ),
        ({"images": np.array([{"a": 1}])}, "cannot be read"),
    ],
)
def test_arrays_that_are_no_pictures(arrays, words, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_images(tmp_path / "a.npz")


def test_archives_that_lie_or_are_broken(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        read_images(tmp_path / "a.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**9, 28, 28), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"images.npy is not what it says it is"):
        read_images(tmp_path / "b.npz")
    np.savez_compressed(tmp_path / "c.npz", images=np.zeros((100, 30, 30), "uint8"))
    with pytest.raises(
        ValueError, match=r"images and labels take 9e-05 GB of memory, and the limit is 1e-05 GB"
    ):
        read_images(tmp_path / "c.npz", max_bytes=10_000)


def test_read_images_is_public():
    assert "read_images" in conjoin.__all__
