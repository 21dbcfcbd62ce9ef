"""Against llama-cpp-python's server, serving the embedded model `facts`.

Skipped where that is not installed: pip install "spex-explain[llama]".
"""

import copy
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest

import spex
from oracles import Ledger, Oracle
from oracles.features import CausalOracle, LoadedModel, load_model
from oracles.features.prompts.chat import chat_prompt
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import (
    Endpoint,
    RemoteError,
    chat_oracle,
    completions_oracle,
    sampled_oracle,
)
from oracles.testing import OracleContract

from .facts_gguf import CHAT

missing = [
    name for name in ("llama_cpp", "gguf") if importlib.util.find_spec(name) is None
]
if missing:
    pytest.skip(
        f"{' and '.join(missing)} not installed; pip install 'spex-explain[llama]'",
        allow_module_level=True,
    )

STORY = (
    "Maria works at the bakery. The weather was mild. The bakery is in Oslo. "
    "Tom works at the school. The school is in Lima."
)
QUESTION = "Question: In which city does Maria work? Answer:"
TOLERANCE_NATS = 0.01  # llama.cpp keeps keys and values in 16 bits, and tabulates GELU
MASKS = np.array([[i >> j & 1 for j in range(5)] for i in range(32)], dtype=bool)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _settings(folder: Path, port: int) -> Path:
    """Serves `facts`, and as `headless` the same without a beginning token."""
    from .facts_gguf import write_gguf

    models = []
    for name in ("facts", "headless"):
        write_gguf(folder / f"{name}.gguf", starts_with_bos=name == "facts")
        model = {"model": str(folder / f"{name}.gguf"), "model_alias": name}
        threads = {"n_threads": 1, "n_threads_batch": 1}
        models.append({**model, **threads, "n_ctx": 512, "logits_all": True})
    path = folder / "settings.json"
    path.write_text(json.dumps({"host": "127.0.0.1", "port": port, "models": models}))
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("llama"), _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--config_file"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(_settings(folder, port))], stdout=log, stderr=log
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", process, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(url, trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("facts", device="cpu")


@pytest.fixture
def endpoint(url: str) -> Endpoint:
    return Endpoint(model="facts", base_url=url, concurrency=2, max_retries=1)


@pytest.fixture
def prompt() -> TextPrompt:
    return text_prompt(STORY, suffix=QUESTION)


class Contract(OracleContract):
    tolerance = TOLERANCE_NATS

    @pytest.fixture(autouse=True)
    def _use(self, endpoint: Endpoint, prompt: TextPrompt) -> None:
        self.endpoint, self.prompt = endpoint, prompt


class TestCompletions(Contract):
    def make_oracle(self) -> Oracle:
        return completions_oracle(self.prompt, self.endpoint, continuation="Oslo")


class TestChat(Contract):
    def make_oracle(self) -> Oracle:
        return chat_oracle(self.prompt, self.endpoint, answer="Oslo")


class TestSampled(Contract):
    def make_oracle(self) -> Oracle:
        return sampled_oracle(self.prompt, self.endpoint, max_answer_tokens=4)


def test_echoed_log_probabilities_agree_with_the_local_models(
    endpoint: Endpoint, prompt: TextPrompt, loaded: LoadedModel
) -> None:
    for continuation in ("Oslo", "Oslo. Tom works"):
        remote = completions_oracle(prompt, endpoint, continuation=continuation)
        local = CausalOracle(prompt, loaded, continuation=continuation)
        masks = MASKS[:: 3 if continuation == "Oslo" else 10]
        found, expected = remote.evaluate(masks), local.evaluate(masks)
        assert np.ptp(expected) > 4
        assert np.abs(found - expected).max() < TOLERANCE_NATS


@pytest.mark.parametrize(
    "template",
    [
        CHAT,
        # a beginning before every message, as Llama 2 has it
        "{% for m in messages %}{{ bos_token }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",  # none
    ],
)
def test_a_chat_template_has_one_beginning_however_the_server_adds_its_own(
    endpoint: Endpoint, prompt: TextPrompt, loaded: LoadedModel, template: str
) -> None:
    """The server puts one before every prompt, whatever it is told."""
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.chat_template = template
    system = {"role": "system", "content": "The sky is blue."}
    chat = chat_prompt([system, {"role": "user", "content": prompt}], tokenizer)
    remote = completions_oracle(chat, endpoint, continuation="Oslo")
    begins = template == CHAT or "bos_token" in template
    assert ("beginning" in remote.description) == begins
    if not begins:  # the server's own cannot be kept away, nor is it one too many
        return
    found = remote.evaluate(MASKS[::5])
    local = CausalOracle(
        chat, replace(loaded, tokenizer=tokenizer), continuation="Oslo"
    )
    expected = local.evaluate(MASKS[::5])
    assert np.ptp(expected) > 1
    assert np.abs(found - expected).max() < TOLERANCE_NATS


def test_tokens_of_an_answer_add_up_and_are_the_local_tokenizers(
    endpoint: Endpoint, prompt: TextPrompt, loaded: LoadedModel
) -> None:
    words = "Oslo, said Zoë"
    each = completions_oracle(prompt, endpoint, continuation=words, per_token=True)
    whole = completions_oracle(prompt, endpoint, continuation=words)
    encoded = loaded.tokenizer(" " + words, return_offsets_mapping=True)
    ends = {end for _, end in encoded["offset_mapping"] if end}
    assert len(each.outputs) == len(ends)
    assert "".join(name.split("'")[1] for name in each.outputs) == " " + words
    totals = each.evaluate(MASKS[:4]).sum(axis=1, keepdims=True)
    assert np.allclose(totals, whole.evaluate(MASKS[:4]), atol=TOLERANCE_NATS)


def test_chat_log_odds_agree_with_the_local_models(
    endpoint: Endpoint, prompt: TextPrompt, loaded: LoadedModel
) -> None:
    """The served chat template joins the messages, so the prompts are the same."""
    remote = chat_oracle(prompt, endpoint, answer="Oslo", alternative="unknown")
    found = remote.evaluate(MASKS[::3])
    local = CausalOracle(prompt, loaded, continuation="Oslo", alternative="unknown")
    expected = local.evaluate(MASKS[::3])
    is_bound = remote.account["bounds"]
    agree = np.abs(found - expected) < TOLERANCE_NATS
    assert agree.mean() >= 1 - is_bound
    assert is_bound < 0.5
    others = chat_oracle(prompt, endpoint, answer="Oslo").evaluate(MASKS[-1:])
    odds = CausalOracle(prompt, loaded, continuation="Oslo", value="log-odds")
    assert others == pytest.approx(odds.evaluate(MASKS[-1:]), abs=TOLERANCE_NATS)


def test_sampled_answers_of_a_sure_model_say_which_sentences_it_needs(
    endpoint: Endpoint, prompt: TextPrompt
) -> None:
    oracle = sampled_oracle(
        prompt, endpoint, value="contains", draws=2, answer="Oslo", max_answer_tokens=2
    )
    one_less = ~np.eye(5, dtype=bool)
    values = oracle.evaluate(one_less)[:, 0]
    assert values[[1, 3, 4]].min() > 0.4
    assert values[[0, 2]].max() < values[[1, 3, 4]].min()
    assert oracle.noise is not None
    assert 0 <= oracle.noise[0] < 0.5


def test_first_tokens_are_listed_even_where_the_model_would_end_its_answer(
    endpoint: Endpoint,
) -> None:
    prompt = text_prompt(STORY, suffix=QUESTION + " Oslo")
    oracle = chat_oracle(prompt, endpoint, answer='"')
    assert oracle.account["requests"] == 2
    assert oracle.evaluate(MASKS[-1:])[0, 0] < -5


def test_a_server_whose_log_probabilities_are_one_off_is_found_out(
    url: str, prompt: TextPrompt
) -> None:
    """As they are for models without a beginning token: llama-cpp-python #1983."""
    headless = Endpoint(model="headless", base_url=url)
    with pytest.raises(RemoteError, match=r"beside the tokens.*use chat_oracle"):
        completions_oracle(prompt, headless, continuation="Oslo")
    assert chat_oracle(prompt, headless, answer="Oslo").evaluate(MASKS[-1:])[0, 0] > 1


def test_a_prompt_beyond_the_models_context_is_refused_with_the_counts(
    endpoint: Endpoint,
) -> None:
    long = text_prompt(STORY + " It rained. It was cold again." * 80, suffix=QUESTION)
    with pytest.raises(RemoteError, match=r"512 tokens.*\d{3,4}"):
        completions_oracle(long, endpoint, continuation="Oslo")


def test_an_explanation_finds_the_pair_of_sentences_that_the_answer_needs(
    endpoint: Endpoint, prompt: TextPrompt, tmp_path: Path
) -> None:
    oracle = completions_oracle(prompt, endpoint, continuation="Oslo")
    with Ledger(tmp_path / "ledger") as ledger:
        explanation = spex.explain(oracle, budget=32, ledger=ledger)
        again = spex.explain(oracle, budget=32, ledger=ledger)
    effects = {
        players: abs(float(np.ravel(value)[0]))
        for players, value in explanation.fourier.to_dict().items()
        if players
    }
    assert set(max(effects, key=lambda players: effects[players])) <= {0, 2}
    pairs = {players: v for players, v in effects.items() if len(players) == 2}
    assert max(pairs, key=lambda players: pairs[players]) == (0, 2)
    assert again.provenance.paid == 0
