"""What is made anew after a change, and what is not: asked of a dry run in a folder whose results are placeholders."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, snakemake, write_study

SCORES = "results/scores/q1/w4-g128-c4-s0/memorization.json"
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


def with_old_time(path: Path, content: bytes) -> None:
    """Change a file as rsync and tar do: it keeps its former time of modification."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def changed_byte(path: Path) -> bytes:
    content = path.read_bytes()
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.fixture
def scored(scored_once, tmp_path) -> Path:
    """A folder in which a variant has been scored, as far as snakemake knows.

    Its model, corpus and tasks are ``source``, ``corpus.jsonl`` and ``tasks``.
    """
    return Path(shutil.copytree(scored_once, tmp_path / "scored"))


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory) -> Path:
    tmp_path = tmp_path_factory.mktemp("scored")
    write_study(tmp_path)
    shutil.copytree(ROOT / "ladder" / "benchmarks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "ladder" / "models" / "q1", tmp_path / "source")
    shutil.copyfile(ROOT / "ladder" / "calibration.jsonl", tmp_path / "corpus.jsonl")
    change_study(tmp_path, lambda study: study["evaluation"].update(tasks_folder="tasks"))
    change_study(tmp_path, lambda study: study["models"][0].update(source="source"))
    change_study(tmp_path, lambda study: study["calibration"].update(corpus="corpus.jsonl"))
    task = tmp_path / "tasks" / "arithmetic.yaml"
    task.write_text(task.read_text().replace("  - metric: acc\n", "  - metric: acc_norm\n  - metric: acc\n"))
    results = tmp_path / "results"
    shutil.copytree(ROOT / "ladder" / "models" / "q1", results / "models" / "q1")
    (results / "checkpoints" / "q1" / "w4-g128-c4-s0").mkdir(parents=True)
    for stratum in ("memorization", "application", "reasoning"):
        for name in (
            *(f"requests/q1/{name}" for name in (f"{stratum}.parquet", f"{stratum}.batches.safetensors")),
            f"requests/q1/documents/{stratum}.parquet",
            f"answers/q1/w4-g128-c4-s0/{stratum}.parquet",
            *(f"scores/q1/w4-g128-c4-s0/{stratum}.parquet", f"scores/q1/w4-g128-c4-s0/{stratum}.json"),
        ):
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            (results / name).write_text(name)
    (results / "calibration" / "q1").mkdir(parents=True)
    (results / "calibration" / "q1" / "s0.parquet").write_text("calibration")
    touched = snakemake(tmp_path, SCORES, "--touch", "--forceall")
    assert touched.returncode == 0, touched.stderr
    assert made_anew(tmp_path) == set()
    return tmp_path


@pytest.mark.parametrize("is_old", [False, True], ids=["", "old time stamp"])
@pytest.mark.parametrize("name", ["paths.jsonl", "paths.yaml"])
def test_an_edited_task_is_asked_and_scored_anew(scored, name, is_old):
    task = scored / "tasks" / name
    edited = task.read_bytes() + b"\n"
    with_old_time(task, edited) if is_old else task.write_bytes(edited)
    assert made_anew(scored) == {"requests", "answers", "scores"}


@pytest.mark.parametrize(
    ("correction", "rules"),
    [
        ({"chance": 0.25}, set()),
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


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("source/model.safetensors", {"models", "requests", "calibration", "checkpoints", "answers", "scores"}),
        ("source/tokenizer.json", {"models", "requests", "calibration", "checkpoints", "answers", "scores"}),
        ("corpus.jsonl", {"calibration", "checkpoints", "answers", "scores"}),
    ],
)
def test_an_edited_source_makes_anew_what_rests_on_it_whatever_its_time(scored, name, rules):
    with_old_time(scored / name, changed_byte(scored / name))
    assert made_anew(scored) == rules


def test_what_is_written_again_without_a_change_makes_nothing_anew(scored):
    for name in ("source", "tasks", "corpus.jsonl"):
        (scored / name).rename(scored / "former")
        copy = shutil.copytree if (scored / "former").is_dir() else shutil.copyfile
        copy(scored / "former", scored / name)
        shutil.rmtree(scored / "former") if (scored / "former").is_dir() else (scored / "former").unlink()
    for path in [scored / "corpus.jsonl", *scored.glob("source/*"), *scored.glob("tasks/*")]:
        os.utime(path)
    assert made_anew(scored) == set()
