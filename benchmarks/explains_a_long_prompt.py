"""SPEX on a causal language model with a prompt of more than 500 segments.

    python benchmarks/explains_a_long_prompt.py [--budgets-b 4 5] [--stories 3]

The embedded model `facts` answers a question that takes two facts of a story of facts
and fillers (`oracles/embedded/facts_world.py`), made here; the players are the story's
words, deleted; the value is the log-odds of the right answer against a wrong one that
is in the story as well. R^2 is taken on `--test` fresh uniform masks, next to what the
explanation says of itself, to a linear ridge, and to shapiq's SPEX on as many ablations
of the same oracle, all as in `explains_reviews`. "needed" is how many of the two facts
have a word among the ten strongest interactions.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from explains_reviews import Study, ablations, score
from recovers_planted_spectra import provenance

import spex
from oracles import Ledger
from oracles.embedded.facts_world import Story, generate
from oracles.features import CausalOracle, load_model
from oracles.features.prompts.prompt import text_prompt

NUM_WORDS = 500
NUM_FACTS, NUM_FILLERS = 24, 60
PEERS = ("Banzhaf", "shapiq-SPEX")


def long_story(seed: int) -> Story:
    """A story of at least `NUM_WORDS` words."""
    rng = np.random.default_rng(seed)
    fillers = NUM_FILLERS
    while True:
        story = generate(rng, num_facts=NUM_FACTS, num_fillers=fillers, hops=2)
        if len(" ".join(story.sentences).split()) >= NUM_WORDS:
            return story
        fillers += 5


def oracle_of(story: Story) -> CausalOracle:
    prompt = text_prompt(
        " ".join(story.sentences),
        segments="word",
        suffix=f"Question: {story.question} Answer:",
    )
    return CausalOracle(
        prompt,
        load_model("facts"),
        continuation=story.answer,
        alternative=story.wrong_answers[0],
    )


def num_needed(found: spex.Explanation, story: Story) -> int:
    """Facts of the question with a word in the ten strongest interactions."""
    lengths = [len(sentence.split()) for sentence in story.sentences]
    sentence_of = np.repeat(np.arange(len(lengths)), lengths)
    named = {sentence_of[player] for i in found.top(10) for player in i.players}
    return len(named & set(story.supporting_sentences))


def rows_of(seed: int, options: argparse.Namespace, folder: Path) -> list[Any]:
    """One story: ours and the peers, for every b."""
    story = long_story(seed)
    oracle = oracle_of(story)
    n = len(oracle.players)
    rng = np.random.default_rng([seed, 1])
    test = rng.random((options.test, n)) < 0.5
    rows = []
    with Ledger(folder / f"{seed}.sqlite") as ledger:
        study = Study(oracle, n, ledger, seed)
        truth = study.values(test)
        for b in options.budgets_b:
            budget = ablations(n, b)
            started = time.perf_counter()
            found = spex.explain(
                oracle, method="spex", budget=budget, seed=seed, ledger=ledger
            )
            error = ((found.predict(test) - truth) ** 2).mean()
            row = {"story": seed, "words": n, "b": b, "ablations": found.spent}
            row |= {"R^2": 1 - error / truth.var()}
            row |= {"said": [found.faithfulness, *bounds(found)]}
            row |= {"needed": num_needed(found, story)}
            row |= {"recovery s": found.provenance.recovery_seconds}
            row |= {"all s": time.perf_counter() - started}
            row |= {name: score(study, b, name, test)["r2"] for name in PEERS}
            row |= {"reason": found.provenance.reason}
            print(describe(row), flush=True)
            rows.append(row)
    return rows


def bounds(found: spex.Explanation) -> list[float]:
    return [found.faithfulness.low, found.faithfulness.high]


def describe(row: dict[str, Any]) -> str:
    shown = {key: value for key, value in row.items() if key != "reason"}
    return "| " + " | ".join(map(cell, shown.values())) + " |"


def cell(value: Any) -> str:
    if isinstance(value, list):
        return "{:.3f} ({:.3f} to {:.3f})".format(*value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.json"
    parser.add_argument("--budgets-b", type=int, nargs="+", default=[4, 5])
    parser.add_argument("--stories", type=int, default=3)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="keep the ledgers in this folder")
    parser.add_argument("--json", type=Path, default=out)
    options = parser.parse_args()
    print(json.dumps(provenance(options)))
    heads = "story words b ablations R² said needed recovery-s all-s".split()
    print("| " + " | ".join([*heads, *PEERS]) + " |")
    print("| --- " * (len(heads) + len(PEERS)) + "|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            row for s in range(options.stories) for row in rows_of(s, options, folder)
        ]
    kept = {**provenance(options), "rows": rows}
    options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
