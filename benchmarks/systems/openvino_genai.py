"""OpenVINO GenAI's ContinuousBatchingPipeline over a checkpoint exported by optimum-intel; prompts are tensors."""

from pathlib import Path
from typing import Any

from benchmarks.systems.environments import Peer
from benchmarks.works import Work

PEER = Peer(
    "openvino-genai",
    "openvino_genai",
    ("openvino-genai>=2026.4,<2027", "optimum-intel[openvino]>=2.2,<3"),
    {"bf16": "16-bit", "int8": "int8", "int4": "int4-g64"},
)
CACHE_GIB = 2
BATCHED_TOKENS = 512


def convert(source: str, target: str, weights: str) -> None:
    """See `Peer`: the model in OpenVINO's IR, and a tokenizer that the pipeline asks for and prompts never see."""
    import transformers
    from openvino import save_model
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    options: dict[str, Any] = {"load_in_8bit": False}
    if weights == "int8":
        options = {"quantization_config": OVWeightQuantizationConfig(bits=8)}
    elif weights == "int4-g64":
        options = {"quantization_config": OVWeightQuantizationConfig(bits=4, sym=True, group_size=64, ratio=1.0)}
    model = OVModelForCausalLM.from_pretrained(source, export=True, compile=False, **options)
    model.save_pretrained(target)
    words = Path(target) / "words"
    words.mkdir()
    _byte_tokenizer(words)
    pair = convert_tokenizer(transformers.PreTrainedTokenizerFast.from_pretrained(words), with_detokenizer=True)
    for name, part in zip(("openvino_tokenizer", "openvino_detokenizer"), pair, strict=True):
        save_model(part, Path(target) / f"{name}.xml")


def _byte_tokenizer(folder: Path) -> None:
    import tokenizers
    import transformers

    pre = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    vocabulary["ab"] = len(vocabulary)  # The conversion asks for at least one merge and one special token.
    words = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("a", "b")]))
    words.pre_tokenizer = pre
    words.decoder = tokenizers.decoders.ByteLevel()
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)


class OpenVino:
    """One pipeline with prefix caching."""

    def __init__(self, folder: Path, threads: int, precision: str) -> None:
        import numpy as np
        import openvino
        import openvino_genai as api

        self._api, self._np, self._tensor = api, np, openvino.Tensor
        scheduler = api.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.max_num_batched_tokens = BATCHED_TOKENS
        scheduler.enable_prefix_caching = True
        properties = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        self._pipeline = api.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`."""
        configs = []
        for count in work.outputs:
            config = self._api.GenerationConfig()
            config.max_new_tokens = config.min_new_tokens = count
            config.ignore_eos = True
            config.do_sample = False
            configs.append(config)
        prompts = [self._tensor(self._np.array([prompt], dtype=self._np.int64)) for prompt in work.prompts]
        results = self._pipeline.generate(prompts, configs)
        made = sum(len(result.m_generation_ids[0]) for result in results)
        if made != work.generated:
            raise RuntimeError(f"{made} tokens came, {work.generated} were asked for")
        return {}


def make(folder: str, threads: int, precision: str = "bf16") -> OpenVino:
    """See `SystemProcess`."""
    return OpenVino(Path(folder), threads, precision)
