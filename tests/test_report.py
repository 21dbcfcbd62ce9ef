"""Reports: nothing escapes its place, and the page computes what Python computes."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from spex import Explanation, explain
from spex.exact import every_mask
from spex.report.html import render_cell, render_html
from spex.report.terminal import ProgressBar, print_explanation
from spex.testing import planted

NASTY = (
    "Say <b>bold</b> </script><script>alert(1)</script> "
    "<img src=x onerror=alert(2)> "
    "\"quoted\" & 'single' {{data}} {{script}} [red]markup[/red] "
    "\u2028 שלום 👩‍👩‍👧 末。"
)


def explained(text: str, outputs: int = 1, budget: int = 200) -> Explanation:
    """An explanation of a planted function, with a text for its words."""
    spans = [list(match.span()) for match in re.finditer(r"\S+", text)]
    n = len(spans)

    def function(masks: np.ndarray) -> np.ndarray:
        return np.hstack([planted(n, seed)(masks) for seed in range(outputs)])

    names = [text[start:end] for start, end in spans]
    found = explain(function, players=names, budget=budget)
    subject = {
        "kind": "text-classifier",
        "model": "<i>model</i>",
        "text": text,
        "spans": spans,
        "segments": "word",
        "value": "log-odds",
        "targets": ["<u>good</u>"],
        "prediction": "<u>good</u>",
        "prediction_probability": 0.75,
    }
    return replace(found, provenance=replace(found.provenance, subject=subject))


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text of an element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "rect"):
            self._open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in ("meta", "line", "rect"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.texts[name] = self.texts.get(name, "") + data


def test_any_text_is_shown_as_text() -> None:
    found = explained(NASTY)
    page = Page(render_html(found))
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 2
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i", "u")]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert page.texts["words"] == NASTY
    data = json.loads(page.texts["data"])
    assert [tuple(s) for s in data["supports"]] == list(found.fourier.supports)
    assert np.allclose(np.array(data["coefficients"]).T, found.fourier.coefficients)


def test_the_page_needs_no_network_and_allows_none() -> None:
    page = render_html(explained(NASTY))
    assert not re.search(r"https?://", page)
    assert "default-src 'none'" in page
    assert "unsafe" not in page


def test_a_cell_holds_the_page_as_an_attribute() -> None:
    found = explained(NASTY)
    page = Page(render_cell(found))
    assert [tag for tag, _ in page.tags] == ["iframe"]
    assert page.tags[0][1]["srcdoc"] == render_html(found)


@pytest.mark.parametrize("outputs", [1, 3])
def test_without_scripts_the_page_says_the_same(outputs: int) -> None:
    found = explained("The plot is not good, but the acting saves it. " * 2, outputs)
    page = Page(render_html(found))
    rows = [a for _, a in page.tags if "interaction" in (a.get("class") or "").split()]
    assert len(rows) == 20
    said = " ".join(page.texts["body"].split())
    assert f"R² {found.faithfulness:.3f}" in said
    assert f"{found.top(1, index='BII')[0].value:+.3f}" in said
    assert f"{found.spent} ablations of a budget of {found.provenance.budget}" in said
    assert ("output" in [a.get("id") for _, a in page.tags]) == (outputs > 1)


def test_a_function_without_text_or_variation_still_has_a_page() -> None:
    flat = explain(lambda m: np.ones(len(m)), players=12, budget=100)
    assert "the output does not vary" in render_html(flat)
    many = explain(planted(300), players=300, budget=200)
    assert render_html(many).count('data-player="') == 300


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_pages_what_if_computes_the_surrogate(tmp_path: Path) -> None:
    found = explained("The plot is not good, but the acting saves it.", 2)
    script = Path(__file__).parents[1] / "spex" / "report" / "page.js"
    evaluate = re.search(r"^function evaluate.*?^}", script.read_text(), re.S | re.M)
    assert evaluate
    masks = every_mask(10)[::37]
    data = json.loads(Page(render_html(found)).texts["data"])
    (tmp_path / "run.js").write_text(
        f"{evaluate[0]}\nconst d = {json.dumps(data)};\n"
        f"const masks = {json.dumps(masks.tolist())};\n"
        "console.log(JSON.stringify(masks.map((m) => "
        "d.coefficients.map((c) => evaluate(d.supports, c, m)))));"
    )
    out = subprocess.check_output(["node", str(tmp_path / "run.js")])
    assert np.allclose(json.loads(out), found.predict(masks))


def printed(found: Explanation, **settings: object) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    print_explanation(found, console, **settings)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_shows_any_text_as_it_is_within_its_width() -> None:
    said = printed(explained(NASTY))
    assert "[red]markup[/red]" in said
    assert "<script>alert(1)</script>" in said
    assert max(map(cell_len, said.splitlines())) <= 80


def test_the_terminal_shows_values_intervals_and_costs() -> None:
    found = explained("The plot is not good, but the acting saves it. " * 2)
    said = " ".join(printed(found, top=3, index="FSII").split())
    strongest = found.top(1, index="FSII")[0]
    assert f"{strongest.value:+.3f}" in said
    assert f"{strongest.low:+.2f} to {strongest.high:+.2f}" in said
    assert f"R² {found.faithfulness:.3f}" in said
    assert "200 ablations of a budget of 200" in said
    assert found.status.value in said


def test_a_long_text_is_cut_in_the_terminal_and_says_so() -> None:
    said = printed(explained("word and another word " * 600))
    assert "more lines" in said
    assert said.count("\n") < 80


def test_the_bar_counts_ablations_on_a_terminal_only() -> None:
    for is_terminal in (True, False):
        console = Console(file=StringIO(), force_terminal=is_terminal, width=100)
        with ProgressBar(console) as bar:
            explain(planted(12), players=12, budget=300, progress=bar)
        drawn = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("300/300" in drawn) is is_terminal
