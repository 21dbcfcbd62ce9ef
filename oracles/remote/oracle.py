"""A remote model as an oracle, whatever is asked of it."""

from collections.abc import Generator, Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

import numpy as np

from oracles.base import Masks, Values, check_masks, fingerprint_of
from oracles.remote.client import Client
from oracles.remote.estimate import Estimate, Prices, estimate_of
from oracles.remote.pool import Answered
from oracles.remote.session import Session
from oracles.remote.tally import Spent

WRITTEN_AT_A_TIME = 256  # prompts held to count how many differ


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
        self._answered: dict[bytes, np.ndarray] = {}
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
        """Values (m, k). What was answered before a failure is not asked about again.

        Raises:
            RemoteError: the server failed for good.
            UnansweredError: it answered a few ablations without what was asked for.
            InputError: more requests are needed than are left.
        """
        values = np.empty((len(masks), len(self.outputs)))
        for rows, some in self.evaluate_each(masks):
            values[list(rows)] = some
        return values

    def evaluate_each(self, masks: Masks) -> Generator[Answered, None, None]:
        """Rows and their values as they are answered; see `oracles.PaidOracle`.

        Equal prompts are asked about once, however often this is called.
        """
        masks = check_masks(masks, len(self.players))
        self.check_affordable(masks)
        written = self._question.write_all(masks)
        yield from self._client.ask_each(written, self._value_of)

    def _value_of(self, session: Session, written: str) -> np.ndarray:
        """The question's, or what was answered before."""
        key = _key(written)
        if key not in self._answered:
            self._answered[key] = self._question.value_of(session, written)
        return self._answered[key]

    def check_affordable(self, masks: Masks) -> None:
        """Refuse ablations (m, n) that need more requests than are left.

        Raises:
            InputError: with the numbers; nothing was sent.
        """
        keys: set[bytes] = set()
        for start in range(0, len(masks), WRITTEN_AT_A_TIME):
            some = masks[start : start + WRITTEN_AT_A_TIME]
            keys.update(map(_key, self._question.write_all(some)))
        new = len(keys - self._answered.keys())
        self._client.endpoint.turns.check(new * self._question.num_requests)

    def estimate(self, num_ablations: int, prices: Prices | None = None) -> Estimate:
        """What so many ablations take; asks nothing.

        Args:
            num_ablations: distinct ablations, such as the budget of an explanation.
            prices: of the tokens.

        Raises:
            InputError: fewer than no ablations.
        """
        return estimate_of(
            self._question.write_all,
            len(self.players),
            num_ablations,
            num_requests=self._question.num_requests,
            num_answer_tokens=self._question.num_answer_tokens,
            tokens_per_character=self._client.tokens_per_character,
            prices=prices,
        )

    def spent(self, prices: Prices | None = None) -> Spent:
        """What was sent so far and what the server counted, by this oracle.

        Args:
            prices: of the tokens.
        """
        return self._client.tally.spent(prices)

    @property
    def account(self) -> dict[str, float]:
        """What was asked so far and what it was worth.

        `requests`: sent, probes and retries included. `bounds`, of `chat_oracle`.
        """
        return {"requests": self._client.tally.requests, **self._question.account}

    @property
    def noise(self) -> np.ndarray | None:
        """Standard errors (k,) of values, of `sampled_oracle`; None if not known."""
        return self._question.noise


def _key(written: str) -> bytes:
    """Tells prompts apart in little memory."""
    return sha256(written.encode("utf-8", "surrogatepass")).digest()
