"""What a run will cost, before it is paid for."""

from dataclasses import dataclass

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
        requests: if none has to be sent again.
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
