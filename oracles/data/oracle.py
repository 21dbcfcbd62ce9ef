"""The data oracle: what a model says after training on the kept examples only."""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values, check_masks, fingerprint_of
from oracles.data.players import DataPlayers, single_examples
from oracles.data.targets import Targets
from oracles.data.trainer import BatchTrainer, Trainer
from oracles.errors import InputError, UnansweredError
from oracles.run import LARGEST

ATTEMPTS = 3
"""Seeds tried on one subset before its training counts as failed."""

MAY_RAISE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What libraries raise where a subset cannot be trained on."""

SHOWN = ("player_texts", "player_labels", "test_texts")
"""Parts of the description that change no value: digests stand for them."""

BATCH_AT_ONCE = 128  # subsets given to a `BatchTrainer` together


class DataOracle:
    """Training examples as players; v(S) is measured after training on S only.

    One retraining answers for every test point. The seed of a training is fixed by its
    mask, so equal masks have equal values in any order, company and process. With
    `repeats`, each value is the mean over so many seeds, which lowers the noise;
    `noise_floor` measures it.

    A subset without any example of some class, or without any at all, is defined: see
    `oracles.data.classes`. A training that raises or diverges (values that are not
    finite) is tried again with other seeds, and then reported: `evaluate` and
    `evaluate_each` raise `UnansweredError`, the latter after everything else has been
    answered; `spex.explain` leaves such subsets out and says how many they were.

    Args:
        trainer: trains and scores; see `oracles.data.trainers`.
        targets: test points and what is measured at them.
        players: how examples are grouped into players; by default each is one.
        seed: of all trainings; another one draws other noise.
        repeats: trainings averaged for each mask; each costs a training.

    Raises:
        InputError: players of another number of examples, test points the trainer
            cannot score, a negative seed, or fewer than one repeat.

    >>> from oracles.data import FunctionTrainer, Targets
    >>> targets = Targets(None, None, ids=("size",))
    >>> trainer = FunctionTrainer(lambda i, seed, points: [len(i)], 3, "size of 3")
    >>> DataOracle(trainer, targets).evaluate(np.array([[True, False, True]]))
    array([[2.]])
    """

    def __init__(
        self,
        trainer: Trainer,
        targets: Targets,
        *,
        players: DataPlayers | None = None,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        self._players = players or single_examples(trainer.num_examples)
        self._trainer, self._targets = trainer, targets
        self._seed, self._repeats = seed, repeats
        self._check()
        trainer.check(targets)
        self.players = self._players.names
        self.outputs = targets.names
        self.description: Mapping[str, Any] = {
            "kind": "data",
            **self._players.description,
            **targets.description,
            "training": dict(trainer.description),
            "seed": seed,
            "repeats": repeats,
        }

    def _check(self) -> None:
        examples = len(self._players.owner)
        if examples != self._trainer.num_examples:
            raise InputError(
                f"the players hold {examples} examples, and the trainer has "
                f"{self._trainer.num_examples}. Both need the same, in one order."
            )
        if self._seed < 0 or self._repeats < 1:
            raise InputError(
                f"seed={self._seed}, repeats={self._repeats}: a seed is 0 or more, and "
                "there is at least one repeat."
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of players, training data, test points, trainer's settings and seed."""
        told = {k: said for k, said in self.description.items() if k not in SHOWN}
        return fingerprint_of(told)

    def check_affordable(self, masks: Masks) -> None:
        """Retraining costs time only, so any number is affordable."""

    def evaluate(self, masks: Masks) -> Values:
        """Values at all test points after training on every mask's examples, (m, k).

        Raises:
            UnansweredError: training failed on some subset.
        """
        masks = check_masks(masks, len(self.players))
        values = np.empty((len(masks), len(self.outputs)))
        for rows, some in self.evaluate_each(masks):
            values[list(rows)] = some
        return values

    def evaluate_each(
        self, masks: Masks
    ) -> Generator[tuple[Sequence[int], Values], None, None]:
        """Rows and their values as soon as they are trained.

        Raises:
            UnansweredError: training failed on some subset; all others were answered.
        """
        at_once = BATCH_AT_ONCE if isinstance(self._trainer, BatchTrainer) else 1
        failures: dict[int, str] = {}
        for start in range(0, len(masks), at_once):
            values, reasons = self._averaged(masks[start : start + at_once])
            failures |= {start + row: why for row, why in reasons.items()}
            good = [row for row in range(len(values)) if row not in reasons]
            if good:
                yield [start + row for row in good], values[good]
        if failures:
            raise UnansweredError(failures, len(masks))

    def noise_floor(self, masks: Masks, draws: int = 2) -> NDArray[np.float64]:
        """Variance of each output (k,) over seeds, at the same mask; 0 if it has none.

        It is the variance of the values `evaluate` returns, so `repeats` divide it. No
        explanation of a single run can explain that much of the values' variance.

        Args:
            masks: where it is measured, (m, n); 20 or so give it to within a sixth.
            draws: values drawn at each mask, each worth `repeats` trainings.

        Raises:
            InputError: fewer than two draws, or no masks.
            UnansweredError: training failed on some subset.
        """
        masks = check_masks(masks, len(self.players))
        if draws < 2 or not len(masks):
            raise InputError(
                f"draws={draws} over {len(masks)} masks; two draws or more of at least "
                "one mask tell their variance."
            )
        drawn = []
        for draw in range(draws):
            # the first draw is the values themselves
            values, reasons = self._averaged(masks, first=draw * self._repeats)
            if reasons:
                raise UnansweredError(reasons, len(masks))
            drawn.append(values)
        return np.var(drawn, axis=0, ddof=1).mean(axis=0)

    def reseeded(self) -> "DataOracle":
        """The same with the next seed: its values differ by the noise of training."""
        return type(self)(
            self._trainer,
            self._targets,
            players=self._players,
            seed=self._seed + 1,
            repeats=self._repeats,
        )

    def influence(self) -> NDArray[np.float64] | None:
        """A first guess of what each player adds to each output, (n, k), untrained.

        The sum of its examples' influence; None if the trainer tells of none, or not
        for what is measured here. See `spex.Guided`.
        """
        return self._guess("influence")

    def similarity(self) -> NDArray[np.float64] | None:
        """A guess of what each player adds to each output, (n, k), in no units.

        The sum of its examples' similarity to the test point, negative where the
        classes differ; None as for `influence`. It says which examples, removed as a
        whole, leave a model with nothing to tell it the class; see
        `spex.tried.flips.checked_flips`.
        """
        return self._guess("similarity")

    def _guess(self, name: str) -> NDArray[np.float64] | None:
        """What the trainer says of the examples, summed for each player."""
        told = getattr(self._trainer, name, lambda targets: None)
        examples = told(self._targets)
        if examples is None:
            return None
        table = np.zeros((len(self.players), examples.shape[1]))
        np.add.at(table, self._players.owner, examples)
        return table

    def _averaged(self, masks: Masks, first: int = 0) -> tuple[Values, dict[int, str]]:
        """Values (m, k), the mean of all repeats, and what rows failed, with why."""
        total = np.zeros((len(masks), len(self.outputs)))
        reasons: dict[int, str] = {}
        for repeat in range(first, first + self._repeats):
            left = np.array([row for row in range(len(masks)) if row not in reasons])
            if len(left):
                values, failed = self._persistent(masks[left], repeat)
                total[left] += values
                reasons |= {int(left[row]): why for row, why in failed.items()}
        return total / self._repeats, reasons

    def _persistent(self, masks: Masks, repeat: int) -> tuple[Values, dict[int, str]]:
        """Values of one repeat; what fails is tried again with other seeds."""
        values = np.zeros((len(masks), len(self.outputs)))
        reasons = dict.fromkeys(range(len(masks)), "")
        for attempt in range(ATTEMPTS):
            rows = np.array(list(reasons))
            seeds = mask_seeds(masks[rows], self._seed, repeat, attempt)
            tried, failed = self._trained(masks[rows], seeds)
            reasons = {int(rows[row]): why for row, why in failed.items()}
            values[rows] = tried
            if not reasons:
                break
        values[list(reasons)] = 0.0
        return values, reasons

    def _trained(
        self, masks: Masks, seeds: NDArray[np.int64]
    ) -> tuple[Values, dict[int, str]]:
        """Values (m, k) of one training each, and the rows that failed, with why."""
        kept = self._players.examples(masks)
        values, raised = self._fitted(kept, seeds)
        good = (np.abs(values) <= LARGEST).all(axis=1)  # NaN compares as False
        diverged = dict.fromkeys(
            np.flatnonzero(~good).tolist(), "it diverged: values that are not finite."
        )
        return values, diverged | raised

    def _fitted(
        self, kept: NDArray[np.bool_], seeds: NDArray[np.int64]
    ) -> tuple[Values, dict[int, str]]:
        """Values (m, k), not checked yet, and the rows that raised, with why."""
        raised: dict[int, str] = {}
        if isinstance(self._trainer, BatchTrainer):
            # a batch that raises does not say which subset is at fault
            with suppress(*MAY_RAISE):
                return self._trainer.fit_many(kept, seeds, self._targets), raised
        values = np.zeros((len(kept), len(self.outputs)))
        for row, (examples, seed) in enumerate(zip(kept, seeds, strict=True)):
            try:
                values[row] = self._one(examples, int(seed))
            except InputError:
                raise
            except MAY_RAISE as error:
                raised[row] = f"{type(error).__name__}: {error}"
        return values, raised

    def _one(self, examples: NDArray[np.bool_], seed: int) -> Values:
        model = self._trainer.fit(np.flatnonzero(examples), seed)
        values = np.asarray(self._trainer.score(model, self._targets), dtype=np.float64)
        if values.shape != (len(self.outputs),):
            raise InputError(
                f"the trainer scored values of shape {values.shape}; expected "
                f"({len(self.outputs)},), one for each of {list(self.outputs[:5])}."
            )
        return values


def mask_seeds(
    masks: Masks, seed: int, repeat: int = 0, attempt: int = 0
) -> NDArray[np.int64]:
    """A seed for each mask, (m,), 0..2^31 - 1: a hash of the mask and the numbers."""
    packed = np.packbits(masks, axis=1)
    drawn = f"{masks.shape[1]} {seed} {repeat} {attempt} ".encode()
    digests = (
        hashlib.blake2b(drawn + row.tobytes(), digest_size=4).digest() for row in packed
    )
    seeds = [int.from_bytes(digest, "big") >> 1 for digest in digests]
    return np.array(seeds, dtype=np.int64)
