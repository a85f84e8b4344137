import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import processors
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from lepton_engine.errors import InvalidRequestError, ModelLoadError
from lepton_engine.text.tokenizer import Tokenizer

Build = Callable[[str], tokenizers.Tokenizer]
Get = Callable[[str], Tokenizer]

TEXTS = ["The dog isn't here.", "今天天气很好", "  two  spaces\n\n", "<s>the</s> dog", "👩‍👩‍👧 é", ""]
CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def write(folder: Path, backend: tokenizers.Tokenizer, config: dict[str, Any] | None = None) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_gpt2(folder: Path, backend: tokenizers.Tokenizer, config: dict[str, Any] | None = None) -> Path:
    model = json.loads(backend.to_str())["model"]
    vocabulary = model["vocab"] | {"<|endoftext|>": len(model["vocab"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram", "word_piece"])
@pytest.mark.parametrize("extra", [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}])
def test_a_checkpoint_folder_encodes_as_transformers_does(
    tmp_path: Path, backend_of: Build, kind: str, extra: dict[str, Any]
) -> None:
    """Beside a tokenizer.json both leave the flags to its post-processor."""
    folder = write(tmp_path, backend_of(kind), CONFIG | extra | {"tokenizer_class": "PreTrainedTokenizerFast"})
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Tokenizer.load(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        plain = ours.encode(text, add_special_tokens=False)
        assert plain == theirs.encode(text, add_special_tokens=False)
        for skip in (True, False):
            assert ours.decode(plain, skip) == theirs.decode(
                plain, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (
        theirs.bos_token_id,
        theirs.eos_token_id,
        theirs.pad_token_id,
    )
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize("extra", [{}, {"add_bos_token": True}, {"add_eos_token": True}, {"add_prefix_space": True}])
def test_gpt2_files_encode_as_transformers_does(tmp_path: Path, backend_of: Build, extra: dict[str, Any]) -> None:
    folder = write_gpt2(tmp_path, backend_of("byte_level"), {"tokenizer_class": "GPT2Tokenizer"} | extra)
    ours, theirs = Tokenizer.load(folder), GPT2Tokenizer.from_pretrained(folder)
    for text in [*TEXTS, "a<|endoftext|>b"]:
        assert ours.encode(text) == theirs.encode(text)
        plain = ours.encode(text, add_special_tokens=False)
        assert "add_prefix_space" in extra or ours.decode(plain, skip_special_tokens=False) == text
    end = ours.token_to_id("<|endoftext|>")
    assert ours.bos_token_id == ours.eos_token_id == end == theirs.eos_token_id
    assert ours.special_ids >= {end}


def test_gpt2_files_with_added_tokens(tmp_path: Path, backend_of: Build) -> None:
    write_gpt2(tmp_path, backend_of("byte_level"))
    size = len(json.loads((tmp_path / "vocab.json").read_text()))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 1, "<a>": size}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("x<a><b>")[-2:] == [size, size + 1]
    assert tokenizer.vocab_size == size + 2


def test_added_tokens_of_the_config_are_added(tmp_path: Path, backend_of: Build) -> None:
    backend = backend_of("byte_level")
    size = backend.get_vocab_size()
    added = {str(size): {"content": "<|im_start|>", "special": True}, "0": {"content": "<unk>", "special": True}}
    tokenizer = Tokenizer.load(write(tmp_path, backend, CONFIG | {"added_tokens_decoder": added}))
    assert tokenizer.encode("<|im_start|>", add_special_tokens=False) == [size]
    assert tokenizer.decode([size]) == ""


def test_roles_come_from_either_file_and_as_texts_or_objects(tmp_path: Path, backend_of: Build) -> None:
    folder = write(tmp_path, backend_of("byte_level"), {"eos_token": {"content": "</s>", "lstrip": False}})
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "<pad>"}))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.bos_token_id == tokenizer.token_to_id("<s>")
    assert tokenizer.eos_token_id == tokenizer.token_to_id("</s>")


def test_a_role_without_a_token_adds_none(tmp_path: Path, backend_of: Build) -> None:
    backend = backend_of("byte_level")
    size = backend.get_vocab_size()
    tokenizer = Tokenizer.load(write(tmp_path, backend, CONFIG | {"pad_token": "<no such token>"}))
    assert tokenizer.pad_token_id is None
    assert tokenizer.vocab_size == size


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path, backend_of: Build) -> None:
    backend = backend_of("byte_level")
    backend.enable_truncation(max_length=2)
    backend.enable_padding(length=4, pad_id=3, pad_token="<pad>")
    tokenizer = Tokenizer.load(write(tmp_path, backend))
    pad = tokenizer.token_to_id("<pad>")
    ids = tokenizer.encode("the quick brown fox jumps over the lazy dog")
    assert len(ids) > 4
    assert pad not in ids


def test_from_a_fast_transformers_tokenizer(backend_of: Build) -> None:
    make: Callable[..., Any] = PreTrainedTokenizerFast
    theirs = make(
        tokenizer_object=backend_of("byte_fallback"),
        **CONFIG,
        chat_template="{{ messages[0]['content'] }}{{ eos_token }}",
    )
    ours = Tokenizer.from_transformers(theirs)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.apply_chat_template([{"role": "user", "content": "hi"}]) == "hi</s>"
    theirs.backend_tokenizer.enable_truncation(max_length=1)
    assert len(ours.encode("the dog")) > 1


def test_from_a_slow_tokenizer_of_gpt2s_kind(tmp_path: Path, backend_of: Build) -> None:
    model = json.loads(backend_of("byte_level").to_str())["model"]

    class Slow:
        encoder = model["vocab"]
        bpe_ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}  # noqa: RUF012
        added_tokens_decoder: dict[int, str] = {}  # noqa: RUF012
        special_tokens_map = {"eos_token": "</s>"}  # noqa: RUF012

    tokenizer = Tokenizer.from_transformers(Slow())
    text = "The dog isn't here. 今天"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token_id == model["vocab"]["</s>"]


def test_a_slow_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="tokenizer: object is a slow tokenizer"):
        Tokenizer.from_transformers(object())


def test_a_tokenizer_that_does_not_match_the_model(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    tokenizer.check_vocabulary(tokenizer.vocab_size)
    tokenizer.check_vocabulary(tokenizer.vocab_size + 64)
    with pytest.raises(ModelLoadError, match=rf"go up to {tokenizer.vocab_size - 1}.* has 100 entries"):
        tokenizer.check_vocabulary(100)


def test_text_and_ids_that_are_none(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    with pytest.raises(InvalidRequestError, match="text: character 2 is a lone surrogate"):
        tokenizer.encode("ab\ud800")
    for ids in ([-1], [2**32], ["x"]):
        with pytest.raises(InvalidRequestError, match="token_ids"):
            tokenizer.decode(ids)  # type: ignore[arg-type]
    assert tokenizer.decode([tokenizer.vocab_size + 7]) == ""


def test_tokens_by_name(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    assert tokenizer.id_to_token(1) == "<s>"
    assert tokenizer.token_to_id("<s>") == 1
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(-1) is None
    assert tokenizer.id_to_token(10**6) is None


def test_a_post_processor_of_its_own_stays(tmp_path: Path, backend_of: Build) -> None:
    backend = backend_of("byte_level")
    start, end = (("<s>", backend.token_to_id("<s>")), ("</s>", backend.token_to_id("</s>")))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[start, end])
    folder = write(tmp_path, backend, CONFIG | {"add_bos_token": False})
    assert Tokenizer.load(folder).encode("") == [start[1], end[1]]


DAMAGED: list[tuple[str, str | None, str]] = [
    ("tokenizer.json", "{", r"tokenizer\.json: is no tokenizer"),
    ("tokenizer.json", '{"model": 5}', r"tokenizer\.json: is no tokenizer"),
    ("tokenizer_config.json", "{", r"tokenizer_config\.json: is damaged"),
    ("tokenizer_config.json", "[]", r"tokenizer_config\.json: holds a list"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}', r"tokenizer_config\.json: added_tokens_decoder"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"9999": {"content": "<z>"}}}', "'<z>' should have id 9999"),
    ("tokenizer_config.json", '{"chat_template": 5}', r"tokenizer_config\.json: chat_template"),
    ("special_tokens_map.json", "nonsense", r"special_tokens_map\.json: is damaged"),
    ("chat_template.jinja", None, r"chat_template\.jinja: cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED)
def test_a_damaged_file_is_named(
    tmp_path: Path, backend_of: Build, name: str, content: str | None, message: str
) -> None:
    write(tmp_path, backend_of("byte_level"), CONFIG)
    (tmp_path / name).write_bytes(b"\xff\xfe\xff" if content is None else content.encode())
    with pytest.raises(ModelLoadError, match=message):
        Tokenizer.load(tmp_path)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="has no tokenizer"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", None, r"merges\.txt: is missing"),
        ("merges.txt", "#version: 0.2\na b c\n", r"merges\.txt: line 2 is no merge"),
        ("merges.txt", "zzz qqq\n", r"merges\.txt: does not fit vocab\.json"),
        ("vocab.json", '{"a": "b"}', r"vocab\.json: the id of 'a' is 'b'"),
        ("vocab.json", '{"a"', r"vocab\.json: is damaged"),
    ],
)
def test_damaged_gpt2_files_are_named(
    tmp_path: Path, backend_of: Build, name: str, content: str | None, message: str
) -> None:
    write_gpt2(tmp_path, backend_of("byte_level"))
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelLoadError, match=message):
        Tokenizer.load(tmp_path)
