"""The command line: `spex explain`, `spex plan`, `spex report`, `spex demo`.

Results go to standard output, progress and errors to standard error. Exit codes: 0
done, 1 a clear error, 2 a command that cannot be read, 3 less faithful than
`--fail-under`, 130 stopped with Ctrl-C.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from oracles import (
    InputError,
    InterruptedRun,
    Ledger,
    LedgerError,
    OracleError,
    Progress,
)
from spex.errors import SpexError
from spex.explain import explain
from spex.explanation import Explanation
from spex.files import check_writable, write_text
from spex.indices import INDICES
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
EXIT_ERROR, EXIT_USAGE, EXIT_UNFAITHFUL, EXIT_INTERRUPTED = 1, 2, 3, 130


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
    _add_plan(commands.add_parser("plan", help="what a budget buys, before any of it"))
    _add_report(commands.add_parser("report", help="show a saved result again"))
    _add_demo(commands.add_parser("demo", help="explain a review with the small model"))
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_explain)
    text = parser.add_argument_group("what to explain")
    text.add_argument("text", nargs="?", help="the prompt; else --file or stdin")
    text.add_argument("--file", type=Path, help="read the prompt from this file")
    text.add_argument(
        "--suffix", default="", help="text after the prompt that is never ablated"
    )
    text.add_argument(
        "--model",
        default="sentiment",
        help="Hugging Face name, local folder, or embedded: sentiment, facts",
    )
    text.add_argument(
        "--target",
        help="class to explain, or the continuation of a causal model; by default "
        "what the model says",
    )
    text.add_argument("--against", help="alternative continuation (causal models)")
    text.add_argument(
        "--value", help="logit, log-odds, probability or log-probability of the target"
    )
    text.add_argument(
        "--earlier",
        type=Path,
        help="go on from this result of the same text, written with --json: pay only "
        "for what a larger budget adds to it (default: twice its budget)",
    )
    text.add_argument("--segments", help="word, sentence, token, line or paragraph")
    text.add_argument("--removal", default="delete", help="delete (default) or mask")
    _add_recovery(parser)
    _add_output(parser)


def _add_recovery(parser: argparse.ArgumentParser) -> None:
    recovery = parser.add_argument_group("how")
    recovery.add_argument(
        "--method", default="auto", help="auto (default), spex, proxyspex or exact"
    )
    recovery.add_argument(
        "--budget", type=int, help="most ablations to run (default: 4 n log2 n)"
    )
    recovery.add_argument(
        "--target-r2",
        type=float,
        help="stop once the faithfulness interval lies above this, or more ablations "
        "no longer help",
    )
    recovery.add_argument(
        "--max-order", type=int, help="largest interaction (default 5)"
    )
    recovery.add_argument("--seed", type=int, help="of masks and recovery (default 0)")
    recovery.add_argument(
        "--ledger",
        type=Path,
        help="file that keeps every ablation (default: ledger.sqlite in the user's "
        "cache folder)",
    )
    recovery.add_argument("--no-ledger", action="store_true", help="keep no ablations")


def _add_output(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--index",
        default="BII",
        choices=["Fourier", *INDICES],
        help="interaction index shown (default BII)",
    )
    output.add_argument(
        "--top", type=int, default=10, help="interactions shown (default 10)"
    )
    output.add_argument("--out", type=Path, help="write an HTML report here")
    output.add_argument(
        "--json", type=Path, help="write the result here; - for standard output"
    )
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument(
        "--fail-under",
        type=float,
        metavar="R2",
        help="exit with 3 if the faithfulness is below this",
    )


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
    _add_output(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(
        run=_explain,
        text=DEMO_TEXT,
        file=None,
        suffix="",
        model="sentiment",
        target=None,
        against=None,
        value=None,
        segments="word",
        removal="delete",
        earlier=None,
    )
    _add_recovery(parser)
    _add_output(parser)
    parser.set_defaults(budget=DEMO_BUDGET, out=Path(DEMO_REPORT))


def _explain(options: argparse.Namespace) -> int:
    from oracles.features import text_oracle  # needs the text extra

    _check_outputs(options)
    earlier = None if options.earlier is None else load(options.earlier)
    text = _read_text(options)
    with _ledger(options) as ledger:
        oracle = text_oracle(
            text,
            options.model,
            suffix=options.suffix,
            target=options.target,
            against=options.against,
            value=options.value,
            segments=options.segments,
            removal=options.removal,
        )
        with _progress(options) as progress:
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
    return _show(explanation, options)


def _plan(options: argparse.Namespace) -> int:
    from spex.report.terminal import print_plan

    print_plan(outlook(options.players, options.budget, options.max_order), Console())
    return 0


def _report(options: argparse.Namespace) -> int:
    _check_outputs(options)
    return _show(load(options.result), options)


def _read_text(options: argparse.Namespace) -> str:
    given = [source for source in (options.text, options.file) if source is not None]
    if len(given) == 2:
        raise InputError("a text and --file were both given. Give one of them.")
    if options.text is not None:
        return _checked_unicode(options.text, "the text")
    if options.file is None and sys.stdin.isatty():
        raise InputError(
            'no text to explain. Pass it as spex explain "text", with --file, or on '
            "standard input."
        )
    try:
        if options.file is None:
            return sys.stdin.buffer.read().decode("utf-8")
        return options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        source = "standard input" if options.file is None else options.file
        raise InputError(f"{source} cannot be read as UTF-8 text ({error}).") from error


def _checked_unicode(text: str, source: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{source} cannot be read as UTF-8 text ({error}).") from error
    return text


def _check_outputs(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise InputError(f"--top {options.top} must be at least 1.")
    _check_apart(options)
    if options.out is not None:
        check_writable(options.out)
    if options.json is not None and str(options.json) != "-":
        check_writable(options.json)


def _check_apart(options: argparse.Namespace) -> None:
    """No file is written over another of this command."""
    seen: dict[Path, str] = {}
    for name in ("file", "result", "earlier", "ledger", "out", "json"):
        path = getattr(options, name, None)
        if path is None or str(path) == "-":
            continue
        place = path.resolve()
        if place in seen and (place.is_file() or not place.exists()):
            raise InputError(f"{seen[place]} and {name} are the same file, {path}.")
        seen[place] = name


@contextmanager
def _ledger(options: argparse.Namespace) -> Iterator[Ledger | None]:
    if options.no_ledger:
        yield None
        return
    path = options.ledger
    if path is None:
        path = _default_ledger()
        if path is None:
            yield None
            return
    with Ledger(path) as ledger:
        yield ledger


def _default_ledger() -> Path | None:
    """The user's own ledger, or None (and a warning) if there is no place for one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "spex" / "ledger.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Ledger(path).close()
    except (OSError, LedgerError) as error:
        print(f"spex: warning: no ablations will be kept: {error}", file=sys.stderr)
        return None
    return path


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[Progress | None]:
    from spex.report.terminal import ProgressBar

    if options.quiet:
        yield None
        return
    with ProgressBar() as bar:
        yield bar


def _show(explanation: Explanation, options: argparse.Namespace) -> int:
    from spex.report.html import render_html
    from spex.report.terminal import print_explanation

    to_stdout = options.json is not None and str(options.json) == "-"
    if to_stdout:
        print(json.dumps(explanation.to_json(), ensure_ascii=False))
    elif options.json is not None:
        explanation.save(options.json)
    if not (options.quiet or to_stdout):
        print_explanation(explanation, Console(), options.index, options.top)
    if options.out is not None:
        write_text(options.out, render_html(explanation, options.index, options.top))
        if not (options.quiet or to_stdout):
            print(f"Report: {options.out.resolve()}")
    if options.fail_under is not None and explanation.faithfulness < options.fail_under:
        return EXIT_UNFAITHFUL
    return 0
