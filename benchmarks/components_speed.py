"""Ablated forwards a second, against one mask in each forward, with hooks.

    python benchmarks/components_speed.py --minilm FOLDER --data DIR --threads 1

A forward is a mask on a prompt. What is compared with sets hooks at the attention
output projections, which put in what the ablation says, and runs the model as it comes:
`one` a prompt at a time, `prompts` all prompts of equal length together. Both sides run
in turns, `--repeats` times; the fastest of each counts, in seconds of the processor for
one thread (other programs do not matter) and of the clock for more. Masks keep half of
the heads. Values have to agree to 1e-3.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from components_tasks import Gates, Task, load, make_task

from oracles import Masks
from oracles.components import TaskPrompt
from oracles.components.behaviour import Read
from oracles.features import LoadedModel

MODELS = ("facts", "induction", "sentiment", "minilm", "gpt2-width")
REVIEW = "the plot is thin and the jokes fall flat , but the acting saves it"


def task_of(name: str, options: argparse.Namespace) -> Task:
    if name == "sentiment":
        prompts = [TaskPrompt(REVIEW, "positive"), TaskPrompt(REVIEW + " .", "0")]
        return Task(name, load(name), prompts, "margin", "mean")
    if name == "gpt2-width":
        return Task(name, wide_model(), facts_prompts(options), "logit-diff", "mean")
    return make_task(name, 0, options.minilm, options.data, None)


def facts_prompts(options: argparse.Namespace) -> list[TaskPrompt]:
    return make_task("facts", 0, options.minilm, options.data, None).prompts


def wide_model() -> LoadedModel:
    """GPT-2's width and heads, six layers, untrained, with the words of `facts`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    words = load("facts").tokenizer
    config = GPT2Config(vocab_size=len(words), n_layer=6, initializer_range=0.1)
    model = GPT2LMHeadModel(config).eval()
    return LoadedModel(model, words, "gpt2-width", "causal-lm")


class OneMask(Gates):
    """A mask in each forward."""

    def __init__(self, task: Task, *, together: bool) -> None:
        super().__init__(task)
        groups: dict[Any, list[Any]] = {}
        for number, prompt in enumerate(self.encoded):
            key = (len(prompt.ids), len(prompt.places)) if together else number
            groups.setdefault(key, []).append(prompt)
        self.groups = list(groups.values())

    def __call__(self, masks: Masks) -> np.ndarray:
        """Mean values (m,)."""
        values = []
        with torch.inference_mode():
            for mask in masks:
                gates = torch.from_numpy(mask)
                values.append(self.one_value(gates))
        return np.array(values)

    def one_value(self, gates: Any) -> float:
        handles = []
        for number, layer in enumerate(self.layers):
            hook = self._gated(number, gates)
            handles.append(layer.projection.register_forward_pre_hook(hook))
        total = sum(float(self._measured(group).sum()) for group in self.groups)
        for handle in handles:
            handle.remove()
        return total / len(self.encoded)

    def _gated(self, number: int, gates: Any) -> Callable[..., Any]:
        layer = self.layers[number]
        start = sum(self.num_heads[:number])
        own = gates[start : start + layer.num_heads].repeat_interleave(layer.head_width)
        other = self.replacement.at(number, [0])
        return lambda module, args: (args[0].where(own, other), *args[1:])

    def _measured(self, group: list[Any]) -> Any:
        ids = torch.tensor([prompt.ids for prompt in group])
        logits = self.model(input_ids=ids).logits
        if group[0].places:
            places = torch.tensor([prompt.places for prompt in group])
            index = places[..., None].expand(-1, -1, logits.shape[-1])
            logits = logits.gather(1, index)
        else:
            logits = logits[:, None]
        targets = torch.tensor([prompt.targets for prompt in group])
        has_wrong = group[0].wrong is not None
        wrong = torch.tensor([p.wrong for p in group]) if has_wrong else None
        return self.behaviour.measure(Read(logits.float(), targets, wrong))


def seconds_of(work: Callable[[], Any]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    return clock() - started


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    task = task_of(name, options)
    sides = {
        "ours": task.oracle.evaluate,
        "one": OneMask(task, together=False),
        "prompts": OneMask(task, together=True),
    }
    rng = np.random.default_rng(0)
    masks = rng.random((options.masks, len(task.players))) < options.keep
    few = masks[: max(4, options.masks // 4)]
    truth = sides["one"](few[:4])
    for side in sides.values():
        assert np.allclose(np.ravel(side(few[:4])), truth, atol=1e-3)
    best = dict.fromkeys(sides, np.inf)
    for _ in range(options.repeats):
        for side, work in sides.items():
            given = masks if side == "ours" else few
            spent = seconds_of(lambda w=work, g=given: w(g)) / len(given)
            best[side] = min(best[side], spent)
    rates = {side: round(len(task.prompts) / spent) for side, spent in best.items()}
    return {
        "model": name,
        "threads": torch.get_num_threads(),
        "keep": options.keep,
        **rates,
        "over one": round(best["one"] / best["ours"], 2),
        "over prompts": round(best["prompts"] / best["ours"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "--data", type=Path, default=Path(os.environ.get("SPEX_DATA", "../shared/data"))
    )
    add("--minilm", type=Path, default=Path("minilm"), help="folder of the model")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--threads", type=int, default=1)
    add("--masks", type=int, default=128)
    add("--keep", type=float, default=0.5)
    add("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
    print(json.dumps({**versions, "cores": os.cpu_count()}), flush=True)
    for name in options.models:
        print(json.dumps(measured(name, options)), flush=True)


if __name__ == "__main__":
    main()
