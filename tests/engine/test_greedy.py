"""Greedy generation in batches equals generation of one context at a time."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stratalaw.engine import generate

PROMPTS = ["3 + 4 =", "1 2 + 3 =", "largest of 1 9 , 2 8 , 7 4 , 7 2 , 3 5 =", "start three plus four", "4 + 4 ="]
LIMITS = {"tokens_per_batch": 64, "max_length": 256}


@pytest.fixture(scope="module")
def tokenizer(small_model_folder):
    return AutoTokenizer.from_pretrained(small_model_folder)


@pytest.fixture(scope="module")
def model(small_model_folder):
    return AutoModelForCausalLM.from_pretrained(small_model_folder, dtype=torch.float32).eval()


def one_at_a_time(model, tokenizer, context: list[int], max_new_tokens: int) -> list[int]:
    """The definition: the most likely token, again and again, up to the end-of-text token."""
    tokens = list(context)
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] == tokenizer.eos_token_id:
                break
    return tokens[len(context) :]


def test_every_batch_size_gives_the_text_of_the_definition(model, tokenizer):
    contexts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    expected = [
        tokenizer.decode(one_at_a_time(model, tokenizer, context, 6), skip_special_tokens=True) for context in contexts
    ]
    for tokens_per_batch in (1, 40, 10_000):
        limits = LIMITS | {"tokens_per_batch": tokens_per_batch}
        assert generate(model, tokenizer, contexts, stop=[], max_new_tokens=6, **limits).text == expected


def test_the_text_ends_before_the_first_stop_string(model, tokenizer):
    contexts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    whole = generate(model, tokenizer, contexts, stop=[], max_new_tokens=8, **LIMITS).text
    stopped = generate(model, tokenizer, contexts, stop=[",", "7"], max_new_tokens=8, **LIMITS).text
    ends = [min((text.find(term) for term in (",", "7") if term in text), default=len(text)) for text in whole]
    assert stopped == [text[:end] for text, end in zip(whole, ends, strict=True)]
    assert any("," in text for text in whole)


def test_a_context_that_leaves_no_room_loses_tokens_on_the_left(model, tokenizer):
    context = np.tile(tokenizer.encode(PROMPTS[2]), 20)
    short = generate(model, tokenizer, [context], stop=[], max_new_tokens=4, tokens_per_batch=64, max_length=30)
    assert short.text == generate(model, tokenizer, [context[-26:]], stop=[], max_new_tokens=4, **LIMITS).text
    with pytest.raises(ValueError, match="30 new tokens leave no room for a context; the model takes 30"):
        generate(model, tokenizer, [context], stop=[], max_new_tokens=30, tokens_per_batch=64, max_length=30)
