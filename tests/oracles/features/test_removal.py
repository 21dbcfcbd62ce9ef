"""What stands where a segment was removed: nothing, a token, a word, a random draw."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import transformers

from oracles import InputError, InterruptedRun, Ledger, run
from oracles.features import CausalOracle, load_model, text_prompt
from oracles.features.prompts.draws import AveragedOracle, DrawnPrompt
from oracles.features.prompts.prompt import TextPrompt
from oracles.testing import OracleContract

FACTS = load_model("facts")
TEXT = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
OTHERS = ["It rains. It is May.", "Cats sleep. Dogs bark. Birds sing."]
SOME = np.array([[True, False, False], [False, True, False], [False, False, True]])


def resampled(seed: int = 0, **settings: Any) -> TextPrompt:
    return text_prompt(
        TEXT, removal="resample", reference=OTHERS, seed=seed, **settings
    )


def tokens(**special: str) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=FACTS.tokenizer.backend_tokenizer, **special
    )


@pytest.mark.parametrize(
    ("removal", "expected"),
    [
        ("mask", "<mask> bad"),
        ("unknown", "<unk> bad"),
        ("pad", "<pad> bad"),
        ("replace:very", "very bad"),
        ("replace:", " bad"),
        ("delete", "bad"),
    ],
)
def test_a_removed_segment_is_replaced(removal: str, expected: str) -> None:
    tokenizer = tokens(mask_token="<mask>", unk_token="<unk>", pad_token="<pad>")
    prompt = text_prompt("not bad", tokenizer, segments="word", removal=removal)
    assert prompt.write_all(np.array([[False, True]])) == [expected]
    if removal not in ("delete", "replace:"):
        assert prompt.description["replacement"] == expected.split()[0]


@pytest.mark.parametrize("removal", ["unknown", "pad", "mask"])
def test_a_tokenizer_without_the_token_is_refused(removal: str) -> None:
    with pytest.raises(InputError, match=r"token. Use removal=\"delete\""):
        text_prompt("a b", tokens(), segments="word", removal=removal)
    with pytest.raises(InputError, match="tokenizer"):
        text_prompt("a b", segments="word", removal=removal)


def test_resampling_draws_segments_of_the_reference_the_same_for_a_mask() -> None:
    prompt = resampled(suffix="Where?")
    first, again = prompt.write_all(SOME), prompt.write_all(SOME[::-1])[::-1]
    assert first == again
    pool = {"It rains.", "It is May.", "Cats sleep.", "Dogs bark.", "Birds sing."}
    assert first[0].startswith("Maria works at the bakery. ")
    middle = first[0].removeprefix("Maria works at the bakery. ")
    assert any(middle.startswith(sentence) for sentence in pool)
    assert prompt.write_all(np.ones((1, 3), bool)) == [f"{TEXT} Where?"]
    seeds = {tuple(resampled(seed).write_all(SOME)) for seed in range(5)}
    assert len(seeds) == 5
    assert prompt.description["pool"] == 5


def test_every_segment_of_the_pool_is_drawn_as_often() -> None:
    masks = np.zeros((1, 3), bool)
    drawn = [resampled(seed).write_all(masks)[0] for seed in range(2000)]
    for sentence in ("It rains.", "Birds sing."):
        share = np.mean([text.count(sentence) for text in drawn]) / 3
        assert share == pytest.approx(0.2, abs=0.025)  # five standard errors


def test_resampling_needs_a_reference() -> None:
    with pytest.raises(InputError, match=r"reference=\[...\]"):
        text_prompt(TEXT, removal="resample")
    with pytest.raises(InputError, match="reference"):
        text_prompt(TEXT, removal="resample", reference=[" "])


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_no_seed_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=rf"seed={seed} is not from 0"):
        resampled(seed)


def test_removal_by_attention_is_for_oracles_that_hide_tokens() -> None:
    hidden = text_prompt(TEXT, removal="attention", suffix="Where?")
    oracle = CausalOracle(hidden, FACTS, continuation="Oslo")
    deleted = CausalOracle(
        text_prompt(TEXT, suffix="Where?"), FACTS, continuation="Oslo"
    )
    both = np.vstack([np.ones((1, 3), bool), SOME])
    found, others = oracle.evaluate(both), deleted.evaluate(both)
    assert found[0] == pytest.approx(others[0], abs=1e-4)
    assert not np.allclose(found[1:], others[1:], atol=1e-3)
    with pytest.raises(InputError, match=r'hides tokens.*removal="delete"'):
        hidden.write_all(SOME)


def make(prompt: Any) -> CausalOracle:
    return CausalOracle(prompt, FACTS, continuation="Oslo")


def averaged(draws: int = 3) -> AveragedOracle:
    return AveragedOracle(make, [resampled(seed) for seed in range(draws)])


class TestAveragedOracle(OracleContract):
    def make_oracle(self) -> AveragedOracle:
        return averaged()


@pytest.mark.parametrize("draws", [2, 3])
def test_the_mean_over_draws_is_that_of_the_oracles_of_each(draws: int) -> None:
    masks = np.vstack([SOME, np.zeros((1, 3), bool), np.ones((1, 3), bool)])
    each = np.stack([make(resampled(s)).evaluate(masks) for s in range(draws)])
    oracle = averaged(draws)
    assert oracle.noise is None
    assert np.allclose(oracle.evaluate(masks), each.mean(axis=0), atol=1e-4)
    noise = np.sqrt((each.var(axis=0, ddof=1) / draws).mean(axis=0))
    assert np.allclose(oracle.noise, noise, atol=1e-4)
    assert each[:, -1].std() < 1e-5
    assert oracle.players == resampled().players
    assert oracle.description["draws"] == draws


def test_more_draws_have_less_noise() -> None:
    few, many = averaged(4), averaged(32)
    for oracle in (few, many):
        oracle.evaluate(SOME)
    assert few.noise is not None
    assert many.noise is not None
    ratio = float(few.noise[0] / many.noise[0])
    assert 1.4 < ratio < 5.6  # the square root of 8, from 9 degrees of freedom


def test_other_draws_are_another_fingerprint() -> None:
    seeds = [[0, 1], [0, 2], [0, 1, 2]]
    prints = {
        AveragedOracle(make, [resampled(s) for s in some]).fingerprint for some in seeds
    }
    assert len(prints) == 3


def test_draws_are_of_one_text() -> None:
    with pytest.raises(InputError, match="two or more"):
        AveragedOracle(make, [resampled()])
    other = text_prompt("a b", segments="word")
    with pytest.raises(InputError, match="same players"):
        AveragedOracle(make, [resampled(), other])


def test_a_drawn_prompt_numbers_its_draws() -> None:
    prompt = DrawnPrompt(tuple(resampled(seed) for seed in range(3)))
    rows = prompt.number(SOME)
    assert rows.shape == (9, 5)
    expected = [p.write_all(SOME[:1])[0] for p in prompt.prompts]
    assert prompt.write_all(rows)[:3] == expected
    assert len(prompt.players) == len(prompt.places) == 5


class Metered:
    """A `PaidOracle`: the length of each prompt, a few at a time, back to front."""

    outputs = ("length",)
    fingerprint = "metered"
    description: ClassVar = {"kind": "example"}

    def __init__(self, prompt: Any, fails_after: int) -> None:
        self.players, self.prompt = prompt.players, prompt
        self.fails_after, self.answered = fails_after, 0

    def check_affordable(self, masks: np.ndarray) -> None:
        if len(masks) > 50:
            raise InputError(f"{len(masks)} are too many")

    def evaluate(self, masks: np.ndarray) -> np.ndarray:
        return np.array([[float(len(text))] for text in self.prompt.write_all(masks)])

    def evaluate_each(
        self, masks: np.ndarray
    ) -> Generator[tuple[list[int], np.ndarray], None, None]:
        values, left = self.evaluate(masks), list(range(len(masks)))
        try:
            while left:
                if self.answered >= self.fails_after:
                    raise KeyboardInterrupt
                rows = [left.pop() for _ in range(min(4, len(left)))]
                self.answered += len(rows)
                yield rows, values[rows]
        except KeyboardInterrupt:
            rows = [left.pop() for _ in range(min(4, len(left)))]  # under way
            yield rows, values[rows]
            raise


def metered(fails_after: int = 99) -> AveragedOracle:
    prompts = [resampled(seed) for seed in range(3)]
    return AveragedOracle(lambda prompt: Metered(prompt, fails_after), prompts)


ALL = np.array([[i >> j & 1 for j in range(3)] for i in range(8)], dtype=bool)


def test_the_mean_of_a_paid_oracle_is_kept_as_its_draws_are_answered() -> None:
    whole = run(metered(), ALL).values
    each = [[len(t) for t in resampled(s).write_all(ALL)] for s in range(3)]
    assert np.allclose(whole[:, 0], np.mean(each, axis=0))
    with pytest.raises(InputError, match="60 are too many"):
        metered().check_affordable(np.zeros((20, 3), dtype=bool))


def test_masks_whose_draws_are_answered_outlive_a_stop(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(InterruptedRun) as stop:
            run(metered(fails_after=8), ALL, ledger=ledger)
        assert stop.value.done == 4  # 8 draws, and 4 under way
        known = ledger.read(metered().fingerprint, ALL)
        whole = run(metered(), ALL).values
        assert all(np.allclose(whole[row], value) for row, value in known.items())


def test_a_stop_between_answers_is_passed_on() -> None:
    answers = metered().evaluate_each(ALL)
    rows = list(next(answers)[0])
    rows += answers.throw(KeyboardInterrupt)[0]
    with pytest.raises(KeyboardInterrupt):
        next(answers)
    assert rows == [7, 6]
