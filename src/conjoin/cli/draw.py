"""sample, impute, counterfactual: rows that the model makes up, fills in, or changes."""

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.ask import answer, answers
from conjoin.cli.cluster import Cluster, cluster_of
from conjoin.cli.files import (
    at_once,
    limits_of,
    load_model,
    read,
    refuse_for_tables,
    say_unfinished,
)
from conjoin.cli.kinds import reader_of, writer_of
from conjoin.cli.marks import marked
from conjoin.cli.output import TABLES, claim, claim_pictures
from conjoin.cli.voice import Voice, shown
from conjoin.cli.words import ELLIPSIS, given_of, labels_of, range_of, some_names

__all__ = ["counterfactual", "impute", "sample"]

MAX_SEED = 1_000_000  # of seeds that are drawn: short enough to be typed
SHEET = ".png"
STRIP_STATES = 8  # of a way from noise, that are shown
MAX_STRIPS = 8  # pictures whose way is shown
USUAL_ALTERNATIVES = 5  # of a string, where files of pictures are asked about
DRAWN_ROWS = 10_000  # that a worker of a cluster draws at a time
OTHER_TOKENS = "Tokens are chosen otherwise than by p: these are no draws of the joint model"
ACCEPTANCE = "acceptance"  # in the attrs of drawn rows: the share that kept constraints
REPLACED = "in place of"  # the column of cells that could not be read


DrawnY = Annotated[
    str | None,
    typer.Option(
        "--y",
        help="The class, or the number, of every row, or a range low..high of numbers.",
        show_default=False,
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="COLUMN=VALUE",
        help="A value, a range low..high, levels a,b, or the beginning of a string, ab... "
        "Repeatable.",
        show_default=False,
    ),
]
KnownBeside = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="COLUMN=VALUE",
        help="Of files of pictures of which a part is hidden: what else is known, such as the "
        "caption. Repeatable.",
        show_default=False,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar='"A <= B"',
        help="A constraint of columns or constants. Repeatable.",
        show_default=False,
    ),
]
RowsOfDraw = Annotated[
    int | None,
    typer.Option(
        "--chunk-rows",
        help="Draw so many rows at a time, each time with noise of its own (default: all; "
        f"with --ray {DRAWN_ROWS:,}).",
        min=1,
        show_default=False,
    ),
]


def sample(
    model: opt.ModelFolder,
    n: Annotated[int, typer.Option("-n", help="How many rows.", min=1)] = 100,
    y: DrawnY = None,
    given: Given = None,
    where: Where = None,
    tails: opt.Tails = False,
    temperature: opt.Temperature = 1.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = 1.0,
    precision: opt.DrawPrecision = "float32",
    even: opt.Even = False,
    guidance: opt.Guidance = None,
    steps: opt.Steps = None,
    candidates: opt.Candidates = None,
    strip: opt.Strip = None,
    seed: opt.FreshSeed = None,
    out: opt.Out = None,
    force: opt.Force = False,
    mark: opt.Mark = True,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    chunk_rows: RowsOfDraw = None,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> None:
    """New rows from the joint model, given a class and given columns, under constraints; of a model
    of images, pictures."""
    voice = Voice(quiet, as_json, out == "-")
    cluster = cluster_of(ray, workers, voice, device)
    estimator = load_model(model, device)
    writer = _claim(estimator.model_.codec, out, force, where)
    target = estimator.model_.target
    wanted = {} if y is None else {"y": _wanted_or_range(target, y)}
    conditions = given_of(given, estimator.model_.codec.schema)
    if strip is not None:
        others = {"y": y, "where": where, "even": even, "candidates": candidates}
        _claim_strip(target, strip, force, others)
    say_unfinished(estimator.model_, voice)
    asked: dict[str, Any] = wanted | {
        "given": conditions,
        "random_state": _told_seed(out, voice) if seed is None else seed,
        "where": where or (),
        "tails": tails,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "precision": precision,
        "even": even,
        "guidance": guidance,
        "steps": steps,
        "candidates": candidates,
    }
    for words in _altered(asked):
        voice.aside(f"{words}.")
    seed = asked["random_state"]
    of_draws = (voice, "sample", model, estimator.model_)
    if strip is not None:
        with marked(*of_draws, strip, mark, seed):
            _write_strip(estimator, n, asked, strip, voice)
    if cluster is None and chunk_rows is None:
        X, drawn = estimator.sample(n, **asked)
    else:
        blocks = _drawn_blocks(estimator, model, n, asked, chunk_rows or DRAWN_ROWS, cluster)
        if writer is None and _streams(estimator.model_.codec, out):
            with marked(*of_draws, out, mark, seed):
                _write_blocks(estimator.model_, blocks, asked, str(out), voice)
            return
        X, drawn = _at_once(list(blocks))
    with marked(*of_draws, out, mark, seed):
        _tell_draws(estimator.model_, X, drawn, asked, writer, out, voice)


def _altered(asked: dict[str, Any]) -> list[str]:
    """Why rows that are drawn so are no draws of the joint model."""
    found = []
    if asked["guidance"]:
        words = f"What is given is exaggerated by {asked['guidance']:g}"
        found.append(f"{words}: no draws of the joint model")
    if _chosen(asked):
        words = f"Each picture is chosen among {asked['candidates']:,} drawn from its string"
        found.append(f"{words}: no draws of the joint model")
    if asked["precision"] != "float32":
        words = f"The network is rounded to {asked['precision']}"
        found.append(f"{words}: these are no draws of the joint model")
    if _tokens_altered(asked):
        found.append(OTHER_TOKENS)
    return found


def _chosen(asked: dict[str, Any]) -> bool:
    """Whether each picture is chosen among several."""
    return (asked.get("candidates") or 1) > 1


def _tokens_altered(asked: dict[str, Any]) -> bool:
    return (asked["temperature"], asked["top_k"], asked["top_p"]) != (1.0, None, 1.0)


def _worth(known: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The status of draws that are asked for otherwise than as draws of the joint model; ``known``:
    what their frame says of it, which knows nothing of the choice of tokens."""
    words = _altered(asked)
    if known is not None:
        words = [known, OTHER_TOKENS] if _tokens_altered(asked) else [known]
    return {"status": "; ".join(words)} if words else {}


def _drawn_blocks(
    estimator: Any,
    model: str,
    n: int,
    asked: dict[str, Any],
    rows: int,
    cluster: Cluster | None,
) -> Iterator[tuple[Any, Any]]:
    """``n`` rows and their y, ``rows`` at a time: the same, whichever processes draw them."""
    if asked["even"]:
        raise ValueError(
            "--even spreads the rows of one draw, and --chunk-rows and --ray draw several times: "
            "leave out one of them."
        )
    read = partial(_blocks, n=n, rows=rows, seed=asked["random_state"])
    ask = partial(_drawn_block, asked=asked)
    if cluster is None:
        return (ask(estimator, block) for block in read(estimator))
    return cluster.answers(model, read, ask)


def _streams(codec: Any, out: str | None) -> bool:
    """Whether blocks of draws are written as they come: a table in a file, whose columns have one
    type in every block, since no cell is missing, and none holds a picture."""
    if out is None or out.endswith(SHEET) or not codec.columnwise:
        return False
    whole = set(codec.gaps)  # missing in the fit, and never in a draw
    return not any(
        column.is_picture or (column.missing_share > 0 and column.name not in whole)
        for column in codec.schema.drawn
    )


def _write_blocks(
    model: Any, blocks: Iterator[tuple[Any, Any]], asked: dict[str, Any], out: str, voice: Voice
) -> None:
    """Blocks of a table to its file, of which few are held at a time."""
    known: dict[str, Any] = {}
    tries: list[tuple[int, float]] = []  # rows of each block, and how many were drawn for them

    def tables() -> Iterator[Any]:
        for X, drawn in blocks:
            known.update(X.attrs)
            tries.append((len(X), len(X) / X.attrs.get(ACCEPTANCE, 1.0)))
            named = {} if drawn is None else {str(model.target.name): model.target.write(drawn)}
            yield X.assign(**named)

    def more() -> dict[str, Any]:
        worth = _worth(known.get("status"), asked)
        return ({ACCEPTANCE: _share(tries)} if asked["where"] else {}) | worth

    answers(tables(), out, voice, more=more)
    _say_rows(_share(tries), asked["where"], model.codec, out, voice)
    _say_status(known.get("status"), asked, out, voice)


def _share(tries: list[tuple[int, float]]) -> float:
    """The share of drawn rows that kept constraints, of all blocks."""
    return sum(kept for kept, _ in tries) / sum(drawn for _, drawn in tries)


def _say_status(known: str | None, asked: dict[str, Any], out: str | None, voice: Voice) -> None:
    told = asked["even"] or asked["guidance"] or _chosen(asked)
    if known is not None and told and out != "-":
        voice.note(f"status: {known}.")


def _at_once(blocks: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The rows and the y of all blocks."""
    drawn = None if blocks[0][1] is None else _joined([y for _, y in blocks])
    return _joined([X for X, _ in blocks]), drawn


def _blocks(estimator: Any, n: int, rows: int, seed: int) -> Iterator[tuple[int, int]]:
    """Rows and seed of each block of draws."""
    from conjoin.questions.sample import blocks_of_draws

    yield from blocks_of_draws(n, rows, seed)


def _drawn_block(estimator: Any, block: tuple[int, int], asked: dict[str, Any]) -> tuple[Any, Any]:
    count, seed = block
    X, y = estimator.sample(count, **{**asked, "random_state": seed})
    return X, y


def _joined(parts: list[Any]) -> Any:
    """Rows of several draws, as those of one; of a frame also the share that kept constraints."""
    import numpy as np
    import pandas as pd

    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    if not isinstance(parts[0], pd.DataFrame):
        return np.concatenate(parts)
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True)
    frame.attrs = dict(parts[0].attrs)
    if ACCEPTANCE in frame.attrs:
        tries = [(len(part), len(part) / part.attrs[ACCEPTANCE]) for part in parts]
        frame.attrs[ACCEPTANCE] = _share(tries)
    return frame


def _tell_draws(
    model: Any,
    X: Any,
    drawn: Any,
    asked: dict[str, Any],
    writer: Any,
    out: str | None,
    voice: Voice,
) -> None:
    """The draws, on the screen or in the file; ``writer``: of pictures."""
    worth = _worth(getattr(X, "attrs", {}).get("status"), asked)
    if writer is not None:
        _write_drawn(writer, model, X, drawn, str(out), voice, worth)
        return
    X = _framed(model, X)
    _say_rows(X.attrs.get(ACCEPTANCE), asked["where"], model.codec, out, voice)
    if drawn is not None:
        y_column = drawn if out is None else model.target.write(drawn)
        X = X.assign(**{str(model.target.name): y_column})
    if out is not None and out.endswith(SHEET):
        _write_sheet(X, out, voice, worth)
        return
    table = _placed(X, out)
    _say_status(X.attrs.get("status"), asked, out, voice)
    share: dict[str, Any] = {ACCEPTANCE: X.attrs[ACCEPTANCE]} if asked["where"] else {}
    answer(table, out, voice, **share, **worth)


def _claim_strip(target: Any, out: str, force: bool, others: dict[str, Any]) -> None:
    """ValueError or FileExistsError where the way to draws can't be shown, or not beside what
    ``others`` asks for."""
    claim(out, force, (SHEET,))
    named = [name for name, value in others.items() if value]
    if named:
        raise ValueError(
            f"--strip shows plain draws given columns, and --{min(named)} asks for others: leave "
            "out one of them."
        )
    if target is not None:
        raise ValueError("--strip is for models of pictures without a target.")


def _write_strip(estimator: Any, n: int, asked: dict[str, Any], out: str, voice: Voice) -> None:
    """Some of what the first pictures go through, one row each."""
    from conjoin.cli.pictures import states_of, write_sheet

    kept = {name: asked[name] for name in ("given", "random_state", "guidance", "steps")}
    states = estimator.unfold(n, **kept)
    last = len(states) - 1
    some = sorted({round(last * place / (STRIP_STATES - 1)) for place in range(STRIP_STATES)})
    images = states_of([states[place] for place in some], MAX_STRIPS)
    write_sheet(images, out, len(some))
    voice.path(f"The way to the first {len(images) // len(some)} lies in {out}.")


def _told_seed(out: str | None, voice: Voice) -> int:
    """A new seed, which is told, so that the rows can be drawn again."""
    seed = secrets.randbelow(MAX_SEED)
    if out != "-":
        voice.note(f"New rows each time; --seed {seed} draws these again.")
    return seed


def _say_rows(share: float | None, where: Any, codec: Any, out: str | None, voice: Voice) -> None:
    """What drawn rows of a table have in common; ``share`` of those drawn that kept constraints."""
    if where:
        voice.aside(
            f"{share:.1%} of the rows drawn kept the constraints; the others were drawn again."
        )
    if out != "-" and (gaps := codec.gaps):
        how = (
            ""
            if not codec.informative
            else ": to draw those too, fit with --missingness informative"
        )
        voice.aside(f"Drawn rows have no gaps, which {some_names(gaps)} had{how}.")


def _claim(codec: Any, out: str | None, force: bool, where: Any) -> Any:
    """What writes the drawn rows, None for tables; an error where they could not be written in the
    end."""
    writer = writer_of(codec)
    if writer is None:
        _claim_table(codec, out, force)
        return None
    if where:
        raise ValueError(
            f"--where is about the columns of tables, and this model is of {codec.plural}."
        )
    writer.claim_drawn(out, force)
    return writer


def _claim_table(codec: Any, out: str | None, force: bool) -> None:
    """An error where a table, or its pictures, beside it or on a sheet, could not be written in the
    end."""
    from conjoin.cli.pictures import claim_beside, claims_sheet

    if claims_sheet(codec, out):
        claim(out, force, (SHEET,))
        return
    claim(out, force)
    claim_beside(codec, out, force)


def _write_sheet(table: Any, out: str, voice: Voice, worth: dict[str, Any]) -> None:
    """The pictures of a table on one sheet, and what stands beside each; ``worth``: their status,
    where it is told."""
    from conjoin.cli.pictures import sheet_of

    rest = sheet_of(table, out)
    for row, words in enumerate(rest.astype(str).agg("; ".join, axis=1), 1):
        voice.note(f"{row}: {words}")
    voice.path(f"{len(table):,} pictures lie in {out}.")
    voice.json({"rows": rest.to_dict("records"), "out": out, **worth})


def _placed(table: Any, out: str | None) -> Any:
    """Paths in place of the pictures of a table."""
    from conjoin.cli.pictures import placed

    return placed(table, out)


def _write_drawn(
    writer: Any,
    model: Any,
    drawn: Any,
    labels: Any,
    out: str,
    voice: Voice,
    worth: dict[str, Any],
) -> None:
    """Drawn pictures or molecules in their files; ``worth`` as of ``_write_sheet``."""
    import pandas as pd

    if out.endswith(TABLES):
        frame = model.rows(drawn).frame
        answer(
            frame if labels is None else frame.assign(**{str(model.target.name): labels}),
            out,
            voice,
            **worth,
        )
        return
    named = None if labels is None else pd.Series(labels, name=str(model.target.name))
    count = writer.write_drawn(drawn, named, model.codec, out, voice)
    lie = "s lie" if count > 1 else " lies"
    voice.path(f"{count:,} {model.codec.noun}{lie} in {out}.")
    voice.json({"rows": count, "out": out, **worth})


def _wanted_or_range(target: Any, text: str) -> Any:
    """As ``_wanted``; of a number also a range, as a tuple."""
    between = target is not None and not target.discrete and ".." in text
    return range_of(text, "--y") if between else _wanted(target, text)


def _wanted(target: Any, text: str) -> Any:
    """A y as typed, in the target's own type."""
    if target is None:
        raise ValueError("--y asks for a target, which this model does not have.")
    if target.discrete:
        return labels_of([text], target)[0]
    try:
        return target.asked(text)
    except ValueError:
        raise ValueError(f"--y {text}: {target.name!r} is a number.") from None


def impute(
    model: opt.ModelFolder,
    data: opt.Rows,
    draws: opt.Draws = None,
    alternatives: opt.Alternatives = None,
    strategy: opt.Strategy = "mean",
    y: opt.GivenY = None,
    hide: opt.Hide = None,
    mask: opt.Mask = None,
    given: KnownBeside = None,
    tails: opt.Tails = False,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    force: opt.Force = False,
    mark: opt.Mark = True,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
) -> None:
    """Fill in missing cells: by the means of numbers and the most probable levels, or by random
    draws, stacked under a column `draw`. Hidden parts of pictures: the completions, the most
    probable first. A missing string, such as the caption of a picture: the most probable ones."""
    voice = Voice(quiet, as_json, out == "-")
    limits = limits_of(max_bytes, max_ratio, max_columns)
    reader = reader_of(data)
    if reader is not None:
        reader.refuse_parts(data)
    hides = hide is not None or mask is not None
    if alternatives is None and reader is not None:
        estimator = load_model(model, device)
        if writer_of(estimator.model_.codec) is not None:
            _refuse_given(given, "this model knows nothing beside pictures: --y gives a class")
            if out not in (None, "-"):
                claim_pictures(out, force)
            say_unfinished(estimator.model_, voice)
            pictures = at_once(estimator.model_, data, limits, part, voice, skip_broken)
            with marked(voice, "impute", model, estimator.model_, out, mark, seed, partly=True):
                _complete(estimator, pictures, hide, mask, draws, seed, y, out, voice)
            return
        strings = any(column.type == "text" for column in estimator.model_.codec.schema.modelled)
        alternatives = USUAL_ALTERNATIVES if strings and not hides else None
    if alternatives is not None:
        beside = {"--draws": draws, "--hide": hide, "--mask": mask, "--y": y, "--part": part}
        beside |= {"--skip-broken": skip_broken or None, "--tails": tails or None}
        _refuse_beside_alternatives(beside | {"--given": given or None}, told=reader is not None)
        claim(out, force)
        estimator = load_model(model, device)
        from conjoin.questions.alternatives import refuse_without_strings

        refuse_without_strings(estimator.model_, alternatives)
        say_unfinished(estimator.model_, voice)
        frame = _strings_missing(estimator.model_, data, limits, voice)
        with marked(voice, "impute", model, estimator.model_, out, mark, seed, partly=True):
            _tell_alternatives(estimator, frame, alternatives, out, voice)
        return
    refuse_for_tables(data, {"--part": part, "--skip-broken": skip_broken or None})
    if reader is None:
        _refuse_given(given, f"what is known of the rows of {data} stands in its columns")
    estimator = load_model(model, device)
    _claim_table(estimator.model_.codec, out, force)
    wanted = None if y is None else _wanted(estimator.model_.target, y)
    say_unfinished(estimator.model_, voice)
    frame = _strings_missing(estimator.model_, data, limits, voice)
    files = None if reader is None else frame.iloc[:, 0]
    _refuse_onto_inputs(estimator.model_.codec, frame, out)
    _take_given(frame, given, estimator.model_.codec.schema, data)
    _refuse_names(frame, ("draw",) if draws is not None else ())
    asked = {"n_draws": draws, "y": wanted, "tails": tails, "strategy": strategy}
    if hides:
        frame = _without_hidden(estimator, frame, hide, mask, out, voice)
    full = _filled_in(estimator, frame, hides, seed, voice, asked)
    with marked(voice, "impute", model, estimator.model_, out, mark, seed, partly=True):
        _tell_filled(estimator.model_, frame, full, draws, out, voice, files)


def _without_hidden(
    estimator: Any, frame: Any, hide: str | None, mask: str | None, out: str | None, voice: Voice
) -> Any:
    from conjoin.cli.edits import hide_in_table, of_sheet

    return hide_in_table(estimator, of_sheet(frame, out, voice), hide, mask, voice)


def _filled_in(
    estimator: Any, frame: Any, in_part: bool, seed: int, voice: Voice, asked: dict[str, Any]
) -> Any:
    """The rows without gaps; where pictures are known ``in_part`` with a bar, as they take long."""
    from conjoin.cli.edits import complete_table

    if in_part:
        return complete_table(estimator, frame, seed, voice, **asked)
    return estimator.impute(frame, random_state=seed, **asked)


def _tell_filled(
    model: Any,
    frame: Any,
    full: Any,
    draws: int | None,
    out: str | None,
    voice: Voice,
    files: Any,
) -> None:
    """The filled rows, those of several draws below each other, and which cells were filled.
    ``files``: of pictures that are the rows, whose names come first."""
    import pandas as pd

    from conjoin.model.words import plural

    several = [_framed(model, each) for each in (full if draws is not None else [full])]
    cells = _filled(frame, several, model.codec)
    if files is not None:
        several = [each.assign(file=files[: len(each)])[["file", *each]] for each in several]
    table = several[0]
    if draws is not None:
        numbered = [each.assign(draw=i) for i, each in enumerate(several, 1)]
        table = pd.concat(numbered, ignore_index=True)
        table = table[["draw", *(name for name in table if name != "draw")]]
    voice.aside(
        f"{plural(len(cells), 'cell')} filled in {cells['row'].nunique():,} of "
        f"{plural(len(frame), 'row')}." + _replaced_words(cells)
    )
    _tell_unlabelled(model, frame, voice)
    if out is None and any(column.is_picture for column in model.codec.schema.modelled):
        voice.note("-o NAME.csv keeps the pictures, in a folder beside it; -o NAME.png on a sheet.")
    if out is not None and out.endswith(SHEET):
        _write_filled(model.codec, frame, several, out, voice)
        return
    answer(_placed(table, out), out, voice, cells if len(cells) else None, ("filled with",))


def _write_filled(codec: Any, frame: Any, several: list[Any], out: str, voice: Voice) -> None:
    """The pictures on one sheet, a line for each row, and what stands beside each."""
    from conjoin.cli.edits import filled_sheet
    from conjoin.model.words import plural

    filled_sheet(codec, frame, several, out)
    rest = [each.drop(columns=codec.pictures).astype(str) for each in several]
    told = [each.agg("; ".join, axis=1).tolist() for each in rest]
    for row, words in enumerate(zip(*told, strict=True), 1):
        voice.note(f"{row}: {' | '.join(dict.fromkeys(words))}")
    voice.path(f"The pictures of {plural(len(frame), 'row')} lie in {out}.")
    voice.json({"rows": [each.to_dict("records") for each in rest], "out": out})


def _tell_unlabelled(model: Any, frame: Any, voice: Voice) -> None:
    """That missing cells of the target stay so."""
    name = None if model.target is None else model.target.name
    missing = 0 if name not in frame else int(frame[name].isna().sum())
    if missing:
        voice.note(
            f"{missing:,} rows lack {name!r}, which stays empty: `conjoin predict` tells it."
        )


def _complete(
    estimator: Any,
    pictures: Any,
    hide: str | None,
    mask: str | None,
    draws: int | None,
    seed: int,
    y: str | None,
    out: str | None,
    voice: Voice,
) -> None:
    """Completions of the hidden part of pictures."""
    from conjoin.cli.edits import complete_pictures, hidden_part

    wanted = None if y is None else _wanted(estimator.model_.target, y)
    hidden = hidden_part(estimator, hide, mask, voice)
    complete_pictures(estimator, pictures, hidden, draws, seed, wanted, out, voice)


def _refuse_beside_alternatives(asked: dict[str, Any], told: bool) -> None:
    """``told``: whether files of pictures are asked for their strings."""
    for option, value in asked.items():
        if value is not None and told and option in ("--draws", "--given", "--y", "--tails"):
            raise ValueError(
                f"{option} goes with --hide or --mask: of whole pictures the most probable strings "
                "are told."
            )
        if value is not None:
            raise ValueError(
                f"{option} can't be asked beside the alternatives of a missing string: leave out "
                "one of them."
            )


def _refuse_onto_inputs(codec: Any, frame: Any, out: str | None) -> None:
    from conjoin.cli.pictures import refuse_onto_inputs

    refuse_onto_inputs(codec, frame, out)


def _refuse_given(given: list[str] | None, why: str) -> None:
    if given:
        raise ValueError(f"--given says what is known beside files of pictures, and {why}.")


def _take_given(frame: Any, given: list[str] | None, schema: Any, data: str) -> None:
    """Put what is known of all rows into the frame; ValueError for a column that is there, for
    ranges, several levels and beginnings."""
    found = given_of(given, schema)
    begun = {text.partition("=")[0] for text in given or () if text.endswith(ELLIPSIS)}
    begun &= {str(column.name) for column in schema.drawn if column.is_block}
    for name, value in found.items():
        if name in frame:
            raise ValueError(f"--given {name}= is what {data} holds: leave it out.")
        if str(name) in begun or isinstance(value, tuple | list):
            raise ValueError(
                f"--given {name}= takes one whole value here, the same for all pictures; ranges, "
                "several levels and beginnings are for `conjoin sample`."
            )
        frame[name] = value


def _strings_missing(model: Any, data: str, limits: Any, voice: Voice) -> Any:
    """Rows of a table, or of one column of pictures, whose strings are to be told."""
    if reader_of(data) is None:
        return read(data, limits, voice, model.codec)
    from conjoin.cli.pictures import as_table

    return as_table(model.codec, data)


def _tell_alternatives(
    estimator: Any, frame: Any, count: int, out: str | None, voice: Voice
) -> None:
    """The most probable strings of each row that lacks one; rows count from 1."""
    table = estimator.alternatives(frame, count)
    table["row"] += 1
    voice.aside(
        "The most probable strings that a beam finds, with their exact probabilities; what is left "
        "is that of all others."
    )
    screen = table.assign(
        **{name: table[name].map("{:.3g}".format) for name in ("probability", "left")}
    )
    strings = [str(name) for name in table if name not in ("row", "probability", "left")]
    answer(table, out, voice, screen, tuple(strings))


def _replaced_words(cells: Any) -> str:
    """How many cells were not empty, but could not be read."""
    if REPLACED not in cells:
        return ""
    rows = int((cells[REPLACED] != "").sum())
    held = "1 of them held" if rows == 1 else f"{rows:,} of them held"
    return f" {held} what can't be read, which is replaced."


def _framed(model: Any, rows: Any) -> Any:
    """The rows as a table: strings come as a list."""
    return rows if model.codec.columnwise else model.rows(rows).frame


def _filled(frame: Any, several: list[Any], codec: Any) -> Any:
    """(row, column, filled with) of each cell that was missing, and in place of what, where some
    could not be read."""
    import numpy as np
    import pandas as pd

    from conjoin.codecs.image.pictures import in_part
    from conjoin.codecs.table.reading import gaps_of, unreadable

    found: list[tuple[int, str, str, str]] = []
    known = {column.name: column for column in codec.schema.columns}
    for name in dict.fromkeys([*codec.columns, *(each.name for each in codec.schema.drawn)]):
        gaps: Any = range(len(frame))
        bad = np.zeros(len(frame), dtype=bool)
        if name in frame:
            cells = frame[name]
            gone = gaps_of(known[name], cells) if name in known else cells.isna().to_numpy()
            gone = gone | in_part(cells)
            if name in known and known[name].numeric:
                bad = unreadable(known[name], cells)[0]
            gaps = (gone | bad).nonzero()[0]
        found += [
            (
                int(row) + 1,
                str(name),
                ", ".join(shown(each[name].iloc[row]) for each in several[:8]),
                str(frame[name].iloc[row]) if bad[row] else "",
            )
            for row in gaps
        ]
    found.sort(key=_first)
    table = pd.DataFrame(found, columns=["row", "column", "filled with", REPLACED])
    return table if (table[REPLACED] != "").any() else table.drop(columns=REPLACED)


def _refuse_names(frame: Any, added: tuple[str, ...]) -> None:
    """The answer has columns of its own, which must not hide one of the table."""
    taken = [name for name in added if name in frame]
    if taken:
        raise ValueError(
            f"The table has a column {taken[0]!r}, which is also a column of the answer: rename it."
        )


def _first(cell: tuple[int, str, str, str]) -> int:
    return cell[0]


def counterfactual(
    model: opt.ModelFolder,
    data: opt.Rows,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="The class wanted (default: the runner-up), or a range low..high of a number.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Must not change. Repeatable.", show_default=False
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            help="How many options for each row of a table.  [default: 3]",
            min=1,
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
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
) -> None:
    """Small, plausible changes of each row, or picture, after which the answer would be another."""
    voice = Voice(quiet, as_json, out == "-")
    limits = limits_of(max_bytes, max_ratio, max_columns)
    reader = reader_of(data)
    if reader is not None:
        reader.refuse_parts(data)
        from conjoin.cli.edits import alter_pictures

        for option, value in {"--keep": keep or None, "-n": n}.items():
            if value is not None:
                raise ValueError(f"{option} is about tables, and {data} holds pictures.")
        if out not in (None, "-"):
            claim_pictures(out, force)
        estimator = load_model(model, device)
        wanted = None if to is None else _goal(estimator.model_.target, to)
        say_unfinished(estimator.model_, voice)
        pictures = at_once(estimator.model_, data, limits, part, voice, skip_broken)
        with marked(voice, "counterfactual", model, estimator.model_, out, mark, seed, partly=True):
            alter_pictures(estimator, pictures, wanted, seed, out, voice)
        return
    refuse_for_tables(data, {"--part": part, "--skip-broken": skip_broken or None})
    claim(out, force)
    estimator = load_model(model, device)
    _claim_table(estimator.model_.codec, out, force)
    wanted = _wanted_answer(estimator.model_.target, to)
    say_unfinished(estimator.model_, voice)
    frame = read(data, limits, voice, estimator.model_.codec)
    _refuse_names(frame, ("row", "option", "changed", "probability", "familiarity", "to"))
    table = estimator.counterfactual(
        frame, to=wanted, keep=tuple(keep or ()), n=n or 3, random_state=seed
    ).reset_index()
    table["row"] += 1
    table["option"] += 1
    goal = ["to"] if to is None else []
    screen = table[["row", *goal, "changed", "probability", "familiarity"]].rename(
        columns={"probability": f"p({to or 'to'})"}
    )
    # the label that a file has is that of the row before its changes
    name = str(estimator.model_.target.name)
    table = table.rename(columns={name: f"{name} before"})
    with marked(voice, "counterfactual", model, estimator.model_, out, mark, seed, partly=True):
        answer(_placed(table, out), out, voice, screen, ("changed",))


def _wanted_answer(target: Any, to: str | None) -> Any:
    """A class or a range; None for the runner-up among classes."""
    if to is not None:
        return _goal(target, to)
    if target is None or not target.discrete:
        raise ValueError("--to is needed: the class wanted, or a range low..high of a number.")
    return None


def _goal(target: Any, text: str) -> Any:
    if target is None:
        raise ValueError("counterfactual asks for another answer, and this model has no target.")
    return labels_of([text], target)[0] if target.discrete else range_of(text, "--to")
