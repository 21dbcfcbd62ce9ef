"""A remote model as an oracle, whatever is asked of it."""

import math
from collections.abc import Generator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from oracles.base import Masks, Values, check_masks, fingerprint_of
from oracles.errors import InputError
from oracles.remote.client import Client
from oracles.remote.estimate import Estimate, Prices
from oracles.remote.pool import Answered
from oracles.remote.session import Session

ESTIMATED_MASKS = 64


class Question(Protocol):
    """What is asked of a remote model about every ablated prompt."""

    @property
    def players(self) -> tuple[str, ...]:
        """The prompt's segments."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the k numbers that one ablation gives."""

    @property
    def description(self) -> Mapping[str, Any]:
        """All that changes the values but the endpoint, JSON-ready."""

    @property
    def num_requests(self) -> int:
        """Requests for one ablation."""

    @property
    def num_answer_tokens(self) -> int:
        """Most tokens that the model writes for one ablation."""

    @property
    def account(self) -> dict[str, float]:
        """What the answers so far were worth, by name."""

    @property
    def noise(self) -> np.ndarray | None:
        """Standard errors (k,) of the values so far, if they are means over draws."""

    def write_all(self, masks: Masks) -> list[str]:
        """What is asked about under every mask (m, n)."""

    def value_of(self, session: Session, written: str) -> np.ndarray:
        """Ask about one of these, and give its numbers (k,)."""


class RemoteOracle:
    """What a remote model says when some of the prompt's segments are removed.

    Made by `completions_oracle`, `chat_oracle` or `sampled_oracle`. A `PaidOracle`:
    through the runner with a ledger, nothing that was paid for is lost. It may be used
    by one thread at a time, and itself uses several.

    Args:
        question: what is asked.
        client: whom.

    Raises:
        InputError: the key stands in what would be written to disk.
    """

    def __init__(self, question: Question, client: Client) -> None:
        self._question, self._client = question, client
        self.players = question.players
        self.outputs = question.outputs
        self.description: Mapping[str, Any] = client.identify(question.description)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's name, base URL, prompt and settings.

        The URL is in it, since a name may stand for other weights on another server;
        key, limits, retries and concurrency are not, since they change no value.
        """
        told_only = ("act", "not_listed")  # whose wording changes no value
        kept = {k: v for k, v in self.description.items() if k not in told_only}
        return fingerprint_of(kept)

    def evaluate(self, masks: Masks) -> Values:
        """Values (m, k). A failure loses what was answered; the runner loses nothing.

        Raises:
            RemoteError: the server failed for good.
            InputError: more requests are needed than are left.
        """
        values = np.empty((len(masks), len(self.outputs)))
        for rows, some in self.evaluate_each(masks):
            values[list(rows)] = some
        return values

    def evaluate_each(self, masks: Masks) -> Generator[Answered, None, None]:
        """Rows and their values as they are answered; see `oracles.PaidOracle`."""
        written = self._question.write_all(check_masks(masks, len(self.players)))
        self.check_affordable(len(set(written)))
        yield from self._client.ask_each(written, self._question.value_of)

    def check_affordable(self, num_ablations: int) -> None:
        """Refuse ablations that need more requests than are left.

        Raises:
            InputError: with the numbers; nothing was sent.
        """
        self._client.turns.check(num_ablations * self._question.num_requests)

    def estimate(self, num_ablations: int, prices: Prices | None = None) -> Estimate:
        """What so many ablations take; asks nothing.

        Args:
            num_ablations: distinct ablations, such as the budget of an explanation.
            prices: of the tokens.

        Raises:
            InputError: fewer than no ablations.
        """
        if num_ablations < 0:
            raise InputError(f"num_ablations={num_ablations}; the least is 0.")
        shape = ESTIMATED_MASKS, len(self.players)
        masks = np.random.default_rng(0).random(shape) < 0.5
        characters = sum(map(len, self._question.write_all(masks))) / len(masks)
        requests = self._question.num_requests * num_ablations
        tokens = characters * self._client.tokens_per_character * requests
        counts = math.ceil(tokens), self._question.num_answer_tokens * num_ablations
        return Estimate(requests, *counts, prices.of(*counts) if prices else None)

    @property
    def account(self) -> dict[str, float]:
        """What was asked so far and what it was worth.

        `requests`: sent, probes and retries included. `bounds`, of `chat_oracle`.
        """
        return {"requests": self._client.turns.taken, **self._question.account}

    @property
    def noise(self) -> np.ndarray | None:
        """Standard errors (k,) of values, of `sampled_oracle`; None if not known."""
        return self._question.noise
