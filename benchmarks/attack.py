"""Does anything fail without a clear sentence? Random frames, mutated files, altered models, kills.

    python benchmarks/attack.py frames [--count 300] [--seed 0]
    python benchmarks/attack.py files [--count 1000]      mutated CSV, Parquet and .npz files
    python benchmarks/attack.py models [--count 200]      altered folders of tests/fixtures
    python benchmarks/attack.py saves [--count 200]       SIGKILL while a model is saved over
    python benchmarks/attack.py fits [--count 10]         SIGKILL in circuit, flow, diffusion

Each trial runs in a process of its own, so that it may be broken off: after 10 s of CPU time it
counts as a hang. What a trial does is a function of (seed, its number) alone; ``--first 17 --count
1 --verbose`` repeats trial 17. A refusal is clear where it is one sentence that the package itself
raised, about a file or a folder one that names it or the column. The table counts trials; exit code
1 if any failed.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import conjoin
from conjoin.cli import run
from conjoin.model.saving import _digest, load_model, save_model

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
PACKAGE = str(Path(conjoin.__file__).parent)
MAX_CPU_SECONDS = 10
MAX_WALL_SECONDS = 300  # of a trial that waits instead of computing
MAX_GIGABYTES = 4.0
MAX_SENTENCE = 4_200  # characters
OUTCOMES = ("answered", "clear message", "unclear traceback", "wrong answer", "hang", "over 4 GB")
REFUSALS = (ValueError, TypeError, NotImplementedError, OSError, ImportError)
ANSWERED, CLEAR, UNCLEAR, WRONG = range(4)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    prepare, trial, count = VERBS[asked.verb]
    with tempfile.TemporaryDirectory(prefix="attack-") as home:
        os.chdir(home)
        ready = prepare(Path(home))
        found = Counter[str]()
        most = 0.0
        for number in range(asked.first, asked.first + (asked.count or count)):
            rng = random.Random(f"{asked.seed} {asked.verb} {number}")
            outcome, words, gigabytes = attempt(trial, ready, rng)
            most = max(most, gigabytes)
            found[outcome] += 1
            if asked.verbose or outcome not in OUTCOMES[:2]:
                print(f"{asked.verb} {number}: {outcome}: {words[-1500:]}", flush=True)
    print("tried", sum(found.values()), *(f"| {name} {found[name]}" for name in OUTCOMES), end=" ")
    print(f"| most memory {most:.2f} GB")
    return int(any(found[name] for name in OUTCOMES[2:]))


# ------------------------------------------------------------------------------------ one trial


def attempt(trial, ready, rng) -> tuple[str, str, float]:
    """The outcome of a trial in a process of its own, what it said, and its memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os._exit(judged(trial, ready, rng, writer))
    os.close(writer)
    end = time.monotonic() + MAX_WALL_SECONDS
    words = read_until(reader, end, child)
    _, status, used = os.wait4(child, 0)
    gigabytes = used.ru_maxrss / 1e6
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return (
            OUTCOMES[4] if late else OUTCOMES[2],
            f"signal {os.WTERMSIG(status)} {words}",
            gigabytes,
        )
    outcome = OUTCOMES[min(os.WEXITSTATUS(status), WRONG)]
    return OUTCOMES[5] if gigabytes > MAX_GIGABYTES else outcome, words, gigabytes


def read_until(reader: int, end: float, child: int) -> str:
    import select

    parts = []
    while time.monotonic() < end:
        if select.select([reader], [], [], 1.0)[0]:
            part = os.read(reader, 1 << 16)
            if not part:
                break
            parts.append(part)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    return b"".join(parts).decode(errors="replace")


def judged(trial, ready, rng, writer: int) -> int:
    """Run the trial; the number of its outcome."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(now.ru_utime + now.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + MAX_CPU_SECONDS + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30,) * 2)
    for stream in (1, 2):
        os.dup2(writer, stream)
    try:
        outcome = trial(ready, rng)
    except BaseException as error:
        outcome = CLEAR if is_clear(error) else UNCLEAR
        print(str(error)[:1000] if outcome == CLEAR else traceback.format_exc(), flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    return outcome


def is_clear(error: BaseException) -> bool:
    """Whether the package itself raised it, or scikit-learn's check of a target, as one
    sentence."""
    text = str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1].filename if frames else ""
    ours = place.startswith(PACKAGE) or place.endswith("sklearn/utils/multiclass.py")
    ended = text.rstrip().endswith((".", ")", "...", '"', "'"))
    return isinstance(error, REFUSALS) and ours and ended and len(text) <= MAX_SENTENCE


def by_command(line: list[str], *names: str) -> int:
    """A command's outcome: what it refuses must be one sentence that has one of the names."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+") as said:
        held = os.dup(2)
        os.dup2(said.fileno(), 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        try:
            code = run(line)
        finally:
            sys.stderr.flush()
            os.dup2(held, 2)
        said.seek(0)
        text = said.read()
    print(text[-1000:])
    if code == 0:
        return ANSWERED
    errors = [row for row in text.splitlines() if row.startswith("conjoin: ")]
    named = any(name in text for name in names)
    return CLEAR if code == 2 and len(errors) == 1 and named else UNCLEAR


# -------------------------------------------------------------------------------------- frames


def fit_plain_frames(home: Path) -> Path:
    """Fit plain frames, so that the modules which a fit needs are imported once and not in every
    trial."""
    warnings.simplefilter("ignore")
    X = pd.DataFrame({"a": np.arange(40.0), "b": ["u", "v"] * 20})
    for kind, y in ((conjoin.JointClassifier, X["b"]), (conjoin.JointRegressor, X["a"] ** 2)):
        for family in FRAME_FAMILIES:
            kind(family=family).fit(X, y).impute(X)
    return home


FRAME_FAMILIES = ["naive_bayes", "mixture", "circuit", "bayes_net"]


def odd_column(rng: random.Random, rows: int):
    """A column of a random type, some of which nobody should have."""
    random_ = np.random.default_rng(rng.getrandbits(32))
    plain = random_.normal(size=rows)
    makers = (
        lambda: plain,
        lambda: plain.round(1) * 10.0 ** rng.randint(-12, 12),
        lambda: random_.integers(-3, 4, rows),
        lambda: random_.integers(0, 2, rows).astype(bool),
        lambda: random_.choice(["red", "green", "blue", "", " "], rows),
        lambda: [f"v{i}" for i in range(rows)],
        lambda: ["x"] * rows,
        lambda: [None] * rows,
        lambda: np.full(rows, np.nan),
        lambda: np.where(random_.random(rows) < 0.3, np.nan, plain),
        lambda: np.where(random_.random(rows) < 0.1, np.inf, plain),
        lambda: plain * 1e300,
        lambda: plain * 1e-310,
        lambda: random_.integers(-(2**62), 2**62, rows),
        lambda: random_.integers(0, 255, rows).astype(np.uint8),
        lambda: plain.astype(np.float16),
        lambda: pd.date_range("2020-01-01", periods=rows, freq="37h"),
        lambda: pd.date_range("2020-01-01", periods=rows, freq="D", tz="Europe/Berlin"),
        lambda: pd.to_timedelta(random_.integers(0, 10**6, rows), unit="s"),
        lambda: pd.period_range("2020-01", periods=rows, freq="M"),
        lambda: pd.Categorical(random_.choice(["a", "b", None], rows), categories=["a", "b", "c"]),
        lambda: pd.Categorical(random_.integers(0, 3, rows), ordered=True),
        lambda: pd.array(random_.choice([1, 2, None], rows), dtype="Int64"),
        lambda: pd.array(random_.choice([True, False, None], rows), dtype="boolean"),
        lambda: pd.array(random_.choice(["a", "bb", None], rows), dtype="string"),
        lambda: pd.arrays.SparseArray(np.where(plain > 1, plain, 0)),
        lambda: pd.IntervalIndex.from_breaks(np.arange(rows + 1)),
        lambda: plain + 1j,
        lambda: [b"a", b"\xff"] * (rows // 2) + [b""] * (rows % 2),
        lambda: [[1, 2]] * rows,
        lambda: [{"k": 1}] * rows,
        lambda: [rng.choice([1, 1.5, "a", None, True]) for _ in range(rows)],
        lambda: [rng.choice([1, "1", 1.0, "1.0"]) for _ in range(rows)],
        lambda: [rng.choice(["1,5", "2.5", "-", "NA", "7 %"]) for _ in range(rows)],
        lambda: [__import__("decimal").Decimal(rng.randint(0, 9)) / 3 for _ in range(rows)],
        lambda: [__import__("datetime").date(2020, 1, 1 + i % 28) for i in range(rows)],
        lambda: [__import__("datetime").time(i % 24) for i in range(rows)],
        lambda: ["\x00", "\ud800", "é", "\U0001f600", "a\nb"] * (rows // 5) + ["z"] * (rows % 5),
        lambda: ["x" * 100_000, "y"] * (rows // 2) + ["y"] * (rows % 2),
        lambda: [float("nan"), None, pd.NA, pd.NaT] * (rows // 4) + [0] * (rows % 4),
        lambda: [10**30 + i for i in range(rows)],
        lambda: [object()] * rows,
        lambda: random_.choice(["2020-01-01", "2021-02-03", "31.12.2020"], rows),
    )
    return rng.choice(makers)()


def as_series(cells, index) -> pd.Series:
    """Of halves of characters pandas itself makes no column of words."""
    try:
        return pd.Series(cells, index=index)
    except UnicodeEncodeError:
        return pd.Series(cells, index=index, dtype=object)


def odd_frame(rng: random.Random) -> pd.DataFrame:
    rows = rng.choice([0, 1, 2, 3, 10, 40, 40, 60, 60])
    names = [
        "a",
        "b",
        "c",
        0,
        1,
        "",
        " ",
        "y",
        "é",
        "target",
        "a b",
        None,
        2.5,
        ("t", 1),
        "x" * 300,
    ]
    names = rng.sample(names, rng.randint(1, 5))
    if rng.random() < 0.8:
        names = [f"c{i}" for i in range(len(names))]
    frame = pd.DataFrame(index=pd.RangeIndex(rows))
    for place, name in enumerate(names):
        frame.insert(place, name, as_series(odd_column(rng, rows), frame.index), True)
    odd = rng.random()
    if odd < 0.05:
        frame = pd.concat([frame, frame], axis=1)
    elif odd < 0.1 and rows:
        frame.index = pd.Index([7] * rows)
    elif odd < 0.15:
        frame.columns = pd.MultiIndex.from_tuples([("p", str(name)) for name in frame.columns])
    return frame


def fit_frame(home: Path, rng: random.Random) -> int:
    """Fit, ask, save, load, ask again."""
    warnings.simplefilter("ignore")
    X = odd_frame(rng)
    kind = rng.choice([conjoin.JointClassifier, conjoin.JointRegressor, conjoin.JointDensity])
    model = kind(family=rng.choice(FRAME_FAMILIES))
    arguments = [X]
    if kind is not conjoin.JointDensity:
        plain = rng.choice([["n", "p"], [0, 1, 2], [0.5, 1.25, 7.0], [True, False]])
        usual = [rng.choice(plain) for _ in range(len(X))]
        arguments.append(usual if rng.random() < 0.7 else odd_column(rng, len(X)))
    model.fit(*arguments)
    if not answers_well(model, X):
        return WRONG
    folder = model.save(home / f"m{os.getpid()}")
    again = conjoin.load(folder)
    same = np.array_equal(again.score_samples(X), model.score_samples(X), equal_nan=True)
    return ANSWERED if same else WRONG


def answers_well(model, X) -> bool:
    """Whether the answers are numbers and shares."""
    scores = np.asarray(model.score_samples(X))
    fine = len(scores) == len(X) and not np.isnan(scores).any()
    if isinstance(model, conjoin.JointClassifier):
        proba = model.predict_proba(X)
        fine &= bool(np.allclose(proba.sum(1), 1)) and bool((proba >= 0).all())
    if not isinstance(model, conjoin.JointDensity):
        fine &= len(model.predict(X)) == len(X)
    drawn = model.sample(5, random_state=0)
    model.impute(X)
    return fine and len(drawn if isinstance(drawn, pd.DataFrame) else drawn[0]) == 5


# --------------------------------------------------------------------------------------- files


def write_files(home: Path) -> dict[str, bytes]:
    """Good files of every kind, to be mutated; one is checked here, so that the modules which
    ``check`` needs are imported once and not in every trial."""
    random_ = np.random.default_rng(0)
    rows = 300
    frame = pd.DataFrame(
        {
            "age": random_.integers(18, 90, rows),
            "income": (random_.normal(size=rows) * 1e4).round(2),
            "city": random_.choice(["Köln", "Oslo", "Rome, IT"], rows),
            "day": pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d"),
            "y": random_.choice(["n", "p"], rows),
        }
    )
    text = frame.to_csv(index=False)
    found = {
        "plain.csv": text.encode(),
        "latin.csv": frame.to_csv(index=False, sep=";", decimal=",").encode("cp1252"),
        "wide.csv": text.encode("utf-16"),
        "tabs.tsv": frame.to_csv(index=False, sep="\t").encode("utf-8-sig"),
        "packed.csv.gz": gzip.compress(text.encode(), mtime=0),
        "packed.csv.bz2": __import__("bz2").compress(text.encode()),
        "packed.csv.xz": __import__("lzma").compress(text.encode()),
    }
    frame.assign(city=frame["city"].astype("category")).to_parquet(home / "t.parquet")
    found["table.parquet"] = (home / "t.parquet").read_bytes()
    frame.to_parquet(home / "t.parquet", compression="gzip", row_group_size=50)
    found["groups.parquet"] = (home / "t.parquet").read_bytes()
    images = random_.integers(0, 256, (40, 8, 8)).astype(np.uint8)
    np.savez(home / "t.npz", images=images, labels=random_.integers(0, 2, 40))
    found["plain.npz"] = (home / "t.npz").read_bytes()
    np.savez_compressed(
        home / "t.npz", x_train=images / 1.0, y_train=random_.choice(["a", "b"], (40, 1))
    )
    found["packed.npz"] = (home / "t.npz").read_bytes()
    (home / "t.csv").write_text(text)
    run(["check", str(home / "t.csv"), "-q"])
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to eight changes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.choice([rng.randrange(len(out) + 1), rng.randrange(min(64, len(out)) + 1)])
        if rng.random() < 0.3:
            place = max(0, len(out) - rng.randrange(64))
        length = rng.choice([1, 1, 2, 4, 16, 200])
        how = rng.randrange(9)
        if how == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[place : place + length] = rng.randbytes(length)
        elif how == 2:
            del out[place : place + length]
        elif how == 3:
            out[place:place] = out[place : place + length] * rng.choice([1, 2, 50])
        elif how == 4:
            out[place:place] = rng.choice(
                [
                    b"\0",
                    b"\n",
                    b"\r",
                    b'"',
                    b",",
                    b";",
                    b"\xff\xfe",
                    b"\xef\xbb\xbf",
                    b"1e999",
                    b"-",
                ]
            )
        elif how == 5 and rng.random() < 0.3:
            del out[place:]
        elif how == 6:
            out[place : place + 4] = rng.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "little")
        elif how == 7:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif how == 8 and rng.random() < 0.1:
            out += rng.randbytes(length)
        if not out:
            break
    return bytes(out)


def read_file(files: dict[str, bytes], rng: random.Random) -> int:
    """``conjoin check`` of a table, ``conjoin fit`` of pictures up to the fit."""
    warnings.simplefilter("ignore")
    name = rng.choice(sorted(files))
    path = Path(f"{os.getpid()}-{name}")
    path.write_bytes(mutated(files[name], rng))
    try:
        if name.endswith(".npz"):
            return pictures_in(path)
        schema = f"{os.getpid()}-schema.json"
        return by_command(
            ["check", str(path), "--schema", schema, "-q"], str(path), "olumn", "schema"
        )
    finally:
        path.unlink(missing_ok=True)


def pictures_in(path: Path) -> int:
    part = "train" if "packed" in path.name else None
    try:
        conjoin.read_images(path, part=part)
    except ValueError as error:
        print(error)
        return CLEAR if is_clear(error) and str(path) in str(error) else UNCLEAR
    return ANSWERED


# -------------------------------------------------------------------------------------- models


def read_models(home: Path) -> list[Path]:
    """The folders of the fixtures, and two of the newer format."""
    sys.path.insert(0, str(FIXTURES.parent))
    folders = sorted(path.parent for path in (FIXTURES / "models-format2").glob("*/config.json"))
    random_ = np.random.default_rng(0)
    X = pd.DataFrame(random_.normal(size=(120, 3)).round(2), columns=list("abc"))
    Y = pd.DataFrame({"p": X["a"] > 0, "q": (X["b"] * 10).round()})
    notes = X.assign(note=random_.choice(["oak", "ash tree", "elm"], 120))
    warnings.simplefilter("ignore")
    several = conjoin.JointClassifier(family="mixture").fit(X, Y)
    beside = conjoin.JointDensity(family="mixture", types={"note": "text"}).fit(notes)
    for name, model, rows in (("several", several, X), ("beside", beside, notes)):
        folders.append(model.save(home / name))
        rows.to_csv(home / name / "rows.csv", index=False)
    return folders


ODD_VALUES = (
    0, 1, -1, 2, 7, 10**9, 2**63, 10**30, -(10**9), 0.5, 1e300, -1e300, float("nan"), float("inf"),
    "x", "", "0", None, True, [], {}, [0], [[0]], {"a": 1}, "circuit", "real", "category",
)  # fmt: skip


def alter_config(config, rng: random.Random) -> None:
    """Change one value somewhere below codec, target, joint or facts."""
    place = config
    key = rng.choice([key for key in config if not key.endswith("sha256")])
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.93:
        place = place[key]
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = rng.choice(list(keys))
    how = rng.randrange(6)
    value = place[key]
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(value, int | float):
        place[key] = rng.choice([value + 1, value - 1, -value, value * 10**6, value / 3])
    elif how == 2 and isinstance(value, list) and value:
        place[key] = rng.choice([value[1:], value * 2, value[::-1], [value], value[:1] * 5])
    elif how == 3 and isinstance(place, list):
        place.insert(key, value)
    else:
        place[key] = rng.choice(ODD_VALUES)


def alter_weights(tensors, rng: random.Random) -> None:
    key = rng.choice(sorted(tensors))
    value = tensors[key].clone()
    how = rng.randrange(8)
    if how == 0:
        del tensors[key]
        return
    if how == 1:
        tensors[key + "x"] = value
        return
    if how == 2:
        value = value.reshape(-1)
    elif how == 3 and value.numel():
        value = torch.cat([value.reshape(-1)] * 2)
    elif how == 4:
        value = value.to(rng.choice([torch.float16, torch.float64, torch.int64, torch.bool]))
    elif value.numel():
        flat = value.reshape(-1)
        flat[rng.randrange(len(flat))] = (
            rng.choice([float("nan"), float("inf"), -float("inf"), 1e300, -1e30, 0.0])
            if value.is_floating_point()
            else rng.choice([0, 1, -1, 10**6])
        )
        value = flat.reshape(value.shape)
    tensors[key] = value.contiguous()


def ask_altered(folders: list[Path], rng: random.Random) -> int:
    """A model that was altered, its hashes made good again, is refused, or answers in numbers."""
    from make_fixtures import read_rows

    warnings.simplefilter("ignore")
    source = rng.choice(folders)
    place = Path(f"model-{os.getpid()}")
    shutil.copytree(source, place)
    config = json.loads((place / "config.json").read_text())
    raw = rng.random() < 0.1
    if raw:  # bytes, hashes as they are
        file = place / rng.choice(["config.json", "weights.safetensors"])
        file.write_bytes(mutated(file.read_bytes(), rng))
    elif rng.random() < 0.65:
        alter_config(config, rng)
    else:
        tensors = load_file(place / "weights.safetensors")
        alter_weights(tensors, rng)
        save_file(tensors, place / "weights.safetensors")
        weights = (place / "weights.safetensors").read_bytes()
        config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    if not raw:
        config["config_sha256"] = _digest(config)
        (place / "config.json").write_text(json.dumps(config))
    print(source.name)
    X = read_rows(source) if (source / "meta.json").is_file() else pd.read_csv(source / "rows.csv")
    try:
        return answers_of(place, X[:12])
    finally:
        shutil.rmtree(place)


def answers_of(place: Path, X) -> int:
    try:
        model = conjoin.load(place)
    except ValueError as error:
        print(error)
        return CLEAR if is_clear(error) and str(place) in str(error) else UNCLEAR
    scores = np.asarray(model.score_samples(X))
    if np.isnan(scores).any():
        return WRONG
    if "predict_proba" in dir(model) and "classes_" in dir(model):
        proba = model.predict_proba(X)
        for shares in proba if isinstance(proba, list | tuple) else [proba]:
            if np.isnan(np.asarray(shares, dtype=float)).any():
                return WRONG
    model.sample(3, random_state=0)
    return ANSWERED


# --------------------------------------------------------------------------------------- kills


def begin_saves(home: Path):
    """A small model, saved, and its files."""
    model = load_model(FIXTURES / "models-format2" / "naive_bayes")
    save_model(model, home / "m")
    return model, home / "m", files_of(home / "m")


def files_of(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def kill_save(ready, rng: random.Random) -> int:
    """Save over a model again and again until killed; what stands under the name at every moment,
    and at the end, is whole, without anything being brought back."""
    model, folder, whole = ready
    child = os.fork()
    if not child:
        while True:
            save_model(model, folder, force=True)
    end = time.monotonic() + rng.uniform(0, 0.05)
    missing = 0
    while time.monotonic() < end:
        missing += not (folder / "config.json").exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if missing or not folder.exists() or files_of(folder) != whole:
        print(f"{missing} moments without a model")
        return WRONG
    save_model(model, folder, force=True)
    left = [entry.name for entry in folder.parent.iterdir() if entry.name != "m"]
    print(left)
    return WRONG if left or files_of(folder) != whole else ANSWERED


FAMILIES = ("circuit", "flow", "diffusion")


def begin_fits(home: Path):
    """A table, and the weights of each family's fit that nobody breaks off."""
    random_ = np.random.default_rng(0)
    X = pd.DataFrame(random_.normal(size=(300, 3)).round(2), columns=list("abc"))
    whole = {}
    for family in FAMILIES:
        model = learned(family, X, home / f"whole-{family}", False)
        whole[family] = weights_of(model)
    return X, whole


def learned(family: str, X, folder: Path, resume: bool):
    from conjoin.families import resolve
    from conjoin.training import loop

    warnings.simplefilter("ignore")
    config = resolve(family)
    short = {"steps": 60, "width": 8, "hidden": 8, "components": 2}
    known = config.get_params()
    config = config.set_params(**{key: value for key, value in short.items() if key in known})
    loop.Plan.__dataclass_fields__["every"].default = 0.0
    loop.Plan.__init__.__defaults__ = tuple(
        0.0 if value == 20.0 else value for value in loop.Plan.__init__.__defaults__
    )
    model = conjoin.JointDensity(family=config)
    return model.fit(X, checkpoint=folder, resume=resume)


def weights_of(model) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.model_.joint.state_dict().items()}


def kill_fit(ready, rng: random.Random) -> int:
    """A fit that is killed at three random moments ends with the same bits."""
    X, whole = ready
    family = rng.choice(FAMILIES)
    folder = Path(f"fit-{os.getpid()}")
    for _ in range(3):
        child = os.fork()
        if not child:
            learned(family, X, folder, True)
            os._exit(0)
        time.sleep(rng.uniform(0.02, 2.0))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = weights_of(learned(family, X, folder, True))
    print(family, "checkpoints:", [str(path) for path in folder.rglob("*.safetensors")])
    same = all(torch.equal(value, found[key]) for key, value in whole[family].items())
    return ANSWERED if same else WRONG


VERBS = {
    "frames": (fit_plain_frames, fit_frame, 300),
    "files": (write_files, read_file, 1000),
    "models": (read_models, ask_altered, 200),
    "saves": (begin_saves, kill_save, 200),
    "fits": (begin_fits, kill_fit, 10),
}

if __name__ == "__main__":
    sys.exit(main())
