"""Texts for the sentiment recipe: reading, ablating, joining, batching."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NO_LABEL = -1
"""Label of a text whose sentiment only the teacher can tell."""

_JOIN_SIZES = (2, 2, 3, 3, 4, 6, 10, 20)  # up to about 250 words, few of them long
_STAND_INS = ("", "[MASK]", "[UNK]")
_SPACED = (
    (" n't", "n't"),
    ("-lrb- ", "("),
    (" -rrb-", ")"),
    ("`` ", '"'),
    (" ''", '"'),
)


@dataclass(frozen=True)
class Example:
    """A text and its label: 0 negative, 1 positive, or NO_LABEL."""

    text: str
    label: int


def read_sst2(path: Path) -> list[Example]:
    """Examples of an SST-2 file: a header, then `sentence<TAB>label` lines."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    return [Example(text.strip(), int(label)) for text, label in rows]


def read_reviews(path: Path) -> list[Example]:
    """Whole reviews of a CSV file with columns `review` and `sentiment`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Example(row["review"].strip('"'), int(row["sentiment"] == "positive"))
            for row in csv.DictReader(file)
        ]


def read_general(folder: Path) -> list[Example]:
    """Unlabelled sentences of 3 to 60 words from AG News and WikiText-2."""
    lines: list[str] = []
    for path in sorted((folder / "agnews").glob("*.tsv")):
        lines += [row.split("\t")[0] for row in path.read_text("utf-8").splitlines()]
    for path in sorted((folder / "wikitext2").glob("*.txt")):
        text = path.read_text("utf-8").replace("<unk>", "[UNK]")
        lines += [s for row in text.splitlines() for s in row.split(" . ")]
    return [Example(s.strip(), NO_LABEL) for s in lines if 3 <= len(s.split()) <= 60]


def raw_style(text: str) -> str:
    """Text as people write it, from SST's spaced Penn Treebank tokens.

    >>> raw_style("it does n't work , it 's dull .")
    "it doesn't work, it's dull."
    """
    for spaced, raw in _SPACED:
        text = text.replace(spaced, raw)
    text = re.sub(r" (?=[.,:;!?]|'(?:s|re|ve|ll|d|m)\b)", "", text)
    return text.strip()


def ablate_words(
    text: str, rate: float, stand_ins: Sequence[str], rng: np.random.Generator
) -> str:
    """Text with each word replaced with probability `rate`.

    All are replaced by the same one of the `stand_ins`; an empty one deletes.
    """
    words = np.array(text.split(), dtype=object)
    is_gone = rng.random(len(words)) < rate
    words[is_gone] = stand_ins[int(rng.integers(len(stand_ins)))]
    return " ".join(word for word in words if word)


def augment(
    examples: Sequence[Example], is_mixing: bool, rng: np.random.Generator
) -> list[Example]:
    """One epoch of examples: each once, half in raw style, a third ablated.

    Six in a hundred start a joined text of up to 20 phrases. The phrases share one
    label, or with `is_mixing` have any, in which case the joined text has NO_LABEL.
    """
    by_label = {
        label: [e for e in examples if is_mixing or e.label == label]
        for label in {e.label for e in examples}
    }
    return [_augment_one(e, by_label[e.label], is_mixing, rng) for e in examples]


def _augment_one(
    example: Example,
    partners: Sequence[Example],
    is_mixing: bool,
    rng: np.random.Generator,
) -> Example:
    phrases, label = [example.text], example.label
    if rng.random() < 0.06:
        size = rng.choice(_JOIN_SIZES) - 1
        phrases += [partners[i].text for i in rng.integers(len(partners), size=size)]
        label = NO_LABEL if is_mixing else label
    if rng.random() < 0.5:
        phrases = [raw_style(phrase) for phrase in phrases]
    text = (" " if rng.random() < 0.3 else " . ").join(phrases)
    if rng.random() < 1 / 3:
        text = ablate_words(text, rng.random(), _STAND_INS, rng)
    return Example(text, label)


def batches(
    lengths: Sequence[int], max_texts: int, max_tokens: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Indices of texts of like length, in random order of batches.

    A batch has at most `max_texts` texts and `max_tokens` tokens, padding included.
    """
    # Noise keeps texts of equal length from meeting the same neighbours every epoch.
    order = np.argsort(np.asarray(lengths) + rng.random(len(lengths)))
    cuts, start = [], 0
    for i, index in enumerate(order):
        size = i + 1 - start
        if size > max_texts or (size > 1 and size * lengths[index] > max_tokens):
            cuts.append(i)
            start = i
    chunks = np.split(order, cuts)
    for i in rng.permutation(len(chunks)):
        yield chunks[i]
