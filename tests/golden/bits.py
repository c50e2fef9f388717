"""Every number that the library gives, on tiny rows: to see that a change of the code's shape
changes none of them.

    python tests/golden/bits.py write FILE [PART ...]
    python tests/golden/bits.py check FILE [PART ...]

``write`` records the answers of every family in FILE (safetensors: a name and a tensor each; texts
as their bytes). ``check`` records them again and names those that are no longer the same to the
bit, with the largest difference; it exits with 1 if there are any. With PARTs only the tasks whose
name contains one of them run, and the others stay in FILE as they are. The whole takes about four
minutes of one processor.

The bits depend on the processor and on the release of torch, so FILE is of use on one machine only
and is not kept with the code: write it before a change, check it after. What can't be answered is
recorded as a text ("refused", "failed: ..."), so that one family's failure hides no other's."""

import json
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from brief import brief, pictures, table
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_iris

# Everything that a change of the code's shape may rename stands here.
import conjoin
from conjoin.codecs.image.pictures import Picture
from conjoin.core import CapabilityError, Edit, Event, Pair, Space, Variable, stream
from conjoin.families import FAMILIES, resolve
from conjoin.joints import ClassConditional
from conjoin.testing.spaces import CLASSES
from conjoin.testing.subjects import NotTaken, subject
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress


def density_class(config):
    return config.density


def beginning(density):
    """The part of a density that is fitted before the rest, if it has one."""
    return density._first_stage()


FIXTURE = Path(__file__).parents[1] / "fixtures" / "model-0.1.0"
OF_ROWS = [name for name, family in FAMILIES.items() if "vector" in family.layouts]
TABLES = [name for name in OF_ROWS if not FAMILIES[name].pictures]
QUICK = {name for name in TABLES if FAMILIES[name].map == "classic"} - {
    "dirichlet_process",
    "indian_buffet",
    "grid_field",
}
VOLATILE = (
    "seconds",
    "cpu_seconds",
    "energy",
    "config_sha256",
    "weights_sha256",
    "versions",
    "conjoin",
)
TASKS = {}


def task(name):
    def put(run):
        TASKS[name] = run
        return run

    return put


# ---------------------------------------------------------------------------------------- recording


def text(words):
    return torch.frombuffer(bytearray(words.encode() or b" "), dtype=torch.uint8).clone()


class Record:
    """Tensors by name, below a prefix."""

    def __init__(self, prefix="", into=None):
        self.prefix = prefix
        self.into = {} if into is None else into

    def below(self, name):
        return Record(f"{self.prefix}{name}/", self.into)

    def ask(self, name, question):
        """The answer, or why there is none."""
        try:
            self.put(name, question())
        except (CapabilityError, NotTaken):
            self.put(name, "refused")
        except Exception as error:
            if "-v" in sys.argv:
                traceback.print_exc()
            self.put(name, f"failed: {type(error).__name__}: {error}")

    def put(self, name, value):
        if value is None or isinstance(value, str):
            self._keep(name, text(str(value)))
        elif isinstance(value, torch.Tensor):
            self._keep(name, value.detach().contiguous().clone())
        elif isinstance(value, Event):
            self.put(name, value.value)
        elif isinstance(value, Pair):
            self.put(f"{name}.y", value.y)
            self.put(f"{name}.x", value.x)
        elif isinstance(value, pd.DataFrame):
            self._keep(f"{name}.columns", text("\n".join(map(str, value.columns))))
            for column in value:
                self.put(f"{name}.{column}", value[column])
            if value.attrs:
                self.put(f"{name}.attrs", dict(value.attrs))
        elif isinstance(value, pd.Series):
            plain = not isinstance(value.dtype, pd.CategoricalDtype) and value.dtype.kind in "biuf"
            self.put(
                name,
                value.to_numpy(dtype=float, na_value=np.nan)
                if plain
                else value.to_numpy(dtype=object),
            )
        elif isinstance(value, np.ndarray):
            if value.dtype.kind in "biuf":
                self._keep(name, torch.tensor(np.ascontiguousarray(value)))
            else:
                self._keep(name, text("\n".join(map(spelt, value.ravel().tolist()))))
        elif isinstance(value, dict):
            for key, entry in value.items():
                self.put(f"{name}.{key}", entry)
        elif (
            isinstance(value, (list, tuple))
            and value
            and all(isinstance(v, (int, float)) for v in value)
        ):
            self._keep(name, torch.tensor(value, dtype=torch.float64))
        elif isinstance(value, (list, tuple)):
            for index, entry in enumerate(value):
                self.put(f"{name}.{index}", entry)
        elif isinstance(value, (bool, int, float, np.generic)):
            self._keep(name, torch.tensor(float(value), dtype=torch.float64))
        else:
            self._keep(name, text(spelt(value)))

    def _keep(self, name, tensor):
        if self.prefix + name in self.into:
            raise KeyError(f"{self.prefix}{name} is recorded twice")
        self.into[self.prefix + name] = tensor


def spelt(value):
    """A cell as words: a picture by its pixels."""
    pixels = getattr(value, "pixels", None)
    return repr(value) if pixels is None else f"picture {np.asarray(pixels).tolist()}"


# ---------------------------------------------------------------------------------------- densities


def ask_density(record, density, rows, holed, box, context, trainable=True):
    """All that a density can be asked. ``rows`` are complete, ``holed`` has missing cells, ``box``
    is a region of them."""
    some = rows[:12]
    few = 8
    given = (lambda n: Event(context.value[:n])) if context is not None else (lambda n: None)
    with torch.no_grad():
        for name, tensor in density.state_dict().items():
            record.put(f"state.{name}", tensor)
        for name, event in (
            ("complete", Event(some)),
            ("missing", holed),
            ("region", None if box is None else holed._replace(within=box)),
        ):
            if event is None:
                continue
            event = event.take(slice(0, few))
            record.ask(
                f"log_prob.{name}",
                lambda e=event: density.log_prob(e, given(few), generator=stream(0)),
            )
            record.ask(f"log_prob.{name}.alone", lambda e=event: density.log_prob(e, given(few)))
            record.ask(
                f"losses.{name}", lambda e=event: density.losses(e, given(few), generator=stream(1))
            )
            record.ask(f"features.{name}", lambda e=event: density.features(e))
            if context is not None:
                record.ask(f"log_contexts.{name}", lambda e=event: density.log_contexts(e))
                record.ask(
                    f"log_prob.{name}.without",
                    lambda e=event: density.log_prob(e, generator=stream(0)),
                )
            if name != "complete":
                record.ask(
                    f"conditional.{name}",
                    lambda e=event: density.sample_conditional(e, given(few), generator=stream(2)),
                )
            if name != "region":
                record.ask(f"mode.{name}", lambda e=event: density.mode(e, given(few)))
                record.ask(f"statistics.{name}", lambda e=event: density.statistics(e, given(few)))
                if density.capabilities.typical:
                    record.ask(f"typicality.{name}", lambda e=event: density.typicality(e))
        record.ask("loss", lambda: density.loss(Event(some), given(12), generator=stream(3)))
        record.ask("sample", lambda: density.sample(10, given(10), generator=stream(4)))
        if context is not None:
            record.ask("sample.without", lambda: density.sample(5, generator=stream(4)))
        if density.capabilities.unfolds:
            record.ask("unfold", lambda: density.unfold(2, given(2), generator=stream(5)))
        if density.capabilities.edits:
            how = Edit(1.0, torch.full((3,), 2.0))
            record.ask("edit", lambda: density.edit(Event(some[:3]), given(3), how=how))
        first = density.space.variables[0] if isinstance(density.space, Space) else None
        if first is not None and context is None:
            candidates = (
                torch.arange(first.cardinality).double() if first.discrete else some[:4, 0].clone()
            )
            record.ask("log_target", lambda: density.log_target(Event(some[:few]), candidates))
    if trainable and density.capabilities.differentiable:
        record.ask("gradient", lambda: gradient(density, some[:few], given(few)))


def gradient(density, rows, context):
    rows = rows.clone().requires_grad_()
    out = density.log_prob(Event(rows), context, generator=stream(0)).sum()
    return torch.autograd.grad(out, rows)[0]


def spaces_of(family):
    spaces = ["mixed", "mixed given class", "joint mixed"] + ["discrete"] * (
        FAMILIES[family].map != "latent"
    )
    if family in QUICK:
        spaces += ["numbers", "single", "joint numbers", "hybrid mixed", "hybrid numbers"]
    elif family in ("flow", "integer_flow"):
        spaces += ["numbers"]
    return spaces


def on_tiny_spaces(family):
    def run(record):
        for name in spaces_of(family):
            here = record.below(name)
            try:
                found = subject(brief(family), name)
            except NotTaken:
                here.put("subject", "not taken")
                continue
            except Exception as error:
                here.put("subject", f"failed: {type(error).__name__}: {error}")
                continue
            rows = found.tiny.rows
            mask = found.tiny.mask
            box = found.tiny.box(found.free)
            context = None if found.contexts is None else found.context(len(rows))
            ask_density(here, found.density, rows, Event(rows, mask), box, context)
            if found.joint is not None:
                x = Event(rows[:8, 1:])
                if found.joint.target.discrete:
                    here.ask("log_joint", lambda j=found.joint, x=x: j.log_joint(x).detach())
                    here.ask(
                        "log_posterior", lambda j=found.joint, x=x: j.log_posterior(x).detach()
                    )
                here.ask("log_evidence", lambda j=found.joint, x=x: j.log_evidence(x).detach())

    return run


# ---------------------------------------------------------------------------- densities of pictures


def grey(side, levels, rows=40):
    images, y = pictures(rows, side)
    value = torch.tensor(images // (256 // levels)).double().flatten(1)
    pixels = (Variable("grey", "ordered", cardinality=levels),) * side**2
    return Space((side**2,), pixels, "image", (1, side, side)), value, torch.tensor(y).double()


def trained(config, space, event, **context):
    """Built, and trained for a few steps by the real loop."""
    density = density_class(config).build(space, config, event, stream(0, "build"), **context)
    weight = 1.0 + (torch.arange(event.rows) % 5 == 0).double()
    parts = (
        []
        if beginning(density) is None
        else [(beginning(density), event.cut(len(space.variables) - space.pixels)[0])]
    )
    plan = Plan(epochs=3, steps=6, patience=3)
    with_label = context.get("context")
    for each, data in [*parts, (density, event)]:
        if with_label is not None:
            each = ClassConditional(each, context["context_space"])
            data = Pair(with_label, data)
        train(each, data, weight, None, plan, Progress())
    return density.eval()


def on_pictures(family, side, levels):
    def run(record):
        space, value, label = grey(side, levels)
        config = brief(family, batch=16) if FAMILIES[family].pictures else brief(family)
        mask = torch.rand(value.shape, generator=stream(6)) > 0.2
        for name, context in (
            ("alone", {}),
            ("given class", {"context": Event(label), "context_space": CLASSES}),
        ):
            if context and not density_class(config).conditional:
                continue
            here = record.below(name)
            try:
                density = trained(config, space, Event(value), **context)
                density.fit_typicality(Event(value))
            except Exception as error:
                here.put("subject", f"failed: {type(error).__name__}: {error}")
                continue
            ask_density(here, density, value, Event(value, mask), None, context.get("context"))

    return run


@task("densities/illustrated/8x8")
def beside_columns(record):
    _, picture, label = grey(8, 256)
    levels = Variable("grey", "ordered", cardinality=256)
    columns = (Variable("kind", "category", cardinality=2), Variable("dose", "real"))
    space = Space((66,), (*columns, *(levels,) * 64), "vector", (1, 8, 8))
    dose = torch.randn(len(label), 1, generator=stream(7)).double() + label[:, None]
    value = torch.cat([label[:, None], dose, picture], 1)
    mask = torch.ones_like(value, dtype=torch.bool)
    mask[::5, 2:] = False
    mask[1::4, 1] = False
    mask[2::9, 0] = False
    density = trained(brief("illustrated", batch=16), space, Event(value, mask))
    density.fit_typicality(Event(value))
    ask_density(record, density, value, Event(value, mask), None, None)


for _family in OF_ROWS:
    if _family in TABLES:
        TASKS[f"densities/{_family}"] = on_tiny_spaces(_family)
for _family in (
    "circuit",
    "mixture",
    "naive_bayes",
    "grid_field",
    "markov_field",
    "energy",
    "boltzmann",
    "autoregressive",
    "transformer",
    "absorbing_diffusion",
    "diffusion",
):
    TASKS[f"densities/{_family}/4x4"] = on_pictures(_family, 4, 4)
for _family, _levels in (("pixel_cnn", 16), ("picture_diffusion", 256)):
    TASKS[f"densities/{_family}/8x8"] = on_pictures(_family, 8, _levels)


# --------------------------------------------------------------------------------------- end to end


def ask_saved(record, estimator):
    """The folder that is written, but for what tells of the time and of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        estimator.save(Path(folder) / "model")
        config = json.loads((Path(folder) / "model" / "config.json").read_text())
        weights = load_file(Path(folder) / "model" / "weights.safetensors")
    record.put("saved.config", json.dumps(steady(config), indent=1, sort_keys=True))
    for name, tensor in weights.items():
        record.put(f"saved.{name}", tensor)


def steady(value):
    if isinstance(value, dict):
        return {key: steady(entry) for key, entry in value.items() if key not in VOLATILE}
    return [steady(entry) for entry in value] if isinstance(value, list) else value


def ask_estimator(record, estimator, X, y=None, given=None, label=None):
    """Everything that an estimator is asked day by day."""
    kind = type(estimator).__name__
    record.ask("score_samples", lambda: estimator.score_samples(X))
    record.ask(
        "decide",
        lambda: (
            estimator.decide(X, max_error=0.3) if kind != "JointDensity" else estimator.decide(X)
        ),
    )
    for name in ("predict_proba", "predict_joint_log_proba") if kind == "JointClassifier" else ():
        record.ask(name, lambda n=name: getattr(estimator, n)(X))
    for name in ("predict", "predict_quantiles") if kind == "JointRegressor" else ():
        record.ask(name, lambda n=name: getattr(estimator, n)(X))
    record.ask("sample", lambda: estimator.sample(8, random_state=3))
    if given is not None:
        record.ask("sample.given", lambda: estimator.sample(4, given=given, random_state=4))
    if label is not None:
        record.ask("sample.label", lambda: estimator.sample(4, y=label, random_state=5))
    record.ask("impute", lambda: estimator.impute(X))
    record.ask("impute.draws", lambda: estimator.impute(X[:6], n_draws=2, random_state=6))
    record.ask("status", lambda: estimator.status_)
    record.ask("saved", lambda: ask_saved(record, estimator))


def ask_more(record, estimator, X, y, to):
    """The rarer questions, of one family each."""
    kind = type(estimator).__name__
    record.ask(
        "evaluate",
        lambda: estimator.evaluate(X, y) if kind != "JointDensity" else estimator.evaluate(X),
    )
    if kind != "JointDensity":
        record.ask("counterfactual", lambda: estimator.counterfactual(X[:2], to=to, random_state=1))
    if kind == "JointClassifier":
        record.ask("completions", lambda: estimator.completions(X[:4], n_draws=3, random_state=2))
        record.ask("adapt", lambda: estimator.adapt(X[::2]).predict_proba(X))
    record.ask(
        "strange",
        lambda: (
            estimator.decide(strange(X))
            if kind == "JointDensity"
            else estimator.decide(strange(X), max_error=0.3)
        ),
    )


def strange(X):
    return X.assign(height=X["height"] * 10, kind="oak")[:10]


def end_to_end(kind, family):
    def run(record):
        X, grade, price = table()
        y = {"JointClassifier": grade, "JointRegressor": price, "JointDensity": None}[kind]
        predictor = (
            {} if kind == "JointDensity" else {"predictor": "auto" if family in PREDICTED else None}
        )
        try:
            estimator = getattr(conjoin, kind)(family=brief(family), **predictor)
            estimator.fit(X) if y is None else estimator.fit(X, y)
        except (NotTaken, CapabilityError):
            record.put("fit", "refused")
            return
        except Exception as error:
            record.put("fit", f"failed: {type(error).__name__}: {error}")
            return
        label = {"JointClassifier": "low", "JointRegressor": 4.0, "JointDensity": None}[kind]
        slow = kind == "JointRegressor" and family in SLOW
        new = table(4 if slow else 16, seed=1)[0]
        ask_estimator(record, estimator, new, y, {"kind": "beech", "height": (6.0, 9.0)}, label)
        if family in ("circuit", "naive_bayes"):
            to = "high" if kind == "JointClassifier" else (5.0, 9.0)
            ask_more(
                record,
                estimator,
                table(60, seed=2)[0],
                table(60, seed=2)[1 if kind == "JointClassifier" else 2],
                to,
            )

    return run


SLOW = ("vae", "ladder", "vqvae", "flow_matching")  # to tell p(y | x) of a number
PREDICTED = (
    "circuit",
    "naive_bayes",
    "mixture",
    "autoregressive",
    "boltzmann",
)  # compared with other predictors
for _family in TABLES:
    for _kind in ("JointClassifier", "JointRegressor", "JointDensity"):
        TASKS[f"estimators/{_family}/{_kind}"] = end_to_end(_kind, _family)


def predicted_by(predictor, family):
    def run(record):
        X, grade, price = table()
        y = (
            grade.where(np.arange(len(grade)) % 6 > 0) if predictor != "boosting" else grade
        )  # some labels are missing
        estimator = conjoin.JointClassifier(family=brief(family), predictor=predictor).fit(X, y)
        ask_estimator(record.below("classes"), estimator, table(16, seed=1)[0], y, None, "low")
        estimator = conjoin.JointRegressor(family=brief(family), predictor=predictor)
        record.ask("regressor", lambda: estimator.fit(X, price).predict(X[:16]))

    return run


for _predictor, _family in (
    ("linear", "mixture"),
    ("boosting", "naive_bayes"),
    ("network", "circuit"),
    ("features", "vae"),
):
    TASKS[f"predictors/{_predictor}/{_family}"] = predicted_by(_predictor, _family)


def with_pictures(family, side, predictor=None, **settings):
    def run(record):
        X, y = pictures(110, side)
        config = brief(family, batch=16, **settings)
        estimator = conjoin.JointClassifier(family=config, predictor=predictor).fit(X, y)
        ask_estimator(record, estimator, pictures(6, side, 1)[0], y, None, 1)
        record.ask("bits", lambda: estimator.bits_per_dim(pictures(6, side, 1)[0]))
        if FAMILIES[family].map == "diffusion":
            record.ask(
                "counterfactual", lambda: vars(estimator.counterfactual(pictures(2, side, 1)[0]))
            )

    return run


TASKS["pictures/diffusion/8x8"] = with_pictures(
    "picture_diffusion", 8, steps=8, points=2, sampling_steps=2
)
TASKS["pictures/diffusion/16x16/trunk"] = with_pictures(
    "picture_diffusion", 16, "trunk", steps=6, points=2, sampling_steps=2
)
TASKS["pictures/autoregressive/8x8"] = with_pictures(
    "autoregressive", 8, steps=5, width=4, orders=1, draws=2
)
TASKS["pictures/pixel_cnn/16x16"] = with_pictures("pixel_cnn", 16, steps=4, width=6, draws=2)


@task("pictures/suited")
def suited(record):
    """What stands in for a family that has another network for pictures."""
    for name in OF_ROWS:
        for side in (8, 16):
            record.ask(
                f"{name}.{side}",
                lambda n=name, s=side: spelt(resolve(n).suited(grey(s, 256, 2)[0])).split("(")[1],
            )


@task("pictures/illustrated")
def illustrated(record):
    def rows(count, seed=0):
        images, y = pictures(count, 8, seed)
        random = np.random.default_rng(seed)
        scans = pd.Series([Picture(image) for image in images], dtype=object)
        X = pd.DataFrame(
            {
                "a": random.normal(y, 1.0).round(2),
                "scan": scans,
                "k": np.where(random.random(count) < 0.4, "u", "v"),
            }
        )
        X.loc[::7, "scan"] = None
        X.loc[3::9, "a"] = np.nan
        return X, y

    X, y = rows(120)
    config = brief("illustrated", batch=16, steps=6, points=2, sampling_steps=2, columns="mixture")
    for kind, target in (("JointClassifier", y), ("JointDensity", None)):
        predictor = {} if kind == "JointDensity" else {"predictor": None}
        estimator = getattr(conjoin, kind)(family=config, **predictor)
        estimator.fit(X) if target is None else estimator.fit(X, target)
        ask_estimator(
            record.below(kind),
            estimator,
            rows(8, 1)[0],
            y,
            {"k": "u"},
            None if target is None else 1,
        )
    flat = conjoin.JointClassifier(family=brief("mixture"), predictor=None).fit(X, y)
    ask_estimator(record.below("mixture"), flat, rows(8, 1)[0], y, {"k": "u"}, 1)


@task("saved/0.1.0")
def fixture(record):
    model = conjoin.load(FIXTURE)
    X, _ = load_iris(return_X_y=True, as_frame=True)
    ask_estimator(record, model, X[::10], None, None, "setosa")
    record.ask("strange", lambda: model.decide(X[::10] * 10, max_error=0.1))


# ------------------------------------------------------------------------------------- write, check


def asked(name, parts):
    """Whether a task, or a tensor of it, is among the parts; without parts all are."""
    task = max((task for task in TASKS if f"{name}/".startswith(f"{task}/")), key=len, default=name)
    return not parts or any(part in task for part in parts)


def everything(parts):
    record = Record()
    started = time.process_time()
    for name, run in TASKS.items():
        if not asked(name, parts):
            continue
        before = time.process_time()
        try:
            run(record.below(name))
        except Exception as error:
            if "-v" in sys.argv:
                traceback.print_exc()
            record.put(f"{name}/failed", f"failed: {type(error).__name__}: {error}")
        spent = time.process_time() - before
        print(
            f"{time.process_time() - started:6.1f} s  {spent:5.1f} s  {name}",
            file=sys.stderr,
            flush=True,
        )
    return record.into


def difference(before, now):
    """Empty where two tensors are the same to the bit."""
    if before.dtype != now.dtype or before.shape != now.shape:
        if before.dtype == now.dtype == torch.uint8:
            return words(before, now)
        return f"was {before.dtype} {tuple(before.shape)}, is {now.dtype} {tuple(now.shape)}"
    if same(before, now):
        return ""
    if before.dtype == torch.uint8:
        return words(before, now)
    one = before.double()
    two = now.double()
    odd = ~((one == two) | (one.isnan() & two.isnan()))
    gap = (one - two).abs()[odd].nan_to_num(nan=torch.inf)
    scale = one.abs()[odd].nan_to_num(nan=torch.inf).clamp_min(1e-300)
    if not len(gap):
        return "only the signs of zeros, or which NaN it is"
    return (
        f"{len(gap)} of {odd.numel()} differ, by up to {float(gap.max()):.3g} (relative "
        f"{float((gap / scale).max()):.3g})"
    )


def same(before, now):
    return (
        before.contiguous().numpy().tobytes() == now.contiguous().numpy().tobytes()
        if before.dtype != torch.bfloat16
        else torch.equal(before, now)
    )


def words(before, now):
    one, two = (bytes(part.numpy()).decode() for part in (before, now))
    at = next(
        (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b),
        min(len(one), len(two)),
    )
    start = max(0, at - 20)
    return f"the text was ...{one[start : at + 60]!r}, is ...{two[start : at + 60]!r}"


def failures(found):
    for name, tensor in found.items():
        if (
            tensor.dtype == torch.uint8
            and tensor.ndim == 1
            and (said := bytes(tensor.numpy())).startswith(b"failed")
        ):
            yield f"{name}: {said.decode()[:160]}"


def main(verb, file, *parts):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = [part for part in parts if part != "-v"]
    found = everything(parts)
    if verb == "write":
        kept = load_file(file) if parts and Path(file).is_file() else {}
        kept = {name: value for name, value in kept.items() if not asked(name, parts)}
        save_file(kept | found, file)
        print("\n".join(failures(found)))
        print(f"{len(found)} names written")
        return 0
    before = {name: value for name, value in load_file(file).items() if asked(name, parts)}
    wrong = {name: "is gone" for name in before.keys() - found.keys()}
    wrong |= {name: "is new" for name in found.keys() - before.keys()}
    wrong |= {
        name: why
        for name in before.keys() & found.keys()
        if (why := difference(before[name], found[name]))
    }
    for name in sorted(wrong):
        print(f"{name}: {wrong[name]}")
    print(f"{len(wrong)} of {len(before.keys() | found.keys())} names differ")
    return int(bool(wrong))


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
