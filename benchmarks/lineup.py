"""Which systems stand beside Lepton in a comparison: their processes, what they call their weights, who is missing."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.shapes import SHAPES, Shape, checkpoint
from benchmarks.systems import ctranslate2, hf_transformers, lepton, llama_cpp, onnxruntime_genai, openvino_genai
from benchmarks.systems.environments import Peer, PeerUnavailable
from benchmarks.systems.process import System, SystemProcess

TRANSFORMERS = "transformers"
PEERS: dict[str, tuple[Peer, Callable[..., System]]] = {
    llama_cpp.PEER.name: (llama_cpp.PEER, llama_cpp.make),
    openvino_genai.PEER.name: (openvino_genai.PEER, openvino_genai.make),
    ctranslate2.PEER.name: (ctranslate2.PEER, ctranslate2.make),
    onnxruntime_genai.PEER.name: (onnxruntime_genai.PEER, onnxruntime_genai.make),
}
NAMES = (TRANSFORMERS, *PEERS)
MAIN = (llama_cpp.PEER.name, openvino_genai.PEER.name)
"""A table without these claims nothing."""
WEIGHTS = ("bf16", "int8", "int4")
# Like for like: the peers quantise the output layer too, multiply int8 rows, and llama.cpp's Q4_0 has groups of 32.
OURS = {"bf16": None, "int8": "int8-w8a8+head", "int4": "int4-g32+head"}
BITS = {
    "bf16": (16, 16),
    "int8": (8, 8),
    "int4-g32": (4.5, 8),
    "int4-g64": (4.25, 8),
    "int4-g128": (4.125, 8),
    "int8-b32": (9, 9),
    "int4-b32": (5, 5),
    "BF16": (16, 16),
    "Q8_0": (8.5, 8.5),
    "16-bit": (16, 16),
}
WHOLE = ("int8", "int4-g64", "int8-b32", "int4-b32")
"""Peers' names of weights whose output layer is quantised too."""


def bits(weights: str, shape: Shape) -> tuple[float, float]:
    """Bits of a weight of the layers and of the output layer, scales included, by a system's name of them."""
    if weights == "Q4_0":  # The output layer is Q6_K, or Q8_0 where its rows are no multiple of 256.
        return 4.5, 6.5625 if shape.hidden_size % 256 == 0 else 8.5
    base, plus, _ = weights.partition("+")
    layers, head = BITS[base.removesuffix("-w8a8")]
    return layers, head if plus or not weights.startswith("int") or weights in WHOLE else 16


@dataclass(frozen=True)
class Entry:
    """A system in a comparison.

    Attributes:
        weights: what it calls them. first: it does the first requests of a work only, where it takes one at a time.
    """

    name: str
    weights: str
    make: Callable[..., System]
    arguments: Mapping[str, Any]
    python: Path | None = None
    first: int | None = None


@dataclass
class Lineup:
    """Lepton first, then its peers; `notes` say who is not there, and why."""

    entries: list[Entry]
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def started(self, threads: int) -> Iterator[list[SystemProcess]]:
        """All of them loaded, each in its process."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(SystemProcess(e.name, e.make, e.arguments, threads, e.python)) for e in self.entries
            ]

    def lacks(self, name: str, why: str) -> None:
        """A note that the table has to carry."""
        self.notes.append(f"{'INCOMPLETE, so it claims nothing: ' if name in MAIN else ''}{name}: {why}")


def add_options(parser: argparse.ArgumentParser, weights: str, shapes: str) -> None:
    """The options of comparisons, with their defaults."""
    parser.add_argument("--shapes", type=_names("shape", SHAPES), help=f"default: {shapes}, tiny with --quick")
    parser.add_argument("--weights", type=_names("weights", WEIGHTS), default=_names("weights", WEIGHTS)(weights))
    parser.add_argument("--peers", type=_names("peer", NAMES), default=list(NAMES), help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument(
        "--int4", default=OURS["int4"], metavar="SCHEME", help="Lepton's scheme for int4 (default: %(default)s)"
    )


def _names(what: str, known: Sequence[str] | Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is no {what}: {', '.join(known)}")
        return chosen

    return parse


def line_up(args: argparse.Namespace, shape: str, weights: str, batched: bool = True) -> Lineup:
    """Lepton and the peers of the command line; with --quick those that are installed already.

    Args:
        weights: "bf16", "int8" or "int4".
        batched: whether many requests run at once; llama.cpp then stands there twice.
    """
    folder = checkpoint(shape)
    threads = {"threads": args.threads}
    scheme = args.int4 if weights == "int4" else OURS[weights]
    own = {"folder": folder, "quantization": scheme, **threads}
    lineup = Lineup([Entry(common.LEPTON, scheme or weights, lepton.make, own)])
    for name in NAMES:
        if name == TRANSFORMERS:
            if weights == "bf16" and name in args.peers:
                lineup.entries.append(Entry(name, weights, hf_transformers.make, {"folder": folder, **threads}))
            continue
        peer, make = PEERS[name]
        if weights not in peer.weights:
            lineup.notes.append(f"{name} computes no {weights} on a CPU")
        elif name not in args.peers:
            lineup.lacks(name, "left out by --peers")
        elif args.quick and not peer.folder().exists():
            lineup.lacks(name, "not installed, and --quick installs nothing")
        else:
            try:
                converted = peer.checkpoint(folder, weights)
            except PeerUnavailable as error:
                lineup.lacks(name, str(error))
                continue
            arguments = {"folder": converted, **threads}
            entry = Entry(name, peer.weights[weights], make, arguments, peer.python())
            lineup.entries.append(entry)
            if batched and name == llama_cpp.PEER.name:  # Which is faster depends on the work: the better one counts.
                streams = {**arguments, "unified": False}
                lineup.entries.append(replace(entry, name=f"{name}, a cache each", arguments=streams))
    return lineup
