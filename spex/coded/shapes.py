"""Sizes of coded designs, and what a budget buys before anything is paid for.

A design grows by stages: first the delays of every order t up to the largest, at the
smallest b; then one more column of the hash matrix for one group after the other. Each
stage holds the masks of the one before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from spex.coded.codes import Code, bch_code

NUM_GROUPS = 3  # peeling needs the fewest bins for each term with three
SMALLEST_B = 1
LARGEST_B = 24
LOAD = 1.2  # terms for each bin up to which 9 in 10 are read; peeling alone ends at 0.8
MOST_TERMS = 4000  # that are looked for; their products are written down
MIN_UNIFORM, MAX_UNIFORM = 16, 1000


@dataclass(frozen=True)
class Shape:
    """Size of a coded design: groups of 2^b masks for each of 1 + q t delays.

    Attributes:
        bs: b of each group; they differ by at most one.
        code: of the delays.
    """

    bs: tuple[int, ...]
    code: Code

    @property
    def t(self) -> int:
        """Order up to which supports are told apart."""
        return self.code.t

    @property
    def num_delays(self) -> int:
        """The zero delay and one for each check."""
        return 1 + self.code.num_checks

    @property
    def num_bins(self) -> int:
        """Bins of all groups together."""
        return sum(2**b for b in self.bs)

    @property
    def num_terms(self) -> int:
        """Terms of order up to t that can be expected to be found without noise.

        At most `MOST_TERMS`, however many bins there are.
        """
        return min(int(LOAD * self.num_bins), MOST_TERMS)

    @property
    def num_masks(self) -> int:
        """Masks of the design, repeats included."""
        return self.num_delays * self.num_bins


def shapes(num_players: int, max_order: int) -> Iterator[Shape]:
    """The stages, smallest first."""
    smallest = min(SMALLEST_B, num_players)
    highest = max(1, min(max_order, num_players))
    for t in range(1, highest + 1):
        yield Shape((smallest,) * NUM_GROUPS, bch_code(num_players, t))
    code = bch_code(num_players, highest)
    for b in range(smallest, min(num_players, LARGEST_B)):
        for grown in range(1, NUM_GROUPS + 1):
            yield Shape((b + 1,) * grown + (b,) * (NUM_GROUPS - grown), code)


def num_uniform(length: int) -> int:
    """Uniform masks among the first `length` that follow the intact one.

    length^(3/4), in whole numbers so that it is the same everywhere, within bounds.
    """
    wanted = isqrt(isqrt(length**3))
    return min(max(MIN_UNIFORM, wanted), MAX_UNIFORM, length)


def budget_for(shape: Shape) -> int:
    """The budget from which on a plan holds this shape, unless masks repeat."""
    length = shape.num_masks
    while (missing := shape.num_masks + num_uniform(length) - length) > 0:
        length += missing
    return 1 + length


def smallest_budget(num_players: int, max_order: int) -> int:
    """What the intact mask, the first stage and its uniform masks cost."""
    return budget_for(next(shapes(num_players, max_order)))


def shape_for(num_players: int, max_order: int, budget: int) -> Shape:
    """The last stage that a budget of at least `smallest_budget` pays for."""
    found, *later = shapes(num_players, max_order)
    for shape in later:
        if budget_for(shape) > budget:
            break
        found = shape
    return found


def budget_for_terms(shape: Shape, num_terms: int) -> int:
    """The budget whose bins are enough for so many terms, at the order of `shape`."""
    for larger in shapes(shape.code.num_players, shape.t):
        if larger.t == shape.t and LOAD * larger.num_bins >= num_terms:
            break
    return budget_for(larger)
