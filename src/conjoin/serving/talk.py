"""A model of texts as what continues them: its tokens, its turns, and the alarm before an answer.

The verdict is about the text that is to be continued, or about the last message of a conversation,
before anything is written; so a stream and an answer at once say the same. It is unfamiliar where
it is so among the calibration rows, which are whole texts or prompts, as ``calibrate`` was given
them; and where whole texts taught the model, only if it is no usual beginning of its draws either.
The larger of two p-values of which one is valid is valid, so the false-alarm rate is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from conjoin.calibration.answers import USUAL_FALSE_ALARM
from conjoin.codecs.templates import Template, codes_of_turns, refuse_disorder
from conjoin.codecs.tokens import Tokens, special_tokens
from conjoin.core import Density, Encoded, Event, stream
from conjoin.marking.watermark import Watermark
from conjoin.model.model import Model
from conjoin.questions.answers.asking import answering
from conjoin.questions.decide import ACCEPT, AMBIGUOUS, UNFAMILIAR
from conjoin.questions.explain import reasons
from conjoin.serving.continuation import Continuation, Wish
from conjoin.serving.prefixes import Prefixes
from conjoin.util.steps import Steps, finished

__all__ = ["TextModel", "Verdict"]

NOT_CALIBRATED = "the model has no calibration rows: call calibrate(prompts)"
TOO_CERTAIN = (
    "too little of the answer was left to chance, or it is too short, for its watermark to be found"
)
SHOWN_CHARACTERS = 40  # of a text in a message
DRAWS = 64  # texts of the model, whose beginnings are usual ones
MIN_BEGINNINGS = 20  # fewer can't tell what is usual


@dataclass(frozen=True)
class Verdict:
    """``verdict``: "accept", "ambiguous" or "unfamiliar", None where the model is not calibrated;
    ``familiarity``: the conformal p-value of the text. Of a model that was calibrated on questions
    the verdict is about the most probable answer, ``best``: ``confidence``, the probability that it
    is right, and ``alternatives``, all answers that were drawn with their shares."""

    verdict: str | None
    familiarity: float | None
    reason: str
    confidence: float | None = None
    best: str | None = None
    alternatives: tuple[tuple[str, float], ...] = ()

    @property
    def refused(self) -> bool:
        return self.verdict in (UNFAMILIAR, AMBIGUOUS)

    @property
    def of_answer(self) -> bool:
        """Whether it is about an answer, not about what was asked alone."""
        return self.confidence is not None

    @property
    def refusal(self) -> str:
        """A sentence for whoever has asked."""
        if self.of_answer:
            return f"I do not answer, as I may well be wrong: {self.reason}."
        why = f": {self.reason}" if self.reason else ""
        return f"I have not learned from texts like this one, so I do not answer{why}."

    def about(self) -> dict[str, Any]:
        """What clients are told of it."""
        told = {
            "verdict": self.verdict,
            "familiarity": self.familiarity,
            "reason": self.reason,
        }
        if not self.of_answer:
            return told
        drawn = [{"text": text, "share": share} for text, share in self.alternatives]
        return {**told, "confidence": self.confidence, "alternatives": drawn}


@dataclass
class TextModel:
    """A model of texts that answers. ``template``: how a conversation reads as a text;
    ``watermark``: that answers carry, if any."""

    model: Model
    template: Template = field(default_factory=Template)
    watermark: Watermark | None = None

    @property
    def density(self) -> Density:
        return self.model.joint

    @property
    def tokens(self) -> Tokens:
        found: Tokens = self.model.codec.wording.tokens
        return found

    @property
    def capacity(self) -> int:
        """Tokens of the longest text."""
        return int(self.density.space.shape[0])

    # ------------------------------------------------------------------ the text so far

    def codes_of_text(self, text: str, name: str) -> list[int]:
        """ValueError names the field for a text with unknown characters, or a longer one than the
        model reads; one that is far too long is not even cut into tokens."""
        self.refuse_long(text, name)
        codes = self.tokens.codes(text)
        if -1 in codes:
            known = self.tokens.text(codes[: codes.index(-1)])
            raise ValueError(
                f"{name} has {text[len(known) :][:SHOWN_CHARACTERS]!r} behind {len(known):,} "
                f"characters, which begins with what the model has never seen."
            )
        return self.checked(codes, name)

    def refuse_long(self, text: str, name: str) -> None:
        """ValueError for more characters than so many of the longest tokens have."""
        if len(text) > self._longest * self.capacity:
            raise ValueError(
                f"{name} has {len(text):,} characters, and the model reads at most "
                f"{self.capacity:,} {self.tokens.word}."
            )

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self.tokens.names), default=1)

    @cached_property
    def _marks(self) -> dict[str, int]:
        """The tokens that stand for no text, with their codes."""
        return special_tokens(self.tokens)

    @cached_property
    def _structure(self) -> Mapping[str, Any]:
        """Of a pretrained network, with the token that begins a text and those that end one."""
        return self.density.structure

    def checked(self, codes: Sequence[int], name: str) -> list[int]:
        """Codes that the model knows, and no more than it reads."""
        size = len(self.tokens.names)
        if len(codes) > self.capacity:
            raise ValueError(
                f"{name} has {len(codes):,} {self.tokens.word}, and the model reads at most "
                f"{self.capacity:,}."
            )
        wrong = [code for code in codes if not 0 <= code < size]
        if wrong:
            raise ValueError(f"{name} has the token {wrong[0]}; tokens are 0 to {size - 1:,}.")
        return list(codes)

    def behind_start(self, codes: Sequence[int], name: str) -> list[int]:
        """``checked``, without the token that begins a text: the density has it before every
        text."""
        begins = bool(codes) and codes[0] == self._structure.get("start")
        return self.checked(codes[1:] if begins else codes, name)

    def refuse_ends(self, codes: Sequence[int], name: str) -> None:
        """ValueError for a token that ends a text: log p of what follows it is no number."""
        ends = set(self._structure.get("ends", ()))
        place = next((place for place, code in enumerate(codes) if code in ends), None)
        if place is not None:
            raise ValueError(
                f"{name} has the token {codes[place]} behind {place:,} others, which ends a text, "
                "so that log p of the prompt is no number: leave it out, or ask without logprobs."
            )

    @staticmethod
    def refuse_disorder(messages: Sequence[Mapping[str, str]]) -> None:
        """ValueError where turns do not follow each other."""
        refuse_disorder([turn["role"] for turn in messages])

    def codes_of_turns(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The text so far of a conversation; what a message says is never one of the template's
        marks."""
        self.refuse_disorder(messages)
        self.refuse_long("".join(turn["content"] for turn in messages), "messages")
        for place, turn in enumerate(messages):
            self.codes_of_text(turn["content"], f"messages.{place}.content")
        codes = codes_of_turns(
            self.template, messages, self._marks, lambda part: self.codes_of_text(part, "messages")
        )
        return self.behind_start(codes, "messages")

    # ------------------------------------------------------------------ answers

    def continuation(self, codes: Sequence[int], wish: Wish) -> Continuation:
        wish = replace(wish, watermark=self.watermark)
        return Continuation(self.density, self.tokens, codes, wish, self.prefixes)

    @cached_property
    def prefixes(self) -> Prefixes:
        """What was read before, which the next turn begins with."""
        return Prefixes(self.density)

    def watermarked(self, said: str, wish: Wish) -> dict[str, Any]:
        """Whether an answer carries the watermark, as whoever has the key will find it."""
        if self.watermark is None:
            return {"on": False, "reason": "the server has no key for one"}
        if wish.sampling is None:
            return {"on": False, "reason": "the most probable tokens are taken, none is drawn"}
        found = self.watermark.found(self.tokens.codes(said))
        told = {"on": True, "p_value": found.p_value, "tokens": found.tokens}
        return told if found.there else {**told, "reason": TOO_CERTAIN}

    def verdict_of_turns(
        self,
        messages: Sequence[Mapping[str, str]],
        false_alarm: float | None,
        max_risk: float | None = None,
    ) -> Verdict:
        """Of a model that was calibrated on questions, the verdict on its answer to the last
        message behind those before; else that on the last message. The rates are the usual ones
        where they are None."""
        return finished(self.judging(messages, false_alarm, max_risk))

    def judging(
        self,
        messages: Sequence[Mapping[str, str]],
        false_alarm: float | None,
        max_risk: float | None = None,
    ) -> Steps[Verdict]:
        """``verdict_of_turns`` in steps: a step is a token of all answers that are drawn."""
        if self.judges_answers:
            return (yield from self._judging_answer(messages, false_alarm, max_risk))
        if max_risk is not None:
            raise ValueError(
                "max_risk is of answers that can be judged, and this model was not calibrated on "
                "questions and answers that are asked in this way: leave it out, or calibrate the "
                "model."
            )
        text = messages[-1]["content"]
        return self.verdict(text, USUAL_FALSE_ALARM if false_alarm is None else false_alarm)

    @property
    def judges_answers(self) -> bool:
        """Whether the model was calibrated on questions, and is asked as these were."""
        known = self.model.answers
        own = self.template
        if known is not None and known.settings.entailed:  # which only Python has
            return False
        return known is not None and (own.source, own.named) == (
            known.settings.template,
            known.settings.marks,
        )

    def _judging_answer(
        self,
        messages: Sequence[Mapping[str, str]],
        false_alarm: float | None,
        max_risk: float | None,
    ) -> Steps[Verdict]:
        known: Any = self.model.answers
        risk = known.usual_risk if max_risk is None else max_risk
        alarm = known.usual_false_alarm if false_alarm is None else false_alarm
        table = yield from answering(
            self.model, [messages], max_risk=risk, false_alarm=alarm, read=self.prefixes.read
        )
        found = table.iloc[0]
        return Verdict(
            found["verdict"],
            float(found["familiarity"]),
            found["reason"],
            float(found["confidence"]),
            found["best_guess"],
            tuple(found["alternatives"]),
        )

    def verdict(self, text: str, false_alarm: float) -> Verdict:
        """Of a text whose end is not yet known."""
        if self.model.calibration is None:
            return Verdict(None, None, NOT_CALIBRATED)
        self.model.calibrated.check_false_alarm(false_alarm)
        rows = self.model.rows([text])
        encoded = self.model.encode(rows)
        event = encoded.event
        encoded = encoded._replace(event=event._replace(observed=event.mask & event.there))
        familiarity = float(self.model.p_value(encoded)[0])
        # draws of a pretrained model without a prompt are nothing usual
        if familiarity <= false_alarm and not self.tokens.brought:
            familiarity = max(familiarity, self._as_beginning(encoded))
        if familiarity > false_alarm:
            return Verdict(ACCEPT, familiarity, "")
        why = reasons(self.model, rows, encoded, np.array([0]), false_alarm)
        return Verdict(UNFAMILIAR, familiarity, why[0])

    @cached_property
    def _draws(self) -> Event:
        """Texts that the model draws for itself, always the same."""
        noise = stream(self.model.state.seed, "beginnings")
        found: Event = self.density.sample(DRAWS, generator=noise)
        return found

    def _as_beginning(self, encoded: Encoded) -> float:
        """The rank of one text among beginnings of the model's draws with as many tokens; 0 where
        there are few."""
        count = int(encoded.event.known.sum())
        drawn = self._draws
        long = drawn.there.sum(1) >= count
        if not count or int(long.sum()) < MIN_BEGINNINGS:
            return 0.0
        value = torch.zeros(int(long.sum()), self.capacity, dtype=torch.int64)
        value[:, :count] = drawn.value[long, :count]
        known = (torch.arange(self.capacity) < count).expand(value.shape)
        beginnings = Event(value, known, known)
        nothing = torch.zeros(len(value), dtype=torch.float64)
        usual = self.model.familiarity.statistic(beginnings, nothing)
        own = float(self.model.statistic(encoded)[0])
        return float(1 + (usual <= own).sum()) / (len(value) + 1)

    def embeddings(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """The model's features of texts, given as codes."""
        value = torch.zeros(len(texts), self.capacity, dtype=torch.int64)
        there = torch.zeros(value.shape, dtype=torch.bool)
        for row, codes in enumerate(texts):
            value[row, : len(codes)] = torch.tensor(codes, dtype=torch.int64)
            there[row, : len(codes)] = True
        found: Any = self.density.features(Event(value, None, there))
        return list(found.tolist())
