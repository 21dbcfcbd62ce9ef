"""One entry of a ranking of interactions."""

from dataclasses import dataclass

from spex.spectrum import Support


@dataclass(frozen=True)
class Interaction:
    """One set of players and what it does together.

    Attributes:
        players: indices, increasing.
        names: the players' names.
        value: in units of the output, as the index defines it.
        low, high: interval of nominal coverage `faithfulness.LEVEL`.
        share: the part of the surrogate's variance its Fourier coefficient carries.
        stays: how probable it is that it is truly among the strongest asked for, if
            the errors of all values are independent and normal.
        is_discovery: whether it stands out on its own, at the method's false discovery
            rate; None if the method tests none.
    """

    players: Support
    names: tuple[str, ...]
    value: float
    low: float
    high: float
    share: float
    stays: float = 1.0
    is_discovery: bool | None = None
