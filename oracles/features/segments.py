"""Cutting a text into segments, the players of a feature oracle."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from oracles.errors import InputError

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig no vol pp inc ltd co corp u.s "
    "u.k a.m p.m jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
LONGEST_ABBREVIATION = 20  # characters looked at before a full stop
SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*|\n\s*\n""")


@dataclass(frozen=True)
class Segment:
    """Characters start to end (exclusive) of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """The segment's characters."""
        return text[self.start : self.end]


def split(text: str, kind: str, tokenizer: Any = None) -> tuple[Segment, ...]:
    """Cut a text into segments; white space between them belongs to none.

    Args:
        text: any Unicode text.
        kind: "word" (separated by white space, punctuation kept on the word),
            "sentence" (ends in . ! ? ... or their CJK forms before white space, or at
            an empty line; not after an abbreviation or a single initial), "line",
            "paragraph" (separated by empty lines), or "token" of the tokenizer.
        tokenizer: a fast Hugging Face tokenizer; only for "token".

    Raises:
        InputError: empty text, unknown kind, or fewer than two segments.
    """
    if not text.strip():
        raise InputError("the text is empty; there is nothing to explain.")
    if kind not in SPLITTERS:
        raise InputError(
            f"segments={kind!r} is not known. Choose from {', '.join(SPLITTERS)}."
        )
    spans = (_trimmed(text, *span) for span in SPLITTERS[kind](text, tokenizer))
    segments = tuple(Segment(*span) for span in spans if span[0] < span[1])
    if len(segments) < 2:
        finer = COARSE_TO_FINE[COARSE_TO_FINE.index(kind) + 1 :]
        way = f"finer segments ({', '.join(finer)}) or a " if finer else "a "
        raise InputError(
            f"the text is a single {kind}, and one segment has nothing to act together "
            f"with. Use {way}longer text."
        )
    return segments


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _words(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(r"\S+", text))


def _lines(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(r"[^\r\n]+", text))


def _paragraphs(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in re.finditer(r"\n\s*\n", text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _sentences(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    start = 0
    for match in SENTENCE_END.finditer(text):
        if match.group().startswith(".") and _is_abbreviation(text, match.start()):
            continue
        yield start, match.end()
        start = match.end()
    yield start, len(text)


def _is_abbreviation(text: str, dot: int) -> bool:
    """Whether the full stop at `dot` ends an abbreviation or an initial."""
    word = re.search(r"\S*$", text[max(0, dot - LONGEST_ABBREVIATION) : dot])
    before = word.group().lstrip("(\"'“‘[") if word else ""
    is_initial = len(before) == 1 and before.isupper() and before != "I"
    return is_initial or before.lower() in ABBREVIATIONS


def _tokens(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    if tokenizer is None or not tokenizer.is_fast:
        raise InputError(
            "token segments need a model with a fast tokenizer, which knows the "
            "characters of each token. Use word segments."
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    end = 0
    for start, stop in encoded["offset_mapping"]:
        # byte-level tokenizers split one character over tokens: the first has it all
        if stop > end:
            yield max(start, end), stop
            end = stop


Splitter = Callable[[str, Any], Iterator[tuple[int, int]]]

SPLITTERS: dict[str, Splitter] = {
    "word": _words,
    "sentence": _sentences,
    "token": _tokens,
    "line": _lines,
    "paragraph": _paragraphs,
}
"""Kind of segment -> function from text and tokenizer to character spans."""

COARSE_TO_FINE = ("paragraph", "line", "sentence", "word", "token")
