"""Figures and facts as words, for the report and the model card."""

import math
from typing import Any

import numpy as np
import pandas as pd

from conjoin.calibration.conformal import rows_for_error, rows_for_false_alarm
from conjoin.model.model import Model
from conjoin.training.progress import time_words
from conjoin.util.energy import Energy

__all__ = [
    "cell",
    "draws_words",
    "energy_words",
    "limits",
    "measures",
    "members_words",
    "number",
    "out_of_time",
    "percent",
    "plural",
    "purpose",
    "support",
    "task_words",
    "unfinished",
]

# how the reasons begin for which a fit ends before it is done, by a limit or by hand
CUT_SHORT = ("max_time", "max_kwh", "interrupted")
MIN_DONE_SHARE = 0.2  # of the planned steps, under which draws are told to be near noise

MEANING = {
    "exact": "the number is what the model says, without approximation",
    "lower bound": "the true number is at least this",
    "approximate": "the number is an approximation",
    "relative": "only differences between rows mean something",
}


def number(value: float, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cell(value: Any) -> str:
    """One table cell in words."""
    if (
        value is None
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and math.isnan(value))
    ):
        return "missing"
    if isinstance(value, float | np.floating):
        return f"{value:.5g}"
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    return str(value)


def task_words(model: Model) -> str:
    """What y is."""
    if model.target is None:
        return "no target: p(x) alone"
    if model.target.labels is None:
        return f"{model.target.name}, a number"
    return f"{model.target.name}: {_listed(list(map(str, model.target.labels)))}"


def _listed(names: list[str], most: int = 6) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def purpose(model: Model) -> str:
    """What the model is, in one sentence."""
    size = model.codec.size_words
    one = model.codec.noun
    rows = f"{sum(model.card['rows'].values()):,} {one}s"
    if model.target is None:
        return (
            f"This model knows how likely a {one} of {size} is, p(x), from {rows} that it was "
            "given."
        )
    what = (
        f"the number {model.target.name}"
        if model.target.labels is None
        else f"{model.target.name} ({_listed(list(map(str, model.target.labels)))})"
    )
    return (
        f"This model predicts {what} from {model.codec.x_words}, and knows "
        f"p(x), how likely such a {one} is: "
        f"so it can say when it has never seen the like of a {one}. It learned from {rows}."
    )


def measures(model: Model) -> str:
    """What log p(x) counts: mass or density, by column."""
    columns = model.codec.schema.modelled
    dense = [column for column in columns if column.numeric and column.resolution is None]
    mass = len(columns) - len(dense)
    if not dense:
        return f"mass: the probability of exactly these {model.codec.cells}"
    if not mass:
        return "density, per unit of every column"
    names = ", ".join(str(column.name) for column in dense[:4]) + (
        f" and {len(dense) - 4} more" if len(dense) > 4 else ""
    )
    return (
        f"mass per recorded cell in {plural(mass, 'column')}, density in "
        f"{plural(len(dense), 'column')} ({names})"
    )


def draws_words(facts: dict[str, Any]) -> str:
    """How few calls of a network a draw takes, where that was learned."""
    found = facts.get("distilled")
    if found is None:
        return ""
    rows = (
        plural(found["rows"], "draw") + " of its own"
        if found["drawn"]
        else plural(found["rows"], "row")
    )
    return f"in {plural(found['calls'], 'step')}, distilled on {rows} in {found['seconds']:.1f} s"


def members_words(facts: dict[str, Any]) -> str:
    """What each family of a mixture of them counts, and why; empty for other models."""
    parts = []
    for each in facts.get("trained", {}).get("members", ()):
        reached = f"{each['log_prob']:.2f} nats, " if "log_prob" in each else ""
        weight = each.get("weight", 0.0)
        counts = f"weight {weight:.2f}" if weight else "left out"
        parts.append(f"{each['family']} {counts} ({reached}{each['seconds']:.1f} s)")
    by = "mean log p of validation rows" if facts["rows"]["choose"] else "equal, no validation rows"
    return f"{', '.join(parts)}; weights by {by}" if parts else ""


def unfinished(facts: dict[str, Any]) -> str:
    """That a fit did few of its planned steps, and how long all of them take; nothing where it did
    enough."""
    trained = facts.get("trained", {})
    planned = trained.get("planned", 0)
    steps = trained.get("steps", 0)
    enough = steps >= MIN_DONE_SHARE * planned
    if not planned or enough or not trained.get("stopped", "").startswith(CUT_SHORT):
        return ""
    needed = f" All take about {time_words(trained['seconds'] / steps * planned)}:" if steps else ""
    return (
        f"The fit did {steps:,} of its {planned:,} planned steps ({steps / planned:.1%}), so that "
        "its answers are rougher than they need be, and what it draws, fills in or alters may be "
        f"little more than noise.{needed or ' So'} "
        "give it more with max_time=..., or go on from it with start_from=...."
    )


def out_of_time(facts: dict[str, Any]) -> list[str]:
    """What makes answers worth less, as the fit had to end early or to leave something out: for
    every question to a model, whoever fitted it."""
    trained = facts.get("trained", {})
    stopped = trained.get("stopped", "")
    few = unfinished(facts)
    if not few and stopped.startswith(CUT_SHORT):
        epochs = trained.get("epochs", 0)
        few = (
            f"The fit was cut short ({stopped.partition(':')[0]}) after {epochs:,} "
            f"pass{'' if epochs == 1 else 'es'} over its rows: a longer one may answer better."
        )
    cut = facts.get("cut", ())
    more = f" (and {len(cut) - 1:,} more: see the notices of the model)" if len(cut) > 1 else ""
    left_out = f"{cut[0].rstrip('.')}{more}." if cut else ""
    return [words for words in (few, left_out) if words]


def energy_words(facts: dict[str, Any]) -> tuple[str, str]:
    """(what the energy is, what that is to a brain)."""
    found = {key: value for key, value in facts.items() if key != "brain_days"}
    if not found:
        return "not measured", ""
    energy = Energy(**found)
    return str(energy).rsplit(", ", 1)[0], _brain(energy.brain_days)


def _brain(days: float) -> str:
    seconds = days * 86400
    if seconds < 90:
        span = f"{seconds:.2g} seconds"
    elif seconds < 5400:
        span = f"{seconds / 60:.2g} minutes"
    elif days < 1.5:
        span = f"{seconds / 3600:.2g} hours"
    else:
        span = f"{days:.3g} days"
    share = f"{100 * days:.2g} % of a brain's day (0.5 kWh); " if days < 1 else ""
    return f"{share}a human brain runs {span} on it"


def support(model: Model) -> list[str]:
    """What the calibration rows can promise, one sentence each."""
    alarms = rows_for_false_alarm(0.05)
    errors = rows_for_error(0.05)
    if model.answers is not None:
        return [*_support_of_rows(model, alarms, errors), _support_of_answers(model)]
    return _support_of_rows(model, alarms, errors)


def _support_of_answers(model: Model) -> str:
    """What the questions can promise that a model of texts was calibrated on."""
    assert model.answers is not None
    held = model.answers.questions
    return (
        f"Answers to questions: {plural(held, 'held-out question')} can promise that at most "
        f"{_at_least(model.answers.least_risk)} or more of the accepted ones are wrong, at 95 % "
        "confidence."
    )


def _support_of_rows(model: Model, alarms: int, errors: int) -> list[str]:
    """What the calibration rows can promise; ``alarms``, ``errors``: how many a rate of 5 %
    needs."""
    if model.calibration is None:
        needs = (
            f"{alarms} rows for a false-alarm rate of 5 %, {errors} labelled ones for an "
            "error rate of 5 %"
        )
        return [f"No rows were held out, so nothing is promised. Calibrating needs {needs}."]
    rows = model.calibration.rows
    first = (
        f"False alarms: {plural(rows, 'calibration row')} can promise a rate of "
        f"{_at_least(1 / (rows + 1))} or more"
    )
    out = [f"{first}, on the average over calibration sets."]
    labelled = int((model.calibration.label >= 0).sum())
    if model.target is None or not labelled:
        return out
    held = plural(labelled, "labelled row")
    if model.has_number:
        return [
            *out,
            f"Intervals: {held} can promise those that miss {_at_least(1 / (labelled + 1))} or "
            "more of the values.",
        ]
    least = _at_least(1 - 0.05 ** (1 / labelled))
    out.append(
        f"Errors among accepted answers: {held} can promise a rate of {least} or more, at 95 % "
        "confidence."
    )
    few = _rare(model, errors)
    return (
        [
            *out,
            f"A promise of 5 % for one class alone needs {errors} rows of it; these have fewer: "
            f"{few}.",
        ]
        if few
        else out
    )


def _rare(model: Model, least: int) -> str:
    """The classes with fewer calibration rows than ``least``."""
    calibration = model.calibrated
    names = model.classes.labels
    counts = np.bincount(calibration.label[calibration.label >= 0], minlength=len(names))
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < least]
    return ", ".join(few[:6]) + (f" and {len(few) - 6} more" if len(few) > 6 else "")


def _at_least(share: float) -> str:
    """A rate rounded up, so that it can be kept."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:.1f} %"


def limits(model: Model) -> list[str]:
    """What the model can't do, in plain words."""
    out = [
        "Familiar is not the same as right. A row can look ordinary and still be measured "
        "wrongly, or belong to someone else.",
        "The promises hold for rows that come as the calibration rows came. New instruments, "
        "places or times may break them.",
        "A false-alarm rate is promised on the average over calibration sets: with these very "
        "rows it may be somewhat higher or lower.",
    ]
    if model.has_classes:
        out.append(
            "The error rate is promised over all accepted answers together, unless it is asked "
            "for by class; a rare class may do worse."
        )
    if model.state.temperature is not None:
        out.append(
            "Rows drawn for a given answer come from the family's own p(x | y), which is "
            f"{'surer' if model.state.temperature > 1 else 'less sure'} of y than the answers are."
        )
    elif model.status["sample"].value == "approximate":
        out.append(
            "Rows drawn for a given answer, and counterfactuals, are approximate: they are "
            "chosen among draws of p(x)."
        )
    own = model.state.predictor in (None, "family")
    if model.target is not None and not own and model.density_of_x.capabilities.missing == "exact":
        out.append(
            "Where cells are missing, p(y | x) is the predictor's own way with gaps, while p(x) "
            "leaves them out exactly."
        )
    if model.target is not None:
        out.append(
            "A counterfactual shows what the model would answer, not what would happen in the "
            "world if the cells were changed."
        )
    data = model.codec.collection
    out.append(
        f"This is a report on a {data}. It is no evidence that decisions about people may rest "
        "on the model."
    )
    return out
