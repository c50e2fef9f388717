"""Ready models from folders of pretrained weights: asked at once, and calibrated on rows of your
own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.block_columns import PictureColumn, StringColumn
from conjoin.codecs.composite import CompositeCodec
from conjoin.codecs.image.codec import PIXEL_LEVELS, ImageCodec
from conjoin.codecs.table import TableCodec
from conjoin.codecs.table.rows import TableRows
from conjoin.codecs.text import TextCodec
from conjoin.core import Codec, Config, Density, stream
from conjoin.core.device import choose_device
from conjoin.datasets.prompts import PARAGRAPHS
from conjoin.estimators.density import JointDensity
from conjoin.families.pretrained.caption import is_captioner, picture_in
from conjoin.families.pretrained.language import Language
from conjoin.families.pretrained.pair import ConditionalPair
from conjoin.families.pretrained.picture import DiffusersPicture, grid_in
from conjoin.families.pretrained.text import TransformersText
from conjoin.families.pretrained.text_to_image import canvas_in, draws_texts
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import card_of
from conjoin.fitting.split import Rows, split_of, weighted
from conjoin.model.calibrate import calibrate, teach
from conjoin.model.model import Model
from conjoin.model.state import State
from conjoin.nets.llama_weights import fits_layout
from conjoin.training.data import Split
from conjoin.util.gguf import is_gguf
from conjoin.util.pretrained import checked_folder, config_of

__all__ = ["alternatives", "from_pretrained"]

DEFAULT_CAPACITY = 256  # tokens of a string
PICTURE = "picture"  # names of the columns of a picture and its caption
CAPTION = "caption"
WHOLE = ("", "float32", "float64")  # precisions that round no weight
MAX_JUDGES = 16  # familiar rows that say what few bits cost, beside plain English
TYPICAL_SHARE = 0.5  # of the rows that say what is typical; the others calibrate


def from_pretrained(
    folder: str | Path,
    X: Any = None,
    *,
    capacity: int = DEFAULT_CAPACITY,
    device: str = "auto",
    random_state: int = 0,
    **settings: Any,
) -> JointDensity:
    """A pretrained model of a local folder or file, with p(x), draws, and an alarm around it.

    Nothing is downloaded, no code of the folder is run, and weights are read from safetensors
    alone.

    Parameters
    ----------
    folder : str or Path
        A GGUF file with a language model of the Llama layout. Or a folder, of the package
        transformers: a causal language model (config.json, tokenizer.json, weights; that of the
        Llama layout needs no transformers), or a network that captions pictures
        (preprocessor_config.json as well). Of the package diffusers: a pipeline that draws
        pictures from noise alone (model_index.json, unet/, scheduler/), or one laid out like Stable
        Diffusion (vae/, text_encoder/ and tokenizer/ as well).
    X : list of str, array_like of pictures, or DataFrame of "picture" and "caption", optional
        Familiar rows that the model was not trained on: half of them say what is typical, the
        others calibrate the alarms. Without them ``decide`` waits for ``calibrate``.
    capacity : int, default 256
        Tokens that a string may have, at most, or bytes of a text that is drawn; pictures alone
        have none.
    device : str, default "auto"
        "auto", "cpu", "cuda" or "cuda:1".
    random_state : int, default 0
        Of the split of ``X``.
    **settings
        Of the family: ``precision`` ("auto", "float32", "int8", "int4") and ``start`` of
        ``Language``; ``dtype`` and ``start`` of ``TransformersText``, which ``dtype`` asks for;
        ``dtype`` of ``TransformersCaption``; ``steps``, ``points`` and ``dtype`` of
        ``DiffusersPicture``; these, ``deviation``, ``guidance`` and ``clean`` of
        ``DiffusersTextToImage``.

    Returns
    -------
    JointDensity
        It answers ``score_samples``, ``sample`` and, calibrated, ``decide``.

    Raises
    ------
    ImportError
        If the extra is not installed: ``pip install 'conjoin[pretrained]'``.
    ValueError
        If the folder is no such model, or holds a pickle or code.
    """
    path = Path(folder).expanduser() if is_gguf(folder) else checked_folder(folder)
    config, codec, types = _reader_of(path, settings)(path, capacity, settings)
    density = config.density.build(
        codec.space, config, _judges(config, codec, X), stream(random_state, "build")
    )
    density.to(choose_device(device))
    out = JointDensity(family=config, random_state=random_state, device=device, types=types)
    options = FitOptions(task="density", family=config, codec=codec, seed=random_state)
    out._take_model(_ready(codec, density, X, options))
    out.n_features_in_ = len(codec.columns)
    return out


def alternatives(model: JointDensity, X: Any, count: int = 5) -> pd.DataFrame:
    """What else a picture may show, whatever its caption says: the most probable captions that a
    beam finds.

    Parameters
    ----------
    model : JointDensity
        Of ``from_pretrained``, of a network that captions pictures, or fitted to pictures and
        captions.
    X : DataFrame
        With a column "picture".
    count : int, default 5
        Captions of each picture.

    Returns
    -------
    DataFrame
        As of ``JointDensity.alternatives``.

    Raises
    ------
    CapabilityError
        If the model writes no captions.
    """
    return model.alternatives(X.assign(**{CAPTION: None}), count)


def _judges(config: Config, codec: Any, X: Any) -> Any:
    """Rows that say what few bits cost: plain English, and the first of those that are familiar;
    none where no weights are rounded."""
    if getattr(config, "precision", "") in WHOLE:
        return codec.space.unknown(0)
    familiar = [] if X is None else list(X)[:MAX_JUDGES]
    fits = [text for text in PARAGRAPHS if _is_written(codec, text)]
    return codec.encode(codec.rows([*fits, *familiar])).event


def _is_written(codec: Any, text: str) -> bool:
    """Whether the tokens write this text as it is, and few enough of them."""
    try:
        codes = codec.tokens.codes(text)
    except ValueError:  # as tokenizers without capitals do: the text then judges nothing
        return False
    return -1 not in codes and len(codes) <= codec.space.shape[0]


def _reader_of(path: Path, settings: dict[str, Any]) -> Any:
    """What begins the model of a folder or a file."""
    if path.is_file() or (fits_layout(config_of(path)) and "dtype" not in settings):
        return _language
    if (path / "model_index.json").is_file():
        return _text_to_image if draws_texts(path) else _picture
    return _caption if is_captioner(path) else _text


def _text(path: Path, capacity: int, settings: dict[str, Any]) -> tuple[Config, Codec, Any]:
    """The family's config, what reads rows, and what ``types`` says of them."""
    if "precision" in settings:
        raise ValueError(
            f"precision is of networks of the Llama layout, and {path} holds another: dtype says "
            "in which numbers it computes."
        )
    codec = TextCodec.with_tokenizer(path, capacity)
    types = {codec.name: {"type": "text", "format": f"tokenizer {path}"}}
    return TransformersText(folder=str(path), **settings), codec, types


def _picture(path: Path, capacity: int, settings: dict[str, Any]) -> tuple[Config, Codec, Any]:
    """As of text; a pixel has as many levels as a byte."""
    config = DiffusersPicture(folder=str(path), **settings)
    grid = grid_in(path)
    return config, ImageCodec(grid, PIXEL_LEVELS, channels_last=grid[0] > 1), None


def _language(path: Path, capacity: int, settings: dict[str, Any]) -> tuple[Config, Codec, Any]:
    """As of text, of the Llama layout, by torch alone."""
    codec = TextCodec.with_tokenizer(path, capacity)
    types = {codec.name: {"type": "text", "format": f"tokenizer {path}"}}
    return Language(folder=str(path), **settings), codec, types


def _caption(path: Path, capacity: int, settings: dict[str, Any]) -> tuple[Config, Codec, Any]:
    """As of text; rows are pictures and captions."""
    config = ConditionalPair("transformers_caption", {"folder": str(path), **settings})
    strings = TextCodec.with_tokenizer(path, capacity)
    types = {CAPTION: {"type": "text", "format": f"tokenizer {path}"}}
    return config, _beside((3, *picture_in(path)), strings), types


def _text_to_image(
    path: Path, capacity: int, settings: dict[str, Any]
) -> tuple[Config, Codec, Any]:
    """As of text; rows are pictures and captions."""
    config = ConditionalPair("diffusers_text_to_image", {"folder": str(path), **settings})
    types = {CAPTION: {"type": "text", "format": "bytes"}}
    return config, _beside(canvas_in(path), TextCodec.in_bytes(capacity)), types


def _beside(grid: tuple[int, int, int], strings: TextCodec) -> CompositeCodec:
    """What reads rows of a picture, which is cut and scaled, and a caption."""
    image = ImageCodec(grid, PIXEL_LEVELS, channels_last=grid[0] > 1)
    blocks = [PictureColumn(PICTURE, image, grid[1:]), StringColumn(CAPTION, strings)]
    table = TableCodec()
    table.fit(TableRows(pd.DataFrame(index=pd.RangeIndex(1))))
    return CompositeCodec(table, blocks)


def _ready(codec: Codec, density: Density, X: Any, options: FitOptions) -> Model:
    """The model, calibrated where there are rows."""
    nothing = np.empty(0, dtype=np.int64)
    none = codec.decoded(codec.space.unknown(0))
    rows = Rows(codec.rows(none)) if X is None else weighted(Rows(codec.rows(X)))
    split = Split(nothing, nothing, nothing)
    if X is not None:
        split = split_of(rows, replace(options, calibration=TYPICAL_SHARE))
    card = card_of(rows, split, options, options.family)
    card["notices"] = density.notices(codec.space.unknown(0))
    model = Model(codec, density, None, state=State(seed=options.seed), card=card)
    if model.ranks_blocks:
        model.state = replace(model.state, blocks=((),) * len(codec.parts))
    if X is None:
        return model
    typical = np.sort(np.concatenate([split.fit, split.choose]))
    teach(model, rows.x.take(typical))
    if len(split.calibrate):
        model.calibration = calibrate(model, rows.x.take(split.calibrate), None, None)
    return model
