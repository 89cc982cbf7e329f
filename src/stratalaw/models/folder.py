"""Models as folders: what one must contain, what is recorded about it, and its size."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stratalaw.errors import StratalawError
from stratalaw.files import appears_whole, sha256_sums
from stratalaw.models.configuration import is_tied
from stratalaw.seals import Seal, put_record, read_record, seal_of

MANIFEST = "manifest.json"
AUDIT = "audit.json"
UNQUANTIZABLE = "unquantizable.json"
SETTINGS = "quantize_config.json"  # of a packed checkpoint, by gptqmodel
OTHER_SETTINGS = "quant_config.json"  # read by gptqmodel too
CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOKENIZERS = (TOKENIZER, "tokenizer.model")
HEADS = ("lm_head.weight", "embed_out.weight")  # output embeddings
EMBEDDINGS = (*HEADS, "embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
# Weights in pickle formats (*.bin, *.pt) are never copied: loading one can run any code.
BESIDE_WEIGHTS = ("*.json", "chat_template.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
# What later jobs obey is written by this workflow alone, never taken from a source.
NEVER_COPIED = frozenset({MANIFEST, AUDIT, UNQUANTIZABLE, SETTINGS, OTHER_SETTINGS})
COPIED = "copied"
HEADER_LENGTH = struct.Struct("<Q")
# Many times those of the largest models: reading them is a matter of seconds.
MAX_JSON_BYTES = 2**25
MAX_LAYERS = 1000
MAX_EXPERTS = 1024
MAX_COUNT = 10**10
MAX_DIMENSIONS = 8
BITS = {
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16},
    **{"BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64},
}
SMALL = ("F4", "F6_E2M3", "F6_E3M2")  # kinds that share bytes


class ModelError(StratalawError):
    """A model that cannot be used; the message is one line that names the file."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, all and without the input embedding and an untied output embedding."""

    n_params: int
    n_params_nonembedding: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the header of a safetensors file describes it."""

    shape: tuple[int, ...]
    n_bytes: int


def copy_model(source: Path, target: Path) -> None:
    """Copy a model's folder, with a manifest of SHA-256 sums; it appears whole or not at all.

    Raises:
        ModelError: something is missing or damaged.
    """
    check_model(source)
    with appears_whole(target) as folder:
        folder.mkdir()
        for path in model_files(source):
            shutil.copy(path, folder / path.name)
        write_manifest(folder)


def write_manifest(folder: Path, name: str | None = None) -> None:
    """Record the SHA-256 sums of every file of a model's folder and of its weights' headers, and the model's size.

    ``name``: of the model in its study, which is that of its folder; given where the folder will be renamed.
    """
    sums = {"sha256": sha256_sums(sorted(folder.iterdir())), "headers": _sums_of_headers(weight_files(folder))}
    put_record(
        asdict(count_parameters(folder)) | sums, folder / MANIFEST, Seal("model", {"model": name or folder.name}, {})
    )


def model_files(folder: Path) -> list[Path]:
    """The files of a model's folder that belong to the model, in the order of their names."""
    beside = [path for path in folder.iterdir() if goes_with_weights(path.name)]
    return sorted([*beside, *weight_files(folder)])


def goes_with_weights(name: str) -> bool:
    """Whether a file of a source belongs to the model besides its weights, by its name; code does not."""
    return "/" not in name and name not in NEVER_COPIED and any(fnmatch(name, pattern) for pattern in BESIDE_WEIGHTS)


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights.

    Raises:
        ModelError: there is none, or the index is damaged or names a file that is not in the folder.
    """
    names = weight_names({path.name for path in folder.iterdir()}, folder)
    return [folder / name for name in names]


def weight_names(present: Collection[str], folder: Path) -> list[str]:
    """Which files hold a model's weights, as transformers chooses them: one with all, or those that the index names.

    Repositories hold others beside them, such as consolidated.safetensors.

    Args:
        present: names of all files of the model.
        folder: where the index lies, if there is one.

    Raises:
        ModelError: there is none, or the index is damaged or names a file that is not present.
    """
    if WEIGHTS in present:
        return [WEIGHTS]
    index = folder / INDEX
    if INDEX not in present:
        raise ModelError(f"{folder}: no weights ({WEIGHTS}, or {INDEX} and the files that it names)")
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(n, str) for n in weight_map.values()):
        raise ModelError(f"{index}: not the index of a model's weights")
    names = sorted(set(weight_map.values()))
    for name in names:
        if "/" in name or name not in present:
            raise ModelError(f"{index}: it names {name}, which is not there")
        if not name.endswith(".safetensors"):
            raise ModelError(f"{index}: it names {name}, which is not safetensors")
    return names


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model.

    Raises:
        ModelError: there is none, it is no JSON object, or it counts what no model has so many of: building it would
            take all memory.
    """
    path = folder / CONFIG
    if not path.exists():
        raise ModelError(f"{folder}: no {CONFIG}; a model's folder holds config, tokenizer and safetensors")
    config = read_object(path)
    for key, count in _counts(config):
        is_of_layers, is_of_experts = key.endswith(("layer", "layers")), key.endswith("experts")
        most = MAX_LAYERS if is_of_layers else MAX_EXPERTS if is_of_experts else MAX_COUNT
        if abs(count) > most:
            raise ModelError(f"{path}: {key}: {count:.3g} is more than any model has (at most {most:,})")
    return config


def _counts(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration, and of those for text, vision and the like within it, with their keys."""
    sections = [config]
    while sections:
        for key, value in sections.pop().items():
            if isinstance(value, int):
                yield key, value
            elif isinstance(value, dict):
                sections.append(value)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder; raises ModelError for any other content."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_JSON_BYTES:
        raise ModelError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB")
    return _parse_object(content, f"{path}: not a JSON object")


def _parse_object(content: bytes, otherwise: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or nested without bound
        raise ModelError(otherwise) from None
    if not isinstance(parsed, dict):
        raise ModelError(otherwise)
    return parsed


def check_model(folder: Path) -> None:
    """Raise ModelError unless a folder holds a configuration, a tokenizer and undamaged safetensors of its own."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder")
    read_config(folder)
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise ModelError(f"{folder}: no tokenizer ({' or '.join(TOKENIZERS)})")
    for path in model_files(folder):
        _check_is_of_the_folder(path)
    for _ in stored_tensors(folder):
        pass


def manifest_seal(folder: Path) -> Seal:
    """The seal of a copied model's manifest, which binds what is made from the model.

    Raises:
        SealError: the manifest is damaged, or that of another model.
    """
    return seal_of(folder / MANIFEST, "model", {"model": folder.name})


def _check_is_of_the_folder(path: Path) -> None:
    """Refuse what is no file, and a link out of the folder: any file of this machine would be copied as the model's."""
    if not path.is_file():
        raise ModelError(f"{path}: not a file")
    folder, file = path.parent.resolve(), path.resolve()
    places = [folder]
    if folder.parent.name == "snapshots":  # of the Hub's cache, which keeps the files in blobs/
        places.append(folder.parents[1] / "blobs")
    if not any(file.is_relative_to(place) for place in places):
        raise ModelError(f"{path}: a link to {file}, outside of the model's folder; put the file itself there")


def verify_model(folder: Path) -> None:
    """Raise ModelError unless a copied model has the files that its manifest lists, unchanged, and no other."""
    verify_files(folder, MANIFEST, read_record(folder / MANIFEST, "model")["sha256"], COPIED)


def verify_beside_weights(folder: Path) -> None:
    """As ``verify_model``, for those who read no weights: of their files, the headers alone are read.

    Of a model without sums of headers, the weights are read as well.
    """
    manifest = read_record(folder / MANIFEST, "model")
    headers: dict[str, str] = manifest.get("headers", {})
    beside = {name: digits for name, digits in manifest["sha256"].items() if name not in headers}
    _check_names(folder, MANIFEST, manifest["sha256"])
    _check_sums(folder, beside, sha256_sums([folder / name for name in beside]), COPIED)
    _check_sums(folder, headers, _sums_of_headers([folder / name for name in headers]), COPIED)


def verify_files(folder: Path, record: str, sums: Mapping[str, str], made: str) -> None:
    """Raise ModelError unless a folder has the files that its record lists, and no other, with the SHA-256 sums that
    they had when they were ``made`` (a past participle)."""
    _check_names(folder, record, sums)
    _check_sums(folder, sums, sha256_sums([folder / name for name in sums]), made)


def _check_names(folder: Path, record: str, sums: Mapping[str, str]) -> None:
    for name in sums:
        if not (folder / name).exists():
            raise ModelError(f"{folder / name}: missing; delete {folder} and run again")
    for path in sorted(folder.iterdir()):
        # Snakemake leaves a time stamp, hidden, which no library reads.
        if path.name not in sums and path.name != record and not path.name.startswith("."):
            raise ModelError(f"{path}: not in {record}: nobody knows what it is; delete {folder} and run again")


def _check_sums(folder: Path, sums: Mapping[str, str], present: Mapping[str, str], made: str) -> None:
    for name in sums:
        if present[name] != sums[name]:
            raise ModelError(f"{folder / name}: changed since it was {made}; delete {folder} and run again")


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by their names; raises as ``stored_tensors`` does."""
    return {name: tensor.shape for name, tensor in stored_tensors(folder)}


def stored_tensors(folder: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor with its name, from the headers of the safetensors files alone.

    Raises:
        ModelError: a file is not safetensors, or not as long as its header says, or its tensors overlap.
    """
    for path in weight_files(folder):
        try:
            header, size, start_of_data = _read_header(path)
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        tensors = {name: _described(tensor, name, path) for name, tensor in header.items() if name != "__metadata__"}
        end = 0
        for name, (tensor, place) in sorted(tensors.items(), key=lambda item: (item[1][1], item[1][0].n_bytes)):
            if place != end:
                raise ModelError(
                    f"{path}: damaged: its header puts the tensor {name[:100]} over another one or after a gap"
                )
            end += tensor.n_bytes
        expected = start_of_data + end
        if size != expected:
            raise ModelError(f"{path}: truncated or altered: {size} bytes, its header says {expected}")
        for name, (tensor, _) in tensors.items():
            yield name, tensor


def _sums_of_headers(paths: Collection[Path]) -> dict[str, str]:
    """SHA-256 of the headers of safetensors files by the names of the files."""
    return {path.name: hashlib.sha256(_header_bytes(path)[0]).hexdigest() for path in paths}


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header of a safetensors file, the bytes of the file, and where in it the data start."""
    content, size = _header_bytes(path)
    header = _parse_object(content, f"{path}: not a safetensors file (its header is not a JSON object)")
    return header, size, HEADER_LENGTH.size + len(content)


def _header_bytes(path: Path) -> tuple[bytes, int]:
    """The header of a safetensors file as it is stored, without its length, and the bytes of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(HEADER_LENGTH.size)
        length = HEADER_LENGTH.unpack(start)[0] if len(start) == HEADER_LENGTH.size else size
        if length > size - HEADER_LENGTH.size:
            raise ModelError(f"{path}: not a safetensors file, or truncated ({size} bytes)")
        if length > MAX_JSON_BYTES:
            raise ModelError(f"{path}: not a safetensors file of a model (a header of {length / 1e9:.1f} GB)")
        return file.read(length), size


def _described(tensor: object, name: str, path: Path) -> tuple[StoredTensor, int]:
    """A tensor as a header describes it, and where in the data it begins."""
    match tensor:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(end)]} if (
            len(shape) <= MAX_DIMENSIONS
            and all(isinstance(size, int) and 0 <= size <= MAX_COUNT for size in shape)
            and 0 <= start <= end
            and (kind in SMALL or math.prod(shape) * BITS.get(kind, -1) == 8 * (end - start))
        ):
            return StoredTensor(tuple(shape), end - start), start
    raise ModelError(f"{path}: damaged: its header does not describe the tensor {name[:100]}")


def model_size(folder: Path) -> ModelSize:
    """The size of a copied model, from its manifest; raises SealError where that is damaged."""
    manifest = read_record(folder / MANIFEST, "model")
    return ModelSize(int(manifest["n_params"]), int(manifest["n_params_nonembedding"]))


def count_parameters(folder: Path) -> ModelSize:
    """Count the parameters of a model from its safetensors; a tied output embedding counts once."""
    counts = {name: math.prod(shape) for name, shape in distinct_shapes(folder).items()}
    return ModelSize(
        n_params=sum(counts.values()),
        n_params_nonembedding=sum(count for name, count in counts.items() if not name.endswith(EMBEDDINGS)),
    )


def distinct_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """``tensor_shapes`` without a copy of the input embedding that was stored as the output embedding."""
    shapes = tensor_shapes(folder)
    copies = [name for name in shapes if name.endswith(HEADS)]
    is_copied = copies and any(name.endswith(EMBEDDINGS) and name not in copies for name in shapes)
    if is_copied and is_tied(read_config(folder)):
        return {name: shape for name, shape in shapes.items() if name not in copies}
    return shapes
