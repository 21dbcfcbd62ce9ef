"""How often a remote model answers as it did, from its answers alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.answers.similarity import words_of
from oracles.features.prompts.prompt import Prompt
from oracles.remote.client import Client
from oracles.remote.endpoint import Endpoint
from oracles.remote.messages import read_chat, write_chats
from oracles.remote.oracle import RemoteOracle
from oracles.remote.session import RemoteError, Session
from oracles.remote.similarity import MEASURES
from oracles.remote.wire import text_of, texts_of

PATH = "/chat/completions"
ANSWER_TOKENS = 64
NAMES = {
    "rouge-l": "rouge-l of the answer with",
    "token-f1": "token-f1 of the answer with",
    "equals": "share of answers that are",
    "contains": "share of answers with",
}
"""A name in MEASURES -> what its number is, before the original answer."""


def sampled_oracle(
    prompt: Prompt,
    endpoint: Endpoint,
    *,
    answer: str | None = None,
    value: str = "rouge-l",
    draws: int = 1,
    temperature: float | None = None,
    max_answer_tokens: int = ANSWER_TOKENS,
    seed: int = 0,
) -> RemoteOracle:
    """How like the model's answers are to the original one, by sampling.

    For servers that give no log-probabilities. Making one asks about the intact prompt,
    to see that answers have a text, and with several draws how many of them the server
    gives to one request; and once more with several draws if the original answer is not
    given. The value is the mean over draws, unbiased however few they are; the logit of
    a share is not, and is infinite at 0 and 1.

    Args:
        prompt: what is ablated; one that writes no messages is one of the user's.
        endpoint: where the model is.
        answer: the original answer, perhaps written elsewhere; it is compared with and
            never generated again. By default what the model says to the intact prompt
            at temperature 0; name it to go on from a ledger another day, when a remote
            model may say otherwise.
        value: "rouge-l", the default, or "token-f1": likeness by words, 0 to 1, as of
            `GeneratedOracle`; "equals" or "contains": the share of answers whose words
            are, or hold, the original's.
        draws: answers for each ablation.
        temperature: by default 0 for one draw, which most servers then answer the same
            every time, and 1 for more.
        max_answer_tokens: where an answer is cut; make room for the original's length.
        seed: sent with each request, so that servers that know it repeat themselves.

    `RemoteOracle.noise`, with two draws or more: the standard error of a value, the
    root of its mean square over the ablations asked about.

    Raises:
        InputError: an answer, value or number that cannot be used.
        RemoteError: the server does not answer, or without a text, as when all tokens
            go into reasoning.
    """
    _check(answer, value, draws, max_answer_tokens)
    client = Client(endpoint, prompt.description)
    if temperature is None:
        temperature = 0.0 if draws == 1 else 1.0
    intact = write_chats(prompt, np.ones((1, len(prompt.players)), dtype=bool))[0]
    settings = {"temperature": temperature, "max_tokens": max_answer_tokens}
    request = {"messages": read_chat(intact), **settings, "seed": seed}
    at_once = 1
    if answer is not None or draws > 1:
        at_once = _answers_at_once(client, request, draws)
    if answer is None:
        answer = _own_answer(client, {**request, "temperature": 0.0, "seed": None})
    question = _Samples(prompt, answer, value, draws, settings, seed, at_once)
    return RemoteOracle(question, client)


@dataclass(frozen=True, eq=False)
class _Samples:
    """The question what the model answers, several times.

    Attributes:
        prompt: what is ablated.
        answer: the original answer.
        value: a name in MEASURES.
        draws: answers for each ablation.
        settings: of sampling.
        seed: of the first draw.
        at_once: answers that the server gives to one request.
    """

    prompt: Prompt
    answer: str
    value: str
    draws: int
    settings: Mapping[str, Any]
    seed: int
    at_once: int
    _variances: list[float] = field(default_factory=list)

    @property
    def players(self) -> tuple[str, ...]:
        return self.prompt.players

    @property
    def outputs(self) -> tuple[str, ...]:
        shown = self.answer if len(self.answer) <= 40 else self.answer[:40] + "..."
        return (f"{NAMES[self.value]} {shown!r}",)

    @property
    def description(self) -> Mapping[str, Any]:
        return {
            "kind": "remote-sampled",
            **self.prompt.description,
            "value": self.value,
            "answer": self.answer,
            "draws": self.draws,
            "seed": self.seed,
            **self.settings,
            "act": f"answer {self.answer!r}",
        }

    @property
    def num_requests(self) -> int:
        return -(-self.draws // self.at_once)

    @property
    def num_answer_tokens(self) -> int:
        return self.draws * int(self.settings["max_tokens"])

    @property
    def account(self) -> dict[str, float]:
        return {}

    @property
    def noise(self) -> np.ndarray | None:
        known = list(self._variances)
        return np.sqrt([np.mean(known) / self.draws]) if known else None

    def write_all(self, masks: Masks) -> list[str]:
        return write_chats(self.prompt, masks)

    def value_of(self, session: Session, written: str) -> np.ndarray:
        request = {"messages": read_chat(written), **self.settings}
        said: list[str] = []
        while len(said) < self.draws:
            more = {"n": min(self.at_once, self.draws - len(said))}
            if self.at_once == 1:
                more = {}  # some servers know no n
            more["seed"] = self.seed + len(said)
            answer = session.ask(PATH, {**request, **more}, goes_on=bool(said))
            said += texts_of(answer)
        scores = [MEASURES[self.value](one, self.answer) for one in said[: self.draws]]
        if self.draws > 1:
            self._variances.append(float(np.var(scores, ddof=1)))
        return np.array([np.mean(scores)])


def _answers_at_once(client: Client, request: Mapping[str, Any], draws: int) -> int:
    """How many answers the server gives to one request; some know one only."""
    if draws == 1:
        texts_of(client.ask(PATH, request))
        return 1
    try:
        return min(draws, len(texts_of(client.ask(PATH, {**request, "n": draws}))))
    except RemoteError as error:
        if error.status not in (400, 422):
            raise
        return _answers_at_once(client, request, 1)


def _own_answer(client: Client, request: Mapping[str, Any]) -> str:
    answer = text_of(client.ask(PATH, request)).strip()
    if not words_of(answer):
        raise InputError(
            f"the model's answer to the intact prompt is {answer!r}, without a word. "
            "Give the answer that others should be compared with."
        )
    return answer


def _check(answer: str | None, value: str, draws: int, max_answer_tokens: int) -> None:
    if answer is not None and not words_of(answer):
        raise InputError(
            f"answer={answer!r} has no word that other answers could share. Give the "
            "words that they are to be compared with."
        )
    if value not in MEASURES:
        raise InputError(
            f"value={value!r} is not known for sampled answers. Choose from "
            f"{', '.join(MEASURES)}."
        )
    for name, number in {
        "draws": draws,
        "max_answer_tokens": max_answer_tokens,
    }.items():
        if number < 1:
            raise InputError(f"{name}={number}; the least is 1.")
