"""The command line: `spex explain`, `components`, `data`, `plan`, `report`, `demo`.

Results go to standard output, progress and errors to standard error. Exit codes: 0
done, 1 a clear error, 2 a command that cannot be read, 3 less faithful than
`--fail-under`, 130 stopped with Ctrl-C.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from oracles import InterruptedRun, OracleError
from spex.cli.components import add_components
from spex.cli.data import add_data
from spex.cli.options import (
    add_endpoint,
    add_output,
    add_prompt,
    add_question,
    add_recovery,
)
from spex.cli.results import (
    check_outputs,
    opened_ledger,
    progress_bar,
    show,
    spending_told,
)
from spex.errors import SpexError
from spex.explain import explain
from spex.outlook import outlook
from spex.saved import load

# a review from IMDb (Maas et al. 2011), whose verdict hangs on how its parts combine
DEMO_TEXT = (
    "If it wasn't for the terrific music, I would not hesitate to give this cinematic "
    "underachievement 2/10. But the music actually makes me like certain passages, and "
    "so I give it 5/10."
)
DEMO_BUDGET = 600
DEMO_REPORT = "spex-report.html"
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (SpexError, OracleError) as error:
        if options.traceback:
            raise
        print(f"spex: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except InterruptedRun as stop:
        print(f"\nspex: {stop}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("\nspex: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spex",
        description="Which parts of a prompt, together, made the model say this?",
        epilog="Exit codes: 0 done, 1 error, 2 misuse, 3 below --fail-under, "
        "130 stopped with Ctrl-C.",
    )
    parser.add_argument(
        "--version", action="version", version=f"spex {version('spex-explain')}"
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error came from"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_explain(commands.add_parser("explain", help="explain a model's answer"))
    add_components(
        commands.add_parser("components", help="explain which parts of a model do it")
    )
    add_data(
        commands.add_parser("data", help="explain what training examples do together")
    )
    _add_plan(commands.add_parser("plan", help="what a budget buys, before any of it"))
    _add_report(commands.add_parser("report", help="show a saved result again"))
    _add_demo(commands.add_parser("demo", help="explain a review with the small model"))
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_explain)
    add_prompt(parser)
    add_question(parser)
    add_endpoint(parser)
    add_recovery(parser)
    add_output(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_plan)
    parser.add_argument("players", type=int, help="how many players there are")
    parser.add_argument(
        "--budget", type=int, help="most ablations (default: 4 n log2 n)"
    )
    parser.add_argument(
        "--max-order", type=int, default=5, help="largest interaction (default 5)"
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_report)
    parser.add_argument("result", type=Path, help="a file written with --json")
    add_output(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    as_given = argparse.ArgumentParser(add_help=False)
    _add_explain(as_given)
    parser.set_defaults(**vars(as_given.parse_args([DEMO_TEXT])))
    add_recovery(parser)
    add_output(parser)
    parser.set_defaults(budget=DEMO_BUDGET, out=Path(DEMO_REPORT))


def _explain(options: argparse.Namespace) -> int:
    from spex.cli.subject import make_oracle  # needs the text extra

    check_outputs(options)
    earlier = None if options.earlier is None else load(options.earlier)
    with opened_ledger(options) as ledger:
        oracle = make_oracle(options)
        with spending_told(oracle, options), progress_bar(options) as progress:
            explanation = explain(
                oracle,
                method=options.method,
                budget=options.budget,
                seed=options.seed,
                max_order=options.max_order,
                ledger=ledger,
                earlier=earlier,
                target_r2=options.target_r2,
                progress=progress,
            )
    return show(explanation, options)


def _plan(options: argparse.Namespace) -> int:
    from spex.report.terminal import print_plan

    print_plan(outlook(options.players, options.budget, options.max_order), Console())
    return 0


def _report(options: argparse.Namespace) -> int:
    check_outputs(options)
    return show(load(options.result), options)
