"""A causal language model's continuation as a set function of the prompt's segments."""

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values, fingerprint_of
from oracles.errors import InputError
from oracles.features.batching import score_in_batches
from oracles.features.loading import LoadedModel
from oracles.features.removal import make_ablator
from oracles.features.segments import split

CAUSAL_VALUES = ("log-probability", "log-odds", "probability")
ANSWER_TOKENS = 16  # longest answer taken from the model itself


class CausalOracle:
    """How likely a continuation is when some of the prompt's segments are removed.

    The prompt is `text` and then `suffix`, which is never ablated: put the question
    there. White space between prompt and continuation counts as the continuation's; a
    space is put there if there is none and the prompt ends in a word or a mark.

    Args:
        text: the part of the prompt that is ablated.
        loaded: a causal language model.
        suffix: the part that is always kept, after the text.
        continuation: what is scored; by default the model's own greedy answer to the
            intact prompt, up to a line's end or 16 tokens.
        alternative: if given, the value is the log-odds between the two, log
            p(continuation) - log p(alternative).
        segments: kind of segment; see `segments.split`.
        value: "log-probability" in nats, summed over tokens, the default; "log-odds",
            log p / (1 - p); or "probability". With an alternative only "log-odds".
        removal: "delete" or "mask"; see `removal.make_ablator`.
        batch_size: prompts in one forward pass.

    Raises:
        InputError: a text, segments, continuation, value or removal that cannot be
            used, or a prompt longer than the model's context.
    """

    def __init__(
        self,
        text: str,
        loaded: LoadedModel,
        *,
        suffix: str = "",
        continuation: str | None = None,
        alternative: str | None = None,
        segments: str = "sentence",
        value: str | None = None,
        removal: str = "delete",
        batch_size: int = 32,
    ) -> None:
        self._loaded, self._batch_size = loaded, batch_size
        self._suffix = suffix
        self._value = _checked_value(value, alternative)
        cut = split(text, segments, loaded.tokenizer)
        self._ablator = make_ablator(text, cut, removal, loaded.tokenizer)
        self.players = tuple(segment.of(text) for segment in cut)
        self._start = _start_tokens(loaded.tokenizer)
        self._context = _context_length(loaded)
        prompt = self._prompt(text)
        self._check_length(len(self._prompt_tokens(prompt)) + 1)
        answer = self._greedy(prompt)
        scored = [answer if continuation is None else continuation]
        scored += [] if alternative is None else [alternative]
        self._scored = [self._continuation_tokens(prompt, words) for words in scored]
        longest = max(map(len, self._scored))
        self._check_length(len(self._prompt_tokens(prompt)) + longest)
        self.outputs = (_output_name(self._value, scored),)
        self.description: Mapping[str, Any] = {
            "kind": "causal-lm",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            "text": text,
            "suffix": suffix,
            "spans": [[segment.start, segment.end] for segment in cut],
            "segments": segments,
            "removal": removal,
            "value": self._value,
            "continuation": scored[0],
            "alternative": alternative,
            "prediction": answer,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompt and settings, not of the batch size."""
        skipped = ("prediction", "model")
        settings = {k: v for k, v in self.description.items() if k not in skipped}
        return fingerprint_of({**settings, "weights": self._loaded.digest})

    def evaluate(self, masks: Masks) -> Values:
        """The continuation's value under every mask, (m, 1)."""
        prompts = [self._prompt(text) for text in self._ablator.write_all(masks)]
        ids = [self._prompt_tokens(prompt) for prompt in prompts]
        scores = [self._log_probability(ids, tokens) for tokens in self._scored]
        if len(scores) == 2:
            return scores[0] - scores[1]
        if self._value == "probability":
            return np.exp(scores[0])
        if self._value == "log-odds":
            return scores[0] - np.log(-np.expm1(np.minimum(scores[0], -1e-12)))
        return scores[0]

    def _prompt(self, text: str) -> str:
        """Text and suffix, a space between them if there would be none."""
        if not (text and self._suffix):
            return text or self._suffix.lstrip()
        needs_space = not (text[-1].isspace() or self._suffix[0].isspace())
        return text + " " * needs_space + self._suffix

    def _prompt_tokens(self, prompt: str) -> list[int]:
        # the white space before the continuation is counted as the continuation's
        tokenizer = self._loaded.tokenizer
        ids = tokenizer(prompt.rstrip(), add_special_tokens=False, verbose=False)
        return [*self._start, *ids["input_ids"]]

    def _continuation_tokens(self, prompt: str, words: str) -> list[int]:
        if not words.strip():
            raise InputError(
                "the continuation is empty, or the model itself answers nothing. Name "
                "the words whose probability should be explained as the target."
            )
        border = prompt[len(prompt.rstrip()) :]
        if not (border or words[0].isspace()) and _wants_space(prompt, words):
            border = " "
        tokenizer = self._loaded.tokenizer
        return tokenizer(border + words, add_special_tokens=False)["input_ids"]

    def _log_probability(self, prompts: list[list[int]], tokens: list[int]) -> Values:
        """log p(tokens | prompt) for every prompt, (m, 1)."""
        model, length = self._loaded.model, len(tokens)

        def score(ids: Any, mask: Any) -> Any:
            import torch

            ends = mask.sum(dim=1)
            kept = ids.shape[1] - int(ends.min()) + length + 1
            logits = _last_logits(model, ids, mask, kept)
            # logits at position p predict token p + 1
            first = (ends - length - 1 - (ids.shape[1] - logits.shape[1]))[:, None]
            places = first + torch.arange(length, device=ids.device)
            rows = torch.arange(len(ids), device=ids.device)[:, None]
            chosen = logits[rows, places].float().log_softmax(dim=-1)
            wanted = torch.tensor(tokens, device=ids.device)[None, :, None]
            expanded = wanted.expand(len(ids), -1, 1)
            return chosen.gather(2, expanded).double().sum(dim=1)

        sequences = [[*prompt, *tokens] for prompt in prompts]
        return score_in_batches(sequences, score, self._batch_size, 0, model.device)

    def _greedy(self, prompt: str) -> str:
        """The model's own answer to a prompt."""
        import torch

        tokenizer, model = self._loaded.tokenizer, self._loaded.model
        ids = self._prompt_tokens(prompt)
        answer: list[int] = []
        while len(answer) < ANSWER_TOKENS and len(ids) + len(answer) < self._context:
            batch = torch.tensor([[*ids, *answer]], device=model.device)
            with torch.inference_mode():
                logits = _last_logits(model, batch, torch.ones_like(batch), 1)
            token = int(logits[0, -1].argmax())
            words = tokenizer.decode([*answer, token])
            if token == tokenizer.eos_token_id or "\n" in words.lstrip():
                break
            answer.append(token)
        return tokenizer.decode(answer, skip_special_tokens=True).strip()

    def _check_length(self, tokens: int) -> None:
        if tokens > self._context:
            raise InputError(
                f"prompt and continuation have {tokens} tokens and this model reads "
                f"{self._context}. Shorten the prompt, or use a model with a longer "
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


def _wants_space(prompt: str, words: str) -> bool:
    ends_in_word = bool(prompt) and (prompt[-1].isalnum() or prompt[-1] in ".,:;!?)]}")
    return ends_in_word and (words[0].isalnum() or words[0] in "([{")


def _start_tokens(tokenizer: Any) -> list[int]:
    """What every sequence begins with, so that even an empty prompt has a context."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise InputError(
        "this model's tokenizer has neither a beginning nor an end token, so there is "
        "no value for an empty prompt."
    )


def _context_length(loaded: LoadedModel) -> int:
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    limit = loaded.tokenizer.model_max_length
    return int(min(limit, positions or limit))


def _last_logits(model: Any, ids: Any, mask: Any, count: int) -> Any:
    """Logits of the last `count` positions; the model computes no others if it can."""
    arguments = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        arguments["logits_to_keep"] = count
    return model(**arguments).logits[:, -count:]
