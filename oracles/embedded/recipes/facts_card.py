"""The facts model's card, filled in with measured numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oracles.embedded.recipes.facts_scores import Score

_CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
---
# Questions about short stories, small

A causal language model that reads a story of plain sentences and answers a question
that takes one, two or three of them together. It is small, runs without network or
accelerator, and is there to be explained: which sentences act together is known.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
prompt = (
    "Maria works at the bakery. The weather was mild that spring. "
    "The bakery is in Oslo. Tom works at the school. The school is in Lima. "
    "Question: In which city does Maria work? Answer:"
)
ids = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=2)
print(tokenizer.decode(ids[0]))  # ... Answer: Oslo</s>
```

Each story deals people, places and cities out anew, so the answer cannot be known or
guessed without the story. If a fact that the question needs is missing, the right
answer is "unknown". The wordings it knows, and a generator of stories with the truth
about them, are in `oracles/embedded/facts_world.py`.

| | |
| --- | --- |
| architecture | GPT-NeoX: 5 layers of width 128, 4 heads, rotary positions |
| parameters | {num_parameters:,}, stored as float16 |
| size | {megabytes:.1f} MB with tokenizer |
| vocabulary | {vocabulary:,} byte-level BPE tokens; each name, place, city is one |
| longest text | 2048 tokens; trained on up to {length} |
| WikiText-2, test part | {nats:.2f} nats a token (uniform: {uniform:.2f}) |

## Accuracy
On {num_stories} fresh stories of each kind. *Chance* is a guess among the candidates in
the story. The last three columns delete one sentence: one the answer needs (the model
should no longer know; share of right answers, share of "unknown"), or another.

| hops | facts | fillers | right | chance | needed: right | "unknown" | other: right |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

## Training
`python -m oracles.embedded.recipes.facts --data DIR --out DIR --seed {seed}` took
{minutes:.0f} minutes on one processor core. Three stages of longer and longer stories;
sentences are deleted from {ablated:.0%} of the later ones at a rate drawn from 0 to 1,
and from a quarter of these, words too. Inner layers are told which words and facts lie
on the way to the answer; the last layer learns from answers and English alone.

## Sources and licences
- This model: Apache-2.0; trained from scratch.
- Stories: written by the generator above.
- WikiText-2 (Merity et al. 2016, CC BY-SA): its validation part, as filler sentences
  and as ordinary English beside the stories.

## Limits
- Chains of three facts are often answered "unknown": see the table.
- It reads the wordings of its world and little else: other names, relations or ways to
  ask get an answer, but not one to rely on.
- As a writer of English it is poor; it was given just enough to be no stranger to it.
- One question, after the story, in the form `Question: ... Answer:`.
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on the saved model, and on its making."""

    scores: Sequence[Score]
    num_stories: int
    num_parameters: int
    num_bytes: int
    vocabulary: int
    nats: float
    minutes: float


def card(measured: Measured, *, length: int, ablated: float, seed: int) -> str:
    """The model card, in Markdown."""
    return _CARD.format(
        num_parameters=measured.num_parameters,
        megabytes=measured.num_bytes / 1e6,
        vocabulary=measured.vocabulary,
        nats=measured.nats,
        uniform=np.log(measured.vocabulary),
        num_stories=measured.num_stories,
        rows="\n".join(_row(s) for s in measured.scores),
        minutes=measured.minutes,
        length=length,
        ablated=ablated,
        seed=seed,
    )


def _row(score: Score) -> str:
    """One row of the table of accuracies."""
    shares = (
        score.intact,
        score.chance,
        score.without_support,
        score.says_unknown,
        score.without_other,
    )
    counts = f"| {score.hops} | {score.num_facts} | {score.num_fillers} | "
    return counts + " | ".join(f"{share:.1%}" for share in shares) + " |"
