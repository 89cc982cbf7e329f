"""Shapes that are shipped are those of the models: transformers builds them, and they have as many parameters."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from stratalaw.layout import Results
from stratalaw.models.known_shapes import has_shipped_shapes, shapes_of, shapes_of_model
from stratalaw.models.shipped import shipped_models
from stratalaw.models.sources import known_architectures, own_architectures_of_transformers
from stratalaw.published.library import read_library
from stratalaw.study import Model
from tests.hub_server import HubRepository

ROOT = Path(__file__).parents[2]
SHIPPED = shipped_models()
# Totals that the Hub shows of the repositories' safetensors.
PUBLISHED = {
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/gemma-2-27b": 27_227_128_320,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "microsoft/phi-4": 14_659_507_200,
    "allenai/OLMo-2-0325-32B": 32_234_279_936,
}


# A repository of each entry.
ENTRIES = list({model.n_params: name for name, model in SHIPPED.items()}.values())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_model_that_transformers_builds_has_as_many_parameters(name):
    model = SHIPPED[name]
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**model.config))
    assert built.num_parameters() == model.n_params == model.shapes.n_params


@pytest.mark.parametrize("name", ENTRIES)
def test_shapes_are_those_of_the_configuration(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SHIPPED[name].config))
    built, shipped = shapes_of(tmp_path), SHIPPED[name].shapes
    assert sorted(built.matrices, key=str) == sorted(shipped.matrices, key=str)
    assert replace(built, matrices=()) == replace(shipped, matrices=())


def test_totals_are_those_of_the_published_library():
    """Gathered apart from these shapes, and rounded."""
    published = read_library().drop_duplicates("model").set_index("model").n_params
    both = [name for name in published.index if name in SHIPPED]
    assert len(both) > 35 and {"meta-llama/Llama-2-70b-hf", "google/gemma-7b", "Qwen/Qwen1.5-7B-Chat"} <= set(both)
    for name in both:
        assert SHIPPED[name].n_params == pytest.approx(published[name], rel=5e-4), name


def test_of_a_model_that_takes_images_only_the_part_for_text_is_quantized():
    shapes = SHIPPED["google/gemma-3-4b-pt"].shapes
    assert len(shapes.matrices) == 34 * 7 and shapes.max_length == 131_072
    assert {matrix.name.partition(".layers.")[0] for matrix in shapes.matrices} == {"language_model.model"}
    assert shapes.n_embedding == 262_208 * 2560


def test_every_expert_is_quantized_and_no_router():
    model = SHIPPED["Qwen/Qwen3-30B-A3B"]
    layers, experts, hidden = 48, 128, 2048
    assert len(model.shapes.matrices) == layers * (4 + 3 * experts)
    norms = hidden * (2 * layers + 1) + 2 * 128 * layers
    assert model.shapes.n_other == model.shapes.n_embedding + layers * experts * hidden + norms


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_parameters_are_the_published_ones(name):
    assert SHIPPED[name].n_params == PUBLISHED[name]


def test_the_models_of_all_studies_are_known():
    studies = [yaml.safe_load(path.read_text()) for path in (ROOT / "config").glob("*.yaml")]
    sources = {model["source"] for study in studies for model in study["models"]}
    assert len(sources) > 12
    assert {source for source in sources if not (ROOT / source).is_dir()} <= SHIPPED.keys()


def test_all_are_of_types_that_can_be_quantized():
    types = {model.config["model_type"] for model in SHIPPED.values()}
    assert types <= known_architectures() & own_architectures_of_transformers()


def model_named(source: str) -> Model:
    return Model(name="m", source=source, family="f", revision="a" * 40)


def test_a_folder_comes_before_what_is_shipped_and_that_before_the_hub(hub, tmp_path):
    model, results = model_named("Qwen/Qwen3-0.6B"), Results(tmp_path)
    assert has_shipped_shapes(model, results)
    assert shapes_of_model(model, results) == SHIPPED["Qwen/Qwen3-0.6B"].shapes
    results.model("m").mkdir(parents=True)
    (results.model("m") / "config.json").write_text(json.dumps(SHIPPED["Qwen/Qwen3-1.7B"].config))
    assert not has_shipped_shapes(model, results)
    assert shapes_of_model(model, results) == SHIPPED["Qwen/Qwen3-1.7B"].shapes
    assert hub.requests == []


def test_what_is_not_shipped_is_asked_of_the_hub(hub, tmp_path):
    config = json.dumps(SHIPPED["Qwen/Qwen3-0.6B"].config).encode()
    hub.repositories["models/someone/else"] = HubRepository("a" * 40, {"config.json": config})
    model = model_named("someone/else")
    assert not has_shipped_shapes(model, Results(tmp_path))
    assert shapes_of_model(model, Results(tmp_path)) == SHIPPED["Qwen/Qwen3-0.6B"].shapes
    assert dict(hub.fetched()) == {"config.json": 1}
