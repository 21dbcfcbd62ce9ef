"""What outputs tell together of single players."""

import numpy as np
import pytest

import spex
from proxyspex import ProxySpex
from proxyspex.relevance import relevance
from spex.basis import Basis


def signs_of(masks: np.ndarray) -> np.ndarray:
    return (1 - 2 * masks).astype(np.float32)


@pytest.mark.parametrize(("num_masks", "num_players"), [(60, 200), (300, 80)])
def test_players_that_matter_to_all_outputs_stand_out(
    num_masks: int, num_players: int
) -> None:
    rng = np.random.default_rng(0)
    signs = signs_of(rng.random((num_masks, num_players)) < 0.5)
    effects = np.zeros((num_players, 30))
    effects[:10] = rng.normal(size=(10, 30))
    values = signs @ effects + rng.normal(0, 0.1, (num_masks, 30))
    shares = relevance(signs, values)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()
    assert shares[:10].sum() > 0.7
    # neither scale nor shift of an output counts
    changed = values * rng.uniform(0.1, 9, 30) + rng.normal(size=30)
    np.testing.assert_allclose(relevance(signs, changed), shares, rtol=1e-3)


def test_one_output_by_itself_is_trusted_half() -> None:
    rng = np.random.default_rng(1)
    signs = signs_of(rng.random((50, 200)) < 0.5)
    shares = relevance(signs, rng.normal(size=(50, 1)))
    assert shares.min() >= 0.5 / 200 - 1e-12


@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_many_players_of_dense_effects_are_learned_from_all_outputs(
    keep: float,
) -> None:
    rng = np.random.default_rng(2)
    n, k = 220, 8
    scale = rng.exponential(size=(n, 1)) ** 2
    effects = scale * rng.normal(size=(n, k))
    masks = rng.random((330, n)) < keep
    method = ProxySpex(num_terms=600, max_order=2, keep=keep)
    e = spex.explain_values(masks, signs_of(masks) @ effects, method=method)
    fresh = rng.random((500, n)) < keep
    truth = signs_of(fresh) @ effects
    errors = ((e.predict(fresh) - truth) ** 2).mean(axis=0)
    assert (1 - errors / truth.var(axis=0)).mean() > 0.93
    single = ((e.full(fresh) - truth) ** 2).mean(axis=0)
    assert (1 - single / truth.var(axis=0)).mean() > 0.93
    sets, values, _ = Basis(keep).of_fourier(e.fourier)
    assert len([s for s in sets if len(s) == 1]) == n
    assert np.isfinite(values).all()
