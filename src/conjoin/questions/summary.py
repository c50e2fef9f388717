"""A model in a few lines: what it was fitted on, what was chosen and why, what it can promise, what
it cost.
"""

import math
from typing import Any

import numpy as np

from conjoin.calibration.conformal import CONFIDENCE, rows_for_error, rows_for_false_alarm
from conjoin.model.words import draws_words, members_words

__all__ = ["RATE", "describe", "facts_of", "promises", "useful_rate"]

RATE = 0.05
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


def describe(model: Any) -> list[tuple[str, str]]:
    """(what, words) lines about a fitted model."""
    facts = model.facts
    lines = [
        ("target", _target(model)),
        model.codec.inputs,
        ("rows", _rows(facts)),
        ("p(x)", _family(model)),
    ]
    if model.target is not None:
        lines += [("p(y | x)", _predictor(facts)), ("held out", _held_out(model))]
    lines += [
        ("false alarms", _false_alarms(model)),
        *([("errors", _errors(model))] if model.target is not None else []),
    ]
    lines += [
        ("answers", _answers(model)),
        ("adapted", _adapted(facts)),
        ("draws", draws_words(facts)),
    ]
    lines += [
        (
            "status",
            ", ".join(f"{question} {status.value}" for question, status in model.status.items()),
        )
    ]
    return [(name, text) for name, text in [*lines, ("energy", _energy(facts))] if text]


def facts_of(model: Any) -> dict[str, Any]:
    """The same for a program."""
    facts = {key: value for key, value in model.facts.items() if key not in ("grid", "trained")}
    derived = {
        str(column.name): column.why
        for column in model.codec.schema.columns
        if column.role == "derived"
    }
    trained = {
        key: value for key, value in model.facts.get("trained", {}).items() if key != "history"
    }
    return {
        **facts,
        "target": None if model.target is None else model.target.name,
        "columns": [column.name for column in model.codec.schema.modelled],
        "set_aside": {
            str(column.name): column.why
            for column in model.codec.schema.columns
            if column.role == "set aside"
        },
        **({"derived": derived} if derived else {}),
        "trained": trained,
        "held_out": held_out(model),
        "promises": promises(model),
        **({} if model.answers is None else {"answers": model.answers.figures()}),
        "status": {question: status.value for question, status in model.status.items()},
        "notices": model.notices,
    }


def useful_rate(model: Any) -> float | None:
    """The least of some error rates, .05 or more, with which ``decide`` keeps its promises and
    still answers something; None where there is none. Of a density: .05."""
    found = promises(model)
    if found is None or found["false_alarm"] > RATE:
        return None
    if model.target is None:
        return RATE
    rates = [rate for rate in RATES if rate >= max(RATE, found["max_error"])]
    if model.has_classes:
        rates = [rate for rate in rates if _coverage(model, rate) > 0.2]
    return rates[0] if rates else None


def promises(model: Any) -> dict[str, float] | None:
    """The least rates that the calibration rows support; None without such rows."""
    calibration = model.calibration
    if calibration is None:
        return None
    labelled = int((calibration.label >= 0).sum())
    out = {"calibration_rows": calibration.rows, "false_alarm": 1 / (calibration.rows + 1)}
    if model.target is not None:
        least = 1 - (1 - CONFIDENCE) ** (1 / labelled) if labelled else 1.0
        out |= {
            "labelled_rows": labelled,
            "max_error": least if model.has_classes else 1 / (labelled + 1),
        }
    return out


def held_out(model: Any) -> dict[str, float]:
    """Figures on rows that the fit did not see."""
    out = {
        f"log_loss_{name}": loss
        for name, loss in model.facts.get("predictor", {}).get("log_loss", {}).items()
    }
    calibration = model.calibration
    if calibration is None or not model.has_classes:
        return out
    known = calibration.label >= 0
    if known.any():
        out["accuracy"] = float((calibration.guess == calibration.label)[known].mean())
    return out


# -------------------------------------------------------------------------------------------- words


def _target(model: Any) -> str:
    if model.target is None:
        return "none: p(x) alone"
    if model.target.labels is None:
        return f"{model.target.name}, a number"
    names = list(map(str, model.target.labels))
    return (
        f"{model.target.name}, {len(names)} classes: "
        f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
    )


def _rows(facts: dict[str, Any]) -> str:
    rows = facts["rows"]
    before = facts.get("started_from")
    words = (
        f"{rows['fit']:,} to fit, {rows['choose']:,} to choose, {rows['calibrate']:,} to calibrate"
    )
    return (
        words
        if before is None
        else f"{words}; begun from a model of {before['rows']['fit']:,} rows"
    )


def _family(model: Any) -> str:
    facts = model.facts
    trained = facts.get("trained", {})
    words = (
        f"{facts['family']}, {trained.get('epochs', 0)} epochs in "
        f"{trained.get('seconds', 0.0):.1f} s ({trained.get('stopped', '')})"
    )
    mixed = members_words(facts)
    words += f"; {mixed}" if mixed else ""
    best = trained.get("best", math.inf)
    if not math.isfinite(best) or not facts["rows"]["choose"]:
        return words
    denoises = model.density_of_x.capabilities.typical  # its loss is a squared error
    return f"{words}; " + (
        f"loss {best:.3f} on held-out rows" if denoises else f"{-best:.2f} nats per held-out row"
    )


def _predictor(facts: dict[str, Any]) -> str:
    found = facts.get("predictor", {})
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in found.get("log_loss", {}).items())
    words = f"{found.get('chosen', 'family')}" + (f": {found['why']}" if found.get("why") else "")
    return words + (f" (log-loss: {losses})" if losses else "")


def _held_out(model: Any) -> str:
    right = held_out(model).get("accuracy")
    return (
        ""
        if right is None
        else f"{right:.1%} right on the calibration rows, if every row is answered"
    )


def _answers(model: Any) -> str:
    """What questions with known answers have taught a model of texts, if any did."""
    if model.answers is None:
        return ""
    told = model.facts.get("questions", {})
    found = model.answers.figures()
    asked = f"calibrated on {told['read']:,} questions" if told else "calibrated on questions"
    when = f" ({told['date']})" if told else ""
    risk = _rate(found["risk"])
    kept = (
        f"at a risk of {risk} {found['accepted']:.0%} of them are accepted"
        if found["accepted"]
        else f"no confidence keeps a risk of {risk} there"
    )
    return (
        f"{asked}{when}, {found['held_out']:,} of them held out, of which {found['right']:.0%} "
        f"were answered rightly; scored by {found['scored_by']}; can promise a risk of "
        f"{_rate(found['least_risk'])} or more, and {kept}"
    )


def _adapted(facts: dict[str, Any]) -> str:
    """The shares of the classes before and after, if they were changed."""
    found = facts.get("adapted")
    if found is None:
        return ""
    shares = [
        f"{label} {old:.1%} -> {new:.1%}"
        for label, old, new in zip(found["labels"], found["old"], found["new"], strict=True)
    ]
    return (
        f"by {found['rows']:,} rows without labels: "
        f"{', '.join(shares[:6])}{', ...' if len(shares) > 6 else ''}"
    )


def _false_alarms(model: Any) -> str:
    found = promises(model)
    if found is None:
        return (
            f"no promise: {rows_for_false_alarm(RATE)} calibration rows are needed for a rate "
            f"of {_rate(RATE)}"
        )
    return f"a rate of {_rate(found['false_alarm'])} or more can be promised"


def _errors(model: Any) -> str:
    found = promises(model)
    if found is None:
        return ""
    if model.has_number:
        return (
            f"intervals that miss {_rate(found['max_error'])} or more of the values can be promised"
        )
    if found["max_error"] > RATES[-1]:
        return (
            f"no promise: {_rate(RATE)} needs {rows_for_error(RATE)} labelled calibration "
            f"rows, there are {found['labelled_rows']}"
        )
    shares = [
        f"{_coverage(model, rate):.0%} at {_rate(rate)}"
        for rate in RATES
        if rate >= found["max_error"]
    ]
    return "of such rows it answers, by the error rate that is promised: " + ", ".join(shares)


def _coverage(model: Any, rate: float) -> float:
    """The share of the calibration rows that would be accepted."""
    calibration = model.calibration
    least = calibration.threshold(rate, RATE)
    return float(
        np.mean((calibration.confidence >= least) & (calibration.held_out_p_values > RATE))
    )


def _rate(rate: float) -> str:
    return f"{math.ceil(rate * 1000 - 1e-9) / 10:g} %"


def _energy(facts: dict[str, Any]) -> str:
    from conjoin.util.energy import Energy

    found = {key: value for key, value in facts.get("energy", {}).items() if key != "brain_days"}
    return str(Energy(**found)) if found else ""
