"""Which reader a checkpoint needs."""

from collections.abc import Collection, Mapping
from typing import Any

from lepton_engine.errors import InvalidRequestError, ModelLoadError, UnsupportedModelError
from lepton_engine.quantization.awq import AWQReader
from lepton_engine.quantization.compressed_tensors import CompressedTensorsReader
from lepton_engine.quantization.gptq import GPTQReader
from lepton_engine.quantization.on_load import QuantizeOnLoad
from lepton_engine.quantization.reader import WeightReader
from lepton_engine.quantization.scheme import Scheme

METHODS = ("awq", "compressed-tensors", "gptq")


def open_reader(config: Mapping[str, Any], stored: Collection[str], wanted: Scheme | None) -> WeightReader | None:
    """The reader of a checkpoint's quantised weights; None where all are plain and stay so.

    Args:
        config: config.json. stored: names of the tensors. wanted: how plain weights are to be quantised.

    Raises:
        InvalidRequestError: weights are to be quantised that are so already.
        UnsupportedModelError: the checkpoint is quantised in a way that is not read here.
        ModelLoadError: `quantization_config` is damaged.
    """
    own = config.get("quantization_config")
    if not own:
        return None if wanted is None else QuantizeOnLoad(wanted)
    if not isinstance(own, Mapping):
        raise ModelLoadError(f"config.json: quantization_config is {own!r}, a mapping is needed")
    method = own.get("quant_method")
    if wanted is not None:
        raise InvalidRequestError(
            "quantization",
            f"{wanted.name!r} is asked for, but the checkpoint is quantised already ({method}); leave it out",
        )
    if method == "awq":
        return AWQReader.open(own, stored)
    if method == "gptq":
        return GPTQReader.open(own, stored)
    if method in ("compressed-tensors", "compressed_tensors"):
        return CompressedTensorsReader.open(own, stored)
    raise UnsupportedModelError(
        f"config.json: quantization_config.quant_method is {method!r}, one of {', '.join(METHODS)} is needed"
    )
