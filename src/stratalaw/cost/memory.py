"""GPU memory of jobs, part by part, from a model's shapes: one formula for all that ask for it or show it.

It was checked against what jobs took on one NVIDIA H100 (``rates.csv``, gpu_bytes; 4 bits, groups of 128, samples of
2,048 tokens in batches of 8) and gives as much or somewhat more: quantizing the shape of Qwen3-8B with 128 samples took
7.0 GB, loading its dense weights 20.0 GB, answering with the shape of Qwen3-1.7B in batches of 65,536 tokens 7.9 GB.
What lies beyond these shapes is scaled.
"""

from __future__ import annotations

from stratalaw.models.shapes import BYTES_OF_16_BITS, BYTES_OF_32_BITS, Shapes
from stratalaw.study import Evaluation
from stratalaw.study.variants import Quantization

HESSIANS = 5  # of the widest matrix, at once: the sum, its factor, and what the solver needs beside them
QUANTIZING_ACTIVATIONS = 4  # of a batch at the widest, at once
ANSWERING_ACTIVATIONS = 6
LOADING = 1.3  # dense weights, and what is read while they are put together
GPU_SIZES_GB = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192, 288)  # GPUs that can be bought


def checkpoint_memory(shapes: Shapes, quantization: Quantization, tokens: int, batch_size: int) -> dict[str, float]:
    """Bytes of GPU memory that a quantization takes, by what takes them.

    Args:
        shapes: of the model.
        quantization: the variant; its calibration size counts.
        tokens: of a calibration sample.
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


def answers_memory(shapes: Shapes, evaluation: Evaluation) -> dict[str, float]:
    """Bytes of GPU memory that the answers of one variant take, by what takes them."""
    weights = shapes.weight_bytes(None)
    activations = ANSWERING_ACTIVATIONS * evaluation.tokens_per_batch * shapes.widest * BYTES_OF_16_BITS
    # Loading and answering come one after the other.
    return {"weights": weights, "loading or activations": max((LOADING - 1) * weights, activations)}


def smallest_gpu(n_bytes: float) -> float:
    """Bytes of the smallest kind of GPU that has ``n_bytes``; the next multiple of the largest where none has."""
    sizes = [size * 1e9 for size in GPU_SIZES_GB]
    return next((size for size in sizes if size >= n_bytes), -(-n_bytes // sizes[-1]) * sizes[-1])
