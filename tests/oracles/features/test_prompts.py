"""Passages, the second of two levels, and what does not fit."""

import numpy as np
import pytest
import transformers

import spex
from oracles import InputError
from oracles.embedded.facts_world import generate
from oracles.features import CausalOracle, load_model, text_oracle, text_prompt
from oracles.features.prompts.documents import passages_prompt, refine
from oracles.features.prompts.prompt import TextPrompt
from oracles.features.prompts.truncation import num_tokens, truncate

PASSAGES = ["Tom is in Lima. He bakes.", "Ann is in Oslo.", "It rains. It is May."]
QUESTION = "In which city is Ann?"


def written(prompt: TextPrompt, *masks: str) -> list[str]:
    """The prompt under masks such as "101"."""
    rows = [[digit == "1" for digit in mask] for mask in masks]
    return prompt.write_all(np.array(rows))


def test_passages_are_players_and_go_with_what_separates_them() -> None:
    prompt = passages_prompt(PASSAGES, prefix="Read:", suffix=QUESTION)
    assert prompt.players == tuple(PASSAGES)
    assert prompt.description["segments"] == "document"
    assert written(prompt, "111", "010", "000") == [
        "\n\n".join(["Read:", *PASSAGES, QUESTION]),
        f"Read:\n\nAnn is in Oslo.\n\n{QUESTION}",
        f"Read:\n\n{QUESTION}",
    ]
    shots = passages_prompt(PASSAGES, kind="example", separator="\n###\n")
    assert written(shots, "101") == [f"{PASSAGES[0]}\n###\n{PASSAGES[2]}"]
    assert shots.description["segments"] == "example"


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        (["a", " \n"], r"passages\[1\] is empty"),
        (["a"], "has 1 text"),
        ([], "has 0 text"),
        ("a text", "is a single text"),
    ],
)
def test_passages_that_cannot_be_used_are_refused(
    passages: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        passages_prompt(passages)


def test_a_second_level_keeps_the_intact_prompt_and_pins_the_others() -> None:
    prompt = passages_prompt(PASSAGES, prefix="Read:", suffix=QUESTION)
    finer = refine(prompt, (2, 0))
    assert finer.players == ("Tom is in Lima.", "He bakes.", "It rains.", "It is May.")
    assert written(finer, "1111") == written(prompt, "111")
    assert written(finer, "0001") == [
        f"Read:\n\nAnn is in Oslo.\n\nIt is May.\n\n{QUESTION}"
    ]
    assert written(finer, "0000") == [f"Read:\n\nAnn is in Oslo.\n\n{QUESTION}"]
    intact = written(finer, "1111")[0]
    assert tuple(intact[a:b] for a, b in finer.places) == finer.players
    words = refine(finer, [1], segments="word")  # a third level
    assert words.players == ("He", "bakes.")
    assert words.description["within"] == "sentence"


def test_a_second_level_may_drop_the_others() -> None:
    prompt = passages_prompt(PASSAGES, suffix=QUESTION)
    finer = refine(prompt, [0, 2], is_dropping_others=True)
    assert written(finer, "1111") == written(prompt, "101")
    assert finer.players == ("Tom is in Lima.", "He bakes.", "It rains.", "It is May.")
    pinned = text_prompt("A b. C d. E f. G h.", pinned="C d.")
    finer = refine(pinned, [0, 2], segments="word", is_dropping_others=True)
    assert written(finer, "1111", "0110") == ["A b. C d. G h.", "b. C d. G"]


def test_a_second_level_refuses_what_it_cannot_cut() -> None:
    prompt = passages_prompt(PASSAGES)
    for players in ([], [3], [-1]):
        with pytest.raises(InputError, match="numbers from 0 to 2"):
            refine(prompt, players)
    with pytest.raises(InputError, match=r"players=\[1\] have one sentence"):
        refine(prompt, [1])
    with pytest.raises(InputError, match="JSON fields are not cut"):
        refine(text_prompt('{"a": 1, "b": 2}', segments="json"), [0])


def test_two_levels_find_the_sentence_in_the_document() -> None:
    """Over documents first, then over sentences of the strongest two."""
    loaded, right = load_model("facts"), 0
    for seed in range(2):
        story = generate(
            np.random.default_rng(seed), num_facts=6, num_fillers=6, hops=1
        )
        said = list(story.sentences)
        passages = [" ".join(said[i : i + 3]) for i in range(0, len(said), 3)]
        prompt = passages_prompt(
            passages,
            separator=" ",
            suffix=f"Question: {story.question} Answer:",
        )
        needed = said[story.supporting_sentences[0]]
        coarse = spex.explain(
            CausalOracle(prompt, loaded, continuation=story.answer), budget=16
        )
        best = [i.players[0] for i in coarse.top(9) if len(i.players) == 1][:2]
        finer = refine(prompt, best)
        found = spex.explain(
            CausalOracle(finer, loaded, continuation=story.answer), budget=24
        )
        right += needed in found.top(1)[0].names
    assert right == 2


@pytest.mark.parametrize(
    ("prefix", "text", "suffix", "intact"),
    [
        ("Read:", "a b", "c", "Read: a b c"),
        ("Read:\n", "a b\n", "c", "Read:\na b\nc"),
        ("读：", "北京 旅游", "问题", "读：北京 旅游问题"),
        ("", "a b", "", "a b"),
        ("Read:", "a b", "\n", "Read: a b\n"),
    ],
)
def test_a_space_stands_between_parts_where_there_is_none(
    prefix: str, text: str, suffix: str, intact: str
) -> None:
    prompt = text_prompt(text, segments="word", prefix=prefix, suffix=suffix)
    assert written(prompt, "11") == [intact]
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players
    found = written(prompt, "10", "01", "00")
    assert all(words.startswith(prefix) for words in found)
    assert all(words.endswith(suffix) for words in found)


def test_white_space_in_front_goes_with_all_that_follows_it() -> None:
    prompt = text_prompt("  a b", segments="word", suffix="Why?")
    assert written(prompt, "11", "01", "00") == ["  a b Why?", "  b Why?", "Why?"]
    alone = text_prompt("a b", segments="word", suffix="\n")
    assert written(alone, "11", "10", "00") == ["a b\n", "a\n", ""]


def test_a_prompt_is_cut_to_the_context_only_on_request(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    text = " ".join(f"Sentence number {i}." for i in range(30))
    prompt = text_prompt(text, prefix="Read:", suffix=QUESTION, pinned="number 2")
    size = num_tokens(prompt, causal_tokenizer)
    assert truncate(prompt, causal_tokenizer, size) is prompt
    shorter = truncate(prompt, causal_tokenizer, size - 1)
    total = len(prompt.players)
    assert shorter.description["truncated"] == [total - 1, total]
    assert shorter.players == prompt.players[:-1]
    half = truncate(prompt, causal_tokenizer, size // 2)
    assert num_tokens(half, causal_tokenizer) <= size // 2
    kept = len(half.players)
    longer = "1" * (kept + 1) + "0" * (total - kept - 1)
    assert len(causal_tokenizer(written(prompt, longer)[0]).input_ids) > size // 2
    fits = num_tokens(half, causal_tokenizer)
    exact = truncate(prompt, causal_tokenizer, fits)
    assert exact.description["truncated"] == [kept, total]
    intact = written(half, "1" * kept)[0]
    assert intact.startswith("Read: Sentence number 0.")
    assert intact.endswith(QUESTION)
    with pytest.raises(InputError, match=r"of its 41 segments 0 fit in 5"):
        truncate(prompt, causal_tokenizer, 5)
    record = text_prompt('{"a": 1, "b": 2}', segments="json")
    with pytest.raises(InputError, match="JSON text cannot be cut"):
        truncate(record, causal_tokenizer, 5)


def test_text_oracles_are_cut_on_request(causal: str) -> None:
    text = "Tom is in Lima. " * 40
    with pytest.raises(InputError, match="reads 128"):
        text_oracle(text, causal, suffix=QUESTION, target="Oslo")
    oracle = text_oracle(
        text, causal, suffix=QUESTION, target="Oslo", is_truncating=True
    )
    left, total = oracle.description["truncated"]
    assert 2 <= left < total == 40
    assert np.isfinite(oracle.evaluate(np.ones((1, left), bool))).all()
