"""serve, chat: a model that answers over HTTP, or in the terminal."""

import contextlib
import secrets
import sys
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import note_asked, say_unfinished
from conjoin.cli.voice import Voice, visible

__all__ = ["chat", "serve"]

MAX_SEED = 1_000_000  # of seeds that are drawn: short enough to be typed
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NEW = "/new"
END = "/end"
TURN_SECONDS = 0.05  # after which what is written is shown

TextFolder = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A folder that `conjoin fit` wrote, or that of a pretrained language model, or a "
        "GGUF file.",
        show_default=False,
    ),
]
Capacity = Annotated[
    int | None,
    typer.Option(
        "--capacity", help="Tokens of a text, of a pretrained model.", min=2, show_default=False
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="In which weights of a pretrained model are held: auto, float32, int8 or int4.",
        show_default=False,
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Familiar prompts, one a line, by which the alarm is calibrated.",
        show_default=False,
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="FILE",
        help="How a conversation reads as a text, in jinja2.",
        show_default=False,
    ),
]
WatermarkKey = Annotated[
    str | None,
    typer.Option(
        "--watermark",
        metavar="FILE",
        help="Answers in words carry a watermark by the key in this file, which is made where "
        "there is none; `conjoin verify --key FILE` finds it.",
        show_default=False,
    ),
]


def serve(
    model: TextFolder,
    host: Annotated[str, typer.Option("--host", help="The address.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="0: any that is free.", min=0, max=65535)
    ] = 8000,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            envvar="CONJOIN_KEY",
            help="That clients must send; better told in the environment, where no list of "
            "processes shows it.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="How clients call the model (default: its folder).", show_default=False
        ),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", help="Requests held at once.", min=1)
    ] = 32,
    max_rows: Annotated[int, typer.Option("--max-rows", help="Rows of a request.", min=1)] = 10_000,
    capacity: Capacity = None,
    precision: Precision = None,
    prompts: Prompts = None,
    chat_template: ChatTemplate = None,
    watermark: WatermarkKey = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
) -> None:
    """Answer over HTTP: questions about rows as JSON, and of a model of texts the OpenAI API."""
    import logging
    from pathlib import Path

    _refuse_without_server()
    from conjoin.marking.watermark import Watermark, key_from
    from conjoin.serving.app import create_app
    from conjoin.serving.limits import Limits
    from conjoin.serving.opening import opened
    from conjoin.serving.run import run

    voice = Voice(quiet)
    estimator, template = opened(
        model,
        device=device,
        capacity=capacity,
        precision=precision,
        prompts=prompts,
        template=chat_template,
    )
    note_asked(model)
    limits = Limits(waiting=max_waiting, rows=max_rows)
    called = name or Path(model).expanduser().resolve().name
    app = create_app(
        estimator,
        called,
        limits=limits,
        key=key,
        template=template,
        watermark=None if watermark is None else Watermark(key_from(watermark, make=True)),
    )
    say_unfinished(estimator.model_, voice)
    if host not in LOOPBACK and key is None:
        voice.note("Other machines can ask this server, and no key is asked for: see --key.")
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)

    def say(address: str) -> None:
        voice.path(f"{called} answers at {address}; {address}/docs says what. Ctrl-C ends it.")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        run(app, host, port, say, quiet)
    voice.aside("ended.")


def _refuse_without_server() -> None:
    """ImportError with the install line."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ImportError(
            "A server needs the packages fastapi, uvicorn and prometheus-client: "
            "pip install 'conjoin[serve]'."
        ) from None


def chat(
    model: TextFolder,
    system: Annotated[
        str | None, typer.Option("--system", help="What is told first.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="Of an answer, at most.", min=1)
    ] = 256,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            help="0: the most probable tokens; by default 1, and 0 where the answer was judged.",
            min=0,
            max=2,
            show_default=False,
        ),
    ] = None,
    top_p: opt.TopP = 1.0,
    false_alarm: opt.FalseAlarm = 0.05,
    max_risk: Annotated[
        float | None,
        typer.Option(
            "--max-risk",
            help="Of the accepted answers, that may be wrong, of a model that was calibrated on "
            "questions (default: .1, or the least that these can promise).",
            show_default=False,
        ),
    ] = None,
    abstain: Annotated[
        bool,
        typer.Option("--abstain/--no-abstain", help="Leave unfamiliar texts without an answer."),
    ] = True,
    capacity: Capacity = None,
    precision: Precision = None,
    prompts: Prompts = None,
    chat_template: ChatTemplate = None,
    seed: opt.FreshSeed = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
) -> None:
    """Talk to a model of texts; under each answer stands what it is worth."""
    from conjoin.questions.answers.prompts import continues_texts
    from conjoin.serving.opening import model_of, opened
    from conjoin.serving.talk import TextModel

    voice = Voice(quiet)
    estimator, template = opened(
        model,
        device=device,
        capacity=capacity,
        precision=precision,
        prompts=prompts,
        template=chat_template,
    )
    note_asked(model)
    its = model_of(estimator)
    if not continues_texts(its):
        raise ValueError(f"{model} is no model of texts, so there is nothing to talk to.")
    say_unfinished(its, voice)
    if seed is None:
        seed = secrets.randbelow(MAX_SEED)
        voice.note(f"New answers each time; --seed {seed} draws these again.")
    voice.note(f"{NEW} begins anew, {END} ends.")
    talk = _Talk(TextModel(its, template), system, (false_alarm, max_risk), abstain)
    settings = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    for place, text in enumerate(_asked()):
        if text == NEW:
            talk.begin()
            continue
        try:
            talk.answer(text, voice, {**settings, "seed": seed + place})
        except ValueError as error:  # what can't be read is said, and the conversation goes on
            voice.tell(f"({error})", "")


def _asked() -> Any:
    """What is typed, line by line."""
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text == END:
            return
        if text:
            yield text


class _Talk:
    """A conversation; of a model that has read texts and no turns, each line by itself."""

    def __init__(
        self, model: Any, system: str | None, rates: tuple[float, float | None], abstain: bool
    ) -> None:
        self.model = model
        self.first = [] if system is None else [{"role": "system", "content": system}]
        self.rates = rates
        self.abstain = abstain
        self.begin()

    def begin(self) -> None:
        self.turns = list(self.first)

    def answer(self, text: str, voice: Voice, settings: dict[str, Any]) -> None:
        """Write the answer as it comes, and below it the verdict."""
        from conjoin.serving.continuation import Wish
        from conjoin.util.energy import Tally

        if not self.model.template.has_turns:
            self.begin()
        turns = [*self.turns, {"role": "user", "content": text}]
        self.model.refuse_long(text, "what you say")
        tally = Tally()
        with tally:
            verdict = self.model.verdict_of_turns(turns, *self.rates)
        if settings["temperature"] is None:
            settings = {**settings, "temperature": 0.0 if verdict.of_answer else 1.0}
        if verdict.refused and self.abstain:
            voice.tell(verdict.refusal, f"[{_worth(verdict, [], tally.energy, 0)}]", "")
            return
        writing = self.model.continuation(self.model.codes_of_turns(turns), Wish(**settings))
        chunks = []
        while not writing.done:
            with tally:
                new = writing.advance(TURN_SECONDS)
            chunks += new
            sys.stdout.write(visible("".join(chunk.text for chunk in new)))
            sys.stdout.flush()
        said = "".join(chunk.text for chunk in chunks)
        self.turns = [*turns, {"role": "assistant", "content": said}]
        voice.tell("", f"[{_worth(verdict, chunks, tally.energy, writing.count)}]", "")


def _worth(verdict: Any, chunks: list[Any], energy: Any, tokens: int) -> str:
    """The verdict, how familiar the text was, log p of the answer, and what it took."""
    log_p = [piece.log_p for chunk in chunks for piece in chunk.pieces]
    parts = [verdict.verdict or verdict.reason]
    if verdict.familiarity is not None:
        parts.append(f"familiarity {verdict.familiarity:.3f}")
    if verdict.of_answer:
        parts.append(f"right with {verdict.confidence:.0%}")
    if chunks and verdict.reason and verdict.verdict is not None:  # else it is told already
        parts.append(verdict.reason)
    if log_p:
        parts.append(f"log p {sum(log_p):.2f} nats, {sum(log_p) / len(log_p):.2f} a token")
    if chunks and chunks[-1].finish == "length":
        parts.append("cut at its length")
    told = energy.told(token=tokens)
    each = f", {told['joules_per_token']:.2g} a token" if tokens else ""
    parts.append(f"{told['joules']:.2g} J{each} ({told['brain_seconds']:.2g} s of a brain)")
    return " · ".join(parts)
