"""Which kind of model a configuration names, and removal by attention for each."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError, ModelError, Oracle
from oracles.features import LoadedModel, load_model, text_oracle
from oracles.features.embedding import EmbeddingOracle
from oracles.features.encoder_decoder import EncoderDecoderOracle
from oracles.features.masked_lm import MaskedLMOracle
from oracles.features.models.kinds import auto_class, task_of
from oracles.features.prompts.prompt import text_prompt
from oracles.features.question_answering import QuestionAnsweringOracle

CONTEXT = "Maria works in Oslo. Tom lives in Lima. Oslo is far. It rains."
QUESTION = "Where does Maria work?"
MASKS = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize(
    ("architecture", "is_encoder_decoder", "task"),
    [
        ("XLMRobertaForSequenceClassification", False, "text-classifier"),
        ("BartForSequenceClassification", True, "text-classifier"),
        ("ElectraForQuestionAnswering", False, "question-answering"),
        ("BartForQuestionAnswering", True, "question-answering"),
        ("ModernBertForMaskedLM", False, "masked-lm"),
        ("GPT2LMHeadModel", False, "causal-lm"),
        ("Qwen3ForCausalLM", False, "causal-lm"),
        ("Gemma3ForConditionalGeneration", False, "causal-lm"),
        ("Qwen2_5_VLForConditionalGeneration", False, "causal-lm"),
        ("T5WithLMHeadModel", True, "encoder-decoder"),
        ("MarianMTModel", True, "encoder-decoder"),
        ("MT5ForConditionalGeneration", True, "encoder-decoder"),
        ("EncoderDecoderModel", True, "encoder-decoder"),
        ("BartModel", True, "encoder-decoder"),
        ("MPNetModel", False, "embedding"),
    ],
)
def test_architectures_name_their_kind(
    architecture: str, is_encoder_decoder: bool, task: str
) -> None:
    config = transformers.PretrainedConfig(
        architectures=[architecture], is_encoder_decoder=is_encoder_decoder
    )
    assert task_of("m", config, is_sentence_encoder=False) == task
    assert task_of("m", config, is_sentence_encoder=True) == "embedding"


@pytest.mark.parametrize(
    "architecture",
    [None, "BertForTokenClassification", "Qwen2VLForPreTraining"],
)
def test_kinds_without_an_oracle_are_refused(architecture: str | None) -> None:
    architectures = [architecture] if architecture else None
    config = transformers.PretrainedConfig(architectures=architectures)
    with pytest.raises(ModelError, match="sentence encoders"):
        task_of("m", config, is_sentence_encoder=False)


def hidden_run(loaded: LoadedModel, text: str, row: np.ndarray, *pair: str) -> Any:
    """The model on the intact text, with removed sentences' tokens out of sight."""
    part = len(pair)
    encoded = loaded.tokenizer(*pair, text, return_offsets_mapping=True)
    ends = np.cumsum([len(sentence) + 2 for sentence in text.split(". ")])
    seen = []
    for (start, end), which in zip(
        encoded["offset_mapping"], encoded.sequence_ids(), strict=True
    ):
        if which != part:
            seen.append(1)
            continue
        middle = (start + end) / 2
        player = int(np.searchsorted(ends, middle, side="right"))
        seen.append(int(player >= len(row) or row[player]))
    inputs = {"input_ids": torch.tensor([encoded["input_ids"]])}
    if "token_type_ids" in encoded:
        inputs["token_type_ids"] = torch.tensor([encoded["token_type_ids"]])
    inputs["attention_mask"] = torch.tensor([seen])
    return inputs, encoded


def check(oracle: Oracle, expected: list[float], masks: np.ndarray) -> None:
    assert oracle.evaluate(masks)[:, 0] == pytest.approx(expected, abs=1e-4)
    for i in range(len(masks)):
        alone = oracle.evaluate(masks[i : i + 1])[0, 0]
        assert alone == pytest.approx(expected[i], abs=1e-4)


@pytest.mark.parametrize(
    ("architecture", "settings", "outputs"),
    [
        (
            "BertForQuestionAnswering",
            {"question": QUESTION, "target": "Oslo"},
            ("log-odds of 'Oslo'",),
        ),
        (
            "BertForMaskedLM",
            {"suffix": "It was [MASK].", "target": "it"},
            ("log-odds of 'it'",),
        ),
        (
            "BertForMaskedLM",
            {"suffix": "It was [MASK].", "target": "it", "against": "the"},
            (
                "log-odds of 'it' among the choices",
                "log-odds of 'the' among the choices",
            ),
        ),
        (
            "T5ForConditionalGeneration",
            {"target": "Oslo", "against": "Lima"},
            ("log-odds of 'Oslo' against 'Lima'",),
        ),
        (
            "T5ForConditionalGeneration",
            {"target": "Oslo", "value": "token-f1"},
            ("token-f1 of the answer with 'Oslo'",),
        ),
        ("BertModel", {"question": "Oslo?"}, ("cosine to 'Oslo?'",)),
    ],
)
def test_a_text_is_asked_as_the_kind_of_model_wants(
    make: Any, architecture: str, settings: dict[str, Any], outputs: tuple[str, ...]
) -> None:
    folder = make(architecture).name
    oracle = text_oracle(CONTEXT, folder, **settings)
    assert oracle.outputs == outputs
    assert len(oracle.players) == 4
    assert np.isfinite(oracle.evaluate(MASKS)).all()


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("BertForQuestionAnswering", {"against": "Lima"}, "against goes with"),
        ("BertForQuestionAnswering", {}, "question is empty"),
        ("BertModel", {"target": "Oslo"}, "target goes with"),
        (
            "T5ForConditionalGeneration",
            {"is_chat": True},
            "is_chat goes with models of kind causal-lm, and",
        ),
        (
            "LlamaForCausalLM",
            {"question": QUESTION},
            "question goes with models of kind text-classifier, q",
        ),
        ("BertForMaskedLM", {"suffix": "[MASK]", "against": "it"}, "needs a target"),
        (
            "T5ForConditionalGeneration",
            {"value": "rouge-l", "target": "Oslo", "against": "Lima"},
            "Leave against, choices",
        ),
    ],
)
def test_what_means_nothing_for_a_kind_is_refused(
    make: Any, architecture: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        text_oracle(CONTEXT, make(architecture).name, **settings)


def test_a_context_is_cut_with_room_for_its_question(make: Any) -> None:
    loaded = make("RobertaForQuestionAnswering")
    settings = {"question": QUESTION, "target": "Oslo"}
    whole = text_oracle(" ".join([CONTEXT] * 9), loaded.name, **settings)
    assert whole.description["windows"] > 1
    oracle = text_oracle(
        " ".join([CONTEXT] * 9), loaded.name, **settings, is_truncating=True
    )
    kept, total = oracle.description["truncated"]
    assert 4 < kept < total == 36
    assert oracle.description["windows"] == 1
    assert np.isfinite(oracle.evaluate(np.ones((1, kept), bool))).all()


def test_hidden_context_cannot_answer(make: Any) -> None:
    loaded = make("BertForQuestionAnswering")
    prompt = text_prompt(CONTEXT, removal="attention")
    expected = []
    for row in MASKS:
        inputs, encoded = hidden_run(loaded, CONTEXT, row, QUESTION)
        with torch.no_grad():
            output = loaded.model(**inputs)
        seen = inputs["attention_mask"][0].bool()
        parts = torch.tensor([part == 1 for part in encoded.sequence_ids()])
        allowed = seen & parts
        allowed[0] = True
        scores = [
            logits[0].double().masked_fill(~allowed, -torch.inf).softmax(0)
            for logits in (output.start_logits, output.end_logits)
        ]
        total, at = 0.0, CONTEXT.find("Oslo")
        while at >= 0:
            first = encoded.char_to_token(at, sequence_index=1)
            last = encoded.char_to_token(at + 3, sequence_index=1)
            total += float(scores[0][first] * scores[1][last])
            at = CONTEXT.find("Oslo", at + 1)
        expected.append(total)
    assert expected[-1] == 0
    oracle = QuestionAnsweringOracle(
        prompt, loaded, question=QUESTION, answers=["Oslo"], value="probability"
    )
    check(oracle, expected, MASKS)


def test_an_answer_with_a_hidden_word_is_not_shown(make: Any) -> None:
    loaded = make("BertForQuestionAnswering")
    prompt = text_prompt(CONTEXT, removal="attention", segments="word")
    oracle = QuestionAnsweringOracle(
        prompt,
        loaded,
        question=QUESTION,
        answers=["Maria works in Oslo"],
        value="probability",
    )
    masks = np.ones((2, len(oracle.players)), bool)
    masks[1, 1] = False
    found = oracle.evaluate(masks)[:, 0]
    assert found[0] > 0 == found[1]


def test_hidden_text_around_a_mask(make: Any) -> None:
    for architecture in ("BertForMaskedLM", "RobertaForMaskedLM"):
        loaded = make(architecture)
        mask = loaded.tokenizer.mask_token
        prompt = text_prompt(CONTEXT, removal="attention", suffix=f"It was {mask}.")
        oracle = MaskedLMOracle(prompt, loaded, words=["it"], value="logit")
        [intact] = prompt.write_all(MASKS[:1])
        known = loaded.tokenizer.get_vocab()
        token = known.get("Ġit", known.get("it"))
        expected = []
        for row in MASKS:
            inputs, _ = hidden_run(loaded, intact, row)
            inputs.pop("token_type_ids", None)
            place = (
                inputs["input_ids"][0].tolist().index(loaded.tokenizer.mask_token_id)
            )
            with torch.no_grad():
                logits = loaded.model(**inputs).logits[0, place]
            expected.append(float(logits[token]))
        check(oracle, expected, MASKS)


def test_hidden_text_has_no_part_in_an_embedding(make: Any) -> None:
    loaded = make("BertModel")
    prompt = text_prompt(CONTEXT, removal="attention")
    oracle = EmbeddingOracle(prompt, loaded, references=[QUESTION], value="dot")
    runs = [hidden_run(loaded, QUESTION, np.ones(1, bool))]
    runs += [hidden_run(loaded, CONTEXT, row) for row in MASKS]
    vectors = []
    for inputs, _ in runs:
        with torch.no_grad():
            states = loaded.model(**inputs).last_hidden_state[0].double()
        vectors.append(states[inputs["attention_mask"][0].bool()].mean(0))
    expected = [float(vector @ vectors[0]) for vector in vectors[1:]]
    assert oracle.evaluate(MASKS)[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_hidden_input_of_an_encoder_decoder(make: Any) -> None:
    loaded = make("T5ForConditionalGeneration")
    prompt = text_prompt(CONTEXT, removal="attention")
    oracle = EncoderDecoderOracle(prompt, loaded, continuation="Oslo is far")
    labels = loaded.tokenizer("Oslo is far", return_tensors="pt")["input_ids"]
    expected = []
    for row in MASKS:
        inputs, _ = hidden_run(loaded, CONTEXT, row)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            loss = loaded.model(**inputs, labels=labels).loss
        expected.append(-float(loss) * labels.shape[1])
    check(oracle, expected, MASKS)


def test_a_model_that_also_takes_pictures_is_asked_as_a_causal_one(
    byte_pairs: transformers.PreTrainedTokenizerFast, tmp_path: Any
) -> None:
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text = {**small, "vocab_size": len(byte_pairs), "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 80}
    config = transformers.Gemma3Config(
        text_config={**text, "sliding_window": 64},
        vision_config={
            **small,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=1,
    )
    torch.manual_seed(0)
    folder = str(tmp_path / "gemma")
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    byte_pairs.save_pretrained(folder)
    oracle = text_oracle(CONTEXT, folder, suffix=QUESTION, target="Oslo")
    assert oracle.description["kind"] == "causal-lm"
    loaded = load_model(folder)
    assert loaded.max_tokens == 80
    found = oracle.evaluate(MASKS)[:, 0]
    answer = byte_pairs(" Oslo", add_special_tokens=False)["input_ids"]
    for mask, value in zip(MASKS, found, strict=True):
        [written] = text_prompt(CONTEXT, suffix=QUESTION).write_all(mask[None])
        ids = [*byte_pairs(written)["input_ids"][:-1], *answer]  # without the end
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0].double()
        steps = logits.log_softmax(-1)[-1 - len(answer) : -1]
        expected = sum(float(s[i]) for s, i in zip(steps, answer, strict=True))
        assert value == pytest.approx(expected, abs=1e-4)


def test_a_model_that_transformers_does_not_load_for_text_is_refused() -> None:
    name = "SeamlessM4TForConditionalGeneration"
    config = transformers.PretrainedConfig(architectures=[name])
    with pytest.raises(ModelError, match=f"is a {name}, which transformers"):
        auto_class(transformers, "m", "causal-lm", config)
