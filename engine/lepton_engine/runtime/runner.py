"""Runs plans: block copies, one forward pass, samples; the next tokens stay on the device."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.core.events import TokenLogprobs
from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.core.plan import StepPlan, StepResult
from lepton_engine.kernels.invariance import batch_invariance
from lepton_engine.models.base import CausalLM
from lepton_engine.runtime.batch import HostBatch, lay_out, to_tensors
from lepton_engine.runtime.grammar_masks import AllowedTokens, GrammarMasks
from lepton_engine.runtime.graphs import DecodeGraphs, StepGraph
from lepton_engine.runtime.prompt_scores import score_prompt
from lepton_engine.runtime.sampler import SampledTokens, Sampler, SampleRow, sequence_seed
from lepton_engine.runtime.transfer import to_device


class Runner:
    """A model with its KV cache.

    Args:
        model: with its KV cache not yet bound.
        caches: of each layer, as `allocate_kv_cache` makes them.
        max_num_seqs: sequences that hold a slot at once.
        batch_invariant: whether kernels must give each row what it would get alone.
    """

    def __init__(
        self,
        model: CausalLM,
        layout: KVCacheLayout,
        caches: list[tuple[torch.Tensor, ...]],
        *,
        max_num_seqs: int,
        device: torch.device,
        batch_invariant: bool = False,
    ) -> None:
        self._model = model
        self._layout = layout
        self._caches = caches
        self._device = device
        model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
        self._sampler = Sampler(model.vocab_size, max_num_seqs, device)
        self._grammar_masks = GrammarMasks()
        self._last_tokens = torch.zeros(max_num_seqs, dtype=torch.int64, device=device)
        self._graphs: DecodeGraphs | None = None
        self._batch_invariant = batch_invariant

    def make_graphs(self, new_graph: Callable[[], StepGraph] | None = None) -> DecodeGraphs:
        """Graphs of the decode steps over this runner's KV cache, nothing recorded yet; see `DecodeGraphs`."""
        return DecodeGraphs(
            self._model,
            self._last_tokens,
            num_groups=len(self._layout.groups),
            block_size=self._layout.block_size,
            max_tokens=self._layout.max_tokens,
            max_num_seqs=len(self._last_tokens),
            new_graph=new_graph,
        )

    def capture_graphs(self, new_graph: Callable[[], StepGraph] | None = None) -> None:
        """Record the decode steps; from now on they are replayed."""
        graphs = self.make_graphs(new_graph)
        with batch_invariance(self._batch_invariant):
            graphs.capture()
        self._graphs = graphs

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> "LaunchedStep":
        """Start a step. On CUDA nothing here waits for the device."""
        with batch_invariance(self._batch_invariant):
            return self._launch(plan)

    def _launch(self, plan: StepPlan) -> "LaunchedStep":
        masks = self._grammar_masks.begin(plan)
        try:
            hidden, host = self._forward(plan)
            prompt_scores = self._score_prompts(plan, hidden)
        finally:
            allowed = None if masks is None else masks.result()
        sampled = self._sample(plan, host.sample_rows, hidden, allowed) if plan.samples else None
        return LaunchedStep(plan, sampled, prompt_scores)

    def _forward(self, plan: StepPlan) -> tuple[torch.Tensor, HostBatch]:
        self._copy_blocks(plan)
        host = lay_out(plan, len(self._layout.groups), self._layout.block_size)
        if self._graphs is not None and self._graphs.takes(plan):
            hidden = self._graphs.run(host)
        else:
            batch = to_tensors(host, self._device)
            if batch.pending_rows is not None and batch.pending_slots is not None:
                batch.input_ids[batch.pending_rows] = self._last_tokens[batch.pending_slots]
            hidden = self._model(batch.input_ids, batch.context)
        return hidden, host

    def _copy_blocks(self, plan: StepPlan) -> None:
        for group in {copy.group for copy in plan.copies}:
            pairs = [(copy.source, copy.target) for copy in plan.copies if copy.group == group]
            source, target = to_device(torch.tensor(pairs), self._device).unbind(1)
            for layer in self._layout.groups[group].layers:
                for cache in self._caches[layer]:
                    cache[target] = cache[source]

    def _score_prompts(self, plan: StepPlan, hidden: torch.Tensor) -> dict[int, tuple[int, list[TokenLogprobs]]]:
        scores = {}
        start = 0
        for row, entry in enumerate(plan.scheduled):
            if entry.scores_prompt:
                own = hidden[start : start + entry.num_tokens]
                scored = score_prompt(entry, own, self._model.logits, self._model.vocab_size)
                if scored is not None:
                    scores[row] = scored
            start += entry.num_tokens
        return scores

    def _sample(
        self, plan: StepPlan, sample_rows: np.ndarray, hidden: torch.Tensor, allowed: AllowedTokens | None
    ) -> SampledTokens:
        if not np.array_equal(sample_rows, np.arange(len(hidden))):
            hidden = hidden[to_device(torch.from_numpy(sample_rows), self._device)]
        logits = self._model.logits(hidden)
        rows = []
        for sample in plan.samples:
            sequence, request = sample.sequence, sample.sequence.request
            rows.append(
                SampleRow(
                    params=request.params,
                    seed=sequence_seed(request.seed, sequence.index),
                    # The sample itself is counted as pending already; a draft's tokens are not.
                    position=sequence.num_generated - 1 + sample.offset,
                    slot=sequence.slot,
                    prompt_ids=request.prompt,
                    output_ids=sequence.token_ids[sequence.num_prompt :] if request.needs_history else (),
                    draft_ids=plan.scheduled[sample.row].draft[: sample.offset],
                    stop_token_ids=request.masked_stop_ids,
                    bad_word_ids=request.bad_word_ids,
                )
            )
        sampled = self._sampler.sample(logits, rows, allowed)
        slots = to_device(torch.tensor([row.slot for row in rows]), self._device)
        self._last_tokens[slots] = sampled.token_ids
        return sampled


@dataclass(frozen=True)
class LaunchedStep:
    """A step on the device."""

    plan: StepPlan
    sampled: SampledTokens | None
    prompt_scores: dict[int, tuple[int, list[TokenLogprobs]]]

    def result(self) -> StepResult:
        """See `Launched.result`: the step's only wait for the device."""
        if self.sampled is None:
            return StepResult([], [], [], self.prompt_scores)
        host = self.sampled.to_host()
        logprobs = [
            host.entry(i, sample.sequence.request.params.logprobs) for i, sample in enumerate(self.plan.samples)
        ]
        return StepResult(host.token_ids, host.invalid, logprobs, self.prompt_scores)
