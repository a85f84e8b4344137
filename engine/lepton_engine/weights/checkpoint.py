"""A checkpoint: its configuration and its tensors, from a folder or from a loaded module."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lepton_engine.errors import InvalidRequestError, ModelLoadError
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.weights.files import TensorFiles, open_tensor_files

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OLD_QUANTIZATION_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
SPARSITY_FIELD = "weight_sparsity"
"""Field of config.json that `lepton prune` writes: "2:4", or the share of zeros."""
SAMPLING_DEFAULTS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class Checkpoint:
    """What a model is made from.

    Attributes:
        origin: where it comes from, for messages. config: the fields of config.json.
    """

    def __init__(
        self,
        origin: str,
        config: Mapping[str, Any],
        generation_config: Mapping[str, Any],
        tensors: TensorFiles | Mapping[str, torch.Tensor],
    ) -> None:
        self.origin = origin
        self.config = config
        self._generation_config = generation_config
        self._tensors = tensors

    @property
    def model_type(self) -> str:
        """The family's name."""
        return str(self.config.get("model_type"))

    @property
    def quantization_method(self) -> str:
        """By which the checkpoint is quantised; empty for plain ones."""
        own = self.config.get("quantization_config")
        return str(own.get("quant_method", "")) if isinstance(own, Mapping) else ""

    @property
    def pruned_two_of_four(self) -> bool:
        """Whether config.json says that the weights of the linear layers are pruned 2:4."""
        return self.config.get(SPARSITY_FIELD) == "2:4"

    @property
    def dtype(self) -> torch.dtype:
        """Of the stored weights: `dtype` (transformers 5), `torch_dtype` (transformers 4), else the first tensor's."""
        said = self.config.get("dtype") or self.config.get("torch_dtype") or self._stored_dtype()
        name = str(said).removeprefix("torch.")
        if name not in DTYPES:
            raise ModelLoadError(f"config.json: dtype is {name!r}, known are {', '.join(DTYPES)}")
        return DTYPES[name]

    def _stored_dtype(self) -> torch.dtype:
        tensors = (self.tensor(name) for name in self._tensors)
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)

    @property
    def eos_token_ids(self) -> list[int]:
        """The tokens that end an output: generation_config.json's, else config.json's."""
        for name, source in (("generation_config.json", self._generation_config), ("config.json", self.config)):
            value = source.get("eos_token_id")
            if value is None:
                continue
            ids = value if isinstance(value, list) else [value]
            if any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
                raise ModelLoadError(f"{name}: eos_token_id is {value!r}, a token id or a list of such is needed")
            return ids
        return []

    @property
    def default_sampling(self) -> dict[str, int | float]:
        """Sampling fields that generation_config.json sets; it asks for greedy decoding by `do_sample: false`.

        Raises:
            ModelLoadError: a value that no request could have.
        """
        found: dict[str, int | float] = {}
        for name in SAMPLING_DEFAULTS:
            value = self._generation_config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ModelLoadError(f"generation_config.json: {name} is {value!r}, a number is needed")
            found[name] = value
        if self._generation_config.get("do_sample") is False:
            found["temperature"] = 0.0
        try:
            SamplingParams(**found)  # type: ignore[arg-type]
        except InvalidRequestError as error:
            raise ModelLoadError(f"generation_config.json: {error.field.rpartition('.')[2]}: {error.reason}") from error
        return found

    def names(self) -> set[str]:
        """Names of the stored tensors."""
        return set(self._tensors.keys())

    def tensor(self, name: str) -> torch.Tensor:
        """A stored tensor, on the CPU (or wherever a loaded module has it).

        Raises:
            ModelLoadError: the file that holds it is damaged.
        """
        return self._tensors[name]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a folder; the tensors are read when they are asked for.

    Raises:
        ModelLoadError: a file is missing or damaged; the message names it.
    """
    folder = Path(path)
    config = _read_json(folder / "config.json", required=True)
    if not config.get("quantization_config"):
        # Where the first programs that wrote GPTQ and AWQ checkpoints put it.
        for name, method in OLD_QUANTIZATION_FILES.items():
            if own := _read_json(folder / name, required=False):
                config["quantization_config"] = {"quant_method": method, **own}
    generation_config = _read_json(folder / "generation_config.json", required=False)
    return Checkpoint(str(folder), config, generation_config, open_tensor_files(folder))


def from_module(module: Any) -> Checkpoint:
    """A loaded `transformers` module as a checkpoint; its tensors are used as they are."""
    if not hasattr(module, "config") or not hasattr(module, "state_dict"):
        raise ModelLoadError(f"model: {type(module).__name__} is neither a path nor a transformers module")
    config = dict(module.config.to_dict())
    config.setdefault("architectures", None)
    config["architectures"] = [type(module).__name__]
    tensors = module.state_dict()
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        config["dtype"] = str(dtypes.pop()).removeprefix("torch.")
    generation = getattr(module, "generation_config", None)
    return Checkpoint(type(module).__name__, config, dict(generation.to_dict()) if generation else {}, tensors)


def _read_json(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.exists() and not required:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path}: holds no mapping")
    return value
