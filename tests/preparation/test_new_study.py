"""A study of one's own is written from arguments, checked, and written only if it is one."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.preparation.new_study import grids_of
from stratalaw.study import Grid, read_study
from stratalaw.study.variants import Quantization

LADDER = Path("ladder").resolve()
LOCAL = ["--tasks", LADDER / "benchmarks", "--corpus", LADDER / "calibration.jsonl", "--tokens", 256]
BENCHMARKS = ["--benchmark", "memorization=ladder_biographies:1/4", "--benchmark", "memorization=ladder_questions:0.25"]


def new(path: Path, *arguments):
    return CliRunner().invoke(app, ["new", str(path), *map(str, arguments)], env={"COLUMNS": "300"})


def test_a_study_of_local_models_is_written_checked_and_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**13}))
    path = tmp_path / "mine.yaml"
    models = ["--model", LADDER / "models" / "q3", "--model", LADDER / "models" / "q5"]
    variants = ["--variant", "w3-g128-c32", "--variant", "w4-g128-c32"]
    made = new(path, *models, *variants, *BENCHMARKS, *LOCAL, "--items", 50)
    assert made.exit_code == 0, made.output
    assert "4 quantized variants of 2 models." in made.output
    assert made.output.endswith(f"Next: snakemake --cores 2 --configfile {path}\n")
    study = read_study(path)
    assert study.variant_names() == [
        (model, variant) for model in ("q3", "q5") for variant in ("bf16", "w3-g128-c32-s0", "w4-g128-c32-s0")
    ]
    assert {model.family for model in study.models} == {"mine"} and study.evaluation.items == 50
    assert [benchmark.chance for benchmark in study.evaluation.strata["memorization"]] == [0.25, 0.25]
    assert "already" in new(path, *models, *BENCHMARKS, *LOCAL).stderr


def test_what_is_on_the_hub_is_named_with_what_to_do_and_the_hub_is_not_asked(tmp_path, hub):
    path = tmp_path / "mine.yaml"
    task = {"task": "recall", "dataset_path": "someone/questions", "output_type": "generate_until", "test_split": "t"}
    (tmp_path / "recall.yaml").write_text(json.dumps(task))
    benchmark = ["--benchmark", "recall=recall:0:exact_match", "--tasks", tmp_path, "--family", "qwen3"]
    made = new(path, "--model", "Qwen/Qwen3-0.6B", *benchmark, "--corpus", "someone/texts:en/a.jsonl.gz")
    assert made.exit_code == 0 and hub.requests == []
    keys = "models.0.source, calibration.dataset, evaluation.strata.recall.0.task"
    assert made.output.splitlines()[1:] == [
        f"To be pinned, since it is on the Hub: {keys}.",
        f"Next: stratalaw pin {path}; stratalaw preflight {path}",
    ]
    written = yaml.safe_load(path.read_text())
    assert written["models"] == [{"name": "qwen3-0.6b", "source": "Qwen/Qwen3-0.6B", "family": "qwen3"}]
    assert written["calibration"] == {"corpus": "en/a.jsonl.gz", "dataset": "someone/texts", "tokens": 2048}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere", *BENCHMARKS], "models.0.source: there is no folder nowhere"),
        (["--model", LADDER / "models", *BENCHMARKS], "ladder/models: no config.json"),
        (["--model", LADDER / "models/q3", "--benchmark", "recall"], "--benchmark recall: not a stratum, a task and"),
        (
            ["--model", LADDER / "models/q3", "--benchmark", "memorization=ladder_nothing:0"],
            "has no task ladder_nothing; alike: ladder_sorting",
        ),
        (
            ["--model", LADDER / "models/q3", "--benchmark", "memorization=ladder_questions:25%"],
            "evaluation.strata.memorization.0.chance: '25%': input should be a valid number",
        ),
        (["--model", LADDER / "models/q3", *BENCHMARKS, "--variant", "int4"], "--variant int4: not a variant such as"),
        (["--model", LADDER / "models/q3", *BENCHMARKS, "--variant", "w5-g128-c8"], "grids.0.bits.0: 5 is not one of"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, arguments, message):
    made = new(tmp_path / "mine.yaml", *arguments, *LOCAL)
    (line,) = made.stderr.splitlines()
    assert made.exit_code == 1 and message in line and not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize(
    "variants",
    [
        [Quantization(3, 128, 8, 0)],
        [Quantization(bits, group, 8, seed) for bits in (3, 4) for group in (32, 128) for seed in (0, 1)],
        [Quantization(3, 128, 8, 0), Quantization(4, 128, 8, 0), Quantization(4, 32, 128, 2)],
    ],
)
def test_grids_name_the_variants_and_no_others(variants):
    grids = [Grid(**grid) for grid in grids_of(variants)]
    assert sorted(q for grid in grids for q in grid.quantizations()) == sorted(variants)
    assert len(grids) == (2 if len(variants) == 3 else 1)
