"""Documents, JSON fields, patterns, spans, pinned parts, and scripts of all kinds."""

import json
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import InputError
from oracles.features.prompts.graphemes import clusters
from oracles.features.prompts.json_fields import parse_json, without
from oracles.features.prompts.prompt import text_prompt
from oracles.features.prompts.segments import Segment, pin, split

FAMILY = "👩‍👩‍👧"
ACCENTED = "e\u0301"
SAMPLES = [
    "Hé",
    ACCENTED,
    "你好。",
    "東京へ",
    FAMILY,
    "🇫🇷🇩🇪",
    "שָׁלוֹם",
    "مرحبا؟",
    "क्षि",
    "ไปไหน",
]
SAMPLES += ["a", "-", "\n\n", "\r\n", "\n---\n", "Mr.", "3.5", "?!", " \u0301"]
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(SAMPLES)).map("".join)
KINDS = ["word", "sentence", "line", "paragraph", "document", "example"]
KINDS += ["between:[-.]", "regex:[^-]+"]


def pieces(text: str, kind: Any, **settings: Any) -> list[str]:
    return [segment.of(text) for segment in split(text, kind, **settings)]


def written(text: str, removed: set[int], **settings: Any) -> str:
    prompt = text_prompt(text, **settings)
    mask = np.array([[i not in removed for i in range(len(prompt.players))]])
    return prompt.write_all(mask)[0]


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sampled_from(KINDS))
def test_no_segment_ends_within_a_character_a_reader_sees(text: str, kind: str) -> None:
    try:
        segments = split(text, kind)
    except InputError:
        return
    borders = {match.start() for match in regex.finditer(r"\X", text)} | {len(text)}
    for segment in segments:
        assert {segment.start, segment.end} <= borders


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sampled_from(KINDS), st.sampled_from(["", "[a-z]+", "[^-]$"]))
def test_keeping_all_is_the_prompt_and_places_are_the_players(
    text: str, kind: str, pinned: str
) -> None:
    try:
        prompt = text_prompt(
            text, segments=kind, pinned=pinned, prefix="P: ", suffix="\nQ"
        )
    except InputError:
        return
    intact = prompt.write_all(np.ones((1, len(prompt.players)), bool))[0]
    assert intact == f"P: {text}\nQ"
    assert tuple(intact[start:end] for start, end in prompt.places) == prompt.players
    spans = prompt.description["spans"]
    assert tuple(text[start:end] for start, end in spans) == prompt.players


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sampled_from(KINDS), st.sampled_from(["[a-z]+", "[^-]$"]))
def test_players_and_pinned_parts_are_all_there_is(
    text: str, kind: str, pinned: str
) -> None:
    """But for what separates pieces, each character is in one of the two."""
    try:
        prompt = text_prompt(text, segments=kind, pinned=pinned)
    except InputError:
        return
    parts = sorted([*prompt.segments, *prompt.pinned], key=lambda part: part.start)
    end, left = 0, ""
    for part in parts:
        assert end <= part.start < part.end
        left += text[end : part.start]
        end = part.end
    left = re.sub(r"---", "", left + text[end:])
    assert not (left.strip() and not kind.startswith("between"))


@settings(deadline=None)
@given(TEXTS, st.data())
def test_what_is_pinned_is_under_every_mask(text: str, data: st.DataObject) -> None:
    text = f"one {text} two KEEP THIS three"
    prompt = text_prompt(
        text, segments="word", pinned="KEEP THIS", prefix="First:", suffix="Last."
    )
    num_players = len(prompt.players)
    mask = data.draw(
        st.lists(st.booleans(), min_size=num_players, max_size=num_players)
    )
    found = prompt.write_all(np.array([mask]))[0]
    kept = [p for p, is_kept in zip(prompt.players, mask, strict=True) if is_kept]
    assert found.startswith("First:")
    assert found.endswith(" Last.")
    assert "KEEP THIS" in found
    place = 0
    for words in kept:  # in order
        place = found.index(words, place) + len(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "今日は天気です。明日、東京へ行きます。",
            ["今日は", "天気です。", "明日、", "東京へ", "行きます。"],
        ),
        ("我们去北京旅游。", ["我们", "去", "北京", "旅游。"]),
        ("วันนี้อากาศดีมาก", ["วัน", "นี้", "อากาศ", "ดี", "มาก"]),
        ("「東京」へ です", ["「東京」へ", "です"]),
        ("GPUを2枚", ["GPU", "を", "2", "枚"]),
        ("שלום עולם!", ["שלום", "עולם!"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        (f"a {FAMILY}{FAMILY} b", ["a", FAMILY + FAMILY, "b"]),
        ("ສະບາຍດີ ok", ["ສ", "ະ", "ບ", "າ", "ຍ", "ດີ", "ok"]),
    ],
)
def test_words_of_scripts_with_and_without_spaces(
    text: str, expected: list[str]
) -> None:
    assert pieces(text, "word") == expected


def test_sentences_end_in_other_scripts_too() -> None:
    assert len(pieces("كيف حالك؟ أنا بخير.", "sentence")) == 2
    assert len(pieces("यह पहला है। यह दूसरा है।", "sentence")) == 2
    assert len(pieces("これは本だ。読む！「はい。」", "sentence")) == 3


def test_composed_and_decomposed_letters_are_cut_alike() -> None:
    text = "L'été dernier, c'était bien."
    apart = unicodedata.normalize("NFD", text)
    composed = [unicodedata.normalize("NFC", w) for w in pieces(apart, "word")]
    assert composed == pieces(text, "word")


def test_a_pattern_takes_whole_characters() -> None:
    assert pieces(f"ne{ACCENTED} {FAMILY}x👩", "regex:e|👩") == [
        "e",
        ACCENTED,
        FAMILY,
        "👩",
    ]


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InputError, match=r"'\\ud83d'.*offset 2"):
        split("a \ud83d b", "word")


def test_documents_are_between_rules_or_empty_lines() -> None:
    ruled = "one\n\nstill one\n---\ntwo\n=====\nthree"
    assert pieces(ruled, "document") == ["one\n\nstill one", "two", "three"]
    assert pieces("Q: a\nA: b\n\nQ: c", "example") == ["Q: a\nA: b", "Q: c"]
    assert written(ruled, {1}, segments="document") == "one\n\nstill one\n---\nthree"


def test_each_match_is_a_player_and_the_rest_stays() -> None:
    text = "It costs 30 dollars, or 25USD now (was 99)."
    assert pieces(text, r"regex:\d+") == ["30", "25", "99"]
    assert pieces(text, re.compile(r"\d+")) == ["30", "25", "99"]
    assert written(text, {0, 1, 2}, segments=r"regex:\d+") == (
        "It costs dollars, or USD now (was)."
    )
    prompt = text_prompt(text, segments=re.compile(r"\d+"))
    assert prompt.description["segments"] == r"regex:\d+"


def test_pieces_between_matches_are_players_and_separators_go() -> None:
    text = "red; green; blue"
    assert pieces(text, "between:;") == ["red", "green", "blue"]
    assert written(text, {1}, segments="between:;") == "red; blue"
    assert written(text, {2}, segments="between:;") == "red; green"


def test_given_spans_are_players_and_the_rest_stays() -> None:
    text = "The very good film, really."
    assert pieces(text, [(4, 8), (20, 26)]) == ["very", "really"]
    assert written(text, {0, 1}, segments=[(4, 8), (20, 26)]) == "The good film,."


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 3), (2, 5)], r"\(2, 5\) begins before .* at 3"),
        ([(4, 5), (0, 1)], "begins before"),
        ([(0, 1), (4, 99)], r"\(4, 99\) is not within the text's 10 char"),
        ([(-2, 1), (4, 5)], "not within"),
        ([(3, 3), (4, 5)], "not within"),
        ([(0, 2), (4, 5)], r"\(0, 2\) cuts a character.*\(0, 3\) does not"),
        ([(0, 1)], "one segment by 'spans'"),
    ],
)
def test_spans_that_cannot_be_used_are_refused(
    spans: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(f"c{ACCENTED} te abc", spans)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("regex:zebra", "matches nothing"),
        ("between:zebra", "matches nothing"),
        ("regex:(", "not a regular expression.*backslash"),
        ("regex:$", "matches nothing"),
        ("json", "Expecting value at line 1, column 1"),
        ("stanza", "Choose from word, sentence.*regex:PATTERN"),
    ],
)
def test_patterns_and_kinds_that_cannot_be_used_are_refused(
    kind: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split("a text of words", kind)


def test_pins_that_match_nothing_or_everything_are_refused() -> None:
    with pytest.raises(InputError, match=r"pinned.*matches nothing"):
        pin("a b", "zebra")
    with pytest.raises(InputError, match="everything in the text is pinned"):
        text_prompt("a b", segments="word", pinned=".+")
    assert pin("a b", "") == ()
    assert pin("a b c", [(2, 3)]) == (Segment(2, 3),)


def test_a_pin_leaves_the_rest_of_a_segment() -> None:
    text = "Read this. Never lie about it. Done now."
    assert pieces(text, "sentence", pinned=pin(text, "Never lie")) == [
        "Read this.",
        "about it.",
        "Done now.",
    ]
    assert written(text, {0, 1, 2}, pinned="Never lie") == "Never lie"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
RECORD = """{
  "name": "Ann \\"A\\" {x}",
  "tags": ["a", {"deep": [1, 2.5e3]}, []],
  "empty": {},
  "age": null
}"""


def leaf_count(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not items:
        return 1
    return sum(map(leaf_count, items))


def pruned(value: Any, keep: list[bool]) -> Any:
    """The value without the leaves that are not kept, by the objects themselves."""
    is_dict = isinstance(value, dict)
    kept = []
    for key, item in value.items() if is_dict else enumerate(value):
        if isinstance(item, dict | list) and item:
            kept.append((key, pruned(item, keep)))
        elif keep.pop(0):
            kept.append((key, item))
    return dict(kept) if is_dict else [item for _, item in kept]


@settings(deadline=None, max_examples=200)
@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans(), st.data())
def test_what_is_left_of_json_is_the_record_without_the_fields(
    value: Any, indent: Any, is_ascii: bool, data: st.DataObject
) -> None:
    text = " " + json.dumps(value, indent=indent, ensure_ascii=is_ascii) + "\n"
    try:
        prompt = text_prompt(text, segments="json", prefix="Is it?", suffix="Yes")
    except InputError:
        assert not isinstance(value, dict | list) or leaf_count(value) < 2
        return
    count = len(prompt.players)
    assert count == leaf_count(value)
    mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    intact, left = prompt.write_all(np.array([[True] * count, mask]))
    assert intact == f"Is it?{text}Yes"
    found = json.loads(left.removeprefix("Is it?").removesuffix("Yes"))
    assert found == pruned(value, list(mask))
    assert tuple(intact[a:b] for a, b in prompt.places) == prompt.players


def test_json_fields_are_keys_with_values() -> None:
    assert pieces(RECORD, "json") == [
        '"name": "Ann \\"A\\" {x}"',
        '"a"',
        "1",
        "2.5e3",
        "[]",
        '"empty": {}',
        '"age": null',
    ]
    left = written(RECORD, {0, 2, 3}, segments="json")
    assert left == (
        '{\n  "tags": ["a", {"deep": []}, []],\n  "empty": {},\n  "age": null\n}'
    )
    blank = written(RECORD, {0, 6}, segments="json", removal="replace:")
    assert json.loads(blank)["name"] == json.loads(blank)["age"] == ""
    kept = text_prompt(RECORD, segments="json", pinned='"name"')
    assert '"name": "Ann \\"A\\" {x}"' not in kept.players


def test_json_that_cannot_be_cut_is_refused() -> None:
    for text, message in [
        ('{"a": 1,}', "line 1, column"),
        ('"a text"', "single value"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    ]:
        with pytest.raises(InputError, match=message):
            split(text, "json")
    with pytest.raises(InputError, match="not for JSON"):
        text_prompt(RECORD, segments="json", removal="resample", reference=[RECORD])


def test_without_keeps_what_is_not_named() -> None:
    assert without("[ ]", parse_json("[ ]"), set(), None) == "[ ]"
    assert clusters("abc").floor(2) == 2
