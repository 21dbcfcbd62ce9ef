"""The options of every command, in groups."""

import argparse
from pathlib import Path

from spex.indices import INDICES


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """What is explained, how it is cut, and what is never removed."""
    prompt = parser.add_argument_group("what to explain")
    add = prompt.add_argument
    add("text", nargs="?", help="the prompt; else --file or stdin")
    add("--file", type=Path, help="read the prompt from this file")
    add(
        "--messages",
        type=Path,
        metavar="FILE",
        help='a conversation, as JSON: [{"role": ..., "content": ...}, ...]; the '
        "user's messages are ablated, with --segments turn whole ones",
    )
    add(
        "--passages",
        type=Path,
        metavar="FILE",
        help="retrieved documents, as a JSON list of texts or one JSON text or object "
        'with "text" a line; each is one segment',
    )
    _add_cut(parser)


def _add_cut(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it is cut").add_argument
    add("--prefix", default="", help="text before the prompt that is never ablated")
    add("--suffix", default="", help="text after the prompt that is never ablated")
    add(
        "--pin",
        default="",
        metavar="PATTERN",
        help="never ablate what this regular expression matches in the prompt",
    )
    add("--chat", action="store_true", help="send it all as the user's message")
    add(
        "--truncate",
        action="store_true",
        help="leave out the last segments of a prompt longer than the model's context "
        "(default: refuse it)",
    )
    add(
        "--segments",
        help="word, sentence, token, line, paragraph, document, example, json, turn, "
        "regex:PATTERN (each match) or between:PATTERN",
    )
    _add_finer(parser)
    _add_removal(parser)


def _add_finer(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("cut in two levels").add_argument
    add(
        "--refine",
        type=Path,
        metavar="RESULT",
        help="cut what mattered in this result (--json) of the same prompt further, "
        "and keep the others",
    )
    add("--finer", help="what --refine cuts them into (default sentence)")


def _add_removal(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it is removed").add_argument
    add(
        "--removal",
        default="delete",
        help="delete (default), mask, unknown, pad, replace:TEXT, attention, which "
        "hides tokens and keeps positions, or resample, which draws from --reference",
    )
    add(
        "--reference",
        type=Path,
        metavar="FILE",
        help="texts like the one explained, in the form of --passages, from which "
        "resample draws",
    )


def add_question(parser: argparse.ArgumentParser) -> None:
    """Which model is asked, and what about its answer."""
    add = parser.add_argument_group("whom to ask").add_argument
    add(
        "--model",
        default="sentiment",
        help="Hugging Face name, local folder, or embedded: sentiment, facts; with "
        "--endpoint the name the server knows",
    )
    add("--device", help="such as cpu or cuda:0")
    add("--dtype", help="such as float32 or bfloat16")
    add("--device-map", help="auto, to spread a model over all devices")
    add("--quantize", choices=("8bit", "4bit"), help="load fewer bits a weight")
    _add_target(parser)


def _add_target(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what about its answer").add_argument
    add(
        "--question",
        default="",
        help="what a question-answering model is asked, or a retriever compares with",
    )
    add(
        "--target",
        help="class to explain, the continuation, answer or word; by default what the "
        "model says",
    )
    add("--against", help="alternative continuation or word")
    add(
        "--choice",
        action="append",
        default=[],
        help="an answer of a multiple choice; give it two or more times, in place of "
        "--target",
    )
    add(
        "--per-token",
        action="store_true",
        help="explain every token of the answer, from the same ablations",
    )
    add(
        "--value",
        help="logit, log-odds, margin, probability or log-probability of the target; "
        "rouge-l or token-f1 for the likeness of generated answers",
    )
    add(
        "--earlier",
        type=Path,
        help="go on from this result of the same prompt, written with --json: pay only "
        "for what a larger budget adds to it (default: twice its budget)",
    )


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """A model behind an OpenAI-compatible server."""
    add = parser.add_argument_group("a remote model").add_argument
    add(
        "--endpoint",
        metavar="URL",
        help="an OpenAI-compatible server, such as http://localhost:8000/v1; its key "
        "is read from the environment",
    )
    add(
        "--api",
        choices=("completions", "chat", "sampled"),
        help="what the server can do: echoed log-probabilities, log-probabilities of "
        "the answer's first token (default), or answers only",
    )
    add(
        "--key-variable",
        help="environment variable of the key (default OPENAI_API_KEY)",
    )
    add("--max-requests", type=int, help="hard cap of this command (default 10,000)")
    add("--concurrency", type=int, help="requests at a time (default 8)")
    add("--requests-per-minute", type=float, help="limit (default: none)")
    add("--timeout", type=float, help="seconds for one answer (default 60)")
    add(
        "--extra",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a further field of every request, such as reasoning_effort=low; the "
        "value is JSON or else a text, and null takes the field out",
    )
    _add_sampling(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("answers of a remote model (sampled)").add_argument
    add("--draws", type=int, help="answers an ablation (default 1)")
    add("--temperature", type=float, help="default 0 for one draw, 1 for more")
    add(
        "--max-answer-tokens",
        type=int,
        help="where an answer is cut (default 64); reasoning counts",
    )
    add(
        "--prices",
        type=float,
        nargs=2,
        metavar=("PROMPT", "ANSWER"),
        help="of a million tokens, to say what the run will cost",
    )


def add_recovery(parser: argparse.ArgumentParser) -> None:
    """How it is explained."""
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


def add_output(parser: argparse.ArgumentParser) -> None:
    """What is shown and written."""
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
