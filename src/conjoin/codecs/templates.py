"""Turns of a conversation, as the text that a model continues.

A pretrained model brings its own template along (chat_template, in jinja2). It runs in a sandbox,
and what people write can't become one of its marks: a mark in a message is tokenised as plain text.
Any other model has read texts, not turns: the turns stand in lines, one below the other.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conjoin.util.pretrained import chat_template_of

__all__ = [
    "LINES",
    "Template",
    "codes_of_turns",
    "refuse_disorder",
    "template_from",
    "template_in",
]

SYSTEM = ("system", "developer")
ROLES = (*SYSTEM, "user", "assistant")
# without a meaning; they stand for written marks
UNUSED_CHARACTERS = range(0xE000, 0xF900)
# of a template while it reads messages
FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
LINES = "{{ messages | map(attribute='content') | join('\\n') }}"


class Template:
    """``source`` in jinja2; ``marks``: the special tokens that it may write, by their names."""

    def __init__(self, source: str = LINES, marks: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.named = dict(marks or {})
        self.environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self.environment.globals["raise_exception"] = _refuse
        self.environment.globals["strftime_now"] = _now
        try:
            self._template = self.environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ValueError(f"The chat template is no jinja2: {error}.") from None

    @property
    def has_turns(self) -> bool:
        """Whether the model has learned who speaks."""
        return self.source != LINES

    def text(
        self, messages: Sequence[Mapping[str, str]], marks: Sequence[str]
    ) -> list[tuple[str, bool]]:
        """The text so far in parts, each with whether it is one of the ``marks``."""
        pattern = re.compile(
            "|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or "(?!)"
        )
        guard = _unused("".join(turn["content"] for turn in messages))
        written = {mark: f"{guard}{place}{guard}" for place, mark in enumerate(marks)}
        guarded = [
            {**turn, "content": pattern.sub(lambda found: written[found[0]], turn["content"])}
            for turn in messages
        ]
        try:
            whole = self._template.render(
                messages=guarded, add_generation_prompt=True, **self.named
            )
        except FAILURES as error:
            raise ValueError(f"The model's chat template refuses these messages: {error}") from None
        parts = re.split(f"({pattern.pattern})", whole) if marks else [whole]
        places = re.compile(f"{guard}([0-9]+){guard}")
        parts = [places.sub(lambda found: marks[int(found[1])], part) for part in parts]
        return [(part, bool(place % 2)) for place, part in enumerate(parts)]


def codes_of_turns(
    template: Template,
    messages: Sequence[Mapping[str, str]],
    marks: Mapping[str, int],
    read: Callable[[str], Sequence[int]],
) -> list[int]:
    """The text so far of a conversation; what a message says is never one of the template's
    ``marks``, which are tokens with their codes. ``read``: the codes of a part that is none."""
    codes: list[int] = []
    for part, is_mark in template.text(messages, list(marks)):
        codes += [marks[part]] if is_mark else read(part)
    return codes


def _unused(text: str) -> str:
    """A character that the text does not have."""
    there = set(text)
    return next(character for character in map(chr, UNUSED_CHARACTERS) if character not in there)


def _now(form: str) -> str:
    """The time of this server, as templates write the date of today."""
    return datetime.now().astimezone().strftime(form)


def _refuse(words: str) -> None:
    raise jinja2.TemplateError(words)


def refuse_disorder(roles: Sequence[str]) -> None:
    """ValueError where turns do not follow each other: the system first, at most once, then user
    and assistant in turn, a user last."""
    turns = list(roles[1:] if roles and roles[0] in SYSTEM else roles)
    first = len(roles) - len(turns)
    for place, role in enumerate(turns):
        wanted = ("user", "assistant")[place % 2]
        if role != wanted:
            raise ValueError(
                f"messages.{first + place}.role is {role!r} where {wanted!r} is due: an optional "
                "system message comes first, then user and assistant in turn."
            )
    if len(turns) % 2 == 0:
        raise ValueError("messages must end with one of the user, which is to be answered.")


def template_in(folder: Path) -> Template:
    """The template of a pretrained model's folder, else turns in lines."""
    return template_from(chat_template_of(folder))


def template_from(told: Mapping[str, Any] | None) -> Template:
    """Of what a pretrained model tells: the ``source`` and the ``marks``; turns in lines where it
    tells nothing."""
    return Template() if told is None else Template(told["source"], told["marks"])
