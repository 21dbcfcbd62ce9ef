"""Log-odds of an answer's first token, from the likeliest ones that a server lists."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.prompts import Prompt
from oracles.remote.client import Client
from oracles.remote.endpoint import Endpoint
from oracles.remote.messages import read_chat, write_chats
from oracles.remote.oracle import RemoteOracle
from oracles.remote.session import RemoteError, Session
from oracles.remote.wire import UNABLE, first_tokens, is_over_at_once

PATH = "/chat/completions"
TOP = 20  # what OpenAI and vLLM list at most
ROUNDING = 1e-6  # probabilities are told apart to about this, in float32
NEXT_MODE = (
    "If it lists no log-probabilities, use sampled_oracle, which needs answers only."
)
BOUND = (
    "a token that is not among those listed counts with the most it can have: the "
    "probability of the last listed, or what all of them leave over if that is less"
)


def chat_oracle(
    prompt: Prompt,
    endpoint: Endpoint,
    *,
    answer: str | None = None,
    alternative: str | None = None,
    top: int = TOP,
) -> RemoteOracle:
    """Log-odds of the answer's first token, from a chat's top log-probabilities.

    Needs `logprobs` with `top_logprobs` on /chat/completions. Making one sends one
    request, the intact prompt. The value is log p - log q in nats, q being the
    probability of the alternative's first token or of all other tokens; log-odds and
    not a probability, since a probability near 0 or 1 hides what moves it.

    Tokens that differ in the white space around them only are taken together. A token
    that is not listed has no known probability: it counts with the most it can have,
    that of the last listed or what all listed leave over; `account` says how often.

    Args:
        prompt: what is ablated; one that writes no messages is one of the user's.
        endpoint: where the model is.
        answer: whose first token is scored, perhaps written elsewhere. By default the
            likeliest first token after the intact prompt.
        alternative: what it is compared with; by default all other tokens.
        top: how many tokens the server is asked to list.

    `account`: `bounds`, the share of ablations of which a probability was not listed.

    Raises:
        InputError: an answer that is not listed after the intact prompt, or that
            begins as the alternative does.
        RemoteError: the server does not answer, or not with what this needs.
    """
    client = Client(endpoint)
    intact = write_chats(prompt, np.ones((1, len(prompt.players)), dtype=bool))[0]
    listed = _probe(client, intact, top)
    answer = _likeliest(listed) if answer is None else _begins(answer, listed)
    if alternative is not None:
        alternative = _begins(alternative, listed, may_be_missing=True)
    if answer == alternative:
        raise InputError(
            f"answer and alternative both begin with the token {answer!r}. Compare "
            "words that begin otherwise, or use completions_oracle."
        )
    return RemoteOracle(_FirstToken(prompt, answer, alternative, top), client)


@dataclass(frozen=True, eq=False)
class _FirstToken:
    """The question how likely a token is as the first of the answer.

    Attributes:
        prompt: what is ablated.
        answer: the token, without white space around it.
        alternative: another, or None for all others.
        top: how many tokens are listed.
    """

    prompt: Prompt
    answer: str
    alternative: str | None
    top: int
    _bounds: list[bool] = field(default_factory=list)

    noise = None
    num_requests = 1
    num_answer_tokens = 1

    @property
    def players(self) -> tuple[str, ...]:
        return self.prompt.players

    @property
    def outputs(self) -> tuple[str, ...]:
        others = "all others" if self.alternative is None else repr(self.alternative)
        return (f"log-odds of {self.answer!r} against {others}",)

    @property
    def description(self) -> Mapping[str, Any]:
        return {
            "kind": "remote-chat",
            **self.prompt.description,
            "value": "log-odds",
            "answer": self.answer,
            "alternative": self.alternative,
            "top": self.top,
            "not_listed": BOUND,
        }

    @property
    def account(self) -> dict[str, float]:
        asked = list(self._bounds)
        return {"bounds": sum(asked) / len(asked)} if asked else {}

    def write_all(self, masks: Masks) -> list[str]:
        return write_chats(self.prompt, masks)

    def value_of(self, session: Session, written: str) -> np.ndarray:
        listed = _listed(session.ask, written, self.top)
        value, is_bound = log_odds(listed, self.answer, self.alternative)
        self._bounds.append(is_bound)
        return np.array([value])


def log_odds(
    listed: Sequence[tuple[str, float]], answer: str, alternative: str | None
) -> tuple[float, bool]:
    """log p(answer) - log p(alternative or all others), and whether one is a bound.

    Args:
        listed: the likeliest tokens and their log-probabilities.
        answer: a token without the white space around it.
        alternative: another, or None for all others.

    >>> value, is_bound = log_odds([(" yes", -0.5), ("no", -2.5)], "yes", "no")
    >>> value, is_bound
    (2.0, False)
    """
    left = 1 - math.fsum(math.exp(value) for _, value in listed)
    last = min(value for _, value in listed)
    bound = min(last, math.log(max(left, ROUNDING)))

    def found(is_counted: Callable[[str], bool]) -> float:
        """Log-probability of all listed tokens of a kind, -inf if there are none."""
        values = [value for token, value in listed if is_counted(token.strip())]
        return float(np.logaddexp.reduce(values)) if values else -math.inf

    wanted = found(lambda token: token == answer)
    if alternative is not None:
        other = found(lambda token: token == alternative)
        is_bound = -math.inf in (wanted, other)
        return max(wanted, bound) - max(other, bound), is_bound
    if wanted == -math.inf:
        return bound - math.log1p(-math.exp(bound)), True
    # what is left over is known to within rounding, and so counts beyond that only
    rest = math.log(left - ROUNDING) if left > ROUNDING else -math.inf
    other = float(np.logaddexp(found(lambda token: token != answer), rest))
    if other == -math.inf:
        return wanted - math.log(ROUNDING), True
    return wanted - other, False


def _listed(
    ask: Callable[[str, dict[str, Any]], dict[str, Any]], written: str, top: int
) -> list[tuple[str, float]]:
    """The likeliest first tokens of an answer, best first."""
    request = {
        "messages": read_chat(written),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": top,
    }
    answer = ask(PATH, request)
    if is_over_at_once(answer):  # nothing is listed; vLLM and llama.cpp can be told on
        answer = ask(PATH, {**request, "min_tokens": 1})
    return first_tokens(answer, top)


def _probe(client: Client, intact: str, top: int) -> list[tuple[str, float]]:
    """What is listed after the intact prompt."""
    try:
        return _listed(client.ask, intact, top)
    except RemoteError as error:
        if error.status not in UNABLE:
            raise
        raise RemoteError(f"{error} {NEXT_MODE}", error.status) from None


def _likeliest(listed: Sequence[tuple[str, float]]) -> str:
    for token, _ in listed:
        if token.strip():
            return token.strip()
    raise InputError(
        "the model's answer to the intact prompt begins with white space. Name the "
        "answer whose first token should be explained, or use sampled_oracle."
    )


def _begins(
    words: str, listed: Sequence[tuple[str, float]], *, may_be_missing: bool = False
) -> str:
    """The token that the words begin with, as the listed ones show it."""
    words = words.strip()
    tokens = {token.strip() for token, _ in listed} - {""}
    beginnings = [token for token in tokens if words.startswith(token)]
    if beginnings:
        return max(beginnings, key=len)
    if may_be_missing and words:
        return words
    shown = ", ".join(repr(token) for token, _ in listed)
    raise InputError(
        f"answer={words!r} does not begin with one of the {len(listed)} likeliest "
        f"tokens after the intact prompt: {shown}. Name another, ask for more with "
        "top, or use completions_oracle or sampled_oracle."
    )
