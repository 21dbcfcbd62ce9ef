"""Values of masks over prompts: which rows go through the model together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.components.activations import Intact, Replacement, alike, intact_logs
from oracles.components.behaviour import Behaviour, Read
from oracles.components.components import Components
from oracles.components.passes import Pass, Passes
from oracles.components.prompts import Encoded
from oracles.errors import InputError
from oracles.features.passes.batching import tokens_in_batch
from oracles.features.passes.workers import Batch, run_batches


class Evaluation:
    """A behaviour measured on every prompt under every mask.

    A row of a batch is a mask and a prompt. Rows of one batch have prompts of equal
    length, so that nothing is padded, and begin at the same layer: the lowest in which
    their masks ablate something.

    Args:
        passes: of the model.
        components: its players and their sites.
        prompts: as tokens.
        behaviour: what is measured.
        replacement: what takes the place of ablated components.
        batch_size: rows in one forward pass, where that is fixed.
    """

    def __init__(
        self,
        passes: Passes,
        components: Components,
        prompts: Sequence[Encoded],
        behaviour: Behaviour,
        replacement: Replacement,
        batch_size: int | None,
    ) -> None:
        self._passes, self._sites, self._prompts = passes, components.sites, prompts
        self._behaviour, self._replacement = behaviour, replacement
        self._batch_size = passes.most_rows or batch_size
        self._intact = Intact(passes, prompts)
        self._logs = intact_logs(passes, prompts) if "intact" in behaviour.reads else []
        shape = (len(self._sites), len(components.players))
        self._starts = np.full(shape[1], passes.depth)
        self._acts = np.zeros(shape, dtype=bool)  # which players act at which sites
        for number, site in enumerate(self._sites):
            players = np.unique(site.owner[site.owner >= 0])
            self._acts[number, players] = True
            self._starts[players] = np.minimum(self._starts[players], site.start)

    def values(self, masks: Masks) -> NDArray[np.float64]:
        """Values (m, prompts) of every prompt under every mask (m, n)."""
        shape = (len(self._prompts), len(masks))  # a prompt's rows side by side
        prompts, rows = (part.ravel() for part in np.indices(shape))
        return self.values_of_pairs(masks, rows, prompts).reshape(shape).T

    def values_of_pairs(
        self, masks: Masks, rows: NDArray[np.int64], prompts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Values (r,) of chosen rows of masks (m, n) on chosen prompts, (r,) both.

        Raises:
            InputError: a value is not finite.
        """
        starts = np.where(masks, self._passes.depth, self._starts).min(axis=1)
        self._intact.prepare(np.unique(starts[rows]).tolist())
        shapes = [(len(p.ids), len(p.places)) for p in self._prompts]
        keys = [
            (start, *shapes[p])
            for start, p in zip(starts[rows].tolist(), prompts.tolist(), strict=True)
        ]
        costs = [length for _, length, _ in keys]
        most = tokens_in_batch(sum(costs), self._passes.device)
        batches = alike(keys, costs, most, self._batch_size)

        def work(batch: Batch) -> NDArray[np.float64]:
            start = keys[batch[0]][0]
            return self._measure(masks[rows[batch]], prompts[batch].tolist(), start)

        values = np.empty(len(rows))
        with self._passes.hooked():
            for batch, some in run_batches(batches, work, self._passes.device):
                values[batch] = some
        _check_finite(values, self._behaviour.name)
        return values

    def _measure(
        self, masks: Masks, prompts: list[int], start: int
    ) -> NDArray[np.float64]:
        """Values of one batch, (rows,): each row has a mask and a prompt."""
        import torch

        reads = self._behaviour.reads
        setting = self._setting(masks, prompts, start)
        read = Read(
            logits=self._passes.run(self._column("ids", prompts), setting),
            targets=self._column("targets", prompts) if "targets" in reads else None,
            wrong=self._column("wrong", prompts) if "wrong" in reads else None,
            intact=torch.stack([self._logs[i] for i in prompts])
            if "intact" in reads
            else None,
        )
        measured = self._behaviour.measure(read)
        values: NDArray[np.float64] = measured.double().cpu().numpy()
        return values

    def _setting(self, masks: Masks, prompts: list[int], start: int) -> Pass:
        """The pass in which each row's components are ablated."""
        import torch

        device = self._passes.device
        always = np.ones((len(masks), 1), dtype=bool)  # what no player owns: -1
        kept = torch.from_numpy(np.hstack([masks, always])).to(device)
        has_places = bool(self._prompts[prompts[0]].places)
        setting = Pass(
            places=self._column("places", prompts) if has_places else None,
            start=start,
            hidden=self._intact.at(start, prompts),
            known=self._intact.heads_at(start, prompts),
        )
        is_ablated = ~masks.all(axis=0)
        for site in np.flatnonzero(self._acts[:, is_ablated].any(axis=1)).tolist():
            owner = torch.as_tensor(self._sites[site].owner, device=device)
            setting.kept[site] = kept[:, owner][:, None]
            setting.others[site] = self._replacement.at(site, prompts)
        return setting

    def _column(self, name: str, prompts: list[int]) -> Any:
        """A field of the rows' prompts as a tensor."""
        import torch

        given = [getattr(self._prompts[i], name) for i in prompts]
        return torch.tensor(given, device=self._passes.device)


def _check_finite(values: NDArray[np.float64], behaviour: str) -> None:
    missing = len(values) - np.isfinite(values).sum()
    if missing:
        raise InputError(
            f"behaviour={behaviour!r} is not finite in {missing} of {len(values)} "
            "passes. Use another behaviour or ablation, or load the model in float32."
        )
