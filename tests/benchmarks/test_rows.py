import argparse
import random
from pathlib import Path

import pytest

from benchmarks import common, lineup, mixed, plots, prefix, rounds
from benchmarks.shapes import SHAPES
from benchmarks.works import Work, common_prefix


def entry(name: str) -> lineup.Entry:
    return lineup.Entry(name, "bf16", lambda: None, {})  # type: ignore[arg-type,return-value]


def test_ratios_are_medians_of_the_rounds() -> None:
    rates = {("w", common.LEPTON): [10.0, 40.0, 30.0], ("w", "peer"): [10.0, 10.0, 10.0]}
    played = rounds.Played(rates, peaks={common.LEPTON: 1.0, "peer": 2.0})
    own, peer = rounds.rows(played, [entry(common.LEPTON), entry("peer")], "135M")
    assert (own.value, own.ratio) == (30.0, None)
    assert (peer.value, peer.ratio, peer.peak_rss_mb) == (10.0, 3.0, 2.0)


def test_a_part_of_a_work_counts_its_own_tokens() -> None:
    work = Work("w", ((1,), (2,)), (3, 4))
    assert rounds.part(work, None) is work
    assert rounds.part(work, 1).generated == 3


def test_bytes_of_a_step() -> None:
    shape = SHAPES["135M"]
    assert shape.layer_weights + shape.head_weights == pytest.approx(134.5e6, rel=0.01)
    assert shape.read_bytes(*lineup.bits("bf16", shape)) == pytest.approx(269e6, rel=0.01)
    assert lineup.bits("int8-w8a8+head", shape) == (8, 8)
    assert lineup.bits("int4-g32", shape) == (4.5, 16)
    assert lineup.bits("int4-b32", shape) == (5, 5)
    assert lineup.bits("int4-g32+head", shape) == (4.5, 8)
    assert lineup.bits("Q4_0", SHAPES["1B"]) == (4.5, 6.5625)
    assert lineup.bits("int8+head", shape) == lineup.bits("int8", shape) == (8, 8)


def test_a_missing_peer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.systems.environments.PEERS", tmp_path)
    monkeypatch.setattr(lineup, "checkpoint", lambda shape: tmp_path)
    parser = argparse.ArgumentParser()
    lineup.add_options(parser, "bf16", "135M")
    args = parser.parse_args(["--peers", "transformers,llama.cpp"])
    args.quick = True
    found = lineup.line_up(args, "tiny", "bf16")
    assert [e.name for e in found.entries] == [common.LEPTON, "transformers"]
    incomplete = [note for note in found.notes if note.startswith("INCOMPLETE")]
    assert [note.split(": ")[1] for note in incomplete] == list(lineup.MAIN)
    assert "CTranslate2 computes no bf16 on a CPU" in found.notes
    args = parser.parse_args([])
    args.quick = True
    notes = lineup.line_up(args, "tiny", "int4").notes
    assert "ONNX Runtime GenAI: not installed, and --quick installs nothing" in notes
    with pytest.raises(SystemExit):
        parser.parse_args(["--peers", "nobody"])


@pytest.mark.parametrize("works", [mixed.mixed_works, prefix.prefix_works])
def test_rounds_have_fresh_prompts_of_the_same_lengths(works: mixed.WorksOf) -> None:
    one, other = works(512, 1, 1.0), works(512, 2, 1.0)
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.outputs) == (b.name, b.outputs)
        assert list(map(len, a.prompts)) == list(map(len, b.prompts))
        assert a.prompts != b.prompts


def test_prefix_is_shared_and_comes_again() -> None:
    fresh, again = prefix.prefix_works(512, 1, 1.0)
    assert len({prompt[: prefix.SHARED] for prompt in fresh.prompts + again.prompts}) == 1
    assert len(set(fresh.prompts + again.prompts)) == 2 * prefix.REQUESTS


def test_a_common_prefix_leaves_a_token_to_each() -> None:
    assert common_prefix(((1, 2, 3), (1, 2, 4, 5))) == 2
    assert common_prefix(((1, 2, 3), (1, 2, 3, 5))) == 2
    assert common_prefix(((1,), (2,))) == 0


def test_plots(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [common.Row(w, s, "135M", rng.random(), "tok/s") for w in "abc" for s in (common.LEPTON, "peer")]
    file = tmp_path / "table.svg"
    plots.draw("Table", rows, file)
    assert "<svg" in file.read_text()
    with pytest.raises(ValueError, match="no rows"):
        plots.draw("Table", [], file)
