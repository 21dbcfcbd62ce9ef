"""What a command keeps, shows and writes."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from oracles import InputError, Ledger, LedgerError, Oracle, Progress
from spex.components import KIND as COMPONENTS
from spex.explanation import Explanation
from spex.files import check_writable, write_text
from spex.influence import KIND as DATA

EXIT_UNFAITHFUL = 3
READ = (
    *("file", "messages", "passages", "reference", "prompts", "directions"),
    *("result", "earlier", "refine", "train", "test"),
)
FILES = (*READ, "ledger", "out", "json")


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse outputs that cannot be written, before anything is paid for."""
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
    for name in FILES:
        path = getattr(options, name, None)
        if path is None or str(path) == "-":
            continue
        place = path.resolve()
        if place in seen and (place.is_file() or not place.exists()):
            raise InputError(f"{seen[place]} and {name} are the same file, {path}.")
        seen[place] = name


@contextmanager
def opened_ledger(options: argparse.Namespace) -> Iterator[Ledger | None]:
    """The ledger asked for, the user's own, or none."""
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
def progress_bar(options: argparse.Namespace) -> Iterator[Progress | None]:
    """A bar on standard error, unless quiet."""
    from spex.report.terminal import ProgressBar

    if options.quiet:
        yield None
        return
    with ProgressBar() as bar:
        yield bar


@contextmanager
def spending_told(oracle: Oracle, options: argparse.Namespace) -> Iterator[None]:
    """Say on standard error what a remote model was asked, however the run ends."""
    try:
        yield
    finally:
        if options.endpoint is not None and not options.quiet:
            for line in _spending(oracle, options):
                print(f"spex: {line}", file=sys.stderr)


def _spending(oracle: Oracle, options: argparse.Namespace) -> Iterator[str]:
    from oracles.remote import Prices, RemoteOracle

    if not isinstance(oracle, RemoteOracle):
        return
    yield f"sent {oracle.spent(Prices(*options.prices) if options.prices else None)}"
    if bounds := oracle.account.get("bounds"):
        yield (
            f"in {bounds:.0%} of the answers a token was not listed, and counts with "
            "the most it can have"
        )
    if oracle.noise is not None:
        shown = ", ".join(f"{error:.2g}" for error in oracle.noise)
        yield f"the values' standard error is {shown}, over {options.draws} draws each"


def show(explanation: Explanation, options: argparse.Namespace) -> int:
    """Print and write the explanation; the exit code."""
    from spex.report.components_terminal import print_components
    from spex.report.data_terminal import print_data
    from spex.report.html import render_html
    from spex.report.terminal import print_explanation

    to_stdout = options.json is not None and str(options.json) == "-"
    if to_stdout:
        print(json.dumps(explanation.to_json(), ensure_ascii=False))
    elif options.json is not None:
        explanation.save(options.json)
    if not (options.quiet or to_stdout):
        kind = str(explanation.provenance.subject.get("kind"))
        told = {COMPONENTS: print_components, DATA: print_data}
        printed = told.get(kind, print_explanation)
        printed(explanation, Console(), options.index, options.top)
    if options.out is not None:
        write_text(options.out, render_html(explanation, options.index, options.top))
        if not (options.quiet or to_stdout):
            print(f"Report: {options.out.resolve()}")
    if options.fail_under is not None and explanation.faithfulness < options.fail_under:
        return EXIT_UNFAITHFUL
    return 0
