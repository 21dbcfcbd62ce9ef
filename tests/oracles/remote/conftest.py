"""Servers that the tests talk to: real processes, over sockets."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import Endpoint

KEY = "sk-a-secret-that-must-not-be-written"
STORY = (
    "Maria works at the bakery. The bakery is in Oslo. Tom works at the school. "
    "The school is in Lima. It rained. Oslo is cold."
)
QUESTION = "In which city does Maria work? Answer:"


class Server:
    """A running cache_server.py."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self._http = httpx2.Client(trust_env=False)
        self.url = f"{self._root}/v1"

    def set(self, **settings: Any) -> None:
        """Set faults and abilities, and forget what arrived."""
        self._http.post(f"{self._root}/control", json=settings)

    def log(self) -> dict[str, Any]:
        """What arrived: requests, most at a time, how many were answered."""
        return self._http.get(f"{self._root}/log").json()

    def requests(self) -> list[dict[str, Any]]:
        return self.log()["requests"]

    def endpoint(self, **settings: Any) -> Endpoint:
        return Endpoint(model="cache", base_url=self.url, **settings)

    def close(self) -> None:
        self._http.close()


@contextmanager
def running_server() -> Iterator[Server]:
    """One in a process of its own, gone afterwards."""
    script = Path(__file__).with_name("cache_server.py")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    server = Server(int(process.stdout.readline()))
    yield server
    server.close()
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server(running: Server) -> Server:
    running.set()
    return running


@pytest.fixture
def prompt() -> TextPrompt:
    return text_prompt(STORY, segments="sentence", suffix=QUESTION)


def everything_in(value: object) -> str:
    """JSON of what JSON can hold, for a search."""
    return json.dumps(value, ensure_ascii=False, default=repr)
