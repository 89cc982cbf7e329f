"""A text ends where a look at all of it after each token would say so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from stratalaw.engine.stopping import Stopping

END = 0
# Words with their spaces, a stop string that is a special token, and bytes of which characters are made.
WORDS = ["<end>", "a", " b", "\n", "\n\n", "Q", ":", " Q:", ",", "<turn>", "<0xC3>", "<0xA9>", "ab"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", additional_special_tokens=["<turn>"])


def where(tokenizer, stop: list[str], tokens: list[int]) -> int | None:
    """The definition: the first token after which the whole text holds a stop string, or that ends texts."""
    for i in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[:i], skip_special_tokens=False)
        if tokens[i - 1] == END or any(term in text for term in stop):
            return i
    return None


@settings(max_examples=200, deadline=None)
@given(
    stop=st.lists(st.sampled_from(["\n\n", "Q:", ",", "b Q", "<turn>", "é", "a ", "\nQ"]), max_size=3),
    tokens=st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=12),
)
def test_a_text_ends_at_the_token_that_the_definition_says(tokenizer, stop, tokens):
    stopping = Stopping(tokenizer, stop, frozenset([END]))
    found = next((i for i in range(1, len(tokens) + 1) if stopping.ends(tokens[:i])), None)
    assert found == where(tokenizer, stop, tokens)
    text = stopping.text(tokens[:found])
    assert not any(term in text for term in stop)
    assert tokenizer.decode(tokens[:found], skip_special_tokens=True).startswith(text)
