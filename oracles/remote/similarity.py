"""How like an answer is to the original one."""

from collections.abc import Callable

from oracles.features.answers.similarity import rouge_l, token_f1, words_of


def equals(answer: str, original: str) -> float:
    """1 if the words are the same, case and marks aside, else 0.

    >>> equals("OSLO.", "Oslo")
    1.0
    """
    return float(words_of(answer) == words_of(original))


def contains(answer: str, original: str) -> float:
    """1 if the original's words stand together in the answer, else 0.

    >>> contains("It is Oslo, Norway.", "oslo")
    1.0
    """
    words, wanted = words_of(answer), words_of(original)
    starts = range(len(words) - len(wanted) + 1)
    return float(any(words[i : i + len(wanted)] == wanted for i in starts))


MEASURES: dict[str, Callable[[str, str], float]] = {
    "rouge-l": rouge_l,
    "token-f1": token_f1,
    "equals": equals,
    "contains": contains,
}
"""Name -> agreement of an answer with the original one, from 0 to 1."""
