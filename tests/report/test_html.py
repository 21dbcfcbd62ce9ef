"""The page: strings stay strings, and the script computes what Python computes."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spex.explanation import Explanation
from spex.faithfulness import Faithfulness
from spex.provenance import Provenance
from spex.report.html import render_cell, render_html
from spex.spectrum import SparseFourier
from spex.testing import planted

NASTY = (
    "</script><script>alert(1)</script> <img src=x onerror=alert(2)> --> ]]> "
    "\"double\" 'single' &lt;b&gt; {{data}} {{script}} ${x} \\u003c "
    "\u2028\u2029 שלום 👩‍👩‍👧 末。"
)
VOID = {"meta", "img", "line", "rect"}


class Page(HTMLParser):
    """What a browser makes of a page: its tags, and the text inside each tag and id."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for name in {name for opened in self._open for name in opened if name}:
            self.texts[name] = self.texts.get(name, "") + data

    @property
    def payload(self) -> dict[str, Any]:
        """The data the script reads."""
        return json.loads(self.texts["data"])

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of a class."""
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]


def explanation(
    spectrum: SparseFourier, names: list[str] | None = None, **subject: Any
) -> Explanation:
    """A planted spectrum as if it had been recovered, with an error of 0.05."""
    n, k = spectrum.num_players, spectrum.num_outputs
    return Explanation(
        players=tuple(names or [f"p{i}" for i in range(n)]),
        outputs=tuple(f"v{j} <b>" for j in range(k)),
        fourier=spectrum,
        standard_errors=np.full_like(spectrum.coefficients, 0.05),
        faithfulness=Faithfulness(0.9, 0.95, (0.93,) * k, 100),
        intact=spectrum(np.ones((1, n), dtype=bool))[0],
        provenance=Provenance(
            method="planted",
            reason="<i>chosen</i>",
            budget=400,
            spent=300,
            paid=250,
            seed=7,
            max_order=3,
            ablation_seconds=12.0,
            recovery_seconds=1.0,
            subject=subject,
        ),
    )


def of_text(text: str, outputs: int = 1, **subject: Any) -> Explanation:
    """A planted explanation of a text's words."""
    spans = [list(match.span()) for match in re.finditer(r"\S+", text)]
    seeds = [planted(len(spans), seed) for seed in range(outputs)]
    together = SparseFourier.from_terms(
        len(spans),
        seeds[0].supports,
        np.hstack([spectrum.coefficients for spectrum in seeds]),
    )
    names = [text[start:end] for start, end in spans]
    return explanation(together, names, text=text, spans=spans, **subject)


def test_a_nasty_prompt_is_text_and_nothing_else() -> None:
    found = of_text(NASTY, kind="text-classifier", model="<u>m</u>", targets=["<s>"])
    page = Page(render_html(found))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2
    assert tags.count("style") == 1
    assert not {"img", "b", "i", "u", "s"} & set(tags)
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert page.texts["words"] == NASTY
    assert "<u>m</u>" in page.texts["title"]


def test_markup_that_the_script_swaps_in_is_escaped_too() -> None:
    page = Page(render_html(of_text(NASTY, outputs=2)))
    for view in page.payload["views"]:
        tags = {tag for part in view.values() for tag, _ in Page(part).tags}
        assert tags <= {"li", "div", "span", "svg", "line", "rect", "p"}
        shown = Page(f'<p id="all">{"".join(view.values())}</p>').texts["all"]
        assert "</script><script>alert(1)</script>" in shown


def test_names_are_escaped_wherever_they_stand() -> None:
    names = [f"</script><img src=x onerror=alert({i})>" for i in range(4)]
    page = render_html(explanation(planted(4), names), top=2)
    views = Page(page).payload["views"]
    for markup in [page, *views[0].values()]:
        assert "img" not in {tag for tag, _ in Page(markup).tags}
    raw = page.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(raw)


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    page = render_html(of_text(NASTY))
    assert not re.search(r"https?://|@import|url\(", page)
    policy = next(a["content"] for _, a in Page(page).tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_the_data_is_the_spectrum() -> None:
    found = of_text(NASTY, outputs=2)
    data = Page(render_html(found)).payload
    assert [tuple(s) for s in data["supports"]] == list(found.fourier.supports)
    assert np.array_equal(np.array(data["coefficients"]).T, found.fourier.coefficients)
    assert data["intact"] == found.intact.tolist()


@pytest.mark.parametrize("outputs", [1, 3])
def test_without_scripts_the_page_says_the_same_of_the_first_output(
    outputs: int,
) -> None:
    found = of_text("The plot is not good, but the acting saves it.", outputs)
    page = Page(render_html(found, top=3))
    assert len(page.with_class("interaction")) == 6
    pair = next(i for i in found.top(99, "BII") if len(i.players) == 2)
    said = " ".join(page.texts["body"].split())
    assert f"{pair.value:+.3f}" in said
    assert f"{pair.low:+.2f} to {pair.high:+.2f}" in said
    assert "Explains 93% of the variation" in said
    assert "300 ablations of a budget of 400, 50 of them from the ledger" in said
    assert "Seed 7" in said
    assert found.status.value in said
    assert ("output" in page.texts) == (outputs > 1)


def test_each_output_has_a_view_of_its_own() -> None:
    found = of_text("The plot is not good, but the acting saves it.", 3)
    for output, view in enumerate(Page(render_html(found)).payload["views"]):
        strongest = found.top(1, "BII", output=output)[0]
        rows = Page(view["together"] + view["alone"]).with_class("interaction")
        players = " ".join(map(str, strongest.players))
        assert players in [row["data-players"] for row in rows]
        assert f"{strongest.value:+.3f}" in view["together"] + view["alone"]
        assert found.outputs[output].replace("<b>", "&lt;b&gt;") in view["intact"]


def test_what_cannot_be_told_from_zero_is_marked_and_never_the_answer() -> None:
    spectrum = SparseFourier.from_dict(3, {(0,): 1.0, (1, 2): 0.5})
    sure = explanation(spectrum)
    assert "Strongest interaction: “p1” + “p2”" in render_html(sure)
    noisy = replace(sure, standard_errors=np.full((2, 1), 0.4))
    page = Page(render_html(noisy))
    assert "No group stands out" in page.texts["answer"]
    assert len(page.with_class("unsure")) == 1


def test_a_poor_fit_names_no_group_and_says_so() -> None:
    found = explanation(planted(6))
    poor = replace(found, faithfulness=Faithfulness(0.1, 0.4, (0.3,), 100))
    page = Page(render_html(poor))
    assert "Too little is explained" in page.texts["answer"]
    assert len(page.with_class("poor")) == 1
    assert "Not faithful" in page.texts["body"]


def test_a_function_without_interactions_or_variation_has_a_page() -> None:
    alone = render_html(explanation(SparseFourier.from_dict(2, {(0,): 1.0})))
    assert "Nothing acts together" in alone
    flat = render_html(explanation(SparseFourier.from_dict(2, {(): 1.0})))
    assert "the output does not vary" in flat


def test_text_that_is_always_kept_stands_around_the_players() -> None:
    found = of_text("one two\nthree", prefix="Before.", suffix="After?")
    page = Page(render_html(found))
    assert page.texts["words"] == "Before. one two\nthree After?"
    assert len(page.with_class("always")) == 3  # and the legend's


def test_many_players_and_long_names_stay_small() -> None:
    names = [f"sentence {i} " + "of many words " * 20 for i in range(300)]
    page = render_html(explanation(planted(300), names))
    assert len(Page(page).with_class("segment")) == 300
    rows = Page(page).payload["views"][0]["together"]
    assert names[0] not in rows
    assert "…" in rows
    assert len(page) < 500_000


def test_a_cell_holds_the_page_in_a_sandboxed_frame() -> None:
    found = of_text(NASTY)
    [(tag, frame)] = Page(render_cell(found)).tags
    assert tag == "iframe"
    assert frame["srcdoc"] == render_html(found)
    assert frame["sandbox"] == "allow-scripts"


def run_in_node(functions: list[str], code: str, folder: Path) -> Any:
    """What a line of script prints, given functions of the page's script."""
    script = files("spex.report").joinpath("page.js").read_text(encoding="utf-8")
    bodies = [
        found[0]
        for name in functions
        if (found := re.search(rf"^function {name}\(.*?^}}", script, re.S | re.M))
    ]
    assert len(bodies) == len(functions)
    path = folder / "run.js"
    path.write_text("\n".join([*bodies, code]), encoding="utf-8")
    return json.loads(subprocess.check_output(["node", str(path)]))


needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed"
)


@needs_node
def test_the_what_if_of_the_page_is_the_surrogate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    supports = {
        tuple(sorted(rng.choice(60, size=rng.integers(0, 6), replace=False).tolist()))
        for _ in range(5000)
    }
    coefficients = rng.normal(size=(len(supports), 2))
    found = explanation(SparseFourier.from_terms(60, supports, coefficients))
    masks = rng.random((20, 60)) < 0.5
    masks[0] = True
    code = (
        f"const d = {json.dumps(Page(render_html(found)).payload)};\n"
        f"const masks = {json.dumps(masks.tolist())};\n"
        "console.log(JSON.stringify(masks.map((m) => "
        "d.coefficients.map((c) => evaluate(d.supports, c, m)))));"
    )
    assert np.allclose(run_in_node(["evaluate"], code, tmp_path), found.predict(masks))


@needs_node
@pytest.mark.parametrize(
    ("scale", "value", "shown"),
    [
        ("log-odds", 1.2475, "77.7%"),
        ("log-probability", -0.5, "60.7%"),
        ("log-probability", 0.1, "100.0%"),
        (None, 1.0, ""),
    ],
)
def test_values_on_a_log_scale_are_shown_as_probabilities(
    scale: str | None, value: float, shown: str, tmp_path: Path
) -> None:
    code = (
        f"const data = {json.dumps({'scale': scale})};\n"
        f"console.log(JSON.stringify(chance({value})));"
    )
    assert run_in_node(["chance"], code, tmp_path) == shown
