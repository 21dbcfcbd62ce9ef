"""Frozen embeddings of texts, for heads to be trained on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oracles.errors import InputError


def embed_texts(
    texts: Sequence[str], model: str, *, device: str | None = None
) -> NDArray[np.float64]:
    """Unit-length embeddings (n, d) of texts by a sentence encoder or a classifier.

    A classifier's are the mean of its last layer's tokens, without its head. Texts
    longer than the model reads are cut, as sentence-transformers does.

    Args:
        texts: the n texts.
        model: an embedded model, a local folder, or a name on the Hugging Face hub.
        device: such as "cpu" or "cuda:0"; a GPU if there is one, by default.

    Raises:
        InputError: no texts, an empty one, or a model that is neither.
        ModelError: torch or transformers is missing, or the model cannot be loaded.
    """
    from oracles.features.embedding import embed
    from oracles.features.models.loading import load_model
    from oracles.features.models.pooling import Pooling

    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty or not len(texts):
        raise InputError(f"texts {empty[:5]} of {len(texts)} are empty; give some.")
    loaded = load_model(model, device=device)
    if loaded.task == "text-classifier":
        body = loaded.model.base_model
        loaded = replace(loaded, model=body, task="embedding", pooling=Pooling())
    fitting = loaded.tokenizer(
        list(texts),
        truncation=True,
        max_length=loaded.max_tokens,
        return_offsets_mapping=True,
        add_special_tokens=True,
    )["offset_mapping"]
    ends = [max(end for _, end in spans) for spans in fitting]
    vectors = embed(loaded, [t[:end] for t, end in zip(texts, ends, strict=True)])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
