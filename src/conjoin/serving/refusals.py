"""Refusals: one sentence that names the field, in the form that clients of the OpenAI API read."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from conjoin.util.near import did_you_mean

__all__ = ["LOG", "Refusal", "RefusalBody", "handlers", "refused"]

LOG = logging.getLogger("conjoin.serving")

SHOWN_CHARACTERS = 300  # of a message that came from elsewhere
MAX_SENTENCE_CHARACTERS = 2_000
PLAIN = ("str", "int", "float")  # pydantic's names of plain kinds
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class RefusalDetail(BaseModel):
    """``message``: one sentence. ``param``: the field that it is about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class RefusalBody(BaseModel):
    """What every refused request is answered with."""

    error: RefusalDetail


class Refusal(Exception):
    """A request that can't be answered as it is."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.code = code


def refused(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    sentence = " ".join(message.split())[:MAX_SENTENCE_CHARACTERS]
    param = None if param is None else _in_utf8(param)
    detail = RefusalDetail(message=_in_utf8(sentence), type=kind, param=param, code=code)
    return JSONResponse({"error": detail.model_dump()}, status, dict(headers or {}))


def _in_utf8(text: str) -> str:
    """Halves of characters, which no response can hold, are shown."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def handlers() -> dict[Any, Any]:
    """Of exceptions, for the application."""
    return {
        Refusal: _of_refusal,
        RequestValidationError: _of_validation,
        HTTPException: _of_status,
        Exception: _of_failure,
    }


async def _of_failure(request: Request, error: Any) -> JSONResponse:
    return refused(500, "The server has failed at this request; its log says where.")


async def _of_refusal(request: Request, error: Any) -> JSONResponse:
    return refused(error.status, error.message, error.param, error.code)


async def _of_status(request: Request, error: Any) -> JSONResponse:
    if error.status_code == 404:
        return refused(404, f"There is no {request.method} {request.url.path[:100]}; see /docs.")
    if error.status_code == 405:
        return refused(405, f"{request.url.path[:100]} does not take {request.method}; see /docs.")
    return refused(error.status_code, "The body can't be read as JSON.", "body")


async def _of_validation(request: Request, error: Any) -> JSONResponse:
    """The first that is wrong."""
    found = error.errors()[0]
    if found["type"] in ("json_invalid", "missing") and len(found["loc"]) < 2:
        return refused(400, "The body must be a JSON object.", "body")
    inside = [part for part in found["loc"][1:] if not _is_branch(part)]
    place = [str(part)[:100] for part in inside]
    if found["type"] == "json_invalid":
        return refused(400, f"The body is no JSON: {found['ctx']['error']}.", "body")
    name = ".".join(place) or _begins(str(found["msg"]), _fields(request)) or "body"
    return refused(400, _sentence(found, name, _fields(request)), name)


def _is_branch(part: Any) -> bool:
    """Whether pydantic names one kind of several there, and no field."""
    return isinstance(part, str) and (
        part in ("str", "int", "float") or bool(set(part) & set("[]()"))
    )


def _begins(words: str, fields: Iterable[str]) -> str:
    """The field that a sentence about several begins with; "" where it is none."""
    first = words.removeprefix("Value error, ").partition(" ")[0]
    return first if first in fields else ""


def _fields(request: Request) -> Iterable[str]:
    """Of the body of this path."""
    route = request.scope.get("route")
    body = getattr(getattr(route, "body_field", None), "field_info", None)
    return list(getattr(getattr(body, "annotation", None), "model_fields", {}))


def _sentence(found: Mapping[str, Any], name: str, fields: Iterable[str]) -> str:
    if found["type"] == "missing":
        return f"{name} is missing."
    if found["type"] == "extra_forbidden":
        return f"{name} is not known here.{did_you_mean(name, fields)}"
    if any(map(_is_branch, found["loc"])):
        return f"{name} is of no kind that is taken here: see /docs."
    words = str(found["msg"]).removeprefix("Value error, ").rstrip(".")[:SHOWN_CHARACTERS]
    given = found.get("input")
    own = str(found["msg"]).startswith("Value error")
    shown = "" if own or not isinstance(given, str | int | float) else f", got {given!r:.60}"
    end = "" if words.endswith("?") else "."
    if words.startswith(name):
        return f"{words}{end}"
    return f"{name}: {words[:1].lower()}{words[1:]}{shown}{end}"
