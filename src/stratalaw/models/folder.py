"""Models as folders: what one must contain, what is recorded about it, and its size."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from stratalaw.errors import StratalawError
from stratalaw.files import appears_whole, sha256_sums
from stratalaw.seals import Seal, put_record, read_record, seal_of

MANIFEST = "manifest.json"
AUDIT = "audit.json"
UNQUANTIZABLE = "unquantizable.json"
SETTINGS = "quantize_config.json"  # of a packed checkpoint, by gptqmodel
OTHER_SETTINGS = "quant_config.json"  # read by gptqmodel too
CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight", "wte.weight", "embed_in.weight", "embed_out.weight")
# Weights in pickle formats (*.bin, *.pt) are never copied: loading one can run any code.
BESIDE_WEIGHTS = ("*.json", "chat_template.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
# What later jobs obey is written by this workflow alone, never taken from a source.
NEVER_COPIED = frozenset({MANIFEST, AUDIT, UNQUANTIZABLE, SETTINGS, OTHER_SETTINGS})
HEADER_LENGTH = struct.Struct("<Q")


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


def write_manifest(folder: Path) -> None:
    """Record the SHA-256 sum of every file of a model's folder beside them, and the model's size."""
    manifest = {**asdict(count_parameters(folder)), "sha256": sha256_sums(sorted(folder.iterdir()))}
    put_record(manifest, folder / MANIFEST, Seal("model", {}, {}))


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
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index}: not the index of a model's weights") from None
    for name in names:
        if "/" in name or name not in present:
            raise ModelError(f"{index}: it names {name}, which is not there")
    return names


def check_model(folder: Path) -> None:
    """Raise ModelError unless a folder holds a configuration, a tokenizer and undamaged safetensors."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder")
    if not (folder / CONFIG).exists():
        raise ModelError(f"{folder}: no {CONFIG}; a model's folder holds config, tokenizer and safetensors")
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise ModelError(f"{folder}: no tokenizer ({' or '.join(TOKENIZERS)})")
    for _ in stored_tensors(folder):
        pass


def manifest_seal(folder: Path) -> Seal:
    """The seal of a copied model's manifest, which binds what is made from the model."""
    return seal_of(folder / MANIFEST, "model")


def verify_model(folder: Path) -> None:
    """Raise ModelError unless a copied model has the files that its manifest lists, unchanged, and no other."""
    verify_files(folder, MANIFEST, read_record(folder / MANIFEST, "model")["sha256"], "copied")


def verify_files(folder: Path, record: str, sums: Mapping[str, str], made: str) -> None:
    """Raise ModelError unless a folder has the files that its record lists, and no other, with the SHA-256 sums that
    they had when they were ``made`` (a past participle)."""
    for name in sums:
        if not (folder / name).exists():
            raise ModelError(f"{folder / name}: missing; delete {folder} and run again")
    for path in sorted(folder.iterdir()):
        # Snakemake leaves a time stamp, hidden, which no library reads.
        if path.name not in sums and path.name != record and not path.name.startswith("."):
            raise ModelError(f"{path}: not in {record}: nobody knows what it is; delete {folder} and run again")
    for name, present in sha256_sums([folder / name for name in sums]).items():
        if present != sums[name]:
            raise ModelError(f"{folder / name}: changed since it was {made}; delete {folder} and run again")


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by their names; raises as ``stored_tensors`` does."""
    return {name: tensor.shape for name, tensor in stored_tensors(folder)}


def stored_tensors(folder: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor with its name, from the headers of the safetensors files alone.

    Raises:
        ModelError: a file is not safetensors, or is shorter than its header says.
    """
    for path in weight_files(folder):
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(HEADER_LENGTH.size)
            length = HEADER_LENGTH.unpack(start)[0] if len(start) == HEADER_LENGTH.size else size
            if length > size - HEADER_LENGTH.size:
                raise ModelError(f"{path}: not a safetensors file, or truncated ({size} bytes)")
            try:
                header = json.loads(file.read(length))
            except ValueError:
                raise ModelError(f"{path}: not a safetensors file (its header is not JSON)") from None
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        expected = HEADER_LENGTH.size + length + max((t["data_offsets"][1] for t in tensors.values()), default=0)
        if size != expected:
            raise ModelError(f"{path}: truncated or altered: {size} bytes, its header says {expected}")
        for name, tensor in tensors.items():
            start, end = tensor["data_offsets"]
            yield name, StoredTensor(tuple(tensor["shape"]), end - start)


def model_size(folder: Path) -> ModelSize:
    """The size of a copied model, from its manifest; raises SealError where that is damaged."""
    manifest = read_record(folder / MANIFEST, "model")
    return ModelSize(int(manifest["n_params"]), int(manifest["n_params_nonembedding"]))


def count_parameters(folder: Path) -> ModelSize:
    """Count the parameters of a model from its safetensors; a tied output embedding counts once."""
    shapes = tensor_shapes(folder)
    if json.loads((folder / CONFIG).read_text()).get("tie_word_embeddings"):
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("lm_head.weight")}
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    return ModelSize(
        n_params=sum(counts.values()),
        n_params_nonembedding=sum(count for name, count in counts.items() if not name.endswith(EMBEDDINGS)),
    )
