"""Tiny models have every kind of layer, and a step that fails is named; the whole chain is in test_rehearsals."""

import json
import sys
from pathlib import Path

import pytest
from transformers import DeepseekV3Config, LlamaConfig, Qwen3Config

from stratalaw.preparation.rehearsal import ASKED, layers_of_each_kind, main

WINDOWED = ["sliding_attention"] * 4 + ["full_attention"]


def ask(folder: Path, config) -> Path:
    config.save_pretrained(folder)
    (folder / ASKED).write_text(json.dumps({"variants": ["w4-g32-c4-s0"], "options": {}}))
    return folder


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (LlamaConfig(num_hidden_layers=1), 1),
        (LlamaConfig(num_hidden_layers=32), 2),
        (Qwen3Config(num_hidden_layers=10, layer_types=WINDOWED * 2, use_sliding_window=True), 5),
        (DeepseekV3Config(num_hidden_layers=8, first_k_dense_replace=3, n_routed_experts=8), 4),
    ],
    ids=["one layer", "all alike", "windows", "dense before experts"],
)
def test_as_many_of_the_first_layers_stay_as_have_every_kind(tmp_path, config, layers):
    assert layers_of_each_kind(ask(tmp_path, config)) == layers


def test_an_error_of_the_process_that_quantizes_is_named(tmp_path, monkeypatch):
    quantizer = tmp_path / "python"
    quantizer.write_text("#!/bin/sh\necho 'Traceback:\nKeyError: no module gate\nbye'\nexit 1\n")
    quantizer.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(quantizer))
    folder = ask(tmp_path / "model", LlamaConfig())
    assert main(folder) == {"failed": "quantizing: KeyError: no module gate"}
    stored = json.loads((folder / "original" / "config.json").read_text())
    assert stored["num_hidden_layers"] == 2 and stored["hidden_size"] <= 128


def test_a_configuration_of_no_model_that_runs_cannot_be_rehearsed(tmp_path):
    config = LlamaConfig(hidden_size=96, num_attention_heads=3, head_dim=33)  # odd: no rotation
    found = main(ask(tmp_path, config))
    assert found["impossible"].startswith("no small model of its configuration runs: ")
    assert str(tmp_path) not in found["impossible"]
