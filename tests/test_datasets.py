"""Named data sets: shipped, from CONJOIN_DATA, or fetched; nothing unverified gets through."""

import functools
import gzip
import hashlib
import http.server
import json
import threading

import numpy as np
import pytest

from conjoin import datasets
from conjoin.datasets import tables


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A CONJOIN_DATA of one small table and one binary set."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "binary").mkdir()
    data = gzip.compress(b"a,b,y,split\n1,x,0,train\n2,,1,test\n,NA,0,train\n", mtime=0)
    (tmp_path / "tables" / "toy.csv.gz").write_bytes(data)
    card = {
        "target": "y",
        "task": "binary",
        "types": {"a": "num", "b": "cat", "y": "cat"},
        "source": "here",
        "licence": "CC0",
    }
    (tmp_path / "tables" / "toy.json").write_text(
        json.dumps({**card, "sha256": hashlib.sha256(data).hexdigest()})
    )
    bits = np.random.default_rng(0).integers(0, 2, (5, 11)).astype("uint8")
    np.savez(
        tmp_path / "binary" / "bits.npz",
        n_vars=11,
        **{part: np.packbits(bits, axis=1) for part in ("train", "valid", "test")},
    )
    monkeypatch.setenv("CONJOIN_DATA", str(tmp_path))
    return tmp_path, bits


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine", "diabetes", "digits"])
def test_shipped(name):
    data = datasets.load(name)
    X, y = data.xy()
    assert len(X) == len(y) > 100 and data.target not in X
    assert (
        y.nunique()
        == {"breast_cancer": 2, "iris": 3, "wine": 3, "diabetes": 214, "digits": 10}[name]
    )
    if name == "breast_cancer":
        assert set(y) == {"malignant", "benign"}
    with pytest.raises(ValueError, match="has no fixed split"):
        data.xy("train")


def test_a_table_from_the_shelf(shelf):
    data = datasets.load("toy")
    X, y = data.xy("train")
    assert (
        X["b"].tolist() == ["x", "NA"]
        and y.tolist() == ["0", "0"]
        and X["a"].isna().tolist() == [False, True]
    )
    assert data.frame.shape == (3, 3) and "toy" in datasets.names() and data.licence == "CC0"
    with pytest.raises(ValueError, match="no part 'valid'; its parts are train, test"):
        data.xy("valid")


def test_an_altered_table_is_refused(shelf):
    (shelf[0] / "tables" / "toy.csv.gz").write_bytes(gzip.compress(b"a,b,y,split\n1,x,0,train\n"))
    with pytest.raises(ValueError, match=r"toy.csv.gz was altered: its sha256 is"):
        datasets.load("toy")


def test_binary_sets(shelf, monkeypatch):
    parts = datasets.load_binary("bits")
    assert (
        list(parts) == ["train", "valid", "test"]
        and (parts["test"] == shelf[1]).all()
        and parts["test"].dtype == np.uint8
    )
    with pytest.raises(ValueError, match="there are bits"):
        datasets.load_binary("none")
    monkeypatch.delenv("CONJOIN_DATA")
    with pytest.raises(ValueError, match="CONJOIN_DATA"):
        datasets.load_binary("bits")


def test_an_unknown_name_lists_the_others(monkeypatch):
    monkeypatch.delenv("CONJOIN_DATA", raising=False)
    with pytest.raises(
        ValueError, match=r"no data set 'adult' here; there are .*iris.*CONJOIN_DATA"
    ):
        datasets.load("adult")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A local server in the place of the public home, and an empty cache."""
    folder = tmp_path / "home"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(tables, "_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv("CONJOIN_DATA", raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def test_fetching_once_and_keeping(mirror, tmp_path):
    (mirror / "banknote_authentication.csv").write_text("3.5,-1.25,0.5,1,0\n" * 1372)
    data = datasets.load("banknote")
    assert (
        data.frame.shape == (1372, 5) and data.target == "class" and data.frame["class"][0] == "0"
    )
    (mirror / "banknote_authentication.csv").unlink()
    assert len(datasets.load("banknote").frame) == 1372
    assert [path.name for path in (tmp_path / "cache" / "conjoin").iterdir()] == [
        "banknote_authentication.csv"
    ]


def test_what_was_fetched_is_checked(mirror, tmp_path):
    (mirror / "banknote_authentication.csv").write_text("3.5,-1.25,0.5,1,0\n" * 7)
    with pytest.raises(ValueError, match="was changed: 7 rows of 5, not 1372 of 5"):
        datasets.load("banknote")
    assert not list((tmp_path / "cache" / "conjoin").iterdir())
    with pytest.raises(ValueError, match="cannot be fetched"):
        datasets.load("pima")
    assert not list((tmp_path / "cache" / "conjoin").iterdir())


def test_the_shelf_of_this_machine_round_trips(data_dir):
    """Every table there: types as its card says, and decode(encode) gives the frame back."""
    import pandas as pd

    from conjoin.codecs import TableCodec

    cards = sorted((data_dir / "tables").glob("*.json"))
    assert cards
    for card in cards:
        data = datasets.load(card.stem)
        rows, _ = data.xy("train")
        codec = TableCodec().fit(rows)
        encoded = codec.encode(rows)
        assert not encoded.unseen.any()
        pd.testing.assert_frame_equal(
            codec.decode(encoded.event.value, encoded.event.observed), rows[codec.columns]
        )


@pytest.mark.parametrize("name", datasets.TOYS)
def test_toys_are_points_of_a_plane_that_a_seed_repeats(name):
    frame = datasets.toy(name, rows=500, seed=3)
    assert frame.shape == (500, 2)
    assert frame.equals(datasets.toy(name, rows=500, seed=3))
    assert not frame.equals(datasets.toy(name, rows=500, seed=4))
    assert frame.abs().to_numpy().max() < 3 and frame.std().min() > 0.3


def test_half_of_the_checkerboard_is_empty_and_rings_have_two_radii():
    squares = np.floor(datasets.toy("checkerboard", rows=2000).to_numpy()).astype(int)
    assert set(squares.sum(1) % 2) == {0}
    radius = np.hypot(*datasets.toy("rings", rows=2000).to_numpy().T)
    assert not ((radius > 0.65) & (radius < 0.8)).any()
    assert 0.45 < (radius > 0.7).mean() < 0.55


def test_a_toy_that_is_not_there_names_the_others():
    with pytest.raises(ValueError, match="no toy 'moon'; choose from moons, petals"):
        datasets.toy("moon")
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        datasets.toy("moons", rows=0)


def test_molecules_are_read_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "molecules"
    folder.mkdir()
    columns = "smiles,canonical,measured log solubility in mols per litre"
    data = gzip.compress(f"{columns}\nOCC,CCO,1.1\n".encode(), mtime=0)
    (folder / "esol.csv.gz").write_bytes(data)
    (folder / "README.md").write_text(hashlib.sha256(data).hexdigest())
    monkeypatch.setenv("CONJOIN_DATA", str(tmp_path))
    found = datasets.load_molecules("esol")
    assert found.frame.to_dict("records") == [{"smiles": "OCC", "logS": 1.1}]
    assert found.target == "logS"
    (folder / "README.md").write_text("another")
    with pytest.raises(ValueError, match="another sha256"):
        datasets.load_molecules("esol")
    with pytest.raises(ValueError, match="no molecules 'gold'; there are bbbp, esol"):
        datasets.load_molecules("gold")
    with pytest.raises(ValueError, match="'lipo' are not here"):
        datasets.load_molecules("lipo")


def test_qm9_names_what_it_leaves_out(tmp_path, monkeypatch):
    """Of water, and of a string of methane beside the coordinates of water, the second is left out;
    a file of another hash is refused."""
    (tmp_path / "molecules").mkdir()
    path = tmp_path / "molecules" / "qm9_3d_mini.npz"
    xyz = [[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]]
    np.savez(
        path,
        n_atoms=np.array([3, 3]),
        z=np.array([8, 1, 1] * 2),
        xyz=np.array(xyz * 2),
        smiles=np.array(["O", "C"]),
        index=np.array([3, 7]),
        props_int=np.array([[12, 34]]),
        props_decimals=np.array([1]),
        prop_names=np.array(["HOMO_LUMO_gap_au"]),
    )
    readme = path.with_name("README.md")
    readme.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("CONJOIN_DATA", str(tmp_path))
    found = datasets.qm9()
    assert found.left_out == {7: "C"}
    assert "1 of 2 molecules of QM9 are left out" in found.told
    assert "7 (C)" in found.told
    assert found.properties["gap"].tolist() == [1.2]
    assert found.molecules[0].smiles == "O"
    readme.write_text("another")
    with pytest.raises(ValueError, match="another sha256"):
        datasets.qm9()
    with pytest.raises(ValueError, match=r"qm9_3d\.npz"):
        datasets.qm9(full=True)
