"""The embedded default model: a small bilingual checkpoint in the ordinary Hugging Face format.

``training/embedded`` in the repository makes it; docs/embedded-model.md describes it.
"""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """Return the folder that holds the checkpoint: config, safetensors weights, tokenizer and generation defaults."""
    return Path(__file__).resolve().parent
