"""Checkpoints that others quantized, as dense bf16 weights with an audit: scored like any variant of a study.

Only the weights are taken from a checkpoint. Configuration, tokenizer and all else are the original's, so that a
variant differs from its original in the weights alone. What each format means, and where that is said:

``gptq``, ``gptq_v2``: AutoGPTQ's and gptqmodel's (``unpacking``); the second has zero points as they are, not less one
``awq``: AutoAWQ's gemm (``awq/modules/linear/gemm.py``, ``awq/utils/packing_utils.py``)
``compressed``: compressed-tensors' pack-quantized (its ``compressors/``)
``gguf``: see ``gguf``
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stratalaw.files import appears_whole, sha256_sums
from stratalaw.models.configuration import setting
from stratalaw.models.folder import (
    AUDIT,
    INDEX,
    WEIGHTS,
    ModelError,
    distinct_shapes,
    goes_with_weights,
    read_config,
    stored_tensors,
    weight_files,
)
from stratalaw.models.packed import BITS, Packing, checkpoint_files, packing_of
from stratalaw.models.shapes import BITS_PER_WORD, bits_of_codes, matrices_of, shapes_of_weights
from stratalaw.quantization.gguf import GgufFile, in_order_of_model, names_in_model
from stratalaw.quantization.gptq import natural_order
from stratalaw.quantization.unpacking import PACKED, unpack
from stratalaw.seals import Seal, digest_of, put_record
from stratalaw.study.variants import BASELINE_BITS, EXISTING

LOG = logging.getLogger(__name__)
SHARD_BYTES = 2_000_000_000
# Which of a word's eight codes comes first, second … in AutoAWQ's words.
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
KINDS_OF_PARTS = {
    "gptq": (*PACKED,),
    "gptq_v2": (*PACKED,),
    "awq": ("qweight", "qzeros", "scales"),
    "compressed": ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape"),
}
NOT_COUNTED = ("g_idx", "weight_shape")  # follow from the shape, or are a few bytes


@dataclass(frozen=True)
class Dense:
    """A tensor of a checkpoint as a dense one: by its ``name`` in the model; ``bits``: nominal of a weight, and
    ``n_bytes`` that it takes in the checkpoint, scales and zero points included; ``group_size``: of its groups."""

    name: str
    weight: torch.Tensor
    bits: int
    n_bytes: int
    group_size: int | None = None


def convert(
    source: Path, model_folder: Path, target: Path, made_from: Mapping[str, str], source_name: str | None = None
) -> None:
    """Write a checkpoint's dense weights in bf16 as a model's folder, which appears whole or not at all.

    Args:
        source: a folder, or a GGUF file.
        model_folder: the original as it was copied or fetched.
        target: named as the variant.
        made_from: digests for the audit's seal, of the model.
        source_name: what the audit calls the source; its path if not given.

    Raises:
        ModelError: the format is not read, a file is damaged, or the checkpoint is not one of the model: a tensor is
            missing, is not the model's, or has another shape.
    """
    packing = packing_of(source)
    expected = distinct_shapes(model_folder)
    files = [source] if source.is_file() else checkpoint_files(source)
    sums = sha256_sums(files)
    seen: list[Dense] = []
    with appears_whole(target) as folder:
        folder.mkdir()
        for path in model_folder.iterdir():
            if goes_with_weights(path.name) and path.name != INDEX:
                shutil.copy(path, folder / path.name)
        shards = _Shards(folder)
        for tensor in _dense_tensors(source, packing, model_folder):
            if tensor.name not in expected:
                if tensor.name.endswith("lm_head.weight") and tensor.bits >= BASELINE_BITS:
                    continue  # a copy of a tied embedding
                raise ModelError(f"{source}: {tensor.name} is no tensor of {model_folder.name}")
            if tuple(tensor.weight.shape) != expected[tensor.name]:
                shape = tuple(tensor.weight.shape)
                raise ModelError(
                    f"{source}: {tensor.name} has the shape {shape}; in {model_folder.name} it has "
                    f"{expected[tensor.name]}"
                )
            shards.add(tensor.name, tensor.weight)
            seen.append(Dense(tensor.name, torch.empty(0), tensor.bits, tensor.n_bytes, tensor.group_size))
        shards.finish()
        if missing := sorted(expected.keys() - {tensor.name for tensor in seen}):
            raise ModelError(f"{source}: no tensor for {missing[0]} of {model_folder.name} ({len(missing)} missing)")
        audit = {
            "variant": target.name,
            **audit_of(seen, packing, model_folder),
            "source": source_name or str(source),
            "source_sha256": sums,
            "sha256": sha256_sums(sorted(folder.iterdir())),
        }
        digest = digest_of(f"{name} {value}" for name, value in sorted(sums.items()))
        put_record(audit, folder / AUDIT, Seal("checkpoint", {"variant": target.name}, {**made_from, "source": digest}))
    if audit["unquantized"]:
        LOG.warning("%s: %d matrices are not quantized: see the audit", source, len(audit["unquantized"]))


def audit_of(seen: list[Dense], packing: Packing, model_folder: Path) -> dict[str, Any]:
    """What the tensors say: nominal and effective bits, group size, matrices left as they were, what else is quantized.

    Effective bits are those of packed weights, scales and zero points, and 16 for each weight of a matrix that is not
    quantized, over the weights of all matrices that GPTQ would quantize.
    """
    shapes, config = shapes_of_weights(model_folder), read_config(model_folder)
    expected = distinct_shapes(model_folder)
    counts = {
        tensor.name: sum(
            m.in_features * m.out_features for m in matrices_of(tensor.name, expected[tensor.name], config)
        )
        for tensor in seen
    }
    matrices = [tensor for tensor in seen if counts[tensor.name]]
    quantized = [tensor for tensor in matrices if tensor.bits < BASELINE_BITS]
    if not quantized:
        raise ModelError(f"{packing.method}: none of the matrices of {model_folder.name} is quantized")
    total = sum(8 * tensor.n_bytes for tensor in quantized)
    total += sum(BASELINE_BITS * counts[tensor.name] for tensor in matrices if tensor.bits >= BASELINE_BITS)

    def most(values: list[int]) -> int:
        """The value that most weights have."""
        weights: Counter[int] = Counter()
        for value, tensor in zip(values, quantized, strict=True):
            weights[value] += counts[tensor.name]
        return weights.most_common(1)[0][0]

    group_sizes = [tensor.group_size for tensor in quantized if tensor.group_size is not None]
    return {
        "method": packing.method + EXISTING,
        "layout": packing.layout,
        "bits": most([tensor.bits for tensor in quantized]),
        "group_size": most(group_sizes) if len(group_sizes) == len(quantized) else None,
        "effective_bits": total / shapes.n_quantized,
        "quantized_weights": sum(counts[tensor.name] for tensor in quantized),
        "unquantized": sorted(
            (tensor.name.removesuffix(".weight") for tensor in matrices if tensor.bits >= BASELINE_BITS),
            key=natural_order,
        ),
        "also_quantized": sorted(t.name for t in seen if not counts[t.name] and t.bits < BASELINE_BITS),
        "ragged_groups": [],
    }


def _dense_tensors(source: Path, packing: Packing, model_folder: Path) -> Iterator[Dense]:
    return _of_gguf(source, model_folder) if packing.layout == "gguf" else _of_folder(source, packing)


def _of_gguf(source: Path, model_folder: Path) -> Iterator[Dense]:
    file, config = GgufFile(source), read_config(model_folder)
    model_type = str(config.get("model_type"))
    queries = int(setting(config, "num_attention_heads"))
    heads = {"q_proj": queries, "k_proj": int(setting(config, "num_key_value_heads") or queries)}
    for theirs, name in sorted(names_in_model(file, model_type).items()):
        tensor = file.tensors[theirs]
        dense = in_order_of_model(file.dense(theirs), name, model_type, heads)
        group = tensor.kind.weights if tensor.kind.bits < BASELINE_BITS else None
        yield Dense(name, torch.from_numpy(dense.copy()).bfloat16(), tensor.kind.bits, tensor.n_bytes, group)


def _of_folder(source: Path, packing: Packing) -> Iterator[Dense]:
    sizes = {name: tensor.n_bytes for name, tensor in stored_tensors(source)}
    kinds = KINDS_OF_PARTS[packing.layout]
    modules: dict[str, dict[str, str]] = {}
    for name in sizes:
        module, _, kind = name.rpartition(".")
        is_part = kind in kinds
        modules.setdefault(f"{module}.weight" if is_part else name, {})[kind if is_part else "dense"] = name
    with ExitStack() as files:
        where: dict[str, Any] = {}
        for path in weight_files(source):
            file = files.enter_context(safe_open(path, "pt"))
            where |= dict.fromkeys(file.keys(), file)
        for name, names in modules.items():
            parts = {kind: where[stored].get_tensor(stored) for kind, stored in names.items()}
            if "dense" in parts:
                if len(parts) > 1:
                    raise ModelError(f"{source}: {name} is there packed and dense")
                n_bytes = sizes[names["dense"]]
                if not parts["dense"].is_floating_point() or parts["dense"].dtype.itemsize < 2:
                    raise ModelError(f"{source}: {names['dense']} is packed in a way that is not read")
                yield Dense(name, parts["dense"].bfloat16(), BASELINE_BITS, n_bytes)
                continue
            counted = sum(sizes[stored] for kind, stored in names.items() if kind not in NOT_COUNTED)
            try:
                weight, bits = UNPACK[packing.layout](parts, packing)
            except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
                reason = str(error).splitlines()[0]
                raise ModelError(f"{source}: {name}: its parts do not fit each other ({reason})") from None
            scales = parts["weight_scale"] if packing.layout == "compressed" else parts["scales"].t()
            groups = scales.shape[1]
            group_size = -1 if groups == 1 else math.ceil(weight.shape[1] / groups)
            yield Dense(name, weight, bits, counted, packing.group_size or group_size)


Parts = Mapping[str, torch.Tensor]


def _unpack_gptq(parts: Parts, packing: Packing) -> tuple[torch.Tensor, int]:
    """(code - zero point) * scale; the words run down the input features."""
    words, scales, index = parts["qweight"], parts["scales"].float(), parts.get("g_idx")
    bits = packing.bits if index is None else bits_of_codes(words.shape[0], len(index))
    if bits is None or bits not in BITS:
        raise KeyError(f"{bits} bits")
    codes = unpack(words, bits)
    if index is None:
        size = packing.group_size or -1
        index = torch.arange(len(codes)) // (size if size > 0 else len(codes))
    less = 1 if packing.layout == "gptq" else 0  # the first format stores zero points less one
    zeros = (unpack(parts["qzeros"].T.contiguous(), bits).T[:, : scales.shape[1]] + less) & (2**bits - 1)
    group = index.long()
    dense = (codes[: len(group)].float() - zeros.float()[group]) * scales[group]
    return dense.bfloat16().t().contiguous(), bits


def _unpack_awq(parts: Parts, packing: Packing) -> tuple[torch.Tensor, int]:
    """(code - zero point) * scale; the words run along the output features, their codes in an order of their own."""
    scales = parts["scales"].float()
    codes, zeros = (_in_awq_order(parts[name]).float() for name in ("qweight", "qzeros"))
    rows = len(codes) // len(scales)
    dense = (codes - zeros.repeat_interleave(rows, 0)) * scales.repeat_interleave(rows, 0)
    return dense.bfloat16().t().contiguous(), 4


def _in_awq_order(words: torch.Tensor) -> torch.Tensor:
    """Codes of 4 bits, (rows, 8 * words of a row)."""
    shifts = 4 * torch.tensor(AWQ_ORDER)
    return ((words.long()[..., None] >> shifts) & 15).reshape(len(words), -1)


def _unpack_compressed(parts: Parts, packing: Packing) -> tuple[torch.Tensor, int]:
    """(code - zero point) * scale, codes with a sign; the words run along the input features of each output feature."""
    scales, zeros = parts["weight_scale"].float(), parts.get("weight_zero_point")
    rows, columns = parts["weight_shape"].tolist()
    bits = _bits_of_words(parts["weight_packed"].shape[1], columns)
    codes = _signed(parts["weight_packed"], bits)[:, :columns]
    group = torch.arange(columns) // math.ceil(columns / scales.shape[1])
    shift = 0 if zeros is None else _signed(zeros.T.contiguous(), bits).T[:rows, group]
    dense = (codes - shift) * scales[:, group]
    return dense.bfloat16().contiguous(), bits


def _bits_of_words(words: int, columns: int) -> int:
    for bits in (4, 8):
        if words == math.ceil(columns * bits / BITS_PER_WORD):
            return bits
    raise KeyError(f"{words} words for {columns} weights")


def _signed(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes around zero, (rows, codes of a row)."""
    shifts = torch.arange(0, BITS_PER_WORD, bits)
    codes = ((words.long()[..., None] >> shifts) & (2**bits - 1)).reshape(len(words), -1)
    signed: torch.Tensor = codes.float() - 2 ** (bits - 1)
    return signed


UNPACK = {
    "gptq": _unpack_gptq,
    "gptq_v2": _unpack_gptq,
    "awq": _unpack_awq,
    "compressed": _unpack_compressed,
}


class _Shards:
    """Files of a model's weights, of a few gigabytes each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting: dict[str, torch.Tensor] = {}
        self.bytes = 0
        self.written: list[list[str]] = []

    def add(self, name: str, weight: torch.Tensor) -> None:
        if self.waiting and self.bytes + weight.nbytes > SHARD_BYTES:
            self._write()
        self.waiting[name] = weight.contiguous()
        self.bytes += weight.nbytes

    def _write(self) -> None:
        save_file(self.waiting, self.folder / f"part-{len(self.written)}", metadata={"format": "pt"})
        self.written.append(list(self.waiting))
        self.waiting, self.bytes = {}, 0

    def finish(self) -> None:
        """Give the files their names, and write the index if there are several."""
        self._write()
        count = len(self.written)
        names = [f"model-{place:05d}-of-{count:05d}.safetensors" for place in range(1, count + 1)]
        names = [WEIGHTS] if count == 1 else names
        for place, name in enumerate(names):
            (self.folder / f"part-{place}").rename(self.folder / name)
        if count > 1:
            index = {tensor: name for name, tensors in zip(names, self.written, strict=True) for tensor in tensors}
            content = {"metadata": {}, "weight_map": dict(sorted(index.items()))}
            (self.folder / INDEX).write_text(json.dumps(content, indent=2) + "\n")
