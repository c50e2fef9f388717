"""What a string is made of: characters, words, bytes, or merged bytes, learned from the strings of
a fit.

Characters, words and bytes are one way of writing a string, so that log p of the codes is that of
the string. Merged bytes (P. Gage (1994), A new algorithm for data compression; R. Sennrich, B.
Haddow and A. Birch (2016), Neural machine translation of rare words with subword units) can write
it in several ways, of which one is asked about: its log p is a lower bound. Every byte is a token
of its own too, so that there is no string that can't be written. A pretrained language model brings
its own tokens along.
"""

import abc
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from conjoin.util.gguf import GGUF, is_gguf
from conjoin.util.gguf_words import tokenizer_in_file, vocabulary_in_file
from conjoin.util.near import did_you_mean
from conjoin.util.pretrained import checked_folder, read_json, vocabulary_of

__all__ = [
    "BROKEN",
    "FORMATS",
    "Bytes",
    "Characters",
    "Merged",
    "Tokenizer",
    "Tokens",
    "Words",
    "read_format",
    "special_tokens",
    "tokens_from_json",
]

BYTES = 256
MERGED_TOKENS = 1024  # that are learned unless a number is asked for, the bytes included
MARKS = ".,;:!?"  # that are tokens of their own behind a word
MAX_RARE_WORDS = 0.002  # of all words, that stand once, up to which strings are made of words
SHOWN_WORDS = 20  # in a message
SHOWN_CHARACTERS = 60  # of a string in a message
WINDOW_TOKENS = 16  # before a token, that tell how it is written
BROKEN = "\N{REPLACEMENT CHARACTER}"  # of bytes that end inside a character


class Tokens(abc.ABC):
    """``names`` of the codes; ``word`` says what they are, ``several`` whether a string can be
    written in several ways."""

    format: ClassVar[str]
    word: ClassVar[str]
    several: ClassVar[bool] = False
    brought: ClassVar[bool] = False  # by a pretrained model, not learned from the fit's strings
    # times the longest string of the fit, in tokens: as long as a string may be
    capacity_factor: ClassVar[float] = 1.25
    names: tuple[str, ...]

    @classmethod
    @abc.abstractmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        """From the strings of the fit; ``wanted``: what the format says behind its name, such as
        how many tokens, or None."""

    @abc.abstractmethod
    def codes(self, string: str) -> list[int]:
        """Of a string; -1 of what is no token. ValueError for what is no text."""

    @abc.abstractmethod
    def text(self, codes: Sequence[int]) -> str:
        """The string that codes write."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All that was learned."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``."""

    @property
    @abc.abstractmethod
    def shown(self) -> str:
        """All of them in a word or a line, for messages."""

    @property
    def alone(self) -> tuple[str, ...]:
        """The text of each code by itself; none where codes write text only together."""
        return ()

    def unread(self, string: str) -> str:
        """Why a string can't be read, as the end of a sentence; "" where no more is known than
        its place."""
        return ""

    def pieces(self, codes: Sequence[int], nats: Sequence[float]) -> list[tuple[str, float]]:
        """The tokens as text, each with its own number; those that only together write a character
        are one piece, with the sum."""
        out = []
        total = 0.0
        start = 0  # of the tokens that are not yet written
        for end in range(1, len(codes) + 1):
            total += float(nats[end - 1])
            last = codes[max(0, end - WINDOW_TOKENS) : end]
            if self.text(last).endswith(BROKEN) and end < len(codes):
                continue
            near = max(0, start - WINDOW_TOKENS)
            written = self.text(codes[near:start])
            out.append((self.text(codes[near:end])[len(written) :], total))
            start = end
            total = 0.0
        return out


class Characters(Tokens):
    """Those of the fit, in order; any other is no token."""

    format = "characters"
    word = "characters"

    def __init__(self, characters: Iterable[str] = ()) -> None:
        self.names = tuple(characters)
        self._code = {character: code for code, character in enumerate(self.names)}

    @classmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        return cls(sorted(set().union(*map(_checked, strings))) or [" "])

    @property
    def shown(self) -> str:
        return "".join(self.names)

    @property
    def alone(self) -> tuple[str, ...]:
        return self.names

    def codes(self, string: str) -> list[int]:
        return [self._code.get(character, -1) for character in string]

    def text(self, codes: Sequence[int]) -> str:
        return "".join(self.names[code] for code in codes)

    def to_json(self) -> dict[str, Any]:
        return {"characters": "".join(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tuple(data["characters"]))


class Words(Tokens):
    """Words and marks behind them, of strings whose words stand one space apart: each such string
    is written in one way, and no other string can be written. Words that the fit has not seen are
    no tokens."""

    format = "words"
    word = "words"

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.names = tuple(words)
        self._code = {word: code for code, word in enumerate(self.names)}

    @classmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        strings = list(strings)
        split = [_words_of(_checked(string)) for string in strings]
        odd = [s for words, s in zip(split, strings, strict=True) if _joined(words) != s]
        if odd:
            raise ValueError(
                f"{len(odd):,} of {len(strings):,} texts can't be written as words one space apart "
                f"with marks right behind them, the first of them {odd[0][:SHOWN_CHARACTERS]!r}: "
                "write them so, or choose the format characters, bytes or tokens."
            )
        words = {word for each in split for word in each}
        return cls(sorted(words - {""}) or ["."])

    @classmethod
    def suit(cls, strings: Sequence[str]) -> bool:
        """Whether these strings can be written, and hardly any of their words is so rare that other
        strings would have words that these have not."""
        split = [_words_of(string) for string in strings]
        count = Counter(word for words in split for word in words)
        rare = sum(1 for times in count.values() if times == 1)
        whole = all(map(cls.writes, strings))
        return whole and rare <= MAX_RARE_WORDS * count.total()

    @classmethod
    def writes(cls, string: str) -> bool:
        """Whether words, with one blank between two of them, write the string."""
        words = _words_of(string)
        return "" not in words and _joined(words) == string

    @property
    def shown(self) -> str:
        most = ", ".join(self.names[:SHOWN_WORDS])
        return most if len(self.names) <= SHOWN_WORDS else f"{most}, ... {self.names[-1]}"

    @property
    def alone(self) -> tuple[str, ...]:
        return self.names

    def codes(self, string: str) -> list[int]:
        words = _words_of(_checked(string))
        return [self._code.get(word, -1) for word in words] if _joined(words) == string else [-1]

    def unread(self, string: str) -> str:
        words = _words_of(string)
        odd = next((word for word in words if word not in self._code), "")
        if not odd or _joined(words) != string:
            return "one blank stands between words, and none before a mark or at an end"
        odd = odd[:SHOWN_CHARACTERS]
        near = did_you_mean(odd, self.names).strip()
        return f"{odd!r} is none of them" + (f" ({near})" if near else "")

    def text(self, codes: Sequence[int]) -> str:
        return _joined([self.names[code] for code in codes])

    def to_json(self) -> dict[str, Any]:
        return {"words": list(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["words"])


def _words_of(string: str) -> list[str]:
    """Words, each followed by the marks behind it."""
    out = []
    for piece in string.split(" ") if string else ():
        word = piece.rstrip(MARKS)
        marks = piece[len(word) :]
        out += [*([word] if word or not marks else []), *marks]
    return out


def _joined(words: Sequence[str]) -> str:
    """The inverse, of words and marks: one space before each word but the first."""
    spaced = (word if word in MARKS and word else f" {word}" for word in words)
    return "".join(spaced).removeprefix(" ")


class Bytes(Tokens):
    """Those of UTF-8, all 256. Bytes that are no text, which a model may draw, are read as the
    replacement character."""

    format = "bytes"
    word = "bytes"

    def __init__(self) -> None:
        self.names = tuple(f"{code:02x}" for code in range(BYTES))

    @classmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        return cls()

    @property
    def shown(self) -> str:
        return "00 to ff"

    def codes(self, string: str) -> list[int]:
        return list(_in_utf8(string))

    def text(self, codes: Sequence[int]) -> str:
        return bytes(codes).decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls()


class Merged(Tokens):
    """Bytes, and pairs of tokens that often stand together, merged one after the other. ``saved``:
    the tokenizer as JSON."""

    format = "tokens"
    word = "tokens"
    several = True
    capacity_factor = 2.5  # the merges are those of the fit, so that other strings take more tokens

    def __init__(self, saved: str) -> None:
        self._saved = saved
        self._tokenizer = _library().Tokenizer.from_str(saved)
        count = self._tokenizer.get_vocab_size()
        self.names = tuple(self._tokenizer.id_to_token(code) for code in range(count))

    @classmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=wanted or MERGED_TOKENS,
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator([_checked(string) for string in strings], trainer)
        return cls(tokenizer.to_str())

    def codes(self, string: str) -> list[int]:
        return list(self._tokenizer.encode(_checked(string)).ids)

    def text(self, codes: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(codes), skip_special_tokens=False))

    @property
    def shown(self) -> str:
        return f"{self.names[BYTES]} ... {self.names[-1]}" if len(self.names) > BYTES else "bytes"

    def to_json(self) -> dict[str, Any]:
        return {"tokenizer": self._saved}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["tokenizer"])


class Tokenizer(Tokens):
    """Those of a pretrained language model: the codes are the network's tokens.

    ``saved``: tokenizer.json; ``size``: how many tokens the network has, of which a tokenizer may
    know fewer. What a string says is text, also where it reads like a special token. A string that
    the tokenizer would change, as one that writes no capitals does, is refused."""

    format = "tokenizer"
    word = "tokens"
    several = True
    brought = True

    def __init__(self, saved: str, size: int) -> None:
        self._saved = saved
        self._tokenizer = _library().Tokenizer.from_str(saved)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        known = (self._tokenizer.id_to_token(code) for code in range(size))
        self.names = tuple(
            f"[token {code}]" if name is None else name for code, name in enumerate(known)
        )
        model = json.loads(saved).get("model", {})
        unknown = model.get("unk_token")
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)

    @classmethod
    def in_folder(cls, folder: str | Path) -> Self:
        """That of a pretrained model in a local folder or a GGUF file; ValueError where there is
        none."""
        if is_gguf(folder):
            held = GGUF(folder)
            return cls(tokenizer_in_file(held), vocabulary_in_file(held).size)
        path = checked_folder(folder)
        file = path / "tokenizer.json"
        if not file.is_file():
            raise ValueError(
                f"{path} has no tokenizer.json: save it there with the class AutoTokenizer of "
                "transformers, by from_pretrained(...).save_pretrained(folder)."
            )
        read_json(file)  # refused by its name where it is none
        return cls(file.read_text(encoding="utf-8"), vocabulary_of(path).size)

    @classmethod
    def learned(cls, strings: Iterable[str], wanted: Any) -> Self:
        return cls.in_folder(wanted)

    def codes(self, string: str) -> list[int]:
        every = self._tokenizer.encode(_checked(string), add_special_tokens=False).ids
        codes = [-1 if code == self._unknown else code for code in every]
        if -1 not in codes and self.text(codes) != string:
            raise ValueError(
                f"The tokenizer writes {string[:SHOWN_CHARACTERS]!r} as "
                f"{self.text(codes)[:SHOWN_CHARACTERS]!r}: this string has no probability of its "
                "own; bring it into that form first."
            )
        return codes

    def text(self, codes: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(codes), skip_special_tokens=False))

    @property
    def shown(self) -> str:
        return f"{self.names[0]} ... {self.names[-1]}"

    def to_json(self) -> dict[str, Any]:
        return {"tokenizer": self._saved, "size": len(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["tokenizer"], data["size"])


FORMATS: dict[str, type[Tokens]] = {
    kind.format: kind for kind in (Characters, Words, Bytes, Merged, Tokenizer)
}


def read_format(asked: Any, where: str) -> tuple[type[Tokens], Any]:
    """What the user says that strings are made of, such as "bytes" or "tokens 512", and what
    stands behind its name: how many tokens, or the folder of a tokenizer. ValueError names the
    choices."""
    word, _, rest = str(asked or Characters.format).strip().partition(" ")
    kind = FORMATS.get(word)
    if kind is Tokenizer and rest.strip():
        return kind, rest.strip()
    wanted = int(rest) if rest.isdecimal() else None
    fits = not rest or (kind is Merged and wanted is not None and wanted > BYTES)
    if kind is None or kind is Tokenizer or not fits:
        raise ValueError(
            f"{where}: the format of text is 'characters', 'words', 'bytes', 'tokens', or 'tokens "
            f"N' with N of more than {BYTES} tokens, or 'tokenizer FOLDER' with the folder of a "
            f"pretrained model, got {asked!r}."
        )
    return kind, wanted


def tokens_from_json(data: Mapping[str, Any]) -> Tokens:
    """What a codec was saved with."""
    return FORMATS[data.get("format", Characters.format)].from_json(data)


def special_tokens(tokens: Tokens) -> dict[str, int]:
    """The codes of a pretrained model's tokens that stand for no text, by their names; no other
    tokens have such ones.

    >>> special_tokens(Characters("ab"))
    {}
    """
    saved = tokens.to_json().get("tokenizer")
    added = json.loads(saved).get("added_tokens", []) if saved else []
    return {
        each["content"]: each["id"]
        for each in added
        if each.get("special") and each["id"] < len(tokens.names)
    }


def _library() -> Any:
    """The package of merges. ImportError with its install line."""
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "Text in merged tokens needs the package tokenizers: pip install 'conjoin[text]'."
        ) from None
    return tokenizers


def _in_utf8(string: str) -> bytes:
    try:
        return string.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The string {string[: error.start + 1][-SHOWN_CHARACTERS:]!a} is no text: behind "
            f"{error.start:,} characters stands half of a character, as where Latin-1 was read as "
            "UTF-8; read the file in its own encoding."
        ) from None


def _checked(string: str) -> str:
    _in_utf8(string)
    return string
