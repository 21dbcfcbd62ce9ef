"""The oracle of a model behind a server, and what asking it will cost."""

import argparse
import json
import sys
from functools import partial
from typing import Any

from oracles import InputError, Oracle
from spex.registry import default_budget

LIMITS = ("key_variable", "max_requests", "concurrency", "requests_per_minute")
SAMPLING = ("draws", "temperature", "max_answer_tokens")
ENDPOINT_ONLY = ("api", *LIMITS, "timeout", "extra", *SAMPLING, "prices")
"""Options that mean nothing for a model on this machine."""

MEANINGLESS = {
    "completions": SAMPLING,
    "chat": ("value", "per_token", *SAMPLING),
    "sampled": ("against", "choice", "per_token"),
}
"""What is asked over an endpoint -> options that mean nothing for it."""


def remote_oracle(prompt: Any, options: argparse.Namespace) -> Oracle:
    """Of a prompt and the server that the options name; first says what it will cost.

    Args:
        prompt: what is ablated, made without a tokenizer.
        options: of `spex explain`.

    Raises:
        InputError: options that cannot be used.
        RemoteError: the server does not answer.
    """
    from oracles.remote import Prices

    endpoint = _endpoint(options)
    budget = options.budget or default_budget(len(prompt.players))
    prices = Prices(*options.prices) if options.prices else None
    beforehand = str(_estimate(prompt, options, budget, prices))
    _say(options, f"{beforehand}; and up to 3 requests first to try the server")
    oracle = _asking(prompt, endpoint, options)
    counted = str(oracle.estimate(budget, prices))
    if counted != beforehand:
        _say(options, f"{counted}, as the server counts")
    return oracle


def _say(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        print(f"spex: {line}", file=sys.stderr, flush=True)


def _endpoint(options: argparse.Namespace) -> Any:
    from oracles.remote import Endpoint

    limits = _given(options, LIMITS)
    if options.timeout is not None:
        limits["timeout_seconds"] = options.timeout
    return Endpoint(
        model=options.model,
        base_url=options.endpoint,
        extra=dict(map(_field, options.extra)),
        **limits,
    )


def _asking(prompt: Any, endpoint: Any, options: argparse.Namespace) -> Any:
    from oracles.remote import chat_oracle, completions_oracle, sampled_oracle

    target, against = options.target, options.against
    if options.api == "completions":
        asked = {"continuation": target, "alternative": against}
        asked |= {"choices": options.choice, "per_token": options.per_token}
        return completions_oracle(prompt, endpoint, value=options.value, **asked)
    if options.api == "sampled":
        settings = _given(options, (*SAMPLING, "value"))
        return sampled_oracle(prompt, endpoint, answer=target, **settings)
    asked = {"answer": target, "alternative": against, "choices": options.choice}
    return chat_oracle(prompt, endpoint, **asked)


def _estimate(
    prompt: Any, options: argparse.Namespace, budget: int, prices: Any
) -> Any:
    """Before anything is sent, the target perhaps being the server's to say."""
    from oracles.remote.estimate import estimate_of
    from oracles.remote.messages import write_chats
    from oracles.remote.sampled import ANSWER_TOKENS

    write, requests, tokens = partial(write_chats, prompt), 1, 1
    if options.api == "completions":
        write = prompt.write_all
        requests = len(options.choice) or (1 if options.against is None else 2)
        tokens = requests
    elif options.api == "sampled":
        requests = options.draws or 1
        tokens = requests * (options.max_answer_tokens or ANSWER_TOKENS)
    return estimate_of(
        write,
        len(prompt.players),
        budget,
        num_requests=requests,
        num_answer_tokens=tokens,
        prices=prices,
    )


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that were given; for others the library has defaults."""
    chosen = {name: getattr(options, name) for name in names}
    return {name: value for name, value in chosen.items() if value is not None}


def _field(text: str) -> tuple[str, Any]:
    """A field of requests from KEY=VALUE, the value JSON or else a text."""
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise InputError(
            f"--extra {text} is no KEY=VALUE. Give a field of the request, such as "
            "reasoning_effort=low or top_p=0.9."
        )
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
