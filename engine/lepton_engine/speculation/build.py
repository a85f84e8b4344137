"""Makes the speculator that the settings ask for."""

from dataclasses import dataclass, replace

import torch

from lepton_engine.config import SpeculationSettings
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, KVGroup, group_layers
from lepton_engine.errors import InvalidRequestError, OutOfMemoryError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.runtime.kv_memory import allocate_kv_cache
from lepton_engine.runtime.runner import Runner
from lepton_engine.speculation.draft_model import DraftModel
from lepton_engine.speculation.ngram import NgramProposer
from lepton_engine.speculation.speculator import Speculator
from lepton_engine.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class LoadedDraft:
    """A draft model without its KV cache."""

    model: CausalLM
    dtype: torch.dtype
    device: torch.device

    @property
    def group(self) -> KVGroup:
        """All its layers, whatever they see, in one group: a draft goes back, so no block is ever left behind."""
        layers = [replace(layer, window=None) for layer in self.model.kv_layers]
        (group,) = group_layers(layers, self.dtype.itemsize)
        return group


def load_draft(checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, vocab_size: int) -> LoadedDraft:
    """The draft model for a model of vocab_size tokens.

    Raises:
        InvalidRequestError: it has another vocabulary.
        ModelLoadError, OutOfMemoryError: it cannot be loaded.
    """
    try:
        model = load_model(checkpoint, dtype=dtype, device=device).eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(f"speculation.model: its weights do not fit the memory of {device}: {error}") from error
    if model.vocab_size != vocab_size:
        raise InvalidRequestError(
            "speculation.model",
            f"has a vocabulary of {model.vocab_size} tokens, the model one of {vocab_size}: they must be the same",
        )
    return LoadedDraft(model, dtype, device)


def make_speculator(
    settings: SpeculationSettings,
    draft: LoadedDraft | None,
    target: CausalLM,
    layout: KVCacheLayout,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> Speculator:
    """The speculator for a model whose KV cache has that layout; draft is the loaded model that the settings name.

    Raises:
        OutOfMemoryError: the draft model's KV cache does not fit.
    """
    most = settings.num_speculative_tokens
    if draft is None:
        return Speculator(NgramProposer(settings.prompt_lookup_max, settings.prompt_lookup_min), most)
    own = _draft_layout(draft, layout)
    try:
        caches = allocate_kv_cache(own, draft.model.kv_layers, draft.dtype, draft.device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(f"speculation.model: no room for its KV cache of {own.total_bytes} bytes") from error
    runner = Runner(draft.model, own, caches, max_num_seqs=max_num_seqs, device=draft.device)
    cache = KVCacheManager(own, chunk=max_num_batched_tokens, enable_prefix_caching=False)
    proposer = DraftModel(runner, cache, max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    (_, draft_bytes), (_, target_bytes) = draft.model.sizes(), target.sizes()
    return Speculator(proposer, most, proposal_cost=draft_bytes / target_bytes)


def _draft_layout(draft: LoadedDraft, layout: KVCacheLayout) -> KVCacheLayout:
    """As many blocks as the model's own cache has of one layer, and enough for its longest sequence."""
    longest = min(layout.max_tokens, draft.model.max_position)
    blocks = max(max(layout.num_blocks) - 1, -(-longest // layout.block_size))
    return KVCacheLayout(layout.block_size, (draft.group,), (blocks + 1,), longest)
