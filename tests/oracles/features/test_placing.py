"""Where a model's weights are put, and in how many bits."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from oracles import ModelError
from oracles.features import CausalOracle, LoadedModel, load_model
from oracles.features.models.weights import check_readable
from oracles.features.prompts.prompt import text_prompt

STORY = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
QUESTION = "Question: In which city does Maria work? Answer:"


def asked(loaded: LoadedModel) -> CausalOracle:
    prompt = text_prompt(STORY, suffix=QUESTION)
    return CausalOracle(prompt, loaded, continuation="Oslo")


def test_a_device_and_a_map_of_devices_are_one_too_many() -> None:
    with pytest.raises(ModelError, match=r"device='cpu'.*device_map='auto'"):
        load_model("facts", device="cpu", device_map="auto")


def test_a_map_puts_the_model_where_it_says() -> None:
    pytest.importorskip("accelerate")
    plain, mapped = load_model("facts"), load_model("facts", device_map="cpu")
    assert asked(mapped).fingerprint == asked(plain).fingerprint


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_are_another_model_that_answers_alike() -> None:
    pytest.importorskip("accelerate")
    quantization = pytest.importorskip("torchao.quantization")
    import transformers

    in_8_bits = transformers.TorchAoConfig(quantization.Int8WeightOnlyConfig())
    plain = asked(load_model("facts"))
    small = asked(load_model("facts", quantization_config=in_8_bits))
    masks = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=bool)
    before, after = plain.evaluate(masks), small.evaluate(masks)
    assert 0 < abs(before - after).max() < 0.1
    assert small.fingerprint != plain.fingerprint


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def some_values(loaded: LoadedModel) -> np.ndarray:
    prompt = text_prompt(STORY, segments="word", suffix=QUESTION)
    oracle = CausalOracle(prompt, loaded, continuation="Oslo", batch_size=2)
    return oracle.evaluate(np.random.default_rng(0).random((16, 14)) < 0.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_threads")
def test_weights_on_disk_are_the_same_model() -> None:
    pytest.importorskip("accelerate")
    plain = load_model("facts")
    kept = ("embed_in", "final_layer_norm", "rotary_emb")
    places = {f"gpt_neox.{name}": "cpu" for name in kept}
    places |= {"gpt_neox.layers": "disk", "lm_head": "cpu", "embed_out": "cpu"}
    mapped = load_model("facts", device_map=places)
    assert any(tensor.is_meta for tensor in mapped.model.state_dict().values())
    assert asked(mapped).fingerprint == asked(plain).fingerprint
    assert np.allclose(some_values(mapped), some_values(plain), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_threads")
def test_weights_moved_out_after_loading_are_the_same_model() -> None:
    accelerate = pytest.importorskip("accelerate")
    plain, moved = load_model("facts"), load_model("facts")
    accelerate.cpu_offload(moved.model, execution_device=torch.device("cpu"))
    moved = dataclasses.replace(moved)
    assert asked(moved).fingerprint == asked(plain).fingerprint
    assert np.allclose(some_values(moved), some_values(plain), atol=1e-4)


def test_weights_that_are_nowhere_are_refused() -> None:
    loaded = load_model("facts")
    with pytest.raises(ModelError, match="neither in memory nor"):
        check_readable(loaded.model.to("meta"))
