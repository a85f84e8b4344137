"""Figures of a load, as plain data."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lepton_service.load import LoadResult

PERCENTILES = (50, 90, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, between neighbours in proportion; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, percentiles and maximum of times, from seconds to milliseconds."""
    if not values:
        return {}
    figures = {"mean": sum(values) / len(values)}
    figures.update({f"p{percent}": percentile(values, percent) for percent in PERCENTILES})
    figures["max"] = max(values)
    return {name: value * 1000 for name, value in figures.items()}


def report(result: LoadResult) -> dict[str, Any]:
    """What a load showed: counts, rates a second, and latencies in milliseconds."""
    good = [sample for sample in result.samples if not sample.error]
    generated = sum(sample.output_tokens for sample in good)
    prompts = sum(sample.prompt_tokens for sample in good)
    messages = sum(sample.messages for sample in good)
    seconds = result.seconds or 1e-9
    return {
        "requests": len(result.samples),
        "failed": len(result.samples) - len(good),
        "errors": dict(Counter(sample.error for sample in result.samples if sample.error)),
        "seconds": result.seconds,
        "prompt_tokens": prompts,
        "generated_tokens": generated,
        "messages": messages,
        "requests_per_second": len(good) / seconds,
        "generated_tokens_per_second": generated / seconds,
        "total_tokens_per_second": (generated + prompts) / seconds,
        "client_cpu_seconds": result.client_cpu_seconds,
        "client_cpu_share": result.client_cpu_seconds / seconds,
        "time_to_first_token_ms": spread([s.first_token for s in good if s.first_token is not None]),
        "inter_token_latency_ms": spread([gap for sample in good for gap in sample.gaps]),
        "request_latency_ms": spread([sample.total for sample in good]),
    }
