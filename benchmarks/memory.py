"""What pictures cost in time and memory before a network sees them, and at most during a fit.

    python benchmarks/memory.py rows               # split, hash and encode 10,000 pictures, CPU s
    python benchmarks/memory.py fit vae --pictures 10000 --size 64 --channels 3
    python benchmarks/memory.py fit circuit --data mnist --seconds 60

``rows``: at most 1 CPU s. ``fit`` prints the peak of the process's memory above what it had with
the data, in GB and in times of the pixels' bytes; with ``--data`` a set of ``load_images``. Ask for
each fit in a process of its own, since the peak of a process never falls.
"""

import argparse
import resource
import sys
import time

import numpy as np

GB = 1e9


def peak() -> float:
    """Bytes of memory that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in kilobytes
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def drawn(pictures: int, size: int, channels: int) -> np.ndarray:
    """Noise: every picture differs, none has any structure."""
    shape = (pictures, size, size, channels) if channels > 1 else (pictures, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def rows(pictures: int, size: int, channels: int) -> None:
    """CPU s of splitting, hashing and encoding."""
    from conjoin.codecs.kinds import codec_for
    from conjoin.training.data import row_hashes, split_rows

    X = drawn(pictures, size, channels)
    codec_for(X[:2])[0].encode(X[:2])
    started = time.process_time()
    codec, found = codec_for(X)
    split = split_rows(row_hashes(found), 0, 0.15, 0.2)
    events = [codec.encode(found.take(part)).event for part in split]
    spent = time.process_time() - started
    held = sum(event.value.nbytes for event in events)
    print(f"{pictures:,} pictures of {size} x {size} x {channels}: {spent:.2f} CPU s, ", end="")
    print(f"events of {held / X.nbytes:.2f} times the pixels' bytes")


def fit(family: str, X: np.ndarray, y: np.ndarray | None, seconds: float) -> None:
    """The peak of a fit."""
    import conjoin

    before = peak()
    estimator = conjoin.JointDensity if y is None else conjoin.JointClassifier
    model = estimator(family=family, max_time=seconds, random_state=0)
    model.fit(X) if y is None else model.fit(X, y)
    most = peak() - before
    print(
        f"{family} on {len(X):,} pictures of {' x '.join(map(str, X.shape[1:]))}: "
        f"{peak() / GB:.2f} GB in all, {most / GB:.2f} GB above the data, "
        f"{most / X.nbytes:.1f} times the pixels' bytes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rows", "fit"])
    parser.add_argument("family", nargs="?", default="vae")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--data", help="a set of conjoin.datasets.load_images, in place of noise")
    parser.add_argument("--labels", action="store_true", help="fit p(x, y), not p(x)")
    asked = parser.parse_args()
    if asked.what == "rows":
        rows(asked.pictures, asked.size, asked.channels)
        return
    if asked.data is None:
        X = drawn(asked.pictures, asked.size, asked.channels)
        y = np.arange(len(X)) % 10
    else:
        from conjoin.datasets.images import load_images

        found = load_images(asked.data)
        X = found.x_train
        y = found.y_train
    fit(asked.family, X, y if asked.labels else None, asked.seconds)


if __name__ == "__main__":
    main()
