"""The dense weights of a model or a packed GPTQ checkpoint, so that every variant runs through the same kernels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from stratalaw.models.folder import SETTINGS, weight_files
from stratalaw.models.shapes import BITS_PER_WORD, FUSED, HALVES, bits_of_codes
from stratalaw.study.variants import BASELINE_BITS

PACKED = ("qweight", "qzeros", "scales", "g_idx")


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes in packed words: a stream of ``bits`` each from the lowest bit on, down every column.

    Args:
        words: int32, (words, columns).
        bits: 2, 3, 4 or 8; 32 codes of 3 bits fill 3 words, and some of them lie across two words.

    Returns:
        uint8, (words * 32 / bits, columns).
    """
    period = math.lcm(bits, BITS_PER_WORD) // BITS_PER_WORD
    columns = words.shape[1]
    stream = words.reshape(-1, period, columns).long() & 0xFFFFFFFF
    codes = []
    for first_bit in range(0, period * BITS_PER_WORD, bits):
        word, shift = divmod(first_bit, BITS_PER_WORD)
        code = stream[:, word] >> shift
        if shift + bits > BITS_PER_WORD:
            code |= stream[:, word + 1] << (BITS_PER_WORD - shift)
        codes.append((code & (2**bits - 1)).to(torch.uint8))
    return torch.stack(codes, dim=1).reshape(-1, columns)


def dequantize(
    qweight: torch.Tensor, qzeros: torch.Tensor, scales: torch.Tensor, g_idx: torch.Tensor, bits: int
) -> torch.Tensor:
    """One matrix, bf16, (output features, input features): (code - zero point) * scale.

    Args:
        qweight: int32, (packed input features, output features).
        qzeros: int32, (groups, packed output features); zero points less one, as GPTQ's first format has them.
        scales: (groups, output features).
        g_idx: (input features,) the group of each.
    """
    zeros = (unpack(qzeros.T.contiguous(), bits).T[:, : scales.shape[1]] + 1) & (2**bits - 1)
    codes, group = unpack(qweight, bits)[: len(g_idx)], g_idx.long()
    dense: torch.Tensor = (codes.float() - zeros.float()[group]) * scales.float()[group]
    return dense.bfloat16().t().contiguous()


class Weight:
    """A dense weight that is read, or made from packed parts, when it is asked for (``weight[...]``).

    ``parts``: the file and the name of each part of it; one, or those of ``PACKED``; ``bits``: of its codes, None where
    the matrices of a checkpoint differ and the shapes say.
    """

    def __init__(self, parts: Mapping[str, tuple[Any, str]], bits: int | None) -> None:
        self.parts, self.bits = parts, bits

    def __getitem__(self, index: Any) -> torch.Tensor:
        tensors = {kind: file.get_tensor(name) for kind, (file, name) in self.parts.items()}
        if tensors.keys() == set(PACKED):
            bits = self.bits or bits_of_codes(len(tensors["qweight"]), len(tensors["g_idx"]))
            dense = dequantize(**tensors, bits=bits)
        else:
            dense = tensors["weight"]
        return dense[index]


class Fused:
    """Several weights that a model has in one tensor: ``join`` makes it of them."""

    def __init__(self, weights: Sequence[Weight | Fused], join: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
        self.weights, self.join = weights, join

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.join([weight[...] for weight in self.weights])[index]


@contextmanager
def weights_of(folder: Path, device: str) -> Iterator[dict[str, Weight]]:
    """The dense weights of a model's folder or of a packed checkpoint, each read onto the device when it is asked for.

    By the names in the files, and ``.weight`` for what is packed; within this context, which keeps the files open.

    Raises:
        ValueError: the checkpoint is packed in another format than gptqmodel's ``gptq``.
    """
    bits = _bits_of(folder)
    with ExitStack() as files:
        weights: dict[str, dict[str, tuple[Any, str]]] = {}
        for path in weight_files(folder):
            file = files.enter_context(safe_open(path, "pt", device=device))
            for name in file.keys():  # noqa: SIM118
                module, _, kind = name.rpartition(".")
                is_packed = bits != BASELINE_BITS and kind in PACKED
                weights.setdefault(f"{module}.weight" if is_packed else name, {})[kind if is_packed else "weight"] = (
                    file,
                    name,
                )
        yield {name: Weight(parts, bits) for name, parts in weights.items()}


def dense_weights(folder: Path, device: str) -> dict[str, torch.Tensor]:
    """What ``weights_of`` gives, read at once."""
    with weights_of(folder, device) as weights:
        return {name: weight[...] for name, weight in weights.items()}


def as_the_model_has_them(weights: Mapping[str, Weight], model: PreTrainedModel) -> dict[str, Weight | Fused]:
    """The weights of a packed checkpoint by the names and in the layout of a model (which may be empty).

    gptqmodel takes apart what transformers has in one tensor: the halves of a gated map, and experts.
    """
    transposed = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}
    rest: dict[str, Weight | Fused] = dict(weights)
    found: dict[str, Weight | Fused] = {}
    for name, tensor in model.state_dict().items():
        if name in rest:
            weight = rest.pop(name)
            found[name] = Fused([weight], lambda whole: whole[0].t().contiguous()) if name in transposed else weight
        elif parts := _parts_of(name, tensor, rest):
            found[name] = Fused([rest.pop(part) for part in parts], _join_of(tensor))
    return found | rest


def _parts_of(name: str, tensor: torch.Tensor, weights: Mapping[str, Any]) -> list[str]:
    """The names of the weights that are one tensor of a model, in their order in it; none where they are not there."""
    path, _, kind = name.removesuffix(".weight").rpartition(".")
    halves = [kind.replace(FUSED, half) for half in HALVES] if kind == FUSED else [kind]
    owners = [path] if tensor.ndim == 2 else [f"{path}.{expert}" for expert in range(len(tensor))]
    parts = [f"{owner}.{half}.weight" for owner in owners for half in halves]
    return parts if all(part in weights for part in parts) else []


def _join_of(tensor: torch.Tensor) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """How parts become a tensor of this shape: one below the other, for each expert if it is of experts."""
    return lambda parts: torch.cat(parts).view(tensor.shape)


def _bits_of(folder: Path) -> int | None:
    """Bits of a checkpoint's codes, or of bf16; None where each matrix has its own."""
    settings = folder / SETTINGS
    if not settings.exists():
        return BASELINE_BITS
    config = json.loads(settings.read_text())
    if config["checkpoint_format"] != "gptq":
        raise ValueError(f"{folder}: packed as {config['checkpoint_format']}, not as gptq; quantize anew")
    return None if config.get("dynamic") else int(config["bits"])
