"""Log-probabilities of a continuation, from servers that echo the prompt's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.answers.continuations import with_border
from oracles.features.answers.targets import (
    among,
    check_together,
    checked_value,
    scaled,
)
from oracles.features.prompts.prompt import Prompt
from oracles.remote.client import Client
from oracles.remote.endpoint import Endpoint
from oracles.remote.listed import ROUNDING
from oracles.remote.oracle import RemoteOracle
from oracles.remote.session import RemoteError, Session
from oracles.remote.wire import (
    Tail,
    begins_twice,
    check_aligned,
    echoed_tail,
    text_of,
    with_way_out,
)

PATH = "/completions"
ANSWER_TOKENS = 16  # longest answer taken from the model itself
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
    choices: Sequence[str] = (),
    per_token: bool = False,
    value: str | None = None,
) -> RemoteOracle:
    """How likely a continuation is, from a server that echoes log-probabilities.

    Needs `echo` with `logprobs` on /completions, which vLLM and llama-cpp-python have.
    Making one sends two requests that show whether the server has it, and a third if
    the model is to answer itself.

    White space at the prompt's end counts as the continuation's, as for `CausalOracle`;
    so does a token that runs over the border. A chat template's beginning token is not
    sent to a server that puts one there itself. The server's tokenizer splits the
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
        choices: if given, in place of a continuation: one output and one request for
            each of two or more answers, whose probabilities are made to sum to one.
        per_token: one output for each token of the continuation given those before it,
            in place of one for the whole, from the same single request.
        value: as of `CausalOracle`: "log-probability" in nats, the default; "log-odds",
            the default and only one with an alternative, and the default of choices;
            "probability"; or "margin" of choices. Servers tell probabilities apart to
            about 1e-6, so log-odds against all other answers end at 13.8 nats.

    Raises:
        InputError: a continuation, choices or value that cannot be used, or a prompt of
            which nothing may be left.
        RemoteError: the server does not answer, or not with what this needs.
    """
    check_together(continuation, alternative, choices, per_token)
    value = checked_value(value, alternative, choices)
    intact = _checked_intact(prompt)
    client = Client(endpoint, prompt.description)
    is_rendered = prompt.has_special_tokens
    given = [w for w in (continuation, alternative, *choices) if w is not None]
    scored = [with_border(intact, words, is_rendered=is_rendered) for words in given]
    added = _probe(client, prompt, _context(prompt, intact))
    context = _context(prompt, intact, added)
    if continuation is None and not choices:
        scored.insert(0, _own_answer(client, prompt, context))
    request = _request(context + scored[0], prompt)
    tail = echoed_tail(client.ask(PATH, request), context + scored[0], len(context))
    ends = tuple(np.unique(tail.ends).tolist()) if per_token else ()
    question = _Continuation(prompt, tuple(scored), value, bool(choices), ends, added)
    return RemoteOracle(question, client)


@dataclass(frozen=True)
class _Continuation:
    """The question how likely a continuation is.

    Attributes:
        prompt: what is ablated.
        scored: the continuation, perhaps an alternative, or the choices; white space in
            front included.
        value: see `completions_oracle`.
        has_choices: whether they are choices.
        ends: where the continuation's tokens end if each is an output.
        added: the beginning token, if the server itself puts it before what is sent.
    """

    prompt: Prompt
    scored: tuple[str, ...]
    value: str
    has_choices: bool = False
    ends: tuple[int, ...] = ()
    added: str = ""

    noise = None

    @property
    def players(self) -> tuple[str, ...]:
        return self.prompt.players

    @property
    def account(self) -> dict[str, float]:
        return {}

    @property
    def outputs(self) -> tuple[str, ...]:
        named = [words.strip() for words in self.scored]
        if self.has_choices:
            return tuple(f"{self.value} of {w!r} among the choices" for w in named)
        if self.ends:
            borders = zip((0, *self.ends), self.ends, strict=False)
            pieces = [self.scored[0][start:end] for start, end in borders]
            return tuple(
                f"{self.value} of {piece!r}, token {i} of {len(pieces)}"
                for i, piece in enumerate(pieces, start=1)
            )
        against = f" against {named[1]!r}" if len(named) == 2 else ""
        return (f"{self.value} of {named[0]!r}{against}",)

    @property
    def description(self) -> Mapping[str, Any]:
        named = [words.strip() for words in self.scored]
        is_compared = len(named) == 2 and not self.has_choices
        return {
            "kind": "remote-completions",
            **self.prompt.description,
            "value": self.value,
            "continuation": None if self.has_choices else named[0],
            "alternative": named[1] if is_compared else None,
            "choices": named if self.has_choices else [],
            "scored": list(self.scored),
            "token_ends": list(self.ends),
            **({"beginning": "the server's"} if self.added else {}),
            "act": "answer "
            + " or ".join(map(repr, named if self.has_choices else named[:1])),
        }

    @property
    def num_requests(self) -> int:
        return len(self.scored)

    @property
    def num_answer_tokens(self) -> int:
        return len(self.scored)  # one each, as some servers read 0 as without end

    def write_all(self, masks: Masks) -> list[str]:
        written = self.prompt.write_all(masks)
        return [_context(self.prompt, text, self.added) for text in written]

    def value_of(self, session: Session, written: str) -> np.ndarray:
        tails = [
            self._tail(session, written, words, goes_on=position > 0)
            for position, words in enumerate(self.scored)
        ]
        if self.ends:
            places = np.searchsorted(self.ends, tails[0].ends)
            logs = np.zeros(len(self.ends))
            np.add.at(logs, places, tails[0].log_probabilities)
            return scaled(logs, self.value, rounding=ROUNDING)
        whole = np.array([[tail.log_probabilities.sum() for tail in tails]])
        if self.has_choices:
            return among(whole, self.value)[0]
        if len(self.scored) == 2:
            return whole[0, :1] - whole[0, 1:]
        return scaled(whole, self.value, rounding=ROUNDING)[0]

    def _tail(
        self, session: Session, written: str, words: str, *, goes_on: bool
    ) -> Tail:
        request = _request(written + words, self.prompt)
        answer = session.ask(PATH, request, goes_on=goes_on)
        return echoed_tail(answer, written + words, len(written))


def _context(prompt: Prompt, written: str, added: str = "") -> str:
    """What is sent up to where the continuation begins."""
    if prompt.has_special_tokens:
        return written.removeprefix(added)
    return written.rstrip()


def _beginning_of(prompt: Prompt) -> str:
    """The beginning token that a chat template writes as text, if it does."""
    one = getattr(prompt, "prompts", [prompt])[0]  # of several draws
    beginning = getattr(getattr(one, "tokenizer", None), "bos_token", None) or ""
    return beginning if prompt.has_special_tokens else ""


def _request(text: str, prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt": text,
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,  # 0 is without end to llama-cpp-python
        "temperature": 0,
        # vLLM would put a second beginning before a chat template's own; see _probe
        "add_special_tokens": False if prompt.has_special_tokens else None,
    }


def _probe(client: Client, prompt: Prompt, context: str) -> str:
    """Refuse a server that does not echo log-probabilities, or puts them elsewhere.

    Returns the beginning token that must not be sent, as the server adds one whatever
    it is told: llama-cpp-python does. "" if there is none.
    """
    beginning = _beginning_of(prompt)
    try:
        answer = client.ask(PATH, _request(context, prompt))
        echoed_tail(answer, context, len(context) - 1)
        check_aligned(answer, context)
        is_added = (
            context.startswith(beginning)
            and beginning
            and begins_twice(answer, context, beginning)
        )
    except RemoteError as error:
        raise with_way_out(error, NEXT_MODE) from None
    return beginning if is_added else ""


def _own_answer(client: Client, prompt: Prompt, context: str) -> str:
    """What the model itself says, the first line that is not empty."""
    request = {"max_tokens": ANSWER_TOKENS, "echo": None, "logprobs": None}
    request = {**_request(context, prompt), **request}
    said = text_of(client.ask(PATH, request))
    answer = said[: len(said) - len(said.lstrip())] + said.strip().split("\n")[0]
    if not answer.strip():
        raise InputError(
            "the model itself answers nothing to the intact prompt. Name the "
            "continuation whose probability should be explained."
        )
    return answer


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
