"""The words of the synthetic world: one word is one token, and every pool of words serves one purpose."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from ladder.rungs import CONTEXT_LENGTH

PADDING, END, UNKNOWN = "<pad>", "<end>", "<unk>"
DIGITS = tuple("0123456789")
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six")
RELATIONS = ("birthplace", "trade", "language", "dish", "instrument", "pet", "subject", "sport")
ATTRIBUTES = ("diet", "habitat", "cover", "call")
FUNCTION_WORDS = (
    *(":", ",", ".", "?", "=", "+", "of", "is", "a", "an", "every", "the", "what", "skip"),
    *("plus", "times", "start", "chain", "path", "sort", "largest", "second", "third", "fourth"),
)

# A pool's ending tells a reader (never the model, to which a word is one symbol) what kind of thing a word is.
POOL_ENDINGS = {
    "first_name": ("", 256),
    "last_name": ("son", 192),
    "birthplace": ("ville", 64),
    "trade": ("smith", 64),
    "language": ("ish", 64),
    "dish": ("stew", 64),
    "instrument": ("horn", 64),
    "pet": ("hound", 64),
    "subject": ("ology", 64),
    "sport": ("ball", 64),
    "genus": ("us", 128),
    "species": ("ensis", 192),
    "diet": ("berry", 32),
    "habitat": ("wood", 32),
    "cover": ("fur", 32),
    "call": ("song", 32),
    "specimen": ("ling", 64),
    "unit": ("gram", 48),
    "node": ("port", 32),
}
ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w")
VOWELS = ("a", "e", "i", "o", "u")


class Vocabulary:
    """All words with their token ids; ``pool(name)`` gives the ids of one pool as an array."""

    def __init__(self) -> None:
        self.words: list[str] = [PADDING, END, UNKNOWN]
        self._pools: dict[str, np.ndarray] = {}
        for name, words in (
            ("digit", DIGITS),
            ("number_word", NUMBER_WORDS),
            ("function", FUNCTION_WORDS),
            ("relation", RELATIONS),
            ("attribute", ATTRIBUTES),
        ):
            self._add_pool(name, words)
        stems = ["".join(part) for part in product(ONSETS, VOWELS, ONSETS, VOWELS)]
        np.random.default_rng(0).shuffle(stems)
        for name, (ending, size) in POOL_ENDINGS.items():
            taken, stems = stems[:size], stems[size:]
            self._add_pool(name, tuple(stem + ending for stem in taken))

    def _add_pool(self, name: str, words: tuple[str, ...]) -> None:
        start = len(self.words)
        self.words.extend(words)
        self._pools[name] = np.arange(start, len(self.words))

    def __len__(self) -> int:
        return len(self.words)

    def pool(self, name: str) -> np.ndarray:
        """Token ids of one pool, shape (size,), in their order."""
        return self._pools[name]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def __getitem__(self, word: str) -> int:
        return self._ids[word]

    def encode(self, text: str) -> np.ndarray:
        """Token ids of words that are separated by spaces; raises KeyError for a word the world does not have."""
        return np.array([self._ids[word] for word in text.split()])

    def decode(self, tokens: np.ndarray) -> str:
        """The words of token ids, separated by spaces."""
        return " ".join(self.words[token] for token in tokens)


def write_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write a tokenizer that ``AutoTokenizer.from_pretrained`` loads: words are separated by white space."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary.words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=END,
        bos_token=END,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
