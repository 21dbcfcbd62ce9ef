"""Cutting a prompt to a model's context, only where it is asked for."""

from dataclasses import replace
from typing import Any

import numpy as np

from oracles.errors import InputError
from oracles.features.prompts.prompt import Prompt, TextPrompt


def truncate(prompt: TextPrompt, tokenizer: Any, max_tokens: int) -> TextPrompt:
    """The prompt without its last segments, as few as make the intact prompt fit.

    Prefix and suffix stay. The description says under `truncated` how many segments
    are left of how many. A prompt that fits is returned as it is.

    Args:
        prompt: any but of JSON fields.
        tokenizer: of the model.
        max_tokens: of the intact prompt, special tokens included. Leave room for what
            is scored after it.

    Raises:
        InputError: JSON, which cannot be cut, or fewer than two segments would be left.
    """
    tokens, total = num_tokens(prompt, tokenizer), len(prompt.segments)
    if tokens <= max_tokens:
        return prompt
    if prompt.is_json:
        raise InputError(
            f"the prompt has {tokens} tokens, more than {max_tokens}, and a JSON text "
            "cannot be cut. Shorten it, or use a model with a longer context."
        )
    low, high = 0, total  # as many segments fit, and do not
    while high - low > 1:
        middle = (low + high) // 2
        if num_tokens(_first(prompt, middle), tokenizer) <= max_tokens:
            low = middle
        else:
            high = middle
    if low < 2:
        raise InputError(
            f"the prompt has {tokens} tokens, and of its {total} segments {low} fit in "
            f"{max_tokens}; two are needed. Use finer segments, a shorter prefix or "
            "suffix, or a model with a longer context."
        )
    return _first(prompt, low)


def _first(prompt: TextPrompt, count: int) -> TextPrompt:
    """The prompt up to the end of its first segments."""
    end = prompt.segments[count - 1].end
    return replace(
        prompt,
        text=prompt.text[:end],
        segments=prompt.segments[:count],
        pinned=tuple(part for part in prompt.pinned if part.end <= end),
        settings={**prompt.settings, "truncated": [count, len(prompt.segments)]},
    )


def num_tokens(prompt: Prompt, tokenizer: Any) -> int:
    """How many tokens the intact prompt has, special ones included."""
    everything = np.ones((1, len(prompt.players)), dtype=bool)
    ids = tokenizer(
        prompt.write_all(everything)[0],
        add_special_tokens=not prompt.has_special_tokens,
        verbose=False,
    )
    return len(ids["input_ids"])
