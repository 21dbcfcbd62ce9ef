"""Where a model's weights are put, and in how many bits."""

import numpy as np
import pytest

from oracles import ModelError
from oracles.features import CausalOracle, LoadedModel, load_model
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
