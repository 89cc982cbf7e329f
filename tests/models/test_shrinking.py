"""Configurations are made small without another switch, and two sizes of a family have one structure."""

import pytest

from stratalaw.models.shrinking import shrink, structure_of

LAYERS = ["sliding_attention", "sliding_attention", "full_attention"] * 8
LARGE = {
    **{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 24},
    **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128_256},
    **{"bos_token_id": 128_000, "eos_token_id": [128_001, 128_009], "pad_token_id": None, "image_token_id": 128_100},
    **{"attention_bias": True, "tie_word_embeddings": False, "hidden_act": "silu", "layer_types": LAYERS},
    **{"sliding_window": 4096, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192},
    "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [2.0] * 64, "mrope": [16, 24, 24]},
}
EXPERTS = {"num_experts": 128, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 1536}
LATENT = {"q_lora_rank": 768, "kv_lora_rank": 256, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64}


def test_heads_keep_their_layout_and_widths_their_proportions():
    small = shrink(LARGE, 3)
    heads, groups, head = small["num_attention_heads"], small["num_key_value_heads"], small["head_dim"]
    assert heads / groups == 4 and groups > 1
    assert heads * head == small["hidden_size"] <= 256
    assert small["intermediate_size"] / small["hidden_size"] == 3.5
    rope = small["rope_parameters"]
    assert len(rope["long_factor"]) == sum(rope["mrope"]) == head // 2


def test_every_switch_stays():
    small = shrink(LARGE, 3)
    for key in ("attention_bias", "tie_word_embeddings", "hidden_act", "pad_token_id", "rms_norm_eps"):
        assert small[key] == LARGE[key]
    assert small["rope_parameters"]["rope_type"] == "longrope"
    assert small.keys() == LARGE.keys()


def test_the_first_layers_are_kept_with_what_is_said_of_each():
    small = shrink(LARGE, 3)
    assert small["num_hidden_layers"] == 3 and small["layer_types"] == LAYERS[:3]
    assert small["sliding_window"] < 90  # shorter than some request


def test_tokens_with_a_meaning_are_within_the_vocabulary_and_apart():
    small = shrink(LARGE, 3)
    tokens = {small["bos_token_id"], *small["eos_token_id"], small["image_token_id"]}
    assert max(tokens) < small["vocab_size"] and len(tokens) == 2


def test_there_are_few_experts():
    small = shrink(LARGE | EXPERTS, 2)
    assert small["num_experts_per_tok"] < small["num_experts"] <= 4
    assert small["n_shared_experts"] == 1 and small["moe_intermediate_size"] == 96


@pytest.mark.parametrize("options", [{}, {"head_sizes": False}])
def test_heads_of_several_widths_shrink_together(options):
    small = shrink(LARGE | LATENT, 2, **options)
    assert small["qk_rope_head_dim"] == 32 and small["qk_nope_head_dim"] == 64
    assert small["q_lora_rank"] % 32 == small["kv_lora_rank"] % 32 == 0


def test_what_is_not_asked_for_stays_as_it_is():
    small = shrink(LARGE, 2, heads=False, head_sizes=False)
    for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"):
        assert small[key] == LARGE[key]


def test_heads_that_divide_by_nothing_stay():
    small = shrink(LARGE | {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576, "head_dim": 64}, 2)
    assert (small["num_attention_heads"], small["num_key_value_heads"]) == (9, 3)
    assert small["hidden_size"] == 9 * small["head_dim"]


def test_heads_that_are_not_as_wide_as_the_model_together_shrink_with_it():
    small = shrink(
        LARGE | {"hidden_size": 2304, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}, 2
    )
    assert (small["num_attention_heads"], small["num_key_value_heads"], small["head_dim"]) == (4, 2, 32)
    assert small["hidden_size"] % 32 == 0 and small["hidden_size"] <= 160


def test_the_configuration_that_is_given_is_not_changed():
    before = repr(LARGE)
    shrink(LARGE, 2)
    assert repr(LARGE) == before


def test_sizes_of_one_family_have_one_structure():
    other = {"hidden_size": 2048, "num_hidden_layers": 12, "layer_types": LAYERS[:12], "num_attention_heads": 16}
    assert structure_of(LARGE) == structure_of(LARGE | other | {"_name_or_path": "elsewhere"})


@pytest.mark.parametrize(
    "other",
    [
        {"attention_bias": False},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 32},
        {"layer_types": ["full_attention"] * 24},
        {"sliding_window": None},
        {"intermediate_size": 0},
        {"rope_parameters": {"rope_type": "default"}},
    ],
)
def test_another_switch_is_another_structure(other):
    assert structure_of(LARGE) != structure_of(LARGE | other)
