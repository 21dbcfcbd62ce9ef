"""The mixed oracle: segments and components against the prompt written by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spex
from oracles import InputError
from oracles.components import ComponentOracle, MixedOracle, TaskPrompt
from oracles.features import LoadedModel, load_model, text_prompt
from oracles.testing import OracleContract

from .conftest import Make
from .test_by_hand import by_hand

TEXT, ANSWER, WRONG = "the cat sat on the", "mat", "dog"


@pytest.fixture(scope="module")
def loaded(make: Make) -> LoadedModel:
    return make("GPT2LMHeadModel")


def mixed(loaded: LoadedModel, text: str = TEXT, **settings: Any) -> MixedOracle:
    prompt = text_prompt(text, loaded.tokenizer, segments="word")
    usual = {"answer": ANSWER, "wrong": WRONG, "ablation": "zero"}
    return MixedOracle(loaded, prompt, **{**usual, **settings})


def zeros(place: str) -> torch.Tensor:
    return torch.zeros(())


def test_players_are_the_segments_and_then_the_components(loaded: LoadedModel) -> None:
    oracle = mixed(loaded, layers=[1])
    assert oracle.players == (*TEXT.split(), "L1.H0", "L1.H1", "L1.H2", "L1.H3")
    assert [one.name for one in oracle.components] == list(oracle.players[5:])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=17, max_size=17))
def test_a_value_is_that_of_the_shorter_prompt_with_heads_ablated_by_hand(
    loaded: LoadedModel, kept: list[bool]
) -> None:
    oracle = mixed(loaded)
    if not any(kept[:5]):
        kept[0] = True  # this tokenizer has no beginning that by_hand could read
    words = [word for word, is_kept in zip(TEXT.split(), kept, strict=False) if is_kept]
    task = TaskPrompt(" ".join(words), ANSWER, WRONG)
    mask = np.array(kept)
    expected = by_hand(loaded, oracle, task, mask[5:], zeros)  # type: ignore[arg-type]
    assert oracle.evaluate(mask[None])[0, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("unit", ["head", "mlp", "head+mlp", "layer"])
@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [("margin", ANSWER), ("logit", ANSWER), ("log-prob", "mat sat"), ("loss", "mat a")],
)
def test_units_and_behaviours_agree_with_the_component_oracle(
    loaded: LoadedModel, unit: str, behaviour: str, answer: str
) -> None:
    settings: dict[str, Any] = {
        "unit": unit,
        "behaviour": behaviour,
        "ablation": "zero",
    }
    oracle = mixed(loaded, answer=answer, **settings)
    masks = np.random.default_rng(0).random((8, len(oracle.players))) < 0.6
    masks[:, 0] = True
    for mask, value in zip(masks, oracle.evaluate(masks), strict=True):
        words = [w for w, kept in zip(TEXT.split(), mask, strict=False) if kept]
        task = TaskPrompt(" ".join(words), answer, WRONG)
        alone = ComponentOracle(loaded, [task], **settings)
        assert alone.evaluate(mask[None, 5:])[0, 0] == pytest.approx(value[0], abs=1e-4)


def test_the_mean_is_the_intact_prompts_whatever_is_removed(
    loaded: LoadedModel,
) -> None:
    oracle = mixed(loaded, ablation="mean")
    masks = np.ones((3, len(oracle.players)), dtype=bool)
    masks[1, 2], masks[2, 5:] = False, False
    masks[1, 5:] = False
    shorter = TaskPrompt("the cat on the", ANSWER, WRONG)
    alone = ComponentOracle(loaded, [shorter], ablation="mean", reference=[TEXT])
    nothing = np.zeros((1, len(oracle.components)), dtype=bool)
    assert oracle.evaluate(masks)[1, 0] == pytest.approx(
        alone.evaluate(nothing)[0, 0], abs=1e-4
    )


def test_the_mean_leaves_out_the_answer(loaded: LoadedModel) -> None:
    settings: dict[str, Any] = {
        "behaviour": "log-prob",
        "answer": "mat dog ran",
        "ablation": "mean",
    }
    own, given = mixed(loaded, **settings), mixed(loaded, **settings, reference=[TEXT])
    masks = np.random.default_rng(0).random((6, len(own.players))) < 0.6
    assert np.allclose(own.evaluate(masks), given.evaluate(masks), atol=1e-6)


def test_the_mean_is_the_usual_ablation(loaded: LoadedModel) -> None:
    prompt = text_prompt(TEXT, loaded.tokenizer, segments="word")
    both = MixedOracle(loaded, prompt, answer=ANSWER, wrong=WRONG)
    alone = ComponentOracle(loaded, [TaskPrompt(TEXT, ANSWER, WRONG)])
    assert both.description["ablation"] == alone.description["ablation"] == "mean"


@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", "BertForSequenceClassification"]
)
def test_other_families(make: Make, architecture: str) -> None:
    loaded = make(architecture)
    is_causal = loaded.task == "causal-lm"
    answer, wrong = (ANSWER, WRONG) if is_causal else ("0", "1")
    oracle = mixed(loaded, answer=answer, wrong=wrong)
    masks = np.random.default_rng(1).random((10, len(oracle.players))) < 0.7
    masks[:, 1] = True
    for mask, value in zip(masks, oracle.evaluate(masks), strict=True):
        words = [w for w, kept in zip(TEXT.split(), mask, strict=False) if kept]
        task = TaskPrompt(" ".join(words), answer, wrong)
        alone = ComponentOracle(loaded, [task], ablation="zero")
        assert alone.evaluate(mask[None, 5:])[0, 0] == pytest.approx(value[0], abs=1e-4)


def test_a_mask_token_stands_where_it_is_kept(make: Make) -> None:
    loaded = make("BertForMaskedLM")
    prompt = text_prompt(
        "the cat sat on", loaded.tokenizer, segments="word", suffix="a [MASK]"
    )
    oracle = MixedOracle(loaded, prompt, answer=ANSWER, wrong=WRONG, ablation="zero")
    masks = np.ones((1, len(oracle.players)), dtype=bool)
    masks[0, [1, 6]] = False
    task = TaskPrompt("the sat on a [MASK]", ANSWER, WRONG)
    alone = ComponentOracle(loaded, [task], ablation="zero").evaluate(masks[:, 4:])
    assert oracle.evaluate(masks)[0, 0] == pytest.approx(alone[0, 0], abs=1e-4)
    with pytest.raises(InputError, match="suffix"):
        mixed(loaded, "the [MASK] sat on the")


def test_the_batch_size_changes_nothing(loaded: LoadedModel) -> None:
    masks = np.random.default_rng(0).random((9, 17)) < 0.5
    whole, single = (
        mixed(loaded, batch_size=size).evaluate(masks) for size in (None, 1)
    )
    np.testing.assert_allclose(whole, single, atol=1e-5)


def cut(loaded: LoadedModel, text: str, segments: str = "word") -> Any:
    return text_prompt(text, loaded.tokenizer, segments=segments)


@torch.no_grad()
def heads_of(loaded: LoadedModel, words: list[str]) -> list[torch.Tensor]:
    """Layer by layer what the heads put out, (1, tokens, heads x width)."""
    seen: list[torch.Tensor] = []
    blocks = loaded.model.transformer.h
    handles = [
        block.attn.c_proj.register_forward_pre_hook(
            lambda module, args: seen.append(args[0])
        )
        for block in blocks
    ]
    loaded.model(torch.tensor([loaded.tokenizer(" ".join(words))["input_ids"]]))
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def logs_by_hooks(
    loaded: LoadedModel, words: list[str], kept: np.ndarray, others: list[torch.Tensor]
) -> torch.Tensor:
    """Log-probabilities (tokens, v) with heads replaced, one prompt and one mask."""
    handles = []
    for number, block in enumerate(loaded.model.transformer.h):
        own = torch.from_numpy(kept[4 * number : 4 * number + 4]).repeat_interleave(6)

        def hook(
            module: Any, args: Any, own: Any = own, other: Any = others[number]
        ) -> Any:
            return (torch.where(own, args[0], other),)

        handles.append(block.attn.c_proj.register_forward_pre_hook(hook))
    ids = torch.tensor([loaded.tokenizer(" ".join(words))["input_ids"]])
    logs: torch.Tensor = loaded.model(ids).logits[0].log_softmax(dim=-1)
    for handle in handles:
        handle.remove()
    return logs


def drawn_masks(count: int) -> np.ndarray:
    masks = np.random.default_rng(5).random((count, 17)) < 0.6
    masks[:, 1] = True
    masks[0], masks[1, 5:], masks[1, 2] = True, True, False
    return masks


def left(text: str, mask: np.ndarray) -> list[str]:
    return [w for w, kept in zip(text.split(), mask[:5], strict=True) if kept]


@pytest.mark.parametrize("answer", ["", "mat", "mat sat ran"])
def test_divergence_is_from_the_intact_prompt(loaded: LoadedModel, answer: str) -> None:
    oracle = mixed(loaded, behaviour="kl", answer=answer, wrong="")
    more = answer.split()[:-1]
    count = len(more) + 1
    nothing = [torch.zeros(())] * 3
    everything = np.ones(12, dtype=bool)
    intact = logs_by_hooks(loaded, TEXT.split() + more, everything, nothing)[-count:]
    masks = drawn_masks(10)
    for mask, value in zip(masks, oracle.evaluate(masks), strict=True):
        words = left(TEXT, mask) + more
        logs = logs_by_hooks(loaded, words, mask[5:], nothing)[-count:]
        expected = (intact.exp() * (intact - logs)).sum(dim=1).mean()
        assert value[0] == pytest.approx(float(expected), abs=1e-5)
    assert oracle.evaluate(masks[:1])[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert oracle.evaluate(masks[1:2])[0, 0] > 1e-3  # shorter, all heads working


def test_resampled_heads_read_the_corrupted_prompt_without_the_same_words(
    loaded: LoadedModel,
) -> None:
    other = "a dog ran . and"
    settings: dict[str, Any] = {"ablation": "resample", "corrupted": cut(loaded, other)}
    oracle = mixed(loaded, **settings)
    masks = drawn_masks(70)  # more than are run together
    ids = [loaded.tokenizer(word)["input_ids"][0] for word in (ANSWER, WRONG)]
    for mask, value in zip(masks, oracle.evaluate(masks), strict=True):
        corrupted = heads_of(loaded, left(other, mask))
        logs = logs_by_hooks(loaded, left(TEXT, mask), mask[5:], corrupted)[-1]
        assert value[0] == pytest.approx(float(logs[ids[0]] - logs[ids[1]]), abs=1e-4)


def test_what_is_corrupted_tells_oracles_apart(loaded: LoadedModel) -> None:
    one, other = (
        mixed(loaded, ablation="resample", corrupted=cut(loaded, text))
        for text in ("a dog ran . and", "a dog ran . mat")
    )
    assert one.fingerprint != other.fingerprint


def test_corrupted_segments_have_as_many_tokens(loaded: LoadedModel) -> None:
    prompt, other = (
        cut(loaded, text, segments="line") for text in ("a cat\nsat", "a\ncat sat")
    )
    with pytest.raises(InputError, match=r"'a cat' alone .* 2 tokens .* form 1\."):
        MixedOracle(
            loaded,
            prompt,
            answer=ANSWER,
            wrong=WRONG,
            ablation="resample",
            corrupted=other,
        )


def test_other_corrupted_prompts_are_refused(loaded: LoadedModel) -> None:
    fewer = cut(loaded, "a dog ran .")
    with pytest.raises(InputError, match="5 segments and its corrupted form 4"):
        mixed(loaded, ablation="resample", corrupted=fewer)
    with pytest.raises(InputError, match="'mean', and one is given"):
        mixed(loaded, ablation="mean", corrupted=fewer)


def test_several_prompts_are_refused(loaded: LoadedModel) -> None:
    several: Any = [cut(loaded, TEXT), cut(loaded, TEXT)]
    with pytest.raises(InputError, match="oracle for each"):
        MixedOracle(loaded, several, answer=ANSWER, wrong=WRONG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"behaviour": "charm"}, "behaviour='charm'"),
        ({"ablation": "resample"}, "ablation='resample', and none is given"),
        ({"unit": "brain"}, "unit='brain'"),
        ({"answer": ""}, "no answer"),
        ({"answer": "mat sat"}, "2 tokens"),
        ({"wrong": ""}, "no wrong answer"),
        ({"reference": ["a cat"]}, "reference"),
        ({"text": " ".join(["cat"] * 70)}, "70 tokens"),
    ],
)
def test_bad_input_is_refused(
    loaded: LoadedModel, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        mixed(loaded, **settings)


class TestContract(OracleContract):
    """What every oracle must do."""

    @pytest.fixture(autouse=True)
    def _made_of(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def make_oracle(self) -> MixedOracle:
        return mixed(self.loaded, layers=[0])


def test_the_word_to_copy_acts_through_the_induction_head() -> None:
    loaded = load_model("induction", device="cpu")
    prompt = text_prompt("cat sun map fox zoo cat sun", segments="word")
    oracle = MixedOracle(loaded, prompt, answer="map", wrong="zoo")
    found = spex.explain(oracle, budget=500, seed=0)
    pairs = [
        set(one.names)
        for one in found.top(99)
        if len(one.names) == 2 and one.names[1].startswith("L")
    ]
    assert pairs[0] == {"map", "L1.H5"}
