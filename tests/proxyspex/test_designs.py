"""Designs: distinct masks, nested budgets, and the balance each one promises."""

from itertools import combinations

import numpy as np
import pytest

from proxyspex import ProxySpex
from proxyspex.designs import (
    DESIGNS,
    orthogonal_masks,
    paired_masks,
    shapley_masks,
    size_weights,
)
from spex import MethodError
from spex.exact import every_mask
from spex.testing import MethodContract


class TestPaired(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(design="paired")


class TestOrthogonal(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(design="orthogonal")


class TestShapley(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(design="shapley")


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("num_players", [8, 14, 100, 300])
def test_masks_are_distinct_nested_and_balanced(design: str, num_players: int) -> None:
    draw = DESIGNS[design]
    few = draw(num_players, 60, np.random.default_rng(3))
    many = draw(num_players, 200, np.random.default_rng(3))
    assert many.shape == (201, num_players)
    assert many[0].all()
    assert not many[1].any()
    assert np.array_equal(many[:61], few)
    assert len(np.unique(many, axis=0)) == 201
    assert np.abs(many[1:].mean() - 0.5) < 0.05


def test_pairs_are_complements() -> None:
    masks = paired_masks(20, 99, np.random.default_rng(0))
    assert (masks[0::2] ^ masks[1::2]).all()


@pytest.mark.parametrize("num_players", [14, 16, 40])
def test_three_players_take_all_patterns_equally_often(num_players: int) -> None:
    block = 2 ** ((num_players - 1).bit_length() + 1)
    masks = orthogonal_masks(num_players, block + 1, np.random.default_rng(1))[2:]
    for players in combinations(range(0, num_players, 3), 3):
        codes = masks[:, players] @ [1, 2, 4]
        assert (np.bincount(codes, minlength=8) == block // 8).all(), players


def test_the_design_for_shapley_values_has_all_sizes_and_all_ends() -> None:
    masks = shapley_masks(15, 999, np.random.default_rng(0))
    assert (masks[0::2] ^ masks[1::2]).all()
    counts = np.bincount(masks.sum(axis=1), minlength=16)
    assert (counts[[0, 1, 14, 15]] == [1, 15, 15, 1]).all()
    assert (counts[2:14] > 50).all()


def test_weights_make_a_uniform_sample_of_all_sizes() -> None:
    masks = shapley_masks(15, 999, np.random.default_rng(0))
    weights = size_weights(masks)
    for power in (1, 2, 3):
        mean = np.average(masks.sum(axis=1) ** power, weights=weights)
        truth = (every_mask(15).sum(axis=1) ** power).mean()
        assert mean == pytest.approx(truth)


def test_an_unbiased_correction_needs_independent_masks() -> None:
    with pytest.raises(MethodError, match="independent masks"):
        ProxySpex(design="shapley", is_unbiased=True)


def test_an_unknown_design_is_refused() -> None:
    with pytest.raises(MethodError, match="uniform, paired, orthogonal"):
        ProxySpex(design="latin")
