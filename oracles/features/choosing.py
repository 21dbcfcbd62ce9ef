"""Which oracle a kind of model calls for, and what may be asked of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oracles.base import Oracle
from oracles.errors import InputError
from oracles.features.causal import CausalOracle
from oracles.features.classifier import ClassifierOracle
from oracles.features.embedding import EmbeddingOracle
from oracles.features.encoder_decoder import EncoderDecoderOracle
from oracles.features.generated import LIKENESSES, GeneratedOracle
from oracles.features.masked_lm import MaskedLMOracle
from oracles.features.models.loading import LoadedModel
from oracles.features.prompts.prompt import Prompt
from oracles.features.question_answering import QuestionAnsweringOracle


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked about a prompt, whatever the kind of model.

    Attributes:
        question: what a reader is asked of the text, what a retriever compares it to,
            or the first text where a classifier judges pairs (rerankers).
        target: a class, or "all"; the continuation, answer or word; by default what the
            model itself says.
        against: an answer or word that the target is compared with.
        choices: two or more answers or words, each compared with the others.
        per_token: whether every token of the continuation is an output.
        value: what is explained of the target; see the oracles.
    """

    question: str = ""
    target: str | None = None
    against: str | None = None
    choices: tuple[str, ...] = ()
    per_token: bool = False
    value: str | None = None


ASKED = ("question", "target", "against", "choices", "per_token")
WRITTEN = ("target", "against", "choices", "per_token")
TAKEN: Mapping[str, tuple[str, ...]] = {
    "text-classifier": ("question", "target"),
    "causal-lm": ("prefix", "suffix", "is_chat", *WRITTEN),
    "question-answering": ("prefix", "suffix", "question", "target"),
    "masked-lm": ("prefix", "suffix", "target", "against", "choices"),
    "encoder-decoder": ("prefix", "suffix", *WRITTEN),
    "embedding": ("prefix", "suffix", "question"),
}
"""Kind of model -> settings that mean something for it."""


def check_taken(loaded: LoadedModel, settings: Mapping[str, Any]) -> None:
    """Refuse settings that mean nothing for a kind of model.

    Args:
        loaded: the model.
        settings: by name; those that are None, False or empty are not set.

    Raises:
        InputError: one is set that the kind does not take.
    """
    for name, given in settings.items():
        if given and name not in TAKEN[loaded.task]:
            kinds = [kind for kind, taken in TAKEN.items() if name in taken]
            raise InputError(
                f"{name} goes with models of kind {', '.join(kinds)}, and "
                f"model={loaded.name!r} is a {loaded.task}. Leave it out."
            )


def oracle_for(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    """The oracle that answers what is asked.

    A value of likeness ("rouge-l", "token-f1") asks models that write for how like
    their answers stay to the target.

    Raises:
        InputError: what is asked means nothing for the kind of model, or cannot be
            used.
    """
    check_taken(
        loaded,
        {name: getattr(asked, name) for name in ASKED},
    )
    return MAKERS[loaded.task](prompt, loaded, asked)


def _of_classifier(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    return ClassifierOracle(
        prompt, loaded, first=asked.question, target=asked.target, value=asked.value
    )


def _of_writer(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    if asked.value in LIKENESSES:
        if asked.against is not None or asked.choices or asked.per_token:
            raise InputError(
                f"value={asked.value!r} compares answers with the target, and with "
                "nothing else. Leave against, choices and per_token out."
            )
        return GeneratedOracle(prompt, loaded, answer=asked.target, value=asked.value)
    kind = CausalOracle if loaded.task == "causal-lm" else EncoderDecoderOracle
    return kind(
        prompt,
        loaded,
        continuation=asked.target,
        alternative=asked.against,
        choices=asked.choices,
        per_token=asked.per_token,
        value=asked.value,
    )


def _of_reader(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    answers = [] if asked.target is None else [asked.target]
    return QuestionAnsweringOracle(
        prompt, loaded, question=asked.question, answers=answers, value=asked.value
    )


def _of_masked(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    if asked.choices and (asked.target or asked.against):
        raise InputError(
            "choices are compared with one another. Leave target and against out."
        )
    if asked.choices:
        return MaskedLMOracle(prompt, loaded, choices=asked.choices, value=asked.value)
    if asked.against is None:
        words = [] if asked.target is None else [asked.target]
        return MaskedLMOracle(prompt, loaded, words=words, value=asked.value)
    if asked.target is None:
        raise InputError(
            f"against={asked.against!r} needs a target, the word that it is compared "
            "with. Name both."
        )
    choices = [asked.target, asked.against]
    return MaskedLMOracle(prompt, loaded, choices=choices, value=asked.value)


def _of_encoder(prompt: Prompt, loaded: LoadedModel, asked: Asked) -> Oracle:
    references = [asked.question] if asked.question else []
    return EmbeddingOracle(prompt, loaded, references=references, value=asked.value)


MAKERS: Mapping[str, Callable[[Prompt, LoadedModel, Asked], Oracle]] = {
    "text-classifier": _of_classifier,
    "causal-lm": _of_writer,
    "encoder-decoder": _of_writer,
    "question-answering": _of_reader,
    "masked-lm": _of_masked,
    "embedding": _of_encoder,
}
"""Kind of model -> what makes its oracle."""
