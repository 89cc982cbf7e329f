"""Bits for each matrix in a checkpoint: as gptqmodel and engines are told, and as they stand beside the weights.

Engines load query, key and value as one matrix, and gate and up as another, and look up the bits of that one by its own
name (vLLM, ``gptq_utils.get_dynamic_override``: the first pattern that matches its start). So a rule names the parts
and the whole, and the parts share their bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from stratalaw.files import write_json
from stratalaw.models.folder import ModelError, read_object
from stratalaw.models.shapes import Matrix
from stratalaw.study.variants import Precision, Quantization, calibration_of

ALLOCATION = "allocation.json"
# The variant whose bits each group of matrices has (see ``loaded_as``), for groups that do not keep those of a base.
Placement = Mapping[str, str]
EXPERT = re.compile(r"(?<=experts)\.\d+\..*")
PARTS = re.compile(r"(?<=\.)(?:(?P<attention>[qkv])|gate|up)_proj$")


def loaded_as(name: str) -> str:
    """The name of the matrix that engines make of a matrix and of others of its layer; its own if they make none."""
    name = EXPERT.sub("", name)
    return PARTS.sub(lambda part: "qkv_proj" if part["attention"] else "gate_up_proj", name)


def bytes_more(matrices: Iterable[Matrix], base: Quantization, other: Quantization) -> dict[str, int]:
    """What the matrices of each group that engines load as one take more in the second of two variants; less than 0
    where they take less."""
    more: dict[str, int] = {}
    for matrix in matrices:
        bytes_of = [matrix.packed_bytes(one.of(matrix.name)) for one in (base, other)]
        more[loaded_as(matrix.name)] = more.get(loaded_as(matrix.name), 0) + bytes_of[1] - bytes_of[0]
    return more


def rules_for_gptqmodel(quantization: Quantization) -> dict[str, dict[str, int]]:
    """gptqmodel's ``dynamic`` of a mixed variant: bits and group size by a pattern of names, whole names only."""
    members: dict[tuple[str, Precision], list[str]] = {}
    for name, precision in quantization.exceptions:
        members.setdefault((loaded_as(name), precision), []).append(name)
    return {
        f"+:^({'|'.join(re.escape(name) for name in dict.fromkeys([*names, whole]))})$": dict(vars(precision))
        for (whole, precision), names in members.items()
    }


def write_allocation(quantization: Quantization, checkpoint_folder: Path) -> None:
    """Put the bits of each matrix of a mixed variant beside its weights."""
    write_json(quantization.allocation, checkpoint_folder / ALLOCATION)


def read_quantization(checkpoint_folder: Path) -> Quantization:
    """What a checkpoint was made by, from its name, and from the allocation beside the weights of a mixed variant.

    Raises:
        ModelError: the allocation is not the one that the name stands for.
    """
    path = checkpoint_folder / ALLOCATION
    if not path.exists():
        return Quantization.from_name(checkpoint_folder.name)
    mismatch = ModelError(f"{path}: not the bits that the name of its folder stands for")
    try:
        quantization = Quantization.from_allocation(read_object(path), *calibration_of(checkpoint_folder.name))
    except (KeyError, TypeError, AttributeError):
        raise mismatch from None
    if quantization.name != checkpoint_folder.name:
        raise mismatch
    return quantization


def problems_of_allocation(quantization: Quantization, matrices: Iterable[Matrix]) -> list[str]:
    """Why the bits of the matrices cannot be as they are to be: a name that the model does not have, or parts of one
    matrix of an engine that differ."""
    names = [matrix.name for matrix in matrices]
    if unknown := sorted({name for name, _ in quantization.exceptions} - set(names)):
        return [f"{quantization.name}: the model has no matrix {unknown[0]}; it has {names[0]} …"]
    wholes: dict[str, dict[str, Precision]] = {}
    for name in names:
        wholes.setdefault(loaded_as(name), {})[name] = quantization.of(name)
    return [
        f"{quantization.name}: engines load {' and '.join(parts)} as one matrix, which has one number of bits and one "
        "group size; give them the same"
        for parts in wholes.values()
        if len(set(parts.values())) > 1
    ]
