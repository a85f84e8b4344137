"""Train the embedded model from nothing: make the corpus, train the tokenizer, train the model, write the checkpoint.

``python -m training.embedded.train`` with its defaults makes the checkpoint that is in the repository.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

import lepton_engine.embedded
from training.embedded.corpus import Document, corpus
from training.embedded.tokenizer import BOS, EOS, PAD, TURN_END, save_tokenizer, train_tokenizer

CONTEXT = 1024


@dataclass(frozen=True)
class Settings:
    """What a training run depends on; the defaults made the committed checkpoint."""

    seed: int = 1
    documents: int = 70_000
    vocab_size: int = 3072
    hidden_size: int = 256
    layers: int = 4
    intermediate_size: int = 640
    heads: int = 4
    kv_heads: int = 2
    row: int = 256  # tokens a row of packed documents
    rows: int = 8  # rows a step
    long_every: int = 10  # each so-many-th step takes rows of the whole context instead
    epochs: float = 1.0
    learning_rate: float = 2.5e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a special token; raises KeyError if the tokenizer hasn't got it."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise KeyError(token)
    return number


def encode(tokenizer: Tokenizer, document: Document) -> list[int]:
    """Return a document's token ids: a story between BOS and EOS, a conversation as its chat template renders it."""
    if document.text:
        return [*tokenizer.encode(document.text).ids, special_id(tokenizer, EOS)]
    turns = (f"<|{role}|>{content}{TURN_END}" for role, content in document.messages)
    return tokenizer.encode("".join(turns)).ids


def batches(documents: Sequence[Sequence[int]], settings: Settings) -> Iterator[torch.Tensor]:
    """Yield batches of ids, int64 [rows, row], without end: every row begins with a document and is filled with more.

    Documents that a row's end cuts lose their rest. Every ``long_every``-th batch has as many tokens in rows of the
    whole context, so that all positions occur. After each epoch the documents come in another order.
    """
    order = np.random.default_rng(settings.seed)
    stream = itertools.chain.from_iterable(order.permutation(len(documents)) for _ in itertools.count())
    for step in itertools.count(1):
        length = CONTEXT if step % settings.long_every == 0 else settings.row
        rows: list[list[int]] = []
        for _ in range(settings.rows * settings.row // length):
            row: list[int] = []
            while len(row) < length:
                row += documents[next(stream)]
            rows.append(row[:length])
        yield torch.tensor(rows)


def build(settings: Settings, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Return the untrained model in float32."""
    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=special_id(tokenizer, BOS),
        eos_token_id=special_id(tokenizer, EOS),
        pad_token_id=special_id(tokenizer, PAD),
    )
    return LlamaForCausalLM(config)


def rate(step: int, steps: int, settings: Settings) -> float:
    """Return the learning rate of ``step``: linear warm-up, then a cosine down to a twentieth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def gradients(model: LlamaForCausalLM, ids: torch.Tensor) -> tuple[float, tuple[torch.Tensor, ...]]:
    """Return the mean next-token loss over ``ids``, int64 [rows, row], and its gradient for each parameter."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def fit(model: LlamaForCausalLM, documents: Sequence[Sequence[int]], settings: Settings, threads: int) -> float:
    """Train ``model`` in place (bfloat16 products, float32 weights); return the mean loss of the last hundred steps.

    Each of ``threads`` threads takes its own rows of a batch through the whole model, so that they meet once a step and
    not at every product: on a machine with other work that is several times as fast. The result depends on ``threads``
    only by the rounding of the sum.
    """
    size = settings.row * settings.rows
    steps = max(1, int(settings.epochs * sum(map(len, documents)) / size))
    parameters = list(model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True)
    losses: list[float] = []
    started = time.perf_counter()
    model.train()
    # torch keeps the number of threads of an operation for each thread apart.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step, ids in zip(range(steps), batches(documents, settings), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, settings)
            shares = ids.chunk(threads)
            results = list(pool.map(partial(gradients, model), shares))
            weights = [share.numel() / ids.numel() for share in shares]
            for index, parameter in enumerate(parameters):
                parts = [weight * found[index] for weight, (_, found) in zip(weights, results, strict=True)]
                parameter.grad = torch.stack(parts).sum(dim=0)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(sum(weight * loss for weight, (loss, _) in zip(weights, results, strict=True)))
            if step % 100 == 99 or step == steps - 1:
                seconds = time.perf_counter() - started
                mean = sum(losses[-100:]) / len(losses[-100:])
                speed = (step + 1) * size / seconds
                print(f"step {step + 1}/{steps}  loss {mean:.4f}  {speed:,.0f} tokens/s  {seconds:.0f} s", flush=True)
    return sum(losses[-100:]) / len(losses[-100:])


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint: bfloat16 weights, config, generation defaults, tokenizer with its chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    generation = {
        "bos_token_id": special_id(tokenizer, BOS),
        "eos_token_id": [special_id(tokenizer, EOS), special_id(tokenizer, TURN_END)],
        "pad_token_id": special_id(tokenizer, PAD),
        "do_sample": True,
        "temperature": 0.8,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(tokenizer, folder, CONTEXT)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=lepton_engine.embedded.path(), help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="seed of corpus, weights and order")
    parser.add_argument("--documents", type=int, default=Settings.documents, help="size of the corpus")
    parser.add_argument("--epochs", type=float, default=Settings.epochs, help="passes over the corpus")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(seed=options.seed, documents=options.documents, epochs=options.epochs)
    started = time.perf_counter()
    documents = list(corpus(settings.seed, settings.documents))
    tokenizer = train_tokenizer((each.plain() for each in documents[:20_000]), settings.vocab_size)
    ids = [encode(tokenizer, each) for each in documents]
    print(
        f"{len(documents):,} documents, {sum(map(len, ids)):,} tokens  {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    model = build(settings, tokenizer)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} weights", flush=True)
    fit(model, ids, settings, options.threads)
    save(model, tokenizer, options.out)
    print(f"wrote {options.out}  {time.perf_counter() - started:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
