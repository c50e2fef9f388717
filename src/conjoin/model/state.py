"""The state of a model: what its answers depend on beside weights, codec and target.

The model card holds the facts of the fit that no answer depends on. Both are stored together as
``facts`` in config.json, in the order of ``ORDER``. ``State`` is typed and hashed; the card is a
dictionary that no answer may depend on."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ORDER", "READINGS", "State", "check_told", "join_facts", "split_facts"]

READINGS = 2  # of a row that make up its familiarity; models of 0.1.0 have one
ORDER = (
    "task",
    "family",
    "settings",
    "seed",
    "readings",
    "rows",
    "data_sha256",
    "split_sha256",
    "read",
    "versions",
    "streamed",
    "started_from",
    "trained",
    "emphasis",
    "labels",
    "notices",
    "grid",
    "predictor",
    "shares",
    "energy",
    "compared",
    "questions",
    "pictures",
    "adapted",
    "distilled",
    "split_by",
    "between",
    "cellwise",
    "direct",
)


# of what is only told, the parts that are read by name, and what each is
TOLD = {
    "family": str,
    "settings": dict,
    "rows": dict,
    "read": dict,
    "versions": dict,
    "trained": dict,
    "labels": dict,
    "notices": list,
    "cut": list,
    "split_by": list,
    "predictor": dict,
    "energy": dict,
    "compared": dict,
    "adapted": dict,
    "distilled": dict,
    "questions": dict,
}


@dataclass(frozen=True, kw_only=True)
class State:
    """Beside the weights, all that a question reads.

    Attributes
    ----------
    seed
        Of the rows that the model draws for itself.
    readings
        How many readings of a row make up its familiarity; None of 0.1.0.
    grid
        Candidate values of a number y, event units; None for other targets.
    predictor
        What gives p(y | x): "family", a name of ``PREDICTORS``, or the class of an estimator. None
        where there is no target.
    shares
        p(y) as p(y | x) has learned it, one of each class; None where that is not known.
    adapted
        p(y) of the place that the model was last adapted to; None where it never was.
    pictures
        How pictures are read from files: ``size``, ``mode``. None for other data.
    temperature
        Of the family's own p(y | x), by validation rows; None: its word as it is.
    cellwise
        Whether a missing category is filled in by its own most probable level; models of before
        have that of the most probable completion of the row.
    direct
        Whether p(y | x) of a number is asked of its predictor alone. log p(x), which cancels, is
        asked beside it for models of before, whose answers would differ in their last digits.
    blocks
        Of each block of a record the statistic of familiarity on validation rows, in order, by
        which its rank is found. None where a row is one block.
    between
        Whether a rank among ``blocks`` says where between two validation rows a row lies; None of
        earlier models, whose ranks are equal there.
    """

    seed: int = 0
    readings: int | None = READINGS
    grid: tuple[float, ...] | None = None
    predictor: str | None = None
    shares: tuple[float, ...] | None = None
    adapted: tuple[float, ...] | None = None
    pictures: dict[str, Any] | None = None
    blocks: tuple[tuple[float, ...], ...] | None = None
    temperature: float | None = None
    between: bool | None = None
    cellwise: bool = False
    direct: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the hash of a model, and for one of several targets."""
        stored = asdict(self)
        for part in ("blocks", "temperature", "between"):
            if stored[part] is None:  # models of before had no such part, and keep their hash
                del stored[part]
        for part in ("cellwise", "direct"):
            if not stored[part]:
                del stored[part]
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "State":
        """The inverse of ``to_json``."""
        listed: dict[str, Any] = {
            name: _tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        listed["blocks"] = _tuples(stored.get("blocks"))
        return cls(**listed)


def split_facts(facts: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """The state and the card, from what config.json stores."""
    check_told(facts)
    card = dict(facts)
    predictor = dict(card.pop("predictor", {}))
    chosen = predictor.pop("chosen", None)
    adapted = card.get("adapted")
    state = State(
        seed=int(card.pop("seed", 0)),
        readings=card.pop("readings", None),
        grid=_tuple(card.pop("grid", None)),
        predictor=chosen,
        shares=_tuple(card.pop("shares", None)),
        adapted=None if adapted is None else _tuple(adapted["new"]),
        pictures=card.pop("pictures", None),
        blocks=_tuples(card.pop("blocks", None)),
        temperature=card.pop("temperature", None),
        between=card.pop("between", None),
        cellwise=bool(card.pop("cellwise", False)),
        direct=bool(card.pop("direct", False)),
    )
    return state, card | ({"predictor": predictor} if predictor else {})


def check_told(facts: dict[str, Any]) -> None:
    """ValueError where a part of the card is not what is read from it."""
    if "family" not in facts:
        raise ValueError("facts.family is missing")
    for name, kind in TOLD.items():
        value: Any = facts.get(name)
        if not isinstance(value, kind | None):
            raise ValueError(f"facts.{name} is {value!r:.60}, no {kind.__name__}")
        entries: list[Any] = value if kind is list and value else []
        if any(not isinstance(entry, str) for entry in entries):
            raise ValueError(f"facts.{name} has an entry that is no sentence")


def join_facts(state: State, card: dict[str, Any]) -> dict[str, Any]:
    """What config.json stores: the inverse of ``split_facts``."""
    own = {
        "seed": state.seed,
        "readings": state.readings,
        "grid": _list(state.grid),
        "shares": _list(state.shares),
        "pictures": state.pictures,
        "temperature": state.temperature,
        "between": state.between,
        "cellwise": state.cellwise or None,
        "direct": state.direct or None,
        "blocks": None if state.blocks is None else [list(block) for block in state.blocks],
    }
    facts = card | {name: value for name, value in own.items() if value is not None}
    if state.predictor is not None:
        facts["predictor"] = {"chosen": state.predictor, **card.get("predictor", {})}
    named = {name: facts[name] for name in ORDER if name in facts}
    return named | facts


def _tuple(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _tuples(values: Any) -> tuple[tuple[float, ...], ...] | None:
    return None if values is None else tuple(tuple(each) for each in values)


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)
