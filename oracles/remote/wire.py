"""What an OpenAI-compatible server's answers say, or what is missing from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracles.remote.session import RemoteError

GREEDY_NATS = 0.05  # two equal tokens may swap places by rounding, no more
MISPLACED = (
    "the server's log-probabilities do not stand beside the tokens they belong to:"
)
UNABLE = (400, 404, 405, 422, 500, 501)
"""Statuses of servers that cannot do what is asked."""

UNLIKE = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""What reading an answer of another form than expected raises."""


CUT_SHORT = {
    "length": "All tokens it may have went into something else, such as reasoning: "
    "allow more with max_answer_tokens, or switch reasoning off with extra.",
    "content_filter": "The server filtered it. Leave out what it filters, or ask "
    "another model.",
    "tool_calls": "The model called a tool instead. Have the prompt ask for an answer "
    "in words, in a part that is kept.",
}
"""Why a server says that it ended an answer -> what that means of one without text."""


class LackingError(RemoteError):
    """A server answered without something that was asked for."""


def with_way_out(error: RemoteError, way_out: str) -> RemoteError:
    """The error, and what to do if it means that the server cannot do what is asked."""
    if isinstance(error, LackingError) or error.status in UNABLE:
        return RemoteError(f"{error} {way_out}", error.status)
    return error


@dataclass(frozen=True)
class Tail:
    """The tokens that hold the end of an echoed text.

    Attributes:
        ends: where each token ends, in characters of the tail, in order.
        log_probabilities: of each token given all before it, nats.
    """

    ends: np.ndarray
    log_probabilities: np.ndarray


def text_of(answer: Mapping[str, Any]) -> str:
    """What was written: the first choice's text or message."""
    return texts_of(answer)[0]


def texts_of(answer: Mapping[str, Any]) -> list[str]:
    """What was written, for every choice.

    Raises:
        RemoteError: it is not there, or a choice ended before any text.
    """
    try:
        choices = [
            (
                choice["text"] if "text" in choice else choice["message"]["content"],
                choice.get("finish_reason"),
            )
            for choice in answer["choices"]
        ]
    except (*UNLIKE, AttributeError):
        raise LackingError("the server's answer holds no text.") from None
    if not choices or not all(isinstance(text, str | None) for text, _ in choices):
        raise LackingError("the server's answer holds no text.")
    for text, reason in choices:
        # an empty answer is one, if the model ended it itself
        if text is None or (not text and str(reason) in CUT_SHORT):
            raise LackingError(_without_text(str(reason)))
    return [text for text, _ in choices]


def _without_text(reason: str) -> str:
    """Why an answer has no text, and what to do."""
    why = CUT_SHORT.get(reason, "Look at what else the server answers.")
    return f"the server's answer has no text (finish_reason {reason}). {why}"


def prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    """How many tokens the server counted in the prompt, if it says so."""
    usage = answer.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def is_over_at_once(answer: Mapping[str, Any]) -> bool:
    """Whether a chat's answer ended before its first token, so that none is listed."""
    choice = answer["choices"][0]
    said = choice.get("logprobs")
    is_empty = isinstance(said, dict) and said.get("content") == []
    return is_empty and choice.get("finish_reason") == "stop"


def first_tokens(answer: Mapping[str, Any], top: int) -> list[tuple[str, float]]:
    """The likeliest first tokens of a chat's answer, best first, at most `top`.

    Raises:
        RemoteError: none are listed.
    """
    if is_over_at_once(answer):
        raise LackingError(
            "the model ended its answer before the first token, and the server lists "
            "none then. Have the prompt ask for an answer in a part that is kept."
        )
    try:
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(str(one["token"]), float(one["logprob"])) for one in listed]
    except UNLIKE:
        pairs = []
    if not pairs or not all(math.isfinite(value) for _, value in pairs):
        raise LackingError("the server lists no log-probabilities of first tokens.")
    return sorted(pairs, key=lambda pair: -pair[1])[:top]


def echoed_tail(answer: Mapping[str, Any], sent: str, start: int) -> Tail:
    """The tokens of sent[start:], from an answer that echoes `sent`.

    A token that begins before `start` and ends after it is among them.

    Raises:
        RemoteError: no echo, no log-probabilities, or they cannot be told apart.
    """
    echo = _Echo.read(answer, sent)
    begins, ends = echo.borders[:-1], echo.borders[1:]
    chosen = (begins >= start) | (ends > start)
    found = echo.log_probabilities[: echo.count][chosen]
    if not chosen.any() or not np.isfinite(found).all():
        raise LackingError(
            "the server gives no log-probability for some tokens of what is scored "
            f"({sent[start:]!r})."
        )
    joined = "".join(np.array(echo.tokens[: echo.count], dtype=object)[chosen])
    if begins[chosen][0] != start and not joined.endswith(sent[start:]):
        raise LackingError(
            f"the server's tokens do not show where {sent[start:]!r} begins."
        )
    return Tail(ends[chosen] - start, found)


def begins_twice(answer: Mapping[str, Any], sent: str, beginning: str) -> bool:
    """Whether the server read more beginning tokens than were sent to it as text.

    Args:
        answer: echoes `sent`.
        sent: the prompt.
        beginning: the model's beginning token as text.

    Raises:
        RemoteError: no echo, or it cannot be read.
    """
    echo = _Echo.read(answer, sent)
    listed = echo.tokens[: echo.count]
    # llama-cpp-python counts beginning tokens, but lists none
    hidden = max(0, (prompt_tokens(answer) or 0) - echo.count)
    return listed.count(beginning) + hidden > sent.count(beginning)


def check_aligned(answer: Mapping[str, Any], sent: str) -> None:
    """Refuse log-probabilities that stand beside the wrong tokens.

    Some servers are one off: llama-cpp-python is for models without a beginning token
    (its issue 1983). The token that is written at temperature 0 is the likeliest.

    Raises:
        RemoteError: it is not, or it is not listed.
    """
    echo = _Echo.read(answer, sent)
    if echo.count == len(echo.tokens):
        return
    likeliest = max(echo.last_top.values(), default=-math.inf)
    found = echo.log_probabilities[-1]
    if not found >= likeliest - GREEDY_NATS:  # NaN included
        raise LackingError(
            f"{MISPLACED} it wrote {echo.tokens[-1]!r} as the likeliest, and says that "
            f"this has log-probability {found} and another token {likeliest}."
        )


@dataclass(frozen=True)
class _Echo:
    """An echoed text's tokens, then the one that the server wrote, if any.

    Attributes:
        tokens: their characters, as the server shows them.
        log_probabilities: of each; NaN where there is none, as for the first of all.
        count: how many are of the text that was sent.
        borders: where each of these begins in it, and where the last ends.
        last_top: the likeliest tokens in the last place and their log-probabilities.
    """

    tokens: list[str]
    log_probabilities: np.ndarray
    count: int
    borders: np.ndarray
    last_top: dict[str, float]

    @classmethod
    def read(cls, answer: Mapping[str, Any], sent: str) -> "_Echo":
        text, said = text_of(answer), answer["choices"][0].get("logprobs")
        if not text.startswith(sent):
            raise LackingError("the server does not echo the prompt.")
        try:
            tokens = [str(token) for token in said["tokens"]]
            logs = np.array(said["token_logprobs"], dtype=float)  # None becomes NaN
            tops = said.get("top_logprobs") or [None]
            last_top = {str(t): float(log) for t, log in (tops[-1] or {}).items()}
            lengths = [len(token) for token in tokens]
            begins = [int(place) for place in said.get("text_offset") or ()]
            if logs.shape != (len(tokens),) or not tokens:
                raise ValueError
        except (*UNLIKE, AttributeError):
            raise LackingError(
                "the server echoes the prompt without its log-probabilities."
            ) from None
        if len(begins) != len(tokens):
            begins = [0, *np.cumsum(lengths).tolist()][:-1]
        count = len(tokens) - _is_written(answer, tokens[-1], sent, text[len(sent) :])
        # counted from the end: servers differ in whether a beginning token has
        # characters, and in how many a token has that holds a part of one
        borders = np.array([*begins, begins[-1] + lengths[-1]])[: count + 1]
        return cls(tokens, logs, count, borders - borders[-1] + len(sent), last_top)


def _is_written(answer: Mapping[str, Any], last: str, sent: str, written: str) -> bool:
    """Whether the last token listed is the server's own and not one that was sent."""
    is_plain = last.isascii() and bool(last)  # not a part of a character
    if written:
        if is_plain and written.isascii() and last.strip() != written.strip():
            raise LackingError(
                f"{MISPLACED} it wrote {written!r}, and the last it lists is {last!r}."
            )
        return True
    if is_plain:
        return not sent.endswith(last)
    usage = answer.get("usage")
    return isinstance(usage, dict) and bool(usage.get("completion_tokens"))
