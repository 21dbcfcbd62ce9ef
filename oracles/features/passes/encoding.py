"""Prompts as tokens, for models that read a whole text at once.

What must be known of each token besides its id travels with it, in the bits above: a
sequence is of whole numbers, and equal sequences are equal questions, whatever batch
they are in.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from oracles.base import Masks, Values, fingerprint_of
from oracles.errors import InputError
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.hiding import is_hiding, kept_tokens
from oracles.features.prompts.prompt import Prompt

TOKEN_BITS = 24  # the largest vocabularies have a quarter of a million tokens
HIDDEN = 1  # mark of tokens that no other sees
NOT_THE_FUNCTION = ("prediction", "prediction_probability", "model", "act")
"""Of a description: what is only told, and does not change any value."""


def intact_and_empty(prompt: Prompt) -> tuple[str, str]:
    """The prompt with everything kept, and with everything ablated."""
    ends = np.ones((2, len(prompt.players)), dtype=bool)
    ends[1] = False
    intact, nothing = prompt.write_all(ends)
    return intact, nothing


def encode(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    is_rendered: bool = False,
    is_cut: bool = False,
) -> list[list[int]]:
    """Token ids of texts as the model was trained to read them, special ones included.

    A text of no tokens is one special token.

    Args:
        loaded: whose tokenizer is used.
        texts: at least one.
        is_rendered: whether special tokens are in the texts already.
        is_cut: whether longer texts are cut to what the model reads.

    Raises:
        InputError: a text is longer than the model reads, and not to be cut.
    """
    encoded = loaded.tokenizer(
        list(texts),
        add_special_tokens=not is_rendered,
        truncation=is_cut,
        max_length=loaded.max_tokens if is_cut else None,
        verbose=False,
    )["input_ids"]
    ids = [list(row) or [blank_token(loaded.tokenizer)] for row in encoded]
    check_length(max(map(len, ids)), loaded.max_tokens)
    return ids


def encode_all(loaded: LoadedModel, prompt: Prompt, masks: Masks) -> list[list[int]]:
    """The prompt's tokens under every mask, to be parted by `split_marks`.

    With removal "attention" they are the intact prompt's, and those of removed segments
    are marked as hidden.

    Raises:
        InputError: a prompt is longer than the model reads.
    """
    is_rendered = prompt.has_special_tokens
    if not is_hiding(prompt):
        return encode(loaded, prompt.write_all(masks), is_rendered=is_rendered)
    intact, _ = intact_and_empty(prompt)
    encoded = loaded.tokenizer(
        intact,
        add_special_tokens=not is_rendered,
        return_offsets_mapping=True,
        verbose=False,
    )
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    check_length(len(ids), loaded.max_tokens)
    kept = kept_tokens(encoded["offset_mapping"], intact, prompt.places, masks)
    marked = ids | ~kept * (HIDDEN << TOKEN_BITS)
    blank = [] if kept.any(axis=1).all() else [blank_token(loaded.tokenizer)]
    return [
        without_tail(row.tolist()) if sees.any() else blank
        for row, sees in zip(marked, kept, strict=True)
    ]


def without_tail(marked: list[int]) -> list[int]:
    """A sequence without hidden tokens at its end.

    Decoders are read off at their last token, which then is one that is seen.
    """
    end = len(marked)
    while end > 1 and marked[end - 1] >> TOKEN_BITS & HIDDEN:
        end -= 1
    return marked[:end]


def check_unseen(
    loaded: LoadedModel,
    prompt: Prompt,
    tokens: Callable[[Masks], list[list[int]]],
    run: Callable[[list[list[int]]], Values],
) -> None:
    """Refuse removal by attention for a model that reads hidden tokens all the same.

    As do some that pass no attention mask to a decoder of theirs, or are read off at a
    token that is hidden. Other words in the place of hidden ones must change nothing.

    Args:
        loaded: the model.
        prompt: what is ablated.
        tokens: its marked tokens under masks (m, n).
        run: values (m, k) of marked tokens.

    Raises:
        InputError: the values change.
    """
    import torch

    if not is_hiding(prompt):
        return
    known = sorted(loaded.tokenizer.get_vocab().values())
    special = set(loaded.tokenizer.all_special_ids)
    [first, second] = [token for token in known if token not in special][:2]

    def other(mark: int) -> int:
        token = mark & ((1 << TOKEN_BITS) - 1)
        if not mark >> TOKEN_BITS & HIDDEN:
            return mark
        return mark - token + (second if token == first else first)

    players = len(prompt.players)
    ends = np.eye(players, dtype=bool)[[0, -1]]
    rows = tokens(np.vstack([ends, np.zeros((1, players), dtype=bool)]))
    found, others = run(rows), run([[other(mark) for mark in row] for row in rows])
    near = torch.finfo(loaded.model.dtype).eps ** 0.5
    if not np.allclose(found, others, rtol=near, atol=near):
        raise InputError(
            'removal="attention" needs a model that reads nothing of hidden tokens, '
            f"and what {type(loaded.model).__name__} says changes with their words. "
            'Use another removal, such as "delete".'
        )


def split_marks(marked: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Token ids, attention mask and marks of a batch (rows, length)."""
    marks = marked >> TOKEN_BITS
    ids = marked & ((1 << TOKEN_BITS) - 1)
    return ids, mask * (marks & HIDDEN == 0), marks


def check_length(tokens: int, allowed: int, what: str = "the text") -> None:
    """Refuse what does not fit.

    Raises:
        InputError: more tokens than allowed.
    """
    if tokens > allowed:
        raise InputError(
            f"{what} has {tokens} tokens and this model reads {allowed}. Shorten it, "
            "or use a model with a longer context; it is never cut silently."
        )


def blank_token(tokenizer: Any) -> int:
    """What stands for a text without tokens.

    Raises:
        InputError: the tokenizer has no special token.
    """
    for kind in ("cls", "bos", "eos", "unk", "pad"):
        token = getattr(tokenizer, f"{kind}_token_id")
        if token is not None:
            return int(token)
    raise InputError(
        "this model's tokenizer has no special token at all, so there is no value for "
        "an empty text. Name a model whose tokenizer has one."
    )


def fingerprint(
    description: Mapping[str, Any], loaded: LoadedModel, **more: Any
) -> str:
    """Hash of weights, tokenizer, prompt and settings, not of names or batch sizes."""
    settings = {k: v for k, v in description.items() if k not in NOT_THE_FUNCTION}
    return fingerprint_of({**settings, "weights": loaded.digest, **more})


def either(texts: Sequence[str]) -> str:
    """Texts in quotation marks, for a sentence.

    >>> either(["Oslo", "Lima"])
    '“Oslo” or “Lima”'
    """
    return " or ".join(f"“{text}”" for text in texts)


def checked_choice(value: str | None, choices: Sequence[str], name: str) -> str:
    """The value, or the first choice if it is None.

    Raises:
        InputError: it is not one of the choices.
    """
    if value not in (None, *choices):
        raise InputError(
            f"{name}={value!r} is not known here. Choose from {', '.join(choices)}."
        )
    return value or choices[0]
