"""Memory and time that jobs ask a scheduler for, from a model's shapes and the number of tokens.

Memory was measured on one NVIDIA H100, at 4 bits, groups of 128, 128 calibration samples of 2,048 tokens in batches of
8: for the shape of Qwen3-8B quantization took 7.0 GB of GPU memory and a dense model 20.0 GB to load; for that of
Qwen3-1.7B answering with 65,536 tokens a batch took 7.9 GB, weights included. The formula gives these values or
somewhat more, and scales them:

    GPU, quantization   weights outside the layers + 6 bytes for each parameter of a layer + 5 Hessians of the widest
                        matrix in fp32 + 4 activations of a batch at the widest + inputs and outputs of a layer
    GPU, evaluation     the larger of 1.3 x weights (loading), and weights + 6 activations of a batch at the widest
    RAM                 libraries + weights (+ the packed weights)
    time                10 minutes + 4 x what the measured rates say (``stratalaw.cost.rates``)

All of it grows with the attempt (a job that was killed for its memory or its time asks for more when it is retried) and
is rounded up to a few sizes, so that a scheduler can fill gaps with jobs that look alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from stratalaw.cost.rates import rates_of
from stratalaw.cost.workload import work_of
from stratalaw.shapes import BYTES_OF_16_BITS, BYTES_OF_32_BITS, Shapes
from stratalaw.study import Evaluation
from stratalaw.variants import Quantization

BYTES_OF_A_MEGABYTE = 10**6
LIBRARIES_MB = 3_000  # resident memory of torch, transformers, gptqmodel and lm-eval
START_MINUTES = 10  # a cold file system, loading libraries, compiling kernels
SHORTEST_MINUTES = 15

# Other GPUs are up to four times slower than the measured one.
SLOWER_GPU = 4


@dataclass(frozen=True)
class Resources:
    """What a job asks for: ``mem_mb`` and ``gpu_mem_mb`` in megabytes, ``runtime`` in minutes (Snakemake's names)."""

    mem_mb: int
    gpu_mem_mb: int
    runtime: int


def resources_of_quantization(
    shapes: Shapes, quantization: Quantization, tokens: int, batch_size: int, attempt: int = 1
) -> Resources:
    """What the quantization of a model asks for.

    Args:
        shapes: of the model.
        quantization: the variant; its calibration size counts.
        tokens: of a calibration sample.
        batch_size: calibration samples in one forward pass.
        attempt: 1 for the first.
    """
    calibration_tokens = quantization.calibration_size * tokens
    widest_input = max(matrix.in_features for matrix in shapes.matrices)
    widest = max(widest_input, max(matrix.out_features for matrix in shapes.matrices))
    layer = shapes.n_quantized / shapes.n_layers
    on_gpu = (
        shapes.n_other * BYTES_OF_16_BITS
        + layer * (BYTES_OF_16_BITS + BYTES_OF_32_BITS)
        + 5 * widest_input**2 * BYTES_OF_32_BITS
        + 4 * batch_size * tokens * widest * BYTES_OF_16_BITS
        + 2 * calibration_tokens * shapes.hidden_size * BYTES_OF_16_BITS
    )
    on_host = shapes.weight_bytes(None) + shapes.weight_bytes(quantization)
    rates = rates_of()
    seconds = rates.before_quantization(shapes) + rates.quantization(shapes, calibration_tokens)
    return _rounded(on_host, on_gpu, seconds, attempt)


def resources_of_evaluation(shapes: Shapes, evaluation: Evaluation, attempt: int = 1) -> Resources:
    """What the answers of one variant ask for.

    Args:
        shapes: of the model.
        evaluation: what is asked.
        attempt: 1 for the first.
    """
    weights = shapes.weight_bytes(None)
    widest = max(matrix.out_features for matrix in shapes.matrices)
    on_gpu = max(1.3 * weights, weights + 6 * evaluation.tokens_a_batch * widest * BYTES_OF_16_BITS)
    return _rounded(weights, on_gpu, rates_of().evaluation(shapes, work_of(evaluation)), attempt)


def _rounded(on_host: float, on_gpu: float, seconds: float, attempt: int) -> Resources:
    """Sizes from bytes and seconds on the measured GPU."""
    return Resources(
        mem_mb=round_up((LIBRARIES_MB + on_host / BYTES_OF_A_MEGABYTE) * attempt, smallest=1_000),
        gpu_mem_mb=round_up(on_gpu / BYTES_OF_A_MEGABYTE * attempt, smallest=1_000),
        runtime=round_up((START_MINUTES + SLOWER_GPU * seconds / 60) * attempt, smallest=SHORTEST_MINUTES),
    )


def round_up(amount: float, smallest: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, … times ``smallest``."""
    size = smallest
    while size < amount:
        size *= 2
    three_quarters = size * 3 // 4
    return three_quarters if size > 2 * smallest and three_quarters >= amount else size
