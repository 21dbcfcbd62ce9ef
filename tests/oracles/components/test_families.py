"""Ablating by hooks is editing the weights, in every family; and what is refused."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from oracles.base import Masks
from oracles.components import ComponentOracle, TaskPrompt
from oracles.components.components import make_components
from oracles.components.layers import Layer, find_layers
from oracles.errors import InputError, ModelError
from oracles.features import LoadedModel

from .conftest import PROMPTS, Make

CAUSAL = (
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
    "GPTJForCausalLM",
    "Gemma2ForCausalLM",
    "Olmo2ForCausalLM",
)
MASKED = ("BertForMaskedLM", "DistilBertForMaskedLM", "ElectraForMaskedLM")
CLASSIFIERS = ("BertForSequenceClassification", "GPT2ForSequenceClassification")
FAMILIES = (*CAUSAL, *MASKED, *CLASSIFIERS)


def prompts_for(loaded: LoadedModel) -> list[TaskPrompt]:
    if loaded.task == "masked-lm":
        return [TaskPrompt(f"{p.text} [MASK] .", p.answer, p.wrong) for p in PROMPTS]
    if loaded.task == "text-classifier":
        return [TaskPrompt(p.text, "1", "LABEL_0") for p in PROMPTS]
    return PROMPTS


def logit_difference(loaded: LoadedModel, prompt: TaskPrompt) -> float:
    """As anyone would compute it, with the tokenizer and the model alone."""
    tokenizer = loaded.tokenizer
    is_causal = loaded.task == "causal-lm"
    ids = tokenizer(prompt.text, add_special_tokens=not is_causal)["input_ids"]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids])).logits[0]
    if loaded.task == "text-classifier":
        return float(logits[1] - logits[0])
    at = -1 if is_causal else ids.index(tokenizer.mask_token_id)
    answer, wrong = tokenizer.convert_tokens_to_ids([prompt.answer, prompt.wrong])
    return float(logits[at, answer] - logits[at, wrong])


def zero_columns(module: Any, columns: slice | list[int]) -> None:
    """Zero what a linear map makes of some of its inputs."""
    if type(module).__name__ == "Conv1D":
        module.weight.data[columns] = 0.0
    else:
        module.weight.data[:, columns] = 0.0


def silence(module: Any) -> None:
    module.weight.data.zero_()
    if module.bias is not None:
        module.bias.data.zero_()


def edit(loaded: LoadedModel, unit: str, mask: np.ndarray) -> LoadedModel:
    """A copy whose weights ignore what the mask ablates."""
    model = copy.deepcopy(loaded.model)
    layers = find_layers(model)
    players = make_components(layers, unit).players
    for player in [p for p, kept in zip(players, mask, strict=True) if not kept]:
        layer: Layer = layers[player.layer]
        if player.kind == "head":
            wide = layer.head_width
            place = slice(player.place * wide, (player.place + 1) * wide)
            zero_columns(layer.projection, place)
        if player.kind in ("mlp", "layer"):
            silence(layer.down)
        if player.kind == "layer":
            silence(layer.projection)
        if player.kind == "neuron":
            zero_columns(layer.down, [player.place])
    return LoadedModel(model, loaded.tokenizer, loaded.name, loaded.task)


def some_masks(num_players: int) -> Masks:
    """The ends, the halves, and random ones."""
    rng = np.random.default_rng(0)
    masks = rng.random((7, num_players)) < 0.6
    masks[0], masks[1] = True, False
    masks[2] = np.arange(num_players) < num_players // 2  # upper layers only
    masks[3] = ~masks[2]
    return masks


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("unit", ["head", "mlp", "head+mlp", "layer", "neuron"])
def test_zero_ablation_is_zeroing_the_weights(
    make: Make, architecture: str, unit: str
) -> None:
    loaded = make(architecture)
    prompts = prompts_for(loaded)
    oracle = ComponentOracle(
        loaded, prompts, unit=unit, ablation="zero", per_prompt=True
    )
    masks = some_masks(len(oracle.players))
    values = oracle.evaluate(masks)
    for mask, row in zip(masks, values, strict=True):
        edited = edit(loaded, unit, mask)
        expected = [logit_difference(edited, prompt) for prompt in prompts]
        assert np.allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_what_was_found_is_listed(make: Make, architecture: str) -> None:
    loaded = make(architecture)
    oracle = ComponentOracle(loaded, prompts_for(loaded), unit="head+mlp")
    assert len(oracle.found) == 3
    assert all("4 heads into" in line and "neurons" in line for line in oracle.found)
    heads = [f"L1.H{i}" for i in range(4)]
    assert list(oracle.players[5:10]) == [*heads, "L1.MLP"]
    assert [c.layer for c in oracle.components] == sorted([0, 1, 2] * 5)


def test_a_mixture_of_experts_has_heads_only(make: Make) -> None:
    loaded = make("MixtralForCausalLM")
    oracle = ComponentOracle(loaded, PROMPTS)
    assert len(oracle.players) == 12
    for unit in ("mlp", "layer", "neuron", "head+mlp"):
        with pytest.raises(InputError, match="mixture of experts"):
            ComponentOracle(loaded, PROMPTS, unit=unit)


def test_shared_layers_are_refused_with_what_was_looked_at(make: Make) -> None:
    with pytest.raises(ModelError, match=r"albert_layer_groups \(1\)"):
        find_layers(make("AlbertForMaskedLM").model)


def test_heads_that_cannot_be_told_apart_are_refused(make: Make) -> None:
    model = make("LlamaForCausalLM").model
    model.config.num_attention_heads = 3  # not what the projection is as wide as
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.o_proj \(40 to 24\)"):
        find_layers(model)


def test_fused_attention_that_never_calls_its_projection_is_refused(
    make: Make,
) -> None:
    loaded = make("GPT2LMHeadModel")
    for block in loaded.model.transformer.h:  # as kernels do that read the weights
        projection = block.attn.c_proj
        projection.__class__ = type("Fused", (type(projection),), {"__call__": fused})
    with pytest.raises(ModelError, match="looked at") as error:
        ComponentOracle(loaded, PROMPTS)
    assert "c_attn" in str(error.value)
    assert "attn.c_proj" not in str(error.value)


def fused(projection: Any, states: torch.Tensor) -> torch.Tensor:
    return states @ projection.weight + projection.bias


def test_what_is_a_mixture_is_seen_layer_by_layer(make: Make) -> None:
    loaded = make("DeepseekV3ForCausalLM")
    found = find_layers(loaded.model)
    assert [layer.is_mixture for layer in found] == [False, False, True]
    assert [layer.num_neurons for layer in found] == [20, 20, 0]
    oracle = ComponentOracle(loaded, PROMPTS, unit="mlp", layers=[0, 1])
    assert oracle.players == ("L0.MLP", "L1.MLP")
    with pytest.raises(InputError, match="mixture of experts"):
        ComponentOracle(loaded, PROMPTS, unit="mlp")


@pytest.mark.parametrize(
    ("architecture", "said", "looked"),
    [
        ("Gemma3nForCausalLM", "hidden states of shape", "self_attn.o_proj"),
        ("OpenAIGPTLMHeadModel", "hidden states of shape", "attn.c_proj"),
        ("Lfm2ForCausalLM", r"layers\.1 is of type 'conv'", "conv, feed_forward"),
        ("RwkvForCausalLM", r"blocks\.0 cannot be located", "attention.value"),
        ("Qwen3NextForCausalLM", "of type 'linear_attention'", "linear_attn"),
        ("Gemma4ForCausalLM", "no one head_dim", "per-layer"),
    ],
)
def test_layers_without_plain_attention_are_refused_with_what_was_looked_at(
    make: Make, architecture: str, said: str, looked: str
) -> None:
    loaded = make(architecture)
    with pytest.raises(ModelError, match=said) as error:
        ComponentOracle(loaded, PROMPTS)
    assert looked in str(error.value)


def test_other_kinds_of_model_are_refused(make: Make) -> None:
    loaded = make("BertModel")
    with pytest.raises(InputError, match="of kind embedding"):
        ComponentOracle(loaded, PROMPTS)
