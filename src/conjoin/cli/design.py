"""design: new molecules whose properties are as wanted."""

from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.ask import answer
from conjoin.cli.files import load_model
from conjoin.cli.marks import marked
from conjoin.cli.output import claim
from conjoin.cli.voice import Voice

__all__ = ["design"]

# how proposals are made, in words
WAYS = {
    "prompted": "told the wish",
    "drawn": "plain draws",
    "guided": "by what is read from beginnings",
    "tuned": "by a network that learned from its draws",
    "redrawn": "by chains that draw ends anew",
}


def design(
    model: opt.ModelFolder,
    want: Annotated[
        list[str],
        typer.Option(
            "--want",
            metavar="PROPERTY=VALUE",
            help="A value, a range low..high with an end left out where it is open, or a class. "
            "Repeatable.",
            show_default=False,
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="How many molecules, at most.", min=1)] = 100,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="A part of each, as SMILES or SMARTS.", show_default=False),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="CSV",
            help="Known molecules: a table with the model's column of SMILES.",
            show_default=False,
        ),
    ] = None,
    how: Annotated[
        str,
        typer.Option("--how", help="best: the most probable ones; draw: by p(molecule | wish)."),
    ] = "best",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="Half of the proposals: redrawn, chains draw the ends of strings anew; prompted, "
            "the wish is told to the network; guided, it is read from beginnings; tuned, a copy of "
            "the network learns from its draws [default: redrawn; prompted beside columns].",
            show_default=False,
        ),
    ] = None,
    proposals: Annotated[
        int | None,
        typer.Option(
            "--proposals",
            help="Drawn to choose from [default: 10 for each; 16 with --how draw].",
            show_default=False,
        ),
    ] = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    force: opt.Force = False,
    mark: opt.Mark = True,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """New molecules whose properties are as wanted: drawn from the model, and ranked by its own
    p(wish given molecule)."""
    voice = Voice(quiet, as_json, out == "-")
    claim(out, force)
    estimator = load_model(model, device)
    known = None if reference is None else _known(reference, estimator.model_.codec)
    found = estimator.design(
        n,
        wanted=_wishes(want),
        keep=keep,
        reference=known,
        how=how,
        method=method,
        proposals=proposals,
        random_state=seed,
    )
    told = found.attrs
    for way, share in told["acceptance"].items():
        named = WAYS[way]
        voice.aside(
            f"Of {told['proposals'][way]:,} proposals ({named}, {told['tokens'][way]:,} tokens) "
            f"{told['valid'][way]:.0%} are molecules, and {share:.2%} are expected to be as "
            f"wanted: {told['wanted_per_1000_tokens'][way]:.1f} different ones for 1,000 tokens."
        )
    with marked(voice, "design", model, estimator.model_, out, mark, seed):
        answer(found, out, voice, **told)


def _wishes(texts: list[str]) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    for text in texts:
        name, wanted = _wish(text)
        if name in wishes:
            raise ValueError(f"--want {text}: {name!r} has a wish already; give one of each.")
        wishes[name] = wanted
    return wishes


def _wish(text: str) -> tuple[str, Any]:
    """``name=value`` or ``name=low..high``."""
    name, equals, value = (piece.strip() for piece in text.partition("="))
    if not name or not equals or not value:
        raise ValueError(f"--want {text}: write it as PROPERTY=VALUE or PROPERTY=LOW..HIGH.")
    low, dots, high = value.partition("..")
    if not dots:
        return name, _number(value)
    return name, (_number(low) if low else None, _number(high) if high else None)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _known(path: str, codec: Any) -> list[str]:
    from conjoin.codecs.table import read_table

    (molecules,) = codec.structures or (None,)
    frame = read_table(path)[0]
    if molecules is None or molecules.name not in frame:
        name = None if molecules is None else molecules.name
        raise ValueError(f"--reference {path} has no column {name!r}, which the model reads.")
    return [str(text) for text in frame[molecules.name].dropna()]
