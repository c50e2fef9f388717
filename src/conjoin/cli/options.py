"""Arguments and options that several verbs share: one name, one meaning, one line of help."""

from typing import Annotated, Any

import typer

from conjoin.cli.target import TASKS
from conjoin.predictors import choices

__all__ = [
    "Alternatives",
    "Calibration",
    "ChunkRows",
    "Data",
    "Device",
    "Draws",
    "Emphasis",
    "Even",
    "FalseAlarm",
    "Family",
    "Force",
    "FreshSeed",
    "GivenY",
    "GreyRange",
    "Groups",
    "Guidance",
    "Hide",
    "Json",
    "KeepColumns",
    "Levels",
    "Log",
    "Mark",
    "Mask",
    "MaxBytes",
    "MaxColumns",
    "MaxError",
    "MaxKwh",
    "MaxRatio",
    "MaxTime",
    "MaxWidth",
    "Missing",
    "Missingness",
    "ModelFolder",
    "ModelOut",
    "Out",
    "Part",
    "PartOfFit",
    "Precision",
    "Predictor",
    "Quiet",
    "Ray",
    "Reasons",
    "Resize",
    "Resume",
    "Rows",
    "SayEnergy",
    "Schema",
    "Seed",
    "Shard",
    "Size",
    "SkipBroken",
    "StartFrom",
    "Steps",
    "Strategy",
    "Strip",
    "Tails",
    "Target",
    "Task",
    "Temperature",
    "Time",
    "TopK",
    "TopP",
    "Unlabelled",
    "Workers",
]


def _limit(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Limits on the table", show_default=False)


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="CSV (also .gz) or Parquet file; - is standard input.",
        show_default=False,
    ),
]
Rows = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="CSV (also .gz) or Parquet file, - is standard input; or pictures: a folder, a file "
        "or an .npz.",
        show_default=False,
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="train|val|test",
        help="Of pictures that are split into parts (default: test).",
        show_default=False,
    ),
]
ModelFolder = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder that `conjoin fit` wrote.", show_default=False),
]
Target = Annotated[
    str | None, typer.Option("--target", help="The column to predict.", show_default=False)
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="Where the whole answer goes: .csv, .csv.gz or .parquet; - is standard output. "
        "Pictures: a folder, .png or .npz.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")]
Mark = Annotated[
    bool,
    typer.Option(
        "--mark/--no-mark",
        help="Mark files as generated: a C2PA manifest in pictures, a mark beside other files.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="The answer as one JSON object on standard output.")
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same answer.")]
Tails = Annotated[
    bool, typer.Option("--tails", help="Let numbers leave the range of the rows of the fit.")
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature",
        help="Of strings: below 1 the more probable tokens are drawn more often than by p.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Of strings: draw each token from the K most probable ones (default: all).",
        show_default=False,
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p",
        help="Of strings: draw each token from the fewest that have this share of p.",
    ),
]
DrawPrecision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Of strings: bfloat16 or int8 draws faster, by a network that is rounded.",
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        help="Of pictures: how much what is given is exaggerated; above 0 they are no draws of "
        "the model (default: as fitted).",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Of pictures: steps of the way from noise (default: as fitted).",
        show_default=False,
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        help="Of pictures that are given a string: draw so many of each and keep one, the likelier "
        "the more probable the string is given it; above 1 they are no draws of the model.",
        show_default=False,
    ),
]
Strip = Annotated[
    str | None,
    typer.Option(
        "--strip",
        metavar="NAME.png",
        help="Of pictures: the way to each of the first 8, one row each.",
        show_default=False,
    ),
]
Even = Annotated[
    bool,
    typer.Option(
        "--even",
        help="Spread the rows evenly: each is a draw of the model, but they are not independent "
        "(family forest).",
    ),
]
FreshSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="The same seed gives the same rows (default: new ones each time).",
        show_default=False,
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        metavar="[COLUMN=]VALUE",
        help="A value that means missing. Repeatable.",
        show_default=False,
    ),
]
FalseAlarm = Annotated[
    float,
    typer.Option("--false-alarm", help="Share of ordinary rows that may be called unfamiliar."),
]
MaxError = Annotated[
    list[str] | None,
    typer.Option(
        "--max-error",
        metavar="RATE|LABEL=RATE|none",
        help="Share of accepted answers that may be wrong (default 0.05), or, repeatable, of the "
        "rows of a class; none promises nothing.",
        show_default=False,
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws",
        help="Fill in by so many random draws, not by one value.",
        show_default=False,
    ),
]
Alternatives = Annotated[
    int | None,
    typer.Option(
        "--alternatives",
        help="Of a missing string: so many of the most probable ones, with their probabilities "
        "(of files of pictures: 5).",
        min=1,
        show_default=False,
    ),
]
Strategy = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="mean|median|mode",
        help="Of numbers: their mean, their median, or as in the most probable completion.",
    ),
]
MaxBytes = Annotated[int | None, _limit("Bytes of a table once unpacked (default 2 GB).")]
MaxRatio = Annotated[float | None, _limit("Bytes unpacked per byte of an archive (default 100).")]
MaxColumns = Annotated[int | None, _limit("Columns (default 2000).")]
ChunkRows = Annotated[
    int | None, _limit("Read the table so many rows at a time (a large one is read so anyway).")
]

# Of several processes.
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Let the workers of a Ray cluster answer: one of this machine alone, or that at the "
        "address, auto or host:port.",
        rich_help_panel="Several processes",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="How many processes of the cluster answer (default: one for each processor).",
        min=1,
        rich_help_panel="Several processes",
        show_default=False,
    ),
]

# Of `fit` alone.
Shard = Annotated[
    bool,
    typer.Option(
        "--shard",
        help="Under torchrun: each process holds a part of the layers of a network of strings.",
        rich_help_panel="Several processes",
    ),
]
ModelOut = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", help="The model's folder (default <name>-model/).", show_default=False
    ),
]
Task = Annotated[str, typer.Option("--task", metavar="|".join(TASKS), help="What the target is.")]
Family = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="NAME[:SETTING=VALUE,...]",
        help="How p(x) is modelled; `conjoin families` lists them, auto compares them "
        "(default: circuit, or as --start-from). Settings follow the name: circuit:width=64, "
        "multimodal:strings.reading=0.3,strings.steps=500.",
        show_default=False,
    ),
]
Predictor = Annotated[
    str,
    typer.Option(
        "--predictor",
        metavar="|".join(str(name).lower() for name in choices()),
        help="What gives p(y | x).",
    ),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", help="A schema that `conjoin check` wrote.", show_default=False),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--types",
        metavar="COLUMN=TYPE",
        help="What a column holds, such as review=text or review=text:bytes. Repeatable.",
        show_default=False,
    ),
]
Missingness = Annotated[
    str,
    typer.Option(
        "--missingness",
        metavar="ignorable|informative",
        help="Whether it tells something that a cell is missing.",
    ),
]
Unlabelled = Annotated[
    str | None,
    typer.Option(
        "--unlabelled",
        help="A label that means not known; empty cells always do.",
        show_default=False,
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        help="A column; rows that share its value stay together. Of pictures in "
        "label/group/picture: folder.",
        show_default=False,
    ),
]
Time = Annotated[
    str | None,
    typer.Option("--time", help="A column; the latest rows calibrate.", show_default=False),
]
Calibration = Annotated[
    float, typer.Option("--calibration", help="Share of rows held out for the two alarms.")
]
MaxTime = Annotated[
    float | None,
    typer.Option("--max-time", help="Seconds for the whole fit.", show_default=False),
]
MaxKwh = Annotated[
    float | None, typer.Option("--max-kwh", help="Energy for the training.", show_default=False)
]
Emphasis = Annotated[
    str,
    typer.Option(
        "--emphasis",
        metavar="NUMBER|auto",
        help="Extra weight of p(y | x) in the loss of a network.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:1",
        help="Where it computes; auto is a graphics processor where there is one.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|float32|bfloat16",
        help="Of networks of pictures; auto is the faster one here.",
    ),
]
Speed = Annotated[
    str,
    typer.Option(
        "--speed",
        metavar="default|fast",
        help="fast leaves out what costs most for what it gains, and says what.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted fit left off.")]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="PIXELS|HxW",
        help="Cut and scale pictures to one size.",
        show_default=False,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        metavar="cut|pad|stretch",
        help="What --size does to pictures of other proportions.  [default: cut]",
        show_default=False,
    ),
]
GreyRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW..HIGH",
        help="Of pictures of more than 8 bits: the values, or percentiles such as 1%..99%, that "
        "become black and white.",
        show_default=False,
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels",
        help="Grey levels of a pixel, if fewer than 256.",
        min=2,
        max=256,
        show_default=False,
    ),
]
SkipBroken = Annotated[
    bool,
    typer.Option(
        "--skip-broken",
        help="Leave out files of pictures, and in a fit rows of molecules, that are broken.",
    ),
]
PartOfFit = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="train|val|test",
        help="Of pictures split into parts (default: train).",
        show_default=False,
    ),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start-from",
        metavar="MODEL",
        help="A model of the same columns to go on from; of molecules, also one with other "
        "properties or none.",
        show_default=False,
    ),
]

# Of `decide` alone.
MaxWidth = Annotated[
    float | None,
    typer.Option(
        "--max-width",
        help="Of the interval of a number; wider ones are ambiguous.",
        show_default=False,
    ),
]
SayEnergy = Annotated[bool, typer.Option("--energy", help="Say what the verdicts took, in joules.")]
KeepColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="COLUMN",
        help="A column of the table that goes into the answer. Repeatable; columns that name the "
        "rows go anyway.",
        show_default=False,
    ),
]
Reasons = Annotated[
    bool, typer.Option("--reasons/--no-reasons", help="Whether to say why a row is unfamiliar.")
]
Log = Annotated[
    str | None,
    typer.Option(
        "--log", help="A file to which one JSON line per row is appended.", show_default=False
    ),
]

# Of `impute` alone.
GivenY = Annotated[
    str | None,
    typer.Option(
        "--y", help="The class, or the number, that is taken to hold.", show_default=False
    ),
]
Hide = Annotated[
    str | None,
    typer.Option(
        "--hide",
        metavar="top|bottom|left|right|R..R:C..C",
        help="Of pictures, also a table's: a half, or rows and columns from (counted from 0) up "
        "to, but not with; an end may be left out.",
        show_default=False,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="PICTURE",
        help="Of pictures: what is white in it is hidden.",
        show_default=False,
    ),
]
