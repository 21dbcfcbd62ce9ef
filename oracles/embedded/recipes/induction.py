"""Trains the embedded induction models, whose circuits are known.

    python -m oracles.embedded.recipes.induction --out DIR --seed 0

Two GPT-2s of two layers without MLPs (theirs have one neuron and weights of zero) learn
to go on with repeated random words (`oracles/embedded/induction_world.py`). Where the
circuit lies is planted: at first the chosen heads work alone and are told where to
look; then every other head is missing from half of the rows, so that nothing can be
left to it.

- `induction`: one previous-token head below, one induction head above.
- `backup`: the same with two induction heads, of which each row has the one, the other
  or both, so that either of them is enough: taking one away changes little.

Progress goes to the terminal, the models and their cards to folders in --out.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from oracles.embedded.induction_world import LONGEST, SHORTEST, WORDS
from oracles.embedded.recipes.induction_card import card, measure

HEADS, HEAD_WIDTH = 8, 16
LENGTH = 2 * LONGEST + 1  # the beginning of a text, and every word twice
ROWS, RATE = 48, 3e-3
SPECIAL = ("<pad>", "<s>", "</s>")


@dataclass(frozen=True)
class Plan:
    """Which heads do the work, and what is seen of it.

    Attributes:
        name: of the model.
        previous: head of layer 0 that is never missing.
        induction: heads of layer 1 of which one at least is never missing.
        steps: of training.
        hinted: of these, how many tell the heads where to look.
    """

    name: str
    previous: int
    induction: tuple[int, ...]
    steps: int = 600
    hinted: int = 200


PLANS = (Plan("induction", 3, (5,)), Plan("backup", 6, (1, 4)))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins by spaces
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=LENGTH + 1,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="</s>",
    )


def make_model(vocabulary: int) -> GPT2LMHeadModel:
    """A GPT-2 whose MLPs add nothing, and never will."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=LENGTH + 1,
        n_embd=HEADS * HEAD_WIDTH,
        n_layer=2,
        n_head=HEADS,
        n_inner=1,
        initializer_range=0.15,  # from GPT-2's 0.02 the composition is found far later
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    for block in model.transformer.h:
        for parameter in block.mlp.parameters():
            parameter.data.zero_()
            parameter.requires_grad_(False)
    return model


@dataclass(frozen=True, eq=False)
class Drawn:
    """Texts of one batch.

    Attributes:
        ids: (rows, LENGTH).
        source: for each position of a word said again, that of the word after its
            first saying; -1 elsewhere, (rows, LENGTH).
    """

    ids: torch.Tensor
    source: torch.Tensor


def draw(rng: np.random.Generator) -> Drawn:
    """Random words, said again and again to the end of the row."""
    ids = np.empty((ROWS, LENGTH), dtype=np.int64)
    source = np.full((ROWS, LENGTH), -1)
    for row in range(ROWS):
        size = int(rng.integers(SHORTEST, LONGEST + 1))
        words = rng.choice(len(WORDS), size, replace=False) + len(SPECIAL)
        ids[row] = np.concatenate([[1], np.resize(words, LENGTH - 1)])
        again = np.arange(size + 1, min(2 * size + 1, LENGTH))
        source[row, again] = again - size + 1
    return Drawn(torch.from_numpy(ids), torch.from_numpy(source))


@contextmanager
def missing_heads(model: GPT2LMHeadModel, kept: torch.Tensor) -> Iterator[None]:
    """With heads missing where `kept` (rows, layers, heads) is 0."""
    hooks = []
    for number, block in enumerate(model.transformer.h):
        mask = kept[:, number].repeat_interleave(HEAD_WIDTH, dim=1)[:, None]
        hooks.append(
            block.attn.c_proj.register_forward_pre_hook(
                lambda module, args, mask=mask: (args[0] * mask,)
            )
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def draw_kept(plan: Plan, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Which heads work in each row, (rows, layers, heads), 0 or 1.

    Of those that the plan does not name, so large a share does.
    """
    kept = rng.random((ROWS, 2, HEADS)) < share
    kept[:, 0, plan.previous] = True
    one = rng.integers(len(plan.induction), size=ROWS)
    for number, head in enumerate(plan.induction):
        kept[:, 1, head] = (one == number) | (rng.random(ROWS) < 0.5)
    return torch.from_numpy(kept.astype(np.float32))


def told(
    attentions: tuple[torch.Tensor, ...], batch: Drawn, plan: Plan
) -> torch.Tensor:
    """How badly the chosen heads look where they should, in nats."""
    previous = attentions[0][:, plan.previous]
    loss = -previous.diagonal(-1, 1, 2).clamp(min=1e-6).log().mean()
    rows, places = (batch.source >= 0).nonzero(as_tuple=True)
    for head in plan.induction:
        looked = attentions[1][rows, head, places, batch.source[rows, places]]
        loss = loss - looked.clamp(min=1e-6).log().mean() / len(plan.induction)
    return loss


def train(plan: Plan, model: GPT2LMHeadModel, seed: int) -> None:
    """Train in place; prints progress."""
    rng = np.random.default_rng(seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.01)
    model.train()
    for step in range(plan.steps):
        done = step / plan.steps
        rate = RATE * min(1.0, step / 50) * min(1.0, 2 * (1 - done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = draw(rng)
        share = 0.0 if step < plan.hinted else 0.5
        with missing_heads(model, draw_kept(plan, share, rng)):
            output = model(input_ids=batch.ids, output_attentions=True)
        logits = output.logits[:, :-1]
        is_known = batch.source[:, :-1] >= 0
        wanted = batch.ids[:, 1:][is_known]
        loss = total = cross_entropy(logits[is_known], wanted)
        if step < plan.hinted:
            total = total + told(output.attentions, batch, plan)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if step % 50 == 0 or step + 1 == plan.steps:
            print(f"  step {step}: {loss.item():.3f} nats", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure and describe both models."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    for plan in PLANS:
        print(plan.name, flush=True)
        torch.manual_seed(arguments.seed)
        tokenizer = make_tokenizer()
        model, start = make_model(len(tokenizer)), time.perf_counter()
        train(plan, model, arguments.seed)
        minutes = (time.perf_counter() - start) / 60
        folder = arguments.out / plan.name
        model.eval().half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        words = card(measure(folder, plan.previous, plan.induction, minutes))
        (folder / "README.md").write_text(words, "utf-8")
        print(words, flush=True)


if __name__ == "__main__":
    main()
