"""The product kernel is what its formula says, and its search finds the largest."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from proxyspex.process import (
    ProductKernel,
    _loss,
    _Parameters,
    learn_kernel,
    mean_kernel,
)


def random_kernel(num_players: int, seed: int) -> ProductKernel:
    rng = np.random.default_rng(seed)
    weights = rng.random(3)
    decays = rng.uniform(0.01, 0.8, (3, num_players))
    return ProductKernel(decays, weights / weights.sum(), 0.1)


def every_support(num_players: int) -> list[tuple[int, ...]]:
    orders = range(num_players + 1)
    return [s for r in orders for s in combinations(range(num_players), r)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_the_kernel_is_the_sum_over_all_characters(num_players: int, seed: int) -> None:
    kernel = random_kernel(num_players, seed)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (20, num_players))
    supports = every_support(num_players)
    design = np.stack([signs[:, list(s)].prod(axis=1) for s in supports], axis=1)
    variances = kernel.variances(supports)
    assert np.allclose((design * variances) @ design.T, kernel(signs, signs))
    assert variances.sum() == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 10**6))
def test_the_search_finds_the_most_probable(
    num_players: int, max_order: int, seed: int
) -> None:
    decays = random_kernel(num_players, seed).decays[:1]
    kernel = ProductKernel(decays, np.ones(1), 0.1)
    found = kernel.most_probable(10, max_order)
    supports = [s for s in every_support(num_players) if 0 < len(s) <= max_order]
    largest = np.sort(kernel.variances(supports))[::-1][:10]
    assert len(set(found)) == len(largest)
    assert np.allclose(kernel.variances(found), largest)


def test_the_gradient_is_the_slope() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (30, 5))
    values = signs[:, 0] + signs[:, 1] * signs[:, 2] + 0.1 * rng.normal(size=30)
    values = (values - values.mean()) / values.std()
    start = _Parameters.start(5, rng)
    point = start.vector + 0.3 * rng.normal(size=len(start.vector))
    _, gradient = _loss(start.moved(point), signs, values)
    slope = approx_fprime(
        point, lambda v: _loss(start.moved(v), signs, values)[0], 1e-6
    )
    assert np.allclose(gradient, slope, atol=1e-3)


def test_players_that_do_nothing_decay() -> None:
    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], (200, 12))
    values = signs[:, 3] + 0.7 * signs[:, 3] * signs[:, 8] + 0.5 * signs[:, 8]
    kernel = learn_kernel(signs, (values - values.mean()) / values.std(), rng)
    assert set(kernel.most_probable(3, 5)) >= {(3,), (8,), (3, 8)}
    assert kernel.noise < 0.05


def test_the_mean_of_kernels_is_their_mean() -> None:
    kernels = [random_kernel(6, seed) for seed in range(3)]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (10, 6))
    each = np.mean([kernel(signs, signs) for kernel in kernels], axis=0)
    assert np.allclose(mean_kernel(kernels)(signs, signs), each)


@pytest.mark.parametrize("num_players", [14, 1000])
def test_single_precision_is_enough_whatever_the_decays(num_players: int) -> None:
    decays = np.full((1, num_players), 0.3)  # a product of e^250 at its largest
    kernel = ProductKernel(decays, np.ones(1), 0.1)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (20, num_players))
    single = signs.astype(np.float32)
    found = kernel(single, single)
    assert found.dtype == np.float32
    assert np.allclose(found, kernel(signs, signs), atol=1e-4)
    assert np.allclose(np.diag(found), 1.0, atol=1e-4)
