"""A masked language model's word as a set function of the text around the mask.

Words that stand for classes ("label words", "verbalizers") make it a classifier that
was never trained as one: "The plot is thin. It was [MASK]." with "great" and "terrible"
(Schick and Schütze 2021, Exploiting Cloze Questions).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.answers.targets import CHOICE_VALUES, among, check_choices
from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import (
    check_unseen,
    checked_choice,
    either,
    encode_all,
    fingerprint,
    intact_and_empty,
    split_marks,
)
from oracles.features.passes.rotary import longest_together
from oracles.features.prompts.prompt import Prompt

MASKED_VALUES = ("log-odds", "log-probability", "probability", "logit")


class MaskedLMOracle:
    """How likely a word is at the mask when parts of the text around it are removed.

    The prompt holds the model's mask token once, in a part that is never ablated (its
    suffix or prefix). Where removal writes mask tokens, too, the one that is asked for
    is the first or the last of all.

    Making one runs the model once on the intact text.

    Args:
        prompt: a text with a mask token; see `prompts.text_prompt`.
        loaded: a masked language model.
        words: explained, one output each; by default the one the model itself finds
            most likely. Each is one token where it stands in the intact text.
        choices: in place of words: two or more of which one is the answer (label words
            for classes, letters of a multiple choice), one output each. All other words
            count for nothing: of two choices the log-odds are log p(one) - log
            p(other).
        value: "log-odds", log p / (1 - p), the default, as effects add up on this scale
            and probabilities saturate; "probability"; for words also "log-probability"
            and "logit", the raw score; for choices also "margin", log p minus that of
            the best other.
        batch_size: texts in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: a tokenizer without a mask token; a prompt that does not keep one
            mask token; a word that is not one token; words beside choices; an unknown
            value; a text longer than the model reads; or a model that cannot hide
            tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        words: Sequence[str] = (),
        choices: Sequence[str] = (),
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        _check_words(words, choices)
        known = CHOICE_VALUES if choices else MASKED_VALUES
        self._value = checked_choice(value, known, "value")
        self._has_choices = bool(choices)
        self.players = prompt.players
        intact, nothing = intact_and_empty(prompt)
        self._is_last = _mask_is_last(loaded.tokenizer.mask_token, intact, nothing)
        self._tokens = [self._token(intact, word) for word in (*words, *choices)]
        check_unseen(loaded, prompt, self._inputs, partial(self._run, _unchanged))
        best, confidence = self._predict()
        top = choices[best] if choices else loaded.tokenizer.decode([best]).strip()
        self._tokens = self._tokens or [best]
        named = [*words, *choices] or [top]
        rivals = " among the choices" if choices else ""
        self.outputs = tuple(f"{self._value} of {word!r}{rivals}" for word in named)
        self.description: Mapping[str, Any] = {
            "kind": "masked-lm",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "words": [] if choices else named,
            "choices": list(choices),
            "value": self._value,
            "prediction": top,
            "prediction_probability": confidence,
            "act": f"fill in {either(named)}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, text and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded, tokens=self._tokens)

    def evaluate(self, masks: Masks) -> Values:
        """Every word's value under every mask, (m, k)."""
        if self._has_choices:
            logits = self._run(self._logits, self._inputs(masks))
            return among(logits, self._value)
        return self._run(self._words, self._inputs(masks))

    def _logits(self, logits: Any) -> Any:
        return logits[:, self._tokens]

    def _words(self, logits: Any) -> Any:
        """The words' values of logits (rows, vocabulary) at the mask."""
        import torch

        own = logits[:, self._tokens]
        if self._value == "logit":
            return own
        others = []
        for token in self._tokens:
            at = torch.tensor([token], device=logits.device)
            others.append(logits.index_fill(1, at, -torch.inf).logsumexp(dim=1))
        odds = own - torch.stack(others, dim=1)
        if self._value == "log-odds":
            return odds
        logs = torch.nn.functional.logsigmoid(odds)
        return logs if self._value == "log-probability" else logs.exp()

    def _predict(self) -> tuple[int, float]:
        """The likeliest token in the intact text, or choice, and its probability."""
        everything = np.ones((1, len(self.players)), dtype=bool)
        score = self._logits if self._has_choices else _unchanged
        logits = self._run(score, self._inputs(everything))[0]
        best = int(logits.argmax())
        share = np.exp(logits[best] - np.logaddexp.reduce(logits))
        return best, float(share)

    def _inputs(self, masks: Masks) -> list[list[int]]:
        return encode_all(self._loaded, self._prompt, masks)

    def _run(self, score: Callable[[Any], Any], inputs: list[list[int]]) -> Values:
        """What `score` makes of the logits (rows, vocabulary) at the word's place."""
        model = self._loaded.model

        def score_ids(marked: Any, mask: Any) -> Any:
            ids, seen, _ = split_marks(marked, mask)
            here.places = self._places(ids, mask)
            logits = model(input_ids=ids, attention_mask=seen).logits
            if logits.shape[1] > 1:  # a head that was not reached
                logits = logits[here.places][:, None]
            return score(logits[:, 0].double())

        pad = self._loaded.tokenizer.pad_token_id or 0
        longest = longest_together(model)
        with _narrowed(model) as here:
            return score_in_batches(
                inputs,
                score_ids,
                self._batch_size,
                pad,
                device_of(model),
                longest=longest,
            )

    def _places(self, ids: Any, mask: Any) -> tuple[Any, Any]:
        """Row and position of the mask in every row."""
        import torch

        is_mask = (ids == self._loaded.tokenizer.mask_token_id) & (mask > 0)
        first = is_mask.int().argmax(dim=1)
        last = ids.shape[1] - 1 - is_mask.flip(1).int().argmax(dim=1)
        rows = torch.arange(len(ids), device=ids.device)
        return rows, last if self._is_last else first

    def _token(self, intact: str, word: str) -> int:
        """The one token that a word is in the mask's place.

        Read off the text with the word there, as many tokenizers write a word after a
        space otherwise than one that begins a text.
        """
        tokenizer = self._loaded.tokenizer
        before, _, after = intact.rpartition(tokenizer.mask_token)
        word = word.strip()
        start, end = len(before), len(before) + len(word)
        encoded = tokenizer(
            before + word + after,
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        tokens = [(t, s) for t, s in spans if s[0] < end and s[1] > start]
        is_whole = len(tokens) == 1 and tokens[0][1][1] == end
        if not is_whole or tokens[0][0] == tokenizer.unk_token_id:
            pieces = ", ".join(
                repr(tokenizer.convert_ids_to_tokens(token)) for token, _ in tokens
            )
            raise InputError(
                f"the word {word!r} is not one token of this model where the mask is "
                f"({pieces or 'none'}). Name a word that is one."
            )
        return int(tokens[0][0])


def _unchanged(logits: Any) -> Any:
    return logits


def _check_words(words: Sequence[str], choices: Sequence[str]) -> None:
    if words and choices:
        raise InputError(
            "words are explained against the whole vocabulary and choices against each "
            "other. Give one of the two."
        )
    check_choices(choices)


def _mask_is_last(token: str | None, intact: str, nothing: str) -> bool:
    """Whether the mask that is asked for is the last under every mask, or the first."""
    if token is None:
        raise InputError(
            "this model's tokenizer has no mask token, so there is nothing to fill in. "
            "Name a masked language model with its own tokenizer."
        )
    if intact.count(token) != 1:
        raise InputError(
            f"the intact text has {intact.count(token)} mask tokens. Write {token} "
            "once, where the word is asked for."
        )
    at = intact.index(token)
    if token in nothing and nothing.endswith(intact[at:]):
        return True
    if token in nothing and nothing.startswith(intact[: at + len(token)]):
        return False
    raise InputError(
        f"{token} stands in a part that is ablated. Put it into the part that is "
        "always kept (a suffix or prefix)."
    )


@contextmanager
def _narrowed(model: Any) -> Iterator[threading.local]:
    """Have the model's head see one position of each row, (rows, 1, d), only.

    The logits of a whole batch would be its length times the vocabulary. Each thread
    says in the `places` of what is yielded which rows and positions it is about to run.
    """
    here = threading.local()

    def narrow(module: Any, inputs: Any, output: Any) -> Any:
        states = getattr(output, "last_hidden_state", None)
        if states is not None:
            output["last_hidden_state"] = states[here.places][:, None]
        return output

    handle = model.base_model.register_forward_hook(narrow)
    try:
        yield here
    finally:
        handle.remove()
