"""Lepton's inference engine: continuous batching over a paged KV cache.

from lepton_engine import LeptonEngine, SamplingParams

with LeptonEngine("path/to/checkpoint") as engine:
    print(engine.generate("Once upon a time", SamplingParams(max_tokens=32))[0].outputs[0].text)
"""

from lepton_engine.engine import AsyncLeptonEngine, LeptonEngine
from lepton_engine.outputs import CompletionOutput, RequestOutput, ScoreOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams

__all__ = [
    "AsyncLeptonEngine",
    "CompletionOutput",
    "LeptonEngine",
    "OutputKind",
    "RequestOutput",
    "SamplingParams",
    "ScoreOutput",
]
