"""The other ways to run the same ablations, for `throughput`.

captum 0.9 runs a causal model through LLMAttribution, whose forward function takes one
prompt at a time, and an encoder through KernelShap on token ids, where removed segments
get the mask token, `perturbations_per_eval` at a time. Both are given the benchmark's
own masks as their perturbations, and a surrogate that does nothing, so that only the
ablations are timed. context-cite 0.0.4 runs causal models only; its masks are the
benchmark's (drawn as it draws them), its sentences are ours, and the answer is given to
it, so that it generates nothing. Its package loads NLTK's data at import and splits
with it; a partitioner of ours takes that place.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oracles.features.models.loading import LoadedModel

Masks = NDArray[np.bool_]


class NoSurrogate:
    """In the place of captum's regression, which is not what is timed."""

    def fit(self, data: Any) -> None:
        """Only keep the values it would be fitted to."""
        [(masks, self.values, _)] = data
        self.num_players = masks.shape[1]

    def representation(self) -> torch.Tensor:
        """Coefficients of zero."""
        return torch.zeros(self.num_players)


def given(masks: Masks) -> Callable[..., Iterator[torch.Tensor]]:
    """Masks as captum's perturbations."""

    def perturbations(inputs: Any, **settings: Any) -> Iterator[torch.Tensor]:
        for mask in masks:
            yield torch.tensor(mask[None], dtype=torch.float32)

    return perturbations


def captum_causal(
    loaded: LoadedModel,
    prefix: str,
    segments: Sequence[str],
    suffix: str,
    answer: str,
    masks: Masks,
) -> NDArray[np.float64]:
    """log p(answer) under every mask by LLMAttribution, the answer in one pass."""
    from captum.attr import KernelShap, LLMAttribution, TextTemplateInput

    start = loaded.tokenizer.bos_token or ""

    def write(*words: str) -> str:
        return start + " ".join(filter(None, [prefix, *words, suffix]))

    shap = KernelShap(loaded.model)
    shap.perturb_func = given(masks)
    shap.interpretable_model = NoSurrogate()
    text = TextTemplateInput(write, list(segments))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        LLMAttribution(shap, loaded.tokenizer).attribute(
            text,
            target=f" {answer}",
            n_samples=len(masks),
            forward_in_tokens=False,
            use_cached_outputs=False,
        )
    return shap.interpretable_model.values.double().numpy()


def captum_encoder(
    loaded: LoadedModel,
    head: Callable[[torch.Tensor], torch.Tensor],
    ids: Sequence[int],
    owners: Sequence[int],
    masks: Masks,
    perturbations: int,
) -> NDArray[np.float64]:
    """`head` of token ids (rows, length) under every mask by KernelShap.

    `owners` is each token's player, or the number of players for what is always kept.
    """
    from captum.attr import KernelShap

    every = np.ones((len(masks), 1), dtype=bool)
    shap = KernelShap(head)
    shap.perturb_func = given(np.hstack([masks, every]))
    shap.interpretable_model = NoSurrogate()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shap.attribute(
            torch.tensor([list(ids)]),
            baselines=loaded.tokenizer.mask_token_id,
            feature_mask=torch.tensor([list(owners)]),
            n_samples=len(masks),
            perturbations_per_eval=perturbations,
            return_input_shape=False,
        )
    return shap.interpretable_model.values.double().numpy()


def context_cite(
    loaded: LoadedModel,
    prefix: str,
    segments: Sequence[str],
    suffix: str,
    answer: str,
    num_masks: int,
    batch_size: int,
) -> tuple[Masks, NDArray[np.float64]]:
    """context-cite's masks, and its log p(answer) under them."""
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        citer = _citer(loaded, prefix, segments, suffix, answer, num_masks, batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            masks, odds = citer._masks, citer._logit_probs.astype(np.float64)
    return masks, -np.logaddexp(0, -odds).sum(axis=1)


def _citer(
    loaded: LoadedModel,
    prefix: str,
    segments: Sequence[str],
    suffix: str,
    answer: str,
    num_masks: int,
    batch_size: int,
) -> Any:
    import nltk

    nltk.download = lambda *names: True  # splits nothing here, and waits for a network
    from context_cite import ContextCiter
    from context_cite.context_partitioner import BaseContextPartitioner

    class Given(BaseContextPartitioner):
        num_sources = len(segments)

        def split_context(self) -> None: ...

        def get_source(self, index: int) -> str:
            return segments[index]

        def get_context(self, mask: Masks | None = None) -> str:
            kept = range(len(segments)) if mask is None else np.flatnonzero(mask)
            return " ".join(segments[i] for i in kept)

    tokenizer = loaded.tokenizer
    tokenizer.padding_side = "left"
    # a chat template that writes what our oracle reads
    start = tokenizer.bos_token or ""
    tokenizer.chat_template = start + "{{ messages[0]['content'].lstrip() }}"
    context = " ".join(segments)
    citer = ContextCiter(
        loaded.model,
        tokenizer,
        context,
        suffix,
        num_ablations=num_masks,
        batch_size=batch_size,
        prompt_template=f"{prefix} {{context}} {{query}}".lstrip(),
        partitioner=Given(context),
    )
    _, prompt = citer._get_prompt_ids(return_prompt=True)
    citer._cache["output"] = f"{prompt} {answer}"
    return citer


def context_cite_masks(num_masks: int, num_players: int, keep: float) -> Masks:
    """The masks it draws, each from a seed of its own."""
    rows = [
        np.random.RandomState(seed).choice(
            [False, True], size=num_players, p=[1 - keep, keep]
        )
        for seed in range(num_masks)
    ]
    return np.array(rows)
