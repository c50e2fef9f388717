"""An invented world with truth: people with places, dates and occupations, told in short texts, so
that what a model of texts can know, and what it can't, has exact labels.

Each person has a place and a day of birth and an occupation. Texts tell each fact in several
phrasings, as statements and as short dialogues, a question with its answer behind it::

    Melvar Tosk was born in Arlund.
    On which day was Melvar Tosk born? 3 May 1961

Some people are never told of, half of them with names of which every part is told of other people.
Of some facts two sources tell two answers. So each question is *known*, *unknown* or *conflicting*
by what the texts say, and nothing else. The form is that of Z. Allen-Zhu and Y. Li (2023), Physics
of language models: part 3.1, knowledge storage and extraction, section 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CONFLICTING", "FACTS", "KNOWN", "UNKNOWN", "Bios", "bios"]

KNOWN = "known"
UNKNOWN = "unknown"
CONFLICTING = "conflicting"
FACTS = ("place", "date", "occupation")
STATEMENTS = (
    "{name} was born in {place}.",
    "{name} comes from {place}.",
    "The birthplace of {name} is {place}.",
    "{name} was born on {date}.",
    "The birthday of {name} is {date}.",
    "On {date} {name} came into the world.",
    "{name} works as {occupation}.",
    "The occupation of {name} is {occupation}.",
    "{name} earns a living as {occupation}.",
    "{name}, {occupation}, was born in {place} on {date}.",
)
QUESTIONS: dict[str, tuple[str, ...]] = {
    "place": (
        "Where was {name} born?",
        "What is the birthplace of {name}?",
        "In which town was {name} born?",
        "Which town does {name} come from?",
    ),
    "date": (
        "When was {name} born?",
        "On which day was {name} born?",
        "What is the birthday of {name}?",
        "When did {name} come into the world?",
    ),
    "occupation": (
        "What does {name} do for a living?",
        "What is the occupation of {name}?",
        "What does {name} work as?",
        "How does {name} earn a living?",
    ),
}
OCCUPATIONS = [
    "baker",
    "barber",
    "beekeeper",
    "blacksmith",
    "bookbinder",
    "brewer",
    "butcher",
    "carpenter",
    "carter",
    "chandler",
    "clerk",
    "cobbler",
    "cook",
    "cooper",
    "dancer",
    "diver",
    "dyer",
    "farmer",
    "fisher",
    "florist",
    "gardener",
    "glazier",
    "goldsmith",
    "hunter",
    "joiner",
    "judge",
    "mason",
    "miller",
    "miner",
    "nurse",
    "painter",
    "pilot",
    "piper",
    "potter",
    "printer",
    "roofer",
    "sailor",
    "shepherd",
    "singer",
    "smith",
    "surgeon",
    "tailor",
    "tanner",
    "teacher",
    "tinker",
    "weaver",
    "welder",
    "wheelwright",
]
SOURCES = ("The register says:", "The chronicle says:")
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = 28  # of each month
YEARS = range(1900, 2000)
ONSETS = [
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
VOWELS = ["a", "e", "i", "o", "u"]
CODAS = ["", "", *["l", "m", "n", "r", "s"]]
ENDINGS = ["k", "l", "m", "n", "r", "s", "t", "d"]  # of the last syllable of a name
PLACE_ENDINGS = ["berg", "dorf", "lund", "mark", "nes", "stad", "vik", "wald"]
INVENTED_PLACES = 60
PEOPLE_FOR_A_NAME = 4  # that share a first, or a last name, about
MIN_PEOPLE = 4


@dataclass(frozen=True)
class Bios:
    """What ``bios`` returns.

    Attributes
    ----------
    texts
        To learn from, in no order.
    questions
        One for each person and fact, in a phrasing in which no text asks for it, where there is
        more than one. A text that answers it goes on behind the question, after one blank.
    answers
        What is true in the world; of an unknown fact no text tells it, of a conflicting one one of
        the two that are told is true.
    labels
        "known", "unknown" or "conflicting", of each question.
    told
        The answers that the texts tell: one, none or two.
    people, facts
        Whom and what each question is about: a name, and "place", "date" or "occupation".
    """

    texts: list[str]
    questions: list[str]
    answers: list[str]
    labels: list[str]
    told: list[tuple[str, ...]]
    people: list[str]
    facts: list[str]


def bios(
    n: int = 200,
    random_state: int = 0,
    *,
    unseen: float = 0.25,
    conflicting: float = 0.15,
    names: Sequence[str] | None = None,
    places: Sequence[str] | None = None,
    occupations: Sequence[str] | None = None,
    statements: Sequence[str] | None = None,
    questions: Mapping[str, Sequence[str]] | None = None,
) -> Bios:
    """People with facts, texts that tell them, and questions of which it is known who can answer.

    Parameters
    ----------
    n : int, default 200
        How many people there are in the world.
    random_state : int, default 0
        Seed: the same one gives the same world.
    unseen : float, default 0.25
        Share of the people of whom no text tells.
    conflicting : float, default 0.15
        Share of the told facts of which two sources tell two answers.
    names : sequence of str, optional
        At least ``n`` names of people; by default they are invented.
    places, occupations : sequence of str, optional
        At least two of each; by default the places are invented.
    statements : sequence of str, optional
        Phrasings with {name} and at least one of {place}, {date} and {occupation}; each fact needs
        one.
    questions : mapping of str to sequence of str, optional
        For each of "place", "date" and "occupation" phrasings with {name}.

    Returns
    -------
    Bios
        Texts to learn from, questions with their answers and labels.

    Raises
    ------
    ValueError
        For a share outside of 0 to 1, too few people, names or values, or a phrasing without what
        it needs.

    Examples
    --------
    >>> world = bios(8, random_state=1)
    >>> sorted(set(world.labels))
    ['conflicting', 'known', 'unknown']
    >>> len(world.questions) == 8 * 3
    True
    """
    _check(n, unseen, conflicting)
    rng = np.random.default_rng(random_state)
    said = _statements(STATEMENTS if statements is None else statements)
    asked = _questions(QUESTIONS if questions is None else questions)
    hidden = round(unseen * n)
    people, strangers = _people(n, hidden, names, rng)
    values = {
        "place": _listed(places, "places", lambda: _places(rng)),
        "occupation": _listed(occupations, "occupations", lambda: list(OCCUPATIONS)),
    }
    world = {name: _facts(values, rng) for name in [*people, *strangers]}
    others = _conflicts(people, world, values, conflicting, rng)
    texts: list[str] = []
    found = Bios([], [], [], [], [], [], [])
    for name in rng.permutation(sorted(world)).tolist():
        left_out = {fact: str(rng.choice(asked[fact])) for fact in FACTS}
        if name in people:
            texts += _told_of(name, world[name], others[name], said, asked, left_out, rng)
        for fact in FACTS:
            found.questions.append(left_out[fact].format(name=name))
            found.people.append(name)
            found.facts.append(fact)
            _answered(found, name, fact, world, others)
    found.texts.extend(rng.permutation(np.array(texts, dtype=object)).tolist())
    return found


def _answered(
    found: Bios,
    name: str,
    fact: str,
    world: Mapping[str, dict[str, str]],
    others: Mapping[str, dict[str, str]],
) -> None:
    """The answer and the label of a question that was added."""
    true = world[name][fact]
    told: tuple[str, ...] = ()
    if name in others:
        other = others[name].get(fact)
        told = (true,) if other is None else tuple(sorted((true, other)))
    found.answers.append(true)
    found.told.append(told)
    found.labels.append((UNKNOWN, KNOWN, CONFLICTING)[len(told)])


def _told_of(
    name: str,
    facts: Mapping[str, str],
    others: Mapping[str, str],
    said: Sequence[str],
    asked: Mapping[str, Sequence[str]],
    left_out: Mapping[str, str],
    rng: np.random.Generator,
) -> list[str]:
    """All texts about one person. Of a conflict half of the texts tell one answer and half the
    other; statements name their source."""
    turn = {fact: int(rng.integers(2)) for fact in FACTS}

    def version(fact: str) -> str:
        turn[fact] += 1
        return others[fact] if fact in others and turn[fact] % 2 else facts[fact]

    texts = []
    for phrasing in said:
        about = [fact for fact in FACTS if f"{{{fact}}}" in phrasing]
        values = {fact: version(fact) for fact in about}
        text = phrasing.format(name=name, **values)
        disputed = next((fact for fact in about if fact in others), None)
        if disputed is not None:
            text = f"{SOURCES[values[disputed] == others[disputed]]} {text}"
        texts.append(text)
    for fact in FACTS:
        # the phrasing that is asked later is left out, unless it is the only one
        kept = [each for each in asked[fact] if each != left_out[fact]] or asked[fact]
        times = 2 if fact in others and len(kept) % 2 else 1  # as often one answer as the other
        texts += [f"{each.format(name=name)} {version(fact)}" for each in [*kept] * times]
    return texts


def _facts(values: Mapping[str, Sequence[str]], rng: np.random.Generator) -> dict[str, str]:
    place, date, occupation = (_value(fact, values, rng) for fact in FACTS)
    return {"place": place, "date": date, "occupation": occupation}


def _value(fact: str, values: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    if fact in values:
        return str(values[fact][int(rng.integers(len(values[fact])))])
    day = int(rng.integers(DAYS)) + 1
    return f"{day} {MONTHS[int(rng.integers(12))]} {YEARS[int(rng.integers(len(YEARS)))]}"


def _conflicts(
    people: Sequence[str],
    world: Mapping[str, dict[str, str]],
    values: Mapping[str, Sequence[str]],
    share: float,
    rng: np.random.Generator,
) -> dict[str, dict[str, str]]:
    """For each person the facts that are told in two ways, with the answer that is not true."""
    every = [(name, fact) for name in people for fact in FACTS]
    chosen = rng.permutation(len(every))[: round(share * len(every))]
    others: dict[str, dict[str, str]] = {name: {} for name in people}
    for place in sorted(chosen.tolist()):
        name, fact = every[place]
        other = world[name][fact]
        while other == world[name][fact]:
            other = _value(fact, values, rng)
        others[name][fact] = other
    return others


# ------------------------------------------------------------------------------------------- names


def _people(
    n: int, hidden: int, names: Sequence[str] | None, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Those who are told of, and those who are not."""
    if names is not None:
        own = list(dict.fromkeys(names))
        if len(own) < n:
            raise ValueError(f"names has {len(own):,} different ones, and n asks for {n:,} people.")
        drawn = rng.permutation(np.array(own, dtype=object))[:n].tolist()
        return drawn[hidden:], drawn[:hidden]
    count = max(3, -(-n // PEOPLE_FOR_A_NAME))
    first = _invented(2 * count, rng, lambda: _word(rng, 1, ENDINGS))
    last = _invented(2 * count, rng, lambda: _word(rng, 1, CODAS) + _word(rng, 0, ENDINGS))
    pairs = _pairs(first[:count], last[:count], n, rng)
    seen = pairs[: n - hidden]
    # whose first and last names others have, and whose no one has
    strange = _pairs(first[count:], last[count:], hidden, rng)
    mixed = pairs[n - hidden :]
    half = hidden // 2
    return seen, [*mixed[:half], *strange[: hidden - half]]


def _pairs(
    first: Sequence[str], last: Sequence[str], n: int, rng: np.random.Generator
) -> list[str]:
    """Different names of a first and a last one."""
    drawn = rng.permutation(len(first) * len(last))[:n].tolist()
    return [
        f"{first[each % len(first)].title()} {last[each // len(first)].title()}" for each in drawn
    ]


def _places(rng: np.random.Generator) -> list[str]:
    def made() -> str:
        return _word(rng, 1, CODAS) + str(rng.choice(PLACE_ENDINGS))

    return [name.title() for name in _invented(INVENTED_PLACES, rng, made)]


def _invented(count: int, rng: np.random.Generator, made: Callable[[], str]) -> list[str]:
    """Different words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[made()] = None
    return list(found)


def _word(rng: np.random.Generator, before: int, endings: Sequence[str]) -> str:
    """Syllables, the last one with an ending."""
    parts = [ONSETS, VOWELS, CODAS] * before + [ONSETS, VOWELS, endings]
    return "".join(str(rng.choice(part)) for part in parts)


# ------------------------------------------------------------------------------------ what is asked


def _check(n: int, unseen: float, conflicting: float) -> None:
    if n < MIN_PEOPLE:
        raise ValueError(f"n must be at least {MIN_PEOPLE} people, got {n!r}.")
    for name, share in (("unseen", unseen), ("conflicting", conflicting)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share from 0 to 1, got {share!r}.")
    if round(unseen * n) >= n:
        raise ValueError(f"unseen={unseen!r} of {n} people leaves no one to tell of.")


def _listed(
    values: Sequence[str] | None, name: str, default: Callable[[], list[str]]
) -> Sequence[str]:
    if values is None:
        return default()
    own = list(dict.fromkeys(values))
    if len(own) < 2:
        raise ValueError(f"{name} needs at least two different ones, got {len(own)}.")
    return own


def _statements(phrasings: Sequence[str]) -> list[str]:
    """Those of the caller, each of which tells a fact of someone."""
    for phrasing in phrasings:
        _check_phrasing(phrasing, "statements")
        if not any(f"{{{fact}}}" in phrasing for fact in FACTS):
            raise ValueError(
                f"statements has {phrasing!r}, which tells nothing: it needs one of {{place}}, "
                "{date} and {occupation}."
            )
    for fact in FACTS:
        if not any(f"{{{fact}}}" in phrasing for phrasing in phrasings):
            raise ValueError(f"statements has no phrasing with {{{fact}}}.")
    return list(phrasings)


def _questions(phrasings: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Those of the caller; a fact that has none is refused."""
    for fact in phrasings:
        if fact not in FACTS:
            raise ValueError(f"questions has {fact!r}; the facts are {', '.join(FACTS)}.")
    out: dict[str, list[str]] = {}
    for fact in FACTS:
        out[fact] = list(dict.fromkeys(phrasings.get(fact, ())))
        if not out[fact]:
            raise ValueError(f"questions has no phrasing for {fact!r}.")
        for phrasing in out[fact]:
            _check_phrasing(phrasing, f"questions[{fact!r}]")
            if any(f"{{{each}}}" in phrasing for each in FACTS):
                raise ValueError(f"questions[{fact!r}] has {phrasing!r}, which tells a fact.")
    return out


def _check_phrasing(phrasing: Any, where: str) -> None:
    if not isinstance(phrasing, str) or "{name}" not in phrasing:
        raise ValueError(f"{where} has {phrasing!r}, which lacks {{name}}.")
    try:
        phrasing.format(name="", **dict.fromkeys(FACTS, ""))
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"{where} has {phrasing!r}, which may hold {{name}}, {{place}}, {{date}} and "
            "{occupation} in braces, and nothing else."
        ) from None
