"""Memory and time that jobs ask a scheduler for, from a model's shapes and the number of tokens.

    GPU memory   ``cost.memory``, rounded up to the next size of GPU
    memory       libraries + weights (+ the packed weights)
    time         10 minutes + 4 x the seconds by the measured rates (``cost.rates``)

All of it grows with the attempt (a job that was killed for its memory or its time asks for more when it is retried) and
is rounded up to a few sizes, so that a scheduler can fill gaps with jobs that look alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stratalaw.cost.memory import answers_memory, checkpoint_memory, smallest_gpu
from stratalaw.cost.rates import rates_of
from stratalaw.cost.workload import work_of
from stratalaw.models.shapes import Shapes
from stratalaw.study import Evaluation
from stratalaw.study.variants import Quantization

BYTES_PER_MEGABYTE = 10**6
LIBRARIES_MB = 3_000  # resident memory of torch, transformers, gptqmodel and lm-eval
START_MINUTES = 10  # a cold file system, loading libraries, compiling kernels
MIN_MINUTES = 15

# Seconds on the measured GPU beyond which several GPUs share a quantization. It always takes more GPU-hours so, and the
# start of the job, and the wait until several are free, are not shared: what takes less gains little.
WORTH_SEVERAL_GPUS = 600

# Other GPUs are up to four times slower than the measured one.
SLOWER_GPU = 4


@dataclass(frozen=True)
class Resources:
    """What a job asks for: ``mem_mb`` and ``gpu_mem_mb`` in megabytes, ``runtime`` in minutes (Snakemake's names).

    ``expected_seconds``: how long it should take on the measured GPU; short jobs share a job of Slurm by it.
    """

    mem_mb: int
    gpu_mem_mb: int
    runtime: int
    expected_seconds: int


def resources_of_checkpoint(
    shapes: Shapes, quantization: Quantization, tokens: int, batch_size: int, attempt: int = 1
) -> Resources:
    """What the quantization of a model asks for.

    Args:
        shapes: the model's shapes.
        quantization: the variant; its calibration size counts.
        tokens: tokens per calibration sample.
        batch_size: calibration samples in one forward pass.
        attempt: 1 for the first.
    """
    on_gpu = sum(checkpoint_memory(shapes, quantization, tokens, batch_size).values())
    on_host = shapes.weight_bytes(None) + shapes.weight_bytes(quantization)
    seconds = rates_of().checkpoint(shapes, quantization.calibration_size * tokens)
    return _rounded(on_host, on_gpu, seconds, attempt)


def gpus_of_checkpoint(expected_seconds: int, gpus_per_checkpoint: int) -> int:
    """How many GPUs share a quantization that should take so long on one."""
    return gpus_per_checkpoint if expected_seconds > WORTH_SEVERAL_GPUS else 1


def resources_of_answers(shapes: Shapes, evaluation: Evaluation, attempt: int = 1) -> Resources:
    """What the answers of one variant ask for.

    Args:
        shapes: the model's shapes.
        evaluation: what is asked.
        attempt: 1 for the first.
    """
    on_gpu = sum(answers_memory(shapes, evaluation).values())
    return _rounded(shapes.weight_bytes(None), on_gpu, rates_of().answers(shapes, work_of(evaluation)), attempt)


def _rounded(on_host: float, on_gpu: float, seconds: float, attempt: int) -> Resources:
    """Sizes from bytes and seconds on the measured GPU."""
    return Resources(
        mem_mb=round_up((LIBRARIES_MB + on_host / BYTES_PER_MEGABYTE) * attempt, smallest=1_000),
        gpu_mem_mb=round(smallest_gpu(on_gpu * attempt) / BYTES_PER_MEGABYTE),
        expected_seconds=math.ceil(seconds),
        runtime=round_up((START_MINUTES + SLOWER_GPU * seconds / 60) * attempt, smallest=MIN_MINUTES),
    )


def round_up(amount: float, smallest: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, … times ``smallest``."""
    size = smallest
    while size < amount:
        size *= 2
    three_quarters = size * 3 // 4
    return three_quarters if size > 2 * smallest and three_quarters >= amount else size
