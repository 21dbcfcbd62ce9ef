"""Values measured at the ends, put into Shapley-type indices."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spex
from proxyspex import ProxySpex
from spex import ResultError, SparseFourier, explain
from spex.ends import Ends, put_in
from spex.exact import every_mask
from spex.indices import convert


def exact_index(table: np.ndarray, num_players: int, name: str, order: int) -> dict:
    """Of the set function whose values at `every_mask` are the rows of the table."""
    bits = 1 << np.arange(num_players)
    found = explain(
        lambda masks: table[masks @ bits], players=num_players, budget=2**num_players
    )
    return found.index(name, order)


@given(
    num_players=st.integers(1, 7),
    order=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    known=st.floats(0, 1),
)
@pytest.mark.parametrize("name", ["SV", "SII", "k-SII"])
def test_it_is_the_index_of_the_surrogate_with_known_ends(
    name: str, num_players: int, order: int, seed: int, known: float
) -> None:
    order = 1 if name == "SV" else order
    rng = np.random.default_rng(seed)
    supports = [
        s for t in range(4) for s in combinations(range(num_players), t) if t < 3
    ]
    table = rng.normal(size=(len(supports), 2))
    spectrum = SparseFourier.from_terms(num_players, supports, table)
    masks = every_mask(num_players)
    truth = rng.normal(size=(len(masks), 2))
    sizes = masks.sum(axis=1)
    end = (sizes < 2) | (sizes > num_players - 2)
    is_known = end & (rng.random(len(masks)) < known)
    is_known[[0, -1]] = is_known[[0, -1]].all()  # no and all players only together
    rows = np.flatnonzero(is_known)
    substituted = spectrum(masks)
    substituted[rows] = truth[rows]
    expected = exact_index(substituted, num_players, name, order)
    plain = convert(spectrum, name, order)
    ends, variance = Ends.of(masks[rows], truth[rows]), np.ones(2)
    sets, values, _ = put_in(ends, spectrum, name, order, plain, variance)
    listed = dict(zip(sets, values, strict=True))
    for players, value in expected.items():
        found = listed.get(players, np.zeros(2))
        assert np.allclose(found, value, atol=1e-9), (players, found, value)


def test_repeated_measurements_are_averaged() -> None:
    masks = np.array([[True, True, True], [True, False, False], [True, True, True]])
    ends = Ends.of(masks, np.array([[1.0], [5.0], [3.0]]))
    assert ends.everyone.tolist() == [[2.0]]
    assert ends.single[0, 0] == 5
    assert np.isnan(ends.single[1:]).all()
    assert np.isnan(ends.none).all()
    assert np.isnan(ends.all_but).all()


def outlying(masks: np.ndarray) -> np.ndarray:
    """Smooth, but far off where nearly nothing is left."""
    sums = masks @ np.linspace(-1, 1, 12) + masks[:, 1] * masks[:, 2]
    return sums + 20.0 * (masks.sum(axis=1) < 2)


def test_shapley_values_add_up_and_find_what_uniform_masks_do_not_see() -> None:
    exact = explain(outlying, players=12, budget=4096).index("SV")
    truth = np.array([exact[(i,)] for i in range(12)])
    error = {}
    total = np.diff(outlying(np.array([[False] * 12, [True] * 12])))[0]
    for design in ("uniform", "shapley"):
        found = explain(
            outlying, players=12, method=ProxySpex(design=design), budget=150
        ).index("SV")
        values = np.array([found[(i,)] for i in range(12)])
        error[design] = ((values - truth) ** 2).mean() / (truth**2).mean()
        assert values.sum() == pytest.approx(total)
    assert max(error.values()) < 0.05


def test_one_end_without_the_other_is_not_put_in() -> None:
    spectrum = SparseFourier.from_dict(5, {(): 1.0, (0, 1): 2.0, (4,): 1.0})
    plain = convert(spectrum, "SV", 1)
    ends = Ends.of(np.ones((1, 5), dtype=bool), np.array([[9.0]]))
    sets, values, _ = put_in(ends, spectrum, "SV", 1, plain, np.ones(1))
    assert sets == plain[0]
    assert np.array_equal(values, plain[1])


def test_what_is_in_no_term_is_as_uncertain_as_a_coefficient() -> None:
    spectrum = SparseFourier.from_dict(5, {(): 1.0, (0,): 2.0})
    plain = convert(spectrum, "SV", 1, np.full((2, 1), 0.25))
    masks = np.array([[False] * 5, [True] * 5])
    ends = Ends.of(masks, np.array([[1.0], [9.0]]))
    sets, _, variances = put_in(ends, spectrum, "SV", 1, plain, np.full(1, 0.25))
    assert len(sets) == 5
    assert np.allclose(variances, 4 * 0.25)  # SV({i}) = -2 F({i}) - ...


def test_order_one_of_every_shapley_index_is_the_shapley_value() -> None:
    found = explain(outlying, players=12, method="proxyspex", budget=100)
    for name in ("SII", "k-SII", "STII", "FSII"):
        values = found.index(name, 1)
        assert {s: values[s] for s in found.index("SV")} == found.index("SV")


def test_saved_ends_are_read_back(tmp_path) -> None:
    found = explain(
        lambda masks: np.stack([outlying(masks), masks[:, 0] * 1.0], axis=1),
        players=12,
        method=ProxySpex(design="shapley"),
        budget=60,
    )
    path = tmp_path / "found.json"
    found.save(path)
    for name in ("SV", "k-SII"):
        again, first = spex.load(path).index(name), found.index(name)
        assert all(np.allclose(again[s], first[s]) for s in first)
    saved = json.loads(path.read_text())
    for wrong in ([12, [0.0, 1.0]], [0, [1.0]], [0, [float("inf"), 1.0]]):
        path.write_text(
            json.dumps({**saved, "ends": {**saved["ends"], "all_but": [wrong]}})
        )
        with pytest.raises(ResultError, match="ends"):
            spex.load(path)
    path.write_text(json.dumps({k: v for k, v in saved.items() if k != "ends"}))
    assert spex.load(path).ends is None


def test_interactions_of_many_players_stay_the_surrogates() -> None:
    spectrum = SparseFourier.from_dict(300, {(): 1.0, (0, 1): 2.0, (5,): 1.0})
    masks = np.array([[False] * 300, [True] * 300])
    ends = Ends.of(masks, np.array([[1.0], [9.0]]))
    plain = convert(spectrum, "k-SII", 2)
    assert put_in(ends, spectrum, "k-SII", 2, plain, np.ones(1)) is plain
    sets, values, _ = put_in(
        ends, spectrum, "SV", 1, convert(spectrum, "SV", 1), np.ones(1)
    )
    assert len(sets) == 300
    assert values.sum() == pytest.approx(8.0)
