"""How sequences are put together never shows in what comes out."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import ModelError
from oracles.features import load_model
from oracles.features.passes import batching
from oracles.features.passes.batching import cut_by_length, score_in_batches
from oracles.features.passes.causal_pass import Scored
from oracles.features.passes.prefix_cache import CachedModel
from oracles.features.passes.rotary import longest_together
from oracles.features.passes.sharing import share_prefixes

FACTS = load_model("facts").model
SENTIMENT = load_model("sentiment").model
TOLERANCE = 1e-4

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(lengths, st.integers(1, 200), st.none() | st.integers(1, 9))
def test_every_sequence_is_in_one_batch_that_is_not_too_large(
    lengths: list[int], tokens: int, most_rows: int | None
) -> None:
    batches = cut_by_length(lengths, None, tokens, most_rows)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or padded <= tokens
        assert len(batch) <= (most_rows or len(batch))


@given(lengths, st.integers(1, 50))
def test_a_batch_size_is_obeyed(lengths: list[int], size: int) -> None:
    sizes = [len(batch) for batch in cut_by_length(lengths, size, tokens=1)]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= size


@given(lengths)
def test_no_cut_into_neighbours_costs_less(lengths: list[int]) -> None:
    def cost(batches: list[list[int]]) -> float:
        return batching.padded_tokens(lengths, batches)

    found = cut_by_length(lengths, None, tokens=10**6)
    order = [i for batch in found for i in batch]
    for size in (1, 2, 5, len(order)):
        other = [order[i : i + size] for i in range(0, len(order), size)]
        assert cost(found) <= cost(other)


texts = st.lists(st.lists(st.integers(5, 400), min_size=1, max_size=40), min_size=1)


@settings(max_examples=25, deadline=None)
@given(texts, st.sampled_from([None, 1, 2, 7]), st.integers(1, 300), st.randoms())
def test_batches_do_not_change_what_an_encoder_says(
    texts: list[list[int]], size: int | None, tokens: int, random: Any
) -> None:
    def score(ids: Any, mask: Any) -> Any:
        return SENTIMENT(input_ids=ids, attention_mask=mask).logits

    order = list(range(len(texts)))
    random.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "CPU_TOKENS", tokens)
        patch.setattr(batching, "FEWEST_TOKENS", 1)
        found = score_in_batches([texts[i] for i in order], score, size, 0, "cpu")
    with torch.inference_mode():
        alone = [SENTIMENT(input_ids=torch.tensor([text])).logits[0] for text in texts]
    expected = torch.stack(alone).numpy()[order]
    assert np.allclose(found, expected, atol=TOLERANCE)


token = st.integers(5, 400)
heads = st.lists(st.lists(token, min_size=1, max_size=30), min_size=1, max_size=3)
tails = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.lists(token, max_size=12)),
    min_size=2,
    max_size=14,
)


def as_asked(
    heads: list[list[int]], tails: list[tuple[int, int, list[int]]]
) -> list[Scored]:
    """Sequences that begin like one another, each with something to score."""
    asked = []
    for head, kept, tail in tails:
        ids = (3, *heads[head % len(heads)][:kept], *tail, 7, 8)
        asked.append(Scored(ids, len(ids) - 1 - len(tail) % 3, (11, 12)))
    return asked


def alone(asked: Scored, model: Any = FACTS) -> list[float]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([asked.ids])).logits[0].double()
    logs = logits.log_softmax(dim=-1)
    steps = range(asked.first, len(asked.ids) - 1)
    inner = [float(logs[i, asked.ids[i + 1]]) for i in steps]
    return inner + [float(logs[-1, last]) for last in asked.lasts]


@settings(max_examples=25, deadline=None)
@given(heads, tails, st.sampled_from([None, 1, 3]), st.integers(1, 300))
def test_shared_prefixes_do_not_change_what_a_causal_model_says(
    heads: list[list[int]],
    tails: list[tuple[int, int, list[int]]],
    size: int | None,
    tokens: int,
) -> None:
    asked = as_asked(heads, tails)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "CPU_TOKENS", tokens)
        patch.setattr("oracles.features.passes.prefix_cache.WORTH_SHARING", np.inf)
        patch.setattr("oracles.features.passes.sharing.SHORTEST_SHARED", 1)
        shared = CachedModel(FACTS, size).log_probabilities(asked)
        apart = CachedModel(FACTS, size, is_sharing=False).log_probabilities(asked)
    for one, with_cache, without in zip(asked, shared, apart, strict=True):
        expected = alone(one)
        assert np.allclose(with_cache, expected, atol=TOLERANCE)
        assert np.allclose(without, expected, atol=TOLERANCE)


@given(heads, tails)
def test_sharing_computes_every_prefix_once(
    heads: list[list[int]], tails: list[tuple[int, int, list[int]]]
) -> None:
    asked = sorted(
        dict.fromkeys(as_asked(heads, tails)), key=lambda one: one.keys.tobytes()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oracles.features.passes.sharing.SHORTEST_SHARED", 1)
        sharing = share_prefixes([one.keys for one in asked], [10**6] * len(asked))
    prefixes = {one.ids[:i] for one in asked for i in range(1, len(one.ids) + 1)}
    computed = sum(len(one.ids) for one in asked) - sum(sharing.shared)
    assert computed == len(prefixes)
    assert len(sharing.levels) <= 1 + np.log2(len(asked))
    level = {i: k for k, some in enumerate(sharing.levels) for i in some}
    for i, (donor, shared) in enumerate(
        zip(sharing.donors, sharing.shared, strict=True)
    ):
        if donor >= 0:
            assert level[donor] < level[i]
            assert asked[donor].ids[:shared] == asked[i].ids[:shared]


def test_a_pinned_prefix_runs_through_the_model_once() -> None:
    counted = Counting(FACTS)
    prefix = tuple(range(20, 220))
    asked = [Scored((*prefix, 5 + i, 9), 200, (7,)) for i in range(30)]
    found = CachedModel(counted).log_probabilities(asked)
    assert counted.tokens < 200 + 30 * 2 + 200  # with a trial and some padding
    expected = CachedModel(FACTS, is_sharing=False).log_probabilities(asked)
    assert np.allclose(found, expected, atol=TOLERANCE)


class Counting:
    """A model that counts tokens, and may hold no more than so many rows."""

    def __init__(self, model: Any, most_rows: int = 10**6, message: str = "") -> None:
        self.model, self.most_rows, self.message = model, most_rows, message
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self.forward, self.modules = model.forward, model.modules
        self.tokens = 0
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, input_ids: Any, **arguments: Any) -> Any:
        self.sizes.append(len(input_ids))
        self.threads.add(threading.get_ident())
        if len(input_ids) > self.most_rows:
            if self.message:
                raise RuntimeError(self.message)
            raise MemoryError
        self.tokens += input_ids.numel()
        return self.model(input_ids=input_ids, **arguments)


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
    "",
)


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_out_of_memory_halves_the_batch_and_goes_on(message: str) -> None:
    model = Counting(SENTIMENT, most_rows=3, message=message)
    texts = [[5 + i, 6, 7] for i in range(64)]

    def score(ids: Any, mask: Any) -> Any:
        return model(input_ids=ids, attention_mask=mask).logits

    found = score_in_batches(texts, score, 16, 0, "cpu")
    with torch.inference_mode():
        expected = SENTIMENT(input_ids=torch.tensor(texts)).logits
    assert np.allclose(found, expected, atol=TOLERANCE)
    # learned once: 16, 8 and 4 rows are tried by the first batch only
    assert [size for size in model.sizes if size > 3] == [16, 8, 4]


def test_the_devices_own_out_of_memory_is_one() -> None:
    def score(ids: Any, mask: Any) -> Any:
        if len(ids) > 1:
            raise torch.OutOfMemoryError("no room")
        return ids[:, :1].float()

    found = score_in_batches([[5], [6], [7]], score, None, 0, "cpu")
    assert found[:, 0].tolist() == [5, 6, 7]


def test_a_causal_model_out_of_memory_halves_the_batch_too() -> None:
    asked = [Scored((3, *range(20, 60), 5 + i, 9), 41, (7,)) for i in range(12)]
    found = CachedModel(Counting(FACTS, most_rows=2)).log_probabilities(asked)
    expected = CachedModel(FACTS).log_probabilities(asked)
    assert np.allclose(found, expected, atol=TOLERANCE)


def test_one_prompt_that_does_not_fit_is_an_error_that_says_so() -> None:
    def score(ids: Any, mask: Any) -> Any:
        raise MemoryError

    with pytest.raises(ModelError, match="one prompt alone does not fit"):
        score_in_batches([[5], [6]], score, None, 0, "cpu")


def test_other_errors_are_not_taken_for_memory() -> None:
    def score(ids: Any, mask: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        score_in_batches([[5], [6]], score, None, 0, "cpu")


def test_equal_sequences_are_computed_once() -> None:
    model = Counting(SENTIMENT)

    def score(ids: Any, mask: Any) -> Any:
        return model(input_ids=ids, attention_mask=mask).logits

    found = score_in_batches([[5, 6], [7], [5, 6], [5, 6]], score, None, 0, "cpu")
    assert sum(model.sizes) == 2
    assert (found[0] == found[2]).all()


@pytest.mark.usefixtures("two_threads")
def test_threads_take_batches_side_by_side_and_change_nothing() -> None:
    model = Counting(SENTIMENT)
    texts = [[5 + i % 50] * (1 + i) for i in range(60)]

    def score(ids: Any, mask: Any) -> Any:
        assert torch.get_num_threads() == 1
        return model(input_ids=ids, attention_mask=mask).logits

    found = score_in_batches(texts, score, 4, 0, "cpu")
    assert threading.get_ident() not in model.threads
    assert torch.get_num_threads() == 2
    with torch.inference_mode():
        for row, text in zip(found, texts, strict=True):
            expected = SENTIMENT(input_ids=torch.tensor([text])).logits[0]
            assert np.allclose(row, expected, atol=TOLERANCE)


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_comes_out() -> None:
    def score(ids: Any, mask: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_in_batches([[5], [6], [7, 8]], score, 1, 0, "cpu")
    assert torch.get_num_threads() == 2


STRETCHED = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "factor": 4.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 24,
    },
}


def stretched(kind: str) -> Any:
    """Of a model whose rotary positions change when a sequence is longer than 24."""
    torch.manual_seed(0)
    return transformers.LlamaConfig(
        vocab_size=401,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24 if kind == "dynamic" else 96,
        rope_scaling=STRETCHED[kind],
        initializer_range=0.5,
        num_labels=2,
        pad_token_id=0,
    )


@pytest.mark.parametrize("kind", STRETCHED)
@settings(max_examples=8, deadline=None)
@given(heads, tails, st.sampled_from([None, 1, 3]))
def test_positions_that_stretch_with_the_longest_do_not_show(
    kind: str,
    heads: list[list[int]],
    tails: list[tuple[int, int, list[int]]],
    size: int | None,
) -> None:
    def fresh() -> Any:
        config = stretched(kind)
        return transformers.LlamaForCausalLM(config).eval()

    asked = as_asked(heads, tails)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oracles.features.passes.prefix_cache.WORTH_SHARING", np.inf)
        patch.setattr("oracles.features.passes.sharing.SHORTEST_SHARED", 1)
        model = CachedModel(fresh(), size)
        assert longest_together(model.model) == 24
        found = model.log_probabilities(asked)
        again = model.log_probabilities(asked[::-1])[::-1]
    for one, first, second in zip(asked, found, again, strict=True):
        expected = alone(one, fresh())
        assert np.allclose(first, expected, atol=TOLERANCE)
        assert np.allclose(second, expected, atol=TOLERANCE)


@pytest.mark.parametrize("kind", STRETCHED)
@pytest.mark.usefixtures("two_threads")
def test_classifiers_that_stretch_run_long_texts_alone(kind: str) -> None:
    def fresh() -> Any:
        config = stretched(kind)
        return transformers.LlamaForSequenceClassification(config).eval()

    model, rng = fresh(), np.random.default_rng(0)
    texts = [rng.integers(5, 400, size=n).tolist() for n in range(8, 44, 3)]

    def score(ids: Any, mask: Any) -> Any:
        return model(input_ids=ids, attention_mask=mask).logits

    longest = longest_together(model)
    found = score_in_batches(texts, score, None, 0, "cpu", longest=longest)
    with torch.inference_mode():
        each = [fresh()(input_ids=torch.tensor([text])).logits[0] for text in texts]
    assert np.allclose(found, torch.stack(each).numpy(), atol=TOLERANCE)


class Allocator:
    """Memory for so many rows at a time, of all threads together."""

    def __init__(self, rows: int) -> None:
        self.rows, self.held, self.lock = rows, 0, threading.Lock()
        self.both = threading.Barrier(2)

    def take(self, ids: Any, mask: Any) -> Any:
        with self.lock:
            self.held += len(ids)
            is_over = self.held > self.rows
        try:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.both.wait(timeout=0.05)  # for another to be inside, if any can
            if is_over:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return ids[:, :1].float()
        finally:
            with self.lock:
                self.held -= len(ids)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [1, 4])
def test_what_does_not_fit_beside_another_thread_runs_alone(size: int) -> None:
    texts = [[5 + i] for i in range(12)]
    memory = Allocator(rows=1)
    found = score_in_batches(texts, memory.take, size, 0, "cpu")
    assert found[:, 0].tolist() == [5 + i for i in range(12)]
    with pytest.raises(ModelError, match="one prompt alone"):
        score_in_batches(texts, Allocator(rows=0).take, size, 0, "cpu")


def test_keys_and_values_are_dropped_where_they_leave_no_room() -> None:
    class Tight(Counting):
        def __call__(self, input_ids: Any, **arguments: Any) -> Any:
            past = arguments.get("past_key_values")
            if past is not None and input_ids.shape[1] < 6:  # not the trial
                raise MemoryError
            return super().__call__(input_ids, **arguments)

    asked = [Scored((3, *range(20, 60), 5 + i, 9), 41, (7,)) for i in range(12)]
    found = CachedModel(Tight(FACTS)).log_probabilities(asked)
    expected = CachedModel(FACTS, is_sharing=False).log_probabilities(asked)
    assert np.allclose(found, expected, atol=TOLERANCE)
