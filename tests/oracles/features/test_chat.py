"""Conversations as the model's own template writes them, whatever is removed.

The templates do what those of the models named do: ChatML (Qwen), Llama 2 and 3, Gemma.
"""

import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spex
from oracles import InputError
from oracles.features import CausalOracle, LoadedModel, load_model, text_oracle
from oracles.features.prompts.chat import chat_prompt
from oracles.features.prompts.documents import passages_prompt
from oracles.features.prompts.draws import AveragedOracle
from oracles.features.prompts.prompt import text_prompt
from oracles.features.prompts.turns import ChatPrompt
from oracles.testing import OracleContract

FACTS = load_model("facts")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}"
    "{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{{ (system if loop.first else '') + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}"
    "\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama-2": LLAMA_2, "llama-3": LLAMA_3, "gemma": GEMMA}

STORY = " Maria is in Oslo. Tom is in Lima.\nIt rains. "
FIRST = {"role": "user", "content": STORY}
TALK = [
    FIRST,
    {"role": "assistant", "content": "I see."},
    {"role": "user", "content": "In which city is Maria?"},
]
SYSTEM = {"role": "system", "content": "Be brief. Name one word."}


def with_template(template: str) -> Any:
    """The facts model's tokenizer, with a template."""
    tokenizer = copy.deepcopy(FACTS.tokenizer)
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


def rows(*masks: str) -> np.ndarray:
    return np.array([[digit == "1" for digit in mask] for mask in masks])


def rendered(prompt: ChatPrompt, mask: str) -> str:
    return prompt.write_all(rows(mask))[0]


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_what_is_written_is_what_the_template_makes_of_the_messages(
    template: str,
) -> None:
    tokenizer = with_template(template)
    prompt = chat_prompt(TALK, tokenizer, ablated=[0])
    assert prompt.players == ("Maria is in Oslo.", "Tom is in Lima.", "It rains.")
    for mask, left in [
        ("111", STORY),
        ("010", " Tom is in Lima."),
        ("101", " Maria is in Oslo. It rains. "),
        ("000", ""),
    ]:
        messages = [{"role": "user", "content": left}, *TALK[1:]]
        assert prompt.write_messages(rows(mask)) == [messages]
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert rendered(prompt, mask) == expected


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_places_are_the_players_in_the_rendered_prompt(template: str) -> None:
    prompt = chat_prompt(TALK, with_template(template))
    intact = rendered(prompt, "1111")
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players
    turns = chat_prompt(
        TALK, with_template(template), segments="turn", removal="replace:"
    )
    intact = rendered(turns, "11")
    assert tuple(intact[a:b] for a, b in turns.places) == turns.players


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12), st.sampled_from(list(TEMPLATES)), st.data())
def test_spans_are_the_players_in_what_a_person_is_shown(
    words: str, template: str, data: st.DataObject
) -> None:
    """Whatever white space and marks there are in a message."""
    talk = [*TALK[:2], {"role": "user", "content": words + " and\nso on " + words}]
    try:
        prompt = chat_prompt(talk, with_template(template), segments="word")
    except InputError:  # half of a surrogate pair
        return
    description = prompt.description
    text, spans = description["text"], description["spans"]
    assert tuple(text[a:b] for a, b in spans) == prompt.players
    intact = prompt.write_all(np.ones((1, len(prompt.players)), bool))[0]
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players


def test_a_person_is_shown_the_contents_under_their_roles() -> None:
    prompt = chat_prompt([SYSTEM, *TALK], with_template("llama-3"))
    assert prompt.description["text"] == (
        "system:\nBe brief. Name one word.\n\nuser:\n Maria is in Oslo. Tom is in Lima."
        "\nIt rains. \n\nassistant:\nI see.\n\nuser:\nIn which city is Maria?"
    )


@pytest.mark.parametrize("template", ["llama-3", "gemma", "llama-2"])
def test_the_beginning_token_comes_once_and_values_are_the_models(
    template: str,
) -> None:
    tokenizer = with_template(template)
    loaded = LoadedModel(FACTS.model, tokenizer, "facts", FACTS.task)
    prompt = chat_prompt([FIRST], tokenizer)
    oracle = CausalOracle(prompt, loaded, continuation="Oslo")
    [scored] = oracle.description["scored"]
    tail = tokenizer(scored, add_special_tokens=False)["input_ids"]
    for mask, left in [("111", STORY), ("001", "It rains.")]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": left}],
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        assert ids.count(tokenizer.bos_token_id) == 1
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids + tail])).logits[0].double()
        logs = logits.log_softmax(-1)[len(ids) - 1 : -1]
        expected = sum(float(logs[i, token]) for i, token in enumerate(tail))
        found = oracle.evaluate(rows(mask))[0, 0]
        assert found == pytest.approx(expected, abs=1e-4)


class TestChatOracle(OracleContract):
    def make_oracle(self) -> CausalOracle:
        tokenizer = with_template("llama-3")
        prompt = chat_prompt(TALK, tokenizer)
        loaded = LoadedModel(FACTS.model, tokenizer, "facts", FACTS.task)
        return CausalOracle(prompt, loaded, continuation="Oslo")


def test_turns_are_left_out_or_left_without_words() -> None:
    prompt = chat_prompt([SYSTEM, *TALK], with_template("chatml"), segments="turn")
    assert prompt.players == (STORY.strip(), "I see.")
    assert prompt.write_messages(rows("01")) == [[SYSTEM, *TALK[1:]]]
    assert prompt.write_messages(rows("00")) == [[SYSTEM, TALK[2]]]
    for removal, words in [("replace:", ""), ("replace:(left out)", "(left out)")]:
        kept = chat_prompt(
            TALK, with_template("gemma"), segments="turn", removal=removal
        )
        found = kept.write_messages(rows("10"))[0]
        assert found == [FIRST, {"role": "assistant", "content": words}, TALK[2]]


SHOTS = [
    {"role": role, "content": words}
    for words_of in [("2 + 2?", "4"), ("3 + 3?", "6"), ("4 + 5?", " 9 "), ("1 + 1?",)]
    for role, words in zip(("user", "assistant"), words_of, strict=False)
]


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_an_exchange_goes_with_its_answer_in_every_template(template: str) -> None:
    prompt = chat_prompt(SHOTS, with_template(template), segments="exchange")
    assert prompt.players == (
        "2 + 2?\n\nassistant:\n4",
        "3 + 3?\n\nassistant:\n6",
        "4 + 5?\n\nassistant:\n 9",
    )
    text = prompt.description["text"]
    assert prompt.players == tuple(text[a:b] for a, b in prompt.description["spans"])
    assert prompt.write_messages(rows("101")) == [SHOTS[:2] + SHOTS[4:]]
    assert prompt.write_messages(rows("000")) == [SHOTS[6:]]
    intact = rendered(prompt, "111")
    found = [intact[a:b] for a, b in prompt.places]
    assert [words[:6] for words in found] == ["2 + 2?", "3 + 3?", "4 + 5?"]
    assert [words[-1] for words in found] == ["4", "6", "9"]
    some = chat_prompt(
        SHOTS, with_template(template), segments="exchange", ablated=[1, 4]
    )
    assert some.write_messages(rows("01")) == [SHOTS[2:]]


def test_calls_of_tools_are_kept_or_go_with_their_exchange() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "map"}]}
    talk = [
        {"role": "user", "content": "Where is Oslo? Say it."},
        call,
        {"role": "tool", "content": "Norway. In the north."},
        {"role": "user", "content": "Is it cold?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    tokenizer = with_template("chatml")
    tokenizer.chat_template = CHATML.replace(
        "{{ m['content'] }}",
        "{{ m.tool_calls | tojson if m.tool_calls else m.content }}",
    )
    prompt = chat_prompt(talk, tokenizer, ablated=[2])
    assert prompt.players == ("Norway.", "In the north.")
    assert '[{"name": "map"}]' in rendered(prompt, "00")
    intact = rendered(prompt, "11")
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players
    exchanges = chat_prompt(talk, tokenizer, segments="exchange")
    assert exchanges.write_messages(rows("10", "01")) == [
        talk[:3] + talk[5:],
        talk[3:],
    ]


def test_messages_for_an_endpoint_need_no_tokenizer() -> None:
    prompt = chat_prompt(TALK)
    assert prompt.write_messages(rows("0100")) == [
        [
            {"role": "user", "content": " Tom is in Lima."},
            TALK[1],
            {"role": "user", "content": ""},
        ]
    ]
    assert prompt.description["rendered"] is None
    with pytest.raises(InputError, match="without a tokenizer"):
        prompt.write_all(rows("1111"))
    with pytest.raises(InputError, match="fast tokenizer"):
        chat_prompt(TALK, segments="token")


def test_turns_are_hidden_from_attention_where_they_stand() -> None:
    tokenizer = with_template("gemma")  # which takes no other way
    loaded = LoadedModel(FACTS.model, tokenizer, "facts", FACTS.task)
    hidden = chat_prompt(TALK, tokenizer, segments="turn", removal="attention")
    oracle = CausalOracle(hidden, loaded, continuation="Oslo")
    values = oracle.evaluate(rows("11", "10", "01"))[:, 0]
    plain = chat_prompt(TALK, tokenizer, segments="turn", removal="replace:")
    intact = CausalOracle(plain, loaded, continuation="Oslo").evaluate(rows("11"))
    assert values[0] == pytest.approx(intact[0, 0], abs=1e-4)
    assert len(set(values.round(4))) == 3
    with pytest.raises(InputError, match="hides tokens"):
        hidden.write_messages(rows("01"))


def test_a_chat_has_draws_and_messages_for_each() -> None:
    def draw(seed: int) -> ChatPrompt:
        others = ["Ann bakes. Cats sleep. Dogs bark."]
        return chat_prompt(TALK, removal="resample", reference=others, seed=seed)

    seen = []

    class Endpoint:
        outputs = ("length",)
        fingerprint = "endpoint"
        description: ClassVar = {"kind": "example"}

        def __init__(self, prompt: Any) -> None:
            self.players, self.prompt = prompt.players, prompt

        def evaluate(self, masks: np.ndarray) -> np.ndarray:
            seen.extend(self.prompt.write_messages(masks))
            return np.array([[float(len(str(talk)))] for talk in seen[-len(masks) :]])

    oracle = AveragedOracle(Endpoint, [draw(seed) for seed in range(3)])
    mask = rows("0110")
    [[value]] = oracle.evaluate(mask)
    assert seen == [draw(seed).write_messages(mask)[0] for seed in range(3)]
    assert value == pytest.approx(np.mean([len(str(talk)) for talk in seen]))


@pytest.mark.parametrize("template", ["gemma", "llama-2"])
def test_a_template_that_refuses_what_is_left_is_refused_at_once(template: str) -> None:
    with pytest.raises(
        InputError, match=r"refuses the turns.*alternate.*exchange.*replace:"
    ):
        chat_prompt(TALK, with_template(template), segments="turn")


def test_a_template_without_system_turns_says_what_to_do() -> None:
    with pytest.raises(
        InputError, match=r"turns system, user.*System role not supported.*user's first"
    ):
        chat_prompt([SYSTEM, FIRST], with_template("gemma"))


def test_an_answer_already_begun_goes_on_from_there() -> None:
    talk = [FIRST, {"role": "assistant", "content": "Maria is in"}]
    prompt = chat_prompt(talk, with_template("llama-3"))
    assert rendered(prompt, "010").endswith("<|end_header_id|>\n\nMaria is in")
    assert prompt.players == ("Maria is in Oslo.", "Tom is in Lima.", "It rains.")


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_the_steps_of_a_reasoning_trace_are_players(template: str) -> None:
    tokenizer = with_template(template)
    steps = text_prompt("Maria is a baker. Bakers work in Oslo.")
    talk = [TALK[2], {"role": "assistant", "content": steps}]
    prompt = chat_prompt(talk, tokenizer)
    assert prompt.players == ("Maria is a baker.", "Bakers work in Oslo.")
    assert rendered(prompt, "10").endswith("Maria is a baker.")
    nothing = tokenizer.apply_chat_template(
        talk[:1], tokenize=False, add_generation_prompt=True
    )
    assert rendered(prompt, "00") == nothing
    loaded = LoadedModel(FACTS.model, tokenizer, "facts", FACTS.task)
    oracle = CausalOracle(prompt, loaded, continuation="Oslo")
    assert oracle.description["scored"] == [" Oslo"]
    begun = text_prompt("Maria is a baker. Bakers work.", suffix="So it is")
    talk = [TALK[2], {"role": "assistant", "content": begun}]
    oracle = CausalOracle(chat_prompt(talk, tokenizer), loaded, continuation="Oslo")
    assert oracle.description["scored"] == [" Oslo"]


def test_template_arguments_reach_the_template_and_the_fingerprint() -> None:
    prompts = [
        chat_prompt([FIRST], with_template("chatml"), template_arguments=arguments)
        for arguments in ({}, {"enable_thinking": False})
    ]
    plain, unthinking = (prompt.write_all(rows("111"))[0] for prompt in prompts)
    assert unthinking == plain + "<think>\n\n</think>\n\n"
    assert prompts[0].description["rendered"] != prompts[1].description["rendered"]


def test_contents_may_be_prompts_of_their_own() -> None:
    documents = passages_prompt(["One. Two.", "Three."], suffix="How many?")
    pinned = text_prompt("Be brief. Never lie.", pinned="Never.*", segments="word")
    talk = [
        {"role": "system", "content": pinned},
        {"role": "user", "content": documents},
    ]
    prompt = chat_prompt(talk, with_template("chatml"))
    assert prompt.players == ("Be", "brief.", "One. Two.", "Three.")
    assert prompt.description["segments"] == "word, document"
    messages = prompt.write_messages(rows("0101"))[0]
    assert [m["content"] for m in messages] == [
        "brief. Never lie.",
        "Three.\n\nHow many?",
    ]
    intact = rendered(prompt, "1111")
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players


def test_a_template_that_rewrites_a_content_has_no_places() -> None:
    tokenizer = with_template("chatml")
    tokenizer.chat_template = CHATML.replace("m['content']", "m['content'] | upper")
    prompt = chat_prompt([FIRST], tokenizer)
    assert "MARIA" in rendered(prompt, "111")
    with pytest.raises(InputError, match="changes the contents of messages"):
        _ = prompt.places


@pytest.mark.parametrize(
    ("messages", "settings", "message"),
    [
        ([], {}, "messages is empty"),
        ([{"role": "user"}], {}, r"messages\[0\].*'content'"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "Pictures"),
        ([{"content": "a b"}], {}, r"messages\[0\]"),
        (TALK, {"ablated": [3]}, r"ablated=\[3\].*3 messages"),
        ([SYSTEM], {}, "0 are ablated, with 0 players"),
        (TALK, {"ablated": [-1]}, "1 are ablated, with 1 players.*word"),
        ([FIRST], {"segments": "turn"}, "0 are ablated"),
        (TALK, {"segments": "turn", "removal": "mask"}, "not for whole turns"),
        ([{"role": "user", "content": " "}], {}, "0 are ablated"),
    ],
)
def test_messages_that_cannot_be_used_are_refused(
    messages: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        chat_prompt(messages, with_template("chatml"), **settings)


def test_a_tokenizer_without_template_is_refused() -> None:
    with pytest.raises(InputError, match="no chat template"):
        chat_prompt(TALK, FACTS.tokenizer)


def test_text_oracles_send_a_message(tmp_path: Path) -> None:
    """The whole way: a folder with a template, a text, an explanation."""
    folder = str(tmp_path)
    FACTS.model.save_pretrained(folder)
    with_template("llama-3").save_pretrained(folder)
    oracle = text_oracle(
        STORY,
        folder,
        suffix="Question: In which city is Maria? Answer:",
        target="Oslo",
        is_chat=True,
    )
    assert oracle.description["messages"][0]["role"] == "user"
    e = spex.explain(oracle, budget=8)
    assert e.players[:2] == ("Maria is in Oslo.", "Tom is in Lima.")
    assert e.spent == 8
