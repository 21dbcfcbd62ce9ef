"""Segments map back to the exact characters of any text."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from oracles import InputError
from oracles.features.prompts.removal import Ablator, make_ablator
from oracles.features.prompts.segments import SPLITTERS, Segment, split

TEXTS = st.text(max_size=60) | st.lists(
    st.sampled_from(
        ["Hé", "não.", "你好。", "👩‍👩‍👧", "שלום", "a", "\n\n", "Mr.", "3.5", "?!"]
    )
).map(" ".join)


def _bytes() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer whose tokens may end within a character."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["你好 não שלום 👩‍👩‍👧 Mr."] * 9, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw)


BYTES = _bytes()


def pieces(text: str, kind: str) -> list[str]:
    return [segment.of(text) for segment in split(text, kind)]


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sampled_from([kind for kind in SPLITTERS if kind != "token"]))
def test_segments_are_in_order_apart_and_leave_out_only_white_space(
    text: str, kind: str
) -> None:
    try:
        segments = split(text, kind)
    except InputError:
        return
    end, rest = 0, ""
    for segment in segments:
        assert end <= segment.start < segment.end
        assert segment.of(text).strip()
        rest += text[end : segment.start]
        end = segment.end
    assert not (rest + text[end:]).strip()


@settings(deadline=None)
@given(TEXTS, st.data())
def test_keeping_all_is_the_text_and_each_kept_word_is_there(
    text: str, data: st.DataObject
) -> None:
    try:
        segments = split(text, "word")
    except InputError:
        return
    ablator = Ablator(text, segments)
    mask = np.array(data.draw(st.tuples(*[st.booleans()] * len(segments))))
    assert ablator.write(np.ones(len(segments), bool)) == text
    kept = [s.of(text) for s, keep in zip(segments, mask, strict=True) if keep]
    assert "".join(ablator.write(mask).split()) == "".join("".join(kept).split())


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_tokens_cover_every_character_once(text: str) -> None:
    try:
        segments = split(text, "token", BYTES)
    except InputError:
        return
    covered = [i for segment in segments for i in range(segment.start, segment.end)]
    assert len(set(covered)) == len(covered)
    left_out = set(range(len(text))) - set(covered)
    assert not any(text[i].strip() for i in left_out)


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_deleted_part_of_a_word_does_not_join_it_to_the_next(
    mask: list[bool],
) -> None:
    text = "unbelievably good film"
    cuts = [(0, 2), (2, 9), (9, 12), (13, 17), (18, 22)]
    segments = tuple(Segment(*cut) for cut in cuts)
    words = [segment.of(text) for segment in segments]
    kept = [word if keep else "" for word, keep in zip(words, mask, strict=True)]
    expected = " ".join(filter(None, ["".join(kept[:3]), *kept[3:]]))
    assert Ablator(text, segments).write(np.array(mask)) == expected


def test_a_long_text_is_cut_in_linear_time() -> None:
    text = "It is so. " * 20_000
    started = time.perf_counter()
    assert len(split(text, "sentence")) == 20_000
    assert time.perf_counter() - started < 10  # 80 s when it was quadratic


def test_words_keep_their_punctuation() -> None:
    assert pieces("Not bad, (really)!", "word") == ["Not", "bad,", "(really)!"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith paid 3.50 at J. Doe's. He left!", 2),
        ('"Stop!" he said. "Why?" she asked.', 4),
        ("It is 5 p.m. now. Go.", 2),
        ("你好。再见！", 2),
        ("A title\n\nA paragraph. Its end.", 3),
        ("Wait... What?! No.", 3),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: int) -> None:
    assert len(pieces(text, "sentence")) == expected


def test_lines_and_paragraphs() -> None:
    text = "one\ntwo\n\nthree"
    assert pieces(text, "line") == ["one", "two", "three"]
    assert pieces(text, "paragraph") == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "word", "empty"),
        (" \n\t ", "sentence", "empty"),
        ("one", "word", r"single word.*\(token\)"),
        ("One sentence here.", "sentence", r"single sentence.*\(word, token\)"),
        ("some words", "syllable", "Choose from word, sentence"),
        ("some words", "token", "fast tokenizer"),
    ],
)
def test_texts_that_cannot_be_cut_are_refused(
    text: str, kind: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(text, kind)


def test_deletion_takes_the_space_and_masking_leaves_the_place() -> None:
    text = "  The plot,  is thin. "
    segments = split(text, "word")
    mask = np.array([True, False, True, False])
    masker = SimpleNamespace(mask_token="[MASK]", unk_token="[UNK]")
    delete = make_ablator(text, segments, "delete", masker)
    replace = make_ablator(text, segments, "mask", masker)
    assert delete.write(mask) == "  The is"
    assert delete.write(np.zeros(4, bool)) == ""
    assert delete.write(np.array([False, True, True, True])) == "  plot,  is thin. "
    assert replace.write(mask) == "  The [MASK]  is [MASK] "
    masker.mask_token = None
    assert "[UNK]" in make_ablator(text, segments, "mask", masker).write(mask)


def test_masking_needs_a_token_and_a_known_removal() -> None:
    nothing = SimpleNamespace(mask_token=None, unk_token=None)
    segments = (Segment(0, 1), Segment(2, 3))
    with pytest.raises(InputError, match='removal="delete"'):
        make_ablator("a b", segments, "mask", nothing)
    with pytest.raises(InputError, match="delete, mask"):
        make_ablator("a b", segments, "blur", nothing)
