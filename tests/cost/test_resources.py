"""Requests hold what was measured, scale the right way, and stay small for small models."""

import pytest
from transformers import Qwen3Config

from stratalaw.cost.resources import gpus_of_checkpoint, resources_of_answers, resources_of_checkpoint, round_up
from stratalaw.models.known_shapes import shapes_of
from stratalaw.study import Benchmark, Evaluation
from stratalaw.study.variants import Quantization

QWEN3_8B = {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
W4 = Quantization(bits=4, group_size=128, calibration_size=128, calibration_seed=0)
PAPER = {"tokens": 2048, "batch_size": 8}
TASKS = ("arc_easy", "hellaswag", "mmlu")


def evaluation(items: int | None = 1000, tokens_per_batch: int = 65_536) -> Evaluation:
    benchmarks = [Benchmark(task=task, chance=0.25, shots=5) for task in TASKS]
    return Evaluation(strata={"application": benchmarks}, items=items, tokens_per_batch=tokens_per_batch)


@pytest.fixture(scope="module")
def qwen3_8b(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    Qwen3Config(**QWEN3_8B).save_pretrained(folder)
    return shapes_of(folder)


def test_quantization_asks_for_what_was_measured_and_not_for_much_more(qwen3_8b):
    asked = resources_of_checkpoint(qwen3_8b, W4, **PAPER)
    assert 9_462 <= asked.gpu_mem_mb <= 16_000  # reserved at the peak; the smallest kind of GPU that has it is 12 GB
    assert 2 * 82 / 60 <= asked.runtime <= 30
    assert 16_400 + 4_500 <= asked.mem_mb <= 32_000


def test_evaluation_asks_for_what_was_measured_and_not_for_much_more(qwen3_8b):
    asked = resources_of_answers(qwen3_8b, evaluation(tokens_per_batch=1024))
    assert 16_400 < asked.gpu_mem_mb <= 24_000  # the weights, and little else
    assert 15 <= asked.runtime <= 45
    more = [resources_of_answers(qwen3_8b, evaluation(tokens_per_batch=n * 65_536)).gpu_mem_mb for n in (1, 4)]
    widest = 65_536 * 12_288 * 2 / 1e6  # three of them at least: a gate, what it gates, and the product
    assert 16_400 + 3 * widest <= more[0] <= 16_400 + 12 * widest
    assert more[1] >= 16_400 + 4 * 3 * widest


def test_the_whole_benchmarks_take_longer_than_some_items(qwen3_8b):
    some, every = (resources_of_answers(qwen3_8b, evaluation(items)) for items in (100, None))
    assert every.runtime > some.runtime


def test_more_calibration_asks_for_more_gpu_memory_and_time(qwen3_8b):
    few, many = (
        resources_of_checkpoint(qwen3_8b, Quantization(4, 128, samples, 0), **PAPER) for samples in (128, 1024)
    )
    assert many.gpu_mem_mb >= few.gpu_mem_mb + 2 * (1024 - 128) * 2048 * 4096 * 2 / 1e6 - 4_000
    assert many.runtime > few.runtime and many.mem_mb == few.mem_mb


def test_several_gpus_share_only_what_takes_long(qwen3_8b):
    samples = (128, 4096)
    asked = [resources_of_checkpoint(qwen3_8b, Quantization(4, 128, n, 0), **PAPER).expected_seconds for n in samples]
    assert [gpus_of_checkpoint(seconds, 2) for seconds in asked] == [1, 2]
    assert [gpus_of_checkpoint(seconds, 1) for seconds in asked] == [1, 1]


def test_a_retry_asks_for_more_of_everything(qwen3_8b):
    first, second = (resources_of_checkpoint(qwen3_8b, W4, **PAPER, attempt=attempt) for attempt in (1, 2))
    asked = ("mem_mb", "gpu_mem_mb", "runtime")
    assert all(getattr(second, name) > getattr(first, name) for name in asked)
    assert first.expected_seconds == second.expected_seconds <= 60 * first.runtime


def test_a_small_model_fits_twice_into_a_laptop(small_model_folder):
    shapes = shapes_of(small_model_folder)
    for asked in (
        resources_of_checkpoint(shapes, Quantization(4, 128, 128, 0), tokens=256, batch_size=8),
        resources_of_answers(shapes, evaluation(tokens_per_batch=16_384)),
    ):
        assert asked.mem_mb <= 4_000 and asked.gpu_mem_mb <= 2_000 and asked.runtime == 15


def test_sizes_are_few():
    assert [round_up(amount, smallest=1000) for amount in (1, 1001, 2001, 3001, 4001, 6001, 8001, 12_001)] == [
        *(1000, 2000, 3000, 4000, 6000, 8000, 12_000, 16_000)
    ]
    assert {round_up(minutes, smallest=15) for minutes in range(1, 16 * 60)} == {15, 30, 45, 60, 90, 120, 180} | {
        *(240, 360, 480, 720, 960)
    }
