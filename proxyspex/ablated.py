"""What was ablated, in the form the proxies learn from: every mask once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, distinct_masks


@dataclass(frozen=True, eq=False)
class Ablated:
    """Distinct masks and the mean of their values.

    Attributes:
        masks: shape (d, n).
        values: shape (d, k).
        first: the row of each among those given, (d,).
        num_designed: the first so many are of the design; the intact one is row 0.
        noise_floor: variance of a single value around its mask's mean, (k,); None if
            no mask comes twice.
    """

    masks: Masks
    values: Values
    first: NDArray[np.int64]
    num_designed: int
    noise_floor: NDArray[np.float64] | None

    @classmethod
    def of(cls, masks: Masks, values: Values, num_designed: int) -> "Ablated":
        """From masks (m, n), some of which may repeat, and values (m, k)."""
        first, place = distinct_masks(masks)
        counts = np.bincount(place)
        sums = np.zeros((len(first), values.shape[1]))
        np.add.at(sums, place, values)
        means = sums / counts[:, None]
        noise = None
        if len(first) < len(masks):
            squares = ((values - means[place]) ** 2).sum(axis=0)
            noise = squares / (len(masks) - len(first))
        designed = int((first < num_designed).sum())
        return cls(masks[first], means, first, designed, noise)

    @property
    def telling(self) -> NDArray[np.int64]:
        """Rows that are uniform over all masks: those of the design but the first."""
        return np.arange(1, self.num_designed)
