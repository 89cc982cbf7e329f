"""Activations that the passes of calibration samples through a layer keep for the passes after them.

GPTQ quantizes the matrices of a layer group by group, and the samples pass the layer before each group, and once more
for its outputs. Each pass computes anew what those before it computed from matrices that had been quantized and no
longer change. Kept instead are, for each batch, the input of the matrix that ends the attention and of the one that
ends the MLP, from the pass that collects them, and the output of the attention from the pass after that. Then each
quantized matrix, and the attention, multiplies each batch once.

A pass that collects the inputs of several matrices stops at the last of them. The products of the others are not
computed either, once a batch has shown that all of them get one and the same tensor.

Nothing is taken for granted about what a layer computes beyond its matrices: in each pass the first batch goes the
whole way, and the kept activations of a block are dropped unless they give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch

# The blocks of a layer: the matrices that take its input, and the one that gives its output.
BLOCKS = {"self_attn": (("q_proj", "k_proj", "v_proj"), "o_proj"), "mlp": (("gate_proj", "up_proj"), "down_proj")}
MATRICES = {f"{block}.{name}" for block, (first, last) in BLOCKS.items() for name in (*first, last)}
# What a layer allocates beside activations that are kept, as `cost.memory` counts it.
HESSIANS = 5  # of the widest matrix, in 32 bits
ACTIVATIONS = 4  # of a batch at the widest
Forward = Callable[..., Any]


@dataclass
class Kept:
    """What is kept of one block, by batch."""

    inputs: dict[int, torch.Tensor] = field(default_factory=dict)  # of the last matrix
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)

    def output(self, batch: int, last: torch.nn.Module, once_more: bool) -> torch.Tensor:
        """The output of the block for a batch; it is kept only if it is needed ``once_more``."""
        output = self.outputs.pop(batch) if batch in self.outputs else last(self.inputs.pop(batch))
        if once_more:
            self.outputs[batch] = output
        return output

    def drop(self) -> None:
        self.inputs.clear()
        self.outputs.clear()


@dataclass
class Share:
    """What one device keeps of one layer for its share of the batches."""

    layer_index: int
    quantized: set[str] = field(default_factory=set)  # matrices
    blocks: dict[str, Kept] = field(default_factory=lambda: {name: Kept() for name in BLOCKS})


@dataclass(frozen=True)
class Pass:
    """One pass of batches through a layer, or through the copy of it on one of several devices.

    Attributes:
        layer: its matrices are gptqmodel's ``HookedLinear``; those with a hook are collected for.
        layer_index: which layer it is.
        device: where the batches pass.
        shapes: those of the inputs of all batches (samples x tokens x width).
        for_outputs: whether it is the layer's last one, which gives its outputs.
        batch: which batch is passing now, counted from 0.
    """

    layer: torch.nn.Module
    layer_index: int
    device: torch.device
    shapes: Sequence[torch.Size]
    for_outputs: bool
    batch: Callable[[], int]

    @property
    def collects_for(self) -> set[str]:
        return {name for name in MATRICES if getattr(self.layer.get_submodule(name), "forward_hook", None)}


class KeptActivations:
    """Activations kept from pass to pass, on the device where each batch passes.

    Args:
        free_bytes: how much of a device's memory is free; where none is, layers are passed as without this.
    """

    def __init__(self, free_bytes: Callable[[torch.device], int]) -> None:
        self._free_bytes = free_bytes
        self._shares: dict[torch.device, Share] = {}

    @contextmanager
    def during(self, passing: Pass) -> Iterator[None]:
        """Within this context the layer goes on from what is kept of it; what is kept of another is released."""
        if not self._free_bytes(passing.device) or not is_plain(passing.layer):
            yield
            return
        share = self._shares.get(passing.device)
        if share is None or share.layer_index != passing.layer_index:
            share = self._shares[passing.device] = Share(passing.layer_index)
        with ExitStack() as replaced:
            for name in BLOCKS:
                for module, forward in self._steps(name, share, passing):
                    replaced.enter_context(patch.object(module, "forward", forward))
            yield
        share.quantized |= passing.collects_for
        if passing.for_outputs:
            del self._shares[passing.device]

    def _steps(self, name: str, share: Share, passing: Pass) -> list[tuple[torch.nn.Module, Forward]]:
        """The modules of a block that take other steps in a pass, and the steps."""
        block, kept = passing.layer.get_submodule(name), share.blocks[name]
        names_of_first, name_of_last = BLOCKS[name]
        first = {f"{name}.{matrix}" for matrix in names_of_first}
        last = block.get_submodule(name_of_last)
        if f"{name}.{name_of_last}" in share.quantized:
            return [(block, _continued(block, last, kept, passing))]
        if first <= share.quantized:
            fits = needed_bytes(last, passing) <= self._free_bytes(passing.device)
            return [(last, _recorded(last, kept, passing))] if fits and not passing.for_outputs else []
        if first == passing.collects_for:
            return _unread([block.get_submodule(matrix) for matrix in names_of_first], passing)
        return []


def is_plain(layer: torch.nn.Module) -> bool:
    """Whether a layer has the matrices of an attention and of a gated MLP, as Llama's, and no other."""
    matrices = {
        name
        for name, module in layer.named_modules()
        for weight in (vars(module) | module._parameters).values()  # copies for GPUs have them as plain attributes
        if isinstance(weight, torch.Tensor) and weight.ndim > 1
    }
    return matrices == MATRICES and all(hasattr(layer.get_submodule(name), "forward_hook") for name in MATRICES)


def needed_bytes(last: Any, passing: Pass) -> int:
    """Bytes that must be free for the inputs of a block's last matrix, or its outputs, to be kept.

    Half of what is free may be kept; the other half must hold what a layer allocates beside them, the outputs of all
    batches included. Jobs that share a GPU see less that is free, and keep less.
    """
    weights: list[Any] = [passing.layer.get_submodule(name).weight for name in MATRICES]
    size = last.weight.element_size()
    widest = max(max(weight.shape) for weight in weights)
    positions = [rows * tokens for rows, tokens, _ in passing.shapes]
    kept: int = sum(positions) * max(last.in_features, last.out_features) * size
    outputs: int = sum(positions) * passing.shapes[0][-1] * size
    hessians: int = HESSIANS * max(weight.shape[1] for weight in weights) ** 2 * torch.float32.itemsize
    activations: int = ACTIVATIONS * max(positions) * widest * size
    return 2 * max(kept, outputs + hessians + activations)


def free_on_gpu(device: torch.device) -> int:
    """Bytes of a CUDA device that are free, or held by torch for nothing; none of another device."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _recorded(last: Any, kept: Kept, passing: Pass) -> Forward:
    """The step of a block's last matrix whose inputs are kept."""
    former = last.forward

    def forward(inputs: torch.Tensor) -> Any:
        kept.inputs[passing.batch()] = inputs
        return former(inputs)

    return forward


def _continued(block: torch.nn.Module, last: torch.nn.Module, kept: Kept, passing: Pass) -> Forward:
    """The step of a block that goes on from what is kept, if that is what the first batch gives without."""
    former = block.forward
    once_more = not passing.for_outputs
    is_tuple = False
    beside: list[Any] = []  # what the block returns with its output

    def forward(*arguments: Any, **options: Any) -> Any:
        nonlocal is_tuple
        batch = passing.batch()
        if batch not in kept.inputs and batch not in kept.outputs:
            return former(*arguments, **options)
        if batch > 0:
            output = kept.output(batch, last, once_more)
            return (output, *beside) if is_tuple else output
        whole = former(*arguments, **options)
        is_tuple = isinstance(whole, tuple)
        output, *beside[:] = whole if is_tuple else (whole,)
        is_same = torch.equal(output, kept.output(batch, last, once_more))
        if not is_same or any(part is not None for part in beside) or not _leaves_nothing(options):
            kept.drop()
        return whole

    return forward


def _leaves_nothing(options: Mapping[str, Any]) -> bool:
    """Whether a block is given nothing in which it could leave something for other layers, as a cache."""
    parts = [part for value in options.values() for part in (value if isinstance(value, tuple) else (value,))]
    return all(part is None or isinstance(part, torch.Tensor | bool | int | float | str) for part in parts)


def _unread(matrices: Sequence[Any], passing: Pass) -> list[tuple[torch.nn.Module, Forward]]:
    """The steps of matrices that are collected for by a pass that goes no further: their inputs without products, if
    all have the same in the first batch."""
    seen: list[torch.Tensor] = []

    def step(matrix: Any) -> Forward:
        former = matrix.forward

        def forward(inputs: torch.Tensor) -> Any:
            is_first = passing.batch() == 0
            if is_first:
                seen.append(inputs)
            share_inputs = len(seen) == len(matrices) and all(other is seen[0] for other in seen)
            if is_first or matrix.forward_hook_last or not share_inputs:
                return former(inputs)
            with torch.inference_mode():
                nothing = inputs.new_zeros(*inputs.shape[:-1], matrix.out_features)
                matrix.forward_hook(matrix, (inputs,), nothing)
            return nothing

        return forward

    stops = any(matrix.forward_hook_last for matrix in matrices)
    return [(matrix, step(matrix)) for matrix in matrices] if stops else []
