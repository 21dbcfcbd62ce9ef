"""The contract every oracle keeps, as tests for an oracle's own suite to inherit.

class TestMine(OracleContract):
    def make_oracle(self):
        return Mine("some text")
"""

import json

import numpy as np

from oracles.base import Masks, Oracle


class OracleContract:
    """Laws of `oracles.Oracle`."""

    tolerance = 1e-5

    def make_oracle(self) -> Oracle:
        """The oracle under test; every call makes an equal one."""
        raise NotImplementedError

    def _masks(self, count: int = 12) -> Masks:
        num_players = len(self.make_oracle().players)
        masks = np.random.default_rng(0).random((count, num_players)) < 0.5
        masks[0], masks[1] = True, False
        return masks

    def test_it_has_the_protocols_members(self) -> None:
        oracle = self.make_oracle()
        assert isinstance(oracle, Oracle)
        assert all(isinstance(name, str) for name in [*oracle.players, *oracle.outputs])

    def test_values_are_finite_with_a_row_a_mask_and_a_column_an_output(self) -> None:
        oracle, masks = self.make_oracle(), self._masks()
        values = oracle.evaluate(masks)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert values.shape[0] == len(masks)
        assert not oracle.outputs or values.shape[1] == len(oracle.outputs)

    def test_a_masks_value_does_not_depend_on_its_company(self) -> None:
        oracle, masks = self.make_oracle(), self._masks()
        order = np.random.default_rng(1).permutation(len(masks))
        together = oracle.evaluate(masks)
        shuffled = oracle.evaluate(masks[order])
        alone = np.concatenate([oracle.evaluate(masks[i : i + 1]) for i in range(3)])
        assert np.allclose(shuffled, together[order], atol=self.tolerance)
        assert np.allclose(alone, together[:3], atol=self.tolerance)

    def test_equal_oracles_have_equal_fingerprints(self) -> None:
        assert self.make_oracle().fingerprint == self.make_oracle().fingerprint

    def test_the_description_is_json(self) -> None:
        description = dict(self.make_oracle().description)
        assert json.loads(json.dumps(description)) == description
