"""Rows held out in turn, and the trees grown on all others."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from oracles import Masks, distinct_masks
from proxyspex.ablated import Ablated
from proxyspex.blend import MOST_LEARNING, MOST_ROWS, Fold, in_threads
from proxyspex.relevance import relevance
from proxyspex.trees import (
    Boosting,
    fit_trees,
    forest_terms,
    read_forest,
    tree_data,
)
from spex.basis import Basis
from spex.regression import folds

NUM_FOLDS = 5
FEW_PLAYERS = MOST_LEARNING // 2  # up to so many the kernel learns each one by itself


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows held out in turn, and what is the same for every output.

    Attributes:
        inside, outside: the rows held out, and all others, of each fold.
        subsets: these in the form the trees take.
        weights: of all rows, None if those held out are a uniform sample.
        singles: how much each single player may matter, told by the rows outside each
            fold, and at last by all; None where there are few players.
    """

    inside: list[NDArray[np.int64]]
    outside: list[NDArray[np.int64]]
    subsets: list[lgb.Dataset]
    weights: NDArray[np.float64] | None
    singles: list[NDArray[np.float64]] | None

    @classmethod
    def of(
        cls,
        data: Ablated,
        settings: Boosting,
        weights: NDArray[np.float64] | None,
        basis: Basis,
        rng: np.random.Generator,
    ) -> "Parts":
        """A mask and its complement, which tell of each other, stay together."""
        told = data.masks[data.telling]
        _, groups = distinct_masks(np.where(told[:, :1], told, ~told))
        chosen = folds(np.unique(groups), min(NUM_FOLDS, len(told)), rng)
        inside = [data.telling[np.isin(groups, part)] for part in chosen]
        everything = np.arange(len(data.masks))
        outside = [np.setdiff1d(everything, part) for part in inside]
        whole = tree_data(data.masks, settings)
        return cls(
            inside,
            outside,
            [whole.subset(rows.tolist()).construct() for rows in outside],
            weights,
            _relevances(data, [*outside, everything], basis, rng),
        )


def _relevances(
    data: Ablated,
    parts: list[NDArray[np.int64]],
    basis: Basis,
    rng: np.random.Generator,
) -> list[NDArray[np.float64]] | None:
    num_players = data.masks.shape[1]
    if num_players <= FEW_PLAYERS:
        return None
    chosen = [np.sort(rng.permutation(part)[:MOST_ROWS]) for part in parts]
    players = [(player,) for player in range(num_players)]
    return in_threads(
        lambda rows: relevance(
            basis.characters(data.masks[rows], players), data.values[rows]
        ),
        chosen,
    )


def grown(
    masks: Masks,
    values: NDArray[np.float64],
    parts: Parts,
    settings: Boosting,
    basis: Basis,
    rng: np.random.Generator,
) -> list[Fold]:
    """Trees on the rows outside each fold, their spectra in this basis."""
    seeds = rng.integers(0, 2**31, len(parts.inside)).tolist()

    def grow(number: int) -> Fold:
        inside, rows = parts.inside[number], parts.outside[number]
        booster = fit_trees(
            parts.subsets[number], values[rows], settings, seeds[number]
        )
        forest = forest_terms(read_forest(booster), masks.shape[1], basis)
        inputs = masks[inside].astype(np.float32)
        held_out = np.asarray(booster.predict(inputs, num_threads=1))
        singles = None if parts.singles is None else parts.singles[number]
        return Fold(inside, rows, booster, forest, held_out, singles)

    return in_threads(grow, list(range(len(parts.inside))))
