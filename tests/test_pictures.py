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
    images, labels, names = read_images(folder)
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
    white = read_images(tmp_path).images[0]
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
    images = read_images(tmp_path, size=6).images
    assert images.shape == (2, 6, 6) and (images[1] == 200).all()
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
        ValueError, match=r"images takes 9e-05 GB of memory, and the limit is 1e-05 GB"
    ):
        read_images(tmp_path / "c.npz", max_bytes=10_000)


def test_read_images_is_public():
    assert "read_images" in conjoin.__all__
