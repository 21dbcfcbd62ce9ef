"""Scores of the embedded model `facts` on fresh stories, and its model card."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from oracles.embedded.facts_world import UNKNOWN, Story, generate, prompt_of

SIZES = (
    *((1, 6, 4), (1, 8, 30)),
    *((2, 6, 0), (2, 6, 4), (2, 8, 6), (2, 10, 30), (2, 10, 50)),
    *((3, 6, 4), (3, 9, 5), (3, 9, 40)),
)
"""Hops, facts and fillers of the stories on which accuracy is told."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Shares of right answers on stories of one kind.

    Attributes:
        intact: right with the whole document.
        chance: one over the number of candidate answers in the document.
        without_support: still right with a supporting sentence deleted.
        says_unknown: answers "unknown" with a supporting sentence deleted.
        without_other: right with a sentence deleted that is not needed.
    """

    hops: int
    num_facts: int
    num_fillers: int
    intact: float
    chance: float
    without_support: float
    says_unknown: float
    without_other: float


def next_words(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]
) -> list[str]:
    """Return the likeliest next token of each prompt, as text without spaces."""
    words: list[str] = []
    for start in range(0, len(prompts), 16):
        batch = tokenizer(
            list(prompts[start : start + 16]), return_tensors="pt", padding=True
        )
        with torch.no_grad():
            logits = model(**batch).logits
        last = batch["attention_mask"].sum(dim=1) - 1
        ids = logits[torch.arange(len(last)), last].argmax(dim=-1)
        words += [tokenizer.decode([i]).strip() for i in ids.tolist()]
    return words


def without(story: Story, index: int) -> str:
    """Return the story's prompt with one sentence deleted."""
    kept = [s for i, s in enumerate(story.sentences) if i != index]
    return prompt_of(kept, story.question)


def _draw_other(rng: np.random.Generator, story: Story) -> int:
    """Return the index of a sentence that the answer does not need."""
    others = set(range(len(story.sentences))) - set(story.supporting_sentences)
    return int(rng.choice(sorted(others)))


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    size: tuple[int, int, int],
    num_stories: int,
    seed: int,
) -> Score:
    """Return the model's score on fresh stories of (hops, facts, fillers)."""
    rng = np.random.default_rng(seed)
    hops, num_facts, num_fillers = size
    stories = [generate(rng, num_facts, num_fillers, hops) for _ in range(num_stories)]
    supports = [int(rng.choice(s.supporting_sentences)) for s in stories]
    others = [_draw_other(rng, story) for story in stories]

    def answers(prompts: list[str], *, expected: Sequence[str]) -> float:
        words = next_words(model, tokenizer, prompts)
        return float(np.mean([w == e for w, e in zip(words, expected, strict=True)]))

    right = [story.answer for story in stories]
    cut = [without(s, i) for s, i in zip(stories, supports, strict=True)]
    spared = [without(s, i) for s, i in zip(stories, others, strict=True)]
    return Score(
        hops=hops,
        num_facts=num_facts,
        num_fillers=num_fillers,
        intact=answers([s.prompt for s in stories], expected=right),
        chance=float(np.mean([1 / (1 + len(s.wrong_answers)) for s in stories])),
        without_support=answers(cut, expected=right),
        says_unknown=answers(cut, expected=[UNKNOWN] * len(stories)),
        without_other=answers(spared, expected=right),
    )


def text_nats(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    paragraphs: Sequence[Sequence[str]],
) -> float:
    """Return the mean negative log-probability of a token of ordinary English."""
    nats, num_tokens = 0.0, 0
    for paragraph in paragraphs:
        ids = tokenizer(" ".join(paragraph), return_tensors="pt")["input_ids"][:, :512]
        with torch.no_grad():
            nats += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
        num_tokens += ids.shape[1] - 1
    return nats / num_tokens
