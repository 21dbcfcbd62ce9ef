"""Repeated random words, which the embedded induction models go on with.

A text is random words said once and then again: "cat sun map ... cat sun" goes on with
"map", whatever the words are. Two kinds of heads, one above the other, are known to do
this (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Olsson et
al. 2022, In-context Learning and Induction Heads): a previous-token head writes at each
word what stood before it; an induction head looks for the place where the present word
is what stood before, and copies the word there.
"""

import numpy as np

from oracles.components.prompts import TaskPrompt

WORDS = (
    "ant bag bat bed bee box boy bus cap car cat cow cup day dog ear egg eye fan fig "
    "fly fox gas gem hat hen ice ink jam jar key kit leg lip log man map mud net nut "
    "oak oil owl pan pen pie pig pin pot rat sea ski sky sun tea tie toy van web zoo"
).split()
"""Sixty words, each one token."""

SHORTEST, LONGEST = 6, 20
"""Words that are said before they are said again."""


def draw_prompts(rng: np.random.Generator, count: int) -> list[TaskPrompt]:
    """Prompts with a right answer, a wrong one and a corrupted form.

    The text stops somewhere in the second saying; the answer is the word that comes
    next. The wrong answer is another of its words. In the corrupted form the wrong
    answer and the right one have changed places in the first saying, so that it goes on
    with the wrong one.
    """
    return [_draw(rng) for _ in range(count)]


def _draw(rng: np.random.Generator) -> TaskPrompt:
    size = int(rng.integers(SHORTEST, LONGEST + 1))
    words = [WORDS[i] for i in rng.choice(len(WORDS), size, replace=False)]
    said = int(rng.integers(1, size - 1))  # words of the second saying, so far
    other = int(rng.integers(said + 1, size))  # so that what is said again stays
    swapped = list(words)
    swapped[said], swapped[other] = swapped[other], swapped[said]
    begun = words[:said]
    return TaskPrompt(
        text=" ".join([*words, *begun]),
        answer=words[said],
        wrong=words[other],
        corrupted=" ".join([*swapped, *begun]),
    )
