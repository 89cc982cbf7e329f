"""A model's configuration made small: the same class with the same switches, and few and narrow layers.

What a configuration counts is told by the names of its keys, which the authors of architectures chose; a size under a
name that is not known here stays as it is. Whether the result is a model is for its class in transformers to say.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stratalaw.models.configuration import text_section

LAYERS = re.compile(r"(num_hidden_layers|n_layers?|num_layers|num_decoder_layers|depth)")
HEADS = re.compile(r"([a-z]+_)*((num|n)_([a-z]+_)*heads?(_kv)?|n_groups)")
HEAD_SIZE = re.compile(r"([a-z]+_)*(head_dim|head_size|d_head|rotary_dim|kv_channels)")
WIDTH = re.compile(
    r"([a-z]+_)*(hidden_size|intermediate_size|ffn_dim|d_ff|d_model|d_ssm|n_embd|n_inner|lora_rank|lru_width|proj_dim)"
    r"(_[a-z]+)?"
)
EXPERTS = re.compile(r"([a-z]+_)*(num|n)_([a-z]+_)?experts")
SHARED_EXPERTS = re.compile(r"([a-z]+_)*shared_experts")
EXPERTS_OF_TOKEN = re.compile(r"([a-z]+_)*(experts_per_tok(en)?|moe_k|moe_topk|top_k_experts)")
EXPERT_GROUPS, GROUPS_OF_TOKEN = re.compile("n_group"), re.compile("topk_group")
WINDOW = re.compile(r"([a-z]+_)*(sliding_window|window_size|chunk_size)")
VOCABULARY = re.compile(r"vocab_size([a-z_]+)?")
TOKEN = re.compile(r"([a-z]+_)+(token_id|token_index)")
ENDS = re.compile(r"(bos|eos|pad|sep|decoder_start)_token_id")
ROPES = ("rope_parameters", "rope_scaling")

TILE = 32  # the sides of matrices that are packed in 3 bits
MIN_HEADS, MIN_WIDTH = 2, 64
MAX_VOCABULARY, MAX_EXPERTS = 512, 4
END = 256  # after one token for each byte
# Windows are shorter than some request, so that they matter.
AT_MOST = {EXPERTS_OF_TOKEN: 2, EXPERT_GROUPS: 2, GROUPS_OF_TOKEN: 1, WINDOW: 32, VOCABULARY: MAX_VOCABULARY}
# Of models: no part of how they are built.
NOT_OF_STRUCTURE = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})


def shrink(config: Mapping[str, Any], layers: int, heads: bool = True, head_sizes: bool = True) -> dict[str, Any]:
    """A configuration with the first ``layers`` layers, few experts, a small vocabulary and short windows.

    Args:
        config: all that the class of the configuration has, its defaults included.
        layers: how many are kept.
        heads: whether there are fewer heads, too, and all widths shrink by the same factor.
        head_sizes: whether heads are narrower, too, likewise.
    """
    text = text_section(config)
    by_heads = _factor_of_heads(text) if heads else 1
    by_sizes = _factor_of_head_sizes(text) if head_sizes else 1
    small = copy.deepcopy(dict(config))
    for section in _sections(small):
        if section is text_section(small):
            _shrink_section(section, layers, by_heads, by_sizes)
        elif any(LAYERS.fullmatch(key) for key in section):  # of images or sound, which no request has
            _shrink_section(section, 1, 1, 1)
    _shrink_tokens(small)
    return small


def structure_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What models have in common that differ in size only: switches, kinds of layers, and how heads are laid out."""
    text = text_section(config)
    heads, groups = text.get("num_attention_heads"), text.get("num_key_value_heads")
    width, head = text.get("hidden_size"), text.get("head_dim")
    layout = {"one for all": groups == 1, "each its own": groups in (None, heads), "derived": head is None}
    if isinstance(heads, int) and isinstance(head, int):
        layout["as wide as the model"] = heads * head == width
    return {"heads": layout, "config": _without_sizes(config)}


def _without_sizes(value: Any) -> Any:
    """A part of a configuration with "number" in place of each but 0 and 1, which can mean that there is none."""
    match value:
        case bool() | str() | None:
            return value
        case int() | float():
            return value if value in (0, 1) else "number"
        case list() | tuple():
            kinds = [_without_sizes(part) for part in value]
            return sorted({repr(kind) for kind in kinds})
        case Mapping():
            kept = {str(key): part for key, part in value.items() if key not in NOT_OF_STRUCTURE}
            return {key: _without_sizes(kept[key]) for key in sorted(kept)}
    return repr(value)


def _sections(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A configuration, and those within it."""
    yield config
    for value in config.values():
        if isinstance(value, dict):
            yield from _sections(value)


def _counts(section: Mapping[str, Any], names: re.Pattern[str]) -> dict[str, int]:
    """The whole numbers under names of a kind."""
    return {
        key: value
        for key, value in section.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 0 and names.fullmatch(key)
    }


def _factor_of_heads(text: Mapping[str, Any]) -> int:
    """By how much the numbers of heads can be divided: as many stay for each head of keys and values."""
    counts = [count for count in _counts(text, HEADS).values() if count > 1]
    common = math.gcd(*counts) if counts else 1
    return max(
        (
            factor
            for factor in range(1, common + 1)
            if common % factor == 0
            and all(count // factor >= MIN_HEADS for count in counts)
            and all(_fits(width // factor) for width in _model_widths(text))
        ),
        default=1,
    )


def _factor_of_head_sizes(text: Mapping[str, Any]) -> int:
    """By which power of two the widths of heads can be divided."""
    sizes = list(_counts(text, HEAD_SIZE).values())
    heads = next(iter(_counts(text, re.compile(r"num_attention_heads|n_heads?")).values()), None)
    if heads and not text.get("head_dim"):
        sizes += [width // heads for width in _model_widths(text)]
    factor = 1
    while sizes and all(size % (2 * factor * TILE) == 0 for size in sizes):
        factor *= 2
    return factor


def _model_widths(text: Mapping[str, Any]) -> list[int]:
    return list(_counts(text, re.compile(r"hidden_size|n_embd|d_model")).values())


def _fits(width: int) -> bool:
    return width >= MIN_WIDTH and width % TILE == 0


def _shrink_section(section: dict[str, Any], layers: int, by_heads: int, by_sizes: int) -> None:
    before = _counts(section, LAYERS)
    for key, count in before.items():
        section[key] = min(count, layers)
    for key, value in section.items():
        if isinstance(value, list) and len(value) in before.values() and len(value) > layers:
            section[key] = value[:layers]
    for key, count in _counts(section, HEADS).items():
        section[key] = count if count == 1 else count // by_heads
    for key, size in _counts(section, HEAD_SIZE).items():
        section[key] = size // by_sizes
    for key, width in _counts(section, WIDTH).items():
        section[key] = _narrow(width, by_heads * by_sizes)
    for key, count in _counts(section, EXPERTS).items():
        if not SHARED_EXPERTS.fullmatch(key):
            section[key] = min(count, MAX_EXPERTS)
    for names, most in AT_MOST.items():
        for key, count in _counts(section, names).items():
            section[key] = min(count, most)
    for key in ROPES:
        if isinstance(section.get(key), dict):
            for rope in _sections(section[key]):
                _narrow_rope(rope, by_sizes)


def _narrow(width: int, factor: int) -> int:
    """A width by a factor; one that tiles fill stays one, and one that they do not fill does not become one."""
    if factor == 1:
        return width
    narrow = max(TILE, round(width / factor / TILE) * TILE)
    return narrow + width % TILE


def _narrow_rope(rope: dict[str, Any], factor: int) -> None:
    """Give the frequencies of narrower heads: factors are one for each, sections say how many go together."""
    for key, value in rope.items():
        if isinstance(value, list) and value:
            whole = all(isinstance(number, int) for number in value)
            rope[key] = [number // factor for number in value] if whole else value[: len(value) // factor]


def _shrink_tokens(config: dict[str, Any]) -> None:
    """Give tokens with a meaning of their own numbers within the vocabulary: others are each another one."""
    others = iter(range(MAX_VOCABULARY - 1, END, -1))
    for section in _sections(config):
        for key, value in section.items():
            if not TOKEN.fullmatch(key) or value is None:
                continue
            token = END if ENDS.fullmatch(key) else next(others)
            section[key] = [token] if isinstance(value, list) else token
