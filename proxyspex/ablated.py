"""What was ablated, in the form the proxies learn from: every mask once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, averaged


@dataclass(frozen=True, eq=False)
class Ablated:
    """Distinct masks and the mean of their values.

    Attributes:
        masks: shape (d, n).
        values: shape (d, k).
        first: the row of each among those given, (d,).
        telling: rows that are a sample of the masks faithfulness is over.
        noise_floor: variance of a single value around its mask's mean, (k,); None if
            no mask comes twice.
    """

    masks: Masks
    values: Values
    first: NDArray[np.int64]
    telling: NDArray[np.int64]
    noise_floor: NDArray[np.float64] | None

    @classmethod
    def of(cls, masks: Masks, values: Values, telling: NDArray[np.int64]) -> "Ablated":
        """From masks (m, n), some of which may repeat, and values (m, k).

        Args:
            masks, values: row by row.
            telling: the rows that are such a sample.
        """
        mean = averaged(masks, values)
        rows = np.flatnonzero(np.isin(mean.first, telling))
        return cls(masks[mean.first], mean.means, mean.first, rows, mean.noise)
