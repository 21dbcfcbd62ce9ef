"""A sequence classifier's answer as a set function of the text's segments."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.pairs import encode_pairs, model_inputs
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import (
    blank_token,
    check_unseen,
    checked_choice,
    encode_all,
    fingerprint,
)
from oracles.features.passes.rotary import longest_together
from oracles.features.prompts.prompt import Prompt

CLASSIFIER_VALUES = ("log-odds", "logit", "margin", "probability")


class ClassifierOracle:
    """What a classifier says of a class when some segments are removed.

    Making one runs the model once on the intact text, to find the class it predicts.
    Classes that exclude one another have softmax probabilities; those of a model whose
    `problem_type` is "multi_label_classification" have one sigmoid each. A model with a
    single score has only a "logit".

    Args:
        prompt: what is classified; see `prompts.text_prompt`. With removal "attention"
            tokens of removed segments are hidden, and the others keep their positions.
        loaded: a sequence classifier.
        first, second: the other text of a pair, never ablated, where the model judges
            pairs: what comes before the prompt (a reranker's query, a premise), or
            after it (a hypothesis about it). One of the two, or neither.
        target: class to explain, by name or index; the predicted one by default;
            "all" for one output per class.
        value: "log-odds", log p / (1 - p), the default: effects add up on this scale,
            and it does not saturate as the probability does; "logit", the raw score;
            "margin", the logit minus that of the best other class; or "probability".
        batch_size: texts in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: a target or value that cannot be used, two other texts, a text
            longer than the model's context, or a model that cannot hide tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        first: str = "",
        second: str = "",
        target: str | None = None,
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._first, self._second = _checked_pair(first, second)
        self._labels = _labels(loaded.model.config)
        problem = getattr(loaded.model.config, "problem_type", None)
        self._is_multi_label = problem == "multi_label_classification"
        self._value = _checked_value(value, len(self._labels))
        blank_token(loaded.tokenizer)  # for a text of which nothing is left
        self.players = prompt.players
        check_unseen(loaded, prompt, self._tokens, self._run)
        everything = np.ones((1, len(self.players)), dtype=bool)
        [intact] = self._logits(everything)
        self._targets = self._find_targets(target, intact)
        names = [self._labels[t] for t in self._targets]
        self.outputs = tuple(f"{self._value} of {name}" for name in names)
        predicted = int(intact.argmax())
        self.description: Mapping[str, Any] = {
            "kind": "text-classifier",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            **({"first": first} if first else {}),
            **({"second": second} if second else {}),
            "value": self._value,
            "targets": names,
            "prediction": self._labels[predicted],
            **self._confidence(intact),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, text and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded)

    def evaluate(self, masks: Masks) -> Values:
        """The targets' values under every mask, (m, k)."""
        values = self._values_of(self._logits(masks), self._value)
        return values[:, self._targets]

    def _values_of(self, logits: Values, value: str) -> Values:
        """Logits (m, classes) as the value asked for."""
        if value == "logit":
            return logits
        if value == "probability":
            return _sigmoid(logits) if self._is_multi_label else _softmax(logits)
        if value == "margin":
            return _above_others(logits, np.maximum)
        return logits if self._is_multi_label else _above_others(logits, np.logaddexp)

    def _confidence(self, intact: np.ndarray) -> dict[str, float]:
        """The predicted class's probability, if the model has probabilities."""
        if len(self._labels) == 1:
            return {}
        probability = self._values_of(intact[None], "probability").max()
        return {"prediction_probability": float(probability)}

    def _logits(self, masks: Masks) -> Values:
        """Logits under every mask, (m, classes)."""
        return self._run(self._tokens(masks))

    def _run(self, sequences: list[list[int]]) -> Values:
        model = self._loaded.model

        def score(marked: Any, mask: Any) -> Any:
            inputs, _ = model_inputs(self._loaded, marked, mask)
            return model(**inputs).logits.float()

        # decoders with a class head read the last token that is not the one the
        # configuration calls padding; where it names none they take no batches
        pad = getattr(model.config, "pad_token_id", None)
        batch_size = 1 if pad is None else self._batch_size
        return score_in_batches(
            sequences,
            score,
            batch_size,
            pad or 0,
            device_of(model),
            longest=longest_together(model),
        )

    def _tokens(self, masks: Masks) -> list[list[int]]:
        other = self._first or self._second
        if not other:
            return encode_all(self._loaded, self._prompt, masks)
        pairs = encode_pairs(
            self._loaded, other, self._prompt, masks, pinned_first=bool(self._first)
        )
        return [pair.marked([0] * len(pair.ids)) for pair in pairs]

    def _find_targets(self, target: str | None, intact: np.ndarray) -> list[int]:
        if target is None:
            return [int(intact.argmax())]
        if target == "all":
            return list(range(len(self._labels)))
        by_name = {label.lower(): i for i, label in enumerate(self._labels)}
        if target.lower() in by_name:
            return [by_name[target.lower()]]
        if target.isdecimal() and int(target) < len(self._labels):
            return [int(target)]
        raise InputError(
            f"target={target!r} is not a class of this model. Its classes are "
            f"{', '.join(self._labels)}; or use their numbers from 0, or all."
        )


def _checked_pair(first: str, second: str) -> tuple[str, str]:
    if first and second:
        raise InputError(
            "first and second are both given, and the prompt is one text of the pair "
            "itself. Leave out the one that the prompt stands for."
        )
    return first, second


def _labels(config: Any) -> list[str]:
    return [str(config.id2label[i]) for i in range(config.num_labels)]


def _checked_value(value: str | None, num_labels: int) -> str:
    if num_labels == 1 and value in (None, "logit"):
        return "logit"
    if num_labels == 1:
        raise InputError(
            f"value={value!r} needs classes, and this model has a single score. Use "
            'value="logit".'
        )
    return checked_choice(value, CLASSIFIER_VALUES, "value")


def _above_others(logits: Values, join: np.ufunc) -> Values:
    """Each class's logit above the others' together, or above the best other's.

    With logaddexp that is log p_c / (1 - p_c).
    """
    classes = logits.shape[1]
    others = [[j for j in range(classes) if j != c] for c in range(classes)]
    return logits - join.reduce(logits[:, others], axis=2)


def _sigmoid(logits: Values) -> Values:
    return np.exp(-np.logaddexp(0, -logits))


def _softmax(logits: Values) -> Values:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
