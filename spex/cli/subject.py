"""The oracle that the options describe."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from oracles import InputError, Oracle
from spex.registry import default_budget

MEANINGLESS = {
    "completions": (),
    "chat": ("value", "per_token"),
    "sampled": ("against", "choice", "per_token"),
}
"""What is asked over an endpoint -> options that mean nothing for it."""


def make_oracle(options: argparse.Namespace) -> Oracle:
    """Of a text, a conversation or passages, and a model here or behind a server.

    Raises:
        InputError: options that contradict each other, or files that hold something
            else.
        OracleError: what the oracles raise.
    """
    _check_one_subject(options)
    if options.endpoint is not None:
        return _remote(options)
    if options.messages is None and options.passages is None:
        return _of_text(options)
    from oracles.features import Asked, load_model, oracle_for

    loaded = load_model(options.model, device=options.device, dtype=options.dtype)
    asked = Asked(
        question=options.question,
        target=options.target,
        against=options.against,
        choices=tuple(options.choice),
        per_token=options.per_token,
        value=options.value,
    )
    return oracle_for(_prompt(options, loaded.tokenizer), loaded, asked)


def _of_text(options: argparse.Namespace) -> Oracle:
    from oracles.features import text_oracle

    return text_oracle(
        read_text(options),
        options.model,
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
        device=options.device,
        dtype=options.dtype,
    )


def _prompt(options: argparse.Namespace, tokenizer: Any) -> Any:
    """What is ablated, cut as the options say."""
    from oracles.features import chat_prompt, passages_prompt, text_prompt

    cut = {"removal": options.removal, "pinned": options.pin}
    cut |= {"segments": options.segments or "sentence"}
    if options.messages is not None:
        return chat_prompt(_messages(options.messages), tokenizer, **cut)
    around = {"prefix": options.prefix, "suffix": options.suffix}
    if options.passages is not None:
        passages = _passages(options.passages)
        prompt = passages_prompt(passages, tokenizer, removal=options.removal, **around)
    else:
        prompt = text_prompt(read_text(options), tokenizer, **cut, **around)
    if options.chat and options.endpoint is None:
        return chat_prompt([{"role": "user", "content": prompt}], tokenizer)
    return prompt


def _remote(options: argparse.Namespace) -> Oracle:
    """A model behind a server; says what asking it will cost."""
    from oracles.remote import (
        Endpoint,
        Prices,
        chat_oracle,
        completions_oracle,
        sampled_oracle,
    )

    endpoint = Endpoint(
        model=options.model,
        base_url=options.endpoint,
        key_variable=options.key_variable,
        max_requests=options.max_requests,
        concurrency=options.concurrency,
        requests_per_minute=options.requests_per_minute,
    )
    prompt, target, against = _prompt(options, None), options.target, options.against
    value = {} if options.value is None else {"value": options.value}
    if options.api == "completions":
        asked = {"continuation": target, "alternative": against, **value}
        asked |= {"choices": options.choice, "per_token": options.per_token}
        oracle = completions_oracle(prompt, endpoint, **asked)
    elif options.api == "chat":
        asked = {"answer": target, "alternative": against, "choices": options.choice}
        oracle = chat_oracle(prompt, endpoint, **asked)
    else:
        draws = options.draws
        oracle = sampled_oracle(prompt, endpoint, answer=target, draws=draws, **value)
    budget = options.budget or default_budget(len(oracle.players))
    prices = Prices(*options.prices) if options.prices else None
    if not options.quiet:
        print(f"spex: {oracle.estimate(budget, prices)}", file=sys.stderr)
    return oracle


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
        _refuse("--passages, which are the segments", needing, ("pin", "segments"))
        _refuse("--passages", needing, ("truncate",))
    if options.messages is not None:
        around = {"prefix": options.prefix, "suffix": options.suffix}
        _refuse("--messages", needing | around, ("chat", "truncate", *around))
    if options.endpoint is not None:
        more = {"question": options.question, "truncate": options.truncate}
        more |= {"device": options.device, "dtype": options.dtype}
        _refuse("--endpoint", more, tuple(more))
        _refuse(f"--api {options.api}", vars(options), MEANINGLESS[options.api])


def _refuse(what: str, options: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if options[name]:
            option = name.replace("_", "-")
            raise InputError(f"--{option} means nothing with {what}. Leave it out.")


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


def _passages(path: Path) -> list[str]:
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
                f"{path}: passage {number} is neither a text nor an object with a "
                '"text".'
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
