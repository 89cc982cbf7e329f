"""A study that makes nothing: a model and checkpoints of it that others' tools made, scored and compared."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from stratalaw.cli import app
from tests.workflow.warm_snakemake import run_snakemake

ROOT = Path(__file__).parents[2]
MADE = ROOT / "tests" / "quantization" / "checkpoints"
SOURCES = {"gptq": MADE / "gptq", "awq": MADE / "awq", "gguf": MADE / "gguf-q4_0" / "model.gguf"}
TASK = """
task: words
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the study was run."""
    folder = tmp_path_factory.mktemp("existing")
    random = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(f"w{number}" for number in random.integers(3, 128, count))

    items = [{"context": words(12), "choices": [words(2) for _ in range(4)], "label": i % 4} for i in range(40)]
    (folder / "tasks").mkdir()
    (folder / "words.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "tasks" / "words.yaml").write_text(TASK.replace("FILE", str(folder / "words.jsonl")))
    (folder / "text.jsonl").write_text(json.dumps({"text": words(100)}) + "\n")
    checkpoints = [{"name": name, "source": str(source)} for name, source in SOURCES.items()]
    study = {
        "name": "existing",
        "models": [{"name": "tiny", "source": str(MADE / "model"), "family": "tiny", "checkpoints": checkpoints}],
        "calibration": {"corpus": str(folder / "text.jsonl"), "tokens": 64},
        "evaluation": {"tasks_folder": str(folder / "tasks"), "strata": {"words": [{"task": "words", "chance": 0.25}]}},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    arguments = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", folder / "study.yaml"]
    made = run_snakemake([*map(str, arguments), "--cores", "2", "--rerun-triggers", "mtime", "params", "input"], folder)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize("name", SOURCES)
def test_log_likelihoods_are_those_of_the_weights_that_the_format_means(folder, name):
    requests = pd.read_parquet(folder / "results/requests/tiny/words.parquet")
    answers = pd.read_parquet(folder / f"results/answers/tiny/{name}/words.parquet")
    # The dense weights have the hashes that the tools' own code gives (tests/quantization/test_existing.py).
    dense = load_file(folder / f"results/conversions/tiny/{name}/model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(MADE / "model", dtype=torch.float32)
    model.load_state_dict({key: weight.float() for key, weight in dense.items()}, strict=False)
    expected = []
    for row in requests.itertuples():
        tokens, start = torch.tensor([*row.context, *row.continuation])[None], len(row.context)
        with torch.inference_mode():
            logits = model(tokens).logits[0].log_softmax(-1)
        expected.append(float(logits[start - 1 : -1].gather(1, tokens[0, start:, None]).sum()))
    np.testing.assert_allclose(answers.log_likelihood, expected, atol=0.05)
    original = pd.read_parquet(folder / "results/answers/tiny/bf16/words.parquet")
    assert np.abs(answers.log_likelihood - original.log_likelihood).max() > 0.05


def test_they_stand_beside_their_original_in_every_table(folder):
    study = folder / "results/studies/existing"
    observed = pd.read_csv(study / "observations.csv").set_index("variant")
    assert observed.method[list(SOURCES)].tolist() == ["GPTQ, existing", "AWQ, existing", "GGUF, existing"]
    assert observed.effective_bits[list(SOURCES)].tolist() == [4.625, 4.625, 4.5]
    damage = pd.read_csv(study / "damage.csv")
    assert set(damage.variant) == set(SOURCES) and damage.low.notna().all()
    assert all(f"tiny {name}" in (study / "summary.rst").read_text() for name in SOURCES)
    coverage = pd.read_csv(study / "coverage.csv")
    assert coverage.named.tolist() == coverage.observed.tolist() == [4]


def test_status_and_verify_know_them(folder, monkeypatch):
    monkeypatch.chdir(folder)
    shown = CliRunner().invoke(app, ["status", "study.yaml"]).output
    assert any("conversions" in line and " 3 " in line for line in shown.splitlines()), shown
    verified = CliRunner().invoke(app, ["verify", "study.yaml"])
    assert verified.exit_code == 0, verified.output


def test_a_format_that_is_not_read_is_refused_before_the_first_job(folder, tmp_path):
    study = yaml.safe_load((folder / "study.yaml").read_text())
    (tmp_path / "fp8").mkdir()
    (tmp_path / "fp8" / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    study["models"][0]["checkpoints"] = [{"name": "fp8", "source": str(tmp_path / "fp8")}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    arguments = ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--configfile", tmp_path / "study.yaml"]
    refused = run_snakemake([*map(str, arguments), "--cores", "1"], tmp_path)
    assert refused.returncode != 0 and "quantized with fp8, which is not read; read are GPTQ" in refused.stderr
    assert not (tmp_path / "results" / "models").exists()
