"""Arguments that several commands take, and the types of their values."""

import argparse
import math
import os
import re
from pathlib import Path
from typing import Any

from lepton_service.client.channel import ChannelTLS
from lepton_service.client.token import Token, token_file

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?|)b?", re.IGNORECASE)


def size(text: str) -> int:
    """Bytes from a text such as `512MiB` or `2G`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1073741824, 512MiB or 2GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    value = _number(text, int)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(value)


def count(text: str) -> int:
    """A whole number of at least 0."""
    value = _number(text, int)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0")
    return int(value)


def seconds(text: str) -> float:
    """A time of at least 0 seconds."""
    value = _number(text, float)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time of at least 0 seconds")
    return value


def positive_seconds(text: str) -> float:
    """A time above 0 seconds."""
    value = seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0 seconds")
    return value


def port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    value = int(_number(text, int))
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, allowed is 0 to 65535")
    return value


def _number(text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from error


def add_server_arguments(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Which server a client command calls, and how."""
    group = parser.add_argument_group("server")
    shown = "in this process" if default is None else default
    group.add_argument("--server", metavar="HOST:PORT", default=default, help=f"gRPC target (default: {shown})")
    group.add_argument("--tls", action="store_true", help="use TLS, trusting the system's authorities")
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="use TLS, trusting this authority (PEM)")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="client certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    group.add_argument("--tls-server-name", metavar="NAME", help="name that the server's certificate must carry")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="bearer token (default: the environment's LEPTON_TOKEN, if any)"
    )
    group.add_argument(
        "--allow-plaintext-token", action="store_true", help="send the token without TLS to other machines, too"
    )


def channel_tls(args: argparse.Namespace) -> ChannelTLS | None:
    """The TLS settings of `add_server_arguments`; None for plaintext."""
    if not args.tls and args.tls_ca is None and args.tls_cert is None:
        return None
    return ChannelTLS(args.tls_ca, args.tls_cert, args.tls_key, args.tls_server_name)


def client_options(args: argparse.Namespace) -> dict[str, Any]:
    """What a client is made with, from `add_server_arguments`. Raises OSError when the token's file cannot be read."""
    token: Token | None = os.environ.get("LEPTON_TOKEN") or None
    if args.token_file is not None:
        token = token_file(args.token_file)
        token()
    return {"tls": channel_tls(args), "token": token, "allow_plaintext_token": args.allow_plaintext_token}


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """How the engine runs; the names are those of LeptonEngine."""
    group = parser.add_argument_group("engine")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: CUDA where there is one)")
    group.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: the checkpoint's)")
    group.add_argument(
        "--quantize",
        "--quantization",
        dest="quantization",
        metavar="SCHEME",
        help="quantise plain weights while loading: int8, int8-w8a8, int4, int4-g32, int4-g64, int4-g128 (int4 also "
        "with -asym), fp8, fp8-w8a8; +head behind it for the output layer too (default: as they are stored)",
    )
    group.add_argument(
        "--kv-cache-dtype", default="auto", metavar="NAME", help="auto, int8 or fp8 (default: auto, the model's)"
    )
    group.add_argument(
        "--kv-cache-memory", type=size, metavar="SIZE", help="KV cache, such as 2GiB (default: what is measured free)"
    )
    group.add_argument(
        "--max-model-len", type=positive_int, metavar="N", help="tokens of prompt and output (default: the model's)"
    )
    group.add_argument(
        "--max-num-seqs", type=positive_int, default=256, metavar="N", help="sequences computed at once (default: 256)"
    )
    group.add_argument(
        "--max-num-batched-tokens", type=positive_int, default=1024, metavar="N", help="tokens a step (default: 1024)"
    )
    group.add_argument(
        "--block-size", type=positive_int, default=16, metavar="N", help="tokens a KV block (default: 16)"
    )
    group.add_argument(
        "--no-prefix-caching", action="store_true", help="compute every prompt anew (default: prefixes are shared)"
    )
    group.add_argument("--num-threads", type=positive_int, metavar="N", help="CPU threads (default: all cores)")
    group.add_argument(
        "--batch-invariant", action="store_true", help="bit-identical tokens whatever else runs (default: faster)"
    )
    group.add_argument(
        "--speculative-method",
        choices=("ngram", "draft"),
        help="propose tokens by prompt lookup or by --speculative-model, verify several a step (default: neither)",
    )
    group.add_argument("--speculative-model", metavar="MODEL", help="smaller model of the same vocabulary")
    group.add_argument(
        "--speculative-tokens", type=positive_int, default=4, metavar="N", help="longest draft (default: 4)"
    )
    group.add_argument(
        "--speculative-lookup-max", type=positive_int, default=4, metavar="N", help="longest run looked up (default: 4)"
    )
    group.add_argument(
        "--speculative-lookup-min", type=positive_int, default=2, metavar="N", help="shortest run (default: 2)"
    )
    group.add_argument("--engine-seed", type=count, metavar="N", help="repeat the seeds drawn for requests without one")


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of LeptonEngine from `add_engine_arguments`."""
    return {
        "device": args.device,
        "dtype": args.dtype,
        "quantization": args.quantization,
        "kv_cache_dtype": args.kv_cache_dtype,
        "kv_cache_memory": args.kv_cache_memory,
        "max_model_len": args.max_model_len,
        "max_num_seqs": args.max_num_seqs,
        "max_num_batched_tokens": args.max_num_batched_tokens,
        "block_size": args.block_size,
        "enable_prefix_caching": not args.no_prefix_caching,
        "num_threads": args.num_threads,
        "batch_invariant": args.batch_invariant,
        "seed": args.engine_seed,
        "speculation": _speculation(args),
    }


def _speculation(args: argparse.Namespace) -> Any:
    """`lepton_engine.SpeculationSettings` as asked for, None without; a model alone asks for the method "draft"."""
    method = args.speculative_method or ("draft" if args.speculative_model is not None else None)
    if method is None:
        return None
    from lepton_engine import SpeculationSettings

    return SpeculationSettings(
        method=method,
        num_speculative_tokens=args.speculative_tokens,
        model=args.speculative_model,
        prompt_lookup_max=args.speculative_lookup_max,
        prompt_lookup_min=args.speculative_lookup_min,
    )


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen and when the output ends; ranges are checked by the engine or the server."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-tokens", type=int, metavar="N", help="most tokens to generate (default: what fits)")
    group.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest (default: the model's, 1)")
    group.add_argument("--top-p", type=float, metavar="P", help="nucleus mass (default: the model's, 1)")
    group.add_argument("--top-k", type=int, metavar="K", help="candidates kept (default: the model's, all)")
    group.add_argument("--min-p", type=float, metavar="P", help="floor relative to the likeliest (default: 0)")
    group.add_argument("--seed", type=int, metavar="N", help="repeat an output (default: drawn)")
    group.add_argument("--stop", action="append", metavar="TEXT", help="text that ends the output; may be repeated")
    group.add_argument("--ignore-eos", action="store_true", default=None, help="go on past the end of sequence")


def sampling_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of `add_sampling_arguments`, under the names that client and engine share."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "ignore_eos")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
