"""What is asked of an answer: every token, one of several, with tokens hidden."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from oracles import InputError
from oracles.features import CausalOracle, ClassifierOracle, LoadedModel, load_model
from oracles.features.answers.targets import scaled
from oracles.features.passes.causal_pass import Scored, check_positions, token_logs
from oracles.features.passes.hiding import kept_tokens
from oracles.features.passes.prefix_cache import CachedModel
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.testing import OracleContract

STORY = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
QUESTION = "In which city? Answer:"
FACTS = load_model("facts")


def prompt(loaded: LoadedModel, removal: str = "delete", **settings: Any) -> TextPrompt:
    return text_prompt(
        STORY,
        loaded.tokenizer,
        suffix=QUESTION,
        removal=removal,
        **{"segments": "word", **settings},
    )


def some_masks(players: int, count: int = 12) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, players)) < 0.6
    masks[0], masks[1] = True, False
    return masks


class TestTokensOfAnAnswer(OracleContract):
    def make_oracle(self) -> CausalOracle:
        answer = "Oslo, by the sea"
        return CausalOracle(
            prompt(FACTS), FACTS, continuation=answer, per_token=True, batch_size=5
        )


class TestChoices(OracleContract):
    def make_oracle(self) -> CausalOracle:
        return CausalOracle(prompt(FACTS), FACTS, choices=["Oslo", "Lima", "unknown"])


class TestHiddenTokens(OracleContract):
    def make_oracle(self) -> CausalOracle:
        hidden = prompt(FACTS, "attention")
        return CausalOracle(hidden, FACTS, continuation="Oslo, by the sea")


def test_the_tokens_values_sum_to_the_wholes(causal: str) -> None:
    loaded = load_model(causal)
    answer = "Oslo, by the sea"
    each = CausalOracle(prompt(loaded), loaded, continuation=answer, per_token=True)
    whole = CausalOracle(prompt(loaded), loaded, continuation=answer)
    masks = some_masks(len(each.players))
    values = each.evaluate(masks)
    assert values.shape == (12, len(each.outputs))
    assert values.shape[1] > 2
    assert np.allclose(
        values.sum(axis=1, keepdims=True), whole.evaluate(masks), atol=1e-5
    )
    assert each.fingerprint != whole.fingerprint


def test_every_token_has_its_name() -> None:
    oracle = CausalOracle(
        prompt(FACTS), FACTS, continuation="Oslo or Lima", per_token=True
    )
    assert oracle.outputs == (
        "log-probability of ' Oslo', token 1 of 3",
        "log-probability of ' or', token 2 of 3",
        "log-probability of ' Lima', token 3 of 3",
    )


def test_a_character_of_several_tokens_is_named_once(causal: str) -> None:
    oracle = CausalOracle(
        prompt(load_model(causal)),
        load_model(causal),
        continuation="🙂!",
        per_token=True,
    )
    pieces = [name.split("'")[1] for name in oracle.outputs]
    assert "".join(pieces) == "🙂!"
    assert len(pieces) > 3


def test_an_answer_that_is_given_is_not_generated(
    causal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("the model was asked for an answer")

    monkeypatch.setattr(CausalOracle, "_greedy", refuse)
    loaded = load_model(causal)
    oracle = CausalOracle(prompt(loaded), loaded, continuation="made elsewhere")
    assert "prediction" not in oracle.description
    assert oracle.description["scored"] == [" made elsewhere"]
    with pytest.raises(AssertionError):
        CausalOracle(prompt(loaded), loaded)


def test_choices_are_normalised_over_the_choices(causal: str) -> None:
    loaded = load_model(causal)
    words = ["Oslo", "Lima", "the bakery"]
    masks = some_masks(14)
    logs = np.hstack(
        [
            CausalOracle(prompt(loaded), loaded, continuation=word).evaluate(masks)
            for word in words
        ]
    )

    def values(value: str | None = None) -> np.ndarray:
        oracle = CausalOracle(prompt(loaded), loaded, choices=words, value=value)
        assert len(oracle.outputs) == 3
        return oracle.evaluate(masks)

    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    assert np.allclose(values("probability"), shares, atol=1e-5)
    assert np.allclose(values(), np.log(shares / (1 - shares)), atol=1e-4)
    best_other = [np.delete(logs, i, axis=1).max(axis=1) for i in range(3)]
    assert np.allclose(values("margin"), logs - np.stack(best_other, 1), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"choices": ["Oslo"]},
        {"choices": ["Oslo", "Oslo"]},
        {"choices": ["Oslo", "Lima"], "continuation": "Oslo"},
        {"choices": ["Oslo", "Lima"], "per_token": True},
        {"choices": ["Oslo", "Lima"], "value": "log-probability"},
        {"continuation": "Oslo", "alternative": "Lima", "per_token": True},
        {"continuation": "Oslo", "value": "margin"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: Any) -> None:
    with pytest.raises(InputError):
        CausalOracle(prompt(FACTS), FACTS, **settings)


def test_many_answers_share_the_prompt() -> None:
    computed = 0

    def count(module: Any, given: Any, arguments: dict[str, Any]) -> None:
        nonlocal computed
        computed += arguments["input_ids"].numel()

    words = ["Oslo in the north", "Lima in the south", "Rome in the hills"]
    pinned = prompt(FACTS, prefix=f"{STORY} " * 8)
    oracle = CausalOracle(pinned, FACTS, choices=words)
    mask = np.ones((1, len(oracle.players)), bool)
    oracle.evaluate(mask)
    handle = FACTS.model.register_forward_pre_hook(count, with_kwargs=True)
    oracle.evaluate(mask)
    handle.remove()
    tokens = len(FACTS.tokenizer(pinned.write_all(mask)[0])["input_ids"])
    assert tokens < computed < 1.3 * tokens


# Hidden tokens


def by_hand(loaded: LoadedModel, mask: np.ndarray, words: str) -> float:
    """log p(words) with hidden tokens taken out, the others told their positions."""
    text = f"{STORY} {QUESTION}"
    encoded = loaded.tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True
    )
    places = prompt(loaded).places
    gone = {
        i
        for player in np.flatnonzero(~mask)
        for i in range(places[player][0], places[player][1])
    }
    gone |= {i + 1 for i in gone if text[i + 1].isspace()}  # a space goes with a word
    ids: list[int] = []
    positions: list[int] = []
    for i, (token, (start, end)) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ):
        marks = [c for c in range(start, end) if not text[c].isspace()]
        if not set(marks or [start]) <= gone:
            ids.append(token)
            positions.append(i)
    answer = loaded.tokenizer(f" {words}", add_special_tokens=False)["input_ids"]
    if not ids:
        ids, positions = [loaded.tokenizer.bos_token_id], [0]
    length = len(encoded["input_ids"])
    positions += range(length, length + len(answer))
    with torch.no_grad():
        logits = loaded.model(
            torch.tensor([ids + answer]), position_ids=torch.tensor([positions])
        ).logits[0]
    steps = logits.double().log_softmax(dim=-1)[len(ids) - 1 : -1]
    return float(steps[range(len(answer)), answer].sum())


@pytest.mark.parametrize("worth_sharing", [0.0, np.inf])
def test_hidden_tokens_leave_the_others_where_they_were(
    causal: str, worth_sharing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "oracles.features.passes.prefix_cache.WORTH_SHARING", worth_sharing
    )
    loaded = load_model(causal)
    oracle = CausalOracle(prompt(loaded, "attention"), loaded, continuation="Oslo")
    masks = some_masks(14)
    found = oracle.evaluate(masks)[:, 0]
    expected = [by_hand(loaded, mask, "Oslo") for mask in masks]
    assert np.allclose(found, expected, atol=1e-4)
    deleted = CausalOracle(prompt(loaded), loaded, continuation="Oslo").evaluate(masks)
    assert abs(deleted[2:, 0] - found[2:]).max() > 1e-3
    assert np.isclose(deleted[0, 0], found[0], atol=1e-4)


def test_hiding_from_a_classifier_is_a_hole_in_its_attention(classifier: str) -> None:
    loaded = load_model(classifier)
    free = text_prompt(STORY, segments="word", removal="attention")
    with pytest.raises(InputError, match="hidden tokens"):  # it reads the first token
        ClassifierOracle(free, loaded)
    hidden = text_prompt(STORY, segments="word", removal="attention", pinned="Maria")
    oracle = ClassifierOracle(hidden, loaded, target="all", value="logit")
    masks = some_masks(13)
    encoded = loaded.tokenizer(STORY, return_offsets_mapping=True)
    kept = kept_tokens(encoded["offset_mapping"], STORY, hidden.places, masks)
    for row, seen in zip(oracle.evaluate(masks), kept, strict=True):
        with torch.no_grad():
            expected = loaded.model(
                torch.tensor([encoded["input_ids"]]),
                attention_mask=torch.tensor(seen[None].astype(int)),
            ).logits[0]
        assert np.allclose(row, expected, atol=1e-4)


def test_a_token_is_hidden_only_with_all_it_has_characters_of() -> None:
    text = "ab cd, ef"
    places = ((0, 2), (3, 5), (7, 9))  # the comma belongs to none
    offsets = [(0, 0), (0, 1), (1, 4), (2, 3), (4, 5), (5, 6), (6, 9)]
    masks = np.array([[False, True, True], [False, False, True], [True, True, False]])
    kept = kept_tokens(offsets, text, places, masks)
    assert kept.tolist() == [
        [True, False, True, False, True, True, True],
        [True, False, False, False, False, True, True],
        [True, True, True, True, True, True, False],
    ]


@pytest.mark.parametrize("is_trimming", [True, False])
def test_white_space_is_hidden_also_where_a_tokenizer_shows_none_of_it(
    is_trimming: bool,
) -> None:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.ByteLevel(trim_offsets=is_trimming)
    trainer = trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(["ab cd ef"] * 3, trainer)
    text, places = "ab   \n cd\n\nef  ", ((0, 2), (7, 9), (11, 13))
    offsets = raw.encode(text).offsets
    assert is_trimming == any(0 < start == end for start, end in offsets)
    for player in range(3):
        mask = np.arange(3)[None] == player
        [kept] = kept_tokens(offsets, text, places, mask)
        inside = [offset for offset, seen in zip(offsets, kept, strict=True) if seen]
        after = (*(start for start, _ in places[1:]), len(text))
        assert min(start for start, _ in inside) >= max(0, places[player][0] - 1)
        assert max(end for _, end in inside) <= after[player]


def test_a_model_that_counts_its_tokens_itself_cannot_hide_any() -> None:
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=50, hidden_size=16, n_layer=1, n_head=2, use_cache=False
    )
    model = transformers.BloomForCausalLM(config).eval()
    with pytest.raises(InputError, match=r"BloomForCausalLM.*delete"):
        check_positions(model, [5, 6, 7, 8])


# Caches


@pytest.mark.parametrize("kind", ["sliding", "alibi", "recurrent"])
def test_models_whose_cache_cannot_be_shared_run_without(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2}
    if kind == "sliding":
        config = transformers.MistralConfig(
            **sizes,
            intermediate_size=32,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=6,
        )
        model = transformers.MistralForCausalLM(config).eval()
    elif kind == "alibi":
        config = transformers.BloomConfig(**sizes, n_head=4)
        model = transformers.BloomForCausalLM(config).eval()
    else:
        config = transformers.MambaConfig(**sizes, state_size=4)
        model = transformers.MambaForCausalLM(config).eval()
    prefix = tuple(range(10, 40))
    asked = [Scored((*prefix, *range(5, 5 + i), 9), 30, (7, 8)) for i in range(1, 6)]
    found = CachedModel(model).log_probabilities(asked)
    for one, values in zip(asked, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([one.ids])).logits[0].double()
        logs = logits.log_softmax(dim=-1)
        inner = [float(logs[i, one.ids[i + 1]]) for i in range(30, len(one.ids) - 1)]
        expected = inner + [float(logs[-1, last]) for last in one.lasts]
        assert np.allclose(values, expected, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 400),
    st.integers(1, 5),
    st.floats(0.1, 80.0),
    st.integers(0, 2**31),
)
def test_log_odds_are_those_of_float64_logits_however_likely_the_token(
    vocabulary: int, asked: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(7, vocabulary))).astype(np.float32)
    logits[np.arange(7), rng.integers(vocabulary, size=7)] += np.float32(scale)
    counts = np.minimum(rng.integers(1, asked + 1, size=7), vocabulary)
    tokens = [tuple(rng.permutation(vocabulary)[:n].tolist()) for n in counts]
    logs = token_logs(torch.tensor(logits), tokens)
    exact = logits.astype(np.float64)
    expected = [
        row[t] - np.logaddexp.reduce(np.delete(row, t))
        for row, wanted in zip(exact, tokens, strict=True)
        for t in wanted
    ]
    found = scaled(logs, "log-odds")
    near = np.minimum(expected, 600.0)  # of a probability that is 1 in any precision
    assert found.clip(max=600) == pytest.approx(near, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("per_token", [False, True])
def test_likely_answers_have_the_log_odds_of_a_float64_model(
    causal: str, per_token: bool
) -> None:
    loaded = load_model(causal)
    loaded.model.get_output_embeddings().weight.data.mul_(32.0)
    oracle = CausalOracle(prompt(loaded), loaded, per_token=per_token, value="log-odds")
    masks = some_masks(len(oracle.players))
    found = oracle.evaluate(masks)
    model, encoder = loaded.model.double(), oracle._encoder
    [answer] = oracle._scored
    expected = []
    for ids in encoder.prompts(prompt(loaded).write_all(masks)):
        both = torch.tensor([[*ids, *answer.tokens]])
        with torch.inference_mode():
            logits = model(input_ids=both).logits[0, len(ids) - 1 : -1].numpy()
        own = logits[np.arange(len(answer.tokens)), answer.tokens]
        np.put_along_axis(logits, np.array(answer.tokens)[:, None], -np.inf, axis=1)
        odds = own - np.logaddexp.reduce(logits, axis=1)
        wrong = np.logaddexp(0, -odds).sum()  # minus log p of the whole
        expected.append(odds if per_token else [-wrong - np.log(-np.expm1(-wrong))])
    assert (
        not per_token or np.max(expected) > 20
    )  # where float32 has nothing left to say
    assert found == pytest.approx(np.array(expected), rel=1e-4, abs=1e-2)
