"""Rows held out in turn, and the trees grown on all others."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from oracles import Masks, distinct_masks
from proxyspex.ablated import Ablated
from proxyspex.blend import Fold, in_threads
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


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows held out in turn, all others, and these in the form the trees take; weights
    of all rows, None if those held out are a uniform sample."""

    inside: list[NDArray[np.int64]]
    outside: list[NDArray[np.int64]]
    subsets: list[lgb.Dataset]
    weights: NDArray[np.float64] | None

    @classmethod
    def of(
        cls,
        data: Ablated,
        settings: Boosting,
        weights: NDArray[np.float64] | None,
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
        return Fold(inside, rows, booster, forest, held_out)

    return in_threads(grow, list(range(len(parts.inside))))
