"""Where a remote model is, and how hard it may be asked."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from oracles.errors import InputError
from oracles.remote.turns import Turns

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server, a model on it, and limits on what is sent to it.

    The key is read from the environment when a request is sent, and goes nowhere else:
    no attribute, description, fingerprint, ledger or message holds it.

    Attributes:
        model: the model's name as the server knows it.
        base_url: up to and including the version, such as "http://localhost:8000/v1".
        key_variable: environment variable that holds the key; if it is not set, none is
            sent, which suits a server of one's own.
        max_requests: all oracles made with this endpoint together never send more,
            probes and retries included. A run that needs more is refused before it
            starts. Another endpoint counts anew, and so does another process; what was
            paid for is in the ledger, and is not asked about again.
        concurrency: requests under way at a time.
        requests_per_minute: at most so many are sent by all of these oracles, evenly
            spaced; None for no limit.
        timeout_seconds: longest wait for one whole answer.
        max_retries: how often one request is sent again after a lost connection, a
            time-out, an answer that is not JSON, or status 408, 429 or 5xx. Waits
            double from half a second, with jitter; a longer Retry-After is honoured.
        extra: further fields of every request, such as a provider's own; None takes a
            field out. They are part of what is asked, and so of the fingerprint.
        turns: counts and spaces the requests.

    Raises:
        InputError: a URL or limit that cannot be used.

    >>> Endpoint(model="facts", base_url="http://localhost:8000/v1/").base_url
    'http://localhost:8000/v1'
    """

    model: str
    base_url: str = OPENAI
    key_variable: str = "OPENAI_API_KEY"
    max_requests: int = 10_000
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_seconds: float = 60.0
    max_retries: int = 5
    extra: Mapping[str, Any] = field(default_factory=dict)
    turns: Turns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("model is empty. Name a model that the server knows.")
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        least = {"max_requests": 1, "concurrency": 1, "max_retries": 0}
        for name, allowed in least.items():
            if getattr(self, name) < allowed:
                raise InputError(
                    f"{name}={getattr(self, name)}; the least is {allowed}."
                )
        for name in ("requests_per_minute", "timeout_seconds"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be above 0.")
        try:
            json.dumps(self.extra)
        except (TypeError, ValueError) as error:
            raise InputError(f"extra cannot be sent as JSON: {error}.") from None
        turns = Turns(self.max_requests, self.requests_per_minute)
        object.__setattr__(self, "turns", turns)

    @property
    def description(self) -> dict[str, Any]:
        """What tells one model from another, JSON-ready: its name, server and extra."""
        return {
            "model": self.model,
            "base_url": self.base_url,
            "extra": dict(self.extra),
        }

    def read_key(self) -> str:
        """The key, or "" if its variable is not set.

        Raises:
            InputError: what the variable holds cannot be a key.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                f"the environment variable {self.key_variable} holds characters that "
                "no key has. Set it again."
            )
        return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_plain = False
    if not is_plain:
        raise InputError(
            f"base_url={url!r} is not the URL of a server. It looks like "
            "http://localhost:8000/v1."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        # not shown: what stands there may be a password
        raise InputError(
            f"base_url for {parts.hostname} holds a user, a query or a fragment. Leave "
            "them out, and put the key into the environment variable that key_variable "
            "names."
        )
    return url.rstrip("/")
