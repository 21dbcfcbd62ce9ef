"""How like one answer is to another."""

import re
from collections.abc import Callable

# words; of scripts without spaces, single characters
WORD = re.compile(r"[぀-ヿ㐀-鿿豈-﫿가-힯฀-๿]|[^\W぀-ヿ㐀-鿿豈-﫿가-힯฀-๿]+")


def similarity(answer: str, original: str) -> float:
    """ROUGE-L F1: agreement in words, in order, case and marks aside, from 0 to 1.

    The longest common subsequence of words as a share of the words of both (Lin 2004,
    "ROUGE: A package for automatic evaluation of summaries").

    >>> similarity("It is in Oslo.", "in Oslo")
    0.6666666666666666
    """
    words, wanted = _words(answer), _words(original)
    if not words or not wanted:
        return float(words == wanted)
    best = [0] * (len(wanted) + 1)
    for word in words:
        before = best
        best = [0]
        for place, other in enumerate(wanted):
            same = before[place] + 1 if word == other else 0
            best.append(max(same, before[place + 1], best[place]))
    return 2 * best[-1] / (len(words) + len(wanted))


def equals(answer: str, original: str) -> float:
    """1 if the words are the same, case and marks aside, else 0."""
    return float(_words(answer) == _words(original))


def contains(answer: str, original: str) -> float:
    """1 if the original's words stand together in the answer, else 0.

    >>> contains("It is Oslo, Norway.", "oslo")
    1.0
    """
    return float(f" {' '.join(_words(original))} " in f" {' '.join(_words(answer))} ")


def _words(text: str) -> list[str]:
    """The words, or if there are none the marks."""
    return WORD.findall(text.casefold()) or text.split()


MEASURES: dict[str, Callable[[str, str], float]] = {
    "similarity": similarity,
    "equals": equals,
    "contains": contains,
}
"""Name -> agreement of an answer with the original one, from 0 to 1."""
