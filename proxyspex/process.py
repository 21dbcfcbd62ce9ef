"""A Gaussian process over masks whose kernel is a mixture of products over players.

    k(x, x') = 1 + sum_q w_q (prod_i (1 + rho_qi s_i s'_i) - 1) / z_q,   s_i = 1 - 2 x_i

As prod_i (1 + rho_i s_i s'_i) = sum_S rho_S chi_S(x) chi_S(x'), with rho_S the product
of rho_i over S, this is a prior under which the coefficients F(S) are independent with
variances sum_q w_q rho_qS / z_q (z_q makes each part's sum to 1): small for large sets,
and for sets with players that do little. Since log(1 + rho s s') is, up to a constant,
artanh(rho) s s', each product is exp(S diag(d) S^T + c): one matrix product for any
number of players. (The ANOVA decomposition of Durrande et al. 2013 on the hypercube.)
Several parts let groups of players that act together decay on their own.

Decays, weights and noise maximise the marginal likelihood (Rasmussen & Williams 2006,
eq. 5.8) times log-normal priors.
"""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack
from scipy.optimize import minimize

from spex.basis import Basis
from spex.spectrum import Support

Array = NDArray[np.floating[Any]]

NUM_PARTS = 3
MOST_AT_ONCE = 1024  # coefficients
LOSS_STEP = 1e-4  # part of the loss that is not worth another step
MAX_STEPS = 40
USUAL_DECAY = 0.15  # of artanh(rho), where there are few players
TOTAL_DECAY = 2.0  # of all players together, where there are many
USUAL_NOISE = 0.1  # as a part of the variance
LOG_DECAYS = (-12.0, 1.0)  # of artanh(rho): beyond, nothing or everything is left
LOG_NOISES = (np.log(1e-5), np.log(10.0))
SPREADS = (1.0, 1.0, 1.0, 2.0)  # of the log-normal priors, see `_Parameters`
START = 0.5  # spread of the parts' first decays, so that they are not all alike


@dataclass(frozen=True, eq=False)
class ProductKernel:
    """A learned kernel.

    Attributes:
        decays: artanh(rho), shape (parts, n).
        weights: of the parts, (parts,), adding up to 1.
        noise: variance of what the process leaves, as a part of the values' variance.
    """

    decays: Array
    weights: Array
    noise: float

    def __call__(self, left: Array, right: Array) -> Array:
        """The kernel less its constant: signs (m, n) and (l, n) to (m, l).

        In the precision of the signs.
        """
        total = np.zeros((len(left), len(right)), dtype=left.dtype)
        for decays, weight in zip(self.decays, self.weights, strict=True):
            # the product over its largest value, which may be beyond single precision
            most = np.log1p(np.tanh(decays)).sum()
            part = _logs(left, right, decays.astype(left.dtype))
            part -= left.dtype.type(most)
            np.exp(part, out=part)
            part -= left.dtype.type(np.exp(-most))
            part *= left.dtype.type(-weight / np.expm1(-most))
            total += part
        return total

    def variances(self, supports: list[Support]) -> Array:
        """Prior variance of each F(S), (terms,); of the empty set 0."""
        table = np.zeros(len(supports))
        for decays, weight in zip(self.decays, self.weights, strict=True):
            logs = np.log(np.tanh(decays))
            scale = weight / _size(decays)
            sums = np.array([logs[list(support)].sum() for support in supports])
            table += scale * np.exp(sums)
        table[[not support for support in supports]] = 0.0
        return table

    def spectrum(
        self,
        supports: list[Support],
        signs: Array,
        weights: Array,
        values: Array,
        basis: Basis,
    ) -> Array:
        """Coefficients in a basis of x -> sum_r weights_r k(x, x_r), (terms,).

        Args:
            supports: of the coefficients.
            signs: of the masks x_r, (rows, n).
            weights: shape (rows,).
            values: the characters of the supports at x_r, (rows, terms).
            basis: whose.
        """
        if basis.is_uniform:
            sums = values.T @ weights.astype(values.dtype)
            return np.asarray(self.variances(supports) * sums)
        table = np.zeros(len(supports))
        for decays, weight in zip(self.decays, self.weights, strict=True):
            table += (
                weight
                / _size(decays)
                * _projected(supports, signs, weights, np.tanh(decays), basis)
            )
        return table

    def most_probable(self, count: int, max_order: int) -> list[Support]:
        """Of each part the `count` supports of largest prior variance."""
        found: dict[Support, None] = {}
        for decays in self.decays:
            found.update(dict.fromkeys(_cheapest(decays, count, max_order)))
        return list(found)


def _projected(
    supports: list[Support],
    signs: Array,
    weights: Array,
    rho: Array,
    basis: Basis,
) -> Array:
    """Coefficients of sum_r weights_r (prod_i (1 + rho_i s_i s_ri) - 1), (terms,).

    The mean over s_i of (1 + rho_i s_i s_ri) phi_i is 2 sigma rho_i s_ri, and that of
    the factor itself is 1 + mu rho_i s_ri.
    """
    steps = rho * signs.astype(np.float64)
    means = 1 + basis.mean * steps
    whole = weights * np.exp(np.log(means).sum(axis=1))
    ratios = 2 * basis.sigma * steps / means
    sizes = np.array([len(support) for support in supports])
    table = np.full(len(supports), whole.sum() - weights.sum())  # of the empty set
    for size in range(1, sizes.max(initial=0) + 1):
        places = np.flatnonzero(sizes == size)
        members = np.array([supports[place] for place in places], dtype=np.int64)
        for part in np.array_split(
            np.arange(len(places)), 1 + len(places) // MOST_AT_ONCE
        ):
            product = np.repeat(whole[:, None], len(part), axis=1)
            for player in members[part].reshape(len(part), size).T:
                product *= ratios[:, player]
            table[places[part]] = product.sum(axis=0)
    return table


def _product(left: Array, right: Array, decays: Array) -> tuple[Array, float]:
    """prod_i (1 + rho_i s_i s'_i), and the sum of all its coefficients but one."""
    return np.exp(_logs(left, right, decays)), _size(decays)


def _logs(left: Array, right: Array, decays: Array) -> Array:
    logs = (left * decays) @ right.T
    logs += 0.5 * np.log1p(-(np.tanh(decays) ** 2)).sum()
    return logs


def _size(decays: Array) -> float:
    return float(np.expm1(np.log1p(np.tanh(decays)).sum()))


def _cheapest(decays: Array, count: int, max_order: int) -> list[Support]:
    """The non-empty supports of largest prod rho, by a best-first search.

    Players in order of decay; a set leads to itself with its last player replaced by
    the next, or the next one added, and neither is more probable than the set.
    """
    order = np.argsort(-decays, kind="stable")
    costs = -np.log(np.tanh(decays[order]))
    heap: list[tuple[float, Support]] = [(float(costs[0]), (0,))]
    found: list[Support] = []
    while heap and len(found) < count:
        cost, places = heapq.heappop(heap)
        found.append(tuple(sorted(order[list(places)].tolist())))
        following = places[-1] + 1
        if following == len(order):
            continue
        moved = (*places[:-1], following)
        heapq.heappush(heap, (cost - costs[places[-1]] + costs[following], moved))
        if len(places) < max_order:
            heapq.heappush(heap, (cost + costs[following], (*places, following)))
    return found


def mean_kernel(kernels: list[ProductKernel]) -> ProductKernel:
    """Their mean, again a mixture of products."""
    return ProductKernel(
        np.concatenate([kernel.decays for kernel in kernels]),
        np.concatenate([kernel.weights for kernel in kernels]) / len(kernels),
        float(np.mean([kernel.noise for kernel in kernels])),
    )


def learn_kernel(
    signs: Array, values: Array, rng: np.random.Generator
) -> ProductKernel:
    """The kernel under which the values are most likely.

    Args:
        signs: +1 ablated, -1 kept, shape (m, n).
        values: shape (m,), of mean 0 and variance 1.
        rng: of the starting point.
    """
    signs = signs.astype(np.float64)
    start = _Parameters.start(signs.shape[1], rng)
    fitted = minimize(
        lambda vector: _loss(start.moved(vector), signs, values),
        start.vector,
        jac=True,
        method="L-BFGS-B",
        bounds=start.bounds(),
        options={"maxiter": MAX_STEPS, "ftol": LOSS_STEP},
    )
    return start.moved(fitted.x).kernel()


@dataclass(frozen=True, eq=False)
class _Parameters:
    """What is learned, as one vector: each player's log decay in each part as a
    departure from the part's level; levels; logits of the weights; log noise."""

    vector: Array
    levels: Array  # before learning
    num_players: int

    @classmethod
    def start(cls, num_players: int, rng: np.random.Generator) -> "_Parameters":
        usual = min(USUAL_DECAY, TOTAL_DECAY / num_players)
        levels = np.log(usual) + np.linspace(-1.0, 1.0, NUM_PARTS)
        departures = START * rng.standard_normal(NUM_PARTS * num_players)
        vector = np.concatenate(
            [departures, levels, np.zeros(NUM_PARTS), [np.log(USUAL_NOISE)]]
        )
        return cls(vector, levels, num_players)

    def moved(self, vector: Array) -> "_Parameters":
        return _Parameters(vector, self.levels, self.num_players)

    def split(self) -> tuple[Array, Array, Array, float]:
        q, n = NUM_PARTS, self.num_players
        departures, levels, logits, noise = np.split(
            self.vector, [q * n, q * n + q, q * n + 2 * q]
        )
        return departures.reshape(q, n), levels, logits, float(noise[0])

    def kernel(self) -> ProductKernel:
        departures, levels, logits, noise = self.split()
        decays = np.exp(np.clip(departures + levels[:, None], *LOG_DECAYS))
        weights = np.exp(logits - logits.max())
        return ProductKernel(decays, weights / weights.sum(), float(np.exp(noise)))

    def bounds(self) -> list[tuple[float, float]]:
        loose = len(self.vector) - 1
        return [(-12.0, 12.0)] * loose + [(float(LOG_NOISES[0]), float(LOG_NOISES[1]))]

    def penalty(self) -> tuple[float, Array]:
        """-log of the priors, and its gradient."""
        departures, levels, logits, noise = self.split()
        parts = (
            departures.ravel(),
            levels - self.levels,
            logits,
            np.array([noise - np.log(USUAL_NOISE)]),
        )
        scaled = [part / spread**2 for part, spread in zip(parts, SPREADS, strict=True)]
        value = sum(0.5 * float(a @ b) for a, b in zip(parts, scaled, strict=True))
        return value, np.concatenate(scaled)


def _loss(parameters: _Parameters, signs: Array, values: Array) -> tuple[float, Array]:
    """-log posterior of the parameters, the scale of the values maximised out."""
    kernel = parameters.kernel()
    num_rows = len(values)
    products = [_product(signs, signs, decays) for decays in kernel.decays]
    parts = [(product - 1) / size for product, size in products]
    total = np.tensordot(kernel.weights, np.stack(parts), axes=1) + 1.0
    total[np.diag_indices(num_rows)] += kernel.noise
    if not np.isfinite(total).all():  # decays too large for so many players
        return 1e10, np.zeros_like(parameters.vector)
    try:
        factor = cho_factor(total, lower=True)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(parameters.vector)
    solved = cho_solve(factor, values)
    scale = float(values @ solved) / num_rows
    inverse, _ = lapack.dpotri(factor[0], lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    outward = 0.5 * (inverse - np.outer(solved, solved) / scale)  # d loss / d total
    logs = np.log(np.diag(factor[0])).sum()
    value = 0.5 * num_rows * np.log(scale) + float(logs)
    gradient = _gradient(parameters, kernel, signs, outward, products, parts)
    penalty, pull = parameters.penalty()
    return value + penalty, gradient + pull


def _gradient(
    parameters: _Parameters,
    kernel: ProductKernel,
    signs: Array,
    outward: Array,
    products: list[tuple[Array, float]],
    parts: list[Array],
) -> Array:
    """Of the loss without the priors, by the chain rule through d loss / d total."""
    departures, levels, _, _ = parameters.split()
    free = departures + levels[:, None]
    inside = (free > LOG_DECAYS[0]) & (free < LOG_DECAYS[1])
    by_decay = np.zeros_like(departures)
    for q, (product, size) in enumerate(products):
        decays, weight = kernel.decays[q], kernel.weights[q]
        rho = np.tanh(decays)
        weighted = outward * product
        quadratic = ((weighted @ signs) * signs).sum(axis=0)
        shrinking = (outward * parts[q]).sum() * (size + 1) * (1 - rho)
        change = (quadratic - rho * weighted.sum() - shrinking) / size
        by_decay[q] = weight * change * decays * inside[q]
    shares = np.array([(outward * part).sum() for part in parts])
    by_logit = kernel.weights * (shares - kernel.weights @ shares)
    by_noise = np.trace(outward) * kernel.noise
    return np.concatenate(
        [by_decay.ravel(), by_decay.sum(axis=1), by_logit, [by_noise]]
    )
