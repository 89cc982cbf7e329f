"""The shapes of a model: matrices that are quantized, other parameters, and the cache of keys and values.

They are read from the headers of weight files within milliseconds, without torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stratalaw.models.cache import CachedLayers, cached_layers
from stratalaw.models.configuration import is_tied, setting
from stratalaw.models.folder import CONFIG, EMBEDDINGS, ModelError, distinct_shapes, read_config
from stratalaw.models.module_tree import quantized_modules
from stratalaw.study.variants import BASELINE_BITS, Precision, Quantization

BYTES_OF_16_BITS = 2
BYTES_OF_32_BITS = 4
BITS_PER_SCALE = 16
BITS_PER_WORD = 32  # in which codes are packed
BYTES_PER_GROUP_INDEX = 4
CONTEXT = 4096  # tokens whose keys and values are kept, where nothing else is said
LENGTHS = ("max_position_embeddings", "seq_length")  # where a configuration has the tokens that a model can take
CODES_PER_BLOCK = 32  # of 3 bits, without one that lies across two blocks
LAYER_MATRIX = re.compile(r"(?P<path>(?:.*?\.)?(?:layers|h|blocks)\.\d+\.)(?P<module>.*)\.weight")
OTHER_SENSES = re.compile("vision|visual|audio|image|speech")  # layers that see no tokens
EXPERTS = re.compile(r"(?:layers|h|blocks)\.\d+\..*(?:experts|moe)")
ROUTER = re.compile(r".*\b(gate|router|router\.layer|shared_expert_gate)")  # which experts a token goes to
# gptqmodel takes this matrix apart.
FUSED, HALVES = "gate_up_proj", ("gate_proj", "up_proj")
STORED_TRANSPOSED = frozenset({"gpt2"})
COUNTS_OF_PLAIN = (
    *("num_hidden_layers", "hidden_size", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)
# What types of models with the common tensors add to each layer.
PLAIN: dict[str, tuple[str, ...]] = {
    "llama": (),
    "mistral": (),
    "qwen2": tuple(f"self_attn.{letter}_proj.bias" for letter in "qkv"),
    "qwen3": ("self_attn.q_norm.weight", "self_attn.k_norm.weight"),
}


@dataclass(frozen=True)
class Matrix:
    """A matrix that GPTQ quantizes."""

    name: str
    in_features: int
    out_features: int

    def groups(self, group_size: int) -> int:
        """Groups of a row; the last one is short where the group size does not divide the input features."""
        return 1 if group_size < 0 else math.ceil(self.in_features / group_size)

    def is_ragged(self, group_size: int) -> bool:
        return group_size > 0 and self.in_features % group_size != 0

    def can_be_packed(self, bits: int) -> bool:
        """Whether gptqmodel can pack it: 32 codes of 3 bits share three words, and none is left over."""
        return bits != 3 or self.in_features % CODES_PER_BLOCK == self.out_features % CODES_PER_BLOCK == 0

    def packed_bytes(self, precision: Precision) -> int:
        """Of its codes, scales, zero points and group index."""
        codes = self.in_features * self.out_features * precision.bits
        scales = self.groups(precision.group_size) * self.out_features * (BITS_PER_SCALE + precision.bits)
        return (codes + scales) // 8 + self.in_features * BYTES_PER_GROUP_INDEX


def bits_of_codes(words: int, in_features: int) -> int:
    """Bits of the codes of a packed matrix; ``words``: those that the codes of one output feature take."""
    return BITS_PER_WORD * words // in_features


@dataclass(frozen=True)
class Shapes:
    """Shapes of a model.

    Attributes:
        matrices: those that GPTQ quantizes: the linear maps of the layers, those of every expert among them.
        n_other: parameters that stay in 16 bits: embeddings, norms, biases, routers, an untied output embedding.
        n_embedding: the part of ``n_other`` that is embeddings.
        n_layers: decoder layers.
        cache: of keys and values, by the tokens that layers keep.
        max_length: tokens that the model can take.
        hidden_size: width of the activations between layers.
    """

    matrices: tuple[Matrix, ...]
    n_other: int
    n_embedding: int
    n_layers: int
    cache: tuple[CachedLayers, ...]
    max_length: int
    hidden_size: int

    @cached_property
    def n_quantized(self) -> int:
        """Parameters that GPTQ quantizes."""
        return sum(matrix.in_features * matrix.out_features for matrix in self.matrices)

    @property
    def widest(self) -> int:
        """The largest number of input or output features of a matrix."""
        return max(max(matrix.in_features, matrix.out_features) for matrix in self.matrices)

    @property
    def n_params(self) -> int:
        return self.n_quantized + self.n_other

    def weight_bytes(self, quantization: Quantization | None) -> int:
        """Bytes of the weights as gptqmodel packs them (codes, scales, zero points, group indices), or in bf16."""
        rest = self.n_other * BYTES_OF_16_BITS
        if quantization is None:
            return rest + self.n_quantized * BASELINE_BITS // 8
        return rest + sum(matrix.packed_bytes(quantization.of(matrix.name)) for matrix in self.matrices)

    def shares(self, quantization: Quantization) -> dict[Precision, float]:
        """The part of all quantized weights that each precision has."""
        found: dict[Precision, float] = {}
        for matrix in self.matrices:
            precision = quantization.of(matrix.name)
            weights = matrix.in_features * matrix.out_features
            found[precision] = found.get(precision, 0.0) + weights / self.n_quantized
        return found

    def cache_bytes(self, context: int) -> int:
        """Bytes of the keys and values of ``context`` tokens in 16 bits."""
        return BYTES_OF_16_BITS * sum(layers.numbers(context) for layers in self.cache)

    def memory_bytes(self, quantization: Quantization | None, context: int) -> int:
        """Bytes that a user needs: weights, and keys and values of ``context`` tokens."""
        return self.weight_bytes(quantization) + self.cache_bytes(context)


def shapes_of_weights(folder: Path) -> Shapes:
    """The shapes of a model from its folder, without torch.

    Raises:
        ModelError: a file is damaged, there are no matrices in layers, or the configuration lacks a number.
    """
    return shapes_of_tensors(distinct_shapes(folder), read_config(folder), folder)


def shapes_of_tensors(stored: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], folder: Path) -> Shapes:
    """The shapes of a model from those of its tensors, without a copy of a tied embedding, and its configuration.

    Raises:
        ModelError: there are no matrices in layers, or the configuration lacks a number; it names the folder.
    """
    matrices = tuple(matrix for name, shape in stored.items() for matrix in matrices_of(name, shape, config))
    if not matrices:
        raise ModelError(f"{folder}: no matrix is named like model.layers.0.mlp.up_proj.weight")
    quantized = sum(matrix.in_features * matrix.out_features for matrix in matrices)

    def count(key: str) -> int:
        value = setting(config, key)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{folder / CONFIG}: {key} must be a number of 1 or more, not {str(value)[:100]}")
        return value

    n_layers, hidden_size, attention_heads = (
        count("num_hidden_layers"),
        count("hidden_size"),
        count("num_attention_heads"),
    )
    head_size = count("head_dim") if setting(config, "head_dim") else hidden_size // attention_heads
    return Shapes(
        matrices=matrices,
        n_other=sum(map(math.prod, stored.values())) - quantized,
        n_embedding=sum(math.prod(shape) for name, shape in stored.items() if name.endswith(EMBEDDINGS)),
        n_layers=n_layers,
        cache=cached_layers(config, n_layers, attention_heads, head_size),
        max_length=count(next((key for key in LENGTHS if setting(config, key)), LENGTHS[0])),
        hidden_size=hidden_size,
    )


def check_matrices(stored: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model of which gptqmodel would quantize a part: it says nothing of what it leaves as it is.

    Raises:
        ModelError: gptqmodel does not quantize a matrix of a layer, or a layer has a large tensor that is no matrix.
    """
    model_type = str(config.get("model_type"))
    quantized = quantized_modules(model_type)
    if quantized is None:
        raise ModelError(f"{folder / CONFIG}: gptqmodel does not say which matrices of {model_type} it quantizes")
    for name, shape in stored.items():
        match = LAYER_MATRIX.fullmatch(name)
        for matrix in matrices_of(name, shape, config):
            module = matrix.name.removeprefix(match["path"] if match else "")
            if not quantized.fullmatch(module):
                raise ModelError(
                    f"{folder / CONFIG}: in models of the type {model_type} gptqmodel leaves {module} as it is"
                )
        if len(shape) > 2 and EXPERTS.search(name):
            raise ModelError(f"{folder / CONFIG}: models of the type {model_type} have several experts in {name}")


def is_plain(stored: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> bool:
    """Whether a model is of a common kind, its configuration has the usual values, and its weights have just the names
    and shapes that models of the kind give them.

    To load it, nothing needs to be converted; to know that takes no torch.
    """
    kind = PLAIN.get(str(config.get("model_type")))
    return kind is not None and _is_usual(config) and stored == _plain_shapes(kind, config)


def tensors_of_plain(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the tensors of a model of a common kind whose configuration has the usual values; None for any
    other. No library is asked."""
    kind = PLAIN.get(str(config.get("model_type")))
    if kind is None or any(config.get(key) for key in ("attention_bias", "mlp_bias")) or not _is_usual(config):
        return None
    return _plain_shapes(kind, config)


def _is_usual(config: Mapping[str, Any]) -> bool:
    """Whether the values of a configuration that shapes do not show are among the common ones."""
    counts = [config.get(key) for key in COUNTS_OF_PLAIN]
    ropes = [config.get(key) or {} for key in ("rope_scaling", "rope_parameters")]
    layers = config.get("layer_types") or []
    return (
        all(isinstance(count, int) and count > 0 for count in counts)
        and config.get("hidden_act", "silu") == "silu"
        and isinstance(config.get("rms_norm_eps"), float)
        and all(isinstance(rope, dict) and all(map(_is_usual_of_rope, rope.items())) for rope in ropes)
        and isinstance(layers, list)
        and len(layers) in (0, config["num_hidden_layers"])
        and all(kind in ("full_attention", "sliding_attention") for kind in layers)
    )


def _is_usual_of_rope(item: tuple[str, object]) -> bool:
    key, value = item
    return value in ("default", "llama3") if key in ("rope_type", "type") else isinstance(value, int | float)


def _plain_shapes(kind: tuple[str, ...], config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a plain model's tensors by their names; ``kind``: those that its type adds to each layer."""
    n_layers, hidden, inner, heads, groups, vocabulary = (config[key] for key in COUNTS_OF_PLAIN)
    head = setting(config, "head_dim") or hidden // heads
    rows = {"q": heads * head, "k": groups * head, "v": groups * head}
    layer: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{letter}_proj.weight": (size, hidden) for letter, size in rows.items()},
        "self_attn.o_proj.weight": (hidden, heads * head),
        **{f"mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")},
        "mlp.down_proj.weight": (hidden, inner),
        **{f"{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")},
    }
    more = {
        **{f"self_attn.{letter}_proj.bias": (size,) for letter, size in rows.items()},
        **{f"self_attn.{letter}_norm.weight": (head,) for letter in "qk"},
    }
    layer |= {name: more[name] for name in kind}
    ends = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not is_tied(config):
        ends["lm_head.weight"] = (vocabulary, hidden)
    return ends | {f"model.layers.{i}.{name}": shape for i in range(n_layers) for name, shape in layer.items()}


def matrices_of(name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> Iterator[Matrix]:
    """The matrices that GPTQ quantizes in a tensor: one, two that are stored as one, or none."""
    match = LAYER_MATRIX.fullmatch(name)
    if match is None or len(shape) != 2 or ROUTER.fullmatch(match["module"]) or OTHER_SENSES.search(match["path"]):
        return
    out_features, in_features = shape[::-1] if config.get("model_type") in STORED_TRANSPOSED else shape
    path = f"{match['path']}{match['module']}"
    if path.endswith(FUSED):
        for half in HALVES:
            yield Matrix(path.removesuffix(FUSED) + half, in_features, out_features // 2)
    else:
        yield Matrix(path, in_features, out_features)
