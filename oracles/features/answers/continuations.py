"""Words that follow a prompt, as the tokens a causal model is asked about."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oracles.errors import InputError

NEUTRAL = ("\n", "a", "1", ".", "(")
"""What words are encoded after where the prompt's own end would merge with them."""
SOME_TEXT = string.ascii_letters + string.digits
SHOWN = 8  # tokens before one that decide how it is written


@dataclass(frozen=True)
class Continuation:
    """What is scored after the prompt.

    Attributes:
        text: white space in front included.
        tokens: at least one.
        pieces: the characters of each token; together the text.
    """

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Encoder:
    """Prompts and continuations as one causal model's tokens.

    Attributes:
        tokenizer: a fast Hugging Face tokenizer.
        start: what the tokenizer itself puts in front of a text. A prompt that has it
            as text already gets no second one.
        empty: what stands for a prompt without tokens.
        is_rendered: whether prompts hold their control tokens as text, as those of a
            chat template do. They end where the answer begins; of others the white
            space at the end counts as the continuation's.
    """

    tokenizer: Any
    start: tuple[int, ...]
    empty: tuple[int, ...]
    is_rendered: bool = False

    def prompts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of whole prompts."""
        encoded = self.tokenizer(
            [self.context(text) for text in texts],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [(*self._front(ids), *ids) or self.empty for ids in encoded["input_ids"]]

    def intact(self, text: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        """Token ids of a prompt and each one's [start, end) in it, (0, 0) for none."""
        encoded = self.tokenizer(
            self.context(text),
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        front = self._front(encoded["input_ids"])
        ids = (*front, *encoded["input_ids"])
        return ids, [(0, 0)] * len(front) + encoded["offset_mapping"]

    def _front(self, ids: Sequence[int]) -> tuple[int, ...]:
        """What has to be put in front of a text's tokens."""
        is_there = tuple(ids[: len(self.start)]) == self.start
        return () if is_there else self.start

    def context(self, prompt: str) -> str:
        """The prompt up to where the continuation begins."""
        return prompt if self.is_rendered else prompt.rstrip()

    def continuation(self, prompt: str, words: str) -> Continuation:
        """The words with their tokens where they follow the intact prompt.

        Encoded alone, many tokenizers would begin them with a second white space. Where
        a token would reach from the prompt into the words, they are encoded after
        characters that do not merge with them.

        Raises:
            InputError: nothing but white space, or no tokens.
        """
        context = self.context(prompt)
        text = with_border(prompt, words, is_rendered=self.is_rendered)
        found = (self._after(before, text) for before in (context, *NEUTRAL))
        tokens = next((tokens for tokens in found if tokens is not None), None)
        if tokens is None:
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise InputError(
                f"the continuation {words!r} has no tokens in this model's "
                "vocabulary. Name other words."
            )
        return Continuation(text, tuple(tokens), self.pieces(prompt, tokens))

    def _after(self, before: str, text: str) -> list[int] | None:
        """Tokens of a text that follows another; None if one is of both."""
        together = self.tokenizer(
            before + text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        pairs = zip(together["input_ids"], together["offset_mapping"], strict=True)
        after = [(token, span) for token, span in pairs if span[1] > len(before)]
        is_across = bool(after) and after[0][1][0] < len(before)
        return None if is_across else [token for token, _ in after]

    def answer(self, prompt: str, tokens: Sequence[int]) -> Continuation:
        """Tokens that the model itself put after a prompt."""
        pieces = self.pieces(prompt, tokens)
        return Continuation("".join(pieces), tuple(tokens), pieces)

    def pieces(self, prompt: str, tokens: Sequence[int]) -> tuple[str, ...]:
        """Characters of tokens after a prompt.

        Alone, some lose the white space in front. One that ends within a character has
        what is missing in the next.
        """
        [before] = self.prompts([prompt])
        near = before[-SHOWN:]
        ids = [*near, *tokens]
        done = len(near)
        pieces = []
        for count in range(done + 1, len(ids) + 1):
            first = max(0, done - SHOWN)
            whole = self._decode(ids[first:count])
            is_within = whole.endswith("\ufffd") and count < len(ids)
            known = self._decode(ids[first:done])
            pieces.append("" if is_within else whole[len(known) :])
            done = done if is_within else count
        return tuple(pieces)

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def encoder_of(tokenizer: Any, nothing: str, *, is_rendered: bool) -> Encoder:
    """How prompts are encoded of which `nothing` is the one with all segments removed.

    Raises:
        InputError: there is nothing that could stand for an empty prompt.
    """
    if is_rendered:
        return Encoder(tokenizer, (), _first_of(tokenizer), is_rendered)
    start = _put_in_front(tokenizer)
    empty = start or _first_of(tokenizer)
    if empty or nothing.strip():
        return Encoder(tokenizer, start, empty)
    raise InputError(
        "this model's tokenizer has no beginning, end or padding token, so there is no "
        "value for an empty prompt. Give a prefix or suffix, which is always kept."
    )


def _put_in_front(tokenizer: Any) -> tuple[int, ...]:
    """Special tokens that the tokenizer puts before a text of its own accord."""
    encoded = tokenizer(SOME_TEXT, verbose=False)
    parts = encoded.sequence_ids(0)
    count = next((i for i, part in enumerate(parts) if part is not None), 0)
    return tuple(encoded["input_ids"][:count])


def _first_of(tokenizer: Any) -> tuple[int, ...]:
    kinds = ("bos_token_id", "eos_token_id", "pad_token_id")
    known = [getattr(tokenizer, kind) for kind in kinds]
    return tuple(int(token) for token in known if token is not None)[:1]


def with_border(prompt: str, words: str, *, is_rendered: bool = False) -> str:
    """The words with the white space that stands between them and the prompt.

    Raises:
        InputError: there are no words.
    """
    if not words.strip():
        raise InputError(
            "the continuation is empty. Name the words whose probability should be "
            "explained as the target, or leave it out for the model's own answer."
        )
    # an answer follows a template's own end ("[/INST]", ">") at once; one that is
    # begun, or stands after "ASSISTANT:", goes on after a space
    if is_rendered and not (prompt[-1:].isalnum() or prompt.endswith(tuple(".,:;!?"))):
        return words
    border = prompt[len(prompt.rstrip()) :]
    if not (border or words[0].isspace()) and _wants_space(prompt, words):
        border = " "
    return border + words


def _wants_space(prompt: str, words: str) -> bool:
    ends_in_word = bool(prompt) and (prompt[-1].isalnum() or prompt[-1] in ".,:;!?)]}")
    return ends_in_word and (words[0].isalnum() or words[0] in "([{")
