"""What a run will cost, before it is paid for."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError

ESTIMATED_MASKS = 64
TOKENS_PER_CHARACTER = 0.25  # of English; used until a server has counted tokens


@dataclass(frozen=True)
class Prices:
    """Price of a million tokens, in any currency, as the provider lists them.

    Attributes:
        prompt: of those sent.
        answer: of those written by the model.
    """

    prompt: float
    answer: float

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Price of so many tokens."""
        return (prompt_tokens * self.prompt + answer_tokens * self.answer) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What a number of ablations take.

    Attributes:
        requests: if none has to be sent again; fewer if prompts are equal.
        prompt_tokens: about, for masks that keep each player with probability 1/2.
        answer_tokens: at most.
        price: of these tokens, or None if no prices were given.

    >>> print(Estimate(400, 120_000, 400, Prices(0.15, 0.6).of(120_000, 400)))
    400 requests, about 120,000 prompt tokens, at most 400 answer tokens, price 0.018
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    price: float | None = None

    def __str__(self) -> str:
        price = "" if self.price is None else f", price {self.price:.2g}"
        return (
            f"{self.requests:,} requests, about {self.prompt_tokens:,} prompt tokens, "
            f"at most {self.answer_tokens:,} answer tokens{price}"
        )


def estimate_of(
    write_all: Callable[[Masks], list[str]],
    num_players: int,
    num_ablations: int,
    *,
    num_requests: int,
    num_answer_tokens: int,
    tokens_per_character: float = TOKENS_PER_CHARACTER,
    prices: Prices | None = None,
) -> Estimate:
    """What so many ablations take; asks nothing.

    Args:
        write_all: what is sent under every mask (m, n).
        num_players: n.
        num_ablations: distinct ablations, such as the budget of an explanation.
        num_requests: for one ablation.
        num_answer_tokens: at most, for one ablation.
        tokens_per_character: of what is sent.
        prices: of the tokens.

    Raises:
        InputError: fewer than no ablations.
    """
    if num_ablations < 0:
        raise InputError(f"num_ablations={num_ablations}; the least is 0.")
    masks = np.random.default_rng(0).random((ESTIMATED_MASKS, num_players)) < 0.5
    characters = sum(map(len, write_all(masks))) / len(masks)
    requests = num_requests * num_ablations
    tokens = characters * tokens_per_character * requests
    counts = math.ceil(tokens), num_answer_tokens * num_ablations
    return Estimate(requests, *counts, prices.of(*counts) if prices else None)
