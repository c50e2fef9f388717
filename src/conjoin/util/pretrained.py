"""Folders of pretrained models: what is refused before anything of them is read.

Nothing is ever downloaded, here or where such a folder is read. Weights come from safetensors
alone; a pickle, or code beside the weights, could do anything when it is read, so a folder that
holds one is refused. What a file says is checked against the bytes of the weights before memory is
taken.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "Vocabulary",
    "chat_template_of",
    "checked_folder",
    "config_of",
    "counts_of",
    "read_json",
    "vocabulary_of",
]

MAX_JSON_BYTES = 1 << 27  # of one file; the largest tokenizers have some 40 MB
MAX_TEMPLATE_CHARACTERS = 1 << 20
MARKS = ("bos_token", "eos_token", "unk_token", "pad_token")  # that a chat template may write
# files that are pickles, or hold them
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
CODE = (".py", ".pyc", ".so", ".dll", ".dylib")
REMOTE_CODE = ("auto_map", "custom_pipelines")  # entries of a config that name code to be run
QUANTIZED = "quantization_config"
END_KEYS = {"blip": "sep_token_id"}  # of models that end a text by another token than they say
ADAPTER = "adapter_config.json"  # of weights that stand upon those of another folder


class Vocabulary:
    """Of a language model: how many tokens it has, which of them end a text, which one begins it.

    Parameters
    ----------
    size
        Tokens 0 to size - 1; those that no text can write are among them.
    ends
        Tokens that each end a text.
    start
        The token that stands before the first one.
    """

    def __init__(self, size: int, ends: tuple[int, ...], start: int) -> None:
        self.size = size
        self.ends = ends
        self.start = start


def checked_folder(folder: str | Path) -> Path:
    """The folder, which holds a model in safetensors and nothing that could run.

    Raises
    ------
    ValueError
        If it is no folder, or holds a pickle, code, or a config that names code.
    """
    path = Path(folder).expanduser()
    if not str(folder) or not path.is_dir():
        raise ValueError(
            f"folder={str(folder)!r} is no folder on this machine: give the path of one that holds "
            "config.json and weights in safetensors. Nothing is downloaded."
        )
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in PICKLES:
            raise ValueError(
                f"{file} may hold a pickle, which can run any code when it is read: remove it if "
                "weights in safetensors stand beside it, else save the model again with "
                "save_pretrained(folder, safe_serialization=True)."
            )
        if file.suffix.lower() in CODE:
            raise ValueError(
                f"{file} is code, and code that comes with weights is never run: take a model that "
                "the installed packages know, in a folder without code."
            )
        if file.suffix.lower() == ".json" and file.is_file():
            _refuse_remote(file, read_json(file))
    if (path / ADAPTER).exists():
        raise ValueError(
            f"{path} holds an adapter ({ADAPTER}), whose weights stand upon those of another "
            "folder: merge the two, and save the result."
        )
    if not any(path.rglob("*.safetensors")):
        raise ValueError(f"{path} holds no weights in safetensors.")
    return path


def _refuse_remote(file: Path, held: Any) -> None:
    if not isinstance(held, dict):
        return
    named = next((key for key in REMOTE_CODE if key in held), None)
    if named is not None:
        raise ValueError(
            f"{file} has {named!r}, which names code to be run, and code that comes with weights "
            "is never run: take a model that the installed packages know."
        )
    if file.name == "config.json" and held.get(QUANTIZED):
        raise ValueError(
            f"{file} has {QUANTIZED!r}: quantized weights are not read; take the model in float32, "
            "float16 or bfloat16."
        )


def config_of(folder: Path) -> Any:
    """What config.json of a checked folder tells; nothing where there is none."""
    file = folder / "config.json"
    return read_json(file) if file.is_file() else {}


def read_json(file: Path) -> Any:
    """What a JSON file holds; ValueError names a file that is too large or no JSON."""
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has more than {MAX_JSON_BYTES:,} bytes")
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} can't be read as JSON ({str(error)[:200]}).") from None


def counts_of(folder: Path) -> tuple[int, int]:
    """How many tensors the safetensors of a folder (not those below it) hold, and how many numbers
    in all, by their headers alone; ValueError for a file whose header doesn't fit its bytes."""
    tensors = 0
    numbers = 0
    for file in sorted(folder.glob("*.safetensors")):
        for shape in _shapes(file):
            tensors += 1
            count = 1
            for size in shape:
                count *= size
            numbers += count
    return tensors, numbers


def _shapes(file: Path) -> Iterator[list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as held:  # checks the header against the bytes
            yield from (held.get_slice(key).get_shape() for key in list(held.keys()))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged ({str(error)[:200]}): get it again.") from None


def vocabulary_of(folder: Path) -> Vocabulary:
    """The vocabulary that the configs of a language model tell.

    ``generation_config.json`` says which tokens end and begin a text, else ``config.json`` does, or
    what it says of the part that writes. A model that names no first token is begun by the first of
    its ends: a text follows another.

    Raises
    ------
    ValueError
        If a config is missing or tells no size or no end.
    """
    config = read_json(folder / "config.json")
    parts = (config.get("text_config"), config.get("decoder"))
    own: dict[str, Any] = next((part for part in parts if isinstance(part, dict)), config)
    told = folder / "generation_config.json"
    said = read_json(told) if told.exists() else {}
    size = own.get("vocab_size", config.get("vocab_size"))
    end_key = END_KEYS.get(config.get("model_type"), "eos_token_id")
    ends = _ids(said, own, config, end_key)
    start = _ids(said, own, config, "decoder_start_token_id")
    start = start or _ids(said, own, config, "bos_token_id") or ends[:1]
    if not isinstance(size, int) or not ends:
        what = "vocab_size" if not isinstance(size, int) else "eos_token_id"
        raise ValueError(
            f"{folder / 'config.json'} tells no {what}: without an end no text has a probability."
            if what == "eos_token_id"
            else f"{folder / 'config.json'} tells no {what}, how many tokens there are."
        )
    wrong = [each for each in (*ends, *start) if not 0 <= each < size]
    if wrong:
        raise ValueError(
            f"{folder}: the token {wrong[0]} that ends or begins a text is none of the {size:,}."
        )
    return Vocabulary(size, ends, start[0])


def _ids(said: dict[str, Any], own: dict[str, Any], config: dict[str, Any], key: str) -> Any:
    """(n,) the tokens that the first config names which names any."""
    for held in (said, own, config):
        found = held.get(key)
        found = [found] if isinstance(found, int) else found
        if isinstance(found, list) and found and all(isinstance(each, int) for each in found):
            return tuple(dict.fromkeys(found))
    return ()


def chat_template_of(folder: Path) -> dict[str, Any] | None:
    """The chat template of a folder: its ``source`` in jinja2, and its ``marks``, tokens by name;
    None where there is none.

    Raises
    ------
    ValueError
        If it is no text, or far too long.
    """
    own = folder / "chat_template.jinja"
    held: Any = {}
    if (folder / "tokenizer_config.json").is_file():
        held = read_json(folder / "tokenizer_config.json")
    held = held if isinstance(held, dict) else {}
    source = held.get("chat_template")
    if own.is_file():
        with own.open(encoding="utf-8") as file:
            source = file.read(MAX_TEMPLATE_CHARACTERS + 1)
    if isinstance(source, list):
        named = {each.get("name"): each.get("template") for each in source}
        source = named.get("default")
    if not source:
        return None
    if not isinstance(source, str) or len(source) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(
            f"The chat template in {folder} is no text of at most {MAX_TEMPLATE_CHARACTERS:,} "
            "characters."
        )
    return {"source": source, "marks": {name: _content(held.get(name)) for name in MARKS}}


def _content(token: Any) -> str:
    """A special token's text, which stands alone or in an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""
