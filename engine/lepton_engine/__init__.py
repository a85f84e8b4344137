"""Lepton's inference engine: continuous batching over a paged KV cache.

from lepton_engine import LeptonEngine, SamplingParams

with LeptonEngine("path/to/checkpoint") as engine:
    print(engine.generate("Once upon a time", SamplingParams(max_tokens=32))[0].outputs[0].text)
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton_engine.config import SpeculationSettings
    from lepton_engine.engine import AsyncLeptonEngine, LeptonEngine
    from lepton_engine.outputs import CompletionOutput, RequestOutput, ScoreOutput
    from lepton_engine.sampling_params import OutputKind, SamplingParams
    from lepton_engine.structured_outputs import StructuredOutputs

__all__ = [
    "AsyncLeptonEngine",
    "CompletionOutput",
    "LeptonEngine",
    "OutputKind",
    "RequestOutput",
    "SamplingParams",
    "ScoreOutput",
    "SpeculationSettings",
    "StructuredOutputs",
]

_MODULES = {
    "AsyncLeptonEngine": "engine",
    "CompletionOutput": "outputs",
    "LeptonEngine": "engine",
    "OutputKind": "sampling_params",
    "RequestOutput": "outputs",
    "SamplingParams": "sampling_params",
    "ScoreOutput": "outputs",
    "SpeculationSettings": "config",
    "StructuredOutputs": "structured_outputs",
}


# torch's idle threads (GNU OpenMP) spin for some 6 ms before they sleep. On cores shared with other work the system
# then takes the cores from them, and each operation waits for the thread that lost its: seen, 30 operations a second
# instead of 2,000. A fraction of a millisecond bridges the gaps within a step. Read when torch is loaded; whoever set
# either variable means it.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a gRPC front end answers health before it needs tokenizers and templates."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
