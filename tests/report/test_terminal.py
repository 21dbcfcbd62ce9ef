"""The terminal report: any text as it is, numbers, and eighty columns."""

import re
import time
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from spex import Explanation, explain
from spex.report.html import render_html
from spex.report.pieces import signed
from spex.report.terminal import ProgressBar, print_explanation
from spex.testing import planted

REVIEW = "The plot is not good, but the acting saves it."


def of_text(text: str, **subject: object) -> Explanation:
    """An exact explanation of a text's first ten words, its errors set to 0.02."""
    spans = [list(match.span()) for match in re.finditer(r"\S+", text)][:10]
    names = [text[start:end] for start, end in spans]
    found = explain(planted(len(spans)), players=names, budget=2 ** len(spans))
    told = {"text": text, "spans": spans, **subject}
    return replace(
        found,
        standard_errors=np.full_like(found.standard_errors, 0.02),
        provenance=replace(found.provenance, subject=told, paid=found.spent - 9),
    )


def printed(found: Explanation, index: str = "BII", top: int = 10) -> str:
    """What the report says on a pipe of 80 columns."""
    file = StringIO()
    print_explanation(found, Console(file=file, width=80), index, top)
    return file.getvalue()


def test_the_report_has_names_values_intervals_and_costs() -> None:
    found = of_text(REVIEW)
    said = " ".join(printed(found, top=3).split())
    for strongest in found.top(3, index="BII"):
        assert f"{strongest.value:+.3f}" in said
        assert f"{strongest.low:+.2f} to {strongest.high:+.2f}" in said
        assert " + ".join(f"“{name}”" for name in strongest.names) in said
        assert f"{strongest.share:.1%}" in said
    assert "1024 ablations of a budget of 1024, 9 of them from the ledger" in said
    assert found.status.value in said
    assert "Method exact" in said


def test_the_answer_is_a_group_even_where_single_players_are_stronger() -> None:
    found = of_text(REVIEW)
    pair = next(i for i in found.top(99, "BII") if len(i.players) > 1)
    said = " ".join(printed(found, top=1).split())
    assert f"Strongest interaction: “{pair.names[0]}” + “{pair.names[1]}”" in said


def test_discoveries_are_marked_in_both_reports_and_others_are_not() -> None:
    found = of_text(REVIEW)
    first = found.top(1, index="BII")[0]
    marked = replace(found, discoveries=frozenset({first.players}))
    rows = [row for row in printed(marked, top=2).splitlines() if row.startswith("│")]
    assert ["•" in row for row in rows] == [True, False]
    assert "stands out on its own" in printed(marked)
    page = render_html(marked)
    assert page.count('class="discovery"') == 1
    assert "•" not in printed(found)
    assert 'class="discovery"' not in render_html(found)


def test_markup_is_shown_and_control_characters_do_nothing() -> None:
    text = "[red]a[/red] [link=x]b \x1b[31mc\x1b[0m \x9b2J \x07 d\r\ne [/] :smile:"
    said = printed(of_text(text))
    assert "[red]a[/red] [link=x]b ␛[31mc␛[0m" in said
    assert "[/] :smile:" in said
    assert not {"\x1b", "\x9b", "\x07", "\r"} & set(said)


def test_no_line_is_longer_than_the_terminal_is_wide() -> None:
    text = "antidisestablishmentarianism" * 5 + f" {REVIEW} " + "末" * 90
    assert max(map(len, printed(of_text(text)).splitlines())) <= 80


def test_a_long_text_is_cut_and_says_so() -> None:
    said = printed(of_text("word and another word " * 600))
    assert "more lines" in said
    assert said.count("\n") < 80


def test_colour_follows_the_sign_of_each_segments_influence() -> None:
    text = "up\r\ndown"
    found = explain(lambda m: 1.0 * m[:, 0] - m[:, 1], players=["up", "down"], budget=4)
    subject = {"text": text, "spans": [[0, 2], [4, 8]]}
    found = replace(found, provenance=replace(found.provenance, subject=subject))
    file = StringIO()
    console = Console(file=file, force_terminal=True, color_system="256", width=80)
    print_explanation(found, console)
    assert "\x1b[1;38;5;33mup\x1b[0m" in file.getvalue()
    assert "\x1b[1;38;5;166mdown\x1b[0m" in file.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = StringIO()
    print_explanation(of_text(REVIEW), Console(file=file, force_terminal=True))
    assert "38;5" not in file.getvalue()


def test_always_kept_text_and_further_outputs_are_mentioned() -> None:
    found = of_text(REVIEW, prefix="Review:", suffix="Verdict?")
    said = " ".join(printed(found).split())
    assert f"Review: {REVIEW} Verdict?" in said
    many = explain(lambda m: m[:, [0] * 9] * 1.0, players=3, budget=8)
    assert "and 4 more" in printed(many)


def test_pinned_text_is_told_from_segments_in_both_reports() -> None:
    found = of_text("up down")
    told = {"text": "up keep this down, (end)", "spans": [[0, 2], [13, 17]]}
    subject = {**told, "question": "Whither?"}
    found = replace(found, provenance=replace(found.provenance, subject=subject))
    said = printed(found)
    assert "Whither?\nup keep this down, (end)" in said
    page = render_html(found)
    for kept in ("Whither?\n", " keep this ", ", (end)"):
        assert f'<span class="always">{kept}</span>' in page
    assert "Grey text is always kept" in page
    assert "Grey text" not in render_html(of_text("up, down."))


def test_the_kinds_of_segments_have_their_plurals() -> None:
    for kind, said in {
        "json": "Which JSON fields,",
        "turn": "Which turns,",
        r"regex:\d+": r"Which matches of \d+,",
        "between:;": "Which pieces,",
        "turn, sentence": "Which parts,",
    }.items():
        subject = {"kind": "text-classifier", "segments": kind}
        assert said in printed(of_text(REVIEW, **subject))


def test_noise_is_told_in_both_reports() -> None:
    found = of_text(REVIEW)
    noisy = replace(found, noise_floor=np.array([0.0625]))
    assert "standard error is 0.25" in " ".join(printed(noisy).split())
    assert "standard error is 0.25" in render_html(noisy)
    assert "standard error" not in printed(found)
    assert "standard error" not in render_html(found)


def test_zero_has_no_minus() -> None:
    assert signed(-0.0) == "+0.000"


def test_a_constant_function_has_no_interactions_to_show() -> None:
    flat = explain(lambda m: np.ones(len(m)), players=3, budget=8)
    assert "does not vary" in printed(flat)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_is_drawn_on_terminals_only(is_terminal: bool) -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=100)
    with ProgressBar(console) as bar:
        for done in (0, 150, 300):
            bar(done, 300)
            time.sleep(0.01)  # a speed needs two points in time
    assert ("300/300" in file.getvalue()) is is_terminal
    assert ("per second" in file.getvalue()) is is_terminal
