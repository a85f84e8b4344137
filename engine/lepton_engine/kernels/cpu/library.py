"""Finds and loads the library of CPU kernels, and connects it with torch's thread pool.

The library has a plain C ABI (src/abi.cpp) and ties neither Python's nor torch's, so one build serves all versions.
It is built with the package where a compiler is; without it everything runs on torch's own kernels, slower.
"""

import ctypes
import functools
import logging
import os
import sys
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

ABI_VERSION = 7
SWITCH = "LEPTON_CPU_KERNELS"
"""Environment variable: 0 leaves the library alone; the name of an instruction set (baseline, avx2, avx512,
avx512bf16) keeps to it; unset, empty or 1 is the best that the processor has."""

_INT = ctypes.c_int
_INT64 = ctypes.c_int64
_POINTER = ctypes.c_void_p
_FLOAT = ctypes.c_float

_SIGNATURES = {
    "lepton_paged_attention": [_INT] * 2 + [_POINTER] * 6 + [_INT64] * 2 + [_INT] * 4 + [_FLOAT],
    "lepton_rms_norm": [_INT] * 2 + [_POINTER] * 5 + [_INT64] * 4 + [_FLOAT],
    "lepton_rotary_store": [_INT] * 2 + [_POINTER] * 7 + [_INT64] * 4 + [_INT] * 2,
    "lepton_linear": [_INT] * 2 + [_POINTER] * 5 + [_INT64] * 2 + [_INT],
    "lepton_panel_bytes": [_INT, _POINTER],
    "lepton_pack_panels": [_INT] * 2 + [_POINTER] * 3 + [_INT64],
    "lepton_num_scales": [_POINTER],
    "lepton_pack_scales": [_POINTER] * 3,
    "lepton_gather_rows": [_INT] + [_POINTER] * 3 + [_INT64],
    "lepton_plan_new": [_INT, _POINTER, _INT],
    "lepton_plan_free": [_POINTER],
    "lepton_plan_embed": [_POINTER, _INT, _POINTER, _INT],
    "lepton_plan_rms_norm": [_POINTER] + [_INT] * 2 + [_POINTER, _INT64, _FLOAT],
    "lepton_plan_head_norm": [_POINTER, _INT, _POINTER] + [_INT] * 3 + [_FLOAT],
    "lepton_plan_linear": [_POINTER] + [_INT] * 3 + [_POINTER] * 2,
    "lepton_plan_rotary_store": [_POINTER, _INT, _POINTER, _POINTER, _INT],
    "lepton_plan_attention": [_POINTER] + [_INT] * 2 + [_POINTER, _FLOAT],
    "lepton_plan_run": [_POINTER] * 2,
    "lepton_argmax": [_INT, _POINTER] + [_INT64] * 3 + [_POINTER] * 2,
    "lepton_silu_mul": [_INT] * 2 + [_POINTER] * 2 + [_INT64] * 3,
}


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library, ready for use; None where there is none, which is logged once.

    Raises:
        ValueError: LEPTON_CPU_KERNELS names an instruction set that was not built or that the processor lacks.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted == "0":
        return None
    path = _find()
    if path is None:
        logger.warning("lepton_engine was installed without its CPU kernels (no C++ compiler?); using torch's, slower")
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        logger.warning("the CPU kernels do not load, using torch's, slower: %s", error)
        return None
    if library.lepton_abi_version() != ABI_VERSION:
        logger.warning("%s is of another version of lepton_engine; install again. Using torch's kernels, slower", path)
        return None
    for name, arguments in _SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    library.lepton_isa.restype = ctypes.c_char_p
    library.lepton_panel_bytes.restype = _INT64
    library.lepton_num_scales.restype = _INT64
    library.lepton_plan_new.restype = _POINTER
    _connect_thread_pool(library)
    if wanted not in ("", "1"):
        select_isa(library, wanted)
    return library


def select_isa(library: ctypes.CDLL, name: str) -> None:
    """Makes the library keep to one instruction set, for all threads.

    Raises:
        ValueError: it was not built, or the processor lacks it.
    """
    if library.lepton_select_isa(name.encode()):
        raise ValueError(f"CPU kernels for {name!r} were not built or this processor lacks it")


def current_isa(library: ctypes.CDLL) -> str:
    """The instruction set in use."""
    name: bytes = library.lepton_isa()
    return name.decode()


def _find() -> Path | None:
    # An editable install keeps the library in site-packages and the sources elsewhere; both are on the package's path.
    from lepton_engine.kernels import cpu

    for folder in cpu.__path__:
        path = Path(folder, "liblepton_cpu.so")
        if path.is_file():
            return path
    return None


def _connect_thread_pool(library: ctypes.CDLL) -> None:
    """Hands over the entry points of the OpenMP runtime that torch itself is linked to."""
    suffix = "dylib" if sys.platform == "darwin" else "so"
    try:
        # Looked up through torch's library, so that a second runtime in the process can't be mistaken for torch's.
        pool = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}"))
        entries = [pool.GOMP_parallel, pool.omp_get_thread_num, pool.omp_get_num_threads]
    except (OSError, AttributeError) as error:
        logger.warning("torch's thread pool is out of reach, the CPU kernels run in one thread: %s", error)
        return
    library.lepton_set_openmp.argtypes = [_POINTER] * 3
    library.lepton_set_openmp(*(ctypes.cast(entry, _POINTER) for entry in entries))
