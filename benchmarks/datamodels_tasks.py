"""Tasks of the data-attribution benchmarks: data, trainers, masks and their values."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from retrains import digits_task, text_task

from oracles.data import DataOracle, LogisticHead, SmallNetwork, Targets

Array = np.ndarray
NUM_CHECKPOINTS = 20  # trainings on all examples, for gradients of networks


@dataclass(frozen=True, eq=False)
class Task:
    """Training examples, test points, and the oracles of one task.

    Attributes:
        name: shown in tables.
        features, labels: of the n training examples.
        points, right: features and classes of the k test points.
        trainer: as the oracles have it.
        repeats: seeds that held-out values are averaged over.
    """

    name: str
    features: Array
    labels: Array
    points: Array
    right: Array
    trainer: Any
    repeats: int

    def oracle(self, repeats: int = 1, seed: int = 0) -> DataOracle:
        targets = Targets(self.points, self.right.tolist())
        return DataOracle(self.trainer, targets, repeats=repeats, seed=seed)

    def trained(self, masks: Array) -> Array:
        """Margins (m, k) after one training on each subset."""
        return self.oracle().evaluate(masks)

    def truly(self, masks: Array) -> Array:
        """The same, averaged over other seeds where a training has any."""
        return self.oracle(self.repeats, seed=1).evaluate(masks)

    def right_ones(self, count: int) -> "Task":
        """With the first test points that a model trained on everything gets right."""
        chosen = np.flatnonzero(self.intact > 0)[:count]
        return replace(self, points=self.points[chosen], right=self.right[chosen])

    @property
    def agreement(self) -> Array:
        """1 where an example has the test point's class, else -1, (n, k)."""
        return np.where(self.labels[:, None] == self.right[None], 1.0, -1.0)

    @cached_property
    def intact(self) -> Array:
        """Margins (k,) after training on everything."""
        return self.truly(np.ones((1, len(self.labels)), dtype=bool))[0]


def make_task(name: str, data: Path, points: int) -> Task:
    """ "text": SST-2, MiniLM embeddings, logistic head, 1,000 examples; "digits":
    scikit-learn's digits, a network 64-32-10 trained from scratch, 500 examples."""
    if name == "text":
        folder = data / "sst2"
        found = text_task(folder, "train.tsv", "dev.tsv", 1000, True)
        trainer: Any = LogisticHead(found[0], found[1])
    else:
        found = digits_task(500)
        trainer = SmallNetwork(found[0], found[1])
    features, labels, asked, right = (np.asarray(part) for part in found)
    repeats = 1 if name == "text" else 20
    chosen = slice(0, points)
    return Task(name, features, labels, asked[chosen], right[chosen], trainer, repeats)


def drawn(task: Task, keep: float, count: int, seed: int) -> Array:
    """Masks (count, n) that keep each example with this probability."""
    rng = np.random.default_rng([seed, round(1000 * keep)])
    return rng.random((count, len(task.labels))) < keep


def logits_and_gradients(
    layers: list[tuple[Array, Array]], inputs: Array, codes: Array
) -> tuple[Array, Array]:
    """Margin of each row's class, and its gradient in all weights of a ReLU network.

    Args:
        layers: weights (in, out) and biases (out,).
        inputs, codes: features (t, d) and classes (t,).

    Returns:
        Margins (t,), log-odds of the class, and gradients (t, parameters).
    """
    seen = [inputs]
    for weight, bias in layers[:-1]:
        seen.append(np.maximum(seen[-1] @ weight + bias, 0))
    logits = seen[-1] @ layers[-1][0] + layers[-1][1]
    rows = np.arange(len(codes))
    others = logits.copy()
    others[rows, codes] = -np.inf
    highest = others.max(axis=1, keepdims=True)
    shares = np.exp(others - highest)
    sums = shares.sum(axis=1, keepdims=True)
    back = -shares / sums  # of the margin, by logit
    back[rows, codes] = 1.0
    margins = logits[rows, codes] - (highest + np.log(sums))[:, 0]
    parts = []
    for place in reversed(range(len(layers))):
        outer = seen[place][:, :, None] * back[:, None, :]
        parts += [outer.reshape(len(rows), -1), back]
        back = (back @ layers[place][0].T) * (seen[place] > 0)
    return margins, np.concatenate(parts, axis=1)


def checkpoints(task: Task) -> list[list[tuple[Array, Array]]]:
    """Layers of networks trained on all examples, with seeds of their own."""
    every = np.arange(len(task.labels))
    found = []
    for seed in range(NUM_CHECKPOINTS):
        trained = task.trainer.fit(every, seed).layers
        flat = [np.asarray(part.double())[0] for layer in trained for part in layer]
        flat[1::2] = [bias[0] for bias in flat[1::2]]
        found.append(list(pairwise(flat))[::2])
    return found
