"""`spex data`: which training examples, together, made the model predict this."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oracles import InputError, Ledger, Oracle, OracleError
from oracles.data import DataOracle
from spex.cli.data_noise import with_noise, without_noise
from spex.cli.data_oracle import DataTask
from spex.cli.options import add_output, add_recovery
from spex.cli.results import check_outputs, opened_ledger, progress_bar, show
from spex.explain import explain
from spex.explanation import Explanation
from spex.guided import Guided
from spex.method import Method
from spex.registry import LEARNER, MAX_ORDER, load_method
from spex.tried.flips import TRIES, checked_flips
from spex.tried.removals import check_removals, flips, with_removals
from spex.tried.subsets import best_subsets

FEWEST_TERMS, TERMS = 200, 3  # coefficients kept: of any game, and for each player
MEASURES = ("margin", "loss", "accuracy")


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options, and what runs."""
    parser.set_defaults(run=run_data)
    _add_examples(parser)
    _add_players(parser)
    _add_training(parser)
    _add_workers(parser)
    add_recovery(parser)
    _add_masks(parser)
    _add_sets(parser)
    add_output(parser)


def _add_examples(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("examples").add_argument
    add(
        "--train",
        type=Path,
        required=True,
        metavar="FILE",
        help=".csv or .tsv with a line of column names, or .jsonl",
    )
    add("--test", type=Path, required=True, metavar="FILE", help="likewise")
    add("--text-column", default="text", metavar="NAME", help="default text")
    add("--label-column", default="label", metavar="NAME", help="default label")
    add(
        "--id-column",
        metavar="NAME",
        help="names of the examples in both files (default: rows are numbered from 1)",
    )
    add(
        "--feature-columns",
        type=_names,
        default=(),
        metavar="LIST",
        help="columns of numbers that are trained on in place of a text's embedding, "
        "standardised, such as age,height",
    )
    add(
        "--test-ids",
        type=_names,
        metavar="LIST",
        help="test points to explain, such as 3,7,12 (default: all)",
    )


def _add_players(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is left out").add_argument
    add(
        "--group-column",
        metavar="NAME",
        help="leave out groups of examples, such as sources, in place of single ones",
    )
    add(
        "--clusters",
        type=int,
        metavar="K",
        help="leave out clusters of like examples, K of them",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is trained").add_argument
    add(
        "--model",
        "--embed",
        help="encoder of the texts, or what is fine-tuned: a Hugging Face name, local "
        "folder, or embedded: sentiment",
    )
    add(
        "--trainer",
        default="logistic",
        metavar="NAME",
        help="logistic (default), ridge: heads on frozen features; network: a small "
        "one on them; finetune, lora: the model itself; or a classifier of "
        "scikit-learn's on the features, such as RandomForestClassifier",
    )
    add(
        "--l2",
        type=float,
        help="penalty of --trainer logistic or ridge (default 1)",
    )
    add("--steps", type=int, help="minibatches of --trainer network, finetune or lora")
    add(
        "--measure",
        choices=MEASURES,
        default=MEASURES[0],
        help="margin, log-odds of the right class (default), or loss, at each test "
        "point; or accuracy over them",
    )
    add(
        "--repeats",
        type=int,
        default=1,
        help="trainings averaged for one value, with other seeds (default 1)",
    )
    add("--device", help="such as cpu or cuda:0")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where it is trained").add_argument
    add(
        "--workers",
        type=int,
        metavar="N",
        help="train in N processes; needs the ray extra",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="of a running Ray cluster, such as ray://host:10001, that the processes "
        "of --workers are on (default: this machine)",
    )


def _add_masks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training subsets").add_argument
    add(
        "--keep",
        type=float,
        metavar="P",
        help="probability with which a subset keeps each player (default 0.5); 0.8 or "
        "0.9 where nothing is learned from half of the data",
    )
    add(
        "--stratify",
        action="store_true",
        help="keep the same share of every label in every subset",
    )


def _add_sets(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sets of examples").add_argument
    add(
        "--check",
        action="store_true",
        help="search for the fewest examples that a prediction flips without, by "
        "training again without those that are said to flip it; beyond the budget, up "
        f"to {TRIES} trainings for each test point, on average",
    )
    add(
        "--best-subset",
        type=int,
        metavar="S",
        help="tell which S players to train on alone, for the best value at each test "
        "point; with --check, train on them",
    )


def run_data(options: argparse.Namespace) -> int:
    """Explain, propose removals, check them if asked, show; the exit code.

    Where training is random, its noise is told, too. All retrainings are the workers',
    if there are any.
    """
    check_outputs(options)
    task = DataTask.of(options)
    if not options.quiet:
        for told in filter(None, (task.told, task.overruled)):
            print(f"spex: {told}", file=sys.stderr)
    with opened_ledger(options) as ledger:
        oracle = task.oracle()
        guess = oracle.influence()
        method = _method(options, task, guess)
        with _spread(oracle, options) as spread, progress_bar(options) as progress:
            explanation = explain(
                spread,
                method=method,
                budget=task.budget,
                seed=options.seed,
                max_order=options.max_order,
                ledger=ledger,
                target_r2=options.target_r2,
                progress=progress,
            )
        try:
            if task.is_random:
                with _spread(oracle.reseeded(), options) as again:
                    explanation = with_noise(again, explanation, ledger)
            else:
                explanation = without_noise(explanation)
            explanation = _with_removals(oracle, explanation, guess, options, ledger)
        except (KeyboardInterrupt, OracleError):
            # what is paid for is shown, also without what was to be checked
            show(explanation, options)
            raise
    return show(explanation, options)


def _method(
    options: argparse.Namespace, task: DataTask, guess: Any
) -> str | Method[Any]:
    """Of the masks asked for, from a first guess if there is one."""
    if options.method not in ("auto", LEARNER):
        if options.keep is not None or options.stratify:
            raise InputError(
                f"--keep and --stratify are for --method {LEARNER}, and --method is "
                f"{options.method}. Leave one of them out."
            )
        return options.method
    order = MAX_ORDER if options.max_order is None else options.max_order
    settings: dict[str, Any] = {} if options.keep is None else {"keep": options.keep}
    settings["strata"] = task.strata
    settings["num_terms"] = max(FEWEST_TERMS, TERMS * task.num_players)
    method: Any = load_method(LEARNER, order, **settings)
    if options.method == LEARNER or guess is None:
        return method
    return Guided.additive(method, guess)


@contextmanager
def _spread(oracle: Oracle, options: argparse.Namespace) -> Iterator[Oracle]:
    """The oracle, or workers that share it."""
    if options.workers is None:
        yield oracle
        return
    from oracles.workers import Workers

    with Workers(oracle, options.workers, address=options.ray) as workers:
        yield workers


def _with_removals(
    oracle: DataOracle,
    explanation: Explanation,
    guess: Any,
    options: argparse.Namespace,
    ledger: Ledger | None,
) -> Explanation:
    """With what is proposed to be removed, and what came of it if asked."""
    subsets = []
    if options.best_subset is not None:
        subsets = best_subsets(explanation, options.best_subset)
    if not options.check:
        return with_removals(explanation, flips(explanation) + subsets)
    guesses = [one for one in (guess, oracle.similarity()) if one is not None]
    with _spread(oracle, options) as spread:
        with progress_bar(options) as progress:
            found = checked_flips(
                spread, explanation, guesses=guesses, ledger=ledger, progress=progress
            )
        found += check_removals(spread, explanation, subsets, ledger=ledger)
    return with_removals(explanation, found)


def _names(text: str) -> tuple[str, ...]:
    """Names from a list with commas."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not names with commas between")
    return names
