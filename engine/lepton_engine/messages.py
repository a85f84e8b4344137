"""What goes between the engine's front door and its loop, whichever way it is carried."""

import msgspec

from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings, SpeculationSettings
from lepton_engine.core.events import Event
from lepton_engine.sampling_params import SamplingParams


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the loop's side needs to start: the checkpoint's folder and the settings of its parts.

    Attributes:
        tokenizer: folder of the tokenizer, which grammars need; empty where it lies beside the model.
        tokenizer_json: the tokenizer itself, as `tokenizers` writes it, where it was loaded from no folder.
    """

    model: str
    model_settings: ModelSettings
    cache: CacheSettings
    scheduler: SchedulerSettings
    speculation: SpeculationSettings | None = None
    tokenizer: str = ""
    tokenizer_json: str = ""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is loaded.

    Attributes:
        max_model_len: tokens of prompt and output together. kv_cache_bytes, weight_bytes: in bytes.
        eos_token_ids: the tokens that end an output by default.
        default_sampling: fields of `SamplingParams` that the checkpoint's generation_config.json sets.
        load_seconds: from start until ready. max_queue_time: bound of the time that a request waits, in seconds.
        quantization: scheme of the weights, or the method by which the checkpoint
            is quantised; empty for plain ones.
    """

    family: str
    dtype: str
    device: str
    max_model_len: int
    vocab_size: int
    num_parameters: int
    weight_bytes: int
    block_size: int
    num_kv_blocks: int
    kv_cache_bytes: int
    max_num_seqs: int
    max_num_batched_tokens: int
    eos_token_ids: list[int]
    default_sampling: dict[str, int | float]  # `float` alone would make a float of top_k on its way
    load_seconds: float
    quantization: str = ""
    max_queue_time: float | None = None


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's counters and gauges at one moment; counters count from its start.

    Attributes:
        num_running, num_waiting: sequences; at most max_num_seqs run. waiting_tokens: prompt tokens of the waiting.
        num_finished, num_aborted, num_failed: requests that have ended well, by abort or a deadline, by error.
        num_rejected: refused for want of capacity. rejected_*: refused for each reason, tenants' limits included.
        num_preemptions: sequences that lost their blocks and computed them again.
        prompt_tokens: of admitted prompts. prefix_query_tokens, prefix_hit_tokens: of those, looked up and found.
        computed_tokens: tokens that went through the model, recomputation included.
        energy_joules, attributed_joules: counted by the device's meter, and of those given to requests; None where they
            are not measured. energy_source: which counter it is, empty for none.
        drafted_tokens, accepted_tokens: proposed by speculation, and of those the ones that came true.
        kv_blocks_*: of all groups; referenced ones are held by sequences, cached ones can be hit by a prefix.
        *_tokens_per_second: over the last ten seconds. mean_request_seconds: from first scheduling to the end, over
            the last requests; None before the first. step_seconds, uptime: in seconds.
    """

    num_running: int
    num_waiting: int
    waiting_tokens: int
    max_num_seqs: int
    num_finished: int
    num_aborted: int
    num_failed: int
    num_rejected: int
    num_preemptions: int
    prompt_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    computed_tokens: int
    generated_tokens: int
    kv_blocks_total: int
    kv_blocks_free: int
    kv_blocks_referenced: int
    kv_blocks_cached: int
    block_size: int
    num_steps: int
    step_seconds: float
    prompt_tokens_per_second: float
    generated_tokens_per_second: float
    mean_request_seconds: float | None
    uptime: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rejected_queue_full: int = 0
    rejected_queue_timeout: int = 0
    rejected_deadline: int = 0
    rejected_tenant_concurrency: int = 0
    rejected_tenant_queue: int = 0
    rejected_tenant_rate: int = 0
    energy_joules: float | None = None
    attributed_joules: float | None = None
    energy_source: str = ""


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run a request. Submitting a key that is known already does nothing, so a message may be repeated.

    Attributes:
        key: unique over all clients. request_id: the client's name for it, in use once at a time within a tenant; empty
            for none. max_tokens: resolved; 0 only scores the prompt.
        deadline, time_limit: seconds from now; the request fails, or ends with what it has, when they have passed.
        max_queue_time: seconds that it may wait before it begins to run.
    """

    key: str
    request_id: str = ""
    prompt_token_ids: list[int]
    params: SamplingParams
    seed: int
    max_tokens: int
    stop_token_ids: list[int]
    bad_word_ids: list[list[int]]
    priority: int = 0
    tenant: str = ""
    adapter: str = ""
    deadline: float | None = None
    time_limit: float | None = None
    max_queue_time: float | None = None


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End a request, or one of its sequences, at the next step boundary; unknown keys are passed over."""

    key: str
    index: int | None = None
    reason: str = "abort"


class Query(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Ask for the statistics and, if wanted, for the result of the integrity check."""

    number: int
    integrity: bool = False


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """The client is alive; the requests of one that is silent for long are ended."""


class DropClient(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A client has gone, says who started it: its requests end at once."""

    client: str


Command = Submit | Abort | Query | Heartbeat | DropClient


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The model is loaded and requests can come."""

    info: ModelInfo


class Dead(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The engine could not start, or its loop has ended. kind is the name of a class in `lepton_engine.errors`."""

    kind: str
    message: str


class Admitted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A request is queued; before this it may still be refused. One whose time in the queue is bounded may be refused
    until it has `Started`, and so that comes instead."""

    key: str


class Answer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """To the query of that number. problems is empty when the state is sound, or was not asked for."""

    number: int
    stats: EngineStats
    problems: list[str]


Reply = Ready | Dead | Admitted | Answer | Event
Replies = list[Reply]
