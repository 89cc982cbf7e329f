"""Where a generated text ends: at a token that ends texts, or at a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

TOKENS_PER_CHARACTER = 4  # the maximum, where a tokenizer falls back to the bytes of UTF-8
UNKNOWN = "\ufffd"  # what is decoded of a part of a character


class Stopping:
    """Tells of each new token whether the text ends with it.

    Only tokens that may complete a stop string have their neighbourhood decoded: those whose own text holds the last
    character of one, or is not known from the token alone. Special tokens are written out, since one may be a stop
    string, as lm-eval has it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], ends_of_text: frozenset[int]) -> None:
        """``stop``: text that ends a generation; ``ends_of_text``: tokens that do."""
        self._tokenizer = tokenizer
        self._stop = [term for term in stop if term]
        self._ends_of_text = ends_of_text
        self._looked_at = TOKENS_PER_CHARACTER * max(map(len, self._stop), default=0)
        self._last_characters = {term[-1] for term in self._stop}
        self._may_complete: dict[int, bool] = {}

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether a text ends with the last of its new tokens; it did not before."""
        newest = tokens[-1]
        if newest in self._ends_of_text:
            return True
        if newest not in self._may_complete:
            self._may_complete[newest] = self._completes(self._decode([newest]))
        return self._may_complete[newest] and self.in_text(tokens)

    def in_text(self, tokens: Sequence[int]) -> bool:
        """Whether a stop string stands at the end of the new tokens, or shortly before it."""
        text = self._decode(tokens[-self._looked_at :] if self._looked_at else [])
        return any(term in text for term in self._stop)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of new tokens, up to the first stop string."""
        text = str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        return text[: min((text.find(term) for term in self._stop if term in text), default=len(text))]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def _completes(self, text: str) -> bool:
        # A tokenizer may drop the space that a token begins with when the token stands alone.
        is_known = text and UNKNOWN not in text and not any(map(str.isspace, self._last_characters))
        return bool(self._stop) and (not is_known or any(last in text for last in self._last_characters))
