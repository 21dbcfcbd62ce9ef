"""Ablations and behaviours against a forward pass of GPT-2 written out by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.components import BEHAVIOURS, ComponentOracle, Directions, TaskPrompt
from oracles.components.behaviour import Read
from oracles.errors import InputError, ModelError
from oracles.features import LoadedModel

from .conftest import PROMPTS, Make

Edit = Callable[[str, torch.Tensor], torch.Tensor]
"""From the name of a place and the states there to other states."""

REFERENCE = ["a cat sat", "the dog was good . and bad"]


def ids_of(loaded: LoadedModel, text: str) -> list[int]:
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@torch.no_grad()
def forward(loaded: LoadedModel, ids: Sequence[int], edit: Edit) -> torch.Tensor:
    """Logits (tokens, vocabulary); `edit` sees each place where components act."""
    body, heads = loaded.model.transformer, loaded.model.config.n_head
    tokens = len(ids)
    states = body.wte.weight[list(ids)] + body.wpe.weight[:tokens]
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    for number, block in enumerate(body.h):
        qkv = block.attn.c_attn(block.ln_1(states)).split(states.shape[1], dim=1)
        query, key, value = (
            part.reshape(tokens, heads, -1).transpose(0, 1) for part in qkv
        )
        scores = query @ key.transpose(1, 2) / query.shape[2] ** 0.5
        weights = scores.masked_fill(later, -torch.inf).softmax(dim=2)
        z = (weights @ value).transpose(0, 1).reshape(tokens, -1)
        z = edit(f"z{number}", z)
        written = z @ block.attn.c_proj.weight + block.attn.c_proj.bias
        states = states + edit(f"attention{number}", written)
        neurons = block.mlp.act(block.mlp.c_fc(block.ln_2(states)))
        neurons = edit(f"neurons{number}", neurons)
        written = neurons @ block.mlp.c_proj.weight + block.mlp.c_proj.bias
        states = states + edit(f"mlp{number}", written)
        states = edit(f"stream{number}", states)
    return loaded.model.lm_head(body.ln_f(states))


def notes(loaded: LoadedModel, text: str) -> dict[str, torch.Tensor]:
    """States at every place of an intact pass."""
    seen: dict[str, torch.Tensor] = {}

    def note(place: str, states: torch.Tensor) -> torch.Tensor:
        seen[place] = states
        return states

    forward(loaded, ids_of(loaded, text), note)
    return seen


def places_of(oracle: ComponentOracle, wide: int) -> list[tuple[list[str], slice]]:
    """For each player the places where it acts, and its columns there."""
    found = []
    for player in oracle.components:
        part = slice(player.place * wide, (player.place + 1) * wide)
        names, columns = {
            "head": ([f"z{player.layer}"], part),
            "mlp": ([f"mlp{player.layer}"], slice(None)),
            "layer": (
                [f"attention{player.layer}", f"mlp{player.layer}"],
                slice(None),
            ),
            "neuron": ([f"neurons{player.layer}"], part),
        }[player.kind]
        found.append((names, columns))
    return found


def by_hand(
    loaded: LoadedModel,
    oracle: ComponentOracle,
    prompt: TaskPrompt,
    mask: np.ndarray,
    others: Callable[[str], torch.Tensor],
) -> float:
    """Logit difference with what the mask ablates replaced by `others(place)`."""
    wide = 6 if oracle.components[0].kind == "head" else 24
    acts = places_of(oracle, wide)

    def edit(place: str, states: torch.Tensor) -> torch.Tensor:
        states = states.clone()
        for (names, columns), kept in zip(acts, mask, strict=True):
            if place in names and not kept:
                wanted = others(place).expand_as(states)
                states[:, columns] = wanted[:, columns]
        return states

    logits = forward(loaded, ids_of(loaded, prompt.text), edit)[-1]
    answer, wrong = (ids_of(loaded, w)[0] for w in (prompt.answer, prompt.wrong))
    return float(logits[answer] - logits[wrong])


@pytest.fixture(scope="module")
def loaded(make: Make) -> LoadedModel:
    return make("GPT2LMHeadModel")


UNITS: list[tuple[str, dict[str, Any]]] = [
    ("head", {}),
    ("mlp", {}),
    ("layer", {}),
    ("neuron", {"groups": 4}),
    ("head", {"layers": [2]}),
]


@pytest.mark.parametrize(("unit", "more"), UNITS)
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_values_are_those_of_the_written_out_pass(
    loaded: LoadedModel, unit: str, more: dict[str, Any], ablation: str
) -> None:
    reference = REFERENCE if ablation == "mean" else []
    oracle = ComponentOracle(
        loaded,
        PROMPTS,
        unit=unit,
        ablation=ablation,
        reference=reference,
        per_prompt=True,
        **more,
    )
    rng = np.random.default_rng(1)
    masks = rng.random((6, len(oracle.players))) < 0.5
    values = oracle.evaluate(masks)
    every = [notes(loaded, text) for text in REFERENCE]
    for column, prompt in enumerate(PROMPTS):
        corrupted = notes(loaded, prompt.corrupted)
        others = {
            "zero": lambda place: torch.zeros(()),
            "mean": lambda place: torch.cat([seen[place] for seen in every]).mean(0),
            "resample": corrupted.__getitem__,
        }[ablation]
        expected = [by_hand(loaded, oracle, prompt, mask, others) for mask in masks]
        assert np.allclose(values[:, column], expected, atol=1e-5)


def test_the_mean_is_over_the_prompts_unless_texts_are_given(
    loaded: LoadedModel,
) -> None:
    texts = [p.text for p in PROMPTS]
    own = ComponentOracle(loaded, PROMPTS, ablation="mean")
    given = ComponentOracle(loaded, PROMPTS, ablation="mean", reference=texts)
    masks = np.random.default_rng(0).random((5, 12)) < 0.5
    assert np.allclose(own.evaluate(masks), given.evaluate(masks), atol=1e-6)


def test_the_mean_leaves_out_the_answers(loaded: LoadedModel) -> None:
    prompts = [replace(p, answer="mat dog ran red") for p in PROMPTS]
    masks = np.random.default_rng(0).random((5, 12)) < 0.5
    own, given = (
        ComponentOracle(
            loaded, prompts, behaviour="log-prob", ablation="mean", reference=texts
        ).evaluate(masks)
        for texts in ([], [p.text for p in prompts])
    )
    assert np.allclose(own, given, atol=1e-6)


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
@pytest.mark.parametrize("is_orthogonal", [True, False])
def test_directions_lose_their_coordinate_and_nothing_else(
    loaded: LoadedModel, ablation: str, is_orthogonal: bool
) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 24))
    if is_orthogonal:
        matrix = np.linalg.qr(matrix.T)[0].T
    oracle = ComponentOracle(
        loaded,
        PROMPTS,
        unit="direction",
        directions=Directions(1, matrix, ("a", "b", "c")),
        ablation=ablation,
        reference=REFERENCE if ablation == "mean" else [],
        per_prompt=True,
    )
    assert oracle.players == ("a", "b", "c")
    rows = torch.tensor(matrix, dtype=torch.float32)
    every = torch.cat([notes(loaded, text)["stream1"] for text in REFERENCE])

    def coordinates(states: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lstsq(rows.T, states.T).solution.T

    for mask in np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=bool):
        values = oracle.evaluate(mask[None])[0]
        for value, prompt in zip(values, PROMPTS, strict=True):
            corrupted = notes(loaded, prompt.corrupted)["stream1"]
            others = {
                "zero": torch.zeros(3),
                "mean": coordinates(every).mean(0),
                "resample": coordinates(corrupted),
            }[ablation]

            def edit(
                place: str,
                states: torch.Tensor,
                mask: np.ndarray = mask,
                others: torch.Tensor = others,
            ) -> torch.Tensor:
                if place != "stream1":
                    return states
                change = (others - coordinates(states)) * torch.tensor(~mask)
                return states + change @ rows

            logits = forward(loaded, ids_of(loaded, prompt.text), edit)[-1]
            words = (ids_of(loaded, w)[0] for w in (prompt.answer, prompt.wrong))
            answer, wrong = words
            assert abs(value - float(logits[answer] - logits[wrong])) < 1e-4


def unchanged(place: str, states: torch.Tensor) -> torch.Tensor:
    return states


def written_out(
    behaviour: str, intact: torch.Tensor, logits: torch.Tensor, words: list[int]
) -> float:
    """Behaviours of an answer of one word, by their definitions."""
    answer, wrong = words
    logs, before = logits.log_softmax(0), intact.log_softmax(0)
    others = torch.cat([logits[:answer], logits[answer + 1 :]])
    return float(
        {
            "logit-diff": logits[answer] - logits[wrong],
            "logit": logits[answer],
            "margin": logits[answer] - others.max(),
            "log-prob": logs[answer],
            "accuracy": (logits.argmax() == answer).float(),
            "loss": -logs[answer],
            "kl": (before.exp() * (before - logs)).sum(),
        }[behaviour]
    )


@pytest.mark.parametrize(
    "behaviour",
    ["logit-diff", "logit", "margin", "log-prob", "accuracy", "loss", "kl"],
)
def test_behaviours_are_as_defined(loaded: LoadedModel, behaviour: str) -> None:
    # answers that the intact model gives, so that accuracy is not constant
    prompts = []
    for prompt in PROMPTS:
        logits = forward(loaded, ids_of(loaded, prompt.text), unchanged)[-1]
        logits[:5] = -torch.inf  # special tokens are not words
        best = loaded.tokenizer.decode([int(logits.argmax())])
        wrong = "cat" if best != "cat" else "dog"
        prompts.append(replace(prompt, answer=best, wrong=wrong))
    oracle = ComponentOracle(
        loaded, prompts, behaviour=behaviour, ablation="zero", per_prompt=True
    )
    masks = np.random.default_rng(2).random((5, 12)) < 0.7
    masks[0] = True
    values = oracle.evaluate(masks)
    acts = places_of(oracle, 6)
    for column, prompt in enumerate(prompts):
        ids = ids_of(loaded, prompt.text)
        words = [ids_of(loaded, w)[0] for w in (prompt.answer, prompt.wrong)]
        intact = forward(loaded, ids, unchanged)[-1]
        for mask, value in zip(masks, values[:, column], strict=True):

            def edit(
                place: str, states: torch.Tensor, mask: np.ndarray = mask
            ) -> torch.Tensor:
                states = states.clone()
                for (names, columns), kept in zip(acts, mask, strict=True):
                    if place in names and not kept:
                        states[:, columns] = 0.0
                return states

            logits = forward(loaded, ids, edit)[-1]
            expected = written_out(behaviour, intact, logits, words)
            assert abs(value - expected) < 1e-5


def test_what_is_not_finite_is_not_measured() -> None:
    intact = torch.tensor([0.0, 1.0, -torch.inf]).log_softmax(0).expand(4, 1, 3)
    logits = torch.tensor(
        [[0.0, 1.0, -5.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0] * 3]
    )
    logits[1, 0], logits[2, 1], logits[3, 2] = torch.nan, torch.inf, -torch.inf
    targets = torch.ones(4, 1, dtype=torch.long)
    read = Read(logits[:, None], targets, intact=intact)
    kl, accuracy = (BEHAVIOURS[b].measure(read) for b in ("kl", "accuracy"))
    # what the intact model never says adds nothing, whatever the ablated one says of it
    likely = intact[0, 0, :2].exp()
    for row in (0, 3):
        gap = (intact[0, 0, :2] - logits[row].log_softmax(0)[:2]) * likely
        assert kl[row] == pytest.approx(float(gap.sum()), abs=1e-6)
    assert not kl[1:3].isfinite().any()
    assert accuracy[[0, 3]].tolist() == [1.0, 0.0]
    assert accuracy[1:3].isnan().all()


@pytest.mark.parametrize("behaviour", ["kl", "accuracy", "loss", "logit-diff"])
def test_models_that_overflow_are_refused(make: Make, behaviour: str) -> None:
    loaded = make("GPT2LMHeadModel")
    loaded.model.transformer.ln_f.bias.data[3] = torch.inf
    with pytest.raises(InputError, match=f"'{behaviour}' is not finite"):
        ComponentOracle(loaded, PROMPTS, behaviour=behaviour)
    loaded.model.transformer.h[1].mlp.c_proj.bias.data[3] = torch.inf
    with pytest.raises(ModelError, match=r"h\.1 are not finite"):
        ComponentOracle(loaded, PROMPTS, behaviour=behaviour)


def test_masks_under_which_a_model_overflows_are_refused(make: Make) -> None:
    loaded = make("GPT2LMHeadModel")
    oracle = ComponentOracle(loaded, PROMPTS, behaviour="kl", unit="mlp")
    assert np.isfinite(oracle.evaluate(np.eye(3, dtype=bool))).all()
    loaded.model.transformer.h[2].mlp.c_proj.bias.data[3] = torch.nan
    with pytest.raises(InputError, match=r"not finite in \d+ of 9 passes"):
        oracle.evaluate(np.eye(3, dtype=bool))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from("cat dog ran mat".split()), min_size=1, max_size=4))
def test_an_answer_of_many_tokens_is_read_at_each_of_them(
    loaded: LoadedModel, words: list[str]
) -> None:
    prompt = TaskPrompt("the cat sat", " ".join(words))
    ids = ids_of(loaded, f"{prompt.text} {prompt.answer}")
    logs = forward(loaded, ids, unchanged).log_softmax(1)
    own = [float(logs[at - 1, ids[at]]) for at in range(3, len(ids))]
    everything = np.ones((1, 12), dtype=bool)
    value = ComponentOracle(loaded, [prompt], behaviour="log-prob")
    assert np.isclose(value.evaluate(everything)[0, 0], sum(own), atol=1e-5)
    loss = ComponentOracle(loaded, [prompt], behaviour="loss")
    assert np.isclose(loss.evaluate(everything)[0, 0], -np.mean(own), atol=1e-5)


def test_the_loss_of_a_text_is_over_all_its_tokens(loaded: LoadedModel) -> None:
    text = "the cat sat on the mat ."
    oracle = ComponentOracle(loaded, [TaskPrompt(text)], behaviour="loss")
    ids = torch.tensor([ids_of(loaded, text)])
    with torch.no_grad():
        expected = loaded.model(input_ids=ids, labels=ids).loss
    everything = np.ones((1, 12), dtype=bool)
    assert np.isclose(oracle.evaluate(everything)[0, 0], float(expected), atol=1e-5)


def test_the_mean_over_prompts_is_the_mean_of_each(loaded: LoadedModel) -> None:
    each = ComponentOracle(loaded, PROMPTS, per_prompt=True)
    mean = ComponentOracle(loaded, PROMPTS)
    masks = np.random.default_rng(0).random((5, 12)) < 0.5
    assert np.allclose(mean.evaluate(masks)[:, 0], each.evaluate(masks).mean(axis=1))
    assert len(each.outputs) == 3
    assert mean.outputs == ("logit-diff",)
