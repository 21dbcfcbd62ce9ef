"""The contract every method keeps, as tests for a method's own suite to inherit.

class TestMine(MethodContract):
    def make_method(self):
        return Mine(max_order=3)
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oracles import Masks
from spex.errors import BudgetError
from spex.exact import every_mask
from spex.explain import explain
from spex.method import Method
from spex.spectrum import SparseFourier, Support


def planted(num_players: int, seed: int = 0) -> SparseFourier:
    """A spectrum of a mean, every single player, some nested pairs and triples."""
    rng = np.random.default_rng(seed)
    terms: dict[Support, float] = {(): 1.0}
    terms |= {(i,): float(rng.normal()) for i in range(num_players)}
    terms |= {(i, i + 1): float(rng.normal()) for i in range(0, num_players - 1, 3)}
    terms |= {(i, i + 1, i + 2): 0.5 for i in range(0, num_players - 2, 6)}
    return SparseFourier.from_dict(num_players, terms)


def random_supports(
    num_players: int, count: int, seed: int, max_order: int = 5
) -> list[Support]:
    """Distinct supports, their orders uniform from 1 to `max_order`."""
    rng = np.random.default_rng(seed)
    found: set[Support] = set()
    while len(found) < count:
        size = rng.integers(1, max_order + 1)
        found.add(tuple(sorted(rng.choice(num_players, size, replace=False).tolist())))
    return sorted(found)


def random_spectrum(num_players: int, num_terms: int, seed: int) -> SparseFourier:
    """A spectrum of random supports, its coefficients between 0.5 and 2 in size."""
    rng = np.random.default_rng(seed)
    supports = random_supports(num_players, num_terms, seed)
    table = rng.choice([-1.0, 1.0], num_terms) * rng.uniform(0.5, 2.0, num_terms)
    return SparseFourier.from_terms(num_players, supports, table[:, None])


class MethodContract:
    """Laws of `spex.Method`."""

    num_players = 10
    budget = 300

    def make_method(self) -> Method[Any]:
        """The method under test."""
        raise NotImplementedError

    def _plan(self, budget: int | None = None, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)
        return self.make_method().plan(self.num_players, budget or self.budget, rng)

    def test_a_plan_stays_within_the_budget_and_spends_most_of_it(self) -> None:
        masks = self._plan().masks
        distinct = len(np.unique(masks, axis=0))
        assert masks.dtype == np.bool_
        assert masks.shape[1] == self.num_players
        assert 0.8 * self.budget <= distinct <= self.budget

    def test_a_plan_begins_with_the_intact_mask(self) -> None:
        assert self._plan().masks[0].all()

    def test_a_plan_depends_on_the_seed_alone(self) -> None:
        assert np.array_equal(self._plan(seed=3).masks, self._plan(seed=3).masks)

    def test_a_smaller_budget_than_the_smallest_is_refused(self) -> None:
        smallest = self.make_method().min_budget(self.num_players)
        assert len(self._plan(smallest).masks) >= 1
        with pytest.raises(BudgetError, match=str(smallest)):
            self._plan(smallest - 1)

    def test_recovery_is_reproducible(self) -> None:
        first, second = (self._explain(planted(self.num_players)) for _ in range(2))
        assert first.fourier.supports == second.fourier.supports
        assert np.array_equal(first.fourier.coefficients, second.fourier.coefficients)

    def test_a_planted_spectrum_is_found(self) -> None:
        truth = planted(self.num_players)
        assert self._r_squared(truth, self._explain(truth)) > 0.9

    def test_faithfulness_is_what_the_truth_says(self) -> None:
        truth = planted(self.num_players)
        found = self._explain(truth)
        actual = self._r_squared(truth, found)
        assert found.faithfulness.low - 0.1 <= actual <= found.faithfulness.high + 0.1

    def test_outputs_are_recovered_together(self) -> None:
        one, other = planted(self.num_players, 1), planted(self.num_players, 2)

        def both(masks: Masks) -> NDArray[np.float64]:
            return np.hstack([one(masks), -3 * other(masks)])

        found = self._explain(both)
        masks = every_mask(self.num_players)
        assert found.predict(masks).shape == (len(masks), 2)
        errors = ((found.predict(masks) - both(masks)) ** 2).mean(axis=0)
        assert (errors < 0.15 * both(masks).var(axis=0)).all()

    def test_scaling_and_shifting_the_values_does_the_same_to_the_spectrum(
        self,
    ) -> None:
        truth = planted(self.num_players)
        masks = every_mask(self.num_players)
        plain = self._explain(truth).predict(masks)
        moved = self._explain(lambda m: 1024 * truth(m) + 2048).predict(masks)
        assert np.allclose(moved, 1024 * plain + 2048, atol=1e-4 * 1024)

    def test_a_constant_function_has_only_a_mean(self) -> None:
        found = self._explain(lambda masks: np.full(len(masks), 7.0))
        masks = every_mask(self.num_players)
        assert np.allclose(found.predict(masks), 7.0)
        assert all(abs(i.value) < 1e-9 for i in found.top(5))

    def test_one_player_that_decides_all_is_found(self) -> None:
        found = self._explain(lambda masks: masks[:, 4].astype(float))
        assert found.top(1)[0].players == (4,)
        assert found.faithfulness > 0.99

    def _explain(self, function: Any) -> Any:
        return explain(
            function,
            players=self.num_players,
            method=self.make_method(),
            budget=self.budget,
        )

    def _r_squared(self, truth: SparseFourier, found: Any) -> float:
        masks = every_mask(self.num_players)
        values = truth(masks)[:, 0]
        return float(1 - ((found.predict(masks) - values) ** 2).mean() / values.var())
