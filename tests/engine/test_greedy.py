"""Greedy generation in batches equals generation of one context at a time, on the engine and by transformers."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stratalaw.engine import generate, log_likelihoods
from stratalaw.engine.decoding import decode
from stratalaw.engine.stopping import Stopping

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


@pytest.fixture
def prompts(tokenizer) -> list[list[int]]:
    """Contexts of many lengths, some with a common beginning, one that stands twice."""
    contexts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    return [*contexts, *(contexts[2] + context for context in contexts), contexts[0]]


@pytest.mark.parametrize("rows", [1, 3, 256])
@pytest.mark.parametrize("tokens_per_batch", [1, 100, 10_000])
def test_the_engine_gives_the_tokens_of_the_definition(model, tokenizer, prompts, monkeypatch, rows, tokens_per_batch):
    """Whatever the number of rows at once, and whether there is room in the cache for one or for all."""
    monkeypatch.setattr("stratalaw.engine.decoding.MOST_ROWS", rows)
    ends = frozenset([tokenizer.eos_token_id])
    found = decode(
        *(model, list(map(np.array, prompts)), Stopping(tokenizer, [], ends)),
        max_new_tokens=7,
        tokens_per_batch=tokens_per_batch,
    )
    expected = [one_at_a_time(model, tokenizer, context, 7) for context in prompts]
    assert [row.tokens for row in found] == expected
    assert {len(tokens) for tokens in expected} != {7}  # some end by themselves
    exact = log_likelihoods(model, prompts, expected, **LIMITS)
    assert [row.log_likelihood for row in found] == pytest.approx(exact.total.tolist(), rel=1e-4, abs=1e-5)
    assert exact.is_greedy.all()


def test_a_penalty_of_the_model_takes_transformers_own_path(model, tokenizer, prompts, monkeypatch, caplog):
    plain = generate(model, tokenizer, prompts, stop=[], max_new_tokens=6, **LIMITS)
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 1.0001)
    penalized = generate(model, tokenizer, prompts, stop=[], max_new_tokens=6, **LIMITS)
    assert "its generation_config asks for repetition_penalty=1.0001" in caplog.text
    assert penalized.text == plain.text
    assert penalized.tokens.tolist() == plain.tokens.tolist()
    assert penalized.is_cut_off.tolist() == plain.is_cut_off.tolist()
    assert (plain.log_likelihood < 0).all() and np.isnan(penalized.log_likelihood).all()


def test_how_long_a_text_is_and_whether_the_limit_ended_it(model, tokenizer, prompts):
    expected = [one_at_a_time(model, tokenizer, context, 7) for context in prompts]
    found = generate(model, tokenizer, prompts, stop=[], max_new_tokens=7, **LIMITS)
    assert found.tokens.tolist() == [len(tokens) for tokens in expected]
    assert found.is_cut_off.tolist() == [tokens[-1] != tokenizer.eos_token_id for tokens in expected]
    assert found.token_ids == expected
    assert generate(model, tokenizer, [], stop=[], max_new_tokens=7, **LIMITS).text == []


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
