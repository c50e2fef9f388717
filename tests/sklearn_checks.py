"""scikit-learn's own checks of one estimator and family, as JSON lines: run without the shape checks, which cost ten times as much.

    python tests/sklearn_checks.py JointClassifier circuit
"""

import json
import sys
import warnings

import torch
from sklearn.utils.estimator_checks import check_estimator

import conjoin


def main(kind: str, family: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for result in check_estimator(getattr(conjoin, kind)(family=family), on_fail=None):
        print(json.dumps({"check": result["check_name"], "status": result["status"], "error": str(result["exception"] or "")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
