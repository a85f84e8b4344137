"""Small tokenizers of every kind that decoder models use, trained here on a few sentences."""

from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lepton_engine.text.tokenizer import Tokenizer
from lepton_engine.text.tokenizer_files import SpecialTokens

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "I'm going to the park today; it isn't far. Are you coming?",
    "我今天去了公园，天气很好，孩子们在草地上跑来跑去。",
    "你好！请问今天的天气怎么样？",
    "Numbers 1 22 333 and code: for i in range(10):\n    print(i)\n",
    "👩‍👩‍👧‍👦 family, 🇨🇳 flag, 👍🏽 thumbs up, café naïve",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def byte_level() -> tokenizers.Tokenizer:
    """GPT-2's and Llama 3's kind: byte-level BPE; most Chinese characters take several tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    bos = ("<s>", backend.token_to_id("<s>"))
    backend.post_processor = processors.TemplateProcessing(single="<s>:0 $A:0", special_tokens=[bos])
    return backend


def byte_fallback() -> tokenizers.Tokenizer:
    """Llama 2's and Mistral's kind: characters that are no tokens are spelled in byte tokens such as <0xE4>."""
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    words = ["▁the", "▁dog", "▁park", "▁is", "ing", "今天", "天气"]
    characters = dict.fromkeys("▁" + "".join(words) + "".join(chr(code) for code in range(33, 127)))
    for text in characters:
        vocabulary.setdefault(text, len(vocabulary))
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.add_special_tokens(SPECIAL)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bos = ("<s>", backend.token_to_id("<s>"))
    backend.post_processor = processors.TemplateProcessing(single="<s>:0 $A:0", special_tokens=[bos])
    return backend


def unigram() -> tokenizers.Tokenizer:
    """SentencePiece unigram with Metaspace and byte fallback."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, initial_alphabet=[]
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    return backend


def word_piece() -> tokenizers.Tokenizer:
    """BERT's kind: ## continues a word, text comes back with single spaces."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    backend.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=260, special_tokens=SPECIAL, show_progress=False)
    )
    return backend


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte_level": byte_level,
    "byte_fallback": byte_fallback,
    "unigram": unigram,
    "word_piece": word_piece,
}


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[[str], Tokenizer]:
    """The tokenizer of a kind: byte_level, byte_fallback, unigram or word_piece."""
    built: dict[str, Tokenizer] = {}

    def get(kind: str) -> Tokenizer:
        if kind not in built:
            texts = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
            built[kind] = Tokenizer(KINDS[kind](), SpecialTokens(texts))
        return built[kind]

    return get


@pytest.fixture(scope="session")
def backend_of() -> Callable[[str], tokenizers.Tokenizer]:
    """A fresh bare tokenizer of a kind."""
    return lambda kind: KINDS[kind]()
