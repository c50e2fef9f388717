"""verify: what made a file, whether it was changed since, whether a text carries a watermark."""

from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.voice import Voice

__all__ = ["verify"]

MISSING = 3
UNSIGNED = 4


def verify(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A file or folder that a model may have made.", show_default=False
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEYFILE",
            help="Of `conjoin serve --watermark`: look for that watermark in a text.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="With --key: the model whose tokens the text is made of.",
            show_default=False,
        ),
    ] = None,
    as_json: opt.Json = False,
) -> int:
    """Say what made a file, or each file of a folder, and whether it was changed since. Exit code
    0: valid and signed; 1: changed; 2: it can't be told; 3: not marked; 4: unchanged, but the mark
    is not signed; of a folder the first of 1, 2, 3, 4 that a file has. With --key: whether a text
    carries a watermark; 0: it does; 3: none is found."""
    voice = Voice(as_json=as_json)
    if not file.strip():
        raise ValueError(f"{file!r} names no file: give one, or a folder.")
    if (key is None) != (model is None):
        raise ValueError(
            "A watermark is looked for by its key and by the tokens of a model: --key and --model "
            "go together."
        )
    if key is not None and model is not None:
        return _watermark(file, key, model, voice)
    if Path(file).expanduser().is_dir():
        return _folder(file, voice)
    from conjoin.marking.verify import verify as check

    found = check(file)
    voice.path(found.words)
    voice.json({"file": file, **found.to_json()})
    return _code(found)


def _code(found: Any) -> int:
    """Of what is known of a file."""
    from conjoin.marking.verify import CHANGED, UNKNOWN, UNMARKED

    of_state = {CHANGED: 1, UNKNOWN: 2, UNMARKED: MISSING}
    return of_state.get(found.state, 0 if found.signed else UNSIGNED)


def _folder(folder: str, voice: Voice) -> int:
    """Each file of a folder."""
    from collections import Counter

    from conjoin.marking.verify import verify_folder

    found = verify_folder(folder)
    for each in found.values():
        voice.path(each.words)
    states = Counter(
        each.state + (", not signed" if _code(each) == UNSIGNED else "") for each in found.values()
    )
    told = ", ".join(f"{count:,} {state}" for state, count in states.items())
    voice.note(f"{folder}: {len(found):,} file{'s' if len(found) > 1 else ''}: {told}.")
    files = [{"file": name, **each.to_json()} for name, each in found.items()]
    voice.json({"folder": folder, "files": files})
    return min((code for code in map(_code, found.values()) if code), default=0)


def _watermark(file: str, key: str, folder: str, voice: Voice) -> int:
    """Whether the text in a file carries the watermark of a key."""
    from conjoin.marking.watermark import MAX_P_VALUE, Watermark, key_from
    from conjoin.questions.answers.prompts import continues_texts
    from conjoin.serving.opening import model_of, opened

    watermark = Watermark(key_from(key))
    try:
        text = Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8.") from None
    model = model_of(opened(folder)[0])
    if not continues_texts(model):
        raise ValueError(f"{folder} is no model of texts, so it has no tokens to look at.")
    found = watermark.found(model.codec.wording.tokens.codes(text))
    what = f"p = {found.p_value:.2g} from {found.tokens:,} tokens"
    if found.there:
        voice.path(f"{file}: carries the watermark of this key: {what}.")
    else:
        voice.path(
            f"{file}: no watermark of this key is found: {what}, and under {MAX_P_VALUE:g} is "
            "asked for; a text that is short, edited, or left little to chance may still carry it."
        )
    voice.json(
        {"file": file, "p_value": found.p_value, "tokens": found.tokens, "watermark": found.there}
    )
    return 0 if found.there else MISSING
