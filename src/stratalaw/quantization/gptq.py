"""GPTQ checkpoints by gptqmodel, each with an audit of how it came about.

GPTQ: Frantar et al., arXiv 2210.17323. Every default of gptqmodel that changes the weights is set here or in the study.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stratalaw.files import appears_whole, sha256_sums, write_json
from stratalaw.models.allocation import rules_for_gptqmodel, write_allocation
from stratalaw.models.folder import (
    AUDIT,
    CONFIG,
    UNQUANTIZABLE,
    read_config,
    read_object,
    stored_tensors,
    verify_files,
)
from stratalaw.models.shapes import Shapes, bits_of_codes, matrices_of, shapes_of_weights
from stratalaw.seals import Seal, put_record, read_record, read_sealed
from stratalaw.study import Gptq
from stratalaw.study.variants import BASELINE_BITS, MIXED, Precision, Quantization

LOG = logging.getLogger(__name__)
QWEIGHT = ".qweight"
COUNTED = (QWEIGHT, ".scales", ".qzeros")
SHARD_SIZE = "1GB"  # files that are hashed side by side
UNQUANTIZABLE_LOSS = 999999999  # what gptqmodel logs for a matrix that it could not quantize


def quantize(
    model_folder: Path,
    checkpoint_folder: Path,
    quantization: Quantization,
    calibration: Sequence[Sequence[int]],
    options: Gptq,
    device: str = "cpu",
    gpus: int = 1,
    made_from: Mapping[str, str] | None = None,
    before_it_counts: Callable[[], object] = lambda: None,
) -> None:
    """Quantize a model and write the packed checkpoint, with an audit beside the weights.

    Args:
        model_folder: a transformers model with its tokenizer.
        checkpoint_folder: appears whole or not at all.
        quantization: bits and group size, of a mixed variant those of each matrix, which are written beside the
            weights; its calibration size must be the number of samples.
        calibration: token ids of the calibration samples.
        options: what else changes the weights.
        device: where Hessians are accumulated and weights are rounded. A CPU that only emulates bf16 computes in
            float32, in which products are several times as fast and no less exact.
        gpus: how many of the visible GPUs share the work, if the device is one; weights of another number differ in
            the order of summation.
        made_from: digests of the model and of the calibration samples, for the audit's seal.
        before_it_counts: called before the checkpoint gets its name; nothing is left behind if it fails.

    Raises:
        ValueError: the number of samples is not the quantization's, or fewer GPUs are visible.
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
    from transformers import AutoConfig

    from stratalaw.models.arithmetic import computing_in_float32, only_emulates_bf16
    from stratalaw.quantization.gptqmodel_patches import (
        faster_on_gpus,
        flushed_when_written,
        recorded,
        write_without_copy,
    )

    on_gpu = device.startswith("cuda")
    if on_gpu and gpus > torch.cuda.device_count():
        raise ValueError(
            f"{gpus} GPUs are to quantize {quantization.name}, and {torch.cuda.device_count()} are visible"
        )
    config = QuantizeConfig(
        bits=quantization.bits,
        group_size=quantization.group_size,
        dynamic=rules_for_gptqmodel(quantization) or None,
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
        # None in the host's memory; on several GPUs, each has those that it passes.
        calibration_data_device=("balanced" if gpus > 1 else device) if on_gpu else None,
        # gptqmodel takes all that are visible.
        compute_device_filter=(lambda devices: devices[:gpus]) if on_gpu else None,
    )
    started = time.monotonic()
    model = GPTQModel.load(str(model_folder.resolve()), config, device=device, trust_remote_code=False)
    samples = [{"input_ids": list(tokens), "attention_mask": [1] * len(tokens)} for tokens in calibration]
    # gptqmodel leaves a folder "logs" in the current one.
    in_float32 = only_emulates_bf16(device)
    arithmetic = computing_in_float32(model.model) if in_float32 else nullcontext()
    with TemporaryDirectory() as scratch, chdir(scratch), arithmetic, faster_on_gpus(), recorded() as (raised, dead):
        model.quantize(samples, batch_size=options.batch_size, calibration_sort=None, calibration_data_min_length=1)
    if raised:
        LOG.warning(
            "%d Hessians had no Cholesky factor; gptqmodel added up to %.1e of the mean to their diagonals, beyond the "
            "damping of %g: see the audit",
            *(len(raised), max(raised.values()), options.damping),
        )
    # gptqmodel writes into the configuration what transformers refuses to store where each kind of layer has its own.
    model.model.config.rope_parameters = getattr(
        AutoConfig.from_pretrained(model_folder, trust_remote_code=False), "rope_parameters", None
    )
    with appears_whole(checkpoint_folder) as folder, flushed_when_written():
        with write_without_copy():
            model.save(str(folder), max_shard_size=SHARD_SIZE)
        keep_configuration(model_folder, folder)
        if quantization.exceptions:
            write_allocation(quantization, folder)
        audit = {
            "variant": quantization.name,
            "calibration_tokens": sum(map(len, calibration)),
            **measure_tensors(folder, quantization, shapes_of_weights(model_folder)),
            "modules": sorted(
                (audit_of_module(entry, raised, dead) for entry in model.quant_log),
                key=lambda module: natural_order(module["name"]),
            ),
            "sha256": sha256_sums(sorted(folder.iterdir())),
            "options": options.model_dump(),
            "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
            **({"gpus": gpus} if on_gpu else {}),
            **({"arithmetic": "float32"} if in_float32 else {}),
            "versions": {name: version(name) for name in ("gptqmodel", "torch", "transformers")},
            "seconds": round(time.monotonic() - started, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_memory_bytes": max(map(torch.cuda.max_memory_allocated, range(gpus))) if on_gpu else 0,
        }
        before_it_counts()
        if audit["unquantized"]:
            LOG.warning(
                "%d matrices are as they were, since no calibration token reaches them: see the audit",
                len(audit["unquantized"]),
            )
        put_record(audit, folder / AUDIT, Seal("checkpoint", {"variant": quantization.name}, made_from or {}))


def keep_configuration(model_folder: Path, checkpoint_folder: Path) -> None:
    """Give a checkpoint the configuration of its model, as it was but for how it is packed: gptqmodel changes more."""
    packing = read_object(checkpoint_folder / CONFIG)["quantization_config"]
    write_json(read_object(model_folder / CONFIG) | {"quantization_config": packing}, checkpoint_folder / CONFIG)


def audit_of_module(entry: Mapping[str, Any], raised: Mapping[str, float], dead: Mapping[str, int]) -> dict[str, Any]:
    """What gptqmodel logged about one matrix.

    ``loss`` is the squared error that rounding adds to the outputs, summed over the matrix, for each of the calibration
    ``tokens`` that it saw; ``damping`` is what was added to the diagonal of its Hessian, as a share of the diagonal's
    mean, and ``raised`` what gptqmodel added beyond that to have a Cholesky factor. ``dead_columns``: how many were set
    to zero, since every calibration token has zero at these inputs.

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
        "dead_columns": dead.get(name, 0),
    }


def natural_order(name: str) -> list[str | int]:
    """A sorting key by which layer 10 comes after layer 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def measure_tensors(checkpoint_folder: Path, quantization: Quantization, shapes: Shapes) -> dict[str, Any]:
    """What the packed tensors say: effective bits, quantized weights, matrices that were not quantized, and those whose
    last group is short.

    Effective bits are all bits of packed weights, scales and zero points, and 16 for each weight of a matrix that was
    not quantized, over the number of weights that were to be quantized; the group index is left out, since it follows
    from the shape. GPTQ leaves a matrix as it is when no calibration token reaches it, as some experts. Of a mixed
    variant there are also its method, and the bits and the group size that most weights have.

    Args:
        checkpoint_folder: the packed checkpoint.
        quantization: the variant.
        shapes: those of the original model.

    Raises:
        RuntimeError: the checkpoint has other matrices than the original, or one of a mixed variant other bits than it
            was to have.
    """
    config, stored = read_config(checkpoint_folder), dict(stored_tensors(checkpoint_folder))
    packed = {name.removesuffix(QWEIGHT): tensor.shape[1] for name, tensor in stored.items() if name.endswith(QWEIGHT)}
    in_features = {module: stored[f"{module}.g_idx"].shape[0] for module in packed}
    kept = {name: list(matrices_of(name, tensor.shape, config)) for name, tensor in stored.items()}
    bits = 8 * sum(tensor.n_bytes for name, tensor in stored.items() if name.endswith(COUNTED))
    quantized = sum(out_features * in_features[module] for module, out_features in packed.items())
    left = sum(matrix.in_features * matrix.out_features for matrices in kept.values() for matrix in matrices)
    if quantized + left != shapes.n_quantized:
        raise RuntimeError(
            f"{shapes.n_quantized} weights were to be quantized; gptqmodel quantized {quantized} and left {left}"
        )
    about_mixed: dict[str, Any] = {}
    if quantization.exceptions:
        for module, count in in_features.items():
            found = bits_of_codes(stored[f"{module}{QWEIGHT}"].shape[0], count)
            if found != quantization.of(module).bits:
                raise RuntimeError(f"{module} was to have {quantization.of(module).bits} bits, and has {found}")
        weights = {module: out_features * in_features[module] for module, out_features in packed.items()}
        about_mixed = most_frequent(quantization, weights)
    return {
        **about_mixed,
        "effective_bits": (bits + BASELINE_BITS * left) / shapes.n_quantized,
        "quantized_weights": quantized,
        "unquantized": sorted((matrix.name for matrices in kept.values() for matrix in matrices), key=natural_order),
        "ragged_groups": [
            module
            for module in packed
            if (group_size := quantization.of(module).group_size) > 0 and in_features[module] % group_size
        ],
    }


def most_frequent(quantization: Quantization, weights: Mapping[str, int]) -> dict[str, Any]:
    """The method of a mixed variant, and what stands for it where a table has one number: the bits and the group size
    that most weights have; ``weights``: of each matrix."""
    counts: Counter[Precision] = Counter()
    for name, count in weights.items():
        counts[quantization.of(name)] += count
    [(precision, _)] = counts.most_common(1)
    return {"method": MIXED, **vars(precision)}


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
