from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ladder.documents import ANSWER_WEIGHT
from ladder.train import Recipe, batches, predicted_positions, train

RECIPE = Recipe(tokens=12 * 4096, chunk_tokens=1 << 15, opening=0.25, long_rows=0.25)


def test_an_interrupted_stream_of_batches_goes_on_as_if_it_had_not_been(world):
    whole = list(islice(batches(world, RECIPE, 0, 0), RECIPE.steps))
    for first in (1, 5, 10):
        rest = list(islice(batches(world, RECIPE, 0, first), RECIPE.steps - first))
        for a, b in zip(whole[first:], rest, strict=True):
            assert (a.tokens == b.tokens).all() and (a.weights == b.weights).all()
            assert (a.positions == b.positions).all()


def test_rows_are_long_at_the_end(world):
    shapes = [tuple(batch.tokens.shape) for batch in islice(batches(world, RECIPE, 0, 0), RECIPE.steps)]
    assert shapes == [(32, 128)] * 9 + [(16, 256)] * 3


def test_every_answer_is_predicted_and_no_padding(world):
    for batch in islice(batches(world, RECIPE, 0, 0), RECIPE.steps):
        weights = batch.weights[:, 1:].reshape(-1)
        assert len(batch.positions) == len(set(batch.positions.tolist())) == 4096 // 3
        assert (weights[batch.positions] == ANSWER_WEIGHT).sum() == (weights == ANSWER_WEIGHT).sum()
        assert (weights[batch.positions] > 0).all()


def test_predicted_context_tokens_differ_from_step_to_step():
    weights = np.full((32, 128), 0.05, dtype=np.float32)
    first, second = (set(predicted_positions(RECIPE, weights, step).tolist()) for step in range(2))
    assert len(first & second) < 0.5 * len(first)


def test_the_learning_rate_rises_holds_and_falls():
    factors = [Recipe().learning_rate_factor(step) for step in range(Recipe().steps)]
    top = factors.index(1.0)
    assert factors[:top] == sorted(factors[:top]) and top < 0.03 * len(factors)
    assert factors[top : int(0.74 * len(factors))] == [1.0] * (int(0.74 * len(factors)) - top)
    assert factors[-1] == pytest.approx(0, abs=1e-3)


@pytest.fixture
def one_thread():
    """Several threads add gradients in an order that differs from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_code_generated():
    """The loss is compiled as far as its graphs, forward and backward; machine code for them would take minutes."""
    with torch.compiler.set_stance(force_backend="aot_eager"):
        yield


def test_training_resumed_gives_the_same_weights(tmp_path, monkeypatch, one_thread, no_code_generated):
    monkeypatch.setattr("ladder.train.VALIDATION_ITEMS", 4)
    recipe = replace(RECIPE, tokens=4 * 4096)
    train("r1", recipe, 0, tmp_path / "whole", save_every=1e9)
    train("r1", recipe, 0, tmp_path / "resumed", save_every=1e9, stop_at=2)
    assert not (tmp_path / "resumed" / "model.safetensors").exists()
    train("r1", recipe, 0, tmp_path / "resumed", save_every=1e9)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)
