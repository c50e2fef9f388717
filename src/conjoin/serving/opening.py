"""The estimator in a folder, and how a conversation with it reads."""

from pathlib import Path
from typing import Any

from conjoin.codecs.templates import Template
from conjoin.estimators import from_pretrained, load
from conjoin.model.model import Model
from conjoin.questions.answers.prompts import continues_texts, template_of
from conjoin.util.gguf import is_gguf
from conjoin.util.pretrained import config_of

__all__ = ["model_of", "opened", "prompts_in"]

MAX_PROMPT_BYTES = 1 << 28  # of a file of prompts


def opened(
    folder: str | Path,
    *,
    device: str = "auto",
    capacity: int | None = None,
    precision: str | None = None,
    prompts: str | Path | None = None,
    template: str | Path | None = None,
) -> tuple[Any, Template]:
    """A model that ``conjoin fit`` or ``save`` wrote, or a pretrained one.

    Parameters
    ----------
    folder
        Of the model; or a GGUF file.
    device
        Where it answers.
    capacity
        Tokens of a text, of a pretrained model; None: the usual.
    precision
        In which weights of a pretrained model are held; None: the usual.
    prompts
        A file of familiar prompts, one a line, by which the alarm is calibrated.
    template
        A file with a chat template in jinja2; by default that of the model.

    Returns
    -------
    estimator, template

    Raises
    ------
    ValueError
        If the folder is no model, or a file is not as it should be, or prompts are given to a
        model that reads none.
    """
    path = Path(folder).expanduser()
    told = {} if is_gguf(path) or not path.is_dir() else config_of(path)
    is_own = not is_gguf(path) and (
        not path.is_dir() or (isinstance(told, dict) and "format" in told)
    )
    familiar = None if prompts is None else prompts_in(Path(prompts))
    asked = {"capacity": capacity, "precision": precision}
    sizes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if is_own:
        if sizes:
            raise ValueError(f"{next(iter(sizes))} is of pretrained models; this one has its own.")
        estimator: Any = load(path, device=device)
        if familiar is not None:
            _refuse_prompts(model_of(estimator))
            estimator.calibrate(familiar)
    else:
        estimator = from_pretrained(path, familiar, device=device, **sizes)
    model = model_of(estimator)
    if template is not None:
        return estimator, Template(Path(template).read_text(encoding="utf-8"))
    if model.answers is not None:  # that of its questions
        return estimator, model.answers.settings.conversation
    return estimator, template_of(model) if continues_texts(model) else Template()


def _refuse_prompts(model: Model) -> None:
    """ValueError for a model that continues no texts."""
    if not continues_texts(model):
        raise ValueError(
            "prompts are texts that a model of texts is asked to continue, and this one answers "
            "about rows: what calibrates it are rows, at its fit or by calibrate."
        )


def model_of(estimator: Any) -> Model:
    """The one model of an estimator; ValueError where it has several targets."""
    model = vars(estimator).get("model_")
    if not isinstance(model, Model):
        raise ValueError(
            "This model has several targets, and serve and chat ask about one: from Python, "
            "for_target(name) is a model of one."
        )
    return model


def prompts_in(file: Path) -> list[str]:
    """The lines of a file that are not empty."""
    if file.stat().st_size > MAX_PROMPT_BYTES:
        raise ValueError(f"{file} has more than {MAX_PROMPT_BYTES:,} bytes: give fewer prompts.")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not in UTF-8: save it so.") from None
    found = [line for line in lines if line.strip()]
    if not found:
        raise ValueError(f"{file} holds no prompt: give one a line.")
    return found
