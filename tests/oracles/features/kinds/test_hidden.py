"""With removal by attention words of a removed segment never count, in any model."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import processors

from oracles import InputError, Oracle
from oracles.features import CausalOracle, ClassifierOracle, LoadedModel
from oracles.features.embedding import EmbeddingOracle
from oracles.features.encoder_decoder import EncoderDecoderOracle
from oracles.features.masked_lm import MaskedLMOracle
from oracles.features.prompts.prompt import text_prompt
from oracles.features.question_answering import QuestionAnsweringOracle

SENTENCES = ["Maria works in Oslo.", "Tom lives in Lima.", "The plot is good, not bad"]
QUESTION = "Where does Maria work?"
Make = Callable[[str, LoadedModel], Oracle]


def classifier(text: str, loaded: LoadedModel) -> Oracle:
    hidden = text_prompt(text, removal="attention")
    return ClassifierOracle(hidden, loaded, target="all", value="logit")


def pair(text: str, loaded: LoadedModel) -> Oracle:
    hidden = text_prompt(text, removal="attention")
    return ClassifierOracle(hidden, loaded, first=QUESTION, target="all", value="logit")


def reader(text: str, loaded: LoadedModel) -> Oracle:
    hidden = text_prompt(text, removal="attention")
    return QuestionAnsweringOracle(
        hidden, loaded, question=QUESTION, answers=["Oslo"], value="logit"
    )


def filler(text: str, loaded: LoadedModel) -> Oracle:
    suffix = f"It was {loaded.tokenizer.mask_token}."
    hidden = text_prompt(text, removal="attention", suffix=suffix)
    return MaskedLMOracle(hidden, loaded, words=["the"], value="logit")


def retriever(text: str, loaded: LoadedModel) -> Oracle:
    hidden = text_prompt(text, removal="attention")
    return EmbeddingOracle(hidden, loaded, references=[QUESTION])


def writer(text: str, loaded: LoadedModel) -> Oracle:
    hidden = text_prompt(text, removal="attention")
    make = EncoderDecoderOracle if loaded.task == "encoder-decoder" else CausalOracle
    return make(hidden, loaded, continuation="Oslo")


def bare(loaded: LoadedModel) -> LoadedModel:
    """The model with a tokenizer that adds no special tokens."""
    raw = loaded.tokenizer.backend_tokenizer
    special = dict(loaded.tokenizer.special_tokens_map)
    raw = type(raw).from_str(raw.to_str())
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=loaded.tokenizer.model_max_length,
        **special,
    )
    return LoadedModel(loaded.model, tokenizer, loaded.name, loaded.task)


def reordered(loaded: LoadedModel, player: int) -> str:
    """The text with one sentence's words in another order, of as many tokens."""
    count = len(loaded.tokenizer(" ".join(SENTENCES))["input_ids"])
    words = SENTENCES[player].split()
    end = "." if player < 2 else ""  # the last sentence ends in a word of its own
    words[-1] = words[-1].removesuffix(".")
    for order in itertools.permutations(words):
        some = [*SENTENCES]
        some[player] = " ".join(order) + end
        text = " ".join(some)
        is_as_long = len(loaded.tokenizer(text)["input_ids"]) == count
        if order[-1] != words[-1] and is_as_long:
            return text
    raise AssertionError("no other order has as many tokens")


@pytest.mark.parametrize(
    ("architecture", "oracle_of", "is_bare"),
    [
        ("BertForSequenceClassification", classifier, False),
        ("BertForSequenceClassification", pair, False),
        ("LlamaForSequenceClassification", classifier, False),
        ("LlamaForSequenceClassification", classifier, True),
        ("LlamaForSequenceClassification", pair, True),
        ("GPT2ForSequenceClassification", classifier, True),
        ("BertForQuestionAnswering", reader, False),
        ("RobertaForQuestionAnswering", reader, False),
        ("LlamaForQuestionAnswering", reader, False),
        ("BertForMaskedLM", filler, False),
        ("RobertaForMaskedLM", filler, False),
        ("BertModel", retriever, False),
        ("T5ForConditionalGeneration", writer, False),
        ("BartForConditionalGeneration", writer, False),
        ("LlamaForCausalLM", writer, True),
        ("GPT2LMHeadModel", writer, True),
    ],
)
def test_words_of_a_removed_sentence_never_count(
    make: Any, architecture: str, oracle_of: Make, is_bare: bool
) -> None:
    loaded = bare(make(architecture)) if is_bare else make(architecture)
    masks = np.array(list(itertools.product([False, True], repeat=3)))
    plain = oracle_of(" ".join(SENTENCES), loaded).evaluate(masks)
    assert plain.std(axis=0).max() > 1e-4
    for player in range(3):
        other = oracle_of(reordered(loaded, player), loaded).evaluate(masks)
        gone = ~masks[:, player]
        assert np.allclose(other[gone], plain[gone], atol=1e-5)
        assert not np.allclose(other[~gone], plain[~gone], atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "oracle_of"),
    [
        ("BartForSequenceClassification", classifier),
        ("BartForQuestionAnswering", reader),
    ],
)
def test_a_model_that_reads_hidden_tokens_is_refused(
    make: Any, architecture: str, oracle_of: Make
) -> None:
    with pytest.raises(InputError, match=r"changes with their words.*delete"):
        oracle_of(" ".join(SENTENCES), make(architecture))
