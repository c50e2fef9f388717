"""--ray: the workers of a Ray cluster answer as one process does."""

import contextlib
import json
import logging
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import conjoin
from conjoin.cli import run
from conjoin.cli.ask import Formulas, _predicted_there, _ready, _verdicts_on
from conjoin.cli.cluster import (
    BLOCK_ROWS,
    UNIQUE,
    Table,
    _parts,
    cluster_of,
    loaded,
    numbered,
    pieces_of,
)
from conjoin.cli.draw import OTHER_TOKENS, _worth
from conjoin.cli.verbs import _sentence, _with_address
from conjoin.cli.voice import Voice
from conjoin.cli.words import in_shell
from conjoin.codecs.table import Limits
from conjoin.core import CapabilityError
from conjoin.core.rounds import agreed, as_often
from conjoin.model.model import CHUNK_ROWS
from conjoin.questions.sample import blocks_of_draws
from conjoin.serving import cluster
from conjoin.serving.cluster import (
    MAX_TRIES,
    Parcel,
    Tries,
    Worker,
    _boxed,
    _carried,
    _read,
    answered,
    joined,
)
from conjoin.training import ranks

WORKERS = 2
ROWS = 90  # of a piece
# in what Ray says when its own processes took longer to start than it gives them
BUSY = ("timed out during startup", "timed out waiting", "timed out after", "failed to start gcs")
SECONDS = "600"  # that Ray may take to start a process, where others have the machine


def shop(rows, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.choice(["cake", "bread"], rows)
    return pd.DataFrame(
        {
            "ticket": [f"t{number // 2 if number > 200 else number}" for number in range(rows)],
            "price": (rng.gamma(3, 2, rows) + 3 * (kind == "cake")).round(2),
            "weight": rng.normal(5, 1, rows).round(3),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "kind": kind,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model and tables."""
    folder = tmp_path_factory.mktemp("cluster")
    frame = shop(600)
    model = conjoin.JointClassifier(family="naive_bayes", predictor=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame.drop(columns="kind"), frame["kind"])
    model.save(folder / "model")
    new = shop(400, seed=1).drop(columns="kind")
    new.loc[[5, 250], "price"] = 400.0
    new.loc[::50, "weight"] = np.nan
    new.loc[399, "colour"] = "plaid"
    new.to_csv(folder / "new.csv", index=False)
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def told(capsys, line, code=0):
    """What a command line says."""
    capsys.readouterr()
    assert run(line.split()) == code
    return capsys.readouterr()


# ----------------------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("decide m a.csv --ray", "decide m a.csv --ray local"),
        ("decide --ray m a.csv", "decide --ray local m a.csv"),
        ("decide --ray --workers 2 m a.csv", "decide --ray local --workers 2 m a.csv"),
        ("decide m a.csv --ray auto", "decide m a.csv --ray auto"),
        ("decide m a.csv --ray 10.0.0.1:6379 -q", "decide m a.csv --ray 10.0.0.1:6379 -q"),
        ("decide m a.csv", "decide m a.csv"),
    ],
)
def test_ray_alone_is_a_cluster_of_this_machine(given, read):
    assert _with_address(given.split()) == read.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict model new.csv --workers 2", "give --ray beside it"),
        ("predict model new.csv --ray --device cuda", "--device cuda can't be asked beside --ray"),
        ("decide model - --ray", "Standard input can't be read by another process"),
        ("predict model new.csv --ray ray://a:10001", "clients outside of a cluster"),
        ("predict model new.csv --ray a:99999", "a:99999 has no port"),
        ("sample model -n 9 --chunk-rows 4 --even", "--even spreads the rows of one draw"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(here, capsys, line, words):
    found = told(capsys, f"{line} --quiet", 2)
    assert words in found.err
    assert found.err.count("\n") == 1


def test_a_missing_extra_is_named_with_its_install_line(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = told(capsys, "predict model new.csv --ray --quiet", 2)
    assert "pip install 'conjoin[ray]'" in found.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict --ray head model new.csv", "--ray head: 'head' is no address of a cluster"),
        ("predict model new.csv --ray 10.0.0.1", "--ray 10.0.0.1: '10.0.0.1' is no address"),
        ("decide model new.csv --ray --log nowhere/log", "nowhere/log: No such file"),
        ("decide model new.csv --log nowhere/log", "nowhere/log: No such file"),
        ("decide --ray model new.csv --log log.jsonl", "pip install 'conjoin[ray]'"),
    ],
)
def test_what_can_be_known_is_said_before_ray_starts(here, capsys, monkeypatch, line, words):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = told(capsys, f"{line} --quiet", 2)
    assert words in found.err
    assert not Path("log.jsonl").exists()


def test_a_model_without_a_target_predicts_nothing_and_starts_no_cluster(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    without = SimpleNamespace(target=None)
    monkeypatch.setattr("conjoin.cli.ask.model_of", lambda path, device: without)
    found = told(capsys, "predict model new.csv --ray --quiet", 2)
    assert "This model has no target" in found.err


def test_pieces_are_the_rows_in_order(here):
    model = conjoin.load("model")
    table = Table("new.csv", Limits(), ROWS, None, Voice(quiet=True), False)
    parts = list(pieces_of(table, model))
    assert [len(part) for part in parts] == [90, 90, 90, 90, 40]
    whole = pd.read_csv("new.csv")
    pd.testing.assert_frame_equal(pd.concat(parts), whole, check_index_type=False)
    at_once = next(pieces_of(Table("new.csv", Limits(), None, None, Voice(True), False), model))
    assert whole[:200]["ticket"].is_unique
    assert not whole["ticket"].is_unique
    assert at_once.attrs[UNIQUE] == []


@pytest.mark.parametrize(
    ("rows", "columns", "workers", "blocks"),
    [
        (400, 4, 2, [1]),
        (20_000, 4, 2, [1, 1, 1, 2]),  # two pieces for each worker
        (89_684, 15, 2, [5, 6, 5, 6]),
        (358_736, 15, 2, [7, 7, 8] * 4),  # of at most 32,768 rows
        (89_684, 128, 2, [1, 2, 2, 2, 2, 2] * 2),  # of at most 2^20 cells
        (20_000, 10_000, 2, [1, 1, 1, 1, 1]),
        (0, 0, 1, [0]),
    ],
)
def test_pieces_are_whole_blocks_and_all_workers_have_some(rows, columns, workers, blocks):
    assert BLOCK_ROWS == CHUNK_ROWS
    parts = _parts(rows, columns, workers)
    assert [part.stop - part.start for part in parts] == [4096 * each for each in blocks]
    ends = [0, *(part.stop for part in parts)]
    assert [part.start for part in parts] == ends[:-1]
    assert rows <= ends[-1] < rows + 4096


@pytest.mark.parametrize("name", ["one.csv", "one.tsv"])
def test_texts_of_workers_are_the_file_of_one_process(here, capsys, name):
    model = loaded(here / "model")
    table = Table("new.csv", Limits(), ROWS, None, Voice(quiet=True), False)
    asked = {"false_alarm": 0.05, "max_error": 0.2, "max_width": None, "log": None, "explain": True}
    told(
        capsys,
        f"decide model new.csv --max-error .2 --keep price --chunk-rows {ROWS} --force -o {name}",
    )
    whole = pd.read_csv(name, sep="\t" if name.endswith("tsv") else ",")
    assert list(whole)[:3] == ["row", "ticket", "price"]  # tickets of the first piece are unique
    pieces = list(numbered(pieces_of(table, model, 2)))
    assert [first for first, _ in pieces] == [1, 91, 181, 271, 361]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [_verdicts_on(model, piece, asked, ["price"], name) for piece in pieces]
    texts = [pickle.loads(pickle.dumps(part.table)) for part in found]
    assert "".join(text.content for text in texts).encode() == (here / name).read_bytes()
    assert [len(text) for text in texts] == [90, 90, 90, 90, 40]
    counts = sum((pd.Series(part.counts) for part in found[1:]), pd.Series(found[0].counts))
    assert counts.to_dict() == whole["verdict"].value_counts().to_dict()
    told(capsys, f"predict model new.csv --chunk-rows {ROWS} --force -o {name}")
    texts = [_predicted_there(model, piece, name) for piece in pieces]
    assert "".join(text.content for text in texts).encode() == (here / name).read_bytes()
    assert isinstance(_predicted_there(model, pieces[0], "one.parquet"), pd.DataFrame)
    assert isinstance(_predicted_there(model, pieces[0], None), pd.DataFrame)


def test_formulas_in_texts_of_workers_are_counted(here):
    table = pd.DataFrame({"a": ["=1+1", "x", "@b"], "b": [1, 2, 3]})
    text = _ready(table, "a.csv", 4)
    assert text.content == "=1+1,1\nx,2\n@b,3\n"
    words = Formulas([_ready(table, "a.csv", 1), text])
    assert len(list(words)) == 2
    assert "4 of 'a'" in words.words("a.csv")[0]


def test_what_a_worker_asks_is_loaded_as_told(monkeypatch):
    monkeypatch.setattr(cluster, "_opened", lambda files, version, folder, load: load(folder))
    worker = Worker(None, "", "place", lambda asked, piece: asked, Tries().begin, load=len)
    assert worker(_boxed(Parcel("piece", number=1)))["parcel"][0].content == 5
    rows = _read(None, None, "", "place", lambda asked: iter([asked]), load=str.upper)
    assert next(rows)["parcel"][0].content == "PLACE"


def test_draws_in_blocks_depend_on_the_seed_and_the_block(here, capsys):
    *whole, (_, last) = blocks_of_draws(30, 10, 3)
    assert blocks_of_draws(25, 10, 3) == [*whole, (5, last)]
    assert blocks_of_draws(7, 10, 3) == [(7, 3)]
    with pytest.raises(ValueError, match="at least 1 row"):
        blocks_of_draws(7, 0, 3)
    line = "sample model -n 50 --seed 3 --no-mark --quiet -o"
    told(capsys, f"{line} at-once.csv")
    told(capsys, f"{line} blocks.csv --chunk-rows 20")
    told(capsys, f"{line} one-block.csv --chunk-rows 50")
    once, blocks, one = (
        pd.read_csv(name) for name in ("at-once.csv", "blocks.csv", "one-block.csv")
    )
    pd.testing.assert_frame_equal(once, one)
    assert len(blocks) == 50
    assert not blocks[20:].duplicated().all()
    with pytest.raises(AssertionError):
        pd.testing.assert_frame_equal(once, blocks)


def test_the_share_of_kept_rows_is_that_of_all_blocks(here, capsys):
    line = "sample model -n 40 --seed 1 --where price<=weight --json --quiet"
    found = json.loads(told(capsys, f"{line} --chunk-rows 15").out)
    assert len(found["table"]) == 40
    assert all(row["price"] <= row["weight"] for row in found["table"])
    assert 0 < found["acceptance"] < 1
    told(capsys, "sample model -n 40 --seed 1 --where price<=weight --no-mark -q -o whole.csv")
    line = f"{line} --chunk-rows 15 --no-mark -o"
    written = json.loads(told(capsys, f"{line} pieces.csv").out)
    assert written["acceptance"] == found["acceptance"]
    assert (written["rows"], written["out"]) == (40, "pieces.csv")
    pieces = pd.read_csv("pieces.csv")
    assert list(pieces) == list(pd.read_csv("whole.csv"))
    assert pieces.to_dict("list") == pd.DataFrame(found["table"]).to_dict("list")
    told(capsys, f"{line} pieces.parquet")
    assert pd.read_parquet("pieces.parquet").to_dict("list") == pieces.to_dict("list")


def test_blocks_are_written_as_they_come(here, capsys, monkeypatch):
    held = []

    def write(tables, path, alike=None):
        for table in tables:
            held.append((len(table), len(drawn)))

    drawn = []
    draw = conjoin.JointClassifier.sample
    monkeypatch.setattr(
        conjoin.JointClassifier,
        "sample",
        lambda self, n, **asked: (drawn.append(n), draw(self, n, **asked))[1],
    )
    monkeypatch.setattr("conjoin.cli.ask.write", write)
    told(capsys, "sample model -n 50 --seed 3 --chunk-rows 20 --no-mark -q -o never.csv")
    assert held == [(20, 1), (20, 2), (10, 3)]


@pytest.mark.parametrize(
    ("known", "asked", "worth"),
    [
        (None, {}, {}),
        ("exact; spread", {"even": True}, {"status": "exact; spread"}),
        (
            None,
            {"precision": "bfloat16"},
            {"status": "The network is rounded to bfloat16: these are no draws of the joint model"},
        ),
        ("approximate; rounded", {"precision": "bfloat16"}, {"status": "approximate; rounded"}),
        (None, {"temperature": 0.5}, {"status": OTHER_TOKENS}),
        ("exact; rounded", {"top_k": 3}, {"status": f"exact; rounded; {OTHER_TOKENS}"}),
    ],
)
def test_the_status_of_altered_draws_is_in_the_answer(known, asked, worth):
    usual = {"guidance": None, "precision": "float32", "temperature": 1.0, "top_k": None}
    assert _worth(known, {**usual, "top_p": 1.0, **asked}) == worth


def test_what_comes_up_in_a_worker_travels_with_the_answer(monkeypatch):
    def ask(estimator, piece):
        warnings.warn(f"{piece} is odd", UserWarning, stacklevel=1)
        print("note: read", file=sys.stderr)
        if piece == 2:
            raise CapabilityError("Mixture", "log p of a", "two parts", "Ask for less.")
        return estimator + piece

    monkeypatch.setattr(cluster, "_opened", lambda *given: 40)
    worker = Worker(None, "", "", ask, Tries().begin)
    one, two = (worker(_boxed(Parcel(piece)))["parcel"][0] for piece in (1, 2))
    assert (one.content, one.said, one.error) == (41, "note: read\n", None)
    assert one.warned == ((UserWarning, "1 is odd"),)
    assert one.energy.method.startswith("CPU time")
    assert type(two.error) is NotImplementedError or isinstance(two.error, ValueError)
    assert "two parts" in str(two.error)
    sent = pickle.loads(pickle.dumps(two.error))
    assert _sentence(sent) == (
        "This model was asked for log p of a, but declares two parts. Ask for less."
    )
    assert "in ask" in two.error.__notes__[0]
    broken = Parcel(None, error=OSError(2, "No such file", "a.csv"))
    passed = worker(_boxed(broken))["parcel"][0]
    assert passed is broken
    found = _carried(lambda: Path("no-such-file").read_bytes()).error
    assert (found.errno, found.filename) == (2, "no-such-file")
    assert isinstance(_carried(lambda: {}[1]).error, RuntimeError)


def test_reading_ends_with_its_error_or_with_its_last_piece(monkeypatch):
    def read(estimator, fails):
        yield from "ab"
        warnings.warn("that is all", UserWarning, stacklevel=1)
        if fails:
            raise ValueError("row 3 is broken")

    monkeypatch.setattr(cluster, "_opened", lambda *given: 40)
    for fails in (False, True):
        rows = _read(None, None, "", "", lambda estimator, fails=fails: read(estimator, fails))
        *pieces, last = (row["parcel"][0] for row in rows)
        assert [(piece.content, piece.number) for piece in pieces] == [("a", 1), ("b", 2)]
        assert last.warned == ((UserWarning, "that is all"),)
        assert last.empty is not fails
        assert str(last.error) == ("row 3 is broken" if fails else "None")


def test_a_piece_that_always_ends_its_worker_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "_opened", lambda *given: 40)
    tries = Tries()
    worker = Worker(None, "", "", lambda estimator, piece: estimator + piece, tries.begin)
    box = _boxed(Parcel(2, number=1234))
    for _ in range(MAX_TRIES):
        assert worker(box)["parcel"][0].content == 42
    found = worker(box)["parcel"][0].error
    assert isinstance(found, ConnectionError)
    assert str(found).startswith(f"Piece 1,234 was asked about {MAX_TRIES} times")
    assert "Make pieces smaller (--chunk-rows)." in in_shell(str(found))
    assert worker(_boxed(Parcel(3, number=1235)))["parcel"][0].content == 43


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_settings_of_ray_are_those_of_before(monkeypatch):
    for name, value in cluster.QUIET.items():
        monkeypatch.setenv(name, value)
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'conjoin[ray]'")
    pytest.importorskip("ray.data")
    own = ray.data.DataContext.get_current()
    before = (own.target_max_block_size, own.execution_options.preserve_order)
    found = cluster._settings(ray, 2)
    assert (found.target_max_block_size, found.execution_options.preserve_order) == (1, True)
    assert ray.data.DataContext.get_current() is own
    assert (own.target_max_block_size, own.execution_options.preserve_order) == before
    logger = logging.getLogger("ray.data")
    level = logger.level
    with cluster._silenced("ray.data"):
        assert logger.level == logging.CRITICAL
    assert logger.level == level


def test_more_workers_than_processors_are_refused_before_ray_starts(monkeypatch):
    monkeypatch.setattr(cluster, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setattr(cluster, "_processors", lambda: 2)
    with (
        pytest.raises(ValueError, match="64 workers are asked for, and this machine has 2"),
        joined(workers=64),
    ):
        pass


def test_a_start_that_ray_breaks_off_is_tried_again_and_a_fault_is_not(monkeypatch):
    monkeypatch.setattr(cluster, "_processors", lambda: WORKERS)
    said = []

    @contextlib.contextmanager
    def start(workers):
        said.append(workers)
        if len(said) < 2:
            raise ConnectionError(
                "Ray could not be started: The current node timed out during startup."
            )
        yield workers

    monkeypatch.setitem(globals(), "joined", start)
    with begun():
        assert said == [WORKERS, WORKERS]

    def broken(workers):
        raise ConnectionError("Ray could not be started: an unknown setting")

    monkeypatch.setitem(globals(), "joined", broken)
    with pytest.raises(ConnectionError, match="unknown setting"):
        begun()


def test_another_version_in_the_cluster_is_refused(monkeypatch):
    for name, value in cluster.QUIET.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray", reason="ray is not installed: pip install 'conjoin[ray]'")
    error = _carried(lambda: cluster._opened(None, "0.0.0", ".")).error
    assert isinstance(error, ImportError)
    assert "install the same on all" in str(error)


def test_none_is_asked_for_without_ray():
    assert cluster_of(None, None, Voice()) is None


# -------------------------------------------------------------------------------- with a cluster


@pytest.fixture(scope="module")
def ray():
    """A Ray cluster of this machine with two processors."""
    patch = pytest.MonkeyPatch()
    for name, value in cluster.QUIET.items():
        patch.setenv(name, value)
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'conjoin[ray]'")
    from ray._private import services

    patch.setenv("RAY_worker_register_timeout_seconds", SECONDS)
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    start = services.start_ray_process

    def at_leisure(command, process_type, **more):
        # Ray's node gives its agents 15 s to write down their ports, and ends where the machine is
        # too busy for that (ray-project/ray#65983): it waits for no port that it is told
        if process_type == "raylet":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            known = {
                "--metrics-agent-port=0": "--metrics-agent-port=-1",
                "--metrics_export_port=0": "--metrics_export_port=-1",
                "--runtime_env_agent_port=0": f"--runtime_env_agent_port={port}",
            }
            of_agent = f"--runtime-env-agent-port={port}"
            command = [
                known.get(word, word).replace("--runtime-env-agent-port=0", of_agent)
                for word in command
            ]
            command.append("--dashboard_agent_listen_port=-1")
        return start(command, process_type, **more)

    patch.setattr(services, "start_ray_process", at_leisure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with begun():
                yield ray
        finally:
            patch.undo()


def begun():
    """The cluster, tried twice where Ray breaks off its own start; what else fails is a fault."""
    if cluster._processors() < WORKERS:
        pytest.skip(f"{WORKERS} workers need as many processors")
    for last in (False, True):
        started = contextlib.ExitStack()
        try:
            started.enter_context(joined(workers=WORKERS))
        except ConnectionError as error:
            if not any(words in str(error).lower() for words in BUSY):
                raise
            if last:
                pytest.skip(f"this machine is too busy for Ray to start: {error}")
            continue
        return started


def test_what_is_waited_for_is_said(monkeypatch):
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        cluster_resources=lambda: {"CPU": 2},
        shutdown=lambda: None,
    )
    monkeypatch.setattr(cluster, "_ray", lambda: ray)
    monkeypatch.setattr(cluster, "_start", lambda *asked: None)
    said = []
    with joined(workers=1, starting=said.append), joined("a:1", 1, said.append):
        assert "starts on this machine" in said[0]
        assert said[1] == "Joining the Ray cluster at a:1."


def marked(test):
    """Workers take seconds to begin."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore:::ray")(test))


@marked
def test_two_workers_write_the_file_of_one_process(ray, here, capsys):
    line = f"predict model new.csv --chunk-rows {ROWS} --force -o"
    one = told(capsys, f"{line} one.csv")
    two = told(capsys, f"{line} two.csv --ray --workers 2")
    assert (here / "two.csv").read_bytes() == (here / "one.csv").read_bytes()
    assert two.out.replace("two.csv", "one.csv") == one.out
    assert two.err == one.err


@marked
def test_verdicts_their_log_and_their_energy_come_back(ray, here, capsys, monkeypatch):
    monkeypatch.setattr("conjoin.cli.cluster.PIECE_ROWS", ROWS)
    line = "decide model new.csv --max-error .2 --keep price --energy --json --force"
    one = told(capsys, f"{line} -o one.csv --log one.jsonl")
    two = told(capsys, f"{line} -o two.csv --log two.jsonl --ray")
    assert (here / "two.csv").read_bytes() == (here / "one.csv").read_bytes()
    assert two.err == one.err
    logs = [
        [{**json.loads(row), "time": ""} for row in (here / name).read_text().splitlines()]
        for name in ("one.jsonl", "two.jsonl")
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 400
    one, two = (json.loads(each.out.replace("two.csv", "one.csv")) for each in (one, two))
    assert two.pop("energy")["joules"] > 0
    assert one.pop("energy")["joules"] > 0
    assert two == one


@marked
def test_draws_are_the_same_by_one_process_and_by_two(ray, here, capsys):
    line = "sample model -n 70 --seed 5 --chunk-rows 20 --given colour=red --no-mark -q --force -o"
    told(capsys, f"{line} one.csv")
    told(capsys, f"{line} two.csv --ray")
    assert (here / "two.csv").read_bytes() == (here / "one.csv").read_bytes()


@marked
def test_an_error_in_a_worker_is_the_sentence_of_one_process(ray, here, capsys):
    line = f"decide model new.csv --false-alarm .0001 --chunk-rows {ROWS} -o gone.csv"
    one = told(capsys, line, 2)
    two = told(capsys, f"{line} --ray", 2)
    assert "calibration rows" in one.err
    assert two.err == one.err
    assert two.out == one.out == ""
    assert not (here / "gone.csv").exists()


@marked
def test_a_killed_worker_loses_nothing_and_memory_is_flat(ray, here, tmp_path, monkeypatch, capfd):
    flag = tmp_path / "kill"
    flag.touch()
    size = 1 << 22
    monkeypatch.setattr(cluster, "WAITING_BYTES", 4 * size)
    count = 60

    done = tmp_path / "done"
    leads = tmp_path / "leads"
    done.touch()

    def read(estimator):
        for piece in range(count):
            with leads.open("a") as file:
                file.write(f"{piece + 1 - done.stat().st_size}\n")
            yield np.full(size, piece, dtype=np.uint8)

    def ask(estimator, piece):
        if piece[0] == 25 and flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with done.open("ab") as file:
            file.write(b".")
        return int(piece[0])

    with joined() as workers:
        found = [answer for answer, _ in answered("model", read, ask, workers)]
    assert found == list(range(count))
    assert not flag.exists()
    assert max(map(int, leads.read_text().split())) <= 20  # pieces that wait, of 60
    assert capfd.readouterr().out == ""


@marked
def test_a_piece_that_ends_every_worker_ends_the_command(ray, here, monkeypatch):
    monkeypatch.setattr(cluster, "MAX_TRIES", 2)
    before = ray.data.DataContext.get_current().target_max_block_size

    def ask(estimator, piece):
        if piece == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return piece

    found = []
    with joined() as workers:
        answers = answered("model", lambda estimator: iter("abc"), ask, workers)
        with pytest.raises(ConnectionError, match="Piece 2 was asked about 2"):
            found.extend(answer for answer, _ in answers)
    assert found == ["a"]
    assert ray.data.DataContext.get_current().target_max_block_size == before


@marked
def test_a_cluster_has_no_more_workers_than_processors(ray, here, capsys):
    found = told(capsys, "predict model new.csv --ray --workers 64 -q", 2)
    assert "64 workers are asked for, and the cluster has 2 processors" in found.err


# ----------------------------------------------------------------------- layers that are shared out

SHARDED = """
import sys
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from conjoin.core import Block, Event, Variable, stream
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.training import ranks
from conjoin.training.learners import Gradient
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

torch.set_num_threads(1)
word = Block("word", "sequence", (40,), (Variable("letter", "category", 5),))
# of two processes one has nearly all long strings, and so more parts of equal length
length = torch.where(torch.arange(61) % 2 == 0, 3, 40 - torch.arange(61) % 7)
there = torch.arange(40) < length[:, None]
token = torch.randint(5, (61, 40), generator=stream(0, "tokens")) * there
words = Event(token, there | True, there)
held = {}


def trained(network):
    more = {"network": network, "precision": "float32"}
    config = Sequence(width=16, blocks=2, steps=6, dropout=0.0, **more)
    density = SequenceDensity.build(word, config, words, stream(0, "weights"))
    begin = Gradient.begin

    def seen(self):
        begin(self)
        parts = [each for each in self.parameters if isinstance(each, DTensor)]
        here = sum(each.to_local().numel() for each in parts)
        held[network] = torch.tensor([here, sum(each.numel() for each in parts)])

    Gradient.begin = seen
    train(density, words, torch.ones(61).double(), words, Plan(steps=6, batch=20), Progress())
    Gradient.begin = begin
    return {f"{network}.{name}": value.contiguous() for name, value in density.state_dict().items()}


def models():
    return {**trained("rotary"), **trained("absolute")}


if __name__ == "__main__":
    with ranks.together(shard=True):
        found = models()
        found |= {f"held.{name}": value for name, value in held.items()}
        save_file(found, f"{sys.argv[1]}.{ranks.rank()}")
"""


def launch(*arguments):
    """Two processes by torchrun; what they say."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_layers_shared_out_over_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    launch(script, tmp_path / "found")
    first, second = (load_file(tmp_path / f"found.{rank}") for rank in range(2))
    for network in ("rotary", "absolute"):
        (here, whole), (there, _) = (part.pop(f"held.{network}") for part in (first, second))
        assert here + there == whole > 0
        assert abs(int(here - there)) < 0.1 * int(whole)
    one = runpy.run_path(str(script))["models"]()
    assert set(one) == set(first)
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        assert (first[name] - value).abs().max() < 1e-5, name
    moved = max((one[name] - one[name].mean()).abs().max() for name in one if "last" in name)
    assert moved > 1e-3  # the last layer begins at zero


FOLDER = """
import sys
import warnings
import numpy as np
import pandas as pd
import torch
import conjoin
from conjoin.training.ranks import rank, together

torch.set_num_threads(1)
noise = np.random.default_rng(0)
words = ["".join(noise.choice(list("abcd"), noise.integers(2, 12))) for _ in range(150)]
settings = {"steps": 4, "width": 16, "blocks": 2, "precision": "float32", "dropout": 0.0}


def fitted():
    model = conjoin.JointDensity(family="sequence", types={"word": {"type": "text"}})
    model.set_params(**{f"family__{name}": value for name, value in settings.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(pd.DataFrame({"word": words}))


if __name__ == "__main__":
    with together(shard=True):
        model = fitted()
        if rank() == 0:
            model.save(sys.argv[1])
"""


@pytest.mark.slow
def test_a_model_whose_layers_were_shared_out_is_one_folder(tmp_path):
    script = tmp_path / "folder.py"
    script.write_text(FOLDER)
    launch(script, tmp_path / "two")
    runpy.run_path(str(script))["fitted"]().save(tmp_path / "one")
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert set(one) == set(two)
    assert all((one[name].double() - two[name].double()).abs().max() < 1e-5 for name in one)
    words = pd.DataFrame({"word": ["abca", "dd"]})
    found = [conjoin.load(tmp_path / name).score_samples(words) for name in ("one", "two")]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_parts_are_repeated_until_all_processes_have_equally_many():
    assert list(as_often(range(3))) == [0, 1, 2]
    with agreed(lambda count: count + 2):
        assert list(as_often(range(3))) == [0, 1, 2, 2, 2]
    assert list(as_often(range(3))) == [0, 1, 2]


def test_layers_of_one_process_are_not_shared_out(here, capsys):
    found = told(capsys, "fit new.csv --shard --quiet", 2)
    assert "start them with torchrun" in found.err


def test_a_family_without_such_layers_is_refused(here, monkeypatch):
    monkeypatch.setattr(ranks, "sharding", lambda: True)
    joint = conjoin.load("model").model_.joint
    with pytest.raises(ValueError, match="no layers that can be shared out"), ranks.sharded(joint):
        pass
