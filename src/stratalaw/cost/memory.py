"""GPU memory of jobs, part by part, from a model's shapes: one formula for all that ask for it or show it.

It is checked against peaks that were measured on one NVIDIA H100 (``memory.csv``, made by ``benchmarks/memory_gpu.py``:
layers of the shapes of Qwen3 1.7B, 8B and 32B; 4 bits, groups of 128, samples of 2,048 tokens in batches of 8) and
gives at least a twentieth more than was allocated. What lies beyond these shapes is scaled. Activations that a
quantization keeps from pass to pass are not in it: they take what is free, and no job needs them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from stratalaw.models.shapes import BYTES_OF_16_BITS, BYTES_OF_32_BITS, Shapes
from stratalaw.study import Evaluation
from stratalaw.study.variants import Quantization

HESSIANS = 5  # of the widest matrix, at once: the sum, its factor, and what the solver needs beside them
QUANTIZING_ACTIVATIONS = 4  # of a batch at the widest, at once
ANSWERING_ACTIVATIONS = 4
HEAD_POSITIONS = 4096  # whose logits the engine holds at once
UNPACKING = 18  # bytes per weight of the matrix that is unpacked
GPU_SIZES_GB = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192, 288)  # GPUs that can be bought


def checkpoint_memory(shapes: Shapes, quantization: Quantization, tokens: int, batch_size: int) -> dict[str, float]:
    """Bytes of GPU memory that a quantization takes, by component.

    Args:
        shapes: the model's shapes.
        quantization: the variant; its calibration size counts.
        tokens: tokens per calibration sample.
        batch_size: calibration samples in one forward pass.
    """
    widest_input = max(matrix.in_features for matrix in shapes.matrices)
    layer = shapes.n_quantized / shapes.n_layers
    samples = quantization.calibration_size * tokens
    return {
        "weights outside the layers": shapes.n_other * BYTES_OF_16_BITS,
        "one layer in 16 and 32 bits": layer * (BYTES_OF_16_BITS + BYTES_OF_32_BITS),
        "Hessians": HESSIANS * widest_input**2 * BYTES_OF_32_BITS,
        "activations": QUANTIZING_ACTIVATIONS * batch_size * tokens * shapes.widest * BYTES_OF_16_BITS,
        "inputs and outputs of a layer": 2 * samples * shapes.hidden_size * BYTES_OF_16_BITS,
    }


def fit_beside_a_layer(shapes: Shapes, calibration_tokens: float, gpu_bytes: float = 80e9) -> bool:
    """Whether a quantization keeps the activations of all calibration tokens from pass to pass, on a GPU of so many
    bytes: in half of what the inputs of a layer leave free, as ``quantization.kept_activations`` decides."""
    widest_input = max(matrix.in_features for matrix in shapes.matrices)
    kept, inputs = (calibration_tokens * width * BYTES_OF_16_BITS for width in (widest_input, shapes.hidden_size))
    return 2 * kept <= gpu_bytes - inputs


def answers_memory(shapes: Shapes, evaluation: Evaluation) -> dict[str, float]:
    """Bytes of GPU memory that the answers of one variant take, by component."""
    activations = ANSWERING_ACTIVATIONS * evaluation.tokens_per_batch * shapes.widest * BYTES_OF_16_BITS
    vocabulary = shapes.n_embedding / shapes.hidden_size  # twice, where the output embedding is not tied
    logits = HEAD_POSITIONS * vocabulary * BYTES_OF_16_BITS
    unpacking = UNPACKING * max(matrix.in_features * matrix.out_features for matrix in shapes.matrices)
    # Unpacking comes before answering.
    return {"weights": shapes.weight_bytes(None), "unpacking or answering": max(unpacking, activations + logits)}


@cache
def measured_peaks() -> pd.DataFrame:
    """The measured peaks: device, job, shape, packed, n_layers, n_params, n_quantized, amount, allocated, reserved.

    ``job``: checkpoints (``amount``: calibration samples), load, or answer (``amount``: tokens per batch).
    """
    with files(__package__).joinpath("memory.csv").open() as file:
        return pd.read_csv(file)


def smallest_gpu(n_bytes: float) -> float:
    """Bytes of the smallest kind of GPU that has ``n_bytes``; the next multiple of the largest where none has."""
    sizes = [size * 1e9 for size in GPU_SIZES_GB]
    return next((size for size in sizes if size >= n_bytes), -(-n_bytes // sizes[-1]) * sizes[-1])
