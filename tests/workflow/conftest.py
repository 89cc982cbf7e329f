"""Running the workflow for real, on the smallest study that supports a law."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.workflow.warm_snakemake import run_snakemake

ROOT = Path(__file__).parents[2]
ITEMS = 50
RERUN_TRIGGERS = ["mtime", "params", "input"]
PROFILE = ["--cores", "2", "--rerun-triggers", *RERUN_TRIGGERS, "--rerun-incomplete"]


def arguments_of(folder: Path, *arguments: str, config: Sequence[str] = ()) -> list[str]:
    start = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    options = ["--config", *config] if config else []
    return [*start, *arguments, *PROFILE, "--configfile", str(folder / "study.yaml"), *options]


def command(folder: Path, *arguments: str, config: Sequence[str] = ()) -> list[str]:
    """The command line that starts snakemake anew."""
    return [sys.executable, "-m", "snakemake", *arguments_of(folder, *arguments, config=config)]


def snakemake(
    folder: Path, *arguments: str, config: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess:
    return run_snakemake(arguments_of(folder, *arguments, config=config), folder, **environment)


def snakemake_started_anew(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """As ``snakemake``, with libraries that read the environment as it is now."""
    return subprocess.run(
        command(folder, *arguments),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=900,
        check=False,
        env=os.environ | environment,
    )


def write_study(folder: Path, bits: Sequence[int] = (4, 8), models: Sequence[str] = ("q1", "q4")) -> None:
    """A study of models of the ladder, some bit-widths and their baselines."""
    study = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    study["models"] = [
        {"name": name, "source": str(ROOT / "ladder" / "models" / name), "family": "ladder"} for name in models
    ]
    study["grids"] = [{"bits": list(bits), "group_size": [128], "calibration_size": [4]}]
    study["calibration"]["corpus"] = str(ROOT / "ladder" / "calibration.jsonl")
    study["evaluation"] |= {"tasks_folder": str(ROOT / "ladder" / "benchmarks"), "items": ITEMS}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


OBSERVATIONS = Path("results/studies/demo/observations.csv")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A working directory with the study."""
    folder = tmp_path_factory.mktemp("run")
    write_study(folder)
    return folder


@pytest.fixture(scope="session")
def one_variant(folder) -> list[str]:
    """What there is after one variant was asked for by its path."""
    made = snakemake(folder, "results/scores/q1/w4-g128-c4-s0/memorization.json")
    assert made.returncode == 0, made.stderr
    return sorted(path.relative_to(folder / "results").as_posix() for path in folder.glob("results/checkpoints/*/*"))


@pytest.fixture(scope="session")
def whole(folder, one_variant) -> None:
    """The whole study has been run in ``folder``; what the run said is in ``run.log``."""
    made = snakemake(folder)
    assert made.returncode == 0, made.stderr
    (folder / "run.log").write_text(made.stderr)
