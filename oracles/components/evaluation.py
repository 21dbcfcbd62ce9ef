"""Values of masks over prompts: which rows go through the model together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.components.activations import Intact, Replacement, alike
from oracles.components.behaviour import Behaviour, Read
from oracles.components.components import Components
from oracles.components.passes import Pass, Passes
from oracles.components.prompts import Encoded
from oracles.errors import InputError
from oracles.features.passes.batching import tokens_in_batch
from oracles.features.passes.workers import Batch, run_batches

WORTH = 384  # tokens through one layer: what a pass of its own has to save


class Evaluation:
    """A behaviour measured on every prompt under every mask.

    A row of a batch is a mask and a prompt. Rows of one batch have prompts of equal
    length, so that nothing is padded, and begin at the same layer: the lowest in which
    their masks ablate something. Rows of a prompt whose masks are alike up to some
    layer are one row up to there, where that saves enough to be worth a pass; so that
    such rows meet, they are sorted by their masks, from the lowest layer on.

    Args:
        passes: of the model.
        components: its players and their sites.
        prompts: as tokens.
        behaviour: what is measured.
        replacement: what takes the place of ablated components.
        logs: log P of the intact model at each prompt's places, (places, v), for a
            behaviour that reads it; else none.
        batch_size: rows in one forward pass, where that is fixed.
    """

    def __init__(
        self,
        passes: Passes,
        components: Components,
        prompts: Sequence[Encoded],
        behaviour: Behaviour,
        replacement: Replacement,
        logs: Sequence[Any],
        batch_size: int | None,
    ) -> None:
        self._passes, self._sites, self._prompts = passes, components.sites, prompts
        self._behaviour, self._replacement = behaviour, replacement
        self._batch_size = passes.most_rows or batch_size
        self._intact = Intact(passes, prompts)
        self._logs = logs
        shape = (len(self._sites), len(components.players))
        self._starts = np.full(shape[1], passes.depth)
        self._acts = np.zeros(shape, dtype=bool)  # which players act at which sites
        for number, site in enumerate(self._sites):
            players = np.unique(site.owner[site.owner >= 0])
            self._acts[number, players] = True
            self._starts[players] = np.minimum(self._starts[players], site.start)
        self._by_height = np.argsort(self._starts, kind="stable")

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
        values = np.empty(len(rows))
        order = self._sorted(masks, rows, prompts)
        rows, prompts = rows[order], prompts[order]
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
            return self._measure(masks[rows[batch]], prompts[batch], start)

        with self._passes.hooked():
            for batch, some in run_batches(batches, work, self._passes.device):
                values[order[batch]] = some
        _check_finite(values, self._behaviour.name)
        return values

    def _sorted(
        self, masks: Masks, rows: NDArray[np.int64], prompts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """An order of pairs: those that are alike in low layers are neighbours."""
        packed = np.packbits(masks[:, self._by_height], axis=1)
        ranks = np.unique(packed, axis=0, return_inverse=True)[1].ravel()
        return np.lexsort((ranks[rows], prompts))

    def _measure(
        self, masks: Masks, prompts: NDArray[np.int64], start: int
    ) -> NDArray[np.float64]:
        """Values of one batch, (rows,): each row has a mask and a prompt."""
        import torch

        reads, numbers = self._behaviour.reads, prompts.tolist()
        read = Read(
            logits=self._run(masks, prompts, start, None)[0],
            targets=self._column("targets", numbers) if "targets" in reads else None,
            wrong=self._column("wrong", numbers) if "wrong" in reads else None,
            intact=torch.stack([self._logs[i] for i in numbers])
            if "intact" in reads
            else None,
        )
        measured = self._behaviour.measure(read)
        values: NDArray[np.float64] = measured.double().cpu().numpy()
        return values

    def _run(
        self, masks: Masks, prompts: NDArray[np.int64], start: int, stop: int | None
    ) -> tuple[Any, Pass]:
        """Logits of rows that begin at a layer, and their pass; it may stop early."""
        numbers = prompts.tolist()
        splits = self._splits(masks, prompts)
        cut = self._cut(splits, start, stop, len(self._prompts[numbers[0]].ids))
        if cut is None:
            hidden = self._intact.at(start, numbers)
            known = self._intact.heads_at(start, numbers)
        else:
            is_new = splits < cut
            _, below = self._run(masks[is_new], prompts[is_new], start, cut)
            start, place = cut, np.cumsum(is_new) - 1
            hidden = below.states[cut][place]
            known = below.heads[cut][place] if cut in below.heads else None
        setting = self._setting(masks, numbers, start, stop)
        setting.hidden, setting.known = hidden, known
        return self._passes.run(self._column("ids", numbers), setting), setting

    def _splits(self, masks: Masks, prompts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lowest layer in which each row differs from that before it, (rows,).

        -1 for the first row of a prompt: it has nothing in common with another.
        """
        differs = masks[1:] != masks[:-1]
        lowest = np.where(differs, self._starts, self._passes.depth).min(axis=1)
        lowest[prompts[1:] != prompts[:-1]] = -1
        return np.concatenate([[-1], lowest])

    def _cut(
        self, splits: NDArray[np.int64], start: int, stop: int | None, length: int
    ) -> int | None:
        """The layer below which rows are best run but once; None if it is not worth it.

        Args:
            splits: of the rows.
            start, stop: where their pass begins, and where it stops.
            length: tokens in a row.
        """
        cuts = np.arange(start + 1, self._passes.depth if stop is None else stop)
        if not len(cuts):
            return None
        saved = (splits[:, None] >= cuts).sum(axis=0) * (cuts - start) * length
        best = int(saved.argmax())
        return int(cuts[best]) if saved[best] > WORTH else None

    def _setting(
        self, masks: Masks, prompts: list[int], start: int, stop: int | None
    ) -> Pass:
        """The pass in which each row's components are ablated."""
        import torch

        device = self._passes.device
        always = np.ones((len(masks), 1), dtype=bool)  # what no player owns: -1
        kept = torch.from_numpy(np.hstack([masks, always])).to(device)
        has_places = bool(self._prompts[prompts[0]].places)
        setting = Pass(
            places=self._column("places", prompts) if has_places else None,
            start=start,
            stop=stop,
            wanted=frozenset() if stop is None else frozenset([stop]),
        )
        last = self._passes.depth if stop is None else stop - 1
        is_ablated = ~masks.all(axis=0)
        for site in np.flatnonzero(self._acts[:, is_ablated].any(axis=1)).tolist():
            if start <= self._sites[site].start <= last:
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
