"""Plans as tensors, and the scores of a prompt's own tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from lepton_engine.core import request as core
from lepton_engine.core.plan import Sample, ScheduledSequence, StepPlan
from lepton_engine.runtime import prompt_scores
from lepton_engine.runtime.batch import Batch, build_batch
from lepton_engine.runtime.prompt_scores import score_prompt
from lepton_engine.sampling_params import SamplingParams

BLOCK = 4
CPU = torch.device("cpu")


def sequence(
    prompt: Sequence[int],
    output: Sequence[int] = (),
    *,
    slot: int = 0,
    blocks: Sequence[Sequence[int]] = ((1,),),
    **fields: Any,
) -> core.Sequence:
    request = core.Request("k", list(prompt), SamplingParams(**fields), 0, 0.0, 0, 10)
    made = request.sequences[0]
    made.token_ids += output
    made.slot, made.blocks = slot, [list(table) for table in blocks]
    return made


def batch_of(*entries: tuple[core.Sequence, int, int], samples: Sequence[int] = (), groups: int = 1) -> Batch:
    scheduled = [ScheduledSequence(*entry) for entry in entries]
    plan = StepPlan(
        scheduled,
        [Sample(row, scheduled[row].sequence) for row in samples],
        num_tokens=sum(count for _, _, count in entries),
    )
    return build_batch(plan, groups, BLOCK, CPU)


def test_a_chunk_a_decode_and_a_whole_prompt_in_one_batch() -> None:
    chunk = sequence(range(20, 32), blocks=[(3, 7, 5)])
    decode = sequence([50, 51], [52, 53, 54], slot=2, blocks=[(9, 2)])
    whole = sequence([60, 61, 62], slot=1, blocks=[(4,)])
    batch = batch_of((chunk, 3, 6), (decode, 4, 1), (whole, 0, 3), samples=[1, 2])
    context = batch.context
    assert batch.input_ids.tolist() == [23, 24, 25, 26, 27, 28, 54, 60, 61, 62]
    assert batch.pending_rows is None
    assert batch.pending_slots is None
    assert context.positions.tolist() == [3, 4, 5, 6, 7, 8, 4, 0, 1, 2]
    assert context.query_start.tolist() == [0, 6, 7, 10]
    assert context.seq_lens.tolist() == [9, 5, 3]
    assert (context.query_lens, context.max_seq_len) == ((6, 1, 3), 9)
    assert context.groups[0].block_table.tolist() == [[3, 7, 5], [9, 2, 0], [4, 0, 0]]
    slots = [3 * 4 + 3, 7 * 4, 7 * 4 + 1, 7 * 4 + 2, 7 * 4 + 3, 5 * 4, 2 * 4, 4 * 4, 4 * 4 + 1, 4 * 4 + 2]
    assert context.groups[0].slot_mapping.tolist() == slots
    assert batch.sample_rows.tolist() == [6, 9]
    dtypes = [context.positions.dtype, context.query_start.dtype, context.seq_lens.dtype]
    assert dtypes == [torch.int64, torch.int32, torch.int32]
    assert context.groups[0].block_table.dtype == torch.int32
    assert context.groups[0].slot_mapping.dtype == torch.int64


def test_tokens_on_the_device_stand_as_zero_with_their_slots() -> None:
    """The token after those that the host knows, in steady decode and at the end of a recomputed chunk."""
    steady = sequence([1, 2], [3], slot=5, blocks=[(1,)])
    known = sequence([7, 8], slot=1, blocks=[(2,)])
    recomputed = sequence([4, 5], [6], slot=3, blocks=[(3,)])
    batch = batch_of((steady, 3, 1), (known, 0, 2), (recomputed, 0, 4), samples=[0, 2])
    assert batch.input_ids.tolist() == [0, 7, 8, 4, 5, 6, 0]
    assert batch.pending_rows is not None
    assert batch.pending_slots is not None
    assert batch.pending_rows.tolist() == [0, 6]
    assert batch.pending_slots.tolist() == [5, 3]
    assert batch.sample_rows.tolist() == [0, 6]


def test_each_group_has_blocks_of_its_own() -> None:
    own = sequence(range(9), blocks=[(1, 2, 3), (0, 0, 6)])
    other = sequence([1, 2], blocks=[(4,), (5,)])
    batch = batch_of((own, 8, 1), (other, 0, 2), groups=2)
    full, window = batch.context.groups
    assert full.block_table.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert window.block_table.tolist() == [[0, 0, 6], [5, 0, 0]]
    assert full.slot_mapping.tolist() == [12, 16, 17]
    assert window.slot_mapping.tolist() == [24, 20, 21]


def test_siblings_sample_from_the_row_that_computed_their_prompt() -> None:
    own = sequence([1, 2, 3])
    batch = batch_of((own, 0, 3), samples=[0, 0, 0])
    assert batch.sample_rows.tolist() == [2, 2, 2]


SIZE = 11


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(6, SIZE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def logits(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda hidden: hidden @ weight


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_prompt_scores_in_chunks(
    monkeypatch: pytest.MonkeyPatch, weight: torch.Tensor, logits: Any, rows: int, chunk: int
) -> None:
    """However the prompt is cut into steps, and a step into rows, each token is scored once by the one before it."""
    monkeypatch.setattr(prompt_scores, "CHUNK_BYTES", rows * 4 * SIZE)
    asked: list[int] = []

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        asked.append(len(hidden))
        result: torch.Tensor = logits(hidden)
        return result

    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    scored = sequence(prompt, prompt_logprobs=3)
    hidden = torch.randn(len(prompt), 6, generator=torch.Generator().manual_seed(1))
    exact = torch.log_softmax((hidden @ weight).double(), dim=-1)
    found: dict[int, Any] = {}
    for start in range(0, len(prompt), chunk):
        count = min(chunk, len(prompt) - start)
        entry = ScheduledSequence(scored, start, count, True)
        result = score_prompt(entry, hidden[start : start + count], counted, SIZE)
        if result is None:
            assert start + count == len(prompt)
            assert count == 1
            continue
        first, entries = result
        assert first == start + 1
        for position, one in enumerate(entries, first):
            assert position not in found
            found[position] = one
    assert max(asked) <= rows
    assert sum(asked) == len(prompt) - 1
    assert sorted(found) == list(range(1, len(prompt)))
    for position, one in found.items():
        row = exact[position - 1]
        assert one.logprob == pytest.approx(row[prompt[position]].item(), abs=1e-5)
        assert one.rank == int((row > row[prompt[position]]).sum()) + 1
        assert one.top_ids == row.topk(3).indices.tolist()
        assert one.top_logprobs == pytest.approx(row.topk(3).values.tolist(), abs=1e-5)


def test_tokens_behind_the_prompt_are_not_scored(logits: Any) -> None:
    """A preempted sequence computes its output again, together with its prompt."""
    scored = sequence([3, 1, 4], [1, 5], prompt_logprobs=0)
    result = score_prompt(ScheduledSequence(scored, 0, 5, True), torch.randn(5, 6), logits, SIZE)
    assert result is not None
    first, entries = result
    assert (first, len(entries)) == (1, 2)
    assert entries[0].top_ids == []
    assert score_prompt(ScheduledSequence(scored, 2, 3, True), torch.randn(3, 6), logits, SIZE) is None


def test_of_prompt_tokens_that_tie_the_first_are_told(logits: Any) -> None:
    scored = sequence([3, 1], prompt_logprobs=4)
    result = score_prompt(ScheduledSequence(scored, 0, 2, True), torch.zeros(2, 6), logits, SIZE)
    assert result is not None
    assert result[1][0].top_ids == [0, 1, 2, 3]
    assert result[1][0].rank == 1
