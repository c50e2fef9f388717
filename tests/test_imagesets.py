"""Named sets of images: from CONJOIN_DATA if they are what their README says, else fetched once and
checked.
"""

import functools
import gzip
import hashlib
import http.server
import threading
from dataclasses import replace

import numpy as np
import pytest

from conjoin import datasets
from conjoin.datasets import images as imagesets


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def shelve(folder, name, **arrays):
    """A set as it lies in CONJOIN_DATA."""
    path = folder / "images" / name / f"{name}.npz"
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("README.md").write_text(
        f"Files:\n- `{path.name}` — 7 bytes, sha256 `{digest}`\n", encoding="utf-8"
    )
    return path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("CONJOIN_DATA", str(tmp_path))
    return tmp_path


def test_a_set_from_the_shelf_and_its_parts(shelf):
    parts = {
        f"{part}_{kind}": pixels(n, *shape)
        for n, part in ((3, "train"), (2, "val"), (1, "test"))
        for kind, shape in KINDS.items()
    }
    shelve(shelf, "pneumoniamnist", **parts)
    data = datasets.load_images("pneumoniamnist")
    assert (
        [len(x) for x in (data.x_train, data.x_val, data.x_test)]
        == [3, 2, 1]
        == [len(y) for y in (data.y_train, data.y_val, data.y_test)]
    )
    assert np.array_equal(data.x_val, parts["val_images"]) and np.array_equal(
        data.y_val, parts["val_labels"][:, 0]
    )
    assert (
        data.classes == ("normal", "pneumonia")
        and "CC BY 4.0" in data.licence
        and "MedMNIST" in data.origin
    )


KINDS = {"images": (4, 4), "labels": (1,)}


def test_an_altered_set_is_refused(shelf):
    path = shelve(
        shelf,
        "mnist",
        x_train=pixels(2, 4, 4),
        y_train=pixels(2),
        x_test=pixels(1, 4, 4),
        y_test=pixels(1),
    )
    assert datasets.load_images("mnist").x_val is None
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"mnist.npz was altered: its sha256 is"):
        datasets.load_images("mnist")
    path.with_name("README.md").write_text("nothing")
    with pytest.raises(ValueError, match=r"does not state the sha256 of mnist.npz"):
        datasets.load_images("mnist")


def test_characters_are_split_by_their_drawings(shelf):
    character = np.repeat(["b", "a"], 10)
    shelve(
        shelf,
        "omniglot_small",
        images=pixels(20, 4, 4),
        character=character,
        alphabet=np.repeat("x", 20),
    )
    data = datasets.load_images("omniglot_small")
    assert (
        data.y_test.tolist() == ["b", "b", "a", "a"]
        and len(data.x_train) == 16
        and data.classes == ("a", "b")
    )
    assert (
        np.array_equal(data.x_test, pixels(20, 4, 4)[[4, 9, 14, 19]])
        and data.about["test"]["alphabet"].tolist() == ["x"] * 4
    )


def test_variants_of_one_concept_are_on_one_side(shelf):
    """Gender, direction, skin tone and flags: of real captions, 10 of each variant."""
    variants = [
        [f"{who} {what}{end}" for who in ("man", "woman", "person")
         for end in ("", ": facing right", ": dark skin tone", ": medium-light skin tone")]
        for what in ("walking", "running", "with white cane")
    ]  # fmt: skip
    variants += [
        [f"flag: {land}" for land in ("Chad", "Japan", "Scotland")],
        ["left arrow", "up-left arrow", "right arrow"],
        ["thumbs up: light skin tone", "thumbs down"],
        ["prince", "princess: dark skin tone"],
        ["woman and man holding hands", "men holding hands", "people holding hands"],
        ["boy", "girl", "child"],
        ["man", "woman: beard", "person: red hair"],
    ]
    assert [len(set(map(datasets.concept_of, each))) for each in variants] == [1] * len(variants)
    assert len({datasets.concept_of(each[0]) for each in variants}) == len(variants)
    assert datasets.concept_of("bright button") == "bright button"
    label = np.array([caption for each in variants for caption in each])
    images = np.zeros((len(label), 2, 2, 4), np.uint8)
    shelve(shelf, "emoji", images=images, label=label, split=np.full(len(label), "train"))
    data = datasets.load_images("emoji", by_concept=True)
    train, test = (set(data.about[part]["concept"]) for part in ("train", "test"))
    assert not train & test and len(data.x_train) + len(data.x_test) == len(label)
    with pytest.raises(ValueError, match="by_concept=True is for images with captions, and 'mnis"):
        datasets.load_images("mnist", by_concept=True)


def test_emoji_lie_on_a_background(shelf):
    images = pixels(4, 2, 2, 4)
    split = np.array(["train", "test_style", "train", "test_caption"])
    shelve(shelf, "emoji", images=images, label=np.array(list("abca")), split=split)
    data = datasets.load_images("emoji")
    whole = datasets.load_images("emoji", background=None)
    assert data.x_train.shape == (2, 2, 2, 3) and np.array_equal(whole.x_test, images[[1, 3]])
    assert data.y_test.tolist() == ["b", "a"] and data.about["test"]["split"].tolist() == [
        "test_style",
        "test_caption",
    ]


def test_names_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.delenv("CONJOIN_DATA", raising=False)
    with pytest.raises(
        ValueError,
        match="no set of images 'cifar'; there are emoji, fashion_mnist, mnist, omniglot_small, "
        "pneumoniamnist",
    ):
        datasets.load_images("cifar")
    for name in ("emoji", "omniglot_small"):
        with pytest.raises(ValueError, match=rf"no public home.*images/{name}/.*CONJOIN_DATA"):
            datasets.load_images(name)


# ----------------------------------------------------------------------------------------- fetching


def idx(array):
    head = (2051 if array.ndim == 3 else 2049).to_bytes(4, "big") + b"".join(
        n.to_bytes(4, "big") for n in array.shape
    )
    return gzip.compress(head + array.tobytes(), mtime=0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A local server in the place of the public homes, whose files are what they should be; and an
    empty cache."""
    folder = tmp_path / "home"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    arrays = {
        "x_train": pixels(3, 4, 5),
        "y_train": pixels(3),
        "x_test": pixels(2, 4, 5),
        "y_test": pixels(2),
    }
    np.savez(
        folder / "pneumoniamnist.npz",
        **{
            f"{part}_{kind}": pixels(2, *KINDS[kind])
            for part in ("train", "val", "test")
            for kind in KINDS
        },
    )
    for name in ("mnist", "pneumoniamnist"):
        files = imagesets._SETS[name].files
        for key in set(files) - {""}:
            (folder / files[key][0]).write_bytes(idx(arrays[key]))
        known = {
            key: (file, hashlib.md5((folder / file).read_bytes()).hexdigest())
            for key, (file, _) in files.items()
        }
        here = replace(
            imagesets._SETS[name], home=f"http://127.0.0.1:{server.server_port}/", files=known
        )
        monkeypatch.setitem(imagesets._SETS, name, here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv("CONJOIN_DATA", raising=False)
    yield folder, arrays
    server.shutdown()
    server.server_close()


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "conjoin").iterdir())


@pytest.mark.parametrize("name", ["mnist", "pneumoniamnist"])
def test_fetching_once_and_keeping(name, home, tmp_path):
    data = datasets.load_images(name)
    for file in home[0].iterdir():
        file.unlink()
    again = datasets.load_images(name)
    assert kept(tmp_path) == [f"{name}.npz"] and np.array_equal(data.x_train, again.x_train)
    if name == "mnist":
        assert all(np.array_equal(getattr(data, key), value) for key, value in home[1].items())


def test_what_was_fetched_is_checked(home, tmp_path):
    (home[0] / "t10k-images-idx3-ubyte.gz").write_bytes(idx(pixels(2, 4, 4)))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz was changed: its md5 is"):
        datasets.load_images("mnist")
    # what was good need not come again
    assert kept(tmp_path) == [
        "mnist-train-images-idx3-ubyte.gz",
        "mnist-train-labels-idx1-ubyte.gz",
    ]
    (home[0] / "t10k-images-idx3-ubyte.gz").write_bytes(idx(home[1]["x_test"]))
    assert np.array_equal(datasets.load_images("mnist").x_test, home[1]["x_test"]) and kept(
        tmp_path
    ) == ["mnist.npz"]
    (tmp_path / "cache" / "conjoin" / "mnist.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"mnist.npz is damaged .*delete it"):
        datasets.load_images("mnist")
    (home[0] / "pneumoniamnist.npz").unlink()
    with pytest.raises(ValueError, match="cannot be fetched"):
        datasets.load_images("pneumoniamnist")


def test_the_shelf_of_this_machine(data_dir):
    """The counts that its makers state."""
    if not (data_dir / "images" / "pneumoniamnist").is_dir():
        pytest.skip("needs images/pneumoniamnist in the folder that CONJOIN_DATA names")
    data = datasets.load_images("pneumoniamnist")
    assert [len(x) for x in (data.x_train, data.x_val, data.x_test)] == [
        4708,
        524,
        624,
    ] and data.x_train.shape[1:] == (28, 28)
    assert data.y_test.mean() == pytest.approx(390 / 624)
