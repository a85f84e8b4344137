"""Kernels of our own for CUDA devices, in Triton.

`kernels.reference` holds the pure-torch twins. Kernel parameters have no annotations but `tl.constexpr`: Triton
evaluates annotations as part of the kernel. Every reduction has an order that depends on shapes of the model alone,
never on the number of rows, so a row's result does not depend on its batch; where speed wants it otherwise (splits of
long contexts, of deep products) the caller chooses by `invariant`.

Without a GPU the kernels run in Triton's interpreter (TRITON_INTERPRET=1, set before triton is first imported).
"""
