"""Characters that are orthonormal over masks which keep each player with probability p.

With s_i = 1 - 2 x_i (+1 ablated, -1 kept), mu = 1 - 2 p its mean and sigma =
sqrt(p (1 - p)) half its standard deviation,

    phi_i = (s_i - mu) / (2 sigma),   v(x) = sum_S G(S) prod_{i in S} phi_i

where G(S) = E_p[v phi_S], so that the squares of G sum to the variance of v over such
masks (O'Donnell 2014, Def. 8.40). For p = 1/2 these are the parities chi_S and G = F.
Any function has both spectra; expanding the products turns one into the other exactly:

    chi_S = sum_{T in S} (2 sigma)^|T| mu^|S - T| phi_T
    phi_S = sum_{T in S} (2 sigma)^-|S| (-mu)^|S - T| chi_T
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from oracles import Masks
from spex.indices import sum_over_supersets
from spex.spectrum import SparseFourier, Support, characters, overlaps

HALF = 0.5
LEAST, MOST = 0.05, 0.95  # beyond, effects at half the players are mere extrapolation

Array = NDArray[np.float64]
Terms = tuple[list[Support], Array, Array]
"""Sets; coefficients (sets, k); their variances (sets, k)."""


@dataclass(frozen=True)
class Basis:
    """The characters over masks that keep each player with probability `keep`.

    >>> kept = np.array([[True], [False]])
    >>> Basis(0.8).characters(kept, [(0,)]).ravel().round(6).tolist()
    [-0.5, 2.0]
    """

    keep: float = HALF

    @property
    def is_uniform(self) -> bool:
        """Whether its characters are the parities."""
        return self.keep == HALF

    @property
    def mean(self) -> float:
        """mu."""
        return 1 - 2 * self.keep

    @property
    def sigma(self) -> float:
        """sqrt(p (1 - p))."""
        return sqrt(self.keep * (1 - self.keep))

    def characters(
        self, masks: Masks, supports: Iterable[Support]
    ) -> NDArray[np.float32]:
        """phi_S(x), shape (m, terms).

        A kept player's is -1 / r, an ablated one's r = sqrt(p / (1 - p)).
        """
        supports = list(supports)
        if self.is_uniform:
            return characters(masks, supports)
        kept = overlaps(masks, supports).astype(np.int32)
        sizes = np.array([len(support) for support in supports], dtype=np.int32)
        longest = int(sizes.max(initial=0))
        root = sqrt(self.keep / (1 - self.keep))
        powers = root ** np.arange(-longest, longest + 1.0)
        signs = 1 - 2 * (kept & 1)
        table: NDArray[np.float32] = powers.astype(np.float32)[
            sizes - 2 * kept + longest
        ]
        return signs * table

    def transform(self, tables: Array) -> Array:
        """G of functions given by tables over the 2^d patterns of d players, (2^d, l).

        Bit i of a row's number says whether player i is kept, or in the result whether
        it is in S. One player at a time: the mean, and sigma (ablated - kept).
        """
        step, length = 1, len(tables)
        while step < length:
            pairs = tables.reshape(length // (2 * step), 2, step, -1)
            ablated, kept = pairs[:, 0], pairs[:, 1]
            mean = (1 - self.keep) * ablated + self.keep * kept
            effect = self.sigma * (ablated - kept)
            tables = np.stack([mean, effect], axis=1).reshape(tables.shape)
            step *= 2
        return tables

    def of_fourier(
        self, spectrum: SparseFourier, variances: Array | None = None
    ) -> Terms:
        """G and its variances, from F and those of F, (terms, k)."""
        mean, scale = self.mean, 2 * self.sigma
        return sum_over_supersets(
            spectrum.supports,
            spectrum.coefficients,
            variances,
            lambda t, s: scale**t * mean ** (s - t),
            _sizes(spectrum.supports),
        )

    def back(self, t: int, s: int) -> float:
        """Weight of G(S) in F(T), T in S, by their sizes."""
        return float((-self.mean) ** (s - t) / (2 * self.sigma) ** s)

    def to_fourier(
        self,
        supports: Sequence[Support],
        coefficients: Array,
        variances: Array | None = None,
    ) -> Terms:
        """F and its variances, from G and those of G, (terms, k)."""
        return sum_over_supersets(
            supports, coefficients, variances, self.back, _sizes(supports)
        )


UNIFORM = Basis()
"""The parities."""


def _sizes(supports: Sequence[Support]) -> range:
    return range(max(map(len, supports), default=-1) + 1)
