"""Where the prompt ends, the continuation begins, and what stands for nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from oracles import InputError
from oracles.features import CausalOracle, LoadedModel, load_model
from oracles.features.prompts.prompt import text_prompt

STORY = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
QUESTION = "In which city? Answer:"
ALL = np.ones((1, 3), bool)


def random_model(tokenizer: transformers.PreTrainedTokenizerFast) -> LoadedModel:
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    return LoadedModel(model, tokenizer, "random", "causal-lm")


def log_probability(loaded: LoadedModel, ids: list[int], tail: int) -> float:
    """Of the last `tail` tokens given those before, from all logits at once."""
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids])).logits[0].double()
    steps = logits.log_softmax(-1)[:-1][-tail:]
    return sum(float(step[i]) for step, i in zip(steps, ids[-tail:], strict=True))


def asked(
    loaded: LoadedModel,
    text: str = STORY,
    suffix: str = "",
    segments: str = "sentence",
    **settings: Any,
) -> CausalOracle:
    """The oracle of a text, and then a suffix that is always kept."""
    prompt = text_prompt(text, loaded.tokenizer, segments=segments, suffix=suffix)
    return CausalOracle(prompt, loaded, **settings)


def value(loaded: LoadedModel, text: str = STORY, **settings: Any) -> float:
    oracle = asked(loaded, text, **settings)
    masks = np.ones((1, len(oracle.players)), bool)
    return float(oracle.evaluate(masks)[0, 0])


@pytest.fixture(scope="module")
def marked() -> LoadedModel:
    """A tokenizer that writes a space in front of all it encodes, as Llama 2's."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<unk>", "<s>"], show_progress=False
    )
    raw.train_from_iterator([STORY, QUESTION, "Oslo", "Lima"] * 3, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", model_max_length=99
    )
    return random_model(tokenizer)


@pytest.mark.parametrize("words", ["Oslo", " Oslo"])
def test_no_second_space_is_scored_where_the_tokenizer_adds_one(
    marked: LoadedModel, words: str
) -> None:
    together = marked.tokenizer(f"{STORY} {QUESTION} Oslo")["input_ids"]
    tail = len(together) - len(marked.tokenizer(f"{STORY} {QUESTION}")["input_ids"])
    found = value(marked, suffix=QUESTION, continuation=words)
    assert found == pytest.approx(log_probability(marked, [1, *together], tail))


def test_a_continuation_within_a_word_is_encoded_alone(causal: str) -> None:
    loaded = load_model(causal)
    oracle = asked(loaded, STORY + " Answer(", continuation="Oslo")
    assert oracle.description["scored"] == ["Oslo"]
    ids = [loaded.tokenizer(part)["input_ids"] for part in (STORY + " Answer(", "Oslo")]
    start = [loaded.tokenizer.bos_token_id]
    expected = log_probability(loaded, start + ids[0] + ids[1], len(ids[1]))
    assert oracle.evaluate(np.ones((1, 4), bool))[0, 0] == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(
    ("suffix", "words", "scored"),
    [
        ("Answer:", "Oslo", " Oslo"),
        ("Answer: ", "Oslo", " Oslo"),
        ("Answer:\n", "Oslo", "\nOslo"),
        ('Answer: "', "Oslo", "Oslo"),
        ("Answer:", ", or", ", or"),
    ],
)
def test_the_description_says_what_is_scored(
    causal: str, suffix: str, words: str, scored: str
) -> None:
    oracle = asked(load_model(causal), suffix=suffix, continuation=words)
    assert oracle.description["scored"] == [scored]
    assert oracle.description["continuation"] == words.strip()


def test_the_default_continuation_has_the_greedy_answers_own_tokens(
    causal: str, marked: LoadedModel
) -> None:
    for loaded in (load_model(causal), marked):
        for end in ("", "\n", " "):
            oracle = asked(loaded, suffix=QUESTION + end)
            likely = math.exp(oracle.evaluate(ALL)[0, 0])
            told = oracle.description["prediction_probability"]
            assert likely == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("gap", ["", "\n", " "])
def test_no_ablation_changes_what_stands_between_text_and_suffix(
    causal: str, gap: str
) -> None:
    loaded = load_model(causal)
    oracle = asked(loaded, STORY + gap, suffix=QUESTION, continuation="Oslo")
    found = oracle.evaluate(np.array([[True, True, False]]))[0, 0]
    shorter = STORY.removesuffix(" Tom is in Lima.") + gap
    assert found == pytest.approx(
        value(loaded, shorter, suffix=QUESTION, continuation="Oslo"), abs=1e-5
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("Oslo", "Lima"), ("Oslo", "Oslo bakery"), ("a b", "a c")],
)
def test_an_alternative_is_the_difference_however_their_tokens_agree(
    causal: str, first: str, second: str
) -> None:
    loaded = load_model(causal)
    masks = np.random.default_rng(0).random((9, 14)) < 0.5

    def values(**settings: str) -> np.ndarray:
        return asked(loaded, suffix=QUESTION, segments="word", **settings).evaluate(
            masks
        )

    both = values(continuation=first, alternative=second)
    apart = values(continuation=first) - values(continuation=second)
    assert np.allclose(both, apart, atol=1e-5)


def test_batches_of_any_size_give_the_same_values(causal: str) -> None:
    loaded = load_model(causal)
    masks = np.random.default_rng(1).random((20, 14)) < 0.5
    masks[0] = False
    found = [
        asked(loaded, continuation="Oslo", segments="word", batch_size=size).evaluate(
            masks
        )
        for size in (1, 3, 64)
    ]
    assert np.allclose(found[0], found[1], atol=1e-5)
    assert np.allclose(found[0], found[2], atol=1e-5)


def with_special(
    tokenizer: transformers.PreTrainedTokenizerFast, **special: str
) -> LoadedModel:
    return random_model(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            model_max_length=128,
            **special,
        )
    )


@pytest.mark.parametrize("kind", ["eos_token", "pad_token"])
def test_without_a_beginning_token_only_the_empty_prompt_gets_another(
    causal_tokenizer: transformers.PreTrainedTokenizerFast, kind: str
) -> None:
    loaded = with_special(causal_tokenizer, **{kind: "</s>"})
    oracle = asked(loaded, continuation="Oslo")
    found = oracle.evaluate(np.array([[False] * 3, [True, False, False]]))[:, 0]
    end = loaded.tokenizer.convert_tokens_to_ids("</s>")
    tail = loaded.tokenizer(" Oslo")["input_ids"]
    first = loaded.tokenizer("Maria works at the bakery.")["input_ids"]
    assert found == pytest.approx(
        [
            log_probability(loaded, [*start, *tail], len(tail))
            for start in ([end], first)
        ],
        abs=1e-5,
    )


def test_without_any_special_token_a_suffix_is_needed(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    loaded = with_special(causal_tokenizer)
    with pytest.raises(InputError, match="Give a prefix or suffix"):
        asked(loaded, continuation="Oslo")
    oracle = asked(loaded, suffix=QUESTION, continuation="Oslo")
    assert np.isfinite(oracle.evaluate(~ALL)).all()


def test_a_continuation_without_tokens_is_refused() -> None:
    raw = Tokenizer(models.BPE())
    letters = trainers.BpeTrainer(show_progress=False, special_tokens=["<s>"])
    raw.train_from_iterator([STORY], letters)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", model_max_length=128
    )
    with pytest.raises(InputError, match=r"no tokens.*other words"):
        asked(random_model(tokenizer), STORY + '"', continuation="☃")


def test_a_greedy_answer_that_is_nothing_asks_for_a_target(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    loaded = random_model(causal_tokenizer)
    with torch.no_grad():  # every logit is 0 but the end's
        loaded.model.lm_head.weight.zero_()
        loaded.model.model.norm.weight.zero_()
    end = int(loaded.model(torch.tensor([[0]])).logits[0, -1].argmax())
    loaded.tokenizer.eos_token = loaded.tokenizer.convert_ids_to_tokens(end)
    with pytest.raises(InputError, match="answers nothing"):
        asked(loaded)


def test_another_prompt_answer_or_value_is_another_fingerprint(causal: str) -> None:
    loaded = load_model(causal)
    base = {"suffix": QUESTION, "continuation": "Oslo"}
    changes: list[dict[str, str]] = [
        {},
        {"suffix": "Which city? Answer:"},
        {"continuation": "Lima"},
        {"continuation": "\nOslo"},
        {"alternative": "Lima"},
        {"value": "log-odds"},
        {"segments": "word"},
    ]
    prints = [asked(loaded, **(base | change)).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    same = asked(loaded, **base, batch_size=2)
    assert same.fingerprint == prints[0]
    assert asked(loaded, continuation="Oslo").fingerprint not in prints
