"""Binary BCH codes as parity checks on supports, decoded for many words at once.

A support is an error pattern over n positions; its syndrome under a narrow-sense
primitive BCH code of designed distance 2t + 1 tells any support of at most t players
apart. Decoding is Berlekamp's algorithm for binary codes (Lin & Costello, Error Control
Coding, 2nd ed., ch. 6), vectorised over words. Only words whose locator splits over
GF(2^q), about one in t! of random ones, go on to the search for its roots.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from spex.coded.field import Field, field
from spex.errors import MethodError

FEW_WORDS = 100  # whose roots are searched for without asking if there are any
CHUNK_ENTRIES = 1 << 21  # positions x words looked at together in the search for roots


@lru_cache(maxsize=16)
def bch_code(num_players: int, t: int) -> "Code":
    """The code for supports of at most t of n players; its tables are made once."""
    return Code(num_players, t)


@dataclass(frozen=True)
class Code:
    """The shortened BCH code that checks n positions and corrects t errors.

    >>> code = bch_code(20, t=3)
    >>> support = np.zeros((1, 20), dtype=np.uint8)
    >>> support[0, [2, 11, 17]] = 1
    >>> players, is_decoded = code.decode(support @ code.checks.T % 2)
    >>> players, is_decoded
    (array([[ 2, 11, 17]]), array([ True]))

    Raises:
        MethodError: more players than the largest field has elements for.
    """

    num_players: int
    t: int

    @cached_property
    def field(self) -> Field:
        """The smallest field with a nonzero element for every player."""
        return field(max(2, self.num_players.bit_length()))

    @property
    def num_checks(self) -> int:
        """Rows of the check matrix, q t."""
        return self.field.q * self.t

    @cached_property
    def checks(self) -> NDArray[np.uint8]:
        """Check matrix (q t, n): the bits of alpha^(i j) for odd j below 2t.

        A larger t adds rows below those there are.
        """
        odd = np.arange(1, 2 * self.t, 2)
        powers = np.outer(odd, np.arange(self.num_players)) % self.field.order
        bits = self.field.exp[powers][:, None, :] >> np.arange(self.field.q)[:, None]
        return (bits & 1).astype(np.uint8).reshape(self.num_checks, self.num_players)

    def decode(
        self, syndromes: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Supports from syndrome bits (words, q t).

        Returns:
            The players of each support in increasing order, (words, t), filled up with
            n; and whether any support of at most t players has this syndrome. Where
            none has, the row holds n only.
        """
        players = np.full((len(syndromes), self.t), self.num_players)
        locators, degrees = self._locators(self._symbols(syndromes))
        is_decoded = degrees == 0
        words = self._promising(locators, degrees)
        is_root = self._are_roots(locators[words])
        complete = is_root.sum(axis=1) == degrees[words]
        word, root = np.nonzero(is_root[complete])
        place = np.arange(len(word)) - np.searchsorted(word, word)
        players[words[complete][word], place] = root
        is_decoded[words[complete]] = True
        return players, is_decoded

    def _promising(
        self, locators: NDArray[np.int64], degrees: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Words whose locator may split; where there are many, all whose does."""
        found = []
        for degree in range(1, self.t + 1):
            words = np.flatnonzero(degrees == degree)
            if len(words) > FEW_WORDS:
                # Lambda(x) = x^d sigma(1/x) splits where sigma does, and is monic
                words = words[_splits(self.field, locators[words, degree::-1])]
            found.append(words)
        return np.concatenate(found)

    def _symbols(self, syndromes: NDArray[np.integer]) -> NDArray[np.int64]:
        """S_1, ..., S_2t in GF(2^q), from S_1, S_3, ...: S_2j = S_j^2."""
        bits = syndromes.reshape(len(syndromes), self.t, self.field.q)
        symbols = np.zeros((len(syndromes), 2 * self.t), dtype=np.int64)
        symbols[:, ::2] = bits.astype(np.int64) @ (1 << np.arange(self.field.q))
        for j in range(1, self.t + 1):
            symbols[:, 2 * j - 1] = self.field.square(symbols[:, j - 1])
        return symbols

    def _locators(
        self, symbols: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Error locators (words, t + 1) and their degrees; -1 where there is none.

        In a binary code every second discrepancy is 0, so t steps are enough. Lengths
        never fall, so what grows beyond t may be cut off: it fails anyway.
        """
        words, gf = len(symbols), self.field
        locator = np.zeros((words, self.t + 1), dtype=np.int64)
        locator[:, 0] = 1
        previous = _shifted(locator)
        discrepancy = np.ones(words, dtype=np.int64)
        length = np.zeros(words, dtype=np.int64)
        for r in range(0, 2 * self.t, 2):
            terms = min(r, self.t) + 1
            recent = symbols[:, r - terms + 1 : r + 1][:, ::-1]
            new = np.bitwise_xor.reduce(gf.multiply(locator[:, :terms], recent), axis=1)
            factor = gf.divide(new, discrepancy)
            updated = locator ^ gf.multiply(factor[:, None], previous)
            grows = (new != 0) & (2 * length <= r)
            previous = np.where(grows[:, None], locator, previous)
            previous = _shifted(_shifted(previous))
            discrepancy = np.where(grows, new, discrepancy)
            length = np.where(grows, r + 1 - length, length)
            locator = updated
        top = np.take_along_axis(locator, np.minimum(length, self.t)[:, None], axis=1)[
            :, 0
        ]
        return locator, np.where((length <= self.t) & (top != 0), length, -1)

    @cached_property
    def _shifts(self) -> NDArray[np.int64]:
        """Logarithms of alpha^(-i j) for j up to t, (t + 1, n)."""
        powers = np.outer(np.arange(self.t + 1), np.arange(self.num_players))
        return -powers % self.field.order

    def _are_roots(self, locators: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether sigma(alpha^-i) = 0 for each player i, (words, n)."""
        logs = self.field.log[locators]
        is_root = np.empty((len(locators), self.num_players), dtype=bool)
        step = max(1, CHUNK_ENTRIES // self.num_players)
        for start in range(0, len(locators), step):
            part = slice(start, start + step)
            value = np.repeat(locators[part, :1], self.num_players, axis=1)
            for j in range(1, self.t + 1):
                here = logs[part, j, None] + self._shifts[j]
                value ^= self.field.exp.take(here, mode="wrap")
            is_root[part] = value == 0
        return is_root


def check_field(num_players: int) -> None:
    """Check that a code exists for this many players.

    Raises:
        MethodError: there are more players than elements of the largest field.
    """
    if num_players.bit_length() > Field.LARGEST:
        raise MethodError(
            f"{num_players} players are more than the {2**Field.LARGEST - 1} of the "
            'largest code. Group them, or use method="proxyspex".'
        )


def _shifted(polynomials: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times x, the term beyond the last cut off."""
    shifted = np.zeros_like(polynomials)
    shifted[:, 1:] = polynomials[:, :-1]
    return shifted


def _splits(gf: Field, polynomials: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether monic polynomials (words, d + 1) have d distinct roots in GF(2^q).

    So it is if x^(2^q) = x modulo the polynomial; q squarings tell.
    """
    words, degree = len(polynomials), polynomials.shape[1] - 1
    if degree == 1:
        return np.ones(words, dtype=bool)
    low = polynomials[:, :degree]  # x^d = -low, and -1 = 1
    half = (degree + 1) // 2
    even = []  # x^(2i) modulo it, for i from half up: below, that is x^(2i) itself
    power = low
    for exponent in range(degree, 2 * degree - 1):
        if exponent % 2 == 0:
            even.append(power)
        power = _shifted(power) ^ gf.multiply(power[:, -1:], low)
    remainder = np.zeros((words, degree), dtype=np.int64)
    remainder[:, 1] = 1
    for _ in range(gf.q):
        squares = gf.square(remainder)
        remainder = np.zeros_like(squares)
        remainder[:, ::2] = squares[:, :half]
        for i, row in enumerate(even, half):
            remainder ^= gf.multiply(squares[:, i, None], row)
    is_x = np.arange(degree) == 1
    return np.asarray((remainder == is_x).all(axis=1))
