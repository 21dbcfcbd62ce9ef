"""What trains a model on a subset of the examples and scores test points."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oracles.base import Values
from oracles.data.targets import Targets
from oracles.errors import InputError

Indices = NDArray[np.int64]
"""Numbers of the kept examples, increasing; may be none at all."""


@runtime_checkable
class Trainer(Protocol):
    """Trains on any subset of its n examples, and scores test points.

    Any object with these members is a trainer; there is nothing to inherit. One that
    trains many subsets faster together than one by one is better a `BatchTrainer`. A
    complete one, which predicts every test point by the kept examples' mean:

    >>> import numpy as np
    >>> class Mean:
    ...     num_examples = 3
    ...     description = {"trainer": "mean", "digest": "of 1, 2, 6"}
    ...     def check(self, targets):
    ...         pass
    ...     def fit(self, indices, seed):
    ...         return np.array([1.0, 2.0, 6.0])[indices].sum() / max(len(indices), 1)
    ...     def score(self, model, targets):
    ...         return np.full(len(targets.ids), model)
    >>> isinstance(Mean(), Trainer)
    True
    """

    @property
    def num_examples(self) -> int:
        """How many training examples there are."""

    @property
    def description(self) -> Mapping[str, Any]:
        """JSON-ready settings, with a digest of the training data."""

    def check(self, targets: Targets) -> None:
        """Called once, before anything is trained.

        Raises:
            InputError: these test points cannot be scored by what is trained.
        """

    def fit(self, indices: Indices, seed: int) -> Any:
        """A model of these examples only; equal for equal indices and seeds.

        No examples, or none of some class, must be an answer, too: see
        `oracles.data.classes`. Whatever is raised is taken for a failed training.
        """

    def score(self, model: Any, targets: Targets) -> Values:
        """Values (k,) at the test points; not finite if the training diverged."""


@runtime_checkable
class BatchTrainer(Trainer, Protocol):
    """A trainer that trains many subsets together."""

    def fit_many(
        self, kept: NDArray[np.bool_], seeds: NDArray[np.int64], targets: Targets
    ) -> Values:
        """Values (m, k) as `fit` and `score` give them, one row for each subset.

        Args:
            kept: shape (m, n), True where an example is trained on.
            seeds: shape (m,).
            targets: what to score.

        A row that is not finite says that its training diverged.
        """


class FunctionTrainer:
    """Any callable as a trainer.

    Args:
        function: `function(indices, seed, points) -> values (k,)` trains on the
            examples with these numbers and measures k things at the test points.
        num_examples: how many training examples there are.
        fingerprint: a text that names this function, its data and its settings; a
            ledger tells oracles apart by it.

    Pass it `Targets(points, None, ids=names of the k values)`.

    >>> targets = Targets(None, None, ids=("size",))
    >>> trainer = FunctionTrainer(lambda i, seed, points: [len(i)], 5, "size of 5")
    >>> trainer.score(trainer.fit(np.arange(3), 0), targets)
    array([3.])
    """

    def __init__(
        self,
        function: Callable[[Indices, int, Any], Any],
        num_examples: int,
        fingerprint: str,
    ) -> None:
        if not fingerprint:
            raise InputError(
                "fingerprint is empty. Name the function, its data and its settings."
            )
        self._function = function
        self.num_examples = num_examples
        self.description: Mapping[str, Any] = {
            "trainer": "function",
            "examples": num_examples,
            "function": fingerprint,
        }

    def check(self, targets: Targets) -> None:
        """Any test points will do."""

    def fit(self, indices: Indices, seed: int) -> tuple[Indices, int]:
        """What the function is called with."""
        return indices, seed

    def score(self, model: tuple[Indices, int], targets: Targets) -> Values:
        """The function's values, (k,)."""
        values = self._function(*model, targets.points)
        return np.asarray(values, dtype=np.float64).ravel()
