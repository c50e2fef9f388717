"""Answers to questions, each with a verdict.

accept       the answer's score keeps the promise on errors
ambiguous    two answers are probable, or the one answer is not sure enough
unfamiliar   the question is none like those that were answered rightly, or the draws give an answer
             each time another
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conjoin.calibration.answer_score import fit_score
from conjoin.calibration.answers import (
    USUAL_FALSE_ALARM,
    AnswerCalibration,
    AnswerSettings,
    QuestionReadings,
    UsualQuestions,
)
from conjoin.calibration.conformal import Calibration, rows_for_false_alarm
from conjoin.codecs.templates import Template, refuse_disorder
from conjoin.core import stream
from conjoin.core.warnings import ColumnWarning
from conjoin.model.model import Model
from conjoin.questions.answers.meaning import Entails, Meaning
from conjoin.questions.answers.prompts import (
    Conversation,
    Prompter,
    continues_texts,
    question_of,
    template_of,
)
from conjoin.questions.answers.readings import Said, read_answers, said_of
from conjoin.questions.answers.writing import Read, Writing, writing_steps
from conjoin.questions.decide import ACCEPT, AMBIGUOUS, UNFAMILIAR
from conjoin.util.steps import Steps, finished

__all__ = [
    "Asked",
    "Lesson",
    "answer",
    "answering",
    "ask",
    "calibrated",
    "learned",
    "settings_of",
    "verdicts",
]

MIN_QUESTIONS = 40  # to calibrate by
MIN_RIGHT = 20  # of them, that say which questions are usual; else all of them do
MIN_DRAWS = 2  # fewer never differ
MOST = {"draws": 64, "max_tokens": 4_096}
NEXT_SHARE = 0.2  # of the draws, from which on another answer is probable too
BOTH_SHARE = 0.6  # of the draws, that the two most probable answers have
SHOWN_CHARACTERS = 60  # of an answer in a reason
IN_CONTEXT = (
    "judged behind what was said before, while the risk was bounded on questions asked by "
    "themselves"
)
NO_CONFIDENCE = "no confidence keeps the asked risk on the calibration questions"


@dataclass(frozen=True)
class Asked:
    """Questions with what was answered; ``unread`` says why a question can't be read, and of those
    that can there are ``writings``, what they ``said``, and readings, in order of ``rows``."""

    questions: list[str]
    unread: list[str]
    rows: np.ndarray
    writings: list[Writing]
    said: list[Said]
    found: QuestionReadings


@dataclass(frozen=True)
class Lesson:
    """What questions with known answers have taught: what answers are judged by, and ``told``, of
    the model's card: how many questions were ``given``, how many of them are ``different``, how
    many of these could be ``read``, and how many of those were answered rightly (``right``)."""

    known: AnswerCalibration
    told: dict[str, int]


def ask(
    model: Model,
    questions: Sequence[Conversation],
    settings: AnswerSettings,
    entails: Entails | None,
) -> Asked:
    """The most probable answer and draws, to each question."""
    return finished(_asking(model, questions, settings, entails, None))


def _asking(
    model: Model,
    questions: Sequence[Conversation],
    settings: AnswerSettings,
    entails: Entails | None,
    read: Read | None,
) -> Steps[Asked]:
    """As ``ask``; ``read``: what all prompts begin with is read so."""
    if bool(entails) != settings.entailed:
        raise ValueError(
            "The model was calibrated with an entailment function, so give it again as entails: "
            "functions are not saved."
            if settings.entailed
            else "entails was not given to calibrate: calibrate with it, or leave it out."
        )
    for row, question in enumerate(questions):
        _refuse_no_question(row, question)
    asked = [question_of(question) for question in questions]
    prompts = Prompter(model, settings.conversation).prompts(questions)
    rows = np.array([row for row, codes in enumerate(prompts.codes) if codes], dtype=np.int64)
    writings = yield from writing_steps(
        model.joint,
        model.codec.wording.tokens,
        [prompts.codes[row] for row in rows],
        draws=settings.draws,
        max_tokens=settings.max_tokens,
        seed=model.state.seed,
        read=read,
    )
    yield
    said = [
        said_of(each, Meaning(asked[row], entails))
        for row, each in zip(rows, writings, strict=True)
    ]
    found = read_answers(model.joint, writings, said, [prompts.asked[row] for row in rows])
    return Asked(asked, prompts.unread, rows, writings, said, found)


def _refuse_no_question(row: int, asked: Any) -> None:
    """ValueError for what is neither a text nor a conversation that ends with a question."""
    if isinstance(asked, str):
        return
    turns = list(asked) if isinstance(asked, Sequence) else []
    for turn in turns:
        told = isinstance(turn, Mapping) and {"role", "content"} <= set(turn)
        if not told or not all(isinstance(turn[key], str) for key in ("role", "content")):
            turns = []
            break
    if not turns:
        raise ValueError(
            f"Question {row} is {asked!r:.60}: give a text, or the messages of a conversation, "
            "each with its role and content."
        )
    refuse_disorder([turn["role"] for turn in turns])


# ------------------------------------------------------------------------------------ calibration


def settings_of(
    model: Model, draws: int, max_tokens: int, template: str | None, entails: Entails | None
) -> AnswerSettings:
    """How questions are asked; ValueError for a model that answers none, or too few draws."""
    if not continues_texts(model):
        raise ValueError(
            "Only a model of texts alone, which tells them token by token, answers questions: "
            "fit JointDensity to texts, or take one from a folder by from_pretrained."
        )
    for name, value, least in (("draws", draws, MIN_DRAWS), ("max_tokens", max_tokens, 1)):
        if not isinstance(value, int) or not least <= value <= MOST[name]:
            raise ValueError(f"{name} must be {least} to {MOST[name]:,}, got {value!r}.")
    own = template_of(model) if template is None else Template(template)
    return AnswerSettings(draws, max_tokens, own.source, own.named, entails is not None)


def calibrated(
    model: Model,
    questions: Sequence[str],
    answers: Sequence[Any],
    settings: AnswerSettings,
    entails: Entails | None = None,
) -> Lesson:
    """What questions with known answers say of how far the model's answers can be trusted.

    Parameters
    ----------
    model
        Of texts.
    questions
        At least ``MIN_QUESTIONS`` that can be read.
    answers
        Of each question the right answer, several that are right, or None where none is.
    settings
        How they are asked.
    entails
        An entailment function.
    """
    if len(questions) != len(answers):
        raise ValueError(
            f"There are {len(questions):,} questions and {len(answers):,} answers: one for each."
        )
    _refuse_few(len(questions))
    for row, question in enumerate(questions):
        if not isinstance(question, str):
            raise ValueError(f"Question {row} is {question!r:.60}, no text.")
    accepted = [_accepted(row, each) for row, each in enumerate(answers)]
    given = len(questions)
    questions, accepted = _once(questions, accepted)
    _refuse_few(len(questions))
    asked = ask(model, questions, settings, entails)
    _tell_unread(asked)
    _refuse_few(len(asked.rows))
    right = np.array(
        [
            Meaning(asked.questions[row], entails).is_right(each.best.text, accepted[row])
            for row, each in zip(asked.rows, asked.writings, strict=True)
        ]
    )
    told = {"given": given, "different": len(questions), "read": len(asked.rows)}
    known = learned(asked.found, right, settings, model.state.seed)
    return Lesson(known, {**told, "right": int(right.sum())})


def learned(
    found: QuestionReadings,
    right: np.ndarray,
    settings: AnswerSettings,
    seed: int = 0,
) -> AnswerCalibration:
    """The score from half of the different questions, and its promises from the other half."""
    rng = np.random.default_rng(int(stream(seed, "halves of questions").initial_seed() % (1 << 32)))
    order = rng.permutation(len(right))
    teach = np.sort(order[: len(right) // 2])
    held = np.sort(order[len(right) // 2 :])
    of_teach = found.take(teach)
    score = fit_score(of_teach.readings, of_teach.hidden, right[teach], rng)
    usual = UsualQuestions.learned(found.take(_enough(teach, right, MIN_RIGHT)))
    known = _enough(held, right, rows_for_false_alarm(USUAL_FALSE_ALARM))
    if not right[known].all():
        warnings.warn(
            f"Of the {len(held):,} held-out questions {int(right[held].sum()):,} were answered "
            "rightly, too few to tell usual questions by: familiarity is a rank among all of them.",
            ColumnWarning,
            stacklevel=5,
        )
    statistic = usual.statistic(found.take(known))
    rest = found.take(held)
    return AnswerCalibration(
        settings,
        score,
        usual,
        statistic,
        score.confidence(rest.readings, rest.hidden),
        ~right[held],
        Calibration(statistic).p_value(usual.statistic(rest)),
    )


def _enough(rows: np.ndarray, right: np.ndarray, least: int) -> np.ndarray:
    """Those that were answered rightly, or all where these are few."""
    known = rows[right[rows]]
    return known if len(known) >= least else rows


def _key(question: str) -> str:
    return question.strip().casefold()


def _once(
    questions: Sequence[str], accepted: Sequence[tuple[str, ...]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Each question once, as a copy is no evidence; what any of its rows calls right is right."""
    merged: dict[str, tuple[str, tuple[str, ...]]] = {}
    unlike = 0
    for question, right in zip(questions, accepted, strict=True):
        first, before = merged.setdefault(_key(question), (question, right))
        unlike += set(before) != set(right)
        merged[_key(question)] = (first, tuple(dict.fromkeys((*before, *right))))
    repeats = len(questions) - len(merged)
    if repeats:
        text = f"{repeats:,} of {len(questions):,} questions were asked before, and count once"
        if unlike:
            text += f"; {unlike:,} of them have other answers, and all of these are right"
        warnings.warn(f"{text}.", ColumnWarning, stacklevel=4)
    return [first for first, _ in merged.values()], [right for _, right in merged.values()]


def _refuse_few(count: int) -> None:
    if count < MIN_QUESTIONS:
        raise ValueError(
            f"{MIN_QUESTIONS} different questions that the model can read are needed to calibrate "
            f"by, half of which say how to score answers; these are {count}."
        )


def _tell_unread(asked: Asked) -> None:
    """Questions that teach nothing, as they are never answered."""
    unread = [row for row, why in enumerate(asked.unread) if why]
    if unread:
        warnings.warn(
            f"{len(unread):,} of {len(asked.questions):,} questions can't be read and are left "
            f"out, the first is question {unread[0]}: {asked.unread[unread[0]]}.",
            ColumnWarning,
            stacklevel=4,
        )


def _accepted(row: int, answer: Any) -> tuple[str, ...]:
    """The answers that are right; none where nothing is."""
    if answer is None or (isinstance(answer, float) and np.isnan(answer)):
        return ()
    several = answer if isinstance(answer, list | tuple | set | frozenset) else (answer,)
    for each in several:
        if not isinstance(each, str | int | float):
            raise ValueError(
                f"The answer to question {row} is {answer!r:.60}: give a text, a number, a list of "
                "texts that are right, or None where no answer is."
            )
    return tuple(str(each) for each in several if str(each).strip())


# ---------------------------------------------------------------------------------------- answers


def answer(
    model: Model,
    questions: Sequence[Conversation],
    *,
    max_risk: float = 0.1,
    false_alarm: float = 0.05,
    entails: Entails | None = None,
) -> pd.DataFrame:
    """Answers with verdicts, a row for each question: see ``JointDensity.answer``."""
    return finished(
        answering(model, questions, max_risk=max_risk, false_alarm=false_alarm, entails=entails)
    )


def answering(
    model: Model,
    questions: Sequence[Conversation],
    *,
    max_risk: float,
    false_alarm: float,
    entails: Entails | None = None,
    read: Read | None = None,
) -> Steps[pd.DataFrame]:
    """``answer`` in steps; ``read``: what all prompts begin with is read so."""
    if model.answers is None:
        raise ValueError(
            "Nothing is known of how far this model's answers can be trusted: call "
            "calibrate(questions, answers) with questions whose answers are known."
        )
    model.answers.threshold(max_risk, false_alarm)  # refused before anything is asked
    asked = yield from _asking(model, questions, model.answers.settings, entails, read)
    table = verdicts(model.answers, asked, max_risk, false_alarm)
    for row, question in enumerate(questions):
        if not isinstance(question, str) and [turn["role"] for turn in question] != ["user"]:
            reason = str(table.at[row, "reason"])
            table.at[row, "reason"] = f"{reason}; {IN_CONTEXT}" if reason else IN_CONTEXT
    return table


def verdicts(
    known: AnswerCalibration, asked: Asked, max_risk: float, false_alarm: float
) -> pd.DataFrame:
    """What the answers to questions are worth."""
    needed = known.threshold(max_risk, false_alarm)
    familiarity = known.p_value(asked.found)
    confidence = known.score.confidence(asked.found.readings, asked.found.hidden)
    rows: list[dict[str, Any]] = [
        _row(UNFAMILIAR, f"the question can't be read: {why}") for why in asked.unread
    ]
    for place, row in enumerate(asked.rows):
        said = asked.said[place]
        p = float(familiarity[place])
        sure = float(confidence[place])
        verdict, reason = _judged(said, sure, needed, p, false_alarm, known.ranked_among)
        best = asked.writings[place].best
        rows[row] = {
            **_row(verdict, reason),
            "answer": said.texts[0] if verdict == ACCEPT else None,
            "best_guess": said.texts[0],
            "confidence": sure,
            "familiarity": p,
            "log_prob": best.total,
            "agreement": said.agreement,
            "entropy": said.entropy,
            "alternatives": list(zip(said.texts, said.shares, strict=True)),
        }
    table = pd.DataFrame(rows, columns=list(_row("", "")))
    table.insert(0, "question", asked.questions)
    table["answer"] = table["answer"].astype(object).where(table["verdict"] == ACCEPT, None)
    table.attrs["confidence_needed"] = needed
    return table


def _row(verdict: str, reason: str) -> dict[str, Any]:
    """Of a question that was not answered."""
    return {
        "answer": None,
        "verdict": verdict,
        "reason": reason,
        "best_guess": None,
        "confidence": 0.0,
        "familiarity": 0.0,
        "log_prob": float("nan"),
        "agreement": 0.0,
        "entropy": float("nan"),
        "alternatives": [],
    }


def _judged(
    said: Said,
    confidence: float,
    needed: float,
    familiarity: float,
    false_alarm: float,
    among: str,
) -> tuple[str, str]:
    """The verdict, and why."""
    if familiarity <= false_alarm:
        return UNFAMILIAR, (
            f"I have never heard of anything like it: of the {among}, "
            f"{familiarity:.1%} are as strange"
        )
    if confidence >= needed:
        return ACCEPT, ""
    first = f"{_shown(said.texts[0])} ({said.agreement:.0%} of the draws)"
    short = _falls_short(confidence, needed)
    if said.next_share >= NEXT_SHARE and said.agreement + said.next_share >= BOTH_SHARE:
        place = int(np.argmax(said.shares[1:])) + 1
        second = f"{_shown(said.texts[place])} ({said.shares[place]:.0%})"
        return AMBIGUOUS, f"two answers are probable, {first} and {second}; {short}"
    if said.agreement < 0.5 and max(said.shares) < 0.5:
        count = sum(share > 0 for share in said.shares)
        return UNFAMILIAR, f"I would guess: the draws give {count} different answers; {short}"
    if confidence < 0.5:
        return UNFAMILIAR, f"I would say {first}, and am mostly wrong in such cases; {short}"
    return AMBIGUOUS, f"I would say {first}, and am not sure enough; {short}"


def _falls_short(confidence: float, needed: float) -> str:
    """Both with as many digits as part them."""
    if np.isinf(needed):
        return f"sure to {confidence:.0%}, {NO_CONFIDENCE}"
    digits = next((d for d in range(4) if f"{confidence:.{d}%}" != f"{needed:.{d}%}"), 4)
    return f"sure to {confidence:.{digits}%} where {needed:.{digits}%} is needed"


def _shown(text: str) -> str:
    short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return repr(short)
