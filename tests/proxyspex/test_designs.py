"""Designs: distinct masks, nested budgets, and the balance each one promises."""

from itertools import combinations

import numpy as np
import pytest

from proxyspex import ProxySpex
from proxyspex.designs import DESIGNS, orthogonal_masks, paired_masks
from spex import MethodError
from spex.testing import MethodContract


class TestPaired(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(design="paired")


class TestOrthogonal(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(design="orthogonal")


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("num_players", [8, 14, 100, 300])
def test_masks_are_distinct_nested_and_balanced(design: str, num_players: int) -> None:
    draw = DESIGNS[design]
    few = draw(num_players, 60, np.random.default_rng(3))
    many = draw(num_players, 200, np.random.default_rng(3))
    assert many.shape == (201, num_players)
    assert many[0].all()
    assert np.array_equal(many[:61], few)
    assert len(np.unique(many, axis=0)) == 201
    assert np.abs(many[1:].mean() - 0.5) < 0.05


def test_pairs_are_complements() -> None:
    masks = paired_masks(20, 99, np.random.default_rng(0))
    assert (masks[0::2] ^ masks[1::2]).all()


@pytest.mark.parametrize("num_players", [14, 16, 40])
def test_three_players_take_all_patterns_equally_often(num_players: int) -> None:
    block = 2 ** ((num_players - 1).bit_length() + 1)
    masks = orthogonal_masks(num_players, block, np.random.default_rng(1))[1:]
    for players in combinations(range(0, num_players, 3), 3):
        codes = masks[:, players] @ [1, 2, 4]
        assert (np.bincount(codes, minlength=8) == block // 8).all(), players


def test_an_unknown_design_is_refused() -> None:
    with pytest.raises(MethodError, match="uniform, paired, orthogonal"):
        ProxySpex(design="latin")
