"""Writes the embedded model `facts` as the file that llama.cpp reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from oracles.embedded import EMBEDDED_MODELS

CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
LAYER_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}


def write_gguf(path: Path, starts_with_bos: bool) -> None:
    """The model in float32, with a chat template that joins the messages."""
    import gguf  # comes with the extra `llama`

    folder = EMBEDDED_MODELS["facts"]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "gptneox")
    _write_sizes(writer, config)
    _write_tokenizer(writer, folder, starts_with_bos)
    weights = load_file(folder / "model.safetensors")
    for name, value in weights.items():
        value = value.astype(np.float32)
        if "query_key_value" in name:
            value = _by_kind(value, config["num_attention_heads"])
        writer.add_tensor(_renamed(name), value)
    embedding = weights["gpt_neox.embed_in.weight"].astype(np.float32)
    writer.add_tensor("output.weight", embedding)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: Any, config: dict) -> None:
    rope = config["rope_parameters"]
    width = config["hidden_size"] // config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_parallel_residual(config["use_parallel_residual"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * width))
    writer.add_rope_freq_base(rope["rope_theta"])


def _write_tokenizer(writer: Any, folder: Path, starts_with_bos: bool) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    control = {"<pad>", "<s>", "</s>", "<unk>"}
    import gguf

    normal, special = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([special if w in control else normal for w in words])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(model["vocab"]["<s>"])
    writer.add_eos_token_id(model["vocab"]["</s>"])
    writer.add_pad_token_id(model["vocab"]["<pad>"])
    writer.add_add_bos_token(starts_with_bos)
    writer.add_chat_template(CHAT)


def _by_kind(value: np.ndarray, heads: int) -> np.ndarray:
    """Queries of all heads, then keys, then values; Hugging Face goes head by head."""
    rest = value.shape[1:]
    split = value.reshape(heads, 3, -1, *rest)
    return split.swapaxes(0, 1).reshape(-1, *rest)


def _renamed(name: str) -> str:
    outer = {
        "gpt_neox.embed_in.weight": "token_embd.weight",
        "gpt_neox.final_layer_norm.weight": "output_norm.weight",
        "gpt_neox.final_layer_norm.bias": "output_norm.bias",
    }
    if name in outer:
        return outer[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{LAYER_PARTS[part]}.{kind}"
