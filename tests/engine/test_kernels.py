"""The kernels for GPUs, run by Triton's interpreter (see conftest.py), give what the code that they replace gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from stratalaw.engine import kernels
from stratalaw.engine.attention import BLOCK_KEYS, BLOCK_QUERIES, Tree
from stratalaw.engine.batches import make_batching
from stratalaw.engine.cache import Cache, Rows

VOCABULARY = 50
every_kind = pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def rounding(kind: torch.dtype) -> float:
    """Two steps of a data type: Triton's interpreter cuts off where a GPU rounds, and results are rounded twice."""
    return 2 * torch.finfo(kind).eps


def ends_of_a_tree(seed: int, prompt: int, questions: int) -> torch.Tensor:
    """Where the descendants of each token end, of questions with three choices each after a prompt."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(VOCABULARY, size=prompt).tolist()
    requests = [
        (shared + question, rng.integers(VOCABULARY, size=rng.integers(1, 9)).tolist())
        for question in (rng.integers(VOCABULARY, size=rng.integers(1, 40)).tolist() for _ in range(questions))
        for _ in range(3)
    ]
    (batch,) = make_batching(*zip(*requests, strict=True), tokens_per_batch=10_000, max_length=1000).batches
    return torch.from_numpy(batch.end)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    prompt=st.sampled_from([1, 30, 150]),
    questions=st.integers(1, 6),
    shape=st.sampled_from([(4, 2, 32), (2, 2, 24), (4, 1, 64)]),
)
def test_attention_sees_ancestors_and_nothing_else(seed, prompt, questions, shape):
    heads, key_heads, size = shape
    end = ends_of_a_tree(seed, prompt, questions)
    torch.manual_seed(seed)
    query, key, value = (torch.randn(1, len(end), n, size).transpose(1, 2) for n in (heads, key_heads, key_heads))
    place = torch.arange(len(end))
    is_ancestor = (place[None] <= place[:, None]) & (place[:, None] < end[None])
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=is_ancestor, enable_gqa=True)
    tree = Tree(end)
    found = kernels.tree_attention(query, key, value, end, *tree.blocks, size**-0.5, BLOCK_QUERIES, BLOCK_KEYS)
    assert relative_difference(found, expected.transpose(1, 2)) < 1e-6
    assert relative_difference(tree.attend(0, query, key, value, None), expected.transpose(1, 2)) < 1e-6


@pytest.mark.parametrize("shape", [(4, 2, 32), (2, 2, 24), (6, 1, 64)], ids=str)
def test_the_newest_token_of_each_row_sees_that_row_alone(shape):
    heads, key_heads, size = shape
    torch.manual_seed(0)
    length = torch.tensor([1, 70, 130, 3])
    start = torch.tensor([300, 5, 80, 0])  # stretches of a pool, in any order
    query = torch.randn(1, len(length), heads, size).transpose(1, 2)
    keys, values = torch.randn(2, 310, key_heads, size)
    expected = torch.stack(
        [
            functional.scaled_dot_product_attention(
                query[:, :, row, None],
                keys[first : first + n].transpose(0, 1)[None],
                values[first : first + n].transpose(0, 1)[None],
                enable_gqa=True,
            )[0, :, 0]
            for row, (first, n) in enumerate(zip(start, length, strict=True))
        ]
    )
    found = kernels.row_attention(query, keys, values, start, length, size**-0.5)
    assert relative_difference(found[0], expected) < 1e-6
    rows = Rows(Cache([keys.clone()], [values.clone()]), start, length)
    newest = [part[start + length - 1].transpose(0, 1)[None] for part in (keys, values)]
    assert relative_difference(rows.attend(0, query, *newest, None)[0], expected) < 1e-6


@every_kind
@pytest.mark.parametrize("width", [24, 64])
def test_norms(kind, width):
    norm = LlamaRMSNorm(width, eps=1e-6).to(kind)
    norm.weight = torch.nn.Parameter(torch.randn(width).to(kind), requires_grad=False)
    x = torch.randn(5, 7, width).to(kind)
    assert relative_difference(kernels.rms_norm(x, norm.weight, 1e-6), norm(x)) < rounding(kind)


@every_kind
def test_gates(kind):
    gate, up = torch.randn(2, 3, 50).to(kind)
    expected = functional.silu(gate) * up
    assert relative_difference(kernels.silu_product(gate.clone(), up), expected) < rounding(kind)


@every_kind
def test_rotations(kind):
    query = torch.randn(1, 9, 3, 24).to(kind).transpose(1, 2)
    cos, sin = torch.randn(2, 1, 9, 24).to(kind)
    expected, _ = apply_rotary_pos_emb(query, query, cos, sin)
    assert relative_difference(kernels.rotate(query.clone(), cos, sin), expected) < rounding(kind)


@every_kind
def test_the_first_of_equally_likely_tokens_is_the_likeliest(kind):
    logits = torch.randn(6, 5000).to(kind)
    logits[2, 100] = logits[2, 4500] = logits.max() + 1
    log_sum, likeliest = kernels.log_normalizers(logits)
    torch.testing.assert_close(log_sum, logits.float().logsumexp(-1))
    assert likeliest.tolist() == logits.float().argmax(-1).tolist()
    assert likeliest[2] == 100
