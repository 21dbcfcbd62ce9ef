"""The page and the terminal report of components: any name, every unit, any size."""

import re
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from spex import Explanation, SparseFourier, explain
from spex.components import Effects, Where, components_of
from spex.faithfulness import Faithfulness
from spex.report import components_words, words
from spex.report.components_terminal import print_components
from spex.report.html import render_cell, render_html
from spex.report.layers import MOST_COLUMNS, Grid
from spex.testing import planted
from spex.tried.circuits import Circuit, with_circuits

from .test_html import NASTY, Page, explanation


def of_components(
    shape: tuple[int, int], segments: tuple[str, ...] = (), **subject: Any
) -> Explanation:
    """A planted explanation of layers x heads, after segments if there are any."""
    listed = [
        {"name": f"L{layer}.H{head}", "kind": "head", "layer": layer, "place": head}
        for layer in range(shape[0])
        for head in range(shape[1])
    ]
    names = [*segments, *(one["name"] for one in listed)]
    subject = {
        "kind": "components",
        "model": "<u>m</u>",
        "unit": "head",
        "behaviour": "logit-diff",
        "ablation": "mean",
        "prompts": [{}, {}],
        "components": listed,
        **({"segments": "word", "answer": NASTY} if segments else {}),
        **subject,
    }
    return explanation(planted(len(names)), names, **subject)


def with_some_circuits(found: Explanation) -> Explanation:
    players = (0, len(found.players) - 1)
    circuits = [
        Circuit("circuit", 0.9, 0, players, 1.25, 0.5, 0.4, 5),
        Circuit("circuit", 0.5, 0, players, 1.25, 0.75, 0.6, 2, True, True),
        Circuit("pruned", 0.25, 0, players, 2.5, None, None),
    ]
    return with_circuits(found, circuits)


def printed(found: Explanation, width: int = 80) -> str:
    file = StringIO()
    print_components(found, Console(file=file, width=width))
    return file.getvalue()


def test_groups_stand_where_their_players_stand() -> None:
    found = of_components((2, 3), segments=("a", "b"))
    layers = {player: one.layer for player, one in components_of(found).items()}
    assert layers == {2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 1}
    for group in Effects.of(found, top=999).groups:
        inside = {layers[i] for i in group.found.players if i in layers}
        has_segment = any(i < 2 for i in group.found.players)
        expected = {
            (True, True): Where.MIXED,
            (True, False): Where.SEGMENTS,
            (False, True): Where.ACROSS if len(inside) > 1 else Where.WITHIN,
        }[has_segment, bool(inside)]
        assert group.where is expected


def test_effects_are_the_explanations_own() -> None:
    found = of_components((3, 4))
    effects = Effects.of(found, top=999)
    values = found.index("BV")
    assert effects.values == pytest.approx([values.get((i,), 0.0) for i in range(12)])
    assert [g.found for g in effects.groups] == [
        one for one in found.top(9999, "BII") if len(one.players) > 1
    ]
    for group in effects.groups:
        assert group.reading == found.reading(group.found.players)


def test_names_are_text_and_nothing_else() -> None:
    found = with_some_circuits(of_components((2, 3), segments=(NASTY, "b", "b")))
    page = Page(render_html(found))
    tags = {tag for tag, _ in page.tags}
    assert not {"script", "img", "b", "i", "u", "s"} & tags
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert "<u>m</u>" in page.texts["title"]
    assert not {"\x1b", "\x07"} & set(printed(found))


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    page = render_html(with_some_circuits(of_components((2, 3))))
    assert "script-src 'none'" in page
    assert not re.search(r"<script|<link|<iframe|src=|href=|url\(", page)
    assert "sandbox" in render_cell(of_components((2, 3)))


def test_the_map_and_its_table_hold_every_player_and_value() -> None:
    found = of_components((3, 4), segments=("one", "two"))
    page, values = render_html(found), Effects.of(found).values
    for name, value in zip(found.players, values, strict=True):
        assert f"<title>{name}: {value + 0.0:+.3f}</title>" in page
    table = page[page.index("<details>") : page.index("</details>")]
    cells = re.findall(r'<td class="number">([^<]+)</td>', table)
    assert [float(cell) for cell in cells] == pytest.approx(values[2:], abs=6e-4)
    assert re.findall(r'<th scope="(?:col|row)">(\w+)</th>', table) == [
        "H0", "H1", "H2", "H3", "L0", "L1", "L2",
    ]  # fmt: skip


def test_lines_join_the_strongest_pairs_that_stand_out() -> None:
    found = of_components((3, 4))
    page = render_html(found)
    pairs = [
        g.found
        for g in Effects.of(found).groups
        if len(g.found.players) == 2 and not g.found.low <= 0 <= g.found.high
    ]
    said = re.findall(r'class="link [pm]"><title>([^:]+): ([^,]+),', page)
    assert said == [
        (" + ".join(pair.names), f"{pair.value:+.3f}") for pair in pairs[:8]
    ]
    assert len(said) > 0


def test_circuits_are_told_with_what_was_measured() -> None:
    found = with_some_circuits(of_components((2, 3)))
    page = Page(render_html(found))
    text = re.sub(r"<[^>]+>", " ", render_html(found))
    for part in (
        "found for 90%",
        "smallest by the surrogate for 50%",
        "no component of it can be left out",
        "What is enough: measured is what counts",
        "predictions are optimistic, the more the lower R² is",
        "proven of the surrogate, not of the model",
        "40.0%",
        "+1.250",
        "+0.750",
    ):
        assert part in text
        assert part in re.sub(r"\s*│\s*|\s+", " ", printed(found, 160))
    assert "at most 8 ablations beyond the budget" in text
    assert len(page.with_class("missed")) == 1
    assert len(page.with_class("reached")) == 1
    assert len(page.with_class("frame")) == 2


def of_prompts(count: int) -> Explanation:
    """An explanation of a behaviour on each of several prompts."""
    told = [
        {"text": f"{NASTY} number {i}", "answer": f"right{i}", "wrong": f"wrong{i}"}
        for i in range(count)
    ]
    one = of_components((2, 3), prompts=told, per_prompt=True)
    seeds = [planted(6, seed) for seed in range(count)]
    columns = np.hstack([seed.coefficients for seed in seeds])
    spectrum = SparseFourier.from_terms(6, seeds[0].supports, columns)
    return replace(
        one,
        outputs=tuple(f"logit-diff of prompt {i}" for i in range(count)),
        fourier=spectrum,
        standard_errors=np.full_like(spectrum.coefficients, 1e-3),
        faithfulness=Faithfulness(
            0.9, 0.95, tuple(0.9 + i / 1000 for i in range(count)), 100
        ),
        intact=np.arange(count) + 0.5,
    )


def sections(page: str) -> list[str]:
    return page.split('<section class="output"')[1:]


def test_each_prompt_has_its_own_section() -> None:
    found = of_prompts(3)
    parts = sections(render_html(found))
    assert len(parts) == 3
    for output, part in enumerate(parts):
        assert f"<h1>logit-diff of prompt {output}</h1>" in part
        assert f"number {output}” The answer is “right{output}”" in part
        assert f"With everything working it is {output + 0.5:+.3f}." in part
        assert f"R² of this output {0.9 + output / 1000:.3f}" in part
        values = Effects.of(found, output).values
        for name, value in zip(found.players, values, strict=True):
            assert f"<title>{name}: {value + 0.0:+.3f}</title>" in part
    said = re.sub(r"\s+", " ", printed(found))
    for text in (render_html(found), said):
        assert not re.search(r"mean over \d", text)
        assert "of each of 3 prompts" in text
        assert "3 outputs, each explained by itself." in text
    assert "left out" not in said
    for output in range(3):
        assert f"The answer is “right{output}”" in said
        assert f"With everything working it is {output + 0.5:+.3f}." in said
        assert f"BII on logit-diff of prompt {output}" in said
    tags = {tag for tag, _ in Page(render_html(found)).tags}
    assert not {"script", "img", "b", "i", "u", "s"} & tags


def test_circuits_stand_under_their_output() -> None:
    circuit = Circuit("circuit", 0.9, 2, (0, 5), 7.125, 6.125, 0.95, 5)
    found = with_circuits(of_prompts(3), [circuit])
    first, second, third = sections(render_html(found))
    assert "+6.125" not in first + second
    assert "What is enough" not in first + second
    assert "+6.125" in third
    said = printed(found)
    assert said.count("What is enough") == 1
    assert said.index("What is enough") > said.index("\nlogit-diff of prompt 2\n")
    of_one = with_circuits(of_components((2, 3)), [replace(circuit, output=1)])
    assert "What is enough" not in render_html(of_one)
    assert "What is enough" not in printed(of_one)


def test_outputs_that_are_left_out_are_counted() -> None:
    found = of_prompts(11)
    assert len(sections(render_html(found))) == 8
    left = "11 outputs, each explained by itself. The first 8 are shown, 3 left out."
    assert left in render_html(found)
    said = printed(found)
    assert left in said
    assert "prompt 7" in said
    assert "prompt 8" not in said


def test_long_prompts_are_told_by_their_end() -> None:
    found = of_prompts(2)
    told = [{"text": "word " * 500 + "end"}, {}]
    subject = {**found.provenance.subject, "prompts": told}
    found = replace(found, provenance=replace(found.provenance, subject=subject))
    said = components_words.prompt(found, 0)
    assert said.startswith("“…")
    assert said.endswith("word end”")
    assert len(said) == components_words.MAX_PROMPT + 2
    assert components_words.prompt(found, 1) == ""


@pytest.mark.parametrize("shape", [(1, 1), (1, 128), (4, 16), (12, 12), (80, 64)])
def test_maps_of_any_shape_fit(shape: tuple[int, int]) -> None:
    found = of_components(shape)
    assert 'class="map"' in render_html(found)
    for width in (80, 140):
        said = printed(found, width)
        assert max(map(len, said.splitlines())) <= width
        assert ("\nL0 " in said) == (shape[1] + 4 <= width)


def test_what_is_too_large_to_draw_is_listed() -> None:
    found = of_components((2, MOST_COLUMNS + 1))
    assert 'class="map"' not in render_html(found)
    assert "What acts alone" in render_html(found)
    assert "What acts together" in printed(found)


@pytest.mark.parametrize(
    ("unit", "kinds", "columns"),
    [
        ("mlp", [("mlp", 0)], ("MLP",)),
        ("layer", [("layer", 0)], ("layer",)),
        ("neuron", [("neuron", 0), ("neuron", 3)], ("N0", "N3")),
        ("direction", [("direction", 0), ("direction", 1)], ("D0", "D1")),
        ("head+mlp", [("head", 0), ("head", 1), ("mlp", 0)], ("H0", "H1", "MLP")),
    ],
)
def test_every_unit_has_its_map(
    unit: str, kinds: list[tuple[str, int]], columns: tuple[str, ...]
) -> None:
    listed = [
        {"name": f"{layer}.{kind}{i}", "kind": kind, "layer": layer, "place": i}
        for layer in range(3)
        for kind, i in kinds
    ]
    found = explanation(
        planted(len(listed)),
        [str(one["name"]) for one in listed],
        kind="components",
        unit=unit,
        components=listed,
    )
    grid = Grid.of(components_of(found))
    assert grid is not None
    assert grid.columns == columns
    assert grid.rows == ("L0", "L1", "L2")
    assert sorted(grid.cells.values()) == list(range(len(listed)))
    assert f"Which {words.UNITS[unit]}, together" in render_html(found)
    assert f"Which {words.UNITS[unit]}, together" in printed(found)


def test_players_of_one_name_are_told_apart_and_no_line_is_too_long() -> None:
    found = of_components((2, 8), segments=("cup", "oil", "cup", "x" * 300))
    said = printed(found)
    assert "cup₁ oil cup₂" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "cup₂" in render_html(found)


def test_nothing_that_varies_is_no_error() -> None:
    found = explain(lambda masks: masks[:, 0] * 1.0, players=4, budget=16)
    flat = explanation(
        found.fourier,
        kind="components",
        unit="head",
        components=[
            {"name": f"L0.H{i}", "kind": "head", "layer": 0, "place": i}
            for i in range(4)
        ],
    )
    assert "What acts together" not in render_html(flat)
    assert "No group of components stands out" in printed(flat)
