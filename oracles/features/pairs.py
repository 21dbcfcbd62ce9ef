"""A pinned text and a text that is ablated, as one sequence of tokens.

What a model must be told of each token, and what its scores are read off by, travels
with the token: a sequence is of whole numbers that hold a token id in their low bits
and marks above. So equal sequences are equal questions, whatever batch they are in.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oracles.features.encoding import check_length
from oracles.features.loading import LoadedModel

TOKEN_BITS = 24  # the largest vocabularies have a quarter of a million tokens
SECOND = 1  # mark of tokens of the pair's second part


@dataclass(frozen=True)
class Pair:
    """Tokens of one pair.

    Attributes:
        ids: token ids, special ones included.
        types: which part a token is of, 0 or 1, as the model is told.
        spans: for each token its characters [start, end) of the ablated text; None for
            tokens of the pinned one and special tokens.
    """

    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int] | None]

    def marked(self, marks: Sequence[int]) -> list[int]:
        """The sequence with its own marks (multiples of 2) and those of types."""
        pairs = zip(self.ids, self.types, marks, strict=True)
        return [token | (kind | mark) << TOKEN_BITS for token, kind, mark in pairs]


def encode_pairs(loaded: LoadedModel, pinned: str, texts: Sequence[str]) -> list[Pair]:
    """A pinned text with each of the ablated ones, as the model's tokenizer joins them.

    The pinned text comes first, but for tokenizers that pad on the left, whose models
    read it last (so does transformers' own question answering).

    Raises:
        InputError: a pair is longer than the model reads.
    """
    tokenizer = loaded.tokenizer
    is_first = tokenizer.padding_side == "right"
    given = [[pinned] * len(texts), list(texts)]
    encoded = tokenizer(
        *(given if is_first else given[::-1]),
        return_offsets_mapping=True,
        return_token_type_ids=True,
        verbose=False,
    )
    rows = range(len(texts))
    pairs = [_pair(encoded, row, int(is_first)) for row in rows]
    longest = max(len(pair.ids) for pair in pairs)
    check_length(longest, loaded.max_tokens, "the text with what goes with it")
    return pairs


def _pair(encoded: Any, row: int, ablated: int) -> Pair:
    parts = encoded.sequence_ids(row)
    offsets = encoded["offset_mapping"][row]
    spans = [
        tuple(span) if part == ablated else None
        for part, span in zip(parts, offsets, strict=True)
    ]
    types = list(encoded["token_type_ids"][row])
    return Pair(list(encoded["input_ids"][row]), types, spans)


def model_inputs(loaded: LoadedModel, marked: Any, mask: Any) -> dict[str, Any]:
    """What the model is called with, of marked sequences (rows, length)."""
    inputs = {
        "input_ids": marked & ((1 << TOKEN_BITS) - 1),
        "attention_mask": mask,
    }
    model = loaded.model
    is_taken = "token_type_ids" in inspect.signature(model.forward).parameters
    is_made = "token_type_ids" in loaded.tokenizer.model_input_names
    if is_taken and is_made and getattr(model.config, "type_vocab_size", 2) > 1:
        inputs["token_type_ids"] = (marked >> TOKEN_BITS) & SECOND
    return inputs
