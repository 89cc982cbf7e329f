"""Shapes of models of the Hub that are known without asking it, as facts beside this module (``shipped.json``).

Each entry names repositories with the tokens that each can take, their number of parameters, and what of their
``config.json`` decides shapes and whether the embeddings are tied. Numbers of parameters are the totals that the Hub
shows of the safetensors; a tied output embedding counts once. Both were gathered apart from each other, and a test
holds one against the other: the model that transformers builds of the facts has that number of parameters, to the last
one. Of LLaMA, Llama 2, Gemma 1, Yi and Qwen1.5 the numbers follow from the shapes, and are held against the totals of
the published library, which are rounded. Some of Qwen3, Qwen2.5, Llama 3, Mistral Nemo and SmolLM2 were also compared
with copies of ``config.json`` in public repositories. Tokens that a model can take, and windows of attention, are held
against nothing; of estimates, that of the cache alone rests on windows.

Reading them takes milliseconds; building a model, or importing transformers for it, takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stratalaw.models.cache import cached_layers
from stratalaw.models.configuration import TEXT, text_section
from stratalaw.models.shapes import Matrix, Shapes

FACTS = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class ShippedModel:
    """What is known of a repository.

    Attributes:
        n_params: parameters of the model.
        config: the part of its ``config.json`` that decides shapes, tied embeddings and the context length.
    """

    n_params: int
    config: Mapping[str, Any]

    @property
    def shapes(self) -> Shapes:
        """Those of the model that transformers builds of the configuration."""
        config = text_section(self.config)
        n_layers, hidden_size = config["num_hidden_layers"], config["hidden_size"]
        prefix = "language_model." if TEXT in self.config else ""
        matrices = tuple(
            Matrix(f"{prefix}model.layers.{layer}.{name}", *features)
            for layer in range(n_layers)
            for name, features in _matrices_of_layer(config).items()
        )
        embedding = config["vocab_size"] * hidden_size
        return Shapes(
            matrices=matrices,
            n_other=self.n_params - sum(matrix.in_features * matrix.out_features for matrix in matrices),
            n_embedding=embedding if config["tie_word_embeddings"] else 2 * embedding,
            n_layers=n_layers,
            cache=cached_layers(config, n_layers, config["num_attention_heads"], _head_size(config)),
            max_length=config["max_position_embeddings"],
            hidden_size=hidden_size,
        )


@cache
def shipped_models() -> Mapping[str, ShippedModel]:
    """Every repository whose shapes are known, by its name (``Qwen/Qwen3-8B``)."""
    return {
        repository: ShippedModel(entry["n_params"], _with_length(entry["config"], max_length))
        for entry in json.loads(FACTS.read_text())
        for repository, max_length in entry["repositories"].items()
    }


def _with_length(config: Mapping[str, Any], max_length: int) -> Mapping[str, Any]:
    if TEXT in config:
        return {**config, TEXT: _with_length(config[TEXT], max_length)}
    return {**config, "max_position_embeddings": max_length}


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]))


def _matrices_of_layer(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Input and output features of the matrices of a layer that gptqmodel quantizes, by their names."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * _head_size(config)
    keys = config["num_key_value_heads"] * _head_size(config)
    if config["model_type"] == "phi3":
        attention = {"qkv_proj": (hidden, queries + 2 * keys)}
    else:
        attention = {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
    attention["o_proj"] = (queries, hidden)
    if "num_experts" in config:
        wide = config["moe_intermediate_size"]
        parts = [f"mlp.experts.{expert}" for expert in range(config["num_experts"])]
    else:
        parts = ["mlp"]
    # gptqmodel takes apart what phi3 has in one: gate_up_proj.
    perceptron = {"gate_proj": (hidden, wide), "up_proj": (hidden, wide), "down_proj": (wide, hidden)}
    return {f"self_attn.{name}": features for name, features in attention.items()} | {
        f"{part}.{name}": features for part in parts for name, features in perceptron.items()
    }
