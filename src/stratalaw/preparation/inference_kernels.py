"""Which of gptqmodel's kernels a user would run a checkpoint on: the fastest that supports every matrix.

Answers are computed on dense weights, so that the arithmetic is the same for every variant; users run packed ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stratalaw.models.shapes import Matrix
from stratalaw.study.variants import Quantization

ALL_GROUP_SIZES = frozenset({-1, 16, 32, 64, 128, 256, 512, 1024})


@dataclass(frozen=True)
class InferenceKernel:
    """What a kernel of gptqmodel supports.

    ``divides``: the features of a matrix are multiples of it; ``takes_ragged_groups``: the last group may be short;
    ``takes_asymmetric``: zero points may differ from the middle.
    """

    name: str
    bits: frozenset[int]
    group_sizes: frozenset[int]
    divides: int = 1
    takes_ragged_groups: bool = True
    takes_asymmetric: bool = True

    def supports(self, quantization: Quantization, symmetric: bool, matrix: Matrix) -> bool:
        precision = quantization.of(matrix.name)
        return (
            precision.bits in self.bits
            and precision.group_size in self.group_sizes
            and (symmetric or self.takes_asymmetric)
            and matrix.in_features % self.divides == 0
            and matrix.out_features % self.divides == 0
            and (self.takes_ragged_groups or not matrix.is_ragged(precision.group_size))
        )


# From the fastest, as gptqmodel 7.6 chooses on an NVIDIA GPU since Ampere; some GPUs have still faster ones for the
# same checkpoints as Marlin (Machete on Hopper).
INFERENCE_KERNELS = (
    InferenceKernel("Marlin", frozenset({4, 8}), frozenset({-1, 32, 64, 128}), 1, False, False),
    InferenceKernel("ExLlamaV2", frozenset({4}), frozenset({-1, 32, 64, 128}), 32, False),
    InferenceKernel("Triton", frozenset({2, 4, 8}), ALL_GROUP_SIZES, 32),
    InferenceKernel("Torch", frozenset({2, 3, 4, 8}), ALL_GROUP_SIZES),
)


def inference_kernel_of(quantization: Quantization, symmetric: bool, matrices: Iterable[Matrix]) -> str:
    """The fastest kernel that takes every matrix of a checkpoint."""
    shapes = set(matrices)
    return next(
        kernel.name
        for kernel in INFERENCE_KERNELS
        if all(kernel.supports(quantization, symmetric, matrix) for matrix in shapes)
    )
