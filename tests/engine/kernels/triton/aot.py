"""Compiles every kernel for sm_90 without a GPU: a script, since the tests' own process interprets them.

Launches are recorded rather than run: the wrappers are called on tensors without storage, in shapes that an 8B model
has, and each distinct launch is compiled with the specialisations that Triton would make of its arguments. Prints a
JSON list of kernels with their resources; exits with an error where one does not compile.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TARGET = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
    torch.float8_e4m3fn: "*fp8e4nv",
}

launches: dict[str, tuple[JITFunction[Any], ASTSource, dict[str, Any]]] = {}


def record(self: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    """Stands for `JITFunction.run`."""
    assert all(isinstance(size, int) and size > 0 for size in grid), f"{self.fn.__name__}: grid {grid}"
    bound = dict(zip(self.arg_names, args, strict=False))
    options: dict[str, Any] = {}
    for name, value in kwargs.items():
        (bound if name in self.arg_names else options)[name] = value
    missing = [name for name in self.arg_names if name not in bound]
    assert not missing, f"{self.fn.__name__}: no {missing}"
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for index, parameter in enumerate(self.params):
        value = bound[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        elif parameter.do_not_specialize:
            signature[parameter.name] = "i32"
        elif value == 1:
            signature[parameter.name], constants[parameter.name] = "constexpr", 1
        else:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=self, signature=signature, constexprs=constants, attrs=attributes)
    launches[f"{self.fn.__name__} {signature} {constants} {attributes} {options}"] = (self, source, options)


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and bytes of stack (spilled registers) of a compiled kernel."""
    if not CUOBJDUMP.exists():
        return {}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    words = [word.partition(":") for word in told.split() if word.startswith(("REG:", "STACK:"))]
    return {name.lower(): int(value) for name, _, value in words}


def compile_all() -> list[dict[str, Any]]:
    compiled = []
    for key, (function, source, options) in launches.items():
        kernel = triton.compile(source, target=TARGET, options=options)
        compiled.append(
            {
                "kernel": function.fn.__name__,
                "launch": key,
                "cubin": len(kernel.asm["cubin"]),
                "shared": kernel.metadata.shared,
                **resources(kernel.asm["cubin"]),
            }
        )
    return compiled


def main() -> None:
    assert not triton.knobs.runtime.interpret, "unset TRITON_INTERPRET"
    JITFunction.run = record
    # The wrappers decide by the device's type; these stand for a chip with 132 processors.
    from lepton_engine.kernels.triton import launch, tuning

    table = os.environ.get("TABLE", "h100")
    launch.processors = lambda device: 132
    tuning._table_of = lambda device: table  # type: ignore[assignment]
    calls = importlib.import_module("tests.engine.kernels.triton.calls")
    wanted: list[Callable[[], None]] = [
        getattr(calls, name) for name in sorted(vars(calls)) if name.startswith("call_")
    ]
    for call in wanted:
        if len(sys.argv) < 2 or sys.argv[1] in call.__name__:
            call()
    json.dump(compile_all(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
