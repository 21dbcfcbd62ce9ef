"""What the Gaussian process believes of coefficients, and what it makes of values.

The prior variance of a coefficient F(S) is a mixture

    a k_S + b T_S^2 / sum T^2 + c w_S

with k_S from the product kernel, T_S the trees' coefficient, and w_S, of single players
only, told by all outputs together (`relevance`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from oracles import Masks
from proxyspex.process import ProductKernel
from spex.basis import Basis
from spex.spectrum import Support

Array = NDArray[np.float64]
Single = NDArray[np.float32]

# a, b, c of the mixtures, and which noises are tried with each: parts of the values'
# variance
MIXES = np.array([[0.1, 0.9, 0.0], [0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]])
NOISES = (0.02, 0.1, 0.3)
TRIED = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)


@dataclass(frozen=True, eq=False)
class Prior:
    """The parts of the mixture.

    Attributes:
        kernel: the product kernel.
        terms: the trees' largest terms, with their shares of the prior variance.
        singles: w of the single players, (n,); None leaves that part out.
        basis: of the terms and the single players.
    """

    kernel: ProductKernel
    terms: dict[Support, float]
    singles: Array | None
    basis: Basis

    def grams(self, left: Masks, right: Masks) -> list[Single]:
        """The kernel of each part between masks (l, n) and (r, n), each (l, r).

        In single precision, which halves the time: the noise on the diagonal keeps
        what rounding adds to predictions below a thousandth of the values' spread.
        """
        smooth = self.kernel(signs(left), signs(right))
        parts = [smooth.astype(np.float32, copy=False)]
        told = [self.terms]
        if self.singles is not None:
            told.append({(i,): w for i, w in enumerate(self.singles.tolist())})
        for terms in told:
            shares = np.array([*terms.values()], dtype=np.float32)
            scaled = self.basis.characters(left, terms) * shares
            gram = scaled @ self.basis.characters(right, terms).T
            parts.append(np.asarray(gram, dtype=np.float32))
        return parts

    def weights(
        self, masks: Masks, values: Array, distrust: Array, wanted: NDArray[np.bool_]
    ) -> Array:
        """What each row adds, (mixes, noises, rows): where that is wanted, else 0.

        Args:
            masks: shape (rows, n).
            values: shape (rows,).
            distrust: how many times the noise variance each row gets, (rows,).
            wanted: mixtures x noises.
        """
        parts = self.grams(masks, masks)
        right = values.astype(np.float32)
        weights: Array = np.zeros((*wanted.shape, len(values)))
        for i, j in zip(*np.nonzero(wanted), strict=True):
            gram = _mixed(parts, MIXES[i])
            gram[np.diag_indices(len(gram))] += (NOISES[j] * distrust).astype("f4")
            factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
            weights[i, j] = cho_solve(factor, right, check_finite=False)
        return weights

    def predictions(self, masks: Masks, seen: Masks, weights: Array) -> Array:
        """Of every mixture and noise, (mixes, noises, l), for masks (l, n)."""
        parts = self.grams(masks, seen)
        mixed = [
            _mixed(parts, mix) @ own.T for mix, own in zip(MIXES, weights, strict=True)
        ]
        return np.stack(mixed).transpose(0, 2, 1)

    def most_probable(self, count: int, max_order: int) -> list[Support]:
        """Supports of large prior variance; all single players, if they have a part."""
        found = self.kernel.most_probable(count, max_order)
        if self.singles is not None:
            found += [(player,) for player in range(len(self.singles))]
        return found

    def spectrum(
        self, supports: list[Support], seen: Masks, parts: Array, values: Single
    ) -> Array:
        """Coefficients of the sum over rows of what they add through each part.

        Args:
            supports: of the coefficients.
            seen: masks of the rows, (rows, n).
            parts: weights of the rows for each part, (3, rows).
            values: characters of the supports there, (rows, terms).
        """
        own, told, alone = parts
        shares = np.array([self.terms.get(support, 0.0) for support in supports])
        table = shares * (values.T @ told.astype(np.float32))
        if self.singles is not None:
            places = [p for p, support in enumerate(supports) if len(support) == 1]
            players = [supports[place][0] for place in places]
            sums = values[:, places].T @ alone.astype(np.float32)
            table[places] += self.singles[players] * sums
        smooth = self.kernel.spectrum(supports, signs(seen), own, values, self.basis)
        return np.asarray(table + smooth)


@dataclass(frozen=True, eq=False)
class Process:
    """The process on some rows.

    Attributes:
        prior: what it believed.
        rows: it was fitted to.
        weights: for each mixture, what each row adds, (mixes, rows).
    """

    prior: Prior
    rows: NDArray[np.int64]
    weights: Array

    @property
    def parts(self) -> Array:
        """What each row adds through each part of the prior, (3, rows)."""
        return np.asarray(MIXES.T @ self.weights)

    def predict(self, seen: Masks, masks: Masks) -> Array:
        """Posterior mean at masks (l, n); `seen` are the masks of `rows`."""
        grams = self.prior.grams(masks, seen)
        total = np.full(len(masks), self.weights.sum())
        for gram, part in zip(grams, self.parts, strict=False):
            total += gram @ part
        return total

    def coefficients(
        self, supports: list[Support], seen: Masks, values: Single
    ) -> Array:
        """Posterior means of the coefficients; `seen` are the masks of `rows`, and
        `values` the characters there, (rows, S)."""
        table = self.prior.spectrum(supports, seen, self.parts, values)
        table[[not support for support in supports]] += self.weights.sum()
        return table


def _mixed(parts: list[Single], mix: Array) -> Single:
    """One kernel of a mixture's parts, and the constant."""
    total = np.ones_like(parts[0])
    for part, share in zip(parts, mix, strict=False):
        if share:
            total += np.float32(share) * part
    return total


def signs(masks: Masks) -> Single:
    """+1 ablated, -1 kept, (m, n)."""
    return 1 - 2 * masks.astype(np.float32)


def shares_of(largest: dict[Support, float]) -> dict[Support, float]:
    """Each term's part of the trees' energy, the mean left out."""
    energy = {s: c**2 for s, c in largest.items() if s and c}
    total = sum(energy.values())
    return {support: e / total for support, e in energy.items()}
