"""Two proxies blended: boosted trees, and a Gaussian process that knows the trees.

Trees learn sharp interactions of few players from few masks, a process smooth ones.
The process's prior is mixed from its own kernel and from the trees' spectrum, so that
trees say where to look, and the process how much of it the values bear out (`prior`).
Mixtures and noises are averaged, weighted by their errors on held-out masks, and the
blend of process and trees is the one that errs least on them.

All is done for each of several folds, on the rows outside it, so that predictions for
the rows inside are held out; only which outliers are distrusted, and the few weights of
the blend, are told by all rows. The trees of the blend are the mean of the folds'
(bagging); the process is fitted again to all rows, or to as many as it can work with.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from oracles import Masks
from proxyspex.prior import MIXES, TRIED, Prior, Process, shares_of, signs
from proxyspex.process import learn_kernel, mean_kernel
from proxyspex.trees import Terms, mean_terms
from spex.basis import Basis
from spex.spectrum import Support

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_LEARNING = 300  # rows the kernel is learned from
MOST_ROWS = 2000  # of the process: its work grows with their cube
MOST_TREE_TERMS = 400  # of which the process is told
MOST_PROBABLE = 300  # supports looked at for each part of the kernel
EVIDENCE = 1 / 8  # nats for each held-out row and factor of e in the error
LIGHTEST = 0.02  # weight of a setting that counts
USUAL_TRUST = 0.5
OUTLYING = 6.0  # robust standard deviations from which a row is distrusted
MAD = 1.4826  # standard deviations of a normal distribution for each MAD


@dataclass(frozen=True, eq=False)
class Fold:
    """The trees of one fold.

    Attributes:
        inside: rows held out.
        rows: all others.
        booster: fitted to them.
        forest: its spectrum.
        held_out: its predictions for the rows inside.
        singles: how much each single player may matter, (n,), told by all outputs; None
            where there are few players.
    """

    inside: Rows
    rows: Rows
    booster: lgb.Booster
    forest: Terms
    held_out: Array
    singles: Array | None


@dataclass(frozen=True, eq=False)
class Blend:
    """Trees and processes of all folds, of values of mean 0 and variance 1.

    Attributes:
        folds, processes: one of each for every fold.
        whole: the process on all rows, its kernel and terms the mean of the folds'.
        trust: the process's part of the blend, the rest is the trees'.
        held_out: predictions for the rows of the folds, NaN for others, (m,).
        outlying: how many rows the process distrusts.
        basis: of all spectra.
    """

    folds: list[Fold]
    processes: list[Process]
    whole: Process
    trust: float
    held_out: Array
    outlying: int
    basis: Basis

    def predict(self, known: Masks, masks: Masks) -> Array:
        """The full surrogate at masks (l, n); `known` are those it was fitted to."""
        inputs = masks.astype(np.float32)
        trees = np.mean(
            [fold.booster.predict(inputs, num_threads=1) for fold in self.folds], axis=0
        )
        smooth = self.whole.predict(known[self.whole.rows], masks)
        return trees + self.trust * (smooth - trees)

    def candidates(self, max_order: int) -> list[Support]:
        """Supports where coefficients of some size may be."""
        found: dict[Support, None] = {(): None}
        for fold, process in zip(self.folds, self.processes, strict=True):
            found.update(dict.fromkeys(fold.forest.largest(MOST_TREE_TERMS)))
            likely = process.prior.most_probable(MOST_PROBABLE, max_order)
            found.update(dict.fromkeys(likely))
        return [support for support in found if len(support) <= max_order]

    def spectra(self, known: Masks, supports: list[Support]) -> tuple[Array, Array]:
        """Coefficients of the blend (supports,), and of each fold's (folds, supports).

        Exact; `known` are the masks it was fitted to.
        """
        everything = [*self.processes, self.whole]
        rows = np.unique(np.concatenate([process.rows for process in everything]))
        seen = self.basis.characters(known[rows], supports)
        trees = [fold.forest.of(supports) for fold in self.folds]
        trees.append(np.mean(trees, axis=0))
        mixed = []
        for tree, process in zip(trees, everything, strict=True):
            own = seen[np.searchsorted(rows, process.rows)]
            smooth = process.coefficients(supports, known[process.rows], own)
            mixed.append(tree + self.trust * (smooth - tree))
        return mixed[-1], np.stack(mixed[:-1])


def blend(
    masks: Masks,
    values: Array,
    folds: list[Fold],
    singles: Array | None,
    basis: Basis,
    rng: np.random.Generator,
) -> Blend:
    """Add a process to the trees of every fold, and blend the two.

    Args:
        masks: shape (m, n).
        values: shape (m,), of mean 0 and variance 1.
        folds: see `Fold`; their rows inside are disjoint.
        singles: as each fold's, of all rows.
        basis: of the folds' spectra, and of all others.
        rng: of the rows that are taken where there are too many.
    """
    trees = np.full(len(values), np.nan)
    for fold in folds:
        trees[fold.inside] = fold.held_out
    distrust = _distrust(values - trees)
    generators = rng.spawn(len(folds))
    tried = TRIED if singles is not None else TRIED & (MIXES[:, 2:] == 0)
    fits = in_threads(
        lambda job: _fit(masks, values, distrust, basis, tried, *job),
        list(zip(folds, generators, strict=True)),
    )
    smooth = np.full((*tried.shape, len(values)), np.nan)
    for fold, fit in zip(folds, fits, strict=True):
        smooth[:, :, fold.inside] = fit.held_out
    rows = np.concatenate([fold.inside for fold in folds])
    mixing = _mixing(values[rows] - smooth[:, :, rows], tried)
    mixed = np.tensordot(mixing, smooth, axes=2)
    trust = _trust((values - trees)[rows], (mixed - trees)[rows])
    processes = [
        Process(fit.prior, fit.rows, _mixed(mixing, fit.weights)) for fit in fits
    ]
    prior = _mean_prior(folds, fits, singles)
    whole = _whole(masks, values, distrust, prior, mixing, rng)
    held_out = trees + trust * (mixed - trees)
    outlying = int((distrust > 1).sum())
    return Blend(folds, processes, whole, trust, held_out, outlying, basis)


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fold's process under every mixture and noise that is tried: weights (mixes,
    noises, rows), predictions for the rows inside the fold (mixes, noises, inside)."""

    prior: Prior
    rows: Rows
    weights: Array
    held_out: Array


def _fit(
    masks: Masks,
    values: Array,
    distrust: Array,
    basis: Basis,
    tried: NDArray[np.bool_],
    fold: Fold,
    rng: np.random.Generator,
) -> _Fit:
    rows = np.sort(rng.permutation(fold.rows)[:MOST_ROWS])
    learning = rng.permutation(rows[distrust[rows] == 1])[:MOST_LEARNING]
    kernel = learn_kernel(signs(masks[learning]), values[learning], rng)
    terms = shares_of(fold.forest.largest(MOST_TREE_TERMS))
    prior = Prior(kernel, terms, fold.singles, basis)
    weights = prior.weights(masks[rows], values[rows], distrust[rows], tried)
    held_out = prior.predictions(masks[fold.inside], masks[rows], weights)
    return _Fit(prior, rows, weights, held_out)


def _mean_prior(folds: list[Fold], fits: list[_Fit], singles: Array | None) -> Prior:
    kernel = mean_kernel([fit.prior.kernel for fit in fits])
    forest = mean_terms([fold.forest for fold in folds])
    terms = shares_of(forest.largest(MOST_TREE_TERMS))
    return Prior(kernel, terms, singles, fits[0].prior.basis)


def _whole(
    masks: Masks,
    values: Array,
    distrust: Array,
    prior: Prior,
    mixing: Array,
    rng: np.random.Generator,
) -> Process:
    """The process on the rows of all folds."""
    rows = np.sort(rng.permutation(len(masks))[:MOST_ROWS])
    weights = prior.weights(masks[rows], values[rows], distrust[rows], mixing > 0)
    return Process(prior, rows, _mixed(mixing, weights))


def _mixed(mixing: Array, weights: Array) -> Array:
    """Weights of all settings (mixes, noises, rows) as those of one process."""
    return (mixing[:, :, None] * weights).sum(axis=1)


def _distrust(errors: Array) -> Array:
    """How many times its noise variance each row gets; 1 for all that are usual."""
    known = errors[~np.isnan(errors)]
    usual = OUTLYING * MAD * float(np.median(np.abs(known - np.median(known))))
    ratio = np.nan_to_num(errors) / (usual or 1.0)
    return np.maximum(1.0, ratio**2)


def _trust(missing: Array, step: Array) -> float:
    """How far to go from the trees to the process.

    As far as held-out errors are least, but drawn to `USUAL_TRUST` unless the process
    is clearly better: the mean of the folds, which they do not tell of, gains more for
    trees.

    Args:
        missing: values less the trees' predictions, (rows,).
        step: the process's predictions less the trees'.
    """
    length = float(step @ step)
    if not length:
        return USUAL_TRUST
    trust = float(np.clip(step @ missing / length, 0, 1))
    pull = min(1.0, float(((missing - step) ** 2).mean() / (missing**2).mean())) ** 4
    return trust + pull * (USUAL_TRUST - trust)


def _mixing(errors: Array, tried: NDArray[np.bool_]) -> Array:
    """Weights of mixes and noises from held-out errors (mixes, noises, rows)."""
    mean = (errors**2).mean(axis=2)
    logs = -EVIDENCE * errors.shape[2] * np.log(mean + 1e-12)
    logs[~tried] = -np.inf
    weights = np.exp(logs - logs.max())
    weights[weights < LIGHTEST * weights.sum()] = 0.0
    mixing: Array = weights / weights.sum()
    return mixing


def in_threads(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    """`work` on every item, in order; the libraries below let go of the lock."""
    # one more than processors, so that none idles while the last items are worked on
    workers = min(len(items), (os.cpu_count() or 1) + 1)
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))
