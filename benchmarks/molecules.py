"""Molecules: what a model of strings draws, and how well properties are predicted.

    python benchmarks/molecules.py draws --rows 50000 --steps 3000 --tests 10000 --samples 10000
    python benchmarks/molecules.py properties --sets esol,freesolv,lipo,bbbp

Draws are raw, at temperature 1, drawn once. The measures are ours, after the definitions of D.
Polykovskiy et al. (2020), Molecular sets (MOSES): valid, unique@1k (of the first 1,000 valid ones),
novel (the training set written in the same canonical form), SNN, fragments (BRICS, cosine),
scaffolds (Bemis and Murcko, cosine), internal diversity (1 - mean Tanimoto). Nats are those of the
tokens of canonical test strings, an upper bound on -log p of the strings.

Properties are split by scaffold, the same way every time: groups of equal Bemis-Murcko scaffolds,
the largest first, fill the first 90 %; the rest is the test. Beside the default of this package
stands a random forest (500 trees) on ECFP4 (2,048 bits).
"""

import argparse
import collections
import json
import time

import numpy as np
from rdkit import DataStructs
from rdkit.Chem import BRICS
from rdkit.Chem.Scaffolds import MurckoScaffold

from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.codecs.smiles.appraisal import fingerprints
from conjoin.codecs.smiles.chemistry import molecule, read_smiles
from conjoin.datasets import load_molecules
from conjoin.families.multimodal import Multimodal

TEST_SHARE = 0.1
DIVERSITY_MOLECULES = 1_000
NEAR_MOLECULES = 2_000  # of the test set, among which the nearest is looked for


def scaffold(smiles):
    return MurckoScaffold.MurckoScaffoldSmiles(mol=molecule(smiles))


def canonical(strings):
    found = [read_smiles(text).canonical for text in strings if text]
    return [text for text in found if text is not None]


def cosine(one, two):
    names = set(one) | set(two)
    a = np.array([one[name] for name in names], dtype=float)
    b = np.array([two[name] for name in names], dtype=float)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def counted(smiles, parts):
    found = collections.Counter()
    for text in smiles:
        found.update(parts(text))
    return found


def brics(smiles):
    return BRICS.BRICSDecompose(molecule(smiles))


def scaffolds(smiles):
    found = scaffold(smiles)
    return [found] if found else []


def measures(drawn, train, test):
    """Of raw strings, beside canonical ones."""
    valid = canonical(drawn)
    unique = list(dict.fromkeys(valid))
    out = {
        "drawn": len(drawn),
        "valid": len(valid) / len(drawn),
        "unique@1k": len(set(valid[:1000])) / max(1, len(valid[:1000])),
        "novel": float(np.mean([text not in train for text in unique])) if unique else float("nan"),
    }
    if not unique:
        return out
    some = fingerprints(unique[:DIVERSITY_MOLECULES])
    held = fingerprints(test[:NEAR_MOLECULES])
    near = [max(DataStructs.BulkTanimotoSimilarity(each, held)) for each in some]
    among = [np.mean(DataStructs.BulkTanimotoSimilarity(each, some)) for each in some]
    near_test = test[:NEAR_MOLECULES]
    return out | {
        "SNN": float(np.mean(near)),
        "fragments": cosine(counted(unique, brics), counted(near_test, brics)),
        "scaffolds": cosine(counted(unique, scaffolds), counted(near_test, scaffolds)),
        "diversity": 1 - float(np.mean(among)),
    }


def draws(asked):
    frame = load_molecules("moses_mini").frame
    train = frame[frame.split == "train"].smiles.iloc[: asked.rows]
    test = canonical(frame[frame.split == "test"].smiles.iloc[: asked.tests])
    strings = {"width": asked.width, "blocks": asked.blocks, "steps": asked.steps}
    family = Multimodal(strings=strings)
    start = time.process_time()
    model = JointDensity(family=family, random_state=0).fit(train.rename("smiles"))
    fitted = time.process_time()
    drawn = model.sample(asked.samples, random_state=0)[0]["smiles"]
    sampled = time.process_time()
    log_p = model.score_samples(test)
    print(json.dumps({"fit_cpu_s": fitted - start, "rows": len(train), **strings}), flush=True)
    per_second = asked.samples / (sampled - fitted)
    print(json.dumps({"nats": -float(np.mean(log_p)), "drawn_per_cpu_s": per_second}), flush=True)
    print(json.dumps(measures(list(drawn), set(canonical(train)), test)), flush=True)


def scaffold_split(smiles):
    groups = collections.defaultdict(list)
    for row, text in enumerate(smiles):
        groups[scaffold(text)].append(row)
    order = sorted(groups.values(), key=lambda rows: (-len(rows), rows[0]))
    rows = [row for group in order for row in group]
    cut = len(rows) - int(TEST_SHARE * len(rows))
    return np.array(rows[:cut]), np.array(rows[cut:])


def forest(train, y, test, classes):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    table = [
        np.array([np.array(list(each), dtype=np.uint8) for each in fingerprints(part)])
        for part in (train, test)
    ]
    kind = RandomForestClassifier if classes else RandomForestRegressor
    fitted = kind(500, random_state=0).fit(table[0], y)
    return fitted.predict_proba(table[1])[:, 1] if classes else fitted.predict(table[1])


def properties(asked):
    from sklearn.metrics import roc_auc_score

    small = Multimodal(strings={"width": 32, "blocks": 1, "steps": asked.steps})
    for name in asked.sets.split(","):
        found = load_molecules(name)
        frame = found.frame.assign(smiles=[read_smiles(t).canonical for t in found.frame.smiles])
        frame = frame[frame.smiles.notna()].reset_index(drop=True)
        classes = frame[found.target].nunique() == 2
        train, test = (frame.iloc[rows] for rows in scaffold_split(frame.smiles))
        start = time.process_time()
        kind = JointClassifier if classes else JointRegressor
        model = kind(family=small, random_state=0).fit(train.smiles, train[found.target])
        ours = model.predict_proba(test.smiles)[:, 1] if classes else model.predict(test.smiles)
        taken = time.process_time() - start
        other = forest(list(train.smiles), train[found.target], list(test.smiles), classes)
        truth = test[found.target].to_numpy()
        if classes:
            score = {"ours": roc_auc_score(truth, ours), "forest": roc_auc_score(truth, other)}
        else:
            score = {
                "ours": float(np.sqrt(np.mean((ours - truth) ** 2))),
                "forest": float(np.sqrt(np.mean((other - truth) ** 2))),
            }
        out = {"set": name, "measure": "AUC" if classes else "RMSE", **score, "cpu_s": taken}
        print(json.dumps(out), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(required=True)
    drawing = what.add_parser("draws")
    numbers = {"rows": 50_000, "steps": 3_000, "width": 128, "blocks": 3}
    for option, value in (numbers | {"tests": 10_000, "samples": 10_000}).items():
        drawing.add_argument(f"--{option}", type=int, default=value)
    drawing.set_defaults(run=draws)
    predicting = what.add_parser("properties")
    predicting.add_argument("--sets", default="esol,freesolv,lipo,bbbp")
    predicting.add_argument("--steps", type=int, default=100)
    predicting.set_defaults(run=properties)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
