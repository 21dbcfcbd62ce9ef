"""Boosted trees over masks, and their exact Fourier spectrum.

A leaf reached by fixing the players P to a pattern b is the indicator of b on P, so a
forest is a sum of tables, one over the 2^|P| patterns of each path set P. The
transform of a table gives the coefficients of all subsets of P at once (the recursion
of Gorji et al. 2024 and of Butler et al. 2025, Alg. 1, level by level for all trees).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from oracles import Masks
from spex.basis import UNIFORM, Basis
from spex.spectrum import Support

MAX_DEPTH = 8
"""Deepest tree the transform reads: a leaf of depth d has 2^d coefficients."""


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """Settings of the boosted trees.

    Few leaves, grown where they help most, beat deep trees on few masks; the leaves'
    shrinkage falls as masks become more.

    Attributes:
        num_trees: trees in one fit.
        learning_rate: shrinkage of each tree.
        max_depth: largest interaction a tree can hold.
        num_leaves: most leaves of a tree.
        shrinkage, few_shrinkage: the L2 penalty of a leaf is the first, plus the
            second divided by the number of masks.
        row_fraction: rows sampled anew for every tree.
        column_fraction, most_columns: players likewise, at most so many.
        min_rows_per_leaf: smallest leaf.
    """

    num_trees: int = 500
    learning_rate: float = 0.05
    max_depth: int = 5
    num_leaves: int = 8
    shrinkage: float = 2.0
    few_shrinkage: float = 300.0
    row_fraction: float = 0.8
    column_fraction: float = 0.8
    most_columns: int = 1000
    min_rows_per_leaf: int = 2

    def parameters(self, seed: int, num_rows: int, num_players: int) -> dict[str, Any]:
        """The same in LightGBM's words, for so many masks and players."""
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "num_leaves": min(self.num_leaves, 2**self.max_depth),
            "lambda_l2": self.shrinkage + self.few_shrinkage / num_rows,
            "bagging_fraction": self.row_fraction,
            "bagging_freq": 1,
            "feature_fraction": min(
                self.column_fraction, self.most_columns / num_players
            ),
            "min_data_in_leaf": self.min_rows_per_leaf,
            "min_data_per_group": 1,
            "max_bin": 2,
            "min_data_in_bin": 1,
            "feature_pre_filter": False,
            "seed": seed,
            "num_threads": 1,  # folds run side by side
            "deterministic": True,
            # by rows all players are looked at, by columns those sampled
            "force_row_wise": num_players <= 2 * self.most_columns,
            "force_col_wise": num_players > 2 * self.most_columns,
            "verbose": -1,
        }


def tree_data(masks: Masks, settings: Boosting) -> lgb.Dataset:
    """Masks (m, n) in the library's form, to be used for any rows and values."""
    parameters = settings.parameters(0, *masks.shape)
    return lgb.Dataset(masks.astype(np.float32), params=parameters).construct()


def fit_trees(
    data: lgb.Dataset, values: NDArray[np.float64], settings: Boosting, seed: int
) -> lgb.Booster:
    """Boosted trees for one output: values (m,) of the masks in `data`."""
    data.set_label(values)
    parameters = settings.parameters(seed, len(values), data.num_feature())
    return lgb.train(parameters, data, num_boost_round=settings.num_trees)


@dataclass(frozen=True, eq=False)
class Forest:
    """All trees of a fit in one set of arrays; child c < 0 is leaf ~c.

    Attributes:
        roots: node (or leaf, if < 0) of each tree.
        players: player asked at each node.
        ablated, kept: children for a player ablated or kept.
        leaves: value of each leaf.
    """

    roots: NDArray[np.int64]
    players: NDArray[np.int64]
    ablated: NDArray[np.int64]
    kept: NDArray[np.int64]
    leaves: NDArray[np.float64]


def read_forest(booster: lgb.Booster) -> Forest:
    """The trees of a LightGBM model, from its text format."""
    roots, players, ablated, kept, leaves = [], [], [], [], []
    nodes = num_leaves = 0
    for tree in booster.model_to_string().split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in tree.split("\n") if "=" in line)
        values = np.array(fields["leaf_value"].split(), dtype=float)
        if len(values) > 1:
            left = np.array(fields["left_child"].split(), dtype=np.int64)
            right = np.array(fields["right_child"].split(), dtype=np.int64)
            ablated.append(_globally(left, nodes, num_leaves))
            kept.append(_globally(right, nodes, num_leaves))
            players.append(np.array(fields["split_feature"].split(), dtype=np.int64))
            roots.append(nodes)
            nodes += len(left)
        else:
            roots.append(~num_leaves)
        leaves.append(values)
        num_leaves += len(values)
    return Forest(
        np.array(roots),
        np.concatenate([np.zeros(0, np.int64), *players]),
        np.concatenate([np.zeros(0, np.int64), *ablated]),
        np.concatenate([np.zeros(0, np.int64), *kept]),
        np.concatenate(leaves),
    )


def _globally(
    children: NDArray[np.int64], nodes: int, leaves: int
) -> NDArray[np.int64]:
    return np.where(children >= 0, children + nodes, children - leaves)


@dataclass(frozen=True, eq=False)
class Terms:
    """Coefficients of many supports as arrays.

    Attributes:
        num_players: n.
        keys: shape (terms,), a 64-bit hash of each support, increasing.
        members: shape (terms, depth), players of each support, padded with -1.
        coefficients: shape (terms,).
    """

    num_players: int
    keys: NDArray[np.uint64]
    members: NDArray[np.int64]
    coefficients: NDArray[np.float64]

    def largest(self, count: int) -> dict[Support, float]:
        """The `count` largest coefficients in size, by support."""
        order = np.argsort(-np.abs(self.coefficients), kind="stable")[:count]
        members, values = (
            self.members[order].tolist(),
            self.coefficients[order].tolist(),
        )
        return {
            tuple(sorted(p for p in row if p >= 0)): value
            for row, value in zip(members, values, strict=True)
        }

    def of(self, supports: Iterable[Support]) -> NDArray[np.float64]:
        """Coefficients of these supports, 0 where there is none."""
        hashes = _player_hashes(self.num_players)
        keys = np.array(
            [hashes[list(support)].sum(dtype=np.uint64) for support in supports],
            dtype=np.uint64,
        )
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.coefficients[places], 0.0)


def forest_terms(forest: Forest, num_players: int, basis: Basis = UNIFORM) -> Terms:
    """All coefficients of a forest in a basis, exactly."""
    hashes = _player_hashes(num_players)
    # begins with the empty set, so that a forest without trees is zero
    keys = [np.zeros(1, dtype=np.uint64)]
    members = [np.full((1, MAX_DEPTH), -1)]
    coefficients = [np.zeros(1)]
    for paths, patterns, values in _leaf_paths(forest):
        depth = paths.shape[1]
        tables, sets = _tabulate(paths, patterns, values, hashes)
        inside = (np.arange(2**depth)[:, None] >> np.arange(depth)) & 1 == 1
        subset_keys = inside.astype(np.uint64) @ hashes[sets].T
        keys.append(subset_keys.ravel())
        members.append(_padded(np.where(inside[:, None], sets, -1), MAX_DEPTH))
        coefficients.append(basis.transform(tables).ravel())
    return _merge(
        num_players,
        np.concatenate(keys),
        np.concatenate(members),
        np.concatenate(coefficients),
    )


def mean_terms(parts: list[Terms]) -> Terms:
    """The mean of several spectra, such as those of bagged forests."""
    merged = _merge(
        parts[0].num_players,
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.members for part in parts]),
        np.concatenate([part.coefficients for part in parts]),
    )
    return replace(merged, coefficients=merged.coefficients / len(parts))


def _player_hashes(num_players: int) -> NDArray[np.uint64]:
    # the sum of random 64-bit words over a set collides with probability 2^-64 a pair
    rng = np.random.default_rng(0x5BE1)
    return rng.integers(0, 2**64, num_players, dtype=np.uint64)


def _tabulate(
    paths: NDArray[np.int64],
    patterns: NDArray[np.bool_],
    values: NDArray[np.float64],
    hashes: NDArray[np.uint64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum leaves of the same path set into one table over its patterns.

    Returns:
        Tables of shape (2^depth, sets) and the path sets (sets, depth).
    """
    order = np.argsort(paths, axis=1)
    paths = np.take_along_axis(paths, order, axis=1)
    patterns = np.take_along_axis(patterns, order, axis=1)
    keys = hashes[paths].sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    tables = np.zeros((2 ** paths.shape[1], len(first)))
    codes = patterns @ (1 << np.arange(paths.shape[1]))
    np.add.at(tables, (codes, inverse), values)
    return tables, paths[first]


def _padded(members: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    # not -1: a tree without a split has sets of no players
    flat = members.reshape(math.prod(members.shape[:-1]), members.shape[-1])
    return np.pad(flat, ((0, 0), (0, width - flat.shape[1])), constant_values=-1)


def _merge(
    num_players: int,
    keys: NDArray[np.uint64],
    members: NDArray[np.int64],
    coefficients: NDArray[np.float64],
) -> Terms:
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    sums = np.zeros(len(unique))
    np.add.at(sums, inverse, coefficients)
    return Terms(num_players, unique, members[first], sums)


def _leaf_paths(
    forest: Forest,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]]:
    """For each depth: leaves' path players, whether each is kept, leaf values."""
    nodes = forest.roots
    paths = np.zeros((len(nodes), 0), dtype=np.int64)
    patterns = np.zeros((len(nodes), 0), dtype=bool)
    while len(nodes):
        is_leaf = nodes < 0
        if is_leaf.any():
            yield paths[is_leaf], patterns[is_leaf], forest.leaves[~nodes[is_leaf]]
        inner = nodes[~is_leaf]
        asked = np.column_stack([paths[~is_leaf], forest.players[inner]])
        paths = np.concatenate([asked, asked])
        is_kept = np.repeat([False, True], len(inner))
        patterns = np.column_stack([np.tile(patterns[~is_leaf], (2, 1)), is_kept])
        nodes = np.concatenate([forest.ablated[inner], forest.kept[inner]])
