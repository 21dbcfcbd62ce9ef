"""How like two answers are, by the words they share.

Words are runs of letters and digits, upper and lower case alike; of scripts without
spaces each character is one.
"""

import re
import unicodedata
from collections import Counter

from oracles.features.prompts.graphemes import WITHOUT_SPACES

WORD = re.compile(r"\w+")


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of common words in the two, from 0 to 1.

    As SQuAD's F1 (Rajpurkar et al. 2016, section 6.1), which also leaves out articles;
    those are English, and so are kept here. Order does not count.

    >>> token_f1("in Oslo", "She works in Oslo.")
    0.6666666666666666
    """
    ours, theirs = words_of(answer), words_of(reference)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return _harmonic(common, len(ours), len(theirs))


def rouge_l(answer: str, reference: str) -> float:
    """The same with the longest common subsequence of words, so that order counts.

    ROUGE-L's F-measure (Lin 2004, section 3.1) with precision and recall alike.

    >>> rouge_l("Oslo in she works", "She works in Oslo.")
    0.5
    """
    ours, theirs = words_of(answer), words_of(reference)
    best = [0] * (len(theirs) + 1)  # of our words so far and their first so many
    for word in ours:
        before = 0
        for j, other in enumerate(theirs, start=1):
            here = before + 1 if word == other else max(best[j], best[j - 1])
            before, best[j] = best[j], here
    return _harmonic(best[-1], len(ours), len(theirs))


def words_of(text: str) -> list[str]:
    """The words that are compared.

    >>> words_of("Oslo's 2 ports; 東京")
    ['oslo', 's', '2', 'ports', '東', '京']
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    apart = WITHOUT_SPACES.sub(lambda run: f" {' '.join(run.group())} ", plain)
    return WORD.findall(apart)


def _harmonic(common: int, ours: int, theirs: int) -> float:
    """2 p r / (p + r) for p = common / ours and r = common / theirs."""
    return 2 * common / (ours + theirs) if common else 0.0
