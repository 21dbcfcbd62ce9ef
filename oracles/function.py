"""Any callable as an oracle."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from oracles.base import Masks, Values, fingerprint_of
from oracles.errors import InputError


class FunctionOracle:
    """A callable `masks (m, n) bool -> values (m,) or (m, k)` as an oracle.

    Args:
        function: the value function; it is given whole batches of masks.
        players: how many players there are, or their names.
        outputs: names of the k outputs; empty leaves them unnamed, as many as the
            function returns.
        fingerprint: identity of the function for a ledger. A callable has none of its
            own, so without one the oracle cannot be used with a ledger.

    Raises:
        InputError: fewer than one player.

    >>> import numpy as np
    >>> oracle = FunctionOracle(lambda masks: masks.all(axis=1), players=3)
    >>> oracle.evaluate(np.ones((1, 3), dtype=bool))
    array([[1.]])
    """

    def __init__(
        self,
        function: Callable[[Masks], Any],
        players: int | Sequence[str],
        outputs: Sequence[str] = (),
        fingerprint: str = "",
    ) -> None:
        self._function = function
        self.players = _names(players)
        self.outputs = tuple(outputs)
        self._fingerprint = fingerprint
        name = getattr(function, "__qualname__", type(function).__name__)
        self.description: Mapping[str, Any] = {"kind": "function", "function": name}

    @property
    def fingerprint(self) -> str:
        """Hash of the caller's fingerprint with player and output names; "" if none."""
        if not self._fingerprint:
            return ""
        return fingerprint_of(
            {
                "function": self._fingerprint,
                "players": list(self.players),
                "outputs": list(self.outputs),
            }
        )

    def evaluate(self, masks: Masks) -> Values:
        """Values of shape (m, k); a result of shape (m,) becomes one column."""
        values = np.asarray(self._function(masks), dtype=np.float64)
        return values[:, None] if values.ndim == 1 else values


def _names(players: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(players, Integral | int):
        names = tuple(f"player {i}" for i in range(int(players)))
    else:
        names = tuple(map(str, players))
    if not names:
        raise InputError("players is empty; an oracle needs at least one player.")
    return names
