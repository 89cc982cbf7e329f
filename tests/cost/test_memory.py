"""The formula holds every peak that was measured, and not much more."""

import pytest
from transformers import Qwen3Config

from stratalaw.cost.memory import (
    answers_memory,
    checkpoint_memory,
    fit_beside_a_layer,
    measured_peaks,
    smallest_gpu,
)
from stratalaw.models.known_shapes import shapes_of
from stratalaw.models.shapes import Shapes
from stratalaw.study import Benchmark, Evaluation
from stratalaw.study.variants import Quantization

# Hidden size, intermediate size, query heads, whether embeddings are tied: of Qwen3.
QWEN3 = {"1.7B": (2048, 6144, 16, True), "8B": (4096, 12_288, 32, False), "32B": (5120, 25_600, 64, False)}
PEAKS = list(measured_peaks().itertuples(index=False))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> dict[str, Shapes]:
    """Shapes with as few layers as were measured."""
    found = {}
    for name, (hidden, intermediate, heads, tied) in QWEN3.items():
        folder = tmp_path_factory.mktemp(name)
        Qwen3Config(
            vocab_size=151_936, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=2,
            num_attention_heads=heads, num_key_value_heads=8, head_dim=128, tie_word_embeddings=tied,
        ).save_pretrained(folder)  # fmt: skip
        found[name] = shapes_of(folder)
    return found


def evaluation(tokens_per_batch: int) -> Evaluation:
    strata = {"application": [Benchmark(task="t", chance=0)]}
    return Evaluation(strata=strata, tokens_per_batch=tokens_per_batch)


@pytest.mark.parametrize("peak", PEAKS, ids=lambda peak: f"{peak.job}-{peak.shape}-{peak.amount}-{peak.packed}")
def test_what_was_measured_is_held_and_not_much_more(shapes, peak):
    model = shapes[peak.shape]
    assert model.n_params == peak.n_params
    if peak.job == "checkpoints":
        parts = checkpoint_memory(model, Quantization(4, 128, peak.amount, 0), tokens=2048, batch_size=8)
    else:
        parts = answers_memory(model, evaluation(peak.amount or 256))
    assert sum(parts.values()) > peak.allocated
    if peak.job != "load":  # what comes after it needs more
        # The allocator gives back what it reserved beyond its need.
        assert 1.05 * peak.allocated < sum(parts.values()) < 2 * peak.reserved


def test_a_gpu_is_one_that_can_be_bought():
    assert [smallest_gpu(gigabytes * 1e9) / 1e9 for gigabytes in (0.5, 7, 25, 70, 81, 300)] == [1, 8, 32, 80, 96, 576]


def test_activations_are_kept_where_they_fit(shapes):
    """512 samples of the 8B shape were seen to be kept on 80 GB, with a peak of 47 GB."""
    assert fit_beside_a_layer(shapes["8B"], 512 * 2048)
    assert not fit_beside_a_layer(shapes["8B"], 1024 * 2048)
    assert fit_beside_a_layer(shapes["8B"], 1024 * 2048, gpu_bytes=141e9)
    assert fit_beside_a_layer(shapes["1.7B"], 1024 * 2048)
