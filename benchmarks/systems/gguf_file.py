"""A Llama checkpoint of ours as a GGUF file, for llama.cpp. Runs in its environment: numpy and `gguf`, no torch.

Names and the order of rows are those of the GGUF specification and of llama.cpp's `llama` architecture, whose rotary
embedding turns neighbouring pairs where Hugging Face's turns halves: rows of the query and key weights are interleaved.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    """llama.cpp's name of a Hugging Face tensor."""
    base = name.removesuffix(".weight")
    if base in OUTER:
        return OUTER[base] + ".weight"
    layer, _, rest = base.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{NAMES[rest]}.weight"


def interleave(weight: "np.ndarray[Any, Any]", heads: int) -> "np.ndarray[Any, Any]":
    """Rows (heads * head_dim, n) from halves to neighbouring pairs within each head."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_bfloat16(file: Path) -> "dict[str, np.ndarray[Any, Any]]":
    """Tensors of a safetensors file of bfloat16, as uint16."""
    raw = np.memmap(file, dtype=np.uint8, mode="r")
    (length,) = struct.unpack("<Q", raw[:8].tobytes())
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + length].tobytes()).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            raise ValueError(f"{name} is {entry['dtype']}, not BF16")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = raw[begin:end].view(np.uint16).reshape(entry["shape"])
    return tensors


def write(source: Path, target: Path) -> None:
    """The GGUF file of a checkpoint folder: matrices in bfloat16, norms in float32, no vocabulary."""
    import gguf

    config = json.loads((source / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name(source.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for file in sorted(source.glob("*.safetensors")):
        for name, tensor in read_bfloat16(file).items():
            if name == "lm_head.weight" and config["tie_word_embeddings"]:
                continue
            if tensor.ndim == 1:
                writer.add_tensor(gguf_name(name), (tensor.astype(np.uint32) << 16).view(np.float32))
                continue
            if ".q_proj." in name or ".k_proj." in name:
                tensor = interleave(tensor, heads if ".q_proj." in name else kv_heads)
            data = np.ascontiguousarray(tensor).view(np.uint8)
            writer.add_tensor(gguf_name(name), data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
