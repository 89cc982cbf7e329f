"""What is made anew after a change, and what is not: asked of a dry run in a folder whose results are placeholders."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, snakemake, write_study

SCORES = "results/scores/r1/w4-g128-c4-s0/memorization.json"
JOB = re.compile(r"^(?:local)?rule (\w+):$", re.MULTILINE)


def change_study(folder: Path, change: Callable[[dict], object]) -> None:
    study = yaml.safe_load((folder / "study.yaml").read_text())
    change(study)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def made_anew(folder: Path) -> set[str]:
    """The rules that would run to score a variant."""
    result = snakemake(folder, SCORES, "-n")
    assert result.returncode == 0, result.stderr
    return set(JOB.findall(result.stdout + result.stderr))


@pytest.fixture
def scored(scored_once, tmp_path) -> Path:
    """A folder in which a variant has been scored, as far as snakemake knows; its tasks are in ``tasks``."""
    return Path(shutil.copytree(scored_once, tmp_path / "scored"))


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory) -> Path:
    tmp_path = tmp_path_factory.mktemp("scored")
    write_study(tmp_path)
    shutil.copytree(ROOT / "ladder" / "benchmarks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    change_study(tmp_path, lambda study: study["evaluation"].update(tasks_folder="tasks"))
    task = tmp_path / "tasks" / "arithmetic.yaml"
    task.write_text(task.read_text().replace("  - metric: acc\n", "  - metric: acc_norm\n  - metric: acc\n"))
    results = tmp_path / "results"
    shutil.copytree(ROOT / "ladder" / "models" / "r1", results / "models" / "r1")
    (results / "checkpoints" / "r1" / "w4-g128-c4-s0").mkdir(parents=True)
    for stratum in ("memorization", "application", "reasoning"):
        for name in (
            *(f"requests/r1/{name}" for name in (f"{stratum}.parquet", f"{stratum}.batches.safetensors")),
            f"requests/r1/documents/{stratum}.parquet",
            f"answers/r1/w4-g128-c4-s0/{stratum}.parquet",
            *(f"scores/r1/w4-g128-c4-s0/{stratum}.parquet", f"scores/r1/w4-g128-c4-s0/{stratum}.json"),
        ):
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            (results / name).write_text(name)
    (results / "calibration" / "r1").mkdir(parents=True)
    (results / "calibration" / "r1" / "s0.parquet").write_text("calibration")
    touched = snakemake(tmp_path, SCORES, "--touch", "--forceall")
    assert touched.returncode == 0, touched.stderr
    assert made_anew(tmp_path) == set()
    return tmp_path


@pytest.mark.parametrize("is_old", [False, True], ids=["", "old time stamp"])
@pytest.mark.parametrize("name", ["paths.jsonl", "paths.yaml"])
def test_an_edited_task_is_asked_and_scored_anew(scored, name, is_old):
    task = scored / "tasks" / name
    before = task.stat()
    task.write_text(task.read_text() + "\n")
    if is_old:  # as rsync and tar leave it
        os.utime(task, (before.st_atime, before.st_mtime))
    assert made_anew(scored) == {"requests", "answers", "scores"}


@pytest.mark.parametrize(
    ("correction", "rules"),
    [
        ({"chance": 0.2}, set()),
        ({"metric": "acc_norm"}, {"scores"}),
        ({"shots": 0}, {"requests", "answers", "scores"}),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_a_corrected_benchmark_makes_anew_what_rests_on_it(scored, correction, rules):
    change_study(scored, lambda study: study["evaluation"]["strata"]["reasoning"][0].update(correction))
    assert made_anew(scored) == rules


def test_what_python_leaves_beside_the_tasks_is_none_of_them(scored):
    (scored / "tasks" / "__pycache__").mkdir()
    (scored / "tasks" / "__pycache__" / "items.cpython-311.pyc").write_bytes(b"compiled")
    assert made_anew(scored) == set()
