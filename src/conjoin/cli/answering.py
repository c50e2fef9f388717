"""calibrate, answer: questions to a model of texts, and how far its answers can be trusted."""

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
ENDS = (".csv", ".tsv", ".txt", ".md", ".json", ".jsonl", ".parquet", ".gz")
SHOWN = ("question", "answer", "verdict", "confidence", "reason")

Questions = Annotated[
    str,
    typer.Argument(
        metavar="QUESTIONS",
        help="A table with columns question and answer; '|' stands between several right "
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
    from conjoin.questions.answers.prompts import continues_texts
    from conjoin.serving.opening import opened

    voice = Voice(quiet, as_json)
    refuse_overwrite(Path(out), force)
    asked, known = _pairs(questions)
    estimator, template = opened(model, device=device, capacity=capacity, template=chat_template)
    if not continues_texts(estimator.model_):
        raise ValueError(
            f"{model} is no model of texts, so there is nothing to ask: only a model of texts "
            "alone, which tells them token by token, answers questions."
        )
    say_unfinished(estimator.model_, voice)
    own = template.source if chat_template is not None else None
    settings = {"draws": draws, "max_tokens": max_tokens, "template": own}
    estimator.calibrate(asked, known, **settings)
    estimator.save(out, force=force)
    found = estimator.model_.answers.figures()
    counted = estimator.model_.facts["questions"]
    voice.tell(
        f"{counted['read']:,} questions; of the {found['held_out']:,} that were held out "
        f"{found['right']:.0%} were answered rightly. The score uses {found['scored_by']}."
    )
    voice.path(f"The model lies in {out}; conjoin answer {out} asks it.")
    told = {"questions": counted["read"], "given": counted["given"]}
    told |= {"right": found["right"], "uses": found["scored_by"]}
    voice.json({"model": out, **told})


def answer(
    model: TextFolder,
    questions: Annotated[
        list[str],
        typer.Argument(
            metavar="QUESTION...",
            help="Questions, or one file: a table with a column question, or a text of lines.",
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
    if not continues_texts(estimator.model_):
        raise ValueError(f"{model} is no model of texts, so there is nothing to ask.")
    say_unfinished(estimator.model_, voice)
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
    path = Path(given[0])
    if len(given) > 1 or not path.is_file():
        _refuse_lost_file(given)
        return given
    if path.suffix.lower() in LISTS:
        found = [line for line in _text(path).splitlines() if line.strip()]
    else:
        found = [row[0] for row in _columns(path, (QUESTION,))]
    if not found:
        raise ValueError(f"{path} holds no question.")
    return found


def _refuse_lost_file(given: list[str]) -> None:
    """A single word that ends like a file is no question."""
    word = given[0]
    if len(given) == 1 and len(word.split()) == 1 and word.lower().endswith(ENDS):
        raise ValueError(f"{word} does not exist, or is no file.")


def _pairs(file: str) -> tuple[list[str], list[Any]]:
    """Questions, and of each the answers that are right."""
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{file} does not exist, or is no file.")
    rows = _columns(path, (QUESTION, ANSWER))
    several = [[each.strip() for each in row[1].split(BETWEEN) if each.strip()] for row in rows]
    return [row[0] for row in rows], [each or None for each in several]


def _columns(path: Path, wanted: tuple[str, ...]) -> list[list[str]]:
    """The cells of the columns of these names, as they are written."""
    from conjoin.codecs.table.read import read_table

    frame, _ = read_table(path, as_written=wanted)
    names = {str(name).strip().casefold(): name for name in frame}
    for name in wanted:
        if name not in names:
            there = ", ".join(map(repr, map(str, frame)))
            raise ValueError(f"{path} has no column {name!r}; there are {there}.")
    chosen = frame[[names[name] for name in wanted]]
    cells = chosen.astype(object).where(chosen.notna(), "")
    return [[str(cell) for cell in row] for row in cells.itertuples(index=False)]


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES:,} bytes: ask fewer questions.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: save it so.") from None
