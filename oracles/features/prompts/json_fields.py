"""The fields of a JSON text: where each stands, and the text without some of them.

What is written is always JSON. A removed field goes with its key and one comma: a field
that is not there is what a reader of the record would find, while an empty string or a
null is a claim about it. An object or array that loses all its fields stays, empty.
"""

import json
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from oracles.errors import InputError

SPACE = re.compile(r"[ \t\n\r]*")
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
SCALAR = re.compile(r"[^ \t\n\r,\]}]+")


@dataclass(frozen=True)
class Container:
    """An object or array: characters start to end, brackets included."""

    start: int
    end: int
    items: tuple["Item", ...]


@dataclass(frozen=True)
class Item:
    """A member with its key, or an element; `inner` if its value has items."""

    start: int
    value: int
    end: int
    inner: Container | None


def parse_json(text: str) -> Container:
    """The items of a JSON object or array, with their places in the text.

    Raises:
        InputError: not JSON, nested too deeply, or a single value.
    """
    try:
        json.loads(text)
        start = _after(SPACE, text, 0)
        if text[start] not in "{[":
            raise InputError(
                "the JSON text is a single value, without fields to remove. Cut it by "
                'words or sentences: segments="word".'
            )
        return _container(text, start)
    except json.JSONDecodeError as error:
        raise InputError(
            f'segments="json" needs a JSON text, and this is none: {error.msg} at line '
            f"{error.lineno}, column {error.colno}. Correct it, or put what stands "
            "around the JSON into prefix and suffix."
        ) from error
    except RecursionError:
        raise InputError(
            "the JSON text is nested too deeply to be read. Give an inner part of it."
        ) from None


def leaves(container: Container) -> Iterator[Item]:
    """Items without items of their own, in order."""
    for item in container.items:
        if item.inner is None:
            yield item
        else:
            yield from leaves(item.inner)


def without(
    text: str, container: Container, removed: Set[int], replacement: str | None
) -> str:
    """The container's text without the leaves that start at the places in `removed`.

    With a replacement, a JSON value, they keep their keys and have it for a value.

    >>> text = '{"a": 1, "b": 2}'
    >>> without(text, parse_json(text), {1}, None)
    '{"b": 2}'
    >>> without(text, parse_json(text), {1}, "null")
    '{"a": null, "b": 2}'
    """
    items = container.items
    gone = removed if replacement is None else frozenset()
    kept = [i for i, item in enumerate(items) if item.inner or item.start not in gone]
    if not kept:
        between = "" if items else text[container.start + 1 : container.end - 1]
        return text[container.start] + between + text[container.end - 1]
    parts = [text[container.start : items[0].start]]
    for i in kept:
        item = items[i]
        parts.append(text[item.start : item.value])
        if item.inner:
            parts.append(without(text, item.inner, removed, replacement))
        elif replacement is not None and item.start in removed:
            parts.append(replacement)
        else:
            parts.append(text[item.value : item.end])
        if i != kept[-1]:
            parts.append(text[item.end : items[i + 1].start])
    return "".join([*parts, text[items[-1].end : container.end]])


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    assert match is not None  # the text is known to be JSON
    return match.end()


def _value(text: str, start: int) -> tuple[Container | None, int]:
    """What begins at `start`: its items if it has any, and its end."""
    if text[start] in "{[":
        container = _container(text, start)
        return container if container.items else None, container.end
    return None, _after(STRING if text[start] == '"' else SCALAR, text, start)


def _container(text: str, start: int) -> Container:
    items = []
    is_object, place = text[start] == "{", _after(SPACE, text, start + 1)
    while text[place] not in "}]":
        first = value = place
        if is_object:
            colon = _after(SPACE, text, _after(STRING, text, first))
            value = _after(SPACE, text, colon + 1)
        inner, end = _value(text, value)
        items.append(Item(first, value, end, inner))
        place = _after(SPACE, text, end)
        if text[place] == ",":
            place = _after(SPACE, text, place + 1)
    return Container(start, place + 1, tuple(items))
