"""What clients of the OpenAI API send to a model of texts.

A field of that API that would change the answer, and that no model here has, is refused unless it
says what is done anyway; one that changes nothing is taken.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from conjoin.codecs.templates import ROLES
from conjoin.serving.limits import Limits
from conjoin.serving.row_bodies import Body

__all__ = ["ChatBody", "CompletionBody", "EmbeddingBody", "limited"]

MAX_SEED = 2**63
MAX_STOPS = 4
MAX_TOP = 20
MAX_TEMPERATURE = 2.0
MAX_TOKENS = 1 << 31  # the model's capacity bounds them anyway

Seed = Annotated[int | None, Field(None, ge=-MAX_SEED, lt=MAX_SEED)]
Stop = Annotated[str, Field(min_length=1, max_length=1_000)]


class TextPart(Body):
    """A part of a message; models here read text alone."""

    type: Literal["text"]
    text: str


def _joined(content: Any) -> Any:
    """Parts of text are one text."""
    if not isinstance(content, list):
        return content
    return "".join(TextPart.model_validate(part).text for part in content)


class Message(Body):
    """One turn; an answer of this server may be sent back as it came."""

    role: Literal[ROLES]  # type: ignore[valid-type]
    content: Annotated[str | None, BeforeValidator(_joined)]
    name: str | None = None
    refusal: str | None = None
    conjoin: dict[str, Any] | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @property
    def said(self) -> str:
        """What stands in the conversation."""
        return self.content or self.refusal or ""

    @field_validator("content", mode="after")
    @classmethod
    def _some(cls, value: Any, info: Any) -> Any:
        if value is None and info.data.get("role") != "assistant":
            raise ValueError("content is null, which is for refused answers of the assistant alone")
        return value


class StreamOptions(Body):
    """``include_usage``: one more chunk, with the counts."""

    include_usage: bool = False
    include_obfuscation: bool = False


class _Asked(Body):
    """What both ways to continue a text take."""

    model: str
    n: int = Field(1, ge=1)
    max_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    temperature: float = Field(1.0, ge=0, le=MAX_TEMPERATURE)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: Seed = None
    stop: list[Stop] = Field([], max_length=MAX_STOPS)
    stream: bool = False
    stream_options: StreamOptions | None = None
    false_alarm: float | None = Field(
        None, gt=0, lt=1, description="Of familiar texts, that are not answered."
    )
    user: str | None = None
    frequency_penalty: float = 0
    presence_penalty: float = 0
    logit_bias: dict[str, float] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

    @field_validator("n", "temperature", "top_p", mode="before")
    @classmethod
    def _usual(cls, value: Any, info: Any) -> Any:
        """null asks for the default."""
        return 1 if value is None else value

    @field_validator("frequency_penalty", "presence_penalty", "logit_bias", mode="after")
    @classmethod
    def _none(cls, value: Any, info: Any) -> Any:
        if value:
            raise ValueError(
                f"{info.field_name} is not built: answers are drawn from the model's own p, with "
                "temperature and top_p; leave it out"
            )
        return value

    @model_validator(mode="after")
    def _streamed(self) -> Any:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options are for stream=true")
        return self


class ChatBody(_Asked):
    """``messages``: the conversation so far."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    abstain: bool = Field(
        True,
        description="Whether what is unfamiliar, or not accepted, is refused.",
    )
    max_risk: float | None = Field(
        None, gt=0, lt=1, description="Of accepted answers, that may be wrong."
    )
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    metadata: dict[str, str] | None = None
    store: bool | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    @field_validator("logprobs", mode="before")
    @classmethod
    def _false(cls, value: Any) -> Any:
        return False if value is None else value

    @field_validator("response_format", "tools", mode="after")
    @classmethod
    def _text(cls, value: Any, info: Any) -> Any:
        if value and value != {"type": "text"}:
            raise ValueError(f"{info.field_name} is not built: answers are text; leave it out")
        return value

    @model_validator(mode="after")
    def _agreeing(self) -> Any:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens are the same: give one")
        return self


class CompletionBody(_Asked):
    """``prompt``: a text or its tokens, or several of them."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(16, ge=0, le=MAX_TOKENS)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    best_of: int | None = None
    suffix: str | None = None

    @field_validator("echo", mode="before")
    @classmethod
    def _false(cls, value: Any) -> Any:
        return False if value is None else value

    @model_validator(mode="after")
    def _plain(self) -> Any:
        if self.suffix:
            raise ValueError("suffix is not built: texts are continued, not filled in")
        if self.best_of not in (None, self.n):
            raise ValueError("best_of is not built: leave it out, or ask for n and choose")
        return self


class EmbeddingBody(Body):
    """``input``: a text or its tokens, or several of them."""

    model: str
    input: str | list[int] | list[str] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None
    user: str | None = None


def limited(body: Any, limits: Limits, capacity: int) -> None:
    """ValueError names the field that asks for more than the server gives."""
    fields = type(body).model_fields
    if "n" in fields and body.n > limits.choices:
        raise ValueError(f"n may be at most {limits.choices}, got {body.n:,}.")
    if "messages" in fields and len(body.messages) > limits.messages:
        raise ValueError(f"messages may be at most {limits.messages:,}.")
    name = next((name for name in ("prompt", "input") if name in fields), None)
    asked = getattr(body, name) if name else ""
    several = isinstance(asked, list) and asked and not isinstance(asked[0], int)
    if several and len(asked) * getattr(body, "n", 1) > limits.texts:
        raise ValueError(f"{name} may hold at most {limits.texts:,} texts.")
    if isinstance(asked, list) and not several and len(asked) > capacity:
        raise ValueError(
            f"{name} has {len(asked):,} tokens, and the model reads at most {capacity:,}."
        )
