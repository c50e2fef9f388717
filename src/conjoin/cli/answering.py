"""calibrate, answer: questions to a model of texts, and how far its answers can be trusted."""

import csv
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.ask import answer as shown_answer
from conjoin.cli.files import say_unfinished
from conjoin.cli.output import claim
from conjoin.cli.serving import Capacity, ChatTemplate, TextFolder
from conjoin.cli.voice import Voice

__all__ = ["answer", "calibrate"]

MAX_FILE_BYTES = 1 << 28
QUESTION = "question"
ANSWER = "answer"
BETWEEN = "|"  # answers that are all right
LISTS = (".txt", ".md", "")  # of files that hold one question a line
SHOWN = ("question", "answer", "verdict", "confidence", "reason")

Questions = Annotated[
    str,
    typer.Argument(
        metavar="QUESTIONS",
        help="A CSV file with columns question and answer; '|' stands between several right "
        "answers, and an empty one says that none is right.",
        show_default=False,
    ),
]


def calibrate(
    model: TextFolder,
    questions: Questions,
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="The folder of the calibrated model.", show_default=False),
    ],
    draws: Annotated[
        int, typer.Option("--draws", help="Answers that are drawn to each question.", min=2)
    ] = 8,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of an answer.", min=1)] = 32,
    capacity: Capacity = None,
    chat_template: ChatTemplate = None,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Learn from questions with known answers when a model of texts is right."""
    from conjoin.model.saving import refuse_overwrite
    from conjoin.serving.opening import opened

    voice = Voice(quiet, as_json)
    refuse_overwrite(Path(out), force)
    asked, known = _pairs(questions)
    estimator, template = opened(model, device=device, capacity=capacity, template=chat_template)
    say_unfinished(estimator.model_, voice)
    own = template.source if chat_template is not None else None
    settings = {"draws": draws, "max_tokens": max_tokens, "template": own}
    estimator.calibrate(asked, known, **settings)
    estimator.save(out, force=force)
    answers = estimator.model_.answers
    right = 1 - float(answers.wrong.mean())
    voice.tell(
        f"{len(asked):,} questions; of the {answers.questions:,} that were held out {right:.0%} "
        f"were answered rightly. The score uses {answers.score.uses}."
    )
    voice.path(f"The model lies in {out}; conjoin answer {out} asks it.")
    told = {"questions": len(asked), "right": right, "uses": answers.score.uses}
    voice.json({"model": out, **told})


def answer(
    model: TextFolder,
    questions: Annotated[
        list[str],
        typer.Argument(
            metavar="QUESTION...",
            help="Questions, or one file: a CSV file with a column question, or one a line.",
            show_default=False,
        ),
    ],
    max_risk: Annotated[
        float,
        typer.Option("--max-risk", help="Of the accepted answers, that may be wrong."),
    ] = 0.1,
    false_alarm: opt.FalseAlarm = 0.05,
    out: opt.Out = None,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Answer questions, and say which answers can be trusted; see calibrate."""
    from conjoin.cli.files import load_model
    from conjoin.questions.answers.prompts import continues_texts

    voice = Voice(quiet, as_json, out == "-")
    claim(out, force)
    estimator = load_model(model, device)
    say_unfinished(estimator.model_, voice)
    if not continues_texts(estimator.model_):
        raise ValueError(f"{model} is no model of texts, so there is nothing to ask.")
    table = estimator.answer(_asked(questions), max_risk=max_risk, false_alarm=false_alarm)
    needed = table.attrs["confidence_needed"]
    table["alternatives"] = [
        "; ".join(f"{text} {share:.2f}" for text, share in each) for each in table["alternatives"]
    ]
    display = table[list(SHOWN)].fillna("") if out is None else None
    shown_answer(
        table, out, voice, display, ("question", "answer", "reason"), confidence_needed=needed
    )


def _asked(given: list[str]) -> list[str]:
    """The questions themselves, or those of the one file that is given."""
    if len(given) > 1 or not Path(given[0]).is_file():
        return given
    path = Path(given[0])
    if path.suffix.lower() in LISTS:
        found = [line for line in _text(path).splitlines() if line.strip()]
    else:
        found = [row[0] for row in _columns(path, 1)]
    if not found:
        raise ValueError(f"{path} holds no question.")
    return found


def _pairs(file: str) -> tuple[list[str], list[Any]]:
    """Questions, and of each the answers that are right."""
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{file} does not exist, or is no file.")
    rows = _columns(path, 2)
    several = [[each.strip() for each in row[1].split(BETWEEN) if each.strip()] for row in rows]
    return [row[0] for row in rows], [each or None for each in several]


def _columns(path: Path, count: int) -> list[list[str]]:
    """The cells of the first columns that are asked for: those named question and answer, or the
    first ones of a file without such names."""
    text = _text(path)
    first = text.partition("\n")[0]
    apart = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    rows = [row for row in csv.reader(text.splitlines(keepends=True), delimiter=apart) if any(row)]
    if not rows:
        raise ValueError(f"{path} holds no question.")
    head = [cell.strip().casefold() for cell in rows[0]]
    wanted = (QUESTION, ANSWER)[:count]
    named = all(name in head for name in wanted)
    if not named:
        taken = "one is" if count == 1 else "two are"
        warnings.warn(
            f"{path} has no columns of the names {' and '.join(wanted)}: the first {taken} taken, "
            f"and the first row, {rows[0]!r:.60}, is no header.",
            UserWarning,
            stacklevel=2,
        )
    places = [head.index(name) for name in wanted] if named else list(range(count))
    out = []
    for line, row in enumerate(rows[1 if named else 0 :], 2 if named else 1):
        if len(row) <= max(places):
            raise ValueError(
                f"{path}, row {line}: {len(row)} cell(s), and {count} are needed, "
                f"{' and '.join(wanted)}."
            )
        out.append([row[place] for place in places])
    return out


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES:,} bytes: ask fewer questions.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: save it so.") from None
