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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class KeptActivations:
    """Activations kept from pass to pass, on the device where each batch passes.

    Args:
        free_bytes: how much of a device's memory is free; where none is, layers are passed as without this.
    """

    def __init__(self, free_bytes: Callable[[torch.device], int]) -> None:
        self._free_bytes = free_bytes
        self._shares: dict[torch.device, Share] = {}

    @contextmanager
    def in_pass(
        self,
        layer: torch.nn.Module,
        layer_index: int,
        device: torch.device,
        shapes: Sequence[torch.Size],
        for_outputs: bool,
        batch: Callable[[], int],
    ) -> Iterator[None]:
        """Within this context batches pass a layer, or the copy of it on one of several devices.

        Args:
            layer: its matrices are gptqmodel's ``HookedLinear``; those with a hook are collected for.
            layer_index: what was kept of another layer is released.
            device: where the batches pass.
            shapes: those of the inputs of all batches (samples x tokens x width).
            for_outputs: the pass is the layer's last one.
            batch: which batch is passing, counted from 0.
        """
        if not is_plain(layer) or not self._free_bytes(device):
            yield
            return
        share = self._shares.get(device)
        if share is None or share.layer_index != layer_index:
            share = self._shares[device] = Share(layer_index)
        with ExitStack() as replaced:
            for name, kept in share.blocks.items():
                for module, forward in self._steps(layer, name, kept, share, device, shapes, for_outputs, batch):
                    replaced.enter_context(patch.object(module, "forward", forward))
            yield
        share.quantized |= collected_by(layer)
        if for_outputs:
            del self._shares[device]

    def _steps(
        self,
        layer: torch.nn.Module,
        name: str,
        kept: Kept,
        share: Share,
        device: torch.device,
        shapes: Sequence[torch.Size],
        for_outputs: bool,
        batch: Callable[[], int],
    ) -> Iterable[tuple[torch.nn.Module, Forward]]:
        """The modules of a block that take other steps in this pass, and the steps."""
        block = layer.get_submodule(name)
        first = [block.get_submodule(matrix) for matrix in BLOCKS[name][0]]
        last = block.get_submodule(BLOCKS[name][1])
        names_of_first = {f"{name}.{matrix}" for matrix in BLOCKS[name][0]}
        if f"{name}.{BLOCKS[name][1]}" in share.quantized:
            return [(block, _continued(block, last, kept, not for_outputs, batch))]
        if names_of_first <= share.quantized:
            fits = needed_bytes(layer, last, shapes) <= self._free_bytes(device)
            return [(last, _recorded(last, kept, batch))] if fits and not for_outputs else []
        return _unread(first, batch) if collected_by(layer) == names_of_first else []


def is_plain(layer: torch.nn.Module) -> bool:
    """Whether a layer has the matrices of an attention and of a gated MLP, as Llama's, and no other."""
    return {name for name, weight in layer.named_parameters() if weight.ndim > 1} == {
        f"{name}.weight" for name in MATRICES
    } and all(hasattr(layer.get_submodule(name), "forward_hook") for name in MATRICES)


def collected_by(layer: torch.nn.Module) -> set[str]:
    """The matrices whose inputs the present pass collects."""
    return {name for name in MATRICES if getattr(layer.get_submodule(name), "forward_hook", None)}


def needed_bytes(layer: torch.nn.Module, last: Any, shapes: Sequence[torch.Size]) -> int:
    """Bytes that must be free for the activations of a block to be kept.

    Half of what is free may be kept; the other half must hold what a layer allocates beside them, the outputs of all
    batches included. Jobs that share a GPU see less that is free, and keep less.
    """
    weights: list[torch.Tensor] = [layer.get_parameter(f"{name}.weight") for name in MATRICES]
    size = weights[0].element_size()
    widest = max(max(weight.shape) for weight in weights)
    positions = [rows * tokens for rows, tokens, _ in shapes]
    kept = sum(positions) * max(last.in_features, last.out_features) * size
    outputs = sum(positions) * shapes[0][-1] * size
    hessians = HESSIANS * max(weight.shape[1] for weight in weights) ** 2 * torch.float32.itemsize
    return 2 * max(kept, outputs + hessians + ACTIVATIONS * max(positions) * widest * size)


def free_on_gpu(device: torch.device) -> int:
    """Bytes of a CUDA device that are free, or held by torch for nothing; none of another device."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _recorded(last: Any, kept: Kept, batch: Callable[[], int]) -> Forward:
    """The step of a block's last matrix whose inputs are kept."""
    former = last.forward

    def forward(inputs: torch.Tensor) -> Any:
        kept.inputs[batch()] = inputs
        return former(inputs)

    return forward


def _continued(
    block: torch.nn.Module, last: torch.nn.Module, kept: Kept, once_more: bool, batch: Callable[[], int]
) -> Forward:
    """The step of a block that goes on from what is kept, if that is what the first batch gives without."""
    former = block.forward
    beside: list[Any] = []  # what the block returns beside its output, None each, once a batch has shown it
    returns_tuple = False

    def forward(*arguments: Any, **options: Any) -> Any:
        nonlocal returns_tuple
        index = batch()
        if index not in kept.inputs and index not in kept.outputs:
            return former(*arguments, **options)
        if index > 0:
            output = kept.output(index, last, once_more)
            return (output, *beside) if returns_tuple else output
        whole = former(*arguments, **options)
        returns_tuple = isinstance(whole, tuple)
        output, *beside[:] = whole if returns_tuple else (whole,)
        is_same = torch.equal(output, kept.output(index, last, once_more))
        if not is_same or any(part is not None for part in beside) or not _leaves_nothing(options):
            kept.drop()
        return whole

    return forward


def _leaves_nothing(options: Mapping[str, Any]) -> bool:
    """Whether a block is given nothing in which it could leave something for other layers, as a cache."""
    values = list(options.values())
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return all(part is None or isinstance(part, torch.Tensor | bool | int | float | str) for part in parts)


def _unread(first: Sequence[Any], batch: Callable[[], int]) -> list[tuple[torch.nn.Module, Forward]]:
    """The steps of matrices that are collected for by a pass that goes no further: their inputs without products, if
    all have the same in the first batch."""
    seen: list[torch.Tensor] = []

    def step(matrix: Any) -> Forward:
        former = matrix.forward

        def forward(inputs: torch.Tensor) -> Any:
            if batch() == 0:
                seen.append(inputs)
            share_inputs = len(seen) == len(first) and all(other is seen[0] for other in seen)
            if batch() == 0 or matrix.forward_hook_last or not share_inputs:
                return former(inputs)
            with torch.inference_mode():
                nothing = inputs.new_zeros(*inputs.shape[:-1], matrix.out_features)
                matrix.forward_hook(matrix, (inputs,), nothing)
            return nothing

        return forward

    stops = any(matrix.forward_hook_last for matrix in first)
    return [(matrix, step(matrix)) for matrix in first] if stops else []
