"""What was spent, however much of it the server counts."""

from hypothesis import given
from hypothesis import strategies as st

from oracles.remote import Prices
from oracles.remote.tally import Tally

USAGES = st.one_of(
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, 10**6)},
        optional={"completion_tokens": st.integers(0, 10**6)},
    ),
    st.sampled_from([None, {}, "many", {"prompt_tokens": "3"}, {"prompt_tokens": -1}]),
)


@given(st.lists(USAGES), st.integers(0, 9))
def test_what_is_counted_adds_up_and_what_is_not_is_said(
    usages: list, retries: int
) -> None:
    tally = Tally()
    for usage in usages:
        tally.add_request()
        tally.add({"usage": usage})
    for _ in range(retries):
        tally.add_request()
    told = [u for u in usages if isinstance(u, dict) and "prompt_tokens" in u]
    known = [u for u in told if u["prompt_tokens"] not in ("3", -1)]
    spent = tally.spent(Prices(2.0, 3.0))
    prompts = sum(usage["prompt_tokens"] for usage in known)
    answers = sum(usage.get("completion_tokens", 0) for usage in known)
    assert (spent.requests, spent.answered) == (len(usages) + retries, len(usages))
    assert (spent.counted, spent.prompt_tokens) == (len(known), prompts)
    assert spent.answer_tokens == answers
    if not known:
        assert spent.price is None
        assert "tokens" not in str(spent).replace("counted no tokens", "")
        return
    assert spent.price is not None
    assert abs(spent.price - (2 * prompts + 3 * answers) / 1e6) < 1e-9
    assert (f"of {len(usages):,})" in str(spent)) == (len(known) < len(usages))
