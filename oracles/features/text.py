"""The oracle for a text and whatever kind of model it is asked of."""

from collections.abc import Sequence

from oracles.errors import InputError
from oracles.features.causal import ANSWER_TOKENS, CausalOracle
from oracles.features.chat import ChatPrompt, chat_prompt
from oracles.features.classifier import ClassifierOracle
from oracles.features.loading import LoadedModel, load_model
from oracles.features.prompts import TextPrompt, text_prompt
from oracles.features.truncation import num_tokens, truncate


def text_oracle(
    text: str,
    model: str = "sentiment",
    *,
    prefix: str = "",
    suffix: str = "",
    pinned: str = "",
    is_chat: bool = False,
    is_truncating: bool = False,
    target: str | None = None,
    against: str | None = None,
    value: str | None = None,
    segments: str | None = None,
    removal: str = "delete",
    device: str | None = None,
    dtype: str | None = None,
) -> ClassifierOracle | CausalOracle:
    """Load a model and make the oracle its kind calls for.

    Args:
        text: the text whose segments are ablated.
        model: an embedded model ("sentiment", "facts"), a folder, or a hub name.
        prefix, suffix: text before and after it that is never ablated (causal models).
        pinned: a regular expression; what it matches in the text is never ablated.
        is_chat: send all of it as the user's message, in the model's chat template.
        is_truncating: if the prompt is longer than the model's context, leave out its
            last segments; by default it is refused.
        target: a class, or "all"; for causal models the continuation. By default what
            the model itself says.
        against: an alternative continuation (causal models).
        value: what is explained of the target; see the two oracles.
        segments: kind of segment, or "regex:PATTERN" or "between:PATTERN"; see
            `segments.split`. By default word for classifiers, sentence for causal
            models.
        removal: "delete", "mask", "unknown", "pad" or "replace:TEXT"; see
            `removal.make_filler`.
        device, dtype: see `load_model`.

    Raises:
        ModelError: the model cannot be found or loaded.
        InputError: the text, segments, target or value cannot be used.
    """
    if not text.strip():
        raise InputError("the text is empty; there is nothing to explain.")
    loaded = load_model(model, device=device, dtype=dtype)
    is_causal = loaded.task == "causal-lm"
    if not is_causal and (prefix or suffix or is_chat or against is not None):
        raise InputError(
            "prefix, suffix, chat and against go with causal language models, and "
            f"model={model!r} is a classifier. Leave them out."
        )
    prompt = text_prompt(
        text,
        loaded.tokenizer,
        segments=segments or ("sentence" if is_causal else "word"),
        pinned=pinned,
        removal=removal,
        prefix=prefix,
        suffix=suffix,
    )
    if is_truncating:
        room = _room(prompt, loaded, (target, against), is_chat) if is_causal else 0
        prompt = truncate(prompt, loaded.tokenizer, loaded.max_tokens - room)
    if not is_causal:
        return ClassifierOracle(prompt, loaded, target=target, value=value)
    return CausalOracle(
        _as_message(prompt, loaded) if is_chat else prompt,
        loaded,
        continuation=target,
        alternative=against,
        value=value,
    )


def _as_message(prompt: TextPrompt, loaded: LoadedModel) -> ChatPrompt:
    return chat_prompt([{"role": "user", "content": prompt}], loaded.tokenizer)


def _room(
    prompt: TextPrompt,
    loaded: LoadedModel,
    scored: Sequence[str | None],
    is_chat: bool,
) -> int:
    """Tokens that a causal model's context must hold beside the prompt's own."""
    tokenizer = loaded.tokenizer
    answers = [len(tokenizer(words)["input_ids"]) for words in scored if words]
    room = max([ANSWER_TOKENS, *answers]) + 1  # a beginning token
    if is_chat:
        room += num_tokens(_as_message(prompt, loaded), tokenizer)
        room -= num_tokens(prompt, tokenizer)
    return room
