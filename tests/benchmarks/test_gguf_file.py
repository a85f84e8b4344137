import json
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.systems import gguf_file


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.11.self_attn.q_proj.weight", "blk.11.attn_q.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
    ],
)
def test_names(ours: str, theirs: str) -> None:
    assert gguf_file.gguf_name(ours) == theirs


def test_interleaved_rows_turn_as_halves_do() -> None:
    """Scores of interleaved pairs under llama.cpp's rotation equal those of halves under Hugging Face's."""
    rng = np.random.default_rng(0)
    heads, dim, columns, position = 2, 8, 5, 3.0
    query, key = rng.normal(size=(2, heads * dim, columns))
    x = rng.normal(size=columns)
    angles = position * 10000.0 ** -(np.arange(dim // 2) / (dim // 2))
    cos, sin = np.cos(angles), np.sin(angles)

    def halves(weight: np.ndarray) -> np.ndarray:
        a, b = np.split((weight @ x).reshape(heads, dim), 2, axis=1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)

    def pairs(weight: np.ndarray) -> np.ndarray:
        turned = (gguf_file.interleave(weight, heads) @ x).reshape(heads, dim // 2, 2)
        a, b = turned[..., 0], turned[..., 1]
        return np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(heads, dim)

    plain = (key @ x).reshape(heads, dim)
    paired = (gguf_file.interleave(key, heads) @ x).reshape(heads, dim)
    np.testing.assert_allclose((halves(query) * plain).sum(1), (pairs(query) * paired).sum(1))


def test_reads_bfloat16_and_nothing_else(tmp_path: Path) -> None:
    def file(dtype: str) -> Path:
        header = json.dumps({"a": {"dtype": dtype, "shape": [2, 1], "data_offsets": [0, 4]}}).encode()
        path = tmp_path / dtype
        path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2H", 0x3F80, 0x4000))
        return path

    (tensor,) = gguf_file.read_bfloat16(file("BF16")).values()
    assert tensor.tolist() == [[0x3F80], [0x4000]]
    with pytest.raises(ValueError, match="F16, not BF16"):
        gguf_file.read_bfloat16(file("F16"))
