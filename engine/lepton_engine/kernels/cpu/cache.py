"""The KV cache of one layer as the native kernels take it."""

import ctypes

import torch

from lepton_engine.kernels.cpu.panels import FORMATS
from lepton_engine.kernels.kv_scales import KVScales

MOST_QUANTIZED_DIM = 1024
"""head_dim of a quantised cache."""

_FORMATS = {torch.int8: FORMATS["int8"], torch.float8_e4m3fn: FORMATS["fp8"]}


class NativeCache(ctypes.Structure):
    """`PagedCache` of src/args.h."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
        ("block_stride", ctypes.c_int64),
        ("num_heads", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("block_size", ctypes.c_int32),
        ("format", ctypes.c_int32),
    )


def is_native(dtype: torch.dtype, keys: torch.Tensor, values: torch.Tensor, scales: KVScales | None) -> bool:
    """Whether the kernels can read and write a cache for activations of dtype: whole blocks, in ordinary memory."""
    stored = (dtype,) if scales is None else _FORMATS
    for cache in (keys, values):
        _, _, block_size, dim = cache.shape
        whole = cache.stride()[1:] == (block_size * dim, dim, 1) and cache.stride(0) == keys.stride(0)
        if not (cache.is_cpu and cache.dtype in stored and whole):
            return False
    if scales is None:
        return True
    contiguous = scales.keys.is_contiguous() and scales.values.is_contiguous()
    return contiguous and keys.dtype == values.dtype and keys.shape[3] <= MOST_QUANTIZED_DIM


def native_cache(keys: torch.Tensor, values: torch.Tensor, scales: KVScales | None) -> NativeCache:
    """Points to the tensors, [num_blocks, num_kv_heads, block_size, head_dim] and their scales."""
    _, kv_heads, block_size, head_dim = keys.shape
    return NativeCache(
        keys.data_ptr(),
        values.data_ptr(),
        None if scales is None else scales.keys.data_ptr(),
        None if scales is None else scales.values.data_ptr(),
        keys.stride(0),
        kv_heads,
        head_dim,
        block_size,
        FORMATS["plain"] if scales is None else _FORMATS[keys.dtype],
    )
