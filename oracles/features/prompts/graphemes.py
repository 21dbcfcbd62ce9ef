"""Characters as a reader sees them, and words of scripts written without spaces.

A grapheme cluster is what a reader takes for one character: a letter with its
combining marks, an emoji joined of several, a flag of two letters. No segment begins or
ends inside one. Clusters are those of Unicode's annex 29 as the package `regex` finds
them (https://www.unicode.org/reports/tr29/).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from oracles.errors import InputError, ModelError

KANA = "\u3041-\u309f\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HAN = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff" + (
    "\U00020000-\U000323af"
)
THAI = "\u0e01-\u0e3a\u0e40-\u0e4e"
OTHER = "\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Lao, Burmese, Khmer
WITHOUT_SPACES = re.compile(f"[{KANA}{HAN}]+|[{THAI}]+|[{OTHER}]+")
MARKS = re.compile(r"[^\w\s]+")
HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Clusters:
    """Where a text's grapheme clusters begin, and its end; None if every place does."""

    borders: list[int] | None

    def floor(self, place: int) -> int:
        """The last border at or before a place."""
        if self.borders is None:
            return place
        return self.borders[bisect_right(self.borders, place) - 1]

    def ceil(self, place: int) -> int:
        """The first border at or after a place."""
        if self.borders is None:
            return place
        return self.borders[bisect_left(self.borders, place)]


def clusters(text: str) -> Clusters:
    """The borders of a text's grapheme clusters.

    Raises:
        InputError: half of a surrogate pair, which is no character.
        ModelError: the package `regex` is missing.
    """
    if text.isascii():
        return Clusters(None)
    if half := HALF_PAIR.search(text):
        raise InputError(
            f"the text holds half of a surrogate pair ({half.group()!a}) at offset "
            f"{half.start()}, which is no character. Decode the file as UTF-8, or take "
            'it out: text.encode("utf-8", "ignore").decode().'
        )
    try:
        import regex  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing(error) from error
    starts = [match.start() for match in regex.finditer(r"\X", text)]
    return Clusters([*starts, len(text)])


def words_without_spaces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a run without white space into words where its script leaves no spaces.

    Chinese, Japanese and Thai are cut into phrases by BudouX (Google's small models
    of where a line may be broken, https://github.com/google/budoux); Lao, Burmese and
    Khmer into clusters. Marks stay with the word before them; what is written with
    spaces, such as a Latin name or a number, is one word.
    """
    place = start
    for match in WITHOUT_SPACES.finditer(text, start, end):
        if match.start() < place:
            continue
        first = match.start()
        if MARKS.fullmatch(text, place, first):  # an opening quote or bracket
            first = place
        elif place < first:
            yield place, first
        # the models break around marks too, and so are given them
        stop = match.end()
        while (marks := MARKS.match(text, stop, end)) or (
            marks := WITHOUT_SPACES.match(text, stop, end)
        ):
            stop = marks.end()
        for piece in _phrases(text[first:stop]):
            yield first + piece[0], first + piece[1]
        place = stop
    if place < end:
        yield place, end


def _phrases(run: str) -> Iterator[tuple[int, int]]:
    start = 0
    for words in _cutter(run)(run):
        yield start, start + len(words)
        start += len(words)


def _cutter(run: str) -> Callable[[str], list[str]]:
    if re.search(f"[{KANA}]", run):
        return _budoux("japanese")
    if re.search(f"[{HAN}]", run):
        return _budoux("simplified_chinese")
    if re.search(f"[{THAI}]", run):
        return _budoux("thai")
    import regex  # clusters() was asked before

    return lambda characters: regex.findall(r"\X", characters)


@cache
def _budoux(language: str) -> Callable[[str], list[str]]:
    try:
        import budoux
    except ImportError as error:
        raise _missing(error) from error
    parser = getattr(budoux, f"load_default_{language}_parser")()
    return parser.parse


def _missing(error: ImportError) -> ModelError:
    return ModelError(
        f"cutting a text that is not ASCII needs regex and budoux ({error}). Install "
        'them with pip install "spex-explain[text]".'
    )
