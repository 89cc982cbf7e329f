import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ladder.documents import ANSWER_WEIGHT
from ladder.rungs import CONTEXT_LENGTH, LEARNING_RATE, RUNGS
from ladder.stream import CHUNK_ROWS, WEIGHT_UNIT, Recipe, Stream, write_stream
from ladder.train import Training, train

RECIPE = Recipe(tokens=6 * 4 * CONTEXT_LENGTH, rows_per_step=4, opening=0.5)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    write_stream(folder, 0, RECIPE, processes=1)
    return Stream.read(folder)


def test_the_text_of_a_seed_is_that_of_its_world_whatever_wrote_it(world, tmp_path):
    recipe = Recipe(tokens=2 * CHUNK_ROWS * CONTEXT_LENGTH, rows_per_step=CHUNK_ROWS // 2, opening=0.25)
    streams = []
    for processes in (1, 2):
        write_stream(tmp_path / str(processes), 3, recipe, processes)
        streams.append(Stream.read(tmp_path / str(processes)))
    assert all((getattr(streams[0], name) == getattr(streams[1], name)).all() for name in ("tokens", "weights"))
    first = recipe.opening_rows
    for chunk, opening, rows in ((0, True, slice(0, first)), (1, False, slice(first, first + CHUNK_ROWS))):
        tokens, weights = world.training_rows(
            3, chunk, int(1.05 * CHUNK_ROWS * CONTEXT_LENGTH), CONTEXT_LENGTH, opening
        )
        part = streams[0].tokens[rows]
        assert (part == tokens[: len(part)]).all()
        assert np.allclose(streams[0].weights[rows] * WEIGHT_UNIT, weights[: len(part)])


def test_rows_are_full_and_answers_count_most(stream):
    assert stream.tokens.shape == (RECIPE.rows, CONTEXT_LENGTH)
    assert (stream.weights > 0).mean() > 0.9
    answers = stream.weights * WEIGHT_UNIT == ANSWER_WEIGHT
    assert 0.15 < answers.mean() < 0.4


@pytest.fixture
def one_thread():
    """Several threads add gradients in an order that differs from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_learning_rate_rises_holds_and_falls(world, stream):
    recipe = replace(RECIPE, tokens=1000 * 4 * CONTEXT_LENGTH)
    training = Training(RUNGS["q1"], recipe, 0, world, stream, "cpu")
    rates = []
    for step in range(recipe.steps):
        training.step.fill_(step)
        rates.append(round(float(training.scheduled_learning_rate()) / LEARNING_RATE, 5))
    top = rates.index(1.0)
    assert rates[:top] == sorted(rates[:top]) and top < 0.03 * len(rates)
    assert set(rates[top : int(0.74 * len(rates))]) == {1.0}
    assert rates[-1] == pytest.approx(0, abs=3e-3)


@pytest.mark.parametrize("rung", ["q1", "l1"])
def test_training_learns_and_gives_the_same_weights_again(rung, world, stream, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr("ladder.train.VALIDATION_ITEMS", 12)
    for name in ("first", "second"):
        train(rung, RECIPE, 0, stream, tmp_path / name)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "first" / "loss.csv").read_text().splitlines()[1:]]
    assert losses[0] == pytest.approx(np.log(len(world.vocabulary)), abs=0.3) and losses[-1] < losses[0] - 0.5
    record = json.loads((tmp_path / "first" / "training.json").read_text())
    assert record["rung"]["family"] == RUNGS[rung].family
    assert set(record["validation"]) == {benchmark.name for benchmark in world.benchmarks}


def test_the_loss_is_the_weighted_cross_entropy_of_the_next_tokens(world, stream):
    training = Training(RUNGS["q1"], RECIPE, 0, world, stream, "cpu")
    tokens, weights = (part[:2] for part in (training.tokens.long(), training.weights.float()))
    logits = training.model(tokens).logits[:, :-1].double().log_softmax(-1)
    expected = -(logits.gather(2, tokens[:, 1:, None])[..., 0] * weights[:, 1:]).sum() / weights[:, 1:].sum()
    assert training.loss(tokens, weights).item() == pytest.approx(float(expected), rel=2e-3)
