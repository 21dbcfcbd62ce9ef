"""Small networks trained from scratch on many subsets in one loop.

Parameters of m networks are stacked, (m, in, out), and every step is a few batched
matrix products for all of them: a step of one small network is mostly overhead, which
all share. Gradients are written out by hand, as backpropagation through linear layers
is two products, of which one goes into the momentum in place.

Every subset has minibatches of its own, drawn from its kept examples only: training
under a mask is training on the subset, not an approximation of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Values
from oracles.data.arrays import as_matrix, digest_of
from oracles.data.classes import Classes, with_absent
from oracles.data.influence import similarity_of
from oracles.data.targets import Measure, Targets
from oracles.data.trainer import Indices
from oracles.data.trainers.minibatches import minibatches
from oracles.errors import InputError, ModelError

ABSENT = -1e30  # the logit of a class that is not trained on


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of m subsets.

    Attributes:
        layers: weights (m, in, out) and biases (m, 1, out), torch tensors.
        counts: kept examples of each class, (m, C).
    """

    layers: Sequence[tuple[Any, Any]]
    counts: NDArray[np.float64]


class SmallNetwork:
    """A multilayer perceptron, trained from scratch on log-loss by SGD.

    ReLU between the layers; PyTorch's initialisation of `Linear`; momentum; a learning
    rate that falls linearly to 0. Its seed draws the initial weights and the order of
    the examples. Every training takes the same number of steps, however few examples
    there are, so that small subsets are not undertrained.

    Args:
        features: shape (n, d), used as they are: scale them to about -1..1.
        labels: classes of the n examples.
        hidden: widths of the hidden layers.
        steps: minibatches in one training.
        batch_size: examples in a minibatch; see `minibatches` for their order.
        learning_rate: of the first step.
        momentum: of SGD.
        weight_decay: of SGD, times the weights and biases.

    Raises:
        ModelError: torch is missing.
        InputError: features that are no finite matrix, another number of labels, fewer
            than two classes, or a setting out of range.
    """

    def __init__(
        self,
        features: Any,
        labels: Sequence[Any],
        *,
        hidden: Sequence[int] = (32,),
        steps: int = 400,
        batch_size: int = 16,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        torch = _imported_torch()
        matrix = as_matrix(features, "features")
        self._classes = Classes.of(labels, len(matrix))
        self._sizes = (matrix.shape[1], *hidden, len(self._classes.names))
        self._steps, self._batch_size = steps, batch_size
        self._rate, self._momentum = float(learning_rate), float(momentum)
        self._decay = float(weight_decay)
        self._check_settings()
        self._features = torch.tensor(matrix, dtype=torch.float32)
        self._hot = torch.tensor(self._classes.one_hot, dtype=torch.float32)
        self.num_examples = len(matrix)
        self.description: Mapping[str, Any] = {
            "trainer": "small network",
            "classes": list(self._classes.names),
            "digest": digest_of(matrix) + digest_of(self._classes.codes),
            "sizes": list(self._sizes),
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": self._rate,
            "momentum": self._momentum,
            "weight_decay": self._decay,
        }

    def _check_settings(self) -> None:
        counted = {"steps": self._steps, "batch_size": self._batch_size}
        counted |= {"hidden": min(self._sizes)}
        wrong = [name for name, number in counted.items() if number < 1]
        wrong += [] if 0 < self._rate < math.inf else ["learning_rate"]
        wrong += [] if 0 <= self._momentum < 1 else ["momentum"]
        wrong += [] if 0 <= self._decay < math.inf else ["weight_decay"]
        if wrong:
            raise InputError(
                f"{', '.join(wrong)} out of range: sizes, steps and learning rate are "
                "above 0, momentum from 0 to below 1, weight decay 0 or more."
            )

    def check(self, targets: Targets) -> None:
        """Raise InputError unless the test points have these features and classes."""
        points = as_matrix(targets.points, "the test points' features")
        if points.shape[1] != self._sizes[0]:
            raise InputError(
                f"test points have {points.shape[1]} features, and training examples "
                f"{self._sizes[0]}. Both need the same."
            )
        _ = Measure(self._classes, targets).right

    def fit(self, indices: Indices, seed: int) -> Networks:
        """The network of one subset."""
        kept = np.zeros((1, self.num_examples), dtype=bool)
        kept[0, indices] = True
        return self._fit(kept, np.array([seed]))

    def score(self, model: Networks, targets: Targets) -> Values:
        """Values (k,) of one subset's network."""
        return self._score(model, targets)[0]

    def fit_many(
        self, kept: NDArray[np.bool_], seeds: NDArray[np.int64], targets: Targets
    ) -> Values:
        """Values (m, k) of m subsets; NaN where the training diverged."""
        return self._score(self._fit(kept, seeds), targets)

    def similarity(self, targets: Targets) -> NDArray[np.float64] | None:
        """How like each example is to each test point, (n, k), by the features;
        see `oracles.data.influence.similarity_of`."""
        return similarity_of(
            self._features.double().numpy(),
            self._classes.codes,
            as_matrix(targets.points, "the test points' features"),
            Measure(self._classes, targets).right,
            targets.outputs,
        )

    def drawn(
        self, indices: Indices, seed: int
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
        """What a seed decides: first weights and biases, and all minibatches.

        Weights have shape (in, out), biases (out,), in turn; minibatches hold numbers
        of kept examples, (steps, batch_size).
        """
        rng = np.random.default_rng(seed)
        parameters = []
        for size, width in zip(self._sizes, self._sizes[1:], strict=False):
            for shape in ((size, width), (width,)):
                uniform = rng.random(shape, dtype=np.float32)
                parameters.append((2 * uniform - 1) / np.float32(math.sqrt(size)))
        orders = minibatches(indices, self._steps, self._batch_size, rng)
        return parameters, orders

    def _fit(self, kept: NDArray[np.bool_], seeds: NDArray[np.int64]) -> Networks:
        torch = _imported_torch()
        drawn = [
            self.drawn(np.flatnonzero(examples), int(seed))
            for examples, seed in zip(kept, seeds, strict=True)
        ]
        stacked = [
            torch.from_numpy(np.stack(same))
            for same in zip(*(first for first, _ in drawn), strict=True)
        ]
        weights, biases = stacked[::2], [bias[:, None, :] for bias in stacked[1::2]]
        layers = list(zip(weights, biases, strict=True))
        orders = torch.from_numpy(np.stack([order for _, order in drawn], axis=1))
        counts = self._classes.counts(kept)
        hidden = np.where(counts == 0, ABSENT, 0.0)[:, None, :]
        self._train(layers, orders, torch.tensor(hidden, dtype=torch.float32))
        return Networks(layers, counts)

    def _train(self, layers: list[tuple[Any, Any]], orders: Any, hidden: Any) -> None:
        """Train the layers in place on minibatches (steps, m, batch_size)."""
        torch = _imported_torch()
        speeds = [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in layers]
        for step, rows in enumerate(orders):
            seen = self._features.index_select(0, rows.reshape(-1))
            inputs = [seen.view(*rows.shape, -1)]
            for weight, bias in layers[:-1]:
                inputs.append(torch.baddbmm(bias, inputs[-1], weight).relu_())
            weight, bias = layers[-1]
            logits = torch.baddbmm(bias, inputs[-1], weight).add_(hidden)
            right = self._hot.index_select(0, rows.reshape(-1)).view_as(logits)
            error = torch.softmax(logits, dim=2).sub_(right).div_(rows.shape[1])
            self._gather(layers, speeds, inputs, error)
            rate = self._rate * (1 - step / self._steps)
            for layer, speed in zip(layers, speeds, strict=True):
                for values, change in zip(layer, speed, strict=True):
                    values.sub_(change, alpha=rate)

    def _gather(
        self, layers: list[Any], speeds: list[Any], inputs: list[Any], error: Any
    ) -> None:
        """Backpropagate, adding gradients to the momentum of each layer."""
        torch, momentum = _imported_torch(), self._momentum
        for place in reversed(range(len(layers))):
            (weight, bias), (turn, shift) = layers[place], speeds[place]
            turn.baddbmm_(inputs[place].transpose(1, 2), error, beta=momentum)
            shift.mul_(momentum).add_(error.sum(dim=1, keepdim=True))
            if self._decay:
                turn.add_(weight, alpha=self._decay)
                shift.add_(bias, alpha=self._decay)
            if place:
                error = torch.bmm(error, weight.transpose(1, 2))
                error.mul_(inputs[place] > 0)

    def _score(self, model: Networks, targets: Targets) -> Values:
        torch = _imported_torch()
        points = torch.tensor(
            as_matrix(targets.points, "the test points' features"), dtype=torch.float32
        )
        weight, bias = model.layers[0]
        # one product for all networks, as they see the same points
        found = torch.einsum("td,mdh->mth", points, weight) + bias
        for weight, bias in model.layers[1:]:
            found = torch.baddbmm(bias, found.relu_(), weight)
        logits = found.double().numpy()
        logits = np.where((model.counts == 0)[:, None, :], ABSENT, logits)
        highest = logits.max(axis=2, keepdims=True)
        logits = logits - highest
        log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        measure = Measure(self._classes, targets)
        return measure.of_log_probs(with_absent(log_probs, model.counts))


def _imported_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"SmallNetwork needs torch ({error}). Install it with "
            'pip install "spex-explain[text]".'
        ) from error
    return torch
