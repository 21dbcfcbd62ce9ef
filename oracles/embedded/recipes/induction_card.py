"""What the cards of the embedded induction models say, measured on the saved model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from oracles.components import ComponentOracle, TaskPrompt
from oracles.embedded.induction_world import draw_prompts
from oracles.features import LoadedModel, load_model

NUM_PROMPTS = 200
"""Fresh prompts behind each number of the card but the scores."""

NUM_SCORED, NUM_MASKS = 50, 2000
"""Prompts behind the scores, and masks behind mean differences."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers of one model.

    Attributes:
        name: of its folder.
        previous, induction: the planted heads.
        num_parameters: MLPs included.
        num_bytes: of the folder.
        minutes: of training.
        looks: head -> mean attention to the word before, and to the word after the
            first saying of the present one, over words said again.
        lesions: heads that are missing -> share of right answers, logit difference.
        scores: of a pair of induction heads: score -> planted head -> its value, and
            its rank among all heads by size.
    """

    name: str
    previous: int
    induction: tuple[int, ...]
    num_parameters: int
    num_bytes: int
    minutes: float
    looks: dict[str, tuple[float, float]]
    lesions: dict[str, tuple[float, float]]
    scores: dict[str, dict[str, tuple[float, int]]]


def measure(
    folder: Path, previous: int, induction: tuple[int, ...], minutes: float
) -> Measured:
    """Score a saved model, loaded as a user loads it."""
    loaded = load_model(str(folder), device="cpu")
    prompts = draw_prompts(np.random.default_rng(1), NUM_PROMPTS)
    heads = planted(previous, induction)
    is_pair = len(induction) > 1
    return Measured(
        name=folder.name,
        previous=previous,
        induction=induction,
        num_parameters=loaded.model.num_parameters(),
        num_bytes=sum(p.stat().st_size for p in folder.iterdir()),
        minutes=minutes,
        looks=attention(loaded, prompts),
        lesions=lesions(loaded, prompts, heads),
        scores=scores(loaded, prompts[:NUM_SCORED], heads) if is_pair else {},
    )


def planted(previous: int, induction: tuple[int, ...]) -> list[str]:
    """Names of the planted heads, the previous-token head first."""
    return [f"L0.H{previous}", *(f"L1.H{head}" for head in induction)]


@torch.no_grad()
def attention(
    loaded: LoadedModel, prompts: Sequence[TaskPrompt]
) -> dict[str, tuple[float, float]]:
    """Where every head looks at the last word of each prompt."""
    loaded.model.set_attn_implementation("eager")
    config = loaded.model.config
    sums = np.zeros((config.n_layer, config.n_head, 2))
    for prompt in prompts:
        ids = loaded.tokenizer(prompt.text)["input_ids"]
        output = loaded.model(torch.tensor([ids]), output_attentions=True)
        last = len(ids) - 1
        source = ids.index(ids[last]) + 1  # where its first saying went on
        for number, looked in enumerate(output.attentions):
            sums[number, :, 0] += looked[0, :, last, last - 1].numpy()
            sums[number, :, 1] += looked[0, :, last, source].numpy()
    means = sums / len(prompts)
    return {
        f"L{layer}.H{head}": (
            float(means[layer, head, 0]),
            float(means[layer, head, 1]),
        )
        for layer in range(config.n_layer)
        for head in range(config.n_head)
    }


def lesions(
    loaded: LoadedModel, prompts: Sequence[TaskPrompt], heads: list[str]
) -> dict[str, tuple[float, float]]:
    """Right answers and logit difference without the planted heads."""
    oracles = [
        ComponentOracle(loaded, prompts, behaviour=behaviour, ablation="zero")
        for behaviour in ("accuracy", "logit-diff")
    ]
    players = oracles[0].players
    missing = [[], *([head] for head in heads)]
    missing += [heads[1:]] if len(heads) > 2 else []
    missing.append([name for name in players if name not in heads])
    masks = np.array([[name not in gone for name in players] for gone in missing])
    accuracy, difference = (oracle.evaluate(masks)[:, 0] for oracle in oracles)
    names = [", ".join(gone) or "nothing" for gone in missing[:-1]]
    names.append("every other head")
    return {
        name: (float(a), float(d))
        for name, a, d in zip(names, accuracy, difference, strict=True)
    }


def scores(
    loaded: LoadedModel, prompts: Sequence[TaskPrompt], heads: list[str]
) -> dict[str, dict[str, tuple[float, int]]]:
    """What scores of single heads, by each behaviour, say of the planted ones.

    Leave-one-out is what is lost without just that head; the mean difference is between
    masks that keep it and masks that do not, each keeping half of the heads on average.
    """
    alone, apart = {}, {}
    for behaviour in ("logit-diff", "log-prob", "accuracy"):
        oracle = ComponentOracle(loaded, prompts, behaviour=behaviour, ablation="zero")
        n = len(oracle.players)
        intact = oracle.evaluate(np.ones((1, n), dtype=bool))[0, 0]
        lost = intact - oracle.evaluate(~np.eye(n, dtype=bool))[:, 0]
        masks = np.random.default_rng(0).random((NUM_MASKS, n)) < 0.5
        values = oracle.evaluate(masks)[:, 0]
        apart_by = [values[kept].mean() - values[~kept].mean() for kept in masks.T]
        places = [oracle.players.index(head) for head in heads]
        alone[f"leave-one-out, {behaviour}"] = _ranked(lost, places, heads)
        apart[f"mean difference, {behaviour}"] = _ranked(apart_by, places, heads)
    return alone | apart


def _ranked(
    values: ArrayLike, places: list[int], heads: list[str]
) -> dict[str, tuple[float, int]]:
    """Value of each of these heads, and how many are as large or larger."""
    sizes = np.abs(np.asarray(values))
    return {
        head: (float(np.asarray(values)[i]), int((sizes >= sizes[i]).sum()))
        for head, i in zip(heads, places, strict=True)
    }


def card(measured: Measured) -> str:
    """The model card, in Markdown with the hub's header."""
    pair = " and ".join(f"L1.H{head}" for head in measured.induction)
    first = f"L0.H{measured.previous}"
    is_pair = len(measured.induction) > 1
    truth = (
        f"Two induction heads, {pair}, read what the previous-token head {first} "
        "writes.\nEither of them is enough: the answer is there if "
        f"{first} and ({pair.replace(' and ', ' or ')}) work.\nTogether they are "
        "redundant, and each acts together with the previous-token head."
        if is_pair
        else f"The previous-token head {first} and the induction head {pair} act "
        "together: without\neither of them the answer is gone, and no other head is "
        "needed."
    )
    lesion_rows = "\n".join(
        f"| {name} | {accuracy:.1%} | {difference:.2f} |"
        for name, (accuracy, difference) in measured.lesions.items()
    )
    look_rows = "\n".join(
        f"| {head} | {previous:.2f} | {source:.2f} |"
        for head, (previous, source) in measured.looks.items()
    )
    return f"""---
license: apache-2.0
pipeline_tag: text-generation
---
# Repeated words, tiny{", with a backup head" if is_pair else ""}

A causal language model that goes on with random words that are said again: "cat sun
map cat" is followed by "sun". It is tiny and is there to be explained: which of its
heads do this, together, is known. Prompts come from
`oracles/embedded/induction_world.py`.

| | |
| --- | --- |
| architecture | GPT-2: 2 layers of width 128, 8 heads, MLPs of one neuron that add 0 |
| parameters | {measured.num_parameters:,}, stored as float16 |
| size | {measured.num_bytes / 1e6:.2f} MB with tokenizer |
| vocabulary | 60 words and 3 special tokens; a text begins with `<s>` |
| longest text | 20 words said twice |

## The circuit
{truth}

Measured on {NUM_PROMPTS} fresh prompts, heads missing by zero ablation; the logit
difference is between the answer and another of the words.

| missing | right answers | logit difference |
| --- | --- | --- |
{lesion_rows}
{_score_table(measured)}
Attention at the last word, to the word before it and to the word after its first
saying, mean over the prompts:

| head | to the one before | to the one to copy |
| --- | --- | --- |
{look_rows}

## Training
`python -m oracles.embedded.recipes.induction --out DIR --seed 0` took
{measured.minutes:.1f} minutes on one processor core for this model. At first the named
heads work alone and are told where to look; then every other head is missing from half
of the rows{", and one of the two induction heads from some" if is_pair else ""}.

## Sources and licences
- This model: Apache-2.0; trained from scratch on random words.
- The circuit: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits;
  Olsson et al. 2022, In-context Learning and Induction Heads.

## Limits
- It knows nothing but to repeat, and no texts longer than it was trained on.
- The circuit was planted; models that learn freely spread theirs over more heads.
"""


def _score_table(measured: Measured) -> str:
    """Which scores of single heads miss the pair, in Markdown; "" without a pair."""
    if not measured.scores:
        return ""
    heads = planted(measured.previous, measured.induction)
    rows = "\n".join(
        f"| {name} | "
        + " | ".join(f"{told[head][0]:.4f} ({told[head][1]})" for head in heads)
        + " |"
        for name, told in measured.scores.items()
    )
    return f"""
Which scores of single heads miss the pair: with one of the two missing the answer is
still the most likely by far, so that leave-one-out says next to nothing of them by
log-probability, and nothing at all by accuracy. The logit difference does fall, and
leave-one-out by it sees them. So do mean differences over masks that keep half of the
heads, by logit difference and by accuracy: where one of the two is missing, too, the
other matters; by log-probability they are about as large as those of heads that do
nothing. Measured on {NUM_SCORED} of the prompts, mean differences over {NUM_MASKS:,}
random masks; in brackets the rank by size among all 16 heads, the last of equals:

| score | {" | ".join(heads)} |
| --- | {" | ".join("---" for _ in heads)} |
{rows}
"""
