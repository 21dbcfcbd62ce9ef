"""The oracle that the options describe."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from oracles import InputError, Oracle
from spex.cli.remote import ENDPOINT_ONLY, MEANINGLESS, remote_oracle
from spex.saved import load

QUANTIZED = {"8bit": {"load_in_8bit": True}, "4bit": {"load_in_4bit": True}}
"""--quantize -> how transformers loads it, with bitsandbytes."""

MATTERS = 0.05
"""A segment mattered that has this part of the most that any has of the variance."""

HERE_ONLY = ("question", "truncate", "device", "dtype", "device_map", "quantize")
"""Options that mean nothing for a model behind a server."""


def make_oracle(options: argparse.Namespace) -> Oracle:
    """Of a text, a conversation or passages, and a model here or behind a server.

    Raises:
        InputError: options that contradict each other, or files that hold something
            else.
        OracleError: what the oracles raise.
    """
    _check_one_subject(options)
    if options.endpoint is not None:
        return remote_oracle(_prompt(options, None), options)
    if options.messages is options.passages is options.refine is None:
        return _of_text(options)
    from oracles.features import Asked, oracle_for

    loaded = _loaded(options)
    asked = Asked(
        question=options.question,
        target=options.target,
        against=options.against,
        choices=tuple(options.choice),
        per_token=options.per_token,
        value=options.value,
    )
    return oracle_for(_prompt(options, loaded.tokenizer), loaded, asked)


def _loaded(options: argparse.Namespace) -> Any:
    from oracles.features import load_model

    return load_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        device_map=options.device_map,
        quantization_config=QUANTIZED.get(options.quantize),
    )


def _of_text(options: argparse.Namespace) -> Oracle:
    from oracles.features import text_oracle

    return text_oracle(
        read_text(options),
        _loaded(options),
        prefix=options.prefix,
        suffix=options.suffix,
        pinned=options.pin,
        is_chat=options.chat,
        is_truncating=options.truncate,
        question=options.question,
        target=options.target,
        against=options.against,
        choices=options.choice,
        per_token=options.per_token,
        value=options.value,
        segments=options.segments,
        removal=options.removal,
        reference=_reference(options),
    )


def _prompt(options: argparse.Namespace, tokenizer: Any) -> Any:
    """What is ablated, cut as the options say."""
    from oracles.features import chat_prompt, passages_prompt, text_prompt

    removed = {"removal": options.removal, "reference": _reference(options)}
    cut = {**removed, "pinned": options.pin}
    cut |= {"segments": options.segments or "sentence"}
    if options.messages is not None:
        return chat_prompt(_messages(options.messages), tokenizer, **cut)
    around = {"prefix": options.prefix, "suffix": options.suffix}
    if options.passages is not None:
        passages = _texts(options.passages)
        prompt = passages_prompt(passages, tokenizer, **removed, **around)
    else:
        prompt = text_prompt(read_text(options), tokenizer, **cut, **around)
    if options.refine is not None:
        prompt = _refined(prompt, options, tokenizer)
    if options.chat and options.endpoint is None:
        return chat_prompt([{"role": "user", "content": prompt}], tokenizer)
    return prompt


def _refined(prompt: Any, options: argparse.Namespace, tokenizer: Any) -> Any:
    """The segments that mattered in an earlier result, cut further; others are kept."""
    from oracles.features import refine

    found = load(options.refine)
    if tuple(found.players) != tuple(prompt.players):
        raise InputError(
            f"{options.refine} explains {len(found.players)} segments that are not the "
            f"{len(prompt.players)} of this prompt. Give the same text, or passages, "
            "and the same --segments as for that result."
        )
    shares = np.zeros(len(prompt.players))
    for players, value in found.fourier.to_dict().items():
        shares[list(players)] += np.sum(np.square(value))
    chosen = np.flatnonzero(shares >= MATTERS * shares.max()).tolist()
    if not options.quiet:
        numbers = ", ".join(map(str, chosen))
        print(f"spex: of {len(shares)} segments, cutting {numbers}", file=sys.stderr)
    return refine(prompt, chosen, tokenizer, segments=options.finer or "sentence")


def _check_one_subject(options: argparse.Namespace) -> None:
    names = ("text", "file", "messages", "passages")
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) > 1:
        said = [name if name == "text" else f"--{name}" for name in given]
        raise InputError(f"{said[0]} and {said[1]} were both given. Give one of them.")
    needing = {
        "pin": options.pin,
        "segments": options.segments,
        "chat": options.chat,
        "truncate": options.truncate,
    }
    if options.passages is not None:
        what = "with --passages, which are the segments"
        _refuse(what, needing, ("pin", "segments"))
        _refuse("with --passages", needing, ("truncate",))
    if options.messages is not None:
        around = {"prefix": options.prefix, "suffix": options.suffix}
        _refuse("with --messages", needing | around, ("chat", "truncate", *around))
    if options.endpoint is None:
        _refuse("without --endpoint", vars(options), ENDPOINT_ONLY)
    else:
        _check_endpoint(options)
    if options.refine is None:
        _refuse("without --refine", vars(options), ("finer",))
    else:
        _refuse("with --refine", vars(options), ("messages", "truncate"))
    if options.removal != "resample":
        _refuse("without --removal resample", vars(options), ("reference",))
    elif options.reference is None:
        raise InputError(
            "--removal resample draws from other texts, and there are none. Give a "
            "file of them with --reference."
        )


def _check_endpoint(options: argparse.Namespace) -> None:
    _refuse("with --endpoint", vars(options), HERE_ONLY)
    api = options.api or "chat"
    _refuse(f"with --api {api}", vars(options), MEANINGLESS[api])
    if api == "completions" and (options.chat or options.messages is not None):
        given = "--chat" if options.chat else "--messages"
        raise InputError(
            f"{given} and --api completions do not go together: no chat template is "
            "applied there. Use --api chat or sampled, or write what the template puts "
            "around the text with --prefix and --suffix."
        )


def _refuse(what: str, options: dict[str, Any], names: tuple[str, ...]) -> None:
    """Options that say nothing `what`; 0 says something."""
    for name in names:
        if options[name] not in (None, "", []) and options[name] is not False:
            option = name.replace("_", "-")
            raise InputError(f"--{option} means nothing {what}. Leave it out.")


def _messages(path: Path) -> list[dict[str, str]]:
    """A conversation from a JSON file."""
    messages = _json(path, text_of_file(path))
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) for message in messages
    ):
        raise InputError(
            f"{path} holds no conversation: it must be a JSON list of objects with "
            '"role" and "content".'
        )
    return messages


def _reference(options: argparse.Namespace) -> list[str]:
    return [] if options.reference is None else _texts(options.reference)


def _texts(path: Path) -> list[str]:
    """Texts from a JSON list, or from lines of JSON."""
    text = text_of_file(path)
    if text.lstrip().startswith("["):
        found = _json(path, text)
    else:
        found = [_json(path, line) for line in text.splitlines() if line.strip()]
    passages = []
    for number, item in enumerate(found):
        passage = item.get("text") if isinstance(item, dict) else item
        if not isinstance(passage, str):
            raise InputError(
                f'{path}: item {number} is neither a text nor an object with a "text".'
            )
        passages.append(passage)
    return passages


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}).") from error


def read_text(options: argparse.Namespace) -> str:
    """The text given, of a file, or on standard input."""
    if options.text is not None:
        return _checked_unicode(options.text, "the text")
    if options.file is None and sys.stdin.isatty():
        raise InputError(
            'no text to explain. Pass it as spex explain "text", with --file, or on '
            "standard input."
        )
    if options.file is not None:
        return text_of_file(options.file)
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("standard input", error) from error


def text_of_file(path: Path) -> str:
    """What a file holds, in UTF-8.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(source: object, error: Exception) -> InputError:
    return InputError(f"{source} cannot be read as UTF-8 text ({error}).")


def _checked_unicode(text: str, source: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _unreadable(source, error) from error
    return text
