"""What is asked of a remote model, and what its answers are taken to mean.

Expected values come from the served model's own definition, in cache_server.py.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import InputError, Ledger, run
from oracles.features.prompts.chat import chat_prompt
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import (
    Endpoint,
    Prices,
    RemoteError,
    RemoteOracle,
    chat_oracle,
    completions_oracle,
    sampled_oracle,
)
from oracles.remote.listed import ROUNDING, against_all_others
from oracles.remote.listed import log_probability as listed_log_probability
from oracles.remote.similarity import contains, equals
from oracles.remote.wire import (
    begins_twice,
    check_aligned,
    echoed_tail,
    first_tokens,
    prompt_tokens,
    texts_of,
)
from oracles.testing import OracleContract

from .cache_server import END, UNKNOWN, next_words, split
from .conftest import STORY, Server

MASKS = np.random.default_rng(0).random((12, 6)) < 0.5
MASKS[0], MASKS[1] = True, False


def log_probability(context: str, continuation: str) -> np.ndarray:
    """Of each word of a continuation, from the served model itself."""
    words, found = split(continuation), []
    for word in words:
        found.append(next_words(context).get(" " + word.strip(), UNKNOWN))
        context += word
    return np.array(found)


def pieces_of(oracle: RemoteOracle) -> list[str]:
    """The tokens that a per-token oracle's outputs name."""
    return [name.split("'")[1] for name in oracle.outputs]


class Contract(OracleContract):
    @pytest.fixture(autouse=True)
    def _use(self, server: Server, prompt: TextPrompt) -> None:
        self.server, self.prompt = server, prompt


class TestCompletions(Contract):
    def make_oracle(self) -> RemoteOracle:
        return completions_oracle(
            self.prompt, self.server.endpoint(), continuation="is in", per_token=True
        )


class TestChat(Contract):
    def make_oracle(self) -> RemoteOracle:
        return chat_oracle(self.prompt, self.server.endpoint(), answer="Oslo")


class TestSampled(Contract):
    def make_oracle(self) -> RemoteOracle:
        return sampled_oracle(self.prompt, self.server.endpoint(), answer="is", draws=3)


def test_a_continuation_has_its_log_probability_whole_per_token_and_as_odds(
    server: Server, prompt: TextPrompt
) -> None:
    endpoint, words = server.endpoint(), "is in Oslo"
    expected = np.array(
        [log_probability(text, " " + words) for text in prompt.write_all(MASKS)]
    )
    whole = completions_oracle(prompt, endpoint, continuation=words)
    each = completions_oracle(prompt, endpoint, continuation=words, per_token=True)
    odds = completions_oracle(prompt, endpoint, continuation=words, value="log-odds")
    total = expected.sum(axis=1)
    assert each.outputs == (
        "log-probability of ' is', token 1 of 3",
        "log-probability of ' in', token 2 of 3",
        "log-probability of ' Oslo', token 3 of 3",
    )
    assert np.allclose(each.evaluate(MASKS), expected)
    assert np.allclose(whole.evaluate(MASKS)[:, 0], total)
    assert np.allclose(
        odds.evaluate(MASKS)[:, 0], total - np.log1p(-np.exp(total)), atol=1e-9
    )


def test_an_alternative_takes_two_requests_and_gives_the_difference(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = completions_oracle(
        prompt, server.endpoint(), continuation="Oslo", alternative="Lima"
    )
    server.set()
    contexts = prompt.write_all(MASKS)
    expected = [
        (log_probability(c, " Oslo") - log_probability(c, " Lima"))[0] for c in contexts
    ]
    assert np.allclose(oracle.evaluate(MASKS)[:, 0], expected)
    assert len(server.requests()) == 2 * len(set(contexts))


def test_choices_share_all_probability(server: Server, prompt: TextPrompt) -> None:
    endpoint, choices = server.endpoint(), ("Oslo", "Lima", "unknown")
    logs = np.array(
        [
            [log_probability(text, f" {choice}")[0] for choice in choices]
            for text in prompt.write_all(MASKS)
        ]
    )
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    odds = completions_oracle(prompt, endpoint, choices=choices)
    server.set()
    assert np.allclose(odds.evaluate(MASKS), np.log(shares / (1 - shares)))
    assert len(server.requests()) == 3 * len(set(prompt.write_all(MASKS)))
    plain = completions_oracle(prompt, endpoint, choices=choices, value="probability")
    assert np.allclose(plain.evaluate(MASKS), shares)


def test_by_default_the_continuation_is_what_the_model_says(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = completions_oracle(prompt, server.endpoint())
    likeliest = max(
        next_words(prompt.write_all(MASKS[:1])[0]).items(), key=lambda p: p[1]
    )
    assert oracle.description["scored"] == [likeliest[0]]
    assert len(server.requests()) == 3
    assert oracle.account == {"requests": 3}


@pytest.mark.parametrize("make", [completions_oracle, chat_oracle, sampled_oracle])
def test_an_answer_written_elsewhere_is_never_written_again(
    server: Server, prompt: TextPrompt, make: object
) -> None:
    name = "continuation" if make is completions_oracle else "answer"
    oracle = make(prompt, server.endpoint(), **{name: "Oslo"})  # type: ignore[operator]
    oracle.evaluate(MASKS)
    if make is not sampled_oracle:
        assert all(r["body"]["max_tokens"] == 1 for r in server.requests())
    else:
        asked = len(set(prompt.write_all(MASKS))) + 1  # whether answers have a text
        assert len(server.requests()) == asked
    assert oracle.description[name] == "Oslo"


@pytest.mark.parametrize(
    ("text", "words", "outputs"),
    [
        ("大阪は寒い。東京は暑い。", "大阪。東京", [" 大阪", "。", "東京"]),
        ("Été. Hiver.", "été 🙂 né", [" été", " 🙂", " né"]),
    ],
)
def test_any_script_is_split_where_the_server_splits_it(
    server: Server, text: str, words: str, outputs: list[str]
) -> None:
    prompt = text_prompt(text, suffix="?")
    oracle = completions_oracle(
        prompt, server.endpoint(), continuation=words, per_token=True
    )
    assert pieces_of(oracle) == outputs


def test_a_token_over_the_border_counts_for_the_output_in_which_it_ends(
    server: Server,
) -> None:
    """Without a space, the served model reads prompt and continuation as one word."""
    prompt = text_prompt("Oslo is cold. Oslo is wet.", suffix="Say Os_")
    oracle = completions_oracle(
        prompt, server.endpoint(), continuation="lo is", per_token=True
    )
    assert pieces_of(oracle) == ["lo", " is"]
    intact = prompt.write_all(np.ones((1, 2), bool))[0]
    context = intact.removesuffix("Os_")
    found = oracle.evaluate(np.ones((1, 2), bool))[0]
    assert np.allclose(found, log_probability(context, "Os_lo is"))


def test_tokens_split_otherwise_count_where_they_end(server: Server) -> None:
    prompt = text_prompt("In words. It rained.", suffix="No letters, please:")
    oracle = completions_oracle(
        prompt, server.endpoint(), continuation="Oslo is", per_token=True
    )
    assert pieces_of(oracle) == [" Oslo", " is"]
    found = oracle.evaluate(np.array([[True, True], [False, True]]))
    intact = prompt.write_all(np.ones((1, 2), bool))[0]
    assert np.allclose(found[0], log_probability(intact, " Oslo is"))
    # two outputs still: of four letters and of two
    context, steps = "It rained. No letters, please:", []
    for letter in (" O", "s", "l", "o", " i", "s"):
        steps.append(next_words(context).get(" " + letter.strip(), UNKNOWN))
        context += letter
    assert np.allclose(found[1], [sum(steps[:4]), sum(steps[4:])])


@pytest.mark.parametrize(
    ("tokens", "offsets", "written", "counted"),
    [
        (["Zoë", " Oslo", " is"], [0, 3, 8], " is", 1),  # the model goes on
        (["Zoë", " Oslo"], [0, 3], "", 0),  # it ends: llama-cpp-python
        (["Zoë", " Oslo", "</s>"], [0, 3, 8], "", 1),  # it ends: vLLM
        (["Zoë", " Oslo", ""], [0, 3, 8], "", 1),  # the same, special tokens left out
        (["<s>", "Zoë", " Oslo", " is"], [0, 3, 6, 11], " is", 1),  # a beginning listed
        (
            ["Zo", "�", "�", " Oslo", " is"],
            [0, 2, 3, 4, 9],
            " is",
            1,
        ),  # half characters
        (["Zoë", " Oslo", " is"], None, " is", 1),  # no offsets
    ],
)
def test_a_tail_is_found_however_a_server_lists_tokens(
    tokens: list[str], offsets: list[int] | None, written: str, counted: int
) -> None:
    logs = [None, *np.linspace(-9, -1, len(tokens) - 1)]
    said = {"tokens": tokens, "token_logprobs": logs, "text_offset": offsets}
    choice = {"text": "Zoë Oslo" + written, "logprobs": said}
    answer = {"choices": [choice], "usage": {"completion_tokens": counted}}
    tail = echoed_tail(answer, "Zoë Oslo", 3)
    assert tail.ends.tolist() == [5]
    assert tail.log_probabilities.tolist() == [logs[tokens.index(" Oslo")]]


@pytest.mark.parametrize(
    ("sent", "tokens", "counted", "is_twice"),
    [
        ("<s>a b", ["<s>", "a", " b"], 3, False),  # vLLM, told to add none
        ("<s>a b", ["<s>", "<s>", "a", " b"], 4, True),  # one that lists both
        ("<s>a b", ["a", " b"], 4, True),  # llama-cpp-python lists neither
        ("<s>a b", ["a", " b"], 3, False),  # the same, of a model that is given none
        ("<s>a<s> b", ["a", " b"], 4, False),  # one for each message
        ("<s>a<s> b", ["a", " b"], 5, True),
        ("<s>a b", ["<s>", "a", " b"], None, False),  # a server that counts nothing
    ],
)
def test_a_second_beginning_is_found_whether_a_server_lists_or_counts_it(
    sent: str, tokens: list[str], counted: int | None, is_twice: bool
) -> None:
    said = {"tokens": [*tokens, " c"], "token_logprobs": [-1.0] * (len(tokens) + 1)}
    answer = {
        "choices": [{"text": sent + " c", "logprobs": said}],
        "usage": {"prompt_tokens": counted, "completion_tokens": 1},
    }
    assert begins_twice(answer, sent, "<s>") == is_twice


def test_chat_log_odds_are_the_models_own(server: Server, prompt: TextPrompt) -> None:
    endpoint = server.endpoint()
    others = chat_oracle(prompt, endpoint, answer="Oslo", top=40).evaluate(MASKS)
    lima = chat_oracle(prompt, endpoint, answer="Oslo", alternative="Lima", top=40)
    for context, versus_all, versus_lima in zip(
        prompt.write_all(MASKS), others[:, 0], lima.evaluate(MASKS)[:, 0], strict=True
    ):
        known = next_words(context)
        p = math.exp(known[" Oslo"])
        assert versus_all == pytest.approx(math.log(p / (1 - p)), abs=1e-5)
        assert versus_lima == pytest.approx(known[" Oslo"] - known[" Lima"])
    assert lima.account["bounds"] == 0


def test_a_token_that_is_not_listed_counts_with_a_bound_that_is_told(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = chat_oracle(prompt, server.endpoint(), answer=".", top=4)
    values = oracle.evaluate(MASKS)[:, 0]
    seen = []
    for context, value in zip(prompt.write_all(MASKS), values, strict=True):
        known = {t: p for t, p in next_words(context).items() if t != END}
        listed = sorted(known.values(), reverse=True)[:4]
        seen.append(known[" ."] >= listed[-1])
        p = math.exp(known[" ."])
        if known[" ."] > listed[-1]:
            assert value == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
        else:
            assert value >= math.log(p / (1 - p)) - 1e-4
    assert oracle.account["bounds"] == pytest.approx(0, abs=1)
    assert "not among those listed" in oracle.description["not_listed"]


@given(st.lists(st.floats(-12, 3), min_size=2, max_size=30), st.integers(1, 29))
def test_log_odds_from_a_list_are_exact_where_listed_and_bounds_elsewhere(
    logits: list[float], top: int
) -> None:
    raw = np.array(sorted(logits, reverse=True))
    logs = raw - np.logaddexp.reduce(raw)
    tokens = [f" t{i}" for i in range(len(logs))]
    listed = list(zip(tokens, logs.tolist(), strict=True))[:top]
    for token, value in zip(tokens, logs, strict=True):
        other = np.logaddexp.reduce(np.delete(logs, tokens.index(token)))
        exact = value - other
        found, is_bound = against_all_others(listed, token.strip())
        if token in dict(listed) and other > math.log(1e-3):
            assert not is_bound
            assert found == pytest.approx(exact, abs=3e-3)
        elif token not in dict(listed):
            assert is_bound
            assert found >= exact - 1e-6
    second, is_bound = listed_log_probability(listed, "t1")
    assert is_bound == (top < 2)
    assert second == pytest.approx(logs[1]) or is_bound
    assert second >= logs[1] - 1e-9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=6,
)
LIKE_ECHO = st.fixed_dictionaries(
    {},
    optional={
        "text": JSON | st.just("ab cd"),
        "message": JSON | st.fixed_dictionaries({"content": JSON}),
        "finish_reason": st.just("stop"),
        "logprobs": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "tokens": JSON | st.just(["ab", " c", "d"]),
                "token_logprobs": JSON | st.just([None, -1, -2.5]),
                "top_logprobs": JSON | st.just([{}, {}, {"d": -2.5}]),
                "text_offset": JSON | st.just([0, 2, 4]),
                "content": JSON | st.lists(st.fixed_dictionaries({"token": JSON})),
            },
        ),
    },
)


@given(LIKE_ECHO, JSON)
def test_answers_of_any_form_are_read_or_refused(choice: dict, usage: object) -> None:
    answer = {"choices": [choice], "usage": usage}
    for read in (
        lambda: echoed_tail(answer, "ab cd", 2).log_probabilities.sum(),
        lambda: check_aligned(answer, "ab cd"),
        lambda: first_tokens(answer, 20)[0][1],
        lambda: texts_of(answer) and prompt_tokens(answer),
    ):
        try:
            value = read()
        except RemoteError:
            continue
        assert value is None or math.isfinite(value)


def test_a_bound_is_the_last_listed_or_what_is_left_over() -> None:
    far = [("a", math.log(0.3)), ("b", math.log(0.2))]
    assert listed_log_probability(far, "c") == (pytest.approx(math.log(0.2)), True)
    near = [("a", math.log(0.9)), ("b", math.log(0.06))]
    assert listed_log_probability(near, "c") == (pytest.approx(math.log(0.04)), True)
    odds = pytest.approx(math.log(0.04 / 0.96))
    assert against_all_others(near, "c") == (odds, True)


def test_log_odds_stay_finite_where_the_list_has_all_there_is() -> None:
    value, is_bound = against_all_others([("yes", 0.0)], "yes")
    assert value == pytest.approx(-math.log(ROUNDING))
    assert is_bound
    value, is_bound = against_all_others([("yes", -1e-9), ("no", -20.7)], "yes")
    assert value == pytest.approx(20.7, abs=0.01)
    assert not is_bound


def test_white_space_around_a_token_does_not_tell_it_from_another() -> None:
    listed = [("yes", math.log(0.3)), (" yes", math.log(0.2)), ("no", math.log(0.25))]
    assert listed_log_probability(listed, "yes")[0] == pytest.approx(math.log(0.5))
    assert against_all_others(listed, "yes")[0] == pytest.approx(0, abs=1e-5)


def test_choices_of_a_chat_are_compared_from_one_request(
    server: Server, prompt: TextPrompt
) -> None:
    choices = ("Oslo", "Lima", "unknown")
    oracle = chat_oracle(prompt, server.endpoint(), choices=choices, top=40)
    contexts = prompt.write_all(MASKS)
    server.set()
    found = oracle.evaluate(MASKS)
    assert len(server.requests()) == len(set(contexts))
    logs = np.array([[next_words(c)[f" {w}"] for w in choices] for c in contexts])
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    assert np.allclose(found, np.log(shares / (1 - shares)))
    assert oracle.outputs[1] == "log-odds of 'Lima' among the choices"
    assert oracle.account["bounds"] == 0


def test_an_answer_that_is_not_listed_is_refused_with_what_is(
    server: Server, prompt: TextPrompt
) -> None:
    with pytest.raises(InputError, match=r"'Quito'.*' \.', ' is'.*sampled_oracle"):
        chat_oracle(prompt, server.endpoint(), answer="Quito")
    with pytest.raises(InputError, match="begin with the same token"):
        chat_oracle(prompt, server.endpoint(), answer="is it", alternative="is not")
    assert chat_oracle(prompt, server.endpoint(), answer="is it").outputs == (
        "log-odds of 'is' against all others",
    )


@pytest.mark.parametrize("cannot", [[], ["n"], ["many"]])
def test_sampled_answers_are_compared_and_their_noise_is_told(
    server: Server, prompt: TextPrompt, cannot: list[str]
) -> None:
    """Whether the server gives all draws at once, refuses that, or gives one."""
    server.set(cannot=cannot)
    settings = {"answer": "is", "value": "equals", "draws": 3}
    oracle = sampled_oracle(prompt, server.endpoint(), **settings)
    server.set(cannot=cannot)
    values = oracle.evaluate(MASKS)[:, 0]
    expected = []
    for context in prompt.write_all(MASKS):
        known = {t: p for t, p in next_words(context).items() if t != END}
        drawn = sorted(known, key=lambda t: -known[t])[:3]
        expected.append(sum(token == " is" for token in drawn) / 3)
    assert np.allclose(values, expected)
    assert len(set(expected)) > 1
    p = np.array(
        list(dict(zip(prompt.write_all(MASKS), expected, strict=True)).values())
    )
    noise = np.sqrt(np.mean(p * (1 - p) * 3 / 2) / 3)
    assert oracle.noise == pytest.approx([noise])
    each = 1 if not cannot else 3
    assert len(server.requests()) == each * len(p)
    assert oracle.estimate(100).requests == 100 * each


def test_the_original_answer_is_the_models_own_by_default(server: Server) -> None:
    prompt = text_prompt("Oslo Oslo no Oslo", segments="word", suffix="Oslo")
    oracle = sampled_oracle(prompt, server.endpoint())
    assert oracle.description["answer"] == "Oslo"
    assert oracle.description["temperature"] == 0
    assert oracle.evaluate(np.ones((1, 4), bool)) == 1
    assert oracle.noise is None
    with pytest.raises(InputError, match=r"intact prompt is '\.', without a word"):
        sampled_oracle(text_prompt(". . . .", segments="word"), server.endpoint())


def test_answers_are_compared_by_words() -> None:
    assert equals("Oslo!", "oslo") == 1
    assert equals("Oslo it is", "oslo") == 0
    assert contains("New Oslo City", "Oslo City") == 1
    assert contains("Osloer", "Oslo") == 0
    assert contains("東京都", "東京") == 1


def test_a_chat_is_sent_as_its_messages_and_other_prompts_as_one(
    server: Server, prompt: TextPrompt
) -> None:
    system = {"role": "system", "content": "Answer in one word."}
    chat = chat_prompt([system, {"role": "user", "content": prompt}])
    assert chat.players == prompt.players
    chat_oracle(chat, server.endpoint(), answer="is").evaluate(MASKS[1:2])
    chat_oracle(prompt, server.endpoint(), answer="is").evaluate(MASKS[1:2])
    sent = [request["body"]["messages"] for request in server.requests()]
    expected = [{"role": "user", "content": c} for c in prompt.write_all(MASKS[:2])]
    assert sent[:2] == [[system, message] for message in expected]
    assert sent[2:] == [[message] for message in expected]


class Rendered:
    """A text as a chat template would write it."""

    has_special_tokens = True

    def __init__(self, prompt: TextPrompt) -> None:
        self._prompt = prompt
        self.players, self.places = prompt.players, prompt.places
        self.description = prompt.description

    def write_all(self, masks: np.ndarray) -> list[str]:
        return [f"<s>[{text}]\n" for text in self._prompt.write_all(masks)]


def test_a_rendered_chat_keeps_its_end_and_gets_no_second_beginning(
    server: Server, prompt: TextPrompt
) -> None:
    completions_oracle(Rendered(prompt), server.endpoint(), continuation="is")
    completions_oracle(prompt, server.endpoint(), continuation="is")
    bodies = [request["body"] for request in server.requests()]
    assert [body["prompt"][-5:] for body in bodies] == [
        "er:]\n",
        ":]\nis",
        "swer:",
        "r: is",
    ]
    assert [body.get("add_special_tokens") for body in bodies] == [
        False,
        False,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("make", "cannot", "message"),
    [
        (completions_oracle, "echo", "does not echo the prompt.*use chat_oracle"),
        (completions_oracle, "prompt", "without its log-prob.*use chat_oracle"),
        (completions_oracle, "order", "beside the tokens.*use chat_oracle"),
        (chat_oracle, "logprobs", "no log-probabilities.*use sampled_oracle"),
    ],
)
def test_a_server_that_cannot_do_it_is_found_out_and_the_next_way_is_named(
    server: Server, prompt: TextPrompt, make: object, cannot: str, message: str
) -> None:
    server.set(cannot=[cannot])
    with pytest.raises(RemoteError, match=message):
        make(prompt, server.endpoint())  # type: ignore[operator]
    assert len(server.requests()) == 1


@pytest.mark.parametrize(
    ("make", "name"), [(completions_oracle, "chat"), (chat_oracle, "sampled")]
)
def test_a_path_that_is_not_there_names_the_next_way(
    server: Server, prompt: TextPrompt, make: object, name: str
) -> None:
    endpoint = Endpoint(model="m", base_url=server.url + "/nothing")
    with pytest.raises(RemoteError, match=f"404.*use {name}_oracle"):
        make(prompt, endpoint)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (completions_oracle, {"continuation": " "}, "continuation is empty"),
        (completions_oracle, {"value": "logit"}, "'logit' is not known"),
        (
            completions_oracle,
            {"alternative": "Lima", "per_token": True},
            "an alternative is compared as a whole",
        ),
        (chat_oracle, {"answer": " "}, "is empty"),
        (chat_oracle, {"choices": ["yes", "yes"]}, "two or more different"),
        (chat_oracle, {"choices": ["yes", "no"], "answer": "yes"}, "Leave out"),
        (sampled_oracle, {"answer": " "}, "answer=' ' has no word"),
        (sampled_oracle, {"value": "likeness"}, "'likeness' is not known"),
        (sampled_oracle, {"draws": 0}, "draws=0"),
        (sampled_oracle, {"max_answer_tokens": 0}, "max_answer_tokens=0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    server: Server, prompt: TextPrompt, make: object, settings: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(prompt, server.endpoint(), **settings)  # type: ignore[operator]
    assert server.requests() == []


def test_a_prompt_of_which_nothing_is_left_is_refused(server: Server) -> None:
    with pytest.raises(InputError, match="nothing is left of the prompt"):
        completions_oracle(text_prompt(STORY), server.endpoint(), continuation="Oslo")
    assert server.requests() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "model is empty"),
        ({"base_url": "localhost:8000"}, "not the URL"),
        ({"base_url": "http://[::1"}, "not the URL"),
        ({"max_requests": 0}, "max_requests=0"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"timeout_seconds": 0}, "timeout_seconds=0"),
        ({"extra": {"stop": {"a"}}}, "extra cannot be sent as JSON"),
        ({"requests_per_minute": math.nan}, "requests_per_minute=nan"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(
    settings: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Endpoint(**{"model": "m", **settings})


def test_fingerprints_tell_apart_what_changes_values_and_nothing_else(
    server: Server, prompt: TextPrompt
) -> None:
    def fingerprint(**settings: object) -> str:
        endpoint = server.endpoint(**settings)
        return sampled_oracle(prompt, endpoint, answer="Oslo").fingerprint

    same = [{"concurrency": 2}, {"max_requests": 7}, {"requests_per_minute": 9.0}]
    assert {fingerprint(**settings) for settings in same} == {fingerprint()}
    assert fingerprint(extra={"top_p": 0.5}) != fingerprint()
    other = Endpoint(model="other", base_url=server.url)
    assert sampled_oracle(prompt, other, answer="Oslo").fingerprint != fingerprint()


def test_extra_fields_are_sent_and_none_takes_one_out(
    server: Server, prompt: TextPrompt
) -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 9, "reasoning": "none"}
    oracle = sampled_oracle(prompt, server.endpoint(extra=extra), answer="Oslo")
    oracle.evaluate(MASKS[:1])
    body = server.requests()[0]["body"]
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 9
    assert body["reasoning"] == "none"


def test_the_estimate_is_what_a_run_takes(
    server: Server, prompt: TextPrompt, tmp_path: Path
) -> None:
    oracle = completions_oracle(prompt, server.endpoint(), continuation="is in")
    estimate = oracle.estimate(64, Prices(prompt=2.0, answer=8.0))
    masks = np.array([[i >> j & 1 for j in range(6)] for i in range(64)], dtype=bool)
    server.set()
    with Ledger(tmp_path / "l") as ledger:
        run(oracle, masks, ledger=ledger)
    sent = [request["body"] for request in server.requests()]
    tokens = sum(len(split(body["prompt"])) for body in sent)
    assert estimate.requests == len(sent) == 64
    assert estimate.prompt_tokens == pytest.approx(tokens, rel=0.15)
    assert estimate.answer_tokens == 64
    assert estimate.price == pytest.approx((2 * estimate.prompt_tokens + 8 * 64) / 1e6)
    assert "64 requests" in str(estimate)
