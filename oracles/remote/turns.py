"""Whose turn it is to send a request: so many a minute, and never more than allowed."""

import time
from threading import Event, Lock

from oracles.errors import InputError


class Stopped(Exception):
    """The run is ending, and this request was not sent."""


class Turns:
    """Hands out turns to threads; a copy, as in another process, begins anew.

    Args:
        most: turns in all.
        per_minute: turns in a minute, evenly spaced; None for no limit.
    """

    def __init__(self, most: int, per_minute: float | None) -> None:
        self._most, self._per_minute = most, per_minute
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0  # monotonic time of the next turn
        self._lock = Lock()
        self.taken = 0

    def __reduce__(self) -> tuple[type["Turns"], tuple[int, float | None]]:
        return Turns, (self._most, self._per_minute)

    def check(self, wanted: int) -> None:
        """Refuse what takes more turns than are left.

        Raises:
            InputError: with the numbers.
        """
        left = self._most - self.taken
        if wanted > left:
            raise InputError(
                f"this takes {wanted:,} requests or more, and of "
                f"max_requests={self._most:,} there are {left:,} left; none was sent. "
                "Pass an endpoint with a larger max_requests, or a smaller budget."
            )

    def take(self, stop: Event) -> None:
        """Wait for a turn.

        Raises:
            InputError: all turns are taken.
            Stopped: `stop` was set.
        """
        while True:
            if stop.is_set():
                raise Stopped
            with self._lock:
                if self.taken >= self._most:
                    raise InputError(
                        f"max_requests={self._most:,} have been sent, retries "
                        "included. Pass an endpoint with a larger max_requests to go "
                        "on."
                    )
                wait = self._next - time.monotonic()
                if wait <= 0:
                    self._next = time.monotonic() + self._gap
                    self.taken += 1
                    return
            stop.wait(wait)

    def hold(self, seconds: float) -> None:
        """Give nobody a turn for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
