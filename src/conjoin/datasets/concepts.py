"""What a caption of an emoji is about, without what tells its variants apart: gender, direction,
skin tone, and what stands behind a colon (which flag, which family, which key).

So variants of one thing fall on one side of a split, and a model that draws "woman biking" after it
has seen "man biking" is not praised for a new concept.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np

__all__ = ["concept_of", "held_out_concepts"]

TEST_PERCENT = 10  # of the concepts
# words that name the gender or the age of whoever is shown, and those that join two of them
PERSONS = {"man", "woman", "men", "women", "person", "people", "adult", "and"}
SAME = {
    "boy": "child",
    "girl": "child",
    "older": "old",
    "princess": "prince",
    "mermaid": "merperson",
    "merman": "merperson",
    "grandmother": "grandparent",
    "grandfather": "grandparent",
    "santa": "claus",
    "mrs": "claus",
    "mx": "claus",
}
DIRECTIONS = {
    "left", "right", "up", "down", "leftwards", "rightwards", "upwards", "downwards", "facing",
    "leftward", "rightward",
}  # fmt: skip
SKIN_TONE = re.compile(r"[:,]?\s*(?:medium-light|medium-dark|light|medium|dark) skin tone")
WORDS = re.compile(r"[\w’']+")


def concept_of(caption: str) -> str:
    """The concept of a caption, in words.

    Parameters
    ----------
    caption : str
        As Unicode names an emoji in English.

    Returns
    -------
    str
        The same of all variants of one thing.

    Examples
    --------
    >>> concept_of("woman walking: medium-dark skin tone"), concept_of("man walking: facing right")
    ('walking', 'walking')
    >>> concept_of("flag: Japan"), concept_of("up-left arrow"), concept_of("girl")
    ('flag', 'arrow', 'child')
    """
    stem = SKIN_TONE.sub("", caption).partition(":")[0].lower()
    words = [SAME.get(word, word) for word in WORDS.findall(stem)]
    kept = [word for word in words if word not in PERSONS | DIRECTIONS]
    return " ".join(dict.fromkeys(kept)) or ("person" if set(words) & PERSONS else stem.strip())


def held_out_concepts(captions: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """The concept of each caption, and which captions are tests: one concept of ten, by a hash of
    its words, so that a caption is on the same side in every set.

    Parameters
    ----------
    captions : iterable of str
        As of ``concept_of``.

    Returns
    -------
    concepts : ndarray of str, shape (n,)
    test : ndarray of bool, shape (n,)
    """
    concepts = [concept_of(str(caption)) for caption in captions]
    test = {concept: _percent(concept) < TEST_PERCENT for concept in set(concepts)}
    return np.array(concepts), np.array([test[concept] for concept in concepts], dtype=bool)


def _percent(concept: str) -> int:
    digest = hashlib.blake2b(concept.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 100
