"""A causal language model's continuation as a set function of the prompt's segments."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values, fingerprint_of
from oracles.errors import InputError
from oracles.features.batching import score_in_batches
from oracles.features.loading import LoadedModel
from oracles.features.prompts import Prompt

CAUSAL_VALUES = ("log-probability", "log-odds", "probability")
ANSWER_TOKENS = 16  # longest answer taken from the model itself


@dataclass(frozen=True)
class _Continuation:
    """What is scored after the prompt, white space in front included."""

    text: str
    tokens: list[int]


class CausalOracle:
    """How likely a continuation is when some of the prompt's segments are removed.

    White space between prompt and continuation counts as the continuation's; a space
    is put there if there is none and the prompt ends in a word or a mark; the
    description says under `scored` what was scored. Making one has the model answer
    the intact prompt, up to 16 forward passes.

    Args:
        prompt: what is ablated; see `prompts.text_prompt`.
        loaded: a causal language model.
        continuation: what is scored; by default the model's own greedy answer to the
            intact prompt, up to a line's end or 16 tokens.
        alternative: if given, the value is the log-odds between the two, log
            p(continuation) - log p(alternative).
        value: "log-probability" in nats, summed over tokens, the default; "log-odds",
            log p / (1 - p); or "probability". With an alternative only "log-odds".
        batch_size: prompts in one forward pass.

    Raises:
        InputError: a continuation or value that cannot be used, or a prompt longer
            than the model's context.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        continuation: str | None = None,
        alternative: str | None = None,
        value: str | None = None,
        batch_size: int = 32,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._value = _checked_value(value, alternative)
        self.players = prompt.players
        intact, nothing = prompt.write_all(_all_and_none(len(self.players)))
        self._start, self._empty = _start_tokens(loaded.tokenizer, nothing)
        ids = self._prompt_tokens([intact])[0]
        self._check_length(len(ids) + 1)
        answer, confidence = self._greedy(ids)
        given = [words for words in (continuation, alternative) if words is not None]
        scored = [self._continuation(intact, words) for words in given]
        if continuation is None:
            scored.insert(0, _not_empty(answer))
        self._scored = [continued.tokens for continued in scored]
        self._check_length(len(ids) + max(map(len, self._scored)))
        named = [continued.text.strip() for continued in scored]
        self.outputs = (_output_name(self._value, named),)
        self.description: Mapping[str, Any] = {
            "kind": "causal-lm",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "value": self._value,
            "continuation": named[0],
            "alternative": named[1] if len(named) == 2 else None,
            "scored": [continued.text for continued in scored],
            "prediction": answer.text.strip(),
            "prediction_probability": confidence,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompt and settings, not of the batch size."""
        skipped = ("prediction", "prediction_probability", "model")
        settings = {k: v for k, v in self.description.items() if k not in skipped}
        identity = {"tokens": self._scored, "weights": self._loaded.digest}
        return fingerprint_of({**settings, **identity})

    def evaluate(self, masks: Masks) -> Values:
        """The continuation's value under every mask, (m, 1)."""
        prompts = self._prompt_tokens(self._prompt.write_all(masks))
        scores = self._log_probabilities(prompts)
        if self._value == "log-probability":
            return scores
        if self._value == "probability":
            return np.exp(scores)
        if len(self._scored) == 2:
            return scores[:, :1] - scores[:, 1:]
        return scores - np.log(-np.expm1(np.minimum(scores, -1e-12)))

    def _prompt_tokens(self, prompts: list[str]) -> list[list[int]]:
        # the white space before the continuation is counted as the continuation's
        encoded = self._loaded.tokenizer(
            [prompt.rstrip() for prompt in prompts],
            add_special_tokens=False,
            verbose=False,
        )
        return [[*self._start, *ids] or self._empty for ids in encoded["input_ids"]]

    def _continuation(self, prompt: str, words: str) -> _Continuation:
        """The continuation with its tokens where it follows the intact prompt.

        Encoded alone, many tokenizers would begin it with a second white space.
        """
        tokenizer, context = self._loaded.tokenizer, prompt.rstrip()
        text = _with_border(prompt, words)
        together = tokenizer(
            context + text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        pairs = zip(together["input_ids"], together["offset_mapping"], strict=True)
        after = [(ids, span) for ids, span in pairs if span[1] > len(context)]
        tokens = [token for token, _ in after]
        if after and after[0][1][0] < len(context):  # a token across the border
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise InputError(
                f"the continuation {words!r} has no tokens in this model's "
                "vocabulary. Name other words."
            )
        return _Continuation(text, tokens)

    def _log_probabilities(self, prompts: list[list[int]]) -> Values:
        """log p(scored | prompt) for every prompt, (m, scored).

        What is scored is read off one pass where it differs in the last token only,
        as single-token answers do.
        """
        lasts: dict[tuple[int, ...], list[int]] = {}
        for tokens in self._scored:
            lasts.setdefault(tuple(tokens[:-1]), []).append(tokens[-1])
        columns = [self._score(prompts, head, last) for head, last in lasts.items()]
        return np.hstack(columns)

    def _score(
        self, prompts: list[list[int]], head: tuple[int, ...], lasts: list[int]
    ) -> Values:
        """log p(head, last | prompt) for every prompt and last token."""
        model = self._loaded.model

        def score(ids: Any, mask: Any) -> Any:
            import torch

            ends = mask.sum(dim=1)
            kept = ids.shape[1] - int(ends.min()) + len(head) + 1
            logits = _last_logits(model, ids, mask, kept)
            # logits at position p predict token p + 1
            first = (ends - len(head) - 1 - (ids.shape[1] - logits.shape[1]))[:, None]
            places = first + torch.arange(len(head) + 1, device=ids.device)
            rows = torch.arange(len(ids), device=ids.device)[:, None]
            chosen = logits[rows, places].float().log_softmax(dim=-1).double()
            before = chosen[:, range(len(head)), list(head)].sum(dim=1, keepdim=True)
            return before + chosen[:, -1, lasts]

        sequences = [[*prompt, *head] for prompt in prompts]
        return score_in_batches(sequences, score, self._batch_size, 0, model.device)

    def _greedy(self, prompt: list[int]) -> tuple[_Continuation, float]:
        """The model's own answer to a prompt, and that answer's probability."""
        import torch

        tokenizer, model = self._loaded.tokenizer, self._loaded.model
        answer: list[int] = []
        total = 0.0
        room = self._loaded.max_tokens - len(prompt)
        while len(answer) < min(ANSWER_TOKENS, room):
            batch = torch.tensor([[*prompt, *answer]], device=model.device)
            with torch.inference_mode():
                logits = _last_logits(model, batch, torch.ones_like(batch), 1)
            best = logits[0, -1].float().log_softmax(dim=-1).max(dim=-1)
            token = int(best.indices)
            words = self._decode(prompt, [*answer, token])
            if token == tokenizer.eos_token_id or "\n" in words.lstrip():
                break
            answer.append(token)
            total += float(best.values)
        return _Continuation(self._decode(prompt, answer), answer), math.exp(total)

    def _decode(self, prompt: list[int], tokens: list[int]) -> str:
        """Text of tokens after a prompt; alone, some lose the white space in front."""
        before, after = (
            self._loaded.tokenizer.decode(ids, skip_special_tokens=True)
            for ids in (prompt, [*prompt, *tokens])
        )
        return after[len(before) :]

    def _check_length(self, tokens: int) -> None:
        allowed = self._loaded.max_tokens
        if tokens > allowed:
            raise InputError(
                f"prompt and continuation have {tokens} tokens and this model reads "
                f"{allowed}. Shorten the prompt, or use a model with a longer "
                "context; it is never cut silently."
            )


def _checked_value(value: str | None, alternative: str | None) -> str:
    if alternative is not None and value in (None, "log-odds"):
        return "log-odds"
    if alternative is not None:
        raise InputError(
            f"value={value!r} does not go with an alternative, which is compared by "
            'log-odds. Leave value out, or use "log-odds".'
        )
    if value not in (None, *CAUSAL_VALUES):
        raise InputError(
            f"value={value!r} is not known for a causal model. Choose from "
            f"{', '.join(CAUSAL_VALUES)}."
        )
    return value or "log-probability"


def _output_name(value: str, scored: list[str]) -> str:
    against = f" against {scored[1].strip()!r}" if len(scored) == 2 else ""
    return f"{value} of {scored[0].strip()!r}{against}"


def _all_and_none(num_players: int) -> Masks:
    return np.array([[True] * num_players, [False] * num_players])


def _not_empty(answer: _Continuation) -> _Continuation:
    if not answer.text.strip():
        raise InputError(
            "the model itself answers nothing to the intact prompt. Name the words "
            "whose probability should be explained as the target."
        )
    return answer


def _with_border(prompt: str, words: str) -> str:
    """The words with the white space that stands between them and the prompt."""
    if not words.strip():
        raise InputError(
            "the continuation is empty. Name the words whose probability should be "
            "explained as the target, or leave it out for the model's own answer."
        )
    border = prompt[len(prompt.rstrip()) :]
    if not (border or words[0].isspace()) and _wants_space(prompt, words):
        border = " "
    return border + words


def _wants_space(prompt: str, words: str) -> bool:
    ends_in_word = bool(prompt) and (prompt[-1].isalnum() or prompt[-1] in ".,:;!?)]}")
    return ends_in_word and (words[0].isalnum() or words[0] in "([{")


def _start_tokens(tokenizer: Any, nothing: str) -> tuple[list[int], list[int]]:
    """What every prompt begins with, and what stands for a prompt without tokens.

    `nothing` is the prompt with every segment removed.
    """
    if tokenizer.bos_token_id is not None:
        return [int(tokenizer.bos_token_id)], []
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return [], [int(token)]
    if nothing.strip():
        return [], []
    raise InputError(
        "this model's tokenizer has no beginning, end or padding token, so there is no "
        "value for an empty prompt. Give a prefix or suffix, which is always kept."
    )


def _last_logits(model: Any, ids: Any, mask: Any, count: int) -> Any:
    """Logits of the last `count` positions; the model computes no others if it can."""
    arguments = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        arguments["logits_to_keep"] = count
    return model(**arguments).logits[:, -count:]
