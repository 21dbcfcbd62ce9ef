"""What the component benchmark compares: from ablations to circuits and predictions."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from components_tasks import Task, kept

from proxyspex import ProxySpex
from spex.search import best_subset
from spex.spectrum import SparseFourier, characters
from spex.tried.proposals import Aim
from spex.tried.trials import best_tried

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # MIB's
PRUNED = (0.25, 0.5, 0.75)
SEARCH = 1.0  # seconds
ALL_SIZES = ProxySpex(design="shapley")  # as many masks of few heads as of many
Array = np.ndarray
Choose = Callable[[int], Array]
"""From a number of heads to the mask of a circuit of that size."""


@dataclass
class Found:
    """What a method makes of some ablations.

    Attributes:
        predict: values of masks; None if it does not say.
        largest: circuit of a size, for the largest behaviour.
        closest: for the behaviour closest to the intact model's; None if it is only
            asked to prune.
        spent: ablations, or forwards and backwards of gradients.
    """

    predict: Callable[[Array], Array] | None
    largest: Choose
    closest: Choose | None
    spent: int


@dataclass(frozen=True)
class Paid:
    """The masks of a plan and their values."""

    task: Task
    keep: float
    plan: Any
    values: Array

    @property
    def sample(self) -> tuple[Array, Array]:
        """Without the empty mask, an outlier that misleads regressions."""
        rows = self.plan.learned_from
        return self.plan.masks[rows], self.values[rows]


def sizes(num_players: int) -> list[int]:
    """Of all circuits that are asked for."""
    parts = (*FRACTIONS, *(1 - part for part in PRUNED))
    return sorted({round(part * num_players) for part in parts} - {0, num_players})


def by_scores(scores: Array) -> tuple[Choose, Choose]:
    """Circuits of the highest scores, and of those largest in size."""
    n = len(scores)
    signed, absolute = np.argsort(-scores), np.argsort(-np.abs(scores))
    return (
        lambda size: kept(n, signed[:size]),
        lambda size: kept(n, absolute[:size]),
    )


def by_spectrum(fourier: SparseFourier, full: float) -> tuple[Choose, Choose]:
    """Circuits by exact search, and those improved towards the intact value."""

    @cache
    def largest(size: int) -> Any:
        found = best_subset(fourier, size, time_limit=SEARCH)
        return kept(fourier.num_players, found.kept)

    return largest, lambda size: nearest(fourier, largest(size), full)


def nearest(fourier: SparseFourier, mask: Array, value: float) -> Array:
    """A mask of the same size whose value is closest, by exchanging two players."""
    for _ in range(len(mask)):
        trial = exchanges(mask)
        best = int(np.abs(fourier(trial)[:, 0] - value).argmin())
        if best == 0:
            break
        mask = trial[best]
    return mask


def exchanges(mask: Array) -> Array:
    """The mask, and all in which a kept and a removed player change places."""
    removed, added = np.flatnonzero(mask), np.flatnonzero(~mask)
    trial = np.repeat(mask[None], len(removed) * len(added) + 1, axis=0)
    rows = np.arange(1, len(trial))
    trial[rows, np.repeat(removed, len(added))] = False
    trial[rows, np.tile(added, len(removed))] = True
    return trial


def all_sizes(paid: Paid, seed: int) -> Found:
    """From as many masks of every size, in place of the masks the others see."""
    task, budget = paid.task, len(paid.values)
    plan = ALL_SIZES.plan(len(task.players), budget, np.random.default_rng(seed))
    values = task(plan.masks)[:, None]
    spectrum = ALL_SIZES.recover(plan, values, np.random.default_rng(seed)).fourier
    return Found(None, *by_spectrum(spectrum, task.full), budget)


def ours(paid: Paid, seed: int, *, order: int = 5, full: bool = False) -> Found:
    method = ProxySpex(keep=paid.keep, max_order=order)
    rng = np.random.default_rng(seed)
    recovery = method.recover(paid.plan, paid.values[:, None], rng)
    spectrum = recovery.fourier
    circuits = by_spectrum(spectrum, paid.task.full)
    surrogate = recovery.full if full and recovery.full else spectrum
    return Found(lambda masks: surrogate(masks)[:, 0], *circuits, len(paid.values))


def regression(paid: Paid, seed: int, kind: str) -> Found:
    from sklearn.linear_model import LassoCV, RidgeCV

    masks, values = paid.sample
    n = masks.shape[1]
    supports: list[tuple[int, ...]] = [(i,) for i in range(n)]
    if kind == "LASSO order 2":
        supports += [(i, j) for j in range(n) for i in range(j)]
    if kind == "ridge":
        model = RidgeCV(np.logspace(-3, 4, 30))
    else:
        model = LassoCV(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(characters(masks, supports), values)
    coefficients = np.append(model.coef_, model.intercept_)[:, None]
    spectrum = SparseFourier.from_terms(n, [*supports, ()], coefficients)
    if kind == "LASSO order 2" or kind.endswith("searched"):
        circuits = by_spectrum(spectrum, paid.task.full)
    else:
        circuits = by_scores(-model.coef_[:n])  # chi = -1 where it is kept
    return Found(lambda m: spectrum(m)[:, 0], *circuits, len(paid.values))


def mean_difference(paid: Paid, seed: int) -> Found:
    masks, values = paid.sample
    effects = np.array(
        [values[column].mean() - values[~column].mean() for column in masks.T]
    )
    middle, centre = values.mean(), masks.mean(axis=0)
    return Found(
        lambda m: middle + (m - centre) @ effects, *by_scores(effects), len(values)
    )


def tried(paid: Paid, seed: int) -> Found:
    """The best of the sets that were run, of each size that is asked for below."""
    task, budget = paid.task, len(paid.values)
    n = len(task.players)
    most = np.copysign(np.inf, task.full - task.empty)
    of_mib = {round(part * n) for part in FRACTIONS}
    aims = [Aim(size, most) for size in sizes(n)]
    aims += [Aim(size, task.full) for size in sizes(n) if size in of_mib]
    trials = best_tried(
        task.oracle,
        aims,
        budget=budget,
        method=ALL_SIZES,
        seed=seed,
        ledger=task.ledger,
    )
    best = {trial.aim: kept(n, trial.players) for trial in trials}

    def chosen(size: int, towards: float) -> Array:
        is_end = size in (0, n)  # there is only one
        return kept(n, range(size)) if is_end else best[Aim(size, towards)]

    return Found(
        None, lambda s: chosen(s, most), lambda s: chosen(s, task.full), budget
    )


def best_of_random(paid: Paid, seed: int) -> Found:
    """As many random circuits of a size as there are ablations, for each size."""
    n = len(paid.task.players)
    count = len(paid.values)

    def largest(size: int) -> Array:
        rng = np.random.default_rng((seed, size))
        masks = np.array([kept(n, rng.permutation(n)[:size]) for _ in range(count)])
        return masks[paid.task(masks).argmax()]

    return Found(None, largest, None, count)


OWN_MASKS: dict[str, Callable[[Paid, int], Found]] = {
    "ours, all sizes": all_sizes,
    "ours, tried": tried,
}
METHODS: dict[str, Callable[[Paid, int], Found]] = {
    "ours": ours,
    "ours, all terms": lambda paid, seed: ours(paid, seed, full=True),
    "ours, order 1": lambda paid, seed: ours(paid, seed, order=1),
    "LASSO": lambda paid, seed: regression(paid, seed, "LASSO"),
    "LASSO, searched": lambda paid, seed: regression(paid, seed, "LASSO searched"),
    "LASSO order 2": lambda paid, seed: regression(paid, seed, "LASSO order 2"),
    "ridge": lambda paid, seed: regression(paid, seed, "ridge"),
    "mean difference": mean_difference,
    "best of random": best_of_random,
}
