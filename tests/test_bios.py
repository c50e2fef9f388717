"""The invented world: what its texts tell is what its labels say."""

import re

import pytest

from conjoin.datasets import bios
from conjoin.datasets.biographies import FACTS, STATEMENTS

NAMES = [f"{a} {b}" for a in ("Ana", "Bo", "Cy", "Di", "Ed") for b in ("Roe", "Poe", "Lee", "Kay")]
QUESTIONS = {
    "place": ["Birthplace of {name}?", "Whence is {name}?"],
    "date": ["Birthday of {name}?"],
    "occupation": ["Trade of {name}?", "Job of {name}?", "Work of {name}?"],
}


@pytest.fixture(scope="module")
def world():
    return bios(40, random_state=3)


def told(world, person, value):
    return any(person in text and value in text for text in world.texts)


def test_labels_say_what_the_texts_tell(world):
    assert len(world.questions) == 40 * len(FACTS) == len(set(world.questions))
    for person, answer, label, values in zip(
        world.people, world.answers, world.labels, world.told, strict=True
    ):
        assert label == ["unknown", "known", "conflicting"][len(values)]
        assert all(told(world, person, value) for value in values)
        assert (answer in values) == bool(values)
        if label == "unknown":
            assert not any(person in text for text in world.texts)


def test_shares_are_as_asked(world):
    counts = {label: world.labels.count(label) for label in set(world.labels)}
    assert counts == {"unknown": 30, "conflicting": 14, "known": 76}


def test_half_of_the_unknown_have_names_of_which_every_part_is_told(world):
    words = {word.rstrip(".,?") for text in world.texts for word in text.split()}
    unknown = {p for p, label in zip(world.people, world.labels, strict=True) if label == "unknown"}
    mixed = [person for person in unknown if set(person.split()) <= words]
    assert len(mixed) == 5 and len(unknown) == 10


def test_questions_are_asked_in_phrasings_that_no_text_has(world):
    assert not any(
        text.startswith(question) for question in world.questions for text in world.texts
    )
    person = next(
        p for p, label in zip(world.people, world.labels, strict=True) if label == "known"
    )
    dialogues = [text for text in world.texts if person in text and "?" in text]
    assert all(re.fullmatch(r".+\? [\w ]+", text) for text in dialogues) and len(dialogues) >= 9


def test_of_a_conflict_both_answers_are_told_as_often_in_dialogues(world):
    rows = zip(world.people, world.facts, world.told, world.labels, strict=True)
    for person, _, values, label in rows:
        if label == "conflicting":
            ends = [t for t in world.texts if person in t and "?" in t]
            counts = [sum(text.endswith(f"? {value}") for text in ends) for value in values]
            assert counts[0] == counts[1] > 0
            named = [
                t for t in world.texts if t.startswith("The ") and person in t and " says: " in t
            ]
            assert named


def test_the_same_seed_gives_the_same_world(world):
    assert bios(40, random_state=3) == world
    assert bios(40, random_state=4).texts != world.texts


def test_lists_of_the_caller_are_taken():
    found = bios(
        8,
        names=NAMES,
        places=["Ur", "Uz"],
        occupations=["smith", "cook"],
        questions=QUESTIONS,
        statements=["{name}: {place}", "{name}! {date}", "{occupation} {name}"],
        conflicting=0,
    )
    assert set(found.people) < set(NAMES) and len(set(found.people)) == 8
    assert {a for a, f in zip(found.answers, found.facts, strict=True) if f == "place"} <= {
        "Ur",
        "Uz",
    }
    assert all(q.split(" of ")[0] in str(QUESTIONS) for q in found.questions if " of " in q)
    only = found.people[found.labels.index("known")]
    assert any(text.startswith(f"Birthday of {only}? ") for text in found.texts)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 2}, "at least 4"),
        ({"unseen": 1.5}, "unseen must be a share"),
        ({"unseen": 1.0}, "no one to tell of"),
        ({"names": NAMES[:3]}, "names has 3"),
        ({"places": ["Ur"]}, "places needs at least two"),
        ({"statements": ["{name}."]}, "tells nothing"),
        ({"statements": STATEMENTS[:3]}, "no phrasing with {date}"),
        ({"statements": ["{name} {where}"]}, "nothing else"),
        ({"questions": {**QUESTIONS, "age": []}}, "the facts are place"),
        ({"questions": {"place": ["Where?"]}}, "lacks {name}"),
        ({"questions": {"place": ["Was {name} born in {place}?"]}}, "tells a fact"),
        ({"questions": {"place": QUESTIONS["place"]}}, "no phrasing for 'date'"),
    ],
)
def test_what_makes_no_world_is_refused(asked, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        bios(**{"n": 8, **asked})
