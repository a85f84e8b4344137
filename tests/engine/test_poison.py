"""A request whose tokens crash the model: it fails, those beside it get bit for bit what they would have got."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lepton_engine import SamplingParams
from lepton_engine.async_engine import AsyncLeptonEngine, last_output
from lepton_engine.core.plan import StepPlan
from lepton_engine.errors import RequestFailedError
from lepton_engine.outputs import CompletionOutput
from lepton_engine.runtime.runner import Runner
from lepton_engine.sampling_params import OutputKind

POISON = 99
GREEDY = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=1, output_kind=OutputKind.FINAL_ONLY)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps crash in which a request with the poison in its prompt has some output; how many requests each had."""
    crashed: list[int] = []
    launch: Any = Runner.launch

    def poisoned_launch(self: Runner, plan: StepPlan) -> Any:
        sequences = [entry.sequence for entry in plan.scheduled]
        if any(POISON in s.request.prompt and len(s.token_ids) > s.num_prompt + 2 for s in sequences):
            crashed.append(len(sequences))
            raise ValueError("an index is out of range")
        return launch(self, plan)

    monkeypatch.setattr(Runner, "launch", poisoned_launch)
    return crashed


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("batch_invariant", [False, True])
async def test_the_others_get_their_tokens_and_logprobs_bit_for_bit(
    tiny: Path, poisoned: list[int], overlap: bool, batch_invariant: bool
) -> None:
    engine = AsyncLeptonEngine(
        tiny,
        kv_cache_memory=1 << 20,
        num_threads=1,
        overlap=overlap,
        batch_invariant=batch_invariant,
        max_num_batched_tokens=64,
    )
    await engine.start()
    prompts = [[number + 3, 7, 11, number] * (1 + number % 3) for number in range(7)]

    async def run(prompt: list[int]) -> CompletionOutput:
        return (await last_output(engine.generate(prompt, GREEDY))).outputs[0]

    alone = [await run(prompt) for prompt in prompts]
    assert not poisoned
    together = [*prompts[:4], [5, POISON, 6], *prompts[4:]]
    found = await asyncio.gather(*map(run, together), return_exceptions=True)
    failed = found.pop(4)
    assert isinstance(failed, RequestFailedError)
    assert "an index is out of range" in str(failed)
    for output, expected in zip(found, alone, strict=True):
        assert isinstance(output, CompletionOutput)
        assert output.token_ids == expected.token_ids
        if batch_invariant:
            assert output.logprobs == expected.logprobs
    assert 2 <= len(poisoned) <= 5
    assert poisoned[-1] == 1
    assert await engine.integrity() == []
    stats = await engine.stats()
    assert (stats.num_failed, stats.kv_blocks_free) == (1, stats.kv_blocks_total)
    await engine.shutdown()
