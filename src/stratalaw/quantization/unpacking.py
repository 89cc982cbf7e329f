"""The dense weights of a model or a packed GPTQ checkpoint, so that every variant runs through the same kernels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import safe_open

from stratalaw.models.folder import SETTINGS, weight_files
from stratalaw.quantization.gptq import BITS_PER_WORD
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


def dense_weights(folder: Path, device: str) -> dict[str, torch.Tensor]:
    """All weights of a model's folder or of a packed checkpoint as bf16, by the names that the model has.

    Raises:
        ValueError: the checkpoint is packed in another format than gptqmodel's ``gptq``.
    """
    bits = _bits_of(folder)
    dense: dict[str, torch.Tensor] = {}
    packed: dict[str, dict[str, torch.Tensor]] = {}
    for path in weight_files(folder):
        with safe_open(path, "pt", device=device) as file:
            for name in file.keys():  # noqa: SIM118
                module, _, kind = name.rpartition(".")
                if kind not in PACKED:
                    dense[name] = file.get_tensor(name).bfloat16()
                    continue
                parts = packed.setdefault(module, {})
                parts[kind] = file.get_tensor(name)
                if len(parts) == len(PACKED):
                    dense[f"{module}.weight"] = dequantize(**packed.pop(module), bits=bits)
    return dense


def _bits_of(folder: Path) -> int:
    """Bits of a checkpoint's codes, or of bf16."""
    settings = folder / SETTINGS
    if not settings.exists():
        return BASELINE_BITS
    config = json.loads(settings.read_text())
    if config["checkpoint_format"] != "gptq":
        raise ValueError(f"{folder}: packed as {config['checkpoint_format']}, not as gptq; quantize anew")
    return int(config["bits"])
