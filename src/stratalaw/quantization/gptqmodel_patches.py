"""Patches of gptqmodel: Hessians on tensor cores, and records of extra damping and of columns that it zeroed.

*Tensor cores*: gptqmodel casts activations X to float32 and multiplies X'X without tensor cores, which takes most of
the time at large widths. The product of two bf16 numbers is exact in float32, so only the order of summation differs.

*Raised diagonals*: where a damped Hessian has no Cholesky factor, gptqmodel adds to its diagonal until it has one, and
says so in its log alone. That is damping which nobody asked for.

*Dead columns*: what multiplies an input that was zero for every calibration token has no Hessian; gptqmodel sets it to
zero and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def recorded() -> Iterator[tuple[dict[str, float], dict[str, int]]]:
    """Within this context Hessians are accumulated on tensor cores; yields the records of ``raised_diagonals`` and of
    ``dead_columns``."""
    with accumulate_on_tensor_cores(), raised_diagonals() as raised, dead_columns() as dead:
        yield raised, dead


@contextmanager
def accumulate_on_tensor_cores() -> Iterator[None]:
    """Within this context gptqmodel multiplies bf16 activations on CUDA devices as they are; others are unchanged."""
    import torch
    from gptqmodel.quantization.gptq import GPTQ

    def compute_hessian_xtx(by_gptqmodel: Callable[..., Any], task: Any, matrix: torch.Tensor) -> Any:
        if matrix.device.type == "cuda" and matrix.dtype == torch.bfloat16:
            return torch.mm(matrix.T, matrix, out_dtype=torch.float32)
        return by_gptqmodel(task, matrix)

    with _replaced(GPTQ, "compute_hessian_xtx", compute_hessian_xtx):
        yield


@contextmanager
def raised_diagonals() -> Iterator[dict[str, float]]:
    """Yields what was added to the diagonals of Hessians within this context, beyond the damping that was asked for.

    By the matrix as gptqmodel logs it (``layer.module``), as a share of the mean of the diagonal, like the damping.
    """
    from gptqmodel.quantization.gptq import GPTQ

    raised: dict[str, float] = {}

    def note(task: Any, before: torch.Tensor, after: torch.Tensor) -> None:
        share = ((after - before).mean() / before.mean()).item()
        if share > 0:
            raised[f"{task._named_module.layer_index}.{task.name}"] = share

    def hessian_inverse(by_gptqmodel: Callable[..., Any], task: Any, hessian: torch.Tensor) -> Any:
        before = hessian.diagonal().clone()
        inverse = by_gptqmodel(task, hessian)
        note(task, before, hessian.diagonal())
        return inverse

    # Matrices with the same inputs share a factor; those that did not compute it learn here what it was made from.
    def shared_factor(by_gptqmodel: Callable[..., Any], task: Any, ordering: Any, producer: Any) -> Any:
        before = task.H.diagonal().clone()
        factor, damping, after = by_gptqmodel(task, ordering, producer)
        if after is not None:
            note(task, before, after)
        return factor, damping, after

    with _replaced(GPTQ, "hessian_inverse", hessian_inverse), _replaced(GPTQ, "_shared_factor_or_local", shared_factor):
        yield raised


@contextmanager
def dead_columns() -> Iterator[dict[str, int]]:
    """Yields how many columns of each matrix are set to zero within this context, by the matrix as gptqmodel logs
    it."""
    from gptqmodel.quantization.gptq import GPTQ

    dead: dict[str, int] = {}

    def finalize_hessian(by_gptqmodel: Callable[..., Any], task: Any, **options: Any) -> None:
        by_gptqmodel(task, **options)
        dead[f"{task._named_module.layer_index}.{task.name}"] = int((task.H.diagonal() == 0).sum())

    with _replaced(GPTQ, "finalize_hessian", finalize_hessian):
        yield dead


@contextmanager
def _replaced(owner: type, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Within this context a method is ``replacement``, which takes the original as its first argument."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: replacement(original, *args, **options))
    try:
        yield
    finally:
        setattr(owner, name, original)
