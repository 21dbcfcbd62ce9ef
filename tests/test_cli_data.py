"""`spex data` from end to end: files in, texts or columns of numbers, a page out."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles import Ledger, Masks
from oracles.data import DataOracle, LogisticHead, Targets, embed_texts, read_table
from spex import Explanation, load
from spex.cli import main
from spex.influence import Influence
from spex.tried.flips import TRIES
from spex.tried.removals import has_flipped, removals_of

GOOD = ("a joy", "a delight", "warm and funny", "superb", "moving and wise")
BAD = ("a bore", "a mess", "cold and dull", "dreadful", "clumsy and loud")
WHAT = ("plot", "acting", "music", "script", "camera", "ending", "humour", "story")
COPIED = "A quiet film about whales and the sea."
MISLABELLED = "71"


def rows() -> list[dict[str, str]]:
    """64 sentences, three copies of another one, and one with the wrong label."""
    texts = [
        (f"The {what} is {said}.", label, what)
        for what, (good, bad) in zip(
            [w for w in WHAT for _ in range(4)],
            [(GOOD[i % 5], BAD[i % 5]) for i in range(32)],
            strict=True,
        )
        for said, label in ((good, "good"), (bad, "bad"))
    ]
    texts += [(COPIED, "bad", "sea")] * 3
    texts += [("The sea was a superb delight.", "bad", "sea")]
    # numbered from 4 on, so that the last is 71
    return [
        {"key": str(i), "text": text, "label": label, "about": about}
        for i, (text, label, about) in enumerate(texts, 4)
    ]


def write(path: Path, table: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder / "train.csv", rows())
    tests = [
        ("whales", "A film about whales in the sea.", "bad"),
        ("sea", "The sea was a delight.", "good"),
        ("dull", "The ending is dull.", "bad"),
    ]
    names = ("key", "text", "label")
    write(folder / "test.csv", [dict(zip(names, one, strict=True)) for one in tests])
    rng = np.random.default_rng(0)
    numbers = [
        {"x": f"{x:.3f}", "y": f"{y:.3f}", "label": "up" if x > 0 else "down"}
        for x, y in rng.normal(size=(30, 2)).tolist()
    ]
    write(folder / "numbers.csv", numbers)
    return folder


def command(folder: Path, *more: str) -> list[str]:
    return [
        "data", "--train", str(folder / "train.csv"),
        "--test", str(folder / "test.csv"), "--id-column", "key",
        "--model", "sentiment", "--device", "cpu",
        "--ledger", str(folder / "l.sqlite"), *more,
    ]  # fmt: skip


def of_numbers(folder: Path, *more: str) -> list[str]:
    return [
        "data", "--train", str(folder / "numbers.csv"),
        "--test", str(write(folder / "one.csv", [{"x": "1", "y": "0", "label": "up"}])),
        "--feature-columns", "x,y", "--no-ledger", "--quiet", *more,
    ]  # fmt: skip


MAIN = ("--budget", "300", "--keep", "0.7", "--test-ids", "whales,sea", "--check")


@pytest.fixture(scope="module")
def explained(folder: Path) -> tuple[Explanation, Path]:
    out = folder / "r.html"
    more = [*MAIN, "--l2", "0.1", "--out", str(out)]
    more += ["--json", str(out.with_suffix(".json")), "--quiet"]
    assert main(command(folder, *more)) == 0
    return load(out.with_suffix(".json")), out


def test_the_planted_copies_and_the_mislabelled_one_are_found(
    explained: tuple[Explanation, Path],
) -> None:
    found, _ = explained
    assert found.outputs == ("whales", "sea")
    assert found.faithfulness > 0.8
    whales, sea = (Influence.of(found, output) for output in range(2))
    copies = {"68", "69", "70"}
    assert {one.names[0] for one in whales.helpful[:3]} == copies
    assert sea.harmful[0].names == (MISLABELLED,)
    among = [
        read
        for group, read in zip(whales.together, whales.readings, strict=True)
        if {*group.names} <= copies
    ]
    assert among
    assert {read.kind.value for read in among} == {"redundant"}


def test_removals_are_what_a_model_trained_without_them_says(
    explained: tuple[Explanation, Path], folder: Path
) -> None:
    found, _ = explained
    removals = removals_of(found)
    assert removals
    train = read_table(folder / "train.csv", id_column="key")
    test = read_table(folder / "test.csv", id_column="key")
    vectors = embed_texts([*train.texts, *test.texts], "sentiment", device="cpu")
    for removal in removals:
        kept = [i for i in range(len(train)) if i not in removal.players]
        head = LogisticHead(
            vectors[kept], [train.labels[i] for i in kept], l2=0.1, tolerance=1e-6
        )
        point = vectors[[len(train) + removal.output]]
        targets = Targets(point, [test.labels[removal.output]])
        whole = head.fit(np.arange(len(kept)), 0)
        again = float(head.score(whole, targets)[0])
        assert removal.measured == pytest.approx(again, abs=0.02)
        assert has_flipped(found, removal) is True


def test_the_page_is_written_and_written_again_from_the_result(
    explained: tuple[Explanation, Path],
) -> None:
    _, out = explained
    again = out.with_name("again.html")
    result = str(out.with_suffix(".json"))
    assert main(["report", result, "--out", str(again), "--quiet"]) == 0
    page = out.read_text()
    assert again.read_text() == page
    assert COPIED in page
    assert 'class="pairs"' in page


def test_the_terminal_says_it_and_the_same_again_is_free(
    folder: Path,
    explained: tuple[Explanation, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, out = explained
    assert main(command(folder, *MAIN, "--l2", "0.1", "--json", "-")) == 0
    read = capsys.readouterr()
    made = json.loads(read.out)["provenance"]
    assert (made["spent"], made["paid"]) == (300, 0)
    assert "300 trainings on subsets of 68 examples, each scored at 2" in read.err
    assert main(["report", str(out.with_suffix(".json")), "--top", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Which training examples, together, made a logistic head say this?" in said
    assert "the prediction flipped" in said
    assert found.provenance.method == "Guided"


def test_groups_of_a_column_are_players(folder: Path) -> None:
    result = folder / "groups.json"
    more = ["--group-column", "about", "--budget", "100", "--json", str(result)]
    assert main(command(folder, *more, "--quiet")) == 0
    found = load(result)
    assert found.players == (*WHAT, "sea")
    assert found.provenance.subject["player_labels"][-1] == "bad"
    assert found.outputs == ("whales", "sea", "dull")
    assert all(removal.measured is None for removal in removals_of(found))


def test_clusters_are_players_and_few_are_explained_exactly(folder: Path) -> None:
    result = folder / "clusters.json"
    more = ["--clusters", "5", "--budget", "40", "--measure", "loss", "--quiet"]
    assert main(command(folder, *more, "--json", str(result))) == 0
    found = load(result)
    assert found.provenance.method == "exact"
    assert found.provenance.subject["players_are"] == "clusters"
    assert len(found.players) == 5
    assert removals_of(found) == []


@pytest.mark.parametrize(
    ("more", "trainer"),
    [
        (["--measure", "accuracy", "--stratify"], "logistic head"),
        (["--trainer", "ridge", "--l2", "2"], "ridge head"),
        (["--trainer", "network", "--steps", "20", "--repeats", "2"], "small network"),
    ],
)
def test_columns_of_numbers_are_trained_on(
    folder: Path, more: list[str], trainer: str
) -> None:
    result = folder / "numbers.json"
    assert main(of_numbers(folder, "--budget", "60", "--json", str(result), *more)) == 0
    found = load(result)
    assert found.provenance.subject["training"]["trainer"] == trainer
    assert found.provenance.subject["player_texts"][0].startswith("x = ")
    assert found.outputs == (("accuracy",) if "accuracy" in more else ("1",))


def test_strata_keep_the_same_share_of_each_label(folder: Path) -> None:
    arguments = of_numbers(folder, "--budget", "60", "--stratify", "--keep", "0.6")
    arguments[arguments.index("--no-ledger")] = "--ledger"
    arguments.insert(arguments.index("--ledger") + 1, str(folder / "strata.sqlite"))
    assert main(arguments) == 0
    train = read_table(folder / "numbers.csv", feature_columns=["x", "y"])
    numbers = np.array(train.features)
    mean, spread = numbers.mean(axis=0), numbers.std(axis=0)
    oracle = DataOracle(
        LogisticHead((numbers - mean) / spread, train.labels),
        Targets((np.array([[1.0, 0.0]]) - mean) / spread, ["up"]),
    )
    with Ledger(folder / "strata.sqlite") as ledger:
        masks = ledger.masks(oracle.fingerprint, 30)
    is_up = np.array(train.labels) == "up"
    up, down = masks[:, is_up].mean(axis=1), masks[:, ~is_up].mean(axis=1)
    assert len(masks) >= 60
    assert np.abs(up - down).max() < 1 / is_up.sum() + 1 / (~is_up).sum()
    assert np.ptp(up) > 0.3


def test_the_noise_of_training_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = folder / "noisy.json"
    more = ["--trainer", "network", "--steps", "5", "--budget", "60", "--check"]
    arguments = of_numbers(folder, *more, "--json", str(result))
    arguments.remove("--quiet")
    assert main(arguments) == 0
    found = load(result)
    assert found.noise_floor is not None
    assert found.noise_floor[0] > 0
    assert "Values vary from draw to draw" in capsys.readouterr().out
    for removal in removals_of(found):
        assert removal.noise == pytest.approx(found.noise_floor[0] ** 0.5)


def test_workers_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason='needs pip install "spex-explain[ray]"')
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    results = [folder / "alone.json", folder / "workers.json"]
    for result, more in zip(results, ([], ["--workers", "2"]), strict=True):
        told = of_numbers(folder, "--budget", "60", "--json", str(result), *more)
        assert main(told) == 0
    alone, workers = map(load, results)
    assert workers.spent == 60
    masks = np.random.default_rng(0).random((200, 30)) < 0.5
    np.testing.assert_allclose(alone.intact, workers.intact, atol=1e-3)
    first, second = alone.predict(masks), workers.predict(masks)
    assert np.abs(first - second).max() < 0.05 * first.std()


@pytest.mark.usefixtures("elsewhere")
def test_workers_are_where_ray_is_and_check_is_theirs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = folder / "checked.json"
    more = ["--budget", "60", "--workers", "1", "--check", "--json", str(result)]
    # a cluster of this process takes no address, so that it is seen to be passed
    assert main(of_numbers(folder, *more, "--ray", "ray://host:1")) == 1
    assert "address='ray://host:1', but Ray already" in capsys.readouterr().err
    assert main(of_numbers(folder, *more)) == 0
    [removal] = removals_of(load(result))
    assert removal.measured is not None
    assert removal.noise == 0


def test_a_check_that_is_stopped_leaves_what_was_paid_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = DataOracle.evaluate_each
    asked: list[int] = []

    def stopped(self: DataOracle, masks: Masks) -> Any:
        asked.append(len(masks))
        if sum(asked) > 60:  # of the budget
            raise KeyboardInterrupt
        return evaluate(self, masks)

    monkeypatch.setattr(DataOracle, "evaluate_each", stopped)
    result = folder / "stopped.json"
    more = ["--trainer", "ridge", "--no-ledger", "--check", "--budget", "60"]
    assert main(of_numbers(folder, *more, "--json", str(result))) == 130
    assert load(result).spent == sum(asked[:-1]) == 60
    assert not removals_of(load(result))


def test_what_all_trainings_are_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--trainer", "network", "--steps", "5", "--budget", "40", "--check"]
    arguments = of_numbers(folder, *more, "--repeats", "2")
    arguments.remove("--quiet")
    assert main(arguments) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "up to 40 trainings" in told
    assert f"up to {TRIES} for each of these that check" in told
    assert "all of it 2 times" in told


def test_options_that_mean_nothing_where_all_is_trained_on_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*more: str) -> str:
        arguments = command(folder, "--clusters", "4", "--measure", "loss", *more)
        assert main(arguments) == 0
        return " ".join(capsys.readouterr().err.split())

    told = "all 2^4 subsets fit in the budget and are trained on, so that --keep means"
    assert told in said("--budget", "40", "--keep", "0.9")
    assert "a --budget below 16 draws" in said("--budget", "16", "--keep", "0.9")
    assert "2^4" not in said("--budget", "40")


def test_best_subsets_are_listed_and_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page = folder / "best.json", folder / "best.html"
    more = ["--budget", "100", "--best-subset", "6", "--check", "--json", str(result)]
    arguments = of_numbers(folder, *more, "--out", str(page))
    arguments.remove("--quiet")
    assert main(arguments) == 0
    found = load(result)
    [subset] = [one for one in removals_of(found) if one.kind == "subset"]
    kept = ~np.isin(np.arange(30), subset.players)
    assert kept.sum() == 6
    train = read_table(folder / "numbers.csv", feature_columns=["x", "y"])
    numbers = np.array(train.features)
    mean, spread = numbers.mean(axis=0), numbers.std(axis=0)
    oracle = DataOracle(
        LogisticHead((numbers - mean) / spread, train.labels),
        Targets((np.array([[1.0, 0.0]]) - mean) / spread, ["up"]),
    )
    again = float(oracle.evaluate(kept[None])[0, 0])
    assert subset.measured == pytest.approx(again, abs=0.02)
    said = " ".join(capsys.readouterr().out.split())
    assert "Trained on 6 of the 30 training examples alone, the margin is" in said
    assert "What is trained on" in page.read_text()


def test_unfaithful_results_have_an_exit_code_of_their_own(folder: Path) -> None:
    assert main(of_numbers(folder, "--budget", "60", "--fail-under", "1.5")) == 3


def test_a_transformer_is_fine_tuned(folder: Path) -> None:
    result = folder / "tuned.json"
    more = ["--trainer", "finetune", "--steps", "1", "--group-column", "about"]
    more += ["--budget", "20", "--test-ids", "dull", "--quiet", "--json", str(result)]
    assert main(command(folder, *more)) == 0
    assert load(result).provenance.subject["training"]["trainer"] == "fine-tuning"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--test-ids", "whales,orcas"],
            "--test-ids: ids 'orcas' are not",
        ),
        (["--test-ids", "sea,sea"], "'sea' come more than once"),
        (["--text-column", "words"], "has no column 'words'"),
        (["--label-column", "verdict"], "has no column 'verdict'"),
        (["--id-column", "name"], "has no column 'name'"),
        (["--group-column", "source"], "has no column 'source'"),
        (["--id-column", "label"], "come more than once"),
        (["--train", "none.csv"], "none.csv cannot be read"),
        (["--train", "none.parquet"], "neither .csv, .tsv nor .jsonl"),
        (["--budget", "5"], "Pass budget=17 or more"),
        (["--budget", "0"], "--budget 0 must be at least 1"),
        (["--feature-columns", "key"], "--model is of texts"),
        (
            ["--clusters", "4", "--group-column", "about"],
            "both say what",
        ),
        (["--clusters", "1"], "--clusters 1 must be at least 2"),
        (["--clusters", "99"], "num_players=99 clusters of 68 examples"),
        (["--clusters", "4", "--stratify"], "there are groups"),
        (["--keep", "2"], "keep=2.0 is out of range"),
        (["--keep", "0.8", "--method", "spex"], "--keep and --stratify are for"),
        (["--trainer", "network", "--l2", "1"], "--l2 means nothing"),
        (["--steps", "9"], "--steps means nothing"),
        (["--l2", "0"], "l2=0.0 is not above 0"),
        (["--repeats", "0"], "repeats=0"),
        (["--workers", "0"], "count=0"),
        (["--ray", "ray://host:1"], "Pass --workers N, too"),
        (["--best-subset", "0"], "--best-subset 0 is out of range"),
        (["--best-subset", "68"], "Pass 1 to 67"),
        (["--out", "nowhere/r.html"], "nowhere"),
    ],
)
def test_bad_options_are_refused(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *more)) == 1
    read = capsys.readouterr()
    assert said in " ".join(read.err.split())
    assert read.out == ""


def test_no_encoder_and_no_columns_is_nothing_to_train_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(folder)
    del arguments[arguments.index("--model") : arguments.index("--device")]
    assert main(arguments) == 1
    assert "there is nothing to train on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "table", "said"),
    [
        ("train", "key,text,label\n", "has no rows"),
        ("train", "", "has no rows"),
        ("train", "key,text,label\n1,good film,good\n2,,bad\n", "nothing in rows '2'"),
        ("train", "key,text,label\n1,a film,good\n1,b film,bad\n", "more than once"),
        ("train", "key,text,label\n1,a film,good\n2,b film,good\n", "two or more"),
        ("test", "key,text,label\n1,a film,fair\n", "none of the training labels"),
        ("test", "key,text,label\n", "has no rows"),
        (
            "test",
            "key,text,label\n" + "".join(f"{i},a film,good\n" for i in range(101)),
            "Choose some with --test-ids",
        ),
    ],
)
def test_bad_files_are_refused(
    folder: Path,
    name: str,
    table: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = folder / "bad.csv"
    path.write_text(table)
    assert main(command(folder, f"--{name}", str(path))) == 1
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_output_is_not_written_over_the_examples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "--json", str(folder / "train.csv"))) == 1
    assert "are the same file" in capsys.readouterr().err


def test_names_that_are_none_are_misuse(folder: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "--test-ids", "1,,2"))
