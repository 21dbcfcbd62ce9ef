"""Small random models in ordinary Hugging Face layout, made once."""

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "The plot is not good, but the acting saves it.",
    "Maria works at the bakery. The bakery is in Oslo. In which city? Answer: Oslo",
] * 4


def _tokenizer(special: dict[str, str]) -> transformers.PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=128, **special
    )


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def _save(model: torch.nn.Module, tokenizer: object, folder: Path) -> str:
    with torch.no_grad():  # random models are nearly constant unless made larger
        for parameter in model.parameters():
            parameter.mul_(4.0)
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return str(folder)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT with three classes."""
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    tokenizer = _tokenizer(special)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=3,
        id2label={0: "bad", 1: "fair", 2: "good"},
        label2id={"bad": 0, "fair": 1, "good": 2},
        **SIZES,
    )
    model = transformers.BertForSequenceClassification(config)
    return _save(model, tokenizer, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def causal_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes and pairs of them, with a beginning and an end."""
    return _tokenizer({"bos_token": "<s>", "eos_token": "</s>"})


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def causal(
    request: pytest.FixtureRequest,
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path_factory: object,
) -> str:
    """A Llama (rotary positions) or a GPT-2 (learned ones)."""
    tokenizer = causal_tokenizer
    torch.manual_seed(1)
    vocabulary = len(tokenizer)
    if request.param == "llama":
        config = transformers.LlamaConfig(
            vocab_size=vocabulary,
            intermediate_size=64,
            max_position_embeddings=128,
            num_key_value_heads=2,
            **SIZES,
        )
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=128
        )
        model = transformers.GPT2LMHeadModel(config)
    return _save(model, tokenizer, tmp_path_factory.mktemp(request.param))  # type: ignore[attr-defined]
