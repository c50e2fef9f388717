"""Molecules: what a model of strings draws, and how well properties are predicted.

    python benchmarks/molecules.py draws --rows 50000 --steps 3000 --tests 10000 --samples 10000
    python benchmarks/molecules.py conditional --rows 20000 --steps 3000 --reading 0.3
    python benchmarks/molecules.py conditional --start moses-model --judged 1500 --out both
    python benchmarks/molecules.py speed moses-model --samples 3000
    python benchmarks/molecules.py properties --sets esol,freesolv,lipo,bbbp

Draws are raw, at temperature 1, drawn once. The measures are ours, after the definitions of D.
Polykovskiy et al. (2020), Molecular sets (MOSES): valid, unique@1k (of the first 1,000 valid ones),
novel (the training set written in the same canonical form), SNN, fragments (BRICS, cosine),
scaffolds (Bemis and Murcko, cosine), internal diversity (1 - mean Tanimoto). Nats are those of the
tokens of canonical test strings, an upper bound on -log p of the strings.

Properties are split by scaffold, the same way every time: groups of equal Bemis-Murcko scaffolds,
the largest first, of equal ones the last, fill the first 90 %; the rest is the test. The order is
that of DeepChem, without which the test of BBBP has one class. Beside the default of this package
stand a random forest (500 trees) and boosting on ECFP4 (2,048 bits) and rdkit's descriptors.

``speed``: draws and valid ones a CPU second, as the model was saved, and by each precision of the
network (all of these by one random number a token), by turns, the quickest of a few times each.

FCD needs fcd_torch, and boosting is LightGBM where it is installed; neither is asked for elsewhere.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rdkit import DataStructs
from rdkit.Chem import BRICS, QED, Crippen
from rdkit.Chem.Scaffolds import MurckoScaffold

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.codecs.smiles.appraisal import accessibility, fingerprints
from conjoin.codecs.smiles.chemistry import molecule, read_smiles
from conjoin.codecs.smiles.fragments import _descriptors
from conjoin.core import stream
from conjoin.core.sampling import DRAWN_IN
from conjoin.datasets import load_molecules
from conjoin.families.multimodal import Multimodal
from conjoin.questions.proposals import proposed
from conjoin.questions.wishes import Wish, views_of, wishes_of
from conjoin.util.energy import Meter

PROPERTIES = ["QED", "SA", "logP"]
TEST_SHARE = 0.1
SPEED_TIMES = 3
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


def frechet(drawn, train, test):
    """FCD of valid draws beside the test set, and its floor: that of as many training molecules.
    None without fcd_torch, whose wheel has ChemNet's weights."""
    try:
        from fcd_torch import FCD
    except ImportError:
        return None
    distance = FCD(device="cpu", n_jobs=1)
    valid = canonical(drawn)
    statistics = distance.precalc(test)
    floor = distance(gen=train[: len(valid)], pref=statistics)
    return {
        "FCD": float(distance(gen=valid, pref=statistics)),
        "floor": float(floor),
        "n": len(valid),
        "beside": len(test),
        "test_sha256": hashlib.sha256("\n".join(test).encode()).hexdigest()[:12],
    }


def planted(frame, copies, count=10):
    """Molecules of unseen scaffolds, {copies: strings}: ``count`` that stand so many times in the
    training rows, and as many that do not stand there."""
    strange = canonical(frame[frame.split == "test_scaffolds"].smiles.iloc[: 20 * count])
    strange = list(dict.fromkeys(strange))
    return {times: strange[i * count : (i + 1) * count] for i, times in enumerate((0, *copies))}


def moses(asked):
    """Training strings with the planted ones, test strings, and the planted ones."""
    frame = load_molecules("moses_mini").frame
    train = list(frame[frame.split == "train"].smiles)
    if asked.rows > len(train):
        train = list(load_molecules("moses_train").frame.smiles.sample(frac=1, random_state=0))
    train = train[: asked.rows]
    test = canonical(frame[frame.split == "test"].smiles.iloc[: asked.tests])
    canaries = planted(frame, asked.canaries)
    train += [text for times, some in canaries.items() for text in some for _ in range(times)]
    return train, test, canaries


def draws(asked):
    train, test, canaries = moses(asked)
    strings = {"width": asked.width, "blocks": asked.blocks, "steps": asked.steps}
    family = Multimodal(strings=strings | ({"batch": asked.batch} if asked.batch else {}))
    start = time.process_time()
    model = JointDensity(family=family, random_state=0)
    model.fit(pd.Series(train, name="smiles"), calibration=asked.calibration)
    fitted = time.process_time()
    told = model.model_.card["trained"]
    print(json.dumps({"fit_cpu_s": fitted - start, "rows": len(train), **strings}), flush=True)
    print(json.dumps({"training_wall_s": told["seconds"], "steps": told["steps"]}), flush=True)
    if asked.out:
        model.save(asked.out, force=True)
    with Meter() as meter:
        drawn = list(model.sample(asked.samples, random_state=0)[0]["smiles"])
    sampled = meter.energy.cpu_seconds
    known = set(canonical(train))
    found = measures(drawn, known, test)
    log_p = model.score_samples(test)
    useful = max(1, len(set(canonical(drawn)) - known))
    joules = meter.energy.kwh * 3.6e6 * 10_000 / useful
    print(json.dumps({"nats": -float(np.mean(log_p)), "drawn_per_cpu_s": len(drawn) / sampled}))
    print(json.dumps({"joules_per_10k_new": joules, "method": meter.energy.method}))
    print(json.dumps(found), flush=True)
    counted_draws = collections.Counter(canonical(drawn))
    for times, some in canaries.items():
        seen = sum(counted_draws[text] for text in some)
        nats = -float(np.mean(model.score_samples(some)))
        print(json.dumps({"planted": times, "strings": len(some), "drawn": seen, "nats": nats}))
    print(json.dumps(frechet(drawn[: asked.frechet], canonical(train[: asked.frechet]), test)))


def speed(asked):
    model = conjoin.load(asked.model)
    parts = [part for part in model.model_.joint.modules() if hasattr(part, "_drawing_net")]
    saved = [part.config for part in parts]
    ways = ["as saved", *DRAWN_IN]
    drawn = {}
    seconds = dict.fromkeys(ways, float("inf"))
    for turn in range(SPEED_TIMES):
        for way in ways:
            for part, config in zip(parts, saved, strict=True):
                new = dataclasses.replace(config, drawing="inversion")
                part.config = config if way == "as saved" else new
            precision = "float32" if way == "as saved" else way
            start = time.process_time()
            X, _ = model.sample(asked.samples, random_state=turn, precision=precision)
            seconds[way] = min(seconds[way], time.process_time() - start)
            drawn.setdefault(way, []).extend(X.iloc[:, 0])
    for way in ways:
        share = len(canonical(drawn[way])) / len(drawn[way])
        each = asked.samples / seconds[way]
        told = {"way": way, "drawn_per_cpu_s": each, "valid": share}
        print(json.dumps(told | {"valid_per_cpu_s": share * each}), flush=True)


def computed(smiles):
    """What rdkit computes of molecules: QED, SA and logP."""
    found = [molecule(text) for text in smiles]
    return pd.DataFrame(
        {
            "QED": [QED.qed(each) for each in found],
            "SA": accessibility(list(smiles)),
            "logP": [Crippen.MolLogP(each) for each in found],
        }
    )


def learned(asked, name, train, reading):
    """A model of molecules and their three properties, predicted by the network alone; from the
    folder ``out`` where it was left there."""
    folder = Path(asked.out) / name if asked.out else None
    if folder is not None and folder.exists():
        return conjoin.load(folder)
    strings = {"width": asked.width, "blocks": asked.blocks, "steps": asked.steps}
    strings |= {"reading": reading, "family": "sequence"}
    start = time.process_time()
    model = JointRegressor(
        family=Multimodal(strings=strings),
        predictor=["reader"],
        start_from=asked.start,
        random_state=0,
    )
    model.fit(pd.Series(train, name="smiles"), computed(train), calibration=asked.calibration)
    print(json.dumps({"reading": reading, "fit_cpu_s": time.process_time() - start}), flush=True)
    if folder is not None:
        model.save(folder)
    return model


def judges_by_fragments(asked, train):
    """Of each property a model with the default p(y | x) of molecules, learned from some of them;
    its network learns nothing. It is kept in the folder ``out``. With ``fast`` each property has a
    model of its own, with fewer folds and trees."""
    if not asked.fast:
        model = judged_by_fragments(asked, train, "judge", PROPERTIES, "default")
        return dict.fromkeys(PROPERTIES, model)
    return {
        name: judged_by_fragments(asked, train, f"judge-{name}", name, "fast")
        for name in asked.properties
    }


def judged_by_fragments(asked, train, called, names, speed):
    folder = Path(asked.out) / called if asked.out else None
    if folder is not None and folder.exists():
        return conjoin.load(folder)
    some = train[: asked.judged]
    family = Multimodal(strings={"width": 8, "blocks": 1, "steps": 1, "family": "sequence"})
    start = time.process_time()
    model = JointRegressor(family=family, predictor=["fragments"], speed=speed, random_state=0)
    y = computed(some)[names]
    model.fit(pd.Series(some, name="smiles"), y, calibration=asked.calibration)
    taken = time.process_time() - start
    print(json.dumps({"judge of": names, "rows": len(some), "fit_cpu_s": taken}), flush=True)
    if folder is not None:
        model.save(folder)
    return model


def error_of_prediction(model, smiles):
    """Mean absolute error of each property."""
    told = pd.DataFrame(np.asarray(model.predict(smiles)), columns=list(views_of(model.model_)))
    return (told - computed(smiles))[told.columns].abs().mean().to_dict()


def conditional(asked):
    """Mean absolute deviation of draws from what was wanted of QED, SA and logP: of all different
    valid ones, and of the best by p(wish | molecule), all of as many plain strings or their tokens;
    beside those of a twin, whose network learned at equal budget nearly nothing but to predict. The
    joint's are judged by its network alone, or with ``judged`` by the default p(y | x) of so many
    rows. With ``dev`` the wishes are quantiles of training molecules, and the seed is another: what
    is chosen by them is not chosen by what is reported."""
    frame = load_molecules("moses_mini").frame
    train = canonical(frame[frame.split == "train"].smiles.iloc[: asked.rows])
    test = canonical(frame[frame.split == "test"].smiles.iloc[: asked.tests])
    joint = learned(asked, "joint", train, asked.reading)
    twin = learned(asked, "twin", train, 0.95)
    judges = dict.fromkeys(PROPERTIES, joint)
    if asked.judged:
        judges = judges_by_fragments(asked, train)
    for name, model in {"joint": joint, "twin": twin, **judges}.items():
        print(json.dumps({"predicted by": name} | error_of_prediction(model, test)), flush=True)
    wanted = computed(test).quantile([0.1, 0.5, 0.9])
    if asked.dev:
        wanted = computed(train[: asked.tests]).quantile([0.25, 0.75])
    for name in asked.properties:
        judge = judges[name]
        rows = [
            deviations(joint, twin, judge, name, value, asked, set(train)) for value in wanted[name]
        ]
        for value, row in zip(wanted[name], rows, strict=True):
            print(json.dumps({"property": name, "wanted": value} | row), flush=True)
        means = pd.DataFrame(rows).mean().to_dict()
        print(json.dumps({"property": name, "wanted": "mean of these"} | means), flush=True)


@dataclass(frozen=True)
class Elsewhere(Wish):
    """A wish about rows of another model's ``codec``."""

    codec: Any = None

    def log_mass(self, x):
        (molecules,) = self.codec.structures
        smiles = [read_smiles(each).canonical for each in molecules.strings(x.value)]
        return super().log_mass(encoded(self.view, smiles).event)


def encoded(view, smiles):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tokens that a judge of few rows never saw
        return view.encode(view.codec.rows(pd.DataFrame({"smiles": list(smiles)})))


def deviations(joint, twin, judge, name, value, asked, known):
    """Of one wanted value. ``p``: the share of all strings that is expected to be as wanted, by the
    model's own word; ``hit``: that which is, of all strings."""
    out = {}
    plain = None
    judges = {joint: judge, twin: twin}
    seed = 1 if asked.dev else 0
    for who, model, ways in (("", joint, asked.ways), ("twin ", twin, asked.twin_ways)):
        (wish,) = wishes_of(model.model_, {name: value})
        (own,) = wishes_of(judges[model].model_, {name: value})
        own = Elsewhere(name, own.view, own.low, own.high, own.share, model.model_.codec)
        ends = wish.view.number.decode(torch.tensor([wish.low, wish.high]).double())
        for way in ways:
            told = own if way in ("tuned", "redrawn") else wish
            noise = stream(seed, "design")
            made = proposed(model.model_, [told], way, asked.samples, noise)
            made = made if told is own else rescored(judges[model], made, name, value)
            out |= told_of(f"{who}{way}", made, name, value, ends, asked.best, known)
            plain = made if (who, way) == ("", "drawn") else plain
    if plain is None:
        return out
    judged = rescored(twin, plain, name, value)
    return out | told_of(
        "drawn by joint, best by twin", judged, name, value, ends, asked.best, known
    )


def rescored(judge, made, name, value):
    """The draws with log p(wish | molecule) of another model."""
    (wish,) = wishes_of(judge.model_, {name: value})
    valid = made["_canonical"].notna()
    score = np.full(len(made), -np.inf)
    score[valid] = wish.log_mass(encoded(wish.view, made["_canonical"][valid]).event).numpy()
    return made.assign(_score=score)


def diversity(smiles):
    """1 - the mean Tanimoto similarity of pairs."""
    prints = fingerprints(smiles)
    among = [np.mean(DataStructs.BulkTanimotoSimilarity(each, prints)) for each in prints]
    return 1 - float(np.mean(among)) if among else 0.0


def told_of(word, made, name, value, ends, best, known):
    """Of the draws of one way: ``tokens`` that it took, ``per 1000``: how many different molecules
    as wanted there are for a thousand of them. ``chains``: of where chains ended, as often as they
    did, the mean deviation, and the share that is as wanted."""
    valid = made[made["_canonical"].notna()]
    unique = valid.drop_duplicates("_canonical")
    true = pd.Series(computed(unique["_canonical"])[name].to_numpy(), unique["_canonical"])
    off = (true - value).abs()
    hit = (true >= ends[0]) & (true <= ends[1])
    order = np.argsort(-unique["_score"].to_numpy(dtype=float), kind="stable")[:best]
    chosen = list(unique["_canonical"].iloc[order])
    tokens = float(made["_tokens"].sum())
    ended = valid["_canonical"].repeat(valid["_chains"])
    out = {
        "valid": len(valid) / len(made),
        "strings": len(made),
        "tokens": tokens,
        "different": len(unique) / len(made),
        "all": off.mean(),
        "best": off[chosen].mean(),
        "best: novel": float(np.mean([each not in known for each in chosen])),
        "best: diversity": diversity(chosen),
        "p": float(np.exp(made["_score"].astype(float)).mean()),
        "hit": float(valid["_canonical"].map(hit).mean()) * len(valid) / len(made),
        "per 1000": 1000 * float(hit.sum()) / tokens,
    }
    if len(ended):
        out |= {
            "chains": off[ended].mean(),
            "chains: hit": hit[ended].mean(),
            "chains: different": ended.nunique() / len(ended),
            "chains: diversity": diversity(list(ended.unique())),
        }
    return {f"{word}: {each}": told for each, told in out.items()}


def scaffold_split(smiles):
    groups = collections.defaultdict(list)
    for row, text in enumerate(smiles):
        groups[scaffold(text)].append(row)
    order = sorted(groups.values(), key=lambda rows: (len(rows), rows[0]), reverse=True)
    rows = [row for group in order for row in group]
    cut = len(rows) - int(TEST_SHARE * len(rows))
    return np.array(rows[:cut]), np.array(rows[cut:])


def rivals(train, y, test, truth, classes, names):
    """By their ``names``: a random forest and boosting (LightGBM, or scikit-learn's without it) on
    ECFP4 and rdkit's descriptors; what they say of the test. Each is printed when it has ended."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    table = [
        np.array(
            [
                [*each, *_descriptors(molecule(text))]
                for each, text in zip(fingerprints(part), part, strict=True)
            ]
        )
        for part in (train, test)
    ]
    kind = RandomForestClassifier if classes else RandomForestRegressor
    models = {"boosting": boosted(classes), "forest": kind(500, random_state=0)}
    out = {}
    for name in (name for name in models if name in names):
        start = time.process_time()
        fitted = models[name].fit(table[0], y)
        out[name] = fitted.predict_proba(table[1])[:, 1] if classes else fitted.predict(table[1])
        seconds = time.process_time() - start
        told = {"rival": name, "cpu_s": seconds, "error": error_of(out[name], truth, classes)}
        print(json.dumps(told), flush=True)
    return out


def error_of(told, truth, classes):
    """AUC of classes, root mean squared error of numbers."""
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(truth, told) if classes else float(np.sqrt(np.mean((told - truth) ** 2)))


def boosted(classes):
    try:
        from lightgbm import LGBMClassifier as Classes
        from lightgbm import LGBMRegressor as Numbers

        quiet = {"verbose": -1, "n_jobs": 1}
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier as Classes
        from sklearn.ensemble import HistGradientBoostingRegressor as Numbers

        quiet = {}
    return (Classes if classes else Numbers)(random_state=0, **quiet)


def by_familiarity(model, smiles, truth, told, classes):
    """The error of numbers (RMSE), or the log-loss of classes, of the most familiar molecules: all,
    90 %, 75 %, half and a quarter of them."""
    rank = np.argsort(-model.p_value(model.encode(smiles)), kind="stable")
    own = np.where(truth == truth.max(), told, 1 - told) if classes else told
    loss = -np.log(own.clip(1e-12, 1)) if classes else (told - truth) ** 2
    out = {}
    for share in (1.0, 0.9, 0.75, 0.5, 0.25):
        mean = float(loss[rank[: max(1, int(share * len(rank)))]].mean())
        out[share] = mean if classes else mean**0.5
    return out


def properties(asked):
    strings = {"width": asked.width, "blocks": asked.blocks, "steps": asked.steps}
    family = Multimodal(strings=strings | ({"reading": asked.reading} if asked.reading else {}))
    for name in asked.sets.split(","):
        found = load_molecules(name)
        frame = found.frame.assign(smiles=[read_smiles(t).canonical for t in found.frame.smiles])
        frame = frame[frame.smiles.notna()].reset_index(drop=True)
        classes = frame[found.target].nunique() == 2
        train, test = (frame.iloc[rows] for rows in scaffold_split(frame.smiles))
        start = time.process_time()
        kind = JointClassifier if classes else JointRegressor
        model = kind(family=family, start_from=asked.start, random_state=0)
        model.fit(train.smiles, train[found.target], calibration=asked.calibration)
        ours = model.predict_proba(test.smiles)[:, 1] if classes else model.predict(test.smiles)
        taken = time.process_time() - start
        said = {"ours": ours}
        reader = model.model_.pair.reader_of()
        if reader is not None:
            alone = reader.scores(model.model_.encode(list(test.smiles)).event).detach()
            number = alone if classes else model.model_.number.decode(alone[:, 0])
            said["network alone"] = np.asarray(number[:, 1] if classes else number)
        truth = test[found.target].to_numpy()
        out = {"set": name, "measure": "AUC" if classes else "RMSE", "cpu_s": taken}
        print(json.dumps(out | {"ours": error_of(ours, truth, classes)}), flush=True)
        if not asked.alone:
            said |= rivals(
                list(train.smiles),
                train[found.target],
                list(test.smiles),
                truth,
                classes,
                asked.rivals,
            )
        out |= {each: error_of(told, truth, classes) for each, told in said.items()}
        out["kept"] = by_familiarity(model.model_, list(test.smiles), truth, ours, classes)
        weights = model.model_.card["predictor"].get("weights", {})
        print(json.dumps(out | {"weights": weights}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(required=True)
    drawing = what.add_parser("draws")
    numbers = {"rows": 50_000, "steps": 3_000, "width": 128, "blocks": 3, "batch": 0}
    more = {"tests": 10_000, "samples": 10_000, "frechet": 10_000}
    for option, value in (numbers | more).items():
        drawing.add_argument(f"--{option}", type=int, default=value)
    told = "share of the rows that is held out for the alarms, and teaches nothing"
    drawing.add_argument("--calibration", type=float, default=0.2, help=told)
    drawing.add_argument("--canaries", type=int, nargs="*", default=[1, 10])
    drawing.add_argument("--out", help="a folder for the model")
    drawing.set_defaults(run=draws)
    timing = what.add_parser("speed")
    timing.add_argument("model", help="the folder of a model of molecules")
    timing.add_argument("--samples", type=int, default=3_000)
    timing.set_defaults(run=speed)
    wanting = what.add_parser("conditional")
    numbers = {"rows": 20_000, "steps": 3_000, "width": 128, "blocks": 3}
    for option, value in (numbers | {"tests": 1_000, "samples": 1_000, "best": 50}).items():
        wanting.add_argument(f"--{option}", type=int, default=value)
    wanting.add_argument("--reading", type=float, default=0.3)
    wanting.add_argument("--calibration", type=float, default=0.2)
    told = "rows that teach the default p(y | x), by which draws of the joint are judged"
    wanting.add_argument("--judged", type=int, default=0, help=told)
    wanting.add_argument("--start", help="the folder of a model of molecules to begin from")
    wanting.add_argument("--out", help="a folder that keeps both models, for another call")
    told = "each property is judged by a model of its own, learned with speed='fast'"
    wanting.add_argument("--fast", action="store_true", help=told)
    wanting.add_argument("--properties", nargs="*", default=PROPERTIES, choices=PROPERTIES)
    wanting.add_argument("--dev", action="store_true", help="other wishes and another seed")
    ways = {"ways": ["drawn", "prompted", "guided", "redrawn"], "twin-ways": ["drawn", "guided"]}
    for option, default in ways.items():
        wanting.add_argument(f"--{option}", nargs="*", default=default)
    wanting.set_defaults(run=conditional)
    predicting = what.add_parser("properties")
    predicting.add_argument("--sets", default="esol,freesolv,lipo,bbbp")
    for option, value in {"steps": 100, "width": 32, "blocks": 1}.items():
        predicting.add_argument(f"--{option}", type=int, default=value)
    predicting.add_argument("--reading", type=float, default=0.0)
    told = "share of the training rows that is held out for the alarms, and teaches nothing"
    predicting.add_argument("--calibration", type=float, default=0.2, help=told)
    predicting.add_argument("--start", help="the folder of a model of molecules to begin from")
    predicting.add_argument("--rivals", nargs="*", default=["forest", "boosting"])
    predicting.add_argument("--alone", action="store_true", help="without the rivals")
    predicting.set_defaults(run=properties)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
