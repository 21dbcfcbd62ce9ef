"""Values measured at the ends, put into Shapley-type indices."""

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
    rows = np.flatnonzero(end & (rng.random(len(masks)) < known))
    substituted = spectrum(masks)
    substituted[rows] = truth[rows]
    expected = exact_index(substituted, num_players, name, order)
    plain = convert(spectrum, name, order)
    sets, values, _ = put_in(
        Ends.of(masks[rows], truth[rows]), spectrum, name, order, plain
    )
    for players, value in expected.items():
        found = values[sets.index(players)]
        assert np.allclose(found, value, atol=1e-9), (players, found, value)


def test_repeated_measurements_are_averaged() -> None:
    masks = np.array([[True, True, True], [True, False, False], [True, True, True]])
    ends = Ends.of(masks, np.array([[1.0], [5.0], [3.0]]))
    assert ends.all.tolist() == [[2.0]]
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
    for design in ("uniform", "shapley"):
        found = explain(
            outlying, players=12, method=ProxySpex(design=design), budget=150
        ).index("SV")
        values = np.array([found[(i,)] for i in range(12)])
        error[design] = ((values - truth) ** 2).mean() / (truth**2).mean()
        if design == "shapley":
            total = np.diff(outlying(np.array([[False] * 12, [True] * 12])))[0]
            assert values.sum() == pytest.approx(total)
    assert error["shapley"] < 0.05 < error["uniform"]


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
    text = path.read_text().replace('"all_but": [', '"all_but": [null,', 1)
    path.write_text(text)
    with pytest.raises(ResultError, match="ends"):
        spex.load(path)


def test_many_players_list_only_the_sets_of_the_spectrum() -> None:
    spectrum = SparseFourier.from_dict(300, {(): 1.0, (0, 1): 2.0, (5,): 1.0})
    masks = np.ones((1, 300), dtype=bool)
    plain = convert(spectrum, "k-SII", 2)
    sets, values, _ = put_in(
        Ends.of(masks, np.array([[9.0]])), spectrum, "k-SII", 2, plain
    )
    assert sets == plain[0]
    assert not np.allclose(values, plain[1])
