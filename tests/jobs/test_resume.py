"""Resuming finds the jobs of the run that died and no others, and never touches a run that lives."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stratalaw.errors import StratalawError
from stratalaw.jobs.resume import (
    JOB_NAME_PREFIX,
    ResumeError,
    SnakemakeOptions,
    check_head_is_gone,
    jobs_left_in,
    resume,
    snakemake_options,
)
from stratalaw.layout import Results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder of commands that are found first: those of Slurm are written into it."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return write


def lock(folder: Path, host: str) -> None:
    (folder / ".snakemake" / "locks").mkdir(parents=True)
    (folder / ".snakemake" / "locks" / "0.input.lock").touch()
    (folder / ".snakemake" / "log").mkdir()
    (folder / ".snakemake" / "log" / "2026-01-01T000000.snakemake.log").write_text(f"SNAKEMAKE\n  Host: {host}\n")


def test_the_profile_names_jobs_and_logs_as_the_library_expects():
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    assert profile["slurm-packs-jobname-prefix"] == JOB_NAME_PREFIX
    assert profile["slurm-packs-logdir"] == str(Results().slurm_logs)


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Writes a profile that names a folder, beside a Snakefile in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "Snakefile").touch()

    def write(name: str) -> Path:
        folder = tmp_path / "profiles" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"cores: 1\ndirectory: of-{name}\n")
        return folder

    return write


def test_the_folder_is_the_one_that_snakemake_works_in(profile, tmp_path, monkeypatch):
    mine, other = profile("mine"), profile("other")
    for arguments, folder in (
        ([], "."),
        (["--profile", str(mine), "-d", "here"], "here"),
        (["--profile", str(mine), "--workflow-profile", str(other)], "of-other"),
    ):
        assert snakemake_options(arguments) == SnakemakeOptions(tmp_path / folder, dryrun=False)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(mine))
    assert snakemake_options(["-n"]) == SnakemakeOptions(tmp_path / "of-mine", dryrun=True)


def test_the_default_profile_names_the_folder_too(profile, tmp_path):
    profile("default")
    assert snakemake_options(["--cores", "2"]).directory == tmp_path / "of-default"


def test_arguments_that_snakemake_does_not_take_are_one_line(profile):
    with pytest.raises(StratalawError, match="unrecognized arguments: --no-such-option") as refused:
        snakemake_options(["--no-such-option"])
    assert "\n" not in str(refused.value)


def test_only_jobs_of_this_workflow_in_this_folder_are_found(commands, tmp_path):
    queue = tmp_path / "queue"
    queue.write_text(
        f"1|stratalaw_a|{tmp_path}\n2|stratalaw_a|{tmp_path}/other\n3|mine|{tmp_path}\n4_7|stratalaw_b|{tmp_path}\n"
    )
    commands("squeue", f"exec /bin/cat {queue}")
    assert jobs_left_in(tmp_path) == ["1", "4_7"]


def test_a_head_that_lives_is_left_alone(tmp_path):
    head = subprocess.Popen([sys.executable, "-c", "input()", "snakemake"], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        with pytest.raises(ResumeError, match=rf"snakemake runs here \(process {head.pid}\)"):
            check_head_is_gone(tmp_path)
    finally:
        head.communicate()
    check_head_is_gone(tmp_path)


def test_a_head_that_may_live_on_another_machine_is_left_alone(tmp_path):
    lock(tmp_path, host="elsewhere")
    with pytest.raises(ResumeError, match="started on elsewhere"):
        check_head_is_gone(tmp_path)


def test_a_head_that_died_on_this_machine_may_be_replaced(tmp_path):
    lock(tmp_path, host=platform.node())
    check_head_is_gone(tmp_path)


def test_without_slurm_nothing_is_unlocked(commands, tmp_path):
    commands("which", "exit 1")  # snakemake looks for conda with it
    lock(tmp_path, host=platform.node())
    with pytest.raises(ResumeError, match="there is no squeue here"):
        resume(["--directory", str(tmp_path)])
    commands("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ResumeError, match="squeue failed: slurm_load_jobs error"):
        resume(["--directory", str(tmp_path)])
    assert list(tmp_path.glob(".snakemake/locks/*"))
