"""What is known of the model to the contract's Model."""

from lepton.v1.model_pb2 import Capability, Limits, Model, ModelState
from lepton.v1.sampling_pb2 import SamplingParams
from lepton_engine import sampling_params
from lepton_engine.messages import ModelInfo
from lepton_service.converters.durations import to_duration


def limits(max_request_bytes: int, max_stream_seconds: float | None) -> Limits:
    """The bounds of a request."""
    message = Limits(
        max_n=sampling_params.MAX_N,
        max_logit_bias=sampling_params.MAX_LOGIT_BIAS,
        max_bad_words=sampling_params.MAX_BAD_WORDS,
        max_stop_strings=sampling_params.MAX_STOP_STRINGS,
        max_stop_token_ids=sampling_params.MAX_STOP_TOKEN_IDS,
        max_logprobs=sampling_params.MAX_LOGPROBS,
        max_request_bytes=max_request_bytes,
    )
    if max_stream_seconds is not None:
        message.max_stream_time.CopyFrom(to_duration(max_stream_seconds))
    return message


def model(name: str, state: ModelState.ValueType, info: ModelInfo | None, has_template: bool, bounds: Limits) -> Model:
    """A model as the contract describes it; `info` is None while it loads."""
    message = Model(name=name, state=state)
    if info is None:
        return message
    message.family = info.family
    message.dtype = info.dtype
    message.quantization = info.quantization
    message.device = info.device
    message.vocabulary_size = info.vocab_size
    message.context_length = info.max_model_len
    message.parameters = info.num_parameters
    message.capabilities.extend([Capability.CAPABILITY_GENERATE, Capability.CAPABILITY_SCORE])
    if has_template:
        message.capabilities.append(Capability.CAPABILITY_CHAT)
    message.limits.CopyFrom(bounds)
    if info.max_queue_time is not None:
        message.limits.max_queue_time.CopyFrom(to_duration(info.max_queue_time))
    known = SamplingParams.DESCRIPTOR.fields_by_name
    for name, value in info.default_sampling.items():
        if name in known:
            setattr(message.default_sampling, name, value)
    return message
