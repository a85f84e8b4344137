"""The sampler: logits of a batch to one token per row.

Probabilities become integer weights, floor(2**k * p / max p), so that the sums behind top_p and the draw are exact in
float64 whatever their order. With one random number per (seed, position), a row's token depends on its own logits,
parameters, seed and position, and on nothing else in the batch.
"""

from collections.abc import Sequence

import torch

from lepton_engine.kernels.cuda import cuda
from lepton_engine.runtime.grammar_masks import AllowedTokens
from lepton_engine.runtime.masks import apply_masks, changes_logits
from lepton_engine.runtime.penalties import Penalties
from lepton_engine.runtime.row import SampleRow
from lepton_engine.runtime.sampled import HostSamples, SampledTokens
from lepton_engine.runtime.selection import draw, first_argmax, top_values
from lepton_engine.runtime.shortlist import MAX_SHORTLIST, draw_from_shortlist
from lepton_engine.runtime.transfer import to_device
from lepton_engine.runtime.truncation import Truncation, truncate
from lepton_engine.runtime.uniform import sequence_seed, uniform

__all__ = ["GREEDY_BELOW", "HostSamples", "SampleRow", "SampledTokens", "Sampler", "sequence_seed"]

GREEDY_BELOW = 1e-5  # A temperature below this takes the most likely token, as 0 does.
_CHUNK_BYTES = 2 << 20  # On a CPU, logits are worked on in chunks of rows that stay in its caches.


class Sampler:
    """Samples batches.

    Args:
        vocab_size: columns of the logits. max_num_seqs: slots are below this.
    """

    def __init__(self, vocab_size: int, max_num_seqs: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._penalties = Penalties(max_num_seqs)
        self._chunk = max(1, _CHUNK_BYTES // (4 * vocab_size))
        self._unit = 2.0 ** min(40, 53 - vocab_size.bit_length())

    def sample(
        self, logits: torch.Tensor, rows: Sequence[SampleRow], allowed: AllowedTokens | None = None
    ) -> SampledTokens:
        """Sample a token for each row.

        Args:
            logits: float32 [R, V]; changed in place where rows have biases, masks or penalties.
            rows: R of them.
            allowed: what the grammars of some rows allow, which counts as the model's own distribution.

        Returns:
            The tokens; a row whose logits hold NaN or +inf, or allow no token, is marked invalid and disturbs no other.
        """
        reported = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        changed = [i for i, row in enumerate(rows) if changes_logits(row) or Penalties.wanted(row)]
        invalid = None
        if changed or allowed is not None:
            # Masks may hide what a broken model has put out.
            invalid = ~logits.amax(dim=-1).isfinite()
        if allowed is not None:
            allowed.apply(logits)
        raw = logits
        if changed:
            raw = logits.clone() if reported else logits
            apply_masks(logits, rows)
            self._penalties.apply(logits, rows)
        best, token_ids = first_argmax(logits)
        invalid = ~best.isfinite() if invalid is None else invalid | ~best.isfinite()
        drawn = [i for i, row in enumerate(rows) if row.params.temperature >= GREEDY_BELOW]
        if len(drawn) == len(rows):
            token_ids = self._draw(logits, best, rows)
        elif drawn:
            index = to_device(torch.tensor(drawn), self._device)
            token_ids[index] = self._draw(logits[index], best[index], [rows[i] for i in drawn])
        token_ids = token_ids.masked_fill_(invalid, 0)
        if not reported:
            return SampledTokens(token_ids, invalid)
        return SampledTokens(token_ids, invalid, *self._report(raw, token_ids, rows, reported))

    def _draw(self, logits: torch.Tensor, best: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
        """int64 [R]; best: the largest logit of each row."""
        numbers = torch.tensor(
            [[uniform(row.seed, row.position), row.params.temperature] for row in rows], dtype=torch.float64
        )
        uniforms, temperatures = to_device(numbers, self._device).unbind(1)
        scale = temperatures.to(torch.float32)
        cuts = [Truncation(row.params.min_p, max(0, row.params.top_k), row.params.top_p) for row in rows]
        if self._device.type != "cpu":
            return self._draw_from_all(logits, best, scale, uniforms, cuts)
        tokens = torch.empty(len(rows), dtype=torch.int64)
        short = [0 < cut.top_k <= MAX_SHORTLIST and cut.top_k < logits.shape[1] for cut in cuts]
        for chunk in _chunks([i for i in range(len(rows)) if short[i]], self._chunk):
            part, own = torch.tensor(chunk), [cuts[i] for i in chunk]
            tokens[part], complete = draw_from_shortlist(logits[part], scale[part], uniforms[part], own, self._unit)
            for i, sound in zip(chunk, complete.tolist(), strict=True):
                short[i] = sound
        for chunk in _chunks([i for i in range(len(rows)) if not short[i]], self._chunk):
            part, own = torch.tensor(chunk), [cuts[i] for i in chunk]
            tokens[part] = self._draw_from_all(logits[part], best[part], scale[part], uniforms[part], own)
        return tokens

    def _draw_from_all(
        self,
        logits: torch.Tensor,
        best: torch.Tensor,
        scale: torch.Tensor,
        uniforms: torch.Tensor,
        cuts: Sequence[Truncation],
    ) -> torch.Tensor:
        whole = all(cut.keeps_all for cut in cuts)
        if whole and logits.is_cuda and (kernels := cuda()) is not None:
            return kernels.draw_from_logits(logits, best, scale, uniforms, self._unit)
        weights = (logits - best[:, None]).div_(scale[:, None]).exp_().mul_(self._unit).floor_()
        if not whole:
            truncate(weights, self._unit, cuts)
        return draw(weights, uniforms)

    def _report(
        self, logits: torch.Tensor, token_ids: torch.Tensor, rows: Sequence[SampleRow], reported: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probabilities of the model's own distribution, for the rows that report them; see `SampledTokens`."""
        count = min(max(rows[i].params.logprobs or 0 for i in reported), logits.shape[1])
        index = to_device(torch.tensor(reported), self._device)
        everyone = len(reported) == len(rows)
        scores = torch.log_softmax(logits if everyone else logits[index], dim=-1)
        chosen = scores.gather(1, token_ids[index, None])
        rank = (scores > chosen).sum(dim=-1) + 1
        found = [chosen[:, 0], rank]
        if count:
            values, ids = top_values(scores, count)
            found += [ids, values]
        if not everyone:
            found = [part.new_zeros(len(rows), *part.shape[1:]).index_copy_(0, index, part) for part in found]
        top_ids, top_logprobs = found[2:] if count else (None, None)
        return found[0], found[1], top_ids, top_logprobs


def _chunks(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
