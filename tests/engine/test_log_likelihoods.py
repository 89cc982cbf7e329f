"""Both engines give what the definition gives: one request at a time through the whole model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from stratalaw.engine import plain, shared
from stratalaw.engine.batches import make_batching

VOCABULARY, MAX_LENGTH = 60, 24
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def random_models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    models = {
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
        "llama": LlamaForCausalLM(LlamaConfig(**SHAPE)),
    }
    for model in models.values():
        for parameter in model.parameters():
            parameter.data.mul_(4)  # so that predictions differ from chance
    return {name: model.eval() for name, model in models.items()}


MODELS = random_models()
tokens = st.integers(0, VOCABULARY - 1)
requests = st.lists(
    st.tuples(st.lists(tokens, min_size=1, max_size=40), st.lists(tokens, min_size=1, max_size=8)),
    min_size=1,
    max_size=12,
)
ENGINES = {"plain": plain.log_likelihoods, "shared": shared.log_likelihoods}
every_engine = pytest.mark.parametrize("log_likelihoods", ENGINES.values(), ids=ENGINES)


@st.composite
def related_requests(draw) -> list[tuple[list[int], list[int]]]:
    """Requests as benchmarks make them: prompts, questions and choices of two letters, so that much is shared."""
    letters = st.integers(0, 1)
    prompts = draw(st.lists(st.lists(letters, max_size=30), min_size=1, max_size=2))
    questions = draw(st.lists(st.lists(letters, min_size=1, max_size=6), min_size=1, max_size=6))
    choices = st.lists(st.lists(letters, min_size=1, max_size=5), min_size=1, max_size=4)
    return [(draw(st.sampled_from(prompts)) + question, choice) for question in questions for choice in draw(choices)]


@torch.inference_mode()
def one_at_a_time(model, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """The definition: the whole window through the model, and the sum of what its tokens are given."""
    window = (context + continuation)[-(MAX_LENGTH + 1) :]
    log_probabilities = model(torch.tensor([window[:-1]])).logits[0].float().log_softmax(-1)[-len(continuation) :]
    targets = torch.tensor(continuation)
    total = log_probabilities.gather(1, targets[:, None]).sum()
    return float(total), bool((log_probabilities.argmax(-1) == targets).all())


@every_engine
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(requests=requests | related_requests(), tokens_per_batch=st.sampled_from([1, 30, 100, 10_000]))
def test_they_equal_the_definition(log_likelihoods, name, requests, tokens_per_batch):
    contexts, continuations = zip(*requests, strict=True)
    found = log_likelihoods(
        MODELS[name], contexts, continuations, tokens_per_batch=tokens_per_batch, max_length=MAX_LENGTH
    )
    expected = [one_at_a_time(MODELS[name], *request) for request in requests]
    np.testing.assert_allclose(found.total, [total for total, _ in expected], atol=2e-4)
    assert found.is_greedy.tolist() == [greedy for _, greedy in expected]


@every_engine
def test_greedy_continuations_are_recognized(log_likelihoods):
    model, context = MODELS["qwen3"], [1, 2, 3]
    generated = model.generate(torch.tensor([context]), max_new_tokens=5, do_sample=False)[0, 3:].tolist()
    changed = [*generated[:-1], (generated[-1] + 1) % VOCABULARY]
    found = log_likelihoods(model, [context] * 2, [generated, changed], tokens_per_batch=1000, max_length=MAX_LENGTH)
    assert found.is_greedy.tolist() == [True, False]


@every_engine
@settings(max_examples=20, deadline=None)
@given(requests=requests | related_requests(), seed=st.integers(0, 1000))
def test_the_order_of_requests_does_not_matter(log_likelihoods, requests, seed):
    order = np.random.default_rng(seed).permutation(len(requests))
    both = []
    for arranged in (requests, [requests[i] for i in order]):
        contexts, continuations = zip(*arranged, strict=True)
        both.append(
            log_likelihoods(MODELS["llama"], contexts, continuations, tokens_per_batch=64, max_length=MAX_LENGTH).total
        )
    np.testing.assert_allclose(both[0][order], both[1], atol=1e-5)


@every_engine
@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        ([], [1], "request 1: the context is empty"),
        ([1], [], "request 1: the continuation is empty"),
        ([1], [1] * 25, "request 1: its continuation has 25 tokens; the model takes 24"),
    ],
)
def test_impossible_requests_are_refused(log_likelihoods, context, continuation, message):
    with pytest.raises(ValueError, match=message):
        log_likelihoods(
            MODELS["llama"], [[1], context], [[1], continuation], tokens_per_batch=64, max_length=MAX_LENGTH
        )


@every_engine
def test_a_model_that_yields_no_number_is_refused(log_likelihoods):
    model = random_models()["llama"]
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="request 0: its log-likelihood is not finite"):
        log_likelihoods(model, [[1, 2]], [[3]], tokens_per_batch=64, max_length=MAX_LENGTH)


def check_plan(requests: list[tuple[list[int], list[int]]], tokens_per_batch: int) -> None:
    contexts, continuations = zip(*requests, strict=True)
    batching = make_batching(contexts, continuations, tokens_per_batch=tokens_per_batch, max_length=MAX_LENGTH)
    asked = [[] for _ in requests]
    for batch in batching.batches:
        assert len(batch.tokens) <= max(tokens_per_batch, MAX_LENGTH)
        for place, target, request in zip(batch.place, batch.target, batch.request, strict=True):
            position = int(batch.position[place])
            ancestors = [j for j in range(position + 1) if position < batch.end[j]]
            assert [batch.depth[j] for j in ancestors] == list(range(len(ancestors)))
            asked[request].append(([int(batch.tokens[j]) for j in ancestors], int(target)))
    for (context, continuation), found in zip(requests, asked, strict=True):
        window = (context + continuation)[-(MAX_LENGTH + 1) :]
        first = len(window) - len(continuation)
        assert found == [(window[:i], window[i]) for i in range(first, len(window))]
    assert batching.tokens <= batching.plain_tokens


@settings(max_examples=100, deadline=None)
@given(requests=requests | related_requests(), tokens_per_batch=st.sampled_from([1, 8, 30, 10_000]))
def test_every_prediction_of_a_plan_sees_its_own_context_and_nothing_else(requests, tokens_per_batch):
    check_plan(requests, tokens_per_batch)


def test_a_shared_prompt_runs_once_in_each_batch():
    prompt = list(range(20))
    requests = [([*prompt, 20 + question], [50 + choice, 3]) for question in range(30) for choice in range(4)]
    contexts, continuations = zip(*requests, strict=True)
    plain_tokens, question = 30 * 4 * 22, 1 + 4
    for tokens_per_batch, n_batches in ((1000, 1), (20 + 10 * question, 3)):
        limits = {"tokens_per_batch": tokens_per_batch, "max_length": 40}
        batching = make_batching(contexts, continuations, **limits)
        assert len(batching.batches) == n_batches
        assert batching.plain_tokens == plain_tokens
        assert batching.tokens == n_batches * 20 + 30 * question
        for model in MODELS.values():
            found, expected = (engine(model, contexts, continuations, **limits) for engine in ENGINES.values())
            np.testing.assert_allclose(found.total, expected.total, atol=2e-4)


def test_rows_of_attention_begin_on_paths_of_any_length():
    """Trees of several rows, whose first tokens hang on prompts, questions, or nothing."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(VOCABULARY, size=(3, 300))
    requests = [
        (prompt[: rng.integers(1, 300)].tolist() + rng.integers(VOCABULARY, size=rng.integers(60)).tolist(), [1, 2, 3])
        for prompt in prompts
        for _ in range(8)
    ]
    contexts, continuations = zip(*requests, strict=True)
    for tokens_per_batch in (400, 10_000):
        limits = {"tokens_per_batch": tokens_per_batch, "max_length": 500}
        found, expected = (engine(MODELS["llama"], contexts, continuations, **limits) for engine in ENGINES.values())
        np.testing.assert_allclose(found.total, expected.total, atol=2e-4)
        assert found.is_greedy.tolist() == expected.is_greedy.tolist()


@every_engine
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.3}),
        ("gemma2", {"final_logit_softcapping": 2.0}),
    ],
)
def test_logits_that_a_model_scales_or_caps_count_as_it_gives_them(log_likelihoods, kind, options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE, head_dim=8, **options)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)
    contexts, continuations = [[1, 2, 3], [1, 2, 4, 5], [7] * 9], [[4, 5], [6], [8, 9, 10]]
    found = log_likelihoods(model, contexts, continuations, tokens_per_batch=64, max_length=MAX_LENGTH)
    expected = [one_at_a_time(model, *request)[0] for request in zip(contexts, continuations, strict=True)]
    np.testing.assert_allclose(found.total, expected, atol=2e-4)


def test_a_model_with_a_sliding_window_is_scored_one_by_one_with_a_warning(caplog):
    torch.manual_seed(0)
    options = {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, **options)).eval()
    contexts, continuations = [list(range(20))] * 2, [[1, 2], [3]]
    with caplog.at_level("WARNING"):
        found = shared.log_likelihoods(model, contexts, continuations, tokens_per_batch=64, max_length=50)
    assert (
        "every request runs as a row by itself: Qwen2ForCausalLM has layers that do not attend to all tokens"
        in caplog.text
    )
    expected = plain.log_likelihoods(model, contexts, continuations, tokens_per_batch=64, max_length=50)
    np.testing.assert_array_equal(found.total, expected.total)


def test_a_model_that_ignores_positions_is_scored_one_by_one(caplog):
    """Its configuration promises what its code does not keep; a small tree finds out."""
    model = random_models()["llama"]
    rotary = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: rotary(x, torch.arange(x.shape[1])[None])
    with caplog.at_level("WARNING"):
        shared.log_likelihoods(model, [[1, 2, 3]] * 2, [[4], [5]], tokens_per_batch=64, max_length=50)
    assert "its trees differ from its rows" in caplog.text
