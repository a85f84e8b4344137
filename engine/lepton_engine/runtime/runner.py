"""Runs plans: block copies, one forward pass, samples; the next tokens stay on the device."""

from dataclasses import dataclass

import torch

from lepton_engine.core.events import TokenLogprobs
from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.core.plan import StepPlan, StepResult
from lepton_engine.models.base import CausalLM
from lepton_engine.runtime.batch import Batch, build_batch
from lepton_engine.runtime.prompt_scores import score_prompt
from lepton_engine.runtime.sampler import SampledTokens, Sampler, SampleRow, sequence_seed


class Runner:
    """A model with its KV cache.

    Args:
        model: with its KV cache not yet bound.
        caches: keys and values of each layer, as `allocate_kv_cache` makes them.
        max_num_seqs: sequences that hold a slot at once.
    """

    def __init__(
        self,
        model: CausalLM,
        layout: KVCacheLayout,
        caches: list[tuple[torch.Tensor, torch.Tensor]],
        *,
        max_num_seqs: int,
        device: torch.device,
    ) -> None:
        self._model = model
        self._layout = layout
        self._caches = caches
        self._device = device
        model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
        self._sampler = Sampler(model.vocab_size, max_num_seqs, device)
        self._last_tokens = torch.zeros(max_num_seqs, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> "LaunchedStep":
        """Start a step. On CUDA nothing here waits for the device."""
        self._copy_blocks(plan)
        batch = build_batch(plan, len(self._layout.groups), self._layout.block_size, self._device)
        if batch.pending_rows is not None and batch.pending_slots is not None:
            batch.input_ids[batch.pending_rows] = self._last_tokens[batch.pending_slots]
        hidden = self._model(batch.input_ids, batch.context)
        prompt_scores = self._score_prompts(plan, batch, hidden)
        sampled = self._sample(plan, batch, hidden) if plan.samples else None
        return LaunchedStep(plan, sampled, prompt_scores)

    def _copy_blocks(self, plan: StepPlan) -> None:
        for group in {copy.group for copy in plan.copies}:
            pairs = [(copy.source, copy.target) for copy in plan.copies if copy.group == group]
            source, target = torch.tensor(pairs, device=self._device).unbind(1)
            for layer in self._layout.groups[group].layers:
                for cache in self._caches[layer]:
                    cache[target] = cache[source]

    def _score_prompts(
        self, plan: StepPlan, batch: Batch, hidden: torch.Tensor
    ) -> dict[int, tuple[int, list[TokenLogprobs]]]:
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

    def _sample(self, plan: StepPlan, batch: Batch, hidden: torch.Tensor) -> SampledTokens:
        logits = self._model.logits(hidden[batch.sample_rows])
        rows = []
        for sample in plan.samples:
            sequence, request = sample.sequence, sample.sequence.request
            rows.append(
                SampleRow(
                    params=request.params,
                    seed=sequence_seed(request.seed, sequence.index),
                    position=sequence.num_generated - 1,  # The sample itself is counted as pending already.
                    slot=sequence.slot,
                    prompt_ids=request.prompt,
                    output_ids=sequence.token_ids[sequence.num_prompt :] if request.needs_history else (),
                    stop_token_ids=request.masked_stop_ids,
                    bad_word_ids=request.bad_word_ids,
                )
            )
        sampled = self._sampler.sample(logits, rows)
        slots = torch.tensor([row.slot for row in rows], device=self._device)
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
