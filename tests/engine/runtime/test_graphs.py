"""Buckets, padding and what is sent to the device, with graphs that call instead of replaying."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lepton_engine.build import build_core
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
from lepton_engine.core.events import Failed, NewTokens
from lepton_engine.messages import EngineSettings, Submit
from lepton_engine.runtime.graphs import CallGraph, bucket_sizes, estimate
from lepton_engine.runtime.runner import Runner
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.step import EngineCore

MOST = 11


@pytest.mark.parametrize("most", [1, 2, 3, 8, 9, 16, 17, 100, 256, 257, 1000])
def test_buckets(most: int) -> None:
    sizes = bucket_sizes(most)
    assert sizes[-1] == most
    assert sizes[0] == 1
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) <= 32
    padding = {count: next(size for size in sizes if size >= count) - count for count in range(1, most + 1)}
    assert all(waste < max(8, count / 3) for count, waste in padding.items())


def test_the_estimate_of_memory_counts_the_smaller_graphs_by_the_second() -> None:
    assert estimate([1000, 700, 650], 5) == 300 + 4 * 50
    assert estimate([1000, 700, 720], 5) == 300
    assert estimate([1000, 1000, 1000], 1) == 0


class Recorder:
    """Graphs that count their replays by the order of their capture, and refuse to be captured twice."""

    def __init__(self) -> None:
        self.made = 0
        self.replays: Counter[int] = Counter()

    def new(self) -> CallGraph:
        recorder, number = self, self.made
        self.made += 1

        class Counted(CallGraph):
            def replay(self) -> None:
                recorder.replays[number] += 1
                super().replay()

        return Counted()


def core_over(folder: Path, *, overlap: bool) -> EngineCore:
    torch.set_num_threads(1)
    return build_core(
        EngineSettings(
            model=str(folder),
            model_settings=ModelSettings(device="cpu", num_threads=1),
            cache=CacheSettings(memory=1 << 20, block_size=4),
            scheduler=SchedulerSettings(max_num_seqs=MOST, max_num_batched_tokens=32, overlap=overlap),
        )
    )


def runner_of(core: EngineCore) -> Runner:
    runner = core._runner
    assert isinstance(runner, Runner)
    return runner


def tokens_of(core: EngineCore, requests: dict[str, tuple[list[int], SamplingParams]]) -> dict[str, list[int]]:
    """What the requests generate together."""
    for key, (prompt, params) in requests.items():
        core.handle(
            "test",
            Submit(
                key=key,
                prompt_token_ids=prompt,
                params=params,
                seed=5,
                max_tokens=params.max_tokens or 16,
                stop_token_ids=[],
                bad_word_ids=[],
            ),
        )
    told: defaultdict[str, list[int]] = defaultdict(list)
    while core._patience() == 0.0:
        core.step()
        for reply in core.take_replies().get("test", []):
            assert not isinstance(reply, Failed)
            if isinstance(reply, NewTokens):
                told[f"{reply.key}.{reply.index}"] += reply.token_ids
    assert core.integrity() == []
    return dict(told)


def requests(count: int) -> dict[str, tuple[list[int], SamplingParams]]:
    """Prompts and outputs of different lengths, some sampled, one with two choices and one with penalties."""
    made = {}
    for i in range(count):
        params = [
            SamplingParams(temperature=0.0, max_tokens=5 + 3 * i),
            SamplingParams(temperature=0.8, max_tokens=5 + 3 * i),
            SamplingParams(temperature=0.0, presence_penalty=0.5, max_tokens=5 + 3 * i),
            SamplingParams(temperature=1.0, n=2, max_tokens=5 + 3 * i),
        ]
        made[str(i)] = ([3 * i + j for j in range(1, 4 + 2 * i)], params[i % 4])
    return made


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_padded_replays_give_the_tokens_of_plain_steps(count: int, overlap: bool, tiny: Path) -> None:
    expected = tokens_of(core_over(tiny, overlap=overlap), requests(count))
    core = core_over(tiny, overlap=overlap)
    recorder = Recorder()
    runner_of(core).capture_graphs(recorder.new)
    assert recorder.made == len(bucket_sizes(MOST))
    for _ in range(2):  # the second time over tables that the first has left behind, and over hit prefixes
        assert tokens_of(core, requests(count)) == expected
    assert recorder.replays.total() > 0
    # Captured largest first, so the last is for one sequence; the longest request ends alone.
    assert recorder.replays[recorder.made - 1] > 0


def test_block_tables_are_sent_when_they_change(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = core_over(tiny, overlap=False)
    runner = runner_of(core)
    runner.capture_graphs(CallGraph)
    graphs = runner._graphs
    assert graphs is not None
    sent = []
    real: Callable[..., torch.Tensor] = torch.Tensor.copy_

    def copy(self: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        if self.dtype == torch.int32 and self.dim() == 2:
            sent.append(self.shape)
        return real(self, source, non_blocking)

    monkeypatch.setattr(torch.Tensor, "copy_", copy)
    tokens = tokens_of(core, {"one": ([1, 2, 3], SamplingParams(temperature=0.0, max_tokens=17))})
    assert len(tokens["one.0"]) == 17
    # Positions 3 to 18 are decoded by replays: blocks of four tokens 0 to 4, one table for each new block.
    assert len(sent) == 5


def test_prompts_and_scored_prompts_are_not_replayed(tiny: Path) -> None:
    core = core_over(tiny, overlap=False)
    recorder = Recorder()
    runner_of(core).capture_graphs(recorder.new)
    scored = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    tokens_of(core, {"a": ([1, 2, 3, 4], SamplingParams(temperature=0.0, max_tokens=1)), "b": ([7], scored)})
    assert recorder.replays.total() == 0
