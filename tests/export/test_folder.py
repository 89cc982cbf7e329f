"""An exported folder has what engines load, says what it is, and never takes the place of another."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from stratalaw.evaluation.answers import load_dense
from stratalaw.export.folder import ExportError, export, licence_of
from stratalaw.files import sha256
from stratalaw.seals import read_table
from stratalaw.study import Model
from tests.export.conftest import TASKS, VARIANT
from tests.hub_server import HubRepository

NAME = f"q3/{VARIANT.name}"


def test_the_folder_holds_the_checkpoint_as_it_is_and_all_that_goes_with_it(exported, results):
    checkpoint = results.checkpoint("q3", VARIANT.name)
    present = {path.name for path in exported.iterdir()}
    assert {path.name for path in checkpoint.iterdir()} | {"README.md"} <= present
    assert {"generation_config.json", "tokenizer.json", "quantize_config.json", "audit.json"} <= present
    assert all(sha256(exported / path.name) == sha256(path) for path in checkpoint.iterdir())
    assert "manifest.json" not in present


def test_the_card_says_what_the_hub_and_a_reader_ask(exported, results):
    card = ModelCard.load(exported / "README.md")
    assert card.data.license == "mit" and card.data.base_model is None  # a local folder is no repository
    damage, _ = read_table(results.of_study("one", "damage.parquet"), "damage")
    [index] = eval_results_to_model_index(card.data.model_name, card.data.eval_results)
    values = {result["dataset"]["type"]: result["metrics"][0]["value"] for result in index["results"]}
    assert values == {task: float(damage.set_index("benchmark").accuracy[task].round(4)) for task in TASKS.values()}
    text = card.content
    for stratum in ("general", "memorization", "reasoning"):
        row = damage[(damage.stratum == stratum) & (damage.benchmark == "all")].iloc[0]
        assert f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})" in text
    assert "8 samples of 256 tokens, 2,048 tokens in all" in text and "ladder/calibration.jsonl" in text
    assert "| vLLM, Marlin | yes; needs an NVIDIA GPU since Turing |" in text


def test_a_fresh_process_loads_it_with_gptqmodel_and_says_the_same(exported, results, calibration):
    code = (
        "import gc; gc.disable(); "  # which takes a fifth of importing gptqmodel
        "import sys, json, numpy, torch; from gptqmodel import GPTQModel, BACKEND; "
        "model = GPTQModel.load(sys.argv[1], device='cpu', backend=BACKEND.TORCH, dtype=torch.bfloat16).model; "
        "logits = model(torch.tensor(json.loads(sys.argv[3]))[None]).logits.float().log_softmax(-1); "
        "numpy.save(sys.argv[2], logits.detach().numpy())"
    )
    tokens, out = calibration[0], exported.parent / "theirs.npy"
    # gptqmodel has torch compile its kernel, which takes longer than all else here.
    environment = os.environ | {"TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, "-c", code, exported, out, str(tokens)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    model = load_dense(results.checkpoint("q3", VARIANT.name), "cpu").bfloat16()
    with torch.inference_mode():
        ours = model(torch.tensor(tokens)[None]).logits.float().log_softmax(-1).numpy()
    of_tokens = [table[0, np.arange(len(tokens) - 1), tokens[1:]] for table in (np.load(out), ours)]
    # Both multiply in bf16, in another order; bf16 and float32 differ by 0.02 on average.
    assert np.abs(of_tokens[0] - of_tokens[1]).mean() < 0.05


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r9/w4-g32-c8-s0", "the study has no model r9; it has q3"),
        ("q3/w2-g32-c8-s0", "no such variant of q3; it has w4-g32-c8-s0"),
        ("q3/bf16", "is the original itself"),
    ],
)
def test_what_is_no_variant_is_refused(study, results, tmp_path, name, message):
    with pytest.raises(ExportError, match=message):
        export(study, name, tmp_path / "out", results)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_is_left_half_written(study, results, exported, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="exists already, and nothing is overwritten"):
        export(study, NAME, exported, results)

    def fails(_) -> str:
        raise RuntimeError("no card")

    monkeypatch.setattr("stratalaw.export.folder.card_of", fails)
    with pytest.raises(RuntimeError, match="no card"):
        export(study, NAME, tmp_path / "out", results)
    assert list(tmp_path.iterdir()) == []


def test_the_licence_is_that_of_the_card_of_the_base_model(hub, tmp_path, monkeypatch):
    hub.repositories["models/a/b"] = HubRepository("1" * 40, {"README.md": b"---\nlicense: apache-2.0\n---\n# B\n"})
    hub.repositories["models/a/none"] = HubRepository("1" * 40, {"config.json": b"{}"})
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    of_hub = Model(name="b", source="a/b", revision="1" * 40, family="b")
    assert licence_of(of_hub) == "apache-2.0"
    assert licence_of(of_hub.model_copy(update={"source": "a/none"})) == ""
    (tmp_path / "README.md").write_text("# no front matter\n")
    assert licence_of(Model(name="b", source=str(tmp_path), family="b")) == ""
    assert licence_of(Model(name="b", source=str(Path("ladder/models/q3")), family="b")) == "mit"
