"""Cutting a text into segments, the players of a feature oracle."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from oracles.errors import InputError
from oracles.features.prompts.graphemes import Clusters, clusters, words_without_spaces
from oracles.features.prompts.json_fields import leaves, parse_json

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig no vol pp inc ltd co corp u.s "
    "u.k a.m p.m jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
LONGEST_ABBREVIATION = 20  # characters looked at before a full stop
SENTENCE_END = re.compile(
    r"""[.!?…؟۔।॥։።]+["'”’»)\]]*(?=\s|$)|[。！？｡]+[”’」』）]*|\n\s*\n"""
)
RULE = re.compile(r"(?m)^[ \t]*([-=*#_~])\1{2,}[ \t]*$")
"""A line of three or more of one mark, which separates documents."""

Spans = Sequence[tuple[int, int]]
"""[start, end) pairs of character offsets."""

Cut = str | re.Pattern[str] | Spans
"""How a text is cut: a kind's name, a regular expression, or the spans themselves."""


@dataclass(frozen=True)
class Segment:
    """Characters start to end (exclusive) of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """The segment's characters."""
        return text[self.start : self.end]


def split(
    text: str, kind: Cut, tokenizer: Any = None, pinned: Sequence[Segment] = ()
) -> tuple[Segment, ...]:
    """Cut a text into segments; white space between them belongs to none.

    No segment ends inside what a reader sees as one character (a letter with its
    accents, an emoji). Offsets count characters in reading order, whatever the
    direction they are drawn in.

    Args:
        text: any Unicode text.
        kind: how it is cut:

            - "word": separated by white space, punctuation kept on the word; Chinese,
              Japanese and Thai in phrases.
            - "sentence": ends in . ! ? ... or other scripts' forms before white space,
              or at an empty line; not after an abbreviation or a single initial.
            - "line", "paragraph" (separated by empty lines).
            - "document", "example": separated by lines of three or more of one of
              - = * # _ ~, or by empty lines where there is none. Documents that are a
              list need no separator: `prompts.passages_prompt`.
            - "json": the fields of a JSON text, keys included.
            - "token" of the tokenizer.
            - "regex:PATTERN" or a compiled pattern: every match is a segment, and what
              is not matched is never removed.
            - "between:PATTERN": the pieces between the matches; a match goes with the
              piece before it.
            - a list of [start, end) pairs; what is outside is never removed.
        tokenizer: a fast Hugging Face tokenizer; only for "token".
        pinned: parts that belong to no segment; one that holds part of a segment leaves
            the rest of it.

    Raises:
        InputError: empty text, unknown kind, a pattern that cannot be used or matches
            nothing, spans out of range, out of order or overlapping, text that is not
            JSON, or fewer than two segments.
    """
    segments = cut(text, kind, tokenizer, pinned)
    if len(segments) < 2:
        raise too_few(kind, len(segments), bool(pinned))
    return segments


def cut(
    text: str, kind: Cut, tokenizer: Any = None, pinned: Sequence[Segment] = ()
) -> tuple[Segment, ...]:
    """As `split`, but one segment is enough, and all may be pinned."""
    if not text.strip():
        raise InputError("the text is empty; there is nothing to explain.")
    borders = clusters(text)
    spans: Iterable[tuple[int, int]]
    if isinstance(kind, str | re.Pattern):
        spans = _whole_characters(_spans(text, kind, tokenizer), borders)
    else:
        spans = checked_spans(kind, text, "segments")
    is_json = kind == "json"
    rests = _without_overlap(spans, pinned) if is_json else _outside(spans, pinned)
    return _trimmed(text, rests, borders)


def rest(text: str, segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """What is in none of the segments, without the white space at its ends."""
    gaps = _outside([(0, len(text))], segments)
    return _trimmed(text, gaps, clusters(text))


def pin(text: str, pinned: Cut) -> tuple[Segment, ...]:
    """The parts of a text that are never removed.

    Args:
        text: the text.
        pinned: a regular expression, whose every match is kept, or a list of
            [start, end) pairs; "" or an empty list for nothing.

    Raises:
        InputError: a pattern that cannot be used or matches nothing, or spans out of
            range, out of order or overlapping.
    """
    if not pinned:
        return ()
    borders = clusters(text)
    if isinstance(pinned, str | re.Pattern):
        found = _matches(text, _compiled(pinned, "pinned"), "pinned")
        spans = list(_whole_characters(found, borders))
    else:
        spans = checked_spans(pinned, text, "pinned")
    return _trimmed(text, spans, borders)


def name_of(kind: Cut) -> str:
    """A cut's name in descriptions: the kind, "regex:PATTERN" or "spans"."""
    if isinstance(kind, re.Pattern):
        return f"regex:{kind.pattern}"
    return kind if isinstance(kind, str) else "spans"


def checked_spans(spans: Spans, text: str, argument: str) -> list[tuple[int, int]]:
    """The spans if they are in range, in order, apart, and of whole characters.

    Raises:
        InputError: they are not; names the first that is wrong.
    """
    borders, before = clusters(text), 0
    checked = [(int(start), int(end)) for start, end in spans]
    for start, end in checked:
        if not 0 <= start < end <= len(text):
            problem = f"is not within the text's {len(text)} characters"
        elif start < before:
            problem = f"begins before the one in front of it ends, at {before}"
        elif borders.floor(start) != start or borders.floor(end) != end:
            whole = (borders.floor(start), borders.ceil(end))
            problem = f"cuts a character that is written with several; {whole} does not"
        else:
            before = end
            continue
        raise InputError(
            f"{argument}: the span ({start}, {end}) {problem}. Spans are (start, end) "
            "pairs of character offsets, end exclusive, in order and without overlap."
        )
    return checked


def _spans(
    text: str, kind: str | re.Pattern[str], tokenizer: Any
) -> Iterator[tuple[int, int]]:
    if isinstance(kind, re.Pattern):
        return _matches(text, kind, "segments")
    name, colon, pattern = kind.partition(":")
    if colon and name == "regex":
        return _matches(text, _compiled(pattern, "segments"), "segments")
    if colon and name == "between":
        separator = _compiled(pattern, "segments")
        return _pieces(text, _matches(text, separator, "segments"))
    if kind not in SPLITTERS:
        raise InputError(
            f"segments={kind!r} is not known. Choose from {', '.join(SPLITTERS)}, "
            "regex:PATTERN (every match is a segment) or between:PATTERN (the pieces "
            "between the matches)."
        )
    return SPLITTERS[kind](text, tokenizer)


def _compiled(pattern: str | re.Pattern[str], argument: str) -> re.Pattern[str]:
    if isinstance(pattern, re.Pattern):
        return pattern
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{argument}: {pattern!r} is not a regular expression ({error}). Escape "
            "what is meant as it stands with a backslash, as in \\( or \\.."
        ) from error


def _matches(
    text: str, pattern: re.Pattern[str], argument: str
) -> Iterator[tuple[int, int]]:
    spans = [match.span() for match in pattern.finditer(text)]
    spans = [(start, end) for start, end in spans if text[start:end].strip()]
    # separators may be white space
    spans = spans or [m.span() for m in pattern.finditer(text) if m.end() > m.start()]
    if not spans:
        raise InputError(
            f"{argument}: the pattern {pattern.pattern!r} matches nothing in the text. "
            "Try it with re.findall(pattern, text)."
        )
    return iter(spans)


def _whole_characters(
    spans: Iterable[tuple[int, int]], borders: Clusters
) -> Iterator[tuple[int, int]]:
    """The spans moved outwards to whole characters; the first has a shared one."""
    before = 0
    for start, end in spans:
        whole = max(before, borders.floor(start)), borders.ceil(end)
        if whole[0] < whole[1]:
            yield whole
            before = whole[1]


def _outside(
    spans: Iterable[tuple[int, int]], pinned: Sequence[Segment]
) -> Iterator[tuple[int, int]]:
    """The parts of the spans that are not pinned."""
    for start, end in spans:
        for held in pinned:
            if held.end <= start or end <= held.start:
                continue
            yield start, max(start, held.start)
            start = held.end  # past the end where nothing is left
        yield start, end


def _without_overlap(
    spans: Iterable[tuple[int, int]], pinned: Sequence[Segment]
) -> Iterator[tuple[int, int]]:
    for start, end in spans:
        if all(held.end <= start or end <= held.start for held in pinned):
            yield start, end


def too_few(kind: Cut, count: int, is_pinned: bool) -> InputError:
    """The error of a text with fewer than two segments."""
    name = name_of(kind)
    if is_pinned and count == 0:
        return InputError(
            "everything in the text is pinned; there is nothing to remove. Pin less."
        )
    finer: Sequence[str] = ()
    if name in COARSE_TO_FINE:
        finer = COARSE_TO_FINE[COARSE_TO_FINE.index(name) + 1 :]
    way = f"finer segments ({', '.join(finer)}) or a " if finer else "a "
    single = f"a single {name}" if name in SPLITTERS else f"one segment by {name!r}"
    return InputError(
        f"the text is {single}, and one segment has nothing to act together with. Use "
        f"{way}longer text."
    )


def _trimmed(
    text: str, spans: Iterable[tuple[int, int]], borders: Clusters
) -> tuple[Segment, ...]:
    """The spans without the white space at their ends; none of nothing else."""
    segments = []
    for start, end in spans:
        words = text[start:end]
        first = start + len(words) - len(words.lstrip())
        last = start + len(words.rstrip())
        if first < last:  # white space may carry an accent
            segments.append(Segment(borders.floor(first), borders.ceil(last)))
    return tuple(segments)


def _words(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\S+", text):
        if match.group().isascii():
            yield match.span()
        else:
            yield from words_without_spaces(text, *match.span())


def _lines(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(r"[^\r\n]+", text))


def _pieces(text: str, gaps: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in gaps:
        yield start, gap[0]
        start = gap[1]
    yield start, len(text)


def _paragraphs(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    return _pieces(text, (gap.span() for gap in re.finditer(r"\n\s*\n", text)))


def _documents(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    rules = [rule.span() for rule in RULE.finditer(text)]
    return _pieces(text, rules) if rules else _paragraphs(text, tokenizer)


def _fields(text: str, tokenizer: Any) -> Iterator[tuple[int, int]]:
    return ((item.start, item.end) for item in leaves(parse_json(text)))


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
    encoded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    # byte-level tokenizers split one character over tokens: the first has it all
    return iter(encoded["offset_mapping"])


Splitter = Callable[[str, Any], Iterator[tuple[int, int]]]

SPLITTERS: dict[str, Splitter] = {
    "word": _words,
    "sentence": _sentences,
    "token": _tokens,
    "line": _lines,
    "paragraph": _paragraphs,
    "document": _documents,
    "example": _documents,
    "json": _fields,
}
"""Kind of segment -> function from text and tokenizer to character spans."""

COARSE_TO_FINE = ("document", "paragraph", "line", "sentence", "word", "token")
