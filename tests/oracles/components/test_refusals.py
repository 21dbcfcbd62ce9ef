"""What cannot be explained is refused with the argument, the value and the way out."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles.components import (
    ComponentOracle,
    Directions,
    TaskPrompt,
    read_task_prompts,
)
from oracles.errors import InputError, MaskError
from oracles.features import LoadedModel

from .conftest import PROMPTS, Make


@pytest.fixture(scope="module")
def loaded(make: Make) -> LoadedModel:
    return make("GPT2LMHeadModel")


PROMPT = PROMPTS[0]
BAD_PROMPTS: list[tuple[list[TaskPrompt], dict[str, Any], str]] = [
    ([], {}, "prompts are empty"),
    ([replace(PROMPT, text="  ")], {}, r"prompts\[0\] has no text"),
    ([PROMPT, replace(PROMPT, answer="")], {}, r"prompts\[1\] has no answer"),
    ([replace(PROMPT, wrong="")], {}, "no wrong answer"),
    ([replace(PROMPT, answer="mat cat")], {}, "'mat cat' of .* is 2 tokens"),
    ([replace(PROMPT, wrong="dog cat")], {}, "'dog cat' of .* is 2 tokens"),
    ([replace(PROMPT, wrong="mat")], {}, "the same token"),
    ([replace(PROMPT, text="cat " * 80)], {}, "has 80 tokens and this model reads 64"),
    ([replace(PROMPT, corrupted="")], {"ablation": "resample"}, "no corrupted form"),
    (
        [replace(PROMPT, corrupted="the cat")],
        {"ablation": "resample"},
        "has 5 tokens and its corrupted form 2",
    ),
    ([TaskPrompt("cat")], {"behaviour": "loss"}, "one token"),
    (
        [replace(PROMPT, corrupted=PROMPT.text)],
        {"ablation": "resample"},
        "nothing to explain",
    ),
]


@pytest.mark.parametrize(("prompts", "settings", "words"), BAD_PROMPTS)
def test_prompts(
    loaded: LoadedModel, prompts: list[TaskPrompt], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ComponentOracle(loaded, prompts, **settings)


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"unit": "heads"}, "unit='heads' is not known"),
    ({"behaviour": "logits"}, "behaviour='logits' is not known"),
    ({"ablation": "none"}, "ablation='none' is not known"),
    ({"ablation": "zero", "reference": ["a cat"]}, "reference goes with"),
    ({"ablation": "mean", "reference": [" "]}, r"reference\[0\] is empty"),
    ({"layers": []}, "layers 0 to 2"),
    ({"layers": [3]}, "layers 0 to 2"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"groups": 2}, "groups are of neurons"),
    ({"unit": "neuron", "groups": 97}, "from 1 to 96"),
    ({"unit": "neuron", "groups": [[]]}, r"groups\[0\] is empty"),
    ({"unit": "neuron", "groups": []}, "groups are empty"),
    ({"unit": "neuron", "groups": [[(3, 0)]]}, "neuron 0 of layer 3"),
    ({"unit": "neuron", "groups": [[(0, 96)]]}, "neuron 96 of layer 0"),
    ({"unit": "neuron", "groups": [[(0, 1)], [(0, 1)]]}, "in two groups"),
    ({"unit": "neuron", "groups": [[(0, 1), (2, 5)]]}, "spans the layers 0, 2"),
    ({"unit": "neuron", "groups": [[(0, 1)]], "layers": [0]}, "Leave layers out"),
    ({"unit": "direction"}, "needs them"),
    ({"directions": Directions(0, np.eye(24))}, "no other takes them"),
    ({"unit": "direction", "directions": Directions(3, np.eye(24))}, "layers 0 to 2"),
    ({"unit": "direction", "directions": Directions(0, np.eye(23))}, r"\(n, 24\)"),
    (
        {"unit": "direction", "directions": Directions(0, np.ones((2, 24)))},
        "not linearly independent",
    ),
    (
        {"unit": "direction", "directions": Directions(0, np.eye(24), ("a",))},
        "1 names for 24",
    ),
]


@pytest.mark.parametrize(("settings", "words"), BAD_SETTINGS)
def test_settings(loaded: LoadedModel, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ComponentOracle(loaded, PROMPTS, **settings)


def test_a_constant_behaviour(loaded: LoadedModel) -> None:
    never = [replace(p, answer="the and then it was not bad") for p in PROMPTS]
    with pytest.raises(InputError, match="behaviour='accuracy' is 0 with everything"):
        ComponentOracle(loaded, never, behaviour="accuracy")


def test_masked_models(make: Make) -> None:
    bert = make("BertForMaskedLM")
    for text in ("the cat", "the [MASK] [MASK]"):
        with pytest.raises(InputError, match=r"Write \[MASK\] once"):
            ComponentOracle(bert, [TaskPrompt(text, "cat", "dog")])
    for word in ("cat dog", "unheardof"):
        with pytest.raises(InputError, match="not a single token"):
            ComponentOracle(bert, [TaskPrompt("the [MASK]", word, "dog")])
    with pytest.raises(InputError, match="has no answer"):
        ComponentOracle(bert, [TaskPrompt("the [MASK]")], behaviour="loss")


def test_classifiers(make: Make) -> None:
    bert = make("BertForSequenceClassification")
    with pytest.raises(InputError, match="Its classes are LABEL_0, LABEL_1"):
        ComponentOracle(bert, [TaskPrompt("the cat", "good", "bad")])
    with pytest.raises(InputError, match="the same token"):
        ComponentOracle(bert, [TaskPrompt("the cat", "LABEL_1", "1")])


def test_what_a_behaviour_does_not_need_may_be_missing(loaded: LoadedModel) -> None:
    prompts = [PROMPT, TaskPrompt("a red dog", wrong="mat cat")]
    for behaviour in ("kl", "loss"):
        ComponentOracle(loaded, prompts, behaviour=behaviour)


def test_masks(loaded: LoadedModel) -> None:
    oracle = ComponentOracle(loaded, PROMPTS)
    with pytest.raises(MaskError):
        oracle.evaluate(np.ones((2, 11), dtype=bool))
    assert oracle.evaluate(np.ones((0, 12), dtype=bool)).shape == (0, 1)


def test_prompts_are_read_from_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"text": p.text, "answer": p.answer} for p in PROMPTS]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n", "utf-8")
    assert read_task_prompts(file) == [TaskPrompt(p.text, p.answer) for p in PROMPTS]
    for line in ("[1]", '{"text": 1}', '{"answer": "a"}', '{"text": "a", "b": 1}', "{"):
        file.write_text('{"text": "a"}\n' + line, "utf-8")
        with pytest.raises(InputError, match="line 2"):
            read_task_prompts(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_task_prompts(tmp_path / "none.jsonl")


def test_importing_the_room_loads_no_model_library() -> None:
    code = (
        "import sys, oracles.components\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert loaded.strip() == "[]"
