"""What each scheme of quantisation and pruning costs in quality, against the same model in bfloat16.

Perplexity on texts that the embedded model never saw, and the error of the logits: the root mean square of their
difference, as a share of their standard deviation. Random-weight models of the benchmarks' shapes say what rounding
does to the logits where nothing was learnt. Kernels are those that serve: on processors that multiply integers, int4
takes inputs in int8 too. `*` marks checkpoints that `lepton quantize` wrote, which searches the range of each group.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import common
from benchmarks.shapes import SHAPES, checkpoint
from lepton_engine import embedded
from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KV_DTYPES
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.offline.prune import parse_sparsity, prune_checkpoint
from lepton_engine.offline.quantize import quantize_checkpoint
from lepton_engine.quantization.scheme import parse_scheme
from lepton_engine.runtime.kv_memory import allocate_kv_cache, kv_groups
from lepton_engine.text.tokenizer import Tokenizer
from lepton_engine.weights.checkpoint import open_checkpoint

SCHEMES = (
    "int8",
    "int8-w8a8",
    "int8+head",
    "int8-w8a8+head",
    "int4-g32",
    "int4-g64",
    "int4-g128",
    "int4-g32-asym",
    "int4-g64-asym",
    "int4-g128-asym",
    "int4-g32+head",
    "int4-g64+head",
    "fp8",
)
SEARCHED = ("int4-g32", "int4-g64", "int4-g128", "int4-g64-asym")
SPARSITIES = ("2:4", "30%")
BLOCK = 16
CPU = torch.device("cpu")
UNSEEN_SEED = 4242


@dataclass(frozen=True)
class Variant:
    """A checkpoint, how it is quantised while it is loaded, and the dtype of the KV cache."""

    name: str
    folder: Path
    scheme: str | None = None
    kv_cache: str | None = None
    dtype: torch.dtype = torch.bfloat16


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random-weight model (default: 135M, tiny with --quick)"
    )
    parser.add_argument("--documents", type=int, help="unseen texts (default: 60, 4 with --quick)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        texts = unseen(args.documents or (4 if args.quick else 60))
        variants = list(variants_of(embedded.path(), Path(scratch) / "embedded"))
        rows += measure("embedded model", variants, texts, learnt=True)
        shape = args.shape or ("tiny" if args.quick else "135M")
        folder = checkpoint(shape)
        generator = torch.Generator().manual_seed(0)
        length, vocab = (32 if args.quick else 256), SHAPES[shape].vocab_size
        tokens = [torch.randint(0, vocab, (length,), generator=generator).tolist()]
        rows += measure(f"random {shape}", list(variants_of(folder, Path(scratch) / shape)), tokens, learnt=False)
    notes = [
        f"{torch.get_num_threads()} threads; logit error: rms of the difference / standard deviation of bfloat16's"
    ]
    common.report("Quality", rows, args.json, notes)
    return 0


def unseen(count: int) -> list[list[int]]:
    """Token ids of stories by the corpus' grammar under another seed than the training's."""
    from training.embedded.corpus import corpus

    tokenizer = Tokenizer.load(embedded.path())
    return [tokenizer.encode(document.plain())[:512] for document in corpus(UNSEEN_SEED, count)]


def variants_of(folder: Path, scratch: Path) -> Iterator[Variant]:
    """Of one checkpoint: plain ones first, the first of all the baseline."""
    yield Variant("bfloat16", folder)
    yield Variant("float32 arithmetic", folder, dtype=torch.float32)
    for scheme in SCHEMES:
        if fits(folder, scheme):
            yield Variant(scheme, folder, scheme)
    for scheme in SEARCHED:
        if fits(folder, scheme):
            target = scratch / scheme
            quantize_checkpoint(folder, target, parse_scheme(scheme))
            yield Variant(f"{scheme} *", target)
    for name in KV_DTYPES:
        yield Variant(f"bfloat16, KV cache {name}", folder, kv_cache=name)
    yield Variant("int8, KV cache int8", folder, "int8", "int8")
    for sparsity in SPARSITIES:
        target = scratch / sparsity.replace(":", "-")
        prune_checkpoint(folder, target, parse_sparsity(sparsity))
        yield Variant(f"pruned {sparsity}", target)


def fits(folder: Path, scheme: str) -> bool:
    """Whether the groups of a scheme divide the model's widths."""
    config = open_checkpoint(folder).config
    size = parse_scheme(scheme).group_size or 1
    return not any(config[name] % size for name in ("hidden_size", "intermediate_size"))


def measure(work: str, variants: Sequence[Variant], texts: Sequence[list[int]], *, learnt: bool) -> list[common.Row]:
    """Rows of all variants, the first being what the others are compared with."""
    rows: list[common.Row] = []
    baseline: list[torch.Tensor] = []
    for variant in variants:
        model = load_model(
            open_checkpoint(variant.folder),
            dtype=variant.dtype,
            device=CPU,
            quantization=None if variant.scheme is None else parse_scheme(variant.scheme),
        )
        kv_dtype = variant.dtype if variant.kv_cache is None else KV_DTYPES[variant.kv_cache]
        found = [logits(model, ids, kv_dtype) for ids in texts]
        baseline = baseline or found
        figures = [(f"{work}: weights", model.sizes()[1] / 1e6, "MB")]
        if learnt:
            figures.append((f"{work}: perplexity", perplexity(found, texts), "ppl"))
        if found is not baseline:
            figures.append((f"{work}: logit error", 100 * logit_error(found, baseline), "%"))
        if learnt and found is not baseline:
            figures.append((f"{work}: same first choice", 100 * agreement(found, baseline), "%"))
        for name, value, unit in figures:
            rows.append(common.Row(name, common.LEPTON, variant.name, value, unit, versions=common.versions("torch")))
        print(f"{work}, {variant.name}: " + ", ".join(f"{value:.4g} {unit}" for _, value, unit in figures), flush=True)
    return rows


@torch.inference_mode()
def logits(model: CausalLM, ids: list[int], kv_dtype: torch.dtype) -> torch.Tensor:
    """Float32 [tokens, vocab_size] of one sequence, computed in chunks of 64 tokens: keys are read from the cache."""
    blocks = -(-len(ids) // BLOCK)
    groups = kv_groups(model.kv_layers, kv_dtype)
    layout = KVCacheLayout(BLOCK, groups, (blocks + 1,) * len(groups), len(ids))
    caches = allocate_kv_cache(layout, model.kv_layers, kv_dtype, CPU)
    model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
    table = torch.arange(1, blocks + 1, dtype=torch.int32).view(1, -1)
    rows = []
    for first in range(0, len(ids), 64):
        last = min(first + 64, len(ids))
        positions = torch.arange(first, last)
        group = KVGroupBatch(table, positions + BLOCK)
        start, length = torch.tensor([0, last - first], dtype=torch.int32), torch.tensor([last], dtype=torch.int32)
        batch = BatchContext(positions, start, length, (last - first,), last, (group,) * len(groups))
        rows.append(model.logits(model(torch.tensor(ids[first:last]), batch)))
    return torch.cat(rows)


def perplexity(found: Sequence[torch.Tensor], texts: Sequence[list[int]]) -> float:
    """Of all tokens but the first of each text."""
    pairs = zip(found, texts, strict=True)
    losses = [torch.nn.functional.cross_entropy(x[:-1], torch.tensor(ids[1:]), reduction="none") for x, ids in pairs]
    return float(torch.cat(losses).mean().exp())


def logit_error(found: Sequence[torch.Tensor], baseline: Sequence[torch.Tensor]) -> float:
    """Root mean square of the difference over the standard deviation of the baseline within each position."""
    one, other = torch.cat(list(found)), torch.cat(list(baseline))
    return float((one - other).square().mean().sqrt() / (other - other.mean(-1, keepdim=True)).square().mean().sqrt())


def agreement(found: Sequence[torch.Tensor], baseline: Sequence[torch.Tensor]) -> float:
    """Share of positions with the same likeliest token."""
    return float((torch.cat(list(found)).argmax(-1) == torch.cat(list(baseline)).argmax(-1)).float().mean())


if __name__ == "__main__":
    sys.exit(main())
