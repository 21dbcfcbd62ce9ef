"""Log-probabilities of many continuations by a causal model, common prefixes once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.errors import ModelError
from oracles.features.models.weights import device_of
from oracles.features.passes.batching import (
    cut_by_length,
    padded_tokens,
    tokens_in_batch,
)
from oracles.features.passes.causal_pass import (
    LOGITS,
    Cached,
    Row,
    Scored,
    has_plain_cache,
    run_pass,
    takes,
)
from oracles.features.passes.rotary import longest_together
from oracles.features.passes.sharing import Sharing, nothing_shared, share_prefixes
from oracles.features.passes.workers import Batch, run_batches

CACHE_BYTES = 2**29  # of keys and values held for sequences still to come
BATCH_CACHE_BYTES = 2**26  # of these in one forward pass
WORTH_SHARING = 0.9  # of the time without
PAST_TOKEN = 0.3  # of the time to compute a token: to use one computed before
PROBE = 12  # tokens


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Sequences that share prefixes, and what others will need of them."""

    scored: list[Scored]
    sharing: Sharing
    lent: list[int]
    cached: dict[int, Cached] = field(default_factory=dict)

    @cached_property
    def new(self) -> list[int]:
        """How many tokens of each sequence it computes."""
        shared = self.sharing.shared
        return [len(s.ids) - n for s, n in zip(self.scored, shared, strict=True)]

    def row(self, i: int) -> Row:
        """The sequence with what has been computed of it."""
        donor = self.sharing.donors[i]
        cached = self.cached[donor] if donor >= 0 else None
        return Row(self.scored[i], self.sharing.shared[i], cached, self.lent[i])


class CachedModel:
    """A causal language model that computes what sequences have in common once.

    Sequences in lexicographic order lend one another keys and values (see `sharing`).
    A trial with a few tokens decides whether the model's cache allows it; where it does
    not, as with sliding windows or recurrent states, each sequence runs on its own; and
    all by itself if another's length would change its values (see `rotary`).

    Args:
        model: a Hugging Face causal language model.
        batch_size: rows in one forward pass; by default as many as a number of tokens
            allows.
        is_sharing: turned off only to compare.
    """

    def __init__(
        self, model: Any, batch_size: int | None = None, *, is_sharing: bool = True
    ) -> None:
        self.model, self.batch_size = model, batch_size
        self._longest = longest_together(model)
        self._bytes_a_token: int | None = None if is_sharing else 0

    def log_probabilities(self, scored: Sequence[Scored]) -> list[NDArray[np.float64]]:
        """For each, the natural logs of its tokens' and then its lasts' probabilities.

        Raises:
            ModelError: one sequence alone does not fit in memory.
        """
        distinct = sorted(dict.fromkeys(scored), key=lambda one: one.keys.tobytes())
        together = [one for one in distinct if one.length <= self._longest]
        chunks = self._chunks(together) if together else []
        chunks += [_apart([one]) for one in distinct if one.length > self._longest]
        found: dict[Scored, NDArray[np.float64]] = {}
        for chunk in chunks:
            if not self._fits(chunk, found):
                left = [one for one in chunk.scored if one not in found]
                self._run(_apart(left), range(len(left)), found)
        return [found[one] for one in scored]

    def _fits(self, chunk: _Chunk, found: dict[Scored, NDArray[np.float64]]) -> bool:
        """Compute a chunk, unless what it holds leaves no room for one sequence.

        Then its keys and values are dropped.
        """
        try:
            for level in chunk.sharing.levels:
                self._run(chunk, level, found)
        except ModelError:
            if not chunk.cached:
                raise
            chunk.cached.clear()
            return False
        return True

    def _run(
        self,
        chunk: _Chunk,
        level: Sequence[int],
        found: dict[Scored, NDArray[np.float64]],
    ) -> None:
        """Compute a level of a chunk; what it finds and lends is written down."""

        def work(batch: Batch) -> list[tuple[NDArray[np.float64], Cached]]:
            return run_pass(self.model, [chunk.row(i) for i in batch])

        for batch, rows in run_batches(
            self._cut(chunk, level), work, device_of(self.model)
        ):
            for i, (values, cached) in zip(batch, rows, strict=True):
                found[chunk.scored[i]] = values
                if cached is not None:
                    chunk.cached[i] = cached

    def _chunks(self, scored: list[Scored]) -> list[_Chunk]:
        """Neighbours whose keys and values together stay within the limit.

        Or all together without sharing, if that takes no longer.
        """
        alone = [_apart(scored)]
        size = self._measure(max(scored, key=lambda one: len(one.ids)))
        if not size:
            return alone
        parts: list[list[Scored]] = []
        held = CACHE_BYTES
        for one in scored:
            held += size * len(one.ids)
            if held > CACHE_BYTES:
                parts.append([])
                held = size * len(one.ids)
            parts[-1].append(one)
        chunks = [_shared(part) for part in parts]
        is_worth_it = self._cost(chunks) < WORTH_SHARING * self._cost(alone)
        return chunks if is_worth_it else alone

    def _cost(self, chunks: Sequence[_Chunk]) -> float:
        """About how long they take, in tokens computed."""
        total = 0.0
        for chunk in chunks:
            total += PAST_TOKEN * sum(chunk.sharing.shared)
            for level in chunk.sharing.levels:
                total += padded_tokens(chunk.new, self._cut(chunk, level))
        return total

    def _cut(self, chunk: _Chunk, level: Sequence[int]) -> list[Batch]:
        """A level's sequences, those with most new tokens first, cut into batches."""
        new = [chunk.new[i] for i in level]
        asked = max(len(chunk.scored[i].ids) - chunk.scored[i].first for i in level)
        past = max(chunk.sharing.shared[i] for i in level)
        vocabulary = self.model.config.get_text_config().vocab_size
        most_rows = min(
            LOGITS // (asked * vocabulary),
            BATCH_CACHE_BYTES // max(1, past * (self._bytes_a_token or 0)),
        )
        tokens = tokens_in_batch(sum(new), device_of(self.model))
        batches = cut_by_length(new, self.batch_size, tokens, max(1, most_rows))
        return [[level[i] for i in batch] for batch in batches]

    def _measure(self, example: Scored) -> int:
        """Bytes of a token's keys and values; 0 where these cannot be shared."""
        if self._bytes_a_token is None and len(example.ids) >= PROBE:
            self._bytes_a_token = _trial(self.model, example)
        return self._bytes_a_token or 0


def _apart(scored: list[Scored]) -> _Chunk:
    return _Chunk(scored, nothing_shared(len(scored)), [0] * len(scored))


def _shared(scored: list[Scored]) -> _Chunk:
    # what predicts the first scored token is computed by each for itself
    sharing = share_prefixes(
        [one.keys for one in scored], [one.first for one in scored]
    )
    return _Chunk(scored, sharing, sharing.lent())


def _trial(model: Any, example: Scored) -> int:
    """Bytes of a token's keys and values, if continuing them gives the same values."""
    import torch

    if not takes(model, "position_ids"):
        return 0
    ids, last = example.ids[:PROBE], example.ids[-1:]
    whole = [Scored(ids, 0, last), Scored(ids[: PROBE - 2], 0, last)]
    try:
        with torch.inference_mode():
            batch = torch.tensor([ids], device=device_of(model))
            if not has_plain_cache(model(input_ids=batch, use_cache=True)):
                return 0
            alone = [run_pass(model, [Row(one)])[0][0] for one in whole]
            [(_, cached)] = run_pass(model, [Row(whole[0], lent=PROBE - 4)])
            rows = [
                Row(Scored(one.ids, 7 - i, last), 7 - i - 2 * i, cached)
                for i, one in enumerate(whole)
            ]
            continued = [values for values, _ in run_pass(model, rows)]
    except Exception:  # architectures refuse a cache in ways of their own
        return 0
    near = torch.finfo(model.dtype).eps ** 0.5
    agree = all(
        np.allclose(after, before[-len(after) :], rtol=near, atol=near)
        for after, before in zip(continued, alone, strict=True)
    )
    return cached.element_size() * cached[:, :, 0].numel() if agree else 0
