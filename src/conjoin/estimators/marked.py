"""Files that a program writes itself, marked as made by a model."""

from pathlib import Path
from typing import Any

from conjoin.estimators.base import _JointEstimator
from conjoin.marking.marks import mark_file
from conjoin.marking.origin import Origin
from conjoin.model.saving import model_hash

__all__ = ["mark"]


def mark(
    path: str | Path, estimator: Any, *, verb: str = "sample", seed: int | None = None
) -> dict[str, Any]:
    """Mark a file as made by a model: a PNG inside, any other file beside it (NAME.mark.json).

    Parameters
    ----------
    path : str or Path
        The file, which is not written any more.
    estimator : estimator
        The fitted estimator that made its content.
    verb : str, default "sample"
        What it was asked.
    seed : int, optional
        Of the draws.

    Returns
    -------
    dict
        ``signed``: whether the extra ``mark`` signed it, ``unsigned``: why not, ``sidecars``: the
        files beside it.

    Raises
    ------
    ValueError
        If there is no such file.
    TypeError
        If ``estimator`` is no estimator of this library.

    Examples
    --------
    >>> import conjoin
    >>> model = conjoin.JointDensity(family="naive_bayes").fit(rows)  # doctest: +SKIP
    >>> model.sample(5)[0].to_csv("made.csv", index=False)  # doctest: +SKIP
    >>> conjoin.mark("made.csv", model)  # doctest: +SKIP
    """
    place = Path(path)
    if not place.is_file():
        raise ValueError(f"{path} is no file.")
    if not isinstance(estimator, _JointEstimator):
        raise TypeError(
            f"{place.name} is marked as made by a fitted estimator, such as a JointDensity or what "
            f"conjoin.load gives; got {type(estimator).__name__}."
        )
    model = estimator._model()
    name = str(model.facts["family"])
    marks = mark_file(place, Origin(verb, name, model_hash(model), seed))
    return {**marks.to_json(), "unsigned": marks.unsigned}
