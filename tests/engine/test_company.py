"""A request gets the same whatever else is asked."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed

from stratalaw.engine import log_likelihoods, make_batching, plain
from stratalaw.engine.company import kept_apart

LIMIT = 32
LIMITS = {"tokens_per_batch": 256, "max_length": 100}
SMALL = {
    **{"vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 100, "pad_token_id": 0},
}


@pytest.fixture(scope="module")
def longrope():
    """A model whose positions are four times as close where a row of the batch is longer than LIMIT."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": LIMIT}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0} | factors
    config = AutoConfig.for_model("phi3", **SMALL, rope_parameters=rope, original_max_position_embeddings=LIMIT)
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
    return model


def requests(lengths):
    rng = np.random.default_rng(0)
    shared = rng.integers(100, size=10)
    contexts = [np.append(shared, rng.integers(100, size=length - 10)) for length in lengths]
    return contexts, [rng.integers(100, size=3) for _ in lengths]


def alone(model, contexts, continuations):
    answers = [
        log_likelihoods(model, [context], [continuation], **LIMITS).total[0]
        for context, continuation in zip(contexts, continuations, strict=True)
    ]
    return np.array(answers)


@pytest.mark.parametrize("recorded", [True, False], ids=["batches made before", "batches made here"])
def test_lengths_on_both_sides_of_a_limit_run_apart(longrope, recorded):
    asked = requests([12, LIMIT - 3, LIMIT - 2, LIMIT - 1, 60, 15])  # three more, of which the last is no input
    batching = make_batching(*asked, **LIMITS) if recorded else None
    found = log_likelihoods(longrope, *asked, **LIMITS, batching=batching).total
    assert np.abs(found - alone(longrope, *asked)).max() < 1e-4
    together = plain.log_likelihoods(longrope, *asked, **LIMITS).total
    assert np.abs(found - together).max() > 0.5, "the limit does not matter here"


def test_a_generation_that_passes_the_limit_runs_alone(longrope):
    lengths = np.array([10, 30, 40, 20, 28, 32])
    groups = [rows.tolist() for rows in kept_apart(longrope, lengths, growth=5)]
    assert groups == [[0, 3], [2], [1], [4], [5]]


def test_models_without_a_limit_are_one_group():
    model = LlamaForCausalLM(LlamaConfig(**SMALL))
    assert [rows.tolist() for rows in kept_apart(model, np.array([1, 50, 7]))] == [[0, 1, 2]]
    assert kept_apart(model, np.array([], dtype=int)) == []


class Sociable(LlamaForCausalLM):
    """Its logits depend on the length of the longest row."""

    def forward(self, input_ids=None, **options):
        outputs = super().forward(input_ids=input_ids, **options)
        outputs.logits = outputs.logits * input_ids.shape[-1]
        return outputs


def test_what_no_configuration_tells_is_found_by_trying(caplog):
    set_seed(0)
    model = Sociable(LlamaConfig(**SMALL, initializer_range=0.2)).eval()
    asked = requests([12, 40, 60])
    with caplog.at_level("WARNING"):
        found = log_likelihoods(model, *asked, **LIMITS).total
    assert "every request runs alone" in caplog.text
    assert np.abs(found - alone(model, *asked)).max() < 1e-4
