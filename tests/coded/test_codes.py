"""The field and the vectorised BCH decoder against galois and the definitions."""

from itertools import chain, combinations

import galois
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spex import MethodError, explain
from spex.coded.codes import Code, check_field
from spex.coded.field import CONWAY, Field, field


@st.composite
def elements(draw: st.DrawFn) -> tuple[int, int, int]:
    """q and two elements of GF(2^q), 0 among them."""
    q = draw(st.sampled_from(sorted(CONWAY)))
    element = st.integers(0, 2**q - 1)
    return q, draw(element), draw(element)


def product_by_hand(q: int, a: int, b: int) -> int:
    """The product of two polynomials over GF(2), reduced."""
    total = 0
    for i in range(q):
        total ^= (a << i) * (b >> i & 1)
    for i in reversed(range(q, 2 * q)):
        total ^= (CONWAY[q] << (i - q)) * (total >> i & 1)
    return total


@pytest.mark.parametrize("q", CONWAY)
def test_the_polynomials_are_conway_polynomials(q: int) -> None:
    assert CONWAY[q] == int(galois.conway_poly(2, q))


@pytest.mark.parametrize("q", CONWAY)
def test_powers_of_alpha_are_all_elements_but_zero(q: int) -> None:
    powers = field(q).exp[: field(q).order]
    assert np.array_equal(np.sort(powers), np.arange(1, 2**q))


@settings(max_examples=200, deadline=None)
@given(elements())
def test_products_are_products_of_polynomials(drawn: tuple[int, int, int]) -> None:
    q, a, b = drawn
    gf, one, other = field(q), np.array([a], np.int32), np.array([b], np.int32)
    product = gf.multiply(one, other)
    assert product == product_by_hand(q, a, b)
    assert gf.square(one) == product_by_hand(q, a, a)
    if b:
        assert gf.divide(product, other) == a


def galois_field(q: int) -> type[galois.FieldArray]:
    """Compiling it takes longer than what is computed here."""
    conway = galois.conway_poly(2, q)
    return galois.GF(2**q, irreducible_poly=conway, compile="python-calculate")


@pytest.mark.parametrize("q", CONWAY)
def test_the_field_is_galois_field(q: int) -> None:
    theirs = galois_field(q)
    a, b = np.random.default_rng(q).integers(0, 2**q, (2, 1000)).astype(np.int32)
    assert np.array_equal(field(q).multiply(a, b), np.asarray(theirs(a) * theirs(b)))
    assert np.array_equal(field(q).square(a), np.asarray(theirs(a) ** 2))
    b = np.maximum(b, 1)
    assert np.array_equal(field(q).divide(a, b), np.asarray(theirs(a) / theirs(b)))


def random_supports(
    num_players: int, t: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Indicators of supports of every size from 0 to t."""
    sizes = rng.integers(0, min(t, num_players) + 1, count)
    ranks = rng.random((count, num_players)).argsort(axis=1).argsort(axis=1)
    return ranks < sizes[:, None]


def indicators(players: np.ndarray, num_players: int) -> np.ndarray:
    """Of rows of players filled up with n."""
    table = np.zeros((len(players), num_players + 1), dtype=bool)
    table[np.arange(len(players))[:, None], players] = True
    return table[:, :num_players]


WITHIN_REACH = (
    *[(1, 1), (2, 1), (2, 2), (3, 2), (7, 3), (14, 5), (15, 5), (16, 4), (131, 5)],
    *[(1000, 6), (5000, 5), (2**18 - 1, 3)],
)


@pytest.mark.parametrize(("num_players", "t"), WITHIN_REACH)
def test_every_support_within_reach_is_decoded(num_players: int, t: int) -> None:
    count = 300 if num_players < 2**17 else 3
    code = Code(num_players, t)
    supports = random_supports(num_players, t, count, np.random.default_rng(0))
    syndromes = np.array([code.checks[:, s].sum(axis=1) % 2 for s in supports])
    players, is_decoded = code.decode(syndromes)
    assert is_decoded.all()
    assert np.array_equal(indicators(players, num_players), supports)
    assert (np.diff(players, axis=1) >= 0).all()


@pytest.mark.parametrize(("q", "t"), [(4, 2), (5, 2), (5, 3), (5, 5)])
def test_any_word_is_decoded_as_galois_decodes_it(q: int, t: int) -> None:
    """Random syndromes, most of them beyond reach, at full code length."""
    length = 2**q - 1
    code = Code(length, t)
    theirs = galois.BCH(length, d=2 * t + 1, extension_field=galois_field(q))
    words = np.random.default_rng(1).integers(0, 2, (200, length))
    # position i here is the coefficient of x^i, which galois writes from the right
    decoded, errors = theirs.decode(words[:, ::-1], output="codeword", errors=True)
    flips = (np.asarray(decoded)[:, ::-1] != words) & (errors >= 0)[:, None]
    players, is_decoded = code.decode(words @ code.checks.T % 2)
    assert np.array_equal(is_decoded, errors >= 0)
    assert np.array_equal(indicators(players, length), flips)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 15), st.integers(1, 3))
def test_a_word_is_decoded_if_and_only_if_a_support_within_reach_has_it(
    num_players: int, t: int
) -> None:
    """Every syndrome there is, in full fields and in shortened codes."""
    code = Code(num_players, t)
    sizes = range(min(t, num_players) + 1)
    subsets = chain.from_iterable(combinations(range(num_players), s) for s in sizes)
    weights = 1 << np.arange(code.num_checks)
    support_of = {
        int(code.checks[:, list(s)].sum(axis=1) % 2 @ weights): s for s in subsets
    }
    number = np.arange(2**code.num_checks)[:, None]
    players, is_decoded = code.decode(number >> np.arange(code.num_checks) & 1)
    assert set(np.flatnonzero(is_decoded).tolist()) == set(support_of)
    for word, row in enumerate(players.tolist()):
        expected = support_of.get(word, ())
        assert row == [*expected, *[num_players] * (t - len(expected))]


@pytest.mark.parametrize(("num_players", "t"), [(40, 3), (100, 4), (700, 3)])
def test_what_is_decoded_has_the_syndrome_it_was_decoded_from(
    num_players: int, t: int
) -> None:
    code = Code(num_players, t)
    syndromes = np.random.default_rng(2).integers(0, 2, (5000, code.num_checks))
    players, is_decoded = code.decode(syndromes)
    assert 0 < is_decoded.sum() < 5000
    again = indicators(players[is_decoded], num_players) @ code.checks.T % 2
    assert np.array_equal(again, syndromes[is_decoded])
    assert (players[~is_decoded] == num_players).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 600), st.integers(1, 7))
def test_a_higher_order_adds_checks_below_those_there_are(
    num_players: int, t: int
) -> None:
    fewer, more = Code(num_players, t).checks, Code(num_players, t + 1).checks
    assert fewer.shape == (Code(num_players, t).num_checks, num_players)
    assert np.array_equal(more[: len(fewer)], fewer)


def test_no_words_decode_to_no_supports() -> None:
    players, is_decoded = Code(20, 3).decode(np.zeros((0, 15), dtype=np.uint8))
    assert players.shape == (0, 3)
    assert is_decoded.shape == (0,)


def test_more_players_than_the_largest_field_are_refused_before_anything_is_paid() -> (
    None
):
    asked = []
    most = 2**Field.LARGEST - 1
    check_field(most)
    with pytest.raises(MethodError, match=str(most)):
        check_field(most + 1)
    with pytest.raises(MethodError, match=str(most)):
        explain(asked.append, players=most + 1, method="spex", budget=10_000)
    assert not asked
