"""Running token sequences of different lengths through a model."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.features.passes.workers import Batch, num_workers, run_batches

Tokens = Sequence[int]
Score = Callable[..., Any]
"""From ids (rows, length) and attention mask, as tensors, to scores (rows, k)."""

# Padded tokens in one forward pass. On a CPU more than these no longer fit its caches:
# tokens a second fall from there on (benchmarks/throughput.py).
CPU_TOKENS = 1024
ACCELERATOR_TOKENS = 16_384
PASS_TOKENS = 64  # which take as long as what a pass costs besides its tokens
FEWEST_TOKENS = 256  # worth a pass of their own, for the sake of a thread without work


def score_in_batches(
    sequences: Sequence[Tokens],
    score: Score,
    batch_size: int | None,
    pad: int,
    device: Any,
    *,
    longest: int = sys.maxsize,
) -> NDArray[np.float64]:
    """Scores (m, k) of m token sequences, equal ones computed once.

    Sequences are sorted by length, cut into batches by their tokens, and padded on the
    right to the longest of their batch, so that nothing is padded beyond its
    neighbours.

    Args:
        sequences: m token sequences, none empty.
        score: from ids and attention mask (rows, length), tensors on the device, to
            scores (rows, k), each row's independent of the others. On a CPU it is
            called from several threads.
        batch_size: rows in one forward pass; by default as many as make up 1,024
            tokens on a CPU and 16,384 elsewhere.
        pad: token to pad with.
        device: where the model is.
        longest: longer sequences run alone, one after the other; see
            `rotary.longest_together`.

    Raises:
        ModelError: one sequence alone does not fit in memory.
    """
    place = {key: i for i, key in enumerate(dict.fromkeys(map(tuple, sequences)))}
    distinct = list(place)
    lengths = [len(tokens) for tokens in distinct]

    def work(batch: Batch) -> NDArray[np.float64]:
        import torch

        ids, mask = padded([distinct[i] for i in batch], pad)
        scores = score(
            torch.as_tensor(ids, device=device), torch.as_tensor(mask, device=device)
        )
        return scores.double().cpu().numpy()

    rows: dict[int, NDArray[np.float64]] = {}
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] > longest)
    together = [length for length in lengths if length <= longest]
    limit = tokens_in_batch(sum(together), device)
    batches = cut_by_length(together, batch_size, limit)
    passes = [[[order[i] for i in batch] for batch in batches]]
    passes += [[[i]] for i in order[len(together) :]]
    for some in passes:
        for batch, scores in run_batches(some, work, device):
            rows.update(zip(batch, scores, strict=True))
    return np.stack([rows[place[tuple(tokens)]] for tokens in sequences])


def tokens_in_batch(total: int, device: Any) -> int:
    """Padded tokens in one forward pass: fewer if a thread had nothing to do else."""
    import torch

    if torch.device(device).type != "cpu":
        return ACCELERATOR_TOKENS
    share = -(-total // num_workers(device))
    return min(CPU_TOKENS, max(FEWEST_TOKENS, share))


def cut_by_length(
    lengths: Sequence[int],
    batch_size: int | None,
    tokens: int,
    most_rows: int | None = None,
) -> list[Batch]:
    """Numbers of the sequences, the longest first, cut into batches.

    A batch has `batch_size` rows if that is given. Else batches are cut for the least
    padding, each counted as `PASS_TOKENS` more, and have no more than so many tokens
    when padded and so many rows, but at least one row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if batch_size is not None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    costs, starts = [0.0], [0]  # of the best cut of the first so many
    for end in range(1, len(order) + 1):
        best, start = float("inf"), end - 1
        for first in range(end - 1, -1, -1):
            rows, longest = end - first, lengths[order[first]]
            if rows > 1 and (rows * longest > tokens or rows > (most_rows or rows)):
                break
            cost = costs[first] + rows * longest + PASS_TOKENS
            if cost < best:
                best, start = cost, first
        costs.append(best)
        starts.append(start)
    batches, end = [], len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


def padded_tokens(lengths: Sequence[int], batches: Sequence[Batch]) -> int:
    """What running these batches costs, in tokens."""
    widths = [max(lengths[i] for i in batch) for batch in batches]
    padded = sum(len(b) * width for b, width in zip(batches, widths, strict=True))
    return padded + PASS_TOKENS * len(batches)


def padded(
    rows: Sequence[Tokens], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of different length as one array, and its attention mask."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
