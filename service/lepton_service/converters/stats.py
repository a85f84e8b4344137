"""The engine's figures to the contract's Stats."""

from lepton.v1.stats_pb2 import Rejections, Stats
from lepton_engine.messages import EngineStats
from lepton_service.converters.durations import to_duration, to_timestamp


def stats(
    figures: EngineStats | None, *, model: str, now: float, started: float, loading: bool, draining: bool, restarts: int
) -> Stats:
    """The figures of one moment.

    Args:
        figures: None while the model loads.
        now, started: seconds since the epoch. restarts: of the engine.
    """
    message = Stats(
        model=model,
        time=to_timestamp(now),
        start_time=to_timestamp(started),
        uptime=to_duration(now - started),
        loading=loading,
        draining=draining,
        engine_restarts=restarts,
    )
    if figures is None:
        return message
    message.running = figures.num_running
    message.waiting = figures.num_waiting
    message.waiting_tokens = figures.waiting_tokens
    message.max_running = figures.max_num_seqs
    message.rejected = figures.num_rejected
    message.finished = figures.num_finished
    message.aborted = figures.num_aborted
    message.failed = figures.num_failed
    message.preemptions = figures.num_preemptions
    message.kv_blocks_total = figures.kv_blocks_total
    message.kv_blocks_free = figures.kv_blocks_free
    message.kv_blocks_referenced = figures.kv_blocks_referenced
    message.kv_blocks_cached = figures.kv_blocks_cached
    message.kv_block_size = figures.block_size
    message.prompt_tokens = figures.prompt_tokens
    message.generated_tokens = figures.generated_tokens
    message.prefix_query_tokens = figures.prefix_query_tokens
    message.prefix_hit_tokens = figures.prefix_hit_tokens
    message.prompt_tokens_per_second = figures.prompt_tokens_per_second
    message.generated_tokens_per_second = figures.generated_tokens_per_second
    if figures.mean_request_seconds is not None:
        message.mean_service_time.CopyFrom(to_duration(figures.mean_request_seconds))
    message.steps = figures.num_steps
    message.rejections.CopyFrom(
        Rejections(
            queue_full=figures.rejected_queue_full,
            queue_timeout=figures.rejected_queue_timeout,
            deadline_unattainable=figures.rejected_deadline,
            tenant_concurrency=figures.rejected_tenant_concurrency,
            tenant_queue_full=figures.rejected_tenant_queue,
            tenant_token_rate=figures.rejected_tenant_rate,
        )
    )
    if figures.energy_joules is not None:
        message.energy_joules = figures.energy_joules
    if figures.attributed_joules is not None:
        message.request_joules = figures.attributed_joules
    return message
