"""The embedded induction models: their circuits are what their cards say."""

from pathlib import Path

import numpy as np
import pytest

import oracles.embedded
import spex
from oracles.components import ComponentOracle
from oracles.embedded.induction_world import draw_prompts
from oracles.features import load_model
from spex.reading import Kind

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


def left_out(oracle: ComponentOracle) -> dict[str, float]:
    """What is lost without each head, all others working."""
    intact = without(oracle)
    return {name: intact - without(oracle, name) for name in oracle.players}


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_leave_one_out_by_log_probability_and_accuracy_misses_the_backup_pair(
    ablation: str,
) -> None:
    log_prob, accuracy, difference = (
        left_out(oracle_of("backup", behaviour=behaviour, ablation=ablation))
        for behaviour in ("log-prob", "accuracy", "logit-diff")
    )
    for head in ("L1.H1", "L1.H4"):
        assert abs(log_prob[head]) < 0.02 * log_prob["L0.H6"]
        assert accuracy[head] == 0.0
        # the card says that this one does not
        assert difference[head] > 0.1 * difference["L0.H6"]


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_the_interaction_of_the_backup_pair_is_found_where_scores_miss_it(
    ablation: str,
) -> None:
    pair = {"L1.H1", "L1.H4"}
    oracle = oracle_of("backup", behaviour="accuracy", ablation=ablation)
    e = spex.explain(oracle, budget=160, seed=0)
    strongest = [found for found in e.top(99) if len(found.players) > 1][:3]
    [found] = [one for one in strongest if set(one.names) == pair]
    assert e.reading(found.players).kind is Kind.REDUNDANT
    # log-probability falls without bound where nothing works: there the pair is
    # redundant together with the head that both need
    oracle = oracle_of("backup", behaviour="log-prob", ablation=ablation)
    e = spex.explain(oracle, budget=160, seed=0)
    strongest = [found for found in e.top(99) if len(found.players) > 1][:3]
    with_pair = [one for one in strongest if set(one.names) >= pair]
    kinds = [e.reading(one.players).kind for one in with_pair]
    assert Kind.REDUNDANT in kinds


@pytest.mark.parametrize("behaviour", ["logit-diff", "accuracy"])
def test_mean_differences_over_half_masks_see_the_backup_pair(behaviour: str) -> None:
    oracle = oracle_of("backup", behaviour=behaviour, ablation="zero")
    masks = np.random.default_rng(0).random((2000, 16)) < 0.5
    values = oracle.evaluate(masks)[:, 0]
    apart = {
        name: abs(values[kept].mean() - values[~kept].mean())
        for name, kept in zip(oracle.players, masks.T, strict=True)
    }
    assert set(sorted(apart, key=lambda name: -apart[name])[:3]) == {
        "L0.H6",
        "L1.H1",
        "L1.H4",
    }


def test_the_card_says_which_scores_miss_the_pair() -> None:
    card = (FOLDER / "backup" / "README.md").read_text(encoding="utf-8")
    assert "scores of single heads miss them" not in card
    lines = [line.split("|")[1:-1] for line in card.splitlines() if "leave-one" in line]
    told = {
        cells[0].strip(): [float(cell.split("(")[0]) for cell in cells[1:]]
        for cells in lines
        if len(cells) == 4
    }
    for score in ("leave-one-out, log-prob", "leave-one-out, accuracy"):
        first, *pair = told[score]
        assert max(map(abs, pair)) < 0.02 * first
    first, *pair = told["leave-one-out, logit-diff"]
    assert min(pair) > 0.1 * first
