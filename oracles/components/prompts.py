"""Prompts that show a behaviour, and where in a model's output it is read off."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oracles.errors import InputError
from oracles.features.answers.continuations import encoder_of
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.encoding import check_length, encode


@dataclass(frozen=True)
class TaskPrompt:
    """One prompt of the set over which a behaviour is measured.

    Attributes:
        text: what the model reads. Of a masked language model it holds the mask token
            once.
        answer: what should follow it, or stand at the mask; of a classifier, the class
            by name or number. "" where the behaviour needs none.
        wrong: what the answer is compared with by the logit difference.
        corrupted: the same prompt with what matters changed, of as many tokens; its
            activations take the place of ablated ones (ablation "resample").
    """

    text: str
    answer: str = ""
    wrong: str = ""
    corrupted: str = ""


@dataclass(frozen=True)
class Encoded:
    """A prompt as tokens.

    Attributes:
        ids: what the model reads; of a causal one with the answer but its last token.
        places: positions whose logits are read; () for a classifier's only ones.
        targets: token, or class, that is right at each place; () if none is asked for.
        wrong: token or class of the wrong answer, or None.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]
    wrong: int | None


def read_task_prompts(path: str | Path) -> list[TaskPrompt]:
    """Prompts from a file of JSON lines, each an object with `TaskPrompt`'s fields.

    Raises:
        InputError: the file cannot be read, or a line is not such an object.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts={str(path)!r} cannot be read: {error}.") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = TaskPrompt(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of {str(path)!r} is not a prompt ({error}). Write a "
                'JSON object with "text" and, as needed, "answer", "wrong" and '
                '"corrupted".'
            ) from error
        if not all(isinstance(value, str) for value in asdict(prompt).values()):
            raise InputError(
                f"line {number} of {str(path)!r} has a field that is not text."
            )
        prompts.append(prompt)
    return prompts


def encode_prompts(
    loaded: LoadedModel,
    prompts: Sequence[TaskPrompt],
    needs: Sequence[str],
) -> list[Encoded]:
    """The prompts as tokens, with the places where the answer is read.

    Args:
        loaded: a causal or masked language model, or a classifier.
        prompts: at least one.
        needs: fields that no prompt may lack, "answer" and "wrong"; "single", an answer
            of one token; "text", that a text without an answer is predicted itself,
            each token from those before it.

    Raises:
        InputError: no prompts, or one that lacks what is needed, is too long, or has
            an answer that is not a single token where it must be.
    """
    if not prompts:
        raise InputError("prompts are empty. Give at least one TaskPrompt.")
    known = {
        "causal-lm": _causal,
        "masked-lm": _masked,
        "text-classifier": _classifier,
    }
    if loaded.task not in known:
        raise InputError(
            f"model={loaded.name!r} is of kind {loaded.task}. Components are explained "
            f"of {', '.join(known)}."
        )
    encode_one = known[loaded.task]
    encoded = []
    for number, prompt in enumerate(prompts):
        if not prompt.text.strip():
            raise InputError(
                f"prompts[{number}] has no text. Give one, or leave it out."
            )
        one = encode_one(loaded, prompt, number, needs)
        _check_needs(one, prompt, number, needs)
        check_length(len(one.ids), loaded.max_tokens, f"prompts[{number}]")
        encoded.append(one)
    return encoded


def _check_needs(
    one: Encoded, prompt: TaskPrompt, number: int, needs: Sequence[str]
) -> None:
    """Refuse a prompt that lacks what a behaviour needs."""
    has_answer = bool(one.targets) or not {"answer", "text"} & set(needs)
    if not has_answer or ("wrong" in needs and one.wrong is None):
        lacks = "wrong answer" if has_answer else "answer"
        raise InputError(
            f"prompts[{number}] has no {lacks}, which this behaviour needs. Give it, "
            'or choose another behaviour: "kl" needs none.'
        )
    if "single" in needs and len(one.targets) > 1:
        raise _not_single(prompt.answer, number, len(one.targets))
    if "wrong" in needs and one.wrong == one.targets[0]:
        raise InputError(
            f"prompts[{number}] has the answer {prompt.answer!r} and the wrong one "
            f"{prompt.wrong!r}, which are the same token. Compare two that differ."
        )


def encode_texts(loaded: LoadedModel, texts: Sequence[str]) -> list[Encoded]:
    """Texts of which only the activations matter.

    Raises:
        InputError: a text is empty or longer than the model reads.
    """
    encoded = []
    for number, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"reference[{number}] is empty. Leave it out.")
        if loaded.task == "causal-lm":
            one = _causal(loaded, TaskPrompt(text), number, needs=())
        else:
            [ids] = encode(loaded, [text])
            places = () if loaded.task == "text-classifier" else (0,)
            one = Encoded(tuple(ids), places, (), None)
        check_length(len(one.ids), loaded.max_tokens, f"reference[{number}]")
        encoded.append(one)
    return encoded


def _not_single(words: str, number: int, count: int) -> InputError:
    return InputError(
        f"{words!r} of prompts[{number}] is {count} tokens of this model, and logits "
        "are compared of single ones. Name a word that is one, or use "
        'behaviour="log-prob", which takes any number.'
    )


def _causal(
    loaded: LoadedModel, prompt: TaskPrompt, number: int, needs: Sequence[str]
) -> Encoded:
    encoder = encoder_of(loaded.tokenizer, prompt.text, is_rendered=False)
    [ids] = encoder.prompts([prompt.text])
    wrong = None
    if "wrong" in needs and prompt.wrong.strip():
        tokens = encoder.continuation(prompt.text, prompt.wrong).tokens
        if len(tokens) > 1:
            raise _not_single(prompt.wrong, number, len(tokens))
        wrong = tokens[0]
    if prompt.answer.strip():
        answer = encoder.continuation(prompt.text, prompt.answer).tokens
        places = tuple(range(len(ids) - 1, len(ids) - 1 + len(answer)))
        return Encoded((*ids, *answer[:-1]), places, answer, wrong)
    if "text" not in needs:
        return Encoded(ids, (len(ids) - 1,), (), wrong)
    if len(ids) < 2:
        raise InputError(
            f"prompts[{number}] has one token, which nothing predicts. Give a longer "
            "text, or an answer."
        )
    return Encoded(ids, tuple(range(len(ids) - 1)), ids[1:], wrong)


def _masked(
    loaded: LoadedModel, prompt: TaskPrompt, number: int, needs: Sequence[str]
) -> Encoded:
    tokenizer = loaded.tokenizer
    [ids] = encode(loaded, [prompt.text])
    places = [i for i, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if tokenizer.mask_token is None or len(places) != 1:
        raise InputError(
            f"prompts[{number}] has {len(places)} mask tokens. Write "
            f"{tokenizer.mask_token} once, where the answer belongs."
        )
    words = [prompt.answer, prompt.wrong if "wrong" in needs else ""]
    answer, wrong = (
        _at_mask(tokenizer, prompt.text, word, number) if word.strip() else None
        for word in words
    )
    return Encoded(
        tuple(ids), tuple(places), () if answer is None else (answer,), wrong
    )


def _at_mask(tokenizer: Any, text: str, word: str, number: int) -> int:
    """The one token that a word is in the mask's place, read off the text with it."""
    before, _, after = text.rpartition(tokenizer.mask_token)
    word = word.strip()
    start, end = len(before), len(before) + len(word)
    encoded = tokenizer(
        before + word + after,
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    tokens = [token for token, s in spans if s[0] < end and s[1] > start]
    if len(tokens) != 1 or tokens[0] == tokenizer.unk_token_id:
        raise InputError(
            f"{word!r} of prompts[{number}] is not a single token of this model where "
            "the mask is. Name a word that is one."
        )
    return int(tokens[0])


def _classifier(
    loaded: LoadedModel, prompt: TaskPrompt, number: int, needs: Sequence[str]
) -> Encoded:
    [ids] = encode(loaded, [prompt.text])
    config = loaded.model.config
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    answer, wrong = (
        _class_of(labels, name, number) if name.strip() else None
        for name in (prompt.answer, prompt.wrong if "wrong" in needs else "")
    )
    return Encoded(tuple(ids), (), () if answer is None else (answer,), wrong)


def _class_of(labels: Sequence[str], name: str, number: int) -> int:
    by_name = {label.lower(): i for i, label in enumerate(labels)}
    name = name.strip()
    if name.lower() in by_name:
        return by_name[name.lower()]
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    raise InputError(
        f"{name!r} of prompts[{number}] is not a class of this model. Its classes are "
        f"{', '.join(labels)}; or use their numbers from 0."
    )
