"""Checkpoints that are quantised and pruned ahead: what is written, where it loads, and what a failure leaves."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from lepton_engine.errors import InvalidRequestError, ModelLoadError, UnsupportedModelError
from lepton_engine.models.loader import load_model
from lepton_engine.offline.folder import WriteError
from lepton_engine.offline.prune import Sparsity, parse_sparsity, prune_checkpoint, prune_weight
from lepton_engine.offline.quantize import quantize_checkpoint
from lepton_engine.quantization.scheme import parse_scheme
from lepton_engine.weights.checkpoint import open_checkpoint
from lepton_service.cli import main

CPU = torch.device("cpu")
IDS = [3, 17, 44, 9, 60, 2, 31, 17]
SCHEMES = [
    "int8",
    "int8-w8a8",
    "int4-g32",
    "int4-g64-asym",
    "int4-g128",
    "fp8",
    "fp8-w8a8",
    "int8+head",
    "int4-g32+head",
]
Saved = Callable[..., Path]


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_written_checkpoints_load_here_and_in_transformers(
    scheme: str,
    dtype: torch.dtype,
    saved: Saved,
    make_llama: Callable[..., Any],
    logits_of: Callable[..., torch.Tensor],
    tmp_path: Path,
) -> None:
    module = make_llama(tie_word_embeddings=scheme.startswith("int4"))
    source, target = saved(module.to(dtype)), tmp_path / "quantised"
    seen: list[tuple[int, int, str]] = []
    quantize_checkpoint(source, target, parse_scheme(scheme), progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(len(seen)))
    assert {total for _, total, _ in seen} == {len(seen) - 1}
    assert (target / "tokenizer.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    here = logits_of(load_model(open_checkpoint(target), dtype=torch.float32, device=CPU), IDS)
    with torch.no_grad():
        plain = module.float()(torch.tensor([IDS])).logits[0]
    assert (here - plain).square().mean().sqrt() < (0.12 if "int4" in scheme else 0.06) * plain.std()
    if scheme == "int4-g64-asym":
        # transformers 5.24 with compressed-tensors 0.20 reads no packed zero points, not even the package's own.
        return
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    with torch.no_grad():
        logits = theirs(torch.tensor([IDS])).logits[0]
    # With quantised inputs the sums are rounded otherwise there.
    close = 0.02 if "w8a8" in scheme else 1e-4
    assert (here - logits).abs().max() < close * logits.abs().max()


def test_of_several_files_one_index(
    saved: Saved, make_llama: Callable[..., Any], logits_of: Callable[..., torch.Tensor], tmp_path: Path
) -> None:
    source = saved(make_llama(), max_shard_size="60KB")
    size = quantize_checkpoint(source, tmp_path / "one", parse_scheme("int8"))
    assert quantize_checkpoint(source, tmp_path / "many", parse_scheme("int8"), shard_bytes=40_000) == size
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 3
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "many").glob("*.safetensors")} == {0o644}
    one, many = (
        logits_of(load_model(open_checkpoint(tmp_path / name), dtype=torch.float32, device=CPU), IDS)
        for name in ("one", "many")
    )
    assert torch.equal(one, many)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == size
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "many", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(torch.tensor([IDS])).logits[0], one, rtol=1e-3, atol=1e-3)


# -- failures ---------------------------------------------------------------------------------------------------------


def leftovers(folder: Path, *expected: str) -> list[str]:
    return sorted({path.name for path in folder.iterdir()} - set(expected))


def test_a_target_that_is_there_is_left_alone(saved: Saved, make_llama: Callable[..., Any], tmp_path: Path) -> None:
    source = saved(make_llama())
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("x")
    with pytest.raises(InvalidRequestError, match=r"target: '.*there' is there already"):
        quantize_checkpoint(source, tmp_path / "there", parse_scheme("int8"))
    with pytest.raises(InvalidRequestError, match=r"target: '.*there' is there already"):
        prune_checkpoint(source, tmp_path / "there", Sparsity(0.5))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine"]


@pytest.mark.parametrize("change", ["nan", "group", "missing", "quantised", "gpt2"])
def test_sources_that_cannot_be_quantised_leave_nothing(
    change: str, saved: Saved, make_llama: Callable[..., Any], tmp_path: Path
) -> None:
    module = make_llama(intermediate_size=96) if change == "group" else make_llama()
    error: type[Exception] = ModelLoadError
    if change == "nan":
        module.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
        message = r"layers\.1\.mlp\.down_proj\.weight cannot be quantised to int4-g64: 1 of its .* infinite or NaN"
    elif change == "group":
        message = r"down_proj\.weight cannot be quantised to int4-g64: it has 96 inputs, which groups of 64 do not"
    elif change == "missing":
        message = r"tensors are missing: .*"
    elif change == "quantised":
        error, message = InvalidRequestError, r"source: .* is quantised already \(awq\)"
    else:
        config = transformers.GPT2Config(vocab_size=61, n_embd=64, n_head=4, n_layer=1, bos_token_id=0, eos_token_id=1)
        module = transformers.GPT2LMHeadModel(config)
        error, message = UnsupportedModelError, r"model_type is 'gpt2', which stores weights as \[in, out\]"
    source = saved(module)
    if change in ("missing", "quantised"):
        field = {"num_hidden_layers": 3} if change == "missing" else {"quantization_config": {"quant_method": "awq"}}
        config = json.loads((source / "config.json").read_text()) | field
        (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        quantize_checkpoint(source, tmp_path / "target", parse_scheme("int4-g64"))
    assert leftovers(tmp_path, source.name) == []


LIMITED = """
import resource, sys
from lepton_service.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["quantize", "prune"])
def test_a_disk_that_is_full_leaves_nothing(
    command: str, saved: Saved, make_llama: Callable[..., Any], tmp_path: Path
) -> None:
    # The kernel refuses to let a file grow as it does on a full disk.
    source = saved(make_llama(vocab_size=512))
    arguments = [sys.executable, "-c", LIMITED, command, str(source), str(tmp_path / "target")]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 1, ended.stderr
    assert f"lepton {command}: {tmp_path / 'target'}: cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert leftovers(tmp_path, source.name) == []


def test_a_folder_that_may_not_be_written_to(saved: Saved, make_llama: Callable[..., Any], tmp_path: Path) -> None:
    source = saved(make_llama())
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        quantize_checkpoint(source, tmp_path / "file" / "target", parse_scheme("int8"))


def test_an_interrupted_run_leaves_nothing(saved: Saved, make_llama: Callable[..., Any], tmp_path: Path) -> None:
    source = saved(make_llama())

    def progress(done: int, total: int, name: str) -> None:
        if done == total // 2:
            assert len(leftovers(tmp_path, source.name)) == 1  # what is being written, under a hidden name
            raise KeyboardInterrupt  # A signal would not do: processes in the background ignore it.

    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(source, tmp_path / "target", parse_scheme("int8"), progress=progress)
    assert leftovers(tmp_path, source.name) == []


# -- pruning ----------------------------------------------------------------------------------------------------------


def test_two_of_four() -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 0.0, 0.0, 0.0, -1.0], [4.0, 4.0, 4.0, 4.0, -1.0, 2.0, -3.0, 0.0]])
    pruned = [[0.0, -3.0, 2.0, 0.0, 0.0, 0.0, 0.0, -1.0], [4.0, 4.0, 0.0, 0.0, 0.0, 2.0, -3.0, 0.0]]
    assert prune_weight(weight, Sparsity(None)).tolist() == pruned
    with pytest.raises(ValueError, match="6 inputs, which 4 does not divide"):
        prune_weight(torch.ones(2, 6), Sparsity(None))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
def test_the_least_magnitudes_go(share: float) -> None:
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(1)).bfloat16()  # bfloat16 has many ties
    pruned = prune_weight(weight, Sparsity(share))
    gone = pruned == 0
    assert int(gone.sum()) == round(600 * share)
    assert torch.equal(pruned[~gone], weight[~gone])
    assert weight[gone].abs().max() <= weight[~gone].abs().min()


def test_pruned_checkpoints(
    saved: Saved, make_llama: Callable[..., Any], logits_of: Callable[..., torch.Tensor], tmp_path: Path
) -> None:
    source = saved(make_llama())
    assert prune_checkpoint(source, tmp_path / "sparse", Sparsity(None)) >= 0.5
    assert json.loads((tmp_path / "sparse" / "config.json").read_text())["weight_sparsity"] == "2:4"
    with safe_open(tmp_path / "sparse" / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            tensor = file.get_tensor(name)
            if name.endswith("_proj.weight"):
                assert ((tensor.view(-1, 4) != 0).sum(-1) <= 2).all()
            else:
                assert (tensor != 0).all()
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "sparse", dtype=torch.float32)
    with torch.no_grad():
        logits = theirs(torch.tensor([IDS])).logits[0]
    here = load_model(open_checkpoint(tmp_path / "sparse"), dtype=torch.float32, device=CPU)
    torch.testing.assert_close(logits_of(here, IDS), logits, rtol=1e-3, atol=1e-3)
    quantize_checkpoint(tmp_path / "sparse", tmp_path / "both", parse_scheme("int4-g32"))
    with safe_open(tmp_path / "both" / "model.safetensors", framework="pt") as file:
        packed = file.get_tensor("model.layers.0.mlp.up_proj.weight_packed").view(torch.uint8)
    nibbles = torch.stack((packed & 15, packed >> 4), -1).view(-1, 4)
    assert ((nibbles != 8).sum(-1) <= 2).all()  # zeros stay zeros


@pytest.mark.parametrize(("text", "share"), [("2:4", None), ("0.3", 0.3), ("30%", 0.3), (" 12.5% ", 0.125)])
def test_sparsity(text: str, share: float | None) -> None:
    assert parse_sparsity(text) == Sparsity(share)


@pytest.mark.parametrize("text", ["", "1:4", "0", "1", "100%", "-5%", "half", "nan"])
def test_sparsity_that_is_none(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"sparsity: .* is neither 2:4 nor a share between 0 and 1"):
        parse_sparsity(text)


# -- the commands -----------------------------------------------------------------------------------------------------


def test_commands(
    saved: Saved, make_llama: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lepton(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, *capsys.readouterr()

    source = saved(make_llama())
    status, out, err = lepton("quantize", str(source), str(tmp_path / "q"), "--scheme", "int4-g32+head", "--no-search")
    assert (status, err) == (0, "")
    assert "int4-g32+head, 0.2 MB of weights, in" in out
    status, out, err = lepton("prune", str(source), str(tmp_path / "p"), "--sparsity", "25%")
    assert (status, err) == (0, "")
    assert "25.0% of the linear layers' weights are zero" in out
    for arguments, message in (
        (("quantize", str(source), str(tmp_path / "x"), "--scheme", "int3"), "scheme: 'int3' is not one of int8"),
        (("prune", str(source), str(tmp_path / "x"), "--sparsity", "3:4"), "sparsity: '3:4' is neither"),
        (("quantize", "/nowhere/model", str(tmp_path / "x")), "'/nowhere/model'"),
        (("quantize", str(source), str(tmp_path / "q")), "is there already"),
    ):
        status, _, err = lepton(*arguments)
        assert status == 1
        assert message in err
    assert not (tmp_path / "x").exists()


def test_a_terminal_sees_the_progress(saved: Saved, make_llama: Callable[..., Any], tmp_path: Path) -> None:
    source = saved(make_llama())
    screen, terminal = pty.openpty()
    code = "import sys; from lepton_service.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "quantize", str(source), str(tmp_path / "q")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment) as running:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux ends a terminal that nobody holds with EIO.
            while part := os.read(screen, 4096):
                shown += part
    os.close(screen)
    assert running.returncode == 0
    # Two layers of nine tensors, the embedding, the last norm and the output layer.
    assert b"21/21" in shown
