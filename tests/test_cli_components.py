"""`spex components` from end to end, on models whose circuits are known."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from oracles import OracleError
from oracles.components import ComponentOracle, read_task_prompts
from oracles.embedded.induction_world import draw_prompts
from oracles.features import load_model
from spex import Explanation, load
from spex.cli import main
from spex.components import Effects, Where
from spex.tried.circuits import CIRCUIT, PRUNED, Circuit, circuits_of

CIRCUITS = {
    "induction": {"L0.H3", "L1.H5"},
    "backup": {"L0.H6", "L1.H1", "L1.H4"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("components")
    prompts = [asdict(p) for p in draw_prompts(np.random.default_rng(0), 12)]
    write(folder / "p.jsonl", prompts)
    write(folder / "one.jsonl", prompts[4:5])
    return folder


def write(path: Path, prompts: list[dict[str, str]]) -> None:
    path.write_text("\n".join(map(json.dumps, prompts)) + "\n")


def command(folder: Path, *more: str, model: str = "induction") -> list[str]:
    return [
        "components", "--model", model, "--prompts", str(folder / "p.jsonl"),
        "--ledger", str(folder / "l.sqlite"), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module", params=[("induction", None), ("backup", "0.8")])
def explained(
    request: pytest.FixtureRequest, folder: Path
) -> tuple[str, Explanation, Path]:
    model, keep = request.param
    out = folder / f"{model}.html"
    more = ["--budget", "160", "--circuit", "0.7,0.9", "--out", str(out)]
    more += ["--json", str(out.with_suffix(".json")), "--quiet"]
    more += [] if keep is None else ["--keep", keep]
    assert main(command(folder, *more, model=model)) == 0
    return model, load(out.with_suffix(".json")), out


def names(found: Explanation, circuit: Circuit) -> set[str]:
    return {found.players[i] for i in circuit.players}


def test_the_circuit_is_the_planted_one(
    explained: tuple[str, Explanation, Path],
) -> None:
    model, found, _ = explained
    partial, nearly = (c for c in circuits_of(found) if c.kind == CIRCUIT)
    assert names(found, nearly) == CIRCUITS[model]
    assert nearly.is_reached
    # one of the two that stand in for each other is enough for less
    assert names(found, partial) < CIRCUITS[model] or model == "induction"
    assert len(partial.players) == 2


def test_pruned_models_keep_the_behaviour_as_the_oracle_says(
    explained: tuple[str, Explanation, Path], folder: Path
) -> None:
    model, found, _ = explained
    prompts = read_task_prompts(folder / "p.jsonl")
    oracle = ComponentOracle(load_model(model, device="cpu"), prompts, ablation="mean")
    none = oracle.evaluate(np.zeros((1, 16), dtype=bool))[0, 0]
    for circuit in circuits_of(found):
        mask = np.isin(np.arange(16), circuit.players)[None]
        value = oracle.evaluate(mask)[0, 0]
        assert circuit.measured == pytest.approx(value, abs=1e-4)
        part = (value - none) / (found.intact[0] - none)
        assert circuit.faithfulness == pytest.approx(part, abs=1e-4)
        assert circuit.faithfulness > 0.8
    sizes = [len(c.players) for c in circuits_of(found) if c.kind != CIRCUIT]
    assert sizes == [12, 8, 4]


def test_the_planted_pairs_are_found_and_read(
    explained: tuple[str, Explanation, Path],
) -> None:
    model, found, _ = explained
    pairs = [g for g in Effects.of(found).groups if len(g.found.players) == 2]
    if model == "induction":
        strongest = pairs[0]
        assert set(strongest.found.names) == {"L0.H3", "L1.H5"}
        assert strongest.where is Where.ACROSS
        assert strongest.reading.kind.value == "synergistic"
        return
    three = {frozenset(g.found.names): g for g in pairs[:3]}
    twins = three[frozenset({"L1.H1", "L1.H4"})]
    assert twins.where is Where.WITHIN
    assert twins.reading.kind.value == "redundant"
    for twin in ("L1.H1", "L1.H4"):
        through = three[frozenset({"L0.H6", twin})]
        assert through.where is Where.ACROSS
        assert through.reading.kind.value == "synergistic"


def test_the_page_is_written_and_written_again_from_the_result(
    explained: tuple[str, Explanation, Path],
) -> None:
    _, _, out = explained
    again = out.with_name("again.html")
    result = str(out.with_suffix(".json"))
    assert main(["report", result, "--out", str(again), "--quiet"]) == 0
    assert again.read_text() == out.read_text()
    assert 'class="map"' in out.read_text()


def test_the_terminal_says_it_and_the_same_again_is_free(
    explained: tuple[str, Explanation, Path],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, found, _ = explained
    more = ["--budget", "160", "--json", "-", "--circuit", "0.7,0.9"]
    more += ["--keep", "0.8"] if model == "backup" else []
    assert main(command(folder, *more, model=model)) == 0
    read = capsys.readouterr()
    made = json.loads(read.out)["provenance"]
    assert (made["spent"], made["paid"]) == (160, 0)
    # what the circuits' own runs told is learned from, too
    again, before = (
        [(tuple(c["players"]), c["measured"]) for c in circuits][:2]
        for circuits in (made["circuits"], [c.to_json() for c in circuits_of(found)])
    )
    assert again == before
    assert "found L0 to L1: 8 heads into transformer.h.*" in read.err


def test_words_and_heads_are_players_of_one_game(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = folder / "mixed.json"
    more = ["--segments", "word", "--budget", "300", "--keep", "0.8", "--prune", "0.5"]
    more += ["--prompts", str(folder / "one.jsonl"), "--json", str(result)]
    assert main(command(folder, *more)) == 0
    found = load(result)
    count = len(found.players) - 16
    assert found.players[count:] == tuple(
        f"L{i}.H{j}" for i in (0, 1) for j in range(8)
    )
    groups = Effects.of(found, top=99).groups
    assert {g.where for g in groups} >= {Where.MIXED, Where.SEGMENTS}
    pruned = circuits_of(found)[-1]
    assert set(range(count)) <= set(pruned.players)
    assert len(pruned.players) == count + 8
    said = capsys.readouterr().out
    assert "Which words and heads, together, make induction do this?" in said
    assert "What is enough" in said


def test_words_and_heads_are_patched_from_the_corrupted_prompt(folder: Path) -> None:
    more = ["--segments", "word", "--budget", "60", "--prune", "none"]
    more += ["--circuit", "none", "--ablation", "resample"]
    more += ["--prompts", str(folder / "one.jsonl")]
    result = folder / "patched.json"
    assert main(command(folder, *more, "--json", str(result))) == 0
    assert "corrupted" in json.dumps(load(result).provenance.subject)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (OracleError("the model is gone"), 0)],
)
def test_a_search_that_ends_early_leaves_what_was_paid_for(
    folder: Path,
    tmp_path: Path,
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate = ComponentOracle.evaluate
    asked: list[int] = []

    def failing(self: ComponentOracle, masks: np.ndarray) -> np.ndarray:
        if 60 in asked:  # the budget
            raise error
        asked.append(len(masks))
        return evaluate(self, masks)

    result = tmp_path / "early.json"
    more = ["--budget", "60", "--json", str(result)]
    more += ["--ledger", str(tmp_path / "l.sqlite")]
    monkeypatch.setattr(ComponentOracle, "evaluate", failing)
    assert main(command(folder, *more)) == code
    found = load(result)
    assert found.spent == 60
    assert not circuits_of(found)
    assert ("no circuits: the model is gone" in capsys.readouterr().err) == (code == 0)


def test_one_cut_prompt_is_not_told_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--segments", "word", "--per-prompt"]
    more += ["--prompts", str(folder / "one.jsonl")]
    assert main(command(folder, *more)) == 1
    assert "--per-prompt tells prompts apart" in capsys.readouterr().err


def test_directions_are_read_from_a_file(folder: Path) -> None:
    matrix, result = folder / "d.npy", folder / "directions.json"
    np.save(matrix, np.eye(128)[:6])
    more = ["--unit", "direction", "--directions", str(matrix), "--layers", "0"]
    more += ["--budget", "64", "--circuit", "none", "--prune", "none", "--quiet"]
    assert main(command(folder, *more, "--json", str(result))) == 0
    found = load(result)
    assert found.players == tuple(f"L0.D{i}" for i in range(6))
    assert circuits_of(found) == []


def test_each_prompt_is_an_output_with_circuits_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page = folder / "each.json", folder / "each.html"
    more = ["--per-prompt", "--budget", "160", "--prune", "0.5"]
    more += ["--json", str(result), "--out", str(page)]
    assert main(command(folder, *more)) == 0
    found = load(result)
    assert found.outputs == tuple(f"logit-diff of prompt {i}" for i in range(12))
    of = [(circuit.output, circuit.kind) for circuit in circuits_of(found)]
    assert of == [(i, kind) for i in range(8) for kind in (CIRCUIT, PRUNED)]
    prompts = read_task_prompts(folder / "p.jsonl")
    oracle = ComponentOracle(
        load_model("induction", device="cpu"),
        prompts,
        ablation="mean",
        per_prompt=True,
    )
    for circuit in circuits_of(found):
        mask = np.isin(np.arange(16), circuit.players)[None]
        value = oracle.evaluate(mask)[0, circuit.output]
        assert circuit.measured == pytest.approx(value, abs=1e-4)
    said = capsys.readouterr().out
    for shown in (said, page.read_text()):
        assert "The first 8 are shown, 4 left out." in shown.replace("\n", " ")
        assert "mean over 12" not in shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--unit", "brain"], "unit='brain' is not known"),
        (["--behaviour", "charm"], "behaviour='charm' is not known"),
        (["--ablation", "fire"], "ablation='fire' is not known"),
        (["--circuit", "1.5"], "circuit level 1.5 is out of range"),
        (["--circuit", "0"], "circuit level 0 is out of range"),
        (["--prune", "1"], "prune 1 is out of range"),
        (["--layers", "7"], "layers=[7]"),
        (["--layers", "a-b"], "--layers a-b is not a list"),
        (["--layers", "1-0"], "--layers 1-0 is not a list"),
        (["--keep", "2"], "keep=2.0 is out of range"),
        (["--keep", "0.8", "--method", "spex"], "--keep is for --method proxyspex"),
        (["--segments", "word"], "holds 12"),
        (["--unit", "direction"], "directions"),
        (["--directions", "none.npy"], "Name it with --layers"),
        (["--directions", "none.npy", "--layers", "0"], "cannot be read as a matrix"),
        (["--reference", "none.txt"], "none.txt cannot be read"),
        (["--prompts", "none.jsonl"], "cannot be read"),
        (["--out", "nowhere/r.html"], "nowhere"),
    ],
)
def test_bad_options_are_refused(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *more)) == 1
    read = capsys.readouterr()
    assert said in read.err.replace("\n", " ")
    assert read.out == ""


def test_no_report_is_written_over_the_prompts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "--out", str(folder / "p.jsonl"))) == 1
    assert "are the same file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "holds no prompts"),
        ([{"text": "cat sun cat", "answer": "sun map", "wrong": "map"}], "2 tokens"),
        ([{"text": "cat sun cat", "answer": "sun", "wrong": "map cat"}], "2 tokens"),
        ([{"text": "cat sun cat", "answer": "sun", "wrong": "sun"}], "the same token"),
        ([{"text": "cat sun cat", "answer": "sun"}], "no wrong answer"),
        ([{"txt": "cat"}], "is not a prompt"),
    ],
)
def test_bad_prompts_are_refused(
    folder: Path,
    prompts: list[dict[str, str]],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(folder / "bad.jsonl", prompts)
    assert main(command(folder, "--prompts", str(folder / "bad.jsonl"))) == 1
    assert said in capsys.readouterr().err


def test_numbers_that_are_none_are_misuse(folder: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "--circuit", "most"))
