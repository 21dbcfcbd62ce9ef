"""Greedy answers of causal models and encoder-decoders, many prompts at a time."""

import copy
from collections.abc import Sequence
from typing import Any

from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import split_marks
from oracles.features.passes.rotary import longest_together

NOTHING = -1  # stands after the last token of an answer that ended early


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int | None = None,
) -> list[str]:
    """The most likely next token, again and again, as text.

    What the model's own generation settings ask for besides sampling and beams (a
    forced first token, no repetition) holds here, too. Equal prompts are answered once.

    Args:
        loaded: a causal language model or an encoder-decoder.
        prompts: token ids, none empty. Hidden tokens (`encoding.HIDDEN`) are for
            encoder-decoders only: a causal model would not keep their places.
        max_new_tokens: longest answer.
        batch_size: prompts answered together; see `batching.score_in_batches`.
    """
    model = loaded.model
    settings = _greedy_settings(loaded, max_new_tokens)
    longest = longest_together(model) - max_new_tokens

    def answer(marked: Any, mask: Any) -> Any:
        ids, mask, _ = split_marks(marked, mask)
        if not model.config.is_encoder_decoder:
            ids, mask = _padded_left(ids, mask)
        found = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings
        )
        start = 1 if model.config.is_encoder_decoder else ids.shape[1]
        return _widened(found[:, start:], max_new_tokens)

    pad = settings.pad_token_id
    rows = score_in_batches(
        prompts, answer, batch_size, pad, device_of(model), longest=longest
    )
    answers = [[int(token) for token in row if token != NOTHING] for row in rows]
    ends = end_tokens(loaded)
    return [
        loaded.tokenizer.decode(_before(answer, ends), skip_special_tokens=True)
        for answer in answers
    ]


def _greedy_settings(loaded: LoadedModel, max_new_tokens: int) -> Any:
    settings = copy.deepcopy(loaded.model.generation_config)
    pad = loaded.tokenizer.pad_token_id
    ends = end_tokens(loaded)
    pads = [token for token in (pad, *ends) if token is not None]
    settings.update(
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        length_penalty=None,
        early_stopping=None,
        max_length=None,
        max_new_tokens=max_new_tokens,
        min_length=min(settings.min_length or 0, max_new_tokens),
        eos_token_id=ends or None,
        pad_token_id=pads[0] if pads else 0,
    )
    return settings


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Tokens that end an answer: the model's settings often name several (of a turn,
    of a text), and the tokenizer one.
    """
    settings = getattr(loaded.model, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    several = [ends] if ends is None or isinstance(ends, int) else list(ends)
    known = [*several, loaded.tokenizer.eos_token_id]
    return list(dict.fromkeys(int(end) for end in known if end is not None))


def _before(answer: list[int], ends: Sequence[int]) -> list[int]:
    """The answer up to its end."""
    at = next((i for i, token in enumerate(answer) if token in ends), len(answer))
    return answer[:at]


def _padded_left(ids: Any, mask: Any) -> tuple[Any, Any]:
    """Rows padded on the right with their padding moved to the left."""
    import torch

    length = ids.shape[1]
    gaps = length - mask.sum(dim=1, keepdim=True)
    places = (torch.arange(length, device=ids.device) - gaps) % length
    return ids.gather(1, places), mask.gather(1, places)


def _widened(tokens: Any, width: int) -> Any:
    """Tokens (rows, at most width) as (rows, width), ended by `NOTHING`."""
    import torch

    missing = width - tokens.shape[1]
    return torch.nn.functional.pad(tokens, (0, missing), value=NOTHING)
