"""The oracle for a text and whatever kind of model it is asked of."""

from collections.abc import Sequence

from oracles.base import Oracle
from oracles.errors import InputError
from oracles.features.causal import ANSWER_TOKENS
from oracles.features.choosing import Asked, check_taken, oracle_for
from oracles.features.models.loading import LoadedModel, load_model
from oracles.features.prompts.chat import chat_prompt
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.features.prompts.truncation import num_tokens, truncate
from oracles.features.prompts.turns import ChatPrompt


def text_oracle(
    text: str,
    model: str | LoadedModel = "sentiment",
    *,
    prefix: str = "",
    suffix: str = "",
    pinned: str = "",
    is_chat: bool = False,
    is_truncating: bool = False,
    question: str = "",
    target: str | None = None,
    against: str | None = None,
    choices: Sequence[str] = (),
    per_token: bool = False,
    value: str | None = None,
    segments: str | None = None,
    removal: str = "delete",
    reference: Sequence[str] = (),
    device: str | None = None,
    dtype: str | None = None,
) -> Oracle:
    """The oracle that a model's kind calls for, the model being loaded if need be.

    Args:
        text: the text whose segments are ablated.
        model: an embedded model ("sentiment", "facts"), a folder, a hub name, or what
            `load_model` gave.
        prefix, suffix: text before and after it that is never ablated (all models but
            classifiers). A masked language model's mask token stands in one of them.
        pinned: a regular expression; what it matches in the text is never ablated.
        is_chat: send all of it as the user's message, in the model's chat template.
        is_truncating: if the prompt is longer than the model's context, leave out its
            last segments; by default it is refused, or for question answering read in
            windows.
        question: what an extractive question-answering model is asked, what a retriever
            compares the text to, or a reranker judges it for.
        target: a class, or "all"; the continuation, answer or word at the mask. By
            default what the model itself says.
        against: an alternative continuation or word.
        choices: two or more continuations or words, in place of a target: each is an
            output, compared with the others.
        per_token: make every token of the continuation an output.
        value: what is explained of the target; see the kind of model's oracle.
            "rouge-l" or "token-f1" asks models that write for how like their answers
            stay to the target.
        segments: kind of segment, or "regex:PATTERN" or "between:PATTERN"; see
            `segments.split`. By default word for classifiers and sentence for others.
        removal: "delete", "mask", "unknown", "pad", "attention", "replace:TEXT" or
            "resample"; see `removal.make_filler`.
        reference: texts that "resample" draws from.
        device, dtype: see `load_model`; not of a model that is loaded.

    Raises:
        ModelError: the model cannot be found or loaded.
        InputError: the text, segments, target or value cannot be used.
    """
    if not text.strip():
        raise InputError("the text is empty; there is nothing to explain.")
    loaded = (
        load_model(model, device=device, dtype=dtype)
        if isinstance(model, str)
        else model
    )
    check_taken(loaded, {"prefix": prefix, "suffix": suffix, "is_chat": is_chat})
    by_default = "word" if loaded.task == "text-classifier" else "sentence"
    prompt = text_prompt(
        text,
        loaded.tokenizer,
        segments=segments or by_default,
        pinned=pinned,
        removal=removal,
        reference=reference,
        prefix=prefix,
        suffix=suffix,
    )
    if is_truncating:
        is_causal = loaded.task == "causal-lm"
        scored = (target, against, *choices)
        room = _room(prompt, loaded, scored, is_chat) if is_causal else 0
        if question:  # read with the text, and three special tokens between them
            room += len(loaded.tokenizer(question)["input_ids"]) + 3
        prompt = truncate(prompt, loaded.tokenizer, loaded.max_tokens - room)
    asked = Asked(
        question=question,
        target=target,
        against=against,
        choices=tuple(choices),
        per_token=per_token,
        value=value,
    )
    if is_chat:
        return oracle_for(_as_message(prompt, loaded), loaded, asked)
    return oracle_for(prompt, loaded, asked)


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
    front = max(1, tokenizer.num_special_tokens_to_add())
    room = max([ANSWER_TOKENS, *answers]) + front
    if is_chat:
        room += num_tokens(_as_message(prompt, loaded), tokenizer)
        room -= num_tokens(prompt, tokenizer)
    return room
