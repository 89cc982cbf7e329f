"""Shapes from a configuration agree with what is stored."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from stratalaw.models.folder import ModelError, count_parameters, stored_tensors
from stratalaw.models.known_shapes import shapes_of
from stratalaw.models.shapes import Matrix, shapes_of_weights
from stratalaw.quantization.gptq import quantize
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization

SMALL = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}


def test_parameters_are_those_of_the_files(small_model_folder):
    shapes, size = shapes_of(small_model_folder), count_parameters(small_model_folder)
    assert shapes.n_params == size.n_params
    assert shapes.n_params - shapes.n_embedding == size.n_params_nonembedding


@pytest.mark.parametrize("variant", [(2, 64), (3, 128), (4, 16), (8, -1)], ids=str)
def test_memory_is_the_size_of_the_packed_tensors(small_model_folder, calibration, tmp_path, variant):
    quantization = Quantization(*variant, 8, 0)
    quantize(small_model_folder, tmp_path / "packed", quantization, calibration, Gptq())
    stored = sum(tensor.n_bytes for _, tensor in stored_tensors(tmp_path / "packed"))
    assert shapes_of(small_model_folder).memory_bytes(quantization, context=0) == stored


@pytest.mark.parametrize("config", [LlamaConfig(**SMALL), Qwen2Config(**SMALL), Qwen3Config(**SMALL)], ids=type)
def test_every_family_has_seven_matrices_a_layer(config, tmp_path):
    config.save_pretrained(tmp_path)
    shapes = shapes_of(tmp_path)
    assert len(shapes.matrices) == 7 * 3 and shapes.n_layers == 3


def test_the_cache_holds_keys_and_values_of_every_layer(tmp_path):
    Qwen3Config(**SMALL, num_attention_heads=8, num_key_value_heads=2, head_dim=16).save_pretrained(tmp_path)
    shapes = shapes_of(tmp_path)
    assert shapes.cache_bytes(10) == 10 * 3 * 2 * (2 * 16) * 2  # tokens, layers, keys and values, width, bytes


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_the_headers_of_the_weights_say_the_same_as_the_configuration(config, tied, tmp_path):
    AutoModelForCausalLM.from_config(config(**SMALL, tie_word_embeddings=tied)).save_pretrained(tmp_path)
    expected, found = shapes_of(tmp_path), shapes_of_weights(tmp_path)
    assert sorted(found.matrices, key=str) == sorted(expected.matrices, key=str)
    assert replace(found, matrices=()) == replace(expected, matrices=())


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
IMAGES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHER_KINDS = {
    "qwen3_moe": SMALL | EXPERTS,
    "qwen2_moe": SMALL | EXPERTS | {"shared_expert_intermediate_size": 64},
    "mixtral": SMALL | {"num_local_experts": 4},
    "phi3": SMALL | {"pad_token_id": 0},
    "gpt2": {"vocab_size": 100, "n_embd": 64, "n_layer": 3, "n_head": 4},
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 96, "word_embed_proj_dim": 64, "num_attention_heads": 4},
    "gemma3": {"text_config": SMALL | {"head_dim": 16}, "vision_config": IMAGES | {"image_size": 28, "patch_size": 14}},
}


@pytest.mark.parametrize("architecture", OTHER_KINDS)
def test_headers_and_configuration_agree_for_other_kinds_of_models(architecture, tmp_path):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **OTHER_KINDS[architecture]))
    model.save_pretrained(tmp_path)
    expected, found = shapes_of(tmp_path), shapes_of_weights(tmp_path)
    assert sorted(found.matrices, key=str) == sorted(expected.matrices, key=str)
    assert replace(found, matrices=()) == replace(expected, matrices=())
    assert found.n_params == model.num_parameters() == count_parameters(tmp_path).n_params


def test_experts_are_matrices_and_routers_are_not(tmp_path):
    config = AutoConfig.for_model("qwen3_moe", **SMALL, **EXPERTS, num_attention_heads=4, head_dim=16)
    config.save_pretrained(tmp_path)
    names = [matrix.name for matrix in shapes_of(tmp_path).matrices]
    assert len(names) == 3 * (4 + 3 * 4)
    assert not any(name.endswith("mlp.gate") for name in names)


def test_a_model_of_which_a_part_would_be_quantized_is_refused(tmp_path):
    config = AutoConfig.for_model("granitemoe", **SMALL, num_local_experts=4)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"config.json: .*granitemoe have several experts in .*_linear.weight"):
        shapes_of(tmp_path)


def test_three_bits_are_packed_in_blocks_of_32():
    assert Matrix("up", 64, 96).can_be_packed(3)
    assert not Matrix("up", 64, 80).can_be_packed(3) and not Matrix("down", 80, 64).can_be_packed(3)
    assert all(Matrix("up", 80, 72).can_be_packed(bits) for bits in (2, 4, 8))


def test_groups_that_do_not_divide_a_row_are_ragged():
    matrix = Matrix("down", 96, 64)
    assert matrix.groups(64) == 2 and matrix.is_ragged(64)
    assert matrix.groups(32) == 3 and not matrix.is_ragged(32)
    assert matrix.groups(-1) == 1 and not matrix.is_ragged(-1)


def test_an_unknown_architecture_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    with pytest.raises(ModelError, match="never-heard-of") as caught:
        shapes_of(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no config\.json"):
        shapes_of(Path(tmp_path / "nowhere"))
