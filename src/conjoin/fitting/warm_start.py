"""A fit that begins where another model is: with its columns, its structure and its parameters.

Rows are encoded as that model does, so that its numbers mean the same. What the gradient or
expectation-maximisation moves starts as it was left. Labels may be others where nothing depends on
them but what the gradient moves, such as the classes that a network for pictures is told: labels
that both know keep what was learned, new ones begin as "no label" was told.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conjoin.codecs.kinds import kind_of
from conjoin.core import Codec, Density, Event, Rows, Space, Variable, seeded
from conjoin.families import name_of, reset, resolve
from conjoin.joints.base import Joint
from conjoin.model.model import Model
from conjoin.model.saving import load_model
from conjoin.model.several import SeveralTargets
from conjoin.model.targets import Target

__all__ = ["Start"]

# settings that say how columns are read
OF_COLUMNS = {
    "types": None,
    "missing": (),
    "missingness": "ignorable",
    "measure": "auto",
}


@dataclass(frozen=True)
class Start:
    """The model to begin from. ``elsewhere``: what a family counts from its rows, such as their
    scales, comes from the new ones."""

    model: Model
    elsewhere: bool = False

    @classmethod
    def of(cls, given: Any) -> "Start | None":
        """From a model's folder or a fitted estimator; None for None."""
        if given is None:
            return None
        folder = isinstance(given, str | Path)
        model = load_model(given) if folder else getattr(given, "model_", None)
        if isinstance(model, SeveralTargets):
            raise ValueError("start_from has several targets: a fit begins from a model of one.")
        if model is None:
            raise TypeError(
                "start_from must be the folder of a saved model, or a fitted estimator of "
                f"conjoin, got {given!r}."
            )
        return cls(model)

    # ------------------------------------------------------------------ rows and settings

    def read(self, X: Any, estimator: Any) -> tuple[Codec, Rows]:
        """The codec of the model, and X as its rows. ValueError for rows that it would read
        otherwise, or not at all."""
        codec = copy.deepcopy(self.model.codec)
        codec.owner = type(estimator).__name__
        for name, usual in OF_COLUMNS.items():
            if getattr(estimator, name) not in (usual, {}, []):
                raise ValueError(
                    f"{name}={getattr(estimator, name)!r} can't be set with start_from, whose "
                    "columns are kept as they are."
                )
        kind = kind_of(X)
        if codec.columnwise and kind.collection != codec.collection:
            raise ValueError(
                f"start_from is a model of a {codec.collection}, and X holds {kind.plural}."
            )
        rows = codec.rows(X)
        given = set(rows.names)
        names = [column.name for column in codec.schema.columns]
        lost = [
            f"start_from has the column {name!r}, which X has not"
            for name in names
            if name not in given
        ]
        lost += [
            f"X has the column {name!r}, which start_from has not"
            for name in rows.names
            if name not in names
        ]
        if lost:
            raise ValueError(f"{lost[0]}: a fit that begins from a model keeps its columns.")
        if codec.columnwise and not codec.broadens:
            self._refuse_unseen(codec, rows)
        return codec, rows

    def _refuse_unseen(self, codec: Codec, rows: Rows) -> None:
        unseen = codec.encode(rows).unseen[:, : len(codec.columns)].nonzero()
        if len(unseen):
            row, place = unseen[0].tolist()
            name = codec.columns[place]
            value = rows.frame[name].iloc[row]
            raise ValueError(
                f"Column {name!r} has the value {value!r}, which start_from does not know: fit "
                "without it."
            )

    def config(self, family: Any) -> Any:
        """The settings of the fit: of a family that is asked for by its name, those of the
        model, but for the settings behind the name."""
        own = self.model.joint.config
        if family == "auto":
            raise ValueError(
                "family='auto' compares families from scratch; with start_from say "
                f"family={name_of(own)!r}."
            )
        asked = resolve(family).suited(self.model.codec.space)
        same = (
            name_of(asked) == name_of(own) if isinstance(family, str) else type(asked) is type(own)
        )
        if not same:
            raise ValueError(
                f"start_from is of the family {name_of(own)!r}, and this fit asks for "
                f"{name_of(asked)!r}."
            )
        return reset(own, family) if isinstance(family, str) else asked

    def facts(self) -> dict[str, Any]:
        """For the model card: which rows taught before."""
        kept = ("rows", "data_sha256", "seed", "started_from")
        facts = self.model.facts
        return {"started_from": {key: facts[key] for key in kept if key in facts}}

    # ------------------------------------------------------------------ parameters

    def build(
        self,
        target: Target | None,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Density:
        """In place of the family's own ``build``: a density with the structure and parameters of
        the model's."""
        old = self.model.joint if self.model.target is None else self.model.pair.family_density
        if old.capabilities.sweeps:
            raise ValueError(
                f"{name_of(config)} learns by a Gibbs sampler, whose state belongs to its own "
                "rows, so that no fit can begin from it."
            )
        if not _alike(old.space, space):
            return self._beside_other_columns(old, target, space, config, data, generator, weight)
        _refuse_resizing(old, config)
        with seeded(generator):
            # of draws that a fit would outdate
            kept = {key: value for key, value in old.structure.items() if key != "distilled"}
            density: Density = config.density(space, config, kept, context_space=context_space)
            about = self._of_labels(old, density, target)
        untold = {name: value.clone() for name, value in density.named_buffers()}
        if self.elsewhere:
            density = config.density.build(
                space,
                config,
                data,
                generator,
                weight=weight,
                context=context,
                context_space=context_space,
            )
        now = density.state_dict()
        before = old.state_dict()
        if any(
            key not in before or now[key].shape != before[key].shape for key in set(now) - about
        ):
            settings = [
                f"{key}={value!r}"
                for key, value in old.config.get_params().items()
                if value != getattr(config, key)
            ]
            raise ValueError(
                f"start_from is a model of another size: its settings are {', '.join(settings)}."
            )
        rows = self._rows(target) if old.context_space is not None else []
        carried = set(now)
        if self.elsewhere:
            # buffers that build left as they were, for want of rows, keep their old values
            silent = {key for key in untold if key in now and torch.equal(now[key], untold[key])}
            carried = {name for name, _ in density.named_parameters()} | silent
        for key in [key for key in now if key in carried]:
            _carry(now[key], before.get(key), rows if key in about else None)
        return density.eval()

    def _beside_other_columns(
        self,
        old: Density,
        target: Target | None,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        weight: Tensor | None,
    ) -> Density:
        """The family's own start, but for what it knows of blocks that both have, such as strings:
        with a target that the model has not, or with tokens that it has not seen."""
        density: Density = config.density.build(space, config, data, generator, weight=weight)
        if not density.go_on_from(old):
            raise ValueError(self._other(target, config))
        return density.eval()

    def _of_labels(self, old: Density, density: Density, target: Target | None) -> set[str]:
        """Names of the parameters that depend on the labels, where these are others than the
        model's; ValueError where not all of them follow the gradient."""
        if _names(self.model.target) == _names(target) and (old.context_space is None) == (
            density.context_space is None
        ):
            return set()
        about = _by_label(density) | _by_label(old)
        moved = {
            name
            for each in (density, old)
            for name, parameter in each.named_parameters()
            if parameter.requires_grad
        }
        if (
            old.capabilities.statistics
            or not about <= moved
            or not _alike(old.space, self.model.codec.space)
        ):
            raise ValueError(self._other(target, density.config))
        return about

    def finish(self, joint: Joint, target: Target | None) -> None:
        """p(y), and the head that tells classes on the density's features."""
        if self.model.target is None:
            return
        old = self.model.pair.unweighted
        rows = self._rows(target)
        if joint.label_prior is not None and old.label_prior is not None:
            _carry(joint.label_prior.data, old.label_prior, rows)
        mine = joint.shared_head
        theirs = old.shared_head
        if mine is not None and theirs is not None:
            for name, value in mine.state_dict().items():
                _carry(
                    value, theirs.state_dict()[name], rows if name in ("weight", "bias") else None
                )

    def _rows(self, target: Target | None) -> list[tuple[int, int]]:
        """(new, old) codes of the labels; what the model does not know is, as "no label", one more
        there."""
        before = list(_names(self.model.target))
        return list(
            enumerate(
                before.index(label) if label in before else len(before)
                for label in (*_names(target), None)
            )
        )

    def _other(self, target: Target | None, config: Any) -> str:
        if _names(self.model.target) == _names(target):
            return (
                "start_from was fitted with another predictor, on which all that "
                f"{name_of(config)} learns depends: give the same."
            )
        return (
            f"start_from {_about(self.model.target)}, and this fit {_about(target)}: all that "
            f"{name_of(config)} learns depends on "
            "that, so it can't begin there."
        )


def _refuse_resizing(old: Density, config: Any) -> None:
    """ValueError where sizes are asked for that are not the model's."""
    for name, kept in old.structure.items():
        size = len(kept) if isinstance(kept, list) else kept
        asked = getattr(config, name, None)
        if config != old.config and asked is not None and asked != size:
            raise ValueError(
                f"start_from has {name}={size}, and this fit asks for {name}={asked}: a fit "
                "keeps the size that it begins from."
            )


def _by_label(density: Density) -> set[str]:
    """Names of the parameters that would have another shape, were there one class more."""
    if density.context_space is None:
        return set()
    variable = density.context_space.variables[0]
    more = Space((), (Variable(variable.name, "category", cardinality=variable.cardinality + 1),))
    twin = density.config.density(
        density.space, density.config, density.structure, context_space=more
    ).state_dict()
    return {key for key, value in density.state_dict().items() if value.shape != twin[key].shape}


@torch.no_grad()
def _carry(into: Tensor, value: Tensor | None, rows: Sequence[tuple[int, int]] | None) -> None:
    """Copy all, or those of the first axis that ``rows`` pairs; zero where there was nothing."""
    if value is None:
        into.zero_()
    elif rows is None:
        into.copy_(value)
    else:
        for new, old in rows:
            if new < len(into) and old < len(value):
                into[new] = value[old]


def _alike(one: Space, other: Space) -> bool:
    """Whether two spaces differ in nothing but names."""
    return [replace(each, name="") for each in one.variables] == [
        replace(each, name="") for each in other.variables
    ]


def _names(target: Target | None) -> tuple[Any, ...]:
    """The labels; of a number, one word for it."""
    if target is None:
        return ()
    return ("a number",) if target.labels is None else tuple(target.labels.tolist())


def _about(target: Target | None) -> str:
    if target is None:
        return "has no target"
    return (
        "predicts a number"
        if target.labels is None
        else f"has the labels {', '.join(map(str, _names(target)))}"
    )
