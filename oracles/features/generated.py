"""A freely generated answer's likeness to the original as a set function."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.answers.continuations import encoder_of
from oracles.features.answers.similarity import rouge_l, token_f1, words_of
from oracles.features.embedding import embed
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.encoding import (
    check_length,
    checked_choice,
    either,
    encode_all,
    fingerprint,
    intact_and_empty,
)
from oracles.features.passes.generation import generate
from oracles.features.passes.hiding import is_hiding
from oracles.features.prompts.prompt import Prompt

LIKENESSES = {"rouge-l": rouge_l, "token-f1": token_f1}
"""Name of a value -> likeness of an answer to the original, from 0 to 1."""


class GeneratedOracle:
    """How like the model's answer is to the original when prompt segments are removed.

    The model answers anew under every mask, which takes a forward pass for each token:
    where the probability of the original answer will do, `CausalOracle` and
    `EncoderDecoderOracle` cost as many times less. Answers are greedy, so that the same
    prompt has the same answer.

    An answer is far from the original in steps, a word at a time, and all unlike
    answers are alike: the values are rougher than log-probabilities, and explanations
    need more ablations. They are no probabilities, so there is no logit.

    Args:
        prompt: see `prompts.text_prompt`.
        loaded: a causal language model or an encoder-decoder.
        answer: what answers are compared to; one made elsewhere is as good. By default
            the model's own to the intact prompt.
        value: "rouge-l", the longest common subsequence of words, the default;
            "token-f1", common words in any order; both from 0 to 1. Or "cosine" of the
            embeddings, with an encoder.
        encoder: a sentence encoder, for "cosine", which is then the default. Of answers
            longer than it reads the beginnings are compared.
        max_new_tokens: where answers are cut.
        stop: answers end before these characters, such as a line's end; "" for nowhere.
        batch_size: prompts answered together; see `batching.score_in_batches`.

    Raises:
        InputError: an empty answer, a value that is unknown or lacks its encoder, or a
            prompt that leaves no room for the answer.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        answer: str | None = None,
        value: str | None = None,
        encoder: LoadedModel | None = None,
        max_new_tokens: int = 64,
        stop: str = "",
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._encoder, self._longest, self._stop = encoder, max_new_tokens, stop
        known = [*LIKENESSES] if encoder is None else ["cosine", *LIKENESSES]
        self._value = checked_choice(value, known, "value")
        self._is_causal = not loaded.model.config.is_encoder_decoder
        self._check_prompt()
        self.players = prompt.players
        everything = np.ones((1, len(self.players)), dtype=bool)
        self._tokens(everything)  # refused here if there is no room for an answer
        own = self.answers(everything)[0] if answer is None else None
        self.answer = _not_empty(
            own if answer is None else answer, is_own=answer is None
        )
        self.outputs = (f"{self._value} of the answer with {self.answer!r}",)
        self.description: Mapping[str, Any] = {
            "kind": "generated",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "value": self._value,
            "answer": self.answer,
            "encoder": None if encoder is None else encoder.digest,
            "max_new_tokens": max_new_tokens,
            "stop": stop,
            **({} if own is None else {"prediction": own}),
            "act": f"answer {either([self.answer])}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, prompt, settings of generation, not of the batch size."""
        generation = self._loaded.model.generation_config.to_diff_dict()
        generation.pop("transformers_version", None)
        return fingerprint(self.description, self._loaded, generation=generation)

    def evaluate(self, masks: Masks) -> Values:
        """Likeness of every mask's answer to the original, (m, 1)."""
        answers = self.answers(masks)
        distinct = list(dict.fromkeys(answers))
        likeness = dict(zip(distinct, self._likeness(distinct), strict=True))
        return np.array([[likeness[answer]] for answer in answers])

    def answers(self, masks: Masks) -> list[str]:
        """What the model answers under every mask."""
        tokens = self._tokens(masks)
        found = generate(self._loaded, tokens, self._longest, self._batch_size)
        cut = [text.split(self._stop)[0] if self._stop else text for text in found]
        return [text.strip() for text in cut]

    def _likeness(self, answers: list[str]) -> list[float]:
        if self._value != "cosine" or self._encoder is None:
            compare = LIKENESSES[self._value]
            return [compare(answer, self.answer) for answer in answers]
        vectors = embed(self._encoder, [self.answer, *answers], is_cut=True)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return list(vectors[1:] @ vectors[0])

    def _tokens(self, masks: Masks) -> list[list[int]]:
        """The prompts under every mask, which leave room for the answer."""
        if not self._is_causal:
            return encode_all(self._loaded, self._prompt, masks)
        encoder = encoder_of(
            self._loaded.tokenizer,
            intact_and_empty(self._prompt)[1],
            is_rendered=self._prompt.has_special_tokens,
        )
        prompts = encoder.prompts(self._prompt.write_all(masks))
        longest = max(map(len, prompts)) + self._longest
        what = "the prompt, with room for the answer (max_new_tokens),"
        check_length(longest, self._loaded.max_tokens, what)
        return [list(ids) for ids in prompts]

    def _check_prompt(self) -> None:
        if self._is_causal and is_hiding(self._prompt):
            raise InputError(
                'removal="attention" does not go with generated answers, whose tokens '
                'would not know their positions. Use removal="delete" or "mask".'
            )


def _not_empty(answer: str | None, is_own: bool) -> str:
    if answer is None or not words_of(answer):
        whose = "the model's own answer to the intact prompt" if is_own else "answer"
        raise InputError(
            f"{whose} is {answer!r}, without a word that other answers could share. "
            "Give the answer that they are to be compared to."
        )
    return answer.strip()
