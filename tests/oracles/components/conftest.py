"""Small random models of every family, and a tokenizer of whole words for all."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from oracles.components import TaskPrompt
from oracles.features import LoadedModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the cat dog sat ran on a mat red blue . and then it was good bad not".split()
LONGEST = 64

PROMPTS = [
    TaskPrompt("the cat sat on the", "mat", "dog", "the dog ran on a"),
    TaskPrompt("a red dog and a", "blue", "red", "a blue cat and the"),
    TaskPrompt("then it was not good and it", "was", "ran", "a a dog ran on the it"),
]

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 20}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": LONGEST},
    "Llama": {**GROUPED, "head_dim": 10},
    "Mistral": {**GROUPED, "sliding_window": 3},
    "Qwen2": GROUPED,
    "GPTNeoX": {**SIZES, "intermediate_size": 20},
    "OPT": {**SIZES, "ffn_dim": 20, "word_embed_proj_dim": 24},
    "GPTJ": {"n_embd": 24, "n_layer": 3, "n_head": 4, "rotary_dim": 4},
    "Bert": {**SIZES, "intermediate_size": 20},
    "DistilBert": {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 20},
    "Electra": {**SIZES, "intermediate_size": 20, "embedding_size": 12},
    "Mixtral": {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1},
    "Albert": {**SIZES, "intermediate_size": 20, "embedding_size": 12},
    "OpenAIGPT": {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": LONGEST},
    "Gemma2": {**GROUPED, "head_dim": 10, "sliding_window": 3},
    "Olmo2": GROUPED,
    "DeepseekV3": {
        **SIZES,
        "num_key_value_heads": 4,
        "intermediate_size": 20,
        "q_lora_rank": 12,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 8,
        "first_k_dense_replace": 2,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
    },
    "Lfm2": {**GROUPED, "layer_types": ["full_attention", "conv", "full_attention"]},
    "Rwkv": {**SIZES, "intermediate_size": 20},
    "Qwen3Next": {**GROUPED, "head_dim": 10, "layer_types": ["linear_attention"] * 3},
    "Gemma3n": {
        **GROUPED,
        "intermediate_size": [20] * 3,
        "head_dim": 6,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 24,
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 3,
        "layer_types": ["full_attention"] * 3,
    },
    "Gemma4": {**GROUPED, "head_dim": 6, "hidden_size_per_layer_input": 8},
}
"""Start of an architecture's name -> settings of a small one."""

CONFIG_NAMES = {"Gemma3n": "Gemma3nTextConfig", "Gemma4": "Gemma4TextConfig"}
"""Of those whose configuration is not named as they are."""

TASKS = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "text-classifier",
    "Model": "embedding",
}

Make = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a word, and nothing around a text, as decoders read it."""
    return _tokenizer(is_framed=False)


@pytest.fixture(scope="session")
def framed() -> transformers.PreTrainedTokenizerFast:
    """The same with [CLS] and [SEP] around a text, as encoders read it."""
    return _tokenizer(is_framed=True)


def _tokenizer(*, is_framed: bool) -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if is_framed:
        raw.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = ("pad", "unk", "cls", "sep", "mask")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=LONGEST,
        **{f"{n}_token": t for n, t in zip(names, SPECIAL, strict=True)},
    )


@pytest.fixture(scope="session")
def make(
    tokenizer: transformers.PreTrainedTokenizerFast,
    framed: transformers.PreTrainedTokenizerFast,
) -> Make:
    """From an architecture's name, and settings, to such a model; fresh every time."""

    def build(architecture: str, **settings: Any) -> LoadedModel:
        family = next(f for f in CONFIGS if architecture.startswith(f))
        named = CONFIG_NAMES.get(family, f"{family}Config")
        config = getattr(transformers, named)(
            **{
                "vocab_size": len(tokenizer),
                "pad_token_id": 0,
                "bos_token_id": None,
                "eos_token_id": None,
                **CONFIGS[family],
                **settings,
            }
        )
        torch.manual_seed(len(architecture))
        model = getattr(transformers, architecture)(config).eval()
        with torch.no_grad():  # others are nearly constant unless made larger
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        task = next(t for end, t in TASKS.items() if architecture.endswith(end))
        words = tokenizer if task == "causal-lm" else framed
        return LoadedModel(model, words, architecture, task)

    return build
