"""What stands before every request: the key, the size of its body, whether its client is still
there, and one line of the log, which holds nothing of what was asked."""

import asyncio
import contextlib
import hmac
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from conjoin.serving.gate import Busy, Gate
from conjoin.serving.limits import Limits
from conjoin.serving.metrics import Metrics
from conjoin.serving.refusals import LOG, refused

__all__ = ["Guard"]

OPEN = ("/health", "/", "/ask.js")  # without a key: the page holds nothing of the model

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]


class _Gone(Exception):
    """The client has left while it sent its body, or does not read its answer."""


class Guard:
    """An application around an application."""

    def __init__(
        self, app: App, limits: Limits, gate: Gate, metrics: Metrics, key: str | None = None
    ) -> None:
        self.app = app
        self.limits = limits
        self.gate = gate
        self.metrics = metrics
        self.key = key

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        answer = _Watched(send, self.limits.send_seconds)
        try:
            await self._answered(scope, receive, answer)
        except _Gone:
            self.metrics.left.inc()
            return
        except Exception as error:  # of the server's own making: told by its place alone
            place = traceback.extract_tb(error.__traceback__)[-1]
            LOG.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
        seconds = time.monotonic() - began
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(route, str(answer.status)).inc()
        self.metrics.seconds.observe(seconds)
        LOG.info("%s %s %s %.0f ms", scope["method"], route, answer.status, 1000 * seconds)

    async def _answered(self, scope: Any, receive: Receive, send: Send) -> None:
        if self.key is not None and scope["path"] not in OPEN and not self._knows(scope):
            words = "The key is missing or wrong: send it as 'Authorization: Bearer KEY'."
            await refused(401, words, code="invalid_api_key")(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._body(scope, receive), self.limits.body_seconds)
            body.decode("utf-8")
        except TimeoutError:
            words = f"The body took more than {self.limits.body_seconds:g} s to arrive."
            await refused(408, words, "body")(scope, receive, send)
            return
        except _TooLarge:
            words = f"The body has more than {self.limits.body_bytes:,} bytes."
            await refused(413, words, "body")(scope, receive, send)
            return
        except UnicodeDecodeError as error:
            words = f"The body is not in UTF-8: see the byte {error.start}."
            await refused(400, words, "body")(scope, receive, send)
            return
        await self._while_there(scope, body, receive, send)

    def _knows(self, scope: Any) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, f"Bearer {self.key}".encode())

    async def _body(self, scope: Any, receive: Receive) -> bytes:
        parts = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body_bytes:
                raise _TooLarge
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _while_there(self, scope: Any, body: bytes, receive: Receive, send: Send) -> None:
        """Answered, unless the client leaves: then the request is cancelled."""
        gone = asyncio.Event()
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            if parts:
                return parts.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        work = asyncio.ensure_future(self._placed(scope, again, send))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((work, watching), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                self.metrics.left.inc()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                return
            work.result()
        finally:
            work.cancel()
            watching.cancel()

    async def _placed(self, scope: Any, receive: Receive, send: Send) -> None:
        """A request with a body takes a place; others read what is there anyway."""
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            async with self.gate.place():
                await self.app(scope, receive, send)
        except Busy:
            seconds = self.limits.retry_seconds
            words = f"{self.limits.waiting} requests are held already: come again in {seconds} s."
            headers = {"Retry-After": str(seconds)}
            await refused(429, words, headers=headers)(scope, receive, send)


class _TooLarge(Exception):
    """Of a body."""


class _Watched:
    """Sends on, and keeps the status. A client that does not read what is sent is given up, so that
    it keeps no place."""

    def __init__(self, send: Send, seconds: float) -> None:
        self.send = send
        self.seconds = seconds
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        try:
            await asyncio.wait_for(self.send(message), self.seconds)
        except TimeoutError:
            raise _Gone from None
