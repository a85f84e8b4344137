"""Sampled tokens on their way from the device to the host."""

from dataclasses import dataclass

import torch

from lepton_engine.core.events import TokenLogprobs


@dataclass(frozen=True, slots=True)
class HostSamples:
    """Sampled tokens on the host.

    Attributes:
        token_ids: one per row. invalid: whether the row's logits allowed no token.
    """

    token_ids: list[int]
    invalid: list[bool]
    _logprobs: list[float] | None
    _ranks: list[int] | None
    _top_ids: list[list[int]] | None
    _top_logprobs: list[list[float]] | None

    def entry(self, row: int, logprobs: int | None) -> TokenLogprobs | None:
        """The row's log-probabilities with that many of the most likely tokens; None if none are wanted."""
        if logprobs is None or self._logprobs is None or self._ranks is None:
            return None
        top_ids = self._top_ids[row][:logprobs] if self._top_ids is not None else []
        top = self._top_logprobs[row][:logprobs] if self._top_logprobs is not None else []
        return TokenLogprobs(self._logprobs[row], self._ranks[row], top_ids, top)


class SampledTokens:
    """One token per row, on the device; on CUDA copies to pinned host memory are under way.

    Attributes:
        token_ids: int64 [R]. invalid: bool [R], rows whose logits allowed no token (NaN, +inf, or all -inf); their
            token is 0.
        logprobs: float32 [R], rank: int64 [R], of the sampled token in the model's own distribution; None if no row
            wants them, undefined in rows that do not.
        top_ids, top_logprobs: int64 and float32 [R, K], best first, K the most that any row wants; None for K = 0.
    """

    def __init__(
        self,
        token_ids: torch.Tensor,
        invalid: torch.Tensor,
        logprobs: torch.Tensor | None = None,
        rank: torch.Tensor | None = None,
        top_ids: torch.Tensor | None = None,
        top_logprobs: torch.Tensor | None = None,
    ) -> None:
        self.token_ids = token_ids
        self.invalid = invalid
        self.logprobs = logprobs
        self.rank = rank
        self.top_ids = top_ids
        self.top_logprobs = top_logprobs
        self._host = [_to_pinned(t) for t in (token_ids, invalid, logprobs, rank, top_ids, top_logprobs)]
        self._copied: torch.cuda.Event | None = None
        if token_ids.device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(token_ids.device))

    def to_host(self) -> HostSamples:
        """Wait for the copies, the sampler's only synchronisation."""
        if self._copied is not None:
            self._copied.synchronize()
        return HostSamples(*(None if tensor is None else tensor.tolist() for tensor in self._host))  # type: ignore[arg-type]


def _to_pinned(tensor: torch.Tensor | None) -> torch.Tensor | None:
    if tensor is None or tensor.device.type != "cuda":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
