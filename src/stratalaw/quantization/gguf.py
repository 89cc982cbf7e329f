"""GGUF files: tensors, their kinds, and the numbers that blocks of each kind stand for.

The format is llama.cpp's (ggml-org/ggml, docs/gguf.md); the blocks are those of its ``ggml-common.h``. The names of
tensors are those that ``convert_hf_to_gguf.py`` gives plain models of the llama and Qwen families.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stratalaw.models.folder import MAX_COUNT, MAX_DIMENSIONS, ModelError
from stratalaw.models.packed import GGUF_MAGIC

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
MAX_ENTRIES = 10_000_000  # of a file's metadata, arrays (vocabularies) included
MAX_TENSORS = 100_000
MAX_TEXT = 2**24
NUMBERS = dict(enumerate(["B", "b", "H", "h", "I", "i", "f", "?"])) | dict(zip((10, 11, 12), "Qqd", strict=True))
TEXT, ARRAY = 8, 9
ALIGNMENT = "general.alignment"


@dataclass(frozen=True)
class Kind:
    """A kind of blocks: ``weights`` in ``size`` bytes, ``bits`` of each nominally, and what blocks (blocks, bytes)
    stand for: (blocks, weights)."""

    name: str
    bits: int
    weights: int
    size: int
    decode: Callable[[Bytes], Floats]


def _halves(blocks: Bytes, place: int) -> Floats:
    """The number in 16 bits at a place of each block, shape (blocks, 1)."""
    found: Floats = np.ascontiguousarray(blocks[:, place : place + 2]).view(np.float16).astype(np.float32)
    return found


def _nibbles(packed: Bytes) -> NDArray[np.uint8]:
    """Low halves of all bytes, then high halves."""
    found: NDArray[np.uint8] = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.uint8)
    return found


def _fifth_bits(blocks: Bytes, place: int) -> NDArray[np.uint8]:
    return np.unpackbits(blocks[:, place : place + 4], axis=1, bitorder="little")


def _q4_0(blocks: Bytes) -> Floats:
    return _halves(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _halves(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _halves(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 6:]) | (_fifth_bits(blocks, 2) << 4)
    return _halves(blocks, 0) * (codes.astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 8:]) | (_fifth_bits(blocks, 4) << 4)
    return _halves(blocks, 0) * codes.astype(np.float32) + _halves(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _halves(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)


def _pairs(packed: Bytes) -> NDArray[np.uint8]:
    """Two bits each: of every 32 bytes the lowest two bits, then the next, (blocks, 4 * bytes)."""
    parts = packed.reshape(len(packed), -1, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]
    return (parts & 3).reshape(len(packed), -1).astype(np.uint8)


def _q2_k(blocks: Bytes) -> Floats:
    scales, least = (part.astype(np.float32).repeat(16, 1) for part in (blocks[:, :16] & 15, blocks[:, :16] >> 4))
    codes = _pairs(blocks[:, 16:80]).astype(np.float32)
    return _halves(blocks, 80) * scales * codes - _halves(blocks, 82) * least


def _q3_k(blocks: Bytes) -> Floats:
    low = _nibbles(blocks[:, 96:104])
    high = (blocks[:, None, 104:108] >> np.array([0, 2, 4, 6], np.uint8)[:, None]).reshape(len(blocks), 16) & 3
    scales = (low | (high << 4)).astype(np.float32) - 32
    third = (blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None]).reshape(len(blocks), 256) & 1
    codes = _pairs(blocks[:, 32:96]).astype(np.float32) - 4 * (1 - third.astype(np.float32))
    return _halves(blocks, 108) * scales.repeat(16, 1) * codes


def _scales_and_least(packed: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of 6 bits each, in 12 bytes."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1)
    least = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1)
    return scales.astype(np.float32), least.astype(np.float32)


def _nibbles_by_32(packed: Bytes) -> NDArray[np.uint8]:
    return _nibbles(packed.reshape(len(packed), -1, 32)).reshape(len(packed), -1)


def _with_scales(blocks: Bytes, codes: NDArray[np.uint8]) -> Floats:
    scales, least = (part.repeat(32, 1) for part in _scales_and_least(blocks[:, 4:16]))
    return _halves(blocks, 0) * scales * codes.astype(np.float32) - _halves(blocks, 2) * least


def _q4_k(blocks: Bytes) -> Floats:
    return _with_scales(blocks, _nibbles_by_32(blocks[:, 16:]))


def _q5_k(blocks: Bytes) -> Floats:
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]).reshape(len(blocks), 256) & 1
    return _with_scales(blocks, _nibbles_by_32(blocks[:, 48:]) | (fifth << 4).astype(np.uint8))


def _q6_k(blocks: Bytes) -> Floats:
    low = _nibbles(blocks[:, :128].reshape(len(blocks), 2, 64)).reshape(len(blocks), 256)
    codes = (low | (_pairs(blocks[:, 128:192]) << 4)).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32).repeat(16, 1)
    return _halves(blocks, 208) * scales * codes


def _f32(blocks: Bytes) -> Floats:
    return blocks.view(np.float32)


def _f16(blocks: Bytes) -> Floats:
    found: Floats = blocks.view(np.float16).astype(np.float32)
    return found


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


KINDS = {
    0: Kind("F32", 32, 1, 4, _f32),
    1: Kind("F16", 16, 1, 2, _f16),
    2: Kind("Q4_0", 4, 32, 18, _q4_0),
    3: Kind("Q4_1", 4, 32, 20, _q4_1),
    6: Kind("Q5_0", 5, 32, 22, _q5_0),
    7: Kind("Q5_1", 5, 32, 24, _q5_1),
    8: Kind("Q8_0", 8, 32, 34, _q8_0),
    10: Kind("Q2_K", 2, 256, 84, _q2_k),
    11: Kind("Q3_K", 3, 256, 110, _q3_k),
    12: Kind("Q4_K", 4, 256, 144, _q4_k),
    13: Kind("Q5_K", 5, 256, 176, _q5_k),
    14: Kind("Q6_K", 6, 256, 210, _q6_k),
    30: Kind("BF16", 16, 1, 2, _bf16),
}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file: (output features, input features), its kind, and where its bytes start."""

    shape: tuple[int, ...]
    kind: Kind
    start: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) // self.kind.weights * self.kind.size


class GgufFile:
    """A GGUF file: ``about``, its metadata without long arrays, and ``tensors`` by their names in the file.

    Raises:
        ModelError: the file is damaged, of another version, or has tensors of kinds that are not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.about, self.tensors = self._read_header(file)
        except (struct.error, UnicodeDecodeError):
            raise ModelError(f"{path}: damaged or truncated") from None
        size = path.stat().st_size
        for name, tensor in self.tensors.items():
            if tensor.start + tensor.n_bytes > size:
                raise ModelError(f"{path}: truncated: {name[:100]} ends beyond the file")

    def dense(self, name: str) -> Floats:
        """The numbers of a tensor, in its shape."""
        tensor = self.tensors[name]
        raw = np.fromfile(self.path, np.uint8, tensor.n_bytes, offset=tensor.start)
        return tensor.kind.decode(raw.reshape(-1, tensor.kind.size)).reshape(tensor.shape)

    def _read_header(self, file: BinaryIO) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        reader = _Reader(file)
        magic, version = file.read(4), reader.number("I")
        if magic != GGUF_MAGIC or version not in (2, 3):
            raise ModelError(f"{self.path}: not a GGUF file of version 2 or 3")
        n_tensors, n_entries = reader.number("Q"), reader.number("Q")
        if n_tensors > MAX_TENSORS or n_entries > MAX_TENSORS:
            raise ModelError(f"{self.path}: damaged: it says that it has {n_tensors} tensors, {n_entries} entries")
        about = {}
        for _ in range(n_entries):
            key = reader.text()
            about[key] = reader.value(reader.number("I"))
        found = {}
        for _ in range(n_tensors):
            name, dimensions = reader.text(), reader.number("I")
            if dimensions > MAX_DIMENSIONS:
                raise ModelError(f"{self.path}: damaged: {name[:100]} has {dimensions} dimensions")
            shape = tuple(reversed([reader.number("Q") for _ in range(dimensions)]))
            kind, offset = reader.number("I"), reader.number("Q")
            if kind not in KINDS:
                known = ", ".join(entry.name for entry in KINDS.values())
                raise ModelError(
                    f"{self.path}: {name[:100]} is of ggml's type {kind}, which is not read; read are {known}"
                )
            if max(shape, default=1) > MAX_COUNT or (shape and shape[-1] % KINDS[kind].weights):
                raise ModelError(f"{self.path}: damaged: {name[:100]} has the shape {shape} in {KINDS[kind].name}")
            found[name] = (shape, KINDS[kind], offset)
        alignment = about.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
            raise ModelError(f"{self.path}: damaged: {ALIGNMENT} is {str(alignment)[:20]}")
        start = math.ceil(file.tell() / alignment) * alignment
        return about, {name: GgufTensor(shape, kind, start + offset) for name, (shape, kind, offset) in found.items()}


class _Reader:
    """Little-endian values from a file, as many as a model has at most."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.entries = file, 0

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.file.read(struct.calcsize(code)))[0]

    def text(self) -> str:
        length = self.number("Q")
        if length > MAX_TEXT:
            raise struct.error("text without end")
        content = self.file.read(length)
        if len(content) < length:
            raise struct.error("text that is cut off")
        return content.decode()

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value of the metadata; of arrays, the values are passed over."""
        self.entries += 1
        if self.entries > MAX_ENTRIES or depth > 2:
            raise struct.error("metadata without end")
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            if kind not in NUMBERS:
                raise struct.error("an unknown kind of value")
            return self.number(NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if count > MAX_ENTRIES:
            raise struct.error("an array without end")
        for _ in range(count):
            self.value(inner, depth + 1)
        return None


TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
IN_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
NO_WEIGHTS = frozenset({"rope_freqs.weight"})
# By the type of a model, the architecture that its file names.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def names_in_model(file: GgufFile, model_type: str) -> dict[str, str]:
    """The name in a model of each tensor of a file.

    Raises:
        ModelError: the file is of another architecture than the model, of one whose names are not known, or has a
            tensor that plain models do not have.
    """
    architecture = str(file.about.get("general.architecture"))
    if ARCHITECTURES.get(model_type) != architecture:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"{file.path}: of the architecture {architecture[:100]}, for a model of the type {model_type[:100]}; GGUF "
            f"files are read for {known}"
        )
    found = {}
    for name in file.tensors.keys() - NO_WEIGHTS:
        match = LAYER.fullmatch(name)
        if name in TOP:
            found[name] = TOP[name]
        elif match and match[2] in IN_LAYER:
            found[name] = f"model.layers.{match[1]}.{IN_LAYER[match[2]]}.{match[3]}"
        else:
            raise ModelError(f"{file.path}: {name[:100]} is no tensor of a plain {model_type} model")
    return found


def in_order_of_model(dense: Floats, name: str, model_type: str, heads: Mapping[str, int]) -> Floats:
    """A tensor with rows as the model has them: llama.cpp pairs those that are rotated together.

    ``heads``: of queries (``q_proj``) and keys (``k_proj``).
    """
    kind = name.split(".")[-2]
    if ARCHITECTURES[model_type] != "llama" or kind not in heads:
        return dense
    pairs = dense.reshape(heads[kind], -1, 2, *dense.shape[1:])
    return pairs.swapaxes(1, 2).reshape(dense.shape)
