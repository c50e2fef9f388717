"""What is kept of the questions by which a model of texts was calibrated: numbers about them, never
the questions.

Half of the questions say how answers are scored and which questions are usual; the other half,
which no choice has seen, says which score keeps a promise.

Shape letters: N held-out questions, M of them that were answered rightly, R readings, F hidden
states.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.calibration.answer_score import AnswerScore
from conjoin.calibration.conformal import Calibration, rows_for_error, rows_for_false_alarm
from conjoin.codecs.templates import Template
from conjoin.components.typicality import KEPT_AXES, Typicality

__all__ = ["AnswerCalibration", "AnswerSettings", "QuestionReadings"]

HELD_OUT = 2  # questions that are needed for each that is held out
USUAL_RISK = 0.1
USUAL_FALSE_ALARM = 0.05
SCORE = "score."  # what the names of tensors begin with
USUAL = "usual."


@dataclass(frozen=True)
class AnswerSettings:
    """How questions are asked and answers are written.

    Attributes
    ----------
    draws
        Of each question, beside the most probable answer.
    max_tokens
        Of an answer.
    template, marks
        How a conversation reads as a text, in jinja2, and the tokens that it may write by name.
    entailed
        Whether an entailment function was given, without which answers can't be compared.
    """

    draws: int
    max_tokens: int
    template: str
    marks: dict[str, str]
    entailed: bool = False

    @property
    def conversation(self) -> Template:
        """How a question reads as a prompt."""
        return Template(self.template, self.marks)


@dataclass(frozen=True)
class QuestionReadings:
    """Of N questions: ``readings`` (N, R) of their answers, ``states`` (N, F) behind each answer,
    and ``question`` (N, Q) and ``question_states`` (N, F), which are of the question alone."""

    readings: np.ndarray
    states: np.ndarray
    question: np.ndarray
    question_states: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """(N, 2 F) behind the question and behind its answer."""
        return np.concatenate([self.question_states, self.states], 1)

    def take(self, rows: np.ndarray) -> "QuestionReadings":
        """Some of the questions."""
        parts = (self.readings, self.states, self.question, self.question_states)
        return QuestionReadings(*(part[rows] for part in parts))

    @property
    def of_question(self) -> list[Tensor]:
        """What tells usual questions from others."""
        own = [torch.as_tensor(self.question)]
        some = self.question_states.shape[1]
        return [*own, torch.as_tensor(self.question_states)] if some else own


class UsualQuestions:
    """Knows usual questions by their readings."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.typicality = Typicality(sizes, tuple(min(size, KEPT_AXES) for size in sizes))

    def statistic(self, found: QuestionReadings) -> np.ndarray:
        """(N,): larger is more usual."""
        with torch.no_grad():
            out: np.ndarray = self.typicality(found.of_question).numpy()
        return out

    @classmethod
    def learned(cls, found: QuestionReadings) -> "UsualQuestions":
        parts = found.of_question
        usual = cls(tuple(part.shape[1] for part in parts))
        usual.typicality.fit(parts)
        return usual


@dataclass(frozen=True)
class AnswerCalibration:
    """``statistic`` (M,) of familiarity of the held-out questions that were answered rightly, or of
    all of them where these are too few;
    ``confidence`` (N,), ``wrong`` (N,) and ``familiarity`` (N,) of all that were held out."""

    settings: AnswerSettings
    score: AnswerScore
    usual: UsualQuestions
    statistic: np.ndarray
    confidence: np.ndarray
    wrong: np.ndarray
    familiarity: np.ndarray

    @property
    def questions(self) -> int:
        """How many were held out."""
        return len(self.confidence)

    def p_value(self, found: QuestionReadings) -> np.ndarray:
        """(N,) conformal p-values: the rank of each question's familiarity among those of
        ``statistic``."""
        return Calibration(self.statistic).p_value(self.usual.statistic(found))

    @property
    def ranked_among(self) -> str:
        """Which questions familiarity is ranked among, in words."""
        own = len(self.statistic) == int((~self.wrong).sum())
        return "questions that I answer rightly" if own else "questions that I was calibrated on"

    @property
    def usual_risk(self) -> float:
        """``USUAL_RISK``, or the least that so few questions can promise."""
        return max(USUAL_RISK, 1.000001 * self.least_risk)

    @property
    def usual_false_alarm(self) -> float:
        """As ``usual_risk``."""
        return max(USUAL_FALSE_ALARM, 1.000001 / (len(self.statistic) + 1))

    @property
    def least_risk(self) -> float:
        """Of accepted answers, that so many held-out questions can promise at all."""
        return 1 - 0.05 ** (1 / self.questions)

    def figures(self) -> dict[str, Any]:
        """What the held-out questions say: how many there are (``held_out``), the share of them
        that was answered rightly, the risks that can be asked for, and at the usual ones the share
        that is accepted (0 where no confidence keeps the risk)."""
        least = self.threshold(self.usual_risk, self.usual_false_alarm)
        taken = (self.confidence >= least) & (self.familiarity > self.usual_false_alarm)
        return {
            "held_out": self.questions,
            "right": 1 - float(self.wrong.mean()),
            "scored_by": self.score.uses,
            "least_risk": self.least_risk,
            "risk": self.usual_risk,
            "accepted": float(taken.mean()),
        }

    def threshold(self, max_risk: float, false_alarm: float) -> float:
        """Least confidence to accept; inf where none keeps the risk. ValueError with the number of
        questions that are needed, where they are too few to promise a rate."""
        for name, rate in (("max_risk", max_risk), ("false_alarm", false_alarm)):
            if not 0 < rate < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {rate!r}.")
        needed = rows_for_error(max_risk)
        if self.questions < needed:
            raise ValueError(
                f"A risk of {max_risk:g} needs {HELD_OUT * needed:,} calibration questions, half "
                f"of which are held out, and there were {HELD_OUT * self.questions:,}: ask for a "
                "larger risk, or call calibrate(questions, answers) with more."
            )
        needed = rows_for_false_alarm(false_alarm)
        if len(self.statistic) < needed:
            raise ValueError(
                f"A false-alarm rate of {false_alarm:g} needs {needed:,} held-out questions "
                f"to rank among, and there were {len(self.statistic):,}: ask for a "
                "larger rate, or call calibrate(questions, answers) with more."
            )
        familiar = self.familiarity > false_alarm
        return Calibration.least_confidence(
            self.confidence[familiar], self.wrong[familiar], max_risk
        )

    # ------------------------------------------------------------------ saving

    def to_json(self) -> dict[str, Any]:
        """All but the arrays."""
        score = {name: getattr(self.score, name) for name in ("bias", "uses", "gain", "error")}
        return {"settings": asdict(self.settings), "score": score, "sizes": list(self.usual.sizes)}

    def to_tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        own = {name: getattr(self, name) for name in ARRAYS}
        own |= {f"{SCORE}{name}": getattr(self.score, name) for name in WEIGHTS}
        usual = self.usual.typicality.state_dict()
        out = {name: torch.as_tensor(value) for name, value in own.items()}
        return out | {f"{USUAL}{name}": value for name, value in usual.items()}

    @classmethod
    def restored(cls, told: dict[str, Any], tensors: dict[str, Tensor]) -> "AnswerCalibration":
        """The inverse of ``to_json`` and ``to_tensors``."""
        usual = UsualQuestions(tuple(int(size) for size in told["sizes"]))
        own = {
            name.removeprefix(USUAL): value
            for name, value in tensors.items()
            if name.startswith(USUAL)
        }
        usual.typicality.load_state_dict(own)
        weights: Any = {name: tensors[f"{SCORE}{name}"].numpy() for name in WEIGHTS}
        score = AnswerScore(**weights, **told["score"])
        arrays = {name: tensors[name].numpy() for name in ARRAYS}
        return cls(AnswerSettings(**told["settings"]), score, usual, **arrays)


ARRAYS = ("statistic", "confidence", "wrong", "familiarity")
WEIGHTS = ("weight", "hidden_weight")
