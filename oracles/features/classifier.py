"""A sequence classifier's answer as a set function of the text's segments."""

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

CLASSIFIER_VALUES = ("log-odds", "logit", "probability")


class ClassifierOracle:
    """What a classifier says of a class when some segments are removed.

    Making one runs the model once on the intact text, to find the class it predicts.

    Args:
        text: what is classified.
        loaded: a sequence classifier.
        segments: kind of segment; see `segments.split`.
        target: class to explain, by name or index; the predicted one by default;
            "all" for one output per class.
        value: "log-odds", log p / (1 - p), the default: effects add up on this scale,
            and it does not saturate as the probability does; "logit", the raw score;
            or "probability".
        removal: "delete" or "mask"; see `removal.make_ablator`.
        batch_size: texts in one forward pass.

    Raises:
        InputError: a text, segments, target, value or removal that cannot be used.
    """

    def __init__(
        self,
        text: str,
        loaded: LoadedModel,
        *,
        segments: str = "word",
        target: str | None = None,
        value: str | None = None,
        removal: str = "delete",
        batch_size: int = 64,
    ) -> None:
        self._loaded, self._batch_size = loaded, batch_size
        self._labels = _labels(loaded.model.config)
        self._value = _checked_value(value, len(self._labels))
        cut = split(text, segments, loaded.tokenizer)
        self._ablator = make_ablator(text, cut, removal, loaded.tokenizer)
        self.players = tuple(segment.of(text) for segment in cut)
        intact = self._logits([text])[0]
        self._targets = self._find_targets(target, intact)
        names = [self._labels[t] for t in self._targets]
        self.outputs = tuple(f"{self._value} of {name}" for name in names)
        predicted = int(intact.argmax())
        self.description: Mapping[str, Any] = {
            "kind": "text-classifier",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            "text": text,
            "spans": [[segment.start, segment.end] for segment in cut],
            "segments": segments,
            "removal": removal,
            "value": self._value,
            "targets": names,
            "prediction": self._labels[predicted],
            "prediction_probability": float(_softmax(intact[None])[0, predicted]),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, text and settings, not of the batch size."""
        skipped = ("prediction", "prediction_probability", "model")
        settings = {k: v for k, v in self.description.items() if k not in skipped}
        return fingerprint_of({**settings, "weights": self._loaded.digest})

    def evaluate(self, masks: Masks) -> Values:
        """The targets' values under every mask, (m, k)."""
        logits = self._logits(self._ablator.write_all(masks))
        return _values_of(logits, self._value)[:, self._targets]

    def _logits(self, texts: list[str]) -> Values:
        tokenizer, model = self._loaded.tokenizer, self._loaded.model
        empty = [_blank_token(tokenizer)]  # some tokenizers make nothing of no text
        ids = [row or empty for row in tokenizer(texts, verbose=False)["input_ids"]]
        _check_length(max(map(len, ids)), _max_length(tokenizer, model))

        def score(batch: Any, mask: Any) -> Any:
            return model(input_ids=batch, attention_mask=mask).logits.float()

        pad = tokenizer.pad_token_id or 0
        return score_in_batches(ids, score, self._batch_size, pad, model.device)

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


def _labels(config: Any) -> list[str]:
    return [str(config.id2label[i]) for i in range(config.num_labels)]


def _blank_token(tokenizer: Any) -> int:
    known = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    return next((token for token in known if token is not None), 0)


def _checked_value(value: str | None, num_labels: int) -> str:
    if num_labels == 1 and value in (None, "logit"):
        return "logit"
    if num_labels == 1:
        raise InputError(
            f"value={value!r} needs classes, and this model has a single score. Use "
            'value="logit".'
        )
    if value not in (None, *CLASSIFIER_VALUES):
        raise InputError(
            f"value={value!r} is not known for a classifier. Choose from "
            f"{', '.join(CLASSIFIER_VALUES)}."
        )
    return value or "log-odds"


def _max_length(tokenizer: Any, model: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(tokenizer.model_max_length, positions or tokenizer.model_max_length)


def _check_length(tokens: int, allowed: int) -> None:
    if tokens > allowed:
        raise InputError(
            f"the text has {tokens} tokens and this model reads {allowed}. Shorten the "
            "text, or use a model with a longer context; it is never cut silently."
        )


def _values_of(logits: Values, value: str) -> Values:
    """Logits (m, classes) as the value asked for."""
    if value == "logit":
        return logits
    if value == "probability":
        return _softmax(logits)
    # log p_c / (1 - p_c) = z_c - log sum of exp over the other classes
    classes = logits.shape[1]
    others = [[j for j in range(classes) if j != c] for c in range(classes)]
    return logits - np.logaddexp.reduce(logits[:, others], axis=2)


def _softmax(logits: Values) -> Values:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
