"""The cache of keys and values: the numbers that each token takes in it, and the tokens that layers keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stratalaw.models.configuration import setting

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
# Where a configuration has a window and does not say which layers have it: each layer of these types of models ...
ALL_SLIDING = frozenset({"mistral", "mixtral", "phi3", "starcoder2"})
# ... and all but every n-th of these.
PATTERNS = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "gemma3_text": 6}


@dataclass(frozen=True)
class CachedLayers:
    """Layers that keep the same number of tokens.

    ``width``: numbers that a token takes over all of them; ``window``: tokens that they keep; None for the whole
    context.
    """

    width: int
    window: int | None = None

    def numbers(self, context: int) -> int:
        """Those of a context."""
        return self.width * (context if self.window is None else min(context, self.window))


def cached_layers(config: Mapping[str, Any], n_layers: int, heads: int, head_size: int) -> tuple[CachedLayers, ...]:
    """What the layers of a model cache, those with a window after the others.

    Latent attention (DeepSeek) is cached as engines do: one compressed vector for keys and values. Layers that keep a
    state instead of tokens (linear attention) take nothing.

    Args:
        config: of the model.
        n_layers: decoder layers.
        heads: of attention.
        head_size: of each of them.
    """
    rank = setting(config, "kv_lora_rank")
    width = rank + setting(config, "qk_rope_head_dim") if rank else 2 * key_value_heads(config, heads) * head_size
    windows = {FULL: None, SLIDING: setting(config, "sliding_window"), CHUNKED: setting(config, "attention_chunk_size")}
    layers: dict[int | None, int] = {}
    for kind in kinds_of_layers(config, n_layers):
        if kind in windows:
            layers[windows[kind]] = layers.get(windows[kind], 0) + 1
    return tuple(
        CachedLayers(count * width, window)
        for window, count in sorted(layers.items(), key=lambda item: item[0] is not None)
    )


def key_value_heads(config: Mapping[str, Any], heads: int) -> int:
    """Heads whose keys and values are kept; ``heads``: of attention."""
    if setting(config, "multi_query") and not setting(config, "new_decoder_architecture"):
        return 1
    return int(setting(config, "num_key_value_heads") or setting(config, "num_kv_heads") or heads)


def kinds_of_layers(config: Mapping[str, Any], n_layers: int) -> Sequence[str]:
    """The kind of attention of each layer."""
    kinds = setting(config, "layer_types")
    if isinstance(kinds, list) and len(kinds) == n_layers:
        return kinds
    model_type = setting(config, "model_type")
    if not setting(config, "sliding_window") or setting(config, "use_sliding_window") is False:
        return [FULL] * n_layers
    if model_type in ALL_SLIDING:
        return [SLIDING] * n_layers
    if setting(config, "use_sliding_window"):
        first = setting(config, "max_window_layers") or 0
        return [SLIDING if layer >= first else FULL for layer in range(n_layers)]
    pattern = setting(config, "sliding_window_pattern") or PATTERNS.get(str(model_type))
    return [SLIDING if pattern and (layer + 1) % pattern else FULL for layer in range(n_layers)]
