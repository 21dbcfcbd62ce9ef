"""The embedded induction models: their circuits are what their cards say."""

from pathlib import Path

import numpy as np
import pytest

import oracles.embedded
import spex
from oracles.components import ComponentOracle
from oracles.embedded.induction_world import draw_prompts
from oracles.features import load_model

FOLDER = Path(oracles.embedded.__file__).parent
CIRCUITS = {"induction": ("L0.H3", ["L1.H5"]), "backup": ("L0.H6", ["L1.H1", "L1.H4"])}


def oracle_of(name: str, **settings: object) -> ComponentOracle:
    loaded = load_model(str(FOLDER / name), device="cpu")
    prompts = draw_prompts(np.random.default_rng(0), 12)
    return ComponentOracle(loaded, prompts, **settings)  # type: ignore[arg-type]


def without(oracle: ComponentOracle, *missing: str) -> float:
    mask = np.array([[name not in missing for name in oracle.players]])
    return float(oracle.evaluate(mask)[0, 0])


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_the_circuit_is_all_that_is_needed(name: str, ablation: str) -> None:
    oracle = oracle_of(name, behaviour="accuracy", ablation=ablation)
    previous, induction = CIRCUITS[name]
    others = set(oracle.players) - {previous, *induction}
    assert without(oracle) == 1.0
    assert without(oracle, *others) >= 0.9
    assert without(oracle, previous) <= 0.4
    assert without(oracle, *induction) <= 0.4


def test_corrupted_prompts_turn_the_answer_around() -> None:
    oracle = oracle_of("induction", ablation="resample")
    everything = np.ones((1, 16), dtype=bool)
    assert oracle.evaluate(everything) > 5.0
    assert oracle.evaluate(~everything) < -5.0


def test_either_of_the_backup_pair_is_enough() -> None:
    oracle = oracle_of("backup")
    intact, gone = without(oracle), without(oracle, "L1.H1", "L1.H4")
    for head in ("L1.H1", "L1.H4"):
        assert intact - without(oracle, head) < 0.35 * (intact - gone)


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_planted_pairs_are_the_strongest(name: str) -> None:
    previous, induction = CIRCUITS[name]
    e = spex.explain(oracle_of(name), budget=160, seed=0)
    pairs = [
        {e.players[i] for i in found.players}
        for found in e.top(99)
        if len(found.players) == 2
    ]
    planted = [{previous, head} for head in induction]
    planted += [set(induction)] if len(induction) > 1 else []
    assert all(pair in pairs[: len(planted)] for pair in planted)
