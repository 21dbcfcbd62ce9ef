"""A sentence embedding's likeness to other texts as a set function of its segments."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import (
    check_unseen,
    checked_choice,
    either,
    encode,
    encode_all,
    fingerprint,
    split_marks,
)
from oracles.features.passes.rotary import longest_together
from oracles.features.prompts.prompt import Prompt

EMBEDDING_VALUES = ("cosine", "dot")


class EmbeddingOracle:
    """How like a text's embedding is to a query's when some segments are removed.

    For retrievers: why was this passage found? The embedding is pooled, and scaled to
    length one or not, as the model's folder says (see `pooling.Pooling`); a folder that
    says nothing is pooled by the mean. Making one embeds the intact text.

    What a retriever writes in front of queries or passages ("query: ") is not added:
    write it into the references, and into the prompt as its prefix.

    Args:
        prompt: the text that is embedded; see `prompts.text_prompt`.
        loaded: a sentence encoder.
        references: texts it is compared to, one output each; by default the intact
            prompt itself: what holds its meaning?
        value: "cosine", from -1 to 1, the default; or "dot", the inner product, which
            some retrievers rank by and which is the same for embeddings of length one.
            Neither is a probability, so there is no logit.
        batch_size: texts in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: a reference or value that cannot be used, a text longer than the
            model reads, or than sentence-transformers would read of it, or a model that
            cannot hide tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        references: Sequence[str] = (),
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._value = checked_choice(value, EMBEDDING_VALUES, "value")
        self.players = prompt.players
        if any(not text.strip() for text in references):
            raise InputError("a reference is empty. Name the text to compare with.")
        check_unseen(loaded, prompt, self._tokens, self._run)
        intact = self._vectors(np.ones((1, len(self.players)), dtype=bool))
        compared = embed(loaded, references, batch_size) if references else intact
        self._compared = _unit(compared) if self._value == "cosine" else compared
        named = [f"to {text!r}" for text in references] or ["to the intact text"]
        self.outputs = tuple(f"{self._value} {name}" for name in named)
        self.description: Mapping[str, Any] = {
            "kind": "embedding",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "value": self._value,
            "references": list(references),
            "act": f"find the text like {either(references) or 'the intact one'}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, pooling, prompt and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded)

    def evaluate(self, masks: Masks) -> Values:
        """Likeness to every reference under every mask, (m, k)."""
        vectors = self._vectors(masks)
        if self._value == "cosine":
            vectors = _unit(vectors)
        return vectors @ self._compared.T

    def _vectors(self, masks: Masks) -> NDArray[np.float64]:
        return self._run(self._tokens(masks))

    def _tokens(self, masks: Masks) -> list[list[int]]:
        return encode_all(self._loaded, self._prompt, masks)

    def _run(self, sequences: list[list[int]]) -> NDArray[np.float64]:
        return _embed(self._loaded, sequences, self._batch_size)


def embed(
    loaded: LoadedModel,
    texts: Sequence[str],
    batch_size: int | None = None,
    *,
    is_cut: bool = False,
) -> NDArray[np.float64]:
    """Embeddings (m, d) of m texts by a sentence encoder.

    Args:
        loaded: a sentence encoder.
        texts: at least one.
        batch_size: see `batching.score_in_batches`.
        is_cut: whether of texts longer than it reads the beginnings are embedded.

    Raises:
        InputError: it is another kind of model, or a text is longer than it reads and
            not to be cut.
    """
    return _embed(loaded, encode(loaded, texts, is_cut=is_cut), batch_size)


def _embed(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], batch_size: int | None
) -> NDArray[np.float64]:
    model, pool = loaded.model, loaded.pooling
    if pool is None:
        raise InputError(
            f"model={loaded.name!r} is no sentence encoder ({loaded.task}), so it has "
            "no embeddings. Name a sentence-transformers model."
        )

    def score(marked: Any, mask: Any) -> Any:
        ids, mask, _ = split_marks(marked, mask)
        return pool(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    pad = loaded.tokenizer.pad_token_id or 0
    longest = longest_together(model)
    return score_in_batches(
        sequences, score, batch_size, pad, device_of(model), longest=longest
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)
