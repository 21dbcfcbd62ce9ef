"""Teacher, student and their shared vocabulary for the sentiment recipe."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedTokenizerBase,
)

Network = Any
"""A model taken apart by the names of its parts, which no type tells."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = {0: "negative", 1: "positive"}

VOCABULARY_SIZE = 9500
EMBEDDING_SIZE = 96
INTERMEDIATE_SIZE = 384
TEACHER_LAYERS = (0, 2, 4)
"""Layers of the teacher from which the student's are cut."""


def prune_vocabulary(
    folder: Path, task_texts: Sequence[str], general_texts: Sequence[str]
) -> tuple[BertTokenizer, list[int]]:
    """A small lower-casing WordPiece tokenizer and its tokens' ids in the large one.

    Kept are the special tokens, all ASCII characters alone and as continuations, and
    the most frequent tokens; one in a task text counts five times one in a general
    text. Words outside are still spelled out by the pieces inside.
    """
    large = AutoTokenizer.from_pretrained(folder)
    ids = large.get_vocab()
    counts = Counter(5 * _tokens(large, task_texts) + _tokens(large, general_texts))
    characters = [
        i
        for token, i in ids.items()
        if token.isascii() and len(token.removeprefix("##")) == 1
    ]
    always = [ids[token] for token in SPECIAL] + sorted(characters)
    frequent = [i for i, _ in counts.most_common() if i not in set(always)]
    kept = always + sorted(frequent[: VOCABULARY_SIZE - len(always)])
    names = large.convert_ids_to_tokens(kept)
    vocabulary = {name: i for i, name in enumerate(names)}
    return BertTokenizer(vocab=vocabulary, model_max_length=512), kept


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> torch.Tensor:
    """How often each token of the vocabulary occurs in the texts."""
    tokens = torch.tensor(_tokens(tokenizer, texts))
    return torch.bincount(tokens, minlength=len(tokenizer))


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return [token for ids in encoded["input_ids"] for token in ids]


def load_teacher(folder: Path, kept: Sequence[int]) -> Network:
    """MiniLM with a new two-class head and only the `kept` word embeddings."""
    teacher: Network = AutoModelForSequenceClassification.from_pretrained(
        folder, id2label=LABELS, label2id={v: k for k, v in LABELS.items()}
    )
    words = teacher.bert.embeddings.word_embeddings.weight.detach()[list(kept)]
    small = nn.Embedding(len(words), words.shape[1], padding_idx=0)
    small.weight = nn.Parameter(words)
    teacher.bert.embeddings.word_embeddings = small
    teacher.config.vocab_size = len(kept)
    return teacher


@torch.no_grad()
def shrink(teacher: Network, counts: torch.Tensor) -> Network:
    """A student cut out of the teacher, to be trained to follow it.

    It is an ELECTRA because that has word embeddings narrower than its layers; its
    layers are BERT's. Embeddings are the teacher's principal components, where a token
    weighs the root of its count in `counts`; layers are every other one of the
    teacher's with the feed-forward neurons of largest weight.
    """
    config = ElectraConfig(
        vocab_size=teacher.config.vocab_size,
        embedding_size=EMBEDDING_SIZE,
        hidden_size=teacher.config.hidden_size,
        num_hidden_layers=len(TEACHER_LAYERS),
        num_attention_heads=teacher.config.num_attention_heads,
        intermediate_size=INTERMEDIATE_SIZE,
        hidden_dropout_prob=0.0,  # the augmented texts are noise enough
        attention_probs_dropout_prob=0.0,
        id2label=LABELS,
        label2id={v: k for k, v in LABELS.items()},
    )
    student: Network = ElectraForSequenceClassification(config)
    _shrink_embeddings(teacher.bert.embeddings, student.electra, counts)
    for i, layer in enumerate(student.electra.encoder.layer):
        source = teacher.bert.encoder.layer[TEACHER_LAYERS[i]]
        layer.load_state_dict(_shrink_layer(source))
    student.classifier.dense.load_state_dict(teacher.bert.pooler.dense.state_dict())
    student.classifier.out_proj.load_state_dict(teacher.classifier.state_dict())
    return student


def _shrink_embeddings(source: Network, target: Network, counts: torch.Tensor) -> None:
    """Principal components, and the affine map that best restores the width."""
    words, positions = source.word_embeddings.weight, source.position_embeddings.weight
    # Plain counts would spend the components on function words, equal weights on
    # words hardly seen.
    weights = (counts + 1.0).sqrt()[:, None]
    center = (weights * words).sum(dim=0) / weights.sum()
    centered = weights.sqrt() * (words - center)
    _, _, components = torch.linalg.svd(centered, full_matrices=False)
    basis = components[:EMBEDDING_SIZE].T
    small = target.embeddings
    small.word_embeddings.weight.copy_((words - center) @ basis)
    small.position_embeddings.weight.copy_((positions - positions.mean(dim=0)) @ basis)
    small.token_type_embeddings.weight.zero_()
    ids = torch.arange(len(words))[None]
    places = (ids * 7) % 60  # each word at some place a sentence has
    wide = source(input_ids=ids, position_ids=places)[0]
    narrow = small.LayerNorm(
        small.word_embeddings(ids) + small.position_embeddings(places)
    )[0]
    narrow = torch.cat([narrow, torch.ones(len(narrow), 1)], dim=1)
    solution = torch.linalg.lstsq(weights.sqrt() * narrow, weights.sqrt() * wide)[0]
    target.embeddings_project.weight.copy_(solution[:-1].T)
    target.embeddings_project.bias.copy_(solution[-1])


def _shrink_layer(layer: Network) -> dict[str, torch.Tensor]:
    state = dict(layer.state_dict())
    rows, columns = state["intermediate.dense.weight"], state["output.dense.weight"]
    importance = rows.norm(dim=1) * columns.norm(dim=0)
    best = importance.topk(INTERMEDIATE_SIZE).indices.sort().values
    state["intermediate.dense.weight"] = rows[best]
    state["intermediate.dense.bias"] = state["intermediate.dense.bias"][best]
    state["output.dense.weight"] = columns[:, best]
    return state
