"""What an explanation answers, and that it survives being saved."""

import json
from pathlib import Path

import numpy as np
import pytest

from spex import InteractionIndexError, OutputError, ResultError, Status, explain, load
from spex.exact import every_mask
from spex.explanation import SCHEMA_VERSION
from spex.faithfulness import estimate_faithfulness, r_squared
from spex.testing import planted

N = 14
TRUTH = planted(N)
E = explain(TRUTH, players=[f"p{i}" for i in range(N)], budget=400)


def both(masks: np.ndarray) -> np.ndarray:
    return np.hstack([TRUTH(masks), -2 * planted(N, 5)(masks)])


def test_top_is_ranked_by_the_size_of_the_coefficient() -> None:
    terms = E.fourier.to_dict()
    ranked = sorted((s for s in terms if s), key=lambda s: (-abs(terms[s]), s))
    for index in ("Fourier", "BII"):
        assert [i.players for i in E.top(8, index=index)] == ranked[:8]
    assert [i.value for i in E.top(8)] == [terms[s] for s in ranked[:8]]
    shares = [i.share for i in E.top(10**6)]
    assert sum(shares) == pytest.approx(1.0)


def test_top_names_the_players_and_holds_the_value_between_its_bounds() -> None:
    for interaction in E.top(5, index="FSII"):
        assert interaction.names == tuple(f"p{i}" for i in interaction.players)
        assert interaction.low < interaction.value < interaction.high
    values = [abs(i.value) for i in E.top(20, index="FSII")]
    assert values == sorted(values, reverse=True)
    assert len(E.top(3, index="SV")) == 3
    assert all(len(i.players) == 1 for i in E.top(99, order=1))


def test_the_banzhaf_reading_of_a_coefficient() -> None:
    for players, value in E.index("BII").items():
        assert value == pytest.approx(
            (-2) ** len(players) * E.fourier.to_dict()[players]
        )


@pytest.mark.slow
def test_intervals_of_coefficients_cover_the_truth() -> None:
    """Nominal 90 %, over repeats of a noisy function whose spectrum is known."""
    covered = []
    for seed in range(12):
        noise = np.random.default_rng(seed)
        found = explain(
            lambda m, r=noise: TRUTH(m)[:, 0] + r.normal(scale=0.5, size=len(m)),
            players=N,
            budget=500,
            seed=seed,
        )
        found_at = {i.players: i for i in found.top(10**6)}
        for support, value in TRUTH.to_dict().items():
            if support in found_at:
                interval = found_at[support]
                covered.append(interval.low <= value <= interval.high)
    assert 0.75 <= np.mean(covered) <= 1.0


def test_several_outputs_are_arrays() -> None:
    found = explain(both, players=N, budget=400)
    assert found.outputs == ("output 0", "output 1")
    assert found.predict(every_mask(N)[:7]).shape == (7, 2)
    assert found.intact.shape == (2,)
    assert all(v.shape == (2,) for v in found.fourier.to_dict().values())
    assert all(v.shape == (2,) for v in found.index("FSII", 2).values())
    assert found.top(3, output=1) != found.top(3)
    assert len(found.faithfulness.per_output) == 2
    with pytest.raises(InteractionIndexError, match="output=2"):
        found.top(3, output=2)


@pytest.mark.parametrize("function", [TRUTH, both])
@pytest.mark.parametrize("budget", [300, 2**14])
def test_saving_and_loading_keeps_everything(
    function: object, budget: int, tmp_path: Path
) -> None:
    one = explain(function, players=N, budget=budget)  # type: ignore[arg-type]
    one.save(tmp_path / "e.json")
    other = load(tmp_path / "e.json")
    assert other.to_json() == one.to_json()
    assert other.status is one.status
    assert other.faithfulness == one.faithfulness
    masks = every_mask(N)
    assert np.array_equal(other.predict(masks), one.predict(masks))


def test_discoveries_are_marked_and_survive_being_saved(tmp_path: Path) -> None:
    one = explain(TRUTH, players=N, budget=700, method="spex")
    assert one.discoveries == set(TRUTH.supports) - {()}
    assert all(i.is_discovery for i in one.top(5))
    one.save(tmp_path / "e.json")
    assert load(tmp_path / "e.json").discoveries == one.discoveries
    assert E.discoveries is None
    assert E.top(1)[0].is_discovery is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[1, 2]", "not a saved explanation"),
        ('{"schema": "other"}', "not a saved explanation"),
        (json.dumps({"schema": "spex.explanation", "version": 99}), "version 99"),
        (
            json.dumps({"schema": "spex.explanation", "version": SCHEMA_VERSION}),
            "damaged",
        ),
    ],
)
def test_files_that_are_not_explanations_are_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ResultError, match=message):
        load(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("fourier", {"supports": [[3, 3]], "coefficients": [[1.0]]}),
        ("fourier", {"supports": [[0.5]], "coefficients": [[1.0]]}),
        ("fourier", {"supports": [[1]], "coefficients": [[float("nan")]]}),
        ("fourier", {"supports": [[99]], "coefficients": [[1.0]]}),
        ("fourier", {"discoveries": [[0, 1, 2, 3, 4, 5, 6]]}),
        ("faithfulness", {"low": "x"}),
        ("faithfulness", {"per_output": []}),
        ("intact", []),
        ("provenance", {"subject": {"text": "a b", "spans": []}}),
    ],
)
def test_a_damaged_result_is_refused(part: str, damage: object, tmp_path: Path) -> None:
    data = E.to_json()
    if isinstance(damage, dict):
        data[part] |= damage
        if "supports" in damage:
            data[part]["standard_errors"] = [[0.0]]
    else:
        data[part] = damage
    (tmp_path / "e.json").write_text(json.dumps(data))
    with pytest.raises(ResultError, match="damaged"):
        load(tmp_path / "e.json")


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot be read"):
        load(tmp_path / "missing.json")


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing does not exist"):
        E.save(tmp_path / "missing" / "e.json")
    with pytest.raises(OutputError, match="is a folder"):
        E.to_html(tmp_path)
    with pytest.raises(OutputError, match="too long"):
        E.save(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_is_written_to_and_never_replaced() -> None:
    with pytest.raises(OutputError, match="No space"):
        E.save("/dev/full")
    assert Path("/dev/full").is_char_device()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    E.save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load(tmp_path / "real.json").to_json() == E.to_json()


def test_status_follows_the_faithfulness() -> None:
    noise = np.random.default_rng(0)
    poor = explain(lambda m: noise.normal(size=len(m)), players=N, budget=200)
    assert poor.status is Status.POOR
    assert "Not faithful" in poor.status.value
    assert E.status is Status.FAITHFUL


def test_r_squared_of_constants_and_scales() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    flat = np.full((50, 1), 3.0)
    assert r_squared(flat, flat).tolist() == [1.0]
    assert r_squared(flat, values).tolist() == [0.0]
    assert r_squared(values, np.full_like(values, values.mean()))[0] == pytest.approx(0)
    guess = values + 0.3
    assert r_squared(5 * values - 2, 5 * guess - 2) == pytest.approx(
        r_squared(values, guess)
    )


def test_the_interval_of_faithfulness_covers_the_truth() -> None:
    """Coverage over repeats on a known population, nominal 90 %."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 1))
    guesses = (
        values + rng.normal(scale=0.6, size=values.shape) * (1 + np.abs(values)) / 2
    )
    truth = r_squared(values, guesses)[0]
    hits = 0
    for _ in range(400):
        rows = rng.choice(len(values), 300, replace=False)
        fit = estimate_faithfulness(values[rows], guesses[rows])
        hits += fit.low <= truth <= fit.high
    assert 0.82 <= hits / 400 <= 0.96


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    cell = E._repr_html_()
    assert cell.startswith("<iframe")
    assert "<script" not in cell


def test_weights_stand_for_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 2))
    guesses = values + 0.3 * rng.normal(size=(50, 2))
    counts = rng.integers(1, 5, 50)
    rows = np.repeat(np.arange(50), counts)
    weighted = estimate_faithfulness(values, guesses, weights=counts.astype(float))
    repeated = estimate_faithfulness(values[rows], guesses[rows])
    assert weighted == pytest.approx(float(repeated))
    assert weighted.num_masks < 50
    assert np.allclose(r_squared(values, guesses, counts), repeated.per_output)
