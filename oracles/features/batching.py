"""Running token sequences of different lengths through a model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[int]
Score = Callable[[Any, Any], Any]
"""From ids (rows, length) and attention mask, as tensors, to scores (rows, k)."""


def score_in_batches(
    sequences: Sequence[Tokens], score: Score, batch_size: int, pad: int, device: Any
) -> NDArray[np.float64]:
    """Scores (m, k) of m token sequences, equal ones computed once.

    Sequences are sorted by length and padded on the right to the longest of their
    batch, so that nothing is padded beyond its neighbours.
    """
    import torch

    place = {key: i for i, key in enumerate(dict.fromkeys(map(tuple, sequences)))}
    distinct = list(place)
    order = sorted(range(len(distinct)), key=lambda i: -len(distinct[i]))
    rows: dict[int, NDArray[np.float64]] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        longest = len(distinct[chosen[0]])
        ids = torch.full((len(chosen), longest), pad)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chosen):
            ids[row, : len(distinct[i])] = torch.tensor(distinct[i])
            mask[row, : len(distinct[i])] = 1
        with torch.inference_mode():
            scores = score(ids.to(device), mask.to(device)).double().cpu().numpy()
        rows.update(zip(chosen, scores, strict=True))
    return np.stack([rows[place[tuple(tokens)]] for tokens in sequences])
