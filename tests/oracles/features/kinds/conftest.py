"""Random models of every kind, saved as ordinary folders and loaded from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from oracles.features import LoadedModel, load_model

CORPUS = [
    "The plot is not good, but the acting saves it. It was great. It was terrible.",
    "Maria works at the bakery. The bakery is in Oslo. In which city? Answer: Oslo",
    "Tom lives in Lima, and Lima is far. Where does Maria work? In New York.",
] * 4
LONGEST = 96


@pytest.fixture(scope="session")
def wordpieces() -> transformers.PreTrainedTokenizerFast:
    """As BERT's: lower case, [CLS] first [SEP] second [SEP], types 0 and 1."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=140, special_tokens=special, show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(t, special.index(t)) for t in ("[CLS]", "[SEP]")],
    )
    raw.decoder = decoders.WordPiece()
    names = ("pad", "unk", "cls", "sep", "mask")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=LONGEST,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{n}_token": t for n, t in zip(names, special, strict=True)},
    )


@pytest.fixture(scope="session")
def byte_pairs() -> transformers.PreTrainedTokenizerFast:
    """As RoBERTa's and BART's: <s> first </s></s> second </s>, spaces on words."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=LONGEST,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    # the mask swallows the space before it, as RoBERTa's does
    tokenizer.add_special_tokens(
        {"mask_token": transformers.AddedToken("<mask>", lstrip=True)}
    )
    return tokenizer


@pytest.fixture(scope="session")
def sentence_pieces() -> transformers.PreTrainedTokenizerFast:
    """As T5's: a unigram model, </s> at the end, nothing at the beginning."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=LONGEST,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "type_vocab_size": 2,
}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
SEQ_TO_SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Bert": ("wordpieces", {"max_position_embeddings": LONGEST, **SIZES}),
    "DistilBert": ("wordpieces", {"max_position_embeddings": LONGEST, **DISTIL}),
    "Roberta": (
        "byte_pairs",
        {"max_position_embeddings": LONGEST + 2, **SIZES, "type_vocab_size": 1},
    ),
    "Bart": (
        "byte_pairs",
        {"max_position_embeddings": LONGEST, "forced_eos_token_id": 2}
        | {"forced_bos_token_id": 0}
        | SEQ_TO_SEQ,
    ),
    "T5": ("sentence_pieces", {"decoder_start_token_id": 0, **T5}),
    "GPT2": (
        "byte_pairs",
        {"n_positions": LONGEST, "n_embd": 32, "n_layer": 2, "n_head": 4},
    ),
    "Llama": (
        "byte_pairs",
        {k: v for k, v in SIZES.items() if k != "type_vocab_size"}
        | {"max_position_embeddings": LONGEST, "num_key_value_heads": 2},
    ),
}
"""Start of an architecture's name -> tokenizer and settings of a small one."""

Make = Callable[[str], LoadedModel]


@pytest.fixture(scope="session")
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """From an architecture's name to such a model, saved and loaded again."""
    made: dict[str, LoadedModel] = {}

    def build(architecture: str) -> LoadedModel:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            _save(request, architecture, folder)
            made[architecture] = load_model(str(folder))
        return made[architecture]

    return build


def _save(request: pytest.FixtureRequest, architecture: str, folder: Path) -> None:
    family = next(f for f in CONFIGS if architecture.startswith(f))
    kind, sizes = CONFIGS[family]
    tokenizer = request.getfixturevalue(kind)
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
        for name in ("pad", "bos", "eos")
    }
    config = getattr(transformers, f"{family}Config")(
        **{"vocab_size": len(tokenizer), **ids, **sizes}
    )
    torch.manual_seed(len(architecture))
    model = getattr(transformers, architecture)(config)
    if family != "T5":  # others are nearly constant unless made larger
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3.0)
    # a head that is the table it reads would repeat the token it begins with
    if architecture == "BartForConditionalGeneration":
        model.final_logits_bias[:, :5] = -30.0
    if architecture == "T5ForConditionalGeneration":
        model.shared.weight.data[0] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
