"""Laws of the passes: contract, company, sharing, hooks, threads, fingerprints."""

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.components import ComponentOracle, Directions, TaskPrompt
from oracles.features import LoadedModel
from oracles.testing import OracleContract

from .conftest import PROMPTS, Make


class Contract(OracleContract):
    """The public contract over one model and one choice of settings."""

    architecture = "GPT2LMHeadModel"
    prompts = PROMPTS
    settings: dict[str, Any] = {}  # noqa: RUF012 # never changed

    @pytest.fixture(autouse=True)
    def _load(self, make: Make) -> None:
        self.loaded = make(self.architecture)

    def make_oracle(self) -> ComponentOracle:
        return ComponentOracle(self.loaded, self.prompts, **self.settings)


class TestHeads(Contract):
    pass


class TestResampledEachPrompt(Contract):
    architecture = "LlamaForCausalLM"
    settings = {"ablation": "resample", "unit": "head+mlp", "per_prompt": True}  # noqa: RUF012


class TestNeuronsByDivergence(Contract):
    architecture = "GPTNeoXForCausalLM"
    settings = {"unit": "neuron", "ablation": "mean", "behaviour": "kl"}  # noqa: RUF012


class TestListedNeurons(Contract):
    settings = {  # noqa: RUF012
        "unit": "neuron",
        "groups": [[(0, 1), (0, 5)], [(1, 0)], [(1, n) for n in range(2, 90)]],
        "behaviour": "log-prob",
    }


class TestDirections(Contract):
    settings = {  # noqa: RUF012
        "unit": "direction",
        "directions": Directions(0, np.random.default_rng(0).normal(size=(5, 24))),
    }


class TestMaskedLayers(Contract):
    architecture = "BertForMaskedLM"
    prompts = [TaskPrompt(f"{p.text} [MASK] .", p.answer, p.wrong) for p in PROMPTS]  # noqa: RUF012
    settings = {"unit": "layer"}  # noqa: RUF012


class TestClassifier(Contract):
    architecture = "BertForSequenceClassification"
    prompts = [TaskPrompt(p.text, "LABEL_1") for p in PROMPTS]  # noqa: RUF012
    settings = {"behaviour": "margin", "ablation": "mean"}  # noqa: RUF012


@pytest.fixture(scope="module")
def loaded(make: Make) -> LoadedModel:
    return make("GPT2LMHeadModel")


MASKS = np.random.default_rng(3).random((9, 12)) < 0.7


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=6), size=st.integers(1, 7))
def test_values_do_not_depend_on_batches(
    loaded: LoadedModel, rows: list[int], size: int
) -> None:
    whole = ComponentOracle(loaded, PROMPTS, ablation="resample").evaluate(MASKS)
    small = ComponentOracle(loaded, PROMPTS, ablation="resample", batch_size=size)
    assert np.allclose(small.evaluate(MASKS[rows]), whole[rows], atol=1e-5)


def test_a_decoder_with_a_class_head_and_no_padding_runs_row_by_row(
    make: Make,
) -> None:
    prompts = [TaskPrompt(p.text, "LABEL_1", "LABEL_0") for p in PROMPTS]
    padded = make("GPT2ForSequenceClassification")
    bare = make("GPT2ForSequenceClassification", pad_token_id=None)
    masks = MASKS[:3]
    expected = ComponentOracle(padded, prompts).evaluate(masks)
    assert np.allclose(ComponentOracle(bare, prompts).evaluate(masks), expected)


def calls_of(module: Any, counts: Counter[str], name: str) -> Any:
    def count(module: Any, args: Any, output: Any) -> None:
        counts[name] += len(output)

    return module.register_forward_hook(count)


def test_lower_layers_run_once_for_each_prompt(loaded: LoadedModel) -> None:
    oracle = ComponentOracle(loaded, PROMPTS)
    masks = np.ones((20, 12), dtype=bool)
    masks[:, 8:] = np.random.default_rng(0).random((20, 4)) < 0.5
    masks[:, 8] = False  # the lowest that is ablated is in the last layer
    counts: Counter[str] = Counter()
    blocks = loaded.model.transformer.h
    hooks = [calls_of(b.attn.c_proj, counts, str(i)) for i, b in enumerate(blocks)]
    try:
        fresh = ComponentOracle(loaded, PROMPTS)
        counts.clear()
        values = fresh.evaluate(masks)
        first = dict(counts)
        fresh.evaluate(masks)
    finally:
        for hook in hooks:
            hook.remove()
    assert first.get("2", 0) >= 20 * len(PROMPTS)
    assert first.get("0", 0) in (0, len(PROMPTS))  # known already, or run once
    assert counts["0"] == first.get("0", 0)
    # a mask that begins lower goes the whole way and meets the same numbers
    assert np.allclose(values, oracle.evaluate(masks), atol=1e-6)


def traces(model: Any) -> tuple[int, int, list[str]]:
    """Hooks in a model, forwards of instances, and its parameters."""
    hooks = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()
    )
    forwards = sum("forward" in m.__dict__ for m in model.modules())
    return hooks, forwards, [str(p.sum().item()) for p in model.parameters()]


def test_nothing_is_left_in_the_model(loaded: LoadedModel) -> None:
    before = traces(loaded.model)
    ComponentOracle(loaded, PROMPTS, unit="head+mlp").evaluate(np.eye(15, dtype=bool))
    assert traces(loaded.model) == before


class Broken(Exception):
    pass


def test_nothing_is_left_in_the_model_after_an_error(make: Make) -> None:
    loaded = make("GPT2LMHeadModel")
    oracle = ComponentOracle(loaded, PROMPTS)

    def fail(module: Any, args: Any, output: Any) -> None:
        raise Broken

    hook = loaded.model.transformer.h[1].mlp.register_forward_hook(fail)
    before = traces(loaded.model)
    with pytest.raises(Broken):
        oracle.evaluate(MASKS)
    with pytest.raises(Broken):
        ComponentOracle(loaded, PROMPTS)
    assert traces(loaded.model) == before
    hook.remove()
    fresh = ComponentOracle(loaded, PROMPTS)
    assert np.allclose(oracle.evaluate(MASKS), fresh.evaluate(MASKS), atol=1e-6)


def test_a_forward_of_ones_own_is_put_back(make: Make) -> None:
    loaded = make("GPT2LMHeadModel")  # as device maps set it
    block = loaded.model.transformer.h[0]
    expected = ComponentOracle(loaded, PROMPTS).evaluate(MASKS)
    own = block.forward
    block.forward = own
    values = ComponentOracle(loaded, PROMPTS).evaluate(MASKS)
    assert block.__dict__["forward"] == own
    assert np.allclose(values, expected, atol=1e-6)


def test_two_oracles_of_one_model_take_turns(loaded: LoadedModel) -> None:
    oracles = [
        ComponentOracle(loaded, PROMPTS, ablation=ablation)
        for ablation in ("zero", "mean", "resample")
    ]
    expected = [oracle.evaluate(MASKS) for oracle in oracles]
    before, found = traces(loaded.model), [expected[0]] * len(oracles)

    def work(number: int) -> None:
        for _ in range(5):
            found[number] = oracles[number].evaluate(MASKS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, expected))  # noqa: B905
    assert traces(loaded.model) == before


def test_the_model_may_be_used_meanwhile_undisturbed(loaded: LoadedModel) -> None:
    oracle = ComponentOracle(loaded, PROMPTS)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        seen = []
        with oracle._evaluation._passes.hooked():
            seen.append(loaded.model(input_ids=ids).logits)
    assert torch.equal(before, seen[0])


def test_the_fingerprint_knows_what_changes_values(
    make: Make, loaded: LoadedModel
) -> None:
    matrix = np.eye(24)[:2]
    made = [
        ComponentOracle(loaded, PROMPTS),
        ComponentOracle(loaded, PROMPTS[:2]),
        ComponentOracle(loaded, PROMPTS, unit="mlp"),
        ComponentOracle(loaded, PROMPTS, layers=[1]),
        ComponentOracle(loaded, PROMPTS, ablation="zero"),
        ComponentOracle(loaded, PROMPTS, ablation="mean", reference=["a cat"]),
        ComponentOracle(loaded, PROMPTS, ablation="resample"),
        ComponentOracle(loaded, PROMPTS, behaviour="log-prob"),
        ComponentOracle(loaded, PROMPTS, per_prompt=True),
        ComponentOracle(
            loaded, PROMPTS, unit="direction", directions=Directions(0, matrix)
        ),
        ComponentOracle(
            loaded, PROMPTS, unit="direction", directions=Directions(0, 2 * matrix + 1)
        ),
        ComponentOracle(make("GPT2LMHeadModel", n_inner=12), PROMPTS),
    ]
    assert len({oracle.fingerprint for oracle in made}) == len(made)
    again = ComponentOracle(loaded, PROMPTS, batch_size=2)
    assert again.fingerprint == made[0].fingerprint
