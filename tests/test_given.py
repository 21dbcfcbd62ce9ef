"""Explaining masks and values that were made elsewhere."""

import numpy as np
import pytest

from oracles import InputError, MaskError, OracleValueError
from proxyspex import ProxySpex
from spex import BudgetError, MethodError, Status, explain_values
from spex.exact import every_mask
from spex.masks import uniform_masks
from spex.report.words import cost
from spex.testing import planted

N = 14
TRUTH = planted(N, 1)


def uniform(count: int, seed: int = 0) -> np.ndarray:
    return uniform_masks(N, count, np.random.default_rng(seed))[1:]


def test_a_planted_spectrum_is_found_in_given_values() -> None:
    masks = uniform(400)
    found = explain_values(masks.astype(int), TRUTH(masks)[:, 0], max_order=3)
    fresh = uniform(2000, seed=1)
    error = ((found.predict(fresh) - TRUTH(fresh)[:, 0]) ** 2).mean()
    assert 1 - error / TRUTH(fresh).var() > 0.98
    assert found.faithfulness > 0.95
    assert found.spent == 400
    assert found.provenance.paid == 0
    assert found.players[3] == "player 3"


def test_repeats_tell_the_noise() -> None:
    masks = np.tile(uniform(150), (4, 1))
    noise = np.random.default_rng(2).normal(0, 0.5, (len(masks), 1))
    found = explain_values(masks, TRUTH(masks) + noise, players=list("abcdefghijklmn"))
    assert found.noise_floor is not None
    assert found.noise_floor[0] == pytest.approx(0.25, rel=0.2)
    assert found.spent == 150
    assert "differ by a standard deviation" in found.provenance.reason
    assert found.players[0] == "a"


def test_all_masks_with_noise_are_not_called_exact() -> None:
    masks = np.tile(every_mask(6), (4, 1))
    noise = np.random.default_rng(2).normal(0, 1, (len(masks), 1))
    found = explain_values(masks, planted(6, 1)(masks) + noise)
    assert found.noise_floor is not None
    assert found.noise_floor[0] == pytest.approx(1.0, rel=0.3)
    assert found.status is not Status.EXACT
    assert np.allclose(found.standard_errors, np.sqrt(found.noise_floor / len(masks)))


def test_the_order_of_repeats_changes_nothing_but_rounding() -> None:
    masks = np.tile(uniform(150), (3, 1))
    both = np.hstack([TRUTH(masks), planted(N, 2)(masks)])
    noise = np.random.default_rng(2).normal(0, 1, both.shape)
    first = explain_values(masks, both + noise)
    order = np.r_[150:450, 0:150]
    second = explain_values(masks[order], (both + noise)[order])
    assert first.faithfulness == pytest.approx(float(second.faithfulness))
    assert f"{first.faithfulness:.3f} on held-out" in first.provenance.reason
    assert "made elsewhere" in cost(first)


def test_masks_that_are_no_uniform_sample_are_said_to_be_none() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((200, N)) < rng.choice([0.2, 0.85], size=(200, 1))
    said = explain_values(masks, TRUTH(masks)).provenance.reason
    assert "no uniform sample" in said
    masks = rng.random((200, N)) < 0.85
    said = explain_values(masks, TRUTH(masks)).provenance.reason
    assert "masks keep 85% of the players" in said
    masks = uniform(200)
    assert "no uniform" not in explain_values(masks, TRUTH(masks)).provenance.reason


def test_the_intact_value_is_predicted_where_it_was_not_measured() -> None:
    masks = uniform(300)
    found = explain_values(masks, TRUTH(masks), max_order=3)
    truth = TRUTH(np.ones((1, N), dtype=bool))[0, 0]
    assert found.intact[0] == pytest.approx(truth, abs=0.3 * TRUTH(masks).std())


def test_all_masks_in_any_order_are_exact() -> None:
    masks = every_mask(6)
    order = np.random.default_rng(3).permutation(np.repeat(np.arange(64), 2))
    truth = planted(6, 1)
    found = explain_values(masks[order], truth(masks[order]))
    assert found.provenance.method == "exact"
    expected = truth.to_dict()
    assert found.fourier.to_dict() == pytest.approx(expected)


def test_what_cannot_be_explained_is_refused() -> None:
    masks, values = uniform(60), np.arange(60.0)
    with pytest.raises(InputError, match="shape"):
        explain_values(masks[0], values)
    with pytest.raises(MaskError, match="boolean"):
        explain_values(masks * 2, values)
    with pytest.raises(MaskError, match="expected"):
        explain_values(masks, values, players=["a", "b"])
    with pytest.raises(OracleValueError, match="60 masks"):
        explain_values(masks, values[:-1])
    with pytest.raises(OracleValueError, match="not finite"):
        explain_values(masks, np.where(values == 3, np.nan, values))
    with pytest.raises(BudgetError, match="distinct rows"):
        explain_values(np.tile(masks[:10], (6, 1)), values)
    with pytest.raises(MethodError, match="masks of its own"):
        explain_values(masks, values, method="spex")
    with pytest.raises(MethodError, match="not known"):
        explain_values(masks, values, method="magic")
    with pytest.raises(MethodError, match="all 2"):
        explain_values(masks, values, method="exact")
    with pytest.raises(MethodError, match="is a class"):
        explain_values(masks, values, method=ProxySpex)
    with pytest.raises(InputError, match="no table"):
        explain_values([[1, 0], [1]], values)
    with pytest.raises(InputError, match="real numbers"):
        explain_values(masks, values + 1j)
    with pytest.raises(MethodError, match="seed"):
        explain_values(masks, values, seed=-1)
