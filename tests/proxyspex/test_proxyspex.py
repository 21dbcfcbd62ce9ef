"""What ProxySPEX promises: contract, blend, sparsity, robustness, honesty."""

import numpy as np
import pytest
from numpy.typing import NDArray

from oracles import FunctionOracle, Ledger, MaskError, Masks
from proxyspex import ProxySpex
from proxyspex.method import ProxyPlan
from spex import BudgetError, MethodError, SparseFourier, explain
from spex.exact import every_mask
from spex.masks import uniform_masks
from spex.testing import MethodContract, planted


class TestProxySpex(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex()


class TestUnbiased(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(is_unbiased=True)


def test_order_and_number_of_terms_are_limited() -> None:
    found = explain(
        planted(16), players=16, method=ProxySpex(max_order=2, num_terms=30), budget=300
    )
    assert len(found.fourier.supports) <= 30
    assert max(map(len, found.fourier.supports)) <= 2


def test_a_single_term_is_the_mean() -> None:
    found = explain(planted(12), players=12, method=ProxySpex(num_terms=1), budget=100)
    assert found.fourier.supports == ((),)


@pytest.mark.parametrize(("argument", "value"), [("max_order", 9), ("num_terms", 0)])
def test_arguments_out_of_range_are_refused(argument: str, value: int) -> None:
    with pytest.raises(MethodError, match=str(value)):
        ProxySpex(**{argument: value})  # type: ignore[arg-type]


def test_a_budget_below_20_is_refused_before_anything_is_paid_for() -> None:
    def paid(masks: Masks) -> NDArray[np.float64]:
        raise AssertionError

    with pytest.raises(BudgetError, match="20"):
        explain(paid, players=30, method="proxyspex", budget=19)


def test_a_few_wild_values_do_not_wreck_it() -> None:
    truth = planted(14)

    def wild(masks: Masks) -> NDArray[np.float64]:
        return truth(masks)[:, 0] + 200.0 * (masks.sum(axis=1) >= 13)

    found = explain(wild, players=14, method="proxyspex", budget=500)
    masks = every_mask(14)
    error = ((found.predict(masks) - truth(masks)[:, 0]) ** 2).mean()
    assert error < 0.5 * truth(masks).var()
    assert "outlying" in found.provenance.reason


def test_an_outlying_intact_value_does_not_wreck_it() -> None:
    """The empty and the full coalition of real functions are often outliers."""
    truth = planted(14)

    def wild(masks: Masks) -> NDArray[np.float64]:
        return truth(masks)[:, 0] + 30.0 * masks.all(axis=1)

    masks = every_mask(14)
    values = truth(masks)[:, 0]
    found = explain(wild, players=14, method="proxyspex", budget=400)
    error = ((found.predict(masks) - values) ** 2).mean()
    assert error < 0.2 * values.var()


def test_the_sparse_surrogate_is_the_full_ones_largest_terms() -> None:
    truth = planted(12)
    found = explain(truth, players=12, method=ProxySpex(num_terms=15), budget=400)
    masks = every_mask(12)
    assert found.full is not None
    assert found.full_faithfulness is not None
    full, sparse = found.full(masks)[:, 0], found.predict(masks)
    values = truth(masks)[:, 0]
    assert ((full - values) ** 2).mean() < ((sparse - values) ** 2).mean()
    assert found.full_faithfulness > found.faithfulness
    # a coefficient of the sparse one is that of the full one
    for support, coefficient in found.fourier.to_dict().items():
        character = 1 - 2 * (masks[:, list(support)].sum(axis=1) % 2)
        assert coefficient == pytest.approx((full * character).mean(), abs=1e-4)


def test_the_unbiased_coefficients_are_right_on_average() -> None:
    """Shrinkage makes pairs hidden in noise too small; the correction does not."""
    pairs = [(i, j) for j in range(8) for i in range(j)]
    hidden = SparseFourier.from_dict(8, dict.fromkeys(pairs, 0.15))
    noise = np.random.default_rng(0).normal(size=2**8)
    masks = every_mask(8)
    for pair in pairs:  # of the noise, nothing is in the pairs
        character = 1 - 2.0 * (masks[:, list(pair)].sum(axis=1) % 2)
        noise -= character * (noise * character).mean()

    def game(masks: Masks) -> NDArray[np.float64]:
        return hidden(masks)[:, 0] + noise[masks @ (1 << np.arange(8))]

    def mean_of_pairs(*, is_unbiased: bool) -> float:
        method = ProxySpex(is_unbiased=is_unbiased, num_terms=300)
        found = [
            explain(game, players=8, method=method, budget=60, seed=seed).fourier
            for seed in range(10)
        ]
        terms = [f.to_dict() for f in found]
        return float(np.mean([[t.get(pair, 0.0) for pair in pairs] for t in terms]))

    assert mean_of_pairs(is_unbiased=True) == pytest.approx(0.15, abs=0.03)
    assert mean_of_pairs(is_unbiased=False) < 0.1


def test_repeated_masks_are_averaged_and_tell_the_noise() -> None:
    truth = planted(12)
    masks = uniform_masks(12, 199, np.random.default_rng(0))
    noise = np.random.default_rng(1).normal(0, 0.5, (800, 1))
    repeated = np.tile(masks, (4, 1))
    plan = ProxyPlan(repeated, len(repeated), is_given=True)
    found = ProxySpex().recover(plan, truth(repeated) + noise, np.random.default_rng(2))
    assert found.noise_floor == pytest.approx([0.25], rel=0.2)
    assert "standard deviation" in found.reason
    assert found.held_out.max() < 200


def test_interactions_without_smaller_ones_are_reported() -> None:
    rng = np.random.default_rng(0)
    supports = [tuple(sorted(rng.choice(60, 5, replace=False))) for _ in range(10)]
    truth = SparseFourier.from_dict(60, dict.fromkeys(supports, 1.0))
    blind = explain(truth, players=60, method="proxyspex", budget=1500)
    assert "method='spex'" in blind.provenance.reason
    assert blind.faithfulness < 0.1
    seen = explain(truth, players=60, method="spex", budget=1500)
    assert seen.faithfulness > 0.99


def test_a_blind_output_is_named_beside_a_plain_one() -> None:
    def game(masks: Masks) -> NDArray[np.float64]:
        parity = masks[:, 5:10].sum(axis=1) % 2
        return np.stack([masks[:, 0], parity, np.ones(len(masks))], axis=1)

    found = explain(game, players=30, method="proxyspex", budget=150)
    assert "of output 1:" in found.provenance.reason
    assert found.faithfulness.per_output[0] > 0.99
    # where nothing is predicted, next to nothing is claimed
    assert found.faithfulness.per_output[1] > -0.05
    assert (found.standard_errors[:, 1] > 0).all()


@pytest.mark.parametrize("size", [6, 8, 20])
@pytest.mark.parametrize("budget", [40, 300])
def test_rare_values_are_no_error(size: int, budget: int) -> None:
    found = explain(
        lambda masks: masks[:, :size].all(axis=1) * 1.0,
        players=20,
        method="proxyspex",
        budget=budget,
    )
    assert len(found.fourier.supports) >= 1
    assert np.isfinite(found.fourier.coefficients).all()


def test_the_full_surrogate_can_be_kept_and_checks_masks() -> None:
    found = explain(planted(10), players=10, method="proxyspex", budget=100)
    assert found.full is not None
    with pytest.raises(MaskError, match=r"\(m, 10\)"):
        found.full(np.ones((3, 9), dtype=bool))


def test_the_r_squared_is_that_of_the_corrected_coefficients() -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(16, 5))
    masks = every_mask(16)

    def game(rows: Masks) -> NDArray[np.float64]:
        return np.tanh((1 - 2.0 * rows) @ weights).sum(axis=1)

    method = ProxySpex(is_unbiased=True)
    found = explain(game, players=16, method=method, budget=150)
    error = ((found.predict(masks) - game(masks)) ** 2).mean()
    true = 1 - error / game(masks).var()
    assert found.faithfulness.low <= true <= found.faithfulness.high
    assert found.faithfulness < 0.5  # uncorrected it is 0.87


def test_what_a_ledger_knows_is_learned_from(tmp_path: object) -> None:
    truth = planted(16)
    oracle = FunctionOracle(truth, 16, fingerprint="planted 16")
    path = f"{tmp_path}/ledger.sqlite"
    with Ledger(path) as ledger:
        alone = explain(oracle, method="proxyspex", budget=60)
        explain(oracle, method="spex", budget=1000, ledger=ledger)
        helped = explain(oracle, method="proxyspex", budget=60, ledger=ledger)
    assert helped.spent == 60
    assert helped.provenance.paid <= 60
    assert "known from before" in helped.provenance.reason
    masks = every_mask(16)
    errors = [
        ((e.predict(masks) - truth(masks)[:, 0]) ** 2).mean() for e in (alone, helped)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_many_outputs_come_from_one_set_of_masks() -> None:
    truths = [planted(10, seed) for seed in range(5)]
    asked = []

    def game(masks: Masks) -> NDArray[np.float64]:
        asked.append(len(masks))
        return np.hstack([truth(masks) for truth in truths])

    found = explain(game, players=10, method="proxyspex", budget=300)
    assert sum(asked) == 300
    assert len(found.faithfulness.per_output) == 5
    assert min(found.faithfulness.per_output) > 0.85


def test_hierarchy_counts_the_parts_that_are_there() -> None:
    terms = {(): 1.0, (0,): 1.0, (1,): 1.0, (0, 1): 1.0, (2, 3): 1.0}
    assert SparseFourier.from_dict(4, terms).hierarchy() == 0.5
    assert np.isnan(SparseFourier.from_dict(4, {(0,): 1.0}).hierarchy())
