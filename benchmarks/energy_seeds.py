"""The energy family on the digits, seed by seed: does it diverge, what is log Z, how often is p(y |
x) wrong?

    python benchmarks/energy_seeds.py [--seeds 10] [--family energy]

The book's split of digits.py, defaults. For each seed: whether the fit had to go back to earlier
weights (setbacks), log Z by forward and reverse annealed importance sampling with its standard
error, and the error of p(y | x) on the test images.
"""

import argparse
import math
import time

from digits import CHOOSE, TEST, TRAIN, X_SPACE, Y_SPACE, chunks, data, fit

from conjoin.core import Pair, stream
from conjoin.families import resolve
from conjoin.joints.build import build_joint


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--family", default="energy")
    arguments = parser.parse_args()
    x, y = data()
    pair = Pair(y, x)
    config = resolve(arguments.family)
    errors = []
    for seed in range(arguments.seeds):
        started = time.process_time()
        rows = pair.take(TRAIN)
        model = build_joint(config, Y_SPACE, X_SPACE, rows, stream(seed, "build"))
        trained = fit(model, rows, pair.take(CHOOSE), seed)
        log_joint = chunks(model.log_joint, x.take(TEST))
        label = y.take(TEST).value.long()
        errors.append(100 * float((log_joint.argmax(1) != label).double().mean()))
        forward, spread, reverse = model.density.log_partition(generator=stream(seed, "partition"))
        finite = all(math.isfinite(value) for value in (forward, spread, reverse))
        print(
            f"seed {seed}: {trained.setbacks} setbacks, log Z {forward:.2f} +- {spread:.2f} "
            f"forward, {reverse:.2f} reverse"
            f"{'' if finite else ' NOT FINITE'}, error {errors[-1]:.2f} %, "
            f"{time.process_time() - started:.0f} CPU s",
            flush=True,
        )
    print(
        f"error of {len(errors)} seeds: mean {sum(errors) / len(errors):.2f} %, greatest "
        f"{max(errors):.2f} %"
    )


if __name__ == "__main__":
    main()
