"""The library of CPU kernels: found or not, switched off, on torch's own threads; and the package built without it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lepton_engine.kernels.cpu import native

ROOT = Path(__file__).parents[3]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter: the library is loaded once a process."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_switched_off_runs_the_twins() -> None:
    code = (
        "import torch\n"
        "from lepton_engine.kernels import dispatch\n"
        "from lepton_engine.kernels.cpu import native\n"
        "print(native(), dispatch.silu_mul(torch.ones(1, 2)).shape)"
    )
    result = run(code, LEPTON_CPU_KERNELS="0")
    assert result.stdout == "None torch.Size([1, 1])\n", result.stderr
    assert not result.stderr


@pytest.mark.skipif(native() is None, reason="the CPU kernels were not built")
def test_an_instruction_set_by_name() -> None:
    code = "from lepton_engine.kernels.cpu import native; print(native().isa)"
    assert run(code, LEPTON_CPU_KERNELS="baseline").stdout == "baseline\n"
    assert "'avx9' were not built" in run(code, LEPTON_CPU_KERNELS="avx9").stderr


def test_a_missing_library_is_said_once() -> None:
    code = (
        "import logging; logging.basicConfig()\n"
        "from lepton_engine.kernels.cpu import library, native\n"
        "library._find = lambda: None\n"
        "print(native(), native(), library.load())"
    )
    result = run(code, LEPTON_CPU_KERNELS="")
    assert result.stdout == "None None None\n"
    assert result.stderr.count("without its CPU kernels") == 1


@pytest.mark.skipif(native() is None, reason="the CPU kernels were not built")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        # e_machine of the ELF header: RISC-V.
        ("data[18:20] = (243).to_bytes(2, 'little')", "the CPU kernels do not load, using torch's, slower"),
        ("del data[64:]", "the CPU kernels do not load, using torch's, slower"),
        ("library.ABI_VERSION += 1", "is of another version of lepton_engine; install again"),
    ],
    ids=["another processor's", "cut short", "another version's"],
)
def test_a_library_that_is_not_for_here_is_passed_over(change: str, told: str, tmp_path: Path) -> None:
    code = (
        "import logging; logging.basicConfig()\n"
        "import torch\n"
        "from pathlib import Path\n"
        "from lepton_engine.kernels.cpu import library, native\n"
        f"data, copy = bytearray(library._find().read_bytes()), Path({str(tmp_path / 'copy.so')!r})\n"
        f"{change}\n"
        "copy.write_bytes(data)\n"
        "library._find = lambda: copy\n"
        "from lepton_engine.kernels import dispatch\n"
        "print(native(), native(), dispatch.silu_mul(torch.ones(1, 2)).shape)"
    )
    result = run(code, LEPTON_CPU_KERNELS="")
    assert result.stdout == "None None torch.Size([1, 1])\n", result.stderr
    assert result.stderr.count(told) == 1


@pytest.mark.skipif(native() is None, reason="the CPU kernels were not built")
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_what_the_processor_lacks_is_refused_by_name() -> None:
    """One library serves all processors: of what was built it takes only what this one has."""
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    needed = {
        "avx2": {"avx2", "fma"},
        "avx512": {"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"},
        "avx512bf16": {"avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "avx512vbmi"},
    }
    code = (
        "from lepton_engine.kernels.cpu import library\n"
        f"for name in {list(needed)}:\n"
        "    try:\n"
        "        library.select_isa(library.load(), name)\n"
        "        print(library.current_isa(library.load()))\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    expected = [
        name if wanted <= flags else f"CPU kernels for {name!r} were not built or this processor lacks it"
        for name, wanted in needed.items()
    ]
    assert run(code, LEPTON_CPU_KERNELS="").stdout.splitlines() == expected


@pytest.mark.skipif(native() is None, reason="the CPU kernels were not built")
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_one_openmp_runtime_in_the_process() -> None:
    code = (
        "import torch\n"
        "from lepton_engine.kernels.cpu import native\n"
        "torch.set_num_threads(2)\n"
        "before = len(__import__('os').listdir('/proc/self/task'))\n"
        "native().silu_mul(torch.ones(4096, 256))\n"
        "torch.randn(1 << 20).exp_()\n"
        "after = len(__import__('os').listdir('/proc/self/task'))\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.rsplit('/', 1)[-1]}\n"
        "print(len(maps), after - before)"
    )
    assert run(code).stdout == "1 1\n"


@pytest.mark.slow
def test_the_package_builds_without_a_compiler(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    shutil.copytree(ROOT / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("build", "*.so", "__pycache__"))
    command = [uv, "build", "--quiet", "--wheel", str(tmp_path / "engine"), "--out-dir", str(tmp_path)]
    subprocess.run(command, env={**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "lepton_engine/py.typed" in names
    assert "lepton_engine/kernels/cpu/native.py" in names
    assert not [name for name in names if name.endswith((".so", ".cpp", ".h"))]
    shipped = {p.relative_to(tmp_path / "engine").as_posix() for p in (tmp_path / "engine").rglob("*.py")}
    assert shipped <= set(names)


@pytest.mark.parametrize(
    ("first", "environment", "expected"),
    [("", {}, "10000"), ("import torch; ", {}, "None"), ("", {"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_idle_threads_soon_sleep(first: str, environment: dict[str, str], expected: str) -> None:
    code = f"{first}import lepton_engine, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == expected
