"""The batch context under the name that layers and families know; kernels, below them, define it."""

from lepton_engine.config import LayerKV
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch

__all__ = ["BatchContext", "KVGroupBatch", "LayerKV"]
