"""Every interaction index against brute force and against another program."""

from itertools import combinations
from math import comb, factorial

import numpy as np
import pytest
import shapiq

from spex import InteractionIndexError, SparseFourier, explain
from spex.exact import every_mask
from spex.indices import INDICES, bernoulli, convert

N = 6
MASKS = every_mask(N)
VALUES = np.random.default_rng(5).normal(size=(len(MASKS), 2))
E = explain(lambda masks: VALUES[masks @ (1 << np.arange(N))], players=N, budget=64)
TABLE = {
    tuple(np.flatnonzero(m).tolist()): v for m, v in zip(MASKS, VALUES, strict=True)
}


def sets(order: int, smallest: int = 0) -> list[tuple[int, ...]]:
    return [s for r in range(smallest, order + 1) for s in combinations(range(N), r)]


def derivative(players: tuple[int, ...], context: tuple[int, ...]) -> np.ndarray:
    """sum over L in players of (-1)^(|players| - |L|) v(context + L)."""
    total = np.zeros(2)
    for r in range(len(players) + 1):
        for inner in combinations(players, r):
            union = tuple(sorted(context + inner))
            total = total + (-1) ** (len(players) - r) * TABLE[union]
    return total


def over_contexts(players: tuple[int, ...], weight: object) -> np.ndarray:
    others = [i for i in range(N) if i not in players]
    return sum(
        weight(r, len(players)) * derivative(players, context)  # type: ignore[operator]
        for r in range(len(others) + 1)
        for context in combinations(others, r)
    )


def shapley_weight(r: int, t: int) -> float:
    return factorial(N - r - t) * factorial(r) / factorial(N - t + 1)


def banzhaf_weight(r: int, t: int) -> float:
    return 2.0 ** -(N - t)


def taylor_weight(order: int) -> object:
    """Dhamdhere et al. 2020, Theorem 3: (k / n) / C(n - 1, r) at the top order."""
    return lambda r, t: order / N / comb(N - 1, r)


def assert_same(found: dict, expected: dict) -> None:
    for players, value in expected.items():
        assert np.allclose(found.get(players, 0.0), value, atol=1e-9), players
    assert found.keys() <= expected.keys()


@pytest.mark.parametrize(
    ("name", "order", "weight"),
    [
        ("SV", 1, shapley_weight),
        ("BV", 1, banzhaf_weight),
        ("SII", 3, shapley_weight),
        ("BII", 3, banzhaf_weight),
    ],
)
def test_averages_of_discrete_derivatives(
    name: str, order: int, weight: object
) -> None:
    expected = {s: over_contexts(s, weight) for s in sets(order, 1)}
    assert_same(E.index(name, order), expected)


def test_moebius_is_the_derivative_at_the_empty_coalition() -> None:
    assert_same(E.index("Moebius"), {s: derivative(s, ()) for s in sets(N)})


@pytest.mark.parametrize("order", [1, 2, 3])
def test_stii(order: int) -> None:
    expected = {s: derivative(s, ()) for s in sets(order - 1)}
    weight = taylor_weight(order)
    expected |= {s: over_contexts(s, weight) for s in combinations(range(N), order)}
    assert_same(E.index("STII", order), expected)


def projection(order: int, weights: np.ndarray, pinned: bool) -> dict:
    """Weighted least squares on the monomials of order up to `order`."""
    monomials = sets(order)
    design = np.array([[m[list(s)].all() for s in monomials] for m in MASKS], float)
    scale = np.sqrt(weights)[:, None]
    if not pinned:
        fit = np.linalg.lstsq(design * scale, VALUES * scale, rcond=None)[0]
        return dict(zip(monomials, fit, strict=True))
    ends = np.isin(MASKS.sum(axis=1), [0, N])
    normal = (design * weights[:, None]).T @ design
    fixed = design[ends]
    zeros = np.zeros((2, 2))
    system = np.block([[normal, fixed.T], [fixed, zeros]])
    right = np.vstack([(design * weights[:, None]).T @ VALUES, VALUES[ends]])
    return dict(
        zip(monomials, np.linalg.lstsq(system, right, rcond=None)[0], strict=False)
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_fbii_is_the_best_fit_over_uniform_masks(order: int) -> None:
    assert_same(E.index("FBII", order), projection(order, np.ones(len(MASKS)), False))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_fsii_is_the_best_fit_under_the_shapley_kernel(order: int) -> None:
    sizes = MASKS.sum(axis=1)
    kernel = np.array(
        [0 if s in (0, N) else (N - 1) / (comb(N, s) * s * (N - s)) for s in sizes]
    )
    assert_same(E.index("FSII", order), projection(order, kernel, True))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_efficient_indices_add_up_to_the_intact_value(order: int) -> None:
    for name in ("k-SII", "STII", "FSII"):
        total = sum(E.index(name, order).values())
        assert np.allclose(total, TABLE[tuple(range(N))]), name


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("SV", 1),
        ("BV", 1),
        ("SII", 2),
        ("BII", 3),
        ("k-SII", 2),
        ("k-SII", 3),
        ("STII", 2),
        ("FSII", 2),
        ("FBII", 2),
        ("Moebius", N),
    ],
)
def test_another_program_agrees(name: str, order: int) -> None:
    """shapiq's exact computer, which enumerates all coalitions."""
    values = VALUES[:, 0]
    computer = shapiq.ExactComputer(
        n_players=N, game=lambda masks: values[masks.astype(int) @ (1 << np.arange(N))]
    )
    theirs = computer(name, order=order)
    for players, value in E.index(name, order).items():
        if players:
            assert np.isclose(value[0], theirs[players], atol=1e-8), players


@pytest.mark.parametrize("name", INDICES)
def test_indices_follow_the_players_when_they_change_places(name: str) -> None:
    order = 1 if INDICES[name].max_order == 1 else 3
    places = np.random.default_rng(2).permutation(N)
    moved = SparseFourier.from_dict(
        N,
        {
            tuple(sorted(places[list(s)].tolist())): f
            for s, f in E.fourier.to_dict().items()
        },
    )
    members, values, _ = convert(moved, name, order)
    found = dict(zip(members, values, strict=True))
    for players, value in E.index(name, order).items():
        assert np.allclose(found[tuple(sorted(places[list(players)].tolist()))], value)


@pytest.mark.parametrize("name", INDICES)
def test_indices_scale_with_the_values_and_ignore_a_shift(name: str) -> None:
    order = 1 if INDICES[name].max_order == 1 else 2
    table = {s: 3 * f for s, f in E.fourier.to_dict().items()}
    table[()] = table[()] + 10.0
    members, values, _ = convert(SparseFourier.from_dict(N, table), name, order)
    plain = E.index(name, order)
    for players, value in zip(members, values, strict=True):
        if players:
            assert np.allclose(value, 3 * plain[players])


def test_bernoulli_numbers() -> None:
    assert [str(bernoulli(q)) for q in range(7)] == [
        "1", "-1/2", "1/6", "0", "-1/30", "0", "1/42",
    ]  # fmt: skip


def test_work_is_proportional_to_the_spectrum_not_to_the_players() -> None:
    spectrum = SparseFourier.from_dict(10_000, {(3, 70, 9_999): 1.0, (5,): 2.0})
    members, _, _ = convert(spectrum, "Moebius", 2)
    assert len(members) == 1 + 4 + 3


def test_unknown_indices_and_orders_are_refused() -> None:
    with pytest.raises(InteractionIndexError, match="Choose from Fourier"):
        E.index("SHAP")
    with pytest.raises(InteractionIndexError, match="its order is 1"):
        E.index("SV", order=2)
    with pytest.raises(InteractionIndexError, match="1 or more"):
        E.index("SII", order=0)
