"""The data oracle that the options of `spex data` describe."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import InputError, ModelError
from oracles.data import (
    DataOracle,
    DataPlayers,
    EstimatorTrainer,
    FineTuning,
    LogisticHead,
    RidgeHead,
    SmallNetwork,
    Table,
    Targets,
    classifier_named,
    clusters,
    embed_texts,
    groups,
    is_seeded,
    read_table,
    single_examples,
    visible_players,
)
from oracles.data.classes import Classes
from spex.registry import default_budget
from spex.tried.flips import TRIES
from spex.tried.removals import NOISE_MASKS

Array = NDArray[np.float64]

MOST_POINTS = 100
"""Test points explained one by one; a report of more is not read."""


@dataclass(frozen=True)
class DataTask:
    """Files read and checked, and what is made of them.

    Attributes:
        options: of the command line.
        train: the training examples.
        test: the test points.
    """

    options: argparse.Namespace
    train: Table
    test: Table

    @classmethod
    def of(cls, options: argparse.Namespace) -> "DataTask":
        """Of the options; whatever is wrong is told before anything is trained.

        Raises:
            InputError: files, columns, ids or labels that cannot be used, options that
                contradict each other, or too small a budget.
        """
        _check_options(options)
        columns = {
            "text_column": options.text_column,
            "label_column": options.label_column,
            "id_column": options.id_column,
            "feature_columns": options.feature_columns,
        }
        train = read_table(options.train, group_column=options.group_column, **columns)
        test = read_table(options.test, **columns)
        if options.test_ids is not None:
            test = _chosen(test, options)
        if options.measure != "accuracy" and len(test) > MOST_POINTS:
            raise InputError(
                f"{options.test} has {len(test)} test points, and at most {MOST_POINTS}"
                " are explained at a time. Choose some with --test-ids."
            )
        Classes.of(train.labels, len(train)).codes_of(test.labels)
        task = cls(options, train, test)
        _ = task.classifier
        task.check_budget()
        task.check_sizes()
        return task

    @property
    def num_players(self) -> int:
        """How many players there are, at most."""
        if self.options.clusters is not None:
            return int(self.options.clusters)
        return len(set(self.train.groups)) or len(self.train)

    @property
    def budget(self) -> int:
        """Most subsets trained on, the default if no number is given."""
        given = self.options.budget
        return default_budget(self.num_players) if given is None else int(given)

    @property
    def strata(self) -> tuple[int, ...] | None:
        """Each player's label as a number, if subsets keep a share of each."""
        if not self.options.stratify:
            return None
        codes = Classes.of(self.train.labels, len(self.train)).codes
        return tuple(codes.tolist())

    @property
    def told(self) -> str:
        """What is about to be done, in a sentence."""
        count, budget = self.num_players, self.budget
        visible = visible_players(count, budget)
        kind = "examples" if count == len(self.train) else "groups of examples"
        more = f", and {NOISE_MASKS} more that tell their noise" * self.is_random
        if self.options.check:
            more += f", and up to {TRIES} for each of these that check what flips it"
        if self.options.repeats > 1:
            more += f", all of it {self.options.repeats} times"
        return (
            f"up to {budget} trainings on subsets of {count} {kind}, each scored at "
            f"{len(self.test)} test points{more}; up to about {visible:.0f} equally "
            "strong ones can be told from chance"
        )

    @cached_property
    def classifier(self) -> Any:
        """The scikit-learn classifier that is trained; None if it is none of these.

        Raises:
            InputError: no trainer of that name, or a classifier that cannot be used.
            ModelError: scikit-learn is missing.
        """
        return _classifier(self.options.trainer)

    @property
    def is_random(self) -> bool:
        """Whether training twice on the same examples may give different models."""
        if self.classifier is not None:
            return is_seeded(self.classifier)
        return self.options.trainer not in HEADS

    @property
    def overruled(self) -> str:
        """Which options mean nothing where every subset is trained on; "" if none."""
        asked = {
            "--keep": self.options.keep is not None,
            "--stratify": self.options.stratify,
        }
        named = " and ".join(name for name, is_asked in asked.items() if is_asked)
        # 2^62 trainings are no budget
        if not named or 2 ** min(self.num_players, 62) > self.budget:
            return ""
        verb = "mean" if " and " in named else "means"
        return (
            f"all 2^{self.num_players} subsets fit in the budget and are trained on, "
            f"so that {named} {verb} nothing here; a --budget below "
            f"{2**self.num_players} draws some of them"
        )

    def check_sizes(self) -> None:
        """Refuse a best subset of none of the players, or of all.

        Raises:
            InputError: with the sizes that there are.
        """
        size = self.options.best_subset
        if size is not None and not 0 < size < self.num_players:
            raise InputError(
                f"--best-subset {size} is out of range: there are {self.num_players} "
                f"players. Pass 1 to {self.num_players - 1}."
            )

    def check_budget(self) -> None:
        """Refuse more players than the budget can say anything about.

        Raises:
            InputError: with the budget that would do.
        """
        if self.budget < 1:
            raise InputError(f"--budget {self.budget} must be at least 1.")
        try:
            visible_players(self.num_players, self.budget)
        except InputError as error:
            raise InputError(
                f"{error} Here: --budget, --group-column or --clusters."
            ) from None

    def oracle(self) -> DataOracle:
        """Embeds the texts, if there is need, and makes the oracle.

        Raises:
            InputError: what the trainer or the encoder refuses.
            ModelError: the model cannot be loaded.
        """
        options = self.options
        trainer = TRAINERS.get(options.trainer, _estimator)(self)
        targets = Targets(
            self.test.texts if options.trainer in TUNING else self.features[1],
            self.test.labels,
            ids=self.test.ids,
            outputs=(options.measure,),
            texts=self.test.texts,
        )
        players = self._players().showing(self.train.texts, self.train.labels)
        return DataOracle(
            trainer,
            targets,
            players=players,
            seed=options.seed or 0,
            repeats=options.repeats,
        )

    def _players(self) -> DataPlayers:
        if self.options.clusters is not None:
            seed = self.options.seed or 0
            return clusters(self.features[0], self.options.clusters, seed=seed)
        if self.train.groups:
            return groups(self.train.groups)
        return single_examples(self.train.ids)

    @cached_property
    def features(self) -> tuple[Array, Array]:
        """Of the training examples and of the test points, (n, d) and (t, d)."""
        count, options = len(self.train), self.options
        if self.train.features:
            vectors = np.array([*self.train.features, *self.test.features])
        else:
            texts = [*self.train.texts, *self.test.texts]
            vectors = embed_texts(texts, options.model, device=options.device)
        # most trainers want numbers of about unit size, which embeddings do not have
        if self.train.features or options.trainer not in HEADS:
            vectors = _standardised(vectors, vectors[:count])
        return vectors[:count], vectors[count:]


def _standardised(vectors: Array, train: Array) -> Array:
    """Less the mean over the training examples, by their standard deviation."""
    spread = train.std(axis=0)
    return np.asarray((vectors - train.mean(axis=0)) / np.where(spread > 0, spread, 1))


def _head(make: Any) -> Callable[[DataTask], Any]:
    def made(task: DataTask) -> Any:
        penalty = 1.0 if task.options.l2 is None else task.options.l2
        return make(task.features[0], task.train.labels, l2=penalty)

    return made


def _network(task: DataTask) -> Any:
    return SmallNetwork(task.features[0], task.train.labels, **_steps(task))


def _estimator(task: DataTask) -> Any:
    return EstimatorTrainer(task.classifier, task.features[0], task.train.labels)


def _tuning(method: str) -> Callable[[DataTask], Any]:
    def made(task: DataTask) -> Any:
        return FineTuning(
            task.train.texts,
            task.train.labels,
            task.options.model,
            method=method,
            device=task.options.device,
            **_steps(task),
        )

    return made


def _steps(task: DataTask) -> dict[str, Any]:
    return {} if task.options.steps is None else {"steps": task.options.steps}


HEADS = ("logistic", "ridge")
TUNING = ("finetune", "lora")
TRAINERS: dict[str, Callable[[DataTask], Any]] = {
    "logistic": _head(LogisticHead),
    "ridge": _head(RidgeHead),
    "network": _network,
    "finetune": _tuning("full"),
    "lora": _tuning("lora"),
}
"""Name -> what makes the trainer of a task; others are scikit-learn's classifiers."""


def _classifier(trainer: str) -> Any:
    """As `DataTask.classifier`."""
    if trainer in TRAINERS:
        return None
    try:
        return classifier_named(trainer)
    except InputError as error:
        raise InputError(
            f"--trainer {trainer}: {error} There are {', '.join(TRAINERS)}, too."
        ) from None


def _chosen(test: Table, options: argparse.Namespace) -> Table:
    try:
        return test.select(options.test_ids)
    except InputError as error:
        raise InputError(f"--test-ids: {error}") from None


def _is_classifier(model: str) -> bool:
    """Whether it is one of scikit-learn's; looked up only if it may be, as all of its
    modules are imported for that."""
    if not (model.isidentifier() and model[0].isupper()) or Path(model).exists():
        return False
    try:
        return classifier_named(model) is not None
    except (InputError, ModelError):
        return False


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if options.model is not None and _is_classifier(options.model):
        raise InputError(
            f"--model {options.model} is a classifier: pass it as --trainer "
            f"{options.model}. --model names what embeds the texts, such as sentiment; "
            "numbers of --feature-columns need none."
        )
    is_tuned = options.trainer in TUNING
    if options.model is None and not options.feature_columns:
        raise InputError(
            "there is nothing to train on: name an encoder of the texts with --model, "
            "such as --model sentiment, or columns of numbers with --feature-columns."
        )
    if options.feature_columns and (is_tuned or options.model is not None):
        with_what = f"--trainer {options.trainer}" if is_tuned else "--model"
        raise InputError(
            f"{with_what} is of texts, and --feature-columns are numbers. Leave one of "
            "them out."
        )
    if options.l2 is not None and options.trainer not in HEADS:
        raise InputError(f"--l2 means nothing to --trainer {options.trainer}.")
    if options.steps is not None and options.trainer not in ("network", *TUNING):
        raise InputError(f"--steps means nothing to --trainer {options.trainer}.")
    if options.group_column is not None and options.clusters is not None:
        raise InputError(
            "--group-column and --clusters both say what the groups are. Leave one out."
        )
    is_grouped = options.group_column is not None or options.clusters is not None
    if options.stratify and is_grouped:
        raise InputError(
            "--stratify is by the labels of single examples, and there are groups. "
            "Leave one of them out."
        )
    if options.ray is not None and options.workers is None:
        raise InputError(
            f"--ray {options.ray} is where workers are, and there are none. Pass "
            "--workers N, too."
        )
    if options.clusters is not None and options.clusters < 2:
        raise InputError(f"--clusters {options.clusters} must be at least 2.")
