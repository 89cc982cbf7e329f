"""Weights are those of a configuration, under every name that transformers knows, or are refused before they load."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from stratalaw.evaluation.answers import load_dense
from stratalaw.models.empty import check_weights
from stratalaw.models.folder import ModelError, count_parameters, write_manifest

SMALL = {
    **{"vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128},
    **{"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "pad_token_id": 0},
}


def make(folder: Path, architecture: str, **options) -> torch.nn.Module:
    set_seed(0)
    config = AutoConfig.for_model(architecture, **SMALL | options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return model


def rewrite(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def assert_loads(folder: Path, model: torch.nn.Module) -> None:
    check_weights(folder)
    write_manifest(folder)
    loaded = load_dense(folder, "cpu").state_dict()
    assert all(torch.equal(loaded[name], weight.to(loaded[name].dtype)) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe", "gpt_neox", "phi3", "gemma3_text"])
def test_weights_load_under_the_names_that_files_have(architecture, tmp_path):
    assert_loads(tmp_path, make(tmp_path, architecture))


def test_names_without_a_prefix_are_found(tmp_path):
    model = make(tmp_path, "llama", tie_word_embeddings=True)
    rewrite(tmp_path, lambda weights: {name.removeprefix("model."): weight for name, weight in weights.items()})
    assert_loads(tmp_path, model)


@pytest.mark.parametrize("stored", ["both", "head alone"])
def test_a_tied_pair_may_be_stored_twice_or_as_its_head(stored, tmp_path):
    model = make(tmp_path, "gemma")
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["tie_word_embeddings"]  # as merged models have it
    (tmp_path / "config.json").write_text(json.dumps(settings))

    def with_head(weights):
        embedding = weights["model.embed_tokens.weight"]
        rest = weights if stored == "both" else {n: w for n, w in weights.items() if "embed_tokens" not in n}
        return rest | {"lm_head.weight": embedding.clone()}

    rewrite(tmp_path, with_head)
    assert_loads(tmp_path, model)
    assert count_parameters(tmp_path).n_params == model.num_parameters()


def without(name):
    return lambda weights: {other: weight for other, weight in weights.items() if other != name}


def narrowed(name):
    return lambda weights: weights | {name: weights[name][:-1].clone()}


def with_another_layer(weights):
    more = {n.replace("layers.1.", "layers.2."): w.clone() for n, w in weights.items() if "layers.1." in n}
    return weights | more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.layers.1.mlp.experts.3.up_proj.weight"), "no weights for|another shape of"),
        (without("model.layers.1.mlp.gate.weight"), "no weights for model.layers.1.mlp.gate.weight"),
        (narrowed("model.layers.0.self_attn.q_proj.weight"), "another shape of model.layers.0.self_attn.q_proj.weight"),
        (with_another_layer, "transformers ignores model.layers.2"),
    ],
    ids=["an expert", "a router", "a shape", "a layer"],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(change, message, tmp_path):
    make(tmp_path, "qwen3_moe")
    check_weights(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ModelError, match=message):
        check_weights(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 1000}, "another shape of model.embed_tokens.weight"),
        ({"num_key_value_heads": 4}, "another shape of model.layers.0.self_attn.k_proj.weight"),
        ({"hidden_act": "sillu"}, "config.json: .*sillu"),
        ({"rope_parameters": "default"}, "config.json: "),
        ({"layer_types": ["whole", "whole"]}, "config.json: "),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_common_model_with_another_configuration_is_refused(changes, message, small_model_folder, tmp_path):
    shutil.copytree(small_model_folder, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        check_weights(tmp_path / "model")


def test_common_models_are_known_without_transformers(small_model_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("built")

    monkeypatch.setattr("stratalaw.models.empty.empty_model", fail)
    check_weights(small_model_folder)
    shutil.copytree(small_model_folder, tmp_path / "model")
    rewrite(tmp_path / "model", without("model.norm.weight"))
    with pytest.raises(AssertionError, match="built"):
        check_weights(tmp_path / "model")
