"""Defaults that are read from the source of transformers are those of its classes."""

import pytest
from transformers import CONFIG_MAPPING, AutoConfig

from stratalaw.models.configuration import is_tied, setting
from stratalaw.models.module_tree import known_architectures, quantized_modules
from stratalaw.models.sources import own_architectures_of_transformers

NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
ARCHITECTURES = sorted(filter(quantized_modules, known_architectures() & own_architectures_of_transformers()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_empty_configuration_says_what_its_class_says(architecture):
    try:
        config = CONFIG_MAPPING[architecture]()
    except Exception as error:
        pytest.skip(f"has no defaults: {error}")
    assert is_tied({"model_type": architecture}) == bool(getattr(config, "tie_word_embeddings", False))
    if config.get_text_config() is config:
        found = {key: setting({"model_type": architecture}, key) for key in NUMBERS}
        # What a class computes cannot be read: such a model is refused where its configuration is silent.
        assert found.items() <= {(key, getattr(config, key, None)) for key in NUMBERS} | dict.fromkeys(NUMBERS).items()


def test_what_is_written_counts_more_than_the_class():
    assert is_tied({"model_type": "gemma"}) and not is_tied({"model_type": "gemma", "tie_word_embeddings": False})
    assert setting({"model_type": "gpt2", "n_head": 3}, "num_attention_heads") == 3


def test_a_model_of_text_and_images_has_the_numbers_of_its_text():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 5}
    config = {"model_type": "gemma3", "text_config": text}
    assert setting(config, "num_hidden_layers") == 5
    expected = AutoConfig.for_model("gemma3_text").num_attention_heads
    assert setting(config, "num_attention_heads") == expected


def test_a_type_that_nobody_knows_has_no_defaults():
    assert setting({"model_type": "never-heard-of"}, "hidden_size") is None and not is_tied({})
