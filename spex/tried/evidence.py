"""What is known of an oracle: its values without some players, the explanation's and
those asked for since."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oracles import Ledger, Oracle
from spex.explanation import Explanation
from spex.spectrum import Support
from spex.tried.ablated import (
    check_same,
    known_ablations,
    masks_without,
    values_without,
)

Array = NDArray[np.float64]


class Evidence:
    """Values by the set of players removed; each set is asked for once.

    Args:
        oracle: the one explained.
        explanation: what it holds is known.

    Raises:
        InputError: another oracle than the one explained.
    """

    def __init__(self, oracle: Oracle, explanation: Explanation) -> None:
        check_same(oracle, explanation)
        self._oracle, self._explanation = oracle, explanation
        known = known_ablations(explanation, oracle.fingerprint)
        self._masks, self._values = known.masks, known.values
        self._sizes = (~self._masks).sum(axis=1)
        self._rows = {mask.tobytes(): row for row, mask in enumerate(self._masks)}
        self.spent = 0
        """Distinct sets asked for, by whatever they were answered."""

    def values(self, players: Support) -> Array | None:
        """Values (k,) without these, NaN if there are none; None if not asked yet."""
        [mask] = masks_without([players], self._masks.shape[1])
        row = self._rows.get(mask.tobytes())
        return None if row is None else self._values[row]

    def measure(self, sets: Sequence[Support], ledger: Ledger | None) -> None:
        """Ask for the values without each set, of those not asked for yet."""
        new = [one for one in dict.fromkeys(sets) if self.values(one) is None]
        values = values_without(self._oracle, self._explanation, new, ledger=ledger)
        masks = masks_without(new, self._masks.shape[1])
        for row, mask in enumerate(masks, len(self._masks)):
            self._rows[mask.tobytes()] = row
        self._masks = np.concatenate([self._masks, masks])
        self._values = np.concatenate([self._values, values])
        self._sizes = np.append(self._sizes, (~masks).sum(axis=1))
        self.spent += len(new)

    def smallest(self, gains: Array) -> Support | None:
        """The smallest set of a gain below 0, of these the lowest; None if none is.

        Args:
            gains: of each set known, in the order of `column`.
        """
        last = self._masks.shape[1]  # without anybody there is nothing to look at
        rows = np.flatnonzero((gains < 0) & (self._sizes > 0) & (self._sizes < last))
        if not len(rows):
            return None
        row = min(rows, key=lambda row: (self._sizes[row], gains[row]))
        return tuple(np.flatnonzero(~self._masks[row]).tolist())

    def column(self, output: int) -> Array:
        """Values of one output without each set known, NaN where there are none."""
        return self._values[:, output]
