"""python -m conjoin.demos.pictures: a joint model of pictures and words in minutes, and a page of
what it draws and says.

Scenes of a coloured shape with captions are drawn from a seed
(``conjoin.datasets.draw_scenes``); six pairs of a colour and a shape are kept out of the fit. The
model draws pictures for captions, with pairs that it has seen and with those that it has not, and
writes captions of its own drawings and of real pictures. A judge without learning reads each
drawing. Ctrl-C stops the fit, and the same command goes on from there.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.image.pictures import pictures_in, stacked
from conjoin.datasets import draw_scenes, judge_scene
from conjoin.demos.arguments import parser_of
from conjoin.demos.generated import generated
from conjoin.demos.images import show
from conjoin.demos.resumed import resumed
from conjoin.families.multimodal import Multimodal

__all__ = ["cases", "fitted", "main", "scenes_of", "sentences", "table"]

SEED = 0
SECONDS = 310.0
ROWS = 6000
FAMILY: Any = Multimodal()
PATTERNS = ("one",)  # what minutes are enough for
ASKED = 40  # prompts, of each kind
SHOWN = 8  # of them on the page, of each kind
TYPES = {"caption": {"type": "text", "format": "words"}}
ZOOM = 3  # pixels of the page for one of a picture
INTERRUPTED = 130


def scenes_of(n: int, seed: int, unseen: bool = False) -> Any:
    """Captioned scenes; ``unseen``: those with a pair of colour and shape that no fit sees."""
    return draw_scenes(n, seed, patterns=PATTERNS, only_held_out=unseen)


def table(pictures: Any, captions: Any) -> pd.DataFrame:
    """A table of both; None where one is not known."""
    rows = len(captions if pictures is None else pictures)
    nothing = [None] * rows
    cells = {"picture": pictures, "caption": captions}
    return pd.DataFrame(
        {
            name: pd.Series(nothing if found is None else list(found), dtype=object)
            for name, found in cells.items()
        }
    )


def fitted(rows: int, folder: Path, seconds: float) -> Any:
    """The model of so many scenes with captions; None if its fit was broken off."""

    def begin() -> tuple[Any, tuple[Any, ...]]:
        import conjoin

        scenes = scenes_of(rows, SEED)
        model = conjoin.JointDensity(
            family=FAMILY, max_time=seconds, random_state=SEED, types=TYPES, verbose=True
        )
        return model, (table(scenes.pictures, scenes.captions),)

    return resumed(folder, rows, begin)


def cases(model: Any, scenes: Any) -> pd.DataFrame:
    """A row for each caption: what was drawn for it, what the model says of its drawing, and what
    the judge finds wrong."""
    drawn = model.impute(table(None, scenes.captions), n_draws=1, random_state=SEED)[0]
    pictures = stacked(pictures_in(drawn["picture"]))
    told = model.impute(table(pictures, None))["caption"]
    return pd.DataFrame(
        {
            "asked for": scenes.captions,
            "drawn": list(pictures),
            "told of it": told.tolist(),
            "wrong": [_wrong(*each) for each in zip(pictures, scenes.scenes, strict=True)],
        }
    )


def _wrong(picture: np.ndarray, scene: Any) -> str:
    verdict = judge_scene(picture, scene)
    return ", ".join(slot for slot, right in verdict.items() if not right and slot != "all")


def sentences(model: Any, found: dict[str, pd.DataFrame]) -> list[str]:
    """What the model is worth, good or bad."""
    from conjoin.model.words import percent

    out = []
    for kind, table_of in found.items():
        right = (table_of["wrong"] == "").mean()
        agrees = (table_of["told of it"] == table_of["asked for"]).mean()
        out.append(
            f"Captions with {kind}: the judge finds all that was asked for in {percent(right)} of "
            f"{len(table_of)} drawings, and the model's own caption of its drawing is the one that "
            f"it was asked for in {percent(agrees)}."
        )
    real = scenes_of(ASKED, SEED + 3)
    told = np.array(model.impute(table(real.pictures, None))["caption"].tolist())
    out.append(
        f"Captions of {ASKED} real pictures: {percent((told == real.captions).mean())} are right "
        "to the letter."
    )
    return out


def _on_page(found: pd.DataFrame) -> pd.DataFrame:
    """The first rows, as the page shows them."""
    from markupsafe import Markup

    def shown(picture: np.ndarray) -> Markup:
        from conjoin.codecs.image.colours import pillow

        side = ZOOM * picture.shape[0]
        file = io.BytesIO()
        pillow().Image.fromarray(picture).resize((side, side), 0).save(file, "png")
        code = base64.b64encode(file.getvalue()).decode()
        return Markup('<img src="data:image/png;base64,{}" alt="a drawing">').format(code)

    page = found.head(SHOWN)
    judge = page["wrong"].map(lambda wrong: f"not as asked: {wrong}" if wrong else "as asked")
    drawn = pd.Series([shown(picture) for picture in page["drawn"]], page.index, dtype=object)
    return page.assign(drawn=drawn, judge=judge).drop(columns="wrong")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0; 130 where it was interrupted."""
    parser = parser_of("pictures", __doc__, SECONDS, "training")
    parser.add_argument(
        "--rows", type=int, default=ROWS, help="scenes to learn from (default: %(default)d)"
    )
    asked = parser.parse_args(arguments)
    folder = Path(asked.out)
    print(f"{asked.rows:,} scenes of one shape each, with captions, drawn from a seed.")
    if not (folder / "model").exists():
        print(
            f"Training takes {asked.seconds:.0f} seconds in all, what follows one or two minutes; "
            "Ctrl-C stops it, and the same command goes on."
        )
    model = fitted(asked.rows, folder, asked.seconds)
    if model is None:
        print(f"Interrupted. The same command goes on from what lies in {folder}.")
        return INTERRUPTED
    return _story(model, folder)


def _story(model: Any, folder: Path) -> int:
    """Figures, report, browser."""
    from conjoin.report import write_report

    found = {
        "pairs of colour and shape that the fit has seen": cases(model, scenes_of(ASKED, SEED + 1)),
        "pairs that it has not seen": cases(model, scenes_of(ASKED, SEED + 2, unseen=True)),
    }
    notes = sentences(model, found)
    print("", *notes, "", sep="\n")
    rows = pd.concat([_on_page(part) for part in found.values()], ignore_index=True)
    page = folder / "report.html"
    with generated(model, "report", page):
        write_report(model, page, cases=rows, notes=notes)
    print(f"The report: {page}\nThe model, which the next call takes as it is: {folder / 'model'}")
    show(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
