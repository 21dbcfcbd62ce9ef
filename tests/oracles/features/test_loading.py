"""What cannot be loaded whole is refused, and says what to do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from oracles import ModelError
from oracles.features import ClassifierOracle, load_model
from oracles.features.prompts.prompt import text_prompt


@pytest.fixture
def copy(classifier: str, tmp_path: Path) -> Path:
    """The random classifier's folder, to be damaged."""
    return Path(shutil.copytree(classifier, tmp_path / "model"))


def change_config(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_missing_tokenizer_is_not_made_up(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_model(str(copy))


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    kept = {name: w for name, w in weights.items() if "classifier" not in name}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias"):
        load_model(str(copy))
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(str(copy))


def test_a_damaged_file_is_named(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(copy))


def test_a_models_own_code_is_never_run_nor_asked_about(copy: Path) -> None:
    """In its own process, which would hang if it were asked on a terminal."""
    (copy / "evil.py").write_text("raise SystemExit('the code ran')")
    change_config(copy, model_type="new", auto_map={"AutoConfig": "evil.Config"})
    code = (
        "import sys; from oracles import ModelError\n"
        "from oracles.features import load_model\n"
        "try: load_model(sys.argv[1])\n"
        "except ModelError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, input="y\n")
    assert "custom code" in done.stdout
    assert "[y/N]" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float99"}, "float32, bfloat16"),
        ({"dtype": "int8"}, "float32, bfloat16"),
        ({"device": "gpu"}, "Use cpu"),
        ({"device": "cuda:99"}, "Use cpu"),
    ],
)
def test_devices_and_types_that_are_not_there_are_refused(
    classifier: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(classifier, **settings)


def test_loading_is_quiet_and_leaves_the_settings_alone(
    classifier: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = transformers.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    load_model(classifier)
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_a_digest_is_of_what_the_model_computes_not_of_where_it_lies(
    classifier: str, copy: Path
) -> None:
    plain = load_model(classifier).digest
    assert load_model(str(copy)).digest == plain
    assert load_model(classifier, dtype="bfloat16").digest != plain
    change_config(copy, hidden_act="relu")
    assert load_model(str(copy)).digest != plain


def test_a_tokenizer_that_cuts_otherwise_is_another_digest(copy: Path) -> None:
    plain = load_model(str(copy)).digest
    path = copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(tokenizer))
    assert load_model(str(copy)).digest != plain


def test_positions_kept_for_padding_are_not_read(copy: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(copy)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
    )
    folder = tmp_path / "roberta"
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder))
    assert loaded.max_tokens == 32
    text = " ".join("a" * 16)  # 31 tokens: letters and spaces
    oracle = ClassifierOracle(text_prompt(text, segments="word"), loaded)
    values = oracle.evaluate(torch.ones(1, 16).bool().numpy())
    assert values.shape == (1, 1)
