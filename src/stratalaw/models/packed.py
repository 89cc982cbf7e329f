"""Checkpoints that others quantized: which format they have, and which are refused, from a few kilobytes.

Nothing is loaded: of a folder the configuration is read, of a GGUF file its first bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratalaw.models.folder import CONFIG, SETTINGS, ModelError, read_object, weight_files

GGUF_SUFFIX, GGUF_MAGIC = ".gguf", b"GGUF"
READ = "GPTQ, AWQ (gemm), AutoRound, compressed-tensors (weights alone, integers) and GGUF"
BITS = (2, 3, 4, 8)
OF_AUTO_ROUND = {"auto_round:auto_gptq": "gptq"}  # how AutoRound packs


@dataclass(frozen=True)
class Packing:
    """How a checkpoint is packed.

    Attributes:
        method: what quantized it, as far as the checkpoint says: GPTQ, AWQ, AutoRound, compressed-tensors, GGUF.
        layout: how its tensors are to be read: gptq, gptq_v2, awq, compressed, gguf.
        bits: nominal bits of a weight; None where the tensors say.
        group_size: input features that share a scale, -1 for a whole row; None where the tensors say.
    """

    method: str
    layout: str
    bits: int | None = None
    group_size: int | None = None


def packing_of(path: Path) -> Packing:
    """How a checkpoint is packed: a GGUF file, or a folder with a configuration.

    Raises:
        ModelError: there is nothing, it is not quantized, or in a format that is not read; names the format.
    """
    if path.is_file():
        return _packing_of_file(path)
    if not path.is_dir():
        raise ModelError(f"{path}: there is no such folder or file")
    settings = read_object(path / CONFIG).get("quantization_config") if (path / CONFIG).exists() else None
    if settings is None and (path / SETTINGS).exists():  # of AutoGPTQ, which writes it nowhere else
        settings = {"quant_method": "gptq"} | read_object(path / SETTINGS)
    if not isinstance(settings, dict):
        raise ModelError(f"{path}: its {CONFIG} has no quantization_config: it is not quantized")
    method = str(settings.get("quant_method")).lower()
    find = {
        "gptq": _gptq,
        "awq": _awq,
        "auto-round": _auto_round,
        "intel/auto-round": _auto_round,
        "compressed-tensors": _compressed,
    }.get(method)
    if find is None:
        raise ModelError(f"{path}: quantized with {method[:100]}, which is not read; read are {READ}")
    try:
        return find(settings)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def checkpoint_files(source: Path) -> list[Path]:
    """The files of a checkpoint in a folder that are read: its weights, and what says how they are packed."""
    return [*weight_files(source), *sorted(source.glob("*config.json"))]


def _packing_of_file(path: Path) -> Packing:
    with path.open("rb") as file:
        start = file.read(len(GGUF_MAGIC))
    if start != GGUF_MAGIC:
        raise ModelError(f"{path}: not a GGUF file; of other formats give the folder")
    return Packing("GGUF", "gguf")


def _gptq(settings: Mapping[str, Any]) -> Packing:
    layout = str(settings.get("checkpoint_format") or settings.get("format") or "gptq")
    if layout not in ("gptq", "gptq_v2"):
        raise ModelError(f"GPTQ packed as {layout[:100]}, which is not read; read are gptq and gptq_v2")
    method = "AutoRound" if "autoround_version" in settings else "GPTQ"
    return Packing(method, layout, _bits(settings, "bits"), _group_size(settings.get("group_size")))


def _awq(settings: Mapping[str, Any]) -> Packing:
    layout = str(settings.get("version") or settings.get("format") or settings.get("checkpoint_format")).lower()
    bits = settings.get("bits", settings.get("w_bit"))
    if layout != "gemm" or bits != 4:
        raise ModelError(f"AWQ of {str(bits)[:20]} bits packed as {layout[:100]}; read is gemm of 4 bits")
    return Packing("AWQ", "awq", 4, _group_size(settings.get("group_size", settings.get("q_group_size"))))


def _auto_round(settings: Mapping[str, Any]) -> Packing:
    form = str(settings.get("packing_format"))
    if form not in OF_AUTO_ROUND or settings.get("data_type", "int") != "int":
        raise ModelError(
            f"AutoRound packed as {form[:100]} ({str(settings.get('data_type'))[:100]}), which is not read"
        )
    return Packing("AutoRound", OF_AUTO_ROUND[form], _bits(settings, "bits"), _group_size(settings.get("group_size")))


def _compressed(settings: Mapping[str, Any]) -> Packing:
    form, groups = str(settings.get("format")), settings.get("config_groups")
    if form != "pack-quantized":
        raise ModelError(f"compressed-tensors in the format {form[:100]}; read is pack-quantized")
    for key in ("transform_config", "sparsity_config", "kv_cache_scheme"):
        if settings.get(key):
            raise ModelError(f"compressed-tensors with a {key}, which is not read: more than weights is changed")
    schemes = list(groups.values()) if isinstance(groups, dict) else []
    if not schemes or not all(isinstance(scheme, dict) for scheme in schemes):
        raise ModelError("compressed-tensors without config_groups")
    found = set()
    for scheme in schemes:
        weights = scheme.get("weights") or {}
        if scheme.get("input_activations") or scheme.get("output_activations"):
            raise ModelError("compressed-tensors with quantized activations; what is read has weights alone quantized")
        if weights.get("type") != "int" or weights.get("num_bits") not in (4, 8):
            kind = f"{weights.get('type')} of {weights.get('num_bits')} bits"
            raise ModelError(f"compressed-tensors with weights in {kind[:100]}; read are int of 4 and 8 bits")
        if weights.get("actorder") in ("group", True):
            raise ModelError("compressed-tensors with groups in the order of activations (actorder: group), not read")
        found.add((weights["num_bits"], weights.get("group_size") or -1))
    [(bits, group_size), *others] = sorted(found)
    return Packing("compressed-tensors", "compressed", *((None, None) if others else (bits, group_size)))


def _bits(settings: Mapping[str, Any], key: str) -> int:
    bits = settings.get(key)
    if bits not in BITS:
        raise ModelError(f"{str(bits)[:20]} bits; read are {', '.join(map(str, BITS))}")
    return int(bits)


def _group_size(value: object) -> int:
    if not isinstance(value, int) or value == 0 or value < -1:
        raise ModelError(f"group_size {str(value)[:20]} is no number of input features")
    return value
