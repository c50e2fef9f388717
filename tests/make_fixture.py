"""Write the model folder of this release that every later release must load.

    python tests/make_fixture.py

Run once per release; the folder of an older release is never written again.
"""

from pathlib import Path

from sklearn.datasets import load_iris

import conjoin

if __name__ == "__main__":
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = conjoin.JointClassifier(family="circuit", predictor="linear").fit(
        X, y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    )
    print(model.save(Path(__file__).parent / "fixtures" / f"model-{conjoin.__version__}"))
