"""The OpenAI API of a model of texts: models, chat completions, completions, embeddings.

One generator writes the chunks of an answer. A stream sends them as they come, an answer at once
is what they add up to; so both say the same. log p of a token is the model's own, whatever the
temperature; the end of an answer is a token too, whose text is empty.
"""

import base64
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from conjoin.serving.asking import asked, field_of
from conjoin.serving.continuation import STOP, Chunk, Continuation, Piece, Wish
from conjoin.serving.gate import Gate
from conjoin.serving.limits import Limits
from conjoin.serving.metrics import Metrics
from conjoin.serving.pieces import pieces_of
from conjoin.serving.refusals import Refusal
from conjoin.serving.talk import TextModel, Verdict
from conjoin.serving.text_bodies import ChatBody, CompletionBody, EmbeddingBody, limited
from conjoin.util.energy import Tally
from conjoin.util.steps import Work

__all__ = ["TextApi", "text_routes"]

TURN_SECONDS = 0.03  # that one answer takes before another has its turn
FALSE_ALARM = 0.05


@dataclass
class _Text:
    """One text so far: its codes, the verdict, and what is written behind it."""

    index: int
    codes: list[int]
    verdict: Verdict
    writing: Continuation | None = None
    chunks: list[Chunk] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)  # of the verdict, of reading and of writing
    echo: str = ""  # the text so far, where it is to be sent back
    echoed: list[Piece] = field(default_factory=list)


class TextApi:
    """One model of texts; ``name``: how clients call it."""

    def __init__(
        self,
        model: TextModel,
        name: str,
        limits: Limits,
        gate: Gate,
        metrics: Metrics,
        fingerprint: str,
    ) -> None:
        self.model = model
        self.name = name
        self.limits = limits
        self.gate = gate
        self.metrics = metrics
        self.fingerprint = fingerprint
        self.created = int(time.time())

    async def ask(self, call: Any, body: Any) -> Any:
        """Answered in the model's thread; what is refused names the field."""
        return (await asked(self.gate, call, body, "There is not enough memory for this.", "n"))[0]

    def check(self, body: Any) -> None:
        """Refused where the model is another, or more is asked for than a request may."""
        if body.model != self.name:
            words = f"The model {body.model[:100]!r} is not here; this server has {self.name!r}."
            raise Refusal(words, "model", 404, "model_not_found")
        try:
            limited(body, self.limits, self.model.capacity)
        except ValueError as error:
            raise Refusal(str(error), field_of(str(error), body)) from None

    # ------------------------------------------------------------------ texts so far

    def wish(self, body: Any, seed: int) -> Wish:
        most = body.max_tokens
        top = body.logprobs or 0
        if isinstance(body, ChatBody):
            most = body.max_completion_tokens if most is None else most
            top = body.top_logprobs or 0
        return Wish(body.n, most, body.temperature, body.top_p, seed, tuple(body.stop), top)

    def verdict(self, text: str, name: str, body: Any) -> Verdict:
        self.model.refuse_long(text, name)
        verdict = self.model.verdict(text, body.false_alarm or FALSE_ALARM)
        self.count(verdict)
        return verdict

    def count(self, verdict: Verdict) -> None:
        if verdict.refused:
            self.metrics.refused.inc()

    async def judged(
        self, turns: Sequence[Mapping[str, str]], body: ChatBody, tally: Tally
    ) -> Verdict:
        """The verdict before anything is sent. An answer that is judged is written for that, so
        that others have their turns in between."""
        work = Work(self.model.judging(turns, body.false_alarm, body.max_risk))

        def more() -> None:
            with tally:
                work.advance(TURN_SECONDS)

        while not work.done:
            await self.ask(more, body)
        verdict: Any = work.found
        self.count(verdict)
        return verdict

    async def conversation(self, body: ChatBody, wish: Wish) -> _Text:
        """The text so far; the verdict is about the last message. A text that is refused is not
        read any further."""
        turns = [{"role": turn.role, "content": turn.said} for turn in body.messages]

        def check() -> None:
            self.model.refuse_disorder(turns)
            last = len(turns) - 1
            self.model.refuse_long(turns[-1]["content"], f"messages.{last}.content")

        await self.ask(check, body)
        tally = Tally()
        verdict = await self.judged(turns, body, tally)
        if verdict.of_answer:
            verdict, wish = _as_judged(verdict, wish, body)
        if verdict.refused and body.abstain:
            self.metrics.answered(verdict.verdict)
            self.metrics.spent(tally.energy.joules)
            return _Text(0, [], verdict, tally=tally)

        def begun() -> _Text:
            codes = self.model.codes_of_turns(turns)
            writing = self.model.continuation(codes, wish)
            return _Text(0, codes, verdict, writing, tally=tally)

        return await self.ask(begun, body)

    def prompts(self, body: CompletionBody, wish: Wish) -> list[_Text]:
        out: list[_Text] = []
        for index, codes in enumerate(self.codes_of(body.prompt, "prompt")):
            if body.echo and body.logprobs is not None:
                self.model.refuse_ends(codes, "prompt")
            text = self.model.tokens.text(codes)
            tally = Tally()
            with tally:
                verdict = self.verdict(text, "prompt", body)
            own = replace(wish, again=sum(one.codes == codes for one in out))
            writing = self.model.continuation(codes, own)
            echo = text if body.echo else ""
            out.append(_Text(index, codes, verdict, writing, tally=tally, echo=echo))
        return out

    def codes_of(self, asked: Any, name: str) -> list[list[int]]:
        """Of one text or several, which may be tokens already."""
        if isinstance(asked, str):
            return [self.model.codes_of_text(asked, name)]
        if not asked:
            raise ValueError(f"{name} is empty.")
        if isinstance(asked[0], int):
            return [self.model.behind_start(asked, name)]
        return [
            self.model.codes_of_text(each, f"{name}.{place}")
            if isinstance(each, str)
            else self.model.behind_start(each, f"{name}.{place}")
            for place, each in enumerate(asked)
        ]

    async def written(
        self, texts: Sequence[_Text], body: Any
    ) -> AsyncIterator[tuple[_Text, Chunk]]:
        """The chunks of all texts as they come; those of a text are kept with it."""
        for text in texts:
            writing = text.writing

            def more(one: _Text = text) -> list[Chunk]:
                return self.more(one)

            while writing is not None and not writing.done:
                before = writing.count
                chunks = await self.ask(more, body)
                self.metrics.tokens.inc(writing.count - before)
                text.chunks += chunks
                for chunk in chunks:
                    if chunk.finish is not None:
                        self.metrics.answered(text.verdict.verdict)
                    yield text, chunk

    def more(self, text: _Text) -> list[Chunk]:
        """The next chunks of a text; the pieces of an echo with the first of them."""
        writing: Any = text.writing
        begins = not writing.begun
        spent = text.tally.energy.joules
        with text.tally:
            chunks: list[Chunk] = writing.advance(TURN_SECONDS)
        self.metrics.spent(text.tally.energy.joules - (0.0 if begins else spent))
        if begins and text.echo:
            told = pieces_of(self.model.tokens, text.codes, writing.told)
            text.echoed = [Piece(words, log_p) for words, log_p in told]
        return chunks

    # ------------------------------------------------------------------ what is sent

    def head(self, kind: str, object_: str) -> dict[str, Any]:
        return {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "object": object_,
            "created": int(time.time()),
            "model": self.name,
            "system_fingerprint": self.fingerprint,
        }

    def about(self, text: _Text, chunks: Sequence[Chunk], body: Any, seed: int) -> dict[str, Any]:
        """What is known of an answer; ``log_prob``: of the answer given the text so far, nats;
        ``energy``: of what was done so far, shared out among the answers to one text."""
        pieces = [piece for chunk in chunks for piece in chunk.pieces]
        written = 0 if text.writing is None else text.writing.count
        said = "".join(chunk.text for chunk in chunks)
        watermark = {}
        if self.model.watermark is not None and text.writing is not None:
            watermark = {"watermark": self.model.watermarked(said, text.writing.wish)}
        return {
            **text.verdict.about(),
            "log_prob": sum((piece.log_p for piece in pieces), 0.0) if chunks else None,
            "seed": seed,
            "energy": text.tally.energy.shared(body.n).told(token=written / body.n),
            **watermark,
        }

    @staticmethod
    def usage(texts: Sequence[_Text]) -> dict[str, int]:
        read = sum(len(text.codes) for text in texts)
        written = sum(text.writing.count for text in texts if text.writing is not None)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    async def chat(self, body: ChatBody) -> Response:
        self.check(body)
        seed = secrets.randbelow(1 << 31) if body.seed is None else body.seed
        wish = self.wish(body, seed)
        text = await self.conversation(body, wish)
        if body.stream:
            return _events(self.chat_events(text, body, seed))
        async for _ in self.written([text], body):
            pass
        choices = [self.chat_choice(text, index, body, seed) for index in range(body.n)]
        head = self.head("chatcmpl", "chat.completion")
        return JSONResponse({**head, "choices": choices, "usage": self.usage([text])})

    def chat_choice(self, text: _Text, index: int, body: ChatBody, seed: int) -> dict[str, Any]:
        """An answer at once."""
        chunks = [chunk for chunk in text.chunks if chunk.choice == index]
        refused = text.writing is None
        message = {
            "role": "assistant",
            "content": None if refused else "".join(chunk.text for chunk in chunks),
            "refusal": text.verdict.refusal if refused else None,
            "conjoin": self.about(text, chunks, body, seed),
        }
        pieces = [piece for chunk in chunks for piece in chunk.pieces]
        finish = STOP if refused else chunks[-1].finish
        logprobs = _chat_logprobs(pieces) if body.logprobs and not refused else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}

    async def chat_events(
        self, text: _Text, body: ChatBody, seed: int
    ) -> AsyncIterator[dict[str, Any]]:
        """The same answers as a stream."""
        head = self.head("chatcmpl", "chat.completion.chunk")
        if body.stream_options is not None and body.stream_options.include_usage:
            head["usage"] = None

        def event(
            index: int, delta: dict[str, Any], finish: Any = None, logprobs: Any = None
        ) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "finish_reason": finish}
            return {**head, "choices": [{**choice, "logprobs": logprobs}]}

        for index in range(body.n):
            refused = text.writing is None
            begin = {"refusal": text.verdict.refusal} if refused else {"content": ""}
            yield event(index, {"role": "assistant", **begin})
            if refused:
                yield event(index, {"conjoin": self.about(text, [], body, seed)}, STOP)
        async for _, chunk in self.written([text], body):
            delta: dict[str, Any] = {"content": chunk.text} if chunk.text else {}
            if chunk.finish is not None:
                own = [one for one in text.chunks if one.choice == chunk.choice]
                delta["conjoin"] = self.about(text, own, body, seed)
            logprobs = _chat_logprobs(chunk.pieces) if body.logprobs and chunk.pieces else None
            yield event(chunk.choice, delta, chunk.finish, logprobs)
        if "usage" in head:
            yield {**head, "choices": [], "usage": self.usage([text])}

    async def complete(self, body: CompletionBody) -> Response:
        self.check(body)
        seed = secrets.randbelow(1 << 31) if body.seed is None else body.seed
        wish = self.wish(body, seed)
        texts = await self.ask(lambda: self.prompts(body, wish), body)
        if body.stream:
            return _events(self.completion_events(texts, body, seed))
        async for _ in self.written(texts, body):
            pass
        choices = []
        for text in texts:
            for index in range(body.n):
                chunks = [chunk for chunk in text.chunks if chunk.choice == index]
                choices.append(self.completion_choice(text, chunks, chunks, body, seed))
        head = self.head("cmpl", "text_completion")
        return JSONResponse({**head, "choices": choices, "usage": self.usage(texts)})

    def completion_choice(
        self,
        text: _Text,
        new: Sequence[Chunk],
        whole: Sequence[Chunk],
        body: CompletionBody,
        seed: int,
    ) -> dict[str, Any]:
        """What ``new`` chunks of an answer add, the first of which come behind the echo; with the
        last one what is known of the ``whole`` answer."""
        begins = new[0] is whole[0]
        offset = (
            0 if begins else len(text.echo) + sum(len(chunk.text) for chunk in whole[: -len(new)])
        )
        pieces = [piece for chunk in new for piece in chunk.pieces]
        if begins:
            pieces = [*text.echoed, *pieces]
        finish = new[-1].finish
        more = {} if finish is None else {"conjoin": self.about(text, whole, body, seed)}
        return {
            "index": text.index * body.n + new[0].choice,
            "text": (text.echo if begins else "") + "".join(chunk.text for chunk in new),
            "logprobs": None if body.logprobs is None else _logprobs(pieces, offset),
            "finish_reason": finish,
            **more,
        }

    async def completion_events(
        self, texts: Sequence[_Text], body: CompletionBody, seed: int
    ) -> AsyncIterator[dict[str, Any]]:
        head = self.head("cmpl", "text_completion")
        told = body.stream_options is not None and body.stream_options.include_usage
        sent: dict[tuple[int, int], list[Chunk]] = {}
        async for text, chunk in self.written(texts, body):
            own = sent.setdefault((text.index, chunk.choice), [])
            own.append(chunk)
            choice = self.completion_choice(text, [chunk], own, body, seed)
            yield {**head, "choices": [choice], **({"usage": None} if told else {})}
        if told:
            yield {**head, "choices": [], "usage": self.usage(texts)}

    async def embed(self, body: EmbeddingBody) -> Response:
        self.check(body)

        def call() -> tuple[list[list[int]], list[list[float]]]:
            codes = self.codes_of(body.input, "input")
            return codes, self.model.embeddings(codes)

        codes, found = await self.ask(call, body)
        data = [
            {"object": "embedding", "index": place, "embedding": _embedding(row, body)}
            for place, row in enumerate(found)
        ]
        read = sum(map(len, codes))
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "data": data, "model": self.name, "usage": usage})

    def described(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "conjoin",
            "max_model_len": self.model.capacity,
            "turns": self.model.template.has_turns,  # else a text is continued as it is
        }


def _as_judged(verdict: Verdict, wish: Wish, body: ChatBody) -> tuple[Verdict, Wish]:
    """The verdict is about the most probable answer: that is written, unless the client asks for
    draws by a temperature, of which the reason then says so."""
    if "temperature" not in body.model_fields_set:
        return verdict, replace(wish, temperature=0.0)
    if wish.sampling is None:
        return verdict, wish
    about = f"the verdict is about the most probable answer, {verdict.best!r}"
    reason = "; ".join(filter(None, [verdict.reason, about]))
    return replace(verdict, reason=reason), wish


def text_routes(api: TextApi) -> APIRouter:
    """The paths of the OpenAI API."""
    router = APIRouter(prefix="/v1", tags=["texts"])

    @router.get("/models", summary="The model of this server")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [api.described()]}

    @router.get("/models/{name}", summary="The model of this server")
    async def model(name: str) -> dict[str, Any]:
        if name != api.name:
            words = f"The model {name[:100]!r} is not here; this server has {api.name!r}."
            raise Refusal(words, "model", 404, "model_not_found")
        return api.described()

    @router.post("/chat/completions", summary="Answer the last message of a conversation")
    async def chat(body: ChatBody) -> Response:
        return await api.chat(body)

    @router.post("/completions", summary="Continue a text, or tell log p of one")
    async def completions(body: CompletionBody) -> Response:
        return await api.complete(body)

    if api.model.density.capabilities.features:

        @router.post("/embeddings", summary="The model's features of texts")
        async def embeddings(body: EmbeddingBody) -> Response:
            return await api.embed(body)

    return router


def _events(made: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """As server-sent events. What fails behind the first is told as an event too."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for each in made:
                yield f"data: {json.dumps(each, ensure_ascii=False, allow_nan=False)}\n\n"
        except Refusal as error:
            told = {"message": error.message, "param": error.param, "type": "server_error"}
            yield f"data: {json.dumps({'error': told})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def _bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", "replace"))


def _chat_logprobs(pieces: Sequence[Piece]) -> dict[str, Any]:
    """In the schema of chat completions."""
    content = [
        {
            "token": piece.text,
            "logprob": piece.log_p,
            "bytes": _bytes(piece.text),
            "top_logprobs": [
                {"token": text, "logprob": log_p, "bytes": _bytes(text)}
                for text, log_p in piece.top
            ],
        }
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _logprobs(pieces: Sequence[Piece], offset: int) -> dict[str, Any]:
    """In the schema of completions; of an echo the most probable tokens are not told."""
    sizes = [len(piece.text) for piece in pieces]
    ends = (offset + np.cumsum([0, *sizes])).tolist()
    return {
        "tokens": [piece.text for piece in pieces],
        "token_logprobs": [piece.log_p for piece in pieces],
        "top_logprobs": [_by_text(piece.top) for piece in pieces],
        "text_offset": ends[:-1],
    }


def _by_text(top: Sequence[tuple[str, float]]) -> dict[str, float] | None:
    """The most probable token of each text, of those that are told the most probable first; None
    where none are."""
    return dict(reversed(top)) or None


def _embedding(row: Sequence[float], body: EmbeddingBody) -> Any:
    if body.encoding_format == "float":
        return list(row)
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()
