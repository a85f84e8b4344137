"""The tokenizer of a checkpoint: text to token ids and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from lepton_engine.errors import InvalidRequestError, ModelLoadError
from lepton_engine.text.chat_template import ChatTemplate
from lepton_engine.text.tokenizer_files import SpecialTokens, TokenizerFiles


class Tokenizer:
    """A tokenizer and the special tokens and chat template that go with it.

    Attributes:
        vocab_size: the highest token id plus one, added tokens included.
        bos_token_id, eos_token_id, pad_token_id: None where there is none.
        special_ids: ids of the tokens that `skip_special_tokens` leaves out of a text.
        chat_template: None where the checkpoint has none.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: SpecialTokens | None = None,
        chat_templates: Mapping[str, str] | None = None,
    ) -> None:
        special_tokens = special_tokens or SpecialTokens()
        backend.no_truncation()
        backend.no_padding()
        special_tokens.apply(backend)
        self.backend = backend
        self.special_tokens = special_tokens
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_token_id = self._special_id("bos_token")
        self.eos_token_id = self._special_id("eos_token")
        self.pad_token_id = self._special_id("pad_token")
        self.special_ids = frozenset(
            token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special
        )
        self.chat_template = ChatTemplate(chat_templates, special_tokens.texts) if chat_templates else None

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """The tokenizer of a checkpoint folder: its tokenizer.json, or GPT-2's vocab.json and merges.txt.

        Raises:
            ModelLoadError: a file is missing or damaged; the message names it.
        """
        files = TokenizerFiles(Path(path))
        return cls(files.backend(), files.special_tokens(), files.chat_templates())

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> "Tokenizer":
        """The same tokenizer as a loaded one of `transformers`: any fast one, or a slow one of GPT-2's kind.

        Raises:
            ModelLoadError: the tokenizer is a slow one of another kind.
        """
        fast = getattr(tokenizer, "backend_tokenizer", None)
        if isinstance(fast, tokenizers.Tokenizer):
            backend = tokenizers.Tokenizer.from_str(fast.to_str())  # a copy: its owner may set padding and truncation
        elif isinstance(getattr(tokenizer, "encoder", None), dict) and hasattr(tokenizer, "bpe_ranks"):
            merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
            added = {index: {"content": str(token)} for index, token in tokenizer.added_tokens_decoder.items()}
            backend = TokenizerFiles.byte_level_bpe(
                tokenizer.encoder, merges, bool(getattr(tokenizer, "add_prefix_space", False)), added
            )
        else:
            raise ModelLoadError(
                f"tokenizer: {type(tokenizer).__name__} is a slow tokenizer; load it with use_fast=True, "
                "or give a folder that has a tokenizer.json"
            )
        texts = {
            name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(name, str) and value
        }
        template = getattr(tokenizer, "chat_template", None)
        templates = {"default": template} if isinstance(template, str) else template
        return cls(backend, SpecialTokens({name: text for name, text in texts.items() if text}), templates)

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.texts.get(name)
        return None if text is None else self.backend.token_to_id(text)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text, with the tokenizer's own leading and trailing special tokens if asked for.

        Raises:
            InvalidRequestError: the text holds a lone surrogate, which has no UTF-8 form.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                "text", f"character {error.start} is a lone surrogate, which is no text"
            ) from error
        ids: list[int] = self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids. Bytes that are no UTF-8 become U+FFFD; ids that no token has become nothing.

        Raises:
            InvalidRequestError: an id that is negative or does not fit 32 bits.
        """
        try:
            text: str = self.backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        except (OverflowError, TypeError) as error:
            raise InvalidRequestError("token_ids", f"holds something that is no token id: {error}") from error
        return text

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it; None if there is no such token."""
        token_id: int | None = self.backend.token_to_id(token)
        return token_id

    def id_to_token(self, token_id: int) -> str | None:
        """The token as the vocabulary writes it; None if no token has this id."""
        if not 0 <= token_id < self.vocab_size:
            return None
        token: str | None = self.backend.id_to_token(token_id)
        return token

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **template_args: Any,
    ) -> str:
        """Render a conversation by the model's chat template; see `ChatTemplate.render`.

        The text holds its special tokens already: encode it with add_special_tokens=False.

        Raises:
            InvalidRequestError: the model has no chat template, or it cannot render the messages.
        """
        if self.chat_template is None:
            raise InvalidRequestError(
                "chat_template", "the model has no chat template: give the prompt as text or token ids"
            )
        return self.chat_template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **template_args,
        )

    def check_vocabulary(self, model_vocab_size: int) -> None:
        """Make sure that the model has an embedding for every token.

        Raises:
            ModelLoadError: the tokenizer has ids that the model does not; says both sizes.
        """
        if self.vocab_size > model_vocab_size:
            raise ModelLoadError(
                f"tokenizer: it does not match the model: its token ids go up to {self.vocab_size - 1}, "
                f"the model's vocabulary has {model_vocab_size} entries"
            )
