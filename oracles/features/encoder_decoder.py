"""An encoder-decoder's answer as a set function of the encoder's input."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.batching import score_in_batches
from oracles.features.encoding import (
    check_length,
    checked_choice,
    encode,
    fingerprint,
    intact_and_empty,
)
from oracles.features.generation import generate
from oracles.features.loading import LoadedModel
from oracles.features.prompts import Prompt

ANSWER_VALUES = ("log-odds", "log-probability", "probability")
ANSWER_TOKENS = 48  # longest answer taken from the model itself
PIECE = 2**24  # logits made at a time, 64 MiB


class EncoderDecoderOracle:
    """How likely answers are when parts of the encoder's input are removed.

    An answer is scored whole as the model was trained to write it: its tokens, and the
    one that ends it. Tokens that the tokenizer puts before an answer (a beginning, a
    language) are given, not scored. The input is encoded once for all answers.

    Making one has the model answer the intact input, unless answers are given.

    Args:
        prompt: the encoder's input; see `prompts.text_prompt`. A task's prefix
            ("summarize: ") belongs into it.
        loaded: an encoder-decoder such as T5 or BART.
        answers: scored, one output each; by default the model's own greedy answer to
            the intact input, up to 48 tokens. One made elsewhere is as good.
        against: if given, the value is the log-odds between each answer and this one,
            log p(answer) - log p(against).
        per_token: one output for each token of the answers, given those before it: one
            set of ablations explains every word.
        value: "log-odds", log p / (1 - p), the default: effects add up on this scale,
            where an answer that is nearly sure can still become surer; "log-
            probability" in nats, the same for unlikely answers and the sum over an
            answer's tokens; or "probability".
        batch_size: inputs in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: an empty answer, settings that do not go together, or an input or
            answer longer than the model reads.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        answers: Sequence[str] = (),
        against: str | None = None,
        per_token: bool = False,
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._value = checked_choice(value, ANSWER_VALUES, "value")
        self._is_compared, self._per_token = against is not None, per_token
        _check_settings(against, per_token, self._value)
        self.players = prompt.players
        intact, _ = intact_and_empty(prompt)
        ids = encode(loaded, [intact])
        named = list(answers) or _own_answer(loaded, ids)
        others = [] if against is None else [against]
        self._scored = [self._tokens(text) for text in named + others]
        self.outputs = self._names(named, against)
        self.description: Mapping[str, Any] = {
            "kind": "encoder-decoder",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "answers": named,
            "against": against,
            "per_token": per_token,
            "value": self._value,
            **({} if answers else {"prediction": named[0]}),
            "act": f"answer {' or '.join(map(repr, named))}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, input and settings, not of the batch size."""
        tokens = [[given, scored] for given, scored in self._scored]
        return fingerprint(self.description, self._loaded, tokens=tokens)

    def evaluate(self, masks: Masks) -> Values:
        """The answers' or their tokens' values under every mask, (m, k)."""
        odds = self._token_odds(self._prompt.write_all(masks))
        logs = -np.logaddexp(0, -odds)
        if self._per_token:
            return {
                "log-odds": odds,
                "log-probability": logs,
                "probability": np.exp(logs),
            }[self._value]
        ends = np.cumsum([len(scored) for _, scored in self._scored])[:-1]
        parts = np.split(logs, ends, axis=1)
        whole = np.stack([part.sum(axis=1) for part in parts], axis=1)
        if self._is_compared:
            return whole[:, :-1] - whole[:, -1:]
        if self._value == "log-odds":
            return whole - np.log(-np.expm1(np.minimum(whole, -1e-30)))
        return np.exp(whole) if self._value == "probability" else whole

    def _token_odds(self, texts: Sequence[str]) -> Values:
        """Log-odds of every scored token given those before it, (m, tokens of all)."""
        model = self._loaded.model
        encoder = model.get_encoder()

        def score(ids: Any, mask: Any) -> Any:
            import torch

            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            odds = [self._odds(states, mask, *tokens) for tokens in self._scored]
            return torch.cat(odds, dim=1)

        pad = self._loaded.tokenizer.pad_token_id or 0
        ids = encode(self._loaded, texts)
        return score_in_batches(ids, score, self._batch_size, pad, model.device)

    def _odds(
        self, states: Any, mask: Any, given: Sequence[int], scored: Sequence[int]
    ) -> Any:
        """Log-odds of the scored tokens, (rows, tokens), of an encoded input."""
        import torch

        model = self._loaded.model
        labels = torch.tensor([[*given, *scored]], device=states.device)
        inputs = model.prepare_decoder_input_ids_from_labels(labels)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        step = max(1, PIECE // (labels.shape[1] * vocabulary))
        pieces = []
        for start in range(0, len(states), step):
            some = states[start : start + step]
            logits = model(
                encoder_outputs=(some,),
                attention_mask=mask[start : start + step],
                decoder_input_ids=inputs.expand(len(some), -1),
                use_cache=False,
            ).logits[:, len(given) :]
            wanted = labels[:, len(given) :, None].expand(len(some), -1, 1)
            own = logits.gather(2, wanted)[:, :, 0].float()
            others = logits.scatter(2, wanted, -torch.inf).float().logsumexp(dim=2)
            pieces.append(own.double() - others.double())
        return torch.cat(pieces)

    def _tokens(self, answer: str) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before an answer, and the answer up to its end."""
        tokenizer = self._loaded.tokenizer
        if not answer.strip():
            raise InputError(
                "the answer is empty. Name the words whose probability should be "
                "explained, or leave it out for the model's own answer."
            )
        ids = list(tokenizer(text_target=answer, verbose=False)["input_ids"])
        check_length(len(ids), self._loaded.max_tokens, "the answer")
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        start = next((i for i, t in enumerate(ids) if t not in special), len(ids))
        if start == len(ids):
            raise InputError(
                f"the answer {answer!r} has no tokens in this model's vocabulary. Name "
                "other words."
            )
        return ids[:start], ids[start:]

    def _names(self, answers: Sequence[str], against: str | None) -> tuple[str, ...]:
        if against is not None:
            return tuple(
                f"log-odds of {text!r} against {against!r}" for text in answers
            )
        if not self._per_token:
            return tuple(f"{self._value} of {text!r}" for text in answers)
        tokenizer = self._loaded.tokenizer
        return tuple(
            f"{self._value} of {tokenizer.decode([token])!r}, token {i} of {text!r}"
            for text, (_, scored) in zip(answers, self._scored, strict=True)
            for i, token in enumerate(scored, start=1)
        )


def _own_answer(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> list[str]:
    answer = generate(loaded, ids, ANSWER_TOKENS)[0].strip()
    if not answer:
        raise InputError(
            "the model itself answers nothing to the intact input. Name the answer "
            "whose probability should be explained."
        )
    return [answer]


def _check_settings(against: str | None, per_token: bool, value: str) -> None:
    if against is not None and per_token:
        raise InputError(
            "per_token and against do not go together: the tokens of two answers are "
            "not the same. Leave one of them out."
        )
    if against is not None and value != "log-odds":
        raise InputError(
            f"value={value!r} does not go with against, which is compared by log-odds. "
            'Leave value out, or use "log-odds".'
        )
