"""The Hessians of GPTQ on tensor cores: X'X of bf16 activations X, summed in float32.

gptqmodel casts the activations to float32 and multiplies without tensor cores, which takes most of the time at large
widths. The product of two bf16 numbers is exact in float32, so only the order of summation differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def accumulate_on_tensor_cores() -> Iterator[None]:
    """Within this context gptqmodel multiplies bf16 activations on CUDA devices as they are; all others as ever."""
    import torch
    from gptqmodel.quantization.gptq import GPTQ

    by_gptqmodel = GPTQ.compute_hessian_xtx

    def compute_hessian_xtx(task, matrix: torch.Tensor) -> torch.Tensor:
        if matrix.device.type == "cuda" and matrix.dtype == torch.bfloat16:
            return torch.mm(matrix.T, matrix, out_dtype=torch.float32)
        return by_gptqmodel(task, matrix)

    GPTQ.compute_hessian_xtx = compute_hessian_xtx
    try:
        yield
    finally:
        GPTQ.compute_hessian_xtx = by_gptqmodel
