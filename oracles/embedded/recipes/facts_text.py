"""Text of the embedded model `facts`: WikiText as ordinary prose, and tokenizer."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from oracles.embedded.facts_world import CITIES, NAMES, PLACES, UNKNOWN, generate

BOS, EOS, PAD, UNK = "<s>", "</s>", "<pad>", "<unk>"
VOCABULARY_SIZE = 4096

Encode = Callable[[str], tuple[int, ...]]


def read_paragraphs(path: Path) -> list[list[str]]:
    """Return the paragraphs of a WikiText file as sentences in ordinary spelling."""
    paragraphs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.strip().startswith("="):
            sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", _respell(line.strip()))
            paragraphs.append([s for s in sentences if UNK not in s and len(s) > 20])
    return [paragraph for paragraph in paragraphs if paragraph]


def _respell(line: str) -> str:
    """Undo WikiText's spacing of punctuation and numbers."""
    line = re.sub(r" @(.)@ ", r"\1", line)
    line = re.sub(r" ([.,;:!?)\]%]|'s|n't|'[a-z]+)(?= |$)", r"\1", line)
    return re.sub(r"([(\[$]) ", r"\1", line)


def train_tokenizer(
    paragraphs: Sequence[Sequence[str]], rng: np.random.Generator
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer in which each entity is one token."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, BOS, EOS, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_text(paragraphs, rng), trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _tokenizer_text(
    paragraphs: Sequence[Sequence[str]], rng: np.random.Generator
) -> Iterator[str]:
    """Yield the text whose frequent words become tokens."""
    yield from (" ".join(paragraph) for paragraph in paragraphs)
    yield from (generate(rng, 12, 8, 1 + i % 3).prompt for i in range(3000))
    # Names also open documents, where no space precedes them.
    for word in (*NAMES, *PLACES, *CITIES, UNKNOWN, "Question", "Answer"):
        yield from (f"{word}\n {word}",) * 300


def make_encode(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """Return a cached text-to-ids function that adds no special tokens."""

    @cache
    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    return encode
