"""The numbers that models are computed in: bf16, or float32 on a CPU that has no instructions for bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch


def only_emulates_bf16(device: str) -> bool:
    """Whether a device has no instructions for bf16, so that products of float32 numbers take it a fraction of the
    time."""
    return device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextmanager
def computing_in_float32(model: torch.nn.Module) -> Iterator[None]:
    """Within this context the bf16 parameters and buffers of a model are float32. Unless an error ends it, they are
    bf16 again afterwards.

    Every bf16 number is a float32 number, so that what nobody changed is as it was. What was replaced within the
    context, as matrices by packed ones, stays as it is.
    """
    names = {name for name, tensor in _tensors(model) if tensor.dtype == torch.bfloat16}
    _cast(model, names, torch.float32)
    yield
    _cast(model, names, torch.bfloat16)


def _tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _cast(model: torch.nn.Module, names: set[str], dtype: torch.dtype) -> None:
    for name, tensor in _tensors(model):
        # A packed part may have the name of what it replaced, as a bias, and has a kind of its own.
        if name in names and tensor.dtype in (torch.bfloat16, torch.float32):
            tensor.data = tensor.data.to(dtype)
