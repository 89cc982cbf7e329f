"""The workflow, run for real on the smallest study that supports a law."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stratalaw.observations import COLUMNS

ROOT = Path(__file__).parents[2]
ITEMS = 50


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    profile = ["--cores", "2", "--rerun-triggers", "mtime", "params", "input", "--config", "study=study.yaml"]
    return subprocess.run(
        [*command, *arguments, *profile], capture_output=True, text=True, cwd=folder, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory with a study of two models, two bit-widths and their baselines."""
    folder = tmp_path_factory.mktemp("run")
    study = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    study["models"] = [
        {"name": name, "source": str(ROOT / "ladder" / "models" / name), "family": "ladder"} for name in ("r1", "r3")
    ]
    study["grids"] = [{"bits": [4, 8], "group_size": [128], "calibration_size": [4]}]
    study["calibration"]["corpus"] = str(ROOT / "ladder" / "calibration.jsonl")
    study["evaluation"] |= {"tasks_folder": str(ROOT / "ladder" / "benchmarks"), "items": ITEMS}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def one_variant(folder) -> subprocess.CompletedProcess:
    return snakemake(folder, "results/scores/r1/w4-g128-c4-s0/memorization.json")


@pytest.fixture(scope="module")
def whole(folder, one_variant) -> subprocess.CompletedProcess:
    return snakemake(folder)


def test_one_variant_by_its_path_runs_only_what_it_needs(folder, one_variant):
    assert one_variant.returncode == 0, one_variant.stderr
    assert [path.name for path in (folder / "results" / "checkpoints").glob("*/*")] == ["w4-g128-c4-s0"]
    assert [path.name for path in (folder / "results" / "models").iterdir()] == ["r1"]


def test_a_study_gives_observations_and_laws(folder, whole):
    assert whole.returncode == 0, whole.stderr
    table = pd.read_csv(folder / "results" / "studies" / "demo" / "observations.csv")
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 2 * 3 * 8
    assert set(table.n_items) == {ITEMS}
    assert not table.duplicated(["model", "variant", "benchmark"]).any()
    baselines = table[table.variant == "bf16"]
    assert (baselines.paired_difference == 0).all()
    laws = json.loads((folder / "results" / "studies" / "demo" / "laws.json").read_text())
    assert [law["stratum"] for law in laws] == ["memorization", "application", "reasoning", "general"]


def test_nothing_runs_twice(folder, whole):
    again = snakemake(folder, "-n")
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


def test_observations_lost_and_made_again_are_the_same(folder, whole):
    table = folder / "results" / "studies" / "demo" / "observations.csv"
    before = table.read_bytes()
    for path in (table, *(folder / "results" / "scores" / "r1" / "w4-g128-c4-s0").iterdir()):
        path.unlink()
    again = snakemake(folder)
    assert again.returncode == 0, again.stderr
    assert table.read_bytes() == before


def test_a_bad_study_stops_with_one_line(tmp_path):
    (tmp_path / "study.yaml").write_text("name: bad\ngrid: []\n")
    result = snakemake(tmp_path, "-n")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "study.yaml: models: this key is missing"
    assert "Traceback" not in result.stderr


def test_the_ladder_study_has_its_293_checkpoints(tmp_path):
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--config", "study=config/ladder.yaml"]
    result = subprocess.run(
        [*command, "--forceall"], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    counts = dict(
        line.rsplit(maxsplit=1) for line in result.stdout.splitlines() if line[:1].isalpha() and line[-1].isdigit()
    )
    assert int(counts["quantize"]) == 293
    assert int(counts["loglikelihoods"]) == 299
