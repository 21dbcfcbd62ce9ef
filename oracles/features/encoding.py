"""Prompts as token ids, for models that read a whole text at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oracles.base import fingerprint_of
from oracles.errors import InputError
from oracles.features.loading import LoadedModel
from oracles.features.prompts import Prompt

NOT_THE_FUNCTION = ("prediction", "prediction_probability", "model", "act")
"""Of a description: what is only told, and does not change any value."""


def intact_and_empty(prompt: Prompt) -> tuple[str, str]:
    """The prompt with everything kept, and with everything ablated."""
    ends = np.ones((2, len(prompt.players)), dtype=bool)
    ends[1] = False
    intact, nothing = prompt.write_all(ends)
    return intact, nothing


def encode(loaded: LoadedModel, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts as the model was trained to read them, special ones included.

    A text of no tokens is one special token.

    Raises:
        InputError: a text is longer than the model reads.
    """
    encoded = loaded.tokenizer(list(texts), verbose=False)["input_ids"]
    ids = [list(row) or [blank_token(loaded.tokenizer)] for row in encoded]
    check_length(max(map(len, ids)), loaded.max_tokens)
    return ids


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
