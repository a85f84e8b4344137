"""`make gpu` where there is no GPU: it says so; and what of it a CPU can run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.idle import idle_share, largest_gaps
from benchmarks.gpu.mixed import requests
from benchmarks.gpu.models import SHAPES, linear_parameters, random_model, step_bytes, write_checkpoint
from benchmarks.gpu.rows import Row, table

CPU = torch.device("cpu")

# Runs a tiny model through the engine in an interpreter that has no msgspec.
WITHOUT_MSGSPEC = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("msgspec", "zmq"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "msgspec" else real(name, package)
from benchmarks.gpu.environment import install_stand_ins
install_stand_ins()
import torch
torch.set_num_threads(1)
from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.models import random_model
device = torch.device("cpu")
core = make_core(random_model("tiny", None, device), device, max_model_len=64, max_num_seqs=2,
                 max_num_batched_tokens=32, kv_memory=1 << 22)
timing = run(core, [[5, 6, 7], [9]], [4, 3])
print(len(timing.arrivals), "zmq" in sys.modules)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("part", [[], ["--part", "decode"]])
def test_without_a_gpu_it_fails_and_says_why(part: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "out"), *part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("make gpu: no GPU: torch")
    assert "Traceback" not in done.stderr


def test_parts_have_ten_minutes_each_and_half_an_hour_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, limits = [100.0], []

    def part(command: list[str], timeout: float, check: bool) -> subprocess.CompletedProcess[bytes]:
        limits.append(timeout)
        now[0] += timeout
        if len(limits) > 1:
            raise subprocess.TimeoutExpired(command, timeout)
        now[0] -= 500  # The first is done early.
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", part)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    arguments = gpu.options().parse_args(["--out", str(tmp_path)])
    assert gpu.run_parts(arguments) == list(gpu.PARTS[1:])
    assert limits == [600, 600, 600, 500]
    assert "idle: not run, the 1800 s of all parts are over" in capsys.readouterr().err


def test_the_engine_runs_without_msgspec() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MSGSPEC], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["4", "False"], done.stderr[-2000:]


@pytest.mark.parametrize("scheme", [None, "int8", "int4"])
def test_a_random_model_decodes(scheme: str | None) -> None:
    model = random_model("tiny", scheme, CPU)
    core = make_core(model, CPU, max_model_len=64, max_num_seqs=4, max_num_batched_tokens=32, kv_memory=1 << 22)
    timing = run(core, [[5, 6, 7], [9], list(range(2, 30))], [4, 3, 9])
    assert len(timing.arrivals) == 4
    assert timing.arrivals == sorted(timing.arrivals)
    assert core.integrity() == []


def test_the_bytes_of_a_step_leave_the_embedding_out() -> None:
    size = SHAPES["tiny"]
    vectors = (2 * size["num_hidden_layers"] + 1) * size["hidden_size"]
    head = size["vocab_size"] * size["hidden_size"]
    assert step_bytes(random_model("tiny", None, CPU)) == 2 * (linear_parameters("tiny") + vectors + head)
    assert step_bytes(random_model("tiny", "int8", CPU)) < 2 * linear_parameters("tiny") + 2 * head


def test_a_written_checkpoint_is_one(tmp_path: Path) -> None:
    from lepton_engine.models.loader import load_model
    from lepton_engine.weights.checkpoint import open_checkpoint

    folder = write_checkpoint("tiny", tmp_path / "tiny")
    model = load_model(open_checkpoint(folder), dtype=torch.bfloat16, device=CPU)
    assert model.vocab_size == SHAPES["tiny"]["vocab_size"]
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


def test_the_device_idles_where_no_interval_reaches() -> None:
    assert idle_share([(0, 4), (2, 5), (5, 6), (8, 10)]) == pytest.approx(0.2)
    gaps = largest_gaps([(0, 1, "a"), (3, 4, "b"), (4, 5, "a"), (6, 7, "b")])
    assert gaps[0] == {"before": "a", "after": "b", "gaps": 2, "microseconds": 3}


def test_requests_are_the_same_every_time() -> None:
    prompts, outputs = requests(20, 100, 64)
    assert (prompts, outputs) == requests(20, 100, 64)
    assert all(16 <= len(prompt) <= 64 for prompt in prompts)
    assert all(16 <= count <= 32 for count in outputs)


def test_rows_say_what_they_miss() -> None:
    told = table([Row("p", "w", "8B", 0.5, "", 0.85), Row("p", "w", "8B", 3.0, "s", 15.0, at_least=False)])
    assert "MISSED" in told.splitlines()[0]
    assert "reached" in told.splitlines()[1]


def test_a_tuned_table_is_a_table() -> None:
    from benchmarks.gpu.tune import MATMUL, MATVEC, candidates, merged
    from lepton_engine.kernels.triton.tuning import check_table, tables

    default = tables()["default"]
    matvec = [({"max_bits": 8, "max_n": n}, next(candidates(MATVEC))) for n in (4096, 2048)]
    matmul = [({"max_bits": 4, "max_rows": 16, "max_n": 64}, next(candidates(MATMUL, block_m=16)))]
    kernels = {
        **default["kernels"],
        "matvec": merged(matvec, default["kernels"]["matvec"]),
        "matmul": merged(matmul, default["kernels"]["matmul"]),
    }
    check_table("tuned", {**default, "kernels": kernels})
    assert [rule["max_n"] for rule in kernels["matvec"][:2]] == [2048, 4096]
    assert len({tuple(sizes.items()) for sizes in candidates(MATVEC)}) == 18
