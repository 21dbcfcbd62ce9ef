"""Answers of encoder-decoders against transformers' own loss, one at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError
from oracles.features import LoadedModel, load_model
from oracles.features.encoder_decoder import EncoderDecoderOracle
from oracles.features.passes.generation import generate
from oracles.features.prompts.prompt import text_prompt
from oracles.testing import OracleContract

TEXT = "Maria works at the bakery. The bakery is in Oslo. Tom lives in Lima."
ANSWER, OTHER = "The bakery is in Oslo", "Lima"
MODELS = ["T5ForConditionalGeneration", "BartForConditionalGeneration"]


def masks_of(oracle: EncoderDecoderOracle, count: int = 12) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def by_loss(loaded: LoadedModel, text: str, answer: str) -> float:
    """log p(answer | text), by the loss, which is the mean over labels not -100."""
    tokenizer = loaded.tokenizer
    inputs = tokenizer(text, return_tensors="pt")
    labels = tokenizer(text_target=answer, return_tensors="pt")["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None:  # what stands before the answer is given
        decoder = loaded.model.prepare_decoder_input_ids_from_labels(labels)
        labels = labels.masked_fill(labels == bos, -100)
        inputs["decoder_input_ids"] = decoder
    with torch.no_grad():
        loss = loaded.model(
            input_ids=inputs["input_ids"],
            decoder_input_ids=inputs.get("decoder_input_ids"),
            labels=labels,
        ).loss
    return -float(loss) * int((labels != -100).sum())


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, make: Any) -> None:
        self.loaded = make("T5ForConditionalGeneration")

    def make_oracle(self) -> EncoderDecoderOracle:
        prompt = text_prompt(TEXT, segments="word")
        return EncoderDecoderOracle(
            prompt, self.loaded, continuation=ANSWER, per_token=True
        )


@pytest.mark.parametrize("architecture", MODELS)
def test_whole_answers_have_the_probability_of_transformers_own_loss(
    make: Any, architecture: str
) -> None:
    loaded, prompt = make(architecture), text_prompt(TEXT, segments="word")
    assert loaded.task == "encoder-decoder"

    def oracle(**settings: Any) -> EncoderDecoderOracle:
        return EncoderDecoderOracle(prompt, loaded, **settings, batch_size=4)

    masks = masks_of(oracle(continuation=ANSWER), 8)
    logs = np.array(
        [
            [by_loss(loaded, text, answer) for answer in (ANSWER, OTHER)]
            for text in prompt.write_all(masks)
        ]
    )
    for column, answer in enumerate((ANSWER, OTHER)):
        p = np.exp(logs[:, column])
        for value, expected in (
            ("log-probability", logs[:, column]),
            ("probability", p),
            ("log-odds", np.log(p / (1 - p))),
        ):
            found = oracle(continuation=answer, value=value).evaluate(masks)
            assert found[:, 0] == pytest.approx(expected, abs=1e-3, rel=1e-5)
    between = oracle(continuation=ANSWER, alternative=OTHER).evaluate(masks)
    assert between[:, 0] == pytest.approx(logs[:, 0] - logs[:, 1], abs=1e-3)
    both = oracle(choices=[ANSWER, OTHER]).evaluate(masks)
    assert both == pytest.approx(np.hstack([between, -between]), abs=1e-4)


@pytest.mark.parametrize("architecture", MODELS)
def test_tokens_add_up_to_the_answer_and_are_named(
    make: Any, architecture: str
) -> None:
    loaded, prompt = make(architecture), text_prompt(TEXT)
    whole = EncoderDecoderOracle(prompt, loaded, continuation=ANSWER)
    tokens = EncoderDecoderOracle(prompt, loaded, continuation=ANSWER, per_token=True)
    masks = masks_of(whole)
    values = tokens.evaluate(masks)
    assert values.sum(1) == pytest.approx(whole.evaluate(masks)[:, 0], abs=1e-4)
    count, last = len(tokens.outputs), loaded.tokenizer.eos_token
    assert tokens.outputs[-1] == (
        f"log-probability of {last!r}, token {count} of {count}"
    )
    odds = EncoderDecoderOracle(
        prompt, loaded, continuation=ANSWER, per_token=True, value="log-odds"
    )
    p = np.exp(values)
    assert odds.evaluate(masks) == pytest.approx(np.log(p) - np.log1p(-p), abs=1e-4)


def test_a_nearly_sure_token_keeps_its_log_odds(make: Any) -> None:
    """In float32 the probability of 1 - 1e-12 is 1, and its log-odds 27.6."""
    loaded = make("T5ForConditionalGeneration")
    model = transformers.T5ForConditionalGeneration(loaded.model.config).eval()
    model.load_state_dict(loaded.model.state_dict())
    answer = "Oslo"
    token = loaded.tokenizer(answer)["input_ids"][0]
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.lm_head.weight.zero_()
        inputs = loaded.tokenizer(TEXT, return_tensors="pt")["input_ids"]
        output = model(
            input_ids=inputs,
            decoder_input_ids=torch.zeros((1, 1), dtype=torch.long),
            output_hidden_states=True,
        )
        state = output.decoder_hidden_states[-1][0, 0]
        model.lm_head.weight[token] = 180.0 * state / state.square().sum()
    sure = LoadedModel(model, loaded.tokenizer, "sure", loaded.task)
    oracle = EncoderDecoderOracle(
        text_prompt(TEXT),
        sure,
        continuation=answer,
        per_token=True,
        value="log-odds",
    )
    found = oracle.evaluate(np.ones((1, 3), bool))[0, 0]
    scale = model.model_dim**-0.5  # of T5's tied heads
    expected = 180.0 * scale - np.log(len(model.lm_head.weight) - 1)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("architecture", MODELS)
def test_batches_of_any_size_give_the_same_values(make: Any, architecture: str) -> None:
    loaded, prompt = make(architecture), text_prompt(TEXT, segments="word")
    found = []
    for size in (1, 5, None):
        oracle = EncoderDecoderOracle(
            prompt, loaded, continuation=ANSWER, per_token=True, batch_size=size
        )
        found.append(oracle.evaluate(masks_of(oracle, 20)))
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=1e-4)


def test_decoding_in_pieces_changes_nothing(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = EncoderDecoderOracle(
        text_prompt(TEXT), make(MODELS[0]), choices=[ANSWER, OTHER]
    )
    whole = oracle.evaluate(masks_of(oracle))
    monkeypatch.setattr("oracles.features.encoder_decoder.PIECE", 1)
    assert oracle.evaluate(masks_of(oracle)) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("architecture", MODELS)
def test_the_default_is_the_models_own_greedy_answer(
    make: Any, architecture: str
) -> None:
    loaded = make(architecture)
    oracle = EncoderDecoderOracle(text_prompt(TEXT), loaded)
    ids = torch.tensor([loaded.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        own = loaded.model.generate(
            ids, do_sample=False, num_beams=1, max_new_tokens=48
        )
    answer = loaded.tokenizer.decode(own[0], skip_special_tokens=True).strip()
    assert oracle.description["continuation"] == answer
    assert oracle.description["prediction"] == answer


def test_greedy_answers_do_not_depend_on_their_company(make: Any) -> None:
    for architecture in (*MODELS, "LlamaForCausalLM", "GPT2LMHeadModel"):
        loaded = make(architecture)
        texts = [TEXT[:i] for i in (12, 40, 68)]
        prompts = [loaded.tokenizer(text)["input_ids"] for text in texts]
        together = generate(loaded, prompts, 6)
        assert any(together)
        alone = [generate(loaded, [prompt], 6)[0] for prompt in prompts]
        assert together == alone
        for prompt, answer in zip(prompts, together, strict=True):
            with torch.no_grad():
                own = loaded.model.generate(
                    torch.tensor([prompt]),
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=6,
                )[0]
            is_both = loaded.model.config.is_encoder_decoder
            tokens = own if is_both else own[len(prompt) :]
            assert loaded.tokenizer.decode(tokens, skip_special_tokens=True) == answer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"continuation": " "}, "answer is empty"),
        ({"continuation": "</s>"}, "no tokens in this model's vocabulary"),
        ({"continuation": "Oslo " * 99}, r"the answer has \d+ tokens .* reads 96"),
        ({"value": "logit"}, "log-probability, log-odds, probability"),
        ({"choices": [OTHER]}, "two or more different"),
        ({"choices": [OTHER, ANSWER], "continuation": OTHER}, "Leave out"),
        ({"choices": [OTHER, ANSWER], "value": "logit"}, "log-odds, margin"),
        ({"alternative": OTHER, "per_token": True}, "compared as a whole"),
        ({"alternative": OTHER, "value": "probability"}, "compared by log-odds"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        EncoderDecoderOracle(text_prompt(TEXT), make(MODELS[0]), **settings)


def test_an_input_longer_than_the_model_reads_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"has \d+ tokens and this model reads 96"):
        EncoderDecoderOracle(
            text_prompt(TEXT * 9), make(MODELS[1]), continuation=ANSWER
        )


def test_other_answers_or_values_are_other_fingerprints(make: Any) -> None:
    loaded, prompt = make(MODELS[0]), text_prompt(TEXT)
    changes: list[dict[str, Any]] = [
        {},
        {"continuation": OTHER},
        {"alternative": OTHER},
        {"per_token": True},
        {"value": "probability"},
    ]
    prints = [
        EncoderDecoderOracle(
            prompt, loaded, **({"continuation": ANSWER} | change)
        ).fingerprint
        for change in changes
    ]
    assert len(set(prints)) == len(changes)
    same = EncoderDecoderOracle(prompt, loaded, continuation=ANSWER, batch_size=2)
    assert same.fingerprint == prints[0]


def test_a_base_checkpoint_of_an_encoder_decoder_loads_as_one(
    make: Any, tmp_path: Path
) -> None:
    """BART's names BartModel as its architecture, and has its language model's head."""
    loaded = make("BartForConditionalGeneration")
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace("BartForConditionalGeneration", "BartModel")
    )
    assert load_model(str(tmp_path)).task == "encoder-decoder"
