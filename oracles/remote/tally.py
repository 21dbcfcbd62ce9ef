"""What an oracle has asked an endpoint for so far, by the server's own counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from oracles.remote.estimate import Prices


@dataclass(frozen=True)
class Spent:
    """What was sent and answered.

    Attributes:
        requests: sent, probes and retries included.
        answered: of these, those that were answered with a completion.
        counted: of these, those whose tokens the server counted.
        prompt_tokens, answer_tokens: of the counted.
        price: of these tokens, or None if no prices were given or none was counted.

    >>> print(Spent(401, 400, 400, 118_034, 400, Prices(0.15, 0.6).of(118_034, 400)))
    401 requests, 118,034 prompt tokens, 400 answer tokens, price 0.018
    """

    requests: int
    answered: int
    counted: int
    prompt_tokens: int
    answer_tokens: int
    price: float | None = None

    def __str__(self) -> str:
        said = f"{self.requests:,} requests"
        if not self.counted:
            return said + (" (the server counted no tokens)" if self.answered else "")
        said += f", {self.prompt_tokens:,} prompt tokens"
        said += f", {self.answer_tokens:,} answer tokens"
        if self.price is not None:
            said += f", price {self.price:.2g}"
        if self.counted < self.answered:
            said += f" (the server counted {self.counted:,} of {self.answered:,})"
        return said


class Tally:
    """Adds up what the server says it has counted; threads may share one.

    Attributes:
        is_reached: whether the server has ever answered, be it with an error.
    """

    def __init__(self) -> None:
        self.is_reached = False
        self._lock = Lock()
        self._requests = self._answered = self._counted = 0
        self._prompt_tokens = self._answer_tokens = 0

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self._requests

    def add_request(self) -> None:
        """Count one that is sent."""
        with self._lock:
            self._requests += 1

    def add(self, answer: Mapping[str, Any]) -> None:
        """Count an answer."""
        usage = answer.get("usage")
        sent, written = (
            _count(usage, name) for name in ("prompt_tokens", "completion_tokens")
        )
        with self._lock:
            self._answered += 1
            if sent is not None:
                self._counted += 1
                self._prompt_tokens += sent
                self._answer_tokens += written or 0

    def spent(self, prices: Prices | None) -> Spent:
        """All so far."""
        with self._lock:
            tokens = self._prompt_tokens, self._answer_tokens
            price = prices.of(*tokens) if prices and self._counted else None
            counts = self._requests, self._answered, self._counted
            return Spent(*counts, *tokens, price)


def _count(usage: object, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else None
