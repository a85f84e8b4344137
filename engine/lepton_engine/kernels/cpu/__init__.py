"""Kernels of our own for the CPU: C++ in src/, behind a plain C ABI.

`native()` gives them as Python functions on tensors where the library was built. `kernels.reference` holds the
pure-torch twin of each.
"""

from lepton_engine.kernels.cpu.native import NativeKernels, native

__all__ = ["NativeKernels", "native"]
