"""An encoder-decoder's answer as a set function of the encoder's input."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.answers.targets import (
    among,
    check_together,
    checked_value,
    scaled,
)
from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import (
    check_length,
    check_unseen,
    either,
    encode_all,
    fingerprint,
    split_marks,
)
from oracles.features.passes.generation import generate
from oracles.features.passes.rotary import longest_together
from oracles.features.prompts.prompt import Prompt

ANSWER_TOKENS = 48  # longest answer taken from the model itself
PIECE = 2**24  # logits made at a time, 64 MiB


class EncoderDecoderOracle:
    """How likely an answer is when parts of the encoder's input are removed.

    An answer is scored as the model was trained to write it: its tokens, and the one
    that ends it. Tokens that the tokenizer puts before an answer (a beginning, a
    language) are given, not scored. The input is encoded once for all answers.

    Making one has the model answer the intact input, unless an answer is given.

    Args:
        prompt: the encoder's input; see `prompts.text_prompt`. A task's prefix
            ("summarize: ") belongs into it.
        loaded: an encoder-decoder such as T5 or BART.
        continuation: the answer that is scored; by default the model's own greedy one
            to the intact input, up to 48 tokens. One made elsewhere is as good.
        alternative: if given, the value is the log-odds between the two, log
            p(continuation) - log p(alternative).
        choices: if given, in place of a continuation: one output for each of two or
            more answers, whose probabilities are made to sum to one.
        per_token: one output for each token of the continuation given those before it:
            one set of ablations explains every word.
        value: see `targets`. "log-probability" in nats, the default, of which the
            tokens' sum is the whole's; "log-odds", log p / (1 - p), which does not
            saturate for likely answers; or "probability". With choices "log-odds", the
            default, "margin" or "probability".
        batch_size: inputs in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: an empty answer, settings that do not go together, an input or
            answer longer than the model reads, or a model that cannot hide tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        continuation: str | None = None,
        alternative: str | None = None,
        choices: Sequence[str] = (),
        per_token: bool = False,
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_together(continuation, alternative, choices, per_token)
        self._value = checked_value(value, alternative, choices)
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._has_choices, self._per_token = bool(choices), per_token
        self.players = prompt.players
        everything = np.ones((1, len(self.players)), dtype=bool)
        ids = encode_all(loaded, prompt, everything)
        given = [w for w in (continuation, alternative, *choices) if w is not None]
        told: dict[str, Any] = {}
        if continuation is None and not choices:
            told["prediction"] = _own_answer(loaded, ids)
            given.insert(0, told["prediction"])
        self._scored = [self._tokens(words) for words in given]
        check_unseen(loaded, prompt, self._inputs, self._run)
        self.outputs = self._names(given)
        is_compared = alternative is not None
        self.description: Mapping[str, Any] = {
            "kind": "encoder-decoder",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "continuation": None if choices else given[0],
            "alternative": given[1] if is_compared else None,
            "choices": list(choices),
            "per_token": per_token,
            "value": self._value,
            **told,
            "act": f"answer {either(choices or given[:1])}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, input and settings, not of the batch size."""
        tokens = [[given, scored] for given, scored in self._scored]
        return fingerprint(self.description, self._loaded, tokens=tokens)

    def evaluate(self, masks: Masks) -> Values:
        """The answers' or their tokens' values under every mask, (m, k)."""
        odds = self._run(self._inputs(masks))
        if self._per_token and self._value == "log-odds":
            return odds
        logs = -np.logaddexp(0, -odds)
        if self._per_token:
            return scaled(logs, self._value)
        ends = np.cumsum([len(scored) for _, scored in self._scored])[:-1]
        parts = np.split(logs, ends, axis=1)
        whole = np.stack([part.sum(axis=1) for part in parts], axis=1)
        if self._has_choices:
            return among(whole, self._value)
        if len(self._scored) == 2:
            return whole[:, :1] - whole[:, 1:]
        return scaled(whole, self._value)

    def _inputs(self, masks: Masks) -> list[list[int]]:
        return encode_all(self._loaded, self._prompt, masks)

    def _run(self, inputs: list[list[int]]) -> Values:
        """Log-odds of every scored token given those before it, (m, tokens of all)."""
        model = self._loaded.model
        encoder = model.get_encoder()

        def score(marked: Any, mask: Any) -> Any:
            import torch

            ids, mask, _ = split_marks(marked, mask)
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            odds = [self._odds(states, mask, *tokens) for tokens in self._scored]
            return torch.cat(odds, dim=1)

        pad = self._loaded.tokenizer.pad_token_id or 0
        return score_in_batches(
            inputs,
            score,
            self._batch_size,
            pad,
            device_of(model),
            longest=longest_together(model),
        )

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

    def _names(self, answers: Sequence[str]) -> tuple[str, ...]:
        if self._has_choices:
            return tuple(f"{self._value} of {a!r} among the choices" for a in answers)
        if self._per_token:
            scored = self._scored[0][1]
            pieces = map(self._loaded.tokenizer.decode, scored)
            return tuple(
                f"{self._value} of {piece!r}, token {i} of {len(scored)}"
                for i, piece in enumerate(pieces, start=1)
            )
        against = f" against {answers[1]!r}" if len(answers) == 2 else ""
        return (f"{self._value} of {answers[0]!r}{against}",)


def _own_answer(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> str:
    answer = generate(loaded, ids, ANSWER_TOKENS)[0].strip()
    if not answer:
        raise InputError(
            "the model itself answers nothing to the intact input. Name the answer "
            "whose probability should be explained."
        )
    return answer
