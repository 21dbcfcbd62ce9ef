"""One sending after another: retries, time-outs, and what a failure is called."""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TYPE_CHECKING, Any

from oracles.errors import ModelError
from oracles.remote.endpoint import Endpoint
from oracles.remote.tally import Tally
from oracles.remote.turns import Stopped

if TYPE_CHECKING:
    import httpx2

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0  # between retries, unless the server asks for more
LONGEST_HOLD_SECONDS = 300.0  # a server that asks for more is not waited for
QUOTED = 300  # characters of a server's own words in a message


class RemoteError(ModelError):
    """A server did not answer, or not with what was asked for.

    Attributes:
        status: of its HTTP answer, or None if there was none or it was not an error.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class _Failure:
    """Why one sending of a request brought no answer."""

    message: str
    status: int | None = None
    is_transient: bool = True
    wait_seconds: float | None = None


class Session:
    """Connections to an endpoint; threads may share one.

    Attributes:
        stop: set it to have requests end that are waiting to be sent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tally: Tally,
        http: "httpx2.Client",
        key: str,
        stop: Event,
    ) -> None:
        self._endpoint, self._tally = endpoint, tally
        self._http, self._key = http, key
        self.stop = stop

    def ask(
        self, path: str, body: Mapping[str, Any], *, goes_on: bool = False
    ) -> dict[str, Any]:
        """The server's answer to a request, sent again where that may help.

        Args:
            path: after the base URL, with its slash.
            body: fields of the request; the model's name is added.
            goes_on: it completes an ablation of which a part has been paid for, and so
                is sent even when the session was stopped.

        Raises:
            RemoteError: the server did not answer; nothing in it leads to the key.
            InputError: no request is left.
            Stopped: the session was stopped before the request was sent.
        """
        attempt = 0
        while True:
            self._endpoint.turns.take(Event() if goes_on else self.stop)
            self._tally.add_request()
            answer = self._send(path, body)
            if not isinstance(answer, _Failure):
                self._tally.add(answer)
                return answer
            if not answer.is_transient or attempt == self._endpoint.max_retries:
                tries = f" (sent {attempt + 1} times)" if attempt else ""
                raise RemoteError(answer.message + tries, answer.status)
            self._wait(answer, attempt)
            attempt += 1

    def _wait(self, failure: _Failure, attempt: int) -> None:
        """Hold everyone for as long as the server asks, and this request for more."""
        asked = failure.wait_seconds or 0.0
        self._endpoint.turns.hold(asked)
        doubled = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS)
        # a server may ask for no wait at all, and again and again
        seconds = max(asked * random.uniform(1, 1.25), doubled * random.uniform(0.5, 1))
        if self.stop.wait(seconds):
            raise Stopped

    def _send(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | _Failure:
        """One sending.

        Errors become values here: those of the HTTP library carry the request, and
        with it the key.
        """
        import httpx2

        url = self._endpoint.base_url + path
        fields = {"model": self._endpoint.model, **body, **self._endpoint.extra}
        sent = {name: value for name, value in fields.items() if value is not None}
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        late = time.monotonic() + self._endpoint.timeout_seconds
        try:
            with self._http.stream("POST", url, json=sent, headers=headers) as reply:
                self._tally.is_reached = True
                content = b""
                for part in reply.iter_bytes():
                    content += part
                    if time.monotonic() > late:  # each part restarts httpx's clock
                        raise httpx2.ReadTimeout("too slow")
                return self._understood(url, reply, content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return self._unconnected(str(error) or "no answer in time")
        except httpx2.TimeoutException:
            limit = f"{self._endpoint.timeout_seconds:g} seconds"
            return _Failure(f"{url} did not answer within {limit}.")
        except (httpx2.HTTPError, OSError) as error:
            words = self._quoted(f"{type(error).__name__}: {error}")
            return _Failure(f"the connection to {url} failed ({words}).")

    def _unconnected(self, reason: str) -> _Failure:
        """No connection: to wait helps only where there has been one before."""
        url, words = self._endpoint.base_url, self._quoted(reason)
        if self._tally.is_reached:
            return _Failure(f"there is no connection to {url} any more ({words}).")
        return _Failure(
            f"there is no server at {url} ({words}). Start it, or check the address: "
            "base_url, or --endpoint on the command line, up to and including /v1.",
            is_transient=False,
        )

    def _understood(
        self, url: str, reply: "httpx2.Response", content: bytes
    ) -> dict[str, Any] | _Failure:
        """The JSON object that was answered, or what is wrong with the answer."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        status = reply.status_code
        if status == 200 and isinstance(answer, dict) and _has_choices(answer):
            return answer
        text = content.decode(errors="replace")
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            text = str(error.get("message", text))
            if status == 200:  # some routers put the status into the body
                code = error.get("code")
                status = code if isinstance(code, int) else 500
            if error.get("code") == "insufficient_quota":  # 429, but not of haste
                return _Failure(f"{url}: {self._quoted(text)}", status, False)
        if status == 200:
            return _Failure(
                f"{url} answered what is not a completion: {self._quoted(text)!r}."
            )
        return self._refused(url, status, text, _retry_after(reply.headers))

    def _refused(
        self, url: str, status: int, text: str, wait: float | None
    ) -> _Failure:
        variable = self._endpoint.key_variable
        if status in (401, 403):  # not quoted: servers repeat parts of the key
            way = f"Check the key in {variable}" if self._key else f"Set {variable}"
            return _Failure(f"{url} refused access ({status}). {way}.", status, False)
        message = f"{url} answered status {status}: {self._quoted(text)}"
        if wait is not None and wait > LONGEST_HOLD_SECONDS:
            message += f" It asks to wait {wait:.0f} seconds; run again after that."
            return _Failure(message, status, False)
        is_transient = status in (408, 429) or status >= 500
        return _Failure(message, status, is_transient, wait)

    def _quoted(self, text: str) -> str:
        """A server's words, cut short and without the key."""
        text = text.replace(self._key, "[key]") if self._key else text
        return text if len(text) <= QUOTED else text[:QUOTED] + "..."


def _has_choices(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return False
    return bool(choices) and all(isinstance(choice, dict) for choice in choices)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; it says them, or a date."""
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
