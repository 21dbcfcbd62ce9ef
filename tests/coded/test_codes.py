"""The vectorised BCH decoder against galois and against the definition."""

import galois
import numpy as np
import pytest

from spex.coded.codes import Code, field


def random_supports(
    num_players: int, t: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Supports of every size from 0 to t."""
    sizes = rng.integers(0, min(t, num_players) + 1, count)
    ranks = rng.random((count, num_players)).argsort(axis=1).argsort(axis=1)
    return ranks < sizes[:, None]


@pytest.mark.parametrize("q", [2, 3, 4, 5, 8, 10])
def test_the_field_is_galois_field(q: int) -> None:
    theirs = galois.GF(2**q, irreducible_poly=galois.conway_poly(2, q))
    rng = np.random.default_rng(q)
    a, b = rng.integers(0, 2**q, (2, 500))
    product = np.asarray(theirs(a) * theirs(b))
    assert np.array_equal(field(q).multiply(a, b), product)
    b = np.maximum(b, 1)
    assert np.array_equal(field(q).divide(a, b), np.asarray(theirs(a) / theirs(b)))


@pytest.mark.parametrize(
    ("num_players", "t"),
    [(2, 1), (2, 2), (3, 2), (7, 3), (14, 5), (15, 5), (16, 4), (131, 5), (1000, 6)],
)
def test_every_support_within_reach_is_decoded(num_players: int, t: int) -> None:
    code = Code(num_players, t)
    supports = random_supports(num_players, t, 300, np.random.default_rng(0))
    found, is_decoded = code.decode(supports @ code.checks.T % 2)
    assert is_decoded.all()
    assert np.array_equal(found, supports)


@pytest.mark.parametrize(("num_players", "t"), [(15, 2), (31, 3), (63, 3)])
def test_any_word_is_decoded_as_galois_decodes_it(num_players: int, t: int) -> None:
    """Random syndromes, most of them beyond reach, at full code length."""
    code = Code(num_players, t)
    q = num_players.bit_length()
    same_field = galois.GF(2**q, irreducible_poly=galois.conway_poly(2, q))
    theirs = galois.BCH(num_players, d=2 * t + 1, extension_field=same_field)
    words = np.random.default_rng(1).integers(0, 2, (200, num_players))
    # position i here is the coefficient of x^i, which galois writes from the right
    decoded, errors = theirs.decode(words[:, ::-1], output="codeword", errors=True)
    flips = (np.asarray(decoded)[:, ::-1] != words) & (errors >= 0)[:, None]
    found, is_decoded = code.decode(words @ code.checks.T % 2)
    assert np.array_equal(is_decoded, errors >= 0)
    assert np.array_equal(found, flips)


def test_what_is_decoded_has_the_syndrome_it_was_decoded_from() -> None:
    code = Code(40, 3)
    syndromes = np.random.default_rng(2).integers(0, 2, (5000, code.num_checks))
    found, is_decoded = code.decode(syndromes)
    assert 0 < is_decoded.sum() < 5000
    again = found[is_decoded] @ code.checks.T % 2
    assert np.array_equal(again, syndromes[is_decoded])
    assert (found.sum(axis=1) <= 3).all()
