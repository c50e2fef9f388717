"""Questions as prompts: what a model of texts is to continue, in its own tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from conjoin.codecs.templates import Template, codes_of_turns, template_from
from conjoin.codecs.tokens import Tokens, special_tokens
from conjoin.model.model import Model

__all__ = ["Conversation", "Prompter", "Prompts", "continues_texts", "question_of", "template_of"]

SHOWN_CHARACTERS = 40  # of what can't be read, in a reason

Turns = Sequence[Mapping[str, str]]  # role and content of each; the last one asks
Conversation = str | Turns  # a question by itself, or behind what was said before


class Prompts(NamedTuple):
    """``codes`` of each question that can be read, else none, with ``unread``, why not; ``asked``:
    where in the codes the question's own tokens stand, without what the template writes."""

    codes: list[list[int]]
    unread: list[str]
    asked: list[slice]


def continues_texts(model: Model) -> bool:
    """Whether the model has learned p(text) alone, token by token."""
    return (
        model.target is None
        and model.codec.wording is not None
        and not model.codec.columnwise
        and model.joint.capabilities.step
    )


def question_of(asked: Conversation) -> str:
    """What is asked, which is the last message."""
    return asked if isinstance(asked, str) else asked[-1]["content"]


def template_of(model: Model) -> Template:
    """How a conversation with the model reads as a text: as the folder or file of a pretrained
    network said when it was read, else turns in lines."""
    return template_from(model.joint.structure.get("template"))


@dataclass
class Prompter:
    """Reads questions, each as the last message of a conversation, by itself the first one."""

    model: Model
    template: Template

    def prompts(self, questions: Sequence[Conversation]) -> Prompts:
        """All of them."""
        alone = self._codes([], "")
        found = Prompts([], [], [])
        for question in questions:
            before = [] if isinstance(question, str) else question[:-1]
            codes, unread = self._readable(before, question_of(question))
            bare = self._codes(before, "") if codes and before else alone
            first = _alike(codes, bare)
            last = _alike(codes[first:][::-1], bare[first:][::-1])
            found.codes.append(codes)
            found.unread.append(unread)
            found.asked.append(slice(first, len(codes) - last))
        return found

    @property
    def tokens(self) -> Tokens:
        found: Tokens = self.model.codec.wording.tokens
        return found

    @property
    def capacity(self) -> int:
        """Tokens of the longest text."""
        return int(self.model.joint.space.shape[0])

    @cached_property
    def _marks(self) -> dict[str, int]:
        return special_tokens(self.tokens)

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self.tokens.names), default=1)

    @cached_property
    def _start(self) -> Any:
        """The token that begins a text, which the density has before every one."""
        return self.model.joint.structure.get("start")

    def _readable(self, before: Turns, question: str) -> tuple[list[int], str]:
        """Its codes behind those of what was said before, or none and why."""
        if not question.strip():
            return [], "it is empty"
        said = "".join([*(turn["content"] for turn in before), question])
        if len(said) > self._longest * self.capacity:
            return [], f"it has {len(said):,} characters, more than the model reads"
        try:
            codes = self._codes(before, question)
        except ValueError as error:
            return [], str(error).rstrip(".")
        if -1 in codes:
            strange = [word for word in said.split() if -1 in self.tokens.codes(word)]
            what = repr(" ".join(strange)[:SHOWN_CHARACTERS]) if strange else "blanks"
            return [], f"it has {what}, which the model has never seen"
        if len(codes) >= self.capacity:
            most = f"{self.capacity:,} {self.tokens.word}"
            return [], f"it has {len(codes):,} {self.tokens.word}, and a text may have {most}"
        return codes, ""

    def _codes(self, before: Turns, question: str) -> list[int]:
        turns = [*before, {"role": "user", "content": question}]
        codes = codes_of_turns(self.template, turns, self._marks, self.tokens.codes)
        return codes[1:] if codes and codes[0] == self._start else codes


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
