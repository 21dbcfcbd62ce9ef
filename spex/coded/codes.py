"""Binary BCH codes as parity checks on supports, decoded for many words at once.

A support is an error pattern over n positions; its syndrome under a narrow-sense
primitive BCH code of designed distance 2t + 1 tells any support of at most t players
apart. Decoding is Berlekamp-Massey and a Chien search (Lin & Costello, Error Control
Coding, 2nd ed., ch. 6), by table look-up in GF(2^q) and vectorised over words.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

CHUNK_ENTRIES = 1 << 23  # positions x words looked at together in the Chien search


@dataclass(frozen=True)
class Field:
    """GF(2^q) by logarithms to the base of a primitive element alpha."""

    q: int

    @property
    def order(self) -> int:
        """Size of the multiplicative group, 2^q - 1."""
        return 2**self.q - 1

    @cached_property
    def exp(self) -> NDArray[np.int64]:
        """alpha^i as an integer of q bits, for i below twice the group's order."""
        import galois  # takes seconds to import; needed once, for this polynomial

        polynomial = int(galois.conway_poly(2, self.q))
        powers = np.empty(2 * self.order, dtype=np.int64)
        element = 1
        for i in range(self.order):
            powers[i] = powers[i + self.order] = element
            element <<= 1
            if element >> self.q:
                element ^= polynomial
        return powers

    @cached_property
    def log(self) -> NDArray[np.int64]:
        """Logarithm of each element; that of 0 is never used."""
        table = np.zeros(self.order + 1, dtype=np.int64)
        table[self.exp[: self.order]] = np.arange(self.order)
        return table

    def multiply(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """Products, element by element."""
        return np.where((a != 0) & (b != 0), self.exp[self.log[a] + self.log[b]], 0)

    def divide(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """a / b, element by element; b is nowhere 0."""
        return np.where(a != 0, self.exp[self.log[a] - self.log[b] + self.order], 0)


@lru_cache(maxsize=16)
def field(q: int) -> Field:
    """GF(2^q); its tables are made once."""
    return Field(q)


@dataclass(frozen=True)
class Code:
    """The shortened BCH code that checks n positions and corrects t errors.

    >>> code = Code(num_players=20, t=3)
    >>> support = np.zeros((1, 20), dtype=np.int64)
    >>> support[0, [2, 11, 17]] = 1
    >>> found, is_decoded = code.decode(support @ code.checks.T % 2)
    >>> np.flatnonzero(found[0]), is_decoded
    (array([ 2, 11, 17]), array([ True]))
    """

    num_players: int
    t: int

    @property
    def field(self) -> Field:
        """The smallest field with a nonzero element for every player."""
        return field(max(2, self.num_players.bit_length()))

    @property
    def num_checks(self) -> int:
        """Rows of the check matrix, q t."""
        return self.field.q * self.t

    @cached_property
    def checks(self) -> NDArray[np.int64]:
        """Check matrix (q t, n): the bits of alpha^(i j) for odd j below 2t."""
        odd = np.arange(1, 2 * self.t, 2)
        powers = np.outer(odd, np.arange(self.num_players)) % self.field.order
        bits = self.field.exp[powers][:, None, :] >> np.arange(self.field.q)[:, None]
        return (bits & 1).reshape(self.num_checks, self.num_players)

    def decode(
        self, syndromes: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Supports (words, n) from syndrome bits (words, q t).

        Returns:
            The supports, and for each word whether a support of at most t players has
            this syndrome; where none has, the row of supports is empty.
        """
        locators, degrees = self._locators(self._symbols(syndromes))
        supports = np.zeros((len(syndromes), self.num_players), dtype=bool)
        step = max(1, CHUNK_ENTRIES // self.num_players)
        for start in range(0, len(syndromes), step):
            rows = slice(start, start + step)
            supports[rows] = self._roots(locators[rows])
        is_decoded = (supports.sum(axis=1) == degrees) & (degrees <= self.t)
        supports[~is_decoded] = False
        return supports, is_decoded

    def _symbols(self, syndromes: NDArray[np.int64]) -> NDArray[np.int64]:
        """S_1, ..., S_2t in GF(2^q), from S_1, S_3, ...: S_2j = S_j^2."""
        bits = syndromes.reshape(len(syndromes), self.t, self.field.q)
        symbols = np.zeros((len(syndromes), 2 * self.t), dtype=np.int64)
        symbols[:, ::2] = bits @ (1 << np.arange(self.field.q))
        for j in range(1, self.t + 1):
            half = symbols[:, j - 1]
            symbols[:, 2 * j - 1] = self.field.multiply(half, half)
        return symbols

    def _locators(
        self, symbols: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Berlekamp-Massey: error locators (words, 2t + 1) and their lengths."""
        words = len(symbols)
        locator = np.zeros((words, 2 * self.t + 1), dtype=np.int64)
        locator[:, 0] = 1
        previous = locator.copy()
        discrepancy = np.ones(words, dtype=np.int64)
        length = np.zeros(words, dtype=np.int64)
        for r in range(2 * self.t):
            previous = np.roll(previous, 1, axis=1)  # times x; the top is always 0
            products = self.field.multiply(
                locator[:, : r + 1], symbols[:, r::-1][:, : r + 1]
            )
            new = np.bitwise_xor.reduce(products, axis=1)
            factor = self.field.divide(new, discrepancy)
            updated = locator ^ self.field.multiply(factor[:, None], previous)
            grows = (new != 0) & (2 * length <= r)
            previous = np.where(grows[:, None], locator, previous)
            discrepancy = np.where(grows, new, discrepancy)
            length = np.where(grows, r + 1 - length, length)
            locator = updated
        return locator, length

    def _roots(self, locators: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Chien search: whether alpha^-i is a root, for every player i."""
        positions = np.arange(self.num_players)
        value = np.zeros((len(locators), self.num_players), dtype=np.int64)
        for j in range(locators.shape[1]):
            used = np.flatnonzero(locators[:, j])
            shift = -positions * j % self.field.order
            logs = self.field.log[locators[used, j]]
            value[used] ^= self.field.exp[logs[:, None] + shift]
        return value == 0
