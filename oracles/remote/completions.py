"""Log-probabilities of a continuation, from servers that echo the prompt's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.continuations import with_border
from oracles.features.prompts import Prompt
from oracles.remote.client import Client
from oracles.remote.endpoint import Endpoint
from oracles.remote.oracle import RemoteOracle
from oracles.remote.session import RemoteError, Session
from oracles.remote.wire import UNABLE, Tail, check_aligned, echoed_tail, text_of

PATH = "/completions"
COMPLETION_VALUES = ("log-probability", "per-token", "log-odds")
ANSWER_TOKENS = 16  # longest answer taken from the model itself
CERTAIN_NATS = 1e-12  # log-odds of what is nearer to certain are not told apart
NEXT_MODE = (
    "If it cannot echo log-probabilities, use chat_oracle, which needs those of the "
    "answer only."
)


def completions_oracle(
    prompt: Prompt,
    endpoint: Endpoint,
    *,
    continuation: str | None = None,
    alternative: str | None = None,
    value: str | None = None,
) -> RemoteOracle:
    """How likely a continuation is, from a server that echoes log-probabilities.

    Needs `echo` with `logprobs` on /completions, which vLLM and llama-cpp-python have.
    Making one sends two requests that show whether the server has it, and a third if
    the model is to answer itself.

    White space at the prompt's end counts as the continuation's, as for `CausalOracle`;
    so does a token that runs over the border. The server's tokenizer splits the
    continuation; where an ablation makes it split otherwise, every token counts for the
    output in which it ends.

    Args:
        prompt: what is ablated.
        endpoint: where the model is.
        continuation: what is scored, perhaps written elsewhere. By default what the
            model says to the intact prompt, up to a line's end or 16 tokens; name it to
            go on from a ledger another day, when a remote model may say otherwise.
        alternative: if given, the value is the log-odds between the two, log
            p(continuation) - log p(alternative), from two requests an ablation.
        value: "log-probability" in nats, summed over tokens, the default; "per-token",
            an output for each token; or "log-odds", log p / (1 - p). With an
            alternative only "log-odds".

    Raises:
        InputError: a continuation or value that cannot be used, or a prompt of which
            nothing may be left.
        RemoteError: the server does not answer, or not with what this needs.
    """
    value = _checked_value(value, alternative)
    intact = _checked_intact(prompt)
    client, context = Client(endpoint), intact.rstrip()
    given = [words for words in (continuation, alternative) if words is not None]
    scored = tuple(with_border(intact, words) for words in given)
    _probe(client, context)
    if continuation is None:
        scored = (_own_answer(client, context), *scored)
    request = _request(context + scored[0], prompt)
    tail = echoed_tail(client.ask(PATH, request), context + scored[0], len(context))
    return RemoteOracle(_Continuation(prompt, scored, value, tail.ends), client)


@dataclass(frozen=True, eq=False)
class _Continuation:
    """The question how likely a continuation is.

    Attributes:
        prompt: what is ablated.
        scored: the continuation, perhaps its alternative, white space in front.
        value: one of COMPLETION_VALUES.
        ends: where the continuation's tokens end after the intact prompt.
    """

    prompt: Prompt
    scored: tuple[str, ...]
    value: str
    ends: np.ndarray
    account: Mapping[str, float] = field(default_factory=dict)

    @property
    def players(self) -> tuple[str, ...]:
        return self.prompt.players

    @property
    def outputs(self) -> tuple[str, ...]:
        shown = [words.strip() for words in self.scored]
        if self.value == "per-token":
            ends = np.unique(self.ends).tolist()
            pieces = zip([0, *ends], ends, strict=False)
            return tuple(repr(self.scored[0][start:end]) for start, end in pieces)
        against = f" against {shown[1]!r}" if len(shown) == 2 else ""
        return (f"{self.value} of {shown[0]!r}{against}",)

    @property
    def description(self) -> Mapping[str, Any]:
        return {
            "kind": "remote-completions",
            **self.prompt.description,
            "value": self.value,
            "continuation": self.scored[0].strip(),
            "alternative": self.scored[1].strip() if len(self.scored) == 2 else None,
            "scored": list(self.scored),
            "outputs": list(self.outputs),
        }

    @property
    def num_requests(self) -> int:
        return len(self.scored)

    @property
    def num_answer_tokens(self) -> int:
        return len(self.scored)  # one each, as some servers read 0 as without end

    def write_all(self, masks: Masks) -> list[str]:
        return [written.rstrip() for written in self.prompt.write_all(masks)]

    def value_of(self, session: Session, written: str) -> np.ndarray:
        tails = [
            self._tail(session, written, words, goes_on=position > 0)
            for position, words in enumerate(self.scored)
        ]
        if self.value == "per-token":
            ends = np.unique(self.ends)
            places = np.searchsorted(ends, tails[0].ends)
            return np.bincount(places, tails[0].log_probabilities, len(ends))
        totals = [tail.log_probabilities.sum() for tail in tails]
        if len(totals) == 2:
            return np.array([totals[0] - totals[1]])
        if self.value == "log-odds":
            total = min(totals[0], -CERTAIN_NATS)
            return np.array([total - np.log(-np.expm1(total))])
        return np.array(totals)

    def _tail(
        self, session: Session, written: str, words: str, *, goes_on: bool
    ) -> Tail:
        request = _request(written + words, self.prompt)
        answer = session.ask(PATH, request, goes_on=goes_on)
        return echoed_tail(answer, written + words, len(written))


def _request(text: str, prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt": text,
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,  # 0 is without end to llama-cpp-python
        "temperature": 0,
        # vLLM would put a second beginning before a chat template's own
        "add_special_tokens": False if prompt.has_special_tokens else None,
    }


def _probe(client: Client, context: str) -> None:
    """Refuse a server that does not echo log-probabilities, or puts them elsewhere."""
    request = {"prompt": context, "echo": True, "logprobs": 1, "max_tokens": 1}
    try:
        answer = client.ask(PATH, {**request, "temperature": 0})
        echoed_tail(answer, context, len(context) - 1)
        check_aligned(answer, context)
    except RemoteError as error:
        if error.status not in UNABLE:
            raise
        raise RemoteError(f"{error} {NEXT_MODE}", error.status) from None


def _own_answer(client: Client, context: str) -> str:
    """What the model itself says, the first line that is not empty."""
    request = {"prompt": context, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    said = text_of(client.ask(PATH, request))
    answer = said[: len(said) - len(said.lstrip())] + said.strip().split("\n")[0]
    if not answer.strip():
        raise InputError(
            "the model itself answers nothing to the intact prompt. Name the "
            "continuation whose probability should be explained."
        )
    return answer


def _checked_value(value: str | None, alternative: str | None) -> str:
    if value is None:
        return "log-probability" if alternative is None else "log-odds"
    if value not in COMPLETION_VALUES:
        raise InputError(
            f"value={value!r} is not known for a continuation. Choose from "
            f"{', '.join(COMPLETION_VALUES)}."
        )
    if alternative is not None and value != "log-odds":
        raise InputError(
            f"value={value!r} does not go with an alternative, which is compared by "
            'log-odds. Leave value out, or use "log-odds".'
        )
    return value


def _checked_intact(prompt: Prompt) -> str:
    """The intact prompt, if something is left of it under every mask."""
    masks = np.array([[True], [False]]).repeat(len(prompt.players), axis=1)
    intact, nothing = prompt.write_all(masks)
    if not nothing.strip():
        raise InputError(
            "nothing is left of the prompt when every segment is removed, and servers "
            "give no log-probability for the first token of all. Keep something: give "
            "a prefix or a suffix, such as the question."
        )
    return intact
