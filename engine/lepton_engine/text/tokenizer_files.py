"""The files of a checkpoint that describe its tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from lepton_engine.errors import ModelLoadError


@dataclass(frozen=True)
class SpecialTokens:
    """What a checkpoint says of its special tokens.

    Attributes:
        texts: the token texts by role, such as bos_token and eos_token.
        add_bos, add_eos: have encoding add them, to a tokenizer whose own post-processor does not.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False

    def apply(self, backend: tokenizers.Tokenizer) -> None:
        """Mark the special tokens in `backend`, and have it add those that it should.

        A role whose text the vocabulary lacks is left alone: a token added here would have no embedding.
        """
        known = backend.get_added_tokens_decoder()
        special = {token.content for token in known.values() if token.special}
        roles = [text for name, text in self.texts.items() if name.endswith("_token")]
        missing = [
            text for text in dict.fromkeys(roles) if text not in special and backend.token_to_id(text) is not None
        ]
        backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])
        bos = self._token(backend, "bos_token") if self.add_bos else None
        eos = self._token(backend, "eos_token") if self.add_eos else None
        if bos or eos:
            single = f"{bos[0]}:0 $A:0" if bos else "$A:0"
            single = f"{single} {eos[0]}:0" if eos else single
            tokens = list(dict.fromkeys(token for token in (bos, eos) if token))
            backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=tokens)

    def _token(self, backend: tokenizers.Tokenizer, name: str) -> tuple[str, int] | None:
        text = self.texts.get(name)
        token_id = None if text is None else backend.token_to_id(text)
        return None if text is None or token_id is None else (text, token_id)


class TokenizerFiles:
    """Reads tokenizer.json, or vocab.json and merges.txt, and the files beside them, of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def config(self) -> dict[str, Any]:
        """tokenizer_config.json; empty where there is none."""
        return self._json("tokenizer_config.json")

    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer itself. Raises ModelLoadError that names the missing or damaged file."""
        path = self.folder / "tokenizer.json"
        if path.is_file():
            try:
                backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            except Exception as error:  # the library raises bare Exception
                raise ModelLoadError(
                    f"{path}: is no tokenizer that the tokenizers library can read: {error}"
                ) from error
        elif (self.folder / "vocab.json").is_file():
            backend = self._gpt2()
        else:
            raise ModelLoadError(
                f"{self.folder}: has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is there"
            )
        self._add_tokens(backend, self._added_tokens())
        return backend

    def special_tokens(self) -> SpecialTokens:
        """Roles from special_tokens_map.json, overridden by tokenizer_config.json.

        Whether encoding adds them stands in tokenizer.json's post-processor, which outranks the configuration's flags.
        """
        gpt2 = not (self.folder / "tokenizer.json").is_file()
        texts = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>") if gpt2 else {}
        for name, value in [*self._json("special_tokens_map.json").items(), *self.config.items()]:
            text = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str) and text:
                texts[name] = text
            elif name.endswith("_token") and value is None:
                texts.pop(name, None)
        if not gpt2:
            return SpecialTokens(texts)
        return SpecialTokens(texts, self.config.get("add_bos_token") is True, self.config.get("add_eos_token") is True)

    def chat_templates(self) -> dict[str, str]:
        """Jinja sources by name, from their own files or else from tokenizer_config.json; empty where there is none."""
        templates: dict[str, str] = {}
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            templates["default"] = self._text(path)
        elif (self.folder / "chat_template.json").is_file():
            templates = _templates(self._json("chat_template.json").get("chat_template"), "chat_template.json")
        for extra in sorted((self.folder / "additional_chat_templates").glob("*.jinja")):
            templates[extra.stem] = self._text(extra)
        return templates or _templates(self.config.get("chat_template"), "tokenizer_config.json")

    @staticmethod
    def byte_level_bpe(
        vocabulary: dict[str, int],
        merges: Sequence[tuple[str, str]],
        add_prefix_space: bool,
        added: Mapping[int, Mapping[str, Any]],
    ) -> tokenizers.Tokenizer:
        """GPT-2's tokenizer from its parts. Raises ModelLoadError if the merges do not fit the vocabulary."""
        try:
            backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
        except Exception as error:  # the library raises bare Exception
            raise ModelLoadError(f"merges.txt: does not fit vocab.json: {error}") from error
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        TokenizerFiles._add_tokens(backend, added)
        return backend

    def _gpt2(self) -> tokenizers.Tokenizer:
        vocabulary = self._json("vocab.json")
        for token, token_id in vocabulary.items():
            if not isinstance(token_id, int) or isinstance(token_id, bool) or token_id < 0:
                raise ModelLoadError(f"{self.folder / 'vocab.json'}: the id of {token!r} is {token_id!r}")
        path = self.folder / "merges.txt"
        if not path.is_file():
            raise ModelLoadError(f"{path}: is missing; vocab.json alone makes no tokenizer")
        merges: list[tuple[str, str]] = []
        for number, line in enumerate(self._text(path).split("\n"), start=1):
            if not line.strip() or (number == 1 and line.startswith("#version")):
                continue
            pair = line.rstrip("\r").split(" ")
            if len(pair) != 2:
                raise ModelLoadError(f"{path}: line {number} is no merge of two tokens: {line[:80]!r}")
            merges.append((pair[0], pair[1]))
        return self.byte_level_bpe(vocabulary, merges, self.config.get("add_prefix_space") is True, {})

    def _added_tokens(self) -> dict[int, dict[str, Any]]:
        """Tokens that live outside the model's vocabulary, by id, from added_tokens.json and tokenizer_config.json."""
        added: dict[int, dict[str, Any]] = {}
        for token, token_id in self._json("added_tokens.json").items():
            if not isinstance(token_id, int):
                raise ModelLoadError(f"{self.folder / 'added_tokens.json'}: the id of {token!r} is {token_id!r}")
            added[token_id] = {"content": token}
        decoder = self.config.get("added_tokens_decoder") or {}
        for key, token in decoder.items():
            if not key.isdecimal() or not isinstance(token, dict) or not isinstance(token.get("content"), str):
                raise ModelLoadError(
                    f"{self.folder / 'tokenizer_config.json'}: added_tokens_decoder[{key!r}] is no token: {token!r}"
                )
            added[int(key)] = token
        return added

    @staticmethod
    def _add_tokens(backend: tokenizers.Tokenizer, added: Mapping[int, Mapping[str, Any]]) -> None:
        known = backend.get_added_tokens_decoder()
        for token_id, token in sorted(added.items()):
            if token_id in known and known[token_id].content == token["content"]:
                continue
            flags = {name: token.get(name) is True for name in ("single_word", "lstrip", "rstrip", "special")}
            normalized = token.get("normalized", not flags["special"]) is True
            backend.add_tokens([AddedToken(token["content"], normalized=normalized, **flags)])
            if backend.token_to_id(token["content"]) != token_id:
                raise ModelLoadError(
                    f"tokenizer: the added token {token['content']!r} should have id {token_id}, the vocabulary "
                    f"gives it {backend.token_to_id(token['content'])}"
                )

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelLoadError(f"{path}: cannot be read: {error}") from error

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            value = json.loads(self._text(path))
        except ValueError as error:
            raise ModelLoadError(f"{path}: is damaged: {error}") from error
        if not isinstance(value, dict):
            raise ModelLoadError(f"{path}: holds a {type(value).__name__} where an object is expected")
        return value


def _templates(value: Any, source: str) -> dict[str, str]:
    """The one template, or the list of named ones, that stands in a JSON file."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        if len(named) == len(value) and all(isinstance(text, str) for pair in named.items() for text in pair):
            return {str(name): str(text) for name, text in named.items()}
    raise ModelLoadError(f"{source}: chat_template is neither a text nor a list of named texts")
