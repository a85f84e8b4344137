"""The arithmetic below the layers: one pure-torch reference and the native kernels that replace it."""
