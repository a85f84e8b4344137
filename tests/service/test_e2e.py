"""The `lepton` command over real sockets with the real engine, on a tiny model of random weights."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lepton.v1.generation_pb2 import FinishReason
from lepton_service.client import AsyncLeptonClient, DeadlineExceededError, InvalidArgumentError, LeptonClient

LEPTON = str(Path(sys.executable).parent / "lepton")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 257,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "eos_token_id": 256,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of random weights with a byte-level tokenizer and a chat template."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": TEMPLATE}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    random = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (257, 32), "lm_head.weight": (257, 32), "model.norm.weight": (32,)}
    for layer in range(2):
        shapes.update(
            {
                f"model.layers.{layer}.{name}.weight": shape
                for name, shape in {
                    "input_layernorm": (32,),
                    "post_attention_layernorm": (32,),
                    "self_attn.q_proj": (32, 32),
                    "self_attn.k_proj": (16, 32),
                    "self_attn.v_proj": (16, 32),
                    "self_attn.o_proj": (32, 32),
                    "mlp.gate_proj": (64, 32),
                    "mlp.up_proj": (64, 32),
                    "mlp.down_proj": (32, 64),
                }.items()
            }
        )
    weights = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else random.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@dataclass
class Serving:
    """A `lepton serve` in a process of its own."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    target: str = ""
    control: str = ""

    def read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def wait_for(self, pattern: str) -> str:
        """The first group of the first log line that matches; reads on until there is one."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            match = re.search(pattern, line)
            if match is not None:
                return match[1]
        raise AssertionError(f"the server ended without {pattern!r}:\n{''.join(self.lines)}")


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(scope="module", autouse=True)
def none_left() -> Iterator[None]:
    """Ends the servers that a failed test has left; the engine's process ends with its server."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


def start(model: Path | None = None, *flags: str) -> Serving:
    """A server whose ports are open; its model may still load."""
    command = [
        LEPTON,
        "serve",
        *([] if model is None else [str(model)]),
        "--port",
        "0",
        "--control-port",
        "0",
        "--num-threads",
        "1",
    ]
    command += ["--kv-cache-memory", "32MiB", "--drain-propagation", "0", *flags]
    serving = Serving(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    STARTED.append(serving.process)
    serving.target = serving.wait_for(r"inference on (\S+)")
    serving.control = serving.wait_for(r"control on (\S+)")
    return serving


def finish(serving: Serving) -> int:
    """The exit status, once it has ended by itself."""
    serving.read()
    return serving.process.wait()


@pytest.fixture(scope="module")
def served(tiny: Path) -> Iterator[Serving]:
    """A server whose model is ready."""
    serving = start(tiny)
    serving.wait_for(r"model (\S+) is ready")
    reader = threading.Thread(target=serving.read)  # a full pipe would stop the server
    reader.start()
    yield serving
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait() == 0, "".join(serving.lines)
    reader.join()


@pytest.fixture
def client(served: Serving) -> Iterator[LeptonClient]:
    with LeptonClient(served.target) as found:
        yield found


def test_a_stream_is_what_the_engine_gives_in_process(client: LeptonClient, tiny: Path) -> None:
    from lepton_engine import LeptonEngine, SamplingParams

    with client.generate("hello there", max_tokens=40, temperature=0.0, logprobs=2) as stream:
        events = list(stream)
    ids = [token for event in events for token in event.delta.token_ids]
    with LeptonEngine(tiny, num_threads=1, kv_cache_memory=32 << 20) as engine:
        params = SamplingParams(max_tokens=40, temperature=0.0, logprobs=2)
        (expected,) = engine.generate("hello there", params)
    assert ids == expected.outputs[0].token_ids
    assert "".join(event.delta.text for event in events) == expected.outputs[0].text
    rows = [value for event in events for value in event.delta.logprobs.logprobs]
    assert expected.outputs[0].logprobs is not None
    wanted = [row[token].logprob for token, row in zip(ids, expected.outputs[0].logprobs, strict=True)]
    assert rows == pytest.approx(wanted, abs=1e-4)
    assert events[0].started.prompt_tokens == 11


def test_seeds_repeat_and_are_reported(client: LeptonClient) -> None:
    first = client.complete("hello", max_tokens=20)
    again = client.complete("hello", max_tokens=20, seed=first.started.seed)
    assert list(first.choices[0].token_ids) == list(again.choices[0].token_ids)


def test_stop_strings_and_tokens_are_reported(client: LeptonClient) -> None:
    free = client.complete("hello", max_tokens=30, temperature=0.0).choices[0]
    token = free.token_ids[10]
    by_token = client.complete("hello", max_tokens=30, temperature=0.0, stop_token_ids=[token]).choices[0]
    assert by_token.finished.reason == FinishReason.FINISH_REASON_STOP
    assert by_token.finished.stop_token_id == token
    assert free.finished.reason == FinishReason.FINISH_REASON_LENGTH


def test_a_time_limit_is_a_partial_success(client: LeptonClient) -> None:
    answer = client.complete("hello", ignore_eos=True, time_limit=0.05)
    assert answer.choices[0].finished.reason in (
        FinishReason.FINISH_REASON_TIME_LIMIT,
        FinishReason.FINISH_REASON_LENGTH,  # a machine that makes 2,000 tokens in that time
    )


def test_a_chat_is_answered(client: LeptonClient) -> None:
    rendered = client.apply_chat_template([{"role": "user", "content": "hi"}])
    assert rendered.text == "<user>hi\n<assistant>"
    answer = client.complete([{"role": "user", "content": "hi"}], max_tokens=3, return_prompt_token_ids=True)
    assert list(answer.started.prompt_token_ids) == list(rendered.token_ids)


def test_bad_requests_name_the_field(client: LeptonClient) -> None:
    for options, field_path in (({"max_tokens": 0}, "stop.max_tokens"), ({"top_p": 0.0}, "sampling.top_p")):
        with pytest.raises(InvalidArgumentError) as caught:
            client.complete("hello", **options)
        assert caught.value.violations[0].field == field_path
    with pytest.raises(InvalidArgumentError) as caught:
        client.complete([1] * 2048)
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"


async def test_many_streams_at_once_and_cancelled_ones_leave_nothing(served: Serving) -> None:
    async with AsyncLeptonClient(served.target) as client:

        async def whole(number: int) -> int:
            stream = client.generate([number % 256] * 20, max_tokens=30, ignore_eos=True)
            return sum([len(event.delta.token_ids) async for event in stream])

        async def cut(number: int) -> None:
            async with client.generate([number % 256] * 20, ignore_eos=True) as stream:
                async for event in stream:
                    if event.WhichOneof("event") == "delta":
                        return

        async def late(number: int) -> None:
            with pytest.raises(DeadlineExceededError):
                async for _ in client.generate([number % 256] * 500, ignore_eos=True, deadline=0.02):
                    pass

        works = [work(number) for number in range(16) for work in (whole, cut, late)]
        results = await asyncio.gather(*works)
        assert [result for result in results if result is not None] == [30] * 16
        while True:
            stats = await client.stats()
            if stats.running == stats.waiting == 0 and stats.kv_blocks_free == stats.kv_blocks_total:
                break
        assert stats.kv_blocks_referenced == 0
        assert stats.finished >= 16
        assert stats.aborted >= 1
        assert stats.generated_tokens >= 16 * 30


def test_the_front_end_imports_no_torch(served: Serving) -> None:
    front = psutil.Process(served.process.pid)
    assert not [entry.path for entry in front.memory_maps() if "libtorch" in entry.path]
    assert [child for child in front.children() if "lepton_engine" in " ".join(child.cmdline())]


def lepton(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([LEPTON, *arguments], input=text, capture_output=True, text=True, check=False)


def test_lepton_generate_streams_from_a_server(served: Serving) -> None:
    flags = ("--server", served.target, "--max-tokens", "12", "--temperature", "0", "--stats")
    result = lepton("generate", "hello", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert "12 generated" in result.stderr
    assert lepton("generate", "-", *flags, text="hello\n").stdout == result.stdout


def test_lepton_generate_runs_in_process_too(served: Serving, tiny: Path) -> None:
    flags = ("hello", "--max-tokens", "12", "--temperature", "0")
    local = lepton("generate", *flags, "--model", str(tiny), "--num-threads", "1", "--kv-cache-memory", "32MiB")
    assert local.returncode == 0, local.stderr
    assert local.stdout == lepton("generate", *flags, "--server", served.target).stdout


def test_lepton_generate_explains_what_fails(served: Serving, tmp_path: Path) -> None:
    result = lepton("generate", "hello", "--server", served.target, "--top-p", "7")
    assert result.returncode == 1
    assert "top_p" in result.stderr
    missing = lepton("generate", "hello", "--model", str(tmp_path / "nothing"))
    assert missing.returncode == 1
    assert "nothing" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_lepton_chat_holds_a_conversation(served: Serving) -> None:
    flags = ("chat", "--server", served.target, "--max-tokens", "5", "--temperature", "0", "--stats")
    result = lepton(*flags, text="hello\n\nand then?\n/reset\nhello\n/exit\nnot read\n")
    assert result.returncode == 0, result.stderr
    counts = [int(found) for found in re.findall(r"(\d+) prompt tokens", result.stderr)]
    assert len(counts) == 3
    assert counts[1] > counts[0] == counts[2]


def test_lepton_bench_measures(served: Serving, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    load = ("--requests", "8", "--concurrency", "4", "--prompt-tokens", "8-16", "--output-tokens", "10")
    result = lepton("bench", "--server", served.target, *load, "--json", str(file))
    assert result.returncode == 0, result.stderr
    figures = json.loads(file.read_text())
    assert (figures["results"]["requests"], figures["results"]["failed"]) == (8, 0)
    assert figures["results"]["generated_tokens"] == 80
    assert figures["results"]["inter_token_latency_ms"]["p99"] > 0
    assert figures["results"]["client_cpu_seconds"] > 0
    assert "time to first token" in result.stdout


def test_without_a_model_the_embedded_one_is_served() -> None:
    serving = start()
    assert serving.wait_for(r"model (\S+) is ready") == "lepton-embedded"
    with LeptonClient(serving.target) as client:
        texts = ["".join(client.generate(prompt, max_tokens=24).texts()) for prompt in ("我今天去了公园", "One day")]
        assert all(texts)
        assert client.complete([{"role": "user", "content": "你好"}], max_tokens=24).choices[0].text
    serving.process.send_signal(signal.SIGTERM)
    assert finish(serving) == 0


def test_a_running_stream_survives_sigterm(tiny: Path) -> None:
    serving = start(tiny)
    serving.wait_for(r"model (\S+) is ready")
    with LeptonClient(serving.target) as client:
        stream = iter(client.generate("hello", max_tokens=400, ignore_eos=True))
        events = [next(stream)]
        serving.process.send_signal(signal.SIGTERM)
        events += stream
        assert sum(len(event.delta.token_ids) for event in events) == 400
    assert finish(serving) == 0


def test_a_second_sigterm_ends_at_once(tiny: Path) -> None:
    serving = start(tiny, "--drain-propagation", "1000")
    serving.wait_for(r"model (\S+) is ready")
    engine = psutil.Process(serving.process.pid).children()
    serving.process.send_signal(signal.SIGTERM)
    serving.wait_for(r"(draining)")
    serving.process.send_signal(signal.SIGTERM)
    assert finish(serving) == 143
    assert not [process for process in engine if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_an_engine_that_is_killed_ends_the_server_with_an_error(tiny: Path) -> None:
    serving = start(tiny)
    serving.wait_for(r"model (\S+) is ready")
    (engine,) = psutil.Process(serving.process.pid).children()
    engine.kill()
    assert finish(serving) == 1
    assert "engine" in "".join(serving.lines)


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--tls-cert", "a.pem"], 2, "--tls-key"),
        (["--tls-client-ca", "a.pem"], 2, "--tls-cert"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], 1, "a.pem cannot be read"),
        (["--port", "99999"], 2, "not a port"),
        (["--kv-cache-memory", "lots"], 2, "not a size"),
    ],
)
def test_flags_that_cannot_be_used_are_explained(flags: list[str], status: int, message: str) -> None:
    result = lepton("serve", "--port", "0", "--control-port", "0", *flags)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_explained(served: Serving) -> None:
    port = served.target.rpartition(":")[2]
    result = lepton("serve", "--port", port, "--control-port", "0")
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_is_not_there_is_explained(tmp_path: Path) -> None:
    serving = start(tmp_path / "nothing")
    assert finish(serving) == 1
    assert "nothing" in "".join(serving.lines)
    assert "Traceback" not in "".join(serving.lines)


def test_more_memory_than_there_is_is_explained(tiny: Path) -> None:
    serving = start(tiny, "--kv-cache-memory", "4096")
    assert finish(serving) == 1
    assert "OutOfMemoryError" in "".join(serving.lines)


def test_help_of_every_command() -> None:
    listed = lepton("--help").stdout
    for command in ("serve", "generate", "chat", "bench"):
        assert command in listed
        assert "usage" in lepton(command, "--help").stdout
    assert lepton("nonsense").returncode == 2
    assert lepton().returncode == 2
