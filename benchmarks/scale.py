"""Seconds and memory against the number of rows: a straight line, and a flat one.

    python benchmarks/scale.py [--rows 100000,300000,1000000,10000000] [--family circuit]
        [--passes 2] [--folder scale-tables]

A model of adult draws the rows, which go to Parquet in row groups. Each size is fitted and scored
in a process of its own: the sample that a fit begins with and the passes over all rows (always as
many) are timed apart, log p(x) is asked of every row, and the peak is that of the resident memory.
Tables that are in the folder already are used again.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import conjoin
from conjoin import datasets
from conjoin.codecs.table import Chunks
from conjoin.util.files import new_file

GROUP = 100_000  # rows of a row group


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="100000,300000,1000000")
    parser.add_argument("--family", default="circuit")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--sample", type=int, default=20_000, help="rows that a fit begins with")
    parser.add_argument(
        "--folder", default=None, help="where the tables are kept; by default they are not"
    )
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--draw", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        path = Path(arguments.one)
        print(
            json.dumps(drawn(path, arguments.draw) if arguments.draw else measured(path, arguments))
        )
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        folder.mkdir(exist_ok=True)
        print(
            f"{'rows':>12}{'start, s':>10}{'passes, s':>11}"
            f"{'rows/s':>10}{'log p, rows/s':>15}{'peak, MB':>10}",
            flush=True,
        )
        for rows in map(int, arguments.rows.split(",")):
            path = folder / f"adult-{rows}.parquet"
            if not path.exists():
                alone(path, arguments, "--draw", str(rows))
            found = alone(path, arguments)
            line = "{rows:12,}{start:10.1f}{passes:11.1f}{rate:10,.0f}{asked:15,.0f}{peak:10,.0f}"
            print(line.format(**found), flush=True)


def alone(path: Path, arguments: argparse.Namespace, *more: str) -> dict:
    """What a process of its own says of one table. This one stays small, since a child begins with
    the peak of its parent."""
    options = [
        "--family",
        arguments.family,
        "--passes",
        str(arguments.passes),
        "--sample",
        str(arguments.sample),
        *more,
    ]
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(path), *options],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def drawn(path: Path, rows: int) -> dict:
    """A table of adult's schema, each row drawn from a model of it."""
    model = conjoin.JointClassifier(predictor=None).fit(*datasets.load("adult").xy("train"))
    writer = None
    with new_file(path) as draft:
        for number, start in enumerate(range(0, rows, GROUP)):
            frame, labels = model.sample(min(GROUP, rows - start), random_state=number)
            group = pa.Table.from_pandas(frame.assign(income=labels), preserve_index=False)
            writer = writer or pq.ParquetWriter(draft, group.schema)
            writer.write_table(group.cast(writer.schema))
        writer.close()
    return {"rows": rows}


def measured(path: Path, arguments: argparse.Namespace) -> dict:
    begun = time.perf_counter()
    model = conjoin.JointClassifier(None, arguments.family)
    model.fit_file(path, "income", sample_rows=arguments.sample, passes=arguments.passes)
    fitted = time.perf_counter() - begun
    passes = model.model_.facts["trained"]["seconds"]
    with Chunks(path) as chunks:
        begun = time.perf_counter()
        rows = chunks.count
        mean = np.sum([model.score_samples(frame).sum() for frame in chunks.read()]) / rows
        asked = time.perf_counter() - begun
    epochs = model.model_.facts["trained"]["epochs"]
    return {
        "rows": rows,
        "start": fitted - passes,
        "passes": passes,
        "rate": rows * epochs / passes,
        "asked": rows / asked,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (1024 if sys.platform == "linux" else 1024**2),
        "log_prob": mean,
    }


if __name__ == "__main__":
    main()
