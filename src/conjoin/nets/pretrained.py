"""Networks of the package transformers, made from what a folder tells, and no larger than the
weights in it."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conjoin.core import seeded, stream
from conjoin.util.pretrained import checked_folder, counts_of, read_json

__all__ = [
    "DTYPES",
    "config_in",
    "diffusers",
    "fresh",
    "fresh_part",
    "loaded",
    "loaded_part",
    "refuse_larger",
    "refuse_many_parts",
    "tokenizers",
    "transformers",
]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
# words in the names of settings that count parts; MIN_PARTS parts and sizes of MIN_SIZE are taken
# as told, whatever the weights are: ``refuse_larger`` then counts what they come to
COUNTED = ("layer", "block", "depth", "expert")
MIN_PARTS = 1024
MIN_SIZE = 1 << 31
# of tables that are no weights, such as masks: a network may hold so many, and more by its weights
MIN_BUFFER_NUMBERS = 1 << 24
MAX_BUFFER_RATIO = 4


@contextlib.contextmanager
def _installed(package: str) -> Iterator[None]:
    """ImportError with the install line where the package is not there."""
    try:
        yield
    except ImportError:
        raise ImportError(
            f"Pretrained models need the package {package}: pip install 'conjoin[pretrained]'."
        ) from None


def transformers() -> Any:
    """The package; ImportError with its install line."""
    with _installed("transformers"):
        import transformers as package
    return package


def diffusers() -> Any:
    """The package; ImportError with its install line."""
    with _installed("diffusers"):
        import diffusers as package
    return package


def tokenizers() -> Any:
    """The package; ImportError with its install line."""
    with _installed("tokenizers"):
        import tokenizers as package
    return package


def config_in(folder: str) -> dict[str, Any]:
    """What config.json of a checked folder tells of the network; ValueError where it names no kind
    of model, or more parts than its weights have."""
    path = checked_folder(folder)
    told = read_json(path / "config.json")
    kind = told.get("model_type") if isinstance(told, dict) else None
    if kind not in transformers().CONFIG_MAPPING:
        raise ValueError(
            f"{path / 'config.json'} has model_type={kind!r}, which the installed version of "
            "transformers does not know."
        )
    refuse_many_parts(path, told)
    return {key: value for key, value in told.items() if not key.startswith("_name")}


def refuse_many_parts(path: Path, told: dict[str, Any]) -> None:
    """ValueError for counts and sizes beyond all weights: a network is then not even made without
    its numbers, which takes none of the memory for them."""
    tensors, numbers = counts_of(path)
    for key, value in _whole_numbers(told):
        is_count = any(word in key for word in COUNTED)
        if value > (max(tensors, MIN_PARTS) if is_count else max(numbers, MIN_SIZE)):
            raise ValueError(
                f"{path / 'config.json'} asks for {key}={value:,}, where the weights beside it are "
                f"{tensors:,} tensors of {numbers:,} numbers in all."
            )


def _whole_numbers(told: dict[str, Any]) -> list[tuple[str, int]]:
    """Those that are sizes or counts, and the lengths of lists; ids of tokens are none."""
    found = []
    for key, value in told.items():
        if isinstance(value, dict):
            found += _whole_numbers(value)
        elif isinstance(value, list):
            found += [(f"{key} of layers", len(value))]
            found += [(key, each) for each in value if type(each) is int and key[-3:] != "_id"]
        elif type(value) is int and key[-3:] != "_id":
            found.append((key, value))
    return found


def _config_of(told: dict[str, Any]) -> Any:
    return transformers().CONFIG_MAPPING[told["model_type"]].from_dict(told)


def fresh(maker: str, told: dict[str, Any], dtype: str) -> nn.Module:
    """A network that is not yet given its weights. ``maker``: the class of transformers that makes
    it."""
    kind = getattr(transformers(), maker)
    with seeded(stream(0, "network")):  # its first weights come from the global generator
        network: nn.Module = kind.from_config(_config_of(told), dtype=DTYPES[dtype])
    return network.eval()


def loaded(maker: str, folder: str, told: dict[str, Any], dtype: str) -> nn.Module:
    """The network with the weights of the folder.

    Raises
    ------
    ValueError
        If it is larger than the weights, or some of its weights are not among them.
    """
    path = checked_folder(folder)
    kind = getattr(transformers(), maker)
    refuse_larger(path, lambda: kind.from_config(_config_of(told)))
    try:
        with _without_bars(), seeded(stream(0, "network")):
            network, how = kind.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=DTYPES[dtype],
                output_loading_info=True,
            )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"The weights in {path} can't be read: {str(error)[:300]}") from None
    _check_names(path, how)
    made: nn.Module = network.eval()
    return made


def fresh_part(maker: str, told: dict[str, Any], dtype: torch.dtype, name: str) -> nn.Module:
    """A network of a pipeline of diffusers before it is given its weights; ``name``: of the stream
    that its first ones are drawn from."""
    with seeded(stream(0, name)):  # they come from the global generator
        network: nn.Module = getattr(diffusers(), maker).from_config(told)
    nn.Module.to(network, dtype)  # the class's own says that parts might stay as they are
    made: nn.Module = network.eval()
    return made


def loaded_part(maker: str, path: Path, told: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """A network of a pipeline of diffusers with the weights of its folder; as ``loaded``, and
    weights that an earlier version named otherwise are read too."""
    kind = getattr(diffusers(), maker)
    refuse_larger(path, lambda: kind.from_config(told))
    try:
        with seeded(stream(0, "network")):
            network, how = kind.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=dtype,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"The weights in {path} can't be read: {str(error)[:300]}") from None
    _check_names(path, how)
    nn.Module.to(network, dtype)  # the class's own says that parts might stay as they are
    made: nn.Module = network.eval()
    return made


def _check_names(path: Path, how: dict[str, Any]) -> None:
    """ValueError where the network has weights that the files lack; a warning where the files have
    some that it does not use. ``how``: what the packages tell of the loading."""
    lacking = sorted([*how["missing_keys"], *map(str, how.get("mismatched_keys", ()))])
    if lacking:
        raise ValueError(
            f"The weights in {path} lack {lacking[0]} and {len(lacking) - 1} others that "
            "config.json asks for: they would be random numbers."
        )
    beyond = sorted(how["unexpected_keys"])
    if beyond:
        text = (
            f"The weights in {path} hold {beyond[0]} and {len(beyond) - 1} others that the network "
            "of config.json does not use: they are left out."
        )
        warnings.warn(text, UserWarning, stacklevel=4)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """transformers shows no progress of its own."""
    logging = transformers().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def refuse_larger(path: Path, make: Callable[[], nn.Module]) -> None:
    """ValueError where the network is larger than the weights in ``path``; no memory is taken for
    its numbers."""
    numbers = counts_of(path)[1]
    try:
        with torch.device("meta"):
            network = make()
    except RuntimeError as error:  # sizes whose product no machine can count
        raise ValueError(f"{path / 'config.json'} fits no network: {str(error)[:200]}") from None
    asked = sum(math.prod(weight.shape) for weight in network.parameters())
    tables = sum(math.prod(table.shape) for table in network.buffers())
    if asked > numbers or tables > MIN_BUFFER_NUMBERS + MAX_BUFFER_RATIO * numbers:
        raise ValueError(
            f"{path / 'config.json'} asks for a network of {asked:,} numbers and tables of "
            f"{tables:,}, where the weights beside it are {numbers:,}."
        )
