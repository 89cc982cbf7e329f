"""The cache of keys and values has the numbers that transformers keeps of a context."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stratalaw.models.cache import CachedLayers, cached_layers
from stratalaw.models.known_shapes import shapes_of_folder
from stratalaw.models.shipped import shipped_models

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CONTEXT, WINDOW = 40, 8


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("llama", {"num_key_value_heads": 2, "head_dim": 16}),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": WINDOW}),
        ("phi3", {"num_key_value_heads": 4, "sliding_window": WINDOW}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": WINDOW}),
        ("gemma3_text", {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": WINDOW}),
        ("cohere2", {"num_key_value_heads": 2, "sliding_window": WINDOW}),
        ("gpt_oss", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": WINDOW, "num_experts_per_tok": 1}),
        ("qwen2", {"num_key_value_heads": 2, "sliding_window": WINDOW, "use_sliding_window": False}),
        (
            "qwen2",
            {
                "num_key_value_heads": 2,
                "sliding_window": WINDOW,
                "use_sliding_window": True,
                "max_window_layers": 2,
            },
        ),
        ("falcon", {"multi_query": True, "new_decoder_architecture": False}),
        ("gpt_bigcode", {"multi_query": True}),
    ],
)
def test_as_many_as_transformers_keeps(model_type, more):
    config = AutoConfig.for_model(model_type, **SMALL, **more)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        kept = model(torch.ones(1, CONTEXT, dtype=torch.long), use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in kept.layers)
    raw = config.to_dict()
    windows = [layers for layers in cached(raw) if layers.window is not None]
    # transformers keeps one token less than a window: the next one is of it.
    assert sum(layers.numbers(CONTEXT) for layers in cached(raw)) - sum(layers.width for layers in windows) == numbers
    without = {key: value for key, value in raw.items() if key != "layer_types"}  # as older files are
    assert cached(without) == cached(raw)


def cached(config):
    heads = config.get("num_attention_heads", config.get("n_head"))
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    hidden = config.get("hidden_size", config.get("n_embd"))
    return cached_layers(config, layers, heads, config.get("head_dim") or hidden // heads)


def test_groups_of_falcon_share_keys_and_values():
    """As engines keep them; transformers repeats them for each head."""
    config = {"model_type": "falcon", "num_kv_heads": 8, "new_decoder_architecture": True, "multi_query": True}
    assert cached_layers(config, 60, 128, 64) == (CachedLayers(60 * 2 * 8 * 64),)


def test_latent_attention_keeps_one_compressed_vector():
    config = {"model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_key_value_heads": 16}
    assert cached_layers(config, 27, 16, 128) == (CachedLayers(27 * 576),)


def test_shipped_models_keep_what_their_windows_hold():
    """Of 62 layers of gemma-3-27b 10 see the whole context; Mistral's first version had a window, the others none."""
    gemma = shipped_models()["google/gemma-3-27b-it"].shapes
    width = 2 * 16 * 128
    assert gemma.cache == (CachedLayers(10 * width), CachedLayers(52 * width, 1024))
    first, second = (
        shipped_models()[f"mistralai/Mistral-7B-Instruct-v0.{version}"].shapes.cache_bytes(32768) for version in (1, 2)
    )
    assert (first, second) == (32 * 2 * 8 * 128 * 2 * 4096, 32 * 2 * 8 * 128 * 2 * 32768)


def test_a_configuration_of_a_common_kind_says_what_transformers_would_build(tmp_path, monkeypatch):
    config = AutoConfig.for_model("qwen3", **SMALL, num_key_value_heads=2, head_dim=8)
    config.architectures = ["Qwen3ForCausalLM"]
    config.save_pretrained(tmp_path)
    fast = shapes_of_folder(tmp_path)
    monkeypatch.setattr("stratalaw.models.known_shapes.tensors_of_plain", lambda _: None)
    assert shapes_of_folder(tmp_path) == fast
