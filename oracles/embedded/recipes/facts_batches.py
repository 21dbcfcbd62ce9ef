"""Training batches of the embedded model `facts`: stories with several questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from oracles.embedded.facts_world import (
    UNKNOWN,
    Fact,
    Question,
    draw_chains,
    follow,
    write_fact,
    write_filler,
)
from oracles.embedded.recipes.facts_text import BOS, EOS, PAD, make_encode

_RELATIONS = (("friend", "work", "city"), ("work", "city"), ("friend", "work"))

Line = tuple[str, Fact | None]
Pairs = tuple[list[tuple[int, int]], ...]
Spots = dict[str, tuple[int, int]]
"""Word told of -> positions of the last and the first word of the fact."""

_RELATIONS = (("friend", "work", "city"), ("work", "city"), ("friend", "work"))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training: how long, and on documents of what kind.

    Attributes:
        steps: optimiser steps.
        rows: documents in a batch, each with `questions` questions.
        length: tokens in a row, questions included.
        chains: least and most chains of facts in a document.
        fillers: least and most filler sentences.
        text_rows: rows of ordinary English beside the documents.
        ablated: share of documents that lose sentences at random.
        learning_rate: at the start of the stage.
        final_rate: at its end, reached along half a cosine.
        hint_weight: of the loss of the hops on the way, told at inner layers.
    """

    steps: int
    rows: int
    length: int
    questions: int
    chains: tuple[int, int]
    fillers: tuple[int, int]
    text_rows: int
    ablated: float
    learning_rate: float
    final_rate: float
    hint_weight: float


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of a document followed by branches that cannot see each other.

    Attributes:
        ids: token ids, (rows, length).
        branches: 0 for the document, 1, 2, ... for what follows it, -1 for padding;
            a token sees what came before it in the document and in its own branch.
        positions: position of each token in document + its own branch.
        words: for the word asked about, those reached after one hop, after two and
            at last: pairs of the flat position where it is due and its id.
        pointers: for the word asked about or told of, and the facts of the first and
            the second hop: pairs of a flat position and the column to look at.
        text: flat positions of ordinary text; each is to predict the next token.
    """

    ids: torch.Tensor
    branches: torch.Tensor
    positions: torch.Tensor
    words: tuple[torch.Tensor, ...]
    pointers: tuple[torch.Tensor, ...]
    text: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A question, or a lone word to look up; None where there is nothing to learn.

    Attributes:
        ids: token ids, seen after the document.
        due: index in `ids` of the token after which the answer is due.
        words: see `Batch.words`.
        subject: index in `ids` of the word asked about.
        spots: position in the document of what is reached after one hop and two.
    """

    ids: list[int]
    due: int
    words: tuple[int | None, ...]
    subject: int | None
    spots: tuple[int | None, ...]


class BatchMaker:
    """Draws batches for a stage; all randomness comes from the one generator."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        paragraphs: Sequence[Sequence[str]],
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        self._encode = make_encode(tokenizer)
        self._special = {
            token: tokenizer.convert_tokens_to_ids(token) for token in (BOS, EOS, PAD)
        }
        self._sentences = [s for paragraph in paragraphs for s in paragraph]
        self._stream = np.concatenate(
            [
                [*self._encode(" ".join(paragraph)), self._special[EOS]]
                for paragraph in paragraphs
            ]
        )

    def draw(self, stage: Stage) -> Batch:
        """Return one batch: documents with questions, then rows of text."""
        shape = (stage.rows + stage.text_rows, stage.length)
        ids = np.full(shape, self._special[PAD])
        branches = np.full(shape, -1)
        positions = np.zeros(shape, dtype=np.int64)
        words: Pairs = ([], [], [], [])
        pointers: Pairs = ([], [], [])
        for row in range(stage.rows):
            document, told, asked = self._draw_row(stage)
            start, end = row * stage.length, len(document)
            pointers[0].extend((start + at, to) for at, to in told)
            ids[row, :end], branches[row, :end] = document, 0
            positions[row, :end] = np.arange(end)
            for number, branch in enumerate(asked, start=1):
                _collect(branch, start, end, words, pointers)
                at, end = end, end + len(branch.ids)
                ids[row, at:end], branches[row, at:end] = branch.ids, number
                positions[row, at:end] = len(document) + np.arange(end - at)
        for row in range(stage.rows, shape[0]):
            at = self._rng.integers(len(self._stream) - stage.length)
            ids[row] = self._stream[at : at + stage.length]
            branches[row], positions[row] = 0, np.arange(stage.length)
        flat = np.arange(ids.size).reshape(shape)
        return Batch(
            ids=torch.from_numpy(ids),
            branches=torch.from_numpy(branches),
            positions=torch.from_numpy(positions),
            words=_to_tensors(words),
            pointers=_to_tensors(pointers),
            text=torch.from_numpy(flat[stage.rows :, :-1].ravel()),
        )

    def _draw_row(
        self, stage: Stage
    ) -> tuple[list[int], list[tuple[int, int]], list[Branch]]:
        """Return a document, where its facts' last and first words are, branches."""
        rng = self._rng
        relations = _RELATIONS[rng.choice(3, p=(0.5, 0.3, 0.2))]
        num_chains = rng.integers(stage.chains[0], stage.chains[1] + 1)
        chains = draw_chains(rng, relations, num_chains)
        lines = self._write_document(stage, chains)
        facts = [fact for _, fact in lines if fact is not None]
        lead = ("\n" if rng.random() < 0.15 else " ") if lines else ""
        questions = [self._draw_question(chains, facts) for _ in range(stage.questions)]
        texts = [
            self._encode(f"{lead}Question: {q.text} Answer: {follow(facts, q)[-1]}")
            for q in questions
        ]
        drills = _drills_of(chains)
        room = stage.length - sum(len(text) + 1 for text in texts) - len(drills)
        document, spots = self._encode_document(lines, room)
        branches = [
            self._ask(question, list(text), facts, spots)
            for question, text in zip(questions, texts, strict=True)
        ]
        branches += [self._drill(drill, facts, spots) for drill in drills]
        return document, list(spots.values()), branches

    def _ask(
        self, question: Question, ids: list[int], facts: list[Fact], spots: Spots
    ) -> Branch:
        """Return a question with its answer as a branch."""
        trail = follow(facts, question)
        words = (question.subject, trail[0], trail[:2][-1], trail[-1])
        seen = (question.subject, trail[0])[: len(trail)]
        return Branch(
            ids=[*ids, self._special[EOS]],
            due=len(ids) - 2,
            words=tuple(self._word(word) for word in words),
            subject=ids.index(self._word(question.subject)),
            spots=tuple(spots[w][0] if w in spots else None for w in seen),
        )

    def _drill(self, drill: Question, facts: list[Fact], spots: Spots) -> Branch:
        """Return a lone word as a branch; what it leads to is for inner layers."""
        trail = follow(facts, drill)
        seen = (drill.subject, trail[0])[: len(trail)]
        return Branch(
            ids=[self._word(drill.subject)],
            due=0,
            words=(None, *(self._word(word) for word in trail)),
            subject=None,
            spots=tuple(spots[w][0] if w in spots else None for w in seen),
        )

    def _word(self, word: str) -> int:
        """Return the id of a word of the world, as it stands after a space."""
        return self._encode(" " + word)[0]

    def _write_document(
        self, stage: Stage, chains: Sequence[Sequence[Fact]]
    ) -> list[Line]:
        """Return a document's sentences, shuffled, each with its fact if any."""
        rng = self._rng
        lines: list[Line] = [
            (write_fact(rng, fact), fact) for chain in chains for fact in chain
        ]
        num_fillers = rng.integers(stage.fillers[0], stage.fillers[1] + 1)
        lines += [(self._write_filler(), None) for _ in range(num_fillers)]
        if rng.random() < stage.ablated:
            kept = rng.random(len(lines)) < rng.random()
            lines = [line for line, keep in zip(lines, kept, strict=True) if keep]
            if rng.random() < 0.25:
                lines = [self._drop_words(*line) for line in lines]
                lines = [line for line in lines if line[0]]
        return [lines[i] for i in rng.permutation(len(lines))]

    def _write_filler(self) -> str:
        """Return a sentence of ours, or of WikiText as often."""
        if self._rng.random() < 0.5:
            return write_filler(self._rng)
        return self._sentences[self._rng.integers(len(self._sentences))]

    def _drop_words(self, text: str, fact: Fact | None) -> Line:
        """Return the sentence less some words; no fact if it lost its entities."""
        text = " ".join(word for word in text.split() if self._rng.random() > 0.15)
        if fact is not None and not (fact.subject in text and fact.value in text):
            fact = None
        return text, fact

    def _draw_question(
        self, chains: Sequence[Sequence[Fact]], facts: Sequence[Fact]
    ) -> Question:
        """Return a question about one chain, seldom one that cannot be answered."""
        rng = self._rng
        for _ in range(3):
            chain = chains[rng.integers(len(chains))]
            hops = min(1 + rng.choice(3, p=(0.25, 0.4, 0.35)), len(chain))
            start = rng.integers(len(chain) - hops + 1)
            question = Question(
                subject=chain[start].subject,
                relations=tuple(f.relation for f in chain[start : start + hops]),
            )
            if follow(facts, question)[-1] != UNKNOWN or rng.random() < 0.3:
                break
        return question

    def _encode_document(
        self, lines: Sequence[Line], room: int
    ) -> tuple[list[int], Spots]:
        """Return the document's ids, less the last fillers if too long, and spots."""
        pieces = [
            (self._encode(text if i == 0 else " " + text), fact)
            for i, (text, fact) in enumerate(lines)
        ]
        room -= 1 + sum(len(piece) for piece, fact in pieces if fact is not None)
        ids = [self._special[BOS]] if self._rng.random() < 0.9 else []
        spots: Spots = {}
        for piece, fact in pieces:
            if fact is not None:
                subject, value = self._word(fact.subject), self._word(fact.value)
                at = piece.index(subject) if subject in piece else 0
                if value in piece:
                    end = len(ids) + piece.index(value)
                    spots[fact.subject] = (end, len(ids) + at)
            else:
                room -= len(piece)
            if fact is not None or room >= 0:
                ids += piece
        return ids, spots


def _drills_of(chains: Sequence[Sequence[Fact]]) -> list[Question]:
    """Return for each fact the question that makes up to two hops from it."""
    return [
        Question(
            subject=fact.subject,
            relations=tuple(after.relation for after in chain[i : i + 2]),
        )
        for chain in chains
        for i, fact in enumerate(chain)
    ]


def _collect(
    branch: Branch, start: int, at: int, words: Pairs, pointers: Pairs
) -> None:
    """Add what a branch teaches, the branch being at column `at` of its row."""
    due = start + at + branch.due
    for column, word in enumerate(branch.words):
        if word is not None:
            words[column].append((due, word))
    if branch.subject is not None:
        pointers[0].append((due, at + branch.subject))
    for column, spot in enumerate(branch.spots, start=1):
        if spot is not None:
            pointers[column].append((due, spot))


def _to_tensors(columns: Pairs) -> tuple[torch.Tensor, ...]:
    """Return each column's pairs as an (n, 2) tensor."""
    return tuple(
        torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2) for pairs in columns
    )
