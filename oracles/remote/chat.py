"""Log-odds of an answer's first token, from the likeliest ones that a server lists."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.answers.targets import among, check_together
from oracles.features.prompts.prompt import Prompt
from oracles.remote.client import Client
from oracles.remote.endpoint import Endpoint
from oracles.remote.listed import against_all_others, log_probability
from oracles.remote.messages import read_chat, write_chats
from oracles.remote.oracle import RemoteOracle
from oracles.remote.session import RemoteError, Session
from oracles.remote.wire import first_tokens, is_over_at_once, with_way_out

PATH = "/chat/completions"
TOP = 20  # what OpenAI and vLLM list at most
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
    choices: Sequence[str] = (),
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
        choices: if given, in place of an answer: one output for the first token of each
            of two or more answers, its log-odds against the others, all from the same
            single request.
        top: how many tokens the server is asked to list.

    `account`: `bounds`, the share of ablations of which a probability was not listed.

    Raises:
        InputError: an answer that is not listed after the intact prompt, or answers
            that begin alike.
        RemoteError: the server does not answer, or not with what this needs.
    """
    check_together(answer, alternative, choices, per_token=False)
    given = [w for w in (answer, alternative, *choices) if w is not None]
    if not all(words.strip() for words in given):
        raise InputError(
            f"one of {given} is empty. Name answers whose first tokens are compared."
        )
    client = Client(endpoint, prompt.description)
    intact = write_chats(prompt, np.ones((1, len(prompt.players)), dtype=bool))[0]
    listed = _probe(client, intact, top)
    if answer is None and not choices:
        given.insert(0, _likeliest(listed))
    words = _first_words(given, listed, num_needed=len(choices) or 1)
    return RemoteOracle(_FirstToken(prompt, words, bool(choices), top), client)


@dataclass(frozen=True, eq=False)
class _FirstToken:
    """The question how likely a token is as the first of the answer.

    Attributes:
        prompt: what is ablated.
        words: the answer's token, perhaps its alternative's, or the choices'; without
            white space around them.
        has_choices: whether they are choices.
        top: how many tokens are listed.
    """

    prompt: Prompt
    words: tuple[str, ...]
    has_choices: bool
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
        if self.has_choices:
            return tuple(f"log-odds of {w!r} among the choices" for w in self.words)
        others = repr(self.words[1]) if len(self.words) == 2 else "all others"
        return (f"log-odds of {self.words[0]!r} against {others}",)

    @property
    def description(self) -> Mapping[str, Any]:
        is_compared = len(self.words) == 2 and not self.has_choices
        return {
            "kind": "remote-chat",
            **self.prompt.description,
            "value": "log-odds",
            "answer": None if self.has_choices else self.words[0],
            "alternative": self.words[1] if is_compared else None,
            "choices": list(self.words) if self.has_choices else [],
            "top": self.top,
            "not_listed": BOUND,
            "act": "begin its answer with "
            + " or ".join(
                map(repr, self.words if self.has_choices else self.words[:1])
            ),
        }

    @property
    def account(self) -> dict[str, float]:
        asked = list(self._bounds)
        return {"bounds": sum(asked) / len(asked)} if asked else {}

    def write_all(self, masks: Masks) -> list[str]:
        return write_chats(self.prompt, masks)

    def value_of(self, session: Session, written: str) -> np.ndarray:
        listed = _listed(session.ask, written, self.top)
        if len(self.words) == 1:
            value, is_bound = against_all_others(listed, self.words[0])
            self._bounds.append(is_bound)
            return np.array([value])
        pairs = [log_probability(listed, word) for word in self.words]
        self._bounds.append(any(is_bound for _, is_bound in pairs))
        logs = np.array([[value for value, _ in pairs]])
        return among(logs, "log-odds", None if self.has_choices else [0])[0]


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
        raise with_way_out(error, NEXT_MODE) from None


def _likeliest(listed: Sequence[tuple[str, float]]) -> str:
    for token, _ in listed:
        if token.strip():
            return token.strip()
    raise InputError(
        "the model's answer to the intact prompt begins with white space. Name the "
        "answer whose first token should be explained, or use sampled_oracle."
    )


def _beginning(words: str, listed: Sequence[tuple[str, float]]) -> str:
    """The token that words begin with, as the listed ones show it; "" if none does."""
    tokens = {token.strip() for token, _ in listed} - {""}
    return max((t for t in tokens if words.startswith(t)), key=len, default="")


def _first_words(
    given: Sequence[str], listed: Sequence[tuple[str, float]], num_needed: int
) -> tuple[str, ...]:
    """The tokens that answers begin with; one that is not listed is a token itself.

    Raises:
        InputError: none of the first so many is listed, or two are the same.
    """
    begun = [_beginning(words.strip(), listed) for words in given]
    if not any(begun[:num_needed]):
        shown = ", ".join(repr(token) for token, _ in listed)
        asked = " or ".join(map(repr, given[:num_needed]))
        raise InputError(
            f"{asked} does not begin with one of the {len(listed)} likeliest tokens "
            f"after the intact prompt: {shown}. Name another, ask for more with top, "
            "or use completions_oracle or sampled_oracle."
        )
    found = tuple(
        token or words.strip() for token, words in zip(begun, given, strict=True)
    )
    if len(set(found)) < len(found):
        raise InputError(
            f"of {list(given)} two begin with the same token ({', '.join(found)}). "
            "Compare answers that begin otherwise, or use completions_oracle."
        )
    return found
