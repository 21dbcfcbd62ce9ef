"""The page and the terminal report of training examples: any text, any size."""

import re
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from spex import Explanation, SparseFourier
from spex.basis import Basis
from spex.faithfulness import Faithfulness
from spex.influence import Influence
from spex.report import data_words
from spex.report.data_map import MOST_PLAYERS, PairMap
from spex.report.data_terminal import print_data
from spex.report.html import render_cell, render_html
from spex.testing import planted
from spex.tried.removals import Removal, with_removals

from .test_html import NASTY, Page, explanation


def of_examples(num_players: int = 6, points: int = 2, **subject: Any) -> Explanation:
    """A planted explanation of the margins of some test points."""
    spectra = [planted(num_players, seed) for seed in range(points)]
    supports = [*dict.fromkeys(s for one in spectra for s in one.supports)]
    table = np.zeros((len(supports), points))
    for column, one in enumerate(spectra):
        for support, row in one.position.items():
            table[supports.index(support), column] = one.coefficients[row, 0]
    fourier = SparseFourier.from_terms(num_players, supports, table)
    ids = [f"t{i}" for i in range(points)]
    subject = {
        "kind": "data",
        "players_are": "examples",
        "examples": num_players,
        "player_texts": [f"text {i}" for i in range(num_players)],
        "player_labels": ["good", "bad"] * (num_players // 2),
        "test_ids": ids,
        "test_texts": [f"point {i}" for i in range(points)],
        "test_labels": ["good"] * points,
        "measured": ["margin"],
        "training": {
            "trainer": "logistic head",
            "classes": ["bad", "good"],
            "digest": "0123abcd",
        },
        **subject,
    }
    names = [f"e{i}" for i in range(num_players)]
    return replace(explanation(fourier, names, **subject), outputs=tuple(ids))


def removals(found: Explanation) -> Explanation:
    """The first point's flips, the second's does not."""
    one, two = found.intact.tolist()
    return with_removals(
        found,
        [
            Removal(0, (0, 2), -one, True, measured=-one / 2, noise=0.0),
            Removal(1, (1,), -two, measured=two / 2, noise=0.25),
        ],
    )


def printed(found: Explanation, width: int = 80, **more: Any) -> str:
    file = StringIO()
    print_data(found, Console(file=file, width=width), **more)
    return file.getvalue()


def plain_text(page: str) -> str:
    return " ".join(
        re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S).split()
    )


def test_texts_are_text_and_nothing_else() -> None:
    found = of_examples(
        player_texts=[NASTY] * 6,
        player_labels=[NASTY] * 6,
        test_texts=[NASTY] * 2,
        test_labels=[NASTY] * 2,
        training={"trainer": "fine-tuning", "model": "<u>m</u>"},
    )
    found = removals(replace(found, players=tuple(f"{NASTY}{i}" for i in range(6))))
    markup = render_html(found)
    page = Page(markup)
    tags = {tag for tag, _ in page.tags}
    assert not {"script", "img", "b", "i", "u", "s"} & tags
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert "<u>m</u>" in page.texts["title"]
    assert not {"\x1b", "\x07"} & set(printed(found))


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    page = render_html(removals(of_examples()))
    assert "script-src 'none'" in page
    assert not re.search(r"<script|<link|<iframe|src=|url\(|https?://|style=", page)
    assert set(re.findall(r'href="([^"]*)"', page)) == {"#point-0", "#point-1"}
    assert "sandbox" in render_cell(of_examples())


def test_every_point_tells_who_helps_and_who_harms() -> None:
    found = of_examples()
    page = render_html(found)
    for output in range(2):
        start = page.index(f'<article id="point-{output}">')
        part = page[start : page.index("</article>", start)]
        influence = Influence.of(found, output)
        heads = ("Helpful training examples", "Harmful training examples")
        helpful, harmful = (part.index(head) for head in heads)
        lists = part[helpful:harmful], part[harmful : part.index("Acting together")]
        for listed, markup in zip(
            (influence.helpful, influence.harmful), lists, strict=True
        ):
            said = re.findall(r'<div class="value">([^<]+)<', markup)
            assert said == [f"{one.value:+.3f}" for one in listed]
            for one in listed:
                player = one.players[0]
                assert f'<span class="name">e{player}</span>' in markup
                assert f'<span class="example">text {player}</span>' in markup
        assert f"<q>point {output}</q>" in part


def test_groups_that_stand_out_are_read_in_plain_words() -> None:
    found = of_examples()
    page = plain_text(render_html(found))
    influence = Influence.of(found)
    sure = [
        read
        for one, read in zip(influence.together, influence.readings, strict=True)
        if not one.low <= 0 <= one.high
    ]
    assert sure
    for read in sure:
        assert data_words.together(read) in page.replace("&#x27;", "'")
        assert read.kind.value in printed(found)


@pytest.mark.parametrize("index", ["BII", "SV", "FSII"])
def test_the_map_is_symmetric_and_holds_the_pairs(index: str) -> None:
    found = of_examples(40, 1)
    drawn = PairMap.of(found, 0, index)
    assert 2 <= len(drawn.players) <= MOST_PLAYERS
    values = found.index("BII" if index == "SV" else index, 2)
    strongest = max(
        (pair for pair in values if len(pair) == 2),
        key=lambda pair: abs(float(np.ravel(values[pair])[0])),
    )
    assert strongest in drawn.pairs
    table = re.search(
        r'<table class="pairs">(.*?)</table>', render_html(found, index), re.DOTALL
    )
    assert table is not None
    rows = re.findall(r'<th scope="row"[^>]*>(\w+)</th>(.*?)</tr>', table[1])
    assert [name for name, _ in rows] == [f"e{i}" for i in drawn.players]
    cells = [
        re.findall(r'<td(?: class="(\w+)[^"]*")?[^>]*>([^<]*)', r) for _, r in rows
    ]
    size = len(drawn.players)
    assert all(len(row) == size for row in cells)
    assert all(cells[i][i][0] == "same" for i in range(size))
    for i in range(size):
        for j in range(i):
            assert cells[i][j] == cells[j][i]
            pair = drawn.pairs.get((drawn.players[j], drawn.players[i]))
            sign = cells[i][j][0][:1]
            assert sign == ("" if pair is None else "p" if pair.value > 0 else "m")


def test_removals_are_told_with_what_came_of_them() -> None:
    found = removals(of_examples())
    one, two = found.intact.tolist()
    page = Page(render_html(found))
    said = plain_text(render_html(found))
    assert len(page.with_class("reached")) == 1
    assert len(page.with_class("missed")) == 1
    shown = " ".join(printed(found, 200).split())
    for text in (said, shown):
        assert (
            "Without 2 of the 6 training examples, the fewest that the surrogate knows "
            f"of, the margin is predicted to go from {one:+.3f} to {-one:+.3f}. "
            f"Trained again, it is {-one / 2:+.3f}: the prediction flipped."
        ) in text
        assert (
            f"it is {two / 2:+.3f} (its standard error is 0.25): it did not flip."
        ) in text
    assert "Left out: e0, e2" in shown


def test_what_was_not_checked_or_not_found_says_so() -> None:
    found = of_examples()
    unchecked = with_removals(found, [Removal(0, (1,), -0.5)])
    assert "Not checked by retraining" in plain_text(render_html(unchecked))
    assert "No removal is predicted" in plain_text(render_html(unchecked))
    loss = of_examples(measured=["loss"])
    assert "removal is predicted" not in plain_text(render_html(loss))
    assert "removal is predicted" not in printed(loss)


def test_what_was_not_decided_is_not_called_impossible() -> None:
    found = of_examples()
    noted = with_removals(found, [Removal(0, (), float(found.intact[0]))])
    page = render_html(noted)
    for text in (plain_text(page), " ".join(printed(noted, 200).split())):
        assert (
            "Which removal takes the margin across 0 was not decided in time." in text
        )
        # of the other point
        assert text.count("No removal is predicted to take the margin clearly") == 1
    cells = re.findall(r'data-name="(removed|predicted)">([^<]*)<', page)
    assert cells == [
        ("removed", "not decided"),
        ("predicted", ""),
        ("removed", "none"),
        ("predicted", ""),
    ]


def test_what_has_no_value_and_how_many_were_tried_is_told() -> None:
    found = of_examples()
    noted = [
        Removal(0, (1,), -0.5, tried=1),
        Removal(1, (1,), -0.5, measured=float(-found.intact[1]), tried=3),
    ]
    said = plain_text(render_html(with_removals(found, noted)))
    assert "Trained again, it has no value." in said
    assert "(how far that varies with the seed is not known): the prediction" in said
    assert "It is the best of 3 sets that were tried" in said


@pytest.mark.parametrize(
    ("keep", "count", "is_told"), [(0.5, 2, True), (0.8, 2, False), (0.5, 7, False)]
)
def test_half_masks_say_that_they_tell_little_of_small_removals(
    keep: float, count: int, is_told: bool
) -> None:
    found = replace(of_examples(12), basis=Basis(keep))
    removal = Removal(0, tuple(range(count)), -0.5)
    said = data_words.removal(found, removal)
    advice = "--keep 0.8 tells more of small removals"
    assert (advice in said) is is_told
    flipped = replace(removal, measured=float(-found.intact[0]), noise=0.0, tried=1)
    assert advice not in data_words.removal(found, flipped)


def test_a_best_subset_is_told_with_what_came_of_it() -> None:
    found = of_examples()
    subset = Removal(0, (0, 1, 2, 3), 2.0, True, 1.5, 0.0, tried=1, kind="subset")
    noted = with_removals(found, [subset])
    page = render_html(noted)
    for text in (plain_text(page), " ".join(printed(noted, 200).split())):
        assert (
            "Trained on 2 of the 6 training examples alone, the margin is predicted to "
            "be +2.000, the largest that the surrogate knows of. Trained again, it is "
            "+1.500."
        ) in text
    start = page.index("What is trained on")
    listed = page[start : page.index("</ul>", start)]
    assert re.findall(r'class="name">(\w+)<', listed) == ["e4", "e5"]
    assert "Trained on: e4, e5" in printed(noted, 200)


def test_poor_advice_speaks_of_examples() -> None:
    found = of_examples()
    low = Faithfulness(0.1, 0.3, (0.2, 0.2), 20)
    poor = replace(found, faithfulness=low)
    for text in (plain_text(render_html(poor)), " ".join(printed(poor).split())):
        assert "larger groups or clusters of examples" in text
        assert "segments" not in text


def test_three_classes_are_told_apart_from_two() -> None:
    classes = {"trainer": "logistic head", "classes": ["a", "b", "c"]}
    found = removals(of_examples(training=classes))
    assert "it is across 0" in plain_text(render_html(found))
    assert "predicted right" not in printed(found)
    assert "the right class has a probability of" in printed(found)


def test_one_point_has_no_table_of_points_and_no_digest_is_shown() -> None:
    page = render_html(of_examples(points=1))
    assert 'class="points"' not in page
    assert "0123abcd" not in page
    assert "trainer logistic head" in plain_text(page)


@pytest.mark.parametrize("kind", list(data_words.PLAYERS))
def test_players_are_called_what_they_are(kind: str) -> None:
    said = f"Which {data_words.PLAYERS[kind]}, together, made a logistic head say this?"
    found = of_examples(players_are=kind)
    assert said in render_html(found)
    assert said in " ".join(printed(found).split())


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_too_long(width: int) -> None:
    found = removals(
        of_examples(player_texts=["word " * 99] * 6, player_labels=["label" * 9] * 6)
    )
    assert max(map(len, printed(found, width).splitlines())) <= width


def test_more_points_than_fit_are_counted_in_the_terminal() -> None:
    said = printed(of_examples(points=8))
    assert "shows the other 5" in said
    assert "point 2" in said
    assert "point 3" not in said


def test_what_nothing_is_known_of_is_shown_by_name() -> None:
    bare = explanation(planted(6), kind="data")
    assert "p0" in render_html(bare)
    assert "Measured after training" in " ".join(printed(bare).split())


def test_nothing_that_varies_is_no_error() -> None:
    flat = explanation(SparseFourier.from_dict(4, {(): 1.0}), kind="data")
    assert 'class="pairs"' not in render_html(flat)
    assert "There are none." in render_html(flat)
    assert "No group stands out" in printed(flat)
