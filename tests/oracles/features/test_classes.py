"""Classifiers other than an encoder with classes that exclude one another."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError
from oracles.features import ClassifierOracle, LoadedModel, load_model
from oracles.features.prompts.prompt import text_prompt

REVIEW = text_prompt("The plot is not good, but the acting saves it.", segments="word")


def masks_of(oracle: ClassifierOracle) -> np.ndarray:
    masks = np.random.default_rng(0).random((15, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def saved_again(classifier: str, folder: Path, **settings: object) -> LoadedModel:
    """The random classifier's layers with other settings."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        classifier, ignore_mismatched_sizes=True, **settings
    )
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(classifier).save_pretrained(folder)
    return load_model(str(folder))


def test_labels_that_do_not_exclude_one_another_have_a_sigmoid_each(
    classifier: str, tmp_path: Path
) -> None:
    loaded = saved_again(
        classifier, tmp_path, problem_type="multi_label_classification"
    )

    def values(value: str) -> np.ndarray:
        oracle = ClassifierOracle(REVIEW, loaded, target="all", value=value)
        return oracle.evaluate(masks_of(oracle))

    p = values("probability")
    assert np.allclose(p, 1 / (1 + np.exp(-values("logit"))))
    assert np.allclose(values("log-odds"), np.log(p / (1 - p)))
    description = ClassifierOracle(REVIEW, loaded).description
    assert description["prediction_probability"] == pytest.approx(p[0].max())


def test_a_single_score_has_a_logit_and_no_probability(
    classifier: str, tmp_path: Path
) -> None:
    loaded = saved_again(classifier, tmp_path, num_labels=1)
    oracle = ClassifierOracle(REVIEW, loaded)
    assert oracle.description["value"] == "logit"
    assert "prediction_probability" not in oracle.description
    assert np.isfinite(oracle.evaluate(masks_of(oracle))).all()
    with pytest.raises(InputError, match='value="logit"'):
        ClassifierOracle(REVIEW, loaded, value="probability")


@pytest.mark.parametrize("pad", [None, 7])
def test_a_decoder_with_a_class_head_is_read_at_the_last_word(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path: Path,
    pad: int | None,
) -> None:
    """Its head looks for the last token that is not padding, by the configuration."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(causal_tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=pad,
        initializer_range=0.3,
    )
    model = transformers.GPT2ForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    causal_tokenizer.save_pretrained(tmp_path)
    oracle = ClassifierOracle(
        text_prompt("good bad so it", segments="word"),
        load_model(str(tmp_path)),
        target="all",
        value="logit",
    )
    masks = np.tril(np.ones((4, 4), bool))
    for mask, found in zip(masks, oracle.evaluate(masks), strict=True):
        words = " ".join(np.array(oracle.players)[mask])
        with torch.no_grad():
            alone = model(torch.tensor([causal_tokenizer(words)["input_ids"]]))
        assert np.allclose(found, alone.logits[0], atol=1e-5)


def test_an_empty_text_needs_a_special_token(classifier: str, tmp_path: Path) -> None:
    loaded = load_model(classifier)
    bare = transformers.PreTrainedTokenizerFast(
        tokenizer_object=loaded.tokenizer.backend_tokenizer, model_max_length=128
    )
    with pytest.raises(InputError, match="no special token"):
        ClassifierOracle(REVIEW, LoadedModel(loaded.model, bare, "", loaded.task))
