"""What the component benchmarks run on: models, prompts, and scores by gradients.

The gradients are of gates: a head's output z is replaced by r + g (z - r), where r is
what the ablation puts in its place. At g = 1 for all heads the gradient is attribution
patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348), the linear estimate of what
leaving out a head costs; its mean over a path is integrated gradients (EAP-IG, Hanna et
al. 2024, arXiv 2403.17806, with heads as nodes). The published path is over what the
model reads, from the embeddings of a corrupted prompt to those of the prompt. Two more
are over gates from 0 to 1, of all heads together or of one layer at a time.
"""

import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
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
        self.task, self.model = task, task.loaded.model
        self.behaviour = BEHAVIOURS[task.behaviour]
        self.layers = find_layers(self.model)
        self.encoded = encode_prompts(task.loaded, task.prompts, self.behaviour.needs)
        passes = Passes(
            task.loaded, self.layers, make_components(self.layers, "head").sites
        )
        is_zero = task.ablation == "zero"
        self.replacement = Zeros() if is_zero else Means(passes, self.encoded)
        self.num_heads = [layer.num_heads for layer in self.layers]

    def _own(self, number: int, gates: Any) -> Any:
        """The gates (heads,) of a layer's coordinates."""
        layer = self.layers[number]
        start = sum(self.num_heads[:number])
        return gates[start : start + layer.num_heads].repeat_interleave(
            layer.head_width
        )

    def _gated(self, number: int, gates: Any) -> Callable[..., Any]:
        """A hook on the attention's output projection of a layer."""
        own, other = self._own(number, gates), self.replacement.at(number, [0])
        return lambda module, args: (other + own * (args[0] - other), *args[1:])

    @contextmanager
    def hooked(self, make: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        """With a hook at every output projection, made from the layer's number."""
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                handle = layer.projection.register_forward_pre_hook(make(number))
                stack.callback(handle.remove)
            yield

    def value(self, gates: Any) -> Any:
        """The mean behaviour with these gates (heads,), differentiable."""
        with self.hooked(lambda number: self._gated(number, gates)):
            total = sum(self._measure(prompt) for prompt in self.encoded)
        return total / len(self.encoded)

    def _measure(self, prompt: Encoded, embedded: Any = None) -> Any:
        """The behaviour on a prompt, or on embeddings (1, tokens, width) for it."""
        ids = {"input_ids": torch.tensor([prompt.ids])}
        inputs = ids if embedded is None else {"inputs_embeds": embedded}
        logits = self.model(**inputs).logits
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

    def integrated_inputs(self) -> tuple[Array, int]:
        """The embeddings go from a corrupted prompt's to the prompt's.

        Published scores patch from the corrupted prompt; here heads are ablated. So a
        head's score is what the ablation takes from its output on the prompt, times
        the mean gradient of the behaviour by its output, at steps 1 / STEPS to 1.
        """
        total = np.zeros(sum(self.num_heads))
        for prompt, start in zip(self.encoded, self._baselines(), strict=True):
            taken = self._taken(prompt)
            end = self._embedded(prompt.ids)
            for step in range(1, STEPS + 1):
                point = start + step / STEPS * (end - start)
                gates = torch.zeros(len(total), requires_grad=True)
                value = self.value_beside(prompt, point, taken, gates)
                total += torch.autograd.grad(value, gates)[0].double().numpy()
        return total / (STEPS * len(self.encoded)), STEPS  # the last is the intact run

    def value_beside(
        self, prompt: Encoded, point: Any, taken: Sequence[Any], gates: Any
    ) -> Any:
        """The behaviour where so many times what was taken is added, gates (heads,)."""

        def adding(number: int) -> Callable[..., Any]:
            change = self._own(number, gates) * taken[number]
            return lambda module, args: (args[0] + change, *args[1:])

        with self.hooked(adding):
            return self._measure(prompt, point)

    def _taken(self, prompt: Encoded) -> list[Any]:
        """Layer by layer, heads' outputs on a prompt less what ablation puts there."""
        taken: list[Any] = []

        def noting(number: int) -> Callable[..., Any]:
            other = self.replacement.at(number, [0])
            return lambda module, args: taken.append(args[0] - other)

        with torch.no_grad(), self.hooked(noting):
            self._measure(prompt)
        return taken

    def _embedded(self, ids: Sequence[int]) -> Any:
        return self.model.get_input_embeddings()(torch.tensor([ids])).detach()

    def _baselines(self) -> list[Any]:
        """Embeddings to start from, of each prompt.

        The corrupted prompt's; where there is none, the mean over the words of all
        prompts in the place of every word, while the tokens that the tokenizer adds at
        the ends stay, as they would in a corrupted prompt.
        """
        task = self.task
        if all(prompt.corrupted for prompt in task.prompts):
            corrupted = [replace(p, text=p.corrupted) for p in task.prompts]
            others = encode_prompts(task.loaded, corrupted, self.behaviour.needs)
            return [self._embedded(other.ids) for other in others]
        special = task.loaded.tokenizer.all_special_ids
        words = [i for prompt in self.encoded for i in prompt.ids if i not in special]
        mean = self._embedded(words).mean(dim=1)
        starts = []
        for prompt in self.encoded:
            is_word = torch.tensor([[i not in special] for i in prompt.ids])
            starts.append(mean.where(is_word, self._embedded(prompt.ids)))
        return starts


def freeze(loaded: LoadedModel) -> None:
    """Gradients are of gates only."""
    for weight in loaded.model.parameters():
        weight.requires_grad_(False)


GRADIENTS: dict[str, Callable[[Gates], tuple[Array, int]]] = {
    "attribution patching": Gates.attribution_patching,
    "EAP-IG, all heads": Gates.integrated,
    "EAP-IG, by layer": Gates.integrated_by_layer,
    "EAP-IG, inputs": Gates.integrated_inputs,
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
