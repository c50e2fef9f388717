"""Chest X-rays: a joint model that answers, says what it has never seen, and shows what would have
to look otherwise.

    python examples/pneumonia.py [--seconds 300] [--out pneumonia.png]

PneumoniaMNIST (MedMNIST v2, J. Yang et al. (2023)): 28 x 28 pictures of children's chests, normal
or with pneumonia. This is a study of a method on small public pictures. It is no medical device,
and nobody should be treated by it.
"""

import argparse
import warnings

import matplotlib

matplotlib.use("Agg")
import numpy as np
from sklearn.metrics import roc_auc_score

from conjoin import JointClassifier
from conjoin.datasets import load_images
from conjoin.plot import AlterationDisplay


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds",
        type=float,
        default=300,
        help="of training; the classes alone need a tenth of it",
    )
    parser.add_argument("--out", default="pneumonia.png")
    asked = parser.parse_args()

    data = load_images("pneumoniamnist")
    y_train, y_test = (
        np.where(labels == 1, "pneumonia", "normal") for labels in (data.y_train, data.y_test)
    )

    model = JointClassifier(family="diffusion", max_time=asked.seconds, random_state=0).fit(
        data.x_train, y_train
    )

    # 1. It answers, and the answers can be ranked.
    sick = model.predict_proba(data.x_test)[:, list(model.classes_).index("pneumonia")]
    print(f"AUC on {len(y_test)} test pictures: {roc_auc_score(y_test == 'pneumonia', sick):.3f}")

    # 2. It knows what it has never seen: noise, a turned picture, one that lies on its head.
    strange = np.concatenate(
        [
            np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype("uint8"),
            np.rot90(data.x_test[:20], 1, (1, 2)),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = {
            name: model.decide(X, max_error=0.2)["verdict"]
            for name, X in (("usual", data.x_test[:200]), ("strange", strange))
        }
    for name, verdict in verdicts.items():
        print(
            f"{name} pictures: {(verdict == 'unfamiliar').mean():.0%} called unfamiliar, "
            f"{(verdict == 'accept').mean():.0%} answered"
        )

    # 3. It shows what would have to look otherwise for the other answer.
    guess = model.predict(data.x_test)
    some = np.flatnonzero(guess == "pneumonia")[:6]
    changed = model.counterfactual(data.x_test[some], to="normal")
    print(
        f"a healthy twin was found for {changed.found.sum()} of {len(some)}; "
        f"{np.median(changed.share):.0%} of the pixels changed"
    )
    AlterationDisplay(changed).plot().figure_.savefig(asked.out, dpi=150)

    # 4. In a hospital with other patients the shares of the classes differ. adapt() says whether
    # that is all that differs.
    print(model.adapt(data.x_test).change_)
    print("This is a study of a method. It is no medical device.")


if __name__ == "__main__":
    main()
