"""Tables in chunks and fits of several processes: the same model, the same answers, and nothing
lost on the way.
"""

import os
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import conjoin
from conjoin.cli import run
from conjoin.codecs.table import Chunks, read_table
from conjoin.codecs.table.chunks import cells_of
from conjoin.core import Event, Space, Variable, stream
from conjoin.families import resolve
from conjoin.fitting.stream import CALIBRATE, FIT, SAMPLE_ROWS, draw
from conjoin.training.feed import Held, Passes, Shuffled
from conjoin.training.loop import Plan, train, train_from
from conjoin.training.progress import Progress

pytest.importorskip("pyarrow")
CLOSE = partial(torch.allclose, rtol=1e-9, atol=1e-9)


def shop(rows=1200, seed=0):
    """Sorted by the class, so that no chunk is like the whole; one level and one class are rare,
    and come last."""
    rng = np.random.default_rng(seed)
    kind = np.sort(rng.choice(["bread", "cake"], rows))
    price = np.round(np.where(kind == "cake", 9, 3) + rng.normal(0, 1, rows), 2)
    colour = np.where(
        rng.random(rows) < 0.7, np.where(kind == "cake", "red", "brown"), "white"
    ).astype(object)
    frame = pd.DataFrame(
        {"price": price, "colour": colour, "count": rng.poisson(4, rows), "kind": kind}
    )
    frame.loc[frame.index[::9], "count"] = np.nan
    frame.loc[rows - 2 :, "colour"] = "gold"
    return frame


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    shop().to_parquet(folder / "shop.parquet", row_group_size=170)
    shop().to_csv(folder / "shop.csv", index=False)
    shop(260, seed=1).to_parquet(folder / "new.parquet", row_group_size=90)
    return folder


def parameters(model):
    return model.model_.joint.state_dict()


def same(first, second):
    assert first.keys() == second.keys()
    return all(CLOSE(first[key].nan_to_num(), second[key].nan_to_num()) for key in first)


# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", ["shop.parquet", "shop.csv"])
def test_chunks_are_the_table(home, name):
    whole = read_table(home / name)[0]
    with Chunks(home / name, 250) as table:
        pieces = list(table.read())
        drawn = list(table.read(seed=3))
    assert table.count == 1200
    assert max(map(len, pieces)) <= 250
    pd.testing.assert_frame_equal(pd.concat(pieces), whole, check_index_type=False)
    pd.testing.assert_frame_equal(pd.concat(drawn).sort_index(), whole, check_index_type=False)


def test_a_drawn_chunk_has_rows_of_several_groups(home):
    with Chunks(home / "shop.parquet", 400) as table:
        assert all(chunk["kind"].nunique() == 2 for chunk in list(table.read(seed=0))[:2])


def test_a_column_of_words_is_read_as_words_everywhere(tmp_path):
    pd.DataFrame({"code": ["1", "2", "3", "x7"], "n": [1, 2, 3, 4]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with Chunks(tmp_path / "t.csv", 2) as table:
        assert pd.concat(table.read())["code"].tolist() == ["1", "2", "3", "x7"]


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with (
        pytest.raises(ValueError, match="broken Parquet file"),
        Chunks(tmp_path / "broken.parquet"),
    ):
        pass
    with pytest.raises(ValueError, match="at least 1 row"):
        Chunks(tmp_path / "broken.parquet", 0)


def test_the_size_of_a_table_is_known_beforehand(home):
    assert cells_of(home / "shop.parquet") == 1200 * 4
    assert 0.5 < cells_of(home / "shop.csv") / (1200 * 4) < 2
    assert cells_of("-") == 0


# --------------------------------------------------------------------------------------- the sample


def test_the_sample_is_uniform_and_loses_no_level_and_no_extreme(tmp_path):
    frame = shop(20_000)
    frame.to_parquet(tmp_path / "big.parquet", row_group_size=3000)
    with Chunks(tmp_path / "big.parquet", 2500) as table:
        found = draw(table, seed=0, rows=2000)
        again = draw(Chunks(tmp_path / "big.parquet", 2500).__enter__(), seed=0, rows=2000)
        parts = found.deal.parts(pd.concat(table.read()))
    pd.testing.assert_frame_equal(found.frame, again.frame)
    assert 1900 < len(found.frame) < 2200
    assert set(found.frame["colour"]) == set(frame["colour"])
    assert (found.frame["price"].min(), found.frame["price"].max()) == (
        frame["price"].min(),
        frame["price"].max(),
    )
    assert abs((found.frame["kind"] == "cake").mean() - (frame["kind"] == "cake").mean()) < 0.05
    # of a large table all but a sample's held-out rows teach
    assert found.rows == int((parts == FIT).sum()) > 19_000
    # and every held-out row is in the sample
    assert len(found.split.calibrate) == int((parts == CALIBRATE).sum())
    assert abs(len(found.split.calibrate) - 400) < 150


def test_equal_rows_and_rows_of_a_group_stay_together(tmp_path):
    frame = pd.concat([shop(500)] * 2).assign(
        price=lambda f: f["price"].round(2), day=lambda f: np.arange(len(f)) // 10
    )
    frame.to_csv(tmp_path / "twice.csv", index=False)
    with Chunks(tmp_path / "twice.csv", 90) as table:
        by_day = draw(table, 0, groups="day").deal.parts(frame.reset_index(drop=True))
    assert pd.Series(by_day).groupby(frame["day"].to_numpy()).nunique().max() == 1
    frame.drop(columns="day").to_csv(tmp_path / "twice.csv", index=False)
    with Chunks(tmp_path / "twice.csv", 90) as table:
        parts = draw(table, 0).deal.parts(frame.drop(columns="day").reset_index(drop=True))
    assert (parts[:500] == parts[500:]).all()


# --------------------------------------------------------------------------------------------- fits

PLANE = Space((2,), (Variable("a", "real"), Variable("b", "real")))


def plane(n=300):
    return Event(
        (torch.arange(n) % 2)[:, None] * 3.0
        + torch.randn(n, 2, generator=stream(0), dtype=torch.float64)
    )


def in_pieces(data, size=70):
    """``read`` of a table in pieces, as a stream gives it."""

    def read(epoch, rank, world):
        for start in range(0, data.rows, size):
            yield data.take(slice(start, start + size)).take(slice(rank, None, world))

    return read


@pytest.mark.parametrize("family", ["mixture", "circuit"])
def test_passes_over_pieces_are_passes_over_the_whole(family):
    data = plane()
    config = resolve(family)
    models = [config.density.build(PLANE, config, data, stream(0)) for _ in range(2)]
    plan = Plan(epochs=4, patience=4, batch=data.rows)
    whole = train(models[0], data, torch.ones(data.rows).double(), None, plan, Progress())
    parts = train_from(models[1], Passes(in_pieces(data), data.rows), None, plan, Progress())
    assert same(models[0].state_dict(), models[1].state_dict())
    assert parts.history == [pytest.approx(entry) for entry in whole.history]


def test_mini_batches_of_a_stream_cover_every_row_once_and_can_be_resumed():
    data = plane(203)
    feed, resumed = (Shuffled(in_pieces(data), data.rows, seed=0) for _ in range(2))
    parts = feed.parts(50)
    batches = [feed.batch(step, parts) for step in range(2 * parts)]
    first, second = (
        torch.cat([b.rows.value for b in batches[i * parts : (i + 1) * parts]]) for i in range(2)
    )
    assert [b.rows.rows for b in batches[:parts]] == [51, 51, 51, 50]
    assert torch.equal(first[first[:, 0].argsort()], data.value[data.value[:, 0].argsort()])
    assert not torch.equal(first, second)
    assert torch.equal(resumed.batch(6, parts).rows.value, batches[6].rows.value)
    assert torch.equal(resumed.batch(7, parts).rows.value, batches[7].rows.value)
    held = Held(data, torch.ones(203).double(), 0).batch(0, parts)
    assert (held.total, held.mass) == (batches[0].total, batches[0].mass)


@pytest.mark.parametrize("name", ["shop.parquet", "shop.csv"])
def test_a_fit_in_chunks_is_the_fit_of_the_whole(home, name):
    fits = [
        conjoin.JointClassifier(family="circuit", predictor=None)
        .set_params(family__width=4)
        .fit_file(home / name, "kind", chunk_rows=rows)
        for rows in (130, 10_000)
    ]
    assert same(*map(parameters, fits))
    assert fits[0].model_.facts["streamed"] == {"rows": 1200, "sample": 1200, "chunk_rows": 130}
    X = shop().drop(columns="kind")
    assert fits[0].predict_proba(X) == pytest.approx(fits[1].predict_proba(X), abs=1e-9)


def test_passes_teach_what_the_sample_did_not_know(tmp_path):
    frame = shop(3000)
    frame.to_parquet(tmp_path / "big.parquet")
    X = shop(3000, seed=1).drop(columns="kind")
    y = shop(3000, seed=1)["kind"]
    few = conjoin.JointClassifier(None, "mixture").fit_file(
        tmp_path / "big.parquet", "kind", chunk_rows=1000, sample_rows=400, passes=4
    )
    whole = conjoin.JointClassifier(None, "mixture").fit(frame.drop(columns="kind"), frame["kind"])
    small = conjoin.JointClassifier(None, "mixture").fit(
        frame.drop(columns="kind")[::8], frame["kind"][::8]
    )
    gains = [
        model.score_samples(X).mean() - small.score_samples(X).mean() for model in (few, whole)
    ]
    assert gains[0] > 0.5 * gains[1] > 0
    assert few.score(X, y) > 0.95
    verdicts = few.decide(X, false_alarm=0.1, max_error=0.2)["verdict"]
    assert (verdicts == "unfamiliar").mean() < 0.2


@pytest.mark.parametrize(
    ("estimator", "target"), [(conjoin.JointRegressor, "price"), (conjoin.JointDensity, None)]
)
def test_numbers_and_densities(home, estimator, target):
    model = estimator(family="nb", predictor=None).fit_file(
        home / "shop.parquet", target, chunk_rows=300
    )
    assert np.isfinite(model.score_samples(shop().drop(columns=[target] if target else []))).all()


def test_a_network_takes_its_batches_from_the_stream(home):
    model = conjoin.JointDensity(family="flow").set_params(family__steps=5)
    model.fit_file(home / "shop.parquet", chunk_rows=300, sample_rows=600)
    assert model.model_.facts["trained"]["steps"] == 5
    assert np.isfinite(model.score_samples(shop())).all()


def test_unlabelled_rows_stay_unlabelled(home, tmp_path):
    frame = shop()
    frame.loc[::2, "kind"] = "?"
    frame.to_parquet(tmp_path / "half.parquet")
    model = conjoin.JointClassifier(family="nb", predictor=None, unlabelled="?").fit_file(
        tmp_path / "half.parquet", "kind", chunk_rows=200
    )
    assert list(model.classes_) == ["bread", "cake"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "sort"}, "'sort' is no column"),
        ({"target": "kind", "groups": "day"}, "no column 'day'"),
        ({}, "no column to predict"),
    ],
)
def test_mistakes_are_said(home, options, words):
    with pytest.raises(ValueError, match=words):
        conjoin.JointClassifier().fit_file(home / "shop.csv", **options)
    assert SAMPLE_ROWS == 100_000


# --------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def model(home):
    options = "--target kind --family nb --chunk-rows 300 -q"
    assert run(f"fit {home}/shop.parquet {options} -o {home}/m".split()) == 0
    return home / "m"


@pytest.mark.parametrize("verb", ["predict", "decide --max-error 0.2"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_answers_in_chunks_are_the_answers_at_once(home, model, tmp_path, verb, suffix):
    verb, *options = verb.split()
    for name, more in (("whole", []), ("parts", ["--chunk-rows", "70"])):
        assert (
            run(
                [
                    verb,
                    str(model),
                    f"{home}/new.parquet",
                    *options,
                    "-o",
                    f"{tmp_path}/{name}.{suffix}",
                    "-q",
                    *more,
                ]
            )
            == 0
        )
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    whole, parts = (read(f"{tmp_path}/{name}.{suffix}") for name in ("whole", "parts"))
    assert len(parts) == 260
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("whole", "parts")
    )


def test_a_broken_answer_leaves_no_file(home, model, tmp_path, monkeypatch, capsys):
    calls = []

    def fail(asked, X, **options):
        calls.append(len(X))
        raise ValueError("enough")

    monkeypatch.setattr("conjoin.questions.decide.decide", fail)
    assert (
        run(
            [
                "decide",
                str(model),
                f"{home}/shop.csv",
                "--chunk-rows",
                "500",
                "-o",
                f"{tmp_path}/d.csv",
            ]
        )
        == 2
    )
    assert calls == [500]
    assert list(tmp_path.iterdir()) == []


def test_the_screen_and_json_count_all_rows(home, model, capsys):
    assert (
        run(["decide", str(model), f"{home}/shop.csv", "--chunk-rows", "500", "--max-error", "0.2"])
        == 0
    )
    assert "The first 20 of 1,200 rows" in capsys.readouterr().out
    assert (
        run(
            [
                "fit",
                f"{home}/shop.csv",
                "--chunk-rows",
                "500",
                "--time",
                "count",
                "-o",
                f"{home}/no",
            ]
        )
        == 2
    )
    assert "--time needs the whole table" in capsys.readouterr().err


def test_a_large_table_is_read_in_chunks_unasked(home, model, monkeypatch, capsys):
    monkeypatch.setattr("conjoin.cli.files._MAX_CELLS_AT_ONCE", 1000)
    assert run(["fit", f"{home}/shop.csv", "--family", "nb", "-o", f"{home}/unasked"]) == 0
    assert "1,200 rows are read 65,536 at a time" in capsys.readouterr().err


# -------------------------------------------------------------------------------- several processes


def launch(*arguments):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        *map(str, arguments),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAIN = """
import sys
import torch
from safetensors.torch import save_file
from conjoin.core import Event, Space, Variable, stream
from conjoin.families import resolve
from conjoin.training import ranks
from conjoin.training.feed import Passes
from conjoin.training.loop import Plan, train, train_from
from conjoin.training.progress import Progress

torch.set_num_threads(1)
space = Space((2,), (Variable("a", "real"), Variable("b", "category", cardinality=3)))
numbers = torch.randn(301, generator=stream(0), dtype=torch.float64)
data = Event(torch.stack([numbers, (torch.arange(301) % 3).double()], 1))
ones = torch.ones(301, dtype=torch.float64)
plan = Plan(epochs=3, steps=6, batch=60)


def density(family):
    config = resolve(family)
    return config.density.build(space, config, data, stream(0))


def read(epoch, rank, world):
    for start in range(0, 301, 70):
        yield data.take(slice(start, start + 70)).take(slice(rank, None, world))


def models():
    kinds = {"circuit": "circuit", "boltzmann": "boltzmann", "passes": "circuit"}
    fits = {name: density(family) for name, family in kinds.items()}
    for name in ("circuit", "boltzmann"):
        train(fits[name], data, ones, data, plan, Progress())
    train_from(fits["passes"], Passes(read, 301), None, plan, Progress())
    return {
        f"{name}.{key}": value.contiguous()
        for name, model in fits.items()
        for key, value in model.state_dict().items()
    }


if __name__ == "__main__":
    with ranks.together():
        found = models()
        save_file(found, f"{sys.argv[1]}.{ranks.rank()}")
"""


def test_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "pair.py"
    script.write_text(TRAIN)
    launch(script, tmp_path / "found")
    first, second = (load_file(tmp_path / f"found.{rank}") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    one = runpy.run_path(str(script))["models"]()
    assert same(one, first)
    assert len({key.split(".")[0] for key in one}) == 3


@pytest.mark.slow
def test_one_of_several_processes_speaks_and_writes(home):
    for number, more in enumerate(
        (["--family", "nb"], ["--predictor", "none", "--chunk-rows", "170"])
    ):
        options = ["fit", f"{home}/shop.parquet", "--target", "kind", *more, "-o"]
        assert launch("-m", "conjoin", *options, home / f"two-{number}", "--json").count("\n") == 1
        assert run([*options, f"{home}/one-{number}", "-q"]) == 0
        assert same(
            *(parameters(conjoin.load(home / f"{name}-{number}")) for name in ("one", "two"))
        )
