"""GPTQ checkpoints by gptqmodel, with every default that changes the experiment set here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

DAMPING = 0.01


def quantize(
    model_folder: Path,
    checkpoint_folder: Path,
    *,
    bits: int,
    group_size: int,
    calibration: Sequence[Sequence[int]],
    device: str = "cpu",
) -> list[dict]:
    """Quantize a model and save the packed checkpoint.

    Args:
        model_folder: a transformers model with its tokenizer.
        checkpoint_folder: where the checkpoint goes; it must not exist.
        bits: nominal bits of a weight (2, 3, 4 or 8).
        group_size: input features that share a scale and a zero point.
        calibration: token ids of the calibration samples.
        device: where Hessians are accumulated and weights are rounded.

    Returns:
        gptqmodel's log: one entry for each quantized module.

    Raises:
        RuntimeError: a Hessian is not finite or cannot be inverted (there is no fallback to rounding to nearest).
    """
    # gptqmodel's thread pools fail on machines with few cores unless told how many workers there are.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, os.cpu_count() or 2)))
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(
        bits=bits,
        group_size=group_size,
        sym=True,
        desc_act=False,
        act_group_aware=False,
        static_groups=False,
        true_sequential=True,
        damp_percent=DAMPING,
        damp_auto_increment=0.0,
        mse=0.0,
        fallback=None,
        offload_to_disk=False,
    )
    model = GPTQModel.load(str(model_folder), config, device=device)
    samples = [{"input_ids": list(tokens), "attention_mask": [1] * len(tokens)} for tokens in calibration]
    model.quantize(samples, batch_size=8, calibration_sort=None, calibration_data_min_length=1)
    model.save(str(checkpoint_folder))
    return model.quant_log


def dequantize(checkpoint_folder: Path, dense_folder: Path) -> None:
    """Write the checkpoint's weights as a dense bf16 model, so that every variant runs through the same kernel."""
    from gptqmodel.utils.model_dequant import dequantize_model

    dequantize_model(checkpoint_folder, dense_folder)
