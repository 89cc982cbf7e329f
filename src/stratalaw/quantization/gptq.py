"""GPTQ checkpoints by gptqmodel, each with an audit of how it came about.

GPTQ: Frantar et al., arXiv 2210.17323. Every default of gptqmodel that changes the weights is set here or in the study.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stratalaw.files import appears_whole, sha256_sums
from stratalaw.models.folder import AUDIT, UNQUANTIZABLE, stored_tensors, verify_files
from stratalaw.seals import Seal, put_record, read_record, read_sealed
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization

LOG = logging.getLogger(__name__)
BITS_PER_WORD = 32
SHARD_SIZE = "1GB"  # files that are hashed side by side
UNQUANTIZABLE_LOSS = 999999999  # what gptqmodel logs for a matrix that it could not quantize


def quantize(
    model_folder: Path,
    checkpoint_folder: Path,
    quantization: Quantization,
    calibration: Sequence[Sequence[int]],
    options: Gptq,
    device: str = "cpu",
    made_from: Mapping[str, str] | None = None,
) -> None:
    """Quantize a model and write the packed checkpoint, with an audit beside the weights.

    Args:
        model_folder: a transformers model with its tokenizer.
        checkpoint_folder: appears whole or not at all.
        quantization: bits and group size; its calibration size must be the number of samples.
        calibration: token ids of the calibration samples.
        options: what else changes the weights.
        device: where Hessians are accumulated and weights are rounded.
        made_from: digests of the model and of the calibration samples, for the audit's seal.

    Raises:
        ValueError: the number of samples is not the quantization's.
        RuntimeError: a Hessian is not finite or cannot be inverted (there is no fallback to rounding to nearest).
    """
    if len(calibration) != quantization.calibration_size:
        raise ValueError(f"{len(calibration)} calibration samples for {quantization.name}")
    # Both must be set before the import: gptqmodel's pools fail on machines with few cores unless told how many workers
    # there are, and the order of summation follows the number of threads.
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, options.threads))
    import torch

    torch.set_num_threads(options.threads)
    from gptqmodel import GPTQModel, QuantizeConfig

    from stratalaw.quantization.gptqmodel_patches import (
        accumulate_on_tensor_cores,
        factor_once,
        fused_layers,
        passes_without_last_product,
        quantized_layers_through_page_locked_memory,
        raised_diagonals,
        solve_with_kernels,
        write_without_copy,
    )

    config = QuantizeConfig(
        bits=quantization.bits,
        group_size=quantization.group_size,
        sym=options.symmetric,
        desc_act=options.activation_order,
        act_group_aware=False,
        static_groups=False,
        true_sequential=options.sequential_within_layer,
        damp_percent=options.damping,
        damp_auto_increment=0.0,
        mse=0.0,
        fallback=None,
        offload_to_disk=False,
        calibration_data_device=device if device.startswith("cuda") else None,  # none in the host's memory
    )
    started = time.monotonic()
    model = GPTQModel.load(str(model_folder.resolve()), config, device=device, trust_remote_code=False)
    samples = [{"input_ids": list(tokens), "attention_mask": [1] * len(tokens)} for tokens in calibration]
    # gptqmodel leaves a folder "logs" in the current one.
    with (
        TemporaryDirectory() as scratch,
        chdir(scratch),
        accumulate_on_tensor_cores(),
        fused_layers(),
        passes_without_last_product(),
        factor_once(),
        solve_with_kernels(),
        quantized_layers_through_page_locked_memory(),
        raised_diagonals() as raised,
    ):
        model.quantize(samples, batch_size=options.batch_size, calibration_sort=None, calibration_data_min_length=1)
    if raised:
        LOG.warning(
            "%d Hessians had no Cholesky factor; gptqmodel added up to %.1e of the mean to their diagonals, beyond the "
            "damping of %g: see the audit",
            *(len(raised), max(raised.values()), options.damping),
        )
    with appears_whole(checkpoint_folder) as folder:
        with write_without_copy():
            model.save(str(folder), max_shard_size=SHARD_SIZE)
        audit = {
            "variant": quantization.name,
            "calibration_tokens": sum(map(len, calibration)),
            **measure_tensors(folder, quantization),
            "modules": sorted(
                (audit_of_module(entry, raised) for entry in model.quant_log),
                key=lambda module: natural_order(module["name"]),
            ),
            "sha256": sha256_sums(sorted(folder.iterdir())),
            "options": options.model_dump(),
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
            "versions": {name: version(name) for name in ("gptqmodel", "torch", "transformers")},
            "seconds": round(time.monotonic() - started, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0,
        }
        put_record(audit, folder / AUDIT, Seal("checkpoint", {"variant": quantization.name}, made_from or {}))


def audit_of_module(entry: Mapping[str, Any], raised: Mapping[str, float]) -> dict[str, Any]:
    """What gptqmodel logged about one matrix.

    ``loss`` is the squared error that rounding adds to the outputs, summed over the matrix, for each of the calibration
    ``tokens`` that it saw; ``damping`` is what was added to the diagonal of its Hessian, as a share of the diagonal's
    mean, and ``raised`` what gptqmodel added beyond that to have a Cholesky factor.

    Raises:
        RuntimeError: the matrix was not quantized with GPTQ.
    """
    name = f"{entry['layer']}.{entry['module']}"
    try:
        loss = float(entry["loss"])
    except ValueError:
        loss = UNQUANTIZABLE_LOSS  # gptqmodel writes words where it fell back to another method
    if not loss < UNQUANTIZABLE_LOSS:
        raise RuntimeError(f"layer {name}: its Hessian cannot be inverted (logged loss {entry['loss']})")
    return {
        "name": name,
        "loss": loss,
        "tokens": int(entry["samples"]),
        "damping": float(entry["damp"]),
        "raised": raised.get(name, 0.0),
    }


def natural_order(name: str) -> list[str | int]:
    """A sorting key by which layer 10 comes after layer 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def measure_tensors(checkpoint_folder: Path, quantization: Quantization) -> dict[str, Any]:
    """What the packed tensors say: effective bits, quantized weights, and matrices whose last group is short.

    Effective bits are all bits of packed weights, scales and zero points over the number of quantized weights; the
    group index is left out, since it follows from the shape.
    """
    bits = weights = 0
    ragged = []
    for name, tensor in stored_tensors(checkpoint_folder):
        module, _, kind = name.rpartition(".")
        if kind not in ("qweight", "scales", "qzeros"):
            continue
        bits += tensor.n_bytes * 8
        if kind == "qweight":
            rows, out_features = tensor.shape
            in_features = rows * BITS_PER_WORD // quantization.bits
            weights += in_features * out_features
            if quantization.group_size > 0 and in_features % quantization.group_size:
                ragged.append(module)
    return {"effective_bits": bits / weights, "quantized_weights": weights, "ragged_groups": ragged}


def checkpoint_seal(folder: Path, made_from: Mapping[str, str]) -> Seal:
    """The seal of a checkpoint's audit, or of the record that it cannot be made, once it was found to be the folder's
    and ``made_from`` what is there now; raises SealError."""
    unquantizable = (folder / UNQUANTIZABLE).exists()
    record, kind = (UNQUANTIZABLE, "unquantizable") if unquantizable else (AUDIT, "checkpoint")
    return read_sealed(folder / record, kind, {"variant": folder.name}, made_from)[1]


def read_audit(folder: Path, made_from: Mapping[str, str]) -> dict[str, Any]:
    """The audit of a checkpoint, checked as ``checkpoint_seal`` does."""
    return read_record(folder / AUDIT, "checkpoint", {"variant": folder.name}, made_from)


def verify_checkpoint(folder: Path) -> None:
    """Raise ModelError unless a checkpoint has the files that its audit saw, unchanged, and no other."""
    verify_files(folder, AUDIT, read_record(folder / AUDIT, "checkpoint")["sha256"], "quantized")
