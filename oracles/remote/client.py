"""A model behind an endpoint, asked about many ablations at a time."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any

import numpy as np

from oracles.errors import InputError, ModelError
from oracles.remote.endpoint import Endpoint
from oracles.remote.estimate import TOKENS_PER_CHARACTER
from oracles.remote.pool import Answered, as_answered
from oracles.remote.session import Session
from oracles.remote.tally import Tally
from oracles.remote.wire import prompt_tokens


class Client:
    """Asks one endpoint and counts what was sent and answered.

    Args:
        endpoint: where requests go.
        description: of the prompt that will be sent.

    Raises:
        InputError: the key stands in the prompt or the endpoint's settings.

    Attributes:
        endpoint: where requests go.
        tally: of what was sent and answered.
        tokens_per_character: of what was asked last by `ask`, if the server counts.
    """

    def __init__(self, endpoint: Endpoint, description: Mapping[str, Any]) -> None:
        self.endpoint = endpoint
        self.identify(description)
        self.tally = Tally()
        self.tokens_per_character = TOKENS_PER_CHARACTER

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a single request; see `Session.ask`."""
        with self._session() as session:
            answer = session.ask(path, body)
        written = body.get("prompt") or json.dumps(
            body.get("messages"), ensure_ascii=False
        )
        tokens = prompt_tokens(answer)
        if tokens is not None and written:
            self.tokens_per_character = tokens / len(written)
        return answer

    def ask_each(
        self, inputs: Sequence[str], value_of: Callable[[Session, str], np.ndarray]
    ) -> Generator[Answered, None, None]:
        """Rows of `inputs` and their values, as they are answered.

        Equal inputs are asked about once. Keeps the law of `PaidOracle.evaluate_each`.

        Args:
            inputs: one for each ablation.
            value_of: asks about one of them and gives its value (k,).
        """
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(inputs):
            rows.setdefault(text, []).append(row)
        with self._session() as session:
            tasks = [
                (places, partial(value_of, session, text))
                for text, places in rows.items()
            ]
            yield from as_answered(tasks, self.endpoint.concurrency, session.stop)

    def identify(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """A description with the endpoint's own, free of the key.

        Raises:
            InputError: the key stands in it; it would be written to disk.
        """
        whole = {**description, **self.endpoint.description}
        key = self.endpoint.read_key()
        if key and key in json.dumps(whole, ensure_ascii=False):
            raise InputError(
                f"the key in {self.endpoint.key_variable} stands in the prompt or the "
                "settings, which are written into ledgers and reports. Take it out."
            )
        return whole

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Connections that are kept for several requests."""
        try:
            import httpx2
        except ImportError:
            raise ModelError(
                "remote models need an HTTP library: pip install 'spex-explain[remote]'"
            ) from None
        endpoint = self.endpoint
        limits = httpx2.Limits(max_connections=endpoint.concurrency)
        with httpx2.Client(timeout=endpoint.timeout_seconds, limits=limits) as http:
            key = endpoint.read_key()
            yield Session(endpoint, self.tally, http, key, Event())
