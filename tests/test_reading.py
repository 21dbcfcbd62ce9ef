"""How groups act together, against brute force over all coalitions of the others."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spex import InteractionIndexError, SparseFourier, SupportError, explain
from spex.exact import every_mask
from spex.reading import Kind, reading, readings

N = 6


def game(seed: int) -> SparseFourier:
    rng = np.random.default_rng(seed)
    supports = [s for r in range(5) for s in combinations(range(N), r)]
    chosen = rng.choice(len(supports), 20, replace=False)
    values = rng.normal(size=(20, 2))
    return SparseFourier.from_terms(N, [supports[t] for t in chosen], values)


def changes(
    fourier: SparseFourier, group: tuple[int, ...], put_in: tuple[int, ...], keep: float
) -> np.ndarray:
    """E[v(R + put_in) - v(R)], R of the players outside the group."""
    others = [i for i in range(N) if i not in group]
    total = np.zeros(fourier.num_outputs)
    for held in every_mask(len(others)):
        mask = np.zeros(N, dtype=bool)
        mask[others] = held
        chance = np.where(held, keep, 1 - keep).prod()
        after = mask.copy()
        after[list(put_in)] = True
        total += chance * (fourier(after[None]) - fourier(mask[None]))[0]
    return total


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    group=st.sets(st.integers(0, N - 1), min_size=1, max_size=4),
    keep=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    output=st.integers(0, 1),
)
def test_is_the_mean_change_over_coalitions_of_the_others(
    seed: int, group: set[int], keep: float, output: int
) -> None:
    fourier, players = game(seed), tuple(sorted(group))
    found = reading(fourier, players, output=output, keep=keep)
    together = changes(fourier, players, players, keep)[output]
    effects = [changes(fourier, players, (i,), keep)[output] for i in players]
    assert found.players == players
    assert found.together == pytest.approx(together, abs=1e-12)
    assert found.effects == pytest.approx(effects, abs=1e-12)
    assert found.alone == pytest.approx(sum(effects), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda x: x[:, 0] & x[:, 1], Kind.SYNERGISTIC),
        (lambda x: x[:, 0] | x[:, 1], Kind.REDUNDANT),
        (lambda x: -1.0 * (x[:, 0] & x[:, 1]), Kind.SYNERGISTIC),
        (lambda x: -1.0 * (x[:, 0] | x[:, 1]), Kind.REDUNDANT),
        (lambda x: 2.0 * x[:, 0] - x[:, 1] + (x[:, 2] & x[:, 3]), Kind.ADDITIVE),
        # each alone turns it on, both turn it off
        (lambda x: x[:, 0] ^ x[:, 1], Kind.REDUNDANT),
        # opposite effects that leave little of each other, and a bonus for both
        (lambda x: 1.0 * x[:, 0] - x[:, 1] + (x[:, 0] & x[:, 1]), Kind.SYNERGISTIC),
        # the same with a bonus that is small next to the effects
        (
            lambda x: 9.0 * x[:, 0] - 9.0 * x[:, 1] + 0.1 * (x[:, 0] & x[:, 1]),
            Kind.ADDITIVE,
        ),
        (lambda x: 0.0 * x[:, 0], Kind.ADDITIVE),
    ],
)
def test_kinds_of_known_functions(value: object, kind: Kind) -> None:
    fourier = explain(value, players=4, budget=16).fourier  # type: ignore[arg-type]
    for keep in (0.2, 0.5, 1.0):
        assert reading(fourier, (1, 0), keep=keep).kind is kind


def test_a_group_depends_on_who_else_is_there() -> None:
    """A third player that stands in for both makes neither matter."""
    value = explain(lambda x: x[:, 0] | x[:, 1] | x[:, 2], players=3, budget=8)
    alone, among = (reading(value.fourier, (0, 1), keep=p) for p in (0.0, 0.75))
    assert alone.together == pytest.approx(1)
    assert among.together == pytest.approx(0.25)


def test_scaling_shifts_and_permutations_carry_over() -> None:
    fourier = game(3)
    groups = [(0, 1), (2, 3, 5), (1, 2, 3, 4)]
    order = np.random.default_rng(0).permutation(N)
    moved = SparseFourier.from_dict(
        N,
        {
            tuple(sorted(order[list(s)].tolist())): -3 * c + (4 if not s else 0)
            for s, c in fourier.to_dict().items()
        },
    )
    images = [order[list(group)].tolist() for group in groups]
    for before, after in zip(
        readings(fourier, groups), readings(moved, images), strict=True
    ):
        assert after.together == pytest.approx(-3 * before.together)
        assert after.alone == pytest.approx(-3 * before.alone)
        assert after.kind is before.kind


def test_bad_input_is_named() -> None:
    fourier = game(0)
    with pytest.raises(SupportError, match="6"):
        reading(fourier, (0, 6))
    with pytest.raises(SupportError, match="increasing"):
        reading(fourier, (2, 2))
    with pytest.raises(InteractionIndexError, match="output=2"):
        reading(fourier, (0, 1), output=2)
    with pytest.raises(InteractionIndexError, match="keep=2"):
        reading(fourier, (0, 1), keep=2)
