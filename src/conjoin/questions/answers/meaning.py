"""Which answers say the same: by their normal form, by their numbers, or by an entailment model.

An answer stands for what it adds to the question: of "The capital of France is Paris." to "What is
the capital of France?" that is "paris". Answers that entail each other are one cluster (S. Farquhar
et al. (2024), Detecting hallucinations in large language models using semantic entropy, methods,
"semantic clustering"); without an entailment model, those that are the same in normal form are.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

__all__ = ["Entails", "Meaning"]

# whether the first answer to a question says what the second one says: (question, first, second)
Entails = Callable[[str, str, str], bool]

NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {word: value for value, word in enumerate(NUMBERS)}
VALUES |= {word: 10 * value for value, word in enumerate(TENS, start=2)}
# that say nothing by themselves
FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "it",
        "its",
        "that",
        "this",
        "there",
        "he",
        "she",
        "they",
        "his",
        "her",
        "their",
        "i",
        "you",
        "we",
        "of",
        "in",
        "on",
        "at",
        "to",
        "as",
        "by",
        "for",
        "from",
        "and",
        "so",
        "well",
        "answer",
        "correct",
        "called",
        "known",
    ]
)
# that turn what is said round, where the question has none
NEGATIONS = frozenset(["not", "no", "never", "nor", "neither", "none", "without", "cannot"])
OR = "or"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:st|nd|rd|th)?")
WORD = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?(?:/\d+)*|[^\W_]+", re.UNICODE)
STOP = re.compile(r"[.,;:!?()](?=\s|$)")


class Meaning:
    """Compares answers to one question.

    Parameters
    ----------
    question
        That is answered.
    entails
        An entailment model, asked where normal forms differ; None: these alone.
    """

    def __init__(self, question: str, entails: Entails | None = None) -> None:
        self.question = question
        self.entails = entails
        self._asked = frozenset(_words(question))

    def same(self, one: str, other: str) -> bool:
        """Whether two answers say the same: also where one of them goes on behind it."""
        if one.strip() == other.strip() or self.essence(one) == self.essence(other):
            return True
        if self._goes_on(one, other) or self._goes_on(other, one):
            return True
        return (
            self.entails is not None
            and bool(self.entails(self.question, one, other))
            and bool(self.entails(self.question, other, one))
        )

    def _goes_on(self, longer: str, shorter: str) -> bool:
        """Whether an answer says what the other says and then more, behind a stop or a word that
        says nothing by itself: "New York Jets" is no New York, and "Rome or Paris" no Rome."""
        wanted = self.essence(shorter)
        line = _first_line(longer)
        if not wanted or self._turned(_words(line), wanted) or OR in _words(line):
            return False
        first = STOP.split(line)[0]
        if self.essence(first) == wanted:
            return True
        run: list[str] = []
        for word in _words(first):
            if word not in self._asked and word not in FILLERS:
                run.append(word)
            elif run:
                break
        return tuple(run) == wanted

    def _turned(self, said: Sequence[str], wanted: Sequence[str]) -> bool:
        """Whether an answer denies something, which neither the question nor ``wanted`` does."""
        return bool(NEGATIONS.intersection(said) - self._asked - set(wanted))

    def is_right(self, answer: str, accepted: Sequence[str]) -> bool:
        """Whether an answer says one of those that are accepted: as a whole, in its words, one
        behind the other, or, of a number, as the last number that it says. Of several that it
        leaves open ("one or two") each must be right, and what it denies is not said."""
        said = _words(_first_line(answer))
        parts = [part for part in _split(said, OR) if part] if OR not in self._asked else [said]
        return any(self._is(answer, each) for each in accepted) or (
            bool(parts)
            and all(any(self._says(part, _words(each)) for each in accepted) for part in parts)
        )

    def _is(self, answer: str, accepted: str) -> bool:
        if self.essence(answer) == self.essence(accepted):
            return True
        return self.entails is not None and bool(self.entails(self.question, answer, accepted))

    def _says(self, said: list[str], wanted: list[str]) -> bool:
        if self._turned(said, wanted):
            return False
        if len(wanted) == 1 and NUMBER.fullmatch(wanted[0]):
            numbers = [word for word in said if word[:1].isdigit() or word[:1] in "+-"]
            return numbers[-1:] == wanted
        places = range(len(said) - len(wanted) + 1)
        return bool(wanted) and any(said[place : place + len(wanted)] == wanted for place in places)

    def essence(self, answer: str) -> tuple[str, ...]:
        """What an answer adds to the question, in normal form; all of its words where it adds
        none."""
        words = _words(_first_line(answer))
        new = tuple(word for word in words if word not in self._asked and word not in FILLERS)
        return new or tuple(words)

    def clusters(self, answers: Sequence[str]) -> list[int]:
        """The cluster of each answer, from 0 in the order in which they come; an answer joins the
        first cluster whose first answer says the same."""
        firsts: list[str] = []
        out = []
        for answer in answers:
            found = (place for place, first in enumerate(firsts) if self.same(answer, first))
            place = next(found, len(firsts))
            if place == len(firsts):
                firsts.append(answer)
            out.append(place)
        return out


def _first_line(answer: str) -> str:
    """Where an answer goes on and on, its first line."""
    return answer.strip().partition("\n")[0]


def _split(words: Sequence[str], at: str) -> list[list[str]]:
    """The words between those that part them."""
    out: list[list[str]] = [[]]
    for word in words:
        if word == at:
            out.append([])
        else:
            out[-1].append(word)
    return out


def _words(text: str) -> list[str]:
    """In normal form: no case, no marks, and numbers as digits.

    >>> _words("Twenty-one, or 1,200.0: the 3rd!")
    ['21', 'or', '1200', 'the', '3']
    """
    plain = (
        unicodedata.normalize("NFKC", text)
        .casefold()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    plain = re.sub(r"n't\b", " not", re.sub(r"'s\b", "", plain))
    found = [_number(word) if word[-1:] and NUMBER.match(word) else word for word in _cut(plain)]
    out: list[str] = []
    for word in found:
        if out and out[-1] in TENS and word in NUMBERS[1:10]:
            out[-1] = str(VALUES[out[-1]] + VALUES[word])
        else:
            out.append(word)
    return [str(VALUES[word]) if word in VALUES else word for word in out]


def _cut(text: str) -> list[str]:
    """Words and numbers; a minus behind a word or a number belongs to no number."""
    out = []
    for match in WORD.finditer(text):
        word = match[0]
        before = text[: match.start()].rstrip()
        if word[0] in "+-" and before and (before[-1].isalnum() or before[-1] == ")"):
            word = word[1:]
        out.append(word)
    return out


def _number(word: str) -> str:
    """Of a number as it is written: without commas, a plus, an ordinal's letters or needless
    zeros."""
    digits = word.replace(",", "").lstrip("+")
    if digits[-2:] in ("st", "nd", "rd", "th"):
        digits = digits[:-2]
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits
