import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from stratalaw.scoring import score

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


@torch.inference_mode()
def one_at_a_time(model, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """The definition: the whole window through the model, and the sum of what its tokens are given."""
    window = (context + continuation)[-(MAX_LENGTH + 1) :]
    log_probabilities = model(torch.tensor([window[:-1]])).logits[0].float().log_softmax(-1)[-len(continuation) :]
    targets = torch.tensor(continuation)
    total = log_probabilities.gather(1, targets[:, None]).sum()
    return float(total), bool((log_probabilities.argmax(-1) == targets).all())


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(requests=requests, tokens_a_batch=st.sampled_from([1, 30, 100, 10_000]))
def test_scores_equal_the_definition(name, requests, tokens_a_batch):
    contexts, continuations = zip(*requests, strict=True)
    found = score(MODELS[name], contexts, continuations, tokens_a_batch=tokens_a_batch, max_length=MAX_LENGTH)
    expected = [one_at_a_time(MODELS[name], *request) for request in requests]
    np.testing.assert_allclose(found.total, [total for total, _ in expected], atol=2e-4)
    assert found.is_greedy.tolist() == [greedy for _, greedy in expected]


def test_greedy_continuations_are_recognized():
    model, context = MODELS["qwen3"], [1, 2, 3]
    generated = model.generate(torch.tensor([context]), max_new_tokens=5, do_sample=False)[0, 3:].tolist()
    changed = [*generated[:-1], (generated[-1] + 1) % VOCABULARY]
    found = score(model, [context] * 2, [generated, changed], tokens_a_batch=1000, max_length=MAX_LENGTH)
    assert found.is_greedy.tolist() == [True, False]


@settings(max_examples=20, deadline=None)
@given(requests=requests, seed=st.integers(0, 1000))
def test_the_order_of_requests_does_not_matter(requests, seed):
    order = np.random.default_rng(seed).permutation(len(requests))
    both = []
    for arranged in (requests, [requests[i] for i in order]):
        contexts, continuations = zip(*arranged, strict=True)
        both.append(score(MODELS["llama"], contexts, continuations, tokens_a_batch=64, max_length=MAX_LENGTH).total)
    np.testing.assert_allclose(both[0][order], both[1], atol=1e-5)


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        ([], [1], "request 1: the context is empty"),
        ([1], [], "request 1: the continuation is empty"),
        ([1], [1] * 25, "request 1: its continuation has 25 tokens; the model takes 24"),
    ],
)
def test_impossible_requests_are_refused(context, continuation, message):
    with pytest.raises(ValueError, match=message):
        score(MODELS["llama"], [[1], context], [[1], continuation], tokens_a_batch=64, max_length=MAX_LENGTH)


def test_a_model_that_yields_no_number_is_refused():
    model = random_models()["llama"]
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="request 0: its log-likelihood is not finite"):
        score(model, [[1, 2]], [[3]], tokens_a_batch=64, max_length=MAX_LENGTH)
