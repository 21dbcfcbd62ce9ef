"""`spex components`: which parts of a model, together, show a behaviour."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from oracles import InputError, Ledger, Oracle, OracleError
from oracles.components import ABLATIONS, BEHAVIOURS, UNITS
from spex.cli.options import add_output, add_recovery
from spex.cli.results import check_outputs, opened_ledger, progress_bar, show
from spex.cli.subject import QUANTIZED, text_of_file
from spex.components import MOST_OUTPUTS
from spex.errors import SearchError
from spex.explain import explain
from spex.explanation import Explanation
from spex.method import Method
from spex.registry import LEARNER, MAX_ORDER, load_method
from spex.tried.circuits import (
    PRUNINGS,
    Circuit,
    check_asked,
    find_circuits,
    with_circuits,
)

LEVEL, PARTS = 0.9, (0.25, 0.5, 0.75)
KEEP = 0.8


def add_components(parser: argparse.ArgumentParser) -> None:
    """The options, and what runs."""
    parser.set_defaults(run=run_components)
    _add_behaviour(parser)
    _add_players(parser)
    add_recovery(parser)
    parser.add_argument(
        "--keep",
        type=float,
        metavar="P",
        help="probability with which a mask keeps each component (default 0.8: with "
        "half of them gone often nothing is left to explain)",
    )
    _add_answers(parser)
    add_output(parser)


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to explain").add_argument
    add(
        "--model",
        required=True,
        help="Hugging Face name, local folder, or embedded: induction, backup, facts, "
        "sentiment",
    )
    add(
        "--prompts",
        type=Path,
        required=True,
        metavar="FILE",
        help='JSON lines: {"text": ..., "answer": ..., "wrong": ..., "corrupted": ...}',
    )
    add(
        "--behaviour",
        default="logit-diff",
        help=f"{', '.join(BEHAVIOURS)} (default logit-diff)",
    )
    add(
        "--per-prompt",
        action="store_true",
        help="explain the behaviour on each prompt, in place of its mean over them; "
        f"reports, and circuits, are of the first {MOST_OUTPUTS}",
    )
    add("--device", help="such as cpu or cuda:0")
    add("--dtype", help="such as float32 or bfloat16")
    add("--device-map", help="auto, to spread a model over all devices")
    add("--quantize", choices=tuple(QUANTIZED), help="load fewer bits a weight")


def _add_players(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is ablated").add_argument
    add("--unit", default="head", help=f"{', '.join(UNITS)} (default head)")
    add("--layers", metavar="LIST", help="such as 0,4-7 (default: all)")
    add("--groups", type=int, help="of neurons: how many in a layer")
    add(
        "--directions",
        type=Path,
        metavar="FILE",
        help="of --unit direction: a matrix saved by numpy (.npy), a direction a row, "
        "read after the one layer in --layers",
    )
    add(
        "--ablation",
        default="mean",
        help=f"{', '.join(ABLATIONS)} (default mean): what takes the place of an "
        "ablated component's output",
    )
    add(
        "--reference",
        type=Path,
        metavar="FILE",
        help="texts for --ablation mean, one a line (default: the prompts)",
    )
    add(
        "--segments",
        help="cut the one prompt in --prompts, too: word, sentence, token, ...; its "
        "segments and the components are then players of one game",
    )


def _add_answers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("circuits").add_argument
    add(
        "--circuit",
        type=_numbers,
        default=(LEVEL,),
        metavar="LIST",
        help="small circuits with these parts of what the intact model does, each run "
        f"to see (default {LEVEL}; none to leave them out)",
    )
    add(
        "--prune",
        type=_numbers,
        default=PARTS,
        metavar="LIST",
        help="best models with these parts of the components removed: of at most "
        f"{PRUNINGS + 1} for each, on average, that are run beyond the budget (default "
        f"{','.join(map(str, PARTS))}; none to leave them out)",
    )


def run_components(options: argparse.Namespace) -> int:
    """Explain, find circuits and run them, show; the exit code."""
    check_outputs(options)
    check_asked(options.circuit, options.prune)
    method = _method(options)
    with opened_ledger(options) as ledger:
        oracle = component_oracle(options)
        with progress_bar(options) as progress:
            explanation = explain(
                oracle,
                method=method,
                budget=options.budget,
                seed=options.seed,
                max_order=options.max_order,
                ledger=ledger,
                target_r2=options.target_r2,
                progress=progress,
            )
        try:
            explanation = _with_circuits(oracle, explanation, options, ledger)
        except KeyboardInterrupt:  # what is paid for is shown, without circuits
            show(explanation, options)
            raise
    return show(explanation, options)


def _with_circuits(
    oracle: Oracle,
    explanation: Explanation,
    options: argparse.Namespace,
    ledger: Ledger | None,
) -> Explanation:
    """With the circuits asked for; what was paid for is not lost where there are none.

    A behaviour may be the same with everything and with nothing, and a search or the
    model may fail.
    """
    if not (options.circuit or options.prune):
        return explanation
    circuits: list[Circuit] = []
    for output in range(min(len(explanation.outputs), MOST_OUTPUTS)):
        try:
            circuits += find_circuits(
                oracle,
                explanation,
                levels=options.circuit,
                sparsities=options.prune,
                output=output,
                ledger=ledger,
            )
        except (OracleError, SearchError) as error:
            print(f"spex: warning: no circuits: {error}", file=sys.stderr)
    return with_circuits(explanation, circuits) if circuits else explanation


def component_oracle(options: argparse.Namespace) -> Oracle:
    """The oracle that the options describe; says on standard error what it found.

    Raises:
        InputError: options or files that cannot be used.
        ModelError: the model cannot be loaded, or its heads cannot be located.
    """
    from oracles.components import ComponentOracle, read_task_prompts
    from oracles.features import load_model

    prompts = read_task_prompts(options.prompts)
    if not prompts:
        raise InputError(f"{options.prompts} holds no prompts. Write one JSON a line.")
    if options.segments is not None and len(prompts) > 1:
        raise InputError(
            f"--segments cuts one prompt, and {options.prompts} holds {len(prompts)}. "
            "Leave one in the file, or --segments out."
        )
    if options.segments is not None and options.per_prompt:
        raise InputError(
            "--per-prompt tells prompts apart, and --segments cuts the only one. Leave "
            "one of them out."
        )
    settings = _settings(options)
    loaded = load_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        device_map=options.device_map,
        quantization_config=QUANTIZED.get(options.quantize),
    )
    if options.segments is None:
        oracle: Any = ComponentOracle(
            loaded, prompts, per_prompt=options.per_prompt, **settings
        )
    else:
        oracle = _mixed(loaded, prompts[0], options, settings)
    if not options.quiet:
        for line in _alike(oracle.found):
            print(f"spex: found {line}", file=sys.stderr)
    return oracle


def _mixed(
    loaded: Any, task: Any, options: argparse.Namespace, settings: Mapping[str, Any]
) -> Any:
    """The prompt's segments and the model's components in one game."""
    from oracles.components import MixedOracle
    from oracles.features import text_prompt

    cut = partial(text_prompt, tokenizer=loaded.tokenizer, segments=options.segments)
    is_patched = options.ablation == "resample" and task.corrupted
    return MixedOracle(
        loaded,
        cut(task.text),
        answer=task.answer,
        wrong=task.wrong,
        corrupted=cut(task.corrupted) if is_patched else None,
        **settings,
    )


def _method(options: argparse.Namespace) -> str | Method[Any]:
    if options.method not in ("auto", LEARNER):
        if options.keep is None:
            return options.method
        raise InputError(
            f"--keep is for --method {LEARNER}, and --method is {options.method}. "
            "Leave one of them out."
        )
    order = MAX_ORDER if options.max_order is None else options.max_order
    keep = KEEP if options.keep is None else options.keep
    return load_method(LEARNER, order, keep=keep)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Of both oracles, from the options."""
    layers = None if options.layers is None else _layers(options.layers)
    settings: dict[str, Any] = {
        "unit": options.unit,
        "layers": layers,
        "groups": options.groups,
        "behaviour": options.behaviour,
        "ablation": options.ablation,
    }
    if options.directions is not None:
        settings |= {"layers": None, "directions": _directions(options, layers)}
    if options.reference is not None:
        lines = text_of_file(options.reference).splitlines()
        settings["reference"] = [line for line in lines if line.strip()]
    return settings


def _directions(options: argparse.Namespace, layers: list[int] | None) -> Any:
    from oracles.components import Directions

    if layers is None or len(layers) != 1:
        raise InputError(
            "--directions are read after one layer. Name it with --layers, as a number."
        )
    try:
        matrix = np.load(options.directions, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{options.directions} cannot be read as a matrix ({error}). Write it with "
            "numpy.save."
        ) from error
    return Directions(layers[0], matrix)


def _layers(text: str) -> list[int]:
    """Numbers from a list of numbers and ranges.

    >>> _layers("0,4-6")
    [0, 4, 5, 6]
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        is_range = first.isdecimal() and last.isdecimal()
        if not is_range or int(last) < int(first):
            raise InputError(
                f"--layers {text} is not a list of layers. Write it as 0,4-7."
            )
        found.extend(range(int(first), int(last) + 1))
    return found


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers from a list, "none" being no numbers."""
    if text == "none":
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers such as 0.25,0.5, nor none"
        ) from None


def _alike(found: tuple[str, ...]) -> list[str]:
    """Lines of layers, those that differ in nothing but their number as one.

    >>> _alike(("L0: 8 heads into h.0.out", "L1: 8 heads into h.1.out"))
    ['L0 to L1: 8 heads into h.*.out']
    """
    plain = [
        line.split(": ", 1)[1].replace(f".{number}.", ".*.")
        for number, line in enumerate(found)
    ]
    lines = []
    for text, group in groupby(range(len(found)), key=lambda number: plain[number]):
        numbers = list(group)
        if len(numbers) == 1:
            lines.append(found[numbers[0]])
        else:
            lines.append(f"L{numbers[0]} to L{numbers[-1]}: {text}")
    return lines
