"""The committed checkpoint: ordinary files, a tokenizer that loses nothing, a chat template, text of some quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lepton_engine.embedded
from training.embedded.evaluate import Sample, language_of, sentences, units, well_formed
from training.embedded.tokenizer import CHAT_TEMPLATE

FOLDER = lepton_engine.embedded.path()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)


def test_the_files_are_small_and_complete() -> None:
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    sizes = [(FOLDER / name).stat().st_size for name in names]
    assert sum(sizes) < 8_000_000


def test_config_is_an_ordinary_llama(model: Any, tokenizer: Any) -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert config["max_position_embeddings"] == 1024
    assert config["vocab_size"] == len(tokenizer) == model.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize(
    "text", ["我今天去了公园", "Hello, world!  Two blanks.\n", "🙂👍🏽 naïve café", "饕餮 and 魑魅", "", " 12,345.67 €"]
)
def test_the_tokenizer_round_trips(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_generation_ends_at_documents_and_turns(tokenizer: Any) -> None:
    config = json.loads((FOLDER / "generation_config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids(["<|eos|>", "<|turn_end|>"])
    assert config["bos_token_id"] == tokenizer.bos_token_id


def test_the_chat_template(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]},
        {"role": "assistant", "content": "你好！"},
        {"role": "user", "content": "Hello!"},
    ]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == (
        "<|bos|><|system|>Be kind.<|turn_end|><|user|>你好<|turn_end|><|assistant|>你好！<|turn_end|>"
        "<|user|>Hello!<|turn_end|><|assistant|>"
    )
    without = tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)
    assert without == rendered.removesuffix("<|assistant|>")
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")


@pytest.mark.parametrize(
    "message", [{"role": "tool", "content": "x"}, {"role": "user", "content": [{"type": "image", "url": "x"}]}]
)
def test_the_chat_template_names_what_it_cannot_render(tokenizer: Any, message: dict[str, Any]) -> None:
    with pytest.raises(jinja2.TemplateError, match=r"tool|image"):
        tokenizer.apply_chat_template([message], tokenize=False)


def test_the_template_in_the_checkpoint_is_the_script_s() -> None:
    settings = json.loads((FOLDER / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["chat_template"] == CHAT_TEMPLATE


def _generate(model: Any, tokenizer: Any, prompts: list[list[int]], temperature: float) -> list[tuple[str, bool]]:
    longest = max(map(len, prompts))
    pad, ends = tokenizer.pad_token_id, set(model.generation_config.eos_token_id)
    ids = torch.tensor([[pad] * (longest - len(each)) + each for each in prompts])
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    )
    output = model.generate(ids, attention_mask=(ids != pad).long(), max_new_tokens=70, **sampling)
    written = []
    for row in output[:, longest:].tolist():
        stop = next((at for at, token in enumerate(row) if token in ends), None)
        written.append((tokenizer.decode(row[:stop], skip_special_tokens=True), stop is not None))
    return written


def test_sixteen_samples_are_mostly_well_formed(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(3)
    openings = [
        "我今天去了公园",
        "昨天下午，",
        "星期天，我和妈妈",
        "从前，",
        "Yesterday, my sister",
        "I went to the park today",
        "Once upon a time",
        "One day,",
    ] * 2
    written = _generate(model, tokenizer, [tokenizer(each)["input_ids"] for each in openings], 0.8)
    checked = []
    for opening, (text, finished) in zip(openings, written, strict=True):
        language = language_of(opening)
        assert language_of(text) == language
        checked += [well_formed(language, each) for each in sentences(Sample(language, opening, text, finished))]
    assert len(checked) > 30
    assert sum(checked) / len(checked) >= 0.9


def test_answers_come_in_the_language_of_the_question(model: Any, tokenizer: Any) -> None:
    questions = ["你叫什么名字？", "人们在图书馆做什么？", "What is your name?", "What do people do in a library?"]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": each}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for each in questions
    ]
    for question, (answer, finished) in zip(questions, _generate(model, tokenizer, prompts, 0.0), strict=True):
        assert finished
        assert language_of(answer) == language_of(question)
        assert len(units(language_of(answer), answer)) >= 3


def test_the_folder_is_inside_the_package() -> None:
    assert Path(lepton_engine.embedded.__file__).parent == FOLDER
