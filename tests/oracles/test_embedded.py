"""The embedded models do what their cards say, and explanations find what is true."""

import csv
from pathlib import Path

import numpy as np
import pytest

import spex
from oracles.embedded.facts_world import Story, generate
from oracles.features import CausalOracle, ClassifierOracle, load_model
from oracles.features.prompts.prompt import TextPrompt, text_prompt

SENTIMENT = load_model("sentiment")
FACTS = load_model("facts")


def stories(hops: int, count: int, seed: int) -> list[Story]:
    rng = np.random.default_rng(seed)
    return [generate(rng, num_facts=6, num_fillers=4, hops=hops) for _ in range(count)]


def prompt_of(story: Story) -> TextPrompt:
    """The sentences, and the question, which is always kept."""
    return text_prompt(
        " ".join(story.sentences), suffix=f"Question: {story.question} Answer:"
    )


def asked(story: Story) -> CausalOracle:
    """How likely the answer is, sentence by sentence."""
    return CausalOracle(prompt_of(story), FACTS, continuation=story.answer)


def judged(review: str) -> ClassifierOracle:
    """What the classifier says, word by word."""
    return ClassifierOracle(text_prompt(review, segments="word"), SENTIMENT)


def test_reviews_are_told_apart() -> None:
    reviews = {
        "A touching, funny and wonderfully acted film.": "positive",
        "A dull mess with terrible acting.": "negative",
        "The movie is not good.": "negative",
        "The movie is not bad.": "positive",
        "I didn't like this film at all.": "negative",
    }
    for review, label in reviews.items():
        oracle = judged(review)
        assert oracle.description["prediction"] == label, review


@pytest.mark.slow
def test_at_least_80_percent_of_the_sst2_development_set_are_right(data: Path) -> None:
    with (data / "sst2" / "dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    right = 0
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        inputs = SENTIMENT.tokenizer(
            [row["sentence"] for row in batch], padding=True, return_tensors="pt"
        )
        predicted = SENTIMENT.model(**inputs).logits.argmax(dim=1).tolist()
        right += sum(
            p == int(row["label"]) for p, row in zip(predicted, batch, strict=True)
        )
    assert len(rows) == 872
    assert right / len(rows) >= 0.8


@pytest.mark.parametrize("hops", [1, 2])
def test_at_least_90_percent_of_the_questions_are_answered_right(hops: int) -> None:
    """The model's own greedy answer, on stories made here."""
    told = stories(hops, 100, seed=7)
    answers = [
        CausalOracle(prompt_of(story), FACTS).description["prediction"]
        for story in told
    ]
    right = [a == story.answer for a, story in zip(answers, told, strict=True)]
    assert np.mean(right) >= 0.9


def test_the_strongest_pair_is_the_two_sentences_the_answer_needs() -> None:
    """Interactions are found where the story says they are."""
    found = []
    for story in stories(2, 8, seed=11):
        e = spex.explain(asked(story), budget=200)
        pairs = [i.players for i in e.top(99) if len(i.players) == 2]
        needed = tuple(sorted(story.supporting_sentences))
        found.append(pairs[0] == needed)
    assert np.mean(found) >= 0.8


def test_a_review_is_explained_faithfully_within_its_budget() -> None:
    review = (
        "The plot is not good and the jokes are hardly funny, but the wonderful acting "
        "saves it in the end."
    )
    e = spex.explain(judged(review), budget=400)
    assert e.spent == 400
    assert e.faithfulness > 0.85
    strongest = {name for i in e.top(4) for name in i.names}
    assert {"wonderful", "not"} <= strongest
    fresh = np.random.default_rng(99).random((400, len(e.players))) < 0.5
    measured = judged(review).evaluate(fresh)[:, 0]
    error = ((e.predict(fresh) - measured) ** 2).mean() / measured.var()
    assert e.faithfulness.low - 0.03 <= 1 - error <= e.faithfulness.high + 0.03
