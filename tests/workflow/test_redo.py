"""What `stratalaw redo` makes again in a finished study: a dry run in a folder of placeholders says so."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.layout import Results
from stratalaw.pipeline import STAGES, jobs_of
from stratalaw.study import read_study
from tests.workflow.conftest import PROFILE, ROOT, snakemake, write_study
from tests.workflow.warm_snakemake import run_snakemake

VARIANT = "q1/w4-g128-c4-s0"
OF_STUDY = {stage.name for stage in STAGES if stage.of == "study"} - {"corpus"}
JOBS_OF_RULE = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)  # in snakemake's table of jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which a study is finished, as far as snakemake knows."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    study, now = read_study(folder / "study.yaml"), time.time()
    for job in jobs_of(study, Results(folder / "results")):
        for output in job.outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
            if job.stage.name == "models":
                shutil.copytree(ROOT / "ladder" / "models" / job.model, output)
            elif job.stage.name == "checkpoints":
                output.mkdir()
            else:
                output.touch()
            os.utime(output, (now, now))
    assert jobs_in(snakemake(folder, "-n")) == {}
    return folder


def jobs_in(run: subprocess.CompletedProcess) -> dict[str, int]:
    """The number of jobs of each rule that a dry run would run."""
    assert run.returncode == 0, run.stderr
    counts = dict(JOBS_OF_RULE.findall(run.stdout + run.stderr))
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


@pytest.fixture
def redo(finished, monkeypatch) -> Callable[..., subprocess.CompletedProcess]:
    """`stratalaw redo` with the arguments given, as a dry run; what its snakemake said."""
    runs: list[subprocess.CompletedProcess] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess:
        assert command[:3] == [sys.executable, "-m", "snakemake"]
        runs.append(run_snakemake(command[3:], finished))
        return runs[-1]

    def redo(*arguments: str) -> subprocess.CompletedProcess:
        monkeypatch.setattr("stratalaw.jobs.redo.subprocess.run", run)
        of_snakemake = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(finished), *PROFILE, "-n"]
        result = CliRunner().invoke(app, ["redo", str(finished / "study.yaml"), *arguments, *of_snakemake])
        (made,) = runs
        assert result.exit_code == made.returncode, result.output
        return made

    return redo


def test_a_file_that_was_deleted_is_not_made_again(finished, tmp_path):
    checkpoint = finished / "results" / "checkpoints" / VARIANT
    checkpoint.rename(tmp_path / "deleted")
    try:
        assert jobs_in(snakemake(finished, "-n")) == {}
    finally:
        (tmp_path / "deleted").rename(checkpoint)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ([VARIANT], {"checkpoints": 1, "answers": 1, "scores": 1}),
        ([VARIANT, "--from", "answers"], {"answers": 1, "scores": 1}),
        (["q4/s0"], {"calibration": 1, "checkpoints": 2, "answers": 2, "scores": 2}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_variant_is_made_again_from_a_stage_on_with_all_that_depends_on_it(redo, arguments, made):
    assert jobs_in(redo(*arguments)) == made | dict.fromkeys(OF_STUDY, 1)
