"""What the component benchmarks run on: models, prompts, and scores by gradients.

The gradients are of gates: a head's output z is replaced by r + g (z - r), where r is
what the ablation puts in its place. At g = 1 for all heads the gradient is attribution
patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348), the linear estimate of what
leaving out a head costs; its mean over a path from 0 to 1 is integrated gradients
(EAP-IG, Hanna et al. 2024, arXiv 2403.17806, with heads as nodes), over the gates of
all heads together or of one layer at a time.
"""

import csv
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oracles import Ledger, Masks, run
from oracles.components import BEHAVIOURS, ComponentOracle, TaskPrompt
from oracles.components.activations import Means, Zeros
from oracles.components.behaviour import Read
from oracles.components.components import make_components
from oracles.components.layers import find_layers
from oracles.components.passes import Passes
from oracles.components.prompts import Encoded, encode_prompts
from oracles.embedded import facts_world, induction_world
from oracles.features import LoadedModel, load_model

TASKS = ("facts", "induction", "backup", "minilm")
STEPS = 10  # of a path
LONGEST = 24  # tokens of a sentence of SST-2
Array = np.ndarray


@dataclass(eq=False)
class Task:
    """A behaviour of a model, as an oracle over its heads whose values are kept."""

    name: str
    loaded: LoadedModel
    prompts: list[TaskPrompt]
    behaviour: str
    ablation: str
    ledger: Ledger | None = None

    def __post_init__(self) -> None:
        self.oracle = ComponentOracle(
            self.loaded, self.prompts, behaviour=self.behaviour, ablation=self.ablation
        )
        self.players = self.oracle.players
        ends = np.array([[True], [False]]).repeat(len(self.players), axis=1)
        self.full, self.empty = self(ends)

    def __call__(self, masks: Masks) -> Array:
        """Values (m,)."""
        return run(self.oracle, masks, ledger=self.ledger).values[:, 0]

    def faithfulness(self, masks: Masks) -> Array:
        """f = (v - v(nothing)) / (v(everything) - v(nothing)), as in MIB, (m,)."""
        return (self(masks) - self.empty) / (self.full - self.empty)


def make_task(name: str, seed: int, minilm: Path, data: Path, ledger: Any) -> Task:
    """A task whose prompts are drawn with a seed."""
    rng = np.random.default_rng(seed)
    if name in ("induction", "backup"):
        prompts = induction_world.draw_prompts(rng, 12)
        return Task(name, load(name), prompts, "logit-diff", "zero", ledger)
    if name == "facts":
        loaded, behaviour = load(name), "logit-diff"
        stories = [facts_world.generate(rng, 4, 1, 2) for _ in range(24)]
        drawn = [
            TaskPrompt(s.prompt, s.answer, s.wrong_answers[0])
            for s in stories
            if s.wrong_answers
        ]
        count = 6
    else:
        loaded, behaviour = load(str(minilm)), "margin"
        drawn = sentences(loaded, data / "sst2" / "dev.tsv", rng)
        count = 6
    known = ComponentOracle(loaded, drawn, behaviour=behaviour, per_prompt=True)
    everything = np.ones((1, len(known.players)), dtype=bool)
    right = np.flatnonzero(known.evaluate(everything)[0] > 0)[:count]
    prompts = [drawn[i] for i in right]
    return Task(name, loaded, prompts, behaviour, "mean", ledger)


def load(name: str) -> LoadedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(name, device="cpu")


def sentences(
    loaded: LoadedModel, path: Path, rng: np.random.Generator
) -> list[TaskPrompt]:
    """Short sentences with their class."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = []
    for i in rng.permutation(len(rows)):
        text = rows[i]["sentence"].strip()
        if 8 <= len(loaded.tokenizer(text)["input_ids"]) <= LONGEST:
            found.append(TaskPrompt(text, rows[i]["label"]))
    return found[:24]


class Gates:
    """The behaviour and its gradient where heads are turned down, not off."""

    def __init__(self, task: Task) -> None:
        self.model = task.loaded.model
        self.behaviour = BEHAVIOURS[task.behaviour]
        self.layers = find_layers(self.model)
        self.encoded = encode_prompts(task.loaded, task.prompts, self.behaviour.needs)
        passes = Passes(
            task.loaded, self.layers, make_components(self.layers, "head").sites
        )
        is_zero = task.ablation == "zero"
        self.replacement = Zeros() if is_zero else Means(passes, self.encoded)
        self.num_heads = [layer.num_heads for layer in self.layers]

    def _gated(self, number: int, gates: Any) -> Callable[..., Any]:
        """A hook on the attention's output projection of a layer."""
        layer = self.layers[number]
        start = sum(self.num_heads[:number])
        own = gates[start : start + layer.num_heads].repeat_interleave(layer.head_width)
        other = self.replacement.at(number, [0])

        def hook(module: Any, args: Any) -> Any:
            return (other + own * (args[0] - other), *args[1:])

        return hook

    def value(self, gates: Any) -> Any:
        """The mean behaviour with these gates (heads,), differentiable."""
        total = torch.zeros(())
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                hook = self._gated(number, gates)
                handle = layer.projection.register_forward_pre_hook(hook)
                stack.callback(handle.remove)
            for prompt in self.encoded:
                total = total + self._measure(prompt)
        return total / len(self.encoded)

    def _measure(self, prompt: Encoded) -> Any:
        ids = torch.tensor([prompt.ids])
        logits = self.model(input_ids=ids).logits
        logits = logits[:, list(prompt.places)] if prompt.places else logits[:, None]
        wrong = None if prompt.wrong is None else torch.tensor([prompt.wrong])
        read = Read(logits.float(), torch.tensor([prompt.targets]), wrong)
        return self.behaviour.measure(read)[0]

    def gradient(self, gates: Array) -> Array:
        """At one point, (heads,)."""
        point = torch.tensor(gates, dtype=torch.float32, requires_grad=True)
        [gradient] = torch.autograd.grad(self.value(point), point)
        return gradient.double().numpy()

    def attribution_patching(self) -> tuple[Array, int]:
        """Score of each head; gradients taken."""
        return self.gradient(np.ones(sum(self.num_heads))), 1

    def integrated(self) -> tuple[Array, int]:
        """All gates go from 0 to 1 together: the scores sum to v(all) - v(none)."""
        points = (np.arange(STEPS) + 0.5) / STEPS
        ones = np.ones(sum(self.num_heads))
        return np.mean([self.gradient(p * ones) for p in points], axis=0), STEPS

    def integrated_by_layer(self) -> tuple[Array, int]:
        """One layer's gates go from 0 to 1 while all others are open."""
        starts = np.cumsum([0, *self.num_heads])
        scores = np.zeros(starts[-1])
        for start, end in pairwise(starts):
            for point in (np.arange(STEPS) + 0.5) / STEPS:
                gates = np.ones(starts[-1])
                gates[start:end] = point
                scores[start:end] += self.gradient(gates)[start:end] / STEPS
        return scores, STEPS * len(self.num_heads)


def freeze(loaded: LoadedModel) -> None:
    """Gradients are of gates only."""
    for weight in loaded.model.parameters():
        weight.requires_grad_(False)


GRADIENTS: dict[str, Callable[[Gates], tuple[Array, int]]] = {
    "attribution patching": Gates.attribution_patching,
    "EAP-IG, all heads": Gates.integrated,
    "EAP-IG, by layer": Gates.integrated_by_layer,
}


def gradient_scores(task: Task) -> dict[str, tuple[Array, int]]:
    """Name -> scores of heads, and how many forwards and backwards they took."""
    freeze(task.loaded)
    gates = Gates(task)
    return {name: method(gates) for name, method in GRADIENTS.items()}


def kept(num_players: int, players: Sequence[int]) -> Array:
    """The mask that keeps these players, (n,)."""
    mask = np.zeros(num_players, dtype=bool)
    mask[list(players)] = True
    return mask
